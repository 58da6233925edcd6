# SPDX-License-Identifier: Apache-2.0
"""The report model: one value that every output format renders, made from a sealed run alone.

All shares and totals that any report shows are computed here, by one function each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from fleet_audit import excerpts, landscape
from fleet_audit.excerpts import Excerpts
from fleet_audit.landscape import Landscape
from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result, Severity
from fleet_audit.runs import HostEntry, Run
from fleet_audit.tables import read_rows
from fleet_audit.waivers import Waiver

if TYPE_CHECKING:
    from fleet_audit.diff import Difference

RESULT_COLUMNS = {
    "check_id": "VARCHAR", "host": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR",
    "subjects": "BIGINT", "failed": "BIGINT", "undetermined": "BIGINT", "waived": "BOOLEAN",
}  # fmt: skip
FINDING_COLUMNS = {
    "check_id": "VARCHAR", "host": "VARCHAR", "subject": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR", "fingerprint": "VARCHAR",
    "waiver": "BIGINT",
}  # fmt: skip
WEIGHTS = {Severity.CRITICAL: 10, Severity.HIGH: 5, Severity.MEDIUM: 2, Severity.LOW: 1, Severity.INFO: 0}
"""They rank actions and nothing else."""
DISRUPTIONS = ("none", "service-restart", "reboot", "drain")


@dataclass(frozen=True)
class Posture:
    """Counts of results. Expected are all but `notapplicable`; those of silent hosts are `no_answer`."""

    passed: int = 0
    failed: int = 0
    unknown: int = 0
    error: int = 0
    no_answer: int = 0
    notapplicable: int = 0
    waived: int = 0
    """Those of `failed` that waivers accept."""

    def __add__(self, other: Posture) -> Posture:
        """Both counted together."""
        return Posture(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def expected(self) -> int:
        """The denominator."""
        return self.passed + self.failed + self.unknown + self.error + self.no_answer

    @property
    def not_known(self) -> int:
        """Results that could not be determined, for whatever reason."""
        return self.unknown + self.error + self.no_answer

    @property
    def at_least(self) -> float | None:
        """Share shown to pass, in per cent; None if nothing was expected."""
        return 100 * self.passed / self.expected if self.expected else None

    @property
    def at_most(self) -> float | None:
        """Share not shown to fail, in per cent; None if nothing was expected."""
        return 100 * (self.expected - self.failed) / self.expected if self.expected else None


@dataclass(frozen=True)
class CheckView:
    """A check as the run holds it."""

    id: CheckId
    title: str
    area: str
    severity: Severity
    surface: tuple[str, ...]
    rationale: str
    unknown: str | None
    fix: str
    impact: str | None
    controls: Mapping[str, Sequence[str]]
    references: tuple[str, ...]
    params: Mapping[str, Any]
    query: str
    applies: str | None
    tables: tuple[str, ...]
    sources: tuple[str, ...]
    """Sources behind its tables."""
    role: str | None
    disruption: str | None
    group_params: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What groups have instead; of several groups of a host the later one wins."""

    def params_for(self, groups: Sequence[str]) -> dict[str, Any]:
        """The parameters of a host of these groups."""
        found = dict(self.params)
        for group, params in self.group_params.items():
            if group in groups:
                found |= params
        return found


@dataclass(frozen=True)
class HostView:
    """A host as the run holds it."""

    name: HostName
    entry: HostEntry
    os: str | None
    kernel: str | None
    sources: Mapping[str, int]
    """Status of a source -> how many."""


@dataclass(frozen=True)
class Cause:
    """Why results are not known: one reason and what it costs."""

    reason: str
    results: int
    hosts: int
    checks: int
    silent: bool
    """The hosts did not answer."""


@dataclass(frozen=True)
class Action:
    """What closes failures: one role's run, or one check's fix."""

    title: str
    role: str | None
    disruption: str | None
    checks: tuple[CheckId, ...]
    hosts: int
    failures: int
    critical: int
    weight: int
    """10, 5, 2, 1, 0 for each failure from critical to info."""


@dataclass(frozen=True)
class Exclusion:
    """A check that the policy leaves out for the whole fleet."""

    check: str
    reason: str


@dataclass(frozen=True)
class ReferenceView:
    """A reference table that checks lean on."""

    name: str
    as_of: str
    """Day on which its data was true, as 2026-11-23."""
    stale: bool
    """It is older than the policy allows: the checks that lean on it say unknown."""


