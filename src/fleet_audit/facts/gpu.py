# SPDX-License-Identifier: Apache-2.0
"""GPUs and other accelerators as PCI shows them, and the NVIDIA driver: loaded, on disk, its parameters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.model import Source, SourceId, Status
from fleet_audit.versions import key

PCI_BUS = Source(
    SourceId("pci-bus"),
    "stat",
    {"globs": ["/sys/bus/pci/devices"]},
    "Whether sysfs shows a PCI bus at all; without it an empty list of devices would prove nothing.",
)
PCI = Source(
    SourceId("pci"),
    "attrs",
    {"globs": ["/sys/bus/pci/devices/*"], "names": ["vendor", "device", "class"], "links": ["driver", "physfn"]},
    "Kernel documentation, ABI/testing/sysfs-bus-pci: a folder per PCI function, numbers in hex.",
)
VERSION = Source(
    SourceId("nvidia-loaded"),
    "file",
    {"paths": ["/proc/driver/nvidia/version"]},
    "The loaded NVIDIA kernel module, `NVRM version: ...`; the file is there only while it is loaded.",
)
PARAMS = Source(
    SourceId("nvidia-params"),
    "file",
    {"paths": ["/proc/driver/nvidia/params"]},
    "Parameters of the loaded NVIDIA kernel module, a line `Name: value` each, modes in decimal.",
)
DISK_VERSION = Source(
    SourceId("nvidia-disk-version"),
    "command",
    {"argv": ["modinfo", "-F", "version", "nvidia"]},
    "modinfo(8): version of the module that would be loaded for the running kernel.",
)
DISK_LICENSE = Source(
    SourceId("nvidia-disk-license"),
    "command",
    {"argv": ["modinfo", "-F", "license", "nvidia"]},
    "modinfo(8): `NVIDIA` for the proprietary module, `Dual MIT/GPL` for the open one.",
)

_VENDORS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel", "0x1da3": "habana"}
_CLASSES = {  # PCI codes: 03 display (00 VGA, 02 3D, 80 other), 0680 bridge, 1200 processing accelerator
    "nvidia": {"0300": "gpu", "0302": "gpu", "0680": "nvswitch"},
    "amd": {"0300": "gpu", "0302": "gpu", "0380": "gpu", "1200": "accelerator"},
    "intel": {"0300": "gpu", "0380": "gpu", "1200": "accelerator"},
}
_ADDRESS = re.compile(r"([0-9a-f]{1,8}):([0-9a-f]{2}):([0-9a-f]{2})\.([0-7])", re.IGNORECASE)
FLAVOURS = {"NVIDIA": "proprietary", "Dual MIT/GPL": "open"}
"""Licence of the NVIDIA kernel module -> its flavour."""
_RELEASE = re.compile(r"(?<![\w.])\d{3,4}\.\d{1,4}(?:\.\d{1,4})?(?![\w.])")


@dataclass(frozen=True)
class GpuPci:
    """A GPU, NVSwitch or accelerator on the PCI bus, whoever drives it. Source: /sys/bus/pci/devices."""

    address: Annotated[str, "PCI address, domain:bus:device.function in lower-case hex"]
    vendor_id: Annotated[str, "PCI vendor, such as 0x10de"]
    vendor: Annotated[str, "nvidia, amd, intel or habana"]
    device_id: Annotated[str | None, "PCI device, such as 0x2330"]
    class_id: Annotated[str, "PCI class with its programming interface, such as 0x030200"]
    driver: Annotated[str | None, "Bound kernel driver; vfio-pci: handed to a guest; empty: none; NULL: not read"]
    kind: Annotated[str, "gpu, nvswitch or accelerator"]
    virtual_function: Annotated[bool | None, "An SR-IOV virtual function of another device; NULL if not read"]


@dataclass(frozen=True)
class NvidiaDriver:
    """The NVIDIA kernel module, loaded and on disk; no row: neither. Source: /proc/driver/nvidia, modinfo."""

    loaded_version: Annotated[str | None, "Version of the loaded module; NULL if none is loaded"]
    loaded_key: Annotated[str | None, "Sortable key of it (dotted)"]
    flavour: Annotated[str | None, "open or proprietary: of the loaded module, else of the one on disk"]
    disk_version: Annotated[
        str | None, "Version of the module on disk for the running kernel; another one than the loaded: a reload or reboot is pending"
    ]
    disk_key: Annotated[str | None, "Sortable key of it (dotted)"]
    branch: Annotated[int | None, "First number of the loaded version, else of the one on disk"]


@dataclass(frozen=True)
class NvidiaParam:
    """A parameter of the loaded NVIDIA kernel module. Source: /proc/driver/nvidia/params."""

    name: Annotated[str, "Name as the module gives it"]
    value: Annotated[str, "Its value without quotes"]


def pci_address(text: str | None) -> str | None:
    """A PCI address as sysfs writes it; None if it is none. NVML writes domains with eight digits."""
    found = _ADDRESS.fullmatch((text or "").strip())
    if not found:
        return None
    domain, bus, device, function = found.groups()
    return f"{int(domain, 16):04x}:{bus.lower()}:{device.lower()}.{function}"


def release(text: str | None) -> str | None:
    """The first NVIDIA driver version in a text, None if there is none.

    Source: word order differs between flavours, and newer tools append a remark in brackets.
    """
    found = _RELEASE.search(text or "")
    return found.group() if found else None


def pci_bus(evidence: Bundle) -> None:
    """Raises `Unread` unless sysfs shows a PCI bus, without which no devices would prove nothing."""
    if not any(entry.get("type") in ("dir", "link") for entry in evidence.entries(PCI_BUS).values()):
        raise Unread("pci-bus: no PCI bus to be seen in sysfs")


def parse_pci(evidence: Bundle) -> list[GpuPci]:
    """The devices that matter; a host without sysfs is not one without GPUs."""
    pci_bus(evidence)
    rows = []
    for path, entry in evidence.entries(PCI).items():
        where = pci_address(path.rpartition("/")[2])
        vendor, kind, number = (_attribute(evidence, path, entry, n) for n in ("vendor", "class", "device"))
        if where is None or vendor is None or kind is None:
            evidence.gap(PCI, f"{path}: no address, vendor or class")
            continue
        name = _VENDORS.get(vendor)
        what = "accelerator" if name == "habana" else _CLASSES.get(name or "", {}).get(kind[2:6])
        if name is not None and what is not None:
            driver = "" if entry.get("driver", "") is None else _attribute(evidence, path, entry, "driver")
            virtual = _attribute(evidence, path, entry, "physfn") is not None or (False if entry.get("physfn", "") is None else None)
            rows.append(GpuPci(where, vendor, name, number, kind, driver, what, virtual))
    return rows


def _attribute(evidence: Bundle, path: str, entry: dict[str, Any], name: str) -> str | None:
    """An attribute's text, None if it is not there; a gap if it could not be read."""
    content = entry.get(name)
    if name not in entry or not isinstance(content, str | None):
        evidence.gap(PCI, f"{path}/{name} not read")
        return None
    return content or None


