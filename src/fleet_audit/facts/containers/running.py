# SPDX-License-Identifier: Apache-2.0
"""Containers that run, and the ports that are forwarded to them. It cannot know containers of engines within containers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.facts.containers import oci
from fleet_audit.facts.containers.collected import DOCKER, DOCKER_HOST, LOGS, STORED, TASKS, Found, asked_spec, collected, is_rootless
from fleet_audit.facts.containers.flags import words_of
from fleet_audit.facts.processes import PROCESSES


@dataclass(frozen=True)
class Container:
    """A container that runs. Source: its engine's files and specification, and the processes in its control group.

    NULL: not determined. All but identity is NULL for a rootless container: it has no more rights than its user.
    """

    id: Annotated[str, "Its id"]
    engine: Annotated[str | None, "docker, containerd, cri-o or podman; NULL: only its processes are known"]
    name: Annotated[str | None, "Its name, within its pod if it belongs to one"]
    in_pod: Annotated[bool | None, "It belongs to a pod of Kubernetes"]
    pod_namespace: Annotated[str | None, "Kubernetes namespace of its pod; NULL without one, or not told"]
    pod: Annotated[str | None, "Its pod; NULL without one, or not told"]
    image: Annotated[str | None, "Image as it was named; NULL: not told, as by podman"]
    rootless: Annotated[bool | None, "An ordinary user's own engine runs it; NULL: the processes were not read"]
    processes: Annotated[int | None, "Its processes that were seen; 0: none, as of one in a virtual machine; NULL: they were not read"]
    sandbox: Annotated[bool | None, "It holds the namespaces of a pod and does nothing else; NULL: not told"]
    user: Annotated[str | None, "User of its first process, as configured; `0` or empty is root"]
    root: Annotated[bool | None, "Its first process is root of the node's own user namespace"]
    privileged: Annotated[bool | None, "It may use all devices, administer the system, load modules"]
    host_pid: Annotated[bool | None, "It sees the node's processes"]
    host_network: Annotated[bool | None, "It has the node's network"]
    host_ipc: Annotated[bool | None, "It has the node's shared memory and semaphores"]
    user_namespace: Annotated[bool | None, "It has a user namespace of its own"]
    capabilities_added: Annotated[list[str] | None, "Capabilities beyond docker's default set, such as SYS_ADMIN; ALL if so configured"]
    seccomp: Annotated[str | None, "Default action of its filter, such as SCMP_ACT_ERRNO; or unconfined"]
    apparmor: Annotated[str | None, "AppArmor profile or unconfined; empty: none is set"]
    selinux: Annotated[str | None, "SELinux context; empty: none is set"]
    no_new_privileges: Annotated[bool | None, "Its processes gain no rights by execve"]
    readonly_root: Annotated[bool | None, "Its root file system cannot be written"]
    runtime_socket: Annotated[bool | None, "An engine's socket, or a folder that holds one, is mounted"]
    binds: Annotated[list[str] | None, "Folders and files of the node that are mounted, SOURCE:DESTINATION:ro or rw"]
    sensitive_binds: Annotated[list[str] | None, "Sources of those: /, /etc, /proc, /dev, /run, homes; /sys, /usr, /lib if writable"]
    gpu: Annotated[bool | None, "It has GPUs"]


@dataclass(frozen=True)
class ContainerPort:
    """A port of the node that docker, nerdctl or CRI-O forwards to a container. Ports of pods under containerd are the firewall's alone.

    Source: docker's files of its containers, annotations of the others' specifications.
    """

    container: Annotated[str, "Id of the container"]
    name: Annotated[str | None, "Its name"]
    port: Annotated[int, "Port of the node"]
    address: Annotated[str, "Address of the node; 0.0.0.0 and :: are all of them"]
    protocol: Annotated[str, "tcp, udp or sctp"]
    container_port: Annotated[int | None, "Port within the container"]


def _pods(evidence: Bundle) -> dict[str, tuple[str, str, str]] | None:
    """{container: (namespace, pod, its name in it)} by kubelet's links; empty without them, None if they were not read."""
    try:
        paths = evidence.entries(LOGS)
    except Unread as unread:
        evidence.gaps.append(str(unread))
        return None
    found = {}
    for path in paths:
        parts = path.rpartition("/")[2].removesuffix(".log").split("_")
        name, _, ident = parts[-1].rpartition("-")
        if len(parts) == 3 and name:
            found[ident] = (parts[1], parts[0], name)
    return found


class _Node:
    """All that was found, to tell what a container shares with the node or with another container."""

    def __init__(self, found: Mapping[str, Found], places: Mapping[int, str] | None) -> None:
        self.found, self.places = found, places or {}

    def shared(self, spec: oci.Spec | None, kind: str, depth: int = 0) -> bool | None:
        """Whether a container shares the node's namespace of a kind, if need be by way of another that it joins."""
        if spec is None or depth > 3:
            return None

        def of_process(pid: int) -> bool | None:
            other = self.found.get(self.places.get(pid, ""))
            return self.shared(other.spec, kind, depth + 1) if other else None

        return oci.shared(spec.namespaces, kind, of_process)


def _docker_gpu(asked: Mapping[str, Any]) -> bool:
    requests = asked.get("DeviceRequests")
    words = json.dumps(requests).lower() if isinstance(requests, list) else ""
    return asked.get("Runtime") == "nvidia" or '"gpu"' in words or "/gpu" in words or '"nvidia"' in words


