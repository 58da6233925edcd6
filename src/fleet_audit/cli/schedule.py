# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit schedule`: have the audit run by itself, and see that it does."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.group()
def command() -> None:
    """Run the audit on a schedule: by systemd, by cron, or by what prints out for others."""


_when = options.several(
    click.option("--every", type=click.Choice(["hourly", "daily", "weekly", "monthly"]), default="daily", show_default=True, help="How often."),
    click.option("--at", default="06:00", show_default=True, metavar="HH:MM", help="Time of day; of an hourly one the minute counts."),
    click.option("--spread", default=15, show_default=True, type=click.IntRange(0, 1440), metavar="MINUTES", help="Begin at random within so long."),
    click.option("--keep-daily", type=click.IntRange(0, 10_000), metavar="N", help="Remove old runs after each run, as `prune` does."),
    click.option("--notify", is_flag=True, help="After each run tell those whom the policy names what changed."),
    click.option("--run-as", metavar="USER", help="Account of the system service. [default: root]"),
    click.option("--credential", type=click.Path(path_type=Path), metavar="FILE", help="SSH key that systemd hands to the service alone."),
    options.store,
)  # fmt: skip
_run = options.several(
    click.argument("inventory"),
    click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[-- RUN OPTIONS...]"),
)


def _schedule(kind: Any, inventory: str, arguments: tuple[str, ...], store_folder: Path, given: dict[str, Any]) -> Any:
    from fleet_audit.cli.run import command as run
    from fleet_audit.model import FleetAuditError
    from fleet_audit.schedule import Schedule, hour

    hour(given["at"])
    if given["credential"] and kind == "cron":
        raise FleetAuditError("--credential needs systemd; name the key in the inventory or with -- --private-key FILE")
    where = inventory if "," in inventory else str(Path(inventory).absolute())
    words = ["run", where, "--store", str(store_folder), "-q", "--no-overlap", *arguments]
    try:  # what `run` would refuse every day is refused now
        run.make_context("run", words[1:])
    except click.UsageError as error:
        raise FleetAuditError(f"after --: {error.format_message()}") from None
    if given["run_as"] and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*[$]?", given["run_as"]):
        raise FleetAuditError(f"--run-as {given['run_as']!r}: no name of an account")
    keep = ["--keep-daily", str(given["keep_daily"])] if given["keep_daily"] is not None else []
    return Schedule(
        kind=kind, every=given["every"], at=given["at"], spread_minutes=given["spread"], command=words, keep=keep, notify=given["notify"],
        run_as=given["run_as"],
        credential=str(given["credential"].absolute()) if given["credential"] else None, installed_at=datetime.now(UTC).replace(microsecond=0),
    )  # fmt: skip


def _by(found: Any) -> str:
    return f"{found.every} at {found.at} by {'cron' if found.kind == 'cron' else f'systemd ({found.kind})'}"


def _store(folder: Path | None) -> Any:
    from fleet_audit.cli import _pipeline

    found = _pipeline.open_store(folder)
    found.folder = found.folder.absolute()
    return found


@command.command()
@click.option("--user", "kind", flag_value="user", help="Units of this account, which run while it is logged in or lingers.")
@click.option("--system", "kind", flag_value="system", help="Units of the system. [default as root]")
@click.option("--cron", "kind", flag_value="cron", help="A line in this account's crontab.")
@_when
@_run
def install(kind: str | None, inventory: str, arguments: tuple[str, ...], store_folder: Path | None, **given: Any) -> int:
    """Have INVENTORY audited on a schedule; what follows -- goes to `run`.

    Two runs of one store never overlap, and one that was missed is made up for (not by cron).
    """
    import os

    from fleet_audit import schedule
    from fleet_audit.model import FleetAuditError

    if "," not in inventory and not Path(inventory).exists():
        raise FleetAuditError(f"{inventory}: no such inventory; a list of hosts has commas, such as `node1,`")
    store = _store(store_folder).writable()
    wanted = _schedule(kind or ("system" if os.geteuid() == 0 else "user"), inventory, arguments, store.folder, given)
    for path in schedule.install(wanted, store):
        click.echo(f"wrote {path}")
    click.echo(f"{_by(wanted)}; `fleet-audit schedule status` tells whether it runs")
    return 0


@command.command()
@click.option(
    "--for", "kind", type=click.Choice(["system", "user", "cron", "kubernetes"]), default="system", show_default=True, help="For what."
)
@_when
@_run
def show(kind: str, inventory: str, arguments: tuple[str, ...], store_folder: Path | None, **given: Any) -> int:
    """Print what `install` would install, or a CronJob to complete, and install nothing."""
    from fleet_audit import schedule

    store = _store(store_folder)
    if kind == "kubernetes":
        click.echo(schedule.cron_job(_schedule("system", inventory, arguments, Path("/store"), given)), nl=False)
        return 0
    wanted = _schedule(kind, inventory, arguments, store.folder, given)
    if kind == "cron":
        click.echo(schedule.cron_line(wanted, store.folder))
        return 0
    for name, text in schedule.units(wanted, store.folder).items():
        click.echo(f"# {schedule.folder(wanted.kind) / name}\n{text}")
    return 0


@command.command()
@options.store
def remove(store_folder: Path | None) -> int:
    """Take the schedule of a store away; runs stay."""
    from fleet_audit import schedule

    found = schedule.remove(_store(store_folder))
    click.echo("nothing is installed for this store" if found is None else f"removed: {found.every} at {found.at}")
    return 0


@command.command()
@options.store
@options.form
def status(store_folder: Path | None, output_format: str) -> int:
    """Tell whether the audit runs as it should.

    Exit status: 0 it does, 3 a run is overdue or was interrupted, 2 nothing is installed.
    """
    from fleet_audit import schedule
    from fleet_audit.model import FleetAuditError

    store = _store(store_folder)
    found = schedule.read(store)
    if found is None:
        raise FleetAuditError(f"{store.folder}: no schedule is installed for this store")
    now, last = datetime.now(UTC), schedule.last_run(store)
    overdue, partial = schedule.late(found, last, now), store.partial()
    value = {
        "kind": found.kind, "every": found.every, "at": found.at, "last_run": last.isoformat() if last else None,
        "overdue_seconds": int(overdue.total_seconds()) if overdue else 0, "unfinished": partial,
    }  # fmt: skip
    code = 3 if overdue or (partial and not _running(store)) else 0
    if output_format == "json":
        click.echo(json.dumps(value, indent=1))
        return code
    click.echo(_by(found))
    click.echo(f"last run   {f'{last:%Y-%m-%d %H:%M} UTC' if last else 'none yet'}")
    if overdue:
        click.echo(f"OVERDUE    by {int(overdue.total_seconds() // 3600)} h: look with `journalctl -u fleet-audit`")
    if partial:
        click.echo(f"unfinished {', '.join(partial[-3:])}: in progress, or interrupted")
    return code


def _running(store: Any) -> bool:
    """Whether a run of this store is at work now."""
    from fleet_audit.cli._collecting import alone
    from fleet_audit.model import FleetAuditError

    try:
        with alone(store):
            return False
    except FleetAuditError:
        return True
