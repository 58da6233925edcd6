# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit evaluate`: decide a run's evidence again, offline, as a new run."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run", default="latest")
@options.selection
@options.as_of
@options.store
@options.judging
@options.reports
@options.verbosity
def command(run: str, **given: Any) -> int:
    """Decide RUN's evidence again, with this version, and keep it as a new run, with a report.

    Policy, profile and checks, a site's own among them, are those of RUN unless others are given. Ages are measured
    at --as-of, by default when the evidence was collected.
    """
    from fleet_audit import history, plan, policy
    from fleet_audit.cli import _pipeline, _reports, _verdict
    from fleet_audit.cli.run import finish
    from fleet_audit.findings import load
    from fleet_audit.model import FleetAuditError, Roster, Severity

    allowed = _verdict.allowance(given["max_unknown"])
    formats = _reports.formats(given["formats"] or ("html",), given["output"])
    store = _pipeline.open_store(given["store_folder"]).writable()
    known = _verdict.baseline(store, given["baseline"])
    old = store.find(run)
    inventory = old.file.inputs.get("inventory")
    inputs = old.file.inputs
    kept = policy.parse(str(inputs.get("policy") or "").encode(), Path(inputs.get("policy_file") or f"policy of run {old.file.id}"))
    chosen = policy.find(given["policy_file"], None) if given["policy_file"] else kept
    then: dict[str, Any] = inputs.get("asked") or {}
    asked: dict[str, Any] = {
        "profile": given["profile"] or then.get("profile"),
        "checks": list(given["only"]) or ([] if given["profile"] else then.get("checks") or []),
    }
    again = not (given["profile"] or given["policy_file"] or given["check_folders"])
    only: Sequence[str] = given["only"] or (inputs.get("checks") or () if again else asked["checks"])
    profile = asked["profile"] or (None if given["policy_file"] else inputs.get("profile"))
    folders = given["check_folders"] or [Path(folder) for folder in inputs.get("check_folders") or ()]
    try:
        selection = _pipeline.select(chosen, profile, only, folders)
    except FleetAuditError as error:
        own = bool(re.search("no (check|profile) is named|no such folder of checks", str(error))) and not given["check_folders"]
        hint = f"; if it was one of your own when run {old.file.id} was made, name its folder with --checks" if own else ""
        raise FleetAuditError(f"{error}{hint}") from None
    moment = _pipeline.moment(given["as_of"]) if given["as_of"] else _read_at(store, old)
    kept_evidence = list(old.evidence())
    began = min((e.started_at for e in kept_evidence if e.transport != "archive"), default=0.0)
    if given["as_of"] and moment.replace(tzinfo=UTC).timestamp() < began - 1:
        raise FleetAuditError(f"--as-of {given['as_of']}: the evidence of run {old.file.id} is newer than that, so no age could be told")
    draft = store.begin(
        {**selection.inputs(), "inventory": inventory, "asked": asked}, old.file.program, old.file.sources, evidence_of=old.file.evidence_of
    )
    hosts = old.file.hosts
    roster = Roster({name: h.groups for name, h in hosts.items()}, {name: h.expected for name, h in hosts.items()}, old.file.others)
    for note in plan.nowhere(selection.policy, roster) if given["policy_file"] else ():
        click.echo(f"{selection.policy.path}: {note}", err=True)
    try:
        for evidence in kept_evidence:
            draft.add(evidence)
        if _pipeline.SITE_TESTS in old.file.files:
            shutil.copyfile(old.path(_pipeline.SITE_TESTS), draft.folder / _pipeline.SITE_TESTS)
        _pipeline.evaluate(draft, selection, roster, moment, asked=kept)
    except BaseException:
        draft.abandon()  # the evidence is in the old run: nothing is lost
        raise
    report = load(_pipeline.seal(draft, roster, "evaluated", moment, evidence_of=old.file.evidence_of))
    history.remember(store, report)
    paths = _reports.write(report, formats, given["output"], store)
    code, why = _verdict.verdict(report, Severity(given["fail_on"]), allowed, known)
    finish(report, paths, code, why, given)
    return code


def _read_at(store: Any, old: Any) -> Any:
    """The time at which ages are measured unless another is given: when the evidence was collected, not when it was last decided."""
    from fleet_audit.model import FleetAuditError

    try:
        return store.find(old.file.evidence_of).file.as_of
    except FleetAuditError:  # that run is gone
        return old.file.as_of
