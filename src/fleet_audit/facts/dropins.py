# SPDX-License-Identifier: Apache-2.0
"""Files of which a folder with precedence replaces those of the same name: sysctl.d, modprobe.d, modules-load.d."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.model import Source, SourceId, Status


@dataclass(frozen=True)
class DropIn:
    """One file, in the order in which they are read: by name, whatever the folder."""

    path: str
    text: str
    link: str | None
    """Where it leads, if it is a link."""
    counts: bool
    """No file of the same name in a folder before this one replaces it."""


def folders(name: str) -> tuple[str, ...]:
    """Where files are looked for, first wins. Source: sysctl.d(5), modprobe.d(5), modules-load.d(5); /lib before merged /usr."""
    return tuple(f"{base}/{name}" for base in ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"))


def sources(name: str, doc: str, *more: str) -> tuple[Source, Source]:
    """The contents and the metadata of the `.conf` files in a family of folders, and of `more` files."""
    globs, id_ = [*(f"{folder}/*.conf" for folder in folders(name)), *more], name.replace(".", "-")
    return (
        Source(SourceId(f"{id_}-files"), "files", {"globs": globs, "cap_each": 1 << 18, "redact": True}, f"{doc} What the files say."),
        Source(
            SourceId(f"{id_}-stat"), "stat", {"globs": globs}, f"{doc} Which files are there; a link to /dev/null masks those after it."
        ),
    )


def drop_ins(evidence: Bundle, files: Source, stats: Source, where: Sequence[str]) -> Iterable[DropIn]:
    """The files that can be read; one that cannot is a gap, and replaces others all the same."""
    found, read = evidence.entries(stats), evidence.document(files)
    if not isinstance(read, dict) or not all(isinstance(entry, dict) for entry in read.values()):
        raise NotUnderstood(f"{files.id}: not an object of objects")
    if missed := {path for path, entry in read.items() if entry.get("status") != Status.ABSENT} - set(found):
        raise NotUnderstood(f"{stats.id}: not the same files as {files.id}, such as {min(missed)}")
    rank = {folder: place for place, folder in enumerate(where)}
    split = {path: path.rpartition("/")[::2] for path in found}
    seen: dict[str, str | None] = {}
    for name, _, path in sorted((name, rank[folder], path) for path, (folder, name) in split.items() if folder in rank):
        link, text = found[path].get("link"), read.get(path, {}).get("text")
        nowhere = read.get(path, {}).get("status") == Status.ABSENT
        if isinstance(link, str) and (nowhere or link.endswith("/dev/null")):
            seen.setdefault(name, None)  # a link that leads nowhere masks too, as systemd 252 does
        elif not isinstance(text, str):
            evidence.gap(files, f"{path} {read.get(path, {}).get('status', 'not read')}")
            seen.setdefault(name, None)
        elif not (path.startswith("/lib/") and seen.get(f"/usr{path}") == text):  # with merged /usr they are one file
            yield DropIn(path, text, link if isinstance(link, str) else None, name not in seen)
            seen.setdefault(name, text)
            seen[path] = text


TABLES: tuple[Table, ...] = ()
