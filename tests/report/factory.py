# SPDX-License-Identifier: Apache-2.0
"""Small synthetic reports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet_audit.evaluate import fingerprint
from fleet_audit.findings import CheckView, HostView, Report
from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result, Severity
from fleet_audit.runs import HostEntry


def check(name: str = "a-check", severity: Severity = Severity.HIGH, **fields: Any) -> CheckView:
    """A synthetic check."""
    values: dict[str, Any] = {
        "title": "A state holds", "area": "area", "surface": ("tools",), "rationale": "Because.", "unknown": None, "fix": "Do it. Then rest.",
        "impact": None,
        "controls": {"nist-800-53": ["AC-6"]}, "references": ("https://example.org (read 2026-11-24)",), "params": {"x": 1},
        "query": "SELECT host FROM os", "applies": None, "tables": ("os",), "sources": ("os-release",), "role": None, "disruption": None,
    }  # fmt: skip
    return CheckView(id=CheckId(name), severity=severity, **{**values, **fields})


def host(name: str, *, answered: bool = True, expected: bool = True, reach: str | None = None) -> HostView:
    """A synthetic host; one called `silent` did not answer."""
    entry = HostEntry(
        groups=["train"], expected=expected, reach=reach or ("ok" if answered else "timeout"), detail="" if answered else "no answer in time",
        answered=answered, privileged=True if answered else None, transport="paramiko", seconds=1.0,
        costs={"cpu_self": 0.1, "cpu_children": 0.05, "wire_received": 4000.0} if answered else {}, notes=[],
    )  # fmt: skip
    return HostView(
        HostName(name), entry, "Debian 12" if answered else None, "6.1.0" if answered else None, {"ok": 3} if answered else {"unreached": 3}
    )


def report(given: Mapping[str, Outcome], severity: Severity = Severity.HIGH, *, expected: bool = True) -> Report:
    """One check on hosts with these outcomes."""
    results = tuple(
        Result(
            CheckId("a-check"),
            HostName(n),
            o,
            "" if o is Outcome.PASS else f"reason of {n}",
            1,
            int(o is Outcome.FAIL),
            int(o is Outcome.UNKNOWN),
        )
        for n, o in sorted(given.items())
    )
    findings = tuple(
        Finding(r.check, r.host, "subject", r.outcome, r.reason, fingerprint(r.check, r.host, "subject"))
        for r in results if r.outcome in (Outcome.FAIL, Outcome.UNKNOWN, Outcome.ERROR)
    )  # fmt: skip
    when = datetime(2026, 11, 24, 6)
    hosts = tuple(host(n, answered=not n.startswith("silent"), expected=expected) for n in sorted(given))
    return Report("20261124T060000Z-abcd", "0.1.0", when, when, "d" * 64, {"profile": "baseline"}, "20261124T060000Z-abcd",
                  hosts, (check(severity=severity),), results, findings)  # fmt: skip
