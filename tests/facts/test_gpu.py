# SPDX-License-Identifier: Apache-2.0
"""GPUs: on PCI, the NVIDIA driver, and what NVML and nvidia-smi say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_audit.facts import gpu, nvidia
from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.gpu import DISK_LICENSE, DISK_VERSION, PARAMS, PCI, PCI_BUS, VERSION
from fleet_audit.facts.nvidia.conf_compute import CONF_COMPUTE
from fleet_audit.facts.nvidia.nvml import NVML
from fleet_audit.facts.nvidia.smi import SMI
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, shared, status
from .laws import cut_short, never_emptier

GPU_PCI, DRIVER, PARAMETERS = gpu.TABLES
GPUS, PROCESSES, CONFIDENTIAL = nvidia.TABLES
Evidence = dict[SourceId, Item]

# synthetic: the line of the open module as sources.md section 4 describes it; gcc's line as in real files
OPEN = ok(
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  590.48.01  Release Build  (dvs-builder)\n"
    "GCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
CLOSED = ok("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.90.07  Fri May 31 09:35:42 UTC 2024\n")
NO_DRIVER = status(Status.ABSENT, "no such file: /proc/driver/nvidia/version")
SKIPPED = status(Status.SKIPPED, "no /proc/driver/nvidia/version on this node")
BUS = ok('{"/sys/bus/pci/devices":{"type":"dir","mode":493}}')


def device(vendor: Any = "0x10de", kind: str = "0x030200", driver: Any = "nvidia", **more: Any) -> dict[str, Any]:
    """synthetic: a PCI function as the `attrs` reader answers it (probe/node.py)."""
    return {"vendor": vendor, "class": kind, "device": "0x2330", "driver": driver, "physfn": None, **more}


def pci(devices: dict[str, dict[str, Any]]) -> Evidence:
    """synthetic: the PCI list of a host."""
    listed = {f"/sys/bus/pci/devices/{where}": fields for where, fields in devices.items()}
    return {PCI_BUS.id: BUS, PCI.id: ok(json.dumps(listed))}


ONE = pci({"0000:30:00.0": device(), "0000:00:00.0": device("0x8086", "0x060000", None)})
NONE = pci({"0000:00:00.0": device("0x8086", "0x060000", None)})
UUID = "GPU-0d000000-0000-0000-0000-000000000001"

# synthetic: values as pynvml's functions return them, reduced to JSON by probe/node.py
ANSWERS: dict[str, Any] = {
    "uuid": UUID,
    "name": "NVIDIA H100 80GB HBM3",
    "vbios": "96.00.89.00.01",
    "inforom_image": "G520.0200.00.05",
    "pci": {"busId": "00000000:30:00.0", "domain": 0},
    "inforom_valid": None,
    "gsp_version": "590.48.01",
    "gsp_mode": [1, 1],
    "ecc": [1, 1],
    "ecc_uncorrected_volatile": 0,
    "ecc_uncorrected_aggregate": 2,
    "remapped_rows": [0, 1, 1, 0],
    "mig": [0, 0],
    "persistence": 1,
    "virtualization": 1,
    "architecture": 9,
    "compute_processes": [{"pid": 4711, "usedGpuMemory": 1 << 30, "gpuInstanceId": 4294967295}],
    "graphics_processes": [],
}
CC: dict[str, Any] = {
    "cc_state": {"environment": 2, "ccFeature": 1, "devToolsMode": 0},
    "cc_settings": {"version": 16777236, "environment": 2, "ccFeature": 1, "devToolsMode": 0, "multiGpuMode": 0},
    "cc_capabilities": {"cpuCaps": 3, "gpusCaps": 1},
    "cc_ready": 1,
}


def failing(code: int) -> dict[str, int]:
    """An NVML error instead of a value."""
    return {"error": code}


def lines(*gpus: dict[str, Any], system: dict[str, Any] | None = None, end: bool = True) -> str:
    """synthetic: NVML's answers as probe/node.py writes them, a line of JSON per call."""
    rows: list[dict[str, Any]] = []

    def put(head: dict[str, Any], name: str, answer: Any) -> None:
        error = isinstance(answer, dict) and "error" in answer
        rows.append({**head, "name": name, **(answer if error else {"value": answer})})

    base = {"init": None, "driver_version": "590.48.01", **CC, "count": len(gpus)}
    for name, answer in {**base, **(system or {})}.items():
        put({"scope": "system"}, name, answer)
    for index, answers in enumerate(gpus):
        for name, answer in answers.items():
            put({"scope": "gpu", "index": index}, name, answer)
    if end:
        put({"scope": "system"}, "end", True)
    return "".join(json.dumps(row) + "\n" for row in rows)


