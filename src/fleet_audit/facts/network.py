# SPDX-License-Identifier: Apache-2.0
"""Listening sockets of the host's network namespace. It cannot see those of containers, nor a firewall outside."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer
from fleet_audit.model import Source, SourceId

SOCKETS = Source(
    SourceId("sockets"), "sockets", {},
    "proc_net(5) tcp, tcp6, udp and udp6: what listens, or receives from anyone, with the processes that hold it.",
    needs_root=True,
)  # fmt: skip
_SCOPES = "loopback, link-local, private, public or all"


@dataclass(frozen=True)
class Socket:
    """A socket that takes connections or datagrams from anyone. Source: /proc/net."""

    proto: Annotated[str, "tcp or udp"]
    address: Annotated[str, "Address in its usual form; 0.0.0.0 or :: for all"]
    port: Annotated[int, "Port number"]
    scope: Annotated[str, f"How far the address reaches: {_SCOPES}"]
    uid: Annotated[int, "User who opened it"]


@dataclass(frozen=True)
class SocketOwner:
    """A process that holds such a socket. Source: the descriptors in /proc."""

    proto: Annotated[str, "tcp or udp"]
    address: Annotated[str, "Address of the socket"]
    port: Annotated[int, "Port of the socket"]
    scope: Annotated[str, f"How far the address reaches: {_SCOPES}"]
    kernel: Annotated[bool, "The kernel itself has it, as NFS and WireGuard do: no process holds it, and all were looked at"]
    process: Annotated[str | None, "Command name, at most 15 characters; NULL for the kernel's, or if it may not be seen"]
    program: Annotated[str | None, "Path of the program; ends with ` (deleted)` if its file is gone"]


def address_of(text: str) -> tuple[str, int]:
    """Address and port of a local_address of /proc/net, a little-endian machine's.

    Raises `ValueError` for what is none.
    """
    host, colon, port = text.partition(":")
    raw = bytes.fromhex(host)
    if not colon or len(raw) not in (4, 16):
        raise ValueError(text)
    words = [raw[i : i + 4][::-1] for i in range(0, len(raw), 4)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address), int(port, 16)


def scope(text: str) -> str:
    """How far an address reaches."""
    address = ipaddress.ip_address(text)
    if address.is_unspecified:
        return "all"
    if address.is_loopback:
        return "loopback"
    if address.is_link_local:
        return "link-local"
    # Shared address space (RFC 6598: carriers, clouds' and VPNs' inner networks) is neither private nor reachable from everywhere.
    return "public" if address.is_global else "private"


Row = tuple[str, str, int, str, dict[str, Any]]
"""(protocol, address, port, how far it reaches, the reader's entry)"""


def sockets_of(evidence: Bundle, source: Source) -> list[Row]:
    """The sockets that the reader tells of; tables of /proc/net that it could not read are gaps."""
    document = evidence.document(source)
    try:
        sockets, unread = document["sockets"], document["unread"]
        for kind in sorted(unread):
            # IPv6 may be off: its files are not there, and nothing listens there.
            if not (kind.endswith("6") and unread[kind]["status"] == "absent"):
                evidence.gap(source, f"/proc/net/{kind} {unread[kind]['status']}")
        places = [(entry["kind"].rstrip("6"), *address_of(entry["local"]), entry) for entry in sockets]
        return [(proto, address, port, scope(address), entry) for proto, address, port, entry in places]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotUnderstood(f"{source.id}: {type(error).__name__}: {error}") from None


def all_told(evidence: Bundle, source: Source, *names: str) -> bool:
    """Whether the reader says that it looked at all holders, or at all of `names`; what it says instead is a gap."""
    document, known = evidence.document(source), len(evidence.gaps)
    for name in names or ("owners_gap",):
        if not isinstance(document, dict) or name not in document:
            raise NotUnderstood(f"{source.id}: without {name}")
        if document[name]:
            evidence.gap(source, str(document[name]))
    return len(evidence.gaps) == known


def parse_sockets(evidence: Bundle) -> Iterable[Socket]:
    """A row per socket."""
    for proto, address, port, reach, entry in sockets_of(evidence, SOCKETS):
        uid = integer(entry.get("uid"))
        if uid is None:
            evidence.gap(SOCKETS, "a socket without its user")
        else:
            yield Socket(proto, address, port, reach, uid)


def parse_owners(evidence: Bundle) -> Iterable[SocketOwner]:
    """A row per socket and process; a socket without one is the kernel's if all processes were looked at."""
    rows, whole = sockets_of(evidence, SOCKETS), all_told(evidence, SOCKETS)
    for proto, address, port, reach, entry in rows:
        owners = entry.get("owners")
        if not isinstance(owners, list) or not all(isinstance(owner, dict) for owner in owners):
            raise NotUnderstood("sockets: owners are not a list of objects")
        if not owners and whole:
            yield SocketOwner(proto, address, port, reach, True, None, None)
        seen = {(owner.get("comm"), owner.get("exe")) for owner in owners}
        for comm, exe in sorted(seen, key=repr):
            yield SocketOwner(proto, address, port, reach, False, comm, exe)


TABLES = (
    Table("sockets", Socket, (SOCKETS,), parse_sockets),
    Table("socket_owners", SocketOwner, (SOCKETS,), parse_owners),
)
