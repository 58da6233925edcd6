# SPDX-License-Identifier: Apache-2.0
"""What an OCI runtime specification lets a container do. Source: OCI runtime-spec, config.md and config-linux.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

_CRI, _CRIO = "annotations.io.kubernetes.cri", "annotations.io.kubernetes.cri-o"
NAMES = {
    "name": (f"{_CRI}.container-name", "annotations.io.kubernetes.container.name", "annotations.nerdctl/name"),
    "pod": (f"{_CRI}.sandbox-name", "annotations.io.kubernetes.pod.name"),
    "pod_namespace": (f"{_CRI}.sandbox-namespace", "annotations.io.kubernetes.pod.namespace"),
    "image": (f"{_CRI}.image-name", f"{_CRIO}.ImageName", f"{_CRI}.podsandbox.image-name"),
}
"""Where containerd, CRI-O and nerdctl note what a container is. Other annotations are not read: they may hold anything."""
KINDS = (f"{_CRI}.container-type", f"{_CRIO}.ContainerType")
"""What tells a pod's sandbox from its containers."""
KEEP = [
    "process.user", "process.capabilities", "process.apparmorProfile", "process.selinuxLabel", "process.noNewPrivileges", "root.readonly",
    "mounts", "linux.namespaces", "linux.resources.devices", "linux.devices", "linux.seccomp.defaultAction", "linux.uidMappings",
    "hooks.prestart", "annotations.nerdctl/ports", f"{_CRIO}.PortMappings", *KINDS,
    *(name for names in NAMES.values() for name in names),
]  # fmt: skip
LIST_CAP = 500
"""Elements of a list that the reader takes; one with as many may have been cut."""

DEFAULT_CAPABILITIES = frozenset(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE".split()
)
"""What docker and containerd give to a container that asks for nothing; podman and CRI-O give fewer."""
_ALL = frozenset({"SYS_ADMIN", "SYS_MODULE", "SYS_RAWIO"})
SOCKETS = re.compile(r"(?:/var)?/run/(?:.*/)?(?:docker|containerd|crio|podman|dockershim)\.sock")
_ABOVE_SOCKETS = re.compile(r"/|(?:/var)?/run(?:/(?:containerd|crio|podman|docker|k3s|k3s/containerd))?")
_HARMLESS = re.compile(
    r"/etc/(?:localtime|timezone|resolv\.conf|hosts|hostname|machine-id|os-release|ssl(?:/.*)?|pki(?:/.*)?|ca-certificates(?:/.*)?|cni(?:/.*)?|"
    r"nvidia-container-runtime(?:/.*)?|cdi|vulkan(?:/.*)?)"
)
_SENSITIVE = re.compile(
    r"/|/(?:etc|boot|root|home|proc|var/spool/cron)(?:/.*)?|/(?:dev|var|run)|/var/(?:run|lib)|"
    r"/var/lib/(?:docker|containerd|containers|kubelet|etcd|rancher)"
)
_WRITABLE_ONLY = re.compile(
    r"/sys(?:/(?!fs/cgroup$).*)?|/usr(?:/(?:local/)?(?:bin|sbin|lib|lib64|libexec|src))?|/(?:bin|sbin|lib|lib64|opt|srv)|"
    r"/(?:usr/)?lib/(?:modules|systemd)(?:/.*)?|/var/log"
)


@dataclass(frozen=True)
class Spec:
    """What was understood of a specification; None: not determined."""

    user: str | None
    uid: int | None
    privileged: bool | None
    namespaces: Mapping[str, str | None] | None
    """{type: path that is joined, None for a new one}; a type that is missing is shared with the node."""
    user_namespace: bool | None
    capabilities: list[str] | None
    seccomp: str | None
    apparmor: str | None
    selinux: str | None
    no_new_privileges: bool | None
    readonly_root: bool | None
    binds: list[str] | None
    sensitive: list[str] | None
    socket: bool | None
    gpu: bool | None
    labels: Mapping[str, str] = field(default_factory=dict)


NOTHING = Spec(None, None, None, None, None, None, None, None, None, None, None, None, None, None, None)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _rows(value: Any) -> list[dict[str, Any]] | None:
    """The objects of a list; None if it is none, or may have been cut."""
    if not isinstance(value, list) or len(value) >= LIST_CAP or not all(isinstance(entry, dict) for entry in value):
        return None
    return value


def capabilities(process: Any) -> frozenset[str] | None:
    """The capabilities that any set of a process holds, without CAP_; None if they are not told."""
    if not isinstance(process, dict):
        return None
    names = [name for held in process.values() if isinstance(held, list) for name in held]
    return frozenset(name.removeprefix("CAP_") for name in names if isinstance(name, str))


def all_devices(rules: Any) -> bool | None:
    """Whether the last rule of the device controller that speaks of all devices allows them."""
    allowed = None
    for rule in rules if isinstance(rules, list) else ():
        if isinstance(rule, dict) and rule.get("type") in (None, "", "a") and {rule.get("major"), rule.get("minor")} <= {None, -1}:
            allowed = rule.get("allow") is True
    return allowed


