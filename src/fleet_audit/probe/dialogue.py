# SPDX-License-Identifier: Apache-2.0
"""The controller's side of the conversation with a node, without I/O: bytes in, bytes out.

One object serves one exec. Every transport drives it in the same way: send `start()`, then for each
chunk that arrives send what `feed()` returns, until `finished`.
"""

from __future__ import annotations

from collections.abc import Callable

from fleet_audit.model import Become
from fleet_audit.probe.password import PasswordGate

PREAMBLE_CAP = 64 << 10


class Dialogue:
    """Sends the payload when the node is ready for it, and a password only to sudo's own prompt."""

    def __init__(
        self,
        *,
        nonce: str,
        digest: str,
        payload: bytes,
        nvml: bytes,
        become: Become | None,
        cap: int,
        reserve: Callable[[int], bool] = lambda size: True,
        gate: PasswordGate | None = None,
    ) -> None:
        self.reply = bytearray()
        """Everything from the probe's marker on."""
        self.preamble = bytearray()
        """The first bytes before the marker: a diagnosis, never parsed as data."""
        self.errors = bytearray()
        """The first bytes of standard error, where a transport has it apart."""
        self.finished = False
        self.over_limit = False
        self.refused = False
        """Become was refused and the program runs, if at all, without it."""
        self.ready = 0
        """Ready lines seen."""
        self.no_python = False
        self.password_sent = False
        self.withheld = False
        """The password was asked for and not sent, because another host had refused it."""
        self._gate = gate or PasswordGate()
        self._nonce, self._payload, self._nvml, self._become = nonce.encode(), payload, nvml, become
        self._digest, self._cap, self._reserve = digest.encode(), cap, reserve
        self._asks = bool(become and become.password)
        self._stopped = False
        self._scan = 0
        self._sent = False

    def start(self) -> bytes:
        """What to send at once: everything, unless a password may be asked for."""
        if self._asks:
            return b""
        self._sent = True
        return self._payload

    def feed(self, chunk: bytes) -> bytes:
        """Take what arrived; returns what to send now."""
        if self.reply:
            return self._collect(chunk)
        self.preamble += chunk
        marker = self.preamble.find(b"\nFA1 " + self._nonce + b" ")
        if marker >= 0:
            rest = bytes(self.preamble[marker:])
            del self.preamble[marker:]
            self._events()
            return self._collect(rest)
        answer = self._events()
        if len(self.preamble) > PREAMBLE_CAP:
            self.over_limit = self.finished = True
        return answer

    def feed_error(self, chunk: bytes) -> bytes:
        """Take what arrived on standard error, where sudo asks; returns what to send now."""
        before = self.errors.count(self._nonce + b"-prompt")
        self.errors += chunk[: max(0, PREAMBLE_CAP - len(self.errors))]
        asked = self.errors.count(self._nonce + b"-prompt") - before
        return b"".join(self._answer("prompt") for _ in range(asked))

    def close(self) -> None:
        """The conversation is over, whatever came of it."""
        if self.password_sent:
            self._gate.answered(self, accepted=None)

    @property
    def said(self) -> str:
        """What came before the probe, as text for a diagnosis; without the password, which a node may echo."""
        words = (bytes(self.preamble[:4096]) + b"\n" + bytes(self.errors[:4096])).decode("utf-8", "replace")
        if self.password_sent and self._become and self._become.password:
            words = "".join(c for c in words if c.isprintable() or c in "\n\t ").replace(self._become.password.reveal(), "<password>")
        nonce, digest = self._nonce.decode(), self._digest.decode()
        return " ".join(w for w in words.replace(digest, "").split() if not w.startswith(nonce))

    def _events(self) -> bytes:
        """Answer the lines of the loader that came since the last look."""
        out = b""
        while True:
            seen = [
                (at, kind)
                for kind, word in (
                    ("ready", self._digest + b"\n"),
                    ("refused", self._nonce + b"-refused\n"),
                    ("exit", self._nonce + b"-exit\n"),
                    ("prompt", self._nonce + b"-prompt"),
                    ("nopython", self._nonce + b"-nopython\n"),
                )
                if (at := self.preamble.find(word, self._scan)) >= 0
            ]
            if not seen:
                return out
            at, kind = min(seen)
            self._scan = at + 1
            out += self._answer(kind)

    def _answer(self, kind: str) -> bytes:
        if kind == "nopython" or kind == "exit":
            self.no_python = kind == "nopython"
            self.finished = True
        elif kind == "refused":
            if self.password_sent:
                self._gate.answered(self, accepted=bool(self.ready))
            if self.ready:  # the program itself ended as a refused become does: its input was eaten
                self.finished = True
                return b""
            self.refused = True
            return self._stop()
        elif kind == "prompt" and self._become and self._become.password:
            if self.password_sent or not self._gate.claim(self):
                self.withheld = not self.password_sent
                if self.password_sent:
                    self._gate.answered(self, accepted=False)
                return self._stop()
            self.password_sent = True
            return b"p" + self._become.password.reveal().encode() + b"\n"
        elif kind == "ready":
            self.ready += 1
            if self.password_sent and not self.refused and not self._stopped:
                self._gate.answered(self, accepted=True)
            if not self._sent:
                self._sent = True
                return (b"" if self._stopped else b"go\n") + self._payload
        return b""

    def _stop(self) -> bytes:
        """Ends the loop that feeds sudo, so that sudo sees the end of its input."""
        if not self._asks or self._stopped:
            return b""
        self._stopped = True
        return b"no\n"

    def _collect(self, chunk: bytes) -> bytes:
        if len(self.reply) + len(chunk) > self._cap or not self._reserve(len(chunk)):
            self.over_limit = self.finished = True
            return b""
        tail = max(0, len(self.reply) - 64)
        self.reply += chunk
        if self.reply.find(b"\nZ" + self._nonce + b"\n", tail) >= 0:
            self.finished = True
        if self._nvml and self.reply.find(b"\nW" + self._nonce + b" nvml\n", tail) >= 0:
            nvml, self._nvml = self._nvml, b""
            return nvml
        return b""
