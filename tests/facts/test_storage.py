# SPDX-License-Identifier: Apache-2.0
"""Mounts, block devices and what encrypts them, swap, drives, ZFS, network file systems: a real node, and what it did not have."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.base import Item
from fleet_audit.facts.storage import TABLES
from fleet_audit.facts.storage.crypt import CRYPTTAB, KEY_FILES, TARGETS
from fleet_audit.facts.storage.devices import BLOCK, BLOCK_LINKS
from fleet_audit.facts.storage.drives import COMMANDS, OPAL
from fleet_audit.facts.storage.mounts import FSTAB, MOUNT_UNITS, MOUNTINFO
from fleet_audit.facts.storage.network import LUSTRE, SECRETS, SETTINGS
from fleet_audit.facts.storage.volumes import SWAPS
from fleet_audit.facts.storage.zfs import ZFS, ZPOOL
from fleet_audit.model import Coverage, SourceId, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

T = {table.name: table for table in TABLES}
DENIED = {"status": "denied", "detail": "Permission denied"}
GONE = (status(Status.DENIED), status(Status.TIMEOUT), status(Status.FAILED, "exit 1"), status(Status.UNREACHED), ok(b"\xff\0garbage"))


def rows(table: str, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(T[table], evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(T[table], extracted)


def by(table: str, key: str, evidence: Evidence) -> dict[str, dict[str, Any]]:
    return {row[key]: row for row in rows(table, evidence)}


# --- Mounts -------------------------------------------------------------------------------------


def test_mounts_of_a_real_node() -> None:
    found = rows("mounts", recorded())
    shm = next(row for row in found if row["mount_point"] == "/dev/shm")
    assert (shm["type"], shm["nodev"], shm["nosuid"], shm["noexec"], shm["read_only"]) == ("tmpfs", True, True, False, False)
    raid = next(row for row in found if row["mount_point"] == "/raid")
    assert (raid["read_only"], raid["device"], raid["network"]) == (True, "252:5", False)
    credentials = next(row for row in found if row["mount_point"] == "/run/credentials/systemd-journald.service")
    assert credentials["read_only"] is True and "rw" in credentials["super_options"]
    assert [(row["source"], row["hidden"]) for row in found if row["mount_point"].startswith("/stack")] == [
        ("one", True), ("two", True), ("three", False),
    ]  # fmt: skip
    assert [row["type"] for row in found if row["hidden"] and row["type"] != "tmpfs"] == ["autofs"]
    assert {row["mount_point"] for row in found if row["network"]} == {"/mnt/nfs", "/mnt/nfs3"}


MOUNTS = """\
20 1 8:1 / / rw,relatime shared:1 master:2 - ext4 /dev/sda1 rw,errors=remount-ro
21 20 0:40 /sub\\040dir /mnt/a\\040b\\011c rw,nosuid - fuse.sshfs me@nas:/x\\134y rw,user_id=0
22 20 0:41 / /opt/tool ro - fuse.unheard tool rw
23 20 0:42 / /var/lib/lxcfs rw - fuse.lxcfs lxcfs rw
24 20 0:43 / /empty rw -  none rw
25 20 0:44 / /host rw - tmpfs  ro,size=1k
26 20 0:45 / /over rw - overlay overlay rw,lowerdir=/a:/b
27 20 8:1 /home /over rw,nodev - ext4 /dev/sda1 rw
"""  # synthetic: proc_pid_mountinfo(5)


def test_escapes_sources_without_a_name_and_what_lies_over() -> None:
    found = rows("mounts", {MOUNTINFO.id: ok(MOUNTS)})
    strange = found[1]
    assert (strange["mount_point"], strange["root"], strange["source"]) == ("/mnt/a b\tc", "/sub dir", "me@nas:/x\\y")
    assert [row["network"] for row in found] == [False, True, None, False, False, False, False, False]
    assert (found[4]["type"], found[5]["source"], found[5]["read_only"]) == ("", "", True)
    over = [row for row in found if row["mount_point"] == "/over"]
    assert [(row["type"], row["hidden"]) for row in over] == [("overlay", True), ("ext4", False)]


def test_thousands_of_mounts_take_no_long_time() -> None:
    stack = "1 0 0:1 / / rw - tmpfs x rw\n" + "".join(f"{n + 2} {n + 1} 0:1 / /s rw - tmpfs t{n} rw\n" for n in range(4000))
    below = "".join(f"{n + 5000} 4001 0:1 / /s/a{n} rw - tmpfs x rw\n" for n in range(2000))
    begin = time.process_time()
    found = rows("mounts", {MOUNTINFO.id: ok(stack + below)})
    assert time.process_time() - begin < 3
    assert [row["source"] for row in found if not row["hidden"]][:2] == ["x", "t3999"] and sum(not row["hidden"] for row in found) == 2002


def test_without_a_root_nothing_is_said_to_be_hidden() -> None:
    found = rows("mounts", {MOUNTINFO.id: ok("9 8 0:1 / /a rw - tmpfs x rw\n10 8 0:2 / /a/b rw - tmpfs y rw\n")})
    assert [row["hidden"] for row in found] == [False, False]


def test_lines_that_are_no_mounts_are_gaps_and_none_at_all_is_none() -> None:
    assert len(rows("mounts", {MOUNTINFO.id: ok(MOUNTS + "garbage\n" + "1 2 x:y / /a rw - a b rw\n")}, Coverage.PARTIAL)) == 8
    deep = "30 20 0:9 / " + "/a" * 5000 + " rw - tmpfs x rw\n"
    assert len(rows("mounts", {MOUNTINFO.id: ok(MOUNTS + deep)}, Coverage.PARTIAL)) == 8
    for text in ("", "\n", "garbage\n"):
        assert run(T["mounts"], {MOUNTINFO.id: ok(text)}).coverage is Coverage.NONE


def test_a_cut_line_is_no_mount_without_its_options() -> None:
    for extracted in cut_short(T["mounts"], {MOUNTINFO.id: ok(MOUNTS)}, MOUNTINFO, step=3):
        known = rows_as_dicts(T["mounts"], extracted)
        assert all("rw" in row["super_options"] or row["super_options"] == ["ro", "size=1k"] for row in known)


def test_mounts_of_this_machine_agree_with_findmnt() -> None:
    if shutil.which("findmnt") is None:
        pytest.skip("the mirror lacks findmnt here")
    native = subprocess.run(["findmnt", "-J", "-l", "-k", "-o", "TARGET,FSTYPE,VFS-OPTIONS"], capture_output=True, text=True, check=True)
    wanted = Counter(
        (row["target"], row["fstype"], "nosuid" in row["vfs-options"].split(",")) for row in json.loads(native.stdout)["filesystems"]
    )
    found = rows("mounts", {MOUNTINFO.id: ok(Path("/proc/self/mountinfo").read_bytes())})
    ours = Counter((row["mount_point"], row["type"], "nosuid" in row["options"]) for row in found)
    assert ours == wanted


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="makes mounts in a namespace of its own: needs root")
def test_hidden_mounts_are_those_that_no_path_leads_to(tmp_path: Path) -> None:
    made = (
        f"mkdir -p {tmp_path}/a/b; mount -t tmpfs t1 {tmp_path}/a/b; mount -t tmpfs t2 {tmp_path}/a; mkdir {tmp_path}/a/b; "
        f"mount -t tmpfs t3 {tmp_path}/a/b; mount -t tmpfs t4 {tmp_path}/a/b; cat /proc/self/mountinfo; stat -f -c %i {tmp_path}/a/b >/dev/null"
    )
    done = subprocess.run(["unshare", "-m", "sh", "-c", made], capture_output=True, check=True)
    ours = {
        row["source"]: row["hidden"] for row in rows("mounts", {MOUNTINFO.id: ok(done.stdout)}) if row["source"] in ("t1", "t2", "t3", "t4")
    }
    assert ours == {"t1": True, "t2": False, "t3": True, "t4": False}


def test_fstab() -> None:
    found = rows("fstab_entries", recorded())
    assert [row["mount_point"] for row in found] == ["/", "/data", "/mnt/x"]
    assert found[2]["options"] == ["username=u", "password=<secret:value:8>", "vers=3.1.1"]
    evidence = {
        FSTAB.id: ok("# c\n\nUUID=1 none swap sw\n/a\\040b /c\\040d auto\nx /y ext4 defaults 0 2 # home\nhalf\none two three four five six seven\n"),
        MOUNT_UNITS.id: document({
            "/etc/systemd/system/tmp.mount": "[Unit]\nA=b\n[Mount]\nWhat=tmpfs\nWhere=/tmp\nType=tmpfs\nOptions=mode=1777,nosuid\n",
            "/etc/systemd/system/half.mount": "[Mount]\nWhat=x\n",
        }),
    }  # fmt: skip
    found = rows("fstab_entries", evidence, Coverage.PARTIAL)
    assert [(row["source"], row["mount_point"], row["options"]) for row in found] == [
        ("UUID=1", "none", ["sw"]), ("/a b", "/c d", ["defaults"]), ("x", "/y", ["defaults"]), ("tmpfs", "/tmp", ["mode=1777", "nosuid"]),
    ]  # fmt: skip
    assert rows("fstab_entries", {FSTAB.id: status(Status.ABSENT), MOUNT_UNITS.id: document({})}) == []
    masked = document({"/etc/systemd/system/tmp.mount": {"status": "failed", "detail": "not a regular file"}})
    assert rows("fstab_entries", {FSTAB.id: status(Status.ABSENT), MOUNT_UNITS.id: masked}) == []
    assert run(T["fstab_entries"], {FSTAB.id: status(Status.DENIED), MOUNT_UNITS.id: document({})}).coverage is Coverage.NONE


# --- Block devices and volumes --------------------------------------------------------------------


def test_block_devices_of_a_real_node() -> None:
    found = by("block_devices", "name", recorded())
    kinds = {name: (row["kind"], row["parents"], row["encrypted"]) for name, row in found.items()}
    assert kinds["dm-0"] == ("crypt", ["vda"], True) and found["dm-0"]["encryption"] == "LUKS2"
    assert kinds["dm-1"] == ("lvm", ["dm-0"], True) and found["dm-1"]["mapped_name"] == "vg0-data"
    assert kinds["dm-3"] == ("lvm", ["dm-2", "vdb2"], False)  # one of two physical volumes is plain
    assert found["dm-2"]["encryption"] == "LUKS1" and found["dm-4"]["encryption"] == "PLAIN"
    assert kinds["dm-5"] == ("crypt", ["md0"], True) and found["dm-5"]["disks"] == ["vdd", "vde"]
    assert kinds["md0"] == ("raid", ["vdd", "vde"], False)
    assert kinds["vdb2"] == ("partition", ["vdb"], False) and kinds["loop0"] == ("loop", ["dm-1"], True)
    assert kinds["zram0"] == ("zram", [], None) and kinds["sr0"] == ("optical", [], False)
    nvme = found["nvme0n1"]
    assert (nvme["model"], nvme["rotational"], nvme["size_bytes"], nvme["kind"]) == ("QEMU NVMe Ctrl", False, 64 << 20, "disk")
    assert "loop1" not in found  # an empty one


def test_volumes_of_a_real_node() -> None:
    found = by("volumes", "source", recorded())
    assert {source: (row["encrypted"], row["kinds"]) for source, row in found.items()} == {
        "/dev/vdi": (False, ["disk"]),
        "/dev/mapper/vg0-data": (True, ["lvm", "crypt", "disk"]),
        "/dev/mapper/vg1-mix": (False, ["lvm", "crypt", "partition", "disk", "disk"]),
        "/dev/mapper/cryptraid": (True, ["crypt", "raid", "disk", "disk"]),
        "/dev/mapper/cryptbtr": (False, ["crypt", "disk", "disk"]),  # btrfs has a second, plain device
        "/dev/loop0": (True, ["loop", "lvm", "crypt", "disk"]),
    }
    assert found["/dev/mapper/vg0-data"]["mount_points"] == ["/data", "/srv/data"]
    assert found["/dev/mapper/cryptbtr"]["disks"] == ["vdf", "vdg"]


def test_btrfs_is_not_judged_by_the_one_device_that_it_names() -> None:
    """Without its folder in sysfs, another of its devices may be plain."""
    evidence = recorded()
    links = {path: row for path, row in json.loads(evidence[BLOCK_LINKS.id].body).items() if "/btrfs/" not in path}
    found = {row["source"]: row for row in rows("volumes", evidence | {BLOCK_LINKS.id: document(links)}, Coverage.PARTIAL)}
    assert (found["/dev/mapper/cryptbtr"]["encrypted"], found["/dev/mapper/cryptbtr"]["layers"]) == (None, [])
    assert found["/dev/mapper/vg0-data"]["encrypted"] is True


def test_swaps_of_a_real_node() -> None:
    found = by("swaps", "path", recorded())
    assert {path: (row["kind"], row["encrypted"], row["in_memory"]) for path, row in found.items()} == {
        "/dev/dm-4": ("device", True, False), "/data/swapfile": ("file", True, False), "/swapfile": ("file", False, False),
        "/dev/zram0": ("zram", None, True),
    }  # fmt: skip
    assert found["/dev/dm-4"]["size_bytes"] == 40956 * 1024 and found["/dev/dm-4"]["encryption"] == ["PLAIN"]


def tree(devices: dict[str, dict[str, str]], parents: dict[str, list[str]], mounts: str, **more: Item) -> Evidence:
    """Evidence of a made-up node; a partition is a device whose parent is its disk."""
    links: dict[str, Any] = {"/sys/class/block": {"type": "dir"}}
    for name, below in parents.items():
        for other in below:
            path = f"/sys/block/{other}/{name}" if "partition" in devices[name] else f"/sys/class/block/{name}/slaves/{other}"
            links[path] = {"type": "link"}
    names = BLOCK.args["names"]
    block = {f"/sys/class/block/{name}": {**dict.fromkeys(names), "dev": "1:1", "size": "8", **row} for name, row in devices.items()}
    return {
        BLOCK.id: ok(json.dumps(block)), BLOCK_LINKS.id: ok(json.dumps(links)), MOUNTINFO.id: ok(mounts), ZFS.id: status(Status.SKIPPED),
        ZPOOL.id: status(Status.SKIPPED), SWAPS.id: ok("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
        **{SourceId(name.replace("_", "-")): item for name, item in more.items()},
    }  # fmt: skip


ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n"
# synthetic: ABI/stable/sysfs-block; UUID prefixes of lvm2, multipath-tools and cryptsetup (lib/internal.h, libcryptsetup_macros.h)
DEVICES: dict[str, dict[str, str]] = {
    "sda": {"dev": "8:0"},
    "sda1": {"dev": "8:1", "partition": "1"},
    "sdb": {"dev": "8:16"},
    "sdc": {"dev": "8:32"},
    "sdc1": {"dev": "8:33", "partition": "1"},
    "dm-0": {"dev": "253:0", "dm/uuid": "mpath-3600508b4", "dm/name": "mpatha"},
    "dm-1": {"dev": "253:1", "dm/uuid": "part1-mpath-3600508b4", "dm/name": "mpatha1"},
    "dm-2": {"dev": "253:2", "dm/uuid": "CRYPT-LUKS2-0123-luks", "dm/name": "luks"},
    "dm-3": {"dev": "253:3", "dm/uuid": "CRYPT-VERITY-0123-usr", "dm/name": "usr"},
    "dm-4": {"dev": "253:4", "dm/uuid": "", "dm/name": "handmade"},
    "dm-5": {"dev": "253:5", "dm/uuid": "", "dm/name": "oncrypt"},
    "dm-6": {"dev": "253:6", "dm/uuid": "CRYPT-LUKS2-OPAL-4567-opal", "dm/name": "opal"},
    "dm-7": {"dev": "253:7", "dm/uuid": "LVM-lost", "dm/name": "vg-lost"},
    "md127": {"dev": "9:127", "md/level": "raid6"},
    "nvme0c0n1": {"dev": "259:1", "hidden": "1"},
    "nvme0n1": {"dev": "259:0", "device/model": "SAMSUNG MZQL23T8HCLS-00A07   ", "removable": "0", "ro": "0"},
    "rbd0": {"dev": "250:0"},
    "zd0": {"dev": "230:0"},
    "odd9": {"dev": "99:0"},
    "loop7": {"dev": "7:7", "loop/backing_file": "/mnt/luks/x.img (deleted)"},
    "loop8": {"dev": "7:8", "size": "0"},
    "loop9": {"dev": "7:9", "loop/backing_file": "/run/in-memory.img"},
    "zram1": {"dev": "251:1", "backing_dev": "/dev/sdb"},
    "bcache0": {"dev": "252:0"},
}  # fmt: skip
PARENTS = {"sda1": ["sda"], "sdc1": ["sdc"], "dm-0": ["sdb", "sdc"], "dm-1": ["dm-0"], "dm-2": ["dm-1"], "dm-3": ["sda1"], "dm-4": ["sda"],
           "dm-5": ["dm-2"], "dm-6": ["nvme0n1"], "md127": ["dm-2", "dm-6"], "bcache0": ["dm-2", "sdb"]}  # fmt: skip
TREE = tree(DEVICES, PARENTS, ROOT + "2 1 253:2 / /mnt/luks rw - ext4 /dev/mapper/luks rw\n3 1 0:5 / /run rw - tmpfs run rw\n")


def test_layers_of_a_made_up_node() -> None:
    found = by("block_devices", "name", TREE)
    assert {name: (row["kind"], row["encrypted"]) for name, row in found.items()} == {
        "sda": ("disk", False), "sda1": ("partition", False), "sdb": ("disk", False), "sdc": ("disk", False), "sdc1": ("partition", False),
        "dm-0": ("multipath", False), "dm-1": ("partition", False), "dm-2": ("crypt", True), "dm-3": ("mapped", False),
        "dm-4": ("mapped", None), "dm-5": ("mapped", True), "dm-6": ("crypt", True), "dm-7": ("lvm", None), "md127": ("raid", True),
        "nvme0n1": ("disk", False), "rbd0": ("remote", False), "zd0": ("zvol", None), "odd9": ("other", None), "loop7": ("loop", True),
        "loop9": ("loop", None), "zram1": ("zram", False), "bcache0": ("bcache", False),
    }  # fmt: skip
    assert found["nvme0n1"]["model"] == "SAMSUNG MZQL23T8HCLS-00A07" and found["nvme0n1"]["removable"] is False
    assert found["dm-6"]["encryption"] == "LUKS2-OPAL" and found["dm-2"]["disks"] == ["sdb", "sdc"]


def test_devices_of_which_only_others_tell_are_a_gap() -> None:
    for path, lost in (("/sys/class/block/dm-9/slaves/sda", "dm-9"), ("/sys/block/sdz/sdz1", "sdz")):
        links = document({"/sys/class/block": {"type": "dir"}, path: {"type": "link"}})
        extracted = run(T["block_devices"], {**tree({"sda": {}}, {}, ROOT), BLOCK_LINKS.id: links})
        assert extracted.coverage is Coverage.PARTIAL and lost in extracted.reason
    assert run(T["block_devices"], {**TREE, BLOCK.id: ok("{}")}).coverage is Coverage.PARTIAL


def test_a_circle_a_lost_disk_and_an_attribute_that_was_not_read() -> None:
    circle = tree({"dm-0": {"dm/uuid": "LVM-a"}, "dm-1": {"dm/uuid": "LVM-b"}}, {"dm-0": ["dm-1"], "dm-1": ["dm-0"]}, ROOT)
    assert [row["encrypted"] for row in rows("block_devices", circle)] == [None, None]
    lost = tree({"sda1": {"partition": "1"}}, {}, ROOT)
    assert [(row["encrypted"], row["disks"]) for row in rows("block_devices", lost, Coverage.PARTIAL)] == [(None, [])]
    block = json.loads(TREE[BLOCK.id].body)
    block["/sys/class/block/dm-2"]["dm/uuid"] = DENIED
    found = {row["name"]: row for row in rows("block_devices", {**TREE, BLOCK.id: ok(json.dumps(block))}, Coverage.PARTIAL)}
    assert found["dm-2"]["encrypted"] is None and found["md127"]["encrypted"] is None and found["bcache0"]["encrypted"] is False


def test_many_layers_are_judged_once_each() -> None:
    """Each layer lies twice on the next: paths double, work must not."""
    devices = {f"dm-{n}": {"dm/uuid": f"LVM-{n}"} for n in range(80)} | {"sda": {}}
    parents = {f"dm-{n}": [f"dm-{n + 1}", f"dm-{n + 1}"] for n in range(79)} | {"dm-79": ["sda"]}
    assert {row["encrypted"] for row in rows("block_devices", tree(devices, parents, ROOT))} == {False}


def test_no_sysfs_is_none_and_no_disk_is_complete() -> None:
    nothing = {
        **tree({}, {}, "1 0 0:9 / / rw - tmpfs none rw\n"),
        BLOCK_LINKS.id: ok(json.dumps({"/sys/class/block": {"status": "absent"}})),
    }
    for name in ("block_devices", "volumes", "swaps", "self_encrypting_drives"):
        assert run(T[name], nothing).coverage is Coverage.NONE
        assert rows(name, tree({}, {}, "1 0 0:9 / / rw - tmpfs none rw\n")) == []


def test_a_mounted_device_that_sysfs_does_not_show_is_undetermined() -> None:
    found = rows("volumes", tree({"sda": {"dev": "8:0"}}, {}, ROOT))
    assert [(row["device"], row["encrypted"], row["layers"]) for row in found] == [("8:1", None, [])]


SWAP = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"


@pytest.mark.parametrize(("line", "encrypted", "kind"), [
    ("/dev/mapper/luks                       partition\t100\t\t1\t\t-2\n", True, "device"),
    ("/mnt/luks/swap\\040file                 file    \t100\t\t1\t\t-2\n", True, "file"),
    ("/gone\\040(deleted)                     file    \t100\t\t1\t\t-2\n", False, "file"),
    ("/dev/sda1                               partition\t100\t\t1\t\t5\n", False, "device"),
    ("/dev/zram1                              partition\t100\t\t1\t\t5\n", False, "zram"),
    ("/dev/vg/lost                            partition\t100\t\t1\t\t5\n", None, "device"),
])  # fmt: skip
def test_swap_areas(line: str, encrypted: bool | None, kind: str) -> None:
    (row,) = rows("swaps", {**TREE, SWAPS.id: ok(SWAP + line)})
    assert (row["encrypted"], row["kind"], row["in_memory"], row["size_bytes"]) == (encrypted, kind, False, 102400)


def test_swap_is_none_only_where_the_heading_stands_alone() -> None:
    assert rows("swaps", {**TREE, SWAPS.id: ok(SWAP)}) == []
    for item in (ok(""), ok("garbage\n"), status(Status.ABSENT), *GONE):
        assert run(T["swaps"], {**TREE, SWAPS.id: item}).coverage is Coverage.NONE
    assert rows("swaps", {**TREE, SWAPS.id: ok(SWAP + "half a line\n")}, Coverage.PARTIAL) == []


# --- dm-crypt ---------------------------------------------------------------------------------------


def test_crypt_targets_of_a_real_node_hold_no_key() -> None:
    found = by("crypt_targets", "name", recorded())
    assert set(found) == {"cryptdata", "cryptmix", "cryptraid", "cswap", "cryptbtr"}
    assert {row["cipher"] for row in found.values()} == {"aes-xts-plain64"} and {row["key_bits"] for row in found.values()} == {512}
    assert found["cryptdata"]["discards"] is True and found["cryptdata"]["key_in_keyring"] is True
    assert (found["cryptmix"]["key_in_keyring"], found["cryptmix"]["device"], found["cryptmix"]["discards"]) == (False, "254:32", False)
    assert "0000" not in json.dumps(list(found.values()))


def test_crypt_targets_elsewhere() -> None:
    # synthetic: kernel documentation, dm-crypt; a name with a colon, integrity, options
    line = "a: b: 0 8 crypt capi:authenc(hmac(sha256),xts(aes))-random :96:logon:k 0 253:1 0 2 integrity:32:aead sector_size:4096\n"
    (row,) = rows("crypt_targets", {TARGETS.id: ok(line)})
    assert (row["name"], row["key_bits"], row["options"]) == ("a: b", 768, ["integrity:32:aead", "sector_size:4096"])
    assert rows("crypt_targets", {TARGETS.id: ok("No devices found\n")}) == rows("crypt_targets", {TARGETS.id: ok("")}) == []
    assert rows("crypt_targets", {TARGETS.id: status(Status.SKIPPED)}) == []
    assert rows("crypt_targets", {TARGETS.id: ok("x: 0 1 linear 8:0 0\n")}, Coverage.PARTIAL) == []
    for item in (status(Status.ABSENT), *GONE[:4]):
        assert run(T["crypt_targets"], {TARGETS.id: item}).coverage is Coverage.NONE


def test_crypttab_of_a_real_node() -> None:
    found = by("crypttab_entries", "name", recorded())
    assert {name: (row["unlock"], row["key_file"], row["key_mode"]) for name, row in found.items()} == {
        "cryptdata": ("asked", None, None), "cswap": ("random", None, None), "boot": ("tpm2", None, None),
        "cryptraid": ("file", "/etc/cryptsetup-keys.d/cryptraid.key", 0o644), "withkey": ("file", "/etc/cryptsetup-keys.d/withkey.key", 0o400),
    }  # fmt: skip
    assert found["cryptraid"]["key_encrypted"] is False and found["cryptdata"]["options"] == ["luks", "discard"]


KEY = {"type": "file", "mode": 0o400, "uid": 0, "gid": 0}


def test_a_key_file_that_is_a_link_is_judged_by_what_it_leads_to() -> None:
    folder, link = {**KEY, "type": "dir", "mode": 0o755}, {**KEY, "type": "link", "mode": 0o777, "link": "/mnt/luks/key"}
    followed = {**link, "target": {**KEY, "mode": 0o440, "uid": 7, "path": "/mnt/luks/key"}, "way": {"/": folder, "/etc": folder}}
    for key, wanted in ((followed, (0o440, 7, True)), ({**link, "target": {"status": "absent", "detail": ""}}, (None, None, None))):
        evidence = {**TREE, CRYPTTAB.id: ok("a /dev/sda1 /etc/keys/a luks\n"), KEY_FILES.id: document({"/etc/keys/a": key})}
        (row,) = rows("crypttab_entries", evidence)
        assert (row["key_file"], row["key_mode"], row["key_uid"], row["key_encrypted"]) == ("/etc/keys/a", *wanted)


def test_crypttab_keys_elsewhere() -> None:
    text = "a /dev/sda1 /mnt/luks/key luks\nb /dev/sdb - fido2-device=auto\nc /dev/sdc none keyscript=/lib/x\nd /dev/sdd /nowhere/key:UUID=1\nbad\n"
    evidence = {**TREE, CRYPTTAB.id: ok(text), KEY_FILES.id: document({"/mnt/luks/key": KEY})}
    found = {row["name"]: row for row in rows("crypttab_entries", evidence, Coverage.PARTIAL)}
    assert (found["a"]["key_encrypted"], found["a"]["key_mode"]) == (True, 0o400)
    assert [found[name]["unlock"] for name in "bcd"] == ["fido2", "script", "file"]
    assert (found["d"]["key_file"], found["d"]["key_mode"], found["d"]["key_encrypted"]) == ("/nowhere/key", None, False)
    assert rows("crypttab_entries", {CRYPTTAB.id: status(Status.ABSENT)}) == []
    assert run(T["crypttab_entries"], {**evidence, CRYPTTAB.id: status(Status.DENIED)}).coverage is Coverage.NONE
    without = {**evidence, BLOCK.id: status(Status.TIMEOUT)}
    assert all(row["key_encrypted"] is None for row in rows("crypttab_entries", without, Coverage.PARTIAL))


# --- Drives -------------------------------------------------------------------------------------------

# synthetic: nvme-sed-discover(1) and plugins/sed/sedopal_cmd.c of nvme-cli; older ones print Yes and No
DISCOVERED = "Locking Features:\n" + "".join(f"\t{name:32}: {{}}\n" for name in ("Locking Supported", "Locking Feature Enabled", "Locked"))


def drive(opal: Item, commands: Item) -> Evidence:
    return tree({"nvme0n1": {}}, {}, ROOT) | {OPAL[0].id: opal, COMMANDS[0].id: commands}


def test_drives() -> None:
    assert rows("self_encrypting_drives", recorded()) == [
        {"name": "nvme0n1", "locking_supported": False, "locking_enabled": False, "locked": False}
    ]  # QEMU's drive knows Security Send and Receive not: OACS 0x10a
    skipped = status(Status.SKIPPED)
    for words, wanted in ((("yes", "yes", "no"), (True, True, False)), (("Yes", "No", "No"), (True, False, False))):
        (row,) = rows("self_encrypting_drives", drive(ok(DISCOVERED.format(*words)), skipped))
        assert (row["locking_supported"], row["locking_enabled"], row["locked"]) == wanted


@pytest.mark.parametrize(("opal", "commands"), [
    (status(Status.FAILED, "exit 1"), ok("oacs      : 0x5f\n")), (status(Status.ABSENT), status(Status.ABSENT)), (status(Status.DENIED), ok("")),
    (status(Status.FAILED), ok("oacs : 0x")), (status(Status.TIMEOUT), status(Status.TIMEOUT)), (status(Status.FAILED), ok("oacs: 0x10\x000\n")),
])  # fmt: skip
def test_a_drive_that_could_not_be_asked_is_undetermined(opal: Item, commands: Item) -> None:
    (row,) = rows("self_encrypting_drives", drive(opal, commands), Coverage.PARTIAL)
    assert (row["name"], row["locking_supported"], row["locking_enabled"], row["locked"]) == ("nvme0n1", None, None, None)


def test_a_discovery_in_other_words_is_none_and_a_seventeenth_drive_is_not_asked() -> None:
    assert run(T["self_encrypting_drives"], drive(ok("Locking: on\n"), status(Status.SKIPPED))).coverage is Coverage.NONE
    (row,) = rows("self_encrypting_drives", tree({"nvme16n1": {}}, {}, ROOT), Coverage.PARTIAL)
    assert row["locking_enabled"] is None


def test_a_drive_without_a_namespace_1_is_not_asked_and_one_with_several_is_one_drive() -> None:
    evidence = drive(ok(DISCOVERED.format("yes", "yes", "no")), status(Status.SKIPPED))
    two = tree({"nvme0n1": {}, "nvme0n2": {}, "nvme1n3": {}, "nvme1n2": {}, "nvme0c0n1": {"hidden": "1"}}, {}, ROOT)
    found = rows("self_encrypting_drives", evidence | {BLOCK.id: two[BLOCK.id]}, Coverage.PARTIAL)
    assert {row["name"]: row["locking_enabled"] for row in found} == {"nvme0n1": True, "nvme1n2": None}


# --- ZFS ----------------------------------------------------------------------------------------------

# synthetic: zfs-get(8) -H, zpool-list(8) -v -H -P -L
DATASETS = "tank\tencryption\toff\ntank\tkeystatus\t-\ntank/safe\tencryption\taes-256-gcm\ntank/safe\tkeystatus\tavailable\n"
POOLS = "tank\t1G\n\tmirror-0\t1G\n\t/dev/sda1\t-\n\t/dev/dm-2\t-\nrpool\n\t/dev/dm-2\n"
ON_ZFS = ROOT + "2 1 0:60 / /tank rw - zfs tank rw\n3 1 0:61 / /safe rw - zfs tank/safe rw\n4 1 0:62 / /r rw - zfs rpool rw\n"


def test_zfs() -> None:
    evidence = {**tree(DEVICES, PARENTS, ON_ZFS), ZFS.id: ok(DATASETS + "rpool\tencryption\toff\n"), ZPOOL.id: ok(POOLS)}
    assert [(row["name"], row["encrypted"], row["key_available"]) for row in rows("zfs_datasets", evidence)] == [
        ("tank", False, None), ("tank/safe", True, True), ("rpool", False, None),
    ]  # fmt: skip
    found = by("volumes", "source", evidence)
    assert {source: (row["encrypted"], row["encryption"]) for source, row in found.items() if row["type"] == "zfs"} == {
        "tank": (False, ["LUKS2"]), "tank/safe": (True, ["aes-256-gcm", "LUKS2"]), "rpool": (True, ["LUKS2"]),
    }  # fmt: skip


def test_a_snapshot_a_dataset_that_is_not_told_of_and_a_device_that_is_gone() -> None:
    mounts = ROOT + "2 1 0:60 / /a rw - zfs tank/safe@day rw\n3 1 0:61 / /b rw - zfs tank/lost rw\n4 1 0:62 / /c rw - zfs rpool rw\n"
    pools = POOLS.replace("rpool\n", "rpool\n\tdraid1:2d:4c:1s-0\n\t13034566713423523417\n")  # zpool-list(8): its number stands for it
    evidence = {**tree(DEVICES, PARENTS, mounts), ZFS.id: ok(DATASETS + "rpool\tencryption\toff\n"), ZPOOL.id: ok(pools)}
    found = rows("volumes", evidence, Coverage.PARTIAL)
    assert {row["source"]: row["encrypted"] for row in found if row["type"] == "zfs"} == {
        "tank/safe@day": True, "tank/lost": None, "rpool": None,
    }  # fmt: skip


def test_zfs_that_cannot_be_asked() -> None:
    evidence = {**tree(DEVICES, PARENTS, ON_ZFS), ZFS.id: status(Status.ABSENT), ZPOOL.id: status(Status.ABSENT)}
    assert run(T["zfs_datasets"], evidence).coverage is Coverage.NONE
    found = {row["source"]: row["encrypted"] for row in rows("volumes", evidence, Coverage.PARTIAL)}
    assert found == {"/dev/sda1": False, "tank": None, "tank/safe": None, "rpool": None}
    assert rows("zfs_datasets", {ZFS.id: status(Status.SKIPPED)}) == []
    assert len(rows("zfs_datasets", {ZFS.id: ok(DATASETS + "odd line\nz\tkeystatus\t-\n")}, Coverage.PARTIAL)) == 2


# --- Network file systems -----------------------------------------------------------------------------


def test_network_mounts_of_a_real_node() -> None:
    found = by("network_mounts", "mount_point", recorded())
    four, three = found["/mnt/nfs"], found["/mnt/nfs3"]
    assert (four["version"], four["security"], four["protection"], four["server"]) == ("4.2", "sys", "none", "127.0.0.1")
    assert (four["nosuid"], four["nodev"], four["noexec"]) == (True, True, False)
    assert (three["version"], three["noexec"], three["nosuid"]) == ("3", True, False)


@pytest.mark.parametrize(("line", "wanted"), [  # synthetic: nfs(5), mount.cifs(8), mount.ceph(8), vendors' manuals
    ("nfs4 nas:/a rw,vers=4.1,sec=krb5p,addr=10.0.0.1", ("10.0.0.1", "4.1", "krb5p", None, "privacy")),
    ("nfs4 nas:/a rw,vers=4.2,sec=sys,xprtsec=mtls,port=2049,addr=fd00::1", ("fd00::1", "4.2", "sys", "mtls", "privacy")),
    ("nfs nas:/a rw,vers=3,sec=krb5i,xprtsec=none", ("nas", "3", "krb5i", "none", "integrity")),
    ("nfs4 [fd00::1]:/a rw", ("[fd00::1]", "4", None, None, None)),
    ("cifs //nas/x rw,vers=3.1.1,sec=krb5,seal,addr=10.0.0.2", ("10.0.0.2", "3.1.1", "krb5", None, "privacy")),
    ("cifs //nas/x rw,vers=1.0,sec=ntlmssp", ("nas", "1.0", "ntlmssp", None, "identity")),
    ("smb3 //nas/x rw,sec=ntlmsspi", ("nas", None, "ntlmsspi", None, "integrity")),
    ("cifs //nas/x rw,vers=3.0", ("nas", "3.0", None, None, None)),
    ("cifs //nas/x rw,sec=none", ("nas", None, "none", None, "none")),
    ("ceph 10.0.0.1:3300:/ rw,name=gpu,secret=<hidden>,ms_mode=secure", ("10.0.0.1", None, None, "secure", "privacy")),
    ("ceph 10.0.0.1:6789:/ rw,name=gpu,secret=<hidden>", ("10.0.0.1", None, None, "legacy", "identity")),
    ("ceph 10.0.0.1:6789:/ rw", ("10.0.0.1", None, None, "legacy", "none")),
    ("lustre 10.0.0.9@o2ib:/scratch rw,flock", ("10.0.0.9@o2ib", None, None, None, None)),
    ("beegfs beegfs_nodev rw,cfgFile=/etc/beegfs/beegfs-client.conf", (None, None, None, None, None)),
    ("wekafs backend0/ai rw", ("backend0", None, None, None, None)),
    ("fuse.unheard x rw", (None, None, None, None, None)),
])  # fmt: skip
def test_network_mounts_elsewhere(line: str, wanted: tuple[str | None, ...]) -> None:
    kind, rest = line.split(" ", 1)
    (row,) = rows("network_mounts", {MOUNTINFO.id: ok(f"{ROOT}2 1 0:50 / /mnt rw,nosuid - {kind} {rest}\n")})
    assert (row["server"], row["version"], row["security"], row["transport_security"], row["protection"]) == wanted
    assert row["nosuid"] is True


def test_lustre_connections() -> None:
    # synthetic: the Lustre manual's example of a shared-secret key, and of a client without security
    text = (
        "mdc.testfs-MDT0000-mdc-ffff8800da9f0800.srpc_info=\nrpc flavor:     skpi\nbulk flavor:    skpi\nflags:          rootonly,udesc,\n"
        "id:             3\nrefcount:       3\nnctx:   1\ngc internal     3600\ngc next 3505\n"
        "osc.testfs-OST0000-osc-ffff8800da9f0800.srpc_info=\nrpc flavor:\tnull\nbulk flavor:\tnull\nflags:\t\t\nid:\t\t-1\n"
    )
    assert [(row["name"][:4], row["rpc_flavour"], row["bulk_flavour"]) for row in rows("lustre_connections", {LUSTRE.id: ok(text)})] == [
        ("mdc.", "skpi", "skpi"), ("osc.", "null", "null"),
    ]  # fmt: skip
    assert rows("lustre_connections", {LUSTRE.id: status(Status.SKIPPED)}) == []
    assert rows("lustre_connections", {LUSTRE.id: ok("mdc.a.srpc_info=\nflags: x\n")}, Coverage.PARTIAL) == []
    for item in (status(Status.ABSENT), *GONE[:4]):
        assert run(T["lustre_connections"], {LUSTRE.id: item}).coverage is Coverage.NONE


def test_settings_of_parallel_file_systems() -> None:
    found = rows("parallel_fs_settings", {SETTINGS.id: document({  # synthetic: vendors' manuals
        "/etc/beegfs/beegfs-client.conf": "sysMgmtdHost                 = mgmt01\nconnAuthFile                 = /etc/beegfs/conn.auth\n"
        "connDisableAuthentication    = false\n",
        "/etc/beegfs/beegfs-mgmtd.toml": 'auth-disable = true # lab\ntls-disable = "no"\n',
        "/etc/ceph/ceph.conf": "[global]\n\tauth client required = none\nauth_cluster_required = cephx ; c\nms-client-mode = secure\n[client]\n",
        "/var/mmfs/gen/mmfs.cfg": "cipherList AUTHONLY\n[nsd01]\n",
        "/etc/modprobe.d/lustre.conf": "options lnet networks=o2ib(ib0)\n",
    })})  # fmt: skip
    assert [(row["system"], row["section"], row["name"], row["value"]) for row in found] == [
        ("beegfs", "", "sysMgmtdHost", "mgmt01"), ("beegfs", "", "connAuthFile", "/etc/beegfs/conn.auth"),
        ("beegfs", "", "connDisableAuthentication", "false"), ("beegfs", "", "auth-disable", "true"), ("beegfs", "", "tls-disable", "no"),
        ("ceph", "global", "auth_client_required", "none"), ("ceph", "global", "auth_cluster_required", "cephx"),
        ("ceph", "global", "ms_client_mode", "secure"), ("gpfs", "", "cipherList", "AUTHONLY"),
        ("lustre", "", "lnet", "networks=o2ib(ib0)"),
    ]  # fmt: skip
    assert rows("parallel_fs_settings", {SETTINGS.id: document({})}) == []
    odd = {SETTINGS.id: document({"/etc/ceph/ceph.conf": "auth what\n", "/etc/ceph/b.conf": DENIED})}
    assert rows("parallel_fs_settings", odd, Coverage.PARTIAL) == []


def test_secrets_of_parallel_file_systems() -> None:
    file = {"type": "file", "uid": 0, "gid": 0, "mode": 0o400}
    found = rows("parallel_fs_secrets", {SECRETS.id: document({
        "/etc/beegfs/conn.auth": file, "/etc/ceph/ceph.client.gpu.keyring": {**file, "mode": 0o644, "gid": 7}, "/etc/krb5.keytab": None,
        "/etc/beegfs/auth.d": {**file, "type": "dir"},
    })})  # fmt: skip
    assert [(row["path"], row["others_read"], row["group_read"]) for row in found] == [
        ("/etc/beegfs/conn.auth", False, False), ("/etc/ceph/ceph.client.gpu.keyring", True, True),
    ]  # fmt: skip
    assert (
        rows("parallel_fs_secrets", {SECRETS.id: document({"/etc/krb5.keytab": DENIED, "/etc/x": {"mode": "?"}})}, Coverage.PARTIAL) == []
    )


def test_secrets_of_parallel_file_systems_behind_links() -> None:
    file, folder = {"type": "file", "uid": 0, "gid": 0, "mode": 0o644}, {"type": "dir", "uid": 0, "gid": 0, "mode": 0o755}
    link = {"type": "link", "uid": 0, "gid": 0, "mode": 0o777, "link": "/srv/k"}
    followed = {**link, "target": {**file, "path": "/srv/k"}, "way": {"/": folder, "/etc": folder, "/srv": folder}}
    found = rows("parallel_fs_secrets", {SECRETS.id: document({"/etc/krb5.keytab": followed, "/etc/ceph/a.keyring": followed})})
    assert [(row["path"], row["mode"], row["others_read"]) for row in found] == [("/srv/k", 0o644, True)]
    for odd in (link, {**link, "target": {"status": "absent", "detail": ""}}):
        assert rows("parallel_fs_secrets", {SECRETS.id: document({"/etc/krb5.keytab": odd})}, Coverage.PARTIAL) == []


# --- Laws ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", T)
def test_laws(name: str) -> None:
    for evidence in (recorded(), TREE | {LUSTRE.id: ok("a.srpc_info=\nrpc flavor: null\n")}):
        never_emptier(T[name], evidence)
        for source in T[name].sources:
            if source.id in evidence and evidence[source.id].body:
                for extracted in cut_short(T[name], evidence, source, step=37):
                    assert len(extracted.rows) <= len(run(T[name], evidence).rows)


@given(anything(TABLES, ["/sys/class/block", "/sys/class/block/dm-0", "dm/uuid", "dev", "size", "/etc/ceph/ceph.conf", "/etc/krb5.keytab", "mode"],
                [*MOUNTS.splitlines(), SWAP.strip(), *DATASETS.splitlines(), *POOLS.splitlines(), "a: 0 8 crypt x 00 0 8:1 0"]))  # fmt: skip
def test_no_bytes_raise_or_hang(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name  # that would be a parser's own fault


@pytest.mark.parametrize(("text", "coverage"), [
    ("", Coverage.NONE), ("garbage\n", Coverage.NONE), ("osc.a.srpc_info=rpc flavor: null\n", Coverage.NONE),
    ("osc.a.srpc_info=\nrpc flavor: null\nosc.b.srpc_info=rpc flavor: null\n", Coverage.PARTIAL),
    ("garbage\nosc.a.srpc_info=\nrpc flavor: null\n", Coverage.PARTIAL),
])  # fmt: skip
def test_lustre_text_outside_of_a_connection(text: str, coverage: Coverage) -> None:
    found = run(T["lustre_connections"], {LUSTRE.id: ok(text)})
    assert found.coverage is coverage
    assert [row[0] for row in found.rows] == (["osc.a"] if coverage is Coverage.PARTIAL else [])
