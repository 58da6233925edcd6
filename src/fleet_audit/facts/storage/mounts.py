# SPDX-License-Identifier: Apache-2.0
"""What is mounted, and what is to be. It shows the mount namespace of the audit: services may have others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.texts import ini, lines
from fleet_audit.model import Source, SourceId, Status

MOUNTINFO = Source(
    SourceId("mountinfo"), "file", {"paths": ["/proc/self/mountinfo"], "redact": True},
    "proc_pid_mountinfo(5): eleven and more fields of each mount, octal escapes for blanks.",
)  # fmt: skip
FSTAB = Source(
    SourceId("fstab"), "file", {"paths": ["/etc/fstab"], "redact": True}, "fstab(5); passwords in options are reduced on the node.",
)  # fmt: skip
MOUNT_UNITS = Source(
    SourceId("mount-units"), "files", {"globs": ["/etc/systemd/system/*.mount"], "cap_each": 1 << 16, "redact": True},
    "systemd.mount(5): mounts that this site configured as units; a link to /dev/null masks one and is not read.",
)  # fmt: skip

_DEPTH = 256  # folders that a path may have
NETWORK = frozenset(
    "nfs nfs4 cifs smb3 smbfs 9p afs ceph lustre beegfs beegfs_nodev gpfs wekafs glusterfs panfs orangefs pvfs2 ncpfs coda "
    "fuse.sshfs fuse.glusterfs fuse.ceph fuse.ceph-fuse fuse.s3fs fuse.gcsfuse fuse.rclone fuse.goofys fuse.blobfuse fuse.blobfuse2 "
    "fuse.juicefs fuse.mount-s3 fuse.mountpoint-s3 fuse.cvmfs2 fuse.alluxio-fuse fuse.dfuse fuse.daos fuse.davfs fuse.curlftpfs "
    "fuse.seaweedfs fuse.mfs fuse.mfsmount".split()
)
_LOCAL_FUSE = frozenset(
    "fuse.lxcfs fuse.gvfsd-fuse fuse.portal fuse.snapfuse fuse.squashfuse fuse.squashfuse_ll fuse.fuse-overlayfs fuse.overlayfs "
    "fuse.mergerfs fuse.ntfs-3g fuse.encfs fuse.gocryptfs fuse.cryfs fuse.bindfs".split()
)


@dataclass(frozen=True)
class Mount:
    """A mount that the audit sees. Source: proc_pid_mountinfo(5)."""

    mount_point: Annotated[str, "Where it is mounted; more than one mount may lie there"]
    type: Annotated[str, "Type of file system, such as ext4, tmpfs or fuse.sshfs"]
    source: Annotated[str, "What is mounted: device, export or a name without meaning"]
    root: Annotated[str, "Folder of the file system that is shown here; not / for bind mounts and subvolumes"]
    device: Annotated[str, "Number of the device, major:minor; major 0 has no block device"]
    options: Annotated[list[str], "Options of the mount"]
    super_options: Annotated[list[str], "Options of the file system"]
    read_only: Annotated[bool, "Nothing can be written here, by either list"]
    nodev: Annotated[bool, "Device files have no effect"]
    nosuid: Annotated[bool, "Set-user-ID and set-group-ID bits have no effect"]
    noexec: Annotated[bool, "Programs cannot be started from here"]
    network: Annotated[bool | None, "A network file system; NULL: a program's (fuse) that is not known"]
    hidden: Annotated[bool, "Another mount lies over it, so that no path leads here"]


@dataclass(frozen=True)
class FstabEntry:
    """A mount that is configured, mounted or not. Source: fstab(5), systemd.mount(5)."""

    file: Annotated[str, "/etc/fstab, or the unit's file"]
    source: Annotated[str, "Device, label, UUID or export"]
    mount_point: Annotated[str, "Where it belongs; none for swap"]
    type: Annotated[str, "Type of file system, swap or auto"]
    options: Annotated[list[str], "Options, secrets reduced"]


def unescape(text: str) -> str:
    """A field with its octal escapes undone."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), text)


