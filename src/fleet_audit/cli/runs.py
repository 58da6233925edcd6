# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit runs`: what the store holds."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@options.store
@options.form
def command(store_folder: Path | None, output_format: str) -> int:
    """List the runs of the store, oldest first; broken and interrupted ones are named."""
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError

    store = _pipeline.open_store(store_folder)
    rows = []
    for name in store.runs():
        try:
            file = store.find(name).file
            answered = sum(h.answered for h in file.hosts.values())
            rows.append({"id": name, "stage": file.stage, "hosts": len(file.hosts), "answered": answered,
                         "checks": len(file.inputs.get("checks") or []), "profile": file.inputs.get("profile"), "problem": None})  # fmt: skip
        except FleetAuditError as error:
            rows.append(
                {"id": name, "stage": "broken", "hosts": None, "answered": None, "checks": None, "profile": None, "problem": str(error)}
            )
    rows += [{"id": name, "stage": "broken", "hosts": None, "answered": None, "checks": None, "profile": None,
              "problem": f"{store.folder / 'runs' / name}: it has no run.json"} for name in store.broken()]  # fmt: skip
    unsealed = {"stage": "interrupted", "hosts": None, "answered": None, "checks": None, "profile": None,
                "problem": "`fleet-audit run --resume` completes it, or it is in progress"}  # fmt: skip
    rows += [{"id": name, **unsealed} for name in store.partial()]
    if output_format == "json":
        click.echo(json.dumps(rows, indent=1))
        return 0
    if not rows:
        click.echo(f"{store.folder}: no runs yet")
    for row in rows:
        counts = (
            f"{row['answered']} of {row['hosts']} hosts, {row['checks']} checks, {row['profile']}"
            if row["problem"] is None
            else row["problem"]
        )
        click.echo(f"{row['id']}  {row['stage']:<11}  {counts}")
    return 0
