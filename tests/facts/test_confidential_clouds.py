# SPDX-License-Identifier: Apache-2.0
"""Confidential guests of clouds, logs that contradict themselves, and the versions in them.

All logs are synthetic, in the words of sources.md section 6, of the kernel's source (arch/x86/coco, arch/x86/virt,
arch/x86/kernel/cpu/mshyperv.c, drivers/crypto/ccp/sev-dev.c) and of logs that users showed in public (canonical/tdx, AMDESE/AMDSEV).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.confidential.node import KERNEL_LOG
from fleet_audit.facts.tee_firmware import TABLES, TDX_HOST
from fleet_audit.model import Coverage, Status

from .helpers import ok, run, status
from .laws import cut_short, never_emptier
from .test_confidential import ALL, API, BIOS, BOOT, DENIED, DEV, ENABLED, FEATURES, ON, RMP, UP, Evidence, amd, intel, rung, rungs

(VERSIONS,) = TABLES

AZURE_SNP = amd(
    "hypervisor sev", verdict="sev-snp",
    log=f"Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2\n{FEATURES}SEV\nSEV: Status: vTom",
)  # fmt: skip
AZURE_TDX = intel(
    "hypervisor", verdict="tdx", log="Hyper-V: Isolation Config: Group A 0x1, Group B 0xbe3\nMemory Encryption Features active: Intel TDX"
)
GCP_SEV = amd("hypervisor sev", verdict="sev", log=f"{FEATURES}SEV")
GCP_SNP = amd(
    "hypervisor sev sev_es sev_snp", verdict="sev-snp", devices=("/dev/sev-guest",),
    log=f"{FEATURES}SEV SEV-ES SEV-SNP\nSEV: Using SNP CPUID table, 28 entries present.\nSEV: Status: SEV SEV-ES SEV-SNP\n"
    "sev-guest sev-guest: Initialized SEV guest driver (using VMPCK0 communication key)",
)  # fmt: skip
GCP_TDX = intel(
    "hypervisor tdx_guest", verdict="tdx", devices=("/dev/tdx_guest",),
    log="tdx: Guest detected\nMemory Encryption Features active: Intel TDX\nsystemd[1]: Detected confidential virtualization tdx.",
)  # fmt: skip


@pytest.mark.parametrize(("evidence", "technology", "missing"), [
    (AZURE_SNP, "sev-snp", None), (AZURE_TDX, "tdx", None),  # a paravisor's virtual TPM reports
    (GCP_SNP, "sev-snp", None), (GCP_TDX, "tdx", None), (GCP_SEV, "sev", None),
])  # fmt: skip
def test_guests_of_clouds(evidence: Evidence, technology: str, missing: str | None) -> None:
    assert rung(evidence, technology, "guest") == ("active", missing, Coverage.COMPLETE)


def test_a_guest_with_memory_encryption_alone_has_no_integrity() -> None:
    """Google's SEV guests: neither SEV-ES nor SEV-SNP."""
    assert rungs(GCP_SEV, "guest") == ["active", "absent", "absent"]


def test_old_systemd_on_azure() -> None:
    """Without systemd's verdict the isolation's type is what tells: 2 SNP, 3 TDX, 1 no hardware at all."""
    for kind, evidence in ((2, amd), (3, intel)):
        line = f"Hyper-V: Isolation Config: Group A 0x1, Group B 0xba{kind}"
        guest = evidence("hypervisor", log=line, verdict=status(Status.ABSENT))
        technology = "sev-snp" if kind == 2 else "tdx"
        assert rung(guest, technology, "guest")[:2] == ("active", None)
        vbs = evidence("hypervisor", log=line[:-1] + "1", verdict=status(Status.ABSENT))
        assert rung(vbs, technology, "guest")[0] == "absent"
        assert rung(evidence("hypervisor", log=DENIED, verdict="none"), technology, "guest")[0] == "absent"


def test_the_wrong_vendors_isolation_proves_nothing() -> None:
    """An AMD guest whose log says TDX, and the reverse."""
    assert rungs(amd("hypervisor", log="Hyper-V: Isolation Config: Group A 0x1, Group B 0xbe3"), "guest") == ["absent"] * 3
    assert rung(intel("hypervisor", log="Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2"), "tdx", "guest")[0] == "absent"


TDX_ON = {"kvm_intel": {"tdx": "Y"}}
FAILED = "virt/tdx: module initialization failed (-5)\nkvm_intel: Failed to initialize TDX module."


@pytest.mark.parametrize(("log", "expected"), [
    (f"{BIOS}\n{FAILED}\n{UP}", "enabled"), (f"{BIOS}\n{UP}\n{FAILED}", "capable"),
    (f"{BIOS}\n{UP}\n{BIOS}\nvirt/tdx: not enabled by BIOS", "absent"),
    (f"virt/tdx: not enabled by BIOS\n{BIOS}\n{UP}", "enabled"), (f"{UP}\nvirt/tdx: TDX-Module initialized", "enabled"),
    (f"{BIOS}\nvirt/tdx: initialization failed: Hibernation support is enabled\n{UP}", "enabled"),
    (f"{BIOS}\n{UP}\nvirt/tdx: initialization failed: TDMRs exhausted.", "capable"),
])  # fmt: skip
def test_tdx_hosts_log_that_contradicts_itself(log: str, expected: str) -> None:
    """The last word wins, as after a reload of kvm_intel."""
    assert rung(intel(log=log, kvm=TDX_ON), "tdx", "host")[0] == expected


