# SPDX-License-Identifier: Apache-2.0
"""A run that is ended from outside is taken up where it was, and never looks whole before that."""

from __future__ import annotations

import gzip
import json
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.conftest import Cli, InLab, load_report
from tests.e2e.fleet import Fleet

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("lab")]
HOSTS = ("calm", "fine1", "fine2", "fine3", "fine4", "hang", "jump", "noise")


def arguments(fleet: Fleet, store: Path, hosts: tuple[str, ...], timeout: int = 7) -> list[object]:
    return ["run", fleet.inventory, "-b", "-l", ",".join(hosts), "--check", "ssh-root-login-restricted", "--timeout", timeout,
            "--store", store, "-f", "json", "-o", store.parent / "report.json"]  # fmt: skip


def journal(store: Path) -> list[str]:
    """Hosts that a run in progress has kept."""
    for path in store.glob("runs/*.partial/journal.jsonl"):
        lines = path.read_bytes().split(b"\n")[:-1]
        return [json.loads(line)["host"] for line in lines[1:]]
    return []


def begin(in_lab: InLab, fleet: Fleet, store: Path, hosts: tuple[str, ...], timeout: int = 7) -> subprocess.Popen[str]:
    return subprocess.Popen(
        in_lab.argv(*arguments(fleet, store, hosts, timeout)), env=in_lab.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
    )  # fmt: skip


def wait_for(store: Path, count: int, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while len(journal(store)) < count and process.poll() is None and time.monotonic() < end:
        time.sleep(0.02)


def assert_resumes(in_lab: InLab, cli: Cli, fleet: Fleet, store: Path, hosts: tuple[str, ...]) -> None:
    """Nothing looks whole; `--resume` completes it, without asking a kept host again."""
    kept = journal(store)
    listed = json.loads(cli("runs", "--store", store, "--format", "json").stdout)
    assert [row["stage"] for row in listed] == ["interrupted"]
    assert cli("report", "--store", store).returncode == 2, "there is no run to report"
    before = {host: fleet.logins(host) for host in hosts}
    done = in_lab(*arguments(fleet, store, hosts), "--resume")
    assert done.returncode in (0, 3) and "Traceback" not in done.stderr, done.stderr
    report = load_report(store.parent / "report.json")
    assert sorted(h["name"] for h in report["hosts"]) == sorted(hosts)
    assert sorted(r["host"] for r in report["results"]) == sorted(hosts)
    assert {h["name"]: h["reach"] for h in report["hosts"]} == {h: "timeout" if h == "hang" else "ok" for h in hosts}
    assert {host for host in kept if host != "hang" and fleet.logins(host) != before[host]} == set()
    (sealed,) = (store / "runs").iterdir()
    with gzip.open(sealed / "evidence.jsonl.gz") as lines:
        assert sorted(json.loads(line)["host"] for line in lines) == sorted(hosts)
    assert [row["stage"] for row in json.loads(cli("runs", "--store", store, "--format", "json").stdout)] == ["evaluated"]


def test_controller_killed_while_it_collects_is_resumed(in_lab: InLab, fleet_audit: Cli, fleet: Fleet, store: Path) -> None:
    process = begin(in_lab, fleet, store, HOSTS)
    wait_for(store, random.randint(0, 4), process)
    time.sleep(random.random())
    if not list(store.glob("runs/*.partial")):
        wait_for(store, 1, process)
    process.kill()
    process.communicate()
    assert_resumes(in_lab, fleet_audit, fleet, store, HOSTS)


def test_controller_killed_while_it_evaluates_is_resumed(in_lab: InLab, fleet_audit: Cli, fleet: Fleet, store: Path) -> None:
    hosts = tuple(host for host in HOSTS if host != "hang")
    process = begin(in_lab, fleet, store, hosts)
    wait_for(store, len(hosts), process)
    time.sleep(random.random() * 0.2)
    process.kill()
    process.communicate()
    assert len(journal(store)) == len(hosts)
    assert_resumes(in_lab, fleet_audit, fleet, store, hosts)


def test_interrupt_from_the_keyboard_gives_130_and_says_how_to_go_on(in_lab: InLab, fleet_audit: Cli, fleet: Fleet, store: Path) -> None:
    process = begin(in_lab, fleet, store, HOSTS, timeout=60)  # the host that hangs keeps it going, however slow we are
    wait_for(store, 3, process)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and time.monotonic() - begun < 5
    assert "--resume" in errors and "Traceback" not in errors
    assert_resumes(in_lab, fleet_audit, fleet, store, HOSTS)


def test_second_controller_does_not_take_up_a_run_in_progress(in_lab: InLab, fleet: Fleet, store: Path) -> None:
    process = begin(in_lab, fleet, store, HOSTS, timeout=60)
    wait_for(store, 1, process)
    done = in_lab(*arguments(fleet, store, HOSTS), "--resume")
    assert done.returncode == 2 and "in progress" in done.stderr
    process.kill()
    process.communicate()


def test_nothing_to_resume_is_said(in_lab: InLab, fleet: Fleet, store: Path) -> None:
    done = in_lab(*arguments(fleet, store, HOSTS), "--resume")
    assert done.returncode == 2 and "no interrupted run" in done.stderr
