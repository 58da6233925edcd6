# SPDX-License-Identifier: Apache-2.0
"""Every role of grade `behaviour` on booted hosts: findings, plan, apply, gone, again without a change, rollback, and the findings back.

`roles/ROLE.sh` brings a host into the bad state and names the checks that then fail and that the role mends.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml

from fleet_audit import remediation
from tests.conftest import MAIN, cli_environment
from tests.hosts import HostSpec, Lab, LabUnavailable

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("lab")]

SCRIPTS = {path.stem: path for path in sorted((Path(__file__).parent / "roles").glob("*.sh"))}
KERNEL = {
    "/proc/sys/kernel/kptr_restrict": "0", "/proc/sys/kernel/dmesg_restrict": "1",
    "/proc/sys/kernel/perf_event_paranoid": "3", "/proc/sys/kernel/randomize_va_space": "2",
     "/proc/sys/fs/protected_fifos": "1", "/proc/sys/fs/protected_regular": "2",
    "/proc/sys/fs/protected_hardlinks": "1", "/proc/sys/fs/protected_symlinks": "1", "/proc/sys/fs/suid_dumpable": "0",
    "/proc/sys/vm/mmap_min_addr": "65536", "/proc/sys/vm/legacy_va_layout": "0",
    "/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h",
}  # fmt: skip
"""Settings that belong to the whole machine, and that these hosts have as files of their own."""


def checks(role: str) -> list[str]:
    """Those that fail after the role's script."""
    return SCRIPTS[role].read_text().splitlines()[0].removeprefix("# checks: ").split()


def test_every_role_of_grade_behaviour_is_tried() -> None:
    assert set(SCRIPTS) == {name for name, role in remediation.roles().items() if role.file.grade == "behaviour"}
    for name in SCRIPTS:
        assert set(checks(name)) <= set(remediation.roles()[name].file.checks), name


class Site:
    """Two booted hosts, both bad in all ways, and a store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lab, self.store = folder, Lab(folder / "lab"), folder / "store"
        self.checks = [check for role in SCRIPTS for check in checks(role)]

    def up(self) -> None:
        names = ("node-1", "node-2")
        self.lab.up([HostSpec(name, kind="boot", release="bookworm", fake={p: f"{v}\n" for p, v in KERNEL.items()}) for name in names])
        for name in names:
            for path in SCRIPTS.values():
                self.lab.exec(name, ["sh", "-c", path.read_text()], timeout=60)

    def cli(self, *words: object) -> CompletedProcess[str]:
        argv = [*MAIN, *map(str, words), "--store", str(self.store)]
        return self.lab.run(argv, env=cli_environment(), timeout=500)

    def audit(self) -> dict[tuple[str, str], tuple[str, str]]:
        chosen = [word for check in self.checks for word in ("--check", check)]
        done = self.cli("run", self.lab.inventory, "-b", *chosen, "-q", "-f", "json", "-o", self.folder / "r.json")
        assert done.returncode in (0, 1, 3), done.stderr
        return {(r["host"], r["check"]): (r["outcome"], r["reason"]) for r in json.loads((self.folder / "r.json").read_text())["results"]}

    def must(self, outcome: str) -> None:
        wrong = {key: found for key, found in self.audit().items() if found[0] != outcome}
        assert not wrong, wrong


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("no real SSH hosts here: not root")
    found = Site(tmp_path_factory.mktemp("roles"))
    try:
        found.up()
        yield found
    except LabUnavailable as error:
        pytest.skip(f"no real SSH hosts here: {error}")
    finally:
        found.lab.down()


def test_from_findings_to_fixed_and_back(site: Site) -> None:
    site.must("fail")
    path = site.folder / "plan.yaml"
    planned = site.cli("remediate", "plan", "--max-disruption", "drain", "-o", path)
    assert planned.returncode == 0, planned.stderr
    plan: dict[str, Any] = yaml.safe_load(path.read_text())
    assert {a["role"] for a in plan["actions"]} == set(SCRIPTS) and plan["not_fixed"] == []
    applied = site.cli("remediate", "apply", path, "-b", "--yes", "--drain", "none")
    assert applied.returncode == 0, applied.stdout[-3000:] + applied.stderr[-3000:]
    site.must("pass")
    # What was done is forgotten, so that all is carried out again: nothing may change.
    progress = site.store / "remediation" / plan["plan"] / "progress.jsonl"
    done = progress.read_text()
    progress.unlink()
    again = site.cli("remediate", "apply", path, "-b", "--check")
    assert again.returncode == 0 and "---" not in again.stdout, again.stdout
    progress.write_text(done)
    back = site.cli("remediate", "rollback", path, "-b")
    assert back.returncode == 0, back.stdout + back.stderr
    site.must("fail")
    for name in ("node-1", "node-2"):
        left = site.lab.exec(name, ["find", "/etc", "-name", "*fleet-audit*"], timeout=30).stdout
        assert left == "", left
    shutil.rmtree(site.store / "remediation")
