# SPDX-License-Identifier: Apache-2.0
"""What is read of a node to judge it: the kernel's log, KVM's parameters, devices, systemd's verdict."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from fleet_audit.facts.base import Bundle, Unread
from fleet_audit.facts.cpu import Cpu, whole_lines
from fleet_audit.model import Source, SourceId, Status

REPORTS = "/sys/kernel/config/tsm/report"

KERNEL_LOG = Source(
    SourceId("kernel-log"),
    "command",
    {
        "argv": ["dmesg"],
        "redact": True,
        "grep": [
            "Linux version",
            "tdx",
            "TDX",
            "SEV",
            "Memory Encryption",
            "RMP",
            "SNP",
            "Isolation Config",
            "x86/tme",
            "confidential virtualization",
            "Hibernation support",
            "SEAMCALL",
            "microcode",
        ],
    },
    "dmesg(1): the kernel's ring buffer, reduced to lines about memory encryption and microcode. It holds the"
    " whole boot only while `Linux version` is still in it.",
    needs_root=True,
    cap_bytes=512 << 10,
)
KVM = Source(
    SourceId("kvm-parameters"),
    "attrs",
    {"globs": ["/sys/module/kvm_*/parameters"], "names": ["tdx", "sev", "sev_es", "sev_snp"]},
    "Parameters of KVM's vendor modules: Y or 1 is on. No folder: the module is not loaded.",
)
DEVICES = Source(
    SourceId("confidential-devices"),
    "stat",
    {"globs": ["/dev/tdx_guest", "/dev/tdx-guest", "/dev/tdx-attest", "/dev/sev-guest", "/dev/sev", "/dev/sgx_enclave", REPORTS]},
    "Kernel documentation, virt/coco and ABI/testing/configfs-tsm: interfaces of hosts, guests and enclaves.",
)
CVM = Source(
    SourceId("systemd-cvm"),
    "command",
    {"argv": ["systemd-detect-virt", "--cvm"], "ok_exits": [0, 1]},
    "systemd-detect-virt(1), version 254 and up: the guest's technology, or `none` with exit status 1.",
)

_TOLD = re.compile("|".join(map(re.escape, KERNEL_LOG.args["grep"])))
_LINE_CAP = 2048
"""Characters of a line; the kernel's own lines have fewer than 1,100."""
_STAMP = re.compile(r"(?:<\d+>)?(?:\[[\s\d.,]+\])?\s*(?:\[[\sTC\d]+\])?\s*")
_WORDS = frozenset({"none", "sev", "sev-es", "sev-snp", "tdx", "protvirt", "cca"})

Verdict = tuple[str | None, str, str | None]
"""Rung, evidence, what is missing."""


@dataclass(frozen=True)
class Log:
    """The kernel's log as far as it was read, without time stamps."""

    lines: tuple[str, ...]
    whole: bool
    """It reaches back to the boot: what is not in it was not said."""

    def last(self, pattern: str) -> re.Match[str] | None:
        """The last statement that matches from its beginning: a later one overrides."""
        return next((m for line in reversed(self.lines) if (m := re.match(pattern, line))), None)


@dataclass(frozen=True)
class Node:
    """What was read of a node."""

    cpu: Cpu
    log: Log
    kvm: dict[str, dict[str, Any]] | None
    """{folder of parameters: parameters}; None if not read."""
    devices: frozenset[str] | None
    """Those that are there; None if not read."""
    verdict: str | None
    """systemd's; None if it gave none."""

    @property
    def virtual(self) -> bool:
        """Whether the CPU says that a hypervisor runs it."""
        return self.cpu.hypervisor is True

    def flag(self, name: str) -> bool | None:
        """Whether the CPU shows a feature; None if its flags were not read."""
        return None if self.cpu.flags is None else name in self.cpu.flags

    def parameter(self, module: str, name: str) -> bool | None:
        """A switch of a KVM module; None if it is not there or not understood."""
        text = (self.kvm or {}).get(f"/sys/module/{module}/parameters", {}).get(name)
        return {"Y": True, "1": True, "N": False, "0": False}.get(text) if isinstance(text, str) else None

    def isolation(self, kind: int) -> str | None:
        """The log's line if Hyper-V isolates this guest so. Source: the low four bits of group B."""
        said = self.log.last(r"Hyper-V: Isolation Config: Group A 0x[0-9a-f]+, Group B 0x([0-9a-f]{1,8})\b.*")
        return said.group() if said and int(said[1], 16) & 15 == kind else None

    def systemd(self, word: str) -> str | None:
        """What says that systemd found this technology, now or at boot."""
        if self.verdict == word:
            return f"systemd-detect-virt --cvm: {word}"
        said = self.log.last(r"systemd\[1\]: Detected confidential virtualization ([a-z-]+)\.?")
        return said.group() if said and said[1] == word else None

    def no_guest(self) -> Verdict:
        """For a guest of which nothing proves protection: absent if what would know it was read."""
        if self.log.whole:
            return "absent", "the kernel's log since boot says nothing of it", None
        if self.verdict is not None:
            return "absent", f"systemd-detect-virt --cvm: {self.verdict}", None
        return None, "neither the whole kernel log nor a verdict of systemd was read", None


def read(evidence: Bundle, cpu: Cpu) -> Node:
    """All that can be read; what cannot is a gap."""
    kvm, devices = _entries(evidence, KVM), _entries(evidence, DEVICES)
    for path, entry in (kvm or {}).items():
        for name, content in entry.items():
            if content not in ("Y", "N", "0", "1", None):
                evidence.gap(KVM, f"{path}/{name} not read or not understood")
    return Node(cpu, _log(evidence), kvm, None if devices is None else frozenset(devices), _verdict(evidence))


def _log(evidence: Bundle) -> Log:
    text = _text(evidence, KERNEL_LOG)
    told = (line[:_LINE_CAP] for line in (text or "").splitlines() if _TOLD.search(line))
    if text is not None and text.strip() and not _TOLD.search(text):
        evidence.gap(KERNEL_LOG, "none of the lines that were asked for")
    lines = tuple(_STAMP.sub("", line, count=1).rstrip() for line in told)
    whole = evidence.item(KERNEL_LOG).status is Status.OK
    return Log(lines, whole and any(line.startswith("Linux version ") for line in lines))


def _text(evidence: Bundle, source: Source) -> str | None:
    try:
        return whole_lines(evidence, source)
    except Unread as unread:
        evidence.gaps.append(str(unread))
        return None


def _entries(evidence: Bundle, source: Source) -> dict[str, dict[str, Any]] | None:
    try:
        return evidence.entries(source)
    except Unread as unread:
        evidence.gaps.append(str(unread))
        return None


def _verdict(evidence: Bundle) -> str | None:
    """systemd's word; older versions print none at all, which says nothing."""
    word = (_text(evidence, CVM) or "").strip()
    if word and word not in _WORDS:
        evidence.gap(CVM, "another word than those that are known")
    return word if word in _WORDS else None
