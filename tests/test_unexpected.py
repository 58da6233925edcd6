# SPDX-License-Identifier: Apache-2.0
"""Hosts that need not answer: listed, in no exit status, and expected again when they have been silent for too long (synthetic nodes)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cli
from .test_history import BAD, GOOD, Fleet

pytestmark = pytest.mark.slow


@pytest.fixture
def fleet(tmp_path: Path, fleet_audit: Cli) -> Fleet:
    return Fleet(tmp_path, fleet_audit)


def policy(fleet: Fleet, text: str) -> None:
    (fleet.folder / "fleet-audit.yaml").write_text(text)


def hosts(done: Any) -> dict[str, Any]:
    return {h["name"]: h for h in json.loads(done.stdout)["hosts"]}


def test_they_are_listed_and_in_no_exit_status(fleet: Fleet) -> None:
    fleet.set(good=GOOD, repaired=BAD)
    (fleet.folder / "i.ini").write_text((fleet.folder / "i.ini").read_text() + "away fleet_audit_archive=nodes/away\n")
    assert fleet.run("-q").returncode == 1
    (fleet.folder / "out-of-service").write_text("# under repair\nrepaired  # until spring\n\naway\n")
    policy(fleet, "unexpected: {file: out-of-service}\n")
    done = fleet.run("-q")
    assert done.returncode == 0, done.stdout[-300:]
    found = hosts(done)
    assert [found[n]["expected"] for n in ("good", "repaired", "away")] == [True, False, False]
    assert "2 hosts that need not answer left out" in fleet.cli(
        "run", str(fleet.folder / "i.ini"), "--checks", str(fleet.folder / "mine"), "--check", "os-is-good", "--store", str(fleet.store)
    ).stdout  # fmt: skip
    policy(fleet, "unexpected: {hosts: [rep*]}\n")
    assert fleet.run("-q").returncode == 3, "away must answer"


def test_one_that_is_silent_for_too_long_is_expected_again(fleet: Fleet) -> None:
    policy(fleet, "unexpected: {hosts: [away], days: 10}\n")
    fleet.set(good=GOOD)
    (fleet.folder / "i.ini").write_text((fleet.folder / "i.ini").read_text() + "away fleet_audit_archive=nodes/away\n")
    assert fleet.run("-q").returncode == 0
    (run,) = (fleet.store / "runs").iterdir()
    old = "20260801T060000Z-0001"  # the same run, as if it had been made long ago
    head = (run / "run.json").read_text().replace(run.name, old)
    (run / "run.json").write_text(head)
    run.rename(run.with_name(old))
    done = fleet.run("-q")
    assert done.returncode == 3
    away = hosts(done)["away"]
    assert away["expected"] and away["notes"][-1].startswith("it need not answer, but has not since 2026-08-01: the policy allows 10 days")
    assert fleet.run("-q").returncode == 3


@pytest.mark.parametrize(("text", "words"), [
    ("unexpected: {file: nowhere}\n", "fleet-audit.yaml:1: unexpected.file"), ("unexpected: {days: 0}\n", "unexpected.days"),
    ("unexpected: [a]\n", "unexpected: must be a mapping"),
])  # fmt: skip
def test_what_is_wrong_is_named(fleet: Fleet, text: str, words: str) -> None:
    fleet.set(good=GOOD)
    policy(fleet, text)
    done = fleet.run("-q")
    assert done.returncode == 2 and words in done.stderr, done.stderr
