# SPDX-License-Identifier: Apache-2.0
"""PAM's stacks and settings: real Debian stacks by the real reader, Red Hat's by its documentation, and what each absence means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.pam import ACCESS, LIMITS, PAM, SETTINGS, TABLES
from fleet_audit.facts.pam.stacks import lines_of
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier
from .nodes import ABSENT, DENIED, FOLDER, files, node, this_machine

RULES, MODULE_SETTINGS, RESOURCE, ACCESS_RULES = TABLES
Evidence = dict[SourceId, Item]
BASE = {"/etc/pam.d": FOLDER, "/usr/lib/pam.d": ABSENT, "/usr/etc/pam.d": ABSENT, "/etc/pam.conf": ABSENT}


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


def stacks(**more: Any) -> Evidence:
    """Services of /etc/pam.d by name, or entries by path."""
    named = {key if key.startswith("/") else f"/etc/pam.d/{key.replace('_', '-')}": entry for key, entry in more.items()}
    return {PAM.id: files(**BASE | named)}


def rules(**more: Any) -> list[dict[str, Any]]:
    found = run(RULES, stacks(**more))
    assert found.coverage is Coverage.COMPLETE, found.reason
    return rows_as_dicts(RULES, found)


# recorded: /etc/pam.d/common-auth and sudo of Debian 12 (libpam-runtime 1.5.2-6+deb12u1, sudo 1.9.13p3), 2026-11-25, comments left out
COMMON_AUTH = """# /etc/pam.d/common-auth - authentication settings common to all services
auth\t[success=1 default=ignore]\tpam_unix.so nullok
auth\trequisite\t\t\tpam_deny.so
auth\trequired\t\t\tpam_permit.so
auth\toptional\t\t\tpam_cap.so
"""
SUDO = """#%PAM-1.0

# Set up user limits from /etc/security/limits.conf.
session    required   pam_limits.so

