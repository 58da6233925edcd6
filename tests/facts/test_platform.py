# SPDX-License-Identifier: Apache-2.0
"""TPM, IOMMU, Thunderbolt, SMT and microcode, as the `attrs` and `stat` readers answer them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import dma, processor, tpm
from fleet_audit.facts.base import Item
from fleet_audit.facts.cpu import CPUINFO
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_attrs, read_file, read_stat

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

TPMS, PCRS = tpm.TABLES
UNITS, GROUPS, THUNDERBOLT = dma.TABLES
SMT, MICROCODE = processor.TABLES
TABLES = (*tpm.TABLES, *dma.TABLES, *processor.TABLES)
Evidence = dict[SourceId, Item]
ABSENT, DENIED = {"status": "absent", "detail": ""}, {"status": "denied", "detail": ""}
DIR, CHAR = {"type": "dir"}, {"type": "char", "mode": 432}
CLASSES = ok(json.dumps({"/sys/class": DIR}))
NO_SYSFS = ok(json.dumps({"/sys/class": ABSENT}))


def js(value: Any) -> Item:
    return value if isinstance(value, Item) else ok(json.dumps(value))


# --- TPM: synthetic, ABI/stable/sysfs-class-tpm -----------------------------------------------------

NONE = {"tpm_version_major": None, "description": None, "caps": None, "driver": None}
TPM2 = {
    "/sys/class/tpm/tpm0": NONE | {"tpm_version_major": "2"},
    "/sys/class/tpm/tpm0/device": NONE | {"description": "TPM 2.0 Device", "driver": "tpm_tis"},
}
TPM2_FILES = {
    "/dev/tpm0": CHAR, "/dev/tpmrm0": CHAR, "/sys/class/tpm/tpm0/pcr-sha1": DIR, "/sys/class/tpm/tpm0/pcr-sha256": DIR,
    "/sys/kernel/security/tpm0/binary_bios_measurements": {"type": "file"},
}  # fmt: skip
TPM1 = {
    "/sys/class/tpm/tpm0": NONE,
    "/sys/class/tpm/tpm0/device": NONE | {"caps": "Manufacturer: 0x53544d20\nTCG version: 1.2\nFirmware version: 8.16"},
}


def tpms(chips: Any, files: Any, classes: Item = CLASSES) -> Evidence:
    return {tpm.CHIPS.id: js(chips), tpm.FILES.id: js(files), SYSFS.id: classes}


@pytest.mark.parametrize(("evidence", "rows", "coverage"), [
    (tpms(TPM2, TPM2_FILES), (("tpm0", 2, "TPM 2.0 Device", "tpm_tis", ["sha1", "sha256"], True, True),), Coverage.COMPLETE),
    (tpms(TPM1, {"/dev/tpm0": CHAR}), (("tpm0", 1, None, None, [], False, False),), Coverage.COMPLETE),
    # a kernel before 5.5: the resource manager's file is of TPM 2.0
    (tpms(TPM2 | {"/sys/class/tpm/tpm0": NONE}, {"/dev/tpmrm0": CHAR}),
     (("tpm0", 2, "TPM 2.0 Device", "tpm_tis", [], True, False),), Coverage.COMPLETE),
    (tpms({}, {}), (), Coverage.COMPLETE), (tpms({}, {}, NO_SYSFS), (), Coverage.NONE),
    (tpms({"/sys/class/tpm/tpm0": NONE}, {}), (("tpm0", None, None, None, [], False, False),), Coverage.PARTIAL),
    (tpms({"/sys/class/tpm/tpm0": NONE | {"tpm_version_major": DENIED}}, {}), (("tpm0", None, None, None, [], False, False),), Coverage.PARTIAL),
    # a contradiction: a device file of a TPM that sysfs does not show
    (tpms({}, {"/dev/tpm1": CHAR}), (("tpm1", None, None, None, [], False, False),), Coverage.PARTIAL),
])  # fmt: skip
def test_tpm(evidence: Evidence, rows: Any, coverage: Coverage) -> None:
    extracted = run(TPMS, evidence)
    assert (extracted.rows, extracted.coverage) == (rows, coverage)
    never_emptier(TPMS, evidence)


def test_pcrs() -> None:
    digest = "2ED93F199692DC6788EFA6A1FE74514AB9760B2A6CEEAEF6C808C13E4ABB0D42"  # the ABI document's example
    bank: dict[str, Any] = {"0": digest, "7": "0" * 64, "12": None, "14": {"status": "failed", "detail": "Timer expired"}}
    extracted = run(PCRS, {tpm.PCRS.id: js({"/sys/class/tpm/tpm0/pcr-sha256": bank}), SYSFS.id: CLASSES})
    assert extracted.rows == (("tpm0", 0, digest.lower()), ("tpm0", 7, "0" * 64))
    assert (extracted.coverage, "14 was not read" in extracted.reason) == (Coverage.PARTIAL, True)
    none = run(PCRS, {tpm.PCRS.id: js({}), SYSFS.id: CLASSES})
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    assert run(PCRS, {tpm.PCRS.id: js({}), SYSFS.id: NO_SYSFS}).coverage is Coverage.NONE
    for odd in ("a", "/sys/class/tpm/x/pcr-sha256"):  # found by hypothesis: a folder that is no TPM's
        assert run(PCRS, {tpm.PCRS.id: js({odd: {"0": digest}}), SYSFS.id: CLASSES}).coverage is Coverage.NONE
    never_emptier(PCRS, {tpm.PCRS.id: js({"/sys/class/tpm/tpm0/pcr-sha256": {"0": digest}}), SYSFS.id: CLASSES})


# --- IOMMU and Thunderbolt: synthetic, ABI/testing/sysfs-{class-iommu,kernel-iommu_groups,bus-thunderbolt} ---

ROOTS = {"/sys/kernel": DIR, "/sys/bus": DIR}


def iommu(units: Any = None, groups: Any = None, members: Any = None) -> Evidence:
    there = ROOTS | ({"/sys/class/iommu/dmar0": {"type": "link"}, "/sys/class/iommu/dmar1": {"type": "link"}} if units is None else units)
    found = (
        {"/sys/kernel/iommu_groups/10": {"type": "DMA-FQ"}, "/sys/kernel/iommu_groups/2": {"type": "identity"}}
        if groups is None
        else groups
    )
    devices = ("10/devices/0000:18:00.0", "10/devices/0000:18:00.1", "2/devices/0000:00:1f.0")
    links = {f"/sys/kernel/iommu_groups/{device}": {"type": "link"} for device in devices} if members is None else members
    return {dma.UNITS.id: js(there), dma.GROUPS.id: js(found), dma.MEMBERS.id: js(links)}


def test_iommu() -> None:
    assert run(UNITS, iommu()).rows == (("dmar0",), ("dmar1",))
    extracted = run(GROUPS, iommu())
    assert (extracted.coverage, extracted.rows) == (
        Coverage.COMPLETE, ((2, "identity", ["0000:00:1f.0"]), (10, "DMA-FQ", ["0000:18:00.0", "0000:18:00.1"]))
    )  # fmt: skip
    for table in (UNITS, GROUPS):
        never_emptier(table, iommu())


def test_no_iommu_is_proved_by_sysfs_alone() -> None:
    off = iommu({}, {}, {})
    for table in (UNITS, GROUPS):
        extracted = run(table, off)
        assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
        assert run(table, off | {dma.UNITS.id: js(dict.fromkeys(ROOTS, ABSENT))}).coverage is Coverage.NONE


@pytest.mark.parametrize(("groups", "rows"), [
    ({"/sys/kernel/iommu_groups/10": {"type": None}, "/sys/kernel/iommu_groups/2": {"type": "DMA"}}, Coverage.COMPLETE),  # before 5.11
    ({"/sys/kernel/iommu_groups/10": {"type": DENIED}, "/sys/kernel/iommu_groups/2": {"type": "DMA"}}, Coverage.PARTIAL),
    ({"/sys/kernel/iommu_groups/x": {"type": "DMA"}}, Coverage.PARTIAL), ({}, Coverage.PARTIAL),
])  # fmt: skip
def test_types_of_groups(groups: Any, rows: Coverage) -> None:
    extracted = run(GROUPS, iommu(groups=groups))
    assert extracted.coverage is rows and {row[0] for row in extracted.rows} == {10, 2}


def thunderbolt(domains: Any, roots: Any = ROOTS) -> Evidence:
    return {dma.THUNDERBOLT.id: js(domains), dma.UNITS.id: js(roots)}


@pytest.mark.parametrize(("entry", "row", "coverage"), [
    ({"security": "user", "iommu_dma_protection": "1"}, ("domain0", "user", True), Coverage.COMPLETE),
    ({"security": "none", "iommu_dma_protection": "0"}, ("domain0", "none", False), Coverage.COMPLETE),
    ({"security": "dponly", "iommu_dma_protection": None}, ("domain0", "dponly", None), Coverage.COMPLETE),
    ({"security": None, "iommu_dma_protection": "1"}, ("domain0", None, True), Coverage.PARTIAL),
    ({"security": "user", "iommu_dma_protection": "yes"}, ("domain0", "user", None), Coverage.PARTIAL),
    ({"security": DENIED, "iommu_dma_protection": DENIED}, ("domain0", None, None), Coverage.PARTIAL),
])  # fmt: skip
def test_thunderbolt(entry: Any, row: Any, coverage: Coverage) -> None:
    evidence = thunderbolt({"/sys/bus/thunderbolt/devices/domain0": entry})
    extracted = run(THUNDERBOLT, evidence)
    assert (extracted.rows, extracted.coverage) == ((row,), coverage)
    never_emptier(THUNDERBOLT, evidence)


def test_no_thunderbolt() -> None:
    assert run(THUNDERBOLT, thunderbolt({})).coverage is Coverage.COMPLETE
    assert run(THUNDERBOLT, thunderbolt({}, {"/sys/bus": ABSENT})).coverage is Coverage.NONE
    assert run(THUNDERBOLT, thunderbolt(status(Status.DENIED))).coverage is Coverage.NONE


# --- CPUs -------------------------------------------------------------------------------------------

FOLDER = "/sys/devices/system/cpu/smt"


@pytest.mark.parametrize(("entry", "row", "coverage"), [
    ({"active": "1", "control": "on"}, (True, "on"), Coverage.COMPLETE),
    ({"active": "0", "control": "forceoff"}, (False, "forceoff"), Coverage.COMPLETE),
    ({"active": "0", "control": "notsupported"}, (False, "notsupported"), Coverage.COMPLETE),
    ({"active": "1", "control": "4"}, (True, "4"), Coverage.COMPLETE),
    ({"active": "1", "control": "sometimes"}, (True, None), Coverage.PARTIAL), ({"active": "1", "control": DENIED}, (True, None), Coverage.PARTIAL),
])  # fmt: skip
def test_smt(entry: Any, row: Any, coverage: Coverage) -> None:
    evidence = {processor.SMT.id: js({FOLDER: entry})}
    extracted = run(SMT, evidence)
    assert (extracted.rows, extracted.coverage) == ((row,), coverage)
    never_emptier(SMT, evidence)


@pytest.mark.parametrize("entry", [{"active": None, "control": None}, {"active": "2"}, {"active": DENIED, "control": "on"}])
def test_smt_not_told(entry: Any) -> None:
    assert run(SMT, {processor.SMT.id: js({FOLDER: entry})}).coverage is Coverage.NONE


def cpu(vendor: str, family: int, model: int, stepping: int) -> Item:
    """synthetic: proc_cpuinfo(5)."""
    return ok(
        f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nmodel\t\t: {model}\nstepping\t: {stepping}\nmicrocode\t: 0x2b000590\n"
    )


LIB = "/lib/firmware"


@pytest.mark.parametrize(("what", "files", "file"), [
    (cpu("GenuineIntel", 6, 0x8F, 8), ("intel-ucode/06-8f-08", "intel-ucode/06-8f-07"), "intel-ucode/06-8f-08"),
    (cpu("GenuineIntel", 6, 0x8F, 8), ("intel-ucode/06-8f-08.initramfs",), "intel-ucode/06-8f-08.initramfs"),
    (cpu("GenuineIntel", 6, 0x8F, 8), ("intel-ucode/06-8f-08.xz",), "intel-ucode/06-8f-08.xz"),
    (cpu("GenuineIntel", 6, 0x8F, 8), ("intel-ucode/06-8f-07", "amd-ucode/microcode_amd_fam19h.bin"), ""),
    (cpu("AuthenticAMD", 25, 17, 1), ("amd-ucode/microcode_amd_fam19h.bin", "amd-ucode/microcode_amd.bin"), "amd-ucode/microcode_amd_fam19h.bin"),
    (cpu("AuthenticAMD", 26, 2, 1), ("amd-ucode/microcode_amd_fam1ah.bin.zst",), "amd-ucode/microcode_amd_fam1ah.bin.zst"),
    (cpu("AuthenticAMD", 16, 2, 1), ("amd-ucode/microcode_amd.bin",), "amd-ucode/microcode_amd.bin"),
    (cpu("AuthenticAMD", 25, 17, 1), (), ""),
])  # fmt: skip
def test_microcode_files(what: Item, files: tuple[str, ...], file: str) -> None:
    there = {LIB: DIR} | {f"{LIB}/{name}": {"type": "file", "size": 36864} for name in files}
    evidence = {CPUINFO.id: what, processor.MICROCODE_FILES.id: js(there)}
    extracted = run(MICROCODE, evidence)
    assert (extracted.coverage, extracted.rows[0][4:]) == (
        Coverage.COMPLETE,
        ("0x2b000590", file and f"{LIB}/{file}", 36864 if file else None),
    )
    never_emptier(MICROCODE, evidence)


def test_microcode_of_other_cpus_and_without_the_folder() -> None:
    arm = ok("processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n")
    files = {processor.MICROCODE_FILES.id: js({LIB: DIR})}
    assert run(MICROCODE, files | {CPUINFO.id: arm}).coverage is Coverage.NONE
    assert run(MICROCODE, files | {CPUINFO.id: cpu("HygonGenuine", 24, 1, 1)}).coverage is Coverage.NONE
    assert (
        run(MICROCODE, {processor.MICROCODE_FILES.id: js({LIB: ABSENT}), CPUINFO.id: cpu("AuthenticAMD", 25, 1, 1)}).coverage
        is Coverage.NONE
    )


# --- All of them --------------------------------------------------------------------------------------


def test_this_machine() -> None:
    """The real readers, here: none of the tables is misunderstood."""
    readers = {"stat": read_stat, "attrs": read_attrs, "file": read_file}
    for table in TABLES:
        evidence = {source.id: ok(readers[source.reader](Files(), source.for_node())) for source in table.sources}
        extracted = run(table, evidence)
        assert extracted.coverage is Coverage.COMPLETE or table in (SMT, MICROCODE), extracted.reason


@pytest.mark.parametrize(("table", "evidence", "source"), [
    (TPMS, tpms(TPM2, TPM2_FILES), tpm.CHIPS), (TPMS, tpms(TPM2, TPM2_FILES), tpm.FILES),
    (GROUPS, iommu(), dma.GROUPS), (GROUPS, iommu(), dma.MEMBERS),
    (UNITS, iommu(), dma.UNITS), (SMT, {processor.SMT.id: js({FOLDER: {"active": "1", "control": "on"}})}, processor.SMT),
])  # fmt: skip
def test_cut_short(table: Any, evidence: Evidence, source: Any) -> None:
    assert list(cut_short(table, evidence, source, step=13))


KEYS = st.sampled_from([
    *TPM2, *TPM2_FILES, *ROOTS, *NONE, FOLDER, LIB, "/sys/kernel/iommu_groups/1", "type", "active", "control", "status", "0", "size",
    "/sys/bus/thunderbolt/devices/domain0", "/sys/class/tpm/tpm0/pcr-sha256", "/sys/class/iommu/x",
])  # fmt: skip
JSON = st.recursive(
    st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner)
)


@given(st.dictionaries(
    st.sampled_from(sorted({source.id for table in TABLES for source in table.sources})),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=99) | JSON.map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: ")


def test_thousands_of_tpms_do_not_stall() -> None:
    begin = time.process_time()
    found = run(TPMS, tpms(TPM2, {f"/dev/tpm{n}": CHAR for n in range(9_000)}))
    assert len(found.rows) == 9_000 and time.process_time() - begin < 10
