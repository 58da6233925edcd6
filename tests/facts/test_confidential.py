# SPDX-License-Identifier: Apache-2.0
"""Confidential computing of the CPU.

All evidence is synthetic. Lines of the kernel's log are written as the kernel prints them:
Documentation/arch/x86/tdx.rst, arch/x86/{coco,virt}, arch/x86/kernel/cpu/mshyperv.c, drivers/crypto/ccp,
arch/x86/kvm/svm; see sources.md section 6.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Extract, Item
from fleet_audit.facts.confidential import TABLES
from fleet_audit.facts.confidential.node import CVM, DEVICES, KERNEL_LOG, KVM
from fleet_audit.facts.cpu import CPUINFO
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import never_emptier

(TABLE,) = TABLES
Evidence = dict[SourceId, Item]
BOOT = "[    0.000000] Linux version 6.14.0-37-generic (buildd@lcy02) #37-Ubuntu SMP\n"
EARLY = "[    0.000000] microcode: updated early: 0x2b000590 -> 0x2b000603\n"
DENIED = Item(Status.FAILED, exit=1, detail="exit 1: dmesg: read kernel buffer failed: Operation not permitted")


def cpuinfo(vendor: str, flags: str) -> Item:
    """synthetic: proc_cpuinfo(5)."""
    return ok(f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: 25\nmodel\t\t: 17\nflags\t\t: fpu {flags}\n")


def host(
    vendor: str,
    flags: str = "",
    log: str | Item = "",
    kvm: dict[str, Any] | None = None,
    devices: tuple[str, ...] = (),
    verdict: str | Item = "none",
) -> Evidence:
    """A node: its log begins at the boot unless it is an Item."""
    listed = {f"/sys/module/{name}/parameters": values for name, values in (kvm or {}).items()}
    here = {
        path: {"type": "char", "mode": 384} if path in devices else {"status": "absent", "detail": ""} for path in DEVICES.args["globs"]
    }
    stamped = "".join(f"[   {n}.824045] {line}\n" for n, line in enumerate(log.splitlines())) if isinstance(log, str) else ""
    return {
        CPUINFO.id: cpuinfo(vendor, flags),
        KVM.id: ok(json.dumps(listed)),
        DEVICES.id: ok(json.dumps(here)),
        KERNEL_LOG.id: log if isinstance(log, Item) else ok(BOOT + stamped, 0),
        CVM.id: verdict if isinstance(verdict, Item) else ok(verdict + "\n", 1),
    }


def intel(flags: str = "", **more: Any) -> Evidence:
    """An Intel node."""
    return host("GenuineIntel", flags, **more)


def amd(flags: str = "", **more: Any) -> Evidence:
    """An AMD node."""
    return host("AuthenticAMD", flags, **more)


def rung(evidence: Evidence, technology: str, side: str) -> tuple[str | None, str | None, Coverage]:
    """Rung, what is missing, and the table's coverage."""
    found = run(TABLE, evidence)
    (row,) = [r for r in rows_as_dicts(TABLE, found) if (r["technology"], r["side"]) == (technology, side)]
    assert row["evidence"]
    return row["rung"], row["missing"], found.coverage


def rungs(evidence: Evidence, side: str) -> list[str | None]:
    """The rungs of one side, in order."""
    return [r["rung"] for r in rows_as_dicts(TABLE, run(TABLE, evidence)) if r["side"] == side]


BIOS = "virt/tdx: BIOS enabled: private KeyID range [32, 64)"
UP = "virt/tdx: 1050644 KB allocated for PAMT\nvirt/tdx: module initialized"


