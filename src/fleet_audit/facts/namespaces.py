# SPDX-License-Identifier: Apache-2.0
"""Listening sockets of other network namespaces, those of containers above all, which the host's own tables do not show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.network import address_of, scope
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


def parse(evidence: Bundle) -> Iterator[NamespaceSocket]:
    """A row per socket and process that holds it; one without a holder has one row."""
    document = evidence.document(NAMESPACES)
    groups = _groups(evidence)
    try:
        spaces = document["namespaces"]
        for reason in (document["namespaces_gap"], document["owners_gap"]):
            if reason:
                evidence.gap(NAMESPACES, str(reason))
        if len(spaces) > 1000:
            evidence.gap(NAMESPACES, f"{len(spaces)} network namespaces, of which 1000 were looked at")
        sockets = document["sockets"]
        if not isinstance(spaces, list) or not isinstance(sockets, list):
            raise NotUnderstood(f"{NAMESPACES.id}: no lists")
        rows = {row: None for entry in sockets for row in _rows(entry, groups)}
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


def _rows(entry: dict[str, Any], groups: dict[int, str | None]) -> Iterator[NamespaceSocket]:
    """The rows of one socket; where no holder was seen, its namespace's process tells the container."""
    address, port = address_of(entry["local"])
    first = (entry["kind"].rstrip("6"), address, port, scope(address), int(entry["uid"], 10), str(entry["namespace"]))
    for owner in entry["owners"] or [{"pid": entry["pid"], "comm": None, "exe": None}]:
        group = groups.get(owner["pid"])
        yield NamespaceSocket(*first, owner["comm"], owner["exe"], container_of(group), unit_of(group))


TABLES = (Table("namespace_sockets", NamespaceSocket, (NAMESPACES, PROCESSES), parse),)
