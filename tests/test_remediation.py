# SPDX-License-Identifier: Apache-2.0
"""Plans: what they hold, what they leave and why, and that no text of a node gets into one (synthetic reports)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_audit import policy, remediation
from fleet_audit.facts import tables
from fleet_audit.findings import Report
from fleet_audit.model import CheckId, FleetAuditError, HostName, Outcome, Result, Severity
from fleet_audit.planlog import PlanLog, runs_needed
from fleet_audit.runs import Run

from .factory import library
from .report.factory import check, host

EVIL = "{{ lookup('pipe', 'id') }}\n- hosts: all"


class FakeRun(Run):
    """A run (synthetic) as far as a plan asks it: its folder, and its checks."""

    def __init__(self, folder: Path, checks: list[dict[str, Any]]) -> None:
        self.folder, self.checks = folder, checks
        (folder / "run.json").write_text("{}")

    def document(self, name: str) -> Any:
        assert name == "checks.json"
        return self.checks


def report(outcomes: dict[tuple[str, str], Outcome], **fields: Any) -> Report:
    ids, names = sorted({c for c, _ in outcomes}), sorted({h for _, h in outcomes})
    shipped = library().checks
    fixes = {i: shipped[CheckId(i)].file.remediation for i in ids}
    views = tuple(check(i, severity=Severity.HIGH, role=fix.role if fix else None) for i, fix in fixes.items())
    results = tuple(Result(CheckId(c), HostName(h), o, EVIL, 1, 1, 0) for (c, h), o in sorted(outcomes.items()))
    from .report.factory import report as base

    return dataclasses.replace(base({"x": Outcome.PASS}), hosts=tuple(host(n) for n in names), checks=views, results=results, findings=(),
                               inputs={"inventory": "a,b,n0,", "profile": "baseline"}, **fields)  # fmt: skip


def described(*ids: str) -> list[dict[str, Any]]:
    return [library().checks[CheckId(i)].file.model_dump(mode="json") for i in ids]


def plan(tmp_path: Path, outcomes: dict[tuple[str, str], Outcome], most: str = "service-restart", **more: Any) -> remediation.Plan:
    ids = sorted({c for c, _ in outcomes})
    return remediation.make(FakeRun(tmp_path, described(*ids)), report(outcomes), most=most, **more)


def test_a_role_gets_the_variables_of_its_checks_and_hosts_come_in_batches(tmp_path: Path) -> None:
    outcomes = {(c, f"n{n}"): Outcome.FAIL for c in ("ssh-x11-forwarding-off", "ssh-tunnel-off", "redirects-not-sent") for n in range(5)}
    found = plan(tmp_path, outcomes, batch=2)
    assert [(a.role, a.disruption, a.batches) for a in found.actions] == [
        ("sysctl", "none", [["n0"], ["n1", "n2"], ["n3", "n4"]]), ("ssh_hardening", "service-restart", [["n0"], ["n1", "n2"], ["n3", "n4"]]),
    ]  # fmt: skip
    assert found.actions[1].variables == {"ssh_x11_forwarding": "no", "ssh_permit_tunnel": "no"} and found.not_fixed == []
    assert found.stale_after > found.made_at


def test_what_is_left_says_why(tmp_path: Path) -> None:
    outcomes = {
        ("ssh-x11-forwarding-off", "a"): Outcome.FAIL, ("ssh-match-blocks-keep-protection", "a"): Outcome.FAIL,
        ("bios-at-site-minimum", "a"): Outcome.FAIL,
        ("nvidia-driver-minimum", "a"): Outcome.FAIL, ("gpu-inforom-valid", "a"): Outcome.FAIL, ("redirects-not-sent", "b"): Outcome.UNKNOWN,
        ("mlflow-asks-for-login", "a"): Outcome.FAIL, ("docker-containers-apart", "a"): Outcome.FAIL,
    }  # fmt: skip
    found = plan(tmp_path, outcomes, most="none")
    assert found.actions == []
    assert {n.check: n.why for n in found.not_fixed} == {
        "ssh-x11-forwarding-off": "its disruption is service-restart: --max-disruption service-restart",
        "ssh-match-blocks-keep-protection": "the role ssh_hardening does not cover it: see the check's fix",
        "bios-at-site-minimum": "the role firmware is not there yet: see the check's fix",
        "nvidia-driver-minimum": "the policy gives no nvidia_driver_packages: `remediation: vars`",
        "gpu-inforom-valid": "it has no automatic fix: see the check",
        "mlflow-asks-for-login": "the policy gives no service_binding_units: `remediation: vars`",
        "docker-containers-apart": "the role docker was tried in check mode alone: --experimental",
    }  # fmt: skip


def test_no_text_of_a_node_is_in_a_plan_and_its_file_is_read_back(tmp_path: Path) -> None:
    found = plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL})
    text = remediation.text(found, "p.yaml")
    assert "lookup" not in text and "{{" not in text
    path = tmp_path / "p.yaml"
    path.write_text(text)
    assert remediation.load(path) == found


def test_the_policy_gives_variables_and_another_checks_parameter_can_be_one(tmp_path: Path) -> None:
    outcomes = {(c, "a"): Outcome.FAIL for c in ("firewall-input-default-deny", "redirects-not-sent")}
    outcomes["listeners-allowed", "a"] = Outcome.PASS
    site = policy.parse(b"remediation: {vars: {firewall_trusted_networks: [10.0.0.0/8], sysctl_rp_filter: 1}}", Path("p.yaml"))
    given = report(outcomes)
    views = tuple(dataclasses.replace(c, params={"allowed": ["22/tcp"]}) if c.id == "listeners-allowed" else c for c in given.checks)
    run = FakeRun(tmp_path, described(*sorted({c for c, _ in outcomes})))
    found = remediation.make(run, dataclasses.replace(given, checks=views), most="drain", policy=site)
    assert {a.role: a.variables for a in found.actions} == {
        "firewall": {"firewall_allowed": ["22/tcp"], "firewall_trusted_networks": ["10.0.0.0/8"]}, "sysctl": {"sysctl_rp_filter": 1},
    }  # fmt: skip
    wrong = policy.parse(b"remediation:\n  vars: {sysctl_rp_filtr: 1}\n", Path("p.yaml"))
    with pytest.raises(FleetAuditError, match=r"p.yaml:2.*no role has a variable 'sysctl_rp_filtr'.*sysctl_rp_filter"):
        remediation.make(run, given, policy=wrong)


def test_waived_failures_and_records_are_left(tmp_path: Path) -> None:
    outcomes = {("redirects-not-sent", "a"): Outcome.FAIL, ("redirects-not-sent", "b"): Outcome.FAIL}
    given = report(outcomes)
    entry = given.hosts[1].entry.model_copy(update={"transport": "archive"})
    given = dataclasses.replace(
        given, results=tuple(dataclasses.replace(r, waived=r.host == "a") for r in given.results),
        hosts=(given.hosts[0], dataclasses.replace(given.hosts[1], entry=entry)),
    )  # fmt: skip
    found = remediation.make(FakeRun(tmp_path, described("redirects-not-sent")), given)
    assert found.actions == [] and {n.why for n in found.not_fixed} == {
        "a waiver accepts it",
        "the host is a record: there is nobody to fix",
    }


def test_an_inventory_is_named_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = FakeRun(tmp_path, described("redirects-not-sent"))
    given = report({("redirects-not-sent", "a"): Outcome.FAIL})
    with pytest.raises(FleetAuditError, match="is not there; name it with --inventory"):
        remediation.make(run, given, inventory="i.ini")
    (tmp_path / "i.ini").write_text("a\n")
    assert remediation.make(run, given, inventory="i.ini").inventory == str(tmp_path / "i.ini")


def test_a_run_without_an_inventory_cannot_be_planned(tmp_path: Path) -> None:
    given = dataclasses.replace(report({("redirects-not-sent", "a"): Outcome.FAIL}), inputs={"inventory": None})
    with pytest.raises(FleetAuditError, match="no inventory that Ansible could use"):
        remediation.make(FakeRun(tmp_path, described("redirects-not-sent")), given)


@pytest.mark.parametrize("name", sorted(remediation.roles()))
def test_a_role_covers_what_it_says(name: str) -> None:
    """Its checks name it, its tables are what they read, and every variable that they hand over is one of its own."""
    role = remediation.roles()[name]
    spec = yaml.safe_load((role.path / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    for id_ in role.file.checks:
        file = library().checks[CheckId(id_)].file
        assert file.remediation is not None and file.remediation.role == name, id_
        assert set(file.remediation.vars) <= role.variables, id_
        assert library().checks[CheckId(id_)].tables & set(role.file.tables), id_
    assert set(role.file.tables) <= set(tables())
    assert {library().checks[CheckId(c)].file.scope for c in role.file.checks} == {"host"}, "a batch is audited by itself"
    assert (role.path / "tasks/main.yml").is_file() and spec["fleet_audit_state"]["choices"] == ["present", "confirmed", "restored"]
    if name == "sysctl":
        variables = yaml.safe_load((role.path / "vars/main.yml").read_text())
        assert set(variables["sysctl_of_check"]) == set(role.file.checks)


def test_a_log_that_was_cut_says_all_but_what_was_cut(tmp_path: Path) -> None:
    made = plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL, ("redirects-not-sent", "b"): Outcome.FAIL})
    log = PlanLog(made, tmp_path)
    assert log.entries() == [] and set(log.states().values()) == {"planned"}
    log.note("begun", ["a"], action=0)
    with (tmp_path / "progress.jsonl").open("a") as out:
        out.write('{"kind": "do')
    log.note("drained", ["b"], by="slurm")
    log.note("begun", ["b"], action=0)
    assert log.states() == {(0, "a"): "begun", (0, "b"): "begun"}, "what came after it counts"
    log.note("done", ["a"], action=0)
    assert log.done() == {(0, "a")} and log.held() == ["b"] and log.drained_by() == "slurm"
    log.note("rolled-back", ["a"], action=0)
    log.note("given-back", ["b"])
    assert log.done() == set() and log.held() == []


def test_a_plan_that_was_edited_after_it_began_is_refused(tmp_path: Path) -> None:
    made = plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL, ("ssh-tunnel-off", "a"): Outcome.FAIL})
    PlanLog(made, tmp_path).check()
    PlanLog(made, tmp_path).keep()
    PlanLog(made, tmp_path).check()
    with pytest.raises(FleetAuditError, match=r"begun with other actions.*plan\.json"):
        PlanLog(made.model_copy(update={"actions": made.actions[1:]}), tmp_path).check()


@pytest.mark.parametrize(
    "line", ['{"kind": "done"}', '{"kind": "done", "hosts": ["a"], "action": 7}', '{"kind": "new", "hosts": []}', "[]"]
)
def test_a_line_that_is_whole_and_not_understood_is_no_silence(tmp_path: Path, line: str) -> None:
    log = PlanLog(plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL}), tmp_path)
    log.note("begun", ["a"], action=0)
    with (tmp_path / "progress.jsonl").open("a") as out:
        out.write(line + "\n")
    with pytest.raises(FleetAuditError, match=r"progress\.jsonl:2"):
        log.states()


def test_runs_of_plans_that_are_in_force_are_needed(tmp_path: Path) -> None:
    folder = tmp_path / "remediation/0"
    folder.mkdir(parents=True)
    log = PlanLog(plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL}), folder)
    log.keep()
    assert runs_needed(tmp_path) == set()
    log.note("begun", ["a"], action=0)
    assert runs_needed(tmp_path) == {log.plan.run}
    log.note("rolled-back", ["a"], action=0)
    assert runs_needed(tmp_path) == set()
    (folder / "plan.json").write_text("{}")
    with pytest.raises(FleetAuditError, match=r"plan\.json: this is no plan"):
        runs_needed(tmp_path)


def test_hosts_whose_change_has_not_ended(tmp_path: Path) -> None:
    log = PlanLog(plan(tmp_path, {("redirects-not-sent", h): Outcome.FAIL for h in "abc"}), tmp_path)
    log.note("begun", ["a", "b", "c"], action=0)
    log.note("done", ["a"], action=0)
    log.note("rolled-back", ["b"], action=0)
    assert log.begun() == {"c"}


def test_a_role_that_was_tried_in_check_mode_alone_is_not_applied_unasked(tmp_path: Path) -> None:
    made = plan(tmp_path, {("docker-containers-apart", "a"): Outcome.FAIL}, experimental=True)
    run = FakeRun(tmp_path, described("docker-containers-apart"))
    with pytest.raises(FleetAuditError, match="docker was tried in check mode alone: --experimental"):
        remediation.check(made, run, made.made_at)
    remediation.check(made, run, made.made_at, experimental=True)


def test_what_disturbs_nothing_restarts_nothing() -> None:
    """A check whose fix disturbs nothing has no role that restarts a service, but for those named here, which do it for other checks."""
    spared = {"docker": "restarts for all checks but that one", "munge": "for munge-unprivileged alone"}
    checks = library().checks
    for name, role in remediation.roles().items():
        harmless = {c for c in role.file.checks if (fix := checks[CheckId(c)].file.remediation) and fix.disruption == "none"}
        tasks = "".join(path.read_text("utf-8") for path in (role.path / "tasks").glob("*.yml"))
        assert not harmless or "restart:" not in tasks or name in spared, (name, harmless)


def test_a_plan_with_a_variable_that_its_role_has_not_is_refused(tmp_path: Path) -> None:
    made = plan(tmp_path, {("redirects-not-sent", "a"): Outcome.FAIL})
    wrong = made.model_copy(update={"actions": [made.actions[0].model_copy(update={"variables": {"sysctl_rp_filtr": 1}})]})
    with pytest.raises(FleetAuditError, match=r"no variable 'sysctl_rp_filtr'.*sysctl_rp_filter"):
        remediation.check(wrong, FakeRun(tmp_path, described("redirects-not-sent")), made.made_at)


def test_an_allow_list_that_groups_have_different_is_not_guessed(tmp_path: Path) -> None:
    outcomes = {("firewall-input-default-deny", "a"): Outcome.FAIL, ("listeners-allowed", "a"): Outcome.PASS}
    given = report(outcomes)
    run = FakeRun(tmp_path, described(*sorted({c for c, _ in outcomes})))
    tried: list[dict[str, Any] | None] = [{"params": {"allowed": ["22/tcp"]}, "group_params": {"gpu": {"allowed": ["1/tcp"]}}}, None]
    for fields in tried:
        views = tuple(dataclasses.replace(c, **fields) if fields else c for c in given.checks if fields or c.id != "listeners-allowed")
        found = remediation.make(run, dataclasses.replace(given, checks=views, results=given.results[:1]), most="drain")
        assert found.actions == [] and "does not say what allowed of listeners-allowed is" in found.not_fixed[0].why
