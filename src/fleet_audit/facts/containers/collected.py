# SPDX-License-Identifier: Apache-2.0
"""What engines' files and the processes tell of the containers that run; no daemon is asked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.containers import oci
from fleet_audit.facts.containers.flags import program_of, words_of
from fleet_audit.facts.processes import container_of, documents
from fleet_audit.model import Source, SourceId

_DOCKER_ROOTS = ("/var/lib/docker", "/var/lib/docker/*.*", "/var/snap/docker/common/var-lib-docker")
TASKS = Source(
    SourceId("oci-tasks"), "json",
    {"globs": [f"{state}/io.containerd.runtime.v*/*/*/config.json"
               for state in ("/run/containerd", "/run/docker/containerd/daemon", "/run/k3s/containerd", "/run/k0s/containerd",
                             "/run/snap.docker/containerd/daemon", "/var/snap/microk8s/common/run/containerd")], "keep": oci.KEEP},
    "containerd, docs/runtime-v2.md: the bundle of each task, STATE/io.containerd.runtime.v2.task/NAMESPACE/ID; docker's namespace is moby.",
    needs_root=True, cap_bytes=8 << 20,
)  # fmt: skip
STORED = Source(
    SourceId("oci-stored"), "json",
    {"globs": [f"{root}/overlay-containers/*/userdata/config.json" for root in ("/run/containers/storage", "/var/lib/containers/storage")],
     "keep": oci.KEEP},
    "podman's and CRI-O's bundles, of containers that do not run too: conmon(8) and the processes tell which run. CRI-O's are in /run.",
    needs_root=True, cap_bytes=8 << 20,
)  # fmt: skip
DOCKER = Source(
    SourceId("docker-containers"), "json",
    {"globs": [f"{root}/containers/*/config.v2.json" for root in _DOCKER_ROOTS],
     "keep": ["State.Running", "Name", "Config.User", "Config.Image", "NetworkSettings.Ports"]},
    "moby, daemon/container: what docker keeps of each container; with userns-remap below a folder named UID.GID.",
    needs_root=True,
)  # fmt: skip
DOCKER_HOST = Source(
    SourceId("docker-hostconfig"), "json",
    {"globs": [f"{root}/containers/*/hostconfig.json" for root in _DOCKER_ROOTS],
     "keep": ["Privileged", "PidMode", "IpcMode", "NetworkMode", "CapAdd", "Binds", "Mounts", "Runtime", "DeviceRequests", "ReadonlyRootfs"]},
    "Docker Engine API, HostConfig: what docker was asked to give a container.",
    needs_root=True,
)  # fmt: skip
LOGS = Source(
    SourceId("container-logs"), "stat", {"globs": ["/var/log/containers/*.log"]},
    "kubelet's links to logs, named POD_NAMESPACE_CONTAINER-ID.log: whose container it is.",
)  # fmt: skip


_ENGINES = {"docker": "docker", "cri-containerd": "containerd", "nerdctl": "containerd", "crio": "cri-o", "libpod": "podman"}


@dataclass
class Found:
    """What the sources tell of one container."""

    engine: str | None = None
    spec: oci.Spec | None = None
    values: Mapping[str, Any] = field(default_factory=dict)
    docker: Mapping[str, Any] | None = None
    asked: Mapping[str, Any] = field(default_factory=dict)
    rows: list[Mapping[str, Any]] = field(default_factory=list)
    name: str | None = None
    owner: int | None = None
    """User of its conmon, which podman and CRI-O leave beside each container."""
    runs: bool = False


def _entries(evidence: Bundle, source: Source, missed: list[str]) -> dict[str, dict[str, Any]]:
    """{path: kept values}; none and a gap if the source was not read."""
    try:
        entries = evidence.entries(source).items()
    except (Unread, NotUnderstood) as error:
        missed.append(str(error))
        return {}
    return {path: entry["values"] for path, entry in entries if isinstance(entry.get("values"), dict)}


def _from_files(evidence: Bundle, missed: list[str]) -> dict[str, Found]:
    """{id: what the engines' files say}."""
    found: dict[str, Found] = {}
    for source in (TASKS, STORED):
        for path, values in _entries(evidence, source, missed).items():
            parts = path.split("/")
            ident = parts[-2] if source is TASKS else parts[-3]
            one = found.setdefault(ident, Found())
            if one.spec is None:
                one.spec, one.values = oci.understood(values), values
                if source is TASKS:
                    one.engine = "docker" if parts[-3] == "moby" else "containerd"
                else:
                    one.engine = "cri-o" if parts[1] == "run" else "podman"
            one.runs |= source is TASKS
    for path, values in _entries(evidence, DOCKER, missed).items():
        one = found.setdefault(path.split("/")[-2], Found())
        one.engine, one.docker = "docker", values
        one.runs |= values.get("State.Running") is True
        if type(values.get("State.Running")) is not bool:
            evidence.gap(DOCKER, f"{path} does not say whether it runs")
    for path, values in _entries(evidence, DOCKER_HOST, missed).items():
        found.setdefault(path.split("/")[-2], Found()).asked = values
    return found


def _conmon(found: dict[str, Found], row: Mapping[str, Any], words: list[str]) -> None:
    """conmon(8) -c ID -n NAME stays as long as its container runs. An ordinary user's says nothing of what files tell."""
    flags = dict(itertools.pairwise(words))
    ident = flags.get("-c", "")
    if not re.fullmatch(r"[0-9a-f]{64}", ident) or (row.get("euid") != 0 and ident in found and found[ident].owner is None):
        return
    one = found.setdefault(ident, Found())
    one.runs, one.owner, one.name = True, row.get("euid"), flags.get("-n")
    one.engine = one.engine or "podman"


def _with_processes(evidence: Bundle, found: dict[str, Found]) -> dict[int, str]:
    """Add what runs to what was found; {process id: its container}. Raises `Unread`."""
    short = {ident for ident in found if not re.fullmatch(r"[0-9a-f]{64}", ident)}
    places: dict[int, str] = {}
    for row in documents(evidence):
        cgroup, words = str(row.get("cgroup") or ""), words_of(row)
        if program_of(row, {"conmon"}):
            _conmon(found, row, words)
            continue
        parts = set(re.split(r"[/:]", cgroup)) if short else set()
        ident = container_of(cgroup) or next((ident for ident in short if ident in parts), None)
        if ident is not None:
            one = found.setdefault(ident, Found())
            one.runs = True
            one.rows.append(row)
            if type(row.get("pid")) is int:
                places[row["pid"]] = ident
            if match := re.search(r"(docker|cri-containerd|nerdctl|crio|libpod)[-/][0-9a-f]{64}", cgroup):
                one.engine = one.engine or _ENGINES[match[1]]
    return places


def collected(evidence: Bundle) -> tuple[dict[str, Found], dict[int, str] | None]:
    """({id: what is known} of containers that run, {process id: container}, None if the processes were not read).

    Raises `Unread` if nothing was read.
    """
    missed: list[str] = []
    found = _from_files(evidence, missed)
    places: dict[int, str] | None = None
    try:
        places = _with_processes(evidence, found)
    except (Unread, NotUnderstood) as error:
        missed.append(str(error))
    if len(missed) == 5:
        raise Unread(missed[0])
    evidence.gaps += missed
    return {ident: one for ident, one in sorted(found.items()) if one.runs}, places


def is_rootless(one: Found) -> bool:
    """Whether a container is in a user's own slice and none of its processes is root on the node."""
    own = re.compile(r"/user@[1-9][0-9]*\.service(?:/|$)")
    if not one.rows:
        return type(one.owner) is int and one.owner != 0
    return all(own.search(str(row.get("cgroup"))) and row.get("uid") != 0 and row.get("euid") != 0 for row in one.rows)


def _asked_binds(asked: Mapping[str, Any]) -> list[tuple[str, str, bool]]:
    """Mounts as docker was asked for them, `SOURCE:DESTINATION[:OPTIONS]` or objects."""
    words = [str(entry).split(":") for entry in asked.get("Binds") or ()]
    found = [(w[0].rstrip("/") or "/", w[1], "ro" in w[-1].split(",")) for w in words if len(w) > 1 and w[0].startswith("/")]
    mounts = [entry for entry in asked.get("Mounts") or () if isinstance(entry, dict) and entry.get("Type") == "bind"]
    return found + [(str(m.get("Source")).rstrip("/") or "/", str(m.get("Target")), m.get("ReadOnly") is True) for m in mounts]


def asked_spec(asked: Mapping[str, Any]) -> oci.Spec | None:
    """What docker was asked for, of a container whose specification was not found."""
    if type(asked.get("Privileged")) is not bool:
        return None
    binds = _asked_binds(asked) if isinstance(asked.get("Binds"), list | None) and isinstance(asked.get("Mounts"), list | None) else None
    added = asked.get("CapAdd")
    modes = {"pid": asked.get("PidMode"), "network": asked.get("NetworkMode"), "ipc": asked.get("IpcMode")}
    known = {kind: None if not str(mode).startswith("container:") else "of another" for kind, mode in modes.items() if mode != "host"}
    return replace(
        oci.NOTHING,
        privileged=asked["Privileged"],
        namespaces=known if all(isinstance(mode, str) for mode in modes.values()) else None,
        capabilities=sorted(str(name).upper().removeprefix("CAP_") for name in added) if isinstance(added, list) else None if added else [],
        seccomp="unconfined" if asked["Privileged"] else None,
        readonly_root=asked.get("ReadonlyRootfs") is True,
        **oci.mounted(binds),
    )