@include common-auth
@include common-account
"""


def test_debians_includes() -> None:
    found = rules(sudo=SUDO, common_auth=COMMON_AUTH, common_account="account required pam_permit.so\n")
    assert pick([row for row in found if row["service"] == "sudo"], "type", "position", "control", "module", "arguments", "via", "file", "line") == [
        ("session", 0, "required", "pam_limits", [], [], "/etc/pam.d/sudo", 4),
        ("auth", 0, "[success=1 default=ignore]", "pam_unix", ["nullok"], ["@include common-auth"], "/etc/pam.d/common-auth", 2),
        ("auth", 1, "requisite", "pam_deny", [], ["@include common-auth"], "/etc/pam.d/common-auth", 3),
        ("auth", 2, "required", "pam_permit", [], ["@include common-auth"], "/etc/pam.d/common-auth", 4),
        ("auth", 3, "optional", "pam_cap", [], ["@include common-auth"], "/etc/pam.d/common-auth", 5),
        ("account", 0, "required", "pam_permit", [], ["@include common-account"], "/etc/pam.d/common-account", 1),
    ]  # fmt: skip


# synthetic: authselect's profile sssd with-faillock, as its documentation and pam.d(5) describe it
SYSTEM_AUTH = """auth        required      pam_env.so
auth        required      pam_faillock.so preauth silent deny=4
auth        [default=1 ignore=ignore success=ok]         pam_usertype.so isregular
auth        sufficient    pam_unix.so nullok
auth        required      pam_deny.so
-session     optional      pam_systemd.so
session     required      pam_unix.so
"""


def test_red_hats_include_and_substack_take_lines_of_their_type() -> None:
    sshd = "auth       substack     password-auth\nauth       include      postlogin\nsession    include      password-auth\n"
    found = rules(sshd=sshd, password_auth=SYSTEM_AUTH, postlogin="auth optional pam_echo.so file=/etc/x\nsession optional pam_umask.so\n")
    sshd_rows = [row for row in found if row["service"] == "sshd"]
    assert pick(sshd_rows, "type", "position", "module", "silent", "via") == [
        *(("auth", n, module, False, ["substack password-auth"]) for n, module in enumerate(
            ["pam_env", "pam_faillock", "pam_usertype", "pam_unix", "pam_deny"])),
        ("auth", 5, "pam_echo", False, ["include postlogin"]),
        ("session", 0, "pam_systemd", True, ["include password-auth"]), ("session", 1, "pam_unix", False, ["include password-auth"]),
    ]  # fmt: skip
    assert sshd_rows[1]["arguments"] == ["preauth", "silent", "deny=4"]


@pytest.mark.parametrize(("text", "wanted"), [
    ("auth required pam_env.so # [1]\n", [("auth", "required", "pam_env", [])]),
    ("AUTH Required /lib/security/pam_x.so\n", [("auth", "required", "pam_x", [])]),
    ("auth required \\\n   pam_x.so \\\n a b\n", [("auth", "required", "pam_x", ["a", "b"])]),
    ("# not continued \\\nauth required pam_x.so\n", [("auth", "required", "pam_x", [])]),
    ("auth [ success=ok\tdefault=bad ] pam_x.so [a b] c\\]d\n", [("auth", "[success=ok default=bad]", "pam_x", ["a b", "c\\]d"])]),
    ("auth required pam_mysql.so user=u passwd=hunter2 config=/etc/x\n",
     [("auth", "required", "pam_mysql", ["user=u", "passwd=<secret>", "config=/etc/x"])]),
    ("auth required pam_g.so secret=/home/u/.s\n", [("auth", "required", "pam_g", ["secret=/home/u/.s"])]),
])  # fmt: skip
def test_lines(text: str, wanted: list[Any]) -> None:
    assert pick(rules(x=text), "type", "control", "module", "arguments") == wanted


def test_lines_are_joined_and_counted_from_their_first() -> None:
    assert list(lines_of("\n# c \\\na \\\n b # d \\\nc\\\n")) == [(3, "a   b "), (5, "c ")]


def test_files_of_the_site_hide_those_of_packages(tmp_path: Path) -> None:
    made = {
        "/etc/pam.d/su": "auth required pam_site.so\nauth include deep\n", "/usr/lib/pam.d/su": "auth required pam_vendor.so\n",
        "/usr/lib/pam.d/deep": "auth required pam_deep.so\n", "/usr/lib/pam.d/polkit-1": "auth include su\n",
        "/usr/etc/pam.d/deep": "auth required pam_x.so\n",
        "/etc/pam.d/su.dpkg-old": "auth required pam_old.so\n", "/etc/pam.d/su.rpmsave": "auth required pam_old.so\n",
        "/etc/pam.d/su~": "auth required pam_old.so\n",
        "/etc/pam.d/folder/x": "auth required pam_old.so\n", "/etc/pam.conf": "# nothing\n",
    }  # fmt: skip
    found = run(RULES, node(tmp_path / "n", [RULES], made))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert pick(rows_as_dicts(RULES, found), "service", "module", "file") == [
        ("deep", "pam_deep", "/usr/lib/pam.d/deep"), ("polkit-1", "pam_site", "/etc/pam.d/su"), ("polkit-1", "pam_deep", "/usr/lib/pam.d/deep"),
        ("su", "pam_site", "/etc/pam.d/su"), ("su", "pam_deep", "/usr/lib/pam.d/deep"),
    ]  # fmt: skip


def test_no_pam_is_complete_without_rows(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, {"/etc/hostname": ""})
    for table in TABLES:
        assert (run(table, evidence).coverage, run(table, evidence).rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize(("more", "count"), [
    ({"x": "auth include y\nauth required pam_a.so\n"}, 1), ({"x": "auth include x\nauth required pam_a.so\n"}, 32),
    ({"x": "auth include y\nauth required pam_a.so\n", "y": DENIED}, 1), ({"x": "what\nauth required pam_a.so\n"}, 1), ({"x": "auth required\n"}, 0),
    ({"x": "auth sometimes pam_a.so\n"}, 0), ({"x": "auth [what pam_a.so\n"}, 0), ({"/usr/lib/pam.d": DENIED, "x": "auth required pam_a.so\n"}, 1),
    ({"x": "[" * 99999 + "\nauth required pam_a.so\n"}, 1), ({"x": "[\\" * 99999 + "a\nauth required pam_a.so\n"}, 1),
    ({f"s{n}": "auth include y\n" for n in range(9)} | {"y": "account required pam_a.so\n" * 20000}, None),
    ({"x": "auth include y\n" * 9, "y": "auth include z\n" * 99, "z": "auth required pam_a.so\n" * 99}, None),
])  # fmt: skip
def test_what_was_not_read_or_understood_is_a_gap(more: dict[str, Any], count: int | None) -> None:
    found = run(RULES, stacks(**more))
    assert found.coverage is Coverage.PARTIAL
    assert count is None or len(found.rows) == count


@pytest.mark.parametrize("item", [
    status(Status.DENIED), status(Status.ABSENT), status(Status.TIMEOUT), ok("x"), ok("[]"), ok("{}"), ok('{"/etc/pam.d": 1}'),
    files(**BASE | {"/etc/pam.d": ABSENT, "/etc/pam.conf": "login auth required pam_unix.so\n"}),
])  # fmt: skip
def test_not_read_or_not_understood_is_none(item: Item) -> None:
    assert run(RULES, {PAM.id: item}).coverage is Coverage.NONE


# --- settings --------------------------------------------------------------------------------------


def test_module_settings_of_several_files(tmp_path: Path) -> None:
    made = {
        "/etc/security/faillock.conf": "# deny = 9\ndeny = 5\nsilent # tail\n  unlock_time=0\ndeny 4\n",
        "/etc/security/pwquality.conf": "minlen = 12\n",
        "/etc/security/pwquality.conf.d/50-x.conf": "minlen = 14\nenforce_for_root\n", "/etc/security/pwquality.conf.d/10-x.conf": "minlen=15\n",
        "/etc/security/pwhistory.conf": "remember = 5\nremember = 24\n", "/usr/etc/security/faillock.conf": "deny = 99\n",
        "/usr/etc/security/pwquality.conf": "minlen = 99\n",
    }  # fmt: skip
    found = run(MODULE_SETTINGS, node(tmp_path / "n", [MODULE_SETTINGS], made))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert {(r["module"], r["key"], r["value"], r["counts"], r["line"]) for r in rows_as_dicts(MODULE_SETTINGS, found)} == {
        ("faillock", "deny", "5", False, 2), ("faillock", "silent", "", True, 3), ("faillock", "unlock_time", "0", True, 4),
        ("faillock", "deny", "4", True, 5), ("pwquality", "minlen", "15", False, 1), ("pwquality", "minlen", "14", False, 1),
        ("pwquality", "enforce_for_root", "", True, 2), ("pwquality", "minlen", "12", True, 1), ("pwhistory", "remember", "5", True, 1),
        ("pwhistory", "remember", "24", False, 2),
    }  # fmt: skip


def test_the_vendors_settings_count_where_the_site_has_none(tmp_path: Path) -> None:
    found = run(MODULE_SETTINGS, node(tmp_path / "n", [MODULE_SETTINGS], {"/usr/etc/security/faillock.conf": "deny = 3\n"}))
    assert pick(rows_as_dicts(MODULE_SETTINGS, found), "key", "value", "counts", "file") == [
        ("deny", "3", True, "/usr/etc/security/faillock.conf")
    ]


def test_the_base_files_of_libpwquality_count_where_etc_has_none_of_their_name(tmp_path: Path) -> None:
    """pwquality.conf(5) after 1.4.5; settings.c, pwquality_read_config: snippets of both folders by name, then the main file."""
    made = {
        "/usr/lib/security/pwquality.conf": "minlen = 9\ndcredit = -1\n",
        "/usr/lib/security/pwquality.conf.d/10-a.conf": "minlen = 1\nocredit = -1\n",
        "/usr/lib/security/pwquality.conf.d/30-c.conf": "retry = 3\n", "/etc/security/pwquality.conf.d/20-b.conf": "ocredit = 0\n",
        "/etc/security/pwquality.conf.d/30-c.conf": "retry = 5\n",
    }  # fmt: skip
    for more, wanted in (
        ({}, {("minlen", "9"), ("dcredit", "-1"), ("ocredit", "0"), ("retry", "5")}),
        ({"/etc/security/pwquality.conf": "minlen = 15\n"}, {("minlen", "15"), ("ocredit", "0"), ("retry", "5")}),
    ):
        found = run(MODULE_SETTINGS, node(tmp_path / str(len(more)), [MODULE_SETTINGS], made | more))
        assert found.coverage is Coverage.COMPLETE
        assert {(row["key"], row["value"]) for row in rows_as_dicts(MODULE_SETTINGS, found) if row["counts"]} == wanted


def test_limits(tmp_path: Path) -> None:
    made = {
        "/etc/security/limits.conf": "#* soft core 0\n*\t\thard    core\t0\n@student - maxlogins 4 # four\nroot - \n  what\n",
        "/etc/security/limits.d/90-x.conf": "* Soft NoFile Unlimited\n1000:2000 hard nproc 5\n",
        "/etc/security/limits.d/10-x.conf": "ftp hard nproc 0\n",
        "/usr/etc/security/limits.d/10-x.conf": "ftp hard nproc 9\n", "/etc/security/limits.d/x.txt": "* hard nproc 1\n",
    }  # fmt: skip
    found = run(RESOURCE, node(tmp_path / "n", [RESOURCE], made))
    assert (found.coverage, found.reason) == (Coverage.PARTIAL, "pam-limits: /etc/security/limits.conf:5 is not understood")
    assert pick(rows_as_dicts(RESOURCE, found), "domain", "type", "item", "value", "line") == [
        ("*", "hard", "core", "0", 2), ("@student", "-", "maxlogins", "4", 3), ("root", "-", "", "", 4), ("ftp", "hard", "nproc", "0", 1),
        ("*", "soft", "nofile", "unlimited", 1), ("1000:2000", "hard", "nproc", "5", 2),
    ]  # fmt: skip


def test_access(tmp_path: Path) -> None:
    made = {"/etc/security/access.conf": "# c\n+:root:LOCAL\n+ : @admins foo : 2001:db8:0:101::/64\n-:ALL EXCEPT (wheel):ALL\n",
            "/etc/security/access.d/a.conf": "-:eve:ALL\n"}  # fmt: skip
    found = run(ACCESS_RULES, node(tmp_path / "n", [ACCESS_RULES], made))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert pick(rows_as_dicts(ACCESS_RULES, found), "position", "allowed", "users", "origins", "line") == [
        (0, True, "root", "LOCAL", 2), (1, True, "@admins foo", "2001:db8:0:101::/64", 3), (2, False, "ALL EXCEPT (wheel)", "ALL", 4),
        (3, False, "eve", "ALL", 1),
    ]  # fmt: skip


def base_of(source: Source, **more: Any) -> Item:
    return files(**{path: ABSENT for path in source.args["globs"] if "*" not in path} | more)


@pytest.mark.parametrize(("table", "source", "path", "text"), [
    (MODULE_SETTINGS, SETTINGS, "/etc/security/faillock.conf", "deny = 5\n"), (RESOURCE, LIMITS, "/etc/security/limits.conf", "* hard core 0\n"),
    (ACCESS_RULES, ACCESS, "/etc/security/access.conf", "-:ALL:ALL\n"),
])  # fmt: skip
def test_settings_that_were_not_read(table: Table, source: Source, path: str, text: str) -> None:
    whole = {source.id: base_of(source, **{path: text})}
    assert (run(table, whole).coverage, len(run(table, whole).rows)) == (Coverage.COMPLETE, 1)
    assert run(table, {source.id: base_of(source, **{path: DENIED})}).coverage is Coverage.PARTIAL
    assert run(table, {source.id: base_of(source, **{path: f"%garbage%\n{text}"})}).coverage is Coverage.PARTIAL
    assert run(table, {source.id: base_of(source)}).coverage is Coverage.COMPLETE
    for item in (status(Status.DENIED), status(Status.ABSENT), status(Status.SKIPPED), ok("x"), ok("[]"), ok("{}")):
        assert run(table, {source.id: item}).coverage is Coverage.NONE
    never_emptier(table, whole)
    assert list(cut_short(table, whole, source, step=7))


def test_laws() -> None:
    evidence = stacks(sshd=SUDO, common_auth=COMMON_AUTH, common_account=COMMON_AUTH)
    never_emptier(RULES, evidence)
    assert list(cut_short(RULES, evidence, PAM, step=31))


def test_this_machine_is_understood() -> None:
    evidence = this_machine(TABLES)
    for table in TABLES:
        assert run(table, evidence).coverage is Coverage.COMPLETE, run(table, evidence).reason
    sudo = [row for row in rows_as_dicts(RULES, run(RULES, evidence)) if row["service"] == "sudo" and row["type"] == "auth"]
    assert "pam_unix" in {row["module"] for row in sudo} and [row["position"] for row in sudo] == list(range(len(sudo)))


WORDS = st.sampled_from([
    "auth", "-session", "required", "[a=b", "]", "pam_unix.so", "include", "x", "@include", " ", "\n", "\\\n", "#", "=", ":", "+", "* hard core 0",
    "deny = 5", "\x0c", "\0", "é",
])  # fmt: skip


@given(st.lists(WORDS, max_size=30).map("".join) | st.text(max_size=60), st.sampled_from(Status))
def test_nothing_raises(text: str, given: Status) -> None:
    run(RULES, stacks(x=text, y=text))
    for table in TABLES:
        for source in table.sources:
            run(table, {source.id: Item(given, text.encode("utf-8", "replace"))})
            run(table, {source.id: base_of(source, **{p: text for p in source.args["globs"] if "*" not in p})})
