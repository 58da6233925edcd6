# SPDX-License-Identifier: Apache-2.0
"""Container engines and runtimes on a node, and their sockets. It cannot know programs in folders of modules or users."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.packages import DPKG, RPM, Package, parse_packages
from fleet_audit.model import Source, SourceId, Status
from fleet_audit.versions import key

_FOLDERS = ("/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/snap/bin", "/opt/bin")
_PROGRAMS = {
    "dockerd": "docker", "containerd": "containerd", "runc": "runc", "crun": "crun", "podman": "podman", "crio": "cri-o",
    "apptainer": "apptainer", "singularity": "singularity", "enroot": "enroot", "kubelet": "kubelet", "k3s": "k3s", "rke2": "rke2",
}  # fmt: skip
_PACKAGES = (
    ("docker", r"docker-ce|docker\.io|moby-engine|docker-engine"), ("containerd", r"containerd|containerd\.io|moby-containerd"),
    ("runc", r"runc|moby-runc"), ("crun", r"crun"), ("podman", r"podman"), ("cri-o", r"cri-o(-[0-9.]+)?"), ("apptainer", r"apptainer"),
    ("singularity", r"singularity(-ce|-container)?"), ("enroot", r"enroot(-hardened)?"), ("kubelet", r"kubelet"), ("k3s", r"k3s"),
    ("rke2", r"rke2-(server|agent|common)"),
)  # fmt: skip

PROGRAMS = Source(
    SourceId("container-programs"), "stat",
    {"globs": [f"{folder}/{name}" for folder in _FOLDERS for name in _PROGRAMS]
              + ["/var/lib/rancher/*/data/*/bin/runc", "/var/lib/rancher/*/data/*/bin/containerd", "/var/lib/rancher/*/data/*/bin/kubelet",
                 "/var/lib/k0s/bin/runc", "/var/lib/k0s/bin/containerd", "/var/lib/k0s/bin/kubelet"]},
    "Programs of engines where packages, vendors' archives, k3s, RKE2 and k0s put them.",
)  # fmt: skip


def _asks(program: str) -> Source:
    return Source(
        SourceId(f"{program}-version"), "command", {"argv": [program, "--version"], "unprivileged": True},
        f"{program} --version: what the program that comes first on the path says of itself; it reads and writes nothing. "
        "Not asked: crun makes /run/crun, enroot is a shell script that makes folders, podman fails for nobody.",
        timeout_s=5.0, cap_bytes=16 << 10,
    )  # fmt: skip


VERSIONS = {name: _asks(name) for name in ("runc", "containerd", "dockerd", "crio", "apptainer", "singularity", "kubelet")}

_SOCKETS = {"docker.sock": "docker", "containerd.sock": "containerd", "crio.sock": "cri-o", "podman.sock": "podman"}
SOCKETS = Source(
    SourceId("container-sockets"), "stat",
    {"globs": [path for base in ("/run", "/run/containerd", "/run/docker/containerd", "/run/k3s/containerd", "/run/k0s", "/run/crio",
                                 "/run/podman", "/run/user/*", "/run/user/*/podman")
               for path in (base, *(f"{base}/{name}" for name in _SOCKETS))]},
    "Sockets by which an engine is told what to run, and their folders; those of users' own engines are in /run/user.",
)  # fmt: skip


@dataclass(frozen=True)
class ContainerRuntime:
    """A program that runs containers, or runs pods on a node. Source: package databases, the programs' files and words."""

    name: Annotated[str, "docker, containerd, runc, crun, podman, cri-o, apptainer, singularity, enroot, kubelet, k3s or rke2"]
    path: Annotated[str | None, "Its program; NULL: installed by a package, its file lies elsewhere"]
    package: Annotated[str | None, "Package that it is from; NULL: none is known, or a file outside the packages' folders"]
    package_version: Annotated[str | None, "Version of the package"]
    version: Annotated[str | None, "Version that the program tells; NULL: it was not asked, or another one comes first on the path"]
    version_key: Annotated[str | None, "Sortable key of it, kind `dotted`; NULL for a release candidate too"]


