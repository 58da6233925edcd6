# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's daemons as they run: who they run as, and where their command lines make them listen. Packages and units are in their own tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.processes import PROCESSES, container_of, documents, unit_of
from fleet_audit.model import Source, SourceId

PIPES = Source(
    SourceId("mps-pipes"), "stat",
    {"globs": ["/tmp", "/tmp/nvidia-mps*", "/tmp/nvidia-mps*/control", "/run/nvidia/mps*", "/run/nvidia/mps*/control"]},
    "NVIDIA MPS documentation, CUDA_MPS_PIPE_DIRECTORY: folder of the pipes by which programs reach the MPS daemon, /tmp/nvidia-mps "
    "by default; another one may be set.",
)  # fmt: skip


@dataclass(frozen=True)
class NvidiaDaemon:
    """A running daemon of NVIDIA's; those that run in containers included. Source: /proc/PID; options as the programs' manuals have them."""

    kind: Annotated[str, "dcgm (host engine), dcgm-exporter, fabric-manager, imex, subnet-manager, persistenced, mps-control, mps-server, vgpu, "
                         "licence, device-plugin or mig-manager"]  # fmt: skip
    pid: Annotated[int, "Process id"]
    program: Annotated[str | None, "Path of the program; NULL if it may not be seen"]
    uid: Annotated[int, "User whose rights it has (effective)"]
    address: Annotated[
        str | None, "Where dcgm or dcgm-exporter listens: address of the option, ALL, or the default of dcgm; NULL: not told, or no TCP"
    ]
    port: Annotated[int | None, "TCP port beside it"]
    socket: Annotated[str | None, "UNIX socket in place of TCP"]
    config_file: Annotated[
        str | None, "Configuration file that the command line names: fabric-manager, imex; dcgm-exporter: its TLS and passwords"
    ]
    service_user: Annotated[str | None, "User that the command line tells it to become"]
    uvm_persistence: Annotated[bool | None, "persistenced: keeps unified memory initialised, which guests with confidential computing need"]
    container: Annotated[str | None, "Id of the container it runs in"]
    unit: Annotated[str | None, "systemd unit or slice that it belongs to"]


@dataclass(frozen=True)
class MpsPipe:
    """A folder or pipe of the CUDA Multi-Process Service in a usual place: who may enter shares the GPUs. Source: metadata."""

    path: Annotated[str, "Folder, or the control pipe in it"]
    type: Annotated[str, "dir, fifo, socket, link, file or other"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]


_KINDS = {
    "nv-hostengine": "dcgm", "dcgm-exporter": "dcgm-exporter", "nv-fabricmanager": "fabric-manager", "nvidia-imex": "imex",
    "nvlsm": "subnet-manager", "nvidia-persistenced": "persistenced", "nvidia-cuda-mps-control": "mps-control",
    "nvidia-cuda-mps-server": "mps-server", "nvidia-vgpu-mgr": "vgpu", "nvidia-gridd": "licence", "nvidia-device-plugin": "device-plugin",
    "nvidia-mig-manager": "mig-manager",
}  # fmt: skip
_CONFIG = {"fabric-manager": ("-c", "--config"), "imex": ("-c", "--config"), "dcgm-exporter": ("--web-config-file",)}
_USER = {"dcgm": ("--service-account",), "persistenced": ("-u", "--user")}


def option(argv: list[str], *names: str) -> str | None:
    """The value of an option of a command line, the last that is given; an empty text for an option without one."""
    found = None
    for position, word in enumerate(argv):
        name, equals, rest = word.partition("=")
        if name in names and equals:
            found = rest
        elif word in names:
            following = argv[position + 1 : position + 2]
            found = following[0] if following and not following[0].startswith("-") else ""
    return found


def _listening(kind: str, argv: list[str]) -> tuple[str | None, str | None, str | None]:
    """Address, port and socket. Source: nv-hostengine(1) for its defaults; dcgm-exporter's may be set by a variable that is not read."""
    if kind == "dcgm":
        socket = option(argv, "-d", "--domain-socket")
        if socket is not None:
            return None, None, socket or "/tmp/nv-hostengine"
        if option(argv, "--vsock-cid") is not None:
            return None, None, None
        return option(argv, "-b", "--bind-interface") or "127.0.0.1", option(argv, "-p", "--port") or "5555", None
    if kind == "dcgm-exporter" and (given := option(argv, "-a", "--address")):
        host, _, port = given.rpartition(":")
        return host.strip("[]") or "ALL", port, None
    return None, None, None


def parse_daemons(evidence: Bundle) -> Iterator[NvidiaDaemon]:
    """A row per process that is one of the known daemons."""
    for row in documents(evidence):
        try:
            kind = _KINDS.get(_name(row))
            if kind is None:
                continue
            argv = row["argv"][1:]
            address, port, socket = _listening(kind, argv)
            number = int(port) if port and port.isdecimal() else None
            if port and number is None:
                evidence.gap(PROCESSES, f"{kind} {row['pid']}: no port")
            yield NvidiaDaemon(
                kind, row["pid"], row["exe"], row["euid"], address, number, socket, option(argv, *_CONFIG.get(kind, ())) or None,
                option(argv, *_USER.get(kind, ())) or None, "--uvm-persistence-mode" in argv if kind == "persistenced" else None,
                container_of(row["cgroup"]), unit_of(row["cgroup"]),
            )  # fmt: skip
        except (KeyError, TypeError, AttributeError, IndexError):
            evidence.gap(PROCESSES, "a process that is not understood")


def _name(row: dict[str, Any]) -> str:
    """The program's file name: by its path, else as it was called."""
    path = row["exe"] or row["argv"][0]
    return str(path).removesuffix(" (deleted)").rpartition("/")[2]


def parse_pipes(evidence: Bundle) -> Iterable[MpsPipe]:
    """A row per folder and control pipe."""
    there = evidence.entries(PIPES)
    if "/tmp" not in there:
        evidence.gap(PIPES, "no /tmp")
    for path, entry in there.items():
        if path == "/tmp":
            continue
        try:
            yield MpsPipe(path, entry["type"], entry["mode"], entry["uid"], entry["gid"])
        except KeyError:
            evidence.gap(PIPES, f"{path}: not understood")


TABLES = (Table("nvidia_daemons", NvidiaDaemon, (PROCESSES,), parse_daemons), Table("mps_pipes", MpsPipe, (PIPES,), parse_pipes))
