# SPDX-License-Identifier: Apache-2.0
"""What the areas of accounts share: metadata of files as the `stat` reader tells it, values that are not shown."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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


def metadata(evidence: Bundle, source: Source) -> Iterator[Metadata]:
    """What the `stat` reader found; what it could not look at, or what is no such entry, is a gap."""
    looked(evidence, source)
    for path, entry in evidence.entries(source).items():
        kind, mode, uid, gid, link = (entry.get(key) for key in ("type", "mode", "uid", "gid", "link"))
        if isinstance(kind, str) and type(mode) is int and type(uid) is int and type(gid) is int and isinstance(link, str | None):
            yield Metadata(path, kind, mode, uid, gid, link)
        else:
            evidence.gap(source, f"{path} is not understood")


def looked(evidence: Bundle, source: Source) -> None:
    """Raises `NotUnderstood` where the answer lacks a path that the reader always speaks of."""
    document = evidence.document(source)
    if not isinstance(document, dict) or any(not re.search(r"[*?[]", path) and path not in document for path in source.args["globs"]):
        raise NotUnderstood(f"{source.id}: not what the reader says")


_ASSIGNED = re.compile(r"(?i)([\w-]*(?:pass(?!es)|secret|token|api_?key)[\w-]*=)(?!/)[^\s,;&]+")


def masked(text: str) -> str:
    """A text without what is assigned to a name such as `passwd=`; paths stay."""
    return _ASSIGNED.sub(r"\1<secret>", text)
