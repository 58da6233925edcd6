# SPDX-License-Identifier: Apache-2.0
"""Plans: from the findings of a run to actions of Ansible roles on hosts in batches, for a person to review.

A plan holds ids and variables of checks and names of the inventory, never text of a node.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleet_audit import content, yamlfile
from fleet_audit.findings import CheckView, Report
from fleet_audit.landscape import primary
from fleet_audit.model import CheckId, FleetAuditError, HostName, Outcome, did_you_mean
from fleet_audit.policy import Policy
from fleet_audit.runs import Run

DISRUPTIONS = ("none", "service-restart", "reboot", "drain")
HOURS = 24
"""After so long a plan is stale."""
_EVALUATED = re.compile(r"\{[{%#]|[\x00-\x1f\x7f\x85\u2028\u2029]")
NOT_PLAIN = "holds what Ansible would evaluate, or a line break"
_STRICT = ConfigDict(extra="forbid", frozen=True)


class RoleFile(BaseModel):
    """`meta/fleet_audit.yml` of a role."""

    model_config = _STRICT
    grade: Literal["behaviour", "parser", "dry"]
    """How far it was proved."""
    tables: list[str]
    saves: str
    confirm: bool
    """A new connection must confirm it, or the node puts the state before back."""
    checks: list[str]
    needs: dict[str, list[str]] = {}
    """Check -> variables of which the site must give one."""


class Action(BaseModel):
    """One role on some hosts."""

    model_config = _STRICT
    role: str
    grade: str
    disruption: Literal["none", "service-restart", "reboot", "drain"]
    confirm: bool
    saves: str
    """What rollback brings back, and what it cannot."""
    checks: list[str]
    variables: dict[str, Any]
    batches: list[list[str]] = Field(min_length=1)
    """Hosts; the first batch is one canary of each group."""
    findings: dict[str, list[str]]
    """Host -> checks of it that are to pass afterwards."""
    impacts: dict[str, str] = {}
    """Check -> what else its fix does to those who use the hosts."""

    @field_validator("role")
    @classmethod
    def _known(cls, role: str) -> str:
        if role not in roles():
            raise ValueError(f"this version has no role {role!r}{did_you_mean(role, roles())}")
        return role

    @field_validator("variables")
    @classmethod
    def _texts(cls, variables: dict[str, Any]) -> dict[str, Any]:
        for name, value in variables.items():
            if not _plain(value):
                raise ValueError(f"{name} {NOT_PLAIN}")
        return variables

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if sorted(host for batch in self.batches for host in batch) != sorted(self.findings):
            raise ValueError("batches and findings name different hosts")
        if not {check for checks in self.findings.values() for check in checks} <= set(self.checks):
            raise ValueError("findings name checks that are not among checks")
        return self


class NotFixed(BaseModel):
    """Failures that the plan leaves, and why."""

    model_config = _STRICT
    check: str
    hosts: int
    why: str


class Plan(BaseModel):
    """A plan as its file holds it."""

    model_config = _STRICT
    plan: str = Field(pattern="^[0-9a-f]{12}$")
    run: str
    run_sha256: str
    made_at: AwareDatetime
    stale_after: AwareDatetime
    inventory: str
    policy_file: str | None
    profile: str
    actions: list[Action]
    not_fixed: list[NotFixed]

    @property
    def hosts(self) -> set[str]:
        """All hosts that it touches."""
        return {host for action in self.actions for batch in action.batches for host in batch}


@dataclass(frozen=True)
class Role:
    """A shipped role."""

    name: str
    file: RoleFile
    path: Path
    variables: frozenset[str]
    """What its argument specs name, beside what every role is given."""


@cache
def roles() -> Mapping[str, Role]:
    """The roles that remediate, by name."""
    found = {}
    for path in sorted((content.folder("playbooks") / "roles").glob("*/meta/fleet_audit.yml")):
        document = yamlfile.load(path)
        try:
            file = RoleFile.model_validate(document.value)
        except ValidationError as error:
            raise document.invalid(error, RoleFile.model_fields) from None
        specs: Any = yamlfile.load(path.with_name("argument_specs.yml")).value
        names = frozenset(n for n in specs["argument_specs"]["main"]["options"] if not n.startswith("fleet_audit_"))
        found[path.parts[-3]] = Role(path.parts[-3], file, path.parents[1], names)
    return found


def sha256(run: Run) -> str:
    """What binds a plan to a run: the hash of its run.json, which names the hashes of all the rest."""
    return hashlib.sha256((run.folder / "run.json").read_bytes()).hexdigest()


def make(
    run: Run, report: Report, *, checks: Sequence[str] = (), hosts: Collection[str] | None = None, most: str = "none", batch: int = 10,
    experimental: bool = False, inventory: str | None = None, policy: Policy | None = None,
) -> Plan:  # fmt: skip
    """The plan for what fails in a run: no disruption above `most`; of a role one action.

    `inventory` stands in for that of the run; `policy` gives variables of roles. Raises `FleetAuditError` for a variable that no role has.
    """
    site = _site_variables(policy)
    inventory = _inventory(inventory or report.inputs.get("inventory"), report.id)
    policy_file = report.inputs.get("policy_file")
    views = {c.id: c for c in report.checks}
    described = {c["id"]: c for c in run.document("checks.json")}
    groups = {h.name: h.entry.groups for h in report.hosts}
    archived = {h.name for h in report.hosts if h.entry.transport == "archive"}
    wanted: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))  # role -> host -> checks
    left: dict[tuple[str, str], set[str]] = defaultdict(set)
    for result in report.results:
        if (
            result.outcome is not Outcome.FAIL
            or (checks and result.check not in checks)
            or (hosts is not None and result.host not in hosts)
        ):
            continue
        remediation = described[result.check].get("remediation")
        given = {k: _resolved(v, views) for k, v in ((remediation or {}).get("vars") or {}).items()} | site
        why = _why_not(remediation, result.check, most, given, site, experimental=experimental)
        if result.waived:
            why = "a waiver accepts it"
        elif result.host in archived:
            why = "the host is a record: there is nobody to fix"
        if why:
            left[result.check, why].add(result.host)
        else:
            wanted[views[result.check].role or ""][result.host].append(result.check)
    actions = []
    for name, of_host in wanted.items():
        role = roles()[name]
        ids = sorted({c for found in of_host.values() for c in found})
        variables: dict[str, Any] = {}
        for check in ids:
            variables |= (described[check]["remediation"] or {}).get("vars") or {}
        variables = {k: _resolved(v, views) for k, v in variables.items()} | {k: v for k, v in site.items() if k in role.variables}
        for key, value in variables.items():
            if not _plain(value):
                raise FleetAuditError(f"{', '.join(ids)}: the variable {key} {NOT_PLAIN}")
        disruption = _disruption(ids, described)
        actions.append(
            Action(role=name, grade=role.file.grade, disruption=disruption, confirm=role.file.confirm, saves=role.file.saves, checks=ids,
                   variables=variables, batches=_batches(sorted(of_host), groups, batch),
                   findings={h: sorted(found) for h, found in sorted(of_host.items())},
                   impacts={c: impact for c in ids if (impact := views[CheckId(c)].impact)})
        )  # fmt: skip
    actions.sort(key=lambda a: (DISRUPTIONS.index(a.disruption), a.role))
    now = datetime.now(UTC).replace(microsecond=0)
    identity = hashlib.sha256(repr((sha256(run), now.isoformat(), [a.model_dump_json() for a in actions])).encode()).hexdigest()[:12]
    return Plan(
        plan=identity, run=report.id, run_sha256=sha256(run), made_at=now, stale_after=now + timedelta(hours=HOURS), inventory=inventory,
        policy_file=str(Path(policy_file).absolute()) if isinstance(policy_file, str) else None,
        profile=str(report.inputs.get("profile") or "baseline"), actions=actions,
        not_fixed=[NotFixed(check=c, hosts=len(h), why=w) for (c, w), h in sorted(left.items())],
    )  # fmt: skip


def _site_variables(policy: Policy | None) -> dict[str, Any]:
    """The variables that the policy gives. Raises `FleetAuditError` for one that no role has."""
    given = dict(policy.remediation.vars) if policy else {}
    known = {name for role in roles().values() for name in role.variables}
    for name in given:
        if name not in known and policy:
            raise policy.error(("remediation", "vars", name), f"no role has a variable {name!r}{did_you_mean(name, known)}")
        if not _plain(given[name]) and policy:
            raise policy.error(("remediation", "vars", name), f"it {NOT_PLAIN}")
    return given


def _resolved(value: Any, views: Mapping[Any, CheckView]) -> Any:
    """A variable's value; `$CHECK.PARAMETER` is what that check allows in the run, None if it was not in it or groups differ there."""
    if not isinstance(value, str) or not value.startswith("$"):
        return value
    check, _, parameter = value[1:].partition(".")
    view = views.get(check)
    if view is None or any(parameter in params for params in view.group_params.values()):
        return None
    return view.params.get(parameter)