def _is_sandbox(one: Found, in_pod: bool) -> bool | None:
    """By the engine's annotation, else by its sole program: pause."""
    kind = next((one.values[name] for name in oci.KINDS if name in one.values), None)
    if kind is not None:
        return bool(kind == "sandbox")
    if one.rows and all(words_of(row) == ["/pause"] for row in one.rows):
        return True
    return False if one.engine in ("docker", "podman") or in_pod else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def parse_containers(evidence: Bundle) -> Iterator[Container]:
    """A row per container that runs; one of which nothing but its processes is known is a gap too, unless it is rootless."""
    found, places = collected(evidence)
    links, node = _pods(evidence), _Node(found, places)
    pods = links or {}
    for ident, one in found.items():
        spec, docker = one.spec or asked_spec(one.asked), one.docker or {}
        rootless = None if places is None else is_rootless(one)
        if spec is None and not rootless:
            evidence.gap(TASKS, f"container {ident[:12]} runs, and its configuration was not read")
        told = spec or oci.NOTHING
        namespace, pod, name = pods.get(ident, (None, None, None))
        namespace, pod = told.labels.get("pod_namespace") or namespace, told.labels.get("pod") or pod
        # containerd and CRI-O note the pod in the specification; where it was not read, or docker runs it, kubelet's links tell.
        noted = one.spec is not None and one.engine != "docker"
        user = _text(docker.get("Config.User"))
        host_pid = node.shared(spec, "pid")
        if host_pid is None and one.rows and all(type(row.get("contained")) is bool for row in one.rows):
            host_pid = not any(row["contained"] for row in one.rows)
        yield Container(
            id=ident,
            engine=one.engine,
            name=(_text(docker.get("Name")) or "").removeprefix("/") or told.labels.get("name") or name or one.name,
            in_pod=True if pod or namespace else False if noted or (spec is not None and links is not None) else None,
            pod_namespace=namespace,
            pod=pod,
            image=_text(docker.get("Config.Image")) or told.labels.get("image"),
            rootless=rootless,
            processes=None if places is None else len(one.rows),
            sandbox=_is_sandbox(one, ident in pods),
            user=told.user if user is None else user,
            root=None if told.uid is None or told.user_namespace is None else told.uid == 0 and not told.user_namespace,
            privileged=True if one.asked.get("Privileged") is True else told.privileged,
            host_pid=host_pid,
            host_network=node.shared(spec, "network"),
            host_ipc=node.shared(spec, "ipc"),
            user_namespace=told.user_namespace,
            capabilities_added=told.capabilities,
            seccomp=told.seccomp,
            apparmor=told.apparmor,
            selinux=told.selinux,
            no_new_privileges=told.no_new_privileges,
            readonly_root=told.readonly_root,
            runtime_socket=told.socket,
            binds=told.binds,
            sensitive_binds=told.sensitive,
            gpu=True if _docker_gpu(one.asked) else told.gpu,
        )


_CRIO_PORTS = "annotations.io.kubernetes.cri-o.PortMappings"  # each pod's sandbox has it


def _published(evidence: Bundle, one: Found) -> Iterator[tuple[Any, Any, Any, Any]]:
    """(port of the node, address, protocol, port of the container) as the container's engine notes them."""
    ports = (one.docker or {}).get("NetworkSettings.Ports")
    for inner, bindings in ports.items() if isinstance(ports, dict) else ():
        port, _, protocol = str(inner).partition("/")
        for binding in bindings or ():
            outer = binding.get("HostPort") if isinstance(binding, dict) else None
            yield outer, binding.get("HostIp") if isinstance(binding, dict) else None, protocol, port
    for source, name in ((TASKS, "annotations.nerdctl/ports"), (STORED, _CRIO_PORTS)):
        try:
            rows = json.loads(one.values.get(name) or "[]")
            for row in rows or ():
                lower = {key.lower(): value for key, value in row.items()}  # the two write them differently
                yield lower.get("hostport"), lower.get("hostip"), lower.get("protocol"), lower.get("containerport")
        except (ValueError, TypeError, AttributeError, RecursionError):
            evidence.gap(source, f"{name.partition('.')[2]} is not understood")


def _port(value: Any) -> int | None:
    return int(str(value)) if re.fullmatch(r"[0-9]{1,5}", str(value), re.ASCII) else None


def parse_ports(evidence: Bundle) -> Iterable[ContainerPort]:
    """A row per port and address; podman's are kept in a database that is not read: its containers with a network of their own are gaps."""
    found, places = collected(evidence)
    node = _Node(found, places)
    if not any(_CRIO_PORTS in one.values for one in found.values()) and any(one.engine == "cri-o" for one in found.values()):
        evidence.gap(STORED, "the ports of CRI-O's pods are not told")
    for ident, one in found.items():
        name = (_text((one.docker or {}).get("Name")) or "").removeprefix("/") or one.name
        if one.engine == "docker" and one.docker is None and not is_rootless(one):
            evidence.gap(DOCKER, f"container {ident[:12]} runs, and its ports were not read")
        if one.engine in ("podman", None) and not is_rootless(one) and node.shared(one.spec, "network") is not True:
            evidence.gap(STORED, f"container {ident[:12]} runs, and its ports are not known")
        for outer, address, protocol, inner in _published(evidence, one):
            if str(outer) in ("", "0", "None"):
                continue
            if (port := _port(outer)) is None:
                evidence.gap(DOCKER, f"a port of container {ident[:12]} is not understood")
                continue
            yield ContainerPort(ident, name, port, str(address or "0.0.0.0"), str(protocol or "tcp").lower(), _port(inner))


TABLES = (
    Table("containers", Container, (PROCESSES, TASKS, STORED, DOCKER, DOCKER_HOST, LOGS), parse_containers),
    Table("container_ports", ContainerPort, (PROCESSES, TASKS, STORED, DOCKER, DOCKER_HOST), parse_ports),
)