@dataclass(frozen=True)
class ContainerSocket:
    """A socket of a container engine; who may write to it is root on the node, or has its user's rights. Source: stat."""

    path: Annotated[str, "The socket"]
    engine: Annotated[str, "docker, containerd, cri-o or podman, by its name"]
    type: Annotated[str, "socket, link or file; a link or file is nobody's way in by itself"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    mode: Annotated[int, "Permission bits as a number: 432 is 0660"]
    others: Annotated[bool | None, "Others than owner and group may write to it, its folder allows it too; NULL for a link"]


def _packages(evidence: Bundle) -> dict[str, Package]:
    """{runtime: its package}; the Docker company's containerd.io holds runc too."""
    found: dict[str, Package] = {}
    for package in parse_packages(evidence):
        for name, pattern in _PACKAGES:
            if re.fullmatch(pattern, package.name) or (name == package.name == "docker" and package.manager == "rpm"):
                found[name] = package
    if "runc" not in found and "containerd" in found and found["containerd"].name == "containerd.io":
        found["runc"] = found["containerd"]
    return found


def _told(evidence: Bundle, program: str) -> tuple[str | None, str | None]:
    """(version, its key) in a program's own words."""
    source = VERSIONS[program]
    if evidence.item(source).status is Status.ABSENT or (text := evidence.line(source)) is None:
        return None, None
    match = re.search(r"(?:^|\s)v?([0-9]{1,9}(?:\.[0-9]{1,9}){1,3})([^\s,]{0,100})", text.partition("\n")[0][:500])
    if match is None:
        evidence.gap(source, "no version in what it says")
        return None, None
    unfinished = re.match(r"[-~.+]?(?:rc|beta|alpha|dev)", match[2])
    return match[1] + match[2], None if unfinished else key("dotted", match[1])


def parse_runtimes(evidence: Bundle) -> Iterator[ContainerRuntime]:
    """A row per program, then those of packages without one."""
    try:
        packages = _packages(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        packages = {}
    files = {path: entry for path, entry in evidence.entries(PROGRAMS).items() if path.rpartition("/")[2] in _PROGRAMS}
    seen: set[tuple[Any, ...]] = set()
    said, placed = set(), set()
    for path in sorted(files, key=lambda path: next((i for i, folder in enumerate(_FOLDERS) if path.startswith(folder + "/")), 9)):
        folder, _, program = path.rpartition("/")
        same = (program, files[path].get("size"), files[path].get("mtime"))
        target = posixpath.normpath(posixpath.join(folder, str(files[path].get("link")))) if files[path].get("type") == "link" else None
        if same in seen or target in files:  # one folder that has two names, as /usr/sbin of merged systems; or a link to a row
            continue
        seen.add(same)
        name = _PROGRAMS[program]
        packaged = folder in ("/usr/sbin", "/usr/bin")
        package = packages.get(name) if packaged and name not in placed else None
        placed |= {name} if packaged else set()
        first = program in VERSIONS and folder in _FOLDERS[:5] and program not in said
        said |= {program} if first else set()
        version, sortable = _told(evidence, program) if first else (None, None)
        known = (package.name, package.version) if package else (None, None)
        yield ContainerRuntime(name, path, known[0], known[1], version, sortable)
    for name, package in sorted(packages.items()):
        if name not in placed:
            yield ContainerRuntime(name, None, package.name, package.version, None, None)


def parse_sockets(evidence: Bundle) -> Iterable[ContainerSocket]:
    """A row per socket that is there."""
    there = evidence.entries(SOCKETS)
    for path, entry in there.items():
        folder, _, name = path.rpartition("/")
        if name not in _SOCKETS or entry.get("type") == "dir":
            continue
        mode, around = entry.get("mode"), there.get(folder, {}).get("mode")
        if type(mode) is not int or type(entry.get("uid")) is not int or type(entry.get("gid")) is not int:
            evidence.gap(SOCKETS, f"{path} is not understood")
            continue
        others = None
        if entry.get("type") == "socket":
            others = False if not mode & 2 else None if type(around) is not int else bool(around & 1)
        yield ContainerSocket(path, _SOCKETS[name], str(entry.get("type")), entry["uid"], entry["gid"], mode, others)


TABLES = (
    Table("container_runtimes", ContainerRuntime, (DPKG, RPM, PROGRAMS, *VERSIONS.values()), parse_runtimes),
    Table("container_sockets", ContainerSocket, (SOCKETS,), parse_sockets),
)
