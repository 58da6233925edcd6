# SPDX-License-Identifier: Apache-2.0
"""AMD: SEV, SEV-ES and SEV-SNP on both sides."""

from __future__ import annotations

import re

from fleet_audit.facts.confidential.node import REPORTS, Node, Verdict

_LEVELS = ("none", "sev", "sev-es", "sev-snp")
_TABLE = (
    r"SEV-SNP: (?:(?P<on>RMP table physical (?:range|address)|Segmented RMP)|Memory for the RMP table has not|"
    r".*RMP.*(?:fail|not)).*"
)
_INIT = r"(?:ccp \S+: )?(?:SEV-SNP: failed to INIT|(?P<on>SEV-SNP API:)).*"


def sev_host(node: Node, name: str) -> Verdict:
    """SEV and SEV-ES.

    Source: the CPU's flag says capable, kvm_amd's parameter enabled, unless KVM called it unusable.
    """
    flag, on = node.flag(_word(name)), node.parameter("kvm_amd", _word(name))
    if flag is None or node.kvm is None:
        return None, "flags or KVM's parameters not read", None
    said = node.log.last(rf"kvm_amd: {name.upper()} (?:(?P<on>enabled)|unusable|disabled)\b.*")
    if on and not (said and not said["on"]):
        return "enabled", f"kvm_amd.{_word(name)} is on", None
    if node.virtual:
        return "absent", "cpuinfo flag hypervisor: a virtual machine whose KVM offers no SEV", None
    if flag:
        return "capable", f"cpuinfo flag {_word(name)}", _wants(node, name, said)
    return "absent", f"no cpuinfo flag {_word(name)}", "SEV in the BIOS, or a CPU that has it"


def _word(name: str) -> str:
    """A level as flags and parameters write it."""
    return name.replace("-", "_")


def _wants(node: Node, name: str, said: re.Match[str] | None) -> str:
    if said is not None and not said["on"]:
        return said.group()
    loaded = "/sys/module/kvm_amd/parameters" in (node.kvm or {})
    return f"kvm_amd.{_word(name)}=1" if loaded else "kvm_amd, which is not loaded"


def snp_host(node: Node) -> Verdict:
    """Source: a reserved RMP table, kvm_amd.sev_snp and /dev/sev together; the log's last words count."""
    flag, on = node.flag("sev_snp"), node.parameter("kvm_amd", "sev_snp")
    if flag is None or node.kvm is None or node.devices is None:
        return None, "flags, KVM's parameters or devices not read", None
    if node.virtual and not on:
        return "absent", "cpuinfo flag hypervisor: a virtual machine whose KVM offers no SEV-SNP", None
    table, init = node.log.last(_TABLE), node.log.last(_INIT)
    kvm = node.log.last(r"kvm_amd: SEV-SNP (?:(?P<on>enabled)|unusable|disabled)\b.*") if on else None
    if table is None and not node.log.whole:
        return None, "no word of the RMP table in what is left of the kernel's log", None
    reserved = table is not None and table["on"] is not None
    if not flag and not reserved:
        return "absent", table.group() if table else "no cpuinfo flag sev_snp", "SNP in BIOS and CPU"
    proof = table.group() if table else "cpuinfo flag sev_snp"
    broken = next((said.group() for said in (table, init, kvm) if said and not said["on"]), None)
    if broken or not reserved:
        return "capable", proof, broken or "a reserved RMP table"
    if not on:
        return "capable", proof, _wants(node, "sev-snp", None)
    if "/dev/sev" not in node.devices:
        return "capable", proof, "/dev/sev (module ccp)"
    return "enabled", f"{proof}; kvm_amd.sev_snp is on", None


def sev_guest(node: Node, name: str) -> Verdict:
    """Source: the kernel's lists of active features, vTom (SNP below a paravisor), Hyper-V, systemd."""
    level, proof = _sev_level(node)
    if level >= _LEVELS.index(name):
        missing = None
        if name == "sev-snp" and node.devices is not None and not _paravisor(node):
            able = node.devices.intersection({"/dev/sev-guest", REPORTS})
            missing = None if able else "to attest: /dev/sev-guest (module sev-guest)"
        return "active", proof, missing
    rung, why, missing = node.no_guest()
    return rung, proof if rung and level else why, missing


def _sev_level(node: Node) -> tuple[int, str]:
    """The highest level that anything proves, and what."""
    found = [(0, "")]
    for pattern in (r"(?:AMD )?Memory Encryption Features active: (?:AMD )?(?P<words>SEV\b.*)", r"SEV: Status: (?P<words>.*)"):
        if said := node.log.last(pattern):
            words = said["words"].split()
            reached = [n for n, level in enumerate(_LEVELS) if level.upper() in words]
            found.append((3 if "vTom" in words else max(reached, default=0), said.group()))
    if line := node.isolation(2):
        found.append((3, line))
    found += [(n, line) for n, level in enumerate(_LEVELS) if n and (line := node.systemd(level))]
    return max(found, key=lambda item: item[0])


def _paravisor(node: Node) -> bool:
    """Whether reports come from a virtual TPM. Source: Azure's vTOM guests, without /dev/sev-guest."""
    return node.isolation(2) is not None or node.log.last(r"SEV: Status: (?:.*\s)?vTom\b") is not None
