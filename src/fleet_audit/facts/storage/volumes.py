# SPDX-License-Identifier: Apache-2.0
"""Where data lie at rest: mounted local file systems and swap, and whether something encrypts what lies on disks."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.storage.devices import Devices, read_devices
from fleet_audit.facts.storage.mounts import Mount, unescape
from fleet_audit.facts.storage.zfs import ZFS, ZPOOL, parse_datasets, pool_devices
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId

SWAPS = Source(SourceId("swaps"), "file", {"paths": ["/proc/swaps"]}, "proc_swaps(5): a heading, then file, type, sizes in KiB, priority.")
_WITHOUT_NUMBER = ("btrfs", "bcachefs", "zfs")


@dataclass(frozen=True)
class Volume:
    """A mounted file system on a local block device, ZFS included. Source: mountinfo, sysfs, zfs(8)."""

    device: Annotated[str, "Number, major:minor, by which `mounts` lead here"]
    type: Annotated[str, "Type of file system"]
    source: Annotated[str, "What is mounted, as first named"]
    mount_points: Annotated[list[str], "Where it is mounted, shortest first, at most 100"]
    layers: Annotated[list[str], "Devices from the file system down to disks; none: they cannot be told"]
    kinds: Annotated[list[str], "Their kinds, such as lvm, crypt, partition, disk"]
    encryption: Annotated[list[str], "What encrypts on the way: LUKS2, LUKS1, PLAIN, ..., or ZFS's cipher"]
    encrypted: Annotated[bool | None, "Something encrypts on every path down to disks; NULL: not determined"]
    disks: Annotated[list[str], "Disks at the bottom"]


@dataclass(frozen=True)
class Swap:
    """An area that memory is swapped to; no row: no swap. Source: proc_swaps(5), sysfs."""

    path: Annotated[str, "Device or file"]
    kind: Annotated[str, "device, file or zram"]
    size_bytes: Annotated[int, "Size"]
    used_bytes: Annotated[int, "What is swapped out now"]
    in_memory: Annotated[bool, "zram without a backing device: it never reaches a disk"]
    encryption: Annotated[list[str], "What encrypts on the way: LUKS2, PLAIN, ..."]
    encrypted: Annotated[bool | None, "Something encrypts on every path down to disks; NULL: not determined, or in memory"]


def parse_volumes(evidence: Bundle) -> Iterable[Volume]:
    """A row per file system, however often it is mounted."""
    devices = read_devices(evidence)
    groups: dict[tuple[str, str], list[Mount]] = {}
    for mount in devices.mounts:
        if not mount.device.startswith("0:") or mount.type in _WITHOUT_NUMBER:
            groups.setdefault((mount.device, mount.type), []).append(mount)
    ciphers, pools = _zfs(evidence) if any(kind == "zfs" for _, kind in groups) else ({}, {})
    for (device, kind), mounts in groups.items():
        source, extra, cipher = mounts[0].source, list[str](), None
        names = devices.of_mount(mounts[0])
        if kind == "zfs":
            dataset = source.partition("@")[0]  # a snapshot is encrypted as its dataset is
            pool = dataset.partition("/")[0]
            if pool not in pools:
                evidence.gap(ZPOOL, f"the pool of {source[:200]} is not told of")
            parts = [devices.of_path(path) for path in pools.get(pool, ())]
            names = [name for part in parts for name in part or ()] if parts and None not in parts else None
            cipher = ciphers.get(dataset)
            extra = [cipher] if cipher and cipher != "off" else []
        layers = devices.layers(names)
        points = sorted({mount.mount_point for mount in mounts}, key=lambda point: (len(point), point))
        encrypted = True if extra else devices.encrypted(names)
        if kind == "zfs" and cipher is None and not encrypted:
            encrypted = None
            evidence.gap(ZFS, f"{source[:200]} is not told of")
        yield Volume(
            device, kind, source, points[:100], layers, [devices.kind(name) for name in layers], [*extra, *_encryption(devices, layers)],
            encrypted, devices.disks(names),
        )  # fmt: skip


def _zfs(evidence: Bundle) -> tuple[dict[str, str], dict[str, list[str]]]:
    """({dataset: cipher or off}, {pool: devices}), as far as they could be read."""
    ciphers, pools = dict[str, str](), dict[str, list[str]]()
    try:
        ciphers = {row.name: row.encryption for row in parse_datasets(evidence)}
        pools = pool_devices(evidence)
    except Unread as unread:
        evidence.gaps.append(str(unread))
    return ciphers, pools


def _encryption(devices: Devices, layers: list[str]) -> list[str]:
    return list(dict.fromkeys(word for name in layers if (word := devices.encryption(name))))


def parse_swaps(evidence: Bundle) -> Iterable[Swap]:
    """A row per area."""
    heading, *rest = lines(evidence, SWAPS) or [""]
    if heading.split() != ["Filename", "Type", "Size", "Used", "Priority"]:
        raise NotUnderstood(f"{SWAPS.id}: not the heading that is known")
    devices = read_devices(evidence)
    for line in rest:
        match = re.fullmatch(r"(\S+)\s+(partition|file)\s+(\d+)\s+(\d+)\s+-?\d+", line, re.ASCII)
        if not match:
            evidence.gap(SWAPS, "a line that is no swap area")
            continue
        path, kind = unescape(match[1]).removesuffix(" (deleted)"), "file" if match[2] == "file" else "device"
        names = devices.of_file(path) if kind == "file" else devices.of_path(path)
        zram = bool(names) and all(devices.kind(name) == "zram" for name in names or ())
        layers = devices.layers(names)
        yield Swap(
            path, "zram" if zram else kind, int(match[3]) * 1024, int(match[4]) * 1024, zram and len(layers) == 1,
            _encryption(devices, layers), devices.encrypted(names),
        )  # fmt: skip


SOURCES = (ZFS, ZPOOL)
