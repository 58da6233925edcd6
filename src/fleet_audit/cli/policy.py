# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit policy`: write a first policy, check one, and tell what holds for a host and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

LONG_DAYS = 365
"""A waiver that holds longer is told of: what is accepted that long is a parameter."""


@click.group()
def command() -> None:
    """Write, check and explain the policy."""


@command.command()
@click.option("--profile", default="baseline", show_default=True, metavar="NAME", help="Profile whose parameters are listed.")
@click.option("--learn", "run_name", metavar="RUN", help="Propose what RUN (an id, or latest) has seen, as comments.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, which must not be there. [default: print]"
)
@options.checks_folder
@options.store
def init(profile: str, run_name: str | None, output: Path | None, check_folders: tuple[Path, ...], store_folder: Path | None) -> int:
    """Write a commented policy for a person to review. Nothing that a run has seen is switched on."""
    from typing import get_args

    from fleet_audit import checks, proposal
    from fleet_audit.cli import _pipeline
    from fleet_audit.facts import tables
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError
    from fleet_audit.policy import Workload

    library = checks.load(check_folders, tables=tables())
    library.select(profile)
    learned, report = {}, None
    if run_name is not None:
        run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
        report = load(run)
        learned = proposal.learn(run, report, library)
    text = proposal.text(library, profile, get_args(Workload), learned, report)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise FleetAuditError(f"{output}: it is there already; choose another file") from None
    except OSError as error:
        raise FleetAuditError(f"{output}: {error.strerror}") from None
    click.echo(f"{output}: review it, then run `fleet-audit policy check --policy {output}`")
    return 0


@command.command()
@click.argument("inventory", required=False)
@options.selection
def check(inventory: str | None, **given: Any) -> int:
    """Check the policy, and with INVENTORY the groups and hosts that it names."""
    from fleet_audit import plan, policy, waivers
    from fleet_audit.cli import _pipeline
    from fleet_audit.inventory import load
    from fleet_audit.report.text import count

    chosen = policy.find(given["policy_file"], inventory)
    selection = _pipeline.select(chosen, given["profile"], given["only"], given["check_folders"])
    chosen, now = selection.policy, _pipeline.moment(None)
    notes = []
    for number, waiver in enumerate(waivers.at(chosen.waivers, now)):
        file = chosen.waivers[number]
        if waiver.expired:
            notes.append(f"waivers.{number}: expired on {waiver.expires}; it accepts nothing any more")
        elif (file.expires - now.date()).days > LONG_DAYS:
            notes.append(f"waivers.{number}: holds until {waiver.expires}, more than a year: what is right for so long is a parameter")
        if waiver.check not in {c.id for c in selection.checks}:
            notes.append(f"waivers.{number}: {waiver.check} is not selected by the profile {selection.profile!r}")
    if inventory is not None:
        notes += plan.nowhere(chosen, plan.roster(load(inventory)))
    for note in notes:
        click.echo(f"{chosen.path or 'policy'}: {note}")
    where = str(chosen.path) if chosen.path else "no policy file, so the default"
    click.echo(
        f"{where}: profile {selection.profile}, {count(len(selection.checks), 'check')}, {count(len(chosen.waivers), 'waiver')}, "
        f"{count(len(chosen.exclude), 'exclusion')}, {count(len(chosen.data), 'data folder')}"
    )
    return 0


@command.command()
@click.argument("host")
@click.argument("inventory", required=False)
@options.selection
@options.form
def show(host: str, inventory: str | None, output_format: str, **given: Any) -> int:
    """Tell what holds for HOST of INVENTORY, and where each value comes from."""
    from fleet_audit import policy, waivers
    from fleet_audit.cli import _pipeline
    from fleet_audit.inventory import load
    from fleet_audit.model import FleetAuditError
    from fleet_audit.pattern import fits
    from fleet_audit.report.text import clean

    chosen = policy.find(given["policy_file"], inventory)
    selection = _pipeline.select(chosen, given["profile"], given["only"], given["check_folders"])
    chosen = selection.policy
    found = next((h for h in load(inventory).hosts if h.name == host), None) if inventory is not None else None
    if inventory is not None and found is None:
        raise FleetAuditError(f"{inventory}: no host is named {host!r}")
    groups = list(found.groups) if found else []
    profile = selection.library.params(selection.profile)
    params = {
        c.id: {name: dict(zip(("value", "from"), chosen.origin(c.id, name, c.file.params[name], profile.get(c.id, {}), groups), strict=True))
               for name in c.file.params}
        for c in selection.checks if c.file.params
    }  # fmt: skip
    accepted = [
        w for w in waivers.at(chosen.waivers, _pipeline.moment(None))
        if not w.expired and (not w.hosts or any(fits(p, host) for p in w.hosts)) and (not w.groups or set(w.groups) & set(groups))
    ]  # fmt: skip
    value = {
        "host": host, "groups": groups, "profile": selection.profile, "checks": [c.id for c in selection.checks], "params": params,
        "workload": chosen.runs(groups), "data": [{"path": f.path, "kind": f.kind} for f in chosen.folders(host)],
        "exclusions": [{"check": e.check, "reason": e.reason} for e in chosen.exclude],
        "waivers": [{"check": w.check, "subject": w.subject, "owner": w.owner, "reason": w.reason, "expires": w.expires} for w in accepted],
    }  # fmt: skip
    if output_format == "json":
        click.echo(json.dumps(value, indent=1, default=str))
        return 0
    click.echo(f"{clean(host)}  groups: {clean(', '.join(groups)) or 'none'}  profile: {selection.profile}, {len(selection.checks)} checks")
    click.echo(f"workload: {', '.join(chosen.runs(groups)) or 'none declared'}")
    for folder in chosen.folders(host):
        click.echo(f"data: {folder.path} ({folder.kind})")
    for id_, values in params.items():
        for name, entry in values.items():
            click.echo(f"  {id_}.{name} = {json.dumps(entry['value'])}   ({entry['from']})")
    for exclusion in chosen.exclude:
        click.echo(f"left out: {exclusion.check}: {clean(exclusion.reason, 200)}")
    for waiver in accepted:
        where = f" on {clean(waiver.subject, 100)}" if waiver.subject is not None else ""
        click.echo(f"waived: {waiver.check}{where} until {waiver.expires} by {clean(waiver.owner, 60)}: {clean(waiver.reason, 200)}")
    return 0