def _namespaces(value: Any) -> dict[str, str | None] | None:
    rows = _rows(value)
    if rows is None:
        return None
    return {row["type"]: _text(row.get("path")) for row in rows if isinstance(row.get("type"), str)}


def shared(namespaces: Mapping[str, str | None] | None, kind: str, of_process: Callable[[int], bool | None]) -> bool | None:
    """Whether a container shares the node's namespace of a kind; `of_process` tells it of a process whose namespace is joined."""
    if namespaces is None:
        return None
    if kind not in namespaces:
        return True
    path = namespaces[kind]
    if path is None:
        return False
    if re.fullmatch(r"(?:/var)?/run/docker/netns/default", path):  # what docker calls the node's own
        return True
    match = re.fullmatch(r"/proc/([0-9]{1,9})/ns/[a-z]+", path)
    if match is None:
        return False if re.match(r"(?:/var)?/run/", path) else None
    return True if match[1] == "1" else of_process(int(match[1]))


def is_sensitive(source: str, read_only: bool) -> bool:
    """Whether a path of the node should not be seen from a container: the system's own folders, others' homes."""
    if _HARMLESS.fullmatch(source):
        return False
    return _SENSITIVE.fullmatch(source) is not None or (not read_only and _WRITABLE_ONLY.fullmatch(source) is not None)


def is_socket(source: str) -> bool:
    """Whether a path of the node is an engine's socket, or a folder with one."""
    return SOCKETS.fullmatch(source) is not None or _ABOVE_SOCKETS.fullmatch(source) is not None


def binds_of(mounts: Any) -> list[tuple[str, str, bool]] | None:
    """(source, destination, read only) of the folders and files of the node that are mounted."""
    rows = _rows(mounts)
    if rows is None:
        return None
    found = []
    for row in rows:
        options = [word for word in row["options"] if isinstance(word, str)] if isinstance(row.get("options"), list) else []
        source, destination = _text(row.get("source")), _text(row.get("destination"))
        if (row.get("type") == "bind" or "bind" in options or "rbind" in options) and source and destination:
            source = "/" + "/".join(part for part in source.split("/") if part not in ("", "."))
            found.append((source, destination, bool({"ro", "rro"} & set(options))))
    return found


def _gpu(values: Mapping[str, Any], mounts: list[tuple[str, str, bool]] | None) -> bool | None:
    """Whether a container has GPUs: device files, their mounts, or NVIDIA's hook, which adds them at the start."""
    devices, hooks = _rows(values.get("linux.devices", [])), _rows(values.get("hooks.prestart", []))
    paths = [str(row.get("path")) for row in [*(devices or ()), *(hooks or ())]] + [source for source, _, _ in mounts or ()]
    if any(re.match(r"/dev/(?:nvidia|dri/|kfd$|accel)|.*/nvidia-container-(?:runtime-hook|toolkit)$", path) for path in paths):
        return True
    return None if devices is None or hooks is None or mounts is None else False


def mounted(binds: list[tuple[str, str, bool]] | None) -> dict[str, Any]:
    """The fields of a `Spec` that tell of mounts."""
    if binds is None:
        return {"binds": None, "sensitive": None, "socket": None}
    return {
        "binds": [f"{source}:{to}:{'ro' if only else 'rw'}" for source, to, only in binds],
        "sensitive": sorted({source for source, _, only in binds if is_sensitive(source, only)}),
        "socket": any(is_socket(source) for source, _, _ in binds),
    }


def understood(values: Mapping[str, Any]) -> Spec:
    """What the kept parts of a specification say. Never raises."""
    user = values.get("process.user")
    uid = user.get("uid") if isinstance(user, dict) else None
    uid = uid if type(uid) is int else None
    held, devices = capabilities(values.get("process.capabilities")), all_devices(values.get("linux.resources.devices"))
    mounts = binds_of(values.get("mounts"))
    namespaces = _namespaces(values.get("linux.namespaces"))
    plain = namespaces is not None  # a specification without namespaces was not read whole
    return Spec(
        user=None if uid is None else str(uid),
        uid=uid,
        privileged=None if held is None else False if not held >= _ALL else devices,
        namespaces=namespaces,
        user_namespace=None if namespaces is None else "user" in namespaces,
        capabilities=None if held is None else sorted(held - DEFAULT_CAPABILITIES),
        seccomp=_text(values.get("linux.seccomp.defaultAction")) or ("unconfined" if plain else None),
        apparmor=_text(values.get("process.apparmorProfile")) or ("" if plain else None),
        selinux=_text(values.get("process.selinuxLabel")) or ("" if plain else None),
        no_new_privileges=values.get("process.noNewPrivileges", False) is True if plain else None,
        readonly_root=values.get("root.readonly", False) is True if plain else None,
        gpu=_gpu(values, mounts),
        labels={key: text for key, names in NAMES.items() for name in reversed(names) if (text := _text(values.get(name)))},
        **mounted(mounts),
    )