NOT_RESERVED = "SEV-SNP: Memory for the RMP table has not been reserved by BIOS"
NO_INIT = "ccp 0000:22:00.1: SEV-SNP: failed to INIT rc -5, error 0x3"


@pytest.mark.parametrize(("log", "expected"), [
    (f"{NOT_RESERVED}\n{RMP}\n{API}\n{ENABLED}", "enabled"), (f"{RMP}\n{NOT_RESERVED}\n{API}\n{ENABLED}", "capable"),
    (f"{RMP}\n{NO_INIT}\n{API}\n{ENABLED}", "enabled"), (f"{RMP}\n{API}\n{NO_INIT}\n{ENABLED}", "capable"),
    (f"{RMP}\n{API}\nkvm_amd: SEV-SNP unusable (ASIDs 0 - 0)\n{ENABLED}", "enabled"),
    (f"{RMP}\n{API}\n{ENABLED}\nkvm_amd: SEV-SNP disabled (ASIDs 0 - 0)", "capable"),
    (f"{RMP}\nSEV-SNP: Memory reserved for the RMP table does not cover full system RAM (expected 0x1 got 0x0)\n{API}", "capable"),
    (f"{RMP}\nSEV-SNP: RMP configuration not valid: base=0x1, end=0x0\n{API}", "capable"),
    (f"SEV-SNP: Segmented RMP base table physical range [0x1 - 0x2]\n{API}\n{ENABLED}", "enabled"),
    (f"SEV-SNP: RMP table physical address [0x1 - 0x2]\n{API}\n{ENABLED}", "enabled"),  # AMD's kernels before 6.2
    (f"{RMP}\nSEV-SNP: Reserving start/end of RMP table on a 2MB boundary [0x0000000035e00000]\n{API}\n{ENABLED}", "enabled"),
])  # fmt: skip
def test_snp_hosts_log_that_contradicts_itself(log: str, expected: str) -> None:
    assert rung(amd(ALL, log=log, kvm=ON, devices=DEV), "sev-snp", "host")[0] == expected


def test_a_guests_log_that_contradicts_itself() -> None:
    """The last list of each kind counts: a kernel that was started by another one says it twice."""
    log = f"{FEATURES}SEV SEV-ES SEV-SNP\nSEV: Status: SEV SEV-ES SEV-SNP\n{FEATURES}SEV\nSEV: Status: SEV"
    assert rungs(amd("hypervisor", log=log), "guest") == ["active", "absent", "absent"]
    isolated = "Hyper-V: Isolation Config: Group A 0x1, Group B 0xba2\nHyper-V: Isolation Config: Group A 0x0, Group B 0x0"
    assert rungs(amd("hypervisor", log=isolated), "guest") == ["absent"] * 3


# --- Versions -------------------------------------------------------------------------------------

OLD_TDX = "virt/tdx: TDX module: attributes 0x0, vendor_id 0x8086, major_version 1, minor_version 5, build_date 20240129, build_num 698"


def log(*lines: str, boot: str = BOOT, version: Any = None) -> Evidence:
    stamped = "".join(f"[   {n}.366483] {line}\n" for n, line in enumerate(lines))
    return {KERNEL_LOG.id: ok(boot + stamped, 0), TDX_HOST.id: ok(json.dumps({"/sys/devices/faux/tdx_host": {"version": version}}))}


@pytest.mark.parametrize(("evidence", "rows"), [
    (log(OLD_TDX, UP), (("log", "tdx", "1.5", "698", "2024-01-29"),)),
    (log("virt/tdx: Module version: 1.5.05"), (("log", "tdx", "1.5.05", None, None),)),
    (log("virt/tdx: module version: 1.5.00.00.0481 (build_date 20230323)."), (("log", "tdx", "1.5.00.00.0481", None, None),)),
    (log("virt/tdx: Module version: 1.5.05", version="1.5.07"), (("log", "tdx", "1.5.05", None, None), ("sysfs", "tdx", "1.5.07", None, None))),
    (log(API), (("log", "sev", "1.55", "24", None), ("log", "sev-snp", "1.55", "24", None))),
    (log("ccp 0000:42:00.1: SEV API:1.49 build:3", "ccp 0000:42:00.1: SEV API:1.51 build:4"), (("log", "sev", "1.51", "4", None),)),
    (log("app: virt/tdx: Module version: 9.9.9", "SEV API", BIOS), ()), (log(), ()),
])  # fmt: skip
def test_versions(evidence: Evidence, rows: Any) -> None:
    extracted = run(VERSIONS, evidence)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, rows)
    never_emptier(VERSIONS, evidence)
    assert list(cut_short(VERSIONS, evidence, KERNEL_LOG, step=33))


def test_versions_not_read() -> None:
    """A log that lost its beginning proves no absence; what it still says counts."""
    extracted = run(VERSIONS, log(OLD_TDX, boot=""))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)
    assert run(VERSIONS, log() | {KERNEL_LOG.id: DENIED}).coverage is Coverage.NONE
    assert run(VERSIONS, log(version="nine")).coverage is Coverage.PARTIAL
    assert run(VERSIONS, log(version={"status": "denied", "detail": ""})).coverage is Coverage.PARTIAL


@given(st.binary(max_size=300), st.integers(0, 300), st.sampled_from(Status))
def test_nothing_raises(junk: bytes, at: int, what: Status) -> None:
    whole = log(OLD_TDX, API)
    for source in VERSIONS.sources:
        body = whole[source.id].body
        for mangled in (junk, body[:at] + junk + body[at:]):
            assert not run(VERSIONS, whole | {source.id: Item(what, mangled)}).reason.startswith("not understood: ")
