# SPDX-License-Identifier: Apache-2.0
"""Takes nodes out of scheduling before they are disturbed, and gives back those that it took: by Slurm's or Kubernetes' own tool.

A node that somebody else took out stays out. The reason at the scheduler names the plan, so that a second apply knows its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from fleet_audit.model import FleetAuditError

Ask = Callable[[Sequence[str]], tuple[int, str]]
"""Runs an argument vector where the scheduler's tool is: its exit status and what it said."""
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_SERVING = ("IDLE", "ALLOCATED", "MIXED")
_BROKEN = ("DOWN", "FUTURE", "ERROR")
"""The states of a node at Slurm, before its flags; of UNKNOWN, and of what a later version may say, nothing is concluded."""
_OURS = "fleet-audit plan "


@dataclass(frozen=True)
class Node:
    """A node as its scheduler has it."""

    out: bool
    """Nothing new is scheduled on it."""
    ours: bool
    """It was taken out for this plan."""
    work: str
    """What still runs on it, empty if that is nothing."""
    broken: str = ""
    """Why it is left and not waited for: it may come back at any time, and then takes jobs."""


class Scheduler(Protocol):
    """What remediation asks of a scheduler. All raise `FleetAuditError` if the scheduler does not answer."""

    def look(self, nodes: Sequence[str]) -> Mapping[str, Node]:
        """The nodes that it knows."""

    def take_out(self, nodes: Sequence[str]) -> None:
        """Schedule nothing more on them."""

    def give_back(self, nodes: Sequence[str]) -> None:
        """Schedule on them again."""


def node_name(host: str, names: str) -> str:
    """What the scheduler calls a host: `inventory` as it is called there, `short` up to the first dot. Raises `FleetAuditError`."""
    name = host.partition(".")[0] if names == "short" else host
    if not _NODE.match(name):
        raise FleetAuditError(f"{host}: {name!r} is no name of a node")
    return name


def _must(answer: tuple[int, str], what: str) -> str:
    code, said = answer
    if code:
        raise FleetAuditError(f"{what}: {' '.join(said.split())[:300] or f'exit status {code}'}")
    return said


@dataclass(frozen=True)
class Slurm:
    """By scontrol(1)."""

    ask: Ask
    plan: str

    @property
    def reason(self) -> str:
        """What Slurm shows."""
        return _OURS + self.plan

    def look(self, nodes: Sequence[str]) -> Mapping[str, Node]:
        """From the states of all nodes; a job that is suspended shows in no state, so that what looks free is asked for jobs too."""
        found = {}
        for line in _must(self.ask(["scontrol", "--oneliner", "show", "node"]), "scontrol show node").splitlines():
            name, state = re.search(r"\bNodeName=(\S+)", line), re.search(r"\bState=(\S+)", line)
            if name and state and name[1] in nodes:
                found[name[1]] = self._node(state[1], line)
        free = sorted(node for node in found if not found[node].work and not found[node].broken)
        for busy in self._with_jobs(free):
            found[busy] = replace(found[busy], work="Slurm has jobs there")
        return found

    def _node(self, state: str, line: str) -> Node:
        words = [word.rstrip("*~#!%$@^-") for word in state.split("+")]
        found = re.search(r"\bReason=(.*?)(?: \[\S+@\S+\]| \w+=|$)", line)
        reason = found[1].strip() if found else ""
        out, ours = bool({"DRAIN", "DRAINED", "DRAINING"}.intersection(words)), reason == self.reason
        if words[0] not in (*_SERVING, *_BROKEN):
            return Node(out, ours, f"Slurm says {state}, which is not understood")
        if words[0] in _BROKEN and not out:
            return Node(False, False, "", broken=f"Slurm says {words[0].lower()}: {reason or 'for no reason that is given'}")
        if out and not ours and reason.startswith(_OURS):
            return Node(out, ours, f"the {reason} has it")
        busy = [word.lower() for word in words if word in ("ALLOCATED", "MIXED", "COMPLETING")]
        return Node(out, ours, f"Slurm says {'+'.join(busy)}" if busy else "")

    def _with_jobs(self, nodes: Sequence[str]) -> Sequence[str]:
        """Those of some nodes that have jobs; mostly none has, and one question is enough."""
        if not nodes or not self._jobs(nodes):
            return []
        return [node for node in nodes if len(nodes) == 1 or self._jobs([node])]

    def _jobs(self, nodes: Sequence[str]) -> bool:
        states = "running,suspended,stopped,completing,configuring"
        return bool(_must(self.ask(["squeue", "--noheader", f"--states={states}", f"--nodelist={','.join(nodes)}"]), "squeue").strip())

    def take_out(self, nodes: Sequence[str]) -> None:
        """Drain them: what runs goes on, nothing new begins."""
        words = ["scontrol", "update", f"NodeName={','.join(nodes)}", "State=DRAIN", f"Reason={self.reason}"]
        _must(self.ask(words), "scontrol update")

    def give_back(self, nodes: Sequence[str]) -> None:
        """Undrain them; a node that is down meanwhile stays down."""
        _must(self.ask(["scontrol", "update", f"NodeName={','.join(nodes)}", "State=UNDRAIN"]), "scontrol update")


