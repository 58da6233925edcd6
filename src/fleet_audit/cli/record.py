# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit record`: keep what a host answers as an archive that can be audited again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("host")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-i", "--inventory", metavar="INVENTORY", help="Inventory that HOST is in. [default: HOST itself]")
@options.connection
@options.limits
def command(host: str, folder: Path, inventory: str | None, **given: Any) -> int:
    """Read every source of HOST once and write it to FOLDER as an archive. `localhost` is this machine.

    Secrets are reduced on the node, but an archive names users, addresses and packages: treat it so.
    """
    import tempfile

    from fleet_audit.cli import _pipeline
    from fleet_audit.collect import Collector, Limits
    from fleet_audit.evidence import Objects
    from fleet_audit.facts import sources
    from fleet_audit.model import FleetAuditError, Reach, Status
    from fleet_audit.probe import pack
    from fleet_audit.transport.dispatch import Dispatch, choose

    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise FleetAuditError(f"{folder}: it is there, and no empty folder")
    given["limit"] = given["limit"] or (host if inventory else None)
    where = inventory or (None if host == "localhost" else f"{host},")
    found = [h for h in _pipeline.read(where, given).hosts if where is None or h.name == host]
    if not found:
        raise FleetAuditError(f"{inventory}: no host is named {host!r}")
    with tempfile.TemporaryDirectory() as scratch:
        objects, dispatch = Objects(Path(scratch)), Dispatch()
        collector = Collector(pack.build(sources().values()), sorted(sources()), objects, Limits(host_s=given["timeout"]), dispatch)
        evidence = collector.host(found[0], choose(found[0])[0])
        dispatch.close()
        if not evidence.answered:
            raise FleetAuditError(f"{host}: {evidence.reach}: {evidence.detail}")
        try:
            write(folder, host, evidence, objects)
        except OSError as error:
            raise FleetAuditError(f"{folder}: the archive cannot be written: {error.strerror}") from None
    kept = sum(record.status is not Status.UNREACHED for record in evidence.records)
    click.echo(f"{folder}: {kept} of {len(evidence.records)} sources of {host}")
    if evidence.reach is not Reach.OK:
        click.echo(f"{host}: {evidence.reach}: {evidence.detail}; what is missing stays unknown when the archive is audited", err=True)
    return 0 if kept == len(evidence.records) else 3


def write(folder: Path, host: str, evidence: Any, objects: Any) -> None:
    """Write an archive: plain files and outputs where evidence is just these, `sources/` for the rest."""
    from fleet_audit.facts import sources
    from fleet_audit.model import Status
    from fleet_audit.probe.node.archive import mangle

    for name in ("files", "commands", "sources"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for record in evidence.records:
        if record.status is Status.UNREACHED:
            continue
        source = sources()[record.source]
        body = objects.get(record.sha256) if record.sha256 else b""
        conditional = source.when_exists or source.when_ok or source.otherwise
        plain = record.status is Status.OK and not conditional and not {"keep", "grep", "ok_exits"} & set(source.args)
        if plain and source.reader == "file" and len(source.args["paths"]) == 1:
            path = folder / "files" / source.args["paths"][0].lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        elif plain and source.reader == "command" and record.exit == 0:
            (folder / "commands" / mangle(source.args["argv"])).write_bytes(body)
        else:
            entry = {
                "status": str(record.status),
                "detail": record.detail,
                "exit": record.exit,
                "text": body.decode("utf-8", "surrogateescape"),
            }
            (folder / "sources" / f"{record.source}.json").write_text(json.dumps(entry, indent=1, sort_keys=True) + "\n")
    text = json.dumps(f"recorded from {host} with fleet-audit record, as {'root' if evidence.privileged else 'an ordinary account'}")
    (folder / "node.toml").write_text(f"name = {json.dumps(host)}\nprovenance = {text}\n")
