# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit explain`: from a result back to the bytes that it was decided from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

HEAD = 4096
"""Bytes of a source's evidence that are shown."""


@click.command()
@click.argument("host")
@click.argument("check")
@click.option("--run", "run_name", default="latest", show_default=True, metavar="RUN", help="Which run.")
@options.store
@options.form
def command(host: str, check: str, run_name: str, store_folder: Path | None, output_format: str) -> int:
    """Show the result of CHECK on HOST, its reason, and the evidence behind it."""
    from fleet_audit.cli import _pipeline

    store = _pipeline.open_store(store_folder)
    value = explanation(store, store.find(run_name, stage="evaluated"), host, check)
    if output_format == "json":
        click.echo(json.dumps(value, indent=1))
    else:
        _print(value)
    return 0


def explanation(store: Any, run: Any, host: str, check: str) -> dict[str, Any]:
    """Everything about one result. Raises `FleetAuditError` for a host or check that the run lacks."""
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError

    report = load(run)
    view = next((c for c in report.checks if c.id == check), None)
    if view is None:
        raise FleetAuditError(f"run {report.id} has no check {check!r}; `fleet-audit checks list` shows all")
    entry = next((h for h in report.hosts if h.name == host), None)
    if entry is None:
        raise FleetAuditError(f"run {report.id} has no host {host!r}")
    result = next(r for r in report.results if r.check == check and r.host == host)
    evidence = next(e for e in run.evidence() if e.host == host)
    sources = []
    for record in evidence.records:
        if record.source in view.sources:
            body = store.objects.get(record.sha256)[:HEAD] if record.sha256 else b""
            sources.append({
                "source": record.source, "status": str(record.status), "detail": record.detail, "exit": record.exit,
                "sha256": record.sha256, "size": record.size, "seconds": record.seconds, "head": body.decode("utf-8", "backslashreplace"),
            })  # fmt: skip
    return {
        "run": report.id, "host": host, "check": check, "title": view.title, "severity": str(view.severity),
        "outcome": str(result.outcome), "reason": result.reason, "reach": entry.entry.reach, "detail": entry.entry.detail,
        "subjects": [{"subject": f.subject, "outcome": str(f.outcome), "reason": f.reason, "fingerprint": f.fingerprint,
                      "waiver": None if f.waiver is None else dataclasses.asdict(report.waivers[f.waiver])}
                     for f in report.findings if f.check == check and f.host == host],
        "unknown_means": view.unknown, "rationale": view.rationale, "fix": view.fix, "query": view.query, "applies": view.applies,
        "tables": list(view.tables), "params": view.params_for(entry.entry.groups), "references": list(view.references), "evidence": sources,
    }  # fmt: skip


def _print(value: dict[str, Any]) -> None:
    from fleet_audit.report.text import clean

    click.echo(f"{clean(value['host'])}  {value['check']}  {value['outcome']}")
    click.echo(f"  {value['title']} ({value['severity']})")
    if value["reason"]:
        click.echo(f"  {clean(value['reason'], 1000)}")
    if value["reach"] != "ok":
        click.echo(f"  the host: {value['reach']}: {clean(value['detail'], 500)}")
    for subject in value["subjects"]:
        click.echo(f"  - {subject['outcome']}: {clean(subject['subject'], 200)}: {clean(subject['reason'], 500)}")
        if waiver := subject["waiver"]:
            click.echo(f"    waived until {waiver['expires']} by {clean(waiver['owner'], 100)}: {clean(waiver['reason'], 300)}")
    for label, field in (("Why", "rationale"), ("Fix", "fix"), ("Unknown", "unknown_means")):
        if value[field]:
            click.echo(f"\n{label}: {' '.join(value[field].split())}")
    click.echo(f"\nDecided by\n  {' '.join(value['query'].split())}")
    if value["applies"]:
        click.echo(f"  where {' '.join(value['applies'].split())}")
    if value["params"]:
        click.echo(f"  with {json.dumps(value['params'])}")
    click.echo("\nEvidence")
    for source in value["evidence"]:
        why = f": {clean(source['detail'], 300)}" if source["detail"] else ""
        sha = f", sha256 {source['sha256'][:16]}" if source["sha256"] else ""
        click.echo(f"  {source['source']}  {source['status']}{why}  ({source['size']} bytes, {source['seconds']:.3f} s{sha})")
        for line in source["head"].splitlines()[:20]:
            click.echo(f"    | {clean(line, 160)}")
        if source["size"] > HEAD or len(source["head"].splitlines()) > 20:
            click.echo("    | ...")
