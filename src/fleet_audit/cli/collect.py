# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit collect`: evidence only, to be evaluated later or elsewhere."""

from __future__ import annotations

from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("inventory", required=False)
@options.connection
@options.selection
@options.limits
@options.store
@click.option("--resume", is_flag=True, help="Complete the newest interrupted run.")
@options.form
@click.option("--all", "everything", is_flag=True, help="Read every source, not only what the selected checks need.")
@options.verbosity
def command(inventory: str | None, **given: Any) -> int:
    """Collect the evidence that the selected checks need, and decide nothing."""
    from fleet_audit import policy
    from fleet_audit.cli import _collecting, _pipeline

    chosen = policy.find(given["policy_file"], inventory)
    selection = _pipeline.select(chosen, given["profile"], given["only"], given["check_folders"])
    plan = _collecting.plan(inventory, selection.checks, selection.policy, given, everything=given.pop("everything"))
    store = _pipeline.open_store(given["store_folder"]).writable()
    draft = _collecting.collect(store, plan, _collecting.inputs(selection, inventory, plan), given)
    run = _pipeline.seal(draft, _collecting.roster(store, plan, selection.policy, draft), "collected", _pipeline.moment(None))
    answered = sum(h.answered for h in run.file.hosts.values())
    status = 0 if all(h.answered or not h.expected for h in run.file.hosts.values()) else 3
    if given["output_format"] == "json":
        import json

        click.echo(json.dumps({"run": run.file.id, "hosts": len(run.file.hosts), "answered": answered}))
        return status
    click.echo(f"run {run.file.id}: {answered} of {len(run.file.hosts)} hosts answered; `fleet-audit evaluate {run.file.id}` decides it")
    return status
