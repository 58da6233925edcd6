# SPDX-License-Identifier: Apache-2.0
"""What a node starts on: machine or guest, Secure Boot, lockdown, microcode, vulnerabilities of its CPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, value
from fleet_audit.facts.cpu import CPUINFO, parse
from fleet_audit.facts.firmware import DMI, SYSFS, Dmi, parse_dmi
from fleet_audit.model import Source, SourceId, Status

_FIRMWARE = "/sys/firmware"
_EFI = f"{_FIRMWARE}/efi"
_GLOBAL = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

EFI = Source(
    SourceId("efi-folders"),
    "stat",
    {
        "globs": [
            _EFI,
            f"{_EFI}/efivars/BootCurrent-{_GLOBAL}",
            *(f"{_FIRMWARE}/{name}" for name in ("acpi", "memmap", "dmi", "devicetree", "fdt")),
        ]
    },
    "Kernel documentation, ABI/testing/sysfs-firmware-*: /sys/firmware/efi is there after a boot by UEFI;"
    " the others show that the folder is not masked, as in containers."
    " UEFI specification: each boot sets BootCurrent.",
)
EFI_VARIABLES = Source(
    SourceId("efi-variables"),
    "files",
    {"globs": [f"{_EFI}/efivars/{name}-{_GLOBAL}" for name in ("SecureBoot", "SetupMode")], "cap_each": 64},
    "UEFI specification, globally defined variables; efivarfs: 4 bytes of attributes, then 1 or 0.",
)
LOCKDOWN = Source(
    SourceId("kernel-lockdown"),
    "file",
    {"paths": ["/sys/kernel/security/lockdown"]},
    "kernel_lockdown(7): the levels, the active one in brackets. Not there: no securityfs, or no lockdown.",
)
VULNERABILITIES = Source(
    SourceId("cpu-vulnerabilities"),
    "files",
    {"globs": ["/sys/devices/system/cpu/vulnerabilities/*"], "cap_each": 4096},
    "Kernel documentation, hw-vuln: a file for each vulnerability that the kernel knows.",
)


MARKERS = Source(
    SourceId("container-markers"),
    "stat",
    {"globs": ["/.dockerenv", "/run/.containerenv"]},
    "Files that Docker and Podman put into their containers.",
)
CONTAINER = Source(
    SourceId("systemd-container"),
    "file",
    {"paths": ["/run/systemd/container"]},
    "systemd's Container Interface: a word for the container manager, such as systemd-nspawn or lxc.",
)


@dataclass(frozen=True)
class Machine:
    """Whether it is a machine, a guest or a container. Source: CPU flags, SMBIOS, container managers."""

    virtualization: Annotated[str | None, "none, kvm, vmware, microsoft, xen, amazon, google or other"]
    hypervisor: Annotated[bool | None, "The CPU says that a hypervisor runs it; NULL on arm"]
    container: Annotated[str | None, "docker, podman or systemd's word; NULL: no sign of one"]


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
class Microcode:
    """A microcode revision that runs; more than one: CPUs differ. Source: /proc/cpuinfo, x86 only."""

    revision: Annotated[str, "Revision in hex"]
    hidden: Annotated[bool, "A stand-in that hypervisors show: it says nothing of the CPU's microcode"]


@dataclass(frozen=True)
class CpuVulnerability:
    """A vulnerability of CPUs that the kernel knows of; one without a row it does not. Source: sysfs."""

    name: Annotated[str, "The kernel's name, such as spectre_v2"]
    state: Annotated[str, "What the kernel says"]
    vulnerable: Annotated[bool | None, "False: not affected or mitigated; NULL: the kernel does not know"]
    weak: Annotated[list[str], "Parts of a mitigated state that are vulnerable, such as `BHI: Vulnerable`; SMT apart"]
    smt_vulnerable: Annotated[bool, "The state says that sibling threads of a core are not kept apart"]


_VENDORS = (
    ("amazon", r"Amazon EC2"),
    ("google", r"Google( .*)?"),
    ("vmware", r"VMware.*"),
    ("xen", r"Xen"),
    ("microsoft", r"Microsoft Corporation"),
    ("kvm", r"QEMU|KVM|Red Hat.*|OpenStack.*|KubeVirt|oVirt|Nutanix.*"),
)
_MARKS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_METAL = frozenset({"amazon", "google"})


def parse_machine(evidence: Bundle) -> Iterable[Machine]:
    """One row. Guests are known by the CPU's flag; SMBIOS tells whose, or on arm that it is one at all."""
    flags = {cpu.hypervisor for cpu in parse(evidence)}
    hypervisor = True if True in flags else None if None in flags else False
    gaps = len(evidence.gaps)
    try:
        tables = parse_dmi(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        tables = []
    known = len(evidence.gaps) == gaps
    vendor = next(filter(None, map(_vendor, tables)), None)
    if hypervisor is False and known and (vendor is None or vendor in _METAL):
        vendor = "none"
    elif hypervisor is True and known:
        vendor = vendor or "other"
    elif hypervisor is None and vendor in _METAL:
        vendor = None  # clouds lend whole machines too, and arm has no flag that tells
    yield Machine(vendor, hypervisor, _container(evidence))


def _vendor(dmi: Dmi) -> str | None:
    """Whose guest it is, by SMBIOS; Microsoft makes machines too. Source: systemd-detect-virt(1)."""
    names = (dmi.product_name, dmi.sys_vendor, dmi.board_vendor, dmi.bios_vendor)
    fits = (word for name in names for word, pattern in _VENDORS if re.fullmatch(pattern, name or ""))
    found = next(fits, None)
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
    return word or next((what for path, what in _MARKS.items() if path in there), None)


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
    """A switch of the firmware; one that it lacks is off, which shows only where others are to be seen."""
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
        weak = [part for part in parts if "vulnerable" in part.lower()]
        smt = [part for part in weak if part.startswith("SMT")]
        rows.append(CpuVulnerability(path.rpartition("/")[2], state, vulnerable, [part for part in weak if part not in smt], bool(smt)))
    if not rows:
        raise Unread("; ".join(evidence.gaps[:3]) or f"{VULNERABILITIES.id}: no files, as with old kernels")
    return rows


def _vulnerable(state: str) -> bool | None:
    """Source: the kernel's hw-vuln documents; itlb_multihit has `KVM: ` first, or `Processor vulnerable`."""
    words = state.removeprefix("KVM: ")
    if words == "Not affected" or words.startswith("Mitigation: "):
        return False
    return True if words.startswith(("Vulnerable", "Processor vulnerable")) else None


TABLES = (
    Table("machine", Machine, (CPUINFO, DMI, SYSFS, MARKERS, CONTAINER), parse_machine),
    Table("secure_boot", SecureBoot, (EFI, EFI_VARIABLES), parse_secure_boot),
    Table("kernel_lockdown", KernelLockdown, (LOCKDOWN,), parse_lockdown),
    Table("microcode", Microcode, (CPUINFO,), parse_microcode),
    Table("cpu_vulnerabilities", CpuVulnerability, (VULNERABILITIES,), parse_vulnerabilities),
)
