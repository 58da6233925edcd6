# SPDX-License-Identifier: Apache-2.0
"""Intel Gaudi accelerators as the habanalabs driver shows them. hl-smi is not run: it writes a folder of logs. The driver is in `gpu_modules`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accelerators.sysfs import Folder, compare, folders
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.gpu import PCI, PCI_BUS, pci_address, pci_bus
from fleet_audit.model import Source, SourceId

DEVICES = Source(
    SourceId("gaudi-devices"), "attrs",
    {"globs": ["/sys/class/accel/accel[0-9]*/device", "/sys/class/habanalabs/hl[0-9]*"],
     "names": ["pci_addr", "device_type", "status", "cpucp_ver", "armcp_ver", "fw_os_ver", "preboot_btl_ver", "uboot_ver", "cpld_ver", "vrm_ver",
               "security_enabled", "module_id"]},
    "Kernel documentation, ABI/testing/sysfs-driver-habanalabs; accelerators of other makers share the first folder and have no pci_addr.",
)  # fmt: skip


@dataclass(frozen=True)
class GaudiDevice:
    """An Intel Gaudi accelerator that the habanalabs driver drives. NULL: the driver does not tell. Source: sysfs."""

    name: Annotated[str, "accel0 (hl0 before kernel 6.5)"]
    address: Annotated[str, "PCI address as in gpu_pci"]
    type: Annotated[str | None, "Type, such as GAUDI2"]
    status: Annotated[str | None, "Operational, In reset, Malfunction or a further state"]
    firmware: Annotated[str | None, "Firmware of the management CPU, such as hl-gaudi2-1.18.0-fw-53.1.1-sec-9"]
    os_firmware: Annotated[str | None, "Operating system of the management CPU"]
    preboot: Annotated[str | None, "Firmware that runs before the boot loader"]
    boot_loader: Annotated[str | None, "Boot loader"]
    cpld: Annotated[str | None, "CPLD"]
    secured: Annotated[bool | None, "Its firmware runs with security on"]
    module: Annotated[int | None, "Place on the board"]


def _row(folder: Folder, name: str, address: str) -> GaudiDevice:
    secured = folder.text("security_enabled")
    if secured not in (None, "0", "1"):
        folder.evidence.gap(DEVICES, f"{folder.path}/security_enabled: not understood")
    return GaudiDevice(
        name, address, folder.text("device_type"), folder.text("status"), folder.text("cpucp_ver") or folder.text("armcp_ver"),
        folder.text("fw_os_ver"), folder.text("preboot_btl_ver"), folder.text("uboot_ver"), folder.text("cpld_ver"),
        {"0": False, "1": True}.get(secured or ""), folder.number("module_id"),
    )  # fmt: skip


def parse(evidence: Bundle) -> Iterable[GaudiDevice]:
    """A row per accelerator; one on PCI that the driver does not drive makes the table partial."""
    pci_bus(evidence)
    rows = []
    for folder in folders(evidence, DEVICES):
        name = folder.path.split("/")[4] if folder.path.count("/") >= 4 else ""
        text = folder.text("pci_addr")
        if (address := pci_address(text)) is not None:
            rows.append(_row(folder, name, address))
        elif text is not None:
            evidence.gap(DEVICES, f"{folder.path}: no PCI address")
    compare(evidence, "habana", {row.address for row in rows})
    return rows


TABLES = (Table("gaudi_devices", GaudiDevice, (PCI_BUS, PCI, DEVICES), parse),)