@dataclass(frozen=True)
class Report:
    """Everything a report says about a run."""

    id: str
    version: str
    started_at: datetime
    as_of: datetime
    program: str
    inputs: Mapping[str, Any]
    evidence_of: str
    hosts: tuple[HostView, ...]
    checks: tuple[CheckView, ...]
    results: tuple[Result, ...]
    """Sorted by check and host; exactly one for each pair."""
    findings: tuple[Finding, ...]
    waivers: tuple[Waiver, ...] = ()
    """In the policy's order: `Finding.waiver` counts them from 0."""
    exclusions: tuple[Exclusion, ...] = ()
    references: tuple[ReferenceView, ...] = ()
    maps: Callable[[], Landscape] = Landscape
    """Makes `landscape`, which only some formats want and which takes its time."""
    bytes_of: Callable[[], Excerpts] = Excerpts
    """Makes `excerpts`, likewise."""
    since: Difference | None = None
    """What changed from an earlier run, where that was asked for."""

    def posture(self, results: Iterable[Result] | None = None) -> Posture:
        """Counts of some results, all if none are named."""
        silent = self.silent
        counts: Counter[str] = Counter()
        for result in self.results if results is None else results:
            name = "no_answer" if result.host in silent else str(result.outcome)
            counts[{"pass": "passed", "fail": "failed"}.get(name, name)] += 1
            counts["waived"] += result.waived
        return Posture(**counts)

    def breakdown(self) -> dict[str, list[tuple[str, Posture]]]:
        """The posture of each group of hosts, area of checks, part of the ML attack surface and control, by name.

        A host may be in several groups, and a check on several parts and controls: these do not add up.
        """
        by_check: dict[CheckId, list[Result]] = defaultdict(list)
        by_host: dict[HostName, list[Result]] = defaultdict(list)
        for result in self.results:
            by_check[result.check].append(result)
            by_host[result.host].append(result)
        of_check = {check: self.posture(results) for check, results in by_check.items()}
        found: dict[str, dict[str, Posture]] = {"groups": {}, "areas": {}, "surface": {}, "controls": {}}

        def count(kind: str, name: str, posture: Posture) -> None:
            found[kind][name] = found[kind].get(name, Posture()) + posture

        for view in self.checks:
            posture = of_check.get(view.id, Posture())
            count("areas", view.area, posture)
            for part in view.surface:
                count("surface", part, posture)
            for framework, numbers in view.controls.items():
                for number in numbers:
                    count("controls", f"{framework} {number}", posture)
        for host in self.hosts:
            for group in host.entry.groups:
                count("groups", group, self.posture(by_host.get(host.name, [])))
        return {kind: sorted(values.items()) for kind, values in found.items()}

    @cached_property
    def landscape(self) -> Landscape:
        """What the facts show of the fleet beside results."""
        return self.maps()

    @cached_property
    def excerpts(self) -> Excerpts:
        """The evidence behind what failed or is not known."""
        return self.bytes_of()

    @cached_property
    def silent(self) -> frozenset[HostName]:
        """Hosts of which nothing came back."""
        return frozenset(h.name for h in self.hosts if not h.entry.answered)

    def open_failures(self) -> dict[Severity, int]:
        """Failed results by severity, those that waivers accept left out."""
        severity = {c.id: c.severity for c in self.checks}
        counts = Counter(severity[r.check] for r in self.results if r.outcome is Outcome.FAIL and not r.waived)
        return {s: counts[s] for s in Severity}

    def causes(self) -> list[Cause]:
        """Why results are not known, silent hosts first, then what costs most."""
        silent = self.silent
        reach = {h.name: h.entry.reach for h in self.hosts}
        found: dict[tuple[bool, str], list[Result]] = defaultdict(list)
        for result in self.results:
            if result.host in silent:
                found[True, f"no answer: {reach[result.host]}"].append(result)
            elif result.outcome in (Outcome.UNKNOWN, Outcome.ERROR):
                found[False, result.reason].append(result)
        causes = [
            Cause(reason, len(rs), len({r.host for r in rs}), len({r.check for r in rs}), dead) for (dead, reason), rs in found.items()
        ]
        return sorted(causes, key=lambda c: (not c.silent, -c.results, c.reason))

    def actions(self) -> list[Action]:
        """What to do: criticals closed first, then weight closed, then less disruption, then the title."""
        views = {c.id: c for c in self.checks}
        groups: dict[tuple[str, str], list[Result]] = defaultdict(list)
        for result in self.results:
            if result.outcome is Outcome.FAIL and not result.waived:
                view = views[result.check]
                groups[(view.role, view.disruption or "") if view.role else (view.id, "check")].append(result)
        actions = []
        for (name, _), results in groups.items():
            ids = sorted({r.check for r in results}, key=lambda i: (views[i].severity.rank, i))
            first = views[ids[0]]
            actions.append(
                Action(
                    first.fix.split(". ")[0].rstrip(".") + (f", and {len(ids) - 1} more of {name}" if len(ids) > 1 else ""),
                    first.role, first.disruption, tuple(ids), len({r.host for r in results}), len(results),
                    sum(views[r.check].severity is Severity.CRITICAL for r in results),
                    sum(WEIGHTS[views[r.check].severity] for r in results),
                )
            )  # fmt: skip
        order = {d: i for i, d in enumerate(DISRUPTIONS)}
        return sorted(actions, key=lambda a: (-a.critical, -a.weight, order.get(a.disruption or "", 9), a.title))


