# SPDX-License-Identifier: Apache-2.0
"""Controller CPU of one more host, against a bare paramiko login and exec of `true`."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks._fleet import Fleet, fleet
from benchmarks._measure import median, spread
from benchmarks._result import Result, at_most

FEW, MANY, AT_ONCE, ROUNDS = 16, 64, 16, 8
FLOOR = Path(__file__).with_name("_floor.py")


def _floor(hosts: Fleet, names: list[str]) -> float:
    lab = hosts.lab
    argv = [sys.executable, "-P", str(FLOOR), str(lab.known_hosts), str(lab.key), "audit", str(AT_ONCE)]
    cost, _ = hosts.measure([*argv, *(lab.address(name) for name in names)])
    if cost.code:
        raise RuntimeError(f"the bare login failed: {(hosts.folder / 'log').read_text()[-1000:]}")
    return cost.cpu


def run() -> Result:
    """Both contestants in turn, at both sizes."""
    ours: dict[int, list[float]] = {FEW: [], MANY: []}
    bare: dict[int, list[float]] = {FEW: [], MANY: []}
    walls, nodes = [], []
    with fleet(MANY) as hosts:
        hosts.audit(hosts.names[:FEW], AT_ONCE)  # what is compiled and read for the first time
        for _ in range(ROUNDS):
            for size in (FEW, MANY):
                done = hosts.audit(hosts.names[:size], AT_ONCE)
                ours[size].append(done.cost.cpu)
                bare[size].append(_floor(hosts, hosts.names[:size]))
                if size == MANY:
                    walls.append(done.cost.wall)
                    nodes.append((done.node_cpu or 0.0) / size)
        workload = hosts.workload
    per_host = {name: (median(costs[MANY]) - median(costs[FEW])) / (MANY - FEW) for name, costs in (("ours", ours), ("bare", bare))}
    detail = [workload]
    for name, costs in (("fleet-audit run", ours), ("bare paramiko", bare)):
        detail += [f"{name}, {size} hosts: {spread(costs[size])} of controller CPU" for size in (FEW, MANY)]
    least = [(min(c[MANY]) - min(c[FEW])) / (MANY - FEW) * 1e3 for c in (ours, bare)]
    detail += [
        f"by the least of each instead of the median: {least[0]:.1f} and {least[1]:.1f} ms",
        f"per further host: fleet-audit {per_host['ours'] * 1e3:.1f} ms, bare paramiko {per_host['bare'] * 1e3:.1f} ms",
        f"wall of {MANY} hosts: {spread(walls)}; CPU per node, login and sudo included: {spread(nodes)}",
    ]
    return at_most("slope", per_host["ours"] / per_host["bare"], 3, "x bare paramiko", detail)
