# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit facts`: the tables that checks read, their columns and where they come from."""

from __future__ import annotations

import json
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.group()
def command() -> None:
    """List and show the tables of facts."""


@command.command("list")
@options.form
def list_(output_format: str) -> int:
    """List all tables."""
    from fleet_audit.facts import tables

    if output_format == "json":
        click.echo(json.dumps([_value(t) for t in tables().values()], indent=1))
        return 0
    for table in sorted(tables().values(), key=lambda t: t.name):
        click.echo(f"{table.name:<24} {table.doc.splitlines()[0]}")
    click.echo("\nBeside them: hosts (host, groups, expected), covered (host, tab), and for `query` coverage (host, tab, state, reason).")
    return 0


@command.command()
@click.argument("table")
@options.form
def show(table: str, output_format: str) -> int:
    """Show one table: columns, sources and the rights that they need."""
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError

    if table not in tables():
        raise FleetAuditError(f"no table is named {table!r}; `fleet-audit facts list` shows them")
    found = tables()[table]
    if output_format == "json":
        click.echo(json.dumps(_value(found), indent=1))
        return 0
    click.echo(f"{found.name}\n{found.doc}\n")
    click.echo(f"  {'host':<26} {'VARCHAR':<11}            Name of the host in the inventory")
    for column in found.columns:
        click.echo(f"  {column.name:<26} {column.type:<11} {'nullable' if column.nullable else '':<10} {column.doc}")
    for source in found.sources:
        click.echo(f"\nsource {source.id} ({source.reader}{', needs root' if source.needs_root else ''})\n  {source.doc}")
        click.echo(f"  {json.dumps(dict(source.args))}")
    return 0


def _value(table: Any) -> dict[str, Any]:
    return {
        "name": table.name, "doc": table.doc,
        "columns": [{"name": c.name, "type": c.type, "nullable": c.nullable, "doc": c.doc} for c in table.columns],
        "sources": [{"id": s.id, "reader": s.reader, "args": dict(s.args), "doc": s.doc, "needs_root": s.needs_root,
                     "when_exists": s.when_exists, "when_ok": s.when_ok, "otherwise": s.otherwise} for s in table.sources],
    }  # fmt: skip
