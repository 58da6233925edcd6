# SPDX-License-Identifier: Apache-2.0
"""What hosts that swallow packets cost the others: about one connect timeout in all."""

from __future__ import annotations

from benchmarks._fleet import fleet
from benchmarks._measure import median, spread
from benchmarks._result import Result, at_most

HOSTS, DEAD, ROUNDS = 64, 16, 2


def run() -> Result:
    """The live hosts alone, then all, in turn."""
    from fleet_audit.transport.paramiko import Paramiko

    timeout = Paramiko().connect_timeout
    alive, together = [], []
    with fleet(HOSTS) as hosts:
        live = hosts.names[DEAD:]  # the dead ones come first in the inventory, where they could hold up most
        for name in hosts.names[:DEAD]:
            hosts.lab.fault(name, "blackhole")
        hosts.audit(live[:1])
        for _ in range(ROUNDS):
            alive.append(hosts.audit(live).cost.wall)
            together.append(hosts.audit(hosts.names, silent=DEAD).cost.wall)
        workload = hosts.workload
    detail = [
        workload, f"wall of {HOSTS - DEAD} live hosts {spread(alive)}",
        f"wall with {DEAD} that swallow packets {spread(together)}; a connect timeout is {timeout:g} s",
    ]  # fmt: skip
    return at_most("dead", (median(together) - median(alive)) / timeout, 1.5, "connect timeouts", detail)
