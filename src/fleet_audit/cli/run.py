# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit run`: collect, evaluate and report."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("inventory", required=False)
@options.connection
@options.selection
@options.limits
@options.store
@options.judging
@options.reports
@click.option("--resume", is_flag=True, help="Complete the newest interrupted run.")
@click.option(
    "--testinfra",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Run the site's pytest-testinfra tests too; they open connections of their own.",
)
@click.option("--no-overlap", is_flag=True, help="End with 2 if another run of this store is in progress, as a schedule wants it.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, where, by which transport, and end.")
@options.verbosity
def command(inventory: str | None, **given: Any) -> int:
    """Audit the hosts of INVENTORY: an Ansible inventory, a comma list of hosts, or this machine.

    Reads every host once over SSH, decides the selected checks, prints a summary and writes a report.
    """
    from fleet_audit import history, policy, sitetests
    from fleet_audit.cli import _collecting, _pipeline, _reports, _verdict
    from fleet_audit.findings import load
    from fleet_audit.model import Severity

    allowed = _verdict.allowance(given["max_unknown"])
    formats = _reports.formats(given["formats"] or ("html",), given["output"])
    if given["testinfra"] is not None:
        sitetests.ready(given["testinfra"])
    chosen = policy.find(given["policy_file"], inventory)
    selection = _pipeline.select(chosen, given["profile"], given["only"], given["check_folders"])
    plan = _collecting.plan(inventory, selection.checks, selection.policy, given)
    if given["dry_run"]:
        _collecting.describe(plan)
        return 0
    store = _pipeline.open_store(given["store_folder"]).writable()
    known = _verdict.baseline(store, given["baseline"])
    with _collecting.alone(store) if given["no_overlap"] else _collecting.at_work(store):
        draft = _collecting.collect(store, plan, _collecting.inputs(selection, inventory, plan), given)
        if given["testinfra"] is not None:
            lines = sitetests.run(given["testinfra"], inventory, plan.hosts, become=given["become"])
            (draft.folder / _pipeline.SITE_TESTS).write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), "utf-8")
        moment = _pipeline.moment(None)
        roster = _collecting.roster(store, plan, selection.policy, draft)
        _pipeline.evaluate(draft, selection, roster, moment)
        report = load(_pipeline.seal(draft, roster, "evaluated", moment))
        history.remember(store, report)
        paths = _reports.write(report, formats, given["output"], store)
        code, why = _verdict.verdict(report, Severity(given["fail_on"]), allowed, known)
        finish(report, paths, code, why, given)
        return code


def finish(report: Any, paths: list[Path], code: int, why: str, given: dict[str, Any]) -> None:
    """The summary, where the reports are, and why the exit status is what it is; a reader that is gone changes no status."""
    if given["quiet"]:
        return
    try:
        _summary(report, paths, code, why, given)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(report: Any, paths: list[Path], code: int, why: str, given: dict[str, Any]) -> None:
    from fleet_audit.report import terminal

    out = sys.stderr if given["output"] == "-" else sys.stdout
    columns = shutil.get_terminal_size().columns if out.isatty() else 80
    text = terminal.text(report, min(columns, 140) - 4)
    encoding = getattr(out, "encoding", None) or "ascii"
    if not _encodes(text, encoding):
        text = text.translate(str.maketrans("█░∙▓…", "#?.!~"))
    click.echo(text.encode(encoding, "replace").decode(encoding), file=out)
    for path in paths:
        click.echo(
            f"  Report   {os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path}   {path.stat().st_size / 1e6:.1f} MB",
            file=out,
        )
    click.echo(f"  exit {code}: {why}", file=out)


def _encodes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
