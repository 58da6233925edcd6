# SPDX-License-Identifier: Apache-2.0
"""Firmware as fwupdmgr(1) prints it in JSON, in the forms that fwupd has had since 1.7."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.fwupd import DEVICES, METADATA, SECURITY, TABLES, UPDATES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

DEVICE, ATTRIBUTE, UPDATE, AGE = TABLES
ASKED = ((DEVICE, DEVICES), (ATTRIBUTE, SECURITY), (UPDATE, UPDATES))
Evidence = dict[SourceId, Item]

# recorded on Debian 12 in a virtual machine (AMD EPYC), fwupdtool 2.0.20 `get-devices --json`, 2026-11-25; the daemon's client
# prints the same form
GET_DEVICES = """{
  "Devices" : [
    {
      "Name" : "EPYC",
      "DeviceId" : "4bde70ba4e39b28f9eab1628f9dd6e6244c03027",
      "InstanceIds" : [
        "CPUID\\\\PRO_0&FAM_19&MOD_11",
        "CPUID\\\\PRO_0&FAM_19&MOD_11&STP_1"
      ],
      "Guid" : [
        "f9203adb-b862-5263-88e9-373204438174",
        "3e9793d5-b325-517a-81ec-6ebc6f5a6c02"
      ],
      "Plugin" : "cpu",
      "Flags" : [
        "internal"
      ],
      "Vendor" : "AMD",
      "VersionFormat" : "hex",
      "Icons" : [
        "computer"
      ],
      "Created" : 1795631436
    }
  ]
}
"""
# recorded there, fwupdtool 2.0.20 `security --json`, shortened: descriptions and some attributes left out
SECURE = """{
  "SecurityAttributes" : [
    {
      "AppstreamId" : "org.fwupd.hsi.Kernel.Swap",
      "HsiResult" : "not-enabled",
      "HsiResultSuccess" : "encrypted",
      "Name" : "Linux swap",
      "Plugin" : "linux_swap",
      "Uri" : "https://fwupd.github.io/libfwupdplugin/hsi.html#org.fwupd.hsi.Kernel.Swap",
      "Flags" : [
        "success",
        "runtime-issue"
      ]
    },
    {
      "AppstreamId" : "org.fwupd.hsi.Uefi.SecureBoot",
      "HsiResult" : "not-enabled",
      "HsiResultSuccess" : "enabled",
      "Name" : "UEFI secure boot",
      "Plugin" : "uefi_capsule",
      "Flags" : [
        "missing-data",
        "runtime-issue",
        "action-config-fw"
      ]
    },
    {
      "AppstreamId" : "org.fwupd.hsi.Tpm.Version20",
      "HsiLevel" : 1,
      "HsiResult" : "not-found",
      "HsiResultSuccess" : "found",
      "Name" : "TPM v2.0",
      "Plugin" : "tpm",
      "Version" : "1.5.0"
    },
    {
      "AppstreamId" : "org.fwupd.hsi.SupportedCpu",
      "HsiLevel" : 1,
      "HsiResultSuccess" : "valid",
      "Name" : "Supported CPU",
      "Flags" : [
        "missing-data",
        "action-contact-oem"
      ]
    },
    {
      "AppstreamId" : "org.fwupd.hsi.SuspendToRam",
      "HsiLevel" : 3,
      "HsiResult" : "not-valid",
      "HsiResultSuccess" : "not-enabled",
      "Name" : "Suspend-to-ram"
    },
    {
      "AppstreamId" : "org.fwupd.hsi.Smap",
      "HsiLevel" : 4,
      "HsiResult" : "enabled",
      "HsiResultSuccess" : "enabled",
      "Name" : "SMAP",
      "Flags" : [
        "success"
      ]
    }
  ]
}
"""


def answers(devices: Any = GET_DEVICES, security: Any = SECURE, updates: Any = '{"Devices" : []}') -> Evidence:
    said = ((DEVICES, devices), (SECURITY, security), (UPDATES, updates))
    return {
        source.id: what if isinstance(what, Item) else ok(what if isinstance(what, str) else json.dumps(what), 0) for source, what in said
    }


def test_devices() -> None:
    extracted = run(DEVICE, answers())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == ((
        "4bde70ba4e39b28f9eab1628f9dd6e6244c03027", "EPYC", "AMD", None, None, "cpu",
        ["f9203adb-b862-5263-88e9-373204438174", "3e9793d5-b325-517a-81ec-6ebc6f5a6c02"], ["internal"], [], [],
    ),)  # fmt: skip


# synthetic: fwupd source, fwupd_device_to_json of 1.7.9, 1.9.5 and 2.1.7 (from 1.9 numbers that are 0 are left out)
DBX = {
    "Name": "UEFI dbx", "DeviceId": "362301da643102b9f38477387e2193e57abaa590", "Guid": ["c6682ade-b5ec-57c4-b687-676351208742"],
    "Plugin": "uefi_dbx", "Protocol": "org.uefi.dbx", "Flags": ["internal", "updatable", "supported", "needs-reboot"],
    "Problems": ["update-pending"], "Issues": ["CVE-2022-34301", "CVE-2022-34302"], "Version": "77", "VersionLowest": "77",
    "VersionFormat": "number", "Created": 1795631436, "UpdateState": 4, "Status": 0,
}  # fmt: skip


def test_a_device_with_trouble() -> None:
    (row,) = rows_as_dicts(DEVICE, run(DEVICE, answers({"Devices": [DBX]})))
    assert (row["plugin"], row["version"], row["version_lowest"]) == ("uefi_dbx", "77", "77")
    assert (row["problems"], row["issues"]) == (["update-pending"], ["CVE-2022-34301", "CVE-2022-34302"])


def test_attributes_by_their_flag() -> None:
    """`success` alone decides: a result `not-enabled` may pass, and one that fwupd has no data for is undetermined."""
    extracted = run(ATTRIBUTE, answers())
    assert extracted.coverage is Coverage.COMPLETE
    found = {row["attribute"].removeprefix("org.fwupd.hsi."): row for row in rows_as_dicts(ATTRIBUTE, extracted)}
    assert {name: (row["level"], row["result"], row["wanted"], row["passed"]) for name, row in found.items()} == {
        "Kernel.Swap": (0, "not-enabled", "encrypted", True), "Uefi.SecureBoot": (0, "not-enabled", "enabled", None),
        "Tpm.Version20": (1, "not-found", "found", False), "SupportedCpu": (1, None, "valid", None),
        "SuspendToRam": (3, "not-valid", "not-enabled", False), "Smap": (4, "enabled", "enabled", True),
    }  # fmt: skip


@pytest.mark.parametrize(("attribute", "expected"), [
    # fwupd 1.8 and older: always a level, no wanted result
    ({"HsiLevel": 0, "HsiResult": "enabled", "Flags": ["runtime-issue"]}, (0, "enabled", None, False, False)),
    ({"HsiLevel": 3, "HsiResult": "enabled"}, (3, "enabled", None, False, False)),
    ({"HsiLevel": 2, "HsiResult": "valid", "Flags": ["success"], "Created": 7}, (2, "valid", None, True, False)),
    ({"HsiLevel": 2, "HsiResult": "not-valid", "Flags": ["obsoleted"]}, (2, "not-valid", None, False, True)),
    # a contradiction of result and flag: both show
    ({"HsiResult": "enabled", "HsiResultSuccess": "enabled", "Flags": []}, (0, "enabled", "enabled", False, False)),
    ({"HsiResult": "not-locked", "HsiResultSuccess": "locked", "Flags": ["success", "missing-data"]}, (0, "not-locked", "locked", True, False)),
])  # fmt: skip
def test_generations(attribute: dict[str, Any], expected: Any) -> None:
    document = {
        "SecurityAttributes": [{"AppstreamId": "org.fwupd.hsi.X", "Name": "X"} | attribute],
        "SecurityEvents": [{"AppstreamId": "y"}],
    }
    extracted = run(ATTRIBUTE, answers(security=document))
    ((_, _, level, result, wanted, passed, obsoleted, _),) = extracted.rows
    assert ((level, result, wanted, passed, obsoleted), extracted.coverage) == (expected, Coverage.COMPLETE)


def test_updates() -> None:
    release = {
        "AppstreamId": "org.linuxfoundation.dbx.x64.firmware", "RemoteId": "lvfs", "Version": "371", "Urgency": "high",
        "Issues": ["CVE-2023-28005"], "Created": 1680000000, "Checksum": ["x"],
    }  # fmt: skip
    plain = {"Version": "217"}
    extracted = run(UPDATE, answers(updates={"Devices": [DBX | {"Releases": [release, plain]}, DBX | {"DeviceId": "other"}]}))
    head = ("362301da643102b9f38477387e2193e57abaa590", "UEFI dbx", "77")
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        (*head, "371", "high", ["CVE-2023-28005"], "lvfs", datetime(2023, 3, 28, 10, 40)), (*head, "217", None, [], None, None),
    ))  # fmt: skip


NOTHING = Item(Status.OK, b'{"Error" : {"Domain" : "FwupdError", "Code" : 9, "Message" : "No detected devices"}}', 2)


def test_nothing_to_do() -> None:
    """Exit status 2: fwupd runs and has no device, or no update; for attributes it is none of its answers."""
    for table in (DEVICE, UPDATE):
        for item in (NOTHING, Item(Status.OK, b"", 2)):
            extracted = run(table, answers(item, item, item))
            assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
        assert run(table, answers({"Devices": []}, updates={"Devices": []})).coverage is Coverage.COMPLETE
    assert run(ATTRIBUTE, answers(security=NOTHING)).coverage is Coverage.NONE
    assert run(ATTRIBUTE, answers(security={"SecurityAttributes": []})).coverage is Coverage.NONE


@pytest.mark.parametrize("item", [
    status(Status.SKIPPED, "no /sys/fs/cgroup/*/fwupd.service on this node"), status(Status.ABSENT, "fwupdmgr: No such file or directory"),
    status(Status.DENIED), status(Status.TIMEOUT), status(Status.UNREACHED), Item(Status.TRUNCATED, GET_DEVICES.encode()),
    # fwupd 1.7 and 1.9: `security` without --force, and without enough data
    Item(Status.FAILED, b"", 1, "exit 1: The HSI specification is not yet complete. To ignore this warning, use --force"),
    Item(Status.FAILED, b'{"Error" : {"Domain" : "FwupdError", "Code" : 10, "Message" : "Not enough data"}}', 1, "exit 1"),
    Item(Status.FAILED, b"", 1, "exit 1: Failed to parse arguments: Unknown option --json"),
    ok("", 0), ok("null", 0), ok("[]", 0), ok('{"Devices": {}}', 0), ok('{"Error": {"Message": "x"}}', 0),
    ok("WARNING: UEFI firmware can not be updated in legacy BIOS mode\n" + GET_DEVICES, 0),
    ok("No hardware detected with firmware update capability\n", 0),  # fwupd 1.5: text
])  # fmt: skip
def test_where_fwupd_does_not_answer_nothing_is_known(item: Item) -> None:
    for table, _ in ASKED:
        extracted = run(table, answers(item, item, item))
        assert (extracted.coverage, extracted.rows) == (Coverage.NONE, ())


@pytest.mark.parametrize(("table", "evidence", "rows"), [
    (DEVICE, answers({"Devices": [DBX, 7]}), 1), (DEVICE, answers({"Devices": [{"Name": "no id"}]}), 0),
    (DEVICE, answers({"Devices": [DBX | {"Version": 77}]}), 1), (DEVICE, answers({"Devices": [DBX | {"Flags": "updatable"}]}), 0),
    (ATTRIBUTE, answers(security={"SecurityAttributes": [{"AppstreamId": "a", "Flags": "success"}]}), 0),
    (ATTRIBUTE, answers(security={"SecurityAttributes": [{"AppstreamId": "a", "HsiLevel": "1"}]}), 0),
    (UPDATE, answers(updates={"Devices": [DBX | {"Releases": 3}]}), 0), (UPDATE, answers(updates={"Devices": [DBX | {"Releases": [{}]}]}), 0),
])  # fmt: skip
def test_what_is_not_understood_is_a_gap(table: Any, evidence: Evidence, rows: int) -> None:
    extracted = run(table, evidence)
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, rows)


ABSENT = {"status": "absent", "detail": ""}


def metadata(files: dict[str, Any], lib: Any = None) -> Evidence:
    there = {"/var/lib": lib or {"type": "dir"}, "/var/lib/fwupd": {"type": "dir"} if files else ABSENT}
    return {METADATA.id: ok(json.dumps(there | files))}


def test_age_of_metadata() -> None:
    """The newest of a remote's files: an upgrade of fwupd leaves those of the old form."""
    files = {
        "/var/lib/fwupd/metadata/lvfs/firmware.xml.zst": {"type": "file", "mtime": 1795000000},
        "/var/lib/fwupd/remotes.d/lvfs/metadata.xml.gz": {"type": "file", "mtime": 1600000000},
        "/var/lib/fwupd/metadata/site/metadata.xml.xz": {"type": "file", "mtime": 1500000000},
    }
    extracted = run(AGE, metadata(files))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (
        ("lvfs", datetime(2026, 11, 18, 11, 6, 40)), ("site", datetime(2017, 7, 14, 2, 40)),
    ))  # fmt: skip
    never_emptier(AGE, metadata(files))
    none = run(AGE, metadata({}))
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    assert run(AGE, metadata({}, ABSENT)).coverage is Coverage.NONE
    assert run(AGE, metadata({"/var/lib/fwupd/metadata/a/firmware.xml.gz": {"type": "file"}})).coverage is Coverage.PARTIAL
    assert (
        run(AGE, metadata({"/var/lib/fwupd/metadata/a/firmware.xml.gz": {"status": "denied", "detail": ""}})).coverage is Coverage.PARTIAL
    )


@pytest.mark.parametrize(("table", "source"), ASKED)
def test_laws(table: Any, source: Any) -> None:
    evidence = answers(updates={"Devices": [DBX | {"Releases": [{"Version": "1"}]}]})
    assert run(table, evidence).rows
    never_emptier(table, evidence)
    assert all(cut.coverage is Coverage.NONE for cut in cut_short(table, evidence, source, step=31))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["Devices", "SecurityAttributes", "Flags", "AppstreamId", "HsiLevel", "Releases", *DBX]), inner)
    ),
)


@given(st.sampled_from(Status), st.binary(max_size=99) | JSON.map(lambda v: json.dumps(v).encode()), st.sampled_from([None, 0, 1, 2]))
def test_nothing_raises(what: Status, body: bytes, code: int | None) -> None:
    for table in TABLES:
        extracted = run(table, {source.id: Item(what, body, code) for source in table.sources})
        assert not extracted.reason.startswith("not understood: ")
