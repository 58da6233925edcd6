# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit --help`: what everybody waits for first."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks._fleet import PROGRAM, environment
from benchmarks._measure import measure, median, spread
from benchmarks._result import Result, at_most

ROUNDS = 10


def run() -> Result:
    """The median of ten."""
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as home:
        env = environment(Path(home))
        costs = [measure([*PROGRAM, "--help"], env) for _ in range(ROUNDS + 1)][1:]
    if any(cost.code for cost in costs):
        raise RuntimeError("fleet-audit --help failed")
    detail = [f"wall {spread([c.wall for c in costs])}", f"CPU {spread([c.cpu for c in costs])}"]
    return at_most("help", median([c.wall for c in costs]), 0.4, "s", detail)