@pytest.mark.parametrize(
    ("log", "tdx", "expected"),
    [
        (f"{BIOS}\n{UP}", "Y", "enabled"),
        ("tdx: BIOS enabled: private KeyID range: [16, 64).\nvirt/tdx: TDX-Module initialized", "Y", "enabled"),
        (f"{BIOS}\n{UP}", "N", "capable"),
        (f"{BIOS}\n{UP}", None, "capable"),
        (BIOS, "Y", "capable"),
        (f"{BIOS}\nvirt/tdx: module not loaded", "Y", "capable"),
        (f"{BIOS}\n{UP}\nvirt/tdx: SEAMCALL (0x0000000000000021) failed: 0xc000050000000000", "Y", "capable"),
        (f"{BIOS}\nvirt/tdx: module initialization failed (-5)", "N", "capable"),
        (f"{BIOS}\nkvm_intel: Failed to initialize TDX module.", "N", "capable"),
        (f"{BIOS}\nvirt/tdx: initialization failed: Hibernation support is enabled", "N", "capable"),
        (f"{BIOS}\nvirt/tdx: not enabled by BIOS", "Y", "absent"),
        ("x86/tme: not enabled by BIOS\nvirt/tdx: TDX not supported", "N", "absent"),
        (f"x86/tme: not enabled by BIOS\n{BIOS}", "N", "capable"),
        ("kvm_intel: Failed to initialize TDX module.", "N", "absent"),
        ("", "Y", "absent"),
        ("myapp: virt/tdx: module initialized\nmy virt/tdx: BIOS enabled: private KeyID range [1, 2)", "Y", "absent"),
    ],
)
def test_tdx_host(log: str, tdx: str | None, expected: str) -> None:
    """The log's last word on BIOS and module, then KVM's parameter."""
    kvm = {"kvm_intel": {"tdx": tdx, "sev": None, "sev_es": None, "sev_snp": None}}
    found, missing, coverage = rung(intel("sgx", log=log, kvm=kvm), "tdx", "host")
    assert (found, coverage) == (expected, Coverage.COMPLETE)
    assert (missing is None) == (expected == "enabled")


def test_tdx_host_in_a_log_that_lost_its_beginning() -> None:
    """A wrapped buffer proves no absence; what it still says counts."""
    wrapped = ok("[ 9000.1] usb 1-1: new device\n")
    assert rung(intel(log=wrapped), "tdx", "host")[::2] == (None, Coverage.PARTIAL)
    assert rung(intel(log=ok(f"[ 9.1] {BIOS}\n")), "tdx", "host")[::2] == ("capable", Coverage.COMPLETE)
    assert rung(intel(log=ok(EARLY + BOOT)), "tdx", "host")[::2] == ("absent", Coverage.COMPLETE)
    assert rung(intel(log=DENIED), "tdx", "host")[::2] == (None, Coverage.PARTIAL)
    cut = Item(Status.TRUNCATED, (BOOT + f"[ 1.0] {BIOS}").encode())
    assert rung(intel(log=cut), "tdx", "host")[::2] == (None, Coverage.PARTIAL)


def test_a_virtual_machine_is_no_tdx_host() -> None:
    """The flag of the hypervisor settles it."""
    assert rung(intel("hypervisor", log=DENIED), "tdx", "host")[0] == "absent"


@pytest.mark.parametrize(
    "proof",
    [
        {"flags": "hypervisor tdx_guest", "verdict": "tdx"},
        {"flags": "hypervisor", "log": "tdx: Guest detected"},
        {"log": "Memory Encryption Features active: Intel TDX"},
        {"verdict": "tdx", "log": DENIED},
        {"log": "Hyper-V: Isolation Config: Group A 0x1, Group B 0xba3"},
        {"log": "systemd[1]: Detected confidential virtualization tdx.", "verdict": ok("", 1)},
        {"flags": "tdx_guest", "log": DENIED, "verdict": status(Status.ABSENT)},
    ],
)
def test_tdx_guest(proof: dict[str, Any]) -> None:
    """Each of these proves it alone."""
    assert rung(intel(**proof), "tdx", "guest")[0] == "active"


def test_tdx_guest_that_cannot_attest() -> None:
    """Without a device a guest is protected and cannot attest; below a paravisor the vTPM reports."""
    bare = intel("tdx_guest hypervisor", verdict="tdx")
    assert rung(bare, "tdx", "guest")[1] is not None
    for path in ("/dev/tdx_guest", "/dev/tdx-attest", "/sys/kernel/config/tsm/report"):
        assert rung(intel("tdx_guest", devices=(path,)), "tdx", "guest")[1] is None
    azure = intel(log="Hyper-V: Isolation Config: Group A 0x1, Group B 0xba3")
    assert rung(azure, "tdx", "guest")[:2] == ("active", None)


