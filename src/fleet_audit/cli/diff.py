# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit diff`: what changed between two runs."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

SHOWN = 20


@click.command()
@click.argument("before", required=False, metavar="[A]")
@click.argument("after", default="latest", metavar="[B]")
@click.option("--all", "everything", is_flag=True, help="Also what fails as before, one by one.")
@click.option("--facts/--no-facts", "facts", default=True, help="Compare facts too: ports, drivers, keys, model files.")
@options.store
@options.form
def command(before: str | None, after: str, store_folder: Path | None, output_format: str, *, everything: bool, facts: bool) -> int:
    """Show what changed from run A, by default the one before B, to run B, by default the latest.

    What could not be read in B is never called fixed: it is lost from sight.
    """
    from fleet_audit import diff, history
    from fleet_audit.cli import _pipeline

    store = _pipeline.open_store(store_folder)
    new = store.find(after, stage="evaluated")
    old = (
        store.find(before, stage="evaluated")
        if before is not None
        else history.previous(store, new, told=lambda why: click.echo(f"skipped: {why}", err=True))
    )
    found = diff.compare(old, new, facts=facts)
    if output_format == "json":
        value = dataclasses.asdict(found)
        click.echo(json.dumps(value, indent=1))
        return 0
    _print(found, everything=everything)
    return 0


_HEADS = {
    "new": "New", "newly-known": "Fails; was not known before", "fixed": "Fixed", "gone": "Does not apply any more",
    "lost-sight": "Lost from sight: failed before, not known now", "newly-unknown": "Not known any more", "seen-again": "Known again, and holds",
    "not-compared": "Not compared: only one of the runs has the host or check", "open": "Still open",
}  # fmt: skip


def _print(found: Any, *, everything: bool) -> None:
    from fleet_audit.report.text import clean, count

    click.echo(f"{found.before} -> {found.after}")
    for note in found.notes:
        click.echo(f"  ! {clean(note, 300)}")
    for kind, title in _HEADS.items():
        listed = [c for c in found.changes if c.kind == kind]
        if not listed:
            continue
        click.echo(f"\n{title}: {len(listed):,}")
        if kind in ("open", "not-compared", "seen-again") and not everything:
            continue
        for c in listed[: None if everything else SHOWN]:
            what = f" {clean(c.subject, 60)}" if c.subject else ""
            click.echo(f"  {c.severity:<8}  {clean(c.host, 40)}  {c.check}{what}: {clean(c.reason, 160)}{' (waived)' if c.waived else ''}")
        if len(listed) > SHOWN and not everything:
            click.echo(f"  {len(listed) - SHOWN:,} more; --all shows them")
    if found.facts:
        click.echo(f"\nFacts: {count(len(found.facts) + found.more_facts, 'change')}")
        for f in found.facts[: None if everything else 2 * SHOWN]:
            click.echo(f"  {'+' if f.came else '-'} {clean(f.host, 40)}  {f.what} {clean(' '.join(v for v in f.values if v), 160)}")
        if len(found.facts) > 2 * SHOWN and not everything:
            click.echo(f"  {len(found.facts) - 2 * SHOWN:,} more; --all shows them")
    if not found.changes and not found.facts:
        click.echo("\nNothing changed" if found.notes else "\nNothing changed: neither run has a failure, and all is known")
