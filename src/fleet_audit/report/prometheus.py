# SPDX-License-Identifier: Apache-2.0
"""Metrics for the textfile collector of Prometheus' node exporter: counts alone, none for a subject, so that their number is bounded."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from fleet_audit.findings import Posture, Report
from fleet_audit.model import Result, Severity
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean

Sample = tuple[Mapping[str, str], float]


def render(report: Report) -> bytes:
    """The exposition format, version 0.0.4. A host without an answer counts under `no_answer`, never under another outcome."""
    severity = {c.id: str(c.severity) for c in report.checks}
    posture = report.posture()
    of_severity: dict[str, list[Result]] = defaultdict(list)
    of_host: dict[str, list[Result]] = defaultdict(list)
    for result in report.results:
        of_severity[severity[result.check]].append(result)
        of_host[result.host].append(result)
    groups, failures = report.breakdown()["groups"], report.open_failures()
    reach = Counter(h.entry.reach for h in report.hosts)
    bounds = [
        ({"bound": name}, value / 100)
        for name, value in (("at_least", posture.at_least), ("at_most", posture.at_most))
        if value is not None
    ]
    parts = [
        _metric("run_timestamp_seconds", "When the run began.", [({}, _seconds(report.started_at))]),
        _metric("as_of_timestamp_seconds", "The time at which ages are measured.", [({}, _seconds(report.as_of))]),
        _metric("hosts", "Hosts by what became of them.", [({"reach": word}, n) for word, n in sorted(reach.items())]),
        _metric("hosts_silent", "Hosts of which nothing came back.", [({}, len(report.silent))]),
        _metric("posture_ratio", "Share of the expected results that is shown to pass, and that is not shown to fail.", bounds),
        _metric("results", "Results by severity and outcome.", [
            ({"severity": name, **labels}, n) for name, results in sorted(of_severity.items()) for labels, n in _outcomes(report.posture(results))
        ]),
        _metric("open_failures", "Failures that no waiver accepts, by severity.", [({"severity": str(s)}, n) for s, n in failures.items()]),
        _metric("waived_failures", "Failures that waivers accept, by severity; results count them as fail.", [
            ({"severity": str(s)}, report.posture(of_severity[s]).waived) for s in Severity
        ]),
        _metric("group_results", "Results by group of hosts and outcome.", [
            ({"group": name, **labels}, n) for name, value in groups for labels, n in _outcomes(value)
        ]),
        _metric("host_results", "Results by host and outcome.", [
            ({"host": host.name, **labels}, n) for host in report.hosts for labels, n in _outcomes(report.posture(of_host[host.name]))
        ]),
        _metric("waivers", "Waivers of the policy by state.", [
            ({"state": state}, n) for state, n in (
                ("accepting", sum(not w.expired and not w.idle for w in report.waivers)), ("idle", sum(bool(w.idle) for w in report.waivers)),
                ("expired", sum(w.expired for w in report.waivers)), ("expires_soon", sum(w.soon for w in report.waivers)),
            )
        ]),
    ]  # fmt: skip
    return "".join(line for part in parts for line in part).encode("utf-8", "backslashreplace")


def _seconds(when: datetime) -> float:
    return when.replace(tzinfo=UTC).timestamp()


def _outcomes(posture: Posture) -> Iterable[Sample]:
    """Every outcome, those that are 0 too, so that a series does not end when a count falls to 0."""
    for name, value in (("pass", posture.passed), ("fail", posture.failed), ("unknown", posture.unknown), ("error", posture.error),
                        ("no_answer", posture.no_answer), ("notapplicable", posture.notapplicable)):  # fmt: skip
        yield {"outcome": name}, value


def _metric(name: str, words: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP fleet_audit_{name} {words}\n# TYPE fleet_audit_{name} gauge\n"
    series: dict[str, float] = {}
    for labels, value in samples:
        inner = ",".join(f'{key}="{_label(text)}"' for key, text in labels.items())
        series[inner] = series.get(inner, 0) + value  # a series that is there twice, by names that look alike, voids the whole file
    for inner, value in series.items():
        yield f"fleet_audit_{name}{f'{{{inner}}}' if inner else ''} {value:.15g}\n"


def _label(text: str) -> str:
    return clean(text).replace("\\", "\\\\").replace('"', '\\"')


FORMAT = Format("prom", render)
