# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit report`: render a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run", default="latest")
@options.reports
@click.option("--since", metavar="RUN", help="Say what changed since RUN, or since `previous`.")
@click.option("--owner", metavar="NAME", help="Only the hosts of an owner whom the policy names.")
@click.option("--policy", "policy_file", metavar="FILE", help="Policy that names the owners. [default: the run's own]")
@options.store
def command(
    run: str,
    formats: tuple[str, ...],
    output: str | None,
    since: str | None,
    owner: str | None,
    policy_file: str | None,
    store_folder: Path | None,
) -> int:
    """Render RUN, an id, a unique prefix of one, or `latest`. It asks no host."""
    from fleet_audit import diff, history
    from fleet_audit.cli import _pipeline, _reports
    from fleet_audit.findings import load

    names = _reports.formats(formats or ("html",), output)
    store = _pipeline.open_store(store_folder)
    found = store.find(run, stage="evaluated")
    only = None if owner is None else _hosts_of(owner, found, policy_file)
    changed = None
    if since is not None:
        before = history.previous(store, found) if since == "previous" else store.find(since, stage="evaluated")
        changed = diff.compare(before, found)
    for path in _reports.write(load(found, only=only, since=changed), names, output, store, owner or ""):
        click.echo(str(path))
    return 0


def _hosts_of(owner: str, run: Any, policy_file: str | None) -> set[str]:
    """The hosts of an owner. Raises `FleetAuditError` for one whom the policy does not name, or who has none."""
    from fleet_audit import policy
    from fleet_audit.model import FleetAuditError, did_you_mean

    text = str(run.file.inputs.get("policy") or "").encode()
    chosen = policy.find(policy_file, None) if policy_file else policy.parse(text, Path(f"policy of run {run.file.id}"))
    if owner not in chosen.owners:
        raise FleetAuditError(f"--owner {owner!r}: the policy names no such owner{did_you_mean(owner, chosen.owners)}")
    found = {name for name, host in run.file.hosts.items() if chosen.owners[owner].has(name, host.groups)}
    if not found:
        raise FleetAuditError(f"--owner {owner!r}: run {run.file.id} has no host of theirs")
    return found