def nvml(text: str, where: Evidence = ONE) -> Evidence:
    """A host on which NVML answered."""
    return {
        **where,
        VERSION.id: OPEN,
        NVML.id: ok(text, 0),
        SMI.id: status(Status.SKIPPED, "nvml was read"),
        CONF_COMPUTE.id: status(Status.SKIPPED, "nvidia-smi is skipped"),
    }


def smi(text: str, where: Evidence = ONE) -> Evidence:
    """A host on which nvidia-smi stood in."""
    return {**where, VERSION.id: OPEN, NVML.id: status(Status.FAILED, "no library"), SMI.id: ok(text, 0)}


def capture(name: str) -> str:
    """A real `nvidia-smi -q -x`."""
    return shared(f"captures/nvidia-smi-q-x.{name}.xml").read_text()


# --- PCI ------------------------------------------------------------------------------------------


def test_pci_kinds() -> None:
    """Only GPUs, NVSwitches and accelerators of the four vendors are rows."""
    found = run(
        GPU_PCI,
        pci(
            {
                "0000:30:00.0": device(),
                "0000:31:00.0": device(kind="0x068000", driver="nvidia-nvswitch"),
                "0000:32:00.0": device("0x1002", "0x120000", "amdgpu"),
                "0000:33:00.0": device("0x1da3", "0x120000", "habanalabs"),
                "0000:34:00.0": device("0x8086", "0x038000", "xe"),
                "0000:35:00.0": device("0x8086", "0x020000", "ice"),
                "0000:30:00.1": device(kind="0x040300"),
                "0000:36:00.0": device("0x1a03", "0x030000", "ast"),
                "0000:37:00.0": device(driver="vfio-pci"),
                "0000:37:00.4": device(physfn="0000:37:00.0"),
            }
        ),
    )
    assert found.coverage is Coverage.COMPLETE
    rows = {row["address"]: row for row in rows_as_dicts(GPU_PCI, found)}
    assert {where: (row["vendor"], row["kind"]) for where, row in rows.items()} == {
        "0000:30:00.0": ("nvidia", "gpu"),
        "0000:31:00.0": ("nvidia", "nvswitch"),
        "0000:32:00.0": ("amd", "accelerator"),
        "0000:33:00.0": ("habana", "accelerator"),
        "0000:34:00.0": ("intel", "gpu"),
        "0000:37:00.0": ("nvidia", "gpu"),
        "0000:37:00.4": ("nvidia", "gpu"),
    }
    assert [where for where, row in rows.items() if row["virtual_function"]] == ["0000:37:00.4"]


def test_no_gpu_is_proved_only_with_sysfs() -> None:
    """An empty list is an answer where sysfs is there, and none where it is not."""
    assert run(GPU_PCI, NONE).coverage is Coverage.COMPLETE
    assert run(GPU_PCI, {PCI_BUS.id: BUS, PCI.id: ok("{}")}).coverage is Coverage.COMPLETE
    gone = ok('{"/sys/bus/pci/devices":{"status":"absent","detail":"No such file or directory"}}')
    assert run(GPU_PCI, {PCI_BUS.id: gone, PCI.id: ok("{}")}).coverage is Coverage.NONE


@pytest.mark.parametrize(
    "fields",
    [
        device(vendor={"status": "denied", "detail": ""}),
        device(driver={"status": "denied", "detail": ""}),
        {"vendor": None, "class": None, "device": None, "driver": None, "physfn": None},
        {},
        {"vendor": "0x10de"},
    ],
)
def test_pci_device_that_cannot_be_read(fields: dict[str, Any]) -> None:
    """A function that does not say what it is may be a GPU."""
    assert run(GPU_PCI, pci({"0000:30:00.0": fields})).coverage is Coverage.PARTIAL


# --- The driver -----------------------------------------------------------------------------------


def driver(loaded: Item, version: Item, licence: Item) -> tuple[Coverage, list[dict[str, Any]]]:
    """Coverage and rows of nvidia_driver."""
    found = run(DRIVER, {VERSION.id: loaded, DISK_VERSION.id: version, DISK_LICENSE.id: licence})
    return found.coverage, rows_as_dicts(DRIVER, found)


