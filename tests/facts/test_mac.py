# SPDX-License-Identifier: Apache-2.0
"""AppArmor, SELinux and the order of security modules: a real node, this machine, and nodes that have less."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.base import Item
from fleet_audit.facts.mac import CONFIG, ENABLED, ORDER, PLACES, PROFILE_FILES, PROFILES, SELINUX, TABLES
from fleet_audit.model import Coverage, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import never_emptier

T = {table.name: table for table in TABLES}
DENIED = {"status": "denied", "detail": "Permission denied"}
FOLDER = {"type": "dir"}


def rows(table: str, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(T[table], evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(T[table], extracted)


def places(*there: str, **odd: Any) -> Item:
    return document({path: FOLDER if path in there else None for path in PLACES.args["globs"]} | odd)


NO_MODULES = {  # the kernel of the machine that these were written on: Linux 6.18 without AppArmor, SELinux and securityfs
    ENABLED.id: status(Status.ABSENT), ORDER.id: status(Status.ABSENT), PROFILES.id: status(Status.ABSENT), CONFIG.id: status(Status.ABSENT),
    SELINUX.id: document({"/sys/fs/selinux": dict.fromkeys(SELINUX.args["names"])}), PLACES.id: places("/sys/module", "/sys/fs"),
}  # fmt: skip


def test_a_real_node_with_apparmor() -> None:
    order = rows("security_modules", recorded())
    assert [row["name"] for row in order] == "lockdown capability landlock yama apparmor bpf ipe ima evm".split()
    assert [row["position"] for row in order] == list(range(9))
    assert rows("apparmor", recorded()) == [{"built": True, "enabled": True, "active": True}]
    modes = {row["name"]: row["mode"] for row in rows("apparmor_profiles", recorded())}
    assert modes["smbldap-useradd///etc/init.d/nscd"] == "complain" and modes["wpcom"] == "unconfined" and "enforce" in modes.values()
    (selinux,) = rows("selinux", recorded())
    assert (selinux["enabled"], selinux["enforcing"], selinux["configured_mode"]) == (False, None, None)


def test_a_kernel_without_either() -> None:
    assert rows("apparmor", NO_MODULES) == [{"built": False, "enabled": False, "active": None}]
    assert rows("apparmor_profiles", NO_MODULES) == []
    assert [row["enabled"] for row in rows("selinux", NO_MODULES)] == [False]
    assert run(T["security_modules"], NO_MODULES).coverage is Coverage.NONE


def test_apparmor_that_is_switched_off_or_not_asked() -> None:
    off = {**NO_MODULES, ENABLED.id: ok("N\n"), PLACES.id: places("/sys/module", "/sys/module/apparmor"), ORDER.id: ok("capability,yama\n")}
    assert rows("apparmor", off) == [{"built": True, "enabled": False, "active": False}]
    assert rows("apparmor_profiles", off) == []
    conflict = {**off, ENABLED.id: ok("Y\n")}
    assert rows("apparmor", conflict) == [{"built": True, "enabled": True, "active": False}]


@pytest.mark.parametrize("item", [status(Status.DENIED), status(Status.UNREACHED), ok(""), ok("maybe\n"), ok("YN\n")])
def test_what_does_not_say_whether_it_is_on_is_none(item: Item) -> None:
    evidence = {**recorded(), ENABLED.id: item}
    assert run(T["apparmor"], evidence).coverage is run(T["apparmor_profiles"], evidence).coverage is Coverage.NONE


@pytest.mark.parametrize("where", [places(), places("/sys/fs"), document({"/sys/module": FOLDER, "/sys/module/apparmor": DENIED}),
                                   places("/sys/module", "/sys/module/apparmor"), status(Status.TIMEOUT), ok("[]")])  # fmt: skip
def test_no_parameter_proves_nothing_without_the_modules_folder(where: Item) -> None:
    for table in ("apparmor", "apparmor_profiles"):
        assert run(T[table], {**NO_MODULES, PLACES.id: where}).coverage is Coverage.NONE


def test_profiles_denied_empty_and_in_other_words() -> None:
    assert run(T["apparmor_profiles"], {**recorded(), PROFILES.id: status(Status.DENIED)}).coverage is Coverage.NONE
    assert rows("apparmor_profiles", {**recorded(), PROFILES.id: ok("")}) == []
    text = "/usr/bin/my app (x86) (enforce)\nfuture (audited)\nhalf\nchromium (prompt)\n"
    found = rows("apparmor_profiles", {**recorded(), PROFILES.id: ok(text)}, Coverage.PARTIAL)
    assert [(row["name"], row["mode"]) for row in found] == [("/usr/bin/my app (x86)", "enforce"), ("chromium", "prompt")]


def test_profiles_that_are_shipped() -> None:
    # names of Debian 13's packages; links as aa-disable and aa-complain make them
    paths = {path: {"type": "link"} for path in ("/etc/apparmor.d/disable/usr.bin.man", "/etc/apparmor.d/force-complain/usr.sbin.cupsd")}
    files = {f"/etc/apparmor.d/{name}": {"type": "file"} for name in ("usr.bin.man", "usr.sbin.chronyd", "usr.sbin.cupsd")}
    found = rows(
        "apparmor_profile_files", {PROFILE_FILES.id: document({"/etc/apparmor.d": FOLDER, "/etc/apparmor.d/abi": FOLDER, **paths, **files})}
    )
    assert [(row["name"], row["disabled"], row["complain"]) for row in found] == [
        ("usr.bin.man", True, False), ("usr.sbin.chronyd", False, False), ("usr.sbin.cupsd", False, True),
    ]  # fmt: skip
    assert rows("apparmor_profile_files", {PROFILE_FILES.id: document({"/etc/apparmor.d": None})}) == []
    rows("apparmor_profile_files", {PROFILE_FILES.id: document({"/etc/apparmor.d": DENIED})}, Coverage.PARTIAL)
    for item in (document({}), status(Status.DENIED)):
        assert run(T["apparmor_profile_files"], {PROFILE_FILES.id: item}).coverage is Coverage.NONE


# synthetic: selinuxfs and the file that Rocky Linux 9 ships
CONF = "# SELINUX= can take one of these three values:\n#     enforcing\n# NOTE\nSELINUX=enforcing\nSELINUXTYPE=targeted\n\n"


def selinux(enforce: Any, conf: Item) -> Evidence:
    state = {"/sys/fs/selinux": {"enforce": enforce, "policyvers": "33", "mls": "1", "deny_unknown": "0"}}
    return {**NO_MODULES, SELINUX.id: ok(json.dumps(state)), CONFIG.id: conf, PLACES.id: places("/sys/fs", "/sys/fs/selinux")}


def test_selinux() -> None:
    assert rows("selinux", selinux("1", ok(CONF))) == [
        {"enabled": True, "enforcing": True, "configured_mode": "enforcing", "configured_policy": "targeted", "policy_version": 33}
    ]
    (row,) = rows("selinux", selinux("0", ok(CONF.replace("=enforcing", "=Permissive # for now"))))
    assert (row["enforcing"], row["configured_mode"]) == (False, "permissive")
    (row,) = rows("selinux", {**selinux("1", ok("SELINUX=disabled\n")), PLACES.id: places("/sys/fs")})
    assert (row["enabled"], row["enforcing"], row["configured_mode"]) == (False, None, "disabled")


@pytest.mark.parametrize(("evidence", "enforcing", "mode"), [
    (selinux(DENIED, ok(CONF)), None, "enforcing"), (selinux(None, ok(CONF)), None, "enforcing"), (selinux("2", ok(CONF)), None, "enforcing"),
    (selinux("1", status(Status.DENIED)), True, None), (selinux("1", ok("SELINUX=strict\n")), True, None),
])  # fmt: skip
def test_selinux_half_read_is_partial(evidence: Evidence, enforcing: bool | None, mode: str | None) -> None:
    (row,) = rows("selinux", evidence, Coverage.PARTIAL)
    assert (row["enforcing"], row["configured_mode"]) == (enforcing, mode)


@pytest.mark.parametrize("where", [places(), document({"/sys/fs": FOLDER, "/sys/fs/selinux": DENIED}), status(Status.DENIED)])
def test_selinux_is_off_only_where_sysfs_proves_it(where: Item) -> None:
    assert run(T["selinux"], {**NO_MODULES, PLACES.id: where}).coverage is Coverage.NONE


@pytest.mark.parametrize("text", ["", "\n", "capability,,yama", "Capability", "a b", "capability,yama\nmore"])
def test_what_is_no_list_of_modules_is_none(text: str) -> None:
    assert run(T["security_modules"], {ORDER.id: ok(text)}).coverage is Coverage.NONE


@pytest.mark.parametrize("evidence", [recorded(), selinux("1", ok(CONF)), NO_MODULES])
def test_laws(evidence: Evidence) -> None:
    files = {"/etc/apparmor.d": FOLDER, "/etc/apparmor.d/usr.bin.man": {"type": "file"}}
    evidence = evidence | {PROFILE_FILES.id: document(files)}
    for table in TABLES:
        never_emptier(table, evidence)
        whole = run(table, evidence)
        for source in table.sources:  # one that another makes needless may be cut
            for size in range(0, len(evidence[source.id].body), 5):
                cut = run(table, {**evidence, source.id: Item(Status.TRUNCATED, evidence[source.id].body[:size])})
                assert cut.coverage is not Coverage.COMPLETE or cut.rows == whole.rows, f"{table.name}: {source.id} cut at {size}"


@given(
    anything(
        TABLES, ["/sys/fs", "/sys/module", "/sys/fs/selinux", "enforce", "type"], ["Y", "N", "a (enforce)", "SELINUX=enforcing", "a,b"]
    )
)
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        extracted = run(table, evidence)
        assert not extracted.reason.startswith("not understood: "), table.name
        assert all(row[1] in ("enforce",) for row in extracted.rows) or table.name != "apparmor_profiles"
