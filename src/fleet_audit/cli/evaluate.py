# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit evaluate`: decide a run's evidence again, offline, as a new run."""

from __future__ import annotations

from typing import Any

import click

from fleet_audit.cli import _options as options


@click.command()
@click.argument("run", default="latest")
@options.selection
@options.as_of
@options.store
@click.option("--fail-on", type=click.Choice(["critical", "high", "medium", "low", "info"]), default="high", show_default=True,
              help="Exit with 1 on an open failure of this severity or above.")  # fmt: skip
@click.option(
    "--max-unknown", default="0", show_default=True, metavar="N|P%|any", help="Exit with 3 if more results than this are not known."
)
@options.verbosity
def command(run: str, **given: Any) -> int:
    """Decide RUN's evidence again, with this version, and keep it as a new run.

    Policy, profile and checks are those of RUN unless others are given. Ages are measured at --as-of, by
    default when the evidence was collected.
    """
    from fleet_audit import policy
    from fleet_audit.cli import _pipeline, _verdict
    from fleet_audit.cli.run import _finish
    from fleet_audit.findings import load
    from fleet_audit.model import Severity

    allowed = _verdict.allowance(given["max_unknown"])
    store = _pipeline.open_store(given["store_folder"])
    old = store.find(run)
    inventory = old.file.inputs.get("inventory")
    inputs = old.file.inputs
    kept = policy.parse(str(inputs.get("policy") or "").encode(), old.folder / "run.json")
    chosen = policy.find(given["policy_file"], None) if given["policy_file"] else kept
    only = given["only"] or (() if given["profile"] or given["policy_file"] else inputs.get("checks") or ())
    selection = _pipeline.select(chosen, given["profile"] or inputs.get("profile"), only, given["check_folders"])
    moment = _pipeline.moment(given["as_of"]) if given["as_of"] else old.file.as_of
    draft = store.begin({**selection.inputs(), "inventory": inventory}, old.file.program, old.file.sources)
    groups = {name: host.groups for name, host in old.file.hosts.items()}
    expected = {name: host.expected for name, host in old.file.hosts.items()}
    try:
        for evidence in old.evidence():
            draft.add(evidence)
        _pipeline.evaluate(draft, selection, groups, expected, moment)
    except BaseException:
        draft.abandon()  # the evidence is in the old run: nothing is lost
        raise
    report = load(_pipeline.seal(draft, groups, expected, "evaluated", moment, evidence_of=old.file.evidence_of))
    code, why = _verdict.verdict(report, Severity(given["fail_on"]), allowed)
    _finish(report, [], code, why, {"quiet": given["quiet"], "output": None})
    return code
