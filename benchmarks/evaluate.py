# SPDX-License-Identifier: Apache-2.0
"""From facts on disk to results, for a thousand hosts; `growth` has more of them."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks._measure import spread
from benchmarks._result import Result, at_most
from benchmarks._workload import PACKAGES, checks_folder

HOSTS, ROUNDS, PATIENCE = 1000, 3, 120.0


@dataclass(frozen=True)
class Took:
    """Wall and CPU seconds of a step, child processes included."""

    wall: float
    cpu: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s wall, {self.cpu:.1f} s CPU"


def _timed(step: Callable[[], Any]) -> tuple[Any, Took]:
    begin, before = time.monotonic(), _cpu()
    value = step()
    return value, Took(time.monotonic() - begin, _cpu() - before)


def _cpu() -> float:
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def fleet(folder: Path, count: int, folders: list[Path], rounds: int) -> tuple[Took, list[Took], str]:
    """Make so many hosts; what extraction took, and each evaluation, and what came out."""
    from benchmarks import replay
    from fleet_audit import checks, extract, plan
    from fleet_audit.evaluate import Evaluator
    from fleet_audit.evidence import Objects
    from fleet_audit.facts import tables
    from fleet_audit.model import HostName, Roster
    from fleet_audit.policy import Policy

    objects = Objects(folder / f"objects-{count}")
    evidence = list(replay.hosts(replay.record(objects, folder), objects, count))
    groups: dict[str, Sequence[str]] = {e.host: ("fleet",) for e in evidence}

    library = checks.load(folders, tables=tables())
    chosen = library.select("baseline")
    read = {name: tables()[name] for name in sorted({name for check in chosen for name in check.tables} | set(plan.ALWAYS))}

    def extraction() -> None:
        facts = extract.build(evidence, Roster(groups), read, Objects(folder / f"objects-{count}"))
        facts.save(folder / f"facts-{count}")
        facts.connection.close()

    _, extracted = _timed(extraction)
    took = []
    for _ in range(rounds):
        evaluator = Evaluator(
            folder / f"facts-{count}", {HostName(h): g for h, g in groups.items()}, chosen, Policy(), library.params("baseline"),
            datetime(2026, 11, 24), library.references, seconds_per_check=PATIENCE,
        )  # fmt: skip
        done, cost = _timed(evaluator.evaluate)
        took.append(cost)
    outcomes: dict[str, int] = {}
    for result in done.results:
        outcomes[str(result.outcome)] = outcomes.get(str(result.outcome), 0) + 1
    if len(done.results) != count * len(chosen) or outcomes.get("error"):
        raise RuntimeError(f"{len(done.results)} results of {count} hosts and {len(chosen)} checks: {outcomes}")
    said = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))
    return extracted, took, f"{len(chosen)} checks, {len(done.results)} results ({said}), {len(done.findings)} findings"


def run() -> Result:
    """A thousand hosts."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        folders, workload = checks_folder(folder / "checks")
        extracted, took, what = fleet(folder, HOSTS, folders, ROUNDS)
        detail = [
            f"{workload}; {HOSTS} hosts of {PACKAGES} packages, each with 5 % of packages and sockets of its own",
            what, f"evaluation: wall {spread([t.wall for t in took])}, CPU {spread([t.cpu for t in took])}",
            f"extraction, from evidence to Parquet: {extracted}",
        ]  # fmt: skip
    return at_most("evaluate", min(t.wall for t in took), 5, "s", detail)
