# SPDX-License-Identifier: Apache-2.0
"""What keeps devices from reading and writing memory: the IOMMU, and Thunderbolt's security."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table, Unread, integer, value
from fleet_audit.model import Source, SourceId

UNITS = Source(
    SourceId("iommu-units"), "stat", {"globs": ["/sys/kernel", "/sys/bus", "/sys/class/iommu/*"]},
    "Kernel documentation, ABI/testing/sysfs-class-iommu: an entry for each unit that the kernel uses, such as dmar0, ivhd0 or smmu3.",
)  # fmt: skip
GROUPS = Source(
    SourceId("iommu-groups"), "attrs", {"globs": ["/sys/kernel/iommu_groups/*"], "names": ["type"]},
    "Kernel documentation, ABI/testing/sysfs-kernel-iommu_groups: the type of translation, since 5.11.",
)  # fmt: skip
MEMBERS = Source(
    SourceId("iommu-devices"), "stat", {"globs": ["/sys/kernel/iommu_groups/*/devices/*"]},
    "Kernel documentation, ABI/testing/sysfs-kernel-iommu_groups: the devices of each group.",
)  # fmt: skip
THUNDERBOLT = Source(
    SourceId("thunderbolt-domains"), "attrs",
    {"globs": ["/sys/bus/thunderbolt/devices/domain*"], "names": ["security", "iommu_dma_protection"]},
    "Kernel documentation, admin-guide/thunderbolt and ABI/testing/sysfs-bus-thunderbolt.",
)  # fmt: skip


@dataclass(frozen=True)
class IommuUnit:
    """An IOMMU that the kernel uses. No rows: none is on, or the node has none. Source: /sys/class/iommu."""

    name: Annotated[str, "Such as dmar0 (Intel), ivhd0 (AMD) or smmu3.0x... (arm)"]


@dataclass(frozen=True)
class IommuGroup:
    """Devices that the IOMMU cannot keep apart from each other. No rows: no IOMMU is on. Source: /sys/kernel/iommu_groups."""

    number: Annotated[int, "Number of the group"]
    type: Annotated[str | None, "DMA or DMA-FQ: translated; identity: not at all; blocked, ...; NULL: kernels before 5.11 do not tell"]
    devices: Annotated[list[str], "PCI addresses or other names of its devices"]


@dataclass(frozen=True)
class ThunderboltDomain:
    """A Thunderbolt or USB4 controller. No rows: none that the kernel drives. Source: /sys/bus/thunderbolt."""

    domain: Annotated[str, "Such as domain0"]
    security: Annotated[str | None, "none, user, secure, dponly, usbonly or nopcie: which devices get PCIe"]
    iommu_protection: Annotated[bool | None, "The IOMMU guards memory against them, from boot on; NULL: kernels before 4.21 do not tell"]


def _sysfs(evidence: Bundle, path: str) -> dict[str, Any]:
    there = evidence.entries(UNITS)
    if path not in there:
        raise Unread(f"{UNITS.id}: no {path}")
    return there


def parse_units(evidence: Bundle) -> Iterable[IommuUnit]:
    """A row per unit; none is proved by sysfs being there."""
    for path in _sysfs(evidence, "/sys/kernel"):
        if path.startswith("/sys/class/iommu/"):
            yield IommuUnit(path.rpartition("/")[2])


def parse_groups(evidence: Bundle) -> Iterable[IommuGroup]:
    """A row per group."""
    _sysfs(evidence, "/sys/kernel")
    devices: dict[str, list[str]] = {}
    for path in evidence.entries(MEMBERS):
        group, _, name = path.rpartition("/devices/")
        devices.setdefault(group, []).append(name)
    groups = evidence.entries(GROUPS)
    for path in sorted({*groups, *devices}, key=lambda path: (len(path), path)):
        kind, number = groups.get(path, {}).get("type"), integer(path.rpartition("/")[2])
        if number is None or not isinstance(kind, str | None) or path not in groups:
            evidence.gap(GROUPS, f"{path} was not read")
        if number is not None:
            yield IommuGroup(number, value(kind) if isinstance(kind, str) else None, sorted(devices.get(path, [])))


def parse_thunderbolt(evidence: Bundle) -> Iterable[ThunderboltDomain]:
    """A row per controller."""
    domains = evidence.entries(THUNDERBOLT)
    if not domains:
        _sysfs(evidence, "/sys/bus")
    for path, entry in domains.items():
        security, guarded = entry.get("security"), entry.get("iommu_dma_protection")
        known = {"1": True, "0": False}.get(guarded) if isinstance(guarded, str) else None
        if not isinstance(security, str) or (guarded is not None and known is None):
            evidence.gap(THUNDERBOLT, f"{path} was not read or not understood")
        yield ThunderboltDomain(path.rpartition("/")[2], value(security) if isinstance(security, str) else None, known)


TABLES = (
    Table("iommu_units", IommuUnit, (UNITS,), parse_units),
    Table("iommu_groups", IommuGroup, (UNITS, GROUPS, MEMBERS), parse_groups),
    Table("thunderbolt_domains", ThunderboltDomain, (UNITS, THUNDERBOLT), parse_thunderbolt),
)
