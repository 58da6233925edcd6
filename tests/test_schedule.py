# SPDX-License-Identifier: Apache-2.0
"""A schedule: units that systemd's own reader takes, cron, and whether runs come when they should."""

from __future__ import annotations

import fcntl
import json
import shlex
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit import schedule
from fleet_audit.model import FleetAuditError
from fleet_audit.runs import Store
from fleet_audit.schedule import Schedule

from .conftest import Cli
from .test_cli import _mine, checks_dir, inventory

__all__ = ["checks_dir", "inventory"]
THEN = datetime(2026, 11, 20, 6, tzinfo=UTC)


def made(**fields: Any) -> Schedule:
    values = {
        "kind": "system",
        "every": "daily",
        "at": "06:00",
        "spread_minutes": 15,
        "command": ["run", "/srv/i.ini"],
        "keep": [],
        "installed_at": THEN,
    }
    return Schedule(**{**values, **fields})


@pytest.mark.parametrize("fields", [
    {}, {"every": "hourly", "at": "00:17"}, {"every": "monthly"}, {"every": "weekly", "keep": ["--keep-daily", "30"]},
    {"kind": "user"}, {"run_as": "nobody", "credential": "/etc/hosts"},
    {"command": ["run", '/srv/a "b" $HOME %h\\x.ini', "--limit", "train*"]},
])  # fmt: skip
def test_systemd_takes_the_units(tmp_path: Path, fields: dict[str, Any]) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: nobody reads the units here")
    found = schedule.units(made(**fields), tmp_path)
    for name, text in found.items():
        (tmp_path / name).write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", *(str(tmp_path / n) for n in found)], capture_output=True, text=True, check=False)
    told = [line for line in done.stderr.splitlines() if str(tmp_path) in line and "not safe" not in line and "not executable" not in line]
    assert not told, done.stderr
    when = next(line.partition("=")[2] for line in found["fleet-audit.timer"].splitlines() if line.startswith("OnCalendar="))
    assert subprocess.run(["systemd-analyze", "calendar", when], capture_output=True, check=False).returncode == 0


def test_a_missed_run_is_made_up_for_and_findings_are_no_broken_service() -> None:
    found = schedule.units(made(keep=["--keep-daily", "30"], credential="/etc/key"), Path("/var/lib/store"))
    service, timer = found["fleet-audit.service"], found["fleet-audit.timer"]
    assert "Persistent=true" in timer and "RandomizedDelaySec=15min" in timer
    assert "SuccessExitStatus=1 3" in service and "ReadWritePaths=/var/lib/store" in service and "ProtectSystem=strict" in service
    assert "LoadCredential=ssh-key:/etc/key" in service and '--private-key "%d/ssh-key"' in service
    assert "prune --keep-daily 30 --store /var/lib/store" in service


def test_a_control_character_goes_into_no_unit() -> None:
    with pytest.raises(FleetAuditError, match="control characters"):
        schedule.units(made(command=["run", "a\nExecStart=/bin/evil"]), Path("/x"))


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=12), min_size=1, max_size=4))
def test_cron_starts_what_was_given(words: list[str]) -> None:
    line = schedule.cron_line(made(kind="cron", command=["run", *words]), Path("/x"))
    assert line.startswith("0 6 * * * ")
    command = line.removeprefix("0 6 * * * ")
    assert "%" not in command.replace(r"\%", "")
    assert shlex.split(command.replace(r"\%", "%"))[-len(words) - 1 :] == ["run", *words]


def test_other_lines_of_a_crontab_stay() -> None:
    mine = "MAILTO=me\n0 1 * * * backup"
    one = schedule.crontab(mine, "0 6 * * * fleet-audit run")
    assert one == "MAILTO=me\n0 1 * * * backup\n# fleet-audit begin\n0 6 * * * fleet-audit run\n# fleet-audit end\n"
    two = schedule.crontab(one + "5 5 * * * more\n", "1 7 * * * fleet-audit run")
    assert two.count("fleet-audit run") == 1 and "5 5 * * * more\n" in two
    assert schedule.crontab(two, None) == "MAILTO=me\n0 1 * * * backup\n5 5 * * * more\n"


