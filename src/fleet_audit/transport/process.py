# SPDX-License-Identifier: Apache-2.0
"""A conversation with a child process of the controller; serves `local`, `archive` and `openssh`."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_audit.transport.interface import Conversation

STDERR_CAP = 16 << 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child's conversation went."""

    exit: int | None
    """None if it was ended at the deadline."""
    stderr: bytes
    sent: int
    received: int


_running: set[subprocess.Popen[bytes]] = set()


def converse(argv: Sequence[str], talk: Conversation, deadline: float) -> Ended:
    """Run `argv` with `talk` at its standard streams until it ends, `talk` is finished, or the deadline.

    The child leads a session of its own and is killed with its process group.
    """
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    _running.add(child)
    try:
        exchange = _Exchange(child, talk)
        late = not exchange.run(deadline)
        code = _end(child, grace=0.0 if late else 0.5)
        return Ended(None if late else code, bytes(exchange.stderr), exchange.sent, exchange.received)
    finally:
        _running.discard(child)


def end_all() -> None:
    """Kill every child that is still there: what an interrupt leaves behind."""
    for child in list(_running):
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)


class _Exchange:
    """Bytes to and from one child."""

    def __init__(self, child: subprocess.Popen[bytes], talk: Conversation) -> None:
        assert child.stdin and child.stdout and child.stderr
        self.talk, self.pending = talk, bytearray(talk.start())
        self.stderr, self.sent, self.received = bytearray(), 0, 0
        self._in, self._err = child.stdin.fileno(), child.stderr.fileno()
        os.set_blocking(self._in, False)
        self._streams = {child.stdout.fileno(): talk.feed, self._err: talk.feed_error}
        self._poll = select.poll()
        for fd in self._streams:
            self._poll.register(fd, select.POLLIN)

    def run(self, deadline: float) -> bool:
        """Whether it came to an end in time."""
        writing = False
        while self._streams and not self.talk.finished:
            if bool(self.pending) != writing:
                writing = bool(self.pending)
                if writing:
                    self._poll.register(self._in, select.POLLOUT)
                else:
                    self._poll.unregister(self._in)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            for fd, _ in self._poll.poll(min(left, 1.0) * 1000):
                if fd == self._in:
                    self._write()
                else:
                    self._read(fd)
        if any(fd == self._err for fd, _ in self._poll.poll(0)):
            self._read(self._err)
        return True

    def _write(self) -> None:
        try:
            count = os.write(self._in, self.pending)
            self.sent += count
            del self.pending[:count]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self.pending.clear()  # it reads no more; what it still says is worth having

    def _read(self, fd: int) -> None:
        chunk = os.read(fd, 1 << 18)
        if not chunk:
            self._poll.unregister(fd)
            del self._streams[fd]
            return
        self.received += len(chunk)
        if fd == self._err:
            self.stderr += chunk[: max(0, STDERR_CAP - len(self.stderr))]
        if fd == self._err or not self.talk.finished:  # a diagnosis may come with the last line
            self.pending += self._streams[fd](chunk)


def _end(child: subprocess.Popen[bytes], grace: float = 0.5) -> int:
    """Close the streams, give the child a moment, then kill its group; its exit status."""
    with contextlib.suppress(OSError):
        if child.stdin:
            child.stdin.close()
    try:
        return child.wait(grace)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
        return child.wait()
    finally:
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