def _inventory(given: object, run: str) -> str:
    """An inventory as a plan names it: by its whole path, or a list of hosts. Raises `FleetAuditError` if there is none."""
    if not isinstance(given, str) or not given:
        raise FleetAuditError(f"run {run} has no inventory that Ansible could use: audit with one, or name one with --inventory")
    if "," in given:
        return given
    if not Path(given).exists():
        raise FleetAuditError(f"{given}: the inventory of run {run} is not there; name it with --inventory")
    return str(Path(given).absolute())


def _why_not(
    remediation: Mapping[str, Any] | None, check: str, most: str, given: Mapping[str, Any], site: Mapping[str, Any], *, experimental: bool
) -> str:
    if not remediation:
        return "it has no automatic fix: see the check"
    role = roles().get(remediation["role"])
    if role is None:
        return f"the role {remediation['role']} is not there yet: see the check's fix"
    if check not in role.file.checks:
        return f"the role {role.name} does not cover it: see the check's fix"
    if unknown := [name for name, value in given.items() if value is None and name in role.variables]:
        check, parameter = remediation["vars"][unknown[0]][1:].split(".")
        why = f"the run does not say what {parameter} of {check} is, or says it for each group"
        return f"{why}: audit with that check, or give {unknown[0]} by the policy, `remediation: vars`"
    needed = role.file.needs.get(check, [])
    if needed and not any(given.get(name) or name in site for name in needed):
        return f"the policy gives no {' or '.join(needed)}: `remediation: vars`"
    if role.file.grade == "dry" and not experimental:
        return f"the role {role.name} was tried in check mode alone: --experimental"
    if DISRUPTIONS.index(remediation["disruption"]) > DISRUPTIONS.index(most):
        return f"its disruption is {remediation['disruption']}: --max-disruption {remediation['disruption']}"
    return ""


