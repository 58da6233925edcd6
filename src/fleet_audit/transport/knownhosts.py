# SPDX-License-Identifier: Apache-2.0
"""A reader of known_hosts files that agrees with OpenSSH's.

It knows markers, wildcards, negation, hashed names, ports and any type of key. Plain names are
found by index. A hashed name can only be found by one HMAC-SHA1 (about 1 us) for each hashed line
and each name: that cost is what the hashing is for. It is paid once per name.
Source: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"; OpenSSH's hostfile.c and match.c.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

DEFAULT_PORT = 22
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_MARKERS = {"@cert-authority": "authority", "@revoked": "revoked"}


Key = tuple[str, bytes]
"""Type, such as `ssh-ed25519`, and the public key as it goes over the wire (RFC 4253, section 6.6)."""


@dataclass(frozen=True, slots=True)
class Match:
    """All that is on file for one host."""

    keys: tuple[Key, ...] = ()
    revoked: tuple[Key, ...] = ()
    """Never to be accepted, neither as a host's key nor as the signer of its certificate."""
    authorities: tuple[Key, ...] = ()
    """Signers of host certificates."""
    where: Mapping[Key, str] = field(default_factory=dict, compare=False)
    """`file:line` that names a key first."""

    def __or__(self, other: Match) -> Match:
        """What either of them holds."""
        return Match(
            _union(self.keys, other.keys),
            _union(self.revoked, other.revoked),
            _union(self.authorities, other.authorities),
            {**other.where, **self.where},
        )


def _union(one: tuple[Key, ...], other: tuple[Key, ...]) -> tuple[Key, ...]:
    return tuple(dict.fromkeys((*one, *other)))


@dataclass(frozen=True, slots=True)
class _Line:
    marker: str
    key: Key
    where: str


