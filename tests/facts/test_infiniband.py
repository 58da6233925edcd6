# SPDX-License-Identifier: Apache-2.0
"""RDMA: ports, partitions, device files, namespaces."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.facts.infiniband import FILES, NAMESPACES, PKEYS, PORTS, TABLES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_attrs, read_files, read_stat

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

PORT, PARTITION, FILE, NAMESPACE = TABLES
Evidence = dict[SourceId, Item]
ABSENT, DENIED = {"status": "absent", "detail": ""}, {"status": "denied", "detail": ""}
CLASSES, NO_SYSFS = ok(json.dumps({"/sys/class": {"type": "dir"}})), ok(json.dumps({"/sys/class": ABSENT}))
IB, ROCE = "/sys/class/infiniband/mlx5_0/ports/1", "/sys/class/infiniband/mlx5_bond_0/ports/1"

# synthetic: kernel source, drivers/infiniband/core/sysfs.c; values as of a node with ConnectX-7 in both modes
ACTIVE = {
    "state": "4: ACTIVE", "phys_state": "5: LinkUp", "rate": "400 Gb/sec (4X NDR)", "link_layer": "InfiniBand", "lid": "0x2f", "sm_lid": "0x1",
    "cap_mask": "0xa751e848",
}  # fmt: skip
ETHERNET = ACTIVE | {"rate": "100 Gb/sec (2X HDR)", "link_layer": "Ethernet", "lid": "0x0", "sm_lid": "0x0", "cap_mask": "0x00010000"}
KEYS: dict[str, Any] = {
    f"{IB}/pkeys/0": {"text": "0x7fff\n"}, f"{IB}/pkeys/1": {"text": "0x8012\n"}, f"{IB}/pkeys/2": {"text": "0x8012\n"},
    f"{IB}/pkeys/3": {"text": "0x0000\n"}, f"{IB}/pkeys/127": {"text": "0xffff\n"}, f"{ROCE}/pkeys/0": {"text": "0xffff\n"},
}  # fmt: skip


def rdma(ports: Any = None, pkeys: Any = None, classes: Item = CLASSES) -> Evidence:
    found = ({IB: ACTIVE, ROCE: ETHERNET} if ports is None else ports, KEYS if pkeys is None else pkeys)
    return {s.id: f if isinstance(f, Item) else ok(json.dumps(f)) for s, f in zip((PORTS, PKEYS), found, strict=True)} | {SYSFS.id: classes}


def test_ports() -> None:
    extracted = run(PORT, rdma())
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("mlx5_0", 1, "InfiniBand", "ACTIVE", "LinkUp", "400 Gb/sec (4X NDR)", 47, 1, False),
        ("mlx5_bond_0", 1, "Ethernet", "ACTIVE", "LinkUp", "100 Gb/sec (2X HDR)", 0, 0, False),
    ))  # fmt: skip
    (row,) = run(PORT, rdma({IB: ACTIVE | {"cap_mask": "0xa751e84a", "state": "2: INIT", "sm_lid": "0x0"}})).rows
    assert (row[3], row[7], row[8]) == ("INIT", 0, True)


def test_partitions() -> None:
    """Each key once; unused places are none, and Ethernet's table says nothing."""
    extracted = run(PARTITION, rdma())
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("mlx5_0", 1, "0x7fff", False), ("mlx5_0", 1, "0x0012", True), ("mlx5_0", 1, "0x7fff", True)
    ))  # fmt: skip
    never_emptier(PARTITION, rdma())
    never_emptier(PORT, rdma())


def test_no_rdma() -> None:
    for table in (PORT, PARTITION):
        none = run(table, rdma({}, {}))
        assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
        assert run(table, rdma({}, {}, NO_SYSFS)).coverage is Coverage.NONE
        assert run(table, rdma(status(Status.DENIED))).coverage is Coverage.NONE


@pytest.mark.parametrize(("table", "evidence"), [
    (PORT, rdma({IB: ACTIVE | {"sm_lid": None}})), (PORT, rdma({IB: ACTIVE | {"sm_lid": "one"}})), (PORT, rdma({IB: ACTIVE | {"state": DENIED}})),
    (PORT, rdma({"/sys/class/infiniband/mlx5_0/ports/x": ACTIVE})), (PARTITION, rdma(pkeys={})),
    (PARTITION, rdma(pkeys=KEYS | {f"{IB}/pkeys/0": DENIED})), (PARTITION, rdma(pkeys=KEYS | {f"{IB}/pkeys/0": {"text": "7fff"}})),
    (PARTITION, rdma({ROCE: ETHERNET})),  # keys of a port that the other source does not show
])  # fmt: skip
def test_what_is_not_understood_is_a_gap(table: Any, evidence: Evidence) -> None:
    assert run(table, evidence).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("layer", [None, DENIED, "Unknown", "ethernet"])
