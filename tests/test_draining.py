# SPDX-License-Identifier: Apache-2.0
"""What schedulers' tools say, and what is made of it (synthetic answers in the form of Slurm 22.05 and of Kubernetes' API)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from fleet_audit import draining
from fleet_audit.model import FleetAuditError


def slurm(*lines: str, jobs: Sequence[str] = ()) -> draining.Slurm:
    def ask(argv: Sequence[str]) -> tuple[int, str]:
        if argv[0] == "squeue":
            return 0, "".join("7 main x root S 0:01 1 n\n" for node in jobs if node in argv[-1].removeprefix("--nodelist=").split(","))
        assert argv == ["scontrol", "--oneliner", "show", "node"]
        return 0, "\n".join(lines) + "\n"

    return draining.Slurm(ask, "0123abcd")


@pytest.mark.parametrize(
    ("state", "reason", "out", "ours", "busy"),
    [
        ("IDLE", "", False, False, False),
        ("IDLE+DRAIN", "fleet-audit plan 0123abcd [root@2026-11-26T10:00:00]", True, True, False),
        ("IDLE+DRAIN", "fleet-audit plan other [root@2026-11-26T10:00:00]", True, False, True),
        ("IDLE+DRAIN", "a fan [root@2026-11-26T10:00:00]", True, False, False),
        ("MIXED+DRAIN", "fleet-audit plan 0123abcd [root@2026-11-26T10:00:00]", True, True, True),
        ("IDLE+COMPLETING+DRAIN", "fleet-audit plan 0123abcd", True, True, True),
        ("ALLOCATED*", "", False, False, True),
        ("DOWN", "XID79 bad GPU [slurm@2026-11-26T10:00:00]", False, False, False),
        ("DOWN*+DRAIN", "fleet-audit plan 0123abcd [root@2026-11-26T10:00:00]", True, True, False),
        ("DOWN+DRAIN", "a fan [root@2026-11-26T10:00:00]", True, False, False),
        ("FUTURE", "", False, False, False),
        ("UNKNOWN+DRAIN", "fleet-audit plan 0123abcd", True, True, True),
        ("SOMETHING-NEW", "", False, False, True),
    ],
)
def test_a_node_of_slurm(state: str, reason: str, out: bool, ours: bool, busy: bool) -> None:
    found = slurm(f"NodeName=n1 Arch=x86_64 CPUAlloc=0 State={state} ThreadsPerCore=1 Partitions=main  {f'Reason={reason}' if reason else ''}",
                  "NodeName=n10 State=IDLE").look(["n1"])  # fmt: skip
    assert set(found) == {"n1"}
    assert (found["n1"].out, found["n1"].ours, bool(found["n1"].work)) == (out, ours, busy)
    assert bool(found["n1"].broken) is (state in ("DOWN", "FUTURE")), "it may come back at any time"


def test_a_suspended_job_is_work() -> None:
    lines = [f"NodeName=n{n} State=IDLE+DRAIN Reason=fleet-audit plan 0123abcd" for n in (1, 2, 3)]
    found = slurm(*lines, jobs=["n2"]).look(["n1", "n2", "n3"])
    assert {name for name, node in found.items() if node.work} == {"n2"}
    assert found["n2"].ours and not slurm(*lines).look(["n1"])["n1"].work


def answer(said: str, argv: Sequence[str]) -> tuple[int, str]:
    return 0, said


def test_a_scheduler_that_does_not_answer_is_an_error() -> None:
    with pytest.raises(FleetAuditError, match="Unable to contact slurm controller"):
        draining.Slurm(lambda argv: (1, "slurm_load_node error: Unable to contact slurm controller"), "x").look(["n1"])
    for said in ("nonsense", "[]", "{}"):
        with pytest.raises(FleetAuditError, match="did not answer in JSON"):
            draining.Kubernetes(partial(answer, said), "x").look(["n1"])


GPU = [{"resources": {"limits": {"nvidia.com/gpu": "1"}}}]


@pytest.mark.parametrize(
    ("pod", "why"),
    [
        ({"spec": {"containers": GPU}, "metadata": {"ownerReferences": [{"kind": "ReplicaSet"}]}}, "has GPUs"),
        ({"spec": {"containers": GPU}, "metadata": {"ownerReferences": [{"kind": "DaemonSet"}]}}, ""),
        ({"spec": {"containers": [{}]}, "metadata": {"ownerReferences": [{"kind": "Job"}]}}, "is of a job"),
        ({"spec": {"containers": [{}]}, "metadata": {}}, "is of a job"),
        ({"spec": {"containers": [{}]}, "metadata": {}, "status": {"phase": "Succeeded"}}, ""),
        ({"spec": {"containers": [{}]}, "metadata": {"annotations": {"kubernetes.io/config.mirror": "x"}}}, ""),
        ({"spec": {"resourceClaims": [{"name": "g"}]}, "metadata": {"ownerReferences": [{"kind": "StatefulSet"}]}}, "has claimed devices"),
    ],
)  # fmt: skip
def test_which_pods_are_waited_for(pod: dict[str, Any], why: str) -> None:
    def ask(argv: Sequence[str]) -> tuple[int, str]:
        nodes = [{"metadata": {"name": "n1"}, "spec": {}}]
        spec = {**pod["spec"], "nodeName": "n1"}
        return 0, json.dumps({"items": nodes if argv[2] == "nodes" else [{"status": {"phase": "Running"}, **pod, "spec": spec}]})

    assert draining.Kubernetes(ask, "x").look(["n1"])["n1"].work.endswith(why)


@pytest.mark.parametrize("name", ["", "a b", "-x", "n[1-3]", "{{ x }}"])
def test_what_is_no_name_of_a_node_is_refused(name: str) -> None:
    with pytest.raises(FleetAuditError):
        draining.node_name(name, "inventory")
    assert draining.node_name("n1.example.org", "short") == "n1"