class KnownHosts:
    """Known hosts of one or more files, in their order. May be used by many threads."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        """Lines that were skipped, as OpenSSH skips them, and files that could not be read."""
        self._lines: list[_Line] = []
        self._plain: dict[str, list[int]] = {}
        self._patterns: list[tuple[tuple[str, ...], int]] = []
        self._all_hashed: list[tuple[bytes, bytes, bytes, int]] = []
        self._hashed = self._all_hashed
        """Those that no look-up has found yet."""
        self._found: dict[str, Match] = {}

    @classmethod
    def load(cls, paths: Iterable[Path]) -> KnownHosts:
        """Read the files. One that does not exist is empty, one that cannot be read is noted."""
        known = cls()
        for path in dict.fromkeys(paths):
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                known.notes.append(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
                continue
            known.add(data, str(path))
        return known

    def add(self, data: bytes, name: str) -> None:
        """Add the content of one file; `name` stands before its line numbers. Never raises."""
        for number, raw in enumerate(data.split(b"\n"), 1):
            text = raw.split(b"\0", 1)[0].decode("utf-8", "surrogateescape").strip(" \t\r")
            if text and not text.startswith("#"):
                where = f"{name}:{number}"
                if problem := self._add_line(text, where):
                    self.notes.append(f"{where}: skipped: {problem}")
        self._found, self._hashed = {}, self._all_hashed

    def lookup(self, name: str, port: int, address: str | None = None) -> Match:
        """What is on file for a host.

        `name` and `port` as `Settings.known_name` gives them; `address` its IP
        address where that shall be looked up too (CheckHostIP yes). Where nothing is on file for a
        port other than 22, the bare name counts, as in OpenSSH.
        """
        match = self._match(_with_port(name, port))
        if address is not None:
            match |= self._match(_with_port(address, port))
        if port != DEFAULT_PORT and not match.keys and not match.authorities:
            match |= self._match(name.lower())
        return match

    def _add_line(self, text: str, where: str) -> str:
        """Take in one line; returns what is wrong with it."""
        words = text.replace("\t", " ").split(" ")
        words = [word for word in words if word]
        marker = "key"
        if words[0].startswith("@"):
            if words[0] not in _MARKERS:
                return "unknown marker"
            marker = _MARKERS[words.pop(0)]
        if len(words) < 3:
            return "not 'names type key'"
        names, kind, encoded = words[:3]
        blob = _decode(kind, encoded)
        if blob is None:
            return "not a key of the type that it says"
        index = len(self._lines)
        if names.startswith("|"):
            hashed = _hash_fields(names)
            if hashed is None:
                return "not a hashed name that is understood"
            self._all_hashed.append((*hashed, index))
        else:
            self._add_names(names, index)
        self._lines.append(_Line(marker, (kind, blob), where))
        return ""

    def _add_names(self, names: str, index: int) -> None:
        patterns = tuple(names.lower().split(","))
        if any(c in names for c in "*?!"):
            self._patterns.append((patterns, index))
            return
        for name in dict.fromkeys(patterns):
            self._plain.setdefault(name, []).append(index)

    def _match(self, name: str) -> Match:
        name = name.lower()
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._search(name)
        return found

    def _search(self, name: str) -> Match:
        indexes = list(self._plain.get(name, ()))
        indexes += [index for patterns, index in self._patterns if matches(name, patterns)]
        message = name.encode("utf-8", "surrogateescape")
        sha1, hashed = hashlib.sha1, self._hashed
        # HMAC by hand, its two keyed blocks made once: half the time of the library's
        mine = {index for inner, outer, want, index in hashed if sha1(outer + sha1(inner + message).digest()).digest() == want}
        if mine:  # a hash is of one name only: no other look-up needs to try it (a lost race only costs time)
            self._hashed = [item for item in hashed if item[3] not in mine]
        lines = [self._lines[index] for index in sorted({*indexes, *mine})]

        def of(marker: str) -> tuple[Key, ...]:
            return tuple(dict.fromkeys(line.key for line in lines if line.marker == marker))

        where = {line.key: line.where for line in reversed(lines)}
        return Match(of("key"), of("revoked"), of("authority"), where)


@cache
def on_file(paths: tuple[str, ...]) -> KnownHosts:
    """The known hosts of these files, read once in the life of the process."""
    return KnownHosts.load(Path(path) for path in paths)


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether a list of patterns (`*`, `?`, `!` before one that excludes) takes in a lower-case name."""
    result = False
    for pattern in patterns:
        negated = pattern.startswith("!")
        if _glob(name, pattern[1:] if negated else pattern):
            if negated:
                return False
            result = True
    return result


def _glob(text: str, pattern: str) -> bool:
    """`*` and `?` only; the time is bounded by the product of the lengths."""
    at = star = 0
    back = -1
    seen = 0
    while at < len(text):
        if seen < len(pattern) and pattern[seen] == "*":
            back, star = seen, at
            seen += 1
        elif seen < len(pattern) and pattern[seen] in ("?", text[at]):
            at, seen = at + 1, seen + 1
        elif back >= 0:
            star += 1
            at, seen = star, back + 1
        else:
            return False
    return not pattern[seen:].strip("*")


def _with_port(name: str, port: int) -> str:
    return name if port == DEFAULT_PORT else f"[{name}]:{port}"


def _decode(kind: str, encoded: str) -> bytes | None:
    """The key's bytes, if they are base64 and begin with their own type."""
    try:
        blob = base64.b64decode(encoded, validate=True)
        own = kind.encode("ascii")
    except (binascii.Error, ValueError):
        return None
    head = len(own).to_bytes(4, "big") + own
    return blob if blob.startswith(head) and len(blob) > len(head) else None


def _hash_fields(names: str) -> tuple[bytes, bytes, bytes] | None:
    """HMAC's inner and outer block (RFC 2104) for the salt, and the digest, of `|1|salt|digest`."""
    fields = names.split("|")
    if len(fields) != 4 or fields[1] != "1":
        return None
    try:
        salt, digest = (base64.b64decode(field, validate=True) for field in fields[2:])
    except (binascii.Error, ValueError):
        return None
    if not len(salt) == len(digest) == 20:
        return None
    block = salt.ljust(64, b"\0")
    return block.translate(_INNER), block.translate(_OUTER), digest