# synthetic: modinfo(8) and kmod's message
UNKNOWN = Item(Status.FAILED, exit=1, detail="exit 1: modinfo: ERROR: Module nvidia not found.")


def test_driver_flavours() -> None:
    """Word order differs between the flavours; the compiler's version is none of the driver's."""
    coverage, (row,) = driver(OPEN, ok("590.48.01\n", 0), ok("Dual MIT/GPL\n", 0))
    assert coverage is Coverage.COMPLETE
    assert (row["loaded_version"], row["flavour"], row["branch"]) == ("590.48.01", "open", 590)
    assert row["loaded_key"] == row["disk_key"] is not None
    coverage, (row,) = driver(CLOSED, ok("570.10\n", 0), ok("NVIDIA\n", 0))
    assert (row["loaded_version"], row["flavour"], row["disk_version"]) == ("550.90.07", "proprietary", "570.10")
    assert row["loaded_key"] < row["disk_key"]


def test_driver_on_disk_only_and_not_at_all() -> None:
    """Not loaded and not on disk is no row, and proved."""
    coverage, (row,) = driver(NO_DRIVER, ok("590.48.01\n", 0), ok("NVIDIA\n", 0))
    assert (coverage, row["loaded_version"], row["flavour"]) == (Coverage.COMPLETE, None, "proprietary")
    assert driver(NO_DRIVER, UNKNOWN, UNKNOWN) == (Coverage.COMPLETE, [])


@pytest.mark.parametrize(
    "tool",
    [
        status(Status.ABSENT, "modinfo: No such file or directory"),
        status(Status.TIMEOUT),
        ok("", 0),
        ok("?\n", 0),
        Item(Status.FAILED, exit=1, detail="exit 1"),
    ],
)
def test_driver_without_modinfo(tool: Item) -> None:
    """A tool that is missing says nothing of the disk."""
    assert driver(NO_DRIVER, tool, UNKNOWN) == (Coverage.PARTIAL, [])
    coverage, (row,) = driver(OPEN, tool, tool)
    assert (coverage, row["disk_version"]) == (Coverage.PARTIAL, None)


@pytest.mark.parametrize("loaded", [status(Status.DENIED), ok(""), ok("NVRM version: none\n"), ok("garbage 590.48.01\n")])
def test_driver_not_understood(loaded: Item) -> None:
    """A version that cannot be read is not `not loaded`."""
    assert driver(loaded, UNKNOWN, UNKNOWN) == (Coverage.NONE, [])


def test_driver_cut_short() -> None:
    """A version that lost its end counts for nothing."""
    evidence = {VERSION.id: OPEN, DISK_VERSION.id: UNKNOWN, DISK_LICENSE.id: UNKNOWN}
    for found in cut_short(DRIVER, evidence, VERSION, 5):
        assert [row["loaded_version"] for row in rows_as_dicts(DRIVER, found)] in ([], ["590.48.01"])


def test_params() -> None:
    """Names and values; without a driver there are none."""
    # synthetic: sources.md section 4, /proc/driver/nvidia/params
    text = 'RmProfilingAdminOnly: 1\nDeviceFileMode: 438\nRegistryDwords: ""\nNVreg: "a: b"\n'
    found = run(PARAMETERS, {VERSION.id: OPEN, PARAMS.id: ok(text)})
    assert found.coverage is Coverage.COMPLETE
    assert found.rows == (("RmProfilingAdminOnly", "1"), ("DeviceFileMode", "438"), ("RegistryDwords", ""), ("NVreg", "a: b"))
    assert run(PARAMETERS, {VERSION.id: NO_DRIVER, PARAMS.id: NO_DRIVER}).coverage is Coverage.COMPLETE
    assert run(PARAMETERS, {VERSION.id: OPEN, PARAMS.id: NO_DRIVER}).coverage is Coverage.NONE
    assert run(PARAMETERS, {VERSION.id: OPEN, PARAMS.id: ok("")}).coverage is Coverage.NONE
    assert run(PARAMETERS, {VERSION.id: OPEN, PARAMS.id: ok(text + "?\n")}).coverage is Coverage.PARTIAL


# --- GPUs by NVML ---------------------------------------------------------------------------------


