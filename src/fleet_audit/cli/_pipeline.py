# SPDX-License-Identifier: Apache-2.0
"""The stages in a row, as `run`, `collect`, `evaluate` and `record` compose them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleet_audit.checkfile import Check
from fleet_audit.checks import Library
from fleet_audit.inventory import Inventory
from fleet_audit.model import FleetAuditError, HostName, Roster, Secret
from fleet_audit.policy import Policy
from fleet_audit.runs import Draft, Run, Store


@dataclass(frozen=True)
class Selection:
    """Which checks, with which parameters."""

    library: Library
    policy: Policy
    profile: str
    checks: tuple[Check, ...]
    folders: tuple[Path, ...]
    """Of a site's own checks."""
    asked: Mapping[str, Any]
    """What the command line chose rather than the policy: a profile (or None) and ids of checks."""

    def inputs(self) -> dict[str, Any]:
        """What a run keeps of it, so that it can be decided again."""
        return {
            "profile": self.profile, "policy": self.policy.text,
            "policy_file": str(self.policy.path) if self.policy.path else None, "checks": [c.id for c in self.checks],
            "check_folders": [str(folder.absolute()) for folder in self.folders], "asked": dict(self.asked),
        }  # fmt: skip


def select(chosen: Policy, profile: str | None, only: Sequence[str], folders: Sequence[Path]) -> Selection:
    """Load checks, and check every name and value in the policy."""
    from fleet_audit import checks, peers
    from fleet_audit.facts import tables

    asked = peers.checks(chosen, tables())
    library = checks.load(folders, tables=tables()).extended(asked)
    chosen = resolved(chosen, library)
    name = profile or chosen.profile
    if profile is None and name not in library.profiles:
        try:
            library.select(name)
        except FleetAuditError as error:
            raise chosen.error(("profile",), str(error)) from None
    gone = {exclusion.check for exclusion in chosen.exclude}
    picked = {c.id: c for c in (*library.select(name, only), *(() if only else (*map(library.named, chosen.include), *asked)))}
    selected = tuple(picked[id_] for id_ in sorted(picked) if only or id_ not in gone)
    if not selected:
        raise FleetAuditError(f"the profile {name!r} selects no check")
    return Selection(library, chosen, name, selected, tuple(folders), {"profile": profile, "checks": list(only)})


