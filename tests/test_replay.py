# SPDX-License-Identifier: Apache-2.0
"""A run decided again is decided by what it was made with, unless something else is asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli
from .factory import write_check
from .test_cli import _archive

pytestmark = pytest.mark.slow
LEVELS = "SELECT o.host, o.id AS subject, o.version_id >= $least AS pass, o.version_id AS reason FROM os AS o"
TABLED = "SELECT o.host, o.id AS subject, b.id IS NULL AS pass, 'ended' AS reason FROM os AS o LEFT JOIN ref_ours AS b ON b.id = o.id"


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A site's pack: a parameter that its profile sets, and a reference table of its own."""
    folder = tmp_path / "pack"
    for name in ("profiles", "reference"):
        (folder / name).mkdir(parents=True)
    levels = {"least": "1"}
    write_check(folder / "os", "os-new-enough", query=LEVELS, params=levels)
    write_check(folder / "os", "os-not-ended", query=TABLED)
    write_check(folder / "os", "os-left-out", query=LEVELS, params=levels)
    (folder / "profiles/site.yaml").write_text(
        "id: site\ntitle: Site\ninclude: [os-new-enough, os-not-ended, os-left-out]\nexclude: [os-left-out]\n"
        "params: {os-new-enough: {least: '9'}}\n"
    )
    (folder / "reference/ref_ours.yaml").write_text(
        "id: ref_ours\ntitle: What is ended here\nas_of: 2026-11-20\nsources: [synthetic]\nkey: [id]\n"
        "columns: {id: {type: text, doc: of os-release}}\nrows:\n  - {id: olde}\n"
    )
    return folder


@pytest.fixture
def made(fleet_audit: Cli, tmp_path: Path, pack: Path) -> list[str]:
    """A run by the pack, in which both checks fail; the options that name its store."""
    _archive(tmp_path / "nodes", "n1", **{"etc/os-release": "ID=olde\nVERSION_ID=5\n"})
    (tmp_path / "i.ini").write_text("[old]\nn1 fleet_audit_archive=nodes/n1\n")
    store = ["--store", str(tmp_path / "store")]
    done = fleet_audit("run", str(tmp_path / "i.ini"), "--checks", str(pack), "--profile", "site", *store, "-f", "json", "-o", "-", "-q")
    assert outcomes(done) == {"os-new-enough": "fail", "os-not-ended": "fail"}, done.stderr
    return store


def outcomes(done: Any) -> dict[str, str]:
    return {r["check"]: r["outcome"] for r in json.loads(done.stdout)["results"]}


def test_the_pack_of_the_run_is_used_again(fleet_audit: Cli, made: list[str]) -> None:
    done = fleet_audit("evaluate", *made, "-f", "json", "-o", "-", "-q")
    assert outcomes(done) == {"os-new-enough": "fail", "os-not-ended": "fail"}
    again = fleet_audit("evaluate", *made, "-f", "json", "-o", "-", "-q")
    assert json.loads(again.stdout)["run"]["inputs"]["asked"] == {"profile": "site", "checks": []}
    assert {"check": "os-left-out", "reason": "the profile site leaves it out"} in json.loads(again.stdout)["exclusions"]


def test_a_pack_that_is_gone_is_an_error(fleet_audit: Cli, made: list[str], pack: Path) -> None:
    shutil.move(pack, pack.with_name("moved"))
    done = fleet_audit("evaluate", *made, "-q")
    assert done.returncode == 2 and "no such folder" in done.stderr and "name its folder with --checks" in done.stderr
    done = fleet_audit("evaluate", *made, "--checks", str(pack.with_name("moved")), "-f", "json", "-o", "-", "-q")
    assert outcomes(done)["os-new-enough"] == "fail"


def test_new_checks_of_a_pack_and_a_new_policy(fleet_audit: Cli, made: list[str], pack: Path, tmp_path: Path) -> None:
    write_check(pack / "os", "os-brand-new", query="SELECT host, id AS subject, false AS pass, 'new' AS reason FROM os", profiles=["site"])
    done = fleet_audit("evaluate", *made, "--checks", str(pack), "-f", "json", "-o", "-", "-q")
    assert set(outcomes(done)) == {"os-new-enough", "os-not-ended", "os-brand-new"}
    policy = tmp_path / "new.yaml"
    policy.write_text(
        "params: {os-new-enough: {least: '3'}}\nwaivers:\n  - {check: os-not-ended, owner: a, reason: b, expires: 2099-01-01, groups: [odl]}\n"
    )
    done = fleet_audit("evaluate", *made, "--policy", str(policy), "-f", "json", "-o", "-", "-q")
    assert outcomes(done)["os-new-enough"] == "pass" and "os-not-ended" in outcomes(done), "the run's --profile holds"
    assert "no host is in 'odl'" in done.stderr
