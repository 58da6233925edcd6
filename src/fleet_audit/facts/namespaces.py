# SPDX-License-Identifier: Apache-2.0
"""Listening sockets of other network namespaces, those of containers above all, which the host's own tables do not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.network import Row, all_told, sockets_of
from fleet_audit.facts.processes import PROCESSES, container_of, documents, unit_of
from fleet_audit.model import Source, SourceId

NAMESPACES = Source(
    SourceId("namespace-sockets"), "sockets", {"namespaces": True},
    "proc_net(5) of a process in each other network namespace, network_namespaces(7). A namespace without a process is not seen.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class NamespaceSocket:
    """A socket that takes connections from anyone who reaches another network namespace, and who holds it. Source: /proc/PID/net."""

    proto: Annotated[str, "tcp or udp"]
    address: Annotated[str, "Address in its usual form, within the namespace; 0.0.0.0 or :: for all"]
    port: Annotated[int, "Port number; a container's runtime may publish it under another one"]
    scope: Annotated[str, "How far the address reaches: loopback, link-local, private, public or all"]
    uid: Annotated[int, "User who opened it"]
    namespace: Annotated[str, "Number of the network namespace, as in `readlink /proc/PID/ns/net`"]
    process: Annotated[str | None, "Command name, at most 15 characters; NULL: no holder was seen"]
    program: Annotated[str | None, "Path of the program, as its own mount namespace shows it"]
    container: Annotated[str | None, "Id of the container, from the holder's control group; NULL: none, or not told"]
    unit: Annotated[str | None, "systemd unit, from the same"]


def sockets_within(evidence: Bundle) -> list[Row]:
    """The sockets of the other namespaces; namespaces and holders that could not be looked at are gaps."""
    rows, document = sockets_of(evidence, NAMESPACES), evidence.document(NAMESPACES)
    all_told(evidence, NAMESPACES, "namespaces_gap", "owners_gap")
    spaces = document.get("namespaces")
    if not isinstance(spaces, list):
        raise NotUnderstood(f"{NAMESPACES.id}: no list of namespaces")
    if len(spaces) > 1000:
        evidence.gap(NAMESPACES, f"{len(spaces)} network namespaces, of which 1000 were looked at")
    return rows


def parse(evidence: Bundle) -> Iterator[NamespaceSocket]:
    """A row per socket and process that holds it; one without a holder has one row."""
    sockets, groups = sockets_within(evidence), _groups(evidence)
    try:
        rows = {row: None for socket in sockets for row in _rows(socket, groups)}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotUnderstood(f"{NAMESPACES.id}: {type(error).__name__}: {error}") from None
    yield from rows


def _groups(evidence: Bundle) -> dict[int, str | None]:
    """{process: its control group}; a gap where the processes were not read."""
    try:
        return {
            row["pid"]: row["cgroup"]
            for row in documents(evidence)
            if type(row.get("pid")) is int and isinstance(row.get("cgroup"), str | None)
        }
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(f"{error}: containers are not told")
        return {}


def _rows(socket: Row, groups: dict[int, str | None]) -> Iterator[NamespaceSocket]:
    """The rows of one socket; where no holder was seen, its namespace's process tells the container."""
    entry = socket[4]
    first = (*socket[:4], int(entry["uid"], 10), str(entry["namespace"]))
    for owner in entry["owners"] or [{"pid": entry["pid"], "comm": None, "exe": None}]:
        group = groups.get(owner["pid"])
        yield NamespaceSocket(*first, owner["comm"], owner["exe"], container_of(group), unit_of(group))


TABLES = (Table("namespace_sockets", NamespaceSocket, (NAMESPACES, PROCESSES), parse),)