def resolved(chosen: Policy, library: Library) -> Policy:
    """The policy with the ids that checks have now, its parameters held against them. Raises `FleetAuditError` with the line."""
    from fleet_audit.checkfile import no_version, unfit

    def current(place: tuple[str | int, ...], name: str) -> Check:
        try:
            return library.named(name)
        except FleetAuditError as error:
            raise chosen.error(place, str(error)) from None

    def params(place: tuple[str | int, ...], scope: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for name, values in scope.items():
            check = current((*place, name), name)
            if check.file.scope == "fleet" and place[0] == "groups":
                raise chosen.error((*place, name), f"{check.id} compares all hosts: set its parameters for the fleet, under `params`")
            for parameter, value in values.items():
                if problem := unfit(check, parameter, value) or no_version(check, parameter, value):
                    raise chosen.error((*place, name, parameter), problem)
            found.setdefault(check.id, {}).update(values)
        return found

    wanted = {current(("include", n), id_).id for n, id_ in enumerate(chosen.include)}
    for n, exclusion in enumerate(chosen.exclude):
        if (id_ := current(("exclude", n, "check"), exclusion.check).id) in wanted:
            raise chosen.error(("exclude", n, "check"), f"{id_} is included and excluded: decide")
    return replace(
        chosen, params=params(("params",), chosen.params),
        groups={group: params(("groups", group, "params"), scope) for group, scope in chosen.groups.items()},
        include=tuple(current(("include", n), id_).id for n, id_ in enumerate(chosen.include)),
        exclude=tuple(e.model_copy(update={"check": current(("exclude", n, "check"), e.check).id}) for n, e in enumerate(chosen.exclude)),
        waivers=tuple(w.model_copy(update={"check": current(("waivers", n, "check"), w.check).id}) for n, w in enumerate(chosen.waivers)),
    )  # fmt: skip


def read(inventory: str | None, options: Mapping[str, Any]) -> Inventory:
    """The inventory as the options say; passwords are asked for on the terminal."""
    import click

    from fleet_audit.inventory import load

    if (options["ask_pass"] or options["ask_become_pass"]) and not os.isatty(0):
        raise FleetAuditError(
            "a password was to be asked for, and standard input is no terminal; give it in the inventory, by Ansible Vault"
        )
    try:
        login = click.prompt("SSH password", hide_input=True, err=True) if options["ask_pass"] else None
        become = None
        if options["ask_become_pass"]:
            become = click.prompt("Password to become root", hide_input=True, err=True, default="", show_default=False) or login
    except click.Abort:
        raise FleetAuditError("a password was to be asked for, and none was given") from None
    if inventory is not None and "," not in inventory and not os.path.exists(inventory):
        raise FleetAuditError(
            f"{inventory or 'the name of the inventory is empty'}: no such inventory; a list of hosts has commas, such as `node1,`"
        )
    if inventory is None and options["limit"]:
        raise FleetAuditError("--limit needs an inventory: without one, this machine is audited")
    if options["private_key"] and not os.path.isfile(os.path.expanduser(options["private_key"])):
        raise FleetAuditError(f"--private-key {options['private_key']}: no such file")
    return load(
        inventory, limit=options["limit"], user=options["user"], private_key=options["private_key"],
        become=options["become"] or options["ask_become_pass"], become_password=Secret(become) if become else None,
        login_password=Secret(login) if login else None, vault_password_file=options["vault_password_file"],
    )  # fmt: skip


def concurrency(wanted: int | None, count: int) -> int:
    """Hosts at once: what was asked for, or what fits this machine's memory and processors."""
    if wanted is not None:
        return min(wanted, max(1, count))
    import psutil

    memory = int(psutil.virtual_memory().available // (48 << 20))
    return max(1, min(count, 24 * (os.cpu_count() or 1), memory, 256))


def evaluate(draft: Draft, selection: Selection, roster: Roster, as_of: datetime, *, asked: Policy | None = None) -> None:
    """Facts, results and findings of a draft's evidence, written into it. `asked` is the policy it was collected by, if another."""
    import dataclasses
    import json

    from fleet_audit import extract, sitetests, waivers
    from fleet_audit.advisories import matching
    from fleet_audit.advisories.database import Database
    from fleet_audit.evaluate import Evaluator
    from fleet_audit.facts import tables
    from fleet_audit.findings import FINDING_COLUMNS, RESULT_COLUMNS
    from fleet_audit.tables import write_rows

    library, policy = selection.library, selection.policy
    sources = set(draft.head["sources"])
    read = {name: table for name, table in tables().items() if all(source.id in sources for source in table.sources)}
    facts = extract.build(
        draft.evidence.values(), roster, read, draft.store.objects,
        oldest=as_of.replace(tzinfo=UTC).timestamp() - policy.evidence_days * 86400, unasked=_unasked(roster, asked, policy),
    )  # fmt: skip
    leant = matching.decide(facts, Database(draft.store.folder / "advisories"), as_of, policy.advisory_days)
    facts.save(draft.folder / "facts")
    facts.connection.close()
    done = Evaluator(
        draft.folder / "facts", {HostName(h): roster.groups.get(h, ()) for h in draft.evidence}, selection.checks, policy,
        library.params(selection.profile), as_of, library.references,
    ).evaluate()  # fmt: skip
    site = sitetests.decided(_outcomes(draft.folder), sorted(map(HostName, draft.evidence)))
    marked = waivers.mark(
        waivers.at(policy.waivers, as_of),
        (*done.results, *site.results),
        (*done.findings, *site.findings),
        {HostName(h): g for h, g in roster.groups.items()},
    )
    write_rows(
        draft.folder / "results.parquet", RESULT_COLUMNS,
        [(r.check, r.host, str(r.outcome), r.reason, r.subjects, r.failed, r.undetermined, r.waived) for r in marked.results],
    )  # fmt: skip
    write_rows(
        draft.folder / "findings.parquet", FINDING_COLUMNS,
        [(f.check, f.host, f.subject, str(f.outcome), f.reason, f.fingerprint, f.waiver) for f in marked.findings],
    )  # fmt: skip
    texts = [describe(check, selection) for check in selection.checks] + list(site.checks)
    leant_on = {name: library.references[name] for name in sorted({name for check in selection.checks for name in check.references})}
    said = {
        "waivers": [dataclasses.asdict(waiver) for waiver in marked.waivers],
        "exclusions": _exclusions(selection),
        "references": [
            {"name": n, "as_of": r.as_of.isoformat(), "stale": r.stale(as_of, policy.reference_days)} for n, r in leant_on.items()
        ]
        + [
            {"name": f"advisories of {n}", "as_of": (e["as_of"] or e["taken_at"])[:10], "stale": e["stale"]}
            for n, e in leant.get("sources", {}).items()
        ],
        "advisories": leant,
    }
    rows = {name: reference.for_evaluator() for name, reference in leant_on.items()}
    for name, value in (("checks.json", texts), ("policy.json", said), ("references.json", rows)):
        (draft.folder / name).write_text(json.dumps(value, sort_keys=True, indent=1) + "\n", encoding="utf-8")


SITE_TESTS = "site-tests.jsonl"
"""File of a run: what the site's own tests said, a line for each outcome."""


def _outcomes(folder: Path) -> list[dict[str, Any]]:
    """What a draft holds of the site's tests; nothing if none were run."""
    import json

    path = folder / SITE_TESTS
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def _exclusions(selection: Selection) -> list[dict[str, str]]:
    """The checks that the policy or the profile leaves out, and why."""
    run = {c.id for c in selection.checks}
    found: dict[str, str] = {
        check: f"the profile {name} leaves it out" for check, name in selection.library.left_out(selection.profile).items()
    }
    found |= {exclusion.check: exclusion.reason for exclusion in selection.policy.exclude}
    return [{"check": check, "reason": reason} for check, reason in found.items() if check not in run]


def _unasked(roster: Roster, asked: Policy | None, policy: Policy) -> dict[str, str]:
    """{host: why} where the policy names a folder of data that the one which was collected by did not."""
    if asked is None:
        return {}
    found = {}
    for host in roster.groups:
        if new := sorted({f.path for f in policy.folders(host)} - {f.path for f in asked.folders(host)}):
            found[host] = f"{new[0]} is in the policy now and was not when the host was read; collect again"
    return found


def describe(check: Check, selection: Selection) -> dict[str, Any]:
    """A check as a run keeps it: its texts, the fleet's parameters, and what it reads."""
    from fleet_audit.facts import tables

    text = check.file.model_dump(mode="json", exclude={"examples"})
    params = dict(check.file.params) | selection.library.params(selection.profile).get(check.id, {})
    sources = sorted({s.id for name in check.tables for s in tables()[name].sources})
    return {
        **text, "area": check.area, "tables": sorted(check.tables), "references_read": sorted(check.references), "sources": sources,
        "params": selection.policy.values(check.id, params, ()),
        "group_params": [[group, dict(scope[check.id])] for group, scope in selection.policy.groups.items() if check.id in scope],
    }  # fmt: skip


def seal(draft: Draft, roster: Roster, stage: str, as_of: datetime, **more: Any) -> Run:
    """Seal a draft with what `run.json` says of its hosts."""
    entries = {
        e.host: {
            "groups": list(roster.groups.get(e.host, ())), "expected": roster.expected.get(e.host, True), "reach": str(e.reach), "detail": e.detail,
            "answered": e.answered, "privileged": e.privileged, "transport": e.transport, "seconds": e.seconds,
            "costs": dict(e.costs), "notes": [*e.notes, *([roster.notes[e.host]] if e.host in roster.notes else [])],
            "read_at": None if e.transport == "archive" else datetime.fromtimestamp(int(e.started_at), UTC).replace(tzinfo=None).isoformat(),
        }
        for e in draft.evidence.values()
    }  # fmt: skip
    others = {name: list(groups) for name, groups in roster.others.items()}
    return draft.seal({"stage": stage, "as_of": as_of.isoformat(), "hosts": entries, "others": others, **more})


def moment(text: str | None) -> datetime:
    """A time that a person gave, as naive UTC; now if none. Raises `FleetAuditError` for what is none."""
    if text is None:
        return datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise FleetAuditError(f"--as-of {text!r} is no time; write it as 2026-11-24 or 2026-11-24T06:00:00") from None
    try:
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else when
    except OverflowError:
        raise FleetAuditError(f"--as-of {text!r} is no time that there is") from None


def open_store(folder: Path | None) -> Store:
    """The store that was named, or the default one."""
    from fleet_audit.runs import default_folder

    return Store(folder or default_folder())