def test_nvml() -> None:
    """A GPU with all that NVML says."""
    found = run(GPUS, nvml(lines(ANSWERS)))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    (row,) = rows_as_dicts(GPUS, found)
    assert row.pop("driver_key")
    assert row == {
        "uuid": UUID,
        "gpu_index": 0,
        "name": "NVIDIA H100 80GB HBM3",
        "address": "0000:30:00.0",
        "driver_version": "590.48.01",
        "driver_branch": 590,
        "vbios": "96.00.89.00.01",
        "inforom": "G520.0200.00.05",
        "inforom_valid": True,
        "gsp_version": "590.48.01",
        "ecc_supported": True,
        "ecc_enabled": True,
        "ecc_pending": True,
        "ecc_uncorrected_volatile": 0,
        "ecc_uncorrected_aggregate": 2,
        "remap_pending": True,
        "remap_failure": False,
        "mig_supported": True,
        "mig_enabled": False,
        "mig_pending": False,
        "persistence": True,
        "virtualization": "pass-through",
        "architecture": "hopper",
    }


def test_nvml_not_supported_is_an_answer() -> None:
    """NVML_ERROR_NOT_SUPPORTED says that there is no such thing; a function that is too new says nothing."""
    answers = {**ANSWERS, "ecc": failing(3), "mig": failing(3), "remapped_rows": failing(3), "architecture": failing(13)}
    found = run(GPUS, nvml(lines(answers)))
    assert found.coverage is Coverage.COMPLETE
    (row,) = rows_as_dicts(GPUS, found)
    assert (row["ecc_supported"], row["ecc_enabled"], row["mig_supported"]) == (False, None, False)
    assert (row["remap_failure"], row["architecture"]) == (None, None)


def test_nvml_corrupted_inforom() -> None:
    """NVML_ERROR_CORRUPTED_INFOROM is the answer no."""
    found = run(GPUS, nvml(lines({**ANSWERS, "inforom_valid": failing(14)})))
    assert (found.coverage, rows_as_dicts(GPUS, found)[0]["inforom_valid"]) == (Coverage.COMPLETE, False)


@pytest.mark.parametrize(
    ("name", "answer", "column"),
    [
        ("ecc", failing(999), "ecc_enabled"),
        ("ecc", [2, 1], "ecc_enabled"),
        ("ecc", "on", "ecc_enabled"),
        ("ecc", [1], "ecc_enabled"),
        ("mig", failing(4), "mig_supported"),
        ("remapped_rows", [0], "remap_failure"),
        ("vbios", 7, "vbios"),
        ("inforom_valid", failing(15), "inforom_valid"),
        ("persistence", [1, 1], "persistence"),
        ("virtualization", "x", "virtualization"),
        ("pci", [], "address"),
        ("ecc_uncorrected_volatile", True, "ecc_uncorrected_volatile"),
    ],
)
def test_nvml_failures_are_gaps(name: str, answer: Any, column: str) -> None:
    """What failed or is not understood is NULL and makes the table partial."""
    found = run(GPUS, nvml(lines({**ANSWERS, name: answer})))
    assert found.coverage is Coverage.PARTIAL
    assert rows_as_dicts(GPUS, found)[0][column] is None


def test_nvml_newer_than_we() -> None:
    """A number without a word stays a number."""
    found = run(GPUS, nvml(lines({**ANSWERS, "architecture": 16})))
    assert (found.coverage, rows_as_dicts(GPUS, found)[0]["architecture"]) == (Coverage.COMPLETE, "nvml 16")


def test_nvml_lost_gpu_and_missing_ones() -> None:
    """GPUs that PCI or the driver's count shows and NVML does not make the table partial."""
    both = pci({"0000:30:00.0": device(), "0000:40:00.0": device()})
    assert run(GPUS, nvml(lines(ANSWERS), both)).coverage is Coverage.PARTIAL
    assert run(GPUS, nvml(lines(ANSWERS, {"handle": failing(15)}))).coverage is Coverage.PARTIAL
    assert len(run(GPUS, nvml(lines(ANSWERS, {"handle": failing(15)}))).rows) == 1
    assert run(GPUS, nvml(lines(ANSWERS, system={"count": 2}))).coverage is Coverage.PARTIAL
    for quiet in (device(driver="vfio-pci"), device(physfn="0000:30:00.0"), device(kind="0x068000")):
        others = pci({"0000:30:00.0": device(), "0000:40:00.0": quiet})
        assert run(GPUS, nvml(lines(ANSWERS), others)).coverage is Coverage.COMPLETE