@pytest.mark.parametrize(
    ("log", "verdict", "expected", "coverage"),
    [
        ("", "none", "absent", Coverage.COMPLETE),
        ("", ok("", 1), "absent", Coverage.COMPLETE),
        ("Hyper-V: Isolation Config: Group A 0x0, Group B 0x1", "none", "absent", Coverage.COMPLETE),
        ("Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2", "none", "absent", Coverage.COMPLETE),
        (DENIED, "none", "absent", Coverage.PARTIAL),
        (DENIED, ok("", 1), None, Coverage.PARTIAL),
        (DENIED, ok("brand-new\n", 0), None, Coverage.PARTIAL),
        (DENIED, status(Status.ABSENT), None, Coverage.PARTIAL),
        ("", status(Status.TIMEOUT), "absent", Coverage.PARTIAL),
    ],
)
def test_no_tdx_guest(log: str | Item, verdict: str | Item, expected: str | None, coverage: Coverage) -> None:
    """Absence needs the whole log or systemd's word."""
    assert rung(intel("hypervisor", log=log, verdict=verdict), "tdx", "guest")[::2] == (expected, coverage)


@pytest.mark.parametrize(
    ("flags", "devices", "expected"),
    [
        ("", (), "absent"),
        ("sgx sgx_lc", (), "capable"),
        ("sgx", ("/dev/sgx_enclave",), "enabled"),
    ],
)
def test_sgx(flags: str, devices: tuple[str, ...], expected: str) -> None:
    """Flag and device."""
    assert rung(intel(flags, devices=devices), "sgx", "host")[0] == expected


RMP = "SEV-SNP: RMP table physical range [0x0000000100000000 - 0x0000000101000000]"
ON = {"kvm_amd": {"sev": "Y", "sev_es": "Y", "sev_snp": "Y"}}
OFF = {"kvm_amd": {"sev": "Y", "sev_es": "Y", "sev_snp": "N"}}
ALL = "sev sev_es sev_snp"
ENABLED = "kvm_amd: SEV enabled (ASIDs 100 - 509)\nkvm_amd: SEV-ES enabled (ASIDs 1 - 99)\nkvm_amd: SEV-SNP enabled (ASIDs 1 - 99)"
API = "ccp 0000:02:00.5: SEV API:1.55 build:24\nccp 0000:02:00.5: SEV-SNP API:1.55 build:24"
DEV = ("/dev/sev",)


@pytest.mark.parametrize(
    ("flags", "log", "kvm", "devices", "expected"),
    [
        (ALL, f"{RMP}\n{API}\n{ENABLED}", ON, DEV, ["enabled", "enabled", "enabled"]),
        (ALL, f"{RMP}\n{API}", ON, DEV, ["enabled", "enabled", "enabled"]),
        (ALL, RMP, {"kvm_amd": {"sev": "1", "sev_es": "0", "sev_snp": "1"}}, DEV, ["enabled", "capable", "enabled"]),
        (ALL, RMP, ON, (), ["enabled", "enabled", "capable"]),
        (ALL, RMP, OFF, DEV, ["enabled", "enabled", "capable"]),
        (ALL, "", ON, DEV, ["enabled", "enabled", "capable"]),
        ("sev sev_es", RMP, OFF, DEV, ["enabled", "enabled", "capable"]),
        (ALL, f"{RMP}\nccp 0000:22:00.1: SEV-SNP: failed to INIT rc -5, error 0x3", ON, DEV, ["enabled", "enabled", "capable"]),
        (ALL, "SEV-SNP: Memory for the RMP table has not been reserved by BIOS", ON, DEV, ["enabled", "enabled", "capable"]),
        ("sev sev_es", "SEV-SNP: Memory for the RMP table has not been reserved by BIOS", OFF, DEV, ["enabled", "enabled", "absent"]),
        (
            ALL,
            f"{RMP}\nkvm_amd: SEV unusable (ASIDs 100 - 99)\nkvm_amd: SEV-SNP disabled (ASIDs 0 - 0)",
            ON,
            DEV,
            ["capable", "enabled", "capable"],
        ),
        (ALL, "kvm_amd: SEV supported: 410 ASIDs", {}, DEV, ["capable", "capable", "capable"]),
        ("", "", {}, (), ["absent", "absent", "absent"]),
        ("hypervisor " + ALL, "", {}, (), ["absent", "absent", "absent"]),
    ],
)
def test_sev_host(flags: str, log: str, kvm: dict[str, Any], devices: tuple[str, ...], expected: list[str]) -> None:
    """`supported` is not `enabled`; SNP needs its table, its parameter and its device."""
    evidence = amd(flags, log=log, kvm=kvm, devices=devices)
    assert rungs(evidence, "host") == expected
    assert run(TABLE, evidence).coverage is Coverage.COMPLETE


