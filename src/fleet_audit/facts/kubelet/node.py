# SPDX-License-Identifier: Apache-2.0
"""Which nodes are Kubernetes nodes, and the files that make them so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.accounts.metadata import LEADS_TO, understood, with_targets
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.containers.flags import running, words_of
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId

FILES = Source(
    SourceId("kubernetes-files"), "stat",
    {"globs": ["/etc/kubernetes", "/etc/kubernetes/*.conf", "/etc/kubernetes/kubelet/*", "/etc/kubernetes/manifests", "/etc/kubernetes/manifests/*",
               "/etc/kubernetes/pki", "/etc/kubernetes/pki/*", "/etc/kubernetes/pki/etcd/*", "/etc/kubernetes/kubelet-config.yaml",
               "/var/lib/kubelet", "/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeconfig", "/var/lib/kubelet/pki/*",
               "/home/kubernetes/kubelet-config.yaml", "/etc/rancher/*/*.yaml", "/var/lib/rancher/*/agent/*.kubeconfig",
               "/var/lib/rancher/*/agent/*.key", "/var/lib/rancher/*/agent/pod-manifests/*", "/var/lib/etcd"],
     "targets": True},
    "Kubernetes reference, PKI certificates and requirements; kubeadm init: files of a node and of its control plane.",
)  # fmt: skip


@dataclass(frozen=True)
class KubernetesNode:
    """A Kubernetes node, by a kubelet that runs or by its files. No row: it is none. Source: processes, stat."""

    running: Annotated[bool, "A kubelet runs, by itself or within another program"]
    program: Annotated[str | None, "kubelet, k3s, kubelite (MicroK8s), or NULL if none runs"]
    control_plane: Annotated[bool, "It holds the API server, as a process, within k3s or by a static pod's manifest; or etcd by one"]


@dataclass(frozen=True)
class KubernetesFile:
    """A file of a node that others must not change, or not read; what links lead to, and folders on the way that others may change.

    Source: stat.
    """

    path: Annotated[str, "The file or folder"]
    kind: Annotated[str, "kubeconfig, config, key, certificate, manifest or folder"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    mode: Annotated[int, "Permission bits as a number: 420 is 0644; those of a link say nothing"]
    link: Annotated[bool, "It is a symbolic link"]
    leads_to: Annotated[str | None, LEADS_TO]


KUBELETS = frozenset({"kubelet", "k3s", "k3s-server", "k3s-agent", "kubelite"})
"""Programs that are a kubelet, or hold one: k3s, which may name itself so, and MicroK8s's kubelite."""


def embeds(program: str, row: Mapping[str, Any]) -> bool:
    """Whether a process of k3s or kubelite holds a kubelet; k3s is also kubectl and crictl."""
    words = " ".join(words_of(row)[:2]).split()
    return program in ("kubelite", "k3s-server", "k3s-agent") or (program == "k3s" and bool({"server", "agent"} & set(words)))


def parse_node(evidence: Bundle) -> Iterable[KubernetesNode]:
    """One row for a node."""
    rows = [(name, row) for name, row in running(evidence, KUBELETS | {"kube-apiserver"}) if name != "k3s" or embeds(name, row)]
    programs = {name for name, _ in rows}
    serves = any(name == "k3s-server" or (name == "k3s" and "server" in " ".join(words_of(row)[:2]).split()) for name, row in rows)
    files = evidence.entries(FILES)
    kubelet = next((name.partition("-")[0] for name in sorted(programs & KUBELETS, reverse=True)), None)
    manifests = any(re.search(r"/(?:kube-apiserver|etcd)\.ya?ml$", path) for path in files)
    if kubelet or manifests or {"/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubeconfig"} & set(files):
        yield KubernetesNode(kubelet is not None, kubelet, manifests or serves or "kube-apiserver" in programs)


def _kind(path: str) -> str:
    for pattern, kind in (
        (r"/manifests/|pod-manifests/", "manifest"), (r"\.key$|-current\.pem$|/kubelet-(?:client|server)-.*\.pem$", "key"),
        (r"\.(?:crt|pem|pub)$", "certificate"), (r"/etc/kubernetes/[^/]+\.conf$|kubeconfig$|/k3s\.yaml$|/rke2\.yaml$", "kubeconfig"),
    ):  # fmt: skip
        if re.search(pattern, path):
            return kind
    return "config"


def parse_files(evidence: Bundle) -> Iterator[KubernetesFile]:
    """A row per file or folder."""
    for path, there in with_targets(understood(evidence, FILES)):
        kind = "folder" if there.type == "dir" else _kind(path)
        yield KubernetesFile(there.path, kind, there.uid, there.gid, there.mode, there.type == "link", there.leads_to)


TABLES = (
    Table("kubernetes_node", KubernetesNode, (PROCESSES, FILES), parse_node),
    Table("kubernetes_files", KubernetesFile, (FILES,), parse_files),
)