def test_keys_of_an_unknown_link_layer_are_no_partitions(layer: Any) -> None:
    """They may be Ethernet's default key."""
    extracted = run(PARTITION, rdma({IB: ACTIVE, ROCE: ETHERNET | {"link_layer": layer}}))
    assert (extracted.coverage, {row[0] for row in extracted.rows}) == (Coverage.PARTIAL, {"mlx5_0"})


# synthetic, with the modes of rdma-core's udev rules
DEVICES = {
    "/dev": {"type": "dir", "mode": 493, "uid": 0, "gid": 0},
    **{
        f"/dev/infiniband/{name}": {"type": "char", "mode": mode, "uid": 0, "gid": 0}
        for name, mode in (("umad0", 0o600), ("issm0", 0o600), ("uverbs0", 0o666), ("rdma_cm", 0o666))
    },
    "/dev/infiniband/by-path": {"type": "dir", "mode": 493, "uid": 0, "gid": 0},
}


def test_device_files() -> None:
    extracted = run(FILE, {FILES.id: ok(json.dumps(DEVICES))})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("/dev/infiniband/umad0", "umad", 0o600, 0, 0), ("/dev/infiniband/issm0", "issm", 0o600, 0, 0),
        ("/dev/infiniband/uverbs0", "uverbs", 0o666, 0, 0), ("/dev/infiniband/rdma_cm", "rdma_cm", 0o666, 0, 0),
    ))  # fmt: skip
    never_emptier(FILE, {FILES.id: ok(json.dumps(DEVICES))})
    assert run(FILE, {FILES.id: ok(json.dumps({"/dev": ABSENT}))}).coverage is Coverage.NONE
    assert run(FILE, {FILES.id: ok(json.dumps({"/dev": DEVICES["/dev"]}))}).coverage is Coverage.COMPLETE
    assert run(FILE, {FILES.id: ok(json.dumps(DEVICES | {"/dev/infiniband/umad1": DENIED}))}).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(("mode", "rows", "coverage"), [
    ("Y", ((True,),), Coverage.COMPLETE), ("N", ((False,),), Coverage.COMPLETE), (None, (), Coverage.COMPLETE), ("?", (), Coverage.NONE),
    (DENIED, (), Coverage.NONE),
])  # fmt: skip
def test_namespaces(mode: Any, rows: Any, coverage: Coverage) -> None:
    evidence = {NAMESPACES.id: ok(json.dumps({"/sys/module/ib_core/parameters": {"netns_mode": mode}})), SYSFS.id: CLASSES}
    extracted = run(NAMESPACE, evidence)
    assert (extracted.rows, extracted.coverage) == (rows, coverage)
    never_emptier(NAMESPACE, evidence)
    if mode is None:
        assert run(NAMESPACE, evidence | {SYSFS.id: NO_SYSFS}).coverage is Coverage.NONE


def test_this_machine() -> None:
    """The real readers, here."""
    readers = {"stat": read_stat, "attrs": read_attrs, "files": read_files}
    for table in TABLES:
        evidence = {source.id: ok(readers[source.reader](Files(), source.for_node())) for source in table.sources}
        assert run(table, evidence).coverage is Coverage.COMPLETE


@pytest.mark.parametrize(("table", "source"), [(PORT, PORTS), (PARTITION, PORTS), (PARTITION, PKEYS)])
def test_cut_short(table: Any, source: Any) -> None:
    assert list(cut_short(table, rdma(), source, step=29))


@given(st.dictionaries(
    st.sampled_from(sorted({source.id for table in TABLES for source in table.sources})),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=99) | st.dictionaries(
        st.sampled_from([IB, *KEYS, *DEVICES, "/sys/module/ib_core/parameters", "/sys/class"]),
        st.none()
        | st.dictionaries(st.sampled_from([*ACTIVE, "text", "status", "netns_mode", "mode"]), st.none() | st.integers() | st.text(max_size=9)),
    ).map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: ")
