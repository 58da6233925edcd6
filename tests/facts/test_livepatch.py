# SPDX-License-Identifier: Apache-2.0
"""Live patching: every generation of Canonical's client, the kernel's view, kpatch; and what is not understood."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.livepatch import CLIENT, FOLDER, KPATCH, MODULES, PLACES, TABLES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

CLIENTS, PATCHES, KPATCHES = TABLES
Evidence = dict[SourceId, Item]
NOWHERE = ok(json.dumps({path: {"status": "absent", "detail": "No such file"} for path in PLACES.args["globs"]}))
KERNEL = "6.8.0-60.63-generic"
FIXES = [
    {"Name": "cve-2024-53150", "Description": "x", "Bug": "", "Patched": True},
    {"Name": "cve-2025-0001", "Description": "y", "Bug": "", "Patched": False},
]

# synthetic: sources.md 1.1, JSON of clients 10.x
NOW: dict[str, Any] = {
    "Client-Version": "10.8.3",
    "Machine-Id": "0" * 32,
    "Architecture": "x86_64",
    "CPU-Model": "x",
    "Last-Check": "2026-11-24T10:15:00.123456789Z",
    "Boot-Time": "2026-11-01T00:00:00Z",
    "Uptime": "1",
    "Status": [
        {"Kernel": "6.8.0-59.61-generic", "Running": False, "Livepatch": {"CheckState": "checked", "State": "unapplied"}},
        {
            "Kernel": KERNEL,
            "Running": True,
            "Supported": "supported",
            "UpgradeRequiredDate": "",
            "Livepatch": {"CheckState": "checked", "State": "applied", "Version": "107.1", "Fixes": FIXES},
        },
    ],
    "tier": "updates",
}
# synthetic: sources.md 1.1, lower camel spelling, as --format yaml has it
CAMEL = {
    "clientVersion": "v8.1.2",
    "lastCheck": "2026-11-24T10:15:00Z",
    "status": [
        {
            "kernel": KERNEL,
            "running": True,
            "livepatch": {
                "checkState": "checked",
                "patchState": "applied",
                "version": "9.1",
                "fixes": "* CVE-2016-0728\n* CVE-2016-4557 LP: #1578705\n",
            },
        }
    ],
}


def said(document: Any) -> Evidence:
    return {CLIENT.id: ok(json.dumps(document), 0), PLACES.id: NOWHERE}


def entry(**more: Any) -> dict[str, Any]:
    """The client's JSON with another patch for the running kernel."""
    patch = {"CheckState": "checked", **more}
    return NOW | {"Status": [{"Kernel": KERNEL, "Running": True, "Livepatch": patch}]}


def client(document: Any) -> dict[str, Any]:
    extracted = run(CLIENTS, said(document))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    (row,) = rows_as_dicts(CLIENTS, extracted)
    return row


def test_client_of_today() -> None:
    assert client(NOW) == {
        "installed": True,
        "enabled": True,
        "client_version": "10.8.3",
        "kernel": KERNEL,
        "check_state": "checked",
        "state": "applied",
        "patch_version": "107.1",
        "supported": "supported",
        "fixes": ["CVE-2024-53150"],
        "last_check_at": datetime(2026, 11, 24, 10, 15, 0, 123456),
        "tier": "updates",
    }


def test_lower_camel_with_a_text_of_fixes_and_no_word_on_support() -> None:
    row = client(CAMEL)
    assert row["client_version"] == "8.1.2" and row["state"] == "applied" and row["supported"] is None
    assert row["fixes"] == ["CVE-2016-0728", "CVE-2016-4557"]


@pytest.mark.parametrize(("patch", "fixes"), [
    ({"State": "nothing-to-apply", "Version": ""}, []),
    ({"State": "nothing-to-apply", "Version": "", "Fixes": ""}, []),
    ({"State": "nothing-to-apply", "Fixes": None}, []),
    ({"State": "applied", "Version": "1", "Fixes": None}, None),
    ({"State": "applied", "Version": "1", "Fixes": "* nothing of note"}, []),
    ({"State": "unapplied", "Version": "1", "Fixes": "* CVE-2016-0728"}, None),
    ({"State": "applied", "Version": "1", "Fixes": [{"Name": "UBUNTU-CVE-2024-1086", "Patched": True}]}, ["CVE-2024-1086"]),
    ({"State": "applied", "Version": "1", "Fixes": [{"Name": "LSN-0090-1", "Patched": True}]}, []),
])  # fmt: skip
def test_fixes_in_every_form(patch: dict[str, Any], fixes: list[str] | None) -> None:
    row = client(entry(**patch))
    assert row["fixes"] == fixes and row["patch_version"] == (patch.get("Version") or None)


