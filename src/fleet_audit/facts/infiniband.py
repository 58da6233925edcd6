# SPDX-License-Identifier: Apache-2.0
"""RDMA as the kernel shows it: ports, partitions of InfiniBand, device files. What the fabric's switches enforce it cannot see."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table, Unread, value
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.model import Source, SourceId

_CLASS = "/sys/class/infiniband"
PORTS = Source(
    SourceId("rdma-ports"), "attrs",
    {"globs": [f"{_CLASS}/*/ports/*"], "names": ["state", "phys_state", "rate", "link_layer", "lid", "sm_lid", "cap_mask"]},
    "Kernel documentation, ABI/stable/sysfs-class-infiniband: `4: ACTIVE`, `5: LinkUp`, `400 Gb/sec (4X NDR)`; LIDs and masks in hex.",
)  # fmt: skip
PKEYS = Source(
    SourceId("rdma-pkeys"), "files", {"globs": [f"{_CLASS}/*/ports/*/pkeys/*"], "cap_each": 64},
    "Kernel documentation, ABI/stable/sysfs-class-infiniband: a table of partition keys, unused places 0x0000; the highest bit is"
    " full membership (InfiniBand Architecture Specification, volume 1, 10.9).",
)  # fmt: skip
FILES = Source(
    SourceId("rdma-files"), "stat", {"globs": ["/dev", "/dev/infiniband/*"]},
    "Kernel documentation, infiniband/user_mad and user_verbs: umad and issm are for managing the fabric, uverbs and rdma_cm for programs.",
)  # fmt: skip
NAMESPACES = Source(
    SourceId("rdma-namespaces"), "attrs", {"globs": ["/sys/module/ib_core/parameters"], "names": ["netns_mode"]},
    "rdma-system(8): Y, all network namespaces share the devices; N, each has its own.",
)  # fmt: skip


@dataclass(frozen=True)
class RdmaPort:
    """A port of an RDMA device. No rows: the node has none. Source: /sys/class/infiniband."""

    device: Annotated[str, "RDMA device, such as mlx5_0"]
    port: Annotated[int, "Number of the port, from 1"]
    link_layer: Annotated[str | None, "InfiniBand or Ethernet (RoCE, iWARP)"]
    state: Annotated[str | None, "ACTIVE, INIT (no subnet manager), ARMED, DOWN, ..."]
    physical_state: Annotated[str | None, "LinkUp, Polling, Disabled, ..."]
    rate: Annotated[str | None, "Such as `400 Gb/sec (4X NDR)`"]
    lid: Annotated[int | None, "Its address in the subnet; 0: none, as on Ethernet"]
    manager_lid: Annotated[int | None, "Address of the subnet manager that rules it; 0: none"]
    is_manager: Annotated[bool | None, "A subnet manager runs on this node, on this port"]


@dataclass(frozen=True)
class InfinibandPartition:
    """A partition that a port of InfiniBand belongs to. No rows: no such port. Source: /sys/class/infiniband, pkeys."""

    device: Annotated[str, "RDMA device"]
    port: Annotated[int, "Number of the port"]
    pkey: Annotated[str, "Partition key without the bit for membership, such as 0x7fff, the default partition"]
    full: Annotated[bool, "Full member: it may talk to all; limited ones to full ones only"]


@dataclass(frozen=True)
class RdmaDeviceFile:
    """A device file of RDMA. No rows: none is there. Source: /dev/infiniband."""

    path: Annotated[str, "Path"]
    kind: Annotated[str, "umad, issm, uverbs, rdma_cm or another name without its number"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]


@dataclass(frozen=True)
class RdmaNamespaces:
    """Whether network namespaces share RDMA devices. No row: ib_core is not loaded, or of a kernel before 5.2, which shares.

    Source: the parameter netns_mode.
    """

    shared: Annotated[bool, "All of them see all devices, containers too"]


def _port(path: str) -> tuple[str, int] | None:
    match = re.fullmatch(rf"{_CLASS}/([^/]+)/ports/(\d{{1,3}})(?:/pkeys/\d+)?", path)
    return (match[1], int(match[2])) if match else None


def _sysfs(evidence: Bundle) -> None:
    if "/sys/class" not in evidence.entries(SYSFS):
        raise Unread(f"{SYSFS.id}: no /sys/class")


def parse_ports(evidence: Bundle) -> Iterable[RdmaPort]:
    """A row per port; none is proved by sysfs being there."""
    ports = evidence.entries(PORTS)
    if not ports:
        _sysfs(evidence)
    for path, entry in ports.items():
        if (name := _port(path)) is None:
            evidence.gap(PORTS, f"{path} is no port")
            continue
        texts = {key: _text(evidence, path, entry, key) for key in PORTS.args["names"]}
        mask = _hex(evidence, path, texts, "cap_mask")
        yield RdmaPort(
            *name, texts["link_layer"], _word(texts["state"]), _word(texts["phys_state"]), texts["rate"],
            _hex(evidence, path, texts, "lid"), _hex(evidence, path, texts, "sm_lid"), None if mask is None else bool(mask & 2),
        )  # fmt: skip


def _text(evidence: Bundle, path: str, entry: dict[str, Any], name: str) -> str | None:
    content = entry.get(name)
    if not isinstance(content, str):
        evidence.gap(PORTS, f"{path}/{name} was not read")
        return None
    return value(content)


def _word(text: str | None) -> str | None:
    """`4: ACTIVE` without its number."""
    return (text and text.partition(": ")[2]) or text


def _hex(evidence: Bundle, path: str, texts: dict[str, str | None], name: str) -> int | None:
    text = texts[name]
    if text is None or not re.fullmatch(r"0x[0-9a-f]{1,8}", text):
        if text is not None:
            evidence.gap(PORTS, f"{path}/{name} is no hex number")
        return None
    return int(text, 16)


def parse_partitions(evidence: Bundle) -> Iterable[InfinibandPartition]:
    """A row per port and key; Ethernet has none, though a table with the default key."""
    layers = {path: entry.get("link_layer") for path, entry in evidence.entries(PORTS).items()}
    if not layers:
        _sysfs(evidence)
    found: set[tuple[str, int, int]] = set()
    read: set[str] = set()
    for path, entry in evidence.entries(PKEYS).items():
        port, name, text = path.rpartition("/pkeys/")[0], _port(path), entry.get("text")
        if name is None or port not in layers or not isinstance(text, str) or not re.fullmatch(r"0x[0-9a-f]{4}\s*", text):
            evidence.gap(PKEYS, f"{path} is not understood")
            continue
        read.add(port)
        if layers[port] == "InfiniBand" and (key := int(text, 16)) & 0x7FFF:
            found.add((*name, key))
    for port, layer in layers.items():
        if layer not in ("Ethernet", "InfiniBand") or (layer == "InfiniBand" and port not in read):
            evidence.gap(PKEYS, f"{port}: its keys or its link layer were not read")
    for device, number, key in sorted(found):
        yield InfinibandPartition(device, number, f"0x{key & 0x7FFF:04x}", bool(key & 0x8000))


def parse_files(evidence: Bundle) -> Iterable[RdmaDeviceFile]:
    """A row per device file."""
    there = evidence.entries(FILES)
    if "/dev" not in there:
        raise Unread(f"{FILES.id}: no /dev")
    for path, entry in there.items():
        if path.startswith("/dev/infiniband/") and entry.get("type") == "char":
            kind = re.sub(r"\d+$", "", path.rpartition("/")[2])
            yield RdmaDeviceFile(path, kind, entry.get("mode"), entry.get("uid"), entry.get("gid"))  # type: ignore[arg-type]  # None: a gap


def parse_namespaces(evidence: Bundle) -> Iterable[RdmaNamespaces]:
    """One row where ib_core is loaded, which its folder of parameters shows."""
    mode = evidence.entries(NAMESPACES).get("/sys/module/ib_core/parameters", {}).get("netns_mode")
    if mode is None:
        _sysfs(evidence)
        return []
    shared = {"Y": True, "N": False}.get(mode) if isinstance(mode, str) else None
    if shared is None:
        raise Unread(f"{NAMESPACES.id}: netns_mode was not read or not understood")
    return [RdmaNamespaces(shared)]


TABLES = (
    Table("rdma_ports", RdmaPort, (PORTS, SYSFS), parse_ports),
    Table("infiniband_partitions", InfinibandPartition, (PORTS, PKEYS, SYSFS), parse_partitions),
    Table("rdma_device_files", RdmaDeviceFile, (FILES,), parse_files),
    Table("rdma_namespaces", RdmaNamespaces, (NAMESPACES, SYSFS), parse_namespaces),
)
