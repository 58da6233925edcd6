# SPDX-License-Identifier: Apache-2.0
"""What to do first (synthetic rows): what is exploited, then what is likely to be, then severity; each number leads to its hosts."""

from __future__ import annotations

from typing import Any

from fleet_audit.advisories import priorities
from fleet_audit.facts import tables
from fleet_audit.model import HostName
from fleet_audit.tables import Facts
from tests.factory import rows


def facts(**hosts: dict[str, list[dict[str, Any]]]) -> Facts:
    names = (*priorities.QUERIES, *priorities.BESIDE)
    found = Facts({name: tables()[name] for name in names})
    for host, given in hosts.items():
        found.add_host(HostName(host), ("g",))
        for name in names:
            found.add(HostName(host), name, f"{host}-{name}", rows(name, *given.get(name, [])))
    found.finish()
    return found


def of(package: str, cve: str, state: str | None = "open", severity: str = "medium", **more: Any) -> dict[str, Any]:
    return {"package": package, "cve": cve, "state": state, "severity": severity, **more}


def test_what_is_exploited_goes_first_then_what_is_likely_then_severity() -> None:
    found = priorities.actions(facts(
        a={"vulnerabilities": [of("curl", "CVE-1", severity="critical"), of("sudo", "CVE-2", exploited=True), of("nano", "CVE-3"),
                               of("vim", "CVE-4", probability_permille=900), of("linux", "CVE-5", "fixed-not-active", "high", kernel=True)]},
        b={"vulnerabilities": [of("sudo", "CVE-2", exploited=True), of("mc", "CVE-6", "needs-pro", "high", fix_from="esm-apps")]},
    ))  # fmt: skip
    assert [(a.title, len(a.hosts)) for a in found] == [
        ("update sudo", 2), ("update vim", 1), ("update curl", 1), ("reboot into the kernel or driver that is installed", 1),
        ("enable esm-apps of Ubuntu Pro and update mc", 1), ("update nano", 1),
    ]  # fmt: skip
    assert [a.reasons for a in found] == [
        "1 known to be exploited",
        "1 likely to be",
        "1 critical",
        "1 high",
        "1 high",
        "none of them severe",
    ]


def test_what_is_closed_asks_for_nothing() -> None:
    closed = [of("linux", "CVE-1", "livepatched", "critical", kernel=True), of("zip", "CVE-2", "not-affected", "critical")]
    assert priorities.actions(facts(a={"vulnerabilities": closed})) == []


def test_one_host_alone_and_the_worst_severity_of_a_cve() -> None:
    both = facts(
        a={"vulnerabilities": [of("curl", "CVE-1", severity="low")]}, b={"vulnerabilities": [of("curl", "CVE-1", severity="high")]}
    )
    assert [(a.hosts, a.cves) for a in priorities.actions(both)] == [({"a", "b"}, {"CVE-1": "high"})]
    assert [a.cves for a in priorities.actions(both, "a")] == [{"CVE-1": "low"}]


def test_python_nvidia_and_what_is_not_known() -> None:
    found = priorities.actions(facts(a={
        "python_vulnerabilities": [{"package": "mlflow", "environment": "/opt/v", "cve": "CVE-1", "state": "open", "severity": "high"}],
        "nvidia_vulnerabilities": [{"product": "gpu-driver", "version": "535.1", "cve": "CVE-2", "state": "open", "severity": "high"},
                                   {"product": "gpu-driver", "version": "535.1", "cve": "CVE-3", "state": "no-fix", "severity": "high"}],
        "vulnerabilities": [of("x", "CVE-4", None)],
    }))  # fmt: skip
    assert [a.title for a in found] == [
        "update mlflow in /opt/v", "update the GPU driver 535 and reboot", "no fix for the GPU driver 535 yet: limit who reaches it, or remove it",
        "find out whether x is concerned",
    ]  # fmt: skip


def listens(program: str | None, scope: str = "any", **more: Any) -> dict[str, Any]:
    return {"proto": "tcp", "address": "0.0.0.0", "port": 22, "scope": scope, "kernel": False, "process": "x", "program": program, **more}


def test_what_listens_beyond_loopback_goes_before_what_does_not_and_after_what_is_severe() -> None:
    installed = [{"name": n, "source": s} for n, s in (("openssh-server", "openssh"), ("redis-server", "redis"), ("chrony", "chrony"),
                                                       ("curl", "curl"), ("postgresql-15", "postgresql-15"))]  # fmt: skip
    open_ = [of(p, f"CVE-{n}") for n, p in enumerate(("curl", "openssh", "redis", "chrony", "postgresql-15"))]
    found = priorities.actions(facts(a={
        "vulnerabilities": [*open_, of("zip", "CVE-9", severity="high")], "packages": installed,
        "socket_owners": [listens("/usr/sbin/sshd"), listens("/usr/bin/redis-server (deleted)"), listens("/usr/sbin/chronyd", "loopback"),
                          listens(None, process="postgres")],
    }))  # fmt: skip
    assert [(a.title, bool(a.exposed)) for a in found] == [
        ("update zip", False), ("update openssh", True), ("update postgresql-15", True), ("update redis", True), ("update chrony", False),
        ("update curl", False),
    ]  # fmt: skip
    assert found[1].reasons == "none of them severe, its service listens on 1 host"


def test_a_package_of_a_service_that_listens() -> None:
    def service(name: str, scope: str) -> dict[str, Any]:
        return {"service": name, "name": name, "category": "mlops", "found_by": "process", "scope": scope}

    holes = [
        {"package": p, "environment": "/opt/v", "cve": "CVE-1", "state": "open", "severity": "high"}
        for p in ("mlflow", "jupyter-server", "ray")
    ]
    found = priorities.actions(
        facts(a={"python_vulnerabilities": holes, "ml_services": [service("jupyter", "any"), service("ray-dashboard", "loopback")]})
    )
    assert [(a.title, sorted(a.exposed)) for a in found] == [
        ("update jupyter-server in /opt/v", ["a"]), ("update mlflow in /opt/v", []), ("update ray in /opt/v", []),
    ]  # fmt: skip


def test_a_service_that_runs_what_was_replaced_is_to_be_restarted() -> None:
    old = [{"unit": "ssh.service", "path": p, "processes": 1} for p in ("/usr/sbin/sshd", "/usr/lib/libcrypto.so.3")]
    found = priorities.actions(facts(a={"replaced_files": old}, b={"replaced_files": old[:1]}))
    assert [(a.title, a.kind, sorted(a.hosts), a.reasons) for a in found] == [
        ("restart ssh.service", "restart", ["a", "b"], "it still runs what an update has replaced"),
    ]  # fmt: skip
    assert [a.hosts for a in priorities.actions(facts(a={"replaced_files": old}, b={}), "b")] == []
