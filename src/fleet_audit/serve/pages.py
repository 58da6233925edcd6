# SPDX-License-Identifier: Apache-2.0
"""What each page of the site shows, made from the store alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from fleet_audit import diff as differences
from fleet_audit import history
from fleet_audit.findings import Posture, Report, load
from fleet_audit.history import Summary
from fleet_audit.model import FleetAuditError, Outcome
from fleet_audit.report import html
from fleet_audit.runs import Store

RUNS = 365
"""Runs of the trend."""
BACK = 90
"""Runs that the pages of a host and of a check look back."""
LISTED = 500
"""Entries of one list; the report has all of them."""


class Missing(Exception):
    """What an address asks for is not in the store."""


@dataclass(frozen=True)
class Point:
    """One run of a trend: how far left, and both ends of its interval from the top, in per cent; None where nothing was expected."""

    id: str
    x: float
    high: float | None
    low: float | None
    words: str


class Site:
    """The pages of a store. Runs never change, so that what was read of one is kept."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._load = lru_cache(maxsize=4)(lambda name: load(store.find(name)))
        self._render = lru_cache(maxsize=2)(lambda name: html.render(load(store.find(name))))
        self._compare = lru_cache(maxsize=8)(lambda before, after: differences.compare(store.find(before), store.find(after)))

    # ------------------------------------------------------------ pages

    def overview(self) -> dict[str, Any]:
        """The newest run, the trend, what changed, and all runs."""
        if not (self.store.folder / "runs").is_dir():
            return {"title": "Overview", "latest": None, "points": [], "runs": [], "skipped": [], "changed": None, "before": None}
        found = history.read(self.store, limit=RUNS)
        latest = found.runs[-1] if found.runs else None
        before = self._before(latest.id) if latest else None
        changed = None
        if latest and before:
            try:
                changed = self._compare(before, latest.id).counts
            except FleetAuditError:  # it is named among the skipped ones
                before = None
        return {
            "title": "Overview", "latest": latest, "posture": _posture(latest) if latest else None, "points": trend(found.runs),
            "runs": found.runs[::-1], "skipped": found.skipped, "before": before,
            "changed": changed,
        }  # fmt: skip

    def run(self, run: str) -> dict[str, Any]:
        """One run: its posture, what to do, and its hosts."""
        report = self._report(run)
        hosts = _by(report, "host")
        return {
            "title": f"Run {report.id}", "report": report, "posture": report.posture(), "verdict": html.verdict(report),
            "coverage": html.coverage(report), "failures": report.open_failures(), "actions": report.actions()[:20],
            "causes": report.causes()[:20], "before": self._before(report.id),
            "hosts": sorted(((h, hosts.get(h.name, Posture())) for h in report.hosts), key=lambda x: (-x[1].failed, -x[1].not_known, x[0].name)),
            "listed": LISTED,
        }  # fmt: skip

    def hosts(self) -> dict[str, Any]:
        """The hosts of the newest run, the worst first."""
        return {**self.run(self._latest()), "title": "Hosts"}

    def checks(self) -> dict[str, Any]:
        """The checks of the newest run, the worst first."""
        report = self._report(self._latest())
        found = _by(report, "check")
        rows = [(c, found.get(c.id, Posture())) for c in report.checks]
        return {
            "title": "Checks",
            "report": report,
            "rows": sorted(rows, key=lambda x: (-x[1].failed, -x[1].not_known, x[0].severity.rank, x[0].id)),
        }

    def host(self, host: str) -> dict[str, Any]:
        """A host over time, and what is wrong with it in the newest run that has it."""
        points = self._over_time("host", host)
        report = self._report(points[0][0]) if points else None
        view = next((h for h in report.hosts if h.name == host), None) if report else None
        if report is None or view is None:
            raise Missing("none of the runs that were looked at has such a host")
        ages = history.ages(self.store, report)
        views = {c.id: c for c in report.checks}
        findings = [
            (views[f.check], f, ages.get(f.fingerprint)) for f in report.findings if f.host == host and f.outcome is not Outcome.PASS
        ]
        return {
            "title": host, "view": view, "report": report, "points": points, "listed": LISTED,
            "findings": sorted(findings, key=lambda x: (x[1].outcome is not Outcome.FAIL, x[0].severity.rank, x[0].id, x[1].subject)),
        }  # fmt: skip

    def check(self, check: str) -> dict[str, Any]:
        """A check over time, and where it fails in the newest run that has it."""
        points = self._over_time("check_id", check)
        report = self._report(points[0][0]) if points else None
        view = next((c for c in report.checks if c.id == check), None) if report else None
        if report is None or view is None:
            raise Missing("none of the runs that were looked at has such a check")
        ages = history.ages(self.store, report)
        findings = [(f, ages.get(f.fingerprint)) for f in report.findings if f.check == check and f.outcome is not Outcome.PASS]
        return {"title": view.title, "view": view, "report": report, "points": points, "findings": findings, "listed": LISTED}

    def diff(self, before: str, after: str) -> dict[str, Any]:
        """What changed between two runs."""
        old, new = self._named(before), self._named(after)
        found = self._compare(old, new)
        shown: dict[str, list[Any]] = {kind: [] for kind in differences.KINDS}
        for change in found.changes:
            shown[change.kind].append(change)
        return {"title": f"{old} to {new}", "found": found, "shown": shown, "kinds": differences.KINDS, "listed": LISTED}

    def report(self, run: str) -> bytes:
        """The HTML report of a run."""
        return self._render(self._named(run))

    # ------------------------------------------------------------ looking things up

    def _named(self, name: str) -> str:
        """The whole id of an evaluated run, by its id alone."""
        if name not in self.store.runs():
            raise Missing("the store has no such run")
        return self.store.find(name, stage="evaluated").file.id

    def _latest(self) -> str:
        return self.store.find("latest", stage="evaluated").file.id

    def _report(self, name: str) -> Report:
        return self._load(self._named(name))

    def _before(self, name: str) -> str | None:
        """The run that one is compared with."""
        try:
            return history.previous(self.store, self.store.find(name)).file.id
        except FleetAuditError:
            return None

    def _over_time(self, column: Literal["host", "check_id"], value: str) -> list[tuple[str, Posture]]:
        """(run, posture) of a host or a check, newest first."""
        names = self.store.runs()[-BACK:]
        found = history.outcomes(self.store, column, value, names)
        return [(name, _counted(found[name])) for name in reversed(names) if name in found]


