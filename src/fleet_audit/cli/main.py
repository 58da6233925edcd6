# SPDX-License-Identifier: Apache-2.0
"""The entry point: finds subcommands, and turns errors into messages and exit statuses."""

from __future__ import annotations

import importlib
import io
import os
import pkgutil
import sys
from typing import Any

import click

from fleet_audit import __version__, cli
from fleet_audit.model import FleetAuditError, InternalError, MachineError

USAGE, INTERNAL, INTERRUPTED = 2, 4, 130


class _ReaderGone(Exception):
    """Who read our standard output has closed it; click would make a failure of it."""


class Commands(click.Group):
    """Imports a subcommand's module only when it is asked for."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise _ReaderGone from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all modules that are subcommands."""
        return sorted(m.name for m in pkgutil.iter_modules(cli.__path__) if not m.name.startswith("_") and m.name != "main")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of a name."""
        if cmd_name not in self.list_commands(ctx):
            return None
        command: click.Command = importlib.import_module(f"fleet_audit.cli.{cmd_name}").command
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="fleet-audit")
def group() -> None:
    """Audit the hardening of the machines that train models: hosts and GPUs, agentless, over SSH.

    `fleet-audit run inventory.ini` reads every node once, decides the checks and writes a report.

    Exit status: 0 nothing open, 1 failures at or above --fail-on, 2 usage or configuration, 3 results
    not known there beyond --max-unknown, 4 our own failure, 130 interrupted.
    """


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed: what would be written goes nowhere
            setattr(sys, stream, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        if isinstance(found := getattr(sys, stream), io.TextIOWrapper):  # a terminal that lacks a character shows a question mark
            found.reconfigure(errors="replace")
    try:
        code = group.main(prog_name="fleet-audit", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(USAGE)
    except (click.Abort, KeyboardInterrupt):
        click.echo("fleet-audit: interrupted", err=True)
        os._exit(INTERRUPTED)  # threads that still wait for hosts are not waited for
    except FleetAuditError as error:
        click.echo(f"fleet-audit: {error}", err=True)
        sys.exit(USAGE)
    except (BrokenPipeError, _ReaderGone):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(0)
    except OSError as error:
        if os.environ.get("FLEET_AUDIT_DEBUG"):
            raise
        where = f"{error.filename}: " if error.filename else ""
        kept = "; what was read is kept, and `--resume` goes on" if {"run", "collect"} & set(sys.argv[1:2]) else ""
        click.echo(f"fleet-audit: {where}{error.strerror or error}{kept}", err=True)
        sys.exit(INTERNAL)
    except MachineError as error:
        click.echo(f"fleet-audit: {error}", err=True)
        sys.exit(INTERNAL)
    except Exception as error:
        if os.environ.get("FLEET_AUDIT_DEBUG"):
            raise
        kind = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
        click.echo(
            f"fleet-audit: this is a failure of fleet-audit itself: {kind}{error}\n"
            "Set FLEET_AUDIT_DEBUG=1 to see where, and report it.", err=True,
        )  # fmt: skip
        sys.exit(INTERNAL)
