# SPDX-License-Identifier: Apache-2.0
"""SMBIOS, NICs, NVMe and BMC, as the `attrs` and `stat` readers answer them (probe/node.py)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.firmware import BMC, DMI, ETHTOOL, IPMI, NET, NVME, RDMA, SYSFS, TABLES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

DMIS, NICS, NVMES, BMCS = TABLES
Evidence = dict[SourceId, Item]
ID = "/sys/class/dmi/id"
DENIED = {"status": "denied", "detail": "Permission denied"}
CLASSES = ok(json.dumps({"/sys/class": {"type": "dir"}, ID: {"type": "link"}}))
NO_SMBIOS = ok(json.dumps({"/sys/class": {"type": "dir"}, ID: {"status": "absent", "detail": ""}}))
NO_SYSFS = ok(json.dumps({path: {"status": "absent", "detail": ""} for path in ("/sys/class", ID)}))
EMPTY = ok("{}")

# synthetic: kernel source, drivers/firmware/dmi-id.c; the values as sources.md section 7 describes them
SERVER: dict[str, Any] = {
    "sys_vendor": "Supermicro",
    "product_name": "SYS-821GE-TNHR",
    "product_version": "0123456789",
    "board_vendor": "Supermicro",
    "board_name": "X13DEG-OAD",
    "bios_vendor": "American Megatrends International, LLC.",
    "bios_version": "2.1",
    "bios_date": "03/05/2025",
    "chassis_type": "23",
    "chassis_asset_tag": "Default string",
}
NOTHING = dict.fromkeys(SERVER)


def dmi(fields: dict[str, Any], classes: Item = CLASSES) -> Evidence:
    return {DMI.id: ok(json.dumps({ID: fields})), SYSFS.id: classes}


def test_dmi() -> None:
    extracted = run(DMIS, dmi(SERVER))
    assert extracted.coverage is Coverage.COMPLETE
    (row,) = rows_as_dicts(DMIS, extracted)
    fillers = {"product_version": None, "chassis_asset_tag": None}
    assert row == SERVER | fillers | {"bios_date": "2025-03-05", "chassis_type": 23}


@pytest.mark.parametrize("filler", ["To Be Filled By O.E.M.", "Not Specified", "Default string", "None", "   ", "", "\t", "N/A"])
def test_fillers_are_nothing(filler: str) -> None:
    (row,) = rows_as_dicts(DMIS, run(DMIS, dmi(SERVER | {"sys_vendor": filler, "product_name": filler.upper()})))
    assert row["sys_vendor"] is None and row["product_name"] is None and row["board_name"] == "X13DEG-OAD"


@pytest.mark.parametrize(("text", "day"), [
    ("12/31/1999", "1999-12-31"), ("12/31/99", "1999-12-31"), ("02/29/2025", None), ("31/12/2024", None), ("2024-12-31", None), ("", None),
    (" 01/02/2024 ", "2024-01-02"), ("٠١/٠٢/٢٠٢٤", None), ("00/00/0000", None),
])  # fmt: skip
def test_dates(text: str, day: str | None) -> None:
    (row,) = rows_as_dicts(DMIS, run(DMIS, dmi(SERVER | {"bios_date": text})))
    assert row["bios_date"] == day


def test_no_smbios_is_complete_without_rows() -> None:
    extracted = run(DMIS, dmi(NOTHING, NO_SMBIOS))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    never_emptier(DMIS, dmi(NOTHING, NO_SMBIOS))


@pytest.mark.parametrize("evidence", [
    dmi(NOTHING), dmi(NOTHING, NO_SYSFS), dmi(NOTHING, status(Status.DENIED)), dmi(dict.fromkeys(SERVER, DENIED), NO_SMBIOS),
    dmi(SERVER) | {DMI.id: status(Status.TIMEOUT)}, dmi(SERVER) | {DMI.id: ok("[]")}, dmi(SERVER) | {DMI.id: ok("garbage")},
    dmi(SERVER) | {DMI.id: ok(json.dumps({ID: "x"}))},
])  # fmt: skip
def test_dmi_not_read_or_not_understood_is_none(evidence: Evidence) -> None:
    assert run(DMIS, evidence).coverage is Coverage.NONE


@pytest.mark.parametrize("content", [DENIED, 7, ["x"]])
def test_an_attribute_that_was_not_read_is_a_gap(content: Any) -> None:
    extracted = run(DMIS, dmi(SERVER | {"bios_version": content}))
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) == 1


# synthetic: ABI/stable/sysfs-class-infiniband and ABI/testing/sysfs-class-net
RDMAS: dict[str, Any] = {
    "/sys/class/infiniband/mlx5_0": {
        "fw_ver": "28.39.1002",
        "board_id": "MT_0000000838",
        "hca_type": "MT4129",
        "device": "0000:18:00.0",
        "driver": None,
    },
    "/sys/class/infiniband/mlx5_0/device": {"fw_ver": None, "board_id": None, "hca_type": None, "device": None, "driver": "mlx5_core"},
    "/sys/class/infiniband/rxe0": {"fw_ver": "", "board_id": None, "hca_type": None, "device": None, "driver": None},
    "/sys/class/infiniband/rxe0/device": {"fw_ver": None, "board_id": None, "hca_type": None, "device": None, "driver": None},
}
NONE = {"device": None, "driver": None, "subsystem": None}
NETS: dict[str, Any] = {
    "/sys/class/net/lo": NONE | {"subsystem": "net"},
    "/sys/class/net/lo/device": NONE,
    "/sys/class/net/bonding_masters": NONE,
    "/sys/class/net/eno1": {"device": "0000:31:00.0", "driver": None, "subsystem": "net"},
    "/sys/class/net/eno1/device": NONE | {"driver": "ixgbe", "subsystem": "pci"},
    "/sys/class/net/ib0": {"device": "0000:18:00.0", "driver": None, "subsystem": "net"},
    "/sys/class/net/ib0/device": NONE | {"driver": "mlx5_core", "subsystem": "pci"},
    "/sys/class/net/eth0": {"device": "virtio0", "driver": None, "subsystem": "net"},
    "/sys/class/net/eth0/device": NONE | {"driver": "virtio_net", "subsystem": "virtio"},
    "/sys/class/net/device": NONE | {"subsystem": "net"},
    "/sys/class/net/device/device": NONE,
}


# synthetic: ethtool(8) -i; recorded of a virtio interface here, which has no firmware
DRIVERS: dict[str, Any] = {
    "eno1": {"driver": "ixgbe", "version": "6.8.0-60-generic", "firmware": "0x800010f7, 1.3240.0", "bus": "0000:31:00.0"},
    "eth0": {"driver": "virtio_net", "version": "1.0.0", "firmware": "", "bus": "virtio0"}, "lo": None,
}  # fmt: skip


def nics(rdma: Any = RDMAS, net: Any = NETS, drivers: Any = DRIVERS) -> Evidence:
    return {RDMA.id: ok(json.dumps(rdma)), NET.id: ok(json.dumps(net)), ETHTOOL.id: ok(json.dumps(drivers))}


def test_nics() -> None:
    extracted = run(NICS, nics())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("mlx5_0", "mlx5_core", "28.39.1002", "MT_0000000838", "MT4129"),
        ("rxe0", None, None, None, None),
        ("eno1", "ixgbe", "0x800010f7, 1.3240.0", None, None),
    )
    wrong: list[Any] = [{"eno1": {"status": "failed", "detail": "Permission denied"}}, {"eno1": 7}, []]
    for drivers in wrong:
        poorer = run(NICS, nics(drivers=drivers))
        assert poorer.coverage is not Coverage.COMPLETE and not [row for row in poorer.rows if row[0] == "eno1" and row[2]]


def test_nics_without_rdma_and_without_sysfs() -> None:
    assert [row[0] for row in run(NICS, nics({})).rows] == ["eno1", "ib0"]
    assert run(NICS, nics(net={})).coverage is Coverage.NONE
    only_loopback = run(NICS, nics({}, {"/sys/class/net/lo": NONE, "/sys/class/net/lo/device": NONE}))
    assert (only_loopback.coverage, only_loopback.rows) == (Coverage.COMPLETE, ())
    denied = RDMAS | {"/sys/class/infiniband/mlx5_0": RDMAS["/sys/class/infiniband/mlx5_0"] | {"fw_ver": DENIED}}
    assert run(NICS, nics(denied)).coverage is Coverage.PARTIAL


# synthetic: kernel source, drivers/nvme/host/sysfs.c
DISKS = {
    "/sys/class/nvme/nvme0": {"model": "SAMSUNG MZQL23T8HCLS-00A07               ", "firmware_rev": "GDC5602Q"},
    "/sys/class/nvme/nvme1": {"model": None, "firmware_rev": None},
}


def nvme(disks: Any, classes: Item = CLASSES) -> Evidence:
    return {NVME.id: ok(json.dumps(disks)), SYSFS.id: classes}


def test_nvme() -> None:
    assert run(NVMES, nvme(DISKS)).rows == (("nvme0", "SAMSUNG MZQL23T8HCLS-00A07", "GDC5602Q"), ("nvme1", None, None))
    assert run(NVMES, nvme({})).coverage is Coverage.COMPLETE
    assert run(NVMES, nvme({}, NO_SYSFS)).coverage is Coverage.NONE
    assert run(NVMES, nvme({}, status(Status.UNREACHED))).coverage is Coverage.NONE
    assert run(NVMES, nvme({"/sys/class/nvme/nvme0": {"model": DENIED, "firmware_rev": "1"}})).coverage is Coverage.PARTIAL


# synthetic: ABI/testing/sysfs-devices-platform-ipmi; formats of drivers/char/ipmi/ipmi_msghandler.c
ANSWER = {"firmware_revision": "1.74", "ipmi_version": "2.0", "manufacturer_id": "0x002a7c", "product_id": "0x1b0f"}
FOLDER, PLATFORM = "/sys/class/ipmi/ipmi0/device/bmc", "/sys/devices/platform/ipmi_bmc.0"
DEVICE = ok(json.dumps({"/dev/ipmi0": {"type": "char"}, "/dev/ipmi/0": {"status": "absent", "detail": ""}}))
NO_DEVICE = ok(json.dumps({path: {"status": "absent", "detail": ""} for path in IPMI.args["globs"]}))


def bmc(folders: Any, device: Item = DEVICE, classes: Item = CLASSES) -> Evidence:
    return {BMC.id: ok(json.dumps(folders)), IPMI.id: device, SYSFS.id: classes}


@pytest.mark.parametrize(("evidence", "rows"), [
    (bmc({FOLDER: ANSWER, PLATFORM: ANSWER}), ((True, "1.74", "2.0", "0x002a7c", "0x1b0f"),)),
    (bmc({PLATFORM: ANSWER}, NO_DEVICE), ((False, "1.74", "2.0", "0x002a7c", "0x1b0f"),)),
    (bmc({PLATFORM: ANSWER | {"firmware_revision": "0.0"}}), ((True, None, "2.0", "0x002a7c", "0x1b0f"),)),
    (bmc({FOLDER: dict.fromkeys(ANSWER)}), ((True, None, None, None, None),)),
    (bmc({}), ((True, None, None, None, None),)), (bmc({}, NO_DEVICE), ()),
])  # fmt: skip
def test_bmc(evidence: Evidence, rows: Any) -> None:
    extracted = run(BMCS, evidence)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, rows)
    never_emptier(BMCS, evidence)


@pytest.mark.parametrize(("evidence", "coverage"), [
    (bmc({}, NO_DEVICE, NO_SYSFS), Coverage.NONE), (bmc({}, status(Status.DENIED)), Coverage.NONE),
    (bmc({PLATFORM: dict.fromkeys(ANSWER, DENIED)}, NO_DEVICE), Coverage.PARTIAL),
    (bmc({}) | {BMC.id: status(Status.TIMEOUT)}, Coverage.NONE), (bmc([]), Coverage.NONE),
])  # fmt: skip
def test_bmc_not_read(evidence: Evidence, coverage: Coverage) -> None:
    assert run(BMCS, evidence).coverage is coverage


@pytest.mark.parametrize(("table", "evidence", "source"), [
    (DMIS, dmi(SERVER), DMI), (NICS, nics(), RDMA), (NICS, nics(), NET), (NVMES, nvme(DISKS), NVME), (BMCS, bmc({FOLDER: ANSWER}), BMC),
])  # fmt: skip
def test_laws(table: Table, evidence: Evidence, source: Any) -> None:
    never_emptier(table, evidence)
    assert list(cut_short(table, evidence, source, step=7))


KEYS = st.sampled_from([ID, FOLDER, *RDMAS, *NETS, "/sys/class", *SERVER, "device", "subsystem", "fw_ver", "status", "detail"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)


@given(st.dictionaries(
    st.sampled_from([source.id for table in TABLES for source in table.sources]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)
