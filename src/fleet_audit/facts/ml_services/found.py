# SPDX-License-Identifier: Apache-2.0
"""Which services run or listen: processes matched with what is known of each, and the sockets that they hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.ml_services.auth import Process, auth, tls
from fleet_audit.facts.ml_services.config import Files
from fleet_audit.facts.ml_services.known import Known, by_port, identify, services
from fleet_audit.facts.namespaces import sockets_within
from fleet_audit.facts.network import SOCKETS, Row, all_told, scope, sockets_of
from fleet_audit.facts.processes import PROCESSES, container_of, documents, in_container
from fleet_audit.facts.texts import program_names


@dataclass(frozen=True)
class MlService:
    """A service of training or inference, a row for each of its sockets, one without an address where it has none.

    Source: command lines, sockets and their holders in /proc, matched with vendors' documentation (services.yaml). A port alone proves
    nothing: such a row says which service has it by default, and that its holder could not be told.
    """

    service: Annotated[str, "Service, such as jupyter, ray-dashboard or vllm"]
    name: Annotated[str, "Its name"]
    category: Annotated[str, "ml-compute, ml-serving, mlops, notebook, data, files, gpu, hpc or observability"]
    found_by: Annotated[str, "port and process, port and command, command, process, or port (not proved)"]
    pid: Annotated[int | None, "Process; the lowest where several hold a socket; NULL: not told"]
    process: Annotated[str | None, "Command name, at most 15 characters"]
    uid: Annotated[int | None, "User of the process"]
    contained: Annotated[bool | None, "It runs in a container; NULL: not told"]
    container: Annotated[str | None, "Id of the container, from the process's control group; NULL: `contained` tells whether there is none"]
    namespaced: Annotated[bool, "The socket is in another network namespace than the host's, as a container's"]
    namespace: Annotated[str | None, "Number of that network namespace; NULL unless `namespaced`"]
    proto: Annotated[str | None, "tcp or udp"]
    address: Annotated[str | None, "Address in its usual form; 0.0.0.0 or :: for all"]
    port: Annotated[int | None, "Port"]
    scope: Annotated[
        str | None,
        "How far the address reaches: loopback, link-local, private, public or all; none: it has no TCP or UDP socket; NULL: not told",
    ]
    auth: Annotated[bool | None, "It asks for a login; NULL: neither is proved"]
    auth_evidence: Annotated[str | None, "What says so: flag, variable, setting, or the vendor's default beside a readable command line"]
    auth_default: Annotated[str, "What the vendor's default is: none, yes or varies"]
    tls: Annotated[bool | None, "It encrypts, by its own flags; NULL: not told"]


@dataclass(frozen=True)
class Listener:
    """A socket with the processes that hold it."""

    proto: str
    address: str
    port: int
    namespace: str | None
    owners: tuple[tuple[int, str | None], ...]


_GENERIC = ("python", "pypy", "java", "node", "docker-proxy", "rootlessport", "rootlesskit", "uvicorn", "gunicorn", "hypercorn", "waitress-serve",
            "pt_main_thread", "slirp4netns", "pasta", "MainThread")  # fmt: skip
"""Holders of a socket that may be any service."""


def parse(evidence: Bundle) -> Iterator[MlService]:
    """A row per service and socket."""
    processes = _processes(evidence)
    listeners, all_told = _listeners(evidence)
    held: dict[int, list[Listener]] = {}
    for listener in listeners:
        for pid, _ in listener.owners:
            held.setdefault(pid, []).append(listener)
    is_a = {pid: identify(process.names, process.command) for pid, process in processes.items()}
    files, claimed = Files(evidence), set[Listener]()
    for known in services().values():
        mine = {pid: how[known.id] for pid, how in is_a.items() if known.id in how}
        seen, relatives = set[Listener](), set[int]()
        for pid in sorted(mine):
            for listener in held.get(pid, ()):
                relatives |= {pid, *_forebears(pid, processes)}
                if listener not in seen:
                    seen.add(listener)
                    yield _row(known, pid, mine, processes, listener, files)
        claimed |= seen
        for pid in sorted(mine):
            if pid not in relatives and not any(other in mine for other in _forebears(pid, processes)):
                yield _row(known, pid, mine, processes, None, files, "none" if all_told else None)
    for listener in listeners:
        if listener not in claimed:
            yield from _by_port(listener, processes, is_a)


def _processes(evidence: Bundle) -> dict[int, Process]:
    found = {}
    for row in documents(evidence):
        try:
            argv, env = row["argv"], row["env"]
            if not all(isinstance(word, str) for word in argv) or not all(type(row[name]) is int for name in ("pid", "ppid", "uid")):
                raise TypeError
            env = {str(name): str(text) for name, text in env.items()} if env is not None else None
            names = frozenset(name for name in program_names(row) if isinstance(name, str))
            cut = row.get("cut", "..." in argv)
            found[row["pid"]] = Process(
                row["pid"], row["ppid"], row["uid"], names, row["comm"], tuple(argv), not cut, env, container_of(row["cgroup"]), row["contained"],
                in_container(row),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            evidence.gap(PROCESSES, "a process that is not understood")
    return found


def _listeners(evidence: Bundle) -> tuple[list[Listener], bool]:
    """(the sockets of the host's and the other network namespaces, whether these are all and all holders are told)."""
    known, found = len(evidence.gaps), dict[Listener, None]()
    for read in (_of_host, sockets_within):
        try:
            found |= dict.fromkeys(_listener(socket) for socket in read(evidence))
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            evidence.gaps.append(f"a socket that is not understood: {type(error).__name__}")
    return list(found), len(evidence.gaps) == known


def _of_host(evidence: Bundle) -> list[Row]:
    all_told(evidence, SOCKETS)
    return sockets_of(evidence, SOCKETS)


def _listener(socket: Row) -> Listener:
    proto, address, port, _, entry = socket
    owners = tuple(sorted({owner["pid"]: owner["comm"] for owner in entry["owners"]}.items()))
    space = entry.get("namespace")
    return Listener(proto, address, port, None if space is None else str(space), owners)


def _forebears(pid: int, processes: Mapping[int, Process]) -> list[int]:
    """The parents of a process, nearest first."""
    found: list[int] = []
    while (process := processes.get(pid)) and process.parent in processes and process.parent not in found and len(found) < 20:
        pid = process.parent
        found.append(pid)
    return found


def _row(
    known: Known, pid: int, mine: Mapping[int, str], processes: Mapping[int, Process], listener: Listener | None, files: Files,
    without: str | None = None,
) -> MlService:  # fmt: skip
    process = processes[pid]
    line = [process, *(processes[other] for other in _forebears(pid, processes) if other in mine)]
    by_command = any(mine[one.pid] == "command" for one in line)
    asks, why = auth(known, line, by_command, files.say)
    found_by = f"port and {mine[pid]}" if listener and known.has_port(listener.port) else mine[pid]
    at = listener
    return MlService(
        known.id, known.name, known.category, found_by, pid, process.comm, process.uid, process.in_container,
        process.container, at is not None and at.namespace is not None, at.namespace if at else None,
        at.proto if at else None, at.address if at else None, at.port if at else None,
        scope(at.address) if at else without, asks, why,
        known.auth_default, tls(known, line, by_command),
    )  # fmt: skip


def _by_port(listener: Listener, processes: Mapping[int, Process], is_a: Mapping[int, Mapping[str, str]]) -> Iterator[MlService]:
    """Rows for a socket whose holder is not told, or is a program that may be anything."""
    pid, comm = listener.owners[0] if listener.owners else (None, None)
    process = processes.get(pid) if pid is not None else None
    if listener.proto != "tcp" or any(is_a.get(owner) for owner, _ in listener.owners):
        return
    names = process.names if process else {comm} if comm else set()
    if names and not any(name.startswith(_GENERIC) for name in names if name):
        return
    for known in by_port(listener.port):
        yield MlService(
            known.id, known.name, known.category, "port", pid, comm, process.uid if process else None,
            process.in_container if process else None, process.container if process else None, listener.namespace is not None, listener.namespace,
            listener.proto, listener.address, listener.port, scope(listener.address), None, None, known.auth_default, None,
        )  # fmt: skip
