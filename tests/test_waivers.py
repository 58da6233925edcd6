# SPDX-License-Identifier: Apache-2.0
"""Waivers change no result: they mark findings, which are counted apart, until the end of their last day."""

from __future__ import annotations

import json
import time
from datetime import date, datetime
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit import pattern as pattern_module
from fleet_audit import waivers
from fleet_audit.evaluate import fingerprint
from fleet_audit.model import CheckId, Finding, HostName, Outcome, Result
from fleet_audit.policy import WaiverFile

from .conftest import Cli
from .test_cli import _archive, checks_dir

__all__ = ["checks_dir"]
NOW = datetime(2026, 11, 25, 12)
GROUPS = {HostName("n1"): ("lab", "gpu"), HostName("n2"): ("prod",)}


def waiver(**fields: object) -> WaiverFile:
    return WaiverFile.model_validate(
        {"check": "a-check", "owner": "kim", "reason": "it is planned", "expires": date(2027, 1, 31), **fields}
    )


def finding(host: str, subject: str, outcome: Outcome = Outcome.FAIL, check: str = "a-check") -> Finding:
    return Finding(CheckId(check), HostName(host), subject, outcome, "why", fingerprint(check, host, subject))


def result(host: str, failed: int, outcome: Outcome = Outcome.FAIL, check: str = "a-check") -> Result:
    return Result(CheckId(check), HostName(host), outcome, "why", failed, failed, 0)


def mark(found: list[Finding], results: list[Result], *files: WaiverFile, at: datetime = NOW) -> waivers.Marked:
    return waivers.mark(waivers.at(files, at), results, found, GROUPS)


@pytest.mark.parametrize(("scope", "hosts"), [
    ({}, ["n1", "n2"]), ({"hosts": ["n1"]}, ["n1"]), ({"hosts": ["n?"]}, ["n1", "n2"]), ({"hosts": ["*2"]}, ["n2"]), ({"groups": ["gpu"]}, ["n1"]),
    ({"groups": ["gpu"], "hosts": ["n2"]}, []), ({"subject": "port 22"}, ["n1"]), ({"subject": "port *"}, ["n1", "n2"]),
    ({"subject": "[::]:22"}, []), ({"check": "b-check"}, []), ({"groups": ["elsewhere"]}, []),
])  # fmt: skip
def test_the_scope_says_what_is_accepted(scope: dict[str, object], hosts: list[str]) -> None:
    given = [finding("n1", "port 22"), finding("n2", "port 23")]
    done = mark(given, [result("n1", 1), result("n2", 1)], waiver(**scope))
    assert [f.host for f in done.findings if f.waiver == 0] == hosts
    assert [r.host for r in done.results if r.waived] == hosts
    assert done.waivers[0].accepted == len(hosts)
    assert [r.outcome for r in done.results] == [Outcome.FAIL, Outcome.FAIL], "a waiver changes no result"


@given(st.text("ab*?", max_size=6), st.text("ab*", max_size=8))
def test_patterns_fit_as_the_shell_says(pattern: str, text: str) -> None:
    assert pattern_module.fits(pattern, text) == fnmatchcase(text, pattern)


def test_a_pattern_of_many_stars_ends_soon() -> None:
    begin = time.process_time()
    assert not pattern_module.fits("*a" * 100, "a" * 1000 + "b" * 99)
    assert time.process_time() - begin < 5


def test_brackets_in_a_subject_mean_themselves() -> None:
    assert pattern_module.fits("[::]:22", "[::]:22") and not pattern_module.fits("[ab]", "a") and pattern_module.fits("a*\n?", "a b\nc")


@pytest.mark.parametrize(("at", "expired", "soon"), [
    (datetime(2027, 1, 31, 23, 59, 59), False, True), (datetime(2027, 2, 1), True, False), (datetime(2027, 1, 2), False, True),
    (datetime(2027, 1, 1, 23), False, False),
])  # fmt: skip
def test_a_waiver_holds_to_the_end_of_its_day_in_utc(at: datetime, expired: bool, soon: bool) -> None:
    done = mark([finding("n1", "x")], [result("n1", 1)], waiver(), at=at)
    assert (done.waivers[0].expired, done.waivers[0].soon) == (expired, soon)
    assert done.results[0].waived is not expired and (done.findings[0].waiver is None) is expired


