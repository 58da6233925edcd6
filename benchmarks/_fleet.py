# SPDX-License-Identifier: Apache-2.0
"""Hosts of the lab, and `fleet-audit run` against them."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._measure import Cost, Group, group, measure
from benchmarks._result import Unavailable
from benchmarks._workload import checks_folder

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = (sys.executable, "-P", "-c", "from fleet_audit.cli.main import main; main()")


def environment(home: Path) -> dict[str, str]:
    """This environment, with the checkout's code and nothing of the user's own configuration."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "FLEET_AUDIT_", "SSH_", "XDG_", "PYTHON"))
    }  # bytecode is cached, as installed
    return kept | {"PYTHONPATH": str(ROOT / "src"), "HOME": str(home), "LC_ALL": "C.UTF-8"}


@dataclass(frozen=True)
class Audit:
    """One run of fleet-audit."""

    cost: Cost
    node_cpu: float | None
    """CPU seconds of all processes of all hosts: login, sudo and probe."""
    file: dict[str, Any]
    """The run's `run.json`."""
    evidence: list[dict[str, Any]]


class Fleet:
    """Hosts that are up."""

    def __init__(self, lab: Any, names: list[str], folder: Path, nodes: Group | None) -> None:
        self.lab, self.names, self.folder, self.nodes = lab, names, folder, nodes
        self.folders, self.workload = checks_folder(folder / "checks")
        (folder / "home").mkdir()
        self.env = environment(folder / "home")

    def inventory(self, names: Sequence[str]) -> Path:
        """An inventory of some of the hosts."""
        lines = self.lab.inventory.read_text().splitlines()
        others = set(self.names) - set(names)
        path = self.folder / f"inventory-{len(names)}.ini"
        path.write_text("\n".join(line for line in lines if line.split(" ")[0] not in others) + "\n")
        return path

    def measure(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> tuple[Cost, float | None]:
        """Run a command in the hosts' network; its cost, and the hosts' CPU seconds meanwhile."""
        before = self.nodes.cpu() if self.nodes else 0.0
        cost = measure(self.lab.command(argv), env or self.env, log=self.folder / "log")
        return cost, self.nodes.cpu() - before if self.nodes else None

    def audit(
        self,
        names: Sequence[str],
        concurrency: int | None = None,
        *,
        silent: int = 0,
        everything: bool = False,
        advisories: Path | None = None,
    ) -> Audit:
        """Audit some of the hosts into a new store, or only collect `everything` from them.

        `silent` is how many are known not to answer; `advisories` a data set that the store has.
        """
        store = self.folder / "store"
        if advisories:
            shutil.copytree(advisories, store / "advisories")
        what = ["collect", "--all"] if everything else ["run"]
        argv = [*PROGRAM, *what, str(self.inventory(names)), "-b", "--store", str(store), "-q"]
        argv += ["--concurrency", str(concurrency)] if concurrency else []
        for extra in self.folders:
            argv += ["--checks", str(extra)]
        cost, node_cpu = self.measure(argv)
        runs = list((store / "runs").glob("*/run.json"))
        if cost.code not in (0, 1, 3) or not runs:
            raise RuntimeError(f"fleet-audit {what[0]} ended with {cost.code}: {(self.folder / 'log').read_text()[-2000:]}")
        file = json.loads(runs[0].read_bytes())
        with gzip.open(runs[0].with_name("evidence.jsonl.gz")) as lines:
            evidence = [json.loads(line) for line in lines]
        shutil.rmtree(store)
        dead = [name for name, host in file["hosts"].items() if host["reach"] != "ok"]
        if len(dead) != silent:
            raise RuntimeError(f"{len(dead)} hosts did not answer: {[file['hosts'][name]['detail'] for name in dead[:3]]}")
        return Audit(cost, node_cpu, file, evidence)


@contextlib.contextmanager
def fleet(count: int, files: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """So many light hosts, for the time of the block."""
    if sys.platform != "linux":
        raise Unavailable("the lab needs Linux")
    from tests.hosts import HostSpec, Lab, LabUnavailable

    names = [f"h{number:04}" for number in range(1, count + 1)]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleet-bench-")))
        nodes = stack.enter_context(group("nodes"))
        lab = stack.enter_context(Lab(folder / "lab"))
        try:
            with nodes.entered() if nodes else contextlib.nullcontext():
                lab.up([HostSpec(name, files=files or {}) for name in names])
        except LabUnavailable as error:
            raise Unavailable(str(error)) from None
        yield Fleet(lab, names, folder, nodes)
