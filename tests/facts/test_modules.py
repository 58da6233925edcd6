# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: loaded, allowed, blocked, and loaded at boot."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.modules import LOAD, LOAD_STAT, LOADED, MODPROBE, MODPROBE_STAT, SIGNING, SUPPORT, TABLES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_attrs, read_files, read_stat

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

MODULES, LOADING, RULES, LOADS = TABLES
Evidence = dict[SourceId, Item]
ABSENT = {"status": "absent", "detail": ""}
DIR = {"type": "dir"}
PARAMETERS = "/sys/module/module/parameters"

# synthetic: kernel source, kernel/module/procfs.c and taint.c; names and taints as on a node with NVIDIA's driver
PROC = """\
nvidia_uvm 4890624 2 - Live 0x0000000000000000 (POE)
nvidia 56823808 86 nvidia_uvm,nvidia_modeset, Live 0x0000000000000000 (POE)
mlx5_core 2400256 1 mlx5_ib, Live 0x0000000000000000
livepatch_x 16384 0 [permanent], Live 0x0000000000000000 (OEK+)
ext4 983040 -1 - Unloading 0x0000000000000000 (-)
crc16 12288 1 ext4,[permanent], Loading 0xffffffffc0a80000
old 4096 - - Live 0x0000000000000000
"""


def support(modules: bool = True, signing: bool = True, proc: bool = True, sys: bool = True) -> Item:
    there = {"/proc/sys/kernel": proc, "/proc/modules": modules, "/sys/module": sys, f"{PARAMETERS}/sig_enforce": signing}
    return ok(json.dumps({path: DIR if present else ABSENT for path, present in there.items()}))


def loaded(text: str | Item = PROC, what: Item | None = None) -> Evidence:
    return {LOADED.id: text if isinstance(text, Item) else ok(text, 0), SUPPORT.id: what or support()}


def test_loaded() -> None:
    extracted = run(MODULES, loaded())
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("nvidia_uvm", 4890624, 2, [], "Live", "POE"), ("nvidia", 56823808, 86, ["nvidia_uvm", "nvidia_modeset"], "Live", "POE"),
        ("mlx5_core", 2400256, 1, ["mlx5_ib"], "Live", ""), ("livepatch_x", 16384, 0, [], "Live", "OEK"), ("ext4", 983040, -1, [], "Unloading", ""),
        ("crc16", 12288, 1, ["ext4"], "Loading", ""), ("old", 4096, None, [], "Live", ""),
    ))  # fmt: skip
    never_emptier(MODULES, loaded())
    assert all(len(cut.rows) < 7 for cut in cut_short(MODULES, loaded(), LOADED, step=11))
    empty = run(MODULES, loaded(""))
    assert (empty.coverage, empty.rows) == (Coverage.COMPLETE, ())


def test_a_kernel_that_cannot_load_modules() -> None:
    """/proc is there and /proc/modules is not."""
    skipped = status(Status.SKIPPED, "no /proc/modules on this node")
    extracted = run(MODULES, loaded(skipped, support(modules=False)))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    for what in (support(), support(modules=False, proc=False), status(Status.DENIED)):
        assert run(MODULES, loaded(skipped, what)).coverage is Coverage.NONE


@pytest.mark.parametrize("line", [
    "garbage", "nvidia 56823808 86 nvidia_uvm Live 0x0", "nvidia big 0 - Live 0x0", "nvidia 1 0 - Asleep 0x0", "nvidia 1 0 - Live 0x0 (poe)", "",
    "a b c d e f", "nvidia 1 0 - Live", "nvidia 1 0 - Live 0x0 (P) more", "\x00",
])  # fmt: skip
def test_a_line_that_is_no_module_is_a_gap(line: str) -> None:
    extracted = run(MODULES, loaded(PROC + line + "\n"))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 7)


@pytest.mark.parametrize("item", [
    status(Status.DENIED), status(Status.TIMEOUT), status(Status.ABSENT), Item(Status.FAILED, b"", 1, "exit 1: cat: /proc/modules: Permission denied")
])  # fmt: skip
def test_loaded_not_read(item: Item) -> None:
    assert run(MODULES, loaded(item)).coverage is Coverage.NONE


