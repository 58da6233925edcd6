# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit show`: the lists of a run's report on the terminal, filtered."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

KINDS = ("hosts", "checks", "findings", "actions")
SHOWN = 50
_SEVERITIES = ("critical", "high", "medium", "low", "info")
_RESULTS = ("fail", "unknown", "error", "no-answer", "pass", "notapplicable")


def _words(known: Sequence[str]) -> Callable[..., list[str]]:
    """An option of one or more words with commas, each of them known."""

    def read(_: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[str]:
        from fleet_audit.model import did_you_mean

        found = [word for text in value for word in text.split(",") if word]
        for word in found:
            if word not in known:
                raise click.BadParameter(f"{word!r}{did_you_mean(word, known, '; there are ' + ', '.join(known))}", param=parameter)
        return found

    return read


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.option("--run", "run_name", default="latest", show_default=True, metavar="RUN", help="Which run.")
@click.option(
    "--severity", "severities", multiple=True, callback=_words(_SEVERITIES), metavar="S[,S]", help="Only checks of these severities."
)
@click.option(
    "--result",
    "results",
    multiple=True,
    callback=_words(_RESULTS),
    metavar="R[,R]",
    help="Only these: fail, unknown, error, no-answer, pass, notapplicable. [default of findings: fail]",
)
@click.option("--host", "hosts", multiple=True, metavar="PATTERN", help="Only hosts whose name fits.")
@click.option("--group", "groups", multiple=True, metavar="NAME", help="Only hosts of this group of the inventory.")
@click.option("--check", "checks", multiple=True, metavar="PATTERN", help="Only checks whose id fits.")
@click.option("--area", "areas", multiple=True, metavar="NAME", help="Only checks of this area.")
@click.option("--waived", is_flag=True, help="Findings that waivers accept, too.")
@click.option("--ages", is_flag=True, help="Findings with the run that first had them, and in how many runs they failed.")
@click.option("--limit", default=SHOWN, show_default=True, type=click.IntRange(1, 1_000_000), metavar="N", help="Rows that are shown.")
@options.store
@options.form
def command(kind: str, run_name: str, store_folder: Path | None, output_format: str, limit: int, *, ages: bool, **given: Any) -> int:
    """List the HOSTS, CHECKS, FINDINGS or ACTIONS of a run, worst first.

    Several options must all hold; several values of one are alternatives.
    """
    from fleet_audit import history
    from fleet_audit.cli import _pipeline
    from fleet_audit.findings import load

    store = _pipeline.open_store(store_folder)
    report = load(store.find(run_name, stage="evaluated"))
    chosen = _narrowed(report, given)
    rows, note = {"hosts": _hosts, "checks": _checks, "findings": _findings, "actions": _actions}[kind](chosen, given)
    if ages and kind == "findings":
        rows = _aged(rows, history.ages(store, report), history.read_at(report))
    if output_format == "json":
        click.echo(json.dumps(rows, indent=1))
        return 0
    _print(rows, limit, note)
    return 0


def _narrowed(report: Any, given: dict[str, Any]) -> Any:
    """The report of the hosts and checks that the options leave. Raises `FleetAuditError` for a name that there is not."""
    from dataclasses import replace

    from fleet_audit.model import FleetAuditError, did_you_mean

    groups = {g for h in report.hosts for g in h.entry.groups}
    areas = {c.area for c in report.checks}
    for what, names, known in (("group", given["groups"], groups), ("area", given["areas"], areas)):
        for name in names:
            if name not in known:
                raise FleetAuditError(f"--{what}: run {report.id} has no {what} {name!r}{did_you_mean(name, known)}")

    def fits(name: str, patterns: Sequence[str]) -> bool:
        return not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)

    hosts = tuple(
        h for h in report.hosts if fits(h.name, given["hosts"]) and (not given["groups"] or set(h.entry.groups) & set(given["groups"]))
    )
    checks = tuple(
        c for c in report.checks if fits(c.id, given["checks"]) and (not given["areas"] or c.area in given["areas"])
        and (not given["severities"] or c.severity in given["severities"])
    )  # fmt: skip
    for what, found, patterns in (("host", hosts, given["hosts"]), ("check", checks, given["checks"])):
        if patterns and not found:
            raise FleetAuditError(f"--{what}: nothing of run {report.id} fits {', '.join(patterns)}")
    names, ids = {h.name for h in hosts}, {c.id for c in checks}
    return replace(
        report, hosts=hosts, checks=checks, results=tuple(r for r in report.results if r.host in names and r.check in ids),
        findings=tuple(f for f in report.findings if f.host in names and f.check in ids),
    )  # fmt: skip


def _word(report: Any, result: Any) -> str:
    """How a result is called here: those of silent hosts apart."""
    return "no-answer" if result.host in report.silent else str(result.outcome)


def _counted(report: Any, of: Callable[[Any], str]) -> dict[str, Any]:
    """{name: posture} of the results, by host or by check."""
    from collections import defaultdict

    found: dict[str, list[Any]] = defaultdict(list)
    for result in report.results:
        found[of(result)].append(result)
    return {name: report.posture(results) for name, results in found.items()}


def _row(posture: Any) -> dict[str, int]:
    return {"fail": posture.failed - posture.waived, "waived": posture.waived, "unknown": posture.unknown + posture.error,
            "no_answer": posture.no_answer, "pass": posture.passed}  # fmt: skip


def _kept(posture: Any, results: Sequence[str]) -> bool:
    counts = {"fail": posture.failed, "unknown": posture.unknown, "error": posture.error, "no-answer": posture.no_answer,
              "pass": posture.passed, "notapplicable": posture.notapplicable}  # fmt: skip
    return not results or any(counts[word] for word in results)


