# SPDX-License-Identifier: Apache-2.0
"""Runs that another version wrote: those of the first versions open in every format, later ones say why they do not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fleet_audit import report
from tests.conftest import Cli

DEMO = Path(__file__).parents[2] / "demo"
pytestmark = pytest.mark.slow


@pytest.fixture
def run(fleet_audit: Cli, tmp_path: Path) -> Path:
    """The folder of a run as the first versions left it: without the policy's own file and without groups' parameters of checks."""
    done = fleet_audit("run", DEMO / "inventory.ini", "--check", "ssh-root-login-restricted", "--store", tmp_path / "store", "-q")
    assert done.returncode in (1, 3), done.stderr
    (folder,) = (tmp_path / "store/runs").iterdir()
    checks = json.loads((folder / "checks.json").read_text())
    for check in checks:
        check.pop("group_params", None)
        check.pop("unknown", None)
    (folder / "checks.json").write_text(json.dumps(checks))
    head = json.loads((folder / "run.json").read_text())
    (folder / "policy.json").unlink()
    del head["files"]["policy.json"]
    head["files"]["checks.json"] = hashlib.sha256((folder / "checks.json").read_bytes()).hexdigest()
    head["version"] = "0.0.1"
    (folder / "run.json").write_text(json.dumps(head))
    return folder


def test_a_run_of_the_first_versions_opens_in_every_format(fleet_audit: Cli, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    words = [word for name in report.names() for word in ("-f", name)]
    done = fleet_audit("report", "--store", tmp_path / "store", *words, "-o", out)
    assert done.returncode == 0, done.stderr
    files = {path.name: path.read_text() for path in out.iterdir()}
    assert len(files) == len(report.names())
    assert "fleet-audit 0.0.1" in next(text for name, text in files.items() if name.endswith(".html"))
    assert sum("ssh-root-login-restricted" in text for text in files.values()) >= 7


@pytest.mark.parametrize(("change", "words"), [
    ({"schema_version": 99}, "which is newer than this one"), ({"files": {}}, "the run is broken: it has no checks.json"),
])  # fmt: skip
def test_what_does_not_open_says_why_and_writes_nothing(
    fleet_audit: Cli, run: Path, tmp_path: Path, change: dict[str, object], words: str
) -> None:
    head = json.loads((run / "run.json").read_text()) | change
    (run / "run.json").write_text(json.dumps(head))
    done = fleet_audit("report", "--store", tmp_path / "store", "-f", "html", "-o", tmp_path / "r.html")
    assert done.returncode in (2, 4) and words in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not (tmp_path / "r.html").exists()
