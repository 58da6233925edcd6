# SPDX-License-Identifier: Apache-2.0
"""Sortable keys: printable ASCII that compares bytewise as the versions compare natively.

`key(kind, text)` is NULL (None) for what is not understood. Kinds: `dpkg` (deb-version(7)), `rpm`
(rpm-version(7)), `pep440` (the `packaging` library decides what parses) and `dotted` (numbers with
dots, nothing else). Keys of different kinds do not compare.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from packaging.version import InvalidVersion, Version

_CAP = 256
_DIGITS = re.compile(r"([0-9]+)")


def key(kind: str, text: str) -> str | None:
    """The sortable key of a version, None if the text is none of its kind.

    Raises `KeyError` for an unknown kind.
    """
    if kind not in _KINDS:
        raise KeyError(kind)
    return _key(kind, text) if len(text) <= _CAP else None


def kinds() -> tuple[str, ...]:
    """The kinds that `key` knows."""
    return tuple(_KINDS)


@lru_cache(maxsize=100_000)
def _key(kind: str, text: str) -> str | None:
    return _KINDS[kind](text.strip())


def _number(digits: str) -> str:
    """A number so that longer ones sort higher: its length as one character, then its digits."""
    digits = digits.lstrip("0")
    if len(digits) > 60:
        raise ValueError(digits)
    return chr(ord("@") + len(digits)) + digits  # '@' is zero


def _dotted(text: str) -> str | None:
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)*", text):
        return None
    parts = [_number(part) for part in text.split(".")]
    while len(parts) > 1 and parts[-1] == "@":  # 580.95 and 580.95.0 are one level
        parts.pop()
    return ".".join(parts)


# Order of characters in a non-digit part of a dpkg version: '~', the end, letters, then the rest.
_DPKG_END = '"'
_DPKG = {"~": "!"} | {c: c for c in map(chr, range(65, 91))} | {c: c for c in map(chr, range(97, 123))}
_DPKG |= {"+": "{", "-": "|", ".": "}", ":": "~"}


def _dpkg_part(text: str) -> str:
    out = []
    pieces = _DIGITS.split(text)
    for index in range(0, len(pieces), 2):
        out.append("".join(_DPKG[c] for c in pieces[index]) + _DPKG_END)
        out.append(_number(pieces[index + 1]) if index + 1 < len(pieces) else "@")
    while len(out) > 2 and out[-2:] == [_DPKG_END, "@"]:
        del out[-2:]
    return "".join(out) + _DPKG_END + "@"  # what follows the end counts as nothing and zero


def _dpkg(text: str) -> str | None:
    match = re.fullmatch(r"(?:([0-9]+):)?([0-9][A-Za-z0-9.+~:-]*?)(?:-([A-Za-z0-9+.~]+))?", text)
    if match is None or (match[1] is None and ":" in match[2]):
        return None
    return f"{_number(match[1] or '0')}/{_dpkg_part(match[2])}/{_dpkg_part(match[3] or '0')}"


def _rpm_part(text: str) -> str:
    """Segments of digits or letters; a digit segment is newer than a letter one, `~` older than the end, `^` newer."""
    out = []
    for segment in re.findall(r"[0-9]+|[A-Za-z]+|[~^]", text):
        if segment == "~":
            out.append("!")
        elif segment == "^":
            out.append("#")
        elif segment[0].isdigit():
            out.append("~" + _number(segment))
        else:
            out.append("0" + segment + " ")
    return "".join(out) + '"'


def _rpm(text: str) -> str | None:
    match = re.fullmatch(r"(?:([0-9]+):)?([A-Za-z0-9._+~^]+)(?:-([A-Za-z0-9._+~^]+))?", text)
    if match is None:
        return None
    return f"{_number(match[1] or '0')}/{_rpm_part(match[2])}/{_rpm_part(match[3] or '')}"


def _pep440(text: str) -> str | None:
    try:
        version = Version(text)
    except InvalidVersion:
        return None
    release = list(version.release)
    while len(release) > 1 and release[-1] == 0:
        release.pop()
    pre = f"{version.pre[0]}{_number(str(version.pre[1]))}" if version.pre else ""
    if not pre:  # 1.0.dev1 < 1.0a1 < 1.0
        pre = "!" if version.dev is not None and version.post is None else "~"
    post = _number(str(version.post)) if version.post is not None else "!"
    dev = _number(str(version.dev)) if version.dev is not None else "~"
    local = "".join("." + ("~" + _number(p) if p.isdigit() else "0" + p + " ") for p in (version.local or "").split(".") if p)
    numbers = ".".join(_number(str(n)) for n in release)
    return f"{_number(str(version.epoch))}/{numbers} /{pre}/{post}/{dev}/{local}"


_KINDS: dict[str, Callable[[str], str | None]] = {}


def _guarded(parse: Callable[[str], str | None]) -> Callable[[str], str | None]:
    def guarded(text: str) -> str | None:
        try:
            return parse(text)
        except (KeyError, ValueError):  # a character or a number outside what the kind allows
            return None

    return guarded


_KINDS |= {"dpkg": _guarded(_dpkg), "rpm": _guarded(_rpm), "pep440": _guarded(_pep440), "dotted": _guarded(_dotted)}
