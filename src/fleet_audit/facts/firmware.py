# SPDX-License-Identifier: Apache-2.0
"""Hardware and firmware as the kernel shows them: SMBIOS, virtual or not, NICs, NVMe, BMC, microcode."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.facts.cpu import CPUINFO, parse
from fleet_audit.model import Source, SourceId, Status

_DMI = "/sys/class/dmi/id"
_TEXTS = ("sys_vendor", "product_name", "product_version", "board_vendor", "board_name", "bios_vendor", "bios_version",
          "chassis_asset_tag")

SYSFS = Source(
    SourceId("sysfs-classes"), "stat", {"globs": ["/sys/class", _DMI]},
    "Whether sysfs is there at all, without which no devices would prove nothing, and shows SMBIOS.",
)
DMI = Source(
    SourceId("dmi"), "attrs", {"globs": [_DMI], "names": [*_TEXTS, "bios_date", "chassis_type"]},
    "Kernel source, drivers/firmware/dmi-id.c: strings of SMBIOS. Serial numbers, which need root, are not read.",
)
MARKERS = Source(
    SourceId("container-markers"), "stat", {"globs": ["/.dockerenv", "/run/.containerenv"]},
    "Files that Docker and Podman put into their containers.",
)
CONTAINER = Source(
    SourceId("systemd-container"), "file", {"paths": ["/run/systemd/container"]},
    "systemd's Container Interface: a word for the container manager, such as systemd-nspawn or lxc.",
)
RDMA = Source(
    SourceId("rdma-devices"), "attrs",
    {"globs": ["/sys/class/infiniband/*", "/sys/class/infiniband/*/device"],
     "names": ["fw_ver", "board_id", "hca_type"], "links": ["device", "driver"]},
    "Kernel documentation, ABI/stable/sysfs-class-infiniband; `device` leads to the PCI function.",
)
NET = Source(
    SourceId("net-devices"), "attrs",
    {"globs": ["/sys/class/net/*", "/sys/class/net/*/device"], "links": ["device", "driver", "subsystem"]},
    "Kernel documentation, ABI/testing/sysfs-class-net; there is always one, the loopback.",
)
NVME = Source(
    SourceId("nvme"), "attrs", {"globs": ["/sys/class/nvme/nvme*"], "names": ["model", "firmware_rev"]},
    "Kernel source, drivers/nvme/host/sysfs.c. Serial numbers are not read.",
)
BMC = Source(
    SourceId("bmc"), "attrs",
    {"globs": ["/sys/class/ipmi/ipmi*/device/bmc", "/sys/devices/platform/ipmi_bmc.*"],
     "names": ["firmware_revision", "ipmi_version", "manufacturer_id", "product_id"]},
    "Kernel documentation, ABI/testing/sysfs-devices-platform-ipmi: what the BMC answers to Get Device ID.",
)
IPMI = Source(
    SourceId("ipmi-device"), "stat", {"globs": ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"]},
    "Kernel documentation, IPMI: the device file by which programs talk to the BMC, under its three names.",
)


@dataclass(frozen=True)
class Dmi:
    """What SMBIOS says of the machine; no row: it has none. Source: /sys/class/dmi/id; fillers are NULL."""

    sys_vendor: Annotated[str | None, "Maker of the system"]
    product_name: Annotated[str | None, "Model"]
    product_version: Annotated[str | None, "Version of the model"]
    board_vendor: Annotated[str | None, "Maker of the board"]
    board_name: Annotated[str | None, "Board"]
    bios_vendor: Annotated[str | None, "Maker of the BIOS or UEFI firmware"]
    bios_version: Annotated[str | None, "Its version"]
    bios_date: Annotated[str | None, "Its release date, yyyy-mm-dd"]
    chassis_type: Annotated[int | None, "SMBIOS number of the enclosure: 17 main server, 23 rack mount, ..."]
    chassis_asset_tag: Annotated[str | None, "Tag of the chassis; a fixed one marks Azure"]


@dataclass(frozen=True)
class Machine:
    """Whether it is a machine, a guest or a container. Source: CPU flags, SMBIOS, files of container managers."""

    virtualization: Annotated[str | None, "none, kvm, vmware, microsoft, xen, amazon, google or other; NULL: unknown"]
    hypervisor: Annotated[bool | None, "The CPU says that a hypervisor runs it; NULL on arm"]
    container: Annotated[str | None, "docker, podman or systemd's word; NULL: no sign of one, which is no proof"]


@dataclass(frozen=True)
class NicFirmware:
    """An RDMA device, or a PCI network interface without RDMA. Source: /sys/class/{infiniband,net}."""

    device: Annotated[str, "RDMA device such as mlx5_0, else the interface"]
    driver: Annotated[str | None, "Kernel driver; NULL for a device in software"]
    firmware: Annotated[str | None, "Firmware version; NULL without RDMA: sysfs does not tell it"]
    board_id: Annotated[str | None, "Board (PSID), such as MT_0000000228"]
    hca_type: Annotated[str | None, "Type of adapter, such as MT4129"]


@dataclass(frozen=True)
class Nvme:
    """An NVMe controller. Source: /sys/class/nvme."""

    name: Annotated[str, "Controller, such as nvme0; it may change at a reboot"]
    model: Annotated[str | None, "Model"]
    firmware: Annotated[str | None, "Firmware revision"]


@dataclass(frozen=True)
class Bmc:
    """A BMC that the kernel can reach. No row: it reaches none, which may be for want of a driver. Source: IPMI."""

    present: Annotated[bool, "A device file is there, by which root can talk to the BMC"]
    firmware: Annotated[str | None, "Firmware revision, two parts; NULL: only a device file, or 0.0, which is no version"]
    ipmi_version: Annotated[str | None, "IPMI version, such as 2.0"]
    manufacturer_id: Annotated[str | None, "IANA number of the maker, in hex"]
    product_id: Annotated[str | None, "The maker's number of the product, in hex"]


@dataclass(frozen=True)
class Microcode:
    """A microcode revision that runs; more than one: CPUs differ. Source: /proc/cpuinfo, x86 only."""

    revision: Annotated[str, "Revision in hex"]
    hidden: Annotated[bool, "A stand-in that hypervisors show: it says nothing of the CPU's microcode"]


_FILLERS = frozenset({
    "to be filled by o.e.m.", "to be filled by oem", "not specified", "not applicable", "not available", "not provided",
    "default string", "none", "null", "n/a", "na", "unknown", "undefined", "empty", "system manufacturer",
    "system product name", "system version", "o.e.m.", "oem", "asset-1234567890", "chassis asset tag", "no asset tag",
    "asset tag", "0123456789", "1234567890", "xxxxxxxxxx",
})  # fmt: skip
_VENDORS = (
    ("amazon", r"Amazon EC2"), ("google", r"Google( .*)?"), ("vmware", r"VMware.*"), ("xen", r"Xen"),
    ("microsoft", r"Microsoft Corporation"), ("kvm", r"QEMU|KVM|Red Hat.*|OpenStack.*|KubeVirt|oVirt|Nutanix.*"),
)
_METAL = frozenset({"amazon", "google", "microsoft"})


def _text(evidence: Bundle, source: Source, path: str, entry: dict[str, Any], name: str) -> str | None:
    """An attribute, NULL if it is blank or not there; unreadable ones are gaps."""
    content = entry.get(name)
    if not isinstance(content, str | None):
        evidence.gap(source, f"{path}/{name} not read")
        return None
    return value(content)


def _sysfs(evidence: Bundle) -> dict[str, Any]:
    there = evidence.entries(SYSFS)
    if "/sys/class" not in there:
        raise Unread(f"{SYSFS.id}: no /sys/class")
    return there


def parse_dmi(evidence: Bundle) -> list[Dmi]:
    """One row where there is SMBIOS."""
    entry = evidence.entries(DMI).get(_DMI, {})
    found = {name: _text(evidence, DMI, _DMI, entry, name) for name in (*_TEXTS, "bios_date", "chassis_type")}
    if all(entry.get(name) is None for name in found):
        if _DMI in _sysfs(evidence) or evidence.gaps:
            raise NotUnderstood(f"{DMI.id}: nothing in {_DMI}")
        return []
    texts = {name: None if (found[name] or "").lower() in _FILLERS else found[name] for name in _TEXTS}
    return [Dmi(**texts, bios_date=_date(found["bios_date"]), chassis_type=integer(found["chassis_type"]))]


def _date(text: str | None) -> str | None:
    """A release date in ISO form. Source: SMBIOS specification, mm/dd/yyyy; with two digits the year is 19yy."""
    match = re.fullmatch(r"([0-9]{2})/([0-9]{2})/([0-9]{2}|[0-9]{4})", text or "")
    try:
        return date(int(match[3]) + (1900 if len(match[3]) == 2 else 0), int(match[1]), int(match[2])).isoformat() if match else None
    except ValueError:
        return None


def parse_machine(evidence: Bundle) -> Iterable[Machine]:
    """One row. Guests are known by the CPU's flag; SMBIOS tells whose, or on arm that it is one at all."""
    flags = {cpu.hypervisor for cpu in parse(evidence)}
    hypervisor = True if True in flags else None if None in flags else False
    known = True
    try:
        tables = parse_dmi(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        tables, known = [], False
    vendor = next(filter(None, map(_vendor, tables)), None)
    if hypervisor is False and known and (vendor is None or vendor in _METAL):
        vendor = "none"
    elif hypervisor is True and known:
        vendor = vendor or "other"
    elif hypervisor is None and vendor in _METAL:
        vendor = None  # clouds lend whole machines too, and arm has no flag that tells
    yield Machine(vendor, hypervisor, _container(evidence))


def _vendor(dmi: Dmi) -> str | None:
    """Whose guest it is, by SMBIOS; Microsoft and Google make machines too. Source: systemd-detect-virt's own rules."""
    names = (dmi.product_name, dmi.sys_vendor, dmi.board_vendor, dmi.bios_vendor)
    found = next((word for name in names for word, pattern in _VENDORS if re.fullmatch(pattern, name or "")), None)
    return None if found == "microsoft" and dmi.product_name != "Virtual Machine" else found


def _container(evidence: Bundle) -> str | None:
    try:
        there = evidence.entries(MARKERS)
    except Unread as unread:
        evidence.gaps.append(str(unread))
        there = {}
    word = None if evidence.item(CONTAINER).status is Status.ABSENT else value(evidence.try_body(CONTAINER))
    if word is not None and not re.fullmatch(r"[\w.-]{1,64}", word, re.ASCII):
        evidence.gap(CONTAINER, "not one word")
        word = None
    return word or ("docker" if "/.dockerenv" in there else "podman" if "/run/.containerenv" in there else None)


def parse_nics(evidence: Bundle) -> Iterable[NicFirmware]:
    """RDMA devices, then PCI interfaces of other devices."""
    rdma, net = evidence.entries(RDMA), evidence.entries(NET)
    if not net:
        raise Unread(f"{NET.id}: no network device, not even the loopback")
    seen = set()
    for path, entry in rdma.items():
        if path.count("/") == 4:
            below = rdma.get(f"{path}/device", {})
            fields = [_text(evidence, RDMA, path, entry, name) for name in ("fw_ver", "board_id", "hca_type")]
            seen.add(_text(evidence, RDMA, path, entry, "device"))
            yield NicFirmware(path.rpartition("/")[2], _text(evidence, RDMA, f"{path}/device", below, "driver"), *fields)
    for path, entry in net.items():
        below = net.get(f"{path}/device", {})
        if path.count("/") == 4 and _text(evidence, NET, f"{path}/device", below, "subsystem") == "pci":
            if (address := _text(evidence, NET, path, entry, "device")) is None or address not in seen:
                yield NicFirmware(path.rpartition("/")[2], _text(evidence, NET, path, below, "driver"), None, None, None)


def parse_nvme(evidence: Bundle) -> Iterable[Nvme]:
    """A row per controller; none is proved by sysfs being there."""
    controllers = evidence.entries(NVME)
    if not controllers:
        _sysfs(evidence)
    for path, entry in controllers.items():
        yield Nvme(path.rpartition("/")[2], _text(evidence, NVME, path, entry, "model"), _text(evidence, NVME, path, entry, "firmware_rev"))


def parse_bmc(evidence: Bundle) -> Iterable[Bmc]:
    """A row per BMC, mostly one; the same one shows in two places."""
    present = bool(evidence.entries(IPMI))
    names = ("firmware_revision", "ipmi_version", "manufacturer_id", "product_id")
    found = {tuple(_text(evidence, BMC, path, entry, name) for name in names) for path, entry in evidence.entries(BMC).items()}
    found.discard((None, None, None, None))
    if not found and not present:
        _sysfs(evidence)
        return
    for firmware, *rest in sorted(found, key=repr) or [(None, None, None, None)]:
        yield Bmc(present, None if firmware in ("0.0", "0.00") else firmware, *rest)


def parse_microcode(evidence: Bundle) -> Iterable[Microcode]:
    """A row per revision; x86 CPUs without one make a gap."""
    found: dict[str, bool] = {}
    for cpu in parse(evidence):
        if cpu.microcode is not None:
            hidden = cpu.microcode == "0xffffffff" or (cpu.microcode == "0x1" and cpu.hypervisor is True)
            found[cpu.microcode] = hidden or found.get(cpu.microcode, False)
        elif cpu.family is not None:
            evidence.gap(CPUINFO, "no microcode revision in it")
    return [Microcode(revision, hidden) for revision, hidden in sorted(found.items())]


TABLES = (
    Table("dmi", Dmi, (DMI, SYSFS), parse_dmi),
    Table("machine", Machine, (CPUINFO, DMI, SYSFS, MARKERS, CONTAINER), parse_machine),
    Table("nic_firmware", NicFirmware, (RDMA, NET), parse_nics),
    Table("nvme", Nvme, (NVME, SYSFS), parse_nvme),
    Table("bmc", Bmc, (BMC, IPMI, SYSFS), parse_bmc),
    Table("microcode", Microcode, (CPUINFO,), parse_microcode),
)
