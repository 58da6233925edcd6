# SPDX-License-Identifier: Apache-2.0
"""Processes, as the reader tells them (probe/node/processes.py)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.processes import PROCESSES, REPLACED, TABLES, container_of, unit_of
from fleet_audit.model import Coverage, SourceId, Status
from tests.probe.nodes import carried

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

TABLE, REPLACED_FILES = TABLES
Evidence = dict[SourceId, Item]
ID = "3f" * 32


def process(pid: int = 1, **change: Any) -> dict[str, Any]:
    """A process as the reader tells it (recorded on Debian 12, Linux 6.1: sshd; the group is synthetic)."""
    row = {
        "pid": pid, "ppid": 0, "uid": 0, "euid": 0, "comm": "sshd", "exe": "/usr/sbin/sshd", "argv": ["sshd:", "/usr/sbin/sshd", "-D"],
        "cut": False, "caps": "000001ffffffffff", "no_new_privs": "0", "seccomp": "0", "contained": False,
        "cgroup": "/system.slice/ssh.service", "label": "unconfined", "env": {},
    }  # fmt: skip
    return row | change


def listing(*processes: Any, gap: str = "") -> Evidence:
    return {PROCESSES.id: ok(json.dumps({"processes": list(processes), "kernel_threads": 90, "gap": gap}))}


def rows(*processes: Any) -> list[dict[str, Any]]:
    extracted = run(TABLE, listing(*processes))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    return rows_as_dicts(TABLE, extracted)


def test_a_process() -> None:
    evidence = listing(process(), process(7, no_new_privs="1", seccomp="2", contained=True, cgroup=f"/docker/{ID}", label=""))
    assert rows(process()) == [{
        "pid": 1, "parent": 0, "name": "sshd", "program": "/usr/sbin/sshd", "command": "sshd: /usr/sbin/sshd -D", "uid": 0, "effective_uid": 0,
        "capabilities": "000001ffffffffff", "no_new_privileges": False, "seccomp": 0, "contained": False, "container": None,
        "unit": "ssh.service", "label": "unconfined",
    }]  # fmt: skip
    second = rows_as_dicts(TABLE, run(TABLE, evidence))[1]
    assert {name: second[name] for name in ("no_new_privileges", "seccomp", "contained", "container", "unit", "label")} == {
        "no_new_privileges": True, "seccomp": 2, "contained": True, "container": ID, "unit": None, "label": None,
    }  # fmt: skip
    never_emptier(TABLE, evidence)
    assert list(cut_short(TABLE, evidence, PROCESSES, step=40))


def test_what_may_not_be_seen_is_null() -> None:
    (row,) = rows(process(exe=None, comm=None, cgroup=None, label=None, caps="", no_new_privs=None, seccomp=None, argv=[""]))
    assert [name for name, value in row.items() if value is None] == [
        "name", "program", "capabilities", "no_new_privileges", "seccomp", "container", "unit", "label",
    ]  # fmt: skip
    assert row["command"] == ""


@pytest.mark.parametrize(("cgroup", "container", "unit"), [
    (None, None, None), ("/", None, None), ("/system.slice/ssh.service", None, "ssh.service"), ("/init.scope", None, "init.scope"),
    (f"/system.slice/docker-{ID}.scope", ID, f"docker-{ID}.scope"), (f"/docker/{ID}", ID, None), ("/user.slice", None, "user.slice"),
    (f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope", ID, f"cri-containerd-{ID}.scope"),
    (f"/kubepods/burstable/pod1/{ID}", ID, None), (f"/machine.slice/libpod-{ID}.scope/container", ID, f"libpod-{ID}.scope"),
    ("/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.service", None, "app-x.service"),
    (f"/x/{ID}aa", None, None), (f"/docker/{'1' * 64}/docker/{ID}", ID, None),
    ("/system.slice/slurmstepd.scope/job_7/step_0/user/task_0", None, "slurmstepd.scope"),
])  # fmt: skip
def test_control_groups(cgroup: str | None, container: str | None, unit: str | None) -> None:
    assert (container_of(cgroup), unit_of(cgroup)) == (container, unit)


@pytest.mark.parametrize(
    "reason", ["/proc hides the processes of others (hidepid)", "3 processes not readable", "process 1 is not to be seen"]
)
def test_processes_that_were_not_all_seen_are_partial(reason: str) -> None:
    extracted = run(TABLE, listing(process(), gap=reason))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1) and reason in extracted.reason


def test_a_listing_that_does_not_say_whether_it_is_whole_is_partial() -> None:
    assert run(TABLE, {PROCESSES.id: ok(json.dumps({"processes": [process()]}))}).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("change", [
    {"argv": None}, {"argv": [3]}, {"seccomp": "x"}, {"cgroup": 3}, {"pid": "1"}, {"uid": None}, {"contained": "no"}, {"no_new_privs": [1]},
])  # fmt: skip
def test_a_process_that_is_not_understood_is_a_gap(change: dict[str, Any]) -> None:
    extracted = run(TABLE, listing(process(), process() | change))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)
    gone = process(2)
    del gone[next(iter(change))]
    assert run(TABLE, listing(process(), gone)).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "not recorded"), status(Status.DENIED), status(Status.SKIPPED), ok(""), ok("[]"), ok("{}"), ok("x"),
    ok('{"processes": [], "gap": ""}'), ok('{"processes": [3], "gap": ""}'), ok('{"processes": {}, "gap": ""}'),
])  # fmt: skip
def test_what_is_not_understood_is_none(item: Item) -> None:
    assert run(TABLE, {PROCESSES.id: item}).coverage is Coverage.NONE


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    assert run(TABLE, {PROCESSES.id: ok(body)}).coverage is Coverage.NONE


@given(st.dictionaries(st.sampled_from(list(process())), st.none() | st.integers() | st.text(max_size=9) | st.lists(st.text(max_size=3))))
def test_no_value_raises(change: dict[str, Any]) -> None:
    assert len(run(TABLE, listing(process() | change)).rows) <= 1


def test_lists_of_variables_hold_each_once() -> None:
    names = [*PROCESSES.args["env"], *PROCESSES.args["env_secret"]]
    assert len(names) == len(set(names)) and all(name.upper() == name for name in names)


@pytest.mark.slow
def test_secrets_of_a_real_process_are_not_in_the_table() -> None:
    """A process of the test's own with secrets in words and variables, by the program that goes to nodes."""
    word = "S3cretWordOfTheTest42"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)", "--api-key", word, f"--token={word}", f"https://ada:{word}@h/x"],
        env=dict.fromkeys(PROCESSES.args["env_secret"], word) | {"PIP_INDEX_URL": f"https://ada:{word}@h/"},
    )
    try:
        frame = carried([PROCESSES]).frames[PROCESSES.id]
    finally:
        child.kill()
        child.wait()
    assert word.encode() not in frame.body
    row = next(row for row in json.loads(frame.body)["processes"] if row["pid"] == child.pid)
    assert set(row["env"]) == {*PROCESSES.args["env_secret"], "PIP_INDEX_URL"}
    table = {row["pid"]: row for row in rows_as_dicts(TABLE, run(TABLE, {PROCESSES.id: Item(Status(frame.status), frame.body)}))}
    assert table[child.pid]["command"].endswith("--api-key <secret:value:21> --token=<secret:value:21> https://ada:<secret:value:21>@h/x")
    assert (table[child.pid]["parent"], table[child.pid]["uid"]) == (os.getpid(), os.getuid())


def test_files_that_services_still_run_though_they_were_replaced() -> None:
    """In the reader's form; no service, no row; a gap leaves what was seen."""
    row = {"unit": "ssh.service", "path": "/usr/lib/x86_64-linux-gnu/libcrypto.so.3", "processes": 2}
    evidence = {REPLACED.id: ok(json.dumps({"replaced": [row], "gap": ""}))}
    assert rows_as_dicts(REPLACED_FILES, run(REPLACED_FILES, evidence)) == [row]
    never_emptier(REPLACED_FILES, evidence)
    assert all(part.coverage is Coverage.NONE for part in cut_short(REPLACED_FILES, evidence, REPLACED, step=7))
    assert run(REPLACED_FILES, {REPLACED.id: ok('{"replaced": [], "gap": ""}')}).coverage is Coverage.COMPLETE
    part = run(REPLACED_FILES, {REPLACED.id: ok(json.dumps({"replaced": [row, 3, {}], "gap": "5 processes not readable"}))})
    assert part.coverage is Coverage.PARTIAL and len(part.rows) == 1


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"replaced": 3, "gap": ""}', b'{"replaced": []}', b"\xff"])
def test_what_is_no_list_of_replaced_files_is_none(body: bytes) -> None:
    assert run(REPLACED_FILES, {REPLACED.id: ok(body)}).coverage is Coverage.NONE
