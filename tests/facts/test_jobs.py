# SPDX-License-Identifier: Apache-2.0
"""Jobs of cron, units and timers of the site: real crontabs by the real reader, and what each absence means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.jobs import CRONTABS, FILES, PROGRAMS, SPOOL, TABLES, UNITS
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier
from .nodes import ABSENT, DENIED, FOLDER, files, node, this_machine

JOBS, VARIABLES, COMMANDS, ENVIRONMENT, TIMERS, JOB_FILES, LOCAL = TABLES
Evidence = dict[SourceId, Item]
NONE = {"/etc/crontab": ABSENT, "/etc/anacrontab": ABSENT}


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# recorded: /etc/cron.d/e2scrub_all and mdadm of Debian 12 (e2fsprogs 1.47.0, mdadm 4.2), 2026-11-25; /etc/crontab is Debian's (cron 3.0pl1-162)
E2SCRUB = "30 3 * * 0 root test -e /run/systemd/system || SERVICE_MODE=1 /usr/lib/x86_64-linux-gnu/e2fsprogs/e2scrub_all_cron\n"
CRONTAB = """SHELL=/bin/sh
# You can also override PATH, but by default, newer versions inherit it from the environment
#PATH=/usr/local/sbin:/usr/local/bin:/sbin:/bin:/usr/sbin:/usr/bin
17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly
25 6\t* * *\troot\ttest -x /usr/sbin/anacron || { cd / && run-parts --report /etc/cron.daily; }
"""
# synthetic: anacrontab(5) and crontab(5) of cronie
ANACRONTAB = "RANDOM_DELAY=45\n1\t5\tcron.daily\t\tnice run-parts /etc/cron.daily\n@monthly 45 cron.monthly /usr/bin/x --y\n"


def test_cron_by_the_reader(tmp_path: Path) -> None:
    made = {
        "/etc/crontab": CRONTAB, "/etc/anacrontab": ANACRONTAB, "/etc/cron.d/e2scrub_all": E2SCRUB, "/etc/cron.d/old~": "broken",
        "/etc/cron.d/.placeholder": "broken", "/etc/cron.d/x.dpkg-old": "broken",
        "/etc/cron.d/dotted.conf": "@reboot www /opt/run.sh --password hunter2\n",
        "/var/spool/cron/crontabs/alice": 'HF_TOKEN=hf_abcdefghijklmnopqrst0\n"MAILTO" = ""\n-*/5 1-5,7 * jan mon-fri /home/alice/job.py\n',
        "/var/spool/cron/bob": "@daily backup\n5~10 ~ 1 */2 * /bin/x%in\n",
    }  # fmt: skip
    evidence = node(tmp_path / "n", TABLES, made)
    found = run(JOBS, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    rows = rows_as_dicts(JOBS, found)
    assert sorted(pick(rows, "file", "line", "user_name", "schedule", "program", "secrets")) == sorted([
        ("/etc/crontab", 4, "root", "17 * * * *", "", []), ("/etc/crontab", 5, "root", "25 6 * * *", "", []),
        ("/etc/anacrontab", 2, "root", "1 5", "", []), ("/etc/anacrontab", 3, "root", "@monthly 45", "/usr/bin/x", []),
        ("/etc/cron.d/e2scrub_all", 1, "root", "30 3 * * 0", "", []), ("/etc/cron.d/dotted.conf", 1, "www", "@reboot", "/opt/run.sh", ["value"]),
        ("/var/spool/cron/crontabs/alice", 3, "alice", "*/5 1-5,7 * jan mon-fri", "/home/alice/job.py", []),
        ("/var/spool/cron/bob", 1, "bob", "@daily", "", []), ("/var/spool/cron/bob", 2, "bob", "5~10 ~ 1 */2 *", "/bin/x", []),
    ])  # fmt: skip
    assert {row["command"] for row in rows if row["user_name"] == "www"} == {"/opt/run.sh --password <secret:value:7>"}
    variables = rows_as_dicts(VARIABLES, run(VARIABLES, evidence))
    assert sorted(pick(variables, "name", "secrets", "file")) == [
        ("HF_TOKEN", ["huggingface"], "/var/spool/cron/crontabs/alice"), ("MAILTO", [], "/var/spool/cron/crontabs/alice"),
        ("RANDOM_DELAY", [], "/etc/anacrontab"), ("SHELL", [], "/etc/crontab"),
    ]  # fmt: skip
    sent = b"".join(item.body for item in evidence.values())
    assert b"hunter2" not in sent and b"hf_abcdefghij" not in sent


def test_no_cron_is_complete_without_rows(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, {"/etc/hostname": ""})
    for table in TABLES:
        assert (run(table, evidence).coverage, run(table, evidence).rows) == (Coverage.COMPLETE, ())


def cron(crontabs: Any, spool: Item | None = None) -> Evidence:
    return {CRONTABS.id: files(**NONE | crontabs), SPOOL.id: spool or ok("{}")}


@pytest.mark.parametrize("line", [
    "garbage", "1 2 3 4 root /bin/x", "* * * * * root", "61x * * * * root /bin/x", "a b c d e root /bin/x", "@sometimes root /bin/x", "\0\xff",
    "* * * * *",
    "*/5, * * * * root /bin/x", "* * * * * ro;ot /bin/x",
])  # fmt: skip
def test_a_line_that_is_no_job_is_a_gap(line: str) -> None:
    found = run(JOBS, cron({"/etc/crontab": f"{line}\n* * * * * root /bin/true\n"}))
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)
    assert "/etc/crontab:1" in found.reason


@pytest.mark.parametrize(("evidence", "coverage", "count"), [
    (cron({"/etc/crontab": CRONTAB}, status(Status.DENIED, "Permission denied")), Coverage.PARTIAL, 2),
    (cron({"/etc/crontab": CRONTAB, "/etc/cron.d/x": DENIED}), Coverage.PARTIAL, 2), (cron({"/etc/cron.d/x": FOLDER}), Coverage.COMPLETE, 0),
    (cron({}, files(**{"/var/spool/cron/crontabs": FOLDER, "/var/spool/cron/crontabs/eve": DENIED})), Coverage.PARTIAL, 0),
    (cron({}) | {CRONTABS.id: status(Status.DENIED)}, Coverage.NONE, 0), (cron({}) | {CRONTABS.id: ok("{}")}, Coverage.NONE, 0),
    (cron({}, ok("[]")), Coverage.NONE, 0), (cron({}, ok("x")), Coverage.NONE, 0),
    (cron({}) | {SPOOL.id: status(Status.UNREACHED)}, Coverage.PARTIAL, 0),
])  # fmt: skip
def test_files_that_were_not_read(evidence: Evidence, coverage: Coverage, count: int) -> None:
    found = run(JOBS, evidence)
    assert (found.coverage, len(found.rows)) == (coverage, count)


# --- units -----------------------------------------------------------------------------------------

BACKUP = r"""# systemd.service(5)
[Unit]
Description=Backup with a [bracket] = sign

