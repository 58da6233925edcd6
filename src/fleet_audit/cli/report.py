# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit report`: render a run."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run", default="latest")
@options.reports
@options.store
def command(run: str, formats: tuple[str, ...], output: str | None, store_folder: Path | None) -> int:
    """Render RUN, an id, a unique prefix of one, or `latest`. It asks no host."""
    from fleet_audit.cli import _pipeline, _reports
    from fleet_audit.findings import load

    names = _reports.formats(formats or ("html",), output)
    store = _pipeline.open_store(store_folder)
    for path in _reports.write(load(store.find(run, stage="evaluated")), names, output, store):
        click.echo(str(path))
    return 0
