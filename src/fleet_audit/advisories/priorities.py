# SPDX-License-Identifier: Apache-2.0
"""What to do first: the open vulnerabilities of a run as one ordered list of actions for the fleet, each with its reasons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fleet_audit.advisories.records import SEVERITIES
from fleet_audit.tables import Facts

QUERIES = {
    "vulnerabilities": """SELECT host, package, cve, state, severity, coalesce(fix_from, '') AS service, exploited IS true AS exploited,
        coalesce(probability_permille, 0) AS chance, kernel FROM vulnerabilities""",
    "python_vulnerabilities": """SELECT host, package || ' in ' || environment, cve, state, severity, 'PyPI', exploited IS true,
        coalesce(probability_permille, 0), false FROM python_vulnerabilities""",
    "nvidia_vulnerabilities": """SELECT host, CASE product WHEN 'gpu-driver' THEN 'the GPU driver ' || split_part(version, '.', 1) ELSE product END,
        cve, state, severity, 'NVIDIA', exploited IS true, 0, product = 'gpu-driver' FROM nvidia_vulnerabilities""",
    "nvidia_firmware_vulnerabilities": """SELECT host, CASE product WHEN 'dgx-sbios' THEN 'the firmware of ' || model ELSE model || ' firmware' END,
        cve, state, severity, 'NVIDIA', exploited IS true, 0, false FROM nvidia_firmware_vulnerabilities""",
    "triton_vulnerabilities": """SELECT host, 'the image of Triton', cve, state, severity, 'NVIDIA', exploited IS true, 0, false
        FROM triton_vulnerabilities""",
}
"""Each yields host, what is concerned, CVE, state, severity, service that has the fix, exploited, chance in thousandths, kernel."""
BESIDE = ("packages", "socket_owners", "ml_services", "replaced_files")
"""Tables that say more where they are there: what listens beyond loopback, and what must only be restarted."""
PROGRAMS = {
    "apache2": "apache2", "avahi-daemon": "avahi", "beam.smp": "rabbitmq%", "cupsd": "cups", "dockerd": "docker%", "grafana": "grafana",
    "httpd": "httpd", "java": "%openjdk%", "mariadbd": "mariadb%", "master": "postfix", "mongod": "mongodb%", "mysqld": "mysql%", "named": "bind%",
    "nmbd": "samba", "node": "nodejs", "postgres": "postgresql%", "rpc.mountd": "nfs-utils", "rpc.statd": "nfs-utils", "slurmctld": "slurm%",
    "slurmd": "slurm%", "slurmdbd": "slurm%", "slurmrestd": "slurm%", "smbd": "samba", "sshd": "openssh", "systemd-resolve": "systemd",
}  # fmt: skip
"""Program -> pattern of the source package that it comes from, where the names differ by more than an ending."""
CLOSED = ("livepatched", "not-affected")
LIKELY_PERMILLE = 100
"""Chance of being exploited within 30 days from which a vulnerability is told of as likely."""


@dataclass
class Action:
    """One thing to do, on some hosts, and what it closes."""

    title: str
    kind: str
    """update, reboot, restart, subscribe (to a service, then update), wait (there is no fix), look (its state is not known)."""
    hosts: set[str] = field(default_factory=set)
    cves: dict[str, str] = field(default_factory=dict)
    """CVE -> severity."""
    exploited: set[str] = field(default_factory=set)
    likely: set[str] = field(default_factory=set)
    exposed: set[str] = field(default_factory=set)
    """Hosts on which a service of what is concerned listens beyond loopback."""

    def count(self, severity: str) -> int:
        """How many of its CVEs are of a severity."""
        return sum(word == severity for word in self.cves.values())

    @property
    def reasons(self) -> str:
        """Why it stands where it does."""
        words = []
        if self.exploited:
            words.append(f"{len(self.exploited)} known to be exploited")
        if self.likely - self.exploited:
            words.append(f"{len(self.likely - self.exploited)} likely to be")
        words += [f"{n} {word}" for word in ("critical", "high") if (n := self.count(word))]
        if not words:
            words = ["none of them severe"] if self.cves else ["it still runs what an update has replaced"]
        if self.exposed:
            words.append(f"its service listens on {len(self.exposed)} host{'s' if len(self.exposed) > 1 else ''}")
        return ", ".join(words)


_ORDER = ("update", "reboot", "restart", "subscribe", "wait", "look")


def actions(facts: Facts, host: str | None = None) -> list[Action]:
    """The actions for the open vulnerabilities, of a host or of all.

    What is exploited goes first, then what is likely to be, then by severity, then what listens. At equal reasons what can be
    done at once goes before what must wait, and what helps more hosts before what helps few.
    """
    found: dict[tuple[str, str], Action] = {}
    listening = _listening(facts)
    for name, query in QUERIES.items():
        if name not in facts.tables:
            continue
        where = " WHERE host = ?" if host is not None else ""
        rows = facts.connection.execute(f"SELECT * FROM ({query}){where} ORDER BY ALL", [host] if host is not None else []).fetchall()
        _take(found, rows, listening)
    if "replaced_files" in facts.tables:
        for name, unit in facts.connection.execute("SELECT DISTINCT host, unit FROM replaced_files ORDER BY ALL").fetchall():
            if host in (None, name):
                found.setdefault(("restart", unit), Action(f"restart {unit}", "restart")).hosts.add(name)
    return sorted(found.values(), key=_rank)


def _listening(facts: Facts) -> set[tuple[str, str]]:
    """(host, package) of which a service listens beyond loopback, as far as the names of programs and services tell."""
    run = facts.connection.execute
    found: set[tuple[str, str]] = set()
    if {"packages", "socket_owners"} <= facts.tables.keys():
        patterns = ", ".join(f"('{program}', '{pattern}')" for program, pattern in PROGRAMS.items())
        found.update(run(
            f"""WITH listens AS (SELECT DISTINCT host, coalesce(regexp_extract(program, '([^/]+?)(?: .deleted.)?$', 1), process) AS name
                                 FROM socket_owners WHERE scope <> 'loopback' AND NOT kernel),
                     named AS (SELECT host, name, pattern FROM listens JOIN (VALUES {patterns}) AS known(name, pattern) USING (name)
                               UNION ALL SELECT host, name, name FROM listens
                               UNION ALL SELECT host, name, regexp_replace(name, 'd$', '') FROM listens)
                SELECT DISTINCT p.host, p.source FROM packages AS p JOIN named AS n
                ON n.host = p.host AND (p.source LIKE n.pattern OR p.name = n.pattern OR p.name = n.name || '-server')"""
        ).fetchall())  # fmt: skip
    if "ml_services" in facts.tables and "python_vulnerabilities" in facts.tables:
        found.update(run(
            """SELECT DISTINCT v.host, v.package FROM python_vulnerabilities AS v JOIN ml_services AS s ON s.host = v.host AND s.scope <> 'loopback'
               AND (s.service = v.package OR starts_with(v.package, s.service || '-') OR starts_with(s.service, v.package || '-'))"""
        ).fetchall())  # fmt: skip
    return found


def _take(found: dict[tuple[str, str], Action], rows: Iterable[tuple[Any, ...]], listening: set[tuple[str, str]]) -> None:
    for host, package, cve, state, severity, service, exploited, chance, kernel in rows:
        if state in CLOSED:
            continue
        kind, title = _what(state, package, service, kernel=kernel)
        action = found.setdefault((kind, title), Action(title, kind))
        action.hosts.add(host)
        action.cves[cve] = min(severity, action.cves.get(cve, severity), key=lambda word: (*SEVERITIES, "unknown").index(word))
        if (host, package.partition(" in ")[0]) in listening:
            action.exposed.add(host)
        if exploited:
            action.exploited.add(cve)
        if chance >= LIKELY_PERMILLE:
            action.likely.add(cve)


def _what(state: str | None, package: str, service: str, *, kernel: bool) -> tuple[str, str]:
    """(kind of action, what to do)."""
    match state:
        case "open":
            return "update", f"update {package}" + (" and reboot" if kernel else "")
        case "fixed-not-active":
            return "reboot", "reboot into the kernel or driver that is installed"
        case "needs-pro":
            return "subscribe", f"enable {service} of Ubuntu Pro and update {package}"
        case "no-fix":
            return "wait", f"no fix for {package} yet: limit who reaches it, or remove it"
    return "look", f"find out whether {package} is concerned"


def _rank(action: Action) -> tuple[Any, ...]:
    return (-len(action.exploited), -len(action.likely), -action.count("critical"), -action.count("high"), -len(action.exposed),
            _ORDER.index(action.kind), -len(action.hosts), -len(action.cves), action.title)  # fmt: skip