@pytest.mark.parametrize("entries", [
    None, [], [{"Kernel": KERNEL, "Running": False, "Livepatch": {"CheckState": "checked", "State": "applied"}}],
    [{"Kernel": KERNEL, "Supported": "supported"}], [{"Kernel": KERNEL, "Running": "true"}],
    [{"Kernel": KERNEL, "Running": True}, {"Kernel": "other", "Running": True}],
])  # fmt: skip
def test_no_entry_that_runs_is_enabled_but_unknown(entries: Any) -> None:
    row = client(NOW | {"Status": entries})
    assert row["enabled"] is True
    assert {row[name] for name in ("kernel", "check_state", "state", "patch_version", "supported", "fixes")} == {None}


def test_words_are_lowered_and_unknown_ones_kept() -> None:
    row = client(entry(State="Half-Applied", CheckState="Check-Failed"))
    assert (row["state"], row["check_state"]) == ("half-applied", "check-failed")


@pytest.mark.parametrize("never", ["", None, "0001-01-01T00:00:00Z"])
def test_never_checked(never: str | None) -> None:
    assert client(NOW | {"Last-Check": never})["last_check_at"] is None


@pytest.mark.parametrize("document", [
    NOW | {"Last-Check": "two hours ago"}, entry(State=7), NOW | {"Client-Version": 10}, entry(State="applied", Fixes=[{"Name": "CVE-2024-1"}]),
    entry(State="applied", Fixes=["CVE-2024-1086"]),
])  # fmt: skip
def test_a_part_that_is_not_understood_makes_it_partial(document: Any) -> None:
    extracted = run(CLIENTS, said(document))
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) == 1


@pytest.mark.parametrize("document", [
    {}, [], "x", None, {"error": "x"}, NOW | {"Status": "x"}, NOW | {"Status": ["x"]}, NOW | {"status": []},
    entry(Fixes=7), NOW | {"Status": [{"Running": True, "Livepatch": "applied"}]},
])  # fmt: skip
def test_another_form_is_none(document: Any) -> None:
    assert run(CLIENTS, said(document)).coverage is Coverage.NONE


def test_not_enabled() -> None:
    # synthetic: sources.md 1.1; stderr's head is in the detail (probe/node.py)
    detail = "exit 1: Machine is not enabled. Please run 'sudo canonical-livepatch enable' with the token."
    extracted = run(CLIENTS, {CLIENT.id: Item(Status.FAILED, b"", 1, detail), PLACES.id: NOWHERE})
    (row,) = rows_as_dicts(CLIENTS, extracted)
    assert extracted.coverage is Coverage.COMPLETE and row["installed"] is True and row["enabled"] is False


def test_not_installed() -> None:
    gone = {CLIENT.id: status(Status.ABSENT), PLACES.id: NOWHERE}
    (row,) = rows_as_dicts(CLIENTS, run(CLIENTS, gone))
    assert row["installed"] is False and row["enabled"] is None
    never_emptier(CLIENTS, gone)


@pytest.mark.parametrize("places", [
    ok('{"/snap/canonical-livepatch":{"type":"dir","mode":493}}'), status(Status.DENIED), ok("[]"), ok("not json"),
    ok('{"/snap/canonical-livepatch":{"status":"denied","detail":"Permission denied"}}'),
])  # fmt: skip
def test_a_missing_program_alone_is_no_proof(places: Item) -> None:
    assert run(CLIENTS, {CLIENT.id: status(Status.ABSENT), PLACES.id: places}).coverage is Coverage.NONE


@pytest.mark.parametrize("item", [
    Item(Status.FAILED, b"", 1, "exit 1: cannot connect to the daemon"), Item(Status.FAILED, b"", None, "killed by signal 25"),
    status(Status.DENIED), status(Status.TIMEOUT), status(Status.UNREACHED), ok(""), ok("\xff\xfe"), ok("last check: 52 seconds ago\n"),
])  # fmt: skip
def test_any_other_failure_is_none(item: Item) -> None:
    assert run(CLIENTS, {CLIENT.id: item, PLACES.id: NOWHERE}).coverage is Coverage.NONE


# synthetic: the `attrs` reader (probe/node.py) on Documentation/ABI/testing/sysfs-kernel-livepatch
LOADED = {
    "/sys/kernel/livepatch/lkp_Ubuntu_6_8_0_60_63_generic_107": {"enabled": "1", "transition": "0"},
    "/sys/kernel/livepatch/kpatch_5_14_0_70_1_1": {"enabled": "1", "transition": "1"},
    "/sys/kernel/livepatch/livepatch_SLE15_SP4_Update_3": {"enabled": "0", "transition": "0"},
    "/sys/kernel/livepatch/lkp_Ubuntu_5_15_0_58_64_20_04_1_generic_90": {"enabled": "1", "transition": "0"},
}
HERE = ok('{"/sys/kernel":{"type":"dir"},"/sys/kernel/livepatch":{"type":"dir"}}')
SYS_KERNEL = ok('{"/sys/kernel":{"type":"dir"},"/sys/kernel/livepatch":{"status":"absent","detail":""}}')


