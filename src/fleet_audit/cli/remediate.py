# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit remediate`: from findings to fixed nodes, by a plan that a person has seen."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleet_audit.cli import _options as options
from fleet_audit.model import FleetAuditError

if TYPE_CHECKING:
    from fleet_audit.findings import Report


@click.group()
def command() -> None:
    """Plan fixes for what failed, carry them out with Ansible in batches, and take them back."""


_reach = options.several(
    click.option("-u", "--user", metavar="NAME", help="Log in as this user."),
    click.option("--private-key", "--key-file", metavar="FILE", help="Log in with this private key."),
    click.option("-b", "--become", is_flag=True, help="Become root on the nodes."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password to become root."),
    options.store,
)


@command.command("plan")
@click.argument("run_name", default="latest", metavar="[RUN]")
@click.option("-i", "--inventory", metavar="INVENTORY", help="Inventory of the plan. [default: that of the run]")
@click.option("--check", "checks", multiple=True, metavar="ID", help="Only this check; may be repeated.")
@click.option("-l", "--limit", metavar="PATTERN", help="Only these hosts and groups, with `*`, separated by commas.")
@click.option(
    "--max-disruption",
    type=click.Choice(["none", "service-restart", "reboot", "drain"]),
    default="none",
    show_default=True,
    help="Leave out what disturbs more.",
)
@click.option(
    "--batch", default=10, show_default=True, type=click.IntRange(1, 1000), metavar="N", help="Hosts at once, after the canaries."
)
@click.option("--experimental", is_flag=True, help="Also roles that were tried in check mode alone.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Where the plan goes. [default: standard output]")
@options.store
def plan_(run_name: str, inventory: str | None, checks: tuple[str, ...], limit: str | None, max_disruption: str, batch: int, output: Path | None,
          store_folder: Path | None, *, experimental: bool) -> int:  # fmt: skip
    """Write a plan for what failed in RUN: roles and their variables, hosts in batches, and what it leaves and why."""
    from fleet_audit import policy, remediation
    from fleet_audit.cli import _pipeline, _reports
    from fleet_audit.findings import load
    from fleet_audit.model import did_you_mean
    from fleet_audit.report.text import count

    run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
    report = load(run)
    known = {str(c.id) for c in report.checks}
    for name in checks:
        if name not in known:
            raise FleetAuditError(f"--check: run {report.id} has no check {name!r}{did_you_mean(name, known)}")
    path = report.inputs.get("policy_file")
    if path and not Path(path).is_file():
        raise FleetAuditError(
            f"{path}: the policy of run {report.id} is not there: plan in the folder in which it was audited, or audit anew"
        )
    made = remediation.make(run, report, checks=checks, hosts=_limited(limit, report) if limit else None, most=max_disruption, batch=batch,
                            experimental=experimental, inventory=inventory, policy=policy.load(Path(path)) if path else None)  # fmt: skip
    text = remediation.text(made, str(output or "PLAN"))
    if output is None:
        click.echo(text, nl=False)
    else:
        _not_begun(output, run.store.folder)
        try:
            _reports.put(output, text.encode())  # for its owner alone: variables of the site may be secrets
        except OSError as error:
            raise FleetAuditError(f"--output {output}: the plan cannot be written: {error.strerror}") from None
    for action in made.actions:
        click.echo(f"{action.role} ({action.grade}, {action.disruption}): {count(len(action.checks), 'check')} on "
                   f"{count(len(action.findings), 'host')} in {count(len(action.batches), 'batch', 'batches')}", err=True)  # fmt: skip
    left = sum(n.hosts for n in made.not_fixed)
    click.echo(f"{count(left, 'failure')} left: the plan says why" if left else "nothing is left out", err=True)
    return 0 if made.actions else 3


def _not_begun(output: Path, store: Path) -> None:
    """Raises `FleetAuditError` if a file is a plan of which something was done: only by it that can be taken back by name."""
    from fleet_audit import remediation

    try:
        old = remediation.load(output).plan
    except FleetAuditError:
        return
    if (store / "remediation" / old / "plan.json").exists():
        raise FleetAuditError(f"--output {output}: it holds the plan {old}, which was begun; name another file")


def _limited(pattern: str, report: Report) -> set[str]:
    """The hosts of a run that a pattern names. Raises `FleetAuditError` for a part that names none."""
    from fnmatch import fnmatchcase

    from fleet_audit.model import did_you_mean

    words = {str(h.name): {str(h.name), *h.entry.groups} for h in report.hosts}
    found: set[str] = set()
    for part in filter(None, map(str.strip, pattern.split(","))):
        fit = {host for host, names in words.items() if any(fnmatchcase(name, part) for name in names)}
        if not fit:
            raise FleetAuditError(
                f"--limit: run {report.id} has no host or group {part!r}{did_you_mean(part, set().union(*words.values()))}"
            )
        found |= fit
    return found


_drain = click.option(
    "--drain",
    type=click.Choice(["slurm", "kubernetes", "none"]),
    help="Take nodes out of this scheduler first; `none`: your word that nothing is scheduled there. Needed for what disturbs.",
)
_deadline = click.option(
    "--drain-deadline",
    default=60,
    show_default=True,
    type=click.IntRange(0, 10080),
    metavar="MIN",
    help="Minutes to wait for work to end; nodes that are busy then are given back and left.",
)
_confirm = click.option(
    "--confirm-within",
    default=120,
    show_default=True,
    type=click.IntRange(20, 3600),
    metavar="S",
    help="Seconds in which a new connection must confirm what can lock one out.",
)


@command.command()
@click.argument("plan_file", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--check", "dry", is_flag=True, help="Show what would be changed, and end.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--experimental", is_flag=True, help="Also roles that were tried in check mode alone.")
@_drain
@_deadline
@_confirm
@_reach
def apply(
    plan_file: Path, drain: str | None, drain_deadline: int, confirm_within: int, *, dry: bool, yes: bool, experimental: bool, **given: Any
) -> int:
    """Carry out PLAN: check mode and diff first, then canaries, then batches, each audited before the next.

    Exit status: 0 all was done and is shown to pass, 1 the roll-out was stopped, 2 nothing was changed, 3 something was left.
    """
    from fleet_audit import remediation
    from fleet_audit.cli._rollout import Rollout
    from fleet_audit.findings import load

    roll = Rollout.begin(plan_file, given, drain=drain, deadline_s=60 * drain_deadline, confirm_s=confirm_within)
    run = roll.store.find(roll.plan.run)
    remediation.check(roll.plan, run, datetime.now(UTC), experimental=experimental)
    done = roll.log.done()
    pending = [(i, a) for i, a in enumerate(roll.plan.actions) if any((i, h) not in done for batch in a.batches for h in batch)]
    if not pending:
        if not dry:
            roll.give_back(roll.log.held())  # an apply that ended between the last audit and this
        click.echo("all of the plan is done already, and was shown to pass then; whether it still does, an audit says")
        return 0
    able = roll.show(pending)
    if dry or not able:
        return 3 if roll.lost or roll.unfit else 0
    if not yes:
        _agreed("Change the hosts so?")
    return roll.out(pending, load(run))


def _agreed(question: str) -> None:
    """Ask on the terminal. Raises `FleetAuditError` without one, or if the answer is no."""
    if not sys.stdin.isatty():
        raise FleetAuditError("nothing was changed: --yes says that the plan and its changes were seen")
    if not click.confirm(question, err=True):
        raise FleetAuditError("nothing was changed")


@command.command()
@click.argument("plan_file", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--host", "only", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
@click.option("--check", "dry", is_flag=True, help="Show what would be restored, and end.")
@click.option("--yes", is_flag=True, help="Do not show it first, and do not ask.")
@_drain
@_deadline
@_reach
def rollback(plan_file: Path, only: tuple[str, ...], drain: str | None, drain_deadline: int, *, dry: bool, yes: bool, **given: Any) -> int:
    """Restore what PLAN (its file, or its id) saved before it changed it, the last action first, and audit the hosts.

    What disturbs is taken back as it was done: nodes are taken out of the scheduler that they were taken out of then; of nodes that
    have GPU work it is left, and said by name.
    """
    from fleet_audit.cli._rollout import Rollout

    roll = Rollout.begin(plan_file, given, drain=drain, deadline_s=60 * drain_deadline, confirm_s=0)
    roll.drain = drain or roll.log.drained_by() or "none"
    if not roll.touched(only):
        click.echo("nothing of the plan is in force")
        if not dry:
            roll.give_back(roll.log.held())
        return 0
    if dry or not yes:
        roll.show_back(only)
    if not dry and not yes:
        _agreed("Restore the hosts so?")
    return 0 if dry else roll.back(only)


@command.command()
@click.argument("plan_file", type=click.Path(path_type=Path), metavar="PLAN")
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="For people, or for programs."
)
@options.store
def status(plan_file: Path, form: str, store_folder: Path | None) -> int:
    """Say how far PLAN came on each host, and which hosts it holds out of scheduling.

    Exit status: 0 all is done, 3 something is not.
    """
    import json

    from fleet_audit.cli._rollout import open_log

    log, _ = open_log(plan_file, store_folder)
    states, held = log.states(), log.held()
    rows = [{"role": log.plan.actions[i].role, "host": host, "state": state} for (i, host), state in sorted(states.items())]
    if form == "json":
        click.echo(json.dumps({"plan": log.plan.plan, "run": log.plan.run, "actions": rows, "out_of_scheduling": held}, indent=1))
    else:
        for row in rows:
            click.echo(f"{row['role']:<22} {row['host']:<30} {row['state']}")
        if held:
            click.echo(f"out of scheduling: {', '.join(held)}")
        if not rows:
            click.echo("the plan has no action: nothing was done by it")
    return 0 if set(states.values()) == {"done"} else 3
