# SPDX-License-Identifier: Apache-2.0
"""Controller CPU of `ansible -m setup` over that of `fleet-audit run`, the same hosts, the same number at once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from benchmarks._fleet import fleet
from benchmarks._measure import median, spread
from benchmarks._result import Result, Unavailable, at_least

HOSTS, AT_ONCE, ROUNDS = 64, 16, 2


def run() -> Result:
    """Both in turn."""
    beside = Path(sys.executable).with_name("ansible")
    program = str(beside) if beside.exists() else shutil.which("ansible")
    if program is None:
        raise Unavailable("ansible is not installed")
    theirs, theirs_waited, ours, node_theirs, node_ours = [], [], [], [], []
    with fleet(HOSTS) as hosts:
        home = hosts.folder / "a"
        env = hosts.env | {
            "ANSIBLE_HOME": str(home), "ANSIBLE_HOST_KEY_CHECKING": "True", "ANSIBLE_FORKS": str(AT_ONCE),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(hosts.folder / "c"), "ANSIBLE_NOCOLOR": "1",
        }  # fmt: skip
        argv = [program, "-i", str(hosts.inventory(hosts.names)), "all", "-b", "-m", "setup"]
        hosts.audit(hosts.names[:1])
        for _ in range(ROUNDS):
            done = hosts.audit(hosts.names, AT_ONCE)
            ours.append(done.cost.cpu)
            node_ours.append((done.node_cpu or 0.0) / HOSTS)
            cost, node_cpu = hosts.measure(argv, env)
            if cost.code:
                raise RuntimeError(f"ansible ended with {cost.code}: {(hosts.folder / 'log').read_text()[-1000:]}")
            theirs.append(cost.cpu)
            theirs_waited.append(cost.waited)
            node_theirs.append((node_cpu or 0.0) / HOSTS)
        counted, workload = hosts.nodes is not None, hosts.workload
    detail = [
        f"fleet-audit: {workload}, facts, results and report; both become root",
        f"controller CPU, {HOSTS} hosts, {AT_ONCE} at once: fleet-audit {spread(ours)}, ansible -m setup {spread(theirs)}",
        f"of ansible's, without its ssh masters that outlive it: {spread(theirs_waited)}",
    ]
    if counted:
        detail.append(f"CPU per node: fleet-audit {spread(node_ours)}, ansible -m setup {spread(node_theirs)}")
    return at_least("ansible", median(theirs) / median(ours), 8, "x fleet-audit", detail)