def test_modules() -> None:
    extracted = run(PATCHES, {MODULES.id: ok(json.dumps(LOADED)), FOLDER.id: HERE})
    assert extracted.coverage is Coverage.COMPLETE
    assert [row[1:] for row in extracted.rows] == [
        (True, False, "canonical", KERNEL),
        (True, True, "kpatch", None),
        (False, False, "other", None),
        (True, False, "canonical", None),
    ]


@pytest.mark.parametrize(("modules", "folder", "coverage"), [
    (ok("{}"), HERE, Coverage.COMPLETE), (ok("{}"), SYS_KERNEL, Coverage.COMPLETE), (ok("{}"), ok("{}"), Coverage.NONE),
    (ok("{}"), status(Status.DENIED), Coverage.NONE), (status(Status.DENIED), SYS_KERNEL, Coverage.NONE),
    (ok('{"/sys/kernel/livepatch/x":{"enabled":{"status":"denied","detail":""},"transition":"0"}}'), HERE, Coverage.PARTIAL),
    (ok('{"/sys/kernel/livepatch/x":{"enabled":"yes","transition":null}}'), HERE, Coverage.PARTIAL),
])  # fmt: skip
def test_none_loaded_differs_from_unread(modules: Item, folder: Item, coverage: Coverage) -> None:
    assert run(PATCHES, {MODULES.id: modules, FOLDER.id: folder}).coverage is coverage


# synthetic: kpatch's own script prints names alone; newer ones add the state (sources.md 1.2)
KPATCH_OLD = "Loaded patch modules:\nkpatch_1\n\nInstalled patch modules:\nkpatch-1.ko (5.14.0-70.el9.x86_64)\n"
KPATCH_NEW = (
    "Loaded patch modules:\nkpatch_1 [enabled]\nkpatch_2 [disabling...]\n\n"
    "Installed patch modules:\nkpatch_1 (5.14.0-70.el9.x86_64)\nkpatch_1 (5.14.0-71.el9.x86_64)\n"
)


def test_kpatch() -> None:
    kernel = "5.14.0-70.el9.x86_64"
    assert run(KPATCHES, {KPATCH.id: ok(KPATCH_OLD)}).rows == (("kpatch_1", kernel, True, True, None),)
    extracted = run(KPATCHES, {KPATCH.id: ok(KPATCH_NEW)})
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("kpatch_1", kernel, True, True, "enabled"),
        ("kpatch_1", "5.14.0-71.el9.x86_64", True, True, "enabled"),
        ("kpatch_2", None, True, False, "disabling..."),
    )


@pytest.mark.parametrize(("item", "coverage"), [
    (status(Status.ABSENT), Coverage.COMPLETE), (ok("Loaded patch modules:\n\nInstalled patch modules:\n"), Coverage.COMPLETE),
    (ok(""), Coverage.NONE), (ok("Loaded patch modules:\nx\n"), Coverage.NONE), (status(Status.FAILED), Coverage.NONE),
    (status(Status.DENIED), Coverage.NONE), (ok("usage: kpatch <command>"), Coverage.NONE),
    (ok(KPATCH_NEW + "Stalled processes:\n4711 (python) in transition\n"), Coverage.PARTIAL),
])  # fmt: skip
def test_kpatch_otherwise(item: Item, coverage: Coverage) -> None:
    assert run(KPATCHES, {KPATCH.id: item}).coverage is coverage


def test_laws() -> None:
    modules = {MODULES.id: ok(json.dumps(LOADED)), FOLDER.id: HERE}
    kpatch = {KPATCH.id: ok(KPATCH_NEW)}
    for table, evidence, source in ((CLIENTS, said(NOW), CLIENT), (PATCHES, modules, MODULES), (KPATCHES, kpatch, KPATCH)):
        never_emptier(table, evidence)
        assert list(cut_short(table, evidence, source, step=7))


@given(st.dictionaries(st.sampled_from([CLIENT.id, PLACES.id, MODULES.id, FOLDER.id, KPATCH.id]), st.builds(
    Item, st.sampled_from(Status), st.one_of(st.binary(max_size=300), st.sampled_from([b"{}", KPATCH_NEW.encode()]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["Status", "Running", "Livepatch", "Fixes", "State", "Name", "Patched", "Client-Version", "enabled", "/x"]), inner),
    ).map(lambda v: json.dumps(v).encode())), st.none() | st.integers(0, 255), st.text(max_size=30))))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)
