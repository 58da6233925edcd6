# SPDX-License-Identifier: Apache-2.0
"""What SMBIOS declares of memory and of interfaces to a BMC. In virtual machines all of it is invented by the hypervisor."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, value
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.model import Source, SourceId

_ATTRIBUTES = (
    "Location", "Use", "Error Correction Type", "Maximum Capacity", "Number Of Devices", "Array Handle", "Total Width", "Data Width",
    "Size", "Form Factor", "Locator", "Bank Locator", "Type", "Manufacturer", "Part Number", "Interface Type", "Specification Version",
)  # fmt: skip
SMBIOS = Source(
    SourceId("smbios"), "command",
    {"argv": ["dmidecode", "-t", "16,17,38,127"], "keep": ["SMBIOS ", "Handle ", *(f"\t{name}:" for name in _ATTRIBUTES)]},
    "dmidecode(8); SMBIOS specification, types 16 (memory array), 17 (memory device), 38 (IPMI) and 127, which ends a whole table."
    " Serial numbers are not read. It reads /sys/firmware/dmi/tables, and only where that is there: never /dev/mem.",
    when_exists="/sys/firmware/dmi/tables/DMI", needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class MemoryArray:
    """A group of memory slots with what it corrects. No rows: SMBIOS declares none. Source: dmidecode(8), type 16."""

    handle: Annotated[str, "SMBIOS handle, which memory devices name"]
    location: Annotated[str | None, "Such as System Board Or Motherboard"]
    use: Annotated[str | None, "System Memory, Video Memory, Flash Memory, ..."]
    ecc: Annotated[str | None, "None, Parity, Single-bit ECC, Multi-bit ECC or CRC; NULL: SMBIOS says that it does not know"]
    maximum_bytes: Annotated[int | None, "Memory that it takes at most"]
    slots: Annotated[int | None, "Number of slots"]


@dataclass(frozen=True)
class MemoryDevice:
    """A memory slot and the module in it. No rows: SMBIOS declares none. Source: dmidecode(8), type 17."""

    handle: Annotated[str, "SMBIOS handle"]
    array: Annotated[str | None, "Handle of its memory array"]
    locator: Annotated[str | None, "Name of the slot on the board"]
    installed: Annotated[bool | None, "A module is in it; NULL: SMBIOS does not know"]
    size_bytes: Annotated[int | None, "Size of the module; 0 without one"]
    type: Annotated[str | None, "DDR4, DDR5, HBM3, ..."]
    total_width_bits: Annotated[int | None, "Width with the bits for error correction: wider than the data with ECC"]
    data_width_bits: Annotated[int | None, "Width of the data"]
    manufacturer: Annotated[str | None, "Maker"]
    part_number: Annotated[str | None, "The maker's number of the part"]


@dataclass(frozen=True)
class BmcInterface:
    """An interface to a BMC that SMBIOS declares. No rows: it declares none. Source: dmidecode(8), type 38."""

    interface: Annotated[str | None, "KCS, SMIC, BT or SSIF"]
    ipmi_version: Annotated[str | None, "IPMI version, such as 2.0"]


@dataclass
class Structure:
    """One structure of SMBIOS as dmidecode prints it."""

    handle: str
    type: int
    fields: dict[str, str] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A value; None where SMBIOS has none, or a filler in its place."""
        return value(self.fields.get(name), missing=_FILLERS)


_FILLERS = frozenset({
    "Unknown", "Not Specified", "Not Provided", "<OUT OF SPEC>", "<BAD INDEX>", "Other", "NO DIMM", "NO DIMM Unknown", "N/A", "Undefined",
})  # fmt: skip
_UNITS = {"bytes": 0, "kB": 10, "KB": 10, "MB": 20, "GB": 30, "TB": 40, "PB": 50}


def structures(evidence: Bundle, kind: int) -> list[Structure]:
    """The structures of one type. A table whose end dmidecode did not reach is a gap; no table at all is not understood."""
    found: list[Structure] = []
    version = end = False
    for line in whole_lines(evidence, SMBIOS).splitlines():
        if head := re.fullmatch(r"Handle (0x[0-9A-Fa-f]{4,}), DMI type (\d{1,3})(?:, \d+ bytes)?\.?", line):
            found.append(Structure(head[1], int(head[2])))
            end |= found[-1].type == 127
        elif re.fullmatch(r"SMBIOS \d+\.\d+(?:\.\d+)? present\.", line):
            version = True
        elif found and (pair := re.fullmatch(r"\t([^\t:][^:]*):(.*)", line)):
            found[-1].fields.setdefault(pair[1], pair[2].strip())
        else:
            evidence.gap(SMBIOS, "a line is neither a structure nor a value")
    if not version:
        raise NotUnderstood(f"{SMBIOS.id}: no SMBIOS in it")
    if not end:
        evidence.gap(SMBIOS, "the table's end was not reached")
    return [structure for structure in found if structure.type == kind]


def _bytes(text: str | None) -> int | None:
    """A size such as `32 GB`."""
    match = re.fullmatch(r"(\d{1,9}) (\w+)", text or "")
    return int(match[1]) << _UNITS[match[2]] if match and match[2] in _UNITS else None


def _bits(text: str | None) -> int | None:
    match = re.fullmatch(r"(\d{1,5}) bits", text or "")
    return int(match[1]) if match else None


def _known(evidence: Bundle, structure: Structure, name: str, found: int | None) -> int | None:
    """A number; a text in its place that is neither one nor a filler is a gap."""
    if found is None and structure.text(name) is not None:
        evidence.gap(SMBIOS, f"{structure.handle}: {name} is not understood")
    return found


def parse_arrays(evidence: Bundle) -> Iterable[MemoryArray]:
    """A row per array."""
    for array in structures(evidence, 16):
        yield MemoryArray(
            array.handle, array.text("Location"), array.text("Use"), array.text("Error Correction Type"),
            _known(evidence, array, "Maximum Capacity", _bytes(array.text("Maximum Capacity"))),
            _known(evidence, array, "Number Of Devices", integer(array.text("Number Of Devices"))),
        )  # fmt: skip


def parse_devices(evidence: Bundle) -> Iterable[MemoryDevice]:
    """A row per slot."""
    for device in structures(evidence, 17):
        size = device.text("Size")
        installed = None if size is None else size != "No Module Installed"
        total, data = (_known(evidence, device, name, _bits(device.text(name))) for name in ("Total Width", "Data Width"))
        yield MemoryDevice(
            device.handle, device.text("Array Handle"), device.text("Locator"), installed,
            0 if installed is False else _known(evidence, device, "Size", _bytes(size)), device.text("Type"), total, data,
            device.text("Manufacturer"), device.text("Part Number"),
        )  # fmt: skip


def parse_bmcs(evidence: Bundle) -> Iterable[BmcInterface]:
    """A row per interface."""
    for device in structures(evidence, 38):
        interface = device.text("Interface Type")
        yield BmcInterface(interface and interface.partition(" (")[0], device.text("Specification Version"))


TABLES = (
    Table("memory_arrays", MemoryArray, (SMBIOS,), parse_arrays),
    Table("memory_devices", MemoryDevice, (SMBIOS,), parse_devices),
    Table("bmc_interfaces", BmcInterface, (SMBIOS,), parse_bmcs),
)
