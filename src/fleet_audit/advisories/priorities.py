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
}
"""Each yields host, what is concerned, CVE, state, severity, service that has the fix, exploited, chance in thousandths, kernel."""
CLOSED = ("livepatched", "not-affected")
LIKELY_PERMILLE = 100
"""Chance of being exploited within 30 days from which a vulnerability is told of as likely."""


@dataclass
class Action:
    """One thing to do, on some hosts, and what it closes."""

    title: str
    kind: str
    """update, reboot, subscribe (to a service, then update), wait (there is no fix), look (its state is not known)."""
    hosts: set[str] = field(default_factory=set)
    cves: dict[str, str] = field(default_factory=dict)
    """CVE -> severity."""
    exploited: set[str] = field(default_factory=set)
    likely: set[str] = field(default_factory=set)

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
        return ", ".join(words) or "none of them severe"


_ORDER = ("update", "reboot", "subscribe", "wait", "look")


def actions(facts: Facts, host: str | None = None) -> list[Action]:
    """The actions for the open vulnerabilities, of a host or of all: what is exploited first, then what is likely to be, then by severity.

    At equal reasons what can be done at once goes before what must wait, and what helps more hosts before what helps few.
    """
    found: dict[tuple[str, str], Action] = {}
    for name, query in QUERIES.items():
        if name not in facts.tables:
            continue
        where = " WHERE host = ?" if host is not None else ""
        rows = facts.connection.execute(f"SELECT * FROM ({query}){where} ORDER BY ALL", [host] if host is not None else []).fetchall()
        _take(found, rows)
    return sorted(found.values(), key=_rank)


def _take(found: dict[tuple[str, str], Action], rows: Iterable[tuple[Any, ...]]) -> None:
    for host, package, cve, state, severity, service, exploited, chance, kernel in rows:
        if state in CLOSED:
            continue
        kind, title = _what(state, package, service, kernel=kernel)
        action = found.setdefault((kind, title), Action(title, kind))
        action.hosts.add(host)
        action.cves[cve] = min(severity, action.cves.get(cve, severity), key=lambda word: (*SEVERITIES, "unknown").index(word))
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
    return (-len(action.exploited), -len(action.likely), -action.count("critical"), -action.count("high"), _ORDER.index(action.kind),
            -len(action.hosts), -len(action.cves), action.title)  # fmt: skip
