# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit checks`: what checks there are, and whether their examples hold."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.group()
def command() -> None:
    """List, show and test checks."""


@command.command("list")
@click.option("--profile", metavar="NAME", help="Only the checks of this profile.")
@options.checks_folder
@options.form
def list_(profile: str | None, check_folders: tuple[Path, ...], output_format: str) -> int:
    """List all checks."""
    from fleet_audit import checks
    from fleet_audit.facts import tables

    library = checks.load(check_folders, tables=tables())
    chosen = library.select(profile) if profile else sorted(library.checks.values(), key=lambda c: (c.area, c.id))
    if output_format == "json":
        click.echo(json.dumps([{"id": c.id, "title": c.file.title, "severity": str(c.file.severity), "area": c.area,
                                "profiles": c.file.profiles} for c in chosen], indent=1))  # fmt: skip
        return 0
    for check in chosen:
        click.echo(f"{check.area:<13} {check.file.severity:<9} {check.id:<42} {check.file.title}")
    return 0


@command.command()
@click.argument("check")
@options.checks_folder
@options.form
def show(check: str, check_folders: tuple[Path, ...], output_format: str) -> int:
    """Show one check: what it wants, why, how it is decided, and what it reads."""
    from fleet_audit import checks
    from fleet_audit.facts import tables

    found = checks.load(check_folders, tables=tables()).named(check)
    sources = sorted({s.id for name in found.tables for s in tables()[name].sources})
    if output_format == "json":
        document = found.file.model_dump(mode="json") | {"area": found.area, "tables": sorted(found.tables), "sources": sources}
        click.echo(json.dumps(document, indent=1, default=str))
        return 0
    file = found.file
    click.echo(f"{found.id}\n{file.title}\n")
    click.echo(
        f"severity   {file.severity}\narea       {found.area}\nsurface    {', '.join(file.surface)}\nprofiles   {', '.join(file.profiles)}"
    )
    click.echo(f"tables     {', '.join(sorted(found.tables))}\nsources    {', '.join(sources)}")
    absence = sorted(found.query.absence | (found.applies.absence if found.applies else frozenset()))
    if absence:
        click.echo(f"absence    {', '.join(absence)} (must be complete before a failure counts)")
    for name, value in file.params.items():
        click.echo(f"param      {name} = {json.dumps(value)}")
    for framework, numbers in file.controls.items():
        click.echo(f"control    {framework} {', '.join(numbers)}")
    click.echo(f"\nWhy: {' '.join(file.rationale.split())}\nFix: {' '.join(file.fix.split())}")
    if file.impact:
        click.echo(f"Training: {' '.join(file.impact.split())}")
    if file.remediation:
        click.echo(f"Role: {file.remediation.role} {json.dumps(file.remediation.vars)} (disruption {file.remediation.disruption})")
    if file.applies:
        click.echo(f"\nApplies\n  {' '.join(file.applies.split())}")
    because = f" ({file.none_because})" if file.none_because else ""
    click.echo(f"\nDecided by\n  {' '.join(file.query.split())}\nwithout a row: {file.none}{because}")
    for reference in file.references:
        click.echo(f"see {reference}")
    return 0


SKELETON = """id: {id}
title: The desired state as a sentence
severity: medium                    # critical, high, medium, low or info: the harm if the state does not hold
surface: [tools]                    # of data, tools, model, hardware, edge, people
rationale: Why it matters on a training fleet.
fix: What a person does about a failure.
controls: {{nist-800-53: [CM-6]}}
profiles: [{profile}]
# params: {{allowed: []}}             # written $allowed in SQL; the policy sets them for the fleet or a group
# applies: SELECT host, <boolean> AS applies FROM os
#
# {table}: {doc}
{columns}
query: >
  SELECT host, {subject} AS subject, {subject} <> 'what is wrong' AS pass,
         {subject} || ' is there' AS reason
  FROM {table}
none: pass                          # an applicable host without a row: pass, fail or unknown
none_because: There is nothing of the kind
references: ["https://example.org/manual (read {today})"]
examples:
  - {{result: pass, {table}: [{{{subject}: good}}]}}
  - {{result: fail, {table}: [{{{subject}: what is wrong}}]}}
  - {{result: pass, {table}: []}}
  - {{result: unknown, coverage: {{{table}: none}}, {table}: []}}
"""


