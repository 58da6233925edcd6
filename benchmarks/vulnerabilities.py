# SPDX-License-Identifier: Apache-2.0
"""What share of an audit known vulnerabilities take: the same fleet audited with a data set of full size in the store, and without."""

from __future__ import annotations

import subprocess

from benchmarks._fleet import fleet
from benchmarks._measure import median, spread
from benchmarks._result import Result, Unavailable, at_most
from benchmarks.advisories import RANGES, data_set

HOSTS, AT_ONCE, ROUNDS = 64, 16, 4


def run() -> Result:
    """Both in turn; the share is of the wall time of the whole run, the CPU of the controller stands beside it."""
    with fleet(HOSTS) as hosts:
        try:
            told = subprocess.run(["dpkg-query", "-W", "-f", "${source:Package}\\n"], check=True, capture_output=True, text=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            raise Unavailable(f"no dpkg: {error}") from None
        names = tuple(sorted(set(told.split())))
        data_set(hosts.folder / "advisories", "debian", ("12",), names)
        walls: dict[bool, list[float]] = {True: [], False: []}
        cpus: dict[bool, list[float]] = {True: [], False: []}
        hosts.audit(hosts.names, AT_ONCE)
        for _ in range(ROUNDS):
            for with_it in (True, False):
                done = hosts.audit(hosts.names, AT_ONCE, advisories=hosts.folder / "advisories" if with_it else None)
                walls[with_it].append(done.cost.wall)
                cpus[with_it].append(done.cost.cpu)
        share = 1 - median(walls[False]) / median(walls[True])
        detail = [
            hosts.workload, f"{HOSTS} hosts of one image against {RANGES:,} made ranges, of which {len(names)} packages of Debian have their part",
            f"wall: {spread(walls[True])} with, {spread(walls[False])} without; controller CPU: {spread(cpus[True])} and {spread(cpus[False])}",
        ]  # fmt: skip
        return at_most("vulnerabilities", share, 0.3, "of an audit's wall time", detail)
