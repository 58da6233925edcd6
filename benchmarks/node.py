# SPDX-License-Identifier: Apache-2.0
"""CPU and memory on the node, and the probe's own share of it."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._fleet import Audit, Fleet, fleet
from benchmarks._measure import Group, median, spread
from benchmarks._result import Result, at_most
from benchmarks._workload import PACKAGES, dpkg_status

ROUNDS, OWN_BAR, MEMORY_BAR = 5, 0.15, 80.0
ALONE = """
import json, os, sys
argv, path, env, rounds = json.loads(sys.argv[1])
os.nice(19)
costs = []
for _ in range(rounds):
    pid = os.fork()
    if not pid:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        for folder in path:
            try:
                os.execve(argv[0] if "/" in argv[0] else folder + "/" + argv[0], argv, env)
            except OSError:
                pass
        os._exit(127)
    usage = os.wait4(pid, 0)[2]
    costs.append(usage.ru_utime + usage.ru_stime)
print(sorted(costs)[rounds // 2])
"""


class Peak:
    """The most memory that a cgroup's processes had together, above what they had before."""

    def __init__(self) -> None:
        self.mib = 0.0

    @contextlib.contextmanager
    def watching(self, nodes: Group | None) -> Iterator[None]:
        """Look every few milliseconds, from outside: the time that this takes is not the node's."""
        over = threading.Event()
        floor = _memory(nodes) if nodes else 0.0

        def look() -> None:
            while nodes and not over.is_set():
                self.mib = max(self.mib, _memory(nodes) - floor)
                time.sleep(0.003)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _memory(nodes: Group) -> float:
    """MiB, pages that several share counted once."""
    total = 0
    for pid in nodes.processes():
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(text.partition("\nPss:")[2].split()[0])
    return total / 1024


def run() -> Result:
    """One host, several times."""
    audits: list[Audit] = []
    peak = Peak()
    with fleet(1, {"/var/lib/dpkg/status": dpkg_status()}) as hosts:
        hosts.audit(hosts.names)
        audits += [hosts.audit(hosts.names) for _ in range(ROUNDS)]
        with peak.watching(hosts.nodes):
            hosts.audit(hosts.names)
        commands = alone(hosts, audits[0])
        counted, workload = hosts.nodes is not None, hosts.workload
    costs: list[dict[str, Any]] = [next(iter(a.file["hosts"].values()))["costs"] for a in audits]
    probe = [c["cpu_self"] + c["cpu_children"] for c in costs]
    own = median(probe) - sum(commands.values())
    told = median([(c["rss_kib"] + c["rss_children_kib"]) / 1024 for c in costs])
    memory = peak.mib if counted else told
    everything = [a.node_cpu or 0.0 for a in audits] if counted else probe
    detail = [
        f"{workload}; a host with {PACKAGES} packages, {len(audits[0].file['sources'])} sources asked for",
        f"CPU of probe and commands, as reported: {spread(probe)}",
        f"commands run alone: {sum(commands.values()):.3f} s ({', '.join(f'{n} {s:.3f}' for n, s in commands.items()) or 'none'})",
        f"the probe's own share: {own:.3f} s (bar {OWN_BAR:g})",
        f"peak memory of all processes of login and probe together: {memory:.0f} MiB (bar {MEMORY_BAR:g}); "
        f"reported: probe and its largest child {told:.0f} MiB",
    ]
    if counted:
        detail.insert(2, f"CPU of everything on the node, sshd, PAM and sudo included: {spread(everything)}")
    detail += ["by source (cpu s, wall s, bytes):", *by_source(audits)]
    return at_most("node", median(everything), 0.5, "CPU s", detail, also=own <= OWN_BAR and memory <= MEMORY_BAR)


def alone(hosts: Fleet, audit: Audit) -> dict[str, float]:
    """CPU of each command that the probe ran there, run by itself."""
    from fleet_audit.facts import sources
    from fleet_audit.probe.node import base as node

    found = {}
    for name, status, _, code, *_ in records(audit):
        source = sources()[name]
        if source.reader == "command" and (status == "ok" or code is not None):
            request = json.dumps([source.args["argv"], list(node.PATH), dict(node.ENV), ROUNDS])
            said = hosts.lab.exec(hosts.names[0], ["/usr/bin/python3", "-I", "-S", "-c", ALONE, request])
            found[name] = float(said.stdout)
    return found


def records(audit: Audit) -> list[list[Any]]:
    """[source, status, detail, exit, sha256, size, seconds, cpu] of the one host."""
    found: list[list[Any]] = audit.evidence[0]["records"]
    return found


def by_source(audits: list[Audit]) -> list[str]:
    """A line for each source, dearest first."""
    rows = []
    for index, (name, status, *_) in enumerate(records(audits[0])):
        each = [records(audit)[index] for audit in audits]
        rows.append((median([r[7] for r in each]), median([r[6] for r in each]), each[0][5], name, status))
    return [f"  {cpu:.4f} {wall:.4f} {size:>8} {name} ({status})" for cpu, wall, size, name, status in sorted(rows, reverse=True)]
