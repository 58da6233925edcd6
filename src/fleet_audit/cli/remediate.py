# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit remediate`: from findings to fixed nodes, by a plan that a person has seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options

LOOK = "gpu-work-runs-in-jobs"
"""A check that leans on the table of GPU processes: it is run to look whether a node has GPU work."""


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
@click.option("--host", "hosts", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
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
def plan_(run_name: str, inventory: str | None, checks: tuple[str, ...], hosts: tuple[str, ...], max_disruption: str, batch: int, output: Path | None,
          store_folder: Path | None, *, experimental: bool) -> int:  # fmt: skip
    """Write a plan for what failed in RUN: roles and their variables, hosts in batches, and what it leaves and why."""
    from fleet_audit import remediation
    from fleet_audit.cli import _pipeline
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError, did_you_mean
    from fleet_audit.report.text import count

    run = _pipeline.open_store(store_folder).find(run_name, stage="evaluated")
    report = load(run)
    for what, names, known in (("check", checks, {c.id for c in report.checks}), ("host", hosts, {h.name for h in report.hosts})):
        for name in names:
            if name not in known:
                raise FleetAuditError(f"--{what}: run {report.id} has no {what} {name!r}{did_you_mean(name, known)}")
    made = remediation.make(
        run, report, checks=checks, hosts=hosts or None, most=max_disruption, batch=batch, experimental=experimental, inventory=inventory
    )
    text = remediation.text(made, str(output or "PLAN"))
    if output is None:
        click.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
    for action in made.actions:
        click.echo(f"{action.role} ({action.grade}, {action.disruption}): {count(len(action.checks), 'check')} on "
                   f"{count(len(action.findings), 'host')} in {count(len(action.batches), 'batch', 'batches')}", err=True)  # fmt: skip
    left = sum(n.hosts for n in made.not_fixed)
    click.echo(f"{count(left, 'failure')} left: the plan says why" if left else "nothing is left out", err=True)
    return 0 if made.actions else 3


@command.command()
@click.argument("plan_file", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--check", "dry", is_flag=True, help="Show what would be changed, and end.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--drain",
    type=click.Choice(["none"]),
    help="`none`: your word that nothing is scheduled there; needed for what disturbs.",
)
@click.option(
    "--confirm-within",
    default=120,
    show_default=True,
    type=click.IntRange(20, 3600),
    metavar="S",
    help="Seconds in which a new connection must confirm what can lock one out.",
)
@_reach
def apply(plan_file: Path, drain: str | None, confirm_within: int, *, dry: bool, yes: bool, **given: Any) -> int:
    """Carry out PLAN: check mode and diff first, then canaries, then batches, each audited before the next.

    Exit status: 0 all was done and is shown to pass, 1 the roll-out was stopped, 2 nothing was changed, 3 something was left.
    """
    from fleet_audit import remediation
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean

    plan, store, folder = _begin(plan_file, given)
    run = store.find(plan.run)
    remediation.check(plan, run, datetime.now(UTC))
    before = load(run)
    done = _done(folder)
    extra = {"fleet_audit_confirm_s": confirm_within}
    pending = [(i, a) for i, a in enumerate(plan.actions) if any((i, h) not in done for batch in a.batches for h in batch)]
    if not pending:
        click.echo("all of the plan is done already")
        return 0
    for index, action in pending:
        hosts = [h for batch in action.batches for h in batch if (index, h) not in done]
        click.echo(f"{action.role} on {len(hosts)} hosts, in check mode")
        played = _play(action, hosts, plan, folder, given, state="present", check=True, extra=extra)
        for host in sorted(played.diffs):
            lines = [clean(line, 300) for line in played.diffs[host].splitlines()]  # what a node's file holds is a node's text
            click.echo("\n".join([f"--- {clean(host)}", *lines]))
        for host, why in sorted(played.failed.items()):
            click.echo(f"{clean(host)}: {clean(why, 500)}", err=True)
        if played.failed:
            raise FleetAuditError(f"{action.role} cannot be carried out on {', '.join(sorted(played.failed)[:5])}: nothing was changed")
    if dry:
        return 0
    if not yes:
        if not sys.stdin.isatty():
            raise FleetAuditError("nothing was changed: --yes says that the plan and its changes were seen")
        if not click.confirm("Change the hosts so?", err=True):
            click.echo("nothing was changed", err=True)
            return 2
    left: list[str] = []
    for index, action in pending:
        if action.disruption != "none" and drain is None:
            left.append(action.role)
            click.echo(
                f"{action.role} is left, as it disturbs ({action.disruption}): --drain none says that nothing is scheduled there",
                err=True,
            )
            continue
        for number, batch in enumerate(action.batches):
            hosts = [h for h in batch if (index, h) not in done]
            if action.disruption != "none" and hosts:
                busy = _busy(plan, hosts, store, given)
                for host, why in sorted(busy.items()):
                    click.echo(f"{clean(host)}: left alone, {clean(why, 300)}", err=True)
                left += sorted(busy)
                hosts = [h for h in hosts if h not in busy]
            problem = _batch(plan, action, index, number, hosts, before, folder, given, extra) if hosts else ""
            if problem:
                click.echo(f"stopped: {problem}; `fleet-audit remediate rollback {plan_file}` takes it back", err=True)
                return 1
    click.echo(f"done, but for {', '.join(left[:8])}" if left else "done: what was planned is shown to pass")
    return 3 if left else 0


def _done(folder: Path) -> set[tuple[int, str]]:
    """(action, host) of what was changed, shown to pass, and not taken back since."""
    from fleet_audit import roleplay

    found: set[tuple[int, str]] = set()
    for entry in roleplay.progress(folder):
        pairs = {(entry["action"], host) for host in entry["hosts"]}
        found = found | pairs if entry["kind"] == "done" else found - pairs if entry["kind"] == "rolled-back" else found
    return found


def _batch(
    plan: Any,
    action: Any,
    index: int,
    number: int,
    hosts: Sequence[str],
    before: Any,
    folder: Path,
    given: dict[str, Any],
    extra: dict[str, Any],
) -> str:
    """One batch: changed, confirmed, audited; why the roll-out stops, or nothing."""
    from fleet_audit import remediation, roleplay
    from fleet_audit.report.text import clean

    word = "canaries" if number == 0 else f"batch {number + 1} of {len(action.batches)}"
    click.echo(f"{action.role}, {word}: {', '.join(hosts[:8])}{' ...' if len(hosts) > 8 else ''}")
    roleplay.note(folder, {"kind": "begun", "action": index, "hosts": list(hosts)})
    played = _play(action, hosts, plan, folder, given, state="present", check=False, extra=extra)
    if played.failed:
        return "; ".join(f"{h}: {clean(w, 300)}" for h, w in sorted(played.failed.items())[:5])
    if action.confirm:
        confirmed = _play(action, hosts, plan, folder, given, state="confirmed", check=False, extra=extra)
        if confirmed.failed:
            lost = ", ".join(sorted(confirmed.failed)[:5])
            return f"no new connection to {lost} could confirm it; the nodes put the state before back by themselves"
    tables = set(remediation.roles()[action.role].file.tables)
    checks = sorted({c.id for c in before.checks if set(c.tables) & tables} | set(action.checks))
    report = _audit(plan, hosts, checks, given)
    was = {(r.check, r.host): str(r.outcome) for r in before.results}
    now = {(r["check"], r["host"]): (r["outcome"], r["reason"]) for r in report["results"]}
    for host in hosts:
        for check in action.findings[host]:
            outcome, reason = now.get((check, host), ("unknown", "it was not audited"))
            if outcome != "pass":
                return f"{check} on {host} is {outcome}: {clean(reason, 300)}"
    worse = [key for key, (outcome, _) in now.items() if outcome == "fail" and was.get(key) == "pass"]
    if worse:
        return f"{worse[0][0]} on {worse[0][1]} fails now, and passed before"
    roleplay.note(folder, {"kind": "done", "action": index, "hosts": list(hosts), "run": report["run"]["id"]})
    click.echo(f"  {len(hosts)} changed and audited: run {report['run']['id']}")
    return ""


@command.command()
@click.argument("plan_file", type=click.Path(path_type=Path), metavar="PLAN")
@click.option("--host", "only", multiple=True, metavar="HOST", help="Only this host; may be repeated.")
@_reach
def rollback(plan_file: Path, only: tuple[str, ...], **given: Any) -> int:
    """Restore what PLAN saved before it changed it, the last action first, and audit the hosts."""
    from fleet_audit import roleplay
    from fleet_audit.model import FleetAuditError
    from fleet_audit.report.text import clean

    plan, _, folder = _begin(plan_file, given)
    touched = {(n["action"], h) for n in roleplay.progress(folder) if n.get("kind") in ("begun", "done") for h in n["hosts"]}
    unknown = set(only) - {h for _, h in touched}
    if unknown:
        raise FleetAuditError(f"--host: plan {plan.plan} has not touched {sorted(unknown)[0]!r}")
    failed: dict[str, str] = {}
    for index in reversed(range(len(plan.actions))):
        action = plan.actions[index]
        hosts = sorted(h for i, h in touched if i == index and (not only or h in only))
        if not hosts:
            continue
        played = _play(action, hosts, plan, folder, given, state="restored", check=False, extra={"fleet_audit_confirm_s": 0})
        failed |= played.failed
        back = [h for h in hosts if h not in played.failed]
        roleplay.note(folder, {"kind": "rolled-back", "action": index, "hosts": back})
        click.echo(f"{action.role}: restored on {len(played.changed)} of {len(hosts)} hosts")
        if back:
            report = _audit(plan, back, action.checks, given)
            fails = sum(r["outcome"] == "fail" for r in report["results"])
            click.echo(f"  audited: run {report['run']['id']}, {fails} findings of the plan are back")
    if not touched:
        click.echo("the plan has changed nothing")
    for host, why in sorted(failed.items()):
        click.echo(f"{clean(host)}: {clean(why, 300)}", err=True)
    return 1 if failed else 0


def _begin(plan_file: Path, given: dict[str, Any]) -> Any:
    """The plan, the store, and the folder in which all that is done is kept."""
    from fleet_audit import remediation
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError, Secret

    if not plan_file.is_file():
        raise FleetAuditError(f"{plan_file}: no such plan")
    plan = remediation.load(plan_file)
    given["become_password"] = None
    if given["ask_become_pass"]:
        if not sys.stdin.isatty():
            raise FleetAuditError(
                "a password was to be asked for, and standard input is no terminal; give it in the inventory, by Ansible Vault"
            )
        given["become"] = True
        given["become_password"] = Secret(click.prompt("Password to become root", hide_input=True, err=True))
    store = _pipeline.open_store(given["store_folder"]).writable()
    store.folder = store.folder.absolute()
    given["store_folder"] = store.folder
    folder = store.folder / "remediation" / plan.plan
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return plan, store, folder


def _play(
    action: Any, hosts: Sequence[str], plan: Any, folder: Path, given: dict[str, Any], *, state: str, check: bool, extra: dict[str, Any]
) -> Any:
    from fleet_audit import roleplay

    more = {**extra, **({"ansible_user": given["user"]} if given["user"] else {}),
            **({"ansible_ssh_private_key_file": str(Path(given["private_key"]).absolute())} if given["private_key"] else {})}  # fmt: skip
    return roleplay.play(
        action, hosts, plan.inventory, folder, state=state, check=check, plan=plan.plan, become=given["become"],
        become_password=given["become_password"], extra=more, told=lambda line: click.echo(f"  {line}", err=True),
    )  # fmt: skip


def _audit(plan: Any, hosts: Sequence[str], checks: Sequence[str], given: dict[str, Any]) -> Any:
    """Audit some hosts again, as a run of its own. Raises `FleetAuditError` if that could not be done."""
    from fleet_audit.model import FleetAuditError

    out = Path(given["store_folder"]) / "remediation" / plan.plan / "audit.json"
    out.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "fleet_audit", "run", plan.inventory, "-l", ",".join(hosts), "-f", "json", "-o", str(out), "-q",
            "--store", str(given["store_folder"]), "--profile", plan.profile]  # fmt: skip
    for check in checks:
        argv += ["--check", check]
    argv += ["-b"] if given["become"] else []
    argv += ["--policy", plan.policy_file] if plan.policy_file and os.path.exists(plan.policy_file) else []
    argv += ["-u", given["user"]] if given["user"] else []
    argv += ["--private-key", given["private_key"]] if given["private_key"] else []
    code, said = _asked(argv, given["become_password"])
    if code not in (0, 1, 3) or not out.exists():
        raise FleetAuditError(f"the hosts were changed, and could not be audited again: {said.strip() or code}")
    return json.loads(out.read_bytes())


