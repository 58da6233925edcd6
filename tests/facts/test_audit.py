# SPDX-License-Identifier: Apache-2.0
"""The kernel's audit: auditctl of three generations, rule files, auditd.conf."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.audit import CONF, RULE_FILES, RULES, STATUS, TABLES, read_rule
from fleet_audit.facts.base import Item
from fleet_audit.model import Coverage, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

T = {table.name: table for table in TABLES}
UNREAD = [status(Status.ABSENT), status(Status.DENIED), status(Status.TIMEOUT), status(Status.UNREACHED), status(Status.SKIPPED),
          status(Status.FAILED, "exit 4: You must be root to run this program.")]  # fmt: skip


def rows(table: str, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(T[table], evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(T[table], extracted)


def test_status_of_a_real_node() -> None:
    assert rows("audit_status", recorded()) == [{
        "enabled": 1, "failure": 1, "daemon_pid": 470, "rate_limit": 0, "backlog_limit": 8192, "lost": 239, "backlog": 0,
        "loginuid_immutable": False,
    }]  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), [
    # recorded on Debian 12, auditd 3.0.9, without a daemon, 2026-11-25
    ("enabled 0\nfailure 1\npid 0\nrate_limit 0\nbacklog_limit 64\nlost 0\nbacklog 0\nbacklog_wait_time 15000\n"
     "backlog_wait_time_actual 0\nloginuid_immutable 0 unlocked\n", (0, 0, 64, False)),
    # synthetic: auditctl(8) 2.8, as on RHEL 7, and 4 with interpretation
    ("enabled 2\nfailure 2\npid 9\nrate_limit 0\nbacklog_limit 320\nlost 7\nbacklog 1\nloginuid_immutable 1 locked\n", (2, 9, 320, True)),
    # synthetic: audit 2.3 and before
    ("AUDIT_STATUS: enabled=1 flag=1 pid=1188 rate_limit=0 backlog_limit=320 lost=0 backlog=0\n", (1, 1188, 320, None)),
])  # fmt: skip
def test_status_of_other_versions(text: str, wanted: tuple[Any, ...]) -> None:
    (row,) = rows("audit_status", {STATUS.id: ok(text)})
    assert (row["enabled"], row["daemon_pid"], row["backlog_limit"], row["loginuid_immutable"]) == wanted


@pytest.mark.parametrize(
    "item", [*UNREAD, ok(""), ok("The audit system is disabled\n"), ok("enabled 7\n"), ok("enabled enabled\nfailure printk\n")]
)
def test_status_that_does_not_say_whether_it_is_on_is_none(item: Item) -> None:
    assert run(T["audit_status"], {STATUS.id: item}).coverage is Coverage.NONE


def test_status_without_its_numbers_is_partial() -> None:
    (row,) = rows("audit_status", {STATUS.id: ok("enabled 1\nlost many\n")}, Coverage.PARTIAL)
    assert (row["enabled"], row["lost"]) == (1, None)


def test_rules_of_a_real_node() -> None:
    """auditctl 4.0.2 lists what the script that recorded them had loaded; the kernel keeps them by filter."""
    found = rows("audit_rules", recorded())
    assert [
        (row["action"], row["filter"], row["arch"], row["syscalls"], row["path"], row["permissions"], row["keys"]) for row in found
    ] == [
        ("never", "user", None, [], None, None, []),
        ("always", "exit", None, [], "/etc/passwd", "wa", ["identity"]),
        ("always", "exit", None, [], "/etc/sudoers.d", "wa", ["scope"]),
        ("always", "exit", "b64", ["adjtimex", "settimeofday", "clock_settime"], None, None, ["time-change"]),
        ("always", "exit", "b32", ["adjtimex"], None, None, ["time-change"]),
        ("always", "exit", None, ["all"], "/usr/bin/sudo", "x", ["user_emulation"]),
        ("always", "exit", "b64", ["execve"], None, None, ["user_emulation"]),
        ("always", "exit", "b64", ["openat"], None, None, ["access"]),
        ("always", "exit", "b64", ["mount"], None, None, ["one", "two"]),
        ("never", "exclude", None, [], None, None, []),
    ]
    assert found[5]["fields"] == ["path=/usr/bin/sudo", "perm=x", "auid>=1000", "auid!=-1"]
    assert found[6]["fields"] == ["arch=b64", "uid!=euid", "auid!=-1"] and found[9]["fields"] == ["msgtype=CWD"]
    assert found[0]["rule"] == "-a never,user -F uid=0"


@pytest.mark.parametrize(("text", "wanted"), [
    # synthetic: audit 2.2 and before (RHEL 6), audit.rules(7), auditctl(8) with interpretation
    ("LIST_RULES: exit,always arch=3221225534 (0xc000003e) syscall=adjtimex,settimeofday key=time-change",
     ("always", "exit", "b64", ["adjtimex", "settimeofday"], None, None, ["time-change"])),
    ("LIST_RULES: exit,always arch=1073741827 (0x40000003) syscall=stime", ("always", "exit", "b32", ["stime"], None, None, [])),
    ("LIST_RULES: exit,always watch=/etc/group perm=wa key=identity", ("always", "exit", None, [], "/etc/group", "wa", ["identity"])),
    ("LIST_RULES: exit,always dir=/etc/selinux (0xc) perm=wa", ("always", "exit", None, [], "/etc/selinux", "wa", [])),
    ("-a exit,always -F arch=x86_64 -S open -S openat -k a", ("always", "exit", "b64", ["open", "openat"], None, None, ["a"])),
    ("-A always,exit -F arch=0x40000028 -S stime", ("always", "exit", "b32", ["stime"], None, None, [])),
    ("-w /srv/my data -k mine", ("always", "exit", None, [], "/srv/my data", "rwxa", ["mine"])),
    ("-a always,exit -F dir=/etc/audit/ -F perm=wa -F key=c\x01d", ("always", "exit", None, [], "/etc/audit/", "wa", ["c", "d"])),
    ("-a always,io_uring -S openat -F key=ring", ("always", "io_uring", None, ["openat"], None, None, ["ring"])),
    ("-a never,filesystem -F fstype=0x74726163", ("never", "filesystem", None, [], None, None, [])),
    ("-a never,task", ("never", "task", None, [], None, None, [])),
])  # fmt: skip
def test_rules_of_other_versions(text: str, wanted: tuple[Any, ...]) -> None:
    (row,) = rows("audit_rules", {RULES.id: ok(text + "\n")})
    assert tuple(row[name] for name in ("action", "filter", "arch", "syscalls", "path", "permissions", "keys")) == wanted


@pytest.mark.parametrize("text", ["", "-", "-a", "-a always", "-a exit", "-w", "-D", "-b 8192", "-S open", "word", "-F a=b -a always,exit",
                                  "-a always,exit -k", "LIST_RULES:", "LIST_RULES: what", "-a sometimes,exit"])  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    assert read_rule(text) is None


def test_no_rules_are_proved_by_the_kernels_word_alone() -> None:
    assert rows("audit_rules", {RULES.id: ok("No rules\n")}) == []  # recorded on Debian 12, auditd 3.0.9
    for item in (*UNREAD, ok(""), ok("nothing here\n"), ok("No rules\nNo rules\n")):
        assert run(T["audit_rules"], {RULES.id: item}).coverage is Coverage.NONE
    assert len(rows("audit_rules", {RULES.id: ok("-w /a -p wa\nwarning: odd\n")}, Coverage.PARTIAL)) == 1


def test_rule_files_of_a_real_node() -> None:
    found = rows("audit_rule_lines", recorded())
    assert [(row["file"], row["rule"], row["control"], row["action"]) for row in found][:5] == [
        ("/etc/audit/audit.rules", "-D", True, None), ("/etc/audit/audit.rules", "-b 8192", True, None),
        ("/etc/audit/audit.rules", "-f 1", True, None), ("/etc/audit/audit.rules", "--backlog_wait_time 60000", True, None),
        ("/etc/audit/rules.d/audit.rules", "-D", True, None),
    ]  # fmt: skip


def test_rule_files_with_rules_and_odd_lines() -> None:
    text = "# c\n-D\n -w /etc/shadow -p wa -k identity\nnot a rule\n-a always,exit -F arch=b64 -S init_module -k modules\n-e 2\n"
    files = {RULE_FILES.id: document({"/etc/audit/rules.d/50.rules": text, "/etc/audit/audit.rules": None})}
    found = rows("audit_rule_lines", files, Coverage.PARTIAL)
    assert [(row["position"], row["control"], row["path"], row["syscalls"]) for row in found] == [
        (0, True, None, []), (1, False, "/etc/shadow", []), (3, False, None, ["init_module"]), (4, True, None, []),
    ]  # fmt: skip
    denied = {"status": "denied", "detail": "Permission denied"}
    assert rows("audit_rule_lines", {RULE_FILES.id: document({"/etc/audit/audit.rules": denied})}, Coverage.PARTIAL) == []
    assert rows("audit_rule_lines", {RULE_FILES.id: document({"/etc/audit/audit.rules": None})}) == []
    assert run(T["audit_rule_lines"], {RULE_FILES.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_auditd_settings() -> None:
    found = {row["name"]: row["value"] for row in rows("auditd_settings", recorded())}
    assert found["max_log_file_action"] == "ROTATE" and found["space_left_action"] == "SYSLOG" and "tcp_listen_port" not in found
    text = "Max_Log_File = 8\nodd line\nlog_file=/a b\n\n#x = y\n"
    assert [(row["name"], row["value"]) for row in rows("auditd_settings", {CONF.id: ok(text)}, Coverage.PARTIAL)] == [
        ("max_log_file", "8"), ("log_file", "/a b"),
    ]  # fmt: skip
    assert rows("auditd_settings", {CONF.id: status(Status.ABSENT)}) == []
    assert run(T["auditd_settings"], {CONF.id: status(Status.DENIED)}).coverage is Coverage.NONE


@pytest.mark.parametrize("table", T)
def test_laws(table: str) -> None:
    never_emptier(T[table], recorded())
    (source,) = T[table].sources
    whole = run(T[table], recorded()).rows
    for extracted in cut_short(T[table], recorded(), source, step=3):
        assert table == "audit_status" or extracted.rows == whole[: len(extracted.rows)]


@given(
    anything(
        TABLES, ["/etc/audit/audit.rules"], ["-w /a -p wa -k b", "-a always,exit -S open -F arch=b64", "enabled 1", "No rules", "a = b"]
    )
)
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name