def test_sev_host_without_the_log() -> None:
    """Without the log SNP is not determined, and the rest is partial."""
    evidence = amd(ALL, log=DENIED, kvm=ON, devices=DEV)
    assert rungs(evidence, "host") == ["enabled", "enabled", None]
    assert run(TABLE, evidence).coverage is Coverage.PARTIAL


FEATURES = "Memory Encryption Features active: AMD "


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"log": f"{FEATURES}SEV SEV-ES SEV-SNP\nSEV: Status: SEV SEV-ES SEV-SNP DebugSwap"}, 3),
        ({"log": f"{FEATURES}SEV SEV-ES"}, 2),
        ({"log": "AMD Memory Encryption Features active: SEV"}, 1),
        ({"log": f"{FEATURES}SEV\nSEV: Status: vTom"}, 3),
        ({"log": f"{FEATURES}SEV\nHyper-V: Isolation Config: Group A 0x1, Group B 0xba2"}, 3),
        ({"log": f"{FEATURES}SEV", "verdict": "sev-snp"}, 3),
        ({"log": DENIED, "verdict": "sev-es"}, 2),
        ({"log": f"{FEATURES}SME", "verdict": "none"}, 0),
        ({"log": "Hyper-V: Isolation Config: Group A 0x0, Group B 0x1"}, 0),
        ({"log": ""}, 0),
        ({"log": "SEV: Status: SEV SEV-ES SEV-SNP\nSEV: Status: SEV"}, 1),
    ],
)
def test_sev_guest(more: dict[str, Any], expected: int) -> None:
    """The highest level proven holds for those below; flags of the CPU alone prove none."""
    assert rungs(amd("hypervisor " + ALL, **more), "guest") == ["active"] * expected + ["absent"] * (3 - expected)


def test_sev_guest_that_nothing_tells_of() -> None:
    """Neither log nor verdict: not determined, flags or not."""
    evidence = amd("hypervisor " + ALL, log=DENIED, verdict=status(Status.ABSENT))
    assert rungs(evidence, "guest") == [None, None, None]
    assert run(TABLE, evidence).coverage is Coverage.PARTIAL
    wrapped = amd("hypervisor", log=ok(f"[ 99.1] {FEATURES}SEV\n"), verdict=ok("", 1))
    assert rungs(wrapped, "guest") == ["active", None, None]


def test_sev_guest_that_cannot_attest() -> None:
    """A guest without a paravisor reports through its device."""
    plain = {"log": f"{FEATURES}SEV SEV-ES SEV-SNP"}
    assert rung(amd(**plain), "sev-snp", "guest")[1] is not None
    assert rung(amd(**plain, devices=("/dev/sev-guest",)), "sev-snp", "guest")[1] is None
    assert rung(amd(log=f"{FEATURES}SEV\nSEV: Status: vTom"), "sev-snp", "guest")[1] is None


