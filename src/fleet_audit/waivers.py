# SPDX-License-Identifier: Apache-2.0
"""Waivers: which of them hold at a time, and which findings they accept.

A waiver changes no result. It marks findings, which are then counted apart and passed over by the exit status.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result
from fleet_audit.pattern import fits
from fleet_audit.policy import WaiverFile

SOON_DAYS = 30
"""A waiver that ends sooner is told of."""


@dataclass(frozen=True)
class Waiver:
    """A waiver as a run keeps it."""

    check: CheckId
    owner: str
    reason: str
    expires: str
    """Last day on which it holds, as 2027-01-31."""
    hosts: tuple[str, ...]
    groups: tuple[str, ...]
    subject: str | None
    expired: bool
    soon: bool
    """It ends within 30 days."""
    accepted: int = 0
    """Findings that it accepts."""
    idle: str = ""
    """Why it accepts nothing, though it has not expired."""

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.hosts)

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(host for host in self.hosts if {"*", "?"} & set(host))

    def covers(self, finding: Finding, groups: Sequence[str]) -> bool:
        """Whether it accepts a failing finding of a host of these groups."""
        return (
            not self.expired and finding.outcome is Outcome.FAIL and finding.check == self.check and self.reaches(finding.host, groups)
            and (self.subject is None or fits(self.subject, finding.subject))
        )  # fmt: skip

    def reaches(self, host: HostName, groups: Sequence[str]) -> bool:
        """Whether a host of these groups is in its scope."""
        named = not self.hosts or host in self._names or any(fits(pattern, host) for pattern in self._patterns)
        return named and (not self.groups or any(group in groups for group in self.groups))


def at(files: Iterable[WaiverFile], as_of: datetime) -> list[Waiver]:
    """The waivers of a policy at a time (naive UTC), in its order."""
    found = []
    for file in files:
        left = (file.expires - as_of.date()).days
        found.append(
            Waiver(CheckId(file.check), file.owner, file.reason, file.expires.isoformat(), tuple(file.hosts), tuple(file.groups),
                   file.subject, left < 0, 0 <= left < SOON_DAYS)
        )  # fmt: skip
    return found


@dataclass(frozen=True)
class Marked:
    """Results and findings with what waivers accept, and the waivers with how much that is."""

    waivers: tuple[Waiver, ...]
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]


def mark(
    waivers: Sequence[Waiver], results: Iterable[Result], findings: Iterable[Finding], groups: Mapping[HostName, Sequence[str]]
) -> Marked:
    """Give each finding the first waiver that accepts it. A result is waived if all that failed is accepted."""
    results = list(results)
    named: dict[tuple[str, str], list[int]] = {}  # waivers of one host, of which a site may have thousands
    wider: dict[str, list[int]] = {}
    for number, waiver in enumerate(waivers):
        for host in waiver.hosts:
            if not {"*", "?"} & set(host):
                named.setdefault((waiver.check, host), []).append(number)
        if not waiver.hosts or any({"*", "?"} & set(host) for host in waiver.hosts):
            wider.setdefault(waiver.check, []).append(number)
    checks = {waiver.check for waiver in waivers}
    counts: Counter[int] = Counter()
    accepted: dict[tuple[str, str], list[int | None]] = {}
    shadowed: set[int] = set()
    marked = []
    for finding in findings:
        numbers = sorted({*named.get((finding.check, finding.host), ()), *wider.get(finding.check, ())}) if finding.check in checks else ()
        hits = [n for n in numbers if waivers[n].covers(finding, groups.get(finding.host, ()))]
        hit = hits[0] if hits else None
        if hit is not None:
            counts[hit] += 1
            shadowed.update(hits[1:])
        if finding.outcome is Outcome.FAIL and finding.check in checks:
            accepted.setdefault((finding.check, finding.host), []).append(hit)
        marked.append(finding if hit is None else replace(finding, waiver=hit))

    def waived(result: Result) -> bool:
        hits = accepted.get((result.check, result.host), [])
        listed = all(hit is not None for hit in hits)
        whole = result.failed <= len(hits) or any(hit is not None and waivers[hit].subject is None for hit in hits)
        return result.outcome is Outcome.FAIL and bool(hits) and listed and whole  # not all findings of a result are kept

    of_check: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        if result.check in checks:
            of_check[result.check].append(result)

    def idle(number: int, waiver: Waiver) -> str:
        if waiver.expired or counts[number]:
            return ""
        if not (found := of_check[waiver.check]):
            return "its check was not run"
        reached = [r for r in found if waiver.reaches(r.host, groups.get(r.host, ()))]
        if not reached:
            return "no host of the run is in its scope"
        if number in shadowed:
            return "another waiver before it accepts the same"
        if dark := sum(r.outcome in (Outcome.UNKNOWN, Outcome.ERROR) or r.undetermined > 0 for r in reached):
            return f"{dark} of the {len(reached)} results in its scope are not known"
        return "nothing in its scope fails"

    return Marked(
        tuple(replace(waiver, accepted=counts[number], idle=idle(number, waiver)) for number, waiver in enumerate(waivers)),
        tuple(replace(r, waived=True) if r.check in checks and waived(r) else r for r in results), tuple(marked),
    )  # fmt: skip
