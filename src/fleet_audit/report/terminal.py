# SPDX-License-Identifier: Apache-2.0
"""The summary that ends a run: 80 columns, symbols and words carry it, so that it does without colour."""

from __future__ import annotations

import statistics
from datetime import timedelta

from fleet_audit.findings import Posture, Report
from fleet_audit.model import Severity
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean, count, number, share

WIDTH = 76
_BAR = 60
SHOWN = 8
"""Waivers and exclusions that are named."""


def render(report: Report) -> bytes:
    """The summary as UTF-8 text of 80 columns."""
    return text(report).encode()


def text(report: Report, width: int = WIDTH) -> str:
    """The summary; a wider terminal widens titles and reasons, not the bars."""
    blocks = [
        _head(report),
        _bar(report.posture()),
        _open(report),
        _accepted(report),
        _actions(report, width),
        _unknown(report, width),
        _cost(report),
    ]
    return "\n\n".join(block for block in blocks if block) + "\n"


def _head(report: Report) -> str:
    answered = [h for h in report.hosts if h.entry.answered]
    silent = [h for h in report.hosts if not h.entry.answered]
    reduced = [h for h in answered if h.entry.reach != "ok"]
    words: dict[str, int] = {}
    for host in silent + reduced:
        words[host.entry.reach] = words.get(host.entry.reach, 0) + 1
    posture = report.posture()
    profile = report.inputs.get("profile", "")
    apart = report.started_at.replace(tzinfo=None) - report.as_of.replace(tzinfo=None)
    lines = [
        f"fleet-audit  run {report.id}  {report.started_at:%Y-%m-%d %H:%M} UTC  {clean(str(profile))}",
        *([f"Ages are measured at {report.as_of:%Y-%m-%d %H:%M} UTC"] if abs(apart) > timedelta(days=1) else []),
        "",
        f"{len(answered)} of {count(len(report.hosts), 'host')} answered"
        + (f"      {', '.join(f'{n} {word}' for word, n in sorted(words.items()))}" if words else ""),
        f"{number(posture.unknown + posture.error)} of {count(posture.expected, 'result')} could not be determined"
        + (f", {number(posture.no_answer)} more were never asked" if posture.no_answer else ""),
    ]  # fmt: skip
    if posture.error:
        lines.append(f"! {count(posture.error, 'result')} broke in the check itself: see `fleet-audit explain`")
    return "\n".join("  " + line if line else line for line in lines).removeprefix("  ")


def _bar(posture: Posture) -> str:
    if not posture.expected:
        return "  Nothing was expected of these hosts: no check applies to any of them"
    parts = [("█", posture.passed), ("░", posture.unknown + posture.error), ("∙", posture.no_answer), ("▓", posture.failed)]
    return "\n".join(
        [
            "  " + _segments(parts, posture.expected),
            f"  █ shown to pass {number(posture.passed)}    ░ unknown {number(posture.unknown + posture.error)}    "
            f"∙ no answer {number(posture.no_answer)}    ▓ fail {number(posture.failed)}",
            f"  at least {share(posture.at_least)}, at most {share(posture.at_most)}"
            f"    ({number(posture.notapplicable)} not applicable are left out)",
        ]
    )


