# SPDX-License-Identifier: Apache-2.0
"""Maps of a fleet: each host counts once, and what is not known is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet_audit import landscape
from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract
from fleet_audit.model import CheckId, Coverage, HostName, Outcome, Result
from fleet_audit.tables import Facts

from .factory import library, rows

GROUPS = {HostName(n): ("all", "train") for n in ("a", "b", "c", "d")} | {HostName("z"): ("all",), HostName("lone"): ()}


def load(
    folder: Path, hosts: Mapping[str, Mapping[str, Extract]], results: tuple[Result, ...] = (), silent: tuple[str, ...] = ()
) -> landscape.Landscape:
    used = {table for found in hosts.values() for table in found}
    facts = Facts({name: table for name, table in tables().items() if name in used})
    for name in GROUPS:
        facts.add_host(name, GROUPS[name])
        for table, extract in hosts.get(name, {}).items():
            facts.add(name, table, f"{name}-{table}", extract)
    facts.finish()
    facts.save(folder)
    return landscape.load(folder, GROUPS, frozenset(HostName(n) for n in silent), results)


def kernel(release: str) -> dict[str, Extract]:
    return {"kernel_running": rows("kernel_running", {"release": release})}


def test_each_host_counts_once_in_its_smallest_group(tmp_path: Path) -> None:
    found = load(
        tmp_path, {"a": kernel("6.8"), "b": kernel("6.8"), "c": kernel("5.15"), "z": kernel("6.8"), "lone": kernel("6.1")}, silent=("d",)
    )
    assert [(x.group, [(v.value, v.hosts) for v in x.levels], x.not_known, x.no_answer) for x in found.levels] == [
        ("all", [("6.8", 1)], 0, 0), ("no group", [("6.1", 1)], 0, 0), ("train", [("6.8", 2), ("5.15", 1)], 0, 1),
    ]  # fmt: skip


def test_a_host_that_was_not_read_is_not_known_and_one_without_the_thing_is_nowhere(tmp_path: Path) -> None:
    none = rows("nvidia_driver", coverage=Coverage.NONE)
    driver = rows("nvidia_driver", {"loaded_version": "580.95.05", "loaded_key": "x"})
    found = load(tmp_path, {"a": {"nvidia_driver": driver}, "b": {"nvidia_driver": none}, "c": {"nvidia_driver": rows("nvidia_driver")}})
    train = next(x for x in found.levels if x.group == "train")
    assert ([v.value for v in train.levels], train.not_known) == (["580.95.05"], 2), "b was not read, d has no record at all"


def test_hosts_that_fail_a_check_of_levels_are_counted(tmp_path: Path) -> None:
    failed = Result(CheckId("kernel-newest-installed-runs"), HostName("a"), Outcome.FAIL, "old", 1, 1, 0)
    found = load(tmp_path, {"a": kernel("6.8"), "b": kernel("6.8")}, (failed,))
    (level,) = next(x for x in found.levels if x.group == "train").levels
    assert (level.hosts, level.failing) == (2, 1)


def test_two_values_on_one_host_are_one_level(tmp_path: Path) -> None:
    gpus = rows("gpus", {"uuid": "1", "name": "H100", "vbios": "96.00"}, {"uuid": "2", "name": "H100", "vbios": "96.01"})
    found = load(tmp_path, {"a": {"gpus": gpus}})
    assert [v.value for x in found.levels if x.group == "train" for v in x.levels] == ["H100 96.00 + H100 96.01"]


def test_ports_beyond_the_loopback_with_what_is_known_of_their_login(tmp_path: Path) -> None:
    sockets = rows(
        "sockets",
        {"proto": "tcp", "port": 8888, "scope": "all", "address": "::"},
        {"proto": "tcp", "port": 631, "scope": "loopback", "address": "::1"},
    )
    service = {"service": "jupyter", "name": "Jupyter Server", "proto": "tcp", "port": 8888, "scope": "all", "address": "::"}
    a = {"sockets": sockets, "ml_services": rows("ml_services", {**service, "auth": False})}
    b = {"sockets": sockets, "ml_services": rows("ml_services", service)}
    found = load(tmp_path, {"a": a, "b": b, "c": {"sockets": rows("sockets", coverage=Coverage.PARTIAL)}}, silent=("d",))
    (port,) = found.ports
    assert (port.port, port.names, dict(port.groups), port.open_login, port.login_unknown) == (
        "8888/tcp",
        ("Jupyter Server",),
        {"train": 2},
        1,
        1,
    )
    assert found.ports_unread == {"train": 1, "all": 1, "no group": 1}


def test_confidential_computing_claims_nothing_that_is_not_shown(tmp_path: Path) -> None:
    on = rows("gpu_confidential", {"cc_enabled": True, "devtools": False, "gpu_capable": True})
    open_ = rows("gpu_confidential", {"cc_enabled": True, "gpu_capable": True})
    dark = rows("gpu_confidential", {})
    cpu = rows("confidential", {"technology": "tdx", "side": "guest"})
    found = load(
        tmp_path, {"a": {"gpu_confidential": on, "confidential": cpu}, "b": {"gpu_confidential": open_}, "c": {"gpu_confidential": dark}}
    )
    assert {(r.technology, r.rung, r.hosts) for r in found.rungs if r.technology != "CPU"} == {
        ("gpu", "active", ("a",)), ("gpu", "enabled", ("b",)), ("gpu", "not known", ("c",)), ("tdx", "not known", ("a",)),
    }  # fmt: skip
    (rest,) = (r for r in found.rungs if r.technology == "CPU")
    assert rest.rung == "not known" and "a" not in rest.hosts and "b" in rest.hosts


def test_vulnerabilities_that_could_not_be_told_are_named(tmp_path: Path) -> None:
    found = load(tmp_path, {"a": {"vulnerabilities": rows("vulnerabilities", coverage=Coverage.NONE)}})
    assert [(name, n) for name, n, _ in found.gaps if name == "vulnerabilities"] == [("vulnerabilities", 6)] and not found.vulnerabilities


def test_the_checks_of_levels_are_there() -> None:
    assert {check for kind in landscape.KINDS for check in kind.checks} <= set(library().checks)