@pytest.mark.parametrize("end", [Status.FAILED, Status.TIMEOUT, Status.TRUNCATED])
def test_nvml_that_died(end: Status) -> None:
    """A crash loses only the rest; nvidia-smi is better where it answered."""
    dead = nvml(lines(ANSWERS, end=False)) | {NVML.id: Item(end, lines(ANSWERS, end=False).encode())}
    found = run(GPUS, dead)
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)
    found = run(GPUS, dead | {SMI.id: ok(DOCUMENT)})
    assert (found.coverage, rows_as_dicts(GPUS, found)[0]["name"]) == (Coverage.COMPLETE, "NVIDIA X")
    assert run(GPUS, dead | {SMI.id: ok("no XML")}).coverage is Coverage.PARTIAL


def test_nvml_without_library() -> None:
    """An NVML that did not start leaves it to nvidia-smi."""
    started = ok('{"scope":"system","name":"init","error":12}\n')
    assert run(GPUS, {**ONE, VERSION.id: OPEN, NVML.id: started}).coverage is Coverage.NONE
    assert run(GPUS, smi(DOCUMENT) | {NVML.id: started}).coverage is Coverage.COMPLETE


def test_nvml_cut_short() -> None:
    """What remains of a GPU is true; what is gone is NULL."""
    (whole,) = rows_as_dicts(GPUS, run(GPUS, nvml(lines(ANSWERS))))
    for found in cut_short(GPUS, nvml(lines(ANSWERS)), NVML):
        for row in rows_as_dicts(GPUS, found):
            assert all(value in (None, whole[name]) for name, value in row.items())


def test_no_driver() -> None:
    """No driver and no GPU is no row; no driver and a GPU is not known."""
    absent = {VERSION.id: NO_DRIVER, NVML.id: SKIPPED, SMI.id: SKIPPED, CONF_COMPUTE.id: SKIPPED}
    for table in (GPUS, PROCESSES, CONFIDENTIAL):
        assert run(table, {**NONE, **absent}).coverage is Coverage.COMPLETE
        found = run(table, {**ONE, **absent})
        assert (found.coverage, found.rows) == (Coverage.NONE, ())
        assert "no driver loaded" in found.reason
        away = run(table, {**pci({"0000:30:00.0": device(driver="vfio-pci")}), **absent})
        assert (away.coverage, "virtual machines" in away.reason) == (Coverage.NONE, True)
        assert run(table, absent).coverage is Coverage.NONE
        assert run(table, {**NONE, **absent, VERSION.id: status(Status.DENIED)}).coverage is Coverage.NONE


# --- GPUs by nvidia-smi ---------------------------------------------------------------------------

# synthetic: the elements that are read, named as in the real captures (schemas v11 to v13)
DOCUMENT = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v13.dtd">
<nvidia_smi_log>
<driver_version>610.57.04 [Deprecated; use KMD version]</driver_version><kmd_version>610.57.04</kmd_version>
<attached_gpus>1</attached_gpus>
<gpu id="00000000:30:00.0">
<product_name>NVIDIA X</product_name><product_architecture>Hopper</product_architecture>
<persistence_mode>Enabled</persistence_mode>
<mig_mode><current_mig>Disabled</current_mig><pending_mig>Enabled</pending_mig></mig_mode>
<uuid>GPU-1</uuid><vbios_version>96.00.A5.00.03</vbios_version>
<inforom_version><img_version>G520.0280.02.02</img_version></inforom_version>
<gpu_virtualization_mode><virtualization_mode>Host VGPU</virtualization_mode></gpu_virtualization_mode>
<gsp_firmware_version>610.57.04</gsp_firmware_version>
<pci><pci_bus_id>00000000:30:00.0</pci_bus_id></pci>
<ecc_mode><current_ecc>Enabled</current_ecc><pending_ecc>Enabled</pending_ecc></ecc_mode>
<ecc_errors><volatile><sram_correctable>9</sram_correctable><sram_uncorrectable_parity>1</sram_uncorrectable_parity>
<sram_uncorrectable_secded>2</sram_uncorrectable_secded><dram_uncorrectable>4</dram_uncorrectable></volatile>
<aggregate><dram_uncorrectable>N/A</dram_uncorrectable><sram_uncorrectable>3</sram_uncorrectable></aggregate></ecc_errors>
<remapped_rows><remapped_row_pending>No</remapped_row_pending><remapped_row_failure>Yes</remapped_row_failure></remapped_rows>
<processes><process_info><pid>7</pid><type>C+G</type><process_name>[Insufficient Permissions]</process_name>
<used_memory>2 MiB</used_memory></process_info></processes>
</gpu>
</nvidia_smi_log>
"""


def test_smi() -> None:
    """The document's facts; remarks behind the version do no harm."""
    found = run(GPUS, smi("WARNING: something\n" + DOCUMENT + "\nWARNING: infoROM is corrupted at gpu 0000:30:00.0\n"))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    (row,) = rows_as_dicts(GPUS, found)
    assert (row["driver_version"], row["virtualization"], row["inforom_valid"]) == ("610.57.04", "host-vgpu", False)
    assert (row["ecc_uncorrected_volatile"], row["ecc_uncorrected_aggregate"]) == (7, 3)
    assert (row["mig_enabled"], row["mig_pending"], row["remap_failure"]) == (False, True, True)


