# SPDX-License-Identifier: Apache-2.0
"""One audit of the whole fleet, which many tests look at."""

from __future__ import annotations

import gzip
import json
import time
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.conftest import InLab, load_report
from tests.e2e.fleet import Fleet

COUNTED = ("quiet", "calm", "fine2", "fine3", "fine4", "behind", "jump", "rootlogin", "nopy")
"""Hosts under one name, whose logins are counted."""


@dataclass
class Audit:
    """A run and everything it left."""

    fleet: Fleet
    done: CompletedProcess[str]
    seconds: float
    store: Path
    report_path: Path
    logins: dict[str, tuple[int, int]]
    written: dict[str, tuple[dict[str, Any], dict[str, Any]]]

    @property
    def report(self) -> dict[str, Any]:
        return load_report(self.report_path)

    def host(self, name: str) -> dict[str, Any]:
        """What the report says of a host; skips where the host could not be had."""
        for known, why in self.fleet.missing.items():
            if known in name.split("-"):
                pytest.skip(why)
        found: dict[str, Any] = next(h for h in self.report["hosts"] if h["name"] == name)
        return found

    def records(self, name: str) -> dict[str, list[Any]]:
        """Source -> [source, status, detail, exit, sha256, size, seconds, cpu] of a host."""
        (path,) = self.store.glob("runs/*/evidence.jsonl.gz")
        with gzip.open(path, "rt") as lines:
            evidence = next(e for e in map(json.loads, lines) if e["host"] == name)
        return {record[0]: record for record in evidence["records"]}


@pytest.fixture(scope="session")
def audit(fleet: Fleet, in_lab: InLab, tmp_path_factory: pytest.TempPathFactory) -> Audit:
    """All hosts, all checks of the profile, once."""
    folder = tmp_path_factory.mktemp("audit")
    watched = ("quiet", "twin", "calm", "twin-calm")
    logins = {host: fleet.logins(host) for host in COUNTED}
    before = {host: fleet.written(host) for host in watched}
    for twin in ("twin", "twin-calm"):
        fleet.lab.run(fleet.lab.ssh(twin, "true; sudo -n true"), check=True)
    begin = time.monotonic()
    done = in_lab(
        "run", fleet.inventory, "-b", "--timeout", 25, "-v", "-f", "json", "-o", folder / "report.json", "--store", folder / "store"
    )
    assert done.returncode in (0, 1, 3), done.stderr
    seconds = time.monotonic() - begin
    after = {host: fleet.written(host) for host in watched}
    logins = {host: (now[0] - logins[host][0], now[1] - logins[host][1]) for host in COUNTED if (now := fleet.logins(host))}
    return Audit(fleet, done, seconds, folder / "store", folder / "report.json", logins, {h: (before[h], after[h]) for h in watched})