def load(run: Run, *, only: Collection[str] | None = None, since: Difference | None = None) -> Report:
    """The report model of an evaluated run, of some hosts if these are named. Raises `FleetAuditError` if the run is broken.

    `since` is what changed from an earlier run; of it, too, what is said of other hosts is left out.
    """
    views = tuple(_check(c) for c in run.document("checks.json"))
    results = tuple(
        Result(CheckId(c), HostName(h), Outcome(o), r, n, f, u, bool(w))
        for c, h, o, r, n, f, u, w in read_rows(run.path("results.parquet"), list(RESULT_COLUMNS)) if only is None or h in only
    )  # fmt: skip
    findings = tuple(
        Finding(CheckId(c), HostName(h), s, Outcome(o), r, f, w)
        for c, h, s, o, r, f, w in read_rows(run.path("findings.parquet"), list(FINDING_COLUMNS)) if only is None or h in only
    )  # fmt: skip
    facts = run.facts()
    oses, kernels = _by_host(facts, "os", ("name", "id")), _by_host(facts, "kernel_running", ("release",))
    statuses = {e.host: Counter(str(r.status) for r in e.records) for e in run.evidence()}
    hosts = tuple(
        HostView(HostName(name), entry, oses.get(name), kernels.get(name), dict(sorted(statuses.get(HostName(name), Counter()).items())))
        for name, entry in sorted(run.file.hosts.items()) if only is None or name in only
    )  # fmt: skip
    of_host = {h.name: h.entry.groups for h in hosts}
    silent = frozenset(h.name for h in hosts if not h.entry.answered)
    said = run.document("policy.json") if "policy.json" in run.file.files else {}  # runs of the first versions have none
    return Report(
        run.file.id, run.file.version, run.file.started_at, run.file.as_of, run.file.program, run.file.inputs,
        run.file.evidence_of, hosts, views, results, findings,
        tuple(_waiver(value) for value in said.get("waivers", ())),
        tuple(Exclusion(**value) for value in said.get("exclusions", ())),
        tuple(ReferenceView(**value) for value in said.get("references", ())),
        partial(landscape.load, facts, of_host, silent, results, part=only is not None),
        partial(excerpts.choose, run, run.store.objects, {v.id: v.sources for v in views}, {v.id: v.severity.rank for v in views}, results),
        since if since is None or only is None else since.of(only),
    )  # fmt: skip


def _waiver(value: Mapping[str, Any]) -> Waiver:
    return Waiver(**{**value, "hosts": tuple(value["hosts"]), "groups": tuple(value["groups"])})


def _check(value: Mapping[str, Any]) -> CheckView:
    remediation = value.get("remediation") or {}
    return CheckView(
        CheckId(value["id"]), value["title"], value["area"], Severity(value["severity"]), tuple(value["surface"]), value["rationale"],
        value.get("unknown"), value["fix"], value.get("impact"), value["controls"], tuple(value["references"]), value["params"], value["query"],
        value.get("applies"), tuple(value["tables"]), tuple(value["sources"]), remediation.get("role"), remediation.get("disruption"),
        dict(value.get("group_params", [])),
    )  # fmt: skip


def _by_host(facts: Any, table: str, columns: Sequence[str]) -> dict[str, str]:
    """{host: first column that has a value} of a table with one row a host."""
    path = facts / f"{table}.parquet"
    if not path.exists():
        return {}
    rows = {content: next((v for v in values if v), None) for content, *values in read_rows(path, ["content", *columns])}
    hosts = read_rows(facts / "coverage.parquet", ["host", "tab", "content"])
    return {host: text for host, tab, content in hosts if tab == table and (text := rows.get(content))}
