# SPDX-License-Identifier: Apache-2.0
"""CPU of a run of one host: what a run costs whatever the number of hosts."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._fleet import PROGRAM, environment, fleet
from benchmarks._measure import Cost, measure, median, spread
from benchmarks._result import Result, Unavailable, at_most
from benchmarks._workload import checks_folder

ROUNDS = 5


def _local() -> tuple[list[Cost], str]:
    """This machine, where the probe's own CPU counts too."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder = Path(name)
        folders, workload = checks_folder(folder / "checks")
        argv = [*PROGRAM, "run", "-q", "--store", str(folder / "store")]
        for extra in folders:
            argv += ["--checks", str(extra)]
        return [measure(argv, environment(folder)) for _ in range(ROUNDS + 1)][1:], f"{workload}; this machine, probe included"


def run() -> Result:
    """One host of the lab, or this machine."""
    try:
        with fleet(1) as hosts:
            costs = [hosts.audit(hosts.names).cost for _ in range(ROUNDS + 1)][1:]
            workload = hosts.workload
    except Unavailable as reason:
        costs, workload = _local()
        workload += f" (no lab: {reason})"
    detail = [
        workload, f"CPU {spread([c.cpu for c in costs])}", f"wall {spread([c.wall for c in costs])}",
        f"largest process {median([c.rss_mib for c in costs]):.0f} MiB",
    ]  # fmt: skip
    return at_most("fixed", median([c.cpu for c in costs]), 3, "CPU s", detail)
