# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit prune`: remove runs that are no longer wanted."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.option(
    "--keep-daily", default=30, show_default=True, type=click.IntRange(0, 10_000), metavar="N", help="Days whose newest run is kept."
)
@click.option("--keep-weekly", default=12, show_default=True, type=click.IntRange(0, 10_000), metavar="N", help="Weeks, likewise.")
@click.option("--keep-monthly", default=24, show_default=True, type=click.IntRange(0, 10_000), metavar="N", help="Months, likewise.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and end.")
@options.store
def command(keep_daily: int, keep_weekly: int, keep_monthly: int, store_folder: Path | None, *, dry_run: bool) -> int:
    """Remove runs, keeping the newest of each day, week and month for so long, and the evidence that only they need.

    Evidence that was decided several times counts once. The newest run, the newest evaluated one and that of the newest
    evidence always stay, as do runs in progress, broken ones, and those of plans of which something is in force.
    """
    from fleet_audit import history, planlog
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import count

    store = _pipeline.open_store(store_folder)
    runs = store.runs()
    evaluated, kept = {}, set(runs[-1:])
    for name in runs:
        try:
            file = store.find(name).file
        except FleetAuditError as error:
            click.echo(f"kept as it is broken: {error}", err=True)
            kept.add(name)
            continue
        if file.stage == "evaluated":
            evaluated[name] = file.evidence_of
    kept |= planlog.runs_needed(store.folder)
    kept |= history.keepers(evaluated, keep_daily, keep_weekly, keep_monthly)
    doomed = [name for name in runs if name not in kept]
    if dry_run:
        for name in doomed:
            click.echo(f"would remove {name}")
        click.echo(f"{count(len(runs) - len(doomed), 'run')} of {len(runs):,} kept")
        return 0
    removed, objects = history.prune(store.writable(), doomed)
    click.echo(f"{count(removed, 'run')} and {count(objects, 'piece')} of evidence removed, {count(len(runs) - removed, 'run')} kept")
    return 0
