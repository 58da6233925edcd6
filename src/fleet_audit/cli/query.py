# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit query`: a SELECT over the facts of a run, in the same sandbox as checks."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import click

from fleet_audit.cli import _options as options

ROWS_SHOWN = 1000


@click.command()
@click.argument("statement")
@click.option("--run", "run_name", default="latest", show_default=True, metavar="RUN", help="Which run.")
@options.store
@options.form
def command(statement: str, run_name: str, store_folder: Path | None, output_format: str) -> int:
    """Run STATEMENT, one SELECT, over the facts of a run. `fleet-audit facts list` shows the tables.

    Beside these there are `hosts` (host, groups, expected), `coverage` (host, tab, state, reason), and the
    reference tables `ref_...` that the run's checks lean on.
    """
    from fleet_audit import sql
    from fleet_audit.cli import _pipeline
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean
    from fleet_audit.tables import DatabaseError, Facts
    from fleet_audit.versions import key

    parsed = sql.parse(statement.rstrip().rstrip(";"), types={}, lint=False)
    run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
    references = run.document("references.json") if "references.json" in run.file.files else {}
    known = {*tables(), *references, *sql.BUILT_IN_TABLES, "coverage"}
    if unknown := sorted(parsed.tables - known):
        raise FleetAuditError(f"no table is named {unknown[0]!r}; `fleet-audit facts list` shows them")
    facts = Facts.load({name: tables()[name] for name in sorted(parsed.tables & set(tables()))}, run.facts())
    for name in sorted(parsed.tables & set(references)):
        facts.add_reference(name, references[name]["columns"], references[name]["rows"])
    facts.connection.execute("SET max_execution_time=60000").fetchall()
    facts.lock()
    try:
        keys = {name: key(kind, literal or "") for name, (kind, literal, _) in parsed.version_keys.items()}
        cursor = facts.connection.execute(f"SELECT * FROM ({parsed.text})", keys)
        names = [column[0] for column in cursor.description or []]
        rows = cursor.fetchall()
    except DatabaseError as error:
        words = re.sub(r"^(?:[A-Z][A-Za-z-]*|INTERRUPT) Error: ", "", str(error).splitlines()[0])
        if "maximum execution time" in words:
            words = "it takes longer than 60 s: ask for less"
        raise FleetAuditError(words) from None
    missing: dict[str, list[str]] = {}
    for host, states in sorted(facts.coverage().items()):
        for table in sorted(parsed.tables & set(tables())):
            state, reason = states.get(table, ("none", "not asked for: `fleet-audit collect --all` reads everything"))
            if state != "complete":
                missing.setdefault(table, []).append(f"{host} ({state}: {reason})")
    for table, hosts in missing.items():
        click.echo(f"not whole: {table} on {len(hosts)} of {len(facts.coverage())} hosts, such as {clean(hosts[0], 160)}", err=True)
    if output_format == "json":
        finite = [[None if isinstance(v, float) and not math.isfinite(v) else v for v in row] for row in rows]
        click.echo(json.dumps([dict(zip(names, row, strict=True)) for row in finite], indent=1, default=str))
    else:
        _table(names, rows)
    return 0


def _table(names: list[str], rows: list[tuple[object, ...]]) -> None:
    from fleet_audit.report.text import clean

    shown = [["" if v is None else clean(str(v), 80) for v in row] for row in rows[:ROWS_SHOWN]]
    widths = [max([len(n), *(len(r[i]) for r in shown)]) for i, n in enumerate(names)]
    click.echo("  ".join(n.ljust(w) for n, w in zip(names, widths, strict=True)).rstrip())
    for row in shown:
        click.echo("  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip())
    if len(rows) > ROWS_SHOWN:
        click.echo(f"... {ROWS_SHOWN} of {len(rows)} rows; --format json prints all")