def test_a_cron_job_is_yaml_that_never_overlaps() -> None:
    found = yaml.safe_load(schedule.cron_job(made(at="07:30")))
    assert found["spec"]["concurrencyPolicy"] == "Forbid" and found["spec"]["schedule"] == "30 7 * * *"


@pytest.mark.parametrize(("every", "hours", "late"), [("daily", 24, False), ("daily", 30, False), ("daily", 31, True), ("hourly", 1, False),
                                                      ("hourly", 2, True), ("weekly", 24 * 8, False), ("weekly", 24 * 9, True)])  # fmt: skip
def test_overdue(every: str, hours: int, late: bool) -> None:
    found = schedule.late(made(every=every), THEN, THEN + timedelta(hours=hours))
    assert (found is not None) is late
    assert schedule.late(made(every=every), None, THEN + timedelta(minutes=1)) is None, "just installed"


def test_a_time_that_is_none() -> None:
    for text in ("24:00", "6:00", "06:60", "x"):
        with pytest.raises(FleetAuditError, match="time of day"):
            schedule.hour(text)


@pytest.mark.slow
def test_install_where_systemd_does_not_run_leaves_nothing(fleet_audit: Cli, inventory: Path, store: Path) -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("systemd runs here: its units are left alone")
    done = fleet_audit("schedule", "install", inventory, "--system", "--store", store)
    assert done.returncode == 2 and "systemd does not run here" in done.stderr and not (store / "schedule.json").exists()
    assert fleet_audit("schedule", "status", "--store", store).returncode == 2
    shown = fleet_audit("schedule", "show", inventory, "--store", store, "--", "--profile", "strict")
    assert f"{inventory} --store {store} -q --no-overlap --profile strict" in shown.stdout
    assert fleet_audit("schedule", "install", "nowhere.ini", "--store", store).returncode == 2


@pytest.mark.slow
def test_status_tells_of_a_run_that_did_not_come(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    note = made(installed_at=datetime.now(UTC) - timedelta(days=9))
    (store / "schedule.json").write_text(note.model_dump_json())
    done = fleet_audit("schedule", "status", "--store", store)
    assert done.returncode == 0 and "last run" in done.stdout
    (run,) = Store(store).runs()
    old = f"20200101T000000Z-{run[-4:]}"
    (store / "runs" / run).rename(store / "runs" / old)
    done = fleet_audit("schedule", "status", "--store", store, "--format", "json")
    assert done.returncode == 3 and json.loads(done.stdout)["overdue_seconds"] > 0
    (store / "schedule.json").write_text("{")
    assert fleet_audit("schedule", "status", "--store", store).returncode == 2


@pytest.mark.slow
def test_two_runs_of_a_store_do_not_overlap(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    mine = [*_mine(checks_dir, store), "-q"]
    assert fleet_audit("run", inventory, *mine, "--no-overlap").returncode == 1
    with (store / "running").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = fleet_audit("run", inventory, *mine, "--no-overlap")
        assert done.returncode == 2 and "another run of this store is in progress" in done.stderr
        assert fleet_audit("run", inventory, *mine).returncode == 1, "without it, runs may overlap as they could"
    assert fleet_audit("run", inventory, *mine, "--no-overlap").returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize(("words", "said"), [
    (["--run-as", "x y", "a,"], "no name of an account"), (["a,", "--", "--fail-on", "bogus"], "after --: Invalid value for '--fail-on'"),
    (["a,", "--", "--no-such"], "after --: No such option"),
])  # fmt: skip
def test_what_run_would_refuse_is_refused_before_it_is_installed(fleet_audit: Cli, tmp_path: Path, words: list[str], said: str) -> None:
    done = fleet_audit("schedule", "show", "--store", tmp_path, *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr
