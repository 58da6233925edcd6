# SPDX-License-Identifier: Apache-2.0
"""Sockets of other network namespaces, and the containers that hold them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.namespaces import NAMESPACES, TABLES
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.base import Unread
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.processes import read_processes, read_sockets

from .helpers import ok, rows_as_dicts, run, shared, status
from .laws import cut_short, never_emptier

(SOCKETS,) = TABLES
Evidence = dict[SourceId, Item]
ID = "3f" * 32
DOCKER = f"/system.slice/docker-{ID}.scope"
KUBE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-{ID}.scope"


def socket(local: str = "00000000:1F90", kind: str = "tcp", owners: Any = ((41, "python3"),), **more: Any) -> dict[str, Any]:
    held = [{"pid": pid, "comm": name, "exe": f"/usr/bin/{name}"} for pid, name in owners]
    return {"kind": kind, "local": local, "uid": "1000", "namespace": "4026532300", "pid": 40, "owners": held} | more


def process(pid: int, cgroup: str | None) -> dict[str, Any]:
    return {"pid": pid, "cgroup": cgroup}


def host(*sockets: Any, processes: Any = None, **more: Any) -> Evidence:
    document = {"sockets": list(sockets), "unread": {}, "owners_gap": "", "namespaces": ["4026532300"], "namespaces_gap": ""} | more
    listing = {
        "processes": [process(40, DOCKER), process(41, DOCKER)] if processes is None else list(processes),
        "kernel_threads": 1,
        "gap": "",
    }
    return {NAMESPACES.id: ok(json.dumps(document)), PROCESSES.id: ok(json.dumps(listing))}


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    return rows_as_dicts(SOCKETS, run(SOCKETS, evidence))


def test_a_service_in_a_container() -> None:
    evidence = host(
        socket(), socket("0100007F:0016", owners=[(41, "python3"), (42, "python3")]), socket("00000000:0035", "udp6", owners=[])
    )
    assert run(SOCKETS, evidence).coverage is Coverage.COMPLETE
    found = rows(evidence)
    assert found[0] == {
        "proto": "tcp", "address": "0.0.0.0", "port": 8080, "scope": "all", "uid": 1000, "namespace": "4026532300", "process": "python3",
        "program": "/usr/bin/python3", "container": ID, "unit": f"docker-{ID}.scope",
    }  # fmt: skip
    # 42 is no longer there: its container is not told, and the same process once more is one row
    assert [(row["port"], row["process"], row["container"]) for row in found[1:]] == [
        (22, "python3", ID), (22, "python3", None), (53, None, ID),
    ]  # fmt: skip
    never_emptier(SOCKETS, evidence)
    assert list(cut_short(SOCKETS, evidence, NAMESPACES, step=90))


@pytest.mark.parametrize(
    ("cgroup", "container", "unit"),
    [
        (KUBE, ID, f"cri-containerd-{ID}.scope"), ("/system.slice/named.service", None, "named.service"), (None, None, None), ("/", None, None),
        (f"/docker/{ID}", ID, None), (f"/machine.slice/libpod-{ID}.scope/container", ID, f"libpod-{ID}.scope"),
    ],
)  # fmt: skip
def test_control_groups(cgroup: str | None, container: str | None, unit: str | None) -> None:
    (row,) = rows(host(socket(), processes=[process(41, cgroup)]))
    assert (row["container"], row["unit"]) == (container, unit)


def test_no_other_namespace_is_complete_without_rows() -> None:
    evidence = host(namespaces=[])
    assert (run(SOCKETS, evidence).coverage, rows(evidence)) == (Coverage.COMPLETE, [])
    never_emptier(SOCKETS, evidence)


@pytest.mark.parametrize("change", [
    {"namespaces_gap": "network namespaces of 3 processes not readable"}, {"owners_gap": "a socket of user 0 has no owner that can be seen"},
    {"namespaces": [str(n) for n in range(1001)]},
])  # fmt: skip
def test_what_was_not_readable_makes_it_partial(change: dict[str, Any]) -> None:
    extracted = run(SOCKETS, host(socket(), **change))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)


@pytest.mark.parametrize("item", [status(Status.DENIED), status(Status.ABSENT, "not recorded"), ok("{}"), ok("x")])
def test_without_the_processes_containers_are_not_told(item: Item) -> None:
    evidence = host(socket()) | {PROCESSES.id: item}
    assert run(SOCKETS, evidence).coverage is Coverage.PARTIAL
    assert rows(evidence)[0]["container"] is None and rows(evidence)[0]["process"] == "python3"


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "not recorded"), status(Status.DENIED), ok(""), ok("[]"), ok("{}"), host(socket("zz:1"))[NAMESPACES.id],
    host(socket(uid="x"))[NAMESPACES.id], host(socket(owners=[(1, "a")]) | {"owners": [3]})[NAMESPACES.id], host("x")[NAMESPACES.id],
    host(sockets=3)[NAMESPACES.id], host(namespaces=3)[NAMESPACES.id], host(sockets=None)[NAMESPACES.id],
])  # fmt: skip
def test_what_is_not_understood_is_none(item: Item) -> None:
    assert run(SOCKETS, host(socket()) | {NAMESPACES.id: item}).coverage is Coverage.NONE


def test_the_listeners_of_a_real_table_in_a_namespace() -> None:
    """Real capture of /proc/net/tcp: listeners 127.0.0.53:53, 127.0.0.1:35303, 127.0.0.1:631, 0.0.0.0:22."""
    lines = [line.split() for line in shared("captures/proc-net-tcp.txt").read_text().splitlines()[1:]]
    found = rows(host(*(socket(words[1], uid=words[7]) for words in lines if words[3] == "0A")))
    assert sorted((row["address"], row["port"], row["uid"]) for row in found) == [
        ("0.0.0.0", 22, 0), ("127.0.0.1", 631, 0), ("127.0.0.1", 35303, 1000), ("127.0.0.53", 53, 101),
    ]  # fmt: skip


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="needs root and unshare")
def test_a_real_namespace() -> None:
    code = "import socket; s = socket.create_server(('0.0.0.0', 8265)); print(flush=True); input()"
    with subprocess.Popen(["unshare", "-n", "python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdin
        child.stdout.readline()
        try:
            space = os.readlink(f"/proc/{child.pid}/ns/net")[5:-1]
            files = Files()
            evidence = {
                NAMESPACES.id: ok(read_sockets(files, dict(NAMESPACES.args))),
                PROCESSES.id: ok(read_processes(files, {"env": [], "env_secret": []})),
            }
        except Unread as unread:
            pytest.fail(str(unread))
        finally:
            child.stdin.close()
    (row,) = [row for row in rows(evidence) if row["namespace"] == space]
    assert (row["proto"], row["address"], row["port"], row["uid"]) == ("tcp", "0.0.0.0", 8265, 0)
    assert row["process"] and row["process"].startswith("python3") and row["container"] is None


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=3))


@given(
    st.lists(st.dictionaries(st.sampled_from(["kind", "local", "uid", "namespace", "pid", "owners", "comm"]), JSON), max_size=3) | JSON,
    JSON,
)
def test_nothing_raises(sockets: Any, owners: Any) -> None:
    for evidence in (host(sockets=sockets), host(socket(owners=()) | {"owners": owners}), host(socket(), processes=[owners])):
        assert run(SOCKETS, evidence).reason[:14] != "not understood"


@given(st.binary(max_size=200))
def test_garbage_yields_no_rows(body: bytes) -> None:
    assert run(SOCKETS, host() | {NAMESPACES.id: ok(body)}).rows == ()
