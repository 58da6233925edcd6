# SPDX-License-Identifier: Apache-2.0
"""TPMs that the kernel drives, and the registers of what was measured at boot. It cannot tell a chip from a hypervisor's TPM."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.model import Source, SourceId

CHIPS = Source(
    SourceId("tpm-chips"), "attrs",
    {"globs": ["/sys/class/tpm/tpm[0-9]*", "/sys/class/tpm/tpm[0-9]*/device"], "names": ["tpm_version_major", "description", "caps"],
     "links": ["driver"]},
    "Kernel documentation, ABI/stable/sysfs-class-tpm: tpm_version_major since 5.5; caps of TPM 1.2; description by ACPI.",
)  # fmt: skip
FILES = Source(
    SourceId("tpm-files"), "stat",
    {"globs": ["/dev/tpm[0-9]*", "/dev/tpmrm[0-9]*", "/sys/class/tpm/tpm[0-9]*/pcr-*", "/sys/kernel/security/tpm[0-9]*/binary_bios_measurements"]},
    "Kernel documentation, security/tpm: device files (tpmrm: with the resource manager, TPM 2.0 only), banks, and the boot's event log.",
)  # fmt: skip
PCRS = Source(
    SourceId("tpm-pcrs"), "attrs",
    {"globs": ["/sys/class/tpm/tpm[0-9]*/pcr-sha256"], "names": [str(n) for n in (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14)]},
    "Kernel documentation, ABI/stable/sysfs-class-tpm, since 5.12: each read asks the TPM. TCG PC Client Platform Firmware Profile:"
    " 0 to 7 are the firmware's; 8 and 9 of the boot loader, 11 and 12 of systemd-stub, 14 of shim.",
    timeout_s=30.0,
)  # fmt: skip


@dataclass(frozen=True)
class Tpm:
    """A TPM that the kernel drives. No rows: none, or its driver is off. Source: /sys/class/tpm, /dev."""

    name: Annotated[str, "Such as tpm0"]
    version: Annotated[int | None, "Major version of the specification: 2, or 1 for 1.2; NULL: old kernels may not tell"]
    description: Annotated[str | None, "What ACPI calls it, such as `TPM 2.0 Device`"]
    driver: Annotated[str | None, "Kernel driver, such as tpm_tis, tpm_crb or tpm_vtpm_proxy"]
    banks: Annotated[list[str], "Hashes of its banks of registers, such as sha256; empty also with kernels before 5.12"]
    manager: Annotated[bool, "A device file with the resource manager is there, which programs of TPM 2.0 use"]
    event_log: Annotated[bool, "The boot's event log is there, as far as the account may see it"]


@dataclass(frozen=True)
class TpmPcr:
    """A register of a TPM's sha256 bank. No rows: no TPM, none with the bank, or a kernel before 5.12. Source: /sys/class/tpm."""

    tpm: Annotated[str, "Such as tpm0"]
    pcr: Annotated[int, "Number of the register"]
    value: Annotated[str, "Its value, 64 hex digits in lower case; all 0 or all f: nothing was measured into it"]


def parse_tpms(evidence: Bundle) -> Iterable[Tpm]:
    """A row per TPM; none is proved by sysfs being there."""
    chips, files = evidence.entries(CHIPS), evidence.entries(FILES)
    if not chips and "/sys/class" not in evidence.entries(SYSFS):
        raise Unread(f"{SYSFS.id}: no /sys/class")
    if any(not path.startswith("/sys/class/tpm/") for path in chips):
        raise NotUnderstood(f"{CHIPS.id}: a folder that is no TPM's")
    banks: dict[str, list[str]] = {}
    for path in files:
        if found := re.fullmatch(r"/sys/class/tpm/(tpm\d+)/pcr-([^/]+)", path, re.ASCII):
            banks.setdefault(found[1], []).append(found[2])
    names = sorted({path.split("/")[4] for path in chips})
    for name in [*names, *sorted(_orphans(files) - set(names))]:
        top, below = chips.get(f"/sys/class/tpm/{name}", {}), chips.get(f"/sys/class/tpm/{name}/device", {})
        description, driver = _text(evidence, below, "description"), _text(evidence, below, "driver")
        caps = _text(evidence, below, "caps") or _text(evidence, top, "caps") or ""
        manager = f"/dev/tpmrm{name.removeprefix('tpm')}" in files
        version = integer(_text(evidence, top, "tpm_version_major"))
        if version is None:
            version = 2 if manager or (description or "").startswith("TPM 2.0") else 1 if re.search(r"TCG version: 1\.", caps) else None
            if version is None:
                evidence.gap(CHIPS, f"{name}: nothing tells its version")
        yield Tpm(
            name,
            version,
            description,
            driver,
            banks.get(name, []),
            manager,
            f"/sys/kernel/security/{name}/binary_bios_measurements" in files,
        )


def _orphans(files: dict[str, Any]) -> set[str]:
    """TPMs of which only the device file shows."""
    return {path.removeprefix("/dev/") for path in files if re.fullmatch(r"/dev/tpm\d+", path)}


def _text(evidence: Bundle, entry: dict[str, Any], name: str) -> str | None:
    content = entry.get(name)
    if not isinstance(content, str | None):
        evidence.gap(CHIPS, f"{name} was not read")
        return None
    return value(content)


def parse_pcrs(evidence: Bundle) -> Iterable[TpmPcr]:
    """A row per register; one that the TPM would not tell is a gap."""
    banks = evidence.entries(PCRS)
    if not banks and "/sys/class" not in evidence.entries(SYSFS):
        raise Unread(f"{SYSFS.id}: no /sys/class")
    for path, entry in banks.items():
        if not (known := re.fullmatch(r"/sys/class/tpm/(tpm\d+)/pcr-sha256", path, re.ASCII)):
            raise NotUnderstood(f"{PCRS.id}: a folder that is no TPM's")
        for name, content in sorted(entry.items(), key=lambda item: (len(item[0]), item[0])):
            digest = content.strip().lower() if isinstance(content, str) else ""
            if re.fullmatch(r"[0-9a-f]{64}", digest) and (number := integer(name)) is not None:
                yield TpmPcr(known[1], number, digest)
            elif content is not None:
                evidence.gap(PCRS, f"{path}/{name} was not read")


TABLES = (
    Table("tpms", Tpm, (CHIPS, FILES, SYSFS), parse_tpms),
    Table("tpm_pcrs", TpmPcr, (PCRS, SYSFS), parse_pcrs),
)
