# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit show`: lists of a run, worst first, filtered, in a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from .conftest import MAIN, Cli, cli_environment
from .test_cli import _mine, checks_dir, inventory

__all__ = ["checks_dir", "inventory"]
pytestmark = pytest.mark.slow


@pytest.fixture
def made(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> Path:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    return store


def test_hosts_those_without_an_answer_first(fleet_audit: Cli, made: Path) -> None:
    rows = json.loads(fleet_audit("show", "hosts", "--store", made, "--format", "json").stdout)
    assert rows[0]["host"] == "lost" and rows[0]["no_answer"] == 2 and {r["host"] for r in rows} == {"lost", "bad", "dark", "good"}
    some = json.loads(fleet_audit("show", "hosts", "--store", made, "--result", "unknown", "--format", "json").stdout)
    assert [r["host"] for r in some] == ["dark"]


def test_findings_are_failures_and_it_says_what_is_left_out(fleet_audit: Cli, made: Path) -> None:
    done = fleet_audit("show", "findings", "--store", made)
    assert done.stdout.splitlines()[0].split() == ["severity", "result", "host", "check", "subject", "reason"]
    assert "os-is-good" in done.stdout and "id is bad" in done.stdout and "dark" not in done.stdout
    assert "4 not known are not shown" in done.stderr
    more = json.loads(fleet_audit("show", "findings", "--store", made, "--result", "fail,unknown,no-answer", "--format", "json").stdout)
    assert [r["result"] for r in more if r["severity"] == "high"] == ["fail", "unknown", "no-answer"]
    assert {r["host"] for r in more if r["result"] == "no-answer"} == {"lost"}


@pytest.mark.parametrize(("options", "words"), [
    (["--severity", "hi"], "did you mean 'high'"), (["--group", "flet"], "did you mean 'fleet'"), (["--host", "x*"], "nothing of run"),
    (["--area", "oss"], "no area 'oss'"), (["--result", "pass"], "show checks --result pass"),
])  # fmt: skip
def test_what_is_not_there_is_named(fleet_audit: Cli, made: Path, options: list[str], words: str) -> None:
    done = fleet_audit("show", "findings", "--store", made, *options)
    assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr


def test_actions_and_checks(fleet_audit: Cli, made: Path) -> None:
    (action,) = json.loads(fleet_audit("show", "actions", "--store", made, "--format", "json").stdout)
    assert (action["hosts"], action["failures"], action["checks"]) == (1, 1, "os-is-good")
    rows = json.loads(fleet_audit("show", "checks", "--store", made, "--severity", "high", "--format", "json").stdout)
    assert [(r["check"], r["fail"], r["unknown"], r["no_answer"], r["pass"]) for r in rows] == [("os-is-good", 1, 1, 1, 1)]


def test_a_narrow_terminal_cuts_texts_and_no_line_is_too_long(made: Path) -> None:
    leader, follower = pty.openpty()
    env = {**cli_environment(), "COLUMNS": "72", "NO_COLOR": "1"}
    arguments = ["show", "findings", "--store", str(made), "--result", "fail,unknown,no-answer"]
    child = subprocess.Popen([*MAIN, *arguments], stdout=follower, stderr=subprocess.DEVNULL, env=env)
    os.close(follower)
    text = b""
    try:
        while chunk := os.read(leader, 4096):
            text += chunk
    except OSError:
        pass  # the other end was closed
    assert child.wait() == 0
    lines = text.decode().splitlines()
    assert len(lines) > 3 and max(map(len, lines)) <= 72 and "\x1b" not in text.decode()