@pytest.mark.parametrize(
    ("old", "new", "column", "coverage"),
    [
        ("<current_ecc>Enabled", "<current_ecc>Unknown Error", "ecc_supported", Coverage.PARTIAL),
        ("<current_ecc>Enabled", "<current_ecc>[GPU requires reset]", "ecc_enabled", Coverage.PARTIAL),
        ("<current_ecc>Enabled", "<current_ecc>Perhaps", "ecc_supported", Coverage.PARTIAL),
        ("<vbios_version>96.00.A5.00.03", "<vbios_version>ERR!", "vbios", Coverage.PARTIAL),
        ("<vbios_version>96.00.A5.00.03", "<vbios_version>", "vbios", Coverage.PARTIAL),
        ("<persistence_mode>Enabled", "<persistence_mode>Requested functionality has been deprecated", "persistence", Coverage.COMPLETE),
        ("<gsp_firmware_version>610.57.04", "<gsp_firmware_version>N/A", "gsp_version", Coverage.COMPLETE),
        ("<dram_uncorrectable>4", "<dram_uncorrectable>many", "ecc_uncorrected_volatile", Coverage.PARTIAL),
        ("<kmd_version>610.57.04</kmd_version>", "", "nothing", Coverage.COMPLETE),
    ],
)
def test_smi_words(old: str, new: str, column: str, coverage: Coverage) -> None:
    """The words for nothing: some say that there is no such thing, some that it is not known."""
    assert old in DOCUMENT
    found = run(GPUS, smi(DOCUMENT.replace(old, new)))
    assert found.coverage is coverage
    (row,) = rows_as_dicts(GPUS, found)
    assert row.get(column) is None
    assert row["driver_version"] == "610.57.04"


def test_smi_not_supported_needs_a_product() -> None:
    """`N/A` is `not capable` only of a product that is known."""
    bare = DOCUMENT.replace("<current_mig>Disabled", "<current_mig>N/A")
    assert rows_as_dicts(GPUS, run(GPUS, smi(bare)))[0]["mig_supported"] is False
    bare = bare.replace("NVIDIA X", "Unknown Error")
    assert rows_as_dicts(GPUS, run(GPUS, smi(bare)))[0]["mig_supported"] is None


def test_smi_gpu_that_is_missing() -> None:
    """More attached GPUs than described ones."""
    found = run(GPUS, smi(DOCUMENT.replace("<attached_gpus>1", "<attached_gpus>2")))
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)
    assert run(GPUS, smi(DOCUMENT.replace("<uuid>GPU-1", "<uuid>"))).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(
    "item",
    [
        ok(""),
        ok("No devices were found\n"),
        ok("<?xml version='1.0'?><other/></nvidia_smi_log>"),
        Item(Status.FAILED, b"Failed to initialize NVML: Driver/library version mismatch", 18, "exit 18"),
        status(Status.ABSENT, "nvidia-smi: No such file or directory"),
        status(Status.TIMEOUT),
        ok(DOCUMENT.replace('SYSTEM "nvsmi_device_v13.dtd"', '[<!ENTITY a "b">]')),
        ok(DOCUMENT.replace('SYSTEM "nvsmi_device_v13.dtd"', '[<!ENTITY a SYSTEM "file:///etc/passwd">]')),
    ],
)
def test_smi_that_says_nothing(item: Item) -> None:
    """A tool that fails, and a document with entities, say nothing."""
    for table in (GPUS, PROCESSES):
        assert run(table, smi("") | {SMI.id: item}).coverage is Coverage.NONE


def test_smi_cut_short() -> None:
    """A document that was cut is none."""
    for found in cut_short(GPUS, smi(DOCUMENT), SMI):
        assert found.coverage is Coverage.NONE
    for size in range(0, len(DOCUMENT) - 20, 50):
        assert run(GPUS, smi(DOCUMENT[:size])).coverage is Coverage.NONE


