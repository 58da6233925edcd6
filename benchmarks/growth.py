# SPDX-License-Identifier: Apache-2.0
"""How evaluation grows with the fleet: from a hundred to ten thousand hosts, each size in a process of its own."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._result import Result, at_most
from benchmarks._workload import checks_folder

SIZES = (100, 1000, 3000, 10_000)
MEMORY = 4.0
"""GiB that no process may pass."""


def _size(count: int) -> dict[str, float]:
    """Wall and CPU seconds, and GiB of the largest process, of this many hosts."""
    from benchmarks.evaluate import fleet

    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folders, _ = checks_folder(Path(name) / "checks")
        extracted, (took,), _ = fleet(Path(name), count, folders, 1)
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / (1 << 20)
    return {"hosts": count, "extracted": extracted.cpu, "wall": took.wall, "cpu": took.cpu, "gib": largest}


def run() -> Result:
    """The curve; the bar is for its last point."""
    curve = []
    for count in SIZES:
        child = subprocess.run([sys.executable, "-m", "benchmarks.growth", str(count)], check=True, capture_output=True, text=True)
        curve.append(json.loads(child.stdout))
        print(
            "  {hosts:6} hosts: evaluation {wall:.1f} s wall, {cpu:.1f} s CPU; extraction {extracted:.1f} s CPU; "
            "largest process {gib:.2f} GiB".format(**curve[-1]), flush=True,
        )  # fmt: skip
    last = curve[-1]
    return at_most("growth", last["wall"], 60, "s", [f"bar for memory: {MEMORY:g} GiB"], also=last["gib"] <= MEMORY)


if __name__ == "__main__":
    print(json.dumps(_size(int(sys.argv[1]))))