def parse_mounts(evidence: Bundle) -> list[Mount]:
    """A row per mount; there is always one, of the root."""
    rows, places = [], []
    for line in lines(evidence, MOUNTINFO):
        left, dash, right = line.partition(" - ")
        head, tail = left.split(" "), right.split(" ", 2)
        known = dash and len(head) >= 6 and len(tail) == 3 and re.fullmatch(r"\d+ \d+ \d+:\d+", " ".join(head[:3]), re.ASCII)
        if not known or head[4].count("/") > _DEPTH:
            evidence.gap(MOUNTINFO, "a line that is no mount")
            continue
        options, above = head[5].split(","), tail[2].split(",")
        flags, kind = {*options, *above}, unescape(tail[0])
        rows.append(Mount(
            unescape(head[4]), kind, unescape(tail[1]), unescape(head[3]), head[2],
            [unescape(word) for word in options], [unescape(word) for word in above],
            "ro" in flags, "nodev" in flags, "nosuid" in flags, "noexec" in flags, _network(kind), False,
        ))  # fmt: skip
        places.append((int(head[0]), int(head[1])))
    if not rows:
        raise NotUnderstood(f"{MOUNTINFO.id}: no mount in it")
    reached = _reached(rows, places)
    return [replace(row, hidden=reached is not None and index not in reached) for index, row in enumerate(rows)]


def _network(kind: str) -> bool | None:
    if kind in NETWORK or kind in _LOCAL_FUSE:
        return kind in NETWORK
    return None if kind == "fuse" or kind.startswith("fuse.") else False


def _reached(rows: list[Mount], places: list[tuple[int, int]]) -> set[int] | None:
    """Which rows a path leads to; None if the tree has no root, as in a changed root folder.

    A path crosses, from the root on, the mounts that lie on its way on the mount it has come to.
    """
    own = {ids[0]: index for index, ids in enumerate(places)}
    root = next((i for i, (_, parent) in enumerate(places) if rows[i].mount_point == "/" and own.get(parent, i) == i), None)
    if root is None:
        return None
    on: dict[int, dict[str, int]] = {}
    for index, (_, parent) in enumerate(places):
        if index != root and parent in own:
            on.setdefault(own[parent], {})[rows[index].mount_point] = index
    points, known = {row.mount_point for row in rows}, dict[str, int]()
    for point in points:
        here = root
        for step in _steps(point):
            if step in known:
                here = known[step]
            elif step in points:
                seen = set[int]()
                while here not in seen and step in on.get(here, {}):
                    seen.add(here)
                    here = on[here][step]
                known[step] = here
    return set(known.values())


def _steps(path: str) -> list[str]:
    """The folders on the way to a path, from / to itself."""
    parts = [part for part in path.split("/") if part]
    return ["/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))]


def mount_of(points: Mapping[str, Mount], path: str) -> Mount | None:
    """The mount that a path lies on, of {mount point: mount}; None if that cannot be told."""
    if not path.startswith("/") or path.count("/") > _DEPTH:
        return None
    return next((points[step] for step in reversed(_steps(path)) if step in points), None)


def parse_fstab(evidence: Bundle) -> Iterable[FstabEntry]:
    """A row per entry of /etc/fstab, which need not be there, then of the units."""
    if evidence.item(FSTAB).status is not Status.ABSENT:
        for line in lines(evidence, FSTAB):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            if not 3 <= len(words) <= 6 and not (len(words) > 6 and words[6].startswith("#")):
                evidence.gap(FSTAB, "a line that is no entry")
                continue
            options = words[3] if len(words) > 3 else "defaults"
            yield FstabEntry("/etc/fstab", unescape(words[0]), unescape(words[1]), words[2], [unescape(o) for o in options.split(",")])
    for path, entry in evidence.entries(MOUNT_UNITS, masks=True).items():
        unit = {name: text for section, name, text in ini(evidence, MOUNT_UNITS, path, entry.get("text")) if section == "Mount"}
        if "What" in unit and "Where" in unit:
            yield FstabEntry(path, unit["What"], unit["Where"], unit.get("Type") or "auto", (unit.get("Options") or "defaults").split(","))
        else:
            evidence.gap(MOUNT_UNITS, f"{path}: without What or Where")
