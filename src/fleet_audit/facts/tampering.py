# SPDX-License-Identifier: Apache-2.0
"""Places where what hides a rootkit would show: libraries that every program loads, and eBPF objects that outlive their program.

A rootkit that works hides these too: rows are signs, no rows are no proof. Programs whose file is gone are in `processes`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

PRELOAD = Source(
    SourceId("ld-so-preload"), "file", {"paths": ["/etc/ld.so.preload"]},
    "ld.so(8): libraries that every dynamically linked program loads first, separated by blanks or colons; # begins a comment.",
)  # fmt: skip
PINS = Source(
    SourceId("bpf-pins"), "stat", {"globs": ["/sys/fs", "/sys/fs/bpf", "/sys/fs/bpf/*", "/sys/fs/bpf/*/*", "/sys/fs/bpf/*/*/*"]},
    "Kernel documentation, bpf; bpftool-prog(8) pin: objects pinned in the BPF file system live on without a process.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class PreloadedLibrary:
    """A library that is loaded into every program. No row: none. Source: ld.so(8)."""

    path: Annotated[str, "Library, as written"]


@dataclass(frozen=True)
class BpfPin:
    """A file or folder of the BPF file system. No row: nothing is pinned in its first three levels. Source: stat(2)."""

    path: Annotated[str, "Where it is pinned"]
    folder: Annotated[bool, "A folder, not an object"]
    uid: Annotated[int, "Owner"]
    mode: Annotated[int, "Permission bits as a number: 384 is 0600"]


def parse_preload(evidence: Bundle) -> Iterable[PreloadedLibrary]:
    """A row per library; none where the file was looked for and is not there."""
    if evidence.item(PRELOAD).status is Status.ABSENT:
        return
    for line in lines(evidence, PRELOAD):
        for word in line.partition("#")[0].replace(":", " ").split():
            if re.fullmatch(r"[\w./+@${}~,=-]+", word):
                yield PreloadedLibrary(word)
            else:
                evidence.gap(PRELOAD, "a word that is no path")


def parse_pins(evidence: Bundle) -> Iterable[BpfPin]:
    """A row per file; none is proved by sysfs being there."""
    there = evidence.entries(PINS)
    if "/sys/fs" not in there:
        raise Unread(f"{PINS.id}: no /sys/fs")
    for path, entry in there.items():
        if not path.startswith("/sys/fs/bpf/"):
            continue
        uid, mode = entry.get("uid"), entry.get("mode")
        if type(uid) is int and type(mode) is int:
            yield BpfPin(path, entry.get("type") == "dir", uid, mode)
        else:
            evidence.gap(PINS, f"{path}: not understood")


TABLES = (
    Table("preloaded_libraries", PreloadedLibrary, (PRELOAD,), parse_preload),
    Table("bpf_pins", BpfPin, (PINS,), parse_pins),
)
