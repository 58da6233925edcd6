# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests: the command line, a store, an sshd on loopback, and the lab of real SSH hosts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, settings

from tests.e2e.fleet import Fleet
from tests.hosts.standing import standing
from tests.sshd import sshd as sshd

# The machine may be busy: time is measured by benchmarks, never by tests.
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

SRC = Path(__file__).parent.parent / "src"
MAIN = [sys.executable, "-c", "from fleet_audit.cli.main import main; main()"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Property tests, and those of a table's laws, are slow: `make test-fast` leaves them out."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False) or item.name.startswith("test_laws"):
            item.add_marker(pytest.mark.slow)


class Cli(Protocol):
    """Runs the command line as a process of its own."""

    def __call__(
        self, *args: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]: ...


def cli_environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with the source tree, without what a user's shell may set for the tool."""
    dropped = ("SSH_AUTH_SOCK", "ANSIBLE_CONFIG", "FLEET_AUDIT_DEBUG", "XDG_STATE_HOME")
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    return kept | {"PYTHONPATH": str(SRC)} | dict(more or {})


@pytest.fixture(scope="session")
def fleet_audit() -> Cli:
    """`fleet_audit("run", ..., env=, cwd=, timeout=)`."""

    def run(
        *args: object, env: Mapping[str, str] | None = None, cwd: Path | None = None, timeout: float = 120.0
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*MAIN, *map(str, args)], env=cli_environment(env), cwd=cwd, timeout=timeout,
            capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip

    return run


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Where a run may keep what it found."""
    return tmp_path / "store"


class InLab:
    """The command line inside the network of the lab."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet

    def argv(self, *args: object) -> list[str]:
        """The command, to be run on this machine."""
        return self.fleet.lab.command([*MAIN, *map(str, args)])

    def __call__(self, *args: object, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return self.fleet.lab.run([*MAIN, *map(str, args)], env=self.environment(), timeout=timeout, errors="replace")

    @staticmethod
    def environment() -> dict[str, str]:
        """What it runs with."""
        return cli_environment()


def load_report(path: Path) -> dict[str, Any]:
    """The JSON report of a run."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One lab for all tests marked `hosts` (they share `xdist_group("lab")`, so that one worker has it)."""
    with standing(Fleet(tmp_path_factory.mktemp("lab", numbered=False))) as found:
        yield found


@pytest.fixture(scope="session")
def lab(fleet: Fleet) -> Any:
    """The lab itself: `lab.run([...])` runs a command in its network."""
    return fleet.lab


@pytest.fixture(scope="session")
def in_lab(fleet: Fleet) -> InLab:
    """`in_lab("run", ...)`: the command line inside the lab's network."""
    return InLab(fleet)


def lines_with(text: str, words: Sequence[str]) -> list[str]:
    """The lines of a text that hold any of the words."""
    return [line for line in text.splitlines() if any(word in line for word in words)]
