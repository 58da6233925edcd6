# SPDX-License-Identifier: Apache-2.0
"""All areas of facts at once: CPU and memory on an ordinary node, and that they stay bounded on large ones."""

from __future__ import annotations

from benchmarks._fleet import Audit, Fleet, fleet
from benchmarks._measure import median, spread
from benchmarks._result import Result, at_most
from benchmarks._workload import PACKAGES, dpkg_status
from benchmarks.node import MEMORY_BAR, OWN_BAR, Peak, alone, by_source, records

ROUNDS, BAR, BUDGET = 5, 0.8, 2.0
POLICY = "data: [{path: /data/models, kind: models}]\n"
FILL = """
import os, subprocess, time
os.makedirs("/data", exist_ok=True)
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m,nr_inodes=200k", "none", "/data"], check=True)
for folder in range(100):
    os.makedirs("/data/models/%03d" % folder)
    for number in range(1000):
        open("/data/models/%03d/%04d.safetensors" % (folder, number), "w").close()
os.makedirs("/mnt/many")
for number in range(1000):
    os.mkdir("/mnt/many/%04d" % number)
    subprocess.run(["mount", "--bind", "/usr/lib", "/mnt/many/%04d" % number], check=True)
for number in range(2000):
    if not os.fork():
        os.setsid()
        for fd in range(3):
            os.close(fd)
        time.sleep(900)
        os._exit(0)
"""


def run() -> Result:
    """One ordinary host several times, one large one once."""
    audits: list[Audit] = []
    peak = Peak()
    with fleet(1, {"/var/lib/dpkg/status": dpkg_status()}) as hosts:
        hosts.audit(hosts.names, everything=True)
        audits += [hosts.audit(hosts.names, everything=True) for _ in range(ROUNDS)]
        with peak.watching(hosts.nodes):
            hosts.audit(hosts.names, everything=True)
        commands = sum(alone(hosts, audits[0]).values())
        counted = hosts.nodes is not None
    costs = [next(iter(audit.file["hosts"].values()))["costs"] for audit in audits]
    probe = [cost["cpu_self"] + cost["cpu_children"] for cost in costs]
    everything = [audit.node_cpu or 0.0 for audit in audits] if counted else probe
    own = median(probe) - commands
    memory = peak.mib if counted else median([(cost["rss_kib"] + cost["rss_children_kib"]) / 1024 for cost in costs])
    with fleet(1, {"/var/lib/dpkg/status": dpkg_status(3000)}) as hosts:
        large, lines = _large(hosts)
    detail = [
        f"{len(audits[0].file['sources'])} sources on a host with {PACKAGES} packages; one exec",
        f"CPU of probe and commands, as reported: {spread(probe)}",
        f"CPU of everything on the node, sshd, PAM and sudo included: {spread(everything)}",
        f"commands run alone: {commands:.3f} s; the probe's own share: {own:.3f} s (bar {OWN_BAR:g})",
        f"peak memory of login and probe together: {memory:.0f} MiB (bar {MEMORY_BAR:g})",
        *lines,
        "by source on the ordinary host (cpu s, wall s, bytes):",
        *by_source(audits)[:25],
    ]
    holds = own <= OWN_BAR and memory <= MEMORY_BAR and large <= BUDGET
    return at_most("areas", median(everything), BAR, "CPU s", detail, also=holds)


def _large(hosts: Fleet) -> tuple[float, list[str]]:
    """CPU of a host with 3,000 packages, 2,000 processes, 1,000 mounts and 100,000 files in a data folder."""
    (name,) = hosts.names
    hosts.lab.exec(name, ["python3", "-c", FILL], timeout=300)
    inventory = hosts.inventory(hosts.names)
    inventory.with_name("fleet-audit.yaml").write_text(POLICY)
    audit = hosts.audit(hosts.names, everything=True)
    cost = next(iter(audit.file["hosts"].values()))["costs"]
    cpu = cost["cpu_self"] + cost["cpu_children"]
    odd = [f"{row[0]} {row[1]}: {row[2]}" for row in records(audit) if row[1] in ("timeout", "truncated", "failed")]
    return cpu, [
        f"a host with 3,000 packages, 2,000 processes, 1,000 mounts and 100,000 files in a data folder: {cpu:.2f} CPU s "
        f"(budget {BUDGET:g}), {cost['rss_kib'] / 1024:.0f} MiB, {cost['seconds']:.1f} s; not whole: {'; '.join(odd) or 'nothing'}",
        *(f"  {line.strip()}" for line in by_source([audit])[:8]),
    ]