def _segments(parts: list[tuple[str, int]], total: int) -> str:
    """A bar in which every part that is not 0 shows."""
    widths = [max(1, n * _BAR // total) if n else 0 for _, n in parts]
    widths[widths.index(max(widths))] += _BAR - sum(widths)
    return "".join(symbol * width for (symbol, _), width in zip(parts, widths, strict=True))


def _open(report: Report) -> str:
    failures = report.open_failures()
    shown = "   ".join(f"{s} {number(failures[s])}" for s in Severity if s is not Severity.INFO or failures[s])
    not_known = report.posture().not_known
    zero = f"   ({number(not_known)} not known)" if not any(failures.values()) and not_known else ""
    return f"  Open    {shown}{zero}"


def _accepted(report: Report) -> str:
    """Waivers, exclusions and old reference tables: what a person has decided, or must."""
    lines = []
    if report.waivers:
        findings = sum(w.accepted for w in report.waivers)
        parts = [f"{count(findings, 'finding')} accepted, {count(report.posture().waived, 'failure')} with them"]
        for number_, words in (
            (sum(w.soon for w in report.waivers), "within 30 days of the end"), (sum(w.expired for w in report.waivers), "expired"),
            (sum(bool(w.idle) for w in report.waivers), "accepting nothing"),
        ):  # fmt: skip
            parts += [f"{number(number_)} {words}"] if number_ else []
        lines.append(f"  Waivers {'; '.join(parts)}")
    for waiver in [w for w in report.waivers if w.expired or w.idle][:SHOWN]:
        word = f"expired on {waiver.expires}" if waiver.expired else f"accepts nothing: {waiver.idle}"
        lines.append(f"          {waiver.check} of {clean(waiver.owner, 30)} {word}")
    lines += [f"  Left out {e.check}: {_fit(e.reason, WIDTH - 14 - len(e.check))}" for e in report.exclusions[:SHOWN]]
    if len(report.exclusions) > SHOWN:
        lines.append(f"           and {len(report.exclusions) - SHOWN} more, in the report")
    lines += [f"  Too old: {clean(r.name)} of {clean(r.as_of)}; what leans on it is unknown" for r in report.references if r.stale]
    return "\n".join(lines)


def _actions(report: Report, width: int) -> str:
    actions = report.actions()
    if not actions:
        rest = report.posture().not_known
        return f"  Nothing to do for what was examined; {count(rest, 'result')} not known" if rest else ""
    total = sum(a.weight for a in actions) or 1
    room = max(10, width - 31)
    lines = [f"  {'Do next':<{room + 3}} {'hosts':>5} {'closes':>7}  disruption"]
    for rank, action in enumerate(actions[:10], 1):
        closes = share(100 * action.weight / total)
        lines.append(f"  {rank:2} {_fit(action.title, room):<{room}} {action.hosts:>5} {closes:>7}  {action.disruption or 'by hand'}")
    if len(actions) > 10:
        lines.append(f"     {len(actions) - 10} more: fleet-audit show actions")
    return "\n".join(lines)


def _unknown(report: Report, width: int) -> str:
    causes = report.causes()
    if not causes:
        return "  Every result was determined."
    lines = ["  Not known"]
    for cause in causes[:6]:
        where = f"{count(cause.hosts, 'host')}, {count(cause.checks, 'check')}"
        lines.append(f"  {number(cause.results):>6}  {_fit(cause.reason, width - 12 - len(where))} ({where})")
    if len(causes) > 6:
        lines.append(f"  {number(sum(c.results for c in causes[6:])):>6}  {count(len(causes) - 6, 'more reason')}, in the report")
    troubled = [h for h in report.hosts if h.entry.reach != "ok"][:5]
    lines += [f"          {clean(h.name, 30)}: {_fit(h.entry.detail, width - 14 - min(30, len(h.name)))}" for h in troubled]
    return "\n".join(lines)


def _cost(report: Report) -> str:
    costs = {
        h.name: h.entry.costs.get("cpu_self", 0.0) + h.entry.costs.get("cpu_children", 0.0)
        for h in report.hosts if h.entry.costs.get("cpu_self")
    }  # fmt: skip
    if not costs:
        return ""
    worst = max(costs, key=lambda name: (costs[name], name))
    received = sum(h.entry.costs.get("wire_received", 0.0) for h in report.hosts)
    return (
        f"  Cost on the nodes   median {statistics.median(costs.values()):.2f} CPU s, worst {costs[worst]:.2f} s "
        f"({clean(worst, 40)}), {received / 1e6:.1f} MB in all"
    )


def _fit(text: str, width: int) -> str:
    return clean(" ".join(text.split()), max(10, width))


FORMAT = Format("txt", render)
