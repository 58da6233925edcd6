# SPDX-License-Identifier: Apache-2.0
"""What was done for the CPUs: simultaneous multithreading, and the microcode that the node has beside the one that runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.cpu import CPUINFO, Cpu, parse
from fleet_audit.model import Source, SourceId

_SMT, _FIRMWARE = "/sys/devices/system/cpu/smt", "/lib/firmware"
SMT = Source(
    SourceId("cpu-smt"), "attrs", {"globs": [_SMT], "names": ["active", "control"]},
    "Kernel documentation, ABI/testing/sysfs-devices-system-cpu: 1 or 0; on, off, forceoff, notsupported, notimplemented, or a number of threads.",
)  # fmt: skip
MICROCODE_FILES = Source(
    SourceId("microcode-files"), "stat",
    {"globs": [_FIRMWARE, f"{_FIRMWARE}/intel-ucode", f"{_FIRMWARE}/intel-ucode/*", f"{_FIRMWARE}/amd-ucode", f"{_FIRMWARE}/amd-ucode/*"]},
    "Kernel documentation, arch/x86/microcode: intel-ucode/FAMILY-MODEL-STEPPING in hex, amd-ucode/microcode_amd_famNNh.bin,"
    " maybe compressed. Which packages brought them is in the table `packages`.",
)  # fmt: skip


@dataclass(frozen=True)
class Smt:
    """Simultaneous multithreading. Source: /sys/devices/system/cpu/smt."""

    active: Annotated[bool, "Siblings of a core run now"]
    control: Annotated[str | None, "on, off, forceoff (until the next boot), notsupported, notimplemented, or threads for each core"]


@dataclass(frozen=True)
class MicrocodeAvailable:
    """Whether the node has a file of microcode for its CPUs; a row per kind of CPU, x86 only. It need not be newer than what runs.

    Source: /proc/cpuinfo, /lib/firmware.
    """

    vendor: Annotated[str, "GenuineIntel or AuthenticAMD"]
    family: Annotated[int, "x86 family"]
    model: Annotated[int, "x86 model"]
    stepping: Annotated[int, "x86 stepping"]
    running: Annotated[str | None, "Revision that runs, in hex"]
    file: Annotated[str, "File for this CPU (Intel) or its family (AMD); empty: none is there"]
    file_bytes: Annotated[int | None, "Its size"]


def parse_smt(evidence: Bundle) -> Iterable[Smt]:
    """One row; kernels that lack the folder do not tell."""
    entry = evidence.entries(SMT).get(_SMT, {})
    active, control = entry.get("active"), entry.get("control")
    if active not in ("0", "1"):
        raise Unread(f"{SMT.id}: {_SMT}/active is not there" if active is None else f"{SMT.id}: {_SMT}/active was not read")
    if not isinstance(control, str) or not re.fullmatch(r"on|off|forceoff|notsupported|notimplemented|\d{1,3}", control):
        evidence.gap(SMT, f"{_SMT}/control was not read or not understood")
        control = None
    yield Smt(active == "1", control)


def parse_available(evidence: Bundle) -> Iterable[MicrocodeAvailable]:
    """A row per kind of CPU."""
    there = evidence.entries(MICROCODE_FILES)
    if _FIRMWARE not in there:
        raise Unread(f"{MICROCODE_FILES.id}: no {_FIRMWARE}")
    for cpu in parse(evidence):
        if cpu.family is None or cpu.model is None or cpu.stepping is None or cpu.vendor not in _NAMES:
            raise NotUnderstood(f"{CPUINFO.id}: not an x86 CPU of Intel's or AMD's")
        folder, pattern = _NAMES[cpu.vendor](cpu)
        found = sorted(path for path in there if re.fullmatch(f"{_FIRMWARE}/{folder}/{pattern}(?:\\.initramfs)?(?:\\.xz|\\.zst)?", path))
        size = there[found[0]].get("size") if found else None
        yield MicrocodeAvailable(cpu.vendor, cpu.family, cpu.model, cpu.stepping, cpu.microcode, found[0] if found else "", size)


def _intel(cpu: Cpu) -> tuple[str, str]:
    return "intel-ucode", f"{cpu.family:02x}-{cpu.model:02x}-{cpu.stepping:02x}"


def _amd(cpu: Cpu) -> tuple[str, str]:
    return "amd-ucode", f"microcode_amd_fam{cpu.family:02x}h\\.bin" if (cpu.family or 0) >= 0x15 else "microcode_amd\\.bin"


_NAMES = {"GenuineIntel": _intel, "AuthenticAMD": _amd}


TABLES = (
    Table("smt", Smt, (SMT,), parse_smt),
    Table("microcode_available", MicrocodeAvailable, (CPUINFO, MICROCODE_FILES), parse_available),
)
