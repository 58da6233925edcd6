# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit probe`: the program that runs on the nodes, to be read and pinned."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from fleet_audit.cli import _options as options

if TYPE_CHECKING:  # its module is not needed for --help
    from fleet_audit.probe.pack import Program


@click.group()
def command() -> None:
    """Show the program that runs on the nodes, and its digest."""


@command.command()
def show() -> int:
    """Print the program, exactly as it runs."""
    sys.stdout.buffer.write(_program().text)
    sys.stdout.flush()
    return 0


@command.command()
@options.form
def digest(output_format: str) -> int:
    """Print the SHA-256 of the program: the same for every host and run of this version."""
    program = _program()
    if output_format == "json":
        import json

        click.echo(json.dumps({"sha256": program.digest, "bytes": len(program.text)}))
    else:
        click.echo(program.digest)
    return 0


@command.command()
@click.option("--account", default="audit", show_default=True, help="The account that the audit logs in as.")
def sudoers(account: str) -> int:
    """Print a sudoers line that lets the account become root with this program alone, nothing installed."""
    import re

    from fleet_audit.model import FleetAuditError
    from fleet_audit.probe import loader

    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", account):
        raise FleetAuditError(f"--account {account!r} is no account name")
    click.echo(loader.sudoers(_program().digest, account))
    return 0


def _program() -> Program:
    from fleet_audit.facts import sources
    from fleet_audit.probe import pack

    return pack.build(sources().values())
