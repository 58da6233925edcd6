# SPDX-License-Identifier: Apache-2.0
"""The exit status of a run, and the sentence that says why."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet_audit.findings import Report
from fleet_audit.model import CheckId, Finding, FleetAuditError, HostName, Outcome, Result, Severity
from fleet_audit.report.text import count, number, share
from fleet_audit.runs import Store


@dataclass(frozen=True)
class Allowance:
    """`--max-unknown`: a number of results, a per cent of the expected ones, or any."""

    number: int | None = 0
    per_cent: float | None = None

    def holds(self, unknown: int, expected: int) -> bool:
        """Whether so many results not known may pass over."""
        if self.per_cent is not None:
            return unknown * 100 <= self.per_cent * max(expected, 1)
        return self.number is None or unknown <= self.number


def allowance(text: str) -> Allowance:
    """Read `--max-unknown`. Raises `FleetAuditError` for what is none."""
    if text == "any":
        return Allowance(None)
    if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text):
        if float(match[1]) <= 100:
            return Allowance(None, float(match[1]))
    elif text.isdigit() and text.isascii():
        return Allowance(int(text))
    raise FleetAuditError(f"--max-unknown {text!r}: give a number such as 5, a per cent such as 2%, or `any`")


@dataclass(frozen=True)
class Baseline:
    """What a run failed that is not held against later ones."""

    run: str
    fingerprints: frozenset[str]
    failed: Mapping[tuple[CheckId, HostName], int]
    """(check, host) -> how many of its subjects failed."""

    def has(self, result: Result, findings: Iterable[Finding]) -> bool:
        """Whether all that fails of a result failed then; of very many subjects not all are listed, and their number must not have grown."""
        listed = [f for f in findings if f.outcome is Outcome.FAIL and f.waiver is None]
        return all(f.fingerprint in self.fingerprints for f in listed) and result.failed <= self.failed.get((result.check, result.host), 0)


def baseline(store: Store, name: str | None) -> Baseline | None:
    """The failures of a run of the store; None if no run is named. Raises `FleetAuditError` if it is not there."""
    if name is None:
        return None
    from fleet_audit.findings import load

    report = load(store.find(name, stage="evaluated"))
    failed = {(r.check, r.host): r.failed for r in report.results if r.outcome is Outcome.FAIL}
    return Baseline(report.id, frozenset(f.fingerprint for f in report.findings if f.outcome is Outcome.FAIL), failed)


def verdict(report: Report, fail_on: Severity, allowed: Allowance, known: Baseline | None = None) -> tuple[int, str]:
    """Exit status and why: the first that fits of the design, section 6. What the baseline has fails nothing."""
    severity = {c.id: c.severity for c in report.checks}
    optional = {h.name for h in report.hosts if not h.entry.expected}  # listed, and in no exit status
    counted = [r for r in report.results if severity[r.check].rank <= fail_on.rank and r.host not in optional]
    failures = [r for r in counted if r.outcome is Outcome.FAIL and not r.waived]
    old = 0
    if known is not None:
        of_result: dict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in report.findings:
            of_result[finding.check, finding.host].append(finding)
        old = sum(known.has(r, of_result[r.check, r.host]) for r in failures)
    failed = len(failures) - old
    waived = sum(r.waived for r in counted)
    more = f", and {number(waived)} more that waivers accept" if waived else ""
    more += f", and {number(old)} that run {known.run} had too" if known and old else ""
    if failed:
        return 1, f"{count(failed, 'failure')} at or above --fail-on {fail_on}{more}"
    expected = [r for r in counted if r.outcome is not Outcome.NOTAPPLICABLE]
    unknown = sum(r.outcome in (Outcome.UNKNOWN, Outcome.ERROR) or (r.waived and r.undetermined > 0) for r in expected)
    silent = [h.name for h in report.hosts if not h.entry.answered and h.entry.expected]
    unknown = max(unknown, len(silent))
    if not allowed.holds(unknown, len(expected)):
        hosts = f", {count(len(silent), 'expected host')} without an answer" if silent else ""
        part = share(100 * unknown / len(expected)) if expected else "all"
        return 3, f"{count(unknown, 'result')} not known at or above --fail-on {fail_on} ({part}){hosts}, beyond --max-unknown"
    rest = f"; {number(unknown)} not known are within --max-unknown" if unknown else ""
    lower = sum(r.outcome in (Outcome.UNKNOWN, Outcome.ERROR) for r in report.results if severity[r.check].rank > fail_on.rank)
    rest += f"; {number(lower)} not known below it" if lower else ""
    rest += f"; {count(len(optional), 'host')} that need not answer left out" if optional else ""
    none = f"no failure but {number(waived)} that waivers accept" if waived else "no failure"
    none += f" but {number(old)} that run {known.run} had too" if known and old else ""
    return 0, f"{none} at or above --fail-on {fail_on}{rest}"
