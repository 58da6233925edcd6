# SPDX-License-Identifier: Apache-2.0
"""What the areas of accounts share: metadata of files as the `stat` reader tells it, values that are not shown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.model import Source


@dataclass(frozen=True)
class Metadata:
    """A path's entry of the `stat` reader."""

    path: str
    type: str
    mode: int
    uid: int
    gid: int
    link: str | None
    behind: tuple[Metadata, ...] = ()
    """Of a link that was followed: what it leads to in the end, then the folders on the way."""
    size: int | None = None
    mtime: int | None = None

    @property
    def leads_to(self) -> str | None:
        """Path of what a link leads to in the end, empty if it is no link, None if it was not followed."""
        return "" if self.type != "link" else self.behind[0].path if self.behind else None

    @property
    def others_may_change(self) -> bool:
        """Whether it is not root's alone; in a sticky folder others cannot replace what is root's."""
        writable = self.mode & 0o002 or (self.mode & 0o020 and self.gid != 0)
        return bool(self.uid != 0 or (writable and not (self.type == "dir" and self.mode & 0o1000)))


LEADS_TO = "What a link leads to in the end, which has a row of its own; empty: it is no link; NULL: it could not be followed"
"""The column of tables that have `with_targets`."""


def metadata(evidence: Bundle, source: Source) -> Iterator[Metadata]:
    """What the `stat` reader found; what it could not look at, or what is no such entry, is a gap."""
    looked(evidence, source)
    yield from understood(evidence, source)


def understood(evidence: Bundle, source: Source) -> Iterator[Metadata]:
    """The same, where an answer may lack paths that are not there."""
    for path, entry in evidence.entries(source).items():
        there = _metadata(path, entry)
        if there is None:
            evidence.gap(source, f"{path} is not understood")
        else:
            yield there


def with_targets(found: Iterable[Metadata]) -> Iterator[tuple[str, Metadata]]:
    """(path of the source, entry): each entry, after a link what it leads to, and folders on the way that others than root may change.

    Who has judged these has judged the link.
    """
    rows = list(found)
    seen = {there.path for there in rows}
    for there in rows:
        yield there.path, there
        for number, one in enumerate(there.behind):
            if one.path not in seen and (number == 0 or one.others_may_change):
                seen.add(one.path)
                yield there.path, one


def _metadata(path: str, entry: Mapping[str, Any]) -> Metadata | None:
    kind, mode, uid, gid, link = (entry.get(key) for key in ("type", "mode", "uid", "gid", "link"))
    if isinstance(kind, str) and type(mode) is int and type(uid) is int and type(gid) is int and isinstance(link, str | None):
        size, mtime = (number if type(number := entry.get(key)) is int else None for key in ("size", "mtime"))
        return Metadata(path, kind, mode, uid, gid, link, _behind(entry) if kind == "link" else (), size, mtime)
    return None


def _behind(entry: Mapping[str, Any]) -> tuple[Metadata, ...]:
    """What a link leads to and the folders on the way; empty if that was not looked at, or not understood."""
    target, way = entry.get("target"), entry.get("way")
    if not isinstance(target, dict) or not isinstance(way, dict) or not way:
        return ()
    named = [(target.get("path"), target), *way.items()]
    found = [_metadata(path, row) if isinstance(path, str) and isinstance(row, dict) else None for path, row in named]
    return tuple(one for one in found if one is not None) if None not in found else ()


def looked(evidence: Bundle, source: Source) -> None:
    """Raises `NotUnderstood` where the answer lacks a path that the reader always speaks of."""
    document = evidence.document(source)
    if not isinstance(document, dict) or any(not re.search(r"[*?[]", path) and path not in document for path in source.args["globs"]):
        raise NotUnderstood(f"{source.id}: not what the reader says")


_ASSIGNED = re.compile(r"(?i)([\w-]*(?:pass(?!es)|secret|token|api_?key)[\w-]*=)(?!/)[^\s,;&]+")


def masked(text: str) -> str:
    """A text without what is assigned to a name such as `passwd=`; paths stay."""
    return _ASSIGNED.sub(r"\1<secret>", text)
