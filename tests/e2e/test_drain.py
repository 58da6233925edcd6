# SPDX-License-Identifier: Apache-2.0
"""Nodes are taken out of scheduling before they are disturbed: a real slurmctld with two real slurmd, and jobs that run there.

Kubernetes is played: a `kubectl` that keeps a recorded API's answers in files, since no cluster runs here.
"""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import cli_environment
from tests.e2e.roles import host
from tests.e2e.site import Site
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("drain")]

NODES = ("node-1", "node-2")
CHECK = "journal-survives-reboot"
BAD = """
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\\nStorage=volatile\\n' > /etc/systemd/journald.conf.d/50-bad.conf
systemctl restart systemd-journald
"""
SLURM = """
. /usr/local/lib/flips.sh
for folder in /var/lib/slurm/slurmctld /var/spool/slurmd; do mkdir -p $folder; chown slurm $folder; done
put /etc/slurm/slurm.conf ClusterName=lab 'SlurmctldHost=ctl({ctl})' SlurmUser=slurm AuthType=auth/munge ProctrackType=proctrack/linuxproc \
  TaskPlugin=task/none SlurmdSpoolDir=/var/spool/slurmd StateSaveLocation=/var/lib/slurm/slurmctld SlurmctldPidFile=/run/slurmctld.pid \
  SlurmdPidFile=/run/slurmd.pid ReturnToService=2 KillWait=1 \
  'NodeName=node-1 NodeAddr={n1} CPUs=1 State=UNKNOWN' 'NodeName=node-2 NodeAddr={n2} CPUs=1 State=UNKNOWN' \
  'PartitionName=main Nodes=ALL Default=YES State=UP'
put /etc/slurm/cgroup.conf CgroupPlugin=cgroup/v1
systemctl start munge
systemctl restart {daemon}
"""
KUBECTL = r'''#!/usr/bin/python3
"""Plays kubectl over answers of a recorded API (Kubernetes 1.34, cut to what is asked for; synthetic names)."""
import json, sys
path, words = "/srv/api.json", [w for w in sys.argv[1:] if not w.startswith("--")]
api = json.load(open(path))
open("/srv/asked", "a").write(" ".join(sys.argv[1:]) + "\n")
if words[0] == "get":
    print(json.dumps({"kind": "List", "items": api[words[1]]}))
    sys.exit()
for node in api["nodes"]:
    if node["metadata"]["name"] in words:
        if words[0] in ("cordon", "uncordon"):
            node["spec"]["unschedulable"] = words[0] == "cordon"
        for word in words:
            if word.startswith("fleet-audit/plan="):
                node["metadata"].setdefault("annotations", {})["fleet-audit/plan"] = word.split("=", 1)[1]
            if word == "fleet-audit/plan-":
                node["metadata"].get("annotations", {}).pop("fleet-audit/plan", None)
json.dump(api, open(path, "w"))
'''


