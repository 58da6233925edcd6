# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit history`: the runs over time."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

WIDTH = 24
_STEPS = "▁▂▃▄▅▆▇█"


@click.command()
@click.option(
    "--limit", default=30, show_default=True, type=click.IntRange(1, 100_000), metavar="N", help="Runs that are shown, the newest."
)
@click.option("--area", metavar="NAME", help="The trend of one area of checks.")
@click.option("--control", metavar="NAME", help="The trend of one control, such as `nist-800-53 AC-6`.")
@click.option("--fixed", is_flag=True, help="Instead: what was fixed, and how long it had been open.")
@options.store
@options.form
def command(limit: int, area: str | None, control: str | None, store_folder: Path | None, output_format: str, *, fixed: bool) -> int:
    """Show the evaluated runs, oldest first: who answered, the posture as an interval, what was open, and its trend."""
    from fleet_audit import history
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError, did_you_mean
    from fleet_audit.report.text import clean, count, share

    store = _pipeline.open_store(store_folder)
    if fixed:
        return _fixed(store, output_format)
    found = history.read(store, limit=limit)
    for name, why in found.skipped:
        click.echo(f"skipped {name}: {clean(why, 200)}", err=True)
    if output_format == "json":
        click.echo(history.as_json(found))
        return 0
    if not found.runs:
        click.echo("no evaluated run yet")
        return 0
    if area or control:
        kind, name = ("areas", area) if area else ("controls", control or "")
        names = {key for run in found.runs for key in getattr(run, kind)}
        if name not in names:
            raise FleetAuditError(f"no run has {kind[:-1]} {name!r}{did_you_mean(name, names)}")
        for run in found.runs:
            passed, failed, unknown = getattr(run, kind).get(name, (0, 0, 0))
            total = passed + failed + unknown
            words = (
                f"at least {share(100 * passed / total)}, at most {share(100 * (total - failed) / total)}" if total else "nothing expected"
            )
            click.echo(f"{run.id}  {_bar(passed, unknown, failed)}  {words}   {failed:,} fail")
        return 0
    for before, run in zip([None, *found.runs], found.runs, strict=False):
        posture = f"{share(run.at_least):>7} to {share(run.at_most):>7}"
        other = "" if before is None or before.profile == run.profile else f"   profile {clean(run.profile, 30)}"
        gap = f"   {days} days after" if before and (days := (run.started_at - before.started_at).days) > 1 else ""
        worst = ", ".join(f"{n:,} {s}" for s, n in run.open_failures.items() if s in ("critical", "high"))
        click.echo(
            f"{run.id}  {run.answered:>5,} of {count(run.hosts, 'host')}  {_bar(run.passed, run.unknown + run.no_answer, run.failed)}  "
            f"{posture}   open {worst}{other}{gap}"
        )
    low = [run.at_least for run in found.runs if run.at_least is not None]
    if len(low) > 1:
        click.echo(f"shown to pass  {_line(low)}  {share(min(low))} to {share(max(low))}")
    return 0


def _fixed(store: Any, output_format: str) -> int:
    """Time to fix by severity, then what was fixed last."""
    from fleet_audit import history
    from fleet_audit.report.text import clean, count

    found = history.fixed(store)
    severity = {c["id"]: c["severity"] for c in store.find(stage="evaluated").document("checks.json")}
    if output_format == "json":
        click.echo(json.dumps([
            {"check": f.check, "host": f.host, "subject": f.subject, "severity": severity.get(f.check), "first_seen": f.first_seen.isoformat(),
             "fixed_at": f.fixed_at.isoformat(), "days": round(f.days, 2)} for f in found
        ], indent=1))  # fmt: skip
        return 0
    if not found:
        click.echo("nothing was seen to be fixed yet")
        return 0
    for name in ("critical", "high", "medium", "low", "info"):
        days = [f.days for f in found if severity.get(f.check) == name]
        if days:
            click.echo(f"{name:<9} {len(days):>6,} fixed   median {statistics.median(days):.1f} days, longest {max(days):.1f}")
    click.echo("")
    for f in found[:20]:
        what = f" {clean(f.subject, 60)}" if f.subject else ""
        click.echo(f"{f.fixed_at:%Y-%m-%d}  {f.days:>6.1f} days  {clean(f.host, 40)}  {f.check}{what}")
    if len(found) > 20:
        click.echo(f"{count(len(found) - 20, 'more')}; --format json has all".replace("mores", "more"))
    return 0


def _bar(passed: int, unknown: int, failed: int) -> str:
    """A bar in which every part that is not 0 shows."""
    total = passed + unknown + failed
    if not total:
        return " " * WIDTH
    widths = [max(1, n * WIDTH // total) if n else 0 for n in (passed, unknown, failed)]
    widths[widths.index(max(widths))] += WIDTH - sum(widths)
    return "".join(symbol * width for symbol, width in zip("█░▓", widths, strict=True))


def _line(values: list[float]) -> str:
    low, high = min(values), max(values)
    return "".join(_STEPS[int((v - low) / (high - low) * (len(_STEPS) - 1))] if high > low else _STEPS[3] for v in values[-60:])
