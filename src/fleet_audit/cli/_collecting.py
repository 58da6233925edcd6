# SPDX-License-Identifier: Apache-2.0
"""Planning and collecting, as `run`, `collect` and `record` do it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import click

from fleet_audit.checkfile import Check
from fleet_audit.cli import _pipeline
from fleet_audit.cli._progress import Progress
from fleet_audit.model import FleetAuditError, Roster
from fleet_audit.plan import Plan
from fleet_audit.policy import Policy
from fleet_audit.runs import Draft, Store


def plan(inventory: str | None, checks: Sequence[Check], policy: Policy, given: dict[str, Any], *, everything: bool = False) -> Plan:
    """Hosts and sources for these checks, or all sources."""
    from fleet_audit import plan as planning
    from fleet_audit.facts import sources, tables

    found = _pipeline.read(inventory, given)
    for note in planning.nowhere(policy, planning.roster(found)):
        click.echo(f"{policy.path}: {note}", err=True)
    return planning.make(found, checks, tables(), sources(), policy, everything=everything)


def describe(plan: Plan) -> None:
    """Print what would be read, where and how."""
    from fleet_audit.facts import sources
    from fleet_audit.probe import pack
    from fleet_audit.report.text import clean, count
    from fleet_audit.transport.dispatch import choose

    click.echo(f"{count(len(plan.hosts), 'host')}, {count(len(plan.checks), 'check')}, {count(len(plan.sources), 'source')}, "
               f"program {pack.build(sources().values()).digest[:16]}")  # fmt: skip
    for host in plan.hosts:
        try:
            name, why = choose(host)
        except FleetAuditError as error:
            name, why = "none", str(error)
        become = f", becomes {host.become.user} with {host.become.method}" if host.become else ""
        user = f"{host.user}@" if host.user else ""
        click.echo(f"  {clean(host.name)}: {name} ({why}) to {clean(user + host.address)}{become}")
    click.echo("would be read from each:")
    for source_id in plan.sources:
        source = sources()[source_id]
        what = (
            " ".join(source.args["argv"])
            if "argv" in source.args
            else ", ".join(source.args.get("paths") or source.args.get("globs") or [source.reader])
        )
        click.echo(f"  {source_id:<28} {source.reader:<8} {what}{'   (root)' if source.needs_root else ''}")


_SAID = {"program": "version", "sources": "set of sources", "hosts": "set of hosts or way to reach them", "checks": "set of checks",
         "policy_file": "policy file"}  # fmt: skip
"""How the inputs of a run are called in a message."""


def inputs(selection: _pipeline.Selection, inventory: str | None, plan: Plan) -> dict[str, Any]:
    """What a run is begun with, and must be resumed with."""
    import hashlib

    hosts = sorted((h.name, h.address, h.port, h.user, h.connection, h.become is not None) for h in plan.hosts)
    return {**selection.inputs(), "inventory": inventory, "hosts": hashlib.sha256(repr(hosts).encode()).hexdigest()}


def _interrupted(store: Store, now: dict[str, Any]) -> str:
    """The newest interrupted run that was begun with just these inputs."""
    newest: tuple[str, list[str]] | None = None
    for name, head in store.interrupted().items():
        then = {"program": head.get("program"), "sources": head.get("sources"), **head.get("inputs", {})}
        other = sorted(key for key in now if now[key] != then.get(key))
        if not other:
            return name
        newest = newest or (name, other)
    if newest is None:
        raise FleetAuditError(f"{store.folder}: there is no interrupted run to resume")
    raise FleetAuditError(
        f"run {newest[0]} was begun with another {', '.join(_SAID.get(key, key) for key in newest[1])}, so it cannot be resumed: "
        "run it as it was begun, or start anew without --resume"
    )


@contextlib.contextmanager
def at_work(store: Store) -> Iterator[None]:
    """Tells others that a run of the store is in progress; the mark ends with this process, however that ends."""
    import fcntl
    import os

    with (store.folder / "running").open("a") as lock:
        os.chmod(lock.fileno(), 0o600)
        with contextlib.suppress(BlockingIOError):  # one that wants to be alone is at work: it is seen already
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield


@contextlib.contextmanager
def alone(store: Store) -> Iterator[None]:
    """No second run of the store meanwhile; the lock ends with this process, however that ends. Raises `FleetAuditError` if there is one."""
    import fcntl
    import os

    with (store.folder / "running").open("a") as lock:
        os.chmod(lock.fileno(), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetAuditError(f"{store.folder}: another run of this store is in progress, and --no-overlap was given") from None
        yield


def roster(store: Store, plan: Plan, policy: Policy, draft: Draft) -> Roster:
    """Who must answer: not those whom the inventory or the policy excuses, unless they have been silent for longer than it allows."""
    from datetime import UTC, datetime

    from fleet_audit import history
    from fleet_audit.pattern import fits

    found = plan.roster
    excused = {h for h in found.groups if not found.expected.get(h, True) or any(fits(pattern, h) for pattern in policy.unexpected)}
    silent = {e.host for e in draft.evidence.values() if not e.answered and e.host in excused}
    since = history.missing_since(store, silent) if silent else {}
    now = datetime.now(UTC)
    late = {host: when for host, when in since.items() if (now - when).days >= policy.unexpected_days}
    notes = {
        host: f"it need not answer, but has not since {when:%Y-%m-%d}: the policy allows {policy.unexpected_days} days, so it is expected again"
        for host, when in late.items()
    }
    return replace(found, expected={h: h not in excused or h in late for h in found.groups}, notes=notes)


def collect(store: Store, plan: Plan, inputs: dict[str, Any], given: dict[str, Any]) -> Draft:
    """Collect from all hosts into a new draft, or the rest of an interrupted one."""
    from fleet_audit.collect import Collector, Limits
    from fleet_audit.facts import sources
    from fleet_audit.probe import pack
    from fleet_audit.transport.dispatch import Dispatch

    program = pack.build(sources().values())
    if given.get("resume"):
        draft = store.resume(_interrupted(store, {"program": program.digest, "sources": list(plan.sources), **inputs}))
    else:
        draft = store.begin(inputs, program.digest, list(plan.sources))
    todo = [host for host in plan.hosts if host.name not in draft.evidence]
    dispatch = Dispatch()
    collector = Collector(program, plan.sources, store.objects, Limits(host_s=given["timeout"]), dispatch, plan.data)
    with Progress(len(plan.hosts), quiet=given["quiet"], verbose=given["verbose"], already=len(draft.evidence)) as progress:

        def done(evidence: Any) -> None:
            draft.add(evidence)
            progress.ended(evidence)

        try:
            collector.collect(todo, _pipeline.concurrency(given["concurrency"], len(todo)), done, progress.begun)
        except KeyboardInterrupt:
            click.echo(f"\n{len(draft.evidence)} of {len(plan.hosts)} hosts are kept: `--resume` completes the run", err=True)
            raise
        finally:
            dispatch.close()
    return draft
