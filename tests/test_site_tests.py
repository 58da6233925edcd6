# SPDX-License-Identifier: Apache-2.0
"""A site's own pytest-testinfra tests, really run on this machine, as checks."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fleet_audit import sitetests
from fleet_audit.model import FleetAuditError, HostName, Outcome

from .conftest import Cli
from .test_cli import _archive

TESTS = '''
import pytest

@pytest.mark.fleet_audit(severity="critical", fix="Make it one.")
def test_passwd_is_a_file(host):
    """The account file is a file"""
    assert host.file("/etc/passwd").is_file

@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such"])
def test_there(host, path):
    assert host.file(path).exists

def test_skipped(host):
    pytest.skip("not here")

@pytest.fixture
def broken():
    raise RuntimeError("setup broke")

def test_broken(host, broken):
    pass
'''


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "test_own.py").write_text(TESTS)
    _archive(tmp_path / "nodes", "old", **{"etc/os-release": "ID=debian\n"})
    (tmp_path / "i.ini").write_text(
        f"here ansible_connection=local ansible_python_interpreter={sys.executable}\nold fleet_audit_archive=nodes/old\n"
    )
    return folder


@pytest.mark.slow
def test_outcomes_are_results_like_others(fleet_audit: Cli, site: Path, tmp_path: Path) -> None:
    mine = ["--check", "os-recognised", "--store", tmp_path / "store", "-f", "json", "-o", "-"]
    done = fleet_audit("run", tmp_path / "i.ini", *mine, "--testinfra", site)
    report = json.loads(done.stdout)
    found = {(r["check"], r["host"]): (r["outcome"], r["failed"]) for r in report["results"] if r["check"].startswith("site-")}
    assert found == {
        ("site-own-passwd-is-a-file", "here"): ("pass", 0), ("site-own-there", "here"): ("fail", 1),
        ("site-own-skipped", "here"): ("notapplicable", 0),
        ("site-own-broken", "here"): ("error", 0),
        **{(name, "old"): ("unknown", 0) for name in ("site-own-passwd-is-a-file", "site-own-there", "site-own-skipped", "site-own-broken")},
    }, done.stderr  # fmt: skip
    (check,) = [c for c in report["checks"] if c["id"] == "site-own-passwd-is-a-file"]
    assert (check["severity"], check["title"], check["fix"], check["area"]) == (
        "critical",
        "The account file is a file",
        "Make it one.",
        "site",
    )
    assert [f["subject"] for f in report["findings"] if f["check"] == "site-own-there" and f["host"] == "here"] == ["path=/no/such"]
    assert done.returncode == 1
    again = json.loads(fleet_audit("evaluate", *mine).stdout)
    assert [r for r in again["results"] if r["check"].startswith("site-")] == [
        r for r in report["results"] if r["check"].startswith("site-")
    ]


@pytest.mark.slow
def test_tests_that_cannot_run_are_an_error_and_nothing_is_lost(fleet_audit: Cli, site: Path, tmp_path: Path) -> None:
    (site / "test_own.py").write_text("def test_x(host:\n")
    mine = ["--check", "os-recognised", "--store", tmp_path / "store", "-q"]
    done = fleet_audit("run", tmp_path / "i.ini", *mine, "--testinfra", site)
    assert done.returncode == 2 and "--testinfra" in done.stderr and "Traceback" not in done.stderr
    (partial,) = (tmp_path / "store/runs").iterdir()
    assert fleet_audit("run", tmp_path / "i.ini", *mine, "--testinfra", tmp_path / "nowhere").returncode == 2
    assert [partial] == list((tmp_path / "store/runs").iterdir()), "nobody was asked"
    (site / "test_own.py").write_text("def test_x(host):\n    assert True\n")
    assert fleet_audit("run", tmp_path / "i.ini", *mine, "--testinfra", site, "--resume").returncode in (0, 3)


def line(**fields: object) -> dict[str, object]:
    return {
        "host": "a",
        "file": "tests/test_x.py",
        "test": "test_y",
        "subject": "",
        "outcome": "passed",
        "reason": "",
        "title": "",
        "mark": {},
        **fields,
    }


@pytest.mark.parametrize(("outcomes", "expected"), [
    (["passed", "failed"], Outcome.FAIL), (["failed", "error"], Outcome.ERROR), (["skipped", "passed"], Outcome.PASS),
    (["skipped"], Outcome.NOTAPPLICABLE), (["nonsense"], Outcome.ERROR), ([], Outcome.UNKNOWN),
])  # fmt: skip
def test_the_worst_of_a_host_counts(outcomes: list[str], expected: Outcome) -> None:
    lines = [line(outcome=o, subject=str(n)) for n, o in enumerate(outcomes)] + [line(host="b")]
    found = sitetests.decided(lines, [HostName("a"), HostName("b")])
    assert {r.host: r.outcome for r in found.results} == {"a": expected, "b": Outcome.PASS}
    assert all(r.reason for r in found.results if r.outcome is not Outcome.PASS)


def test_a_severity_that_there_is_not() -> None:
    with pytest.raises(FleetAuditError, match="severity 'bad' is none of"):
        sitetests.decided([line(mark={"severity": "bad"})], [HostName("a")])
