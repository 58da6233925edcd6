# SPDX-License-Identifier: Apache-2.0
"""Markdown for tickets and pull requests: the summary, what to do, what failed, what is not known. Text of nodes is code, never markup."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fleet_audit.findings import Report
from fleet_audit.model import Outcome, Severity
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean, count, number, share

FAILURES = 100
"""Failed results that are listed, the worst first."""
CAUSES = 20
HOSTS = 50
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#!|~&@$]|:(?=//)|(?<=www)\.)", re.IGNORECASE)
"""A bare address would be a link on a code hosting site, `$` mathematics and `@` a mention."""


def code(text: str, limit: int = 300) -> str:
    """A node's text as a code span: no markup, link, mention or HTML in it has a meaning; a bar would end a table's cell."""
    shown = clean(" ".join(text.split()), limit).replace("|", "¦")
    if not shown:
        return "(empty)"
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def plain(text: str, limit: int = 300) -> str:
    """Text of a check or a policy: every character that Markdown has a meaning for is escaped."""
    return _MARKUP.sub(r"\\\1", clean(" ".join(text.split()), limit))


def render(report: Report) -> bytes:
    """The report in CommonMark with tables."""
    lines = [*_summary(report), *_actions(report), *_failures(report), *_unknown(report), *_reach(report), *_accepted(report)]
    return ("\n".join(lines) + "\n").encode("utf-8", "backslashreplace")


def _summary(report: Report) -> Iterable[str]:
    posture, answered = report.posture(), sum(h.entry.answered for h in report.hosts)
    failures = report.open_failures()
    yield f"# fleet-audit, run {code(report.id)}"
    yield ""
    profile = code(str(report.inputs.get("profile") or "none"))
    yield f"{report.started_at:%Y-%m-%d %H:%M} UTC, profile {profile}, ages as of {report.as_of:%Y-%m-%d %H:%M} UTC."
    yield ""
    yield f"{number(answered)} of {count(len(report.hosts), 'host')} answered. " + (
        f"At least {share(posture.at_least)} and at most {share(posture.at_most)} of {count(posture.expected, 'expected result')} hold."
        if posture.expected else "Nothing was expected: no check applies."
    )  # fmt: skip
    yield ""
    yield "| Shown to pass | Fail | of these waived | Unknown | No answer | Not applicable, left out |"
    yield "|--:|--:|--:|--:|--:|--:|"
    cells = (posture.passed, posture.failed, posture.waived, posture.unknown + posture.error, posture.no_answer, posture.notapplicable)
    yield "| " + " | ".join(number(n) for n in cells) + " |"
    yield ""
    yield "Open failures: " + ", ".join(f"{s} {number(failures[s])}" for s in Severity) + "."


def _actions(report: Report) -> Iterable[str]:
    actions = report.actions()
    yield from ("", "## What to do first", "")
    if not actions:
        yield f"Nothing for what was examined; {count(report.posture().not_known, 'result')} not known."
        return
    yield from ("| | Action | Hosts | Failures | Critical | Disruption |", "|--:|---|--:|--:|--:|---|")
    for rank, a in enumerate(actions[:10], 1):
        yield f"| {rank} | {plain(a.title)} | {number(a.hosts)} | {number(a.failures)} | {number(a.critical)} | {plain(a.disruption or 'by hand')} |"
    if len(actions) > 10:
        yield from ("", f"{number(len(actions) - 10)} more: `fleet-audit show actions`.")


def _failures(report: Report) -> Iterable[str]:
    views = {c.id: c for c in report.checks}
    found = [r for r in report.results if r.outcome is Outcome.FAIL and not r.waived]
    found.sort(key=lambda r: (views[r.check].severity.rank, r.check, r.host))
    yield from ("", "## Open failures", "")
    if not found:
        yield f"None was found; {count(report.posture().not_known, 'result')} not known."
    for result in found[:FAILURES]:
        yield f"- **{views[result.check].severity}** {code(result.check)} on {code(result.host, 100)}: {code(result.reason)}"
    if len(found) > FAILURES:
        yield from ("", f"{number(len(found) - FAILURES)} more: `fleet-audit show findings`.")


def _unknown(report: Report) -> Iterable[str]:
    causes = report.causes()
    yield from ("", "## Not known", "")
    if not causes:
        yield "Every expected result was determined." if report.posture().expected else "No result was expected."
    for cause in causes[:CAUSES]:
        yield f"- {number(cause.results)}: {code(cause.reason)} ({count(cause.hosts, 'host')}, {count(cause.checks, 'check')})"
    if len(causes) > CAUSES:
        yield f"- {number(sum(c.results for c in causes[CAUSES:]))} for {count(len(causes) - CAUSES, 'more reason')}"


def _reach(report: Report) -> Iterable[str]:
    """Hosts that did not answer, then those of which a part came back."""
    found = sorted((h for h in report.hosts if h.entry.reach != "ok" or not h.entry.answered), key=lambda h: h.entry.answered)
    if found:
        yield from ("", "## Hosts not reached, or in part", "")
    for host in found[:HOSTS]:
        state = "answered in part" if host.entry.answered else "no answer"
        yield f"- {code(host.name, 100)}: {state}, {plain(host.entry.reach)}: {code(host.entry.detail)}"
    if len(found) > HOSTS:
        yield from ("", f"{number(len(found) - HOSTS)} more: `fleet-audit show hosts`.")


def _accepted(report: Report) -> Iterable[str]:
    if not (report.waivers or report.exclusions):
        return
    yield from ("", "## What the policy accepts", "")
    for w in report.waivers:
        state = "expired" if w.expired else f"accepts nothing: {plain(w.idle)}" if w.idle else f"accepts {count(w.accepted, 'finding')}"
        where = ", ".join((*w.hosts, *(f"group {g}" for g in w.groups))) or "every host"
        yield f"- {code(w.check)} on {plain(where)} until {w.expires} by {plain(w.owner)}: {plain(w.reason)} ({state})"
    for e in report.exclusions:
        yield f"- {code(e.check)} is left out: {plain(e.reason)}"


FORMAT = Format("md", render)
