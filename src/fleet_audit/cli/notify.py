# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit notify`: tell people what changed."""

from __future__ import annotations

from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run_name", default="latest", metavar="[RUN]")
@click.option("--policy", "policy_file", metavar="FILE", help="Policy file. [default: that of the run]")
@click.option("--failed", metavar="TEXT", help="Tell instead that a run failed or did not happen, with this text.")
@click.option("--dry-run", is_flag=True, help="Print the messages and send none.")
@options.store
def command(run_name: str, policy_file: str | None, failed: str | None, store_folder: Path | None, *, dry_run: bool) -> int:
    """Tell those whom the policy names under `notify` what changed from the run before RUN to RUN; once, and nothing if nothing did.

    Exit status: 0 all that was to be told is told, 3 something could not be delivered.
    """
    from fleet_audit import diff, history, notify, policy
    from fleet_audit.cli import _pipeline
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError

    store = _pipeline.open_store(store_folder)
    if failed is not None:
        rules = policy.find(policy_file, None).notify
        made = notify.failure(rules, failed)
        new = None
    else:
        new = store.find(run_name, stage="evaluated")
        text = str(new.file.inputs.get("policy") or "").encode()
        chosen = policy.find(policy_file, None) if policy_file else policy.parse(text, Path(f"policy of run {new.file.id}"))
        rules = chosen.notify
        if not rules:
            raise FleetAuditError("the policy names nobody under `notify`")
        old = history.previous(store, new, told=lambda why: click.echo(f"skipped: {why}", err=True))
        ages = history.ages(store, load(new)) if any("overdue" in rule.on for rule in rules) else {}
        made = notify.messages(rules, diff.compare(old, new, facts=False), old, new, ages)
    before = {} if dry_run or new is None else notify.told(store)
    problems, done = [], []
    for message in made:
        if new is not None and before.get(message.rule.name, "") >= new.file.id:
            click.echo(f"{message.rule.name}: was told of it already")
        elif dry_run:
            click.echo(f"{message.rule.name}: {message.title}\n{message.body}")
        elif problem := notify.send(message):
            problems.append(problem)
        else:
            done.append(message.rule.name)
            click.echo(f"{message.rule.name}: {message.title}")
    if not made:
        click.echo("nothing to tell")
    if done and new is not None:
        notify.remember(store, done, new.file.id)
    for problem in problems:
        click.echo(problem, err=True)
    return 3 if problems else 0
