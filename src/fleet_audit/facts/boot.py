# SPDX-License-Identifier: Apache-2.0
"""What guards the boot and the kernel: Secure Boot, lockdown, mitigations of CPU vulnerabilities."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.model import Source, SourceId

_FIRMWARE = "/sys/firmware"
_EFI = f"{_FIRMWARE}/efi"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

EFI = Source(
    SourceId("efi-folders"), "stat",
    {"globs": [_EFI, f"{_EFI}/efivars/BootCurrent-{_GLOBAL}",
               *(f"{_FIRMWARE}/{name}" for name in ("acpi", "memmap", "dmi", "devicetree", "fdt"))]},
    "Kernel documentation, ABI/testing/sysfs-firmware-*: /sys/firmware/efi is there after a boot by UEFI; the others"
    " show that the folder is not masked, as in containers. UEFI specification: each boot sets BootCurrent.",
)
EFI_VARIABLES = Source(
    SourceId("efi-variables"), "files",
    {"globs": [f"{_EFI}/efivars/SecureBoot-{_GLOBAL}", f"{_EFI}/efivars/SetupMode-{_GLOBAL}"], "cap_each": 64},
    "UEFI specification, globally defined variables; kernel documentation, efivarfs: 4 bytes of attributes, then 1 or 0.",
)
LOCKDOWN = Source(
    SourceId("kernel-lockdown"), "file", {"paths": ["/sys/kernel/security/lockdown"]},
    "kernel_lockdown(7): the levels, the active one in brackets. Not there: no securityfs, or a kernel without it.",
)
VULNERABILITIES = Source(
    SourceId("cpu-vulnerabilities"), "files",
    {"globs": ["/sys/devices/system/cpu/vulnerabilities/*"], "cap_each": 4096},
    "Kernel documentation, ABI/testing/sysfs-devices-system-cpu and hw-vuln: a file for each that the kernel knows.",
)


@dataclass(frozen=True)
class SecureBoot:
    """Whether UEFI checks what it boots. Source: efivarfs."""

    uefi: Annotated[bool, "Booted by UEFI; if not, nothing is checked"]
    enabled: Annotated[bool | None, "Secure Boot is on; effective only without setup mode"]
    setup_mode: Annotated[bool | None, "Keys can be changed without a signature; NULL without UEFI"]


@dataclass(frozen=True)
class KernelLockdown:
    """How far root is kept from changing the running kernel. Source: kernel_lockdown(7)."""

    mode: Annotated[str, "none, integrity or confidentiality"]


@dataclass(frozen=True)
class CpuVulnerability:
    """A vulnerability of CPUs that the kernel knows of; one without a row it does not. Source: sysfs."""

    name: Annotated[str, "The kernel's name, such as spectre_v2"]
    state: Annotated[str, "What the kernel says"]
    vulnerable: Annotated[bool | None, "False: not affected or mitigated; NULL: the kernel does not know"]
    weak: Annotated[list[str], "Parts of a mitigated state that are vulnerable all the same, such as `BHI: Vulnerable`"]


def parse_secure_boot(evidence: Bundle) -> Iterable[SecureBoot]:
    """One row; no UEFI is proved by the other folders of firmware being there without its own."""
    there = evidence.entries(EFI)
    if _EFI not in there:
        if not there or evidence.gaps:
            raise Unread(f"{EFI.id}: nothing of {_FIRMWARE} is there to be seen")
        return [SecureBoot(False, False, None)]
    variables = evidence.entries(EFI_VARIABLES)
    mounted = f"{_EFI}/efivars/BootCurrent-{_GLOBAL}" in there
    enabled, setup = (_variable(evidence, variables, name, mounted) for name in ("SecureBoot", "SetupMode"))
    return [SecureBoot(True, enabled, setup)]


def _variable(evidence: Bundle, variables: dict[str, Any], name: str, mounted: bool) -> bool | None:
    """A switch of the firmware; one that it does not have is off, which shows only where others are to be seen."""
    entry = variables.get(f"{_EFI}/efivars/{name}-{_GLOBAL}")
    if entry is None and mounted and not evidence.gaps:
        return False
    text = (entry or {}).get("text")
    if not isinstance(text, str) or len(text) != 5 or text[4] not in "\0\1":
        evidence.gap(EFI_VARIABLES, f"{name} {'is not to be seen' if entry is None else 'is not understood'}")
        return None
    return text[4] == "\1"


def parse_lockdown(evidence: Bundle) -> Iterable[KernelLockdown]:
    """One row."""
    active = [word[1:-1] for word in evidence.body(LOCKDOWN).split() if word[:1] == "[" and word[-1] == "]"]
    if len(active) != 1 or active[0] not in ("none", "integrity", "confidentiality"):
        raise NotUnderstood(f"{LOCKDOWN.id}: not one known level in brackets")
    yield KernelLockdown(active[0])


def parse_vulnerabilities(evidence: Bundle) -> Iterable[CpuVulnerability]:
    """A row per file; no files at all say nothing."""
    rows = []
    for path, entry in evidence.entries(VULNERABILITIES).items():
        text = entry.get("text")
        if not isinstance(text, str) or not (state := text.strip()):
            evidence.gap(VULNERABILITIES, f"{path} is empty or no text")
            continue
        vulnerable = _vulnerable(state)
        if vulnerable is None and not state.startswith("Unknown"):
            evidence.gap(VULNERABILITIES, f"{path}: other words than those that are known")
        parts = [part.strip() for part in state.split(";")[1:]] if vulnerable is False else []
        rows.append(CpuVulnerability(path.rpartition("/")[2], state, vulnerable, [p for p in parts if "vulnerable" in p.lower()]))
    if not rows:
        raise Unread("; ".join(evidence.gaps[:3]) or f"{VULNERABILITIES.id}: none, the kernel is older or shows nothing")
    return rows


def _vulnerable(state: str) -> bool | None:
    """Source: the kernel's hw-vuln documents; itlb_multihit has `KVM: ` before its words, or `Processor vulnerable`."""
    words = state.removeprefix("KVM: ")
    if words == "Not affected" or words.startswith("Mitigation: "):
        return False
    return True if words.startswith(("Vulnerable", "Processor vulnerable")) else None


TABLES = (
    Table("secure_boot", SecureBoot, (EFI, EFI_VARIABLES), parse_secure_boot),
    Table("kernel_lockdown", KernelLockdown, (LOCKDOWN,), parse_lockdown),
    Table("cpu_vulnerabilities", CpuVulnerability, (VULNERABILITIES,), parse_vulnerabilities),
)