def _hosts(report: Any, given: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    from fleet_audit.findings import Posture

    counts = _counted(report, lambda r: str(r.host))
    rows = [
        {"host": h.name, "groups": ",".join(h.entry.groups), **_row(p), "reach": h.entry.reach, "detail": h.entry.detail}
        for h in report.hosts if _kept(p := counts.get(h.name, Posture()), given["results"])
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (r["reach"] == "ok", -r["fail"], -r["unknown"], r["host"])), ""


def _checks(report: Any, given: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    from fleet_audit.findings import Posture

    counts = _counted(report, lambda r: str(r.check))
    rows = [
        {"check": c.id, "severity": str(c.severity), **_row(p), "title": c.title}
        for c in report.checks if _kept(p := counts.get(c.id, Posture()), given["results"])
    ]  # fmt: skip
    return sorted(rows, key=lambda r: (not r["fail"], _SEVERITIES.index(r["severity"]), -r["fail"], -r["unknown"], r["check"])), ""


def _findings(report: Any, given: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    wanted = given["results"] or ["fail"]
    if beside := [word for word in wanted if word in ("pass", "notapplicable")]:
        raise click.UsageError(f"findings are what failed or is not known: `fleet-audit show checks --result {beside[0]}` lists the rest")
    severity = {c.id: str(c.severity) for c in report.checks}
    words = {(r.check, r.host): _word(report, r) for r in report.results}
    rows, hidden, accepted = [], 0, 0
    for finding in report.findings:
        word = "no-answer" if words[finding.check, finding.host] == "no-answer" else str(finding.outcome)
        if word not in wanted:
            hidden += word != "fail" and not given["results"]
            continue
        if finding.waiver is not None and not given["waived"]:
            accepted += 1
            continue
        rows.append({"severity": severity[finding.check], "result": word, "host": finding.host, "check": finding.check,
                     "subject": finding.subject, "reason": finding.reason, "fingerprint": finding.fingerprint})  # fmt: skip
    order = {word: n for n, word in enumerate(_RESULTS)}
    rows.sort(key=lambda r: (_SEVERITIES.index(r["severity"]), order[r["result"]], r["check"], r["host"], r["subject"]))
    notes = [f"{hidden:,} not known are not shown: --result unknown,error,no-answer"] if hidden else []
    notes += [f"{accepted:,} that waivers accept are not shown: --waived"] if accepted else []
    return rows, "; ".join(notes)


def _aged(rows: list[dict[str, Any]], found: Any, read_at: Any) -> list[dict[str, Any]]:
    """The rows with when each was first seen, the oldest first among those of a severity."""
    aged = []
    for row in rows:
        age = found.get(row["fingerprint"])
        days = (read_at - age.first_seen).days if age else 0
        aged.append({"severity": row["severity"], "days": max(0, days), "runs": age.runs if age else 0,
                     "first_run": age.first_run if age else "", **{k: v for k, v in row.items() if k != "severity"}})  # fmt: skip
    return sorted(aged, key=lambda r: (_SEVERITIES.index(r["severity"]), -r["days"], r["check"], r["host"], r["subject"]))


def _actions(report: Any, given: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    rows = [
        {"rank": n, "hosts": a.hosts, "failures": a.failures, "critical": a.critical, "weight": a.weight, "disruption": a.disruption or "by hand",
         "role": a.role or "", "title": a.title, "checks": ",".join(a.checks)} for n, a in enumerate(report.actions(), 1)
    ]  # fmt: skip
    unknown = report.posture().not_known
    return rows, f"{unknown:,} results are not known: nothing here closes them" if unknown else ""


_WIDE = {"reason": 1, "detail": 1, "title": 1, "subject": 2, "checks": 2, "groups": 2}
"""Columns that give way on a narrow terminal, those of 1 last."""
_HIDDEN = ("fingerprint", "checks")
"""Columns that only JSON has."""


def _print(rows: list[dict[str, Any]], limit: int, note: str) -> None:
    from fleet_audit.report.text import clean, count

    if not rows:
        click.echo("nothing fits" + (f"; {note}" if note else ""), err=True)
        return
    heads = [name for name in rows[0] if name not in _HIDDEN]
    cells = [[clean(" ".join(str(row[name]).split()), 300) for name in heads] for row in rows[:limit]]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    sizes = [max(len(head), *(len(cell[n]) for cell in cells)) for n, head in enumerate(heads)]
    if width is not None:
        sizes = _narrow(heads, sizes, width)
    numbers = [isinstance(rows[0][name], int) for name in heads]

    def line(texts: Iterable[str]) -> str:
        parts = [
            (clean(text, size).rjust(size) if right else clean(text, size).ljust(size))
            for text, size, right in zip(texts, sizes, numbers, strict=True)
        ]
        text = "  ".join(parts).rstrip()
        return text if width is None else clean(text, width)

    click.echo(line(name.replace("_", " ") for name in heads))
    for cell in cells:
        click.echo(line(cell))
    if len(rows) > limit:
        click.echo(f"{len(rows) - limit:,} more of {count(len(rows), 'row')}; --limit shows more, --format json all", err=True)
    if note:
        click.echo(note, err=True)


def _narrow(heads: Sequence[str], sizes: list[int], width: int) -> list[int]:
    """Widths that fit a terminal: wide columns of text give way first."""
    over = sum(sizes) + 2 * (len(sizes) - 1) - width
    for rank in (2, 1):
        for n, head in enumerate(heads):
            if over > 0 and _WIDE.get(head) == rank:
                least = min(sizes[n], 12 if rank == 2 else 24)
                cut = min(over, sizes[n] - least)
                sizes[n] -= cut
                over -= cut
    return sizes