def signing(enforce: Any = "N", disabled: Any = "0", there: Item | None = None) -> Evidence:
    found = {
        PARAMETERS: {"sig_enforce": enforce, "modules_disabled": None},
        "/proc/sys/kernel": {"sig_enforce": None, "modules_disabled": disabled},
    }
    return {SIGNING.id: ok(json.dumps(found)), SUPPORT.id: there or support(signing=enforce is not None)}


@pytest.mark.parametrize(("evidence", "row", "coverage"), [
    (signing("Y", "0"), (True, False, True), Coverage.COMPLETE), (signing("N", "1"), (True, True, False), Coverage.COMPLETE),
    (signing(None, "0"), (True, False, False), Coverage.COMPLETE),  # a kernel that knows no signatures
    (signing(None, None, support(modules=False, signing=False)), (False, None, False), Coverage.COMPLETE),
    (signing(None, "0", support(signing=False, sys=False)), (True, False, None), Coverage.COMPLETE),  # no sysfs
    (signing("maybe", "0"), (True, False, None), Coverage.PARTIAL),
    (signing({"status": "denied", "detail": ""}, "2"), (True, None, None), Coverage.PARTIAL),
])  # fmt: skip
def test_loading(evidence: Evidence, row: Any, coverage: Coverage) -> None:
    extracted = run(LOADING, evidence)
    assert (extracted.rows, extracted.coverage) == ((row,), coverage)
    never_emptier(LOADING, evidence)
    assert run(LOADING, evidence | {SUPPORT.id: support(proc=False)}).coverage is Coverage.NONE


def files(texts: dict[str, Any], sources: Any = (MODPROBE, MODPROBE_STAT), links: dict[str, str] | None = None) -> Evidence:
    read = {path: {"text": text} if isinstance(text, str) else text for path, text in texts.items()}
    there: dict[str, Any] = {path: {"type": "file", "link": None} for path in texts}
    for path, target in (links or {}).items():
        there[path], read[path] = {"type": "link", "link": target}, {"status": "failed", "detail": "not a regular file"}
    return {sources[0].id: ok(json.dumps(read)), sources[1].id: ok(json.dumps(there))}


# mdadm.conf and systemd.conf as packages of Debian 12 have them, shortened; site.conf synthetic: modprobe.d(5)
MODPROBE_D = {
    "/etc/modprobe.d/mdadm.conf": "# mdadm module configuration file\n# set start_ro=1\noptions md_mod start_ro=1\n",
    "/usr/lib/modprobe.d/systemd.conf": "options bonding max_bonds=0\noptions dummy numdummies=0\n",
    "/etc/modprobe.d/site.conf": (
        "install cramfs /bin/false\ninstall usb-storage /bin/true\nblacklist firewire-core\nalias net-pf-31 off\n"
        "install ip_set modprobe --ignore-install ip_set; \\\n  echo loaded\n\n   # no rule\n"
        "softdep nvidia-uvm pre: nvidia\nremove usb_storage exit 1\ninstall sctp exit 1\noptions nvidia NVreg_RestrictProfilingToAdminUsers=1 a=b\n"
    ),
    "/lib/modprobe.d/systemd.conf": "options bonding max_bonds=0\noptions dummy numdummies=0\n",
}


def test_rules() -> None:
    extracted = run(RULES, files(MODPROBE_D))
    site = "/etc/modprobe.d/site.conf"
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("/etc/modprobe.d/mdadm.conf", 3, "options", "md_mod", "start_ro=1", False, True),
        (site, 1, "install", "cramfs", "/bin/false", True, True), (site, 2, "install", "usb_storage", "/bin/true", True, True),
        (site, 3, "blacklist", "firewire_core", "", False, True), (site, 4, "alias", "off", "net-pf-31", False, True),
        (site, 5, "install", "ip_set", "modprobe --ignore-install ip_set;    echo loaded", False, True),
        (site, 9, "softdep", "nvidia_uvm", "pre: nvidia", False, True), (site, 10, "remove", "usb_storage", "exit 1", False, True),
        (site, 11, "install", "sctp", "exit 1", True, True),
        (site, 12, "options", "nvidia", "NVreg_RestrictProfilingToAdminUsers=1 a=b", False, True),
        ("/usr/lib/modprobe.d/systemd.conf", 1, "options", "bonding", "max_bonds=0", False, True),
        ("/usr/lib/modprobe.d/systemd.conf", 2, "options", "dummy", "numdummies=0", False, True),
    ))  # fmt: skip