def _asked(argv: list[str], password: Any) -> tuple[int | None, str]:
    """(exit status, what it said) of an audit; the password goes to its question, on a terminal that nobody sees."""
    if password is None:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    import pexpect  # type: ignore[import-untyped]  # ansible-runner has it

    child = pexpect.spawn(argv[0], [*argv[1:], "-K"], timeout=None, encoding="utf-8", codec_errors="replace", echo=False)
    child.expect("Password to become root")
    child.sendline(password.reveal())
    child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, str(child.before).replace(password.reveal(), "")


def _busy(plan: Any, hosts: Sequence[str], store: Any, given: dict[str, Any]) -> dict[str, str]:
    """{host: why it is left alone} of those that have GPU work, or of which that is not known."""
    from fleet_audit.facts import tables
    from fleet_audit.tables import Facts

    report = _audit(plan, hosts, [LOOK], given)
    folder = store.find(report["run"]["id"]).facts()
    facts = Facts.load({"gpu_processes": tables()["gpu_processes"]}, folder)
    try:
        rows = facts.connection.execute("SELECT host, count(*) FROM gpu_processes GROUP BY host").fetchall()
        states = {h: s.get("gpu_processes", ("none", "not read")) for h, s in facts.coverage().items()}
    finally:
        facts.connection.close()
    busy = {host: f"{n} processes compute on its GPUs" for host, n in rows}
    return {
        h: busy.get(h) or f"whether it has GPU work is not known: {states.get(h, ('', 'not read'))[1]}"
        for h in hosts if h in busy or states.get(h, ("none",))[0] != "complete"
    }  # fmt: skip