@pytest.mark.parametrize(
    "item",
    [
        ok("processor\t: 0\nCPU implementer\t: 0x41\nFeatures\t: fp\n"),
        cpuinfo("HygonGenuine", "sev"),
        ok(""),
        status(Status.DENIED),
        ok("processor\t: 0\nvendor_id\t: GenuineIntel\nprocessor\t: 1\nvendor_id\t: AuthenticAMD\n"),
    ],
)
def test_other_cpus(item: Item) -> None:
    """Without rules for a CPU nothing is said, least of all `absent`."""
    found = run(TABLE, intel() | {CPUINFO.id: item})
    assert (found.coverage, found.rows) == (Coverage.NONE, ())


def test_flags_not_read() -> None:
    """A CPU that shows no flags is not one without features."""
    evidence = amd(kvm=ON, log=RMP) | {CPUINFO.id: ok("processor\t: 0\nvendor_id\t: AuthenticAMD\n")}
    assert rungs(evidence, "host") == [None, None, None]
    assert run(TABLE, evidence).coverage is Coverage.PARTIAL


def test_parameters_not_understood() -> None:
    """A parameter that is neither on nor off is a gap."""
    for odd in ("maybe", {"status": "denied", "detail": ""}):
        evidence = intel(log=f"{BIOS}\n{UP}", kvm={"kvm_intel": {"tdx": odd}})
        assert rung(evidence, "tdx", "host")[::2] == ("capable", Coverage.PARTIAL)


NODES = {
    "tdx host": intel("sgx", log=f"{BIOS}\n{UP}", kvm={"kvm_intel": {"tdx": "Y"}}, devices=("/dev/sgx_enclave",)),
    "tdx guest": intel("tdx_guest hypervisor", log="tdx: Guest detected", verdict="tdx"),
    "snp host": amd(ALL, log=f"{RMP}\n{API}\n{ENABLED}", kvm=ON, devices=DEV),
    "snp guest": amd("hypervisor", log=f"{FEATURES}SEV\nSEV: Status: vTom", verdict="sev-snp"),
    "nothing": intel(),
}
ORDER = (None, "absent", "capable", "enabled", "active")


def better(less: Extract, more: Extract) -> list[tuple[Any, Any]]:
    """Rows whose rung is higher in the first."""
    return [(a, b) for a, b in zip(less.rows, more.rows, strict=True) if ORDER.index(a[2]) > ORDER.index(b[2])]


@pytest.mark.parametrize("name", NODES)
def test_law(name: str) -> None:
    """Less evidence never gives an emptier truth, nor a complete or a better one."""
    never_emptier(TABLE, NODES[name])
    whole = run(TABLE, NODES[name])
    for source in TABLE.sources:
        for what in (Status.DENIED, Status.TIMEOUT, Status.UNREACHED):
            less = run(TABLE, NODES[name] | {source.id: status(what)})
            assert less.coverage is not Coverage.COMPLETE
            assert not less.rows or not better(less, whole)


@pytest.mark.parametrize("name", NODES)
def test_log_cut_short(name: str) -> None:
    """A log that was cut proves no absence and no more than the whole."""
    body = NODES[name][KERNEL_LOG.id].body
    for size in range(0, len(body), 50):
        less = run(TABLE, NODES[name] | {KERNEL_LOG.id: Item(Status.TRUNCATED, body[:size])})
        assert less.coverage is Coverage.PARTIAL
        assert not better(less, run(TABLE, NODES[name]))


@given(data=st.data())
def test_any_bytes(data: st.DataObject) -> None:
    """Whatever a source says, nothing raises, and there are all rows or none."""
    base = NODES[data.draw(st.sampled_from(sorted(NODES)))]
    source = data.draw(st.sampled_from(TABLE.sources))
    body = base[source.id].body
    at, junk = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=30))
    mangled = data.draw(st.sampled_from([junk, body[:at] + junk + body[at:], body[:at]]))
    found = run(TABLE, {**base, source.id: Item(data.draw(st.sampled_from(Status)), mangled)})
    assert not found.reason.startswith("not understood: ")
    assert len(found.rows) in (0, 3, 6)