def test_a_masked_file_and_a_replaced_one() -> None:
    texts = {
        "/usr/lib/modprobe.d/a.conf": "blacklist x\n",
        "/run/modprobe.d/b.conf": "blacklist y\n",
        "/usr/lib/modprobe.d/b.conf": "blacklist z\n",
    }
    extracted = run(RULES, files(texts, links={"/etc/modprobe.d/a.conf": "/dev/null"}))
    assert extracted.coverage is Coverage.COMPLETE
    assert [(row[3], row[6]) for row in extracted.rows] == [("x", False), ("y", True), ("z", False)]


@pytest.mark.parametrize("line", ["blacklist", "alias x", "install\\"])
def test_a_rule_that_is_none_is_a_gap(line: str) -> None:
    extracted = run(RULES, files({"/etc/modprobe.d/a.conf": f"blacklist x\n{line}\n"}))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)


def test_modules_load() -> None:
    sources = (LOAD, LOAD_STAT)
    texts = {
        "/etc/modules-load.d/modules.conf": "# /etc/modules\n; old\nib-umad\n\nrdma_ucm  \n",
        "/usr/lib/modules-load.d/fwupd-msr.conf": "msr\n",
        "/usr/lib/modules-load.d/a.conf": "x\n",
        "/etc/modules-load.d/a.conf": "",
    }
    extracted = run(LOADS, files(texts, sources))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("/usr/lib/modules-load.d/a.conf", "x", False), ("/usr/lib/modules-load.d/fwupd-msr.conf", "msr", True),
        ("/etc/modules-load.d/modules.conf", "ib_umad", True), ("/etc/modules-load.d/modules.conf", "rdma_ucm", True),
    ))  # fmt: skip
    assert run(LOADS, files({"/etc/modules-load.d/a.conf": "a/b\n"}, sources)).coverage is Coverage.PARTIAL


def test_a_link_that_leads_nowhere() -> None:
    """As on Debian 12 without /etc/modules: nothing is loaded by it, nor by the file of the same name that it replaces."""
    evidence = files({"/usr/lib/modules-load.d/modules.conf": "x\n"}, (LOAD, LOAD_STAT), {"/etc/modules-load.d/modules.conf": "../modules"})
    read = json.loads(evidence[LOAD.id].body) | {"/etc/modules-load.d/modules.conf": ABSENT}
    extracted = run(LOADS, evidence | {LOAD.id: ok(json.dumps(read))})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (("/usr/lib/modules-load.d/modules.conf", "x", False),))


@pytest.mark.parametrize(("table", "sources"), [(RULES, (MODPROBE, MODPROBE_STAT)), (LOADS, (LOAD, LOAD_STAT))])
def test_files_not_read(table: Any, sources: Any) -> None:
    folder = sources[0].args["globs"][0].rpartition("/")[0]
    evidence = files({f"{folder}/a.conf": "blacklist x\n" if table is RULES else "x\n"}, sources)
    never_emptier(table, evidence)
    empty = run(table, files({}, sources))
    assert (empty.coverage, empty.rows) == (Coverage.COMPLETE, ())
    denied = run(table, files({f"{folder}/a.conf": {"status": "denied", "detail": ""}}, sources))
    assert (denied.coverage, denied.rows) == (Coverage.PARTIAL, ())
    for source in sources:
        assert list(cut_short(table, evidence, source, step=9))


def test_this_machine() -> None:
    """The real readers, here."""
    readers = {"files": read_files, "stat": read_stat, "attrs": read_attrs}
    for table in (LOADING, RULES, LOADS):
        evidence = {source.id: ok(readers[source.reader](Files(), source.for_node())) for source in table.sources}
        assert run(table, evidence).coverage is Coverage.COMPLETE


@given(st.dictionaries(
    st.sampled_from([source.id for table in TABLES for source in table.sources]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200)
              | st.dictionaries(st.sampled_from(["/proc/sys/kernel", PARAMETERS, *MODPROBE_D, "/etc/modules-load.d/a.conf"]),
                                st.dictionaries(st.sampled_from(["text", "link", "sig_enforce", "modules_disabled"]), st.none() | st.text()))
              .map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: ")
