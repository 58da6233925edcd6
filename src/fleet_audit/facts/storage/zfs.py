# SPDX-License-Identifier: Apache-2.0
"""ZFS: which datasets are encrypted, and what the pools lie on. It is asked only where ZFS is loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

ZFS = Source(
    SourceId("zfs-encryption"), "command",
    {"argv": ["zfs", "get", "-H", "-t", "filesystem,volume", "-o", "name,property,value", "encryption,keystatus"]},
    "zfs-get(8), zfsprops(7): tab-separated; encryption is off or a cipher, keystatus available, unavailable or -. "
    "/proc/spl is there where the module is loaded.",
    when_exists="/proc/spl",
)  # fmt: skip
ZPOOL = Source(
    SourceId("zpool-devices"), "command", {"argv": ["zpool", "list", "-v", "-H", "-P", "-L", "-o", "name"]},
    "zpool-list(8): a line for each pool, then indented ones for its devices, by real paths.",
    when_exists="/proc/spl",
)  # fmt: skip
_GROUP = re.compile(r"[a-z]+\d?(?::\d+[a-z])*(?:-\d+)*")
"""mirror-0, raidz2-1, draid2:4d:11c:1s-0, logs, special, ...: no device."""


@dataclass(frozen=True)
class ZfsDataset:
    """A ZFS file system or volume; no row where ZFS is not loaded. Source: zfsprops(7)."""

    name: Annotated[str, "Dataset, pool first"]
    encryption: Annotated[str, "off, or a cipher such as aes-256-gcm"]
    encrypted: Annotated[bool, "Its data are encrypted by ZFS itself, its metadata in part"]
    key_available: Annotated[bool | None, "Its key is loaded; NULL without encryption"]


def parse_datasets(evidence: Bundle) -> Iterable[ZfsDataset]:
    """A row per dataset."""
    if evidence.item(ZFS).status is Status.SKIPPED:
        return []
    found: dict[str, dict[str, str]] = {}
    for line in lines(evidence, ZFS):
        words = line.split("\t")
        if len(words) != 3 or words[1] not in ("encryption", "keystatus") or not words[2]:
            evidence.gap(ZFS, "a line that is no property")
            continue
        found.setdefault(words[0], {})[words[1]] = words[2]
    rows = []
    for name, properties in found.items():
        if (encryption := properties.get("encryption", "-")) == "-":
            evidence.gap(ZFS, f"{name}: its encryption is not told")
            continue
        key = {"available": True, "unavailable": False}.get(properties.get("keystatus", ""))
        rows.append(ZfsDataset(name, encryption, encryption != "off", key))
    return rows


def pool_devices(evidence: Bundle) -> dict[str, list[str]]:
    """{pool: paths of its devices}; empty where ZFS is not loaded. A device that is gone is its number there: no path."""
    pools: dict[str, list[str]] = {}
    if evidence.item(ZPOOL).status is Status.SKIPPED:
        return pools
    pool = None
    for line in lines(evidence, ZPOOL):
        name = line.strip("\t").split("\t")[0].strip()
        if line[:1] not in ("\t", " "):
            pool = pools.setdefault(name, [])
        elif pool is not None and not _GROUP.fullmatch(name):
            pool.append(name)
    return pools