# real captures: captures/README.md names where they come from


def test_capture_l40s() -> None:
    """Schema v13, a GPU without MIG in a virtual machine."""
    found = run(GPUS, smi(capture("l40s.595.91.07")))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    (row,) = rows_as_dicts(GPUS, found)
    assert (row["name"], row["driver_version"], row["driver_branch"]) == ("NVIDIA L40S", "595.91.07", 595)
    assert (row["address"], row["vbios"], row["architecture"]) == ("0000:30:00.0", "95.02.66.00.15", "ada")
    assert (row["ecc_supported"], row["ecc_enabled"], row["mig_supported"], row["mig_enabled"]) == (True, True, False, None)
    assert (row["remap_pending"], row["remap_failure"], row["ecc_uncorrected_aggregate"]) == (False, False, 0)
    assert row["virtualization"] == "pass-through"
    found = run(PROCESSES, smi(capture("l40s.595.91.07")))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ())


def test_capture_t4() -> None:
    """Schema v11: no row remapping before Ampere, two processes."""
    there = pci({"0000:00:1e.0": device()})
    found = run(GPUS, smi(capture("t4.515.105.01"), there))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    (row,) = rows_as_dicts(GPUS, found)
    assert (row["address"], row["remap_failure"], row["persistence"]) == ("0000:00:1e.0", None, False)
    processes = rows_as_dicts(PROCESSES, run(PROCESSES, smi(capture("t4.515.105.01"), there)))
    assert [(p["pid"], p["kind"], p["name"], p["used_memory_bytes"]) for p in processes] == [
        (675, "graphics", "/usr/lib/xorg/Xorg", 22 << 20),
        (5762, "compute", "python", 1005 << 20),
    ]


def test_capture_rtx_3080() -> None:
    """A consumer GPU: ECC is not supported."""
    found = run(GPUS, smi(capture("rtx-3080.v13"), pci({"0000:0c:00.0": device(kind="0x030000")})))
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    (row,) = rows_as_dicts(GPUS, found)
    assert (row["ecc_supported"], row["ecc_enabled"], row["ecc_uncorrected_volatile"]) == (False, None, None)


# --- Processes ------------------------------------------------------------------------------------


def test_processes() -> None:
    """NVML numbers them without a name; a list that failed proves no absence."""
    found = run(PROCESSES, nvml(lines(ANSWERS)))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((UUID, 4711, None, "compute", 1 << 30),))
    for answer in (failing(3), failing(4), [{"pid": "x"}], [7], None, "x"):
        lost = run(PROCESSES, nvml(lines({**ANSWERS, "graphics_processes": answer})))
        assert (lost.coverage, len(lost.rows)) == (Coverage.PARTIAL, 1)
    assert run(PROCESSES, smi(DOCUMENT)).rows == (("GPU-1", 7, None, "compute", 2 << 20), ("GPU-1", 7, None, "graphics", 2 << 20))
    other = DOCUMENT.replace("C+G", "Z")
    assert run(PROCESSES, smi(other)).coverage is Coverage.PARTIAL


def test_processes_do_not_suffer_from_other_facts() -> None:
    """An ECC state that failed costs `gpus`, not `gpu_processes`."""
    assert run(PROCESSES, nvml(lines({**ANSWERS, "ecc": failing(999)}))).coverage is Coverage.COMPLETE


# --- Confidential computing -----------------------------------------------------------------------

# a real output as quoted in a public repository (Azure, H100; spacing of the value varies)
SPOKEN = """\
==============NVSMI CONF-COMPUTE LOG==============

    CC State                   : ON
    Multi-GPU Mode             : None
    CPU CC Capabilities        : AMD SEV-SNP(vTOM Mode)
    GPU CC Capabilities        : CC Capable
    CC GPUs Ready State        : Ready
"""


def tool(text: str) -> Evidence:
    """A host on which nvidia-smi stood in for NVML."""
    return smi(DOCUMENT) | {CONF_COMPUTE.id: ok(text, 0)}


def test_confidential_by_nvml() -> None:
    """The system's state, once for all GPUs."""
    found = run(CONFIDENTIAL, nvml(lines(ANSWERS)))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((True, False, "production", "sev-snp", True, True, "none"),))
    settings_failed = nvml(lines(ANSWERS, system={"cc_settings": {"error": "TypeError: no argument"}}))
    found = run(CONFIDENTIAL, settings_failed)
    assert (found.coverage, found.rows[0][0], found.rows[0][-1]) == (Coverage.PARTIAL, True, None)


