# SPDX-License-Identifier: Apache-2.0
"""The block devices and how they lie on each other: partitions, LVM, RAID, multipath, dm-crypt, loop devices.

What a drive, a hypervisor or a storage server encrypts by itself does not show here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

from fleet_audit.facts.base import Bundle, Unread, integer
from fleet_audit.facts.storage.mounts import MOUNTINFO, Mount, mount_of, parse_mounts
from fleet_audit.model import Source, SourceId

BLOCK = Source(
    SourceId("block-devices"), "attrs",
    {"globs": ["/sys/class/block/*"],
     "names": ["dev", "size", "ro", "removable", "partition", "hidden", "queue/rotational", "device/model", "dm/name", "dm/uuid",
               "md/level", "loop/backing_file", "backing_dev"]},
    "Kernel documentation, ABI/stable/sysfs-block: a folder for each disk, partition and mapped device; size in units of 512 bytes.",
)  # fmt: skip
BLOCK_LINKS = Source(
    SourceId("block-links"), "stat",
    {"globs": ["/sys/class/block", "/sys/block/*/*[0-9]", "/sys/class/block/*/slaves/*", "/sys/fs/btrfs/*/devices/*"]},
    "Kernel documentation, ABI/stable/sysfs-block: partitions lie in their disk's folder, `slaves` leads to what a device lies on; "
    "ABI/testing/sysfs-fs-btrfs: the devices of a btrfs.",
)  # fmt: skip
SOURCES = (BLOCK, BLOCK_LINKS, MOUNTINFO)

_CIPHERS = "LUKS1 LUKS2-OPAL LUKS2 PLAIN LOOPAES TCRYPT BITLK FVAULT2".split()
_PLAIN_LAYERS = ("LVM-", "mpath-", "part", "DMRAID-", "VDO-", "stratis-", "CRYPT-VERITY-", "CRYPT-INTEGRITY-", "CRYPT-SUBDEV-")
_DISKS = ("sd", "hd", "vd", "xvd", "nvme", "mmcblk", "dasd", "pmem", "ubd", "cciss", "rssd")
_KINDS = (("zram", "zram"), ("ram", "ram"), ("loop", "loop"), ("sr", "optical"), ("fd", "floppy"), ("zd", "zvol"),
          ("nbd", "remote"), ("rbd", "remote"), ("drbd", "remote"), ("bcache", "bcache"))  # fmt: skip
_COUNT = 3000  # devices that are looked at
_MEMORY = ("zram", "ram")
_BOTTOM = ("disk", "remote", "optical", "floppy")


@dataclass(frozen=True)
class BlockDevice:
    """A block device: a disk, a part of one, or a layer on others. Source: sysfs."""

    name: Annotated[str, "Kernel's name, such as nvme0n1p2 or dm-0; it may change at a reboot"]
    kind: Annotated[
        str, "disk, partition, crypt, lvm, multipath, raid, loop, zram, ram, optical, floppy, remote, bcache, zvol, mapped or other"
    ]
    device: Annotated[str | None, "Number, major:minor"]
    parents: Annotated[list[str], "Devices that it lies on; none for a disk"]
    mapped_name: Annotated[str | None, "Name under /dev/mapper"]
    encryption: Annotated[str | None, "LUKS1, LUKS2, PLAIN, ... where this layer encrypts; LUKS2-OPAL: the drive does, keyed by LUKS"]
    encrypted: Annotated[
        bool | None,
        "On every path from here down to disks something encrypts, with what is in crypt_targets; NULL: a layer is not known, or no disk",
    ]
    disks: Annotated[list[str], "Disks at the bottom"]
    size_bytes: Annotated[int | None, "Size"]
    read_only: Annotated[bool | None, "It cannot be written"]
    removable: Annotated[bool | None, "Its medium can be taken out"]
    rotational: Annotated[bool | None, "It spins, or claims to, as virtual disks do"]
    model: Annotated[str | None, "The disk's model"]


class Devices:
    """All devices by name, what each lies on, and the mounts, on which files of loop devices lie."""

    def __init__(self, mounts: list[Mount]) -> None:
        self.mounts = mounts
        self.rows: dict[str, dict[str, str]] = {}
        self.parents: dict[str, list[str]] = {}
        self.btrfs: dict[str, list[str]] = {}
        self._points = {mount.mount_point: mount for mount in mounts if not mount.hidden}
        self._verdicts: dict[str, bool | None] = {}
        self._stack: list[str] = []

    @cached_property
    def _by_number(self) -> dict[str, str]:
        return {row["dev"]: name for name, row in self.rows.items() if "dev" in row}

    @cached_property
    def _by_mapped_name(self) -> dict[str, str]:
        return {row["dm/name"]: name for name, row in self.rows.items() if row.get("dm/name")}

    def kind(self, name: str) -> str:
        """What it is, by its name and its number in the device mapper."""
        row = self.rows[name]
        if name.startswith("dm-"):
            uuid = row.get("dm/uuid") or ""
            words = (("LVM-", "lvm"), ("mpath-", "multipath"), ("DMRAID-", "raid"), ("part", "partition"))
            return "crypt" if self.encryption(name) else next((word for start, word in words if uuid.startswith(start)), "mapped")
        if row.get("partition") is not None:
            return "partition"
        if "md/level" in row:
            return "raid"
        known = next((word for start, word in _KINDS if re.fullmatch(rf"{start}\d.*", name)), None)
        return known or ("disk" if name.startswith(_DISKS) else "other")

    def encryption(self, name: str) -> str | None:
        """How this layer itself encrypts. Source: cryptsetup's prefixes of device-mapper UUIDs."""
        uuid = self.rows[name].get("dm/uuid") or ""
        return next((word for word in _CIPHERS if uuid.startswith(f"CRYPT-{word}-")), None)

    def below(self, name: str) -> list[str] | None:
        """What it lies on, None if that cannot be told; a loop device lies on what its file lies on."""
        row = self.rows[name]
        if (backing := row.get("loop/backing_file")) is not None:
            return self.of_file(backing.removesuffix(" (deleted)"))
        if (backing := row.get("backing_dev")) not in (None, "none", ""):
            return self.of_path(backing)
        return self.parents.get(name, [])

    def of_path(self, path: str) -> list[str] | None:
        """The devices that a path of /dev names, one or, joined with colons, more."""
        found = []
        for part in path.split(":/"):
            short = part.rpartition("/")[2]
            name = self._by_mapped_name.get(short, "") if "/mapper/" in part else short
            if name not in self.rows or not part.startswith(("/dev/", "dev/")):
                return None
            found.append(name)
        return found

    def of_file(self, path: str) -> list[str] | None:
        """The devices that a file lies on; None: not on devices, or it cannot be told."""
        mount = mount_of(self._points, path)
        return self.of_mount(mount) if mount else None

    def of_mount(self, mount: Mount) -> list[str] | None:
        """The devices of a mounted file system; None: not on devices, or it cannot be told."""
        if not mount.device.startswith("0:"):
            return [self._by_number[mount.device]] if mount.device in self._by_number else None
        if mount.type not in ("btrfs", "bcachefs"):
            return None
        own = self.of_path(mount.source)
        if mount.type == "btrfs":  # it names one of its devices, others may be plain
            return next((names for names in self.btrfs.values() if own and own[0] in names), None)
        return own

    def encrypted(self, names: Iterable[str] | None) -> bool | None:
        """Whether every path down from these devices is encrypted."""
        verdicts = [self._encrypted(name) for name in names or ()]
        return False if False in verdicts else None if None in verdicts or not verdicts else True

    def _encrypted(self, name: str) -> bool | None:
        if name in self.rows and name not in self._verdicts and len(self._stack) < 100:
            self._verdicts[name] = None  # what a circle would find
            self._stack.append(name)
            self._verdicts[name] = self._judge(name)
            self._stack.pop()
        return self._verdicts.get(name)

    def _judge(self, name: str) -> bool | None:
        if self.encryption(name):
            return True
        below = self.below(name)
        if not below:
            return False if below == [] and self.kind(name) in _BOTTOM else None
        verdict = self.encrypted(below)
        known = not name.startswith("dm-") or self.rows[name].get("dm/uuid", "").startswith(_PLAIN_LAYERS)
        return verdict if known or verdict is not False else None

    def layers(self, names: Iterable[str] | None) -> list[str]:
        """These devices and all that they lie on, each once, top first."""
        found: dict[str, None] = {}
        todo = list(names or ())
        while todo:
            name = todo.pop(0)
            if name in self.rows and name not in found:
                found[name] = None
                todo += self.below(name) or []
        return list(found)

    def disks(self, names: Iterable[str] | None) -> list[str]:
        """The disks at the bottom of these devices."""
        return sorted(name for name in self.layers(names) if not self.below(name) and self.kind(name) not in _MEMORY)


