# SPDX-License-Identifier: Apache-2.0
"""A wheel built from this tree and installed elsewhere finds its checks and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_built_wheel_finds_its_checks_and_runs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    shipped = {p.relative_to(ROOT / "checks").as_posix() for p in (ROOT / "checks").rglob("*.yaml")}
    with zipfile.ZipFile(wheel) as archive:
        inside = {n.removeprefix("fleet_audit/content/checks/") for n in archive.namelist() if "/content/checks/" in n}
        archive.extractall(tmp_path / "site")
    assert inside == shipped
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "XDG_STATE_HOME")}
    env |= {"PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    script = "import fleet_audit; assert 'site' in fleet_audit.__file__; from fleet_audit.cli.main import main; main()"
    run = [sys.executable, "-c", script]
    listed = subprocess.run(
        [*run, "checks", "list", "--format", "json"], env=env, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert listed.returncode == 0, listed.stderr
    assert {c["id"] for c in json.loads(listed.stdout)} == {
        Path(n).stem for n in shipped if not n.startswith(("profiles/", "reference/", "retired"))
    }
    one = [*run, "run", "--check", "ssh-root-login-restricted", "--store", str(tmp_path / "store"), "-f", "json", "-o", "-", "-q"]
    ran = subprocess.run(one, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1, 3), ran.stderr
    assert json.loads(ran.stdout)["posture"]["expected"] + json.loads(ran.stdout)["posture"]["notapplicable"] == 1