def test_confidential_of_gpus_that_cannot() -> None:
    """Not supported: not capable, and nothing else is known."""
    names = dict.fromkeys(CC, failing(3))
    found = run(CONFIDENTIAL, nvml(lines(ANSWERS, system=names)))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((None, None, None, None, False, None, None),))


def test_confidential_by_the_tool() -> None:
    """Labels and values in the spellings of several drivers."""
    found = run(CONFIDENTIAL, tool(SPOKEN))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((True, None, None, "sev-snp-vtom", True, True, "none"),))
    # synthetic: sources.md section 4.1, Protected PCIe reads OFF by design
    text = SPOKEN.replace(": ON", ": OFF").replace(": None", ":  Protected PCIe").replace("AMD SEV-SNP(vTOM Mode)", "INTEL  TDX")
    text = text.replace(": Ready", ": Not Ready") + "DevTools Mode:ON\nEnvironment : PRODUCTION\n"
    found = run(CONFIDENTIAL, tool(text))
    assert found.rows == ((False, True, "production", "tdx", True, False, "protected-pcie"),)


@pytest.mark.parametrize(
    ("text", "coverage"),
    [
        ("", Coverage.NONE),
        ("garbage\n", Coverage.NONE),
        (SPOKEN.replace("CC State ", "Zustand "), Coverage.NONE),
        (SPOKEN.replace(": ON", ": PERHAPS"), Coverage.PARTIAL),
        (SPOKEN.replace("Multi-GPU", "Some"), Coverage.PARTIAL),
    ],
)
def test_confidential_other_wording(text: str, coverage: Coverage) -> None:
    """A wording that is not known is not guessed."""
    found = run(CONFIDENTIAL, tool(text))
    assert found.coverage is coverage
    assert not found.rows or coverage is Coverage.PARTIAL


# --- Laws -----------------------------------------------------------------------------------------

HOSTS: dict[str, Evidence] = {
    "nvml": nvml(lines(ANSWERS)),
    "smi": tool(SPOKEN) | smi(DOCUMENT),
    "no GPU": {**NONE, VERSION.id: NO_DRIVER, NVML.id: SKIPPED, SMI.id: SKIPPED, CONF_COMPUTE.id: SKIPPED},
}
DISK = {DISK_VERSION.id: ok("590.48.01\n", 0), DISK_LICENSE.id: ok("NVIDIA\n", 0), PARAMS.id: ok("A: 1\n")}
TABLES = (*gpu.TABLES, *nvidia.TABLES)


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_law(table: Table, host: str) -> None:
    """Less evidence never gives an emptier truth."""
    never_emptier(table, HOSTS[host] | DISK)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(max_examples=60)
@given(data=st.data())
def test_any_bytes(table: Table, data: st.DataObject) -> None:
    """Whatever a source says, nothing raises."""
    base = HOSTS[data.draw(st.sampled_from(sorted(HOSTS)))] | DISK
    source = data.draw(st.sampled_from(table.sources))
    body = base.get(source.id, ok("")).body
    at, junk = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=40))
    mangled = data.draw(st.sampled_from([junk, body[:at] + junk + body[at:], body[:at], junk * 3]))
    found = run(table, {**base, source.id: Item(data.draw(st.sampled_from(Status)), mangled)})
    assert not found.reason.startswith("not understood: ")  # so reads what `extract` caught of a parser's fault


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["pid", "busId", "vendor", "class", "status", "value", "a"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(name=st.sampled_from([*ANSWERS, *CC, "count", "driver_version"]), answer=JSON)
def test_any_answer(name: str, answer: Any) -> None:
    """Whatever a call answers, nothing raises, and a GPU has at most one row."""
    text = lines(ANSWERS | {name: answer}) if name in ANSWERS else lines(ANSWERS, system={name: answer})
    for table in nvidia.TABLES:
        found = run(table, nvml(text))
        assert not found.reason.startswith("not understood: ")
        assert table is PROCESSES or len(found.rows) <= 1


@given(JSON)
def test_any_pci(answer: Any) -> None:
    """Whatever the PCI list holds, nothing raises and nothing is made up."""
    found = run(GPU_PCI, {PCI_BUS.id: BUS, PCI.id: ok(json.dumps({"/sys/bus/pci/devices/0000:30:00.0": answer}))})
    assert not found.rows
