# SPDX-License-Identifier: Apache-2.0
"""Configuration of NVIDIA Fabric Manager (NVSwitches of one machine) and IMEX (NVLink between machines). What runs is in `nvidia_daemons`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, value
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.model import Source, SourceId, Status

_NODES_FILE = "/etc/nvidia-imex/nodes_config.cfg"
FABRIC_MANAGER = Source(
    SourceId("fabric-manager-config"), "file", {"paths": ["/usr/share/nvidia/nvswitch/fabricmanager.cfg"]},
    "Fabric Manager user guide, configuration options: `NAME=value` lines, read when the service starts.",
)  # fmt: skip
IMEX = Source(
    SourceId("imex-config"), "file", {"paths": ["/etc/nvidia-imex/config.cfg"]},
    "NVIDIA IMEX guide, IMEX Service Config Options: `NAME=value` lines. Keys and certificates stand there as paths or names of variables.",
)  # fmt: skip
NODES = Source(
    SourceId("imex-nodes"), "file", {"paths": [_NODES_FILE]},
    "NVIDIA IMEX guide, Node Configuration File: an IP address per line.",
)  # fmt: skip


@dataclass(frozen=True)
class FabricManager:
    """Fabric Manager's configuration file; no row: it is not there. Source: fabricmanager.cfg.

    What it does not set has its documented default. NULL: a value that is not understood.
    """

    fabric_mode: Annotated[int | None, "0 bare metal or full pass-through (default), 1 shared NVSwitch, 2 vGPU"]
    bind_interface: Annotated[str, "Address for its own traffic; 127.0.0.1 by default"]
    starting_port: Annotated[int | None, "First TCP port of its own traffic; 16000 by default"]
    command_bind: Annotated[str, "Address where its API listens, without authentication; 127.0.0.1 by default"]
    command_port: Annotated[int | None, "TCP port of its API; 6666 by default"]
    command_socket: Annotated[str, "UNIX socket of its API in place of TCP; empty: TCP"]
    stay_resident: Annotated[bool | None, "It keeps running after a failure to set up the fabric; not by default"]


@dataclass(frozen=True)
class Imex:
    """Configuration file of NVIDIA IMEX, which shares GPU memory between machines; no row: it is not there. Source: config.cfg.

    What it does not set has its documented default. NULL: a value that is not understood.
    """

    auth_encryption: Annotated[bool | None, "Nodes authenticate each other and encrypt; not by default"]
    auth_mode: Annotated[
        str,
        "SSL_TLS, GSS_AUTH_ENCRYPT or GSS_AUTH_ONLY (no encryption), which counts with auth_encryption alone; "
        "empty: not set, and with auth_encryption it then does not start",
    ]
    bind_interface: Annotated[str, "Address for traffic between nodes; empty: the node's own in the list of nodes"]
    server_port: Annotated[int | None, "TCP port of traffic between nodes; 50000 by default"]
    nodes_file: Annotated[str, "File that lists the nodes of the domain"]
    command_enabled: Annotated[bool | None, "Its command service is on; not by default"]
    command_bind: Annotated[str, "Address of the command service on TCP; 0.0.0.0, all addresses, where none is set"]
    command_port: Annotated[int | None, "TCP port of the command service; 0: none"]
    command_socket: Annotated[str, "UNIX socket of the command service; empty: none"]


@dataclass(frozen=True)
class ImexNode:
    """A node that IMEX trusts with this one's GPU memory; no rows: there is no list. Source: nodes_config.cfg."""

    address: Annotated[str, "IP address as listed"]


_LINE = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")
_SWITCH = {"0": False, "1": True}


class _Settings:
    """`NAME=value` lines of a file."""

    def __init__(self, evidence: Bundle, source: Source) -> None:
        self.evidence, self.source = evidence, source
        self.values: dict[str, str] = {}
        for line in whole_lines(evidence, source).splitlines():
            found = _LINE.fullmatch(line.strip())
            if found is None:
                if line.strip() and not line.strip().startswith("#"):
                    evidence.gap(source, "a line that is no setting")
                continue
            if self.values.setdefault(found[1], found[2].strip()) != found[2].strip():
                evidence.gap(source, f"{found[1]} is set twice")
        if not self.values:
            raise NotUnderstood(f"{source.id}: no setting in it")

    def text(self, name: str) -> str | None:
        """A value; None where it is not set, or set to nothing, which is the same to both services."""
        return value(self.values.get(name, "").strip('"'))

    def number(self, name: str, default: int) -> int | None:
        number, text = integer(self.text(name)), self.text(name)
        if text is not None and number is None:
            self.evidence.gap(self.source, f"{name}: not a number")
        return default if text is None else number

    def switch(self, name: str) -> bool | None:
        """A setting that is off unless it is set."""
        text = self.text(name) or "0"
        if text not in _SWITCH:
            self.evidence.gap(self.source, f"{name}: neither 0 nor 1")
        return _SWITCH.get(text)


def _there(evidence: Bundle, source: Source) -> bool:
    return evidence.item(source).status is not Status.ABSENT


def parse_fabric_manager(evidence: Bundle) -> Iterator[FabricManager]:
    """One row if the file is there."""
    if _there(evidence, FABRIC_MANAGER):
        found = _Settings(evidence, FABRIC_MANAGER)
        yield FabricManager(
            found.number("FABRIC_MODE", 0), found.text("BIND_INTERFACE_IP") or "127.0.0.1", found.number("STARTING_TCP_PORT", 16000),
            found.text("FM_CMD_BIND_INTERFACE") or "127.0.0.1", found.number("FM_CMD_PORT_NUMBER", 6666),
            found.text("FM_CMD_UNIX_SOCKET_PATH") or "", found.switch("FM_STAY_RESIDENT_ON_FAILURES"),
        )  # fmt: skip


def parse_imex(evidence: Bundle) -> Iterator[Imex]:
    """One row if the file is there."""
    if _there(evidence, IMEX):
        found = _Settings(evidence, IMEX)
        yield Imex(
            found.switch("IMEX_ENABLE_AUTH_ENCRYPTION"), found.text("IMEX_AUTH_ENCRYPTION_MODE") or "", found.text("BIND_INTERFACE_IP") or "",
            found.number("SERVER_PORT", 50000), found.text("IMEX_NODE_CONFIG_FILE") or _NODES_FILE, found.switch("IMEX_CMD_ENABLED"),
            found.text("IMEX_CMD_BIND_INTERFACE_IP") or "0.0.0.0", found.number("IMEX_CMD_PORT", 0),
            found.text("IMEX_CMD_UNIX_DOMAIN_PATH") or "",
        )  # fmt: skip


def parse_imex_nodes(evidence: Bundle) -> Iterable[ImexNode]:
    """A row per node; a list elsewhere, as the configuration may name it, makes the table partial."""
    elsewhere = next((row.nodes_file for row in parse_imex(evidence)), _NODES_FILE)
    if elsewhere != _NODES_FILE:
        evidence.gap(IMEX, f"the nodes are listed in {elsewhere[:200]}, which is not read")
    if not _there(evidence, NODES):
        return
    for line in whole_lines(evidence, NODES).splitlines():
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        try:
            ip_address(text.partition("%")[0])
        except ValueError:
            evidence.gap(NODES, "a line that is no address")
            continue
        yield ImexNode(text)


TABLES = (
    Table("fabric_manager", FabricManager, (FABRIC_MANAGER,), parse_fabric_manager),
    Table("imex", Imex, (IMEX,), parse_imex),
    Table("imex_nodes", ImexNode, (IMEX, NODES), parse_imex_nodes),
)