def trend(runs: Sequence[Summary]) -> list[Point]:
    """Runs as points by their time; a single one stands in the middle."""
    if not runs:
        return []
    first, last = runs[0].started_at, runs[-1].started_at
    span = (last - first).total_seconds()
    out = []
    for run in runs:
        x = 100 * (run.started_at - first).total_seconds() / span if span else 50.0
        low, high = run.at_least, run.at_most
        words = f"{run.started_at:%Y-%m-%d %H:%M}: " + (
            "nothing expected" if low is None or high is None else f"at least {low:.1f} %, at most {high:.1f} %, {run.failed:,} fail"
        )
        out.append(
            Point(run.id, round(x, 2), None if high is None else round(100 - high, 2), None if low is None else round(100 - low, 2), words)
        )
    return out


def _posture(run: Summary) -> Posture:
    return Posture(passed=run.passed, failed=run.failed, unknown=run.unknown, no_answer=run.no_answer, waived=run.waived)


def _counted(outcomes: dict[str, int]) -> Posture:
    """Of a host that did not answer all is unknown, here as in its results."""
    n = Counter(outcomes)
    return Posture(passed=n["pass"], failed=n["fail"], unknown=n["unknown"], error=n["error"], notapplicable=n["notapplicable"])


def _by(report: Report, what: Literal["host", "check"]) -> dict[str, Posture]:
    groups: dict[str, list[Any]] = {}
    for result in report.results:
        groups.setdefault(getattr(result, what), []).append(result)
    return {name: report.posture(results) for name, results in groups.items()}
