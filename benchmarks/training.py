# SPDX-License-Identifier: Apache-2.0
"""What an audit costs the training beside it: the step of a loop of matrix products on a real GPU, with audits and without."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks._fleet import PROGRAM, environment
from benchmarks._measure import measure, median
from benchmarks._result import Result, Unavailable, at_most

AUDITS = 12
PAUSE_S = 1.5
"""Between two audits; its steps are those to compare with."""
LOOP = """
import sys, time, torch
a, b = (torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16) for _ in range(2))
while True:
    begin = time.time()
    for _ in range(40):
        a @ b
    torch.cuda.synchronize()
    print("%.6f %.6f" % (begin, time.time() - begin), flush=True)
"""


def _slowed(steps: list[tuple[float, float]], audits: list[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The steps that began while an audit ran, and the others between the first and the last audit."""
    beside: list[float] = []
    alone: list[float] = []
    for begin, seconds in steps:
        if audits[0][0] - PAUSE_S <= begin <= audits[-1][1]:
            (beside if any(a <= begin <= b for a, b in audits) else alone).append(seconds)
    return beside, alone


def run() -> Result:
    """Twelve audits of this machine, one after the other."""
    if not Path("/proc/driver/nvidia/version").exists() or importlib.util.find_spec("torch") is None:
        raise Unavailable("it needs an NVIDIA GPU and PyTorch")
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name:
        folder, audits = Path(name), []
        inventory, log = folder / "inventory.ini", folder / "steps"
        inventory.write_text("localhost ansible_connection=local\n")
        with log.open("wb") as out:
            loop = subprocess.Popen([sys.executable, "-c", LOOP], stdout=out)
            try:
                deadline = time.monotonic() + 120
                while log.stat().st_size < 20_000 and time.monotonic() < deadline:  # warm, clocks up
                    time.sleep(0.2)
                for _ in range(AUDITS):
                    time.sleep(PAUSE_S)
                    begin = time.time()
                    cost = measure([*PROGRAM, "run", "-q", "--store", str(folder / "store"), str(inventory)], environment(folder))
                    audits.append((begin, time.time()))
                    if cost.code not in (0, 1, 3):
                        raise RuntimeError(f"fleet-audit run gave exit status {cost.code}")
            finally:
                loop.kill()
                loop.wait()
        lines = [line.split() for line in log.read_text().splitlines()]
        beside, alone = _slowed([(float(line[0]), float(line[1])) for line in lines if len(line) == 2], audits)
    if len(beside) < 100 or len(alone) < 100:
        raise RuntimeError("the loop made too few steps to compare")
    detail = [
        f"{AUDITS} audits; {len(beside)} steps beside them, {len(alone)} between them",
        *(f"{what}: median {median(s) * 1e3:.2f} ms, 99 % under {sorted(s)[len(s) * 99 // 100] * 1e3:.2f} ms, longest {max(s) * 1e3:.2f} ms"
          for what, s in (("beside", beside), ("between", alone))),
    ]  # fmt: skip
    return at_most("training", median(beside) / median(alone), 1.01, "times the step alone", detail)