class Cluster(Site):
    """Two nodes and the host that their scheduler's tools run on."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.policy = folder / "policy.yaml"

    def up(self) -> None:
        self.lab.up([host(name) for name in ("ctl", *NODES)])
        places = {"ctl": self.lab.address("ctl"), "n1": self.lab.address("node-1"), "n2": self.lab.address("node-2")}
        for name in ("ctl", *NODES):
            daemon = "slurmctld" if name == "ctl" else "slurmd"
            self.sh(name, SLURM.format(**places, daemon=daemon))
        for name in NODES:
            self.sh(name, BAD)
        self.policy.write_text(yaml.safe_dump({"remediation": {"slurm": {"on": "ctl"}, "kubernetes": {"on": "ctl"}}}))
        self.until(lambda: self.states() == {"node-1": "IDLE", "node-2": "IDLE"})

    def until(self, holds: Callable[[], bool], seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, self.sh("ctl", "scontrol -o show node")
            time.sleep(0.5)

    def states(self) -> dict[str, str]:
        found = dict(re.findall(r"^NodeName=(\S+).* State=(\S+)", self.sh("ctl", "scontrol -o show node"), re.MULTILINE))
        return {name: state.replace("+NOT_RESPONDING", "") for name, state in found.items()}  # until the next ping, minutes apart

    def reasons(self) -> dict[str, str]:
        found = {}
        for line in self.sh("ctl", "scontrol -o show node").splitlines():
            reason = re.search(r"Reason=(.*?) \[", line)
            found[line.split()[0].split("=")[1]] = reason[1] if reason else ""
        return found

    def plan(self, name: str) -> Path:
        done = self.cli("run", self.lab.inventory, "-l", ",".join(NODES), "-b", "--check", CHECK, "--policy", self.policy, "-q",
                        "-f", "json", "-o", self.folder / "r.json")  # fmt: skip
        assert done.returncode in (0, 1, 3), done.stderr
        assert {r["outcome"] for r in json.loads((self.folder / "r.json").read_text())["results"]} == {"fail"}
        path = self.folder / name
        assert self.cli("remediate", "plan", "--max-disruption", "drain", "-o", path).returncode == 0
        return path


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with standing(Cluster(tmp_path_factory.mktemp("drain"))) as found:
        yield found


def test_a_job_ends_before_its_node_is_changed_and_the_node_is_given_back(cluster: Cluster) -> None:
    path = cluster.plan("wait.yaml")
    plan = yaml.safe_load(path.read_text())["plan"]
    job = subprocess.Popen(cluster.lab.command(cluster.lab.ssh("ctl", "srun -w node-1 sleep 25", user="root")), stdout=subprocess.DEVNULL)
    cluster.until(lambda: cluster.states()["node-1"] == "ALLOCATED")
    process = subprocess.Popen(cluster.lab.command(cluster.argv("remediate", "apply", path, "-b", "--yes", "--drain", "slurm")),
                               env=cli_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # fmt: skip
    cluster.until(lambda: "DRAIN" in cluster.states()["node-1"])
    assert cluster.reasons()["node-1"] == f"fleet-audit plan {plan}"
    assert job.poll() is None and "50-bad.conf" in cluster.sh("node-1", "ls /etc/systemd/journald.conf.d")
    assert "zz-fleet-audit" not in cluster.sh("node-1", "ls /etc/systemd/journald.conf.d"), "a node with a job is not changed"
    out, _ = process.communicate(timeout=240)
    assert process.returncode == 0 and job.wait(10) == 0, out
    assert "waiting for node-1 (Slurm says allocated)" in out and "given back to scheduling: node-1" in out, out
    assert cluster.states() == {"node-1": "IDLE", "node-2": "IDLE"} and set(cluster.reasons().values()) == {""}
    back = cluster.cli("remediate", "rollback", path, "-b", "--yes", "--drain", "slurm")
    assert back.returncode == 0 and "taken out of scheduling: node-1, node-2" in back.stdout, back.stdout + back.stderr
    assert cluster.states() == {"node-1": "IDLE", "node-2": "IDLE"}


@pytest.mark.thorough
def test_a_job_that_does_not_end_keeps_its_node_and_one_that_others_drained_stays_drained(cluster: Cluster) -> None:
    path = cluster.plan("busy.yaml")
    job = subprocess.Popen(cluster.lab.command(cluster.lab.ssh("ctl", "srun -w node-1 sleep 200", user="root")), stdout=subprocess.DEVNULL)
    cluster.until(lambda: cluster.states()["node-1"] == "ALLOCATED")
    cluster.sh("ctl", "scontrol update NodeName=node-2 State=DRAIN Reason='a fan'")
    done = cluster.cli("remediate", "apply", path, "-b", "--yes", "--drain", "slurm", "--drain-deadline", "0")
    assert done.returncode == 3 and "node-1: left alone, it is still busy" in done.stderr, done.stdout + done.stderr
    assert cluster.states() == {"node-1": "ALLOCATED", "node-2": "IDLE+DRAIN"} and cluster.reasons()["node-2"] == "a fan"
    assert "zz-fleet-audit" not in cluster.sh("node-1", "ls /etc/systemd/journald.conf.d")
    assert "zz-fleet-audit" in cluster.sh("node-2", "ls /etc/systemd/journald.conf.d")
    cluster.sh("ctl", "scontrol suspend $(squeue -ho %A)")
    cluster.until(lambda: cluster.states()["node-1"] == "IDLE")
    again = cluster.cli("remediate", "apply", path, "-b", "--yes", "--drain", "slurm", "--drain-deadline", "0")
    assert again.returncode == 3 and "Slurm has jobs there" in again.stderr, "a suspended job shows in no state of its node"
    cluster.sh("ctl", "scancel -u root; scontrol update NodeName=node-2 State=RESUME")
    job.wait(60)
    cluster.until(lambda: cluster.states() == {"node-1": "IDLE", "node-2": "IDLE"})
    assert cluster.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0


@pytest.mark.thorough
def test_ended_in_the_middle_a_second_apply_gives_the_node_back(cluster: Cluster) -> None:
    path = cluster.plan("killed.yaml")
    job = subprocess.Popen(cluster.lab.command(cluster.lab.ssh("ctl", "srun -w node-1 sleep 200", user="root")), stdout=subprocess.DEVNULL)
    cluster.until(lambda: cluster.states()["node-1"] == "ALLOCATED")
    process = subprocess.Popen(cluster.lab.command(cluster.argv("remediate", "apply", path, "-b", "--yes", "--drain", "slurm")),
                               env=cli_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    cluster.until(lambda: "DRAIN" in cluster.states()["node-1"])
    process.kill()
    process.wait()
    cluster.sh("ctl", "scancel -u root")
    job.wait(60)
    cluster.until(lambda: cluster.states()["node-1"] == "IDLE+DRAIN")
    done = cluster.cli("remediate", "apply", path, "-b", "--yes", "--drain", "slurm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert cluster.states() == {"node-1": "IDLE", "node-2": "IDLE"}
    assert cluster.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0


@pytest.mark.thorough
def test_kubernetes_is_cordoned_waited_for_and_uncordoned(cluster: Cluster) -> None:
    path = cluster.plan("pods.yaml")
    plan = yaml.safe_load(path.read_text())["plan"]

    def pod(name: str, node: str, owner: str, **resources: str) -> dict[str, object]:
        return {"metadata": {"name": name, "namespace": "train", "ownerReferences": [{"kind": owner, "name": "x"}]}, "status": {"phase": "Running"},
                "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"limits": resources}}]}}  # fmt: skip

    api = {
        "nodes": [{"metadata": {"name": n, "annotations": {}}, "spec": {}} for n in (*NODES, "other")],
        "pods": [pod("exporter", "node-1", "DaemonSet", **{"nvidia.com/gpu": "1"}), pod("web", "node-1", "ReplicaSet"),
                 pod("worker-0", "node-2", "PyTorchJob", **{"nvidia.com/gpu": "8"})],
    }  # fmt: skip
    cluster.lab.exec("ctl", ["sh", "-c", "cat > /usr/local/bin/kubectl; chmod 755 /usr/local/bin/kubectl"], input=KUBECTL)
    cluster.lab.exec("ctl", ["sh", "-c", "cat > /srv/api.json"], input=json.dumps(api))
    done = cluster.cli("remediate", "apply", path, "-b", "--yes", "--drain", "kubernetes", "--drain-deadline", "0")
    assert done.returncode == 3 and "the pod train/worker-0 has GPUs" in done.stderr, done.stdout + done.stderr
    asked = cluster.sh("ctl", "cat /srv/asked")
    assert "cordon node-1\n" in asked and f"annotate --overwrite node node-1 fleet-audit/plan={plan}" in asked and "delete" not in asked
    after = json.loads(cluster.sh("ctl", "cat /srv/api.json"))
    assert [n["spec"].get("unschedulable") for n in after["nodes"]] == [False, False, None]
    assert [n["metadata"]["annotations"] for n in after["nodes"]] == [{}, {}, {}]
    assert cluster.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0


def test_a_policy_that_does_not_say_where_the_tool_runs_is_told_before_anything_is_done(cluster: Cluster) -> None:
    path = cluster.plan("silent.yaml")
    plan = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**plan, "policy_file": None}))
    done = cluster.cli("remediate", "apply", path, "-b", "--yes", "--drain", "slurm")
    assert done.returncode == 2 and "remediation: {slurm: {on: HOST}}" in done.stderr, done.stderr
