# SPDX-License-Identifier: Apache-2.0
"""Hardware and its firmware, as the kernel shows them: SMBIOS, NICs, NVMe, BMC."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.model import Source, SourceId

_DMI = "/sys/class/dmi/id"
_TEXTS = ("sys_vendor", "product_name", "product_version", "board_vendor", "board_name", "bios_vendor", "bios_version", "chassis_asset_tag")

SYSFS = Source(
    SourceId("sysfs-classes"),
    "stat",
    {"globs": ["/sys/class", _DMI]},
    "Whether sysfs is there at all, without which no devices would prove nothing, and shows SMBIOS.",
)
DMI = Source(
    SourceId("dmi"),
    "attrs",
    {"globs": [_DMI], "names": [*_TEXTS, "bios_date", "chassis_type"]},
    "Kernel source, drivers/firmware/dmi-id.c: strings of SMBIOS. Serial numbers are not read.",
)
RDMA = Source(
    SourceId("rdma-devices"),
    "attrs",
    {
        "globs": ["/sys/class/infiniband/*", "/sys/class/infiniband/*/device"],
        "names": ["fw_ver", "board_id", "hca_type"],
        "links": ["device", "driver"],
    },
    "Kernel documentation, ABI/stable/sysfs-class-infiniband; `device` leads to the PCI function.",
)
NET = Source(
    SourceId("net-devices"),
    "attrs",
    {"globs": ["/sys/class/net/*", "/sys/class/net/*/device"], "links": ["device", "driver", "subsystem"]},
    "Kernel documentation, ABI/testing/sysfs-class-net; there is always one, the loopback.",
)
ETHTOOL = Source(
    SourceId("nic-drivers"),
    "nics",
    {},
    "ethtool(8) -i: the kernel's ETHTOOL_GDRVINFO for each interface; virtual functions tell their adapter's firmware.",
)
NVME = Source(
    SourceId("nvme"),
    "attrs",
    {"globs": ["/sys/class/nvme/nvme*"], "names": ["model", "firmware_rev"]},
    "Kernel source, drivers/nvme/host/sysfs.c. Serial numbers are not read.",
)
BMC = Source(
    SourceId("bmc"),
    "attrs",
    {
        "globs": ["/sys/class/ipmi/ipmi*/device/bmc", "/sys/devices/platform/ipmi_bmc.*"],
        "names": ["firmware_revision", "ipmi_version", "manufacturer_id", "product_id"],
    },
    "Kernel documentation, ABI/testing/sysfs-devices-platform-ipmi: what the BMC answers to Get Device ID.",
)
IPMI = Source(
    SourceId("ipmi-device"),
    "stat",
    {"globs": ["/dev/ipmi0", "/dev/ipmi/0", "/dev/ipmidev/0"]},
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
class NicFirmware:
    """An RDMA device, or a PCI network interface without RDMA. Source: /sys/class/{infiniband,net}, ethtool(8)."""

    device: Annotated[str, "RDMA device such as mlx5_0, else the interface"]
    driver: Annotated[str | None, "Kernel driver; NULL for a device in software"]
    firmware: Annotated[str | None, "Firmware version; NULL where the driver does not tell it"]
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
    """A BMC that the kernel can reach. No row: none, maybe for want of a driver. Source: its IPMI driver."""

    present: Annotated[bool, "A device file is there, by which root can talk to the BMC"]
    firmware: Annotated[str | None, "Firmware revision, two parts; NULL: not told, or 0.0, which is none"]
    ipmi_version: Annotated[str | None, "IPMI version, such as 2.0"]
    manufacturer_id: Annotated[str | None, "IANA number of the maker, in hex"]
    product_id: Annotated[str | None, "The maker's number of the product, in hex"]


_FILLERS = frozenset({
    "to be filled by o.e.m.", "to be filled by oem", "not specified", "not applicable", "not available",
    "not provided", "default string", "none", "null", "n/a", "na", "unknown", "undefined", "empty",
    "system manufacturer", "system product name", "system version", "o.e.m.", "oem", "asset-1234567890",
    "chassis asset tag", "no asset tag", "asset tag", "0123456789", "1234567890", "xxxxxxxxxx",
})  # fmt: skip


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
    if all(text is None for text in found.values()):
        if _DMI in _sysfs(evidence) or evidence.gaps:
            raise NotUnderstood(f"{DMI.id}: nothing in {_DMI}")
        return []
    texts = {name: None if (found[name] or "").lower() in _FILLERS else found[name] for name in _TEXTS}
    return [Dmi(**texts, bios_date=_date(found["bios_date"]), chassis_type=integer(found["chassis_type"]))]


def _date(text: str | None) -> str | None:
    """A release date in ISO form. Source: SMBIOS specification, mm/dd/yyyy; two digits are 19yy."""
    match = re.fullmatch(r"([0-9]{2})/([0-9]{2})/([0-9]{2}|[0-9]{4})", text or "")
    if match is None:
        return None
    try:
        year = int(match[3]) + (1900 if len(match[3]) == 2 else 0)
        return date(year, int(match[1]), int(match[2])).isoformat()
    except ValueError:
        return None


def _told(evidence: Bundle) -> dict[str, dict[str, str]]:
    """{interface: what its driver tells}; a gap where it could not be asked."""
    try:
        document = evidence.document(ETHTOOL)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        return {}
    if not isinstance(document, dict):
        raise NotUnderstood(f"{ETHTOOL.id}: not an object")
    found = {}
    for name, entry in document.items():
        if isinstance(entry, dict) and type(entry.get("firmware")) is str:
            found[name] = entry
        elif entry is not None:
            evidence.gap(ETHTOOL, f"{name} not read")
    return found


def parse_nics(evidence: Bundle) -> Iterable[NicFirmware]:
    """RDMA devices, then PCI interfaces of other devices."""
    rdma, net, told = evidence.entries(RDMA), evidence.entries(NET), _told(evidence)
    if not net:
        raise Unread(f"{NET.id}: no network device, not even the loopback")
    seen = set()
    for path, entry in rdma.items():
        if path.count("/") == 4:
            below = rdma.get(f"{path}/device", {})
            fields = [_text(evidence, RDMA, path, entry, name) for name in ("fw_ver", "board_id", "hca_type")]
            seen.add(_text(evidence, RDMA, path, entry, "device"))
            driver = _text(evidence, RDMA, f"{path}/device", below, "driver")
            yield NicFirmware(path.rpartition("/")[2], driver, *fields)
    for path, entry in net.items():
        below = net.get(f"{path}/device", {})
        if path.count("/") != 4 or _text(evidence, NET, f"{path}/device", below, "subsystem") != "pci":
            continue
        if (address := _text(evidence, NET, path, entry, "device")) is None or address not in seen:
            driver = _text(evidence, NET, f"{path}/device", below, "driver")
            name = path.rpartition("/")[2]
            yield NicFirmware(name, driver, value(told.get(name, {}).get("firmware"), missing=("N/A",)), None, None)


def parse_nvme(evidence: Bundle) -> Iterable[Nvme]:
    """A row per controller; none is proved by sysfs being there."""
    controllers = evidence.entries(NVME)
    if not controllers:
        _sysfs(evidence)
    for path, entry in controllers.items():
        model, firmware = (_text(evidence, NVME, path, entry, name) for name in ("model", "firmware_rev"))
        yield Nvme(path.rpartition("/")[2], model, firmware)


def parse_bmc(evidence: Bundle) -> Iterable[Bmc]:
    """A row per BMC, mostly one; the same one shows in two places."""
    present = bool(evidence.entries(IPMI))
    names = ("firmware_revision", "ipmi_version", "manufacturer_id", "product_id")
    folders = evidence.entries(BMC).items()
    found = {tuple(_text(evidence, BMC, path, entry, name) for name in names) for path, entry in folders}
    found.discard((None, None, None, None))
    if not found and not present:
        _sysfs(evidence)
        return
    for firmware, *rest in sorted(found, key=repr) or [(None, None, None, None)]:
        yield Bmc(present, None if firmware in ("0.0", "0.00") else firmware, *rest)


TABLES = (
    Table("dmi", Dmi, (DMI, SYSFS), parse_dmi),
    Table("nic_firmware", NicFirmware, (RDMA, NET, ETHTOOL), parse_nics),
    Table("nvme", Nvme, (NVME, SYSFS), parse_nvme),
    Table("bmc", Bmc, (BMC, IPMI, SYSFS), parse_bmc),
)
