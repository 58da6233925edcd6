# SPDX-License-Identifier: Apache-2.0
"""Intel: TDX on both sides, and SGX."""

from __future__ import annotations

from fleet_audit.facts.confidential.node import REPORTS, Node, Verdict

_DEVICES = frozenset({"/dev/tdx_guest", "/dev/tdx-guest", "/dev/tdx-attest", REPORTS})


_BIOS = (
    r"(?:virt/)?tdx: .*?(?:not enabled by BIOS|BIOS not enabled|(?P<on>BIOS enabled: private KeyID)).*|"
    r"x86/tme: not enabled by BIOS.*"
)
_MODULE = (
    r"(?:virt/tdx|tdx|kvm_intel): .*?(?:(?P<on>(?:TDX-)?[Mm]odule initialized)|module not loaded|"
    r"initialization failed|SEAMCALL.*failed|Failed to initialize TDX|Hibernation support is enabled).*"
)


def tdx_host(node: Node) -> Verdict:
    """Source: BIOS line, `module initialized` and kvm_intel.tdx; the log's last words count."""
    if node.virtual:
        return "absent", "cpuinfo flag hypervisor: a virtual machine offers no TDX", None
    bios, module = node.log.last(_BIOS), node.log.last(_MODULE)
    up = module is not None and module["on"] is not None
    if bios is not None and not bios["on"]:
        return "absent", bios.group(), "TDX in the BIOS"
    if bios is None and not up:
        if node.log.whole:
            said = module.group() if module else "the kernel's log since boot has no word of TDX"
            return "absent", said, "TDX in BIOS and kernel"
        return None, "no word of TDX in what is left of the kernel's log", None
    if node.kvm is None:
        return None, "KVM's parameters were not read", None
    line = "; ".join(said.group() for said in (bios, module) if said)
    if not up:
        return "capable", line, "an initialised TDX module"
    if not node.parameter("kvm_intel", "tdx"):
        return "capable", line, "kvm_intel.tdx=1"
    return "enabled", f"{line}; kvm_intel.tdx is on", None


def tdx_guest(node: Node) -> Verdict:
    """Source: the flag tdx_guest, the kernel's words, Hyper-V's isolation type 3, or systemd's verdict."""
    said = node.log.last(r"(?:tdx: Guest detected|Memory Encryption Features active: Intel TDX).*")
    proof = "cpuinfo flag tdx_guest" if node.flag("tdx_guest") else said.group() if said else node.isolation(3) or node.systemd("tdx")
    if proof is None:
        return node.no_guest()
    if node.devices is None:
        return "active", proof, None
    able = node.devices & _DEVICES or node.isolation(3)
    return "active", proof, None if able else "to attest: /dev/tdx_guest (module tdx_guest)"


def sgx(node: Node) -> Verdict:
    """Source: cpuinfo shows sgx where CPU, BIOS and kernel allow it; the driver offers /dev/sgx_enclave."""
    flag = node.flag("sgx")
    if flag is None or node.devices is None:
        return None, "flags or devices not read", None
    if "/dev/sgx_enclave" in node.devices:
        return "enabled", "/dev/sgx_enclave", None
    if flag:
        return "capable", "cpuinfo flag sgx", "/dev/sgx_enclave"
    return "absent", "no cpuinfo flag sgx", "SGX in the BIOS, or a CPU that has it"
