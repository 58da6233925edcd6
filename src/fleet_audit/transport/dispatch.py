# SPDX-License-Identifier: Apache-2.0
"""Chooses the transport of each host, says why, and opens each transport once."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterable, Iterator

from fleet_audit.model import FleetAuditError, Host
from fleet_audit.transport.interface import Carried, Conversation, Transport


def choose(host: Host) -> tuple[str, str]:
    """(name of the transport, why that one). Raises `FleetAuditError` if the SSH settings are broken."""
    if host.connection != "ssh":
        return host.connection, "the inventory says so"
    from fleet_audit.transport.knownhosts import on_file
    from fleet_audit.transport.settings import hop_settings, resolve, with_known_hosts

    settings = resolve(host)
    settings, _ = with_known_hosts(settings, on_file(settings.known_hosts_files))
    if settings.needs_openssh:
        return "openssh", settings.needs_openssh
    for number, hop in enumerate(settings.proxy_jump):
        of_hop = hop_settings(host, hop, settings.proxy_jump[:number])
        of_hop, _ = with_known_hosts(of_hop, on_file(of_hop.known_hosts_files))
        if of_hop.needs_openssh:
            return "openssh", f"jump host {hop.host}: {of_hop.needs_openssh}"
    return "paramiko", "default"


class Dispatch:
    """All transports of a run behind one operation."""

    def __init__(self) -> None:
        self._open: dict[str, Transport] = {}
        self._lock = threading.Lock()

    def transport(self, name: str) -> Transport:
        """The transport of a name, opened when first asked for."""
        with self._lock:
            if name not in self._open:
                self._open[name] = importlib.import_module(f"fleet_audit.transport.{name}").open_transport()
            return self._open[name]

    def arrivals(self, hosts: Iterable[Host], ahead: int) -> Iterator[tuple[Host, str]]:
        """Hosts with the name of their transport, in the order in which they can be carried to."""
        later: list[Host] = []
        for host in hosts:
            try:
                name, _ = choose(host)
            except FleetAuditError:
                name = "paramiko"  # carrying it says what is wrong
            if name == "paramiko":
                later.append(host)
            else:
                yield host, name
        if later:
            from fleet_audit.transport.paramiko import Paramiko

            paramiko = self.transport("paramiko")
            assert isinstance(paramiko, Paramiko)
            for host in paramiko.arrivals(later, ahead):
                yield host, "paramiko"

    def carry(self, name: str, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """Carry one conversation with the named transport."""
        return self.transport(name).carry(host, line, talk, deadline)

    def close(self) -> None:
        """Close all that were opened."""
        for transport in self._open.values():
            transport.close()