[Service]
User=backup
Environment=A=1 "B=two words" 'C=x' HF_TOKEN=hf_abcdefghijklmnopqrst0
Environment="DB_PASSWORD=hunter2"
ExecStartPre=-/usr/bin/mkdir -p /x
ExecStart=/opt/backup/run --all \
# a comment in between
   --token=hunter3
; another
ExecStop=+backupctl stop
[Install]
WantedBy=multi-user.target
"""
TREE = {
    "/etc/systemd/system/backup.service": BACKUP,
    "/etc/systemd/system/backup.service.d/10-a.conf": "[Service]\nExecStart=\nExecStart=!/opt/new/run\n",
    "/etc/systemd/system/ssh.service.d/x.conf": "[Service]\nExecStartPre=/usr/local/bin/pre\n",
    "/etc/systemd/system/backup.timer": "[Timer]\nOnCalendar=daily\nOnCalendar=\nOnCalendar=*-*-* 02:00:00\nOnBootSec=5min\n",
    "/etc/systemd/system/other.timer": "[Timer]\nOnUnitActiveSec=1h\nUnit=backup.service\n",
    "/etc/systemd/system/dyn.service": "[Service]\nDynamicUser=yes\nExecStart=/usr/local/bin/dyn\n",
    "/usr/lib/systemd/system/cron.service": "[Service]\nExecStart=/usr/sbin/cron\n",
    "/opt/app/app.service": "[Service]\nExecStart=/opt/app/bin/serve\n",
}
LINKS = {
    "/etc/systemd/system/crond.service": "/lib/systemd/system/cron.service", "/etc/systemd/system/off.service": "/dev/null",
    "/etc/systemd/system/alias.service": "backup.service", "/etc/systemd/system/app.service": "/opt/app/app.service",
    "/lib": "usr/lib",
}  # fmt: skip


def test_units_by_the_reader(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, TREE, LINKS)
    found = run(COMMANDS, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert pick(rows_as_dicts(COMMANDS, found), "unit", "setting", "command", "program", "user_name", "secrets", "line") == [
        ("app.service", "ExecStart", "/opt/app/bin/serve", "/opt/app/bin/serve", "root", [], 2),
        ("backup.service", "ExecStartPre", "-/usr/bin/mkdir -p /x", "/usr/bin/mkdir", "backup", [], 9),
        ("backup.service", "ExecStop", "+backupctl stop", "", "backup", [], 14),
        ("backup.service", "ExecStart", "!/opt/new/run", "/opt/new/run", "backup", [], 3),
        ("dyn.service", "ExecStart", "/usr/local/bin/dyn", "/usr/local/bin/dyn", "dyn", [], 3),
        ("ssh.service", "ExecStartPre", "/usr/local/bin/pre", "/usr/local/bin/pre", None, [], 2),
    ]  # fmt: skip
    assert pick(rows_as_dicts(ENVIRONMENT, run(ENVIRONMENT, evidence)), "unit", "name", "secrets", "line") == [
        ("backup.service", "A", [], 7), ("backup.service", "B", [], 7), ("backup.service", "C", [], 7),
        ("backup.service", "HF_TOKEN", ["huggingface"], 7),
        ("backup.service", "DB_PASSWORD", ["value"], 8),
    ]  # fmt: skip
    assert pick(rows_as_dicts(TIMERS, run(TIMERS, evidence)), "unit", "setting", "value", "activates", "line") == [
        ("backup.timer", "OnCalendar", "*-*-* 02:00:00", "backup.service", 4), ("backup.timer", "OnBootSec", "5min", "backup.service", 5),
        ("other.timer", "OnUnitActiveSec", "1h", "backup.service", 2),
    ]  # fmt: skip
    sent = b"".join(item.body for item in evidence.values())
    assert not any(word in sent for word in (b"hunter2", b"hunter3", b"hf_abcdefghij"))


def test_a_secret_in_a_command_is_named(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, {"/etc/systemd/system/backup.service": BACKUP})
    (row,) = (row for row in rows_as_dicts(COMMANDS, run(COMMANDS, evidence)) if row["setting"] == "ExecStart")
    assert (row["secrets"], row["line"]) == (["value"], 10) and "<secret:value:7>" in row["command"] and "--all" in row["command"]


def test_files_that_decide_what_runs(tmp_path: Path) -> None:
    made = TREE | {
        "/etc/crontab": "",
        "/etc/cron.daily/x": "",
        "/etc/cron.allow": "",
        "/var/spool/cron/crontabs/a": "",
        "/usr/local/bin/tool": "",
    }
    evidence = node(tmp_path / "n", [JOB_FILES, LOCAL], made, LINKS | {"/usr/local/sbin/x": "/opt/x"})
    found = run(JOB_FILES, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    rows = {row["path"]: row for row in rows_as_dicts(JOB_FILES, found)}
    kinds = {path: row["kind"] for path, row in rows.items()}
    assert kinds.items() >= {
        "/etc/crontab": "crontab", "/etc/cron.daily": "folder", "/etc/cron.daily/x": "cron-script", "/etc/cron.allow": "cron-access",
        "/var/spool/cron": "folder", "/var/spool/cron/crontabs": "folder",
        "/etc/systemd/system": "folder", "/etc/systemd/system/backup.service": "unit", "/etc/systemd/system/backup.service.d/10-a.conf": "drop-in",
        "/etc/systemd/system/off.service": "unit", "/etc/systemd/system/dyn.service": "unit",
    }.items()  # fmt: skip
    assert (rows["/etc/systemd/system/off.service"]["link"], rows["/etc/systemd/system/off.service"]["type"]) == ("/dev/null", "link")
    assert pick(rows_as_dicts(LOCAL, run(LOCAL, evidence)), "path", "type", "link") == [
        ("/usr/local", "dir", None), ("/usr/local/bin", "dir", None), ("/usr/local/bin/tool", "file", None), ("/usr/local/sbin", "dir", None),
        ("/usr/local/sbin/x", "link", "/opt/x"),
    ]  # fmt: skip


THERE = {path: ABSENT for path in FILES.args["globs"] if "*" not in path}
UNIT = "/etc/systemd/system/a.service"


def units(entry: Any, **more: Any) -> Evidence:
    return {UNITS.id: ok(json.dumps({UNIT: entry})), FILES.id: files(**THERE | more)}


@pytest.mark.parametrize(("evidence", "coverage", "count"), [
    (units({"text": "[Service]\nExecStart=/bin/x\n"}), Coverage.COMPLETE, 1), (units(DENIED), Coverage.PARTIAL, 0), (units("x"), Coverage.PARTIAL, 0),
    (units({"text": "[Service]\nwhat\nExecStart=/bin/x\n"}), Coverage.PARTIAL, 1), (units({"text": "ExecStart=/bin/x\n"}), Coverage.PARTIAL, 0),
    (units(FOLDER), Coverage.PARTIAL, 0), (units({"text": ""}), Coverage.COMPLETE, 0),
    (units(FOLDER, **{UNIT: {"type": "link", "mode": 0o777, "uid": 0, "gid": 0, "link": "/dev/null"}}), Coverage.COMPLETE, 0),
    (units({"text": ""}) | {FILES.id: status(Status.DENIED)}, Coverage.NONE, 0), (units({"text": ""}) | {FILES.id: ok("{}")}, Coverage.NONE, 0),
    (units({"text": ""}) | {UNITS.id: status(Status.TIMEOUT)}, Coverage.NONE, 0), (units({"text": ""}) | {UNITS.id: ok("[]")}, Coverage.NONE, 0),
])  # fmt: skip
def test_units_that_were_not_read(evidence: Evidence, coverage: Coverage, count: int) -> None:
    found = run(COMMANDS, evidence)
    assert (found.coverage, len(found.rows)) == (coverage, count)


def test_variables_that_are_not_understood_are_gaps() -> None:
    found = run(ENVIRONMENT, units({"text": '[Service]\nEnvironment=A=1 =2 "B=3\n'}))
    assert (found.coverage, [row["name"] for row in rows_as_dicts(ENVIRONMENT, found)]) == (Coverage.PARTIAL, ["A", "B"])


WHOLE: Evidence = {
    **cron({"/etc/crontab": CRONTAB}, files(**{"/var/spool/cron/bob": "@daily /bin/x\n"})),
    **units({"text": BACKUP}, **{"/etc/crontab": {"type": "file", "mode": 0o644, "uid": 0, "gid": 0, "link": None}}),
    PROGRAMS.id: files(**{
        path: {"type": "dir", "mode": 0o755, "uid": 0, "gid": 0, "link": None} for path in ("/usr/local", "/usr/local/bin", "/usr/local/sbin")
    }),
}  # fmt: skip


@pytest.mark.parametrize(("table", "source"), [
    (JOBS, CRONTABS), (JOBS, SPOOL), (VARIABLES, CRONTABS), (COMMANDS, UNITS), (COMMANDS, FILES), (ENVIRONMENT, UNITS), (TIMERS, UNITS),
    (JOB_FILES, FILES), (LOCAL, PROGRAMS),
])  # fmt: skip
def test_laws(table: Table, source: Source) -> None:
    never_emptier(table, WHOLE)
    assert list(cut_short(table, WHOLE, source, step=29))


def test_this_machine_is_understood() -> None:
    evidence = this_machine(TABLES)
    for table in TABLES:
        assert run(table, evidence).coverage is Coverage.COMPLETE, run(table, evidence).reason
    files_here = {row["path"]: row for row in rows_as_dicts(JOB_FILES, run(JOB_FILES, evidence))}
    info = Path("/etc/systemd/system").stat()
    assert (files_here["/etc/systemd/system"]["mode"], files_here["/etc/systemd/system"]["uid"]) == (info.st_mode & 0o7777, info.st_uid)


WORDS = st.sampled_from([
    "* ", "*/5 ", "root ", "@daily ", "/bin/x", "A=1", "\n", "#", "\\\n", "[Service]\n", "ExecStart=", "Environment=", '"', "'", "<secret:aws:20>",
    "\0", "é",
])  # fmt: skip


@given(st.lists(WORDS, max_size=30).map("".join), st.sampled_from(Status), st.sampled_from([s for t in TABLES for s in t.sources]))
def test_nothing_raises(text: str, given: Status, source: Source) -> None:
    for table in TABLES:
        run(table, WHOLE | {source.id: Item(given, text.encode())})
        run(table, WHOLE | cron({"/etc/crontab": text, "/etc/anacrontab": text}, files(x=text)))
        run(table, WHOLE | units({"text": text}))