def _batches(hosts: Sequence[str], groups: Mapping[Any, Sequence[str]], size: int) -> list[list[str]]:
    """One canary of each group, then so many hosts at once."""
    smallest = primary({HostName(h): groups.get(h, ()) for h in hosts})
    canaries = sorted({group: host for host, group in sorted(smallest.items(), reverse=True)}.values())
    rest = [h for h in hosts if h not in canaries]
    return [list(map(str, canaries)), *([rest[n : n + size] for n in range(0, len(rest), size)])]


HEAD = """# A plan of fleet-audit. Review it; `fleet-audit remediate apply {file}` shows its changes first and asks.
# It is bound to run {run}, and stale after {stale}. The first batch of an action is one canary of each group.
"""


def text(plan: Plan, file: str) -> str:
    """The plan's file."""
    body = yaml.safe_dump(plan.model_dump(mode="json"), sort_keys=False, width=150, allow_unicode=True)
    return HEAD.format(file=file, run=plan.run, stale=f"{plan.stale_after:%Y-%m-%d %H:%M} UTC") + body


def load(path: Path) -> Plan:
    """A plan from its file. Raises `FleetAuditError` naming file, line and field."""
    document = yamlfile.load(path)
    try:
        return Plan.model_validate(document.value)
    except ValidationError as error:
        raise document.invalid(error, {*Plan.model_fields, *Action.model_fields, *NotFixed.model_fields}) from None


def check(plan: Plan, run: Run, now: datetime, *, experimental: bool = False) -> None:
    """Raise `FleetAuditError` if a plan must not be carried out: another run, too old, edited, or a role that has changed."""
    if sha256(run) != plan.run_sha256:
        raise FleetAuditError(f"plan {plan.plan} is not of run {run.file.id} as it is in this store: plan again")
    if now > plan.stale_after:
        raise FleetAuditError(f"plan {plan.plan} is stale since {plan.stale_after:%Y-%m-%d %H:%M} UTC: audit and plan again")
    if not plan.actions:
        raise FleetAuditError(f"plan {plan.plan} has no action: there is nothing to carry out")
    described = {c["id"]: c for c in run.document("checks.json")}
    for action in plan.actions:
        role = roles()[action.role]
        if not set(action.checks) <= set(role.file.checks) & described.keys():
            raise FleetAuditError(f"plan {plan.plan}: this version has no role {action.role!r} for these checks: plan again")
        if role.file.grade == "dry" and not experimental:
            raise FleetAuditError(f"plan {plan.plan}: the role {role.name} was tried in check mode alone: --experimental")
        for name in action.variables.keys() - role.variables:
            raise FleetAuditError(f"plan {plan.plan}: the role {role.name} has no variable {name!r}{did_you_mean(name, role.variables)}")
        told = (action.disruption, action.confirm)
        if told != (true := (_disruption(action.checks, described), role.file.confirm)):
            raise FleetAuditError(
                f"plan {plan.plan}: {role.name} has disruption {true[0]} and confirm {true[1]}, whatever the plan says: plan again"
            )


def _disruption(checks: Sequence[str], described: Mapping[str, Mapping[str, Any]]) -> Any:
    """The highest of some checks."""
    return max((described[c]["remediation"]["disruption"] for c in checks), key=DISRUPTIONS.index)


def _plain(value: Any) -> bool:
    """Whether a variable holds nothing that Ansible would evaluate, and no line break that would begin a line of its own in a file."""
    if isinstance(value, str):
        return not _EVALUATED.search(value)
    if isinstance(value, dict):
        return all(_plain(v) for pair in value.items() for v in pair)
    return all(map(_plain, value)) if isinstance(value, list) else True
