# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit sbom`: what is installed, as CycloneDX."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run_name", default="latest", metavar="[RUN]")
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only of this host; may be repeated. [default: all]")
@click.option("--fleet", is_flag=True, help="One document of all chosen hosts, beside one of each.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for the documents.")
@options.store
def command(run_name: str, hosts: tuple[str, ...], output: Path, store_folder: Path | None, *, fleet: bool) -> int:
    """Write a CycloneDX SBOM of each host of RUN, with the known vulnerabilities. A run of `collect --all` knows most.

    Exit status: 0 all was known, 3 the packages of some hosts were not.
    """
    from fleet_audit.cli import _pipeline
    from fleet_audit.facts import tables
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean, count
    from fleet_audit.tables import Facts

    try:
        from fleet_audit.advisories import sbom
    except ImportError:
        raise FleetAuditError("SBOMs need an extra part: pip install 'fleet-audit[sbom]'") from None
    run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
    if unknown := sorted(set(hosts) - set(run.file.hosts)):
        raise FleetAuditError(f"run {run.file.id} has no host {unknown[0]!r}")
    facts = Facts.load({name: tables()[name] for name in sbom.TABLES}, run.facts())
    coverage = facts.coverage()
    chosen = sorted(hosts or run.file.hosts)
    lost = [h for h in chosen if coverage.get(h, {}).get("packages", ("none", ""))[0] != "complete"]
    known = [h for h in chosen if coverage.get(h, {}).get("packages", ("none", ""))[0] != "none"]
    try:
        output.mkdir(parents=True, exist_ok=True)
        for host in known:
            (output / f"{host}.cdx.json").write_text(sbom.document(facts, host, [host], run.file.id, run.file.as_of), encoding="utf-8")
        if fleet and known:
            (output / "fleet.cdx.json").write_text(sbom.document(facts, "fleet", known, run.file.id, run.file.as_of), encoding="utf-8")
    except OSError as error:
        raise FleetAuditError(f"{output}: {error.strerror}") from None
    finally:
        facts.connection.close()
    click.echo(f"{output}: {count(len(known), 'host')}{' and the fleet' if fleet and known else ''}")
    if lost:
        click.echo(f"not whole: the packages of {len(lost)} of {len(chosen)} hosts, such as {clean(lost[0])}", err=True)
    return 3 if lost else 0