@command.command()
@click.argument("id_", metavar="ID")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--table", default="packages", show_default=True, metavar="NAME", help="The table that it decides on; `facts list` shows them."
)
@click.option("--profile", default="baseline", show_default=True, metavar="NAME", help="The profile that selects it.")
def new(id_: str, folder: Path, table: str, profile: str) -> int:
    """Write FOLDER/ID.yaml, a check to fill in: the folder's name is its area. `checks test FOLDER` tries it."""
    from datetime import UTC, datetime

    from fleet_audit import checkfile, checks
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError

    if not checkfile.ID.fullmatch(id_):
        raise FleetAuditError(f"{id_!r} is no id: write the desired state in words, such as `root-login-restricted`")
    library = checks.load(tables=tables())
    library.select(profile)
    for check in library.checks.values():
        if id_ == check.id or id_ in check.file.aliases:
            raise FleetAuditError(f"the id {id_!r} is taken by {check.path}; ids are never reused")
    if id_ in library.retired:
        raise FleetAuditError(f"the id {id_!r} was that of another check; ids are never reused")
    if table not in tables():
        raise FleetAuditError(f"no table is named {table!r}; `fleet-audit facts list` shows them")
    found = tables()[table]
    texts = sorted((c for c in found.columns if c.type == "VARCHAR"), key=lambda c: c.nullable)
    subject = texts[0].name if texts else None
    if subject is None:
        raise FleetAuditError(f"{table} has no column of text to name a subject by; write the check by hand")
    columns = "\n".join(f"#   {c.name} {c.type}{' (NULL: not determined)' if c.nullable else ''}: {c.doc}" for c in found.columns)
    text = SKELETON.format(id=id_, profile=profile, table=table, doc=" ".join(found.doc.split()), columns=columns, subject=subject,
                           today=datetime.now(UTC).date())  # fmt: skip
    path = folder / f"{id_}.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FleetAuditError(f"{path}: it is there already") from None
    except OSError as error:
        raise FleetAuditError(f"{path}: {error.strerror}") from None
    click.echo(f"{path}: fill it in, then run `fleet-audit checks test {folder}`")
    return 0


@command.command()
@click.argument("folder", type=click.Path(path_type=Path), required=False)
@click.option("--no-one-way", is_flag=True, help="Leave out the tests that take evidence away.")
@options.form
def test(folder: Path | None, no_one_way: bool, output_format: str) -> int:
    """Run the examples of the checks in FOLDER (default: the shipped ones), then take their evidence away.

    Losing evidence may turn a result into unknown, and nothing into anything else.
    """
    from fleet_audit import checks, examples
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError

    library = checks.load([folder] if folder else [], tables=tables())
    chosen = [c for c in library.checks.values() if folder is None or c.path.resolve().is_relative_to(folder.resolve())]
    if not chosen:
        raise FleetAuditError(f"{folder}: no checks there")
    found = [
        (check, examples.run(check, tables(), library.references, one_way=not no_one_way)) for check in sorted(chosen, key=lambda c: c.path)
    ]
    bad = sum(bool(problems) for _, problems in found)
    if output_format == "json":
        click.echo(json.dumps([{"id": check.id, "path": str(check.path), "problems": [f"{p.label}: {p.message}" for p in problems]}
                               for check, problems in found], indent=1))  # fmt: skip
        return 1 if bad else 0
    for check, problems in found:
        for problem in problems:
            click.echo(f"{check.path}: {problem.label}: {problem.message}")
    click.echo(f"{len(chosen) - bad} of {len(chosen)} checks hold")
    return 1 if bad else 0


@command.command()
def schema() -> int:
    """Print the JSON Schema of a check, for editors."""
    from fleet_audit.checkfile import CheckFile

    click.echo(json.dumps(CheckFile.model_json_schema(), indent=1, sort_keys=True))
    return 0
