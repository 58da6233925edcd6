# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit notify`: tell people what changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
    from fleet_audit import notify, policy
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError

    store = _pipeline.open_store(store_folder)
    if failed is not None:
        made, new = notify.failure(policy.find(policy_file, None).notify, failed), None
        done: list[str] = []
    else:
        new = store.find(run_name, stage="evaluated")
        text = str(new.file.inputs.get("policy") or "").encode()
        chosen = policy.find(policy_file, None) if policy_file else policy.parse(text, Path(f"policy of run {new.file.id}"))
        if not chosen.notify:
            raise FleetAuditError("the policy names nobody under `notify`")
        made, done = _changes(store, new, chosen.notify)
    problems = []
    for message in made:
        if dry_run:
            click.echo(f"{message.rule.name}: {message.title}\n{message.body}")
        elif problem := notify.send(message):
            problems.append(problem)
        else:
            done.append(message.rule.name)
            click.echo(f"{message.rule.name}: {message.title}")
    if not made:
        click.echo("nothing to tell")
    if done and new is not None and not dry_run:
        notify.remember(store, done, new)
    for problem in problems:
        click.echo(problem, err=True)
    return 3 if problems else 0


def _changes(store: Any, new: Any, rules: Sequence[Any]) -> tuple[list[Any], list[str]]:
    """(messages, names of the rules that have nothing to be told): each rule hears of all since the run that it was last told of."""
    from fleet_audit import diff, history, notify
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError

    said = notify.told(store)
    ages = history.ages(store, load(new)) if any("overdue" in rule.on for rule in rules) else {}
    since: dict[str, list[Any]] = {}
    runs: dict[str, Any] = {}
    for rule in rules:
        last = said.get(rule.name)
        if last and last[1] >= new.file.evidence_of:
            click.echo(f"{rule.name}: was told of {'it' if last[1] == new.file.evidence_of else 'newer evidence'} already")
            continue
        try:
            old = store.find(last[0], stage="evaluated") if last else None
        except FleetAuditError:  # pruned meanwhile
            old = None
        try:
            old = old or history.previous(store, new, told=lambda why: click.echo(f"skipped: {why}", err=True))
        except history.NothingBefore:
            click.echo(f"{rule.name}: the first run, with nothing to compare with yet")
            continue
        runs[old.file.id] = old
        since.setdefault(old.file.id, []).append(rule)
    made = [
        message for name, mine in since.items()
        for message in notify.messages(mine, diff.compare(runs[name], new, facts=False), runs[name], new, ages)
    ]  # fmt: skip
    heard = {message.rule.name for message in made}
    return made, [rule.name for mine in since.values() for rule in mine if rule.name not in heard]
