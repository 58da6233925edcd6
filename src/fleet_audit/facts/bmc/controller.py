# SPDX-License-Identifier: Apache-2.0
"""The controller itself: what it says of its firmware, and who may open its device files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, integer, value
from fleet_audit.facts.bmc.ipmi import MC, no_bmc, pairs
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.facts.firmware import IPMI


@dataclass(frozen=True)
class BmcFirmware:
    """What the BMC says of itself. No row: no device file, and SMBIOS declares none. Source: ipmitool(1) mc info."""

    firmware: Annotated[str | None, "Firmware revision, two parts; NULL: 0.00, which is none"]
    auxiliary: Annotated[str | None, "Four bytes of the maker's, in hex, which often hold the rest of the version"]
    ipmi_version: Annotated[str | None, "IPMI version, such as 2.0"]
    manufacturer_id: Annotated[int | None, "IANA number of the maker"]
    manufacturer: Annotated[str | None, "Its name, where ipmitool knows it"]
    product_id: Annotated[int | None, "The maker's number of the product"]
    available: Annotated[bool | None, "In normal operation; false: its firmware is being updated"]


@dataclass(frozen=True)
class BmcDevice:
    """A device file by which programs talk to the BMC. No rows: none is there. Source: /dev."""

    path: Annotated[str, "Path"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]


def parse_firmware(evidence: Bundle) -> Iterable[BmcFirmware]:
    """One row."""
    if no_bmc(evidence, (MC,)):
        return []
    text = whole_lines(evidence, MC)
    found = dict(pairs(evidence, MC, text))
    revision = found.get("Firmware Revision")
    if revision is None or not re.fullmatch(r"\d{1,3}\.[0-9a-f]{2}", revision):
        raise NotUnderstood(f"{MC.id}: no firmware revision in it")
    bytes_ = re.findall(r"^ +0x([0-9a-f]{2})$", text.partition("Aux Firmware Rev Info")[2], re.M)
    product = re.match(r"(\d{1,5})\b", found.get("Product ID", ""))
    maker = value(found.get("Manufacturer Name"))
    ready = {"yes": True, "no": False}.get(found.get("Device Available", ""))
    row = BmcFirmware(
        None if revision == "0.00" else revision,
        " ".join(bytes_) if len(bytes_) == 4 else None, value(found.get("IPMI Version")), integer(found.get("Manufacturer ID")),
        None if maker and maker.startswith("Unknown") else maker, int(product[1]) if product else None, ready,
    )  # fmt: skip
    if row.ipmi_version is None or row.manufacturer_id is None or product is None or ready is None:
        evidence.gap(MC, "values are missing or not understood")
    return [row]


def parse_devices(evidence: Bundle) -> Iterable[BmcDevice]:
    """A row per device file."""
    for path, entry in evidence.entries(IPMI).items():
        yield BmcDevice(path, entry.get("mode"), entry.get("uid"), entry.get("gid"))  # type: ignore[arg-type]  # None: a gap
