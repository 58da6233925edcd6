# SPDX-License-Identifier: Apache-2.0
"""Waivers: which of them hold at a time, and which findings they accept.

A waiver changes no result. It marks findings, which are then counted apart and passed over by the exit status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result
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
    """Findings that it accepts; of one that has not expired, 0 means that it is not used."""

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.hosts)

    @cached_property
    def _patterns(self) -> tuple[str, ...]:
        return tuple(host for host in self.hosts if {"*", "?"} & set(host))

    def covers(self, finding: Finding, groups: Sequence[str]) -> bool:
        """Whether it accepts a failing finding of a host of these groups."""
        return (
            not self.expired and finding.outcome is Outcome.FAIL and finding.check == self.check
            and (not self.hosts or finding.host in self._names or any(fits(pattern, finding.host) for pattern in self._patterns))
            and (not self.groups or any(group in groups for group in self.groups))
            and (self.subject is None or fits(self.subject, finding.subject))
        )  # fmt: skip


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


def fits(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern in which `*` and `?` alone have a meaning. Takes at most the product of both lengths."""
    at, place, star, kept = 0, 0, -1, 0
    while place < len(text):
        if at < len(pattern) and pattern[at] == "*":
            star, kept, at = at, place, at + 1
        elif at < len(pattern) and pattern[at] in ("?", text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:  # the last star takes one character more
            kept, at = kept + 1, star + 1
            place = kept
        else:
            return False
    return pattern[at:].strip("*") == ""


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
    marked = []
    for finding in findings:
        numbers = sorted({*named.get((finding.check, finding.host), ()), *wider.get(finding.check, ())}) if finding.check in checks else ()
        hit = next((n for n in numbers if waivers[n].covers(finding, groups.get(finding.host, ()))), None)
        if hit is not None:
            counts[hit] += 1
        if finding.outcome is Outcome.FAIL and finding.check in checks:
            accepted.setdefault((finding.check, finding.host), []).append(hit)
        marked.append(finding if hit is None else replace(finding, waiver=hit))

    def waived(result: Result) -> bool:
        hits = accepted.get((result.check, result.host), [])
        listed = all(hit is not None for hit in hits)
        whole = result.failed <= len(hits) or any(hit is not None and waivers[hit].subject is None for hit in hits)
        return result.outcome is Outcome.FAIL and bool(hits) and listed and whole  # not all findings of a result are kept

    return Marked(
        tuple(replace(waiver, accepted=counts[number]) for number, waiver in enumerate(waivers)),
        tuple(replace(r, waived=True) if r.check in checks and waived(r) else r for r in results), tuple(marked),
    )  # fmt: skip
