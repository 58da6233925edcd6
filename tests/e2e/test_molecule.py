# SPDX-License-Identifier: Apache-2.0
"""The scenarios of `molecule/`, on booted hosts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import cli_environment
from tests.e2e.roles import chosen, host
from tests.e2e.site import Site
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("molecule")]

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(p.parent.name for p in (ROOT / "molecule").glob("*/molecule.yml"))


class Two(Site):
    """The hosts that the scenarios name."""

    def up(self) -> None:
        self.lab.up([host(name) for name in ("h0001", "h0002")])


def test_every_role_that_remediates_has_a_scenario() -> None:
    assert sorted(p.parts[-3] for p in (ROOT / "playbooks/roles").glob("*/meta/fleet_audit.yml")) == SCENARIOS


@pytest.mark.parametrize("scenario", chosen(SCENARIOS))
def test_scenario(scenario: str, tmp_path: Path) -> None:
    program = shutil.which("molecule", path=os.path.dirname(sys.executable))
    assert program is not None, "the extra `dev` has it"
    with standing(Two(tmp_path)) as site:
        env = {
            **cli_environment(), "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]), "HOME": str(tmp_path),
            "FLEET_LAB_INVENTORY": str(site.lab.inventory), "NO_COLOR": "1", "ANSIBLE_HOME": str(tmp_path / "ansible"),
        }  # fmt: skip
        done = site.lab.run([program, "test", "-s", scenario], env=env, cwd=ROOT, timeout=300)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        for step in ("prepare", "verify", "check", "converge", "idempotence", "side_effect"):
            assert f"[{scenario} > {step}] Executed: Successful" in done.stdout + done.stderr, step