def test_a_result_is_waived_only_if_all_that_failed_is() -> None:
    given = [finding("n1", "a"), finding("n1", "b")]
    assert not mark(given, [result("n1", 2)], waiver(subject="a")).results[0].waived
    assert mark(given, [result("n1", 2)], waiver(subject="a"), waiver(subject="b")).results[0].waived
    listed = [finding("n1", f"s{i}") for i in range(100)]
    assert not mark(listed, [result("n1", 250)], waiver(subject="s*")).results[0].waived, (
        "150 more are not listed: who knows their subjects"
    )
    assert mark(listed, [result("n1", 250)], waiver()).results[0].waived


def test_what_is_not_known_is_never_accepted() -> None:
    done = mark([finding("n1", "a", Outcome.UNKNOWN)], [result("n1", 0, Outcome.UNKNOWN)], waiver())
    assert done.findings[0].waiver is None and not done.results[0].waived and done.waivers[0].accepted == 0
    mixed = mark([finding("n1", "a"), finding("n1", "b", Outcome.UNKNOWN)], [result("n1", 1)], waiver())
    assert mixed.results[0].waived and [f.waiver for f in mixed.findings] == [0, None]


POLICY = """
profile: mine
exclude:
  - {check: kernel-is-quiet, reason: its console is wanted}
waivers:
  - {check: os-is-good, owner: kim, reason: until the move, expires: 2099-12-31, groups: [old]}
  - {check: os-is-good, owner: lee, reason: too late, expires: 2026-01-01}
"""


@pytest.mark.slow
def test_the_exit_status_passes_over_what_is_waived_and_reports_tell(fleet_audit: Cli, tmp_path: Path, checks_dir: Path) -> None:
    (checks_dir / "profiles").mkdir()
    (checks_dir / "profiles/mine.yaml").write_text("id: mine\ntitle: Mine\ninclude: [os-is-good, kernel-is-quiet]\n")
    _archive(tmp_path / "nodes", "old1", **{"etc/os-release": "ID=bad\n", "proc/cmdline": "ro\n"})
    inventory = tmp_path / "inventory.ini"
    inventory.write_text("[old]\nold1 fleet_audit_archive=nodes/old1\n")
    (tmp_path / "fleet-audit.yaml").write_text(POLICY)
    options = ["--checks", str(checks_dir), "--store", str(tmp_path / "store")]
    done = fleet_audit("run", str(inventory), *options, "-f", "json", "-o", "-")
    said = json.loads(done.stdout)
    assert done.returncode == 0 and "1 that waivers accept" in done.stderr, done.stderr
    assert [(r["check"], r["outcome"], r["waived"]) for r in said["results"]] == [("os-is-good", "fail", True)]
    assert said["posture"]["fail"] == said["posture"]["waived"] == 1 and said["open_failures"]["high"] == 0 and said["actions"] == []
    assert [(w["accepted"], w["expired"]) for w in said["waivers"]] == [(1, False), (0, True)] and said["findings"][0]["waiver"] == 0
    assert said["exclusions"] == [{"check": "kernel-is-quiet", "reason": "its console is wanted"}]
    assert said["breakdown"]["groups"][0]["name"] == "old" and said["breakdown"]["groups"][0]["at_most"] == 0
    assert "1 expired" in done.stderr and "Left out kernel-is-quiet: its console is wanted" in done.stderr
    explained = fleet_audit("explain", "old1", "os-is-good", "--store", str(tmp_path / "store"))
    assert "waived until 2099-12-31 by kim: until the move" in explained.stdout
    (tmp_path / "fleet-audit.yaml").write_text(POLICY.replace("2099-12-31", "2026-01-02"))
    assert fleet_audit("run", str(inventory), *options, "-q").returncode == 1
    (tmp_path / "fleet-audit.yaml").write_text(POLICY.replace("check: os-is-good", "check: os-is-god", 1))
    wrong = fleet_audit("run", str(inventory), *options)
    assert wrong.returncode == 2 and "waivers.0.check" in wrong.stderr and "did you mean 'os-is-good'" in wrong.stderr