def read_devices(evidence: Bundle) -> Devices:
    """The devices; attributes that could not be read are gaps. Raises `Unread` where sysfs is not to be seen."""
    links = evidence.entries(BLOCK_LINKS)
    if "/sys/class/block" not in links:
        raise Unread(f"{BLOCK_LINKS.id}: no /sys/class/block")
    devices = Devices(parse_mounts(evidence))
    found = list(evidence.entries(BLOCK).items())
    if len(found) > _COUNT:
        evidence.gap(BLOCK, f"more than {_COUNT} devices")
    for path, entry in found[:_COUNT]:
        name = path.rpartition("/")[2]
        for attribute, text in entry.items():
            if not isinstance(text, str | None):
                evidence.gap(BLOCK, f"{name}/{attribute} not read")
        devices.rows[name] = {attribute: text for attribute, text in entry.items() if isinstance(text, str)}
    for path in sorted(links):
        parts = path.split("/")[2:]
        if parts[:2] == ["fs", "btrfs"]:
            devices.btrfs.setdefault(parts[2], []).append(parts[-1])
        elif parts[-2:-1] == ["slaves"]:
            devices.parents.setdefault(parts[2], []).append(parts[-1])
        elif len(parts) == 3 and parts[-1] in devices.rows and "partition" in devices.rows[parts[-1]]:
            devices.parents.setdefault(parts[-1], []).append(parts[1])
    lost = {
        parts[-2] if parts[-2:-1] != ["slaves"] else parts[-3] for path in links if len(parts := path.split("/")) > 4 and parts[2] != "fs"
    }
    if lost - devices.rows.keys():
        evidence.gap(BLOCK, f"without {min(lost - devices.rows.keys())}, of which other devices tell")
    for mount in devices.mounts:
        if mount.type == "btrfs" and devices.of_mount(mount) is None:
            evidence.gap(BLOCK_LINKS, f"the devices of {mount.source[:200]} are not known")
    for name, row in devices.rows.items():
        if "partition" in row and name not in devices.parents:
            evidence.gap(BLOCK_LINKS, f"the disk of {name} is not known")
            devices.parents[name] = [f"disk of {name}"]
    return devices


def _flag(text: str | None) -> bool | None:
    return {"0": False, "1": True}.get(text or "")


def parse_devices(evidence: Bundle) -> Iterable[BlockDevice]:
    """A row per device that is not hidden as a path of another; empty loop devices and drives are left out."""
    devices = read_devices(evidence)
    for name, row in devices.rows.items():
        if row.get("hidden") == "1" or row.get("size") == "0":
            continue
        if "dev" not in row or "size" not in row:
            evidence.gap(BLOCK, f"{name}: without number or size")
        blocks = integer(row.get("size"))
        yield BlockDevice(
            name, devices.kind(name), row.get("dev"), devices.below(name) or [], row.get("dm/name"), devices.encryption(name),
            devices.encrypted([name]), devices.disks([name]), None if blocks is None else blocks * 512, _flag(row.get("ro")),
            _flag(row.get("removable")), _flag(row.get("queue/rotational")), (row.get("device/model") or "").strip() or None,
        )  # fmt: skip
