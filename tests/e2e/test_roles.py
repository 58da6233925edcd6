# SPDX-License-Identifier: Apache-2.0
"""Every role on booted hosts: findings, plan, apply, gone, again without a change, rollback, and the findings back.

`roles/ROLE.sh` brings a host into the bad state and names the checks that then fail and that the role mends. MOLECULE says which roles
are tried, as for the scenarios.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet_audit import remediation
from tests.e2e.roles import POLICY, SCRIPTS, UNSEEN, checks, chosen, host
from tests.e2e.site import Site
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("remediation")]


def test_every_role_is_tried() -> None:
    assert set(SCRIPTS) == set(remediation.roles())
    for name in SCRIPTS:
        assert set(checks(name)) <= set(remediation.roles()[name].file.checks), name


class Node(Site):
    """A booted host that is bad in all ways that some roles mend."""

    def __init__(self, folder: Path, roles: Sequence[str]) -> None:
        super().__init__(folder)
        self.roles = roles
        self.checks = [check for role in roles for check in checks(role)]
        self.policy = folder / "policy.yaml"

    def up(self) -> None:
        self.lab.up([host("node")])
        self.policy.write_text(yaml.safe_dump(POLICY))
        for role in self.roles:
            self.lab.exec("node", ["bash", "-c", SCRIPTS[role].read_text()], timeout=60)

    def audit(self) -> dict[tuple[str, str], tuple[str, str]]:
        # The firewall's role lets in what listeners-allowed allows, so that the run must have that too.
        words = [word for check in [*self.checks, "listeners-allowed"] for word in ("--check", check)]
        done = self.cli("run", self.lab.inventory, "-b", *words, "--policy", self.policy, "-q", "-f", "json", "-o", self.folder / "r.json")
        assert done.returncode in (0, 1, 3), done.stderr
        report = json.loads((self.folder / "r.json").read_text())
        found = {(r["host"], r["check"]): (r["outcome"], r["reason"]) for r in report["results"] if r["check"] in self.checks}
        for finding in report["findings"]:
            if finding["check"] not in self.checks:
                continue
            outcome, reason = found[finding["host"], finding["check"]]
            found[finding["host"], finding["check"]] = outcome, f"{reason}; {finding['reason']}"
        return found

    def must(self, outcome: str) -> None:
        wrong = {key: found for key, found in self.audit().items() if found[0] != outcome}
        assert not wrong, wrong

    def there_and_back(self) -> None:
        self.must("fail")
        path = self.folder / "plan.yaml"
        words = [word for check in self.checks for word in ("--check", check)]
        planned = self.cli("remediate", "plan", "--max-disruption", "drain", "--experimental", *words, "-o", path)
        assert planned.returncode == 0, planned.stderr
        plan: dict[str, Any] = yaml.safe_load(path.read_text())
        assert {a["role"] for a in plan["actions"]} == set(self.roles) and plan["not_fixed"] == [], plan
        applied = self.cli("remediate", "apply", path, "-b", "--yes", "--experimental", "--drain", "none", timeout=900)
        assert applied.returncode == 0, applied.stdout[-3000:] + applied.stderr[-3000:]
        self.must("pass")
        # What was done is forgotten, so that all is carried out again: nothing may change.
        progress = self.store / "remediation" / plan["plan"] / "progress.jsonl"
        done = progress.read_text()
        progress.unlink()
        again = self.cli("remediate", "apply", path, "-b", "--check", "--experimental")
        assert again.returncode == 0 and "---" not in again.stdout, again.stdout
        progress.write_text(done)
        back = self.cli("remediate", "rollback", path, "-b", "--yes", timeout=900)
        assert back.returncode == 0, back.stdout + back.stderr
        self.must("fail")
        # The names of files in roles/file_permissions.sh would make this, here or there.
        assert not Path("/run/fleet-audit-was-here").exists()
        assert self.lab.exec("node", ["ls", "/run/fleet-audit-was-here"], check=False, timeout=30).returncode != 0
        left = self.lab.exec("node", ["find", "/etc", "-name", "*fleet-audit*"], timeout=30).stdout
        assert left == "", left
        shutil.rmtree(self.store / "remediation")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    roles = [role for role in chosen(list(SCRIPTS)) if role not in UNSEEN]
    with standing(Node(tmp_path_factory.mktemp("roles"), roles)) as found:
        yield found


def test_from_findings_to_fixed_and_back(site: Node) -> None:
    site.there_and_back()