def parse_driver(evidence: Bundle) -> Iterable[NvidiaDriver]:
    """One row, or none if no module is loaded or on disk."""
    loaded = flavour = None
    if evidence.item(VERSION).status is not Status.ABSENT:
        loaded, flavour = loaded_module(whole_lines(evidence, VERSION))
    disk = on_disk(evidence, DISK_VERSION)
    licence = on_disk(evidence, DISK_LICENSE)
    version = None if disk is None else release(disk)
    if disk is not None and version is None:
        evidence.gap(DISK_VERSION, "no version in what modinfo printed")
    if flavour is None and licence is not None:
        flavour = FLAVOURS.get(licence)
        if flavour is None:
            evidence.gap(DISK_LICENSE, "another licence than those of the two flavours")
    if loaded is None and version is None:
        return
    yield NvidiaDriver(loaded, dotted(loaded), flavour, version, dotted(version), branch(loaded or version))


def loaded_module(text: str) -> tuple[str, str | None]:
    """Version and flavour from /proc/driver/nvidia/version.

    Source: `NVIDIA UNIX x86_64 Kernel Module  550.90.07` is proprietary, `NVIDIA UNIX Open Kernel Module
    for x86_64  590.48.01  Release Build` open.
    """
    line = next((line for line in text.splitlines() if line.startswith("NVRM version:")), "")
    version = release(line)
    if version is None:
        raise NotUnderstood(f"{VERSION.id}: no line NVRM version with a version")
    if "Open Kernel Module" in line:
        return version, "open"
    return version, "proprietary" if "Kernel Module" in line else None


def on_disk(evidence: Bundle, source: Source) -> str | None:
    """What modinfo printed; None if it found no such module, or (a gap) could not look."""
    item = evidence.item(source)
    if item.status is Status.FAILED and re.search(rf"\b{source.args['argv'][-1]} not found", item.detail):
        return None
    if item.status is not Status.OK:
        evidence.gap(source, f"{item.status} {item.detail}".strip())
        return None
    return item.text.strip()


def dotted(version: str | None) -> str | None:
    """Sortable key of a driver version."""
    return None if version is None else key("dotted", version)


def branch(version: str | None) -> int | None:
    """The driver's branch, the first number of its version."""
    return integer((version or "").partition(".")[0])


def parse_params(evidence: Bundle) -> list[NvidiaParam]:
    """A row per parameter; none if no driver is loaded."""
    if not_loaded(evidence):
        return []
    rows = []
    for line in whole_lines(evidence, PARAMS).splitlines():
        name, colon, content = line.partition(":")
        if colon and re.fullmatch(r"\w+", name.strip()):
            rows.append(NvidiaParam(name.strip(), (value(content) or "").strip('"')))
        elif line.strip():
            evidence.gap(PARAMS, "a line is no parameter")
    if not rows:
        raise NotUnderstood(f"{PARAMS.id}: no parameter in it")
    return rows


def not_loaded(evidence: Bundle) -> bool:
    """Whether it is proved that no NVIDIA driver is loaded."""
    return evidence.item(VERSION).status is Status.ABSENT


def nvidia_gpu(device: GpuPci) -> bool:
    """Whether it is a physical NVIDIA GPU."""
    return device.vendor == "nvidia" and device.kind == "gpu" and not device.virtual_function


def handed_away(device: GpuPci) -> bool:
    """Whether a virtual machine has it. Source: vfio-pci and its variants, such as nvgrace_gpu_vfio_pci; pci-stub keeps it free for one."""
    return device.driver is not None and ("vfio" in device.driver or device.driver == "pci-stub")


TABLES = (
    Table("gpu_pci", GpuPci, (PCI_BUS, PCI), parse_pci),
    Table("nvidia_driver", NvidiaDriver, (VERSION, DISK_VERSION, DISK_LICENSE), parse_driver),
    Table("nvidia_params", NvidiaParam, (VERSION, PARAMS), parse_params),
)
