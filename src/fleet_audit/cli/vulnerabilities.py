# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit vulnerabilities`: what to do first about the open ones of a run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run_name", default="latest", metavar="[RUN]")
@click.option("--host", metavar="HOST", help="Only what concerns this host.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), metavar="N", help="Actions that are shown.")
@options.store
@options.form
def command(run_name: str, host: str | None, limit: int, store_folder: Path | None, output_format: str) -> int:
    """List what closes the known vulnerabilities of RUN, in the order in which it should be done, with the reasons.

    Exit status: 0, whatever is open; 3 if nothing could be told of any host.
    """
    from fleet_audit.advisories import matching, priorities
    from fleet_audit.cli import _pipeline
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean, count
    from fleet_audit.tables import Facts

    run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
    if host is not None and host not in run.file.hosts:
        raise FleetAuditError(f"run {run.file.id} has no host {host!r}")
    folder = run.facts()
    known = {name: tables()[name] for name in (*matching.TABLES, *priorities.BESIDE) if (folder / f"{name}.parquet").exists()}
    facts = Facts.load(known, folder)
    listed = priorities.actions(facts, host)
    states = {h: s for h, s in facts.coverage().items() if h in run.file.hosts and host in (None, h)}
    gaps = {
        name: sorted((h, s.get(name, ("none", "not asked for"))) for h, s in states.items() if s.get(name, ("none", ""))[0] != "complete")
        for name in matching.TABLES
    }  # fmt: skip
    dark = bool(states) and all(len(hosts) == len(states) for hosts in gaps.values()) and all(a.kind == "restart" for a in listed)
    facts.connection.close()
    if output_format == "json":
        click.echo(json.dumps({
            "run": run.file.id,
            "actions": [{"title": a.title, "kind": a.kind, "hosts": sorted(a.hosts), "cves": dict(sorted(a.cves.items())),
                         "exploited": sorted(a.exploited), "likely": sorted(a.likely), "listens": sorted(a.exposed)} for a in listed],
            "not_whole": {name: [{"host": h, "coverage": state, "reason": why} for h, (state, why) in hosts] for name, hosts in gaps.items()},
        }, indent=1))  # fmt: skip
        return 3 if dark else 0
    for number, action in enumerate(listed[:limit], 1):
        where = clean(next(iter(action.hosts))) if len(action.hosts) == 1 else count(len(action.hosts), "host")
        closes = f"{count(len(action.cves), 'vulnerability', 'vulnerabilities')}, " if action.cves else ""
        click.echo(f"{number:>3}. {clean(action.title, 120)} on {where}: {closes}{action.reasons}")
        worst = (
            sorted(action.exploited)
            or sorted(action.likely)
            or [c for c, word in sorted(action.cves.items()) if word in ("critical", "high")]
        )
        if worst:
            click.echo(f"     {', '.join(clean(c, 40) for c in worst[:5])}{' ...' if len(worst) > 5 else ''}")
    if len(listed) > limit:
        click.echo(f"     {count(len(listed) - limit, 'further action')}; --limit shows more, --format json all")
    if dark:
        click.echo("nothing could be told of any host: see below", err=True)
    elif not listed:
        click.echo("no known vulnerability is open where it could be told")
    for name, hosts in gaps.items():
        if hosts:
            first, (state, why) = hosts[0]
            click.echo(
                f"not whole: {name} on {len(hosts)} of {len(states)} hosts, such as {clean(first)} ({state}: {clean(why, 160)})", err=True
            )
    return 3 if dark else 0