ANNOTATION = "fleet-audit/plan"


@dataclass(frozen=True)
class Kubernetes:
    """By kubectl: cordon, and wait for pods of jobs and with GPUs. Nothing is evicted."""

    ask: Ask
    plan: str

    def look(self, nodes: Sequence[str]) -> Mapping[str, Node]:
        """From the API's nodes and pods."""
        found = {}
        for item in self._items("get", "nodes"):
            name = item["metadata"]["name"]
            if name in nodes:
                plan = (item["metadata"].get("annotations") or {}).get(ANNOTATION)
                out = bool(item["spec"].get("unschedulable"))
                found[name] = Node(out, plan == self.plan, f"the plan {plan} has it" if out and plan not in (None, self.plan) else "")
        for pod in self._items("get", "pods", "--all-namespaces") if found else []:
            name = (pod.get("spec") or {}).get("nodeName")
            if name in found and (why := _counts(pod)):
                title = f"{pod['metadata'].get('namespace')}/{pod['metadata'].get('name')}"
                found[name] = replace(found[name], work=found[name].work or f"the pod {title} {why}")
        return found

    def _items(self, *words: str) -> list[dict[str, Any]]:
        said = _must(self.ask(["kubectl", *words, "--output", "json"]), f"kubectl {' '.join(words)}")
        try:
            items: list[dict[str, Any]] = json.loads(said)["items"]
        except (ValueError, KeyError, TypeError):
            raise FleetAuditError(f"kubectl {' '.join(words)}: it did not answer in JSON") from None
        return items

    def take_out(self, nodes: Sequence[str]) -> None:
        """Cordon them, and write down for which plan."""
        _must(self.ask(["kubectl", "annotate", "--overwrite", "node", *nodes, f"{ANNOTATION}={self.plan}"]), "kubectl annotate")
        _must(self.ask(["kubectl", "cordon", *nodes]), "kubectl cordon")

    def give_back(self, nodes: Sequence[str]) -> None:
        """Uncordon them."""
        _must(self.ask(["kubectl", "uncordon", *nodes]), "kubectl uncordon")
        _must(self.ask(["kubectl", "annotate", "node", *nodes, f"{ANNOTATION}-"]), "kubectl annotate")


def _counts(pod: Mapping[str, Any]) -> str:
    """Why a pod is waited for; empty for those of daemon sets, static ones, ended ones, and services without a GPU."""
    if (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return ""
    meta, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    owners = {owner.get("kind") for owner in meta.get("ownerReferences") or []}
    if owners & {"DaemonSet", "Node"} or "kubernetes.io/config.mirror" in (meta.get("annotations") or {}):
        return ""
    for container in [*(spec.get("containers") or []), *(spec.get("initContainers") or [])]:
        resources = container.get("resources") or {}
        wanted = {**(resources.get("requests") or {}), **(resources.get("limits") or {})}
        if any(re.fullmatch(r"(nvidia\.com|amd\.com|gpu\.intel\.com|habana\.ai)/.+", name) for name in wanted):
            return "has GPUs"
    if spec.get("resourceClaims"):
        return "has claimed devices"
    return "is of a job" if not owners or owners - {"ReplicaSet", "StatefulSet", "ReplicationController"} else ""
