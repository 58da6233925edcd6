# SPDX-License-Identifier: Apache-2.0
"""Device files, modules and links of accelerators; AMD GPUs and Intel Gaudi."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts.accelerators import amd, amd_smi, devices, gaudi
from fleet_audit.facts.base import Item
from fleet_audit.facts.gpu import PCI
from fleet_audit.model import Coverage, Source, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_attrs, read_stat

from .gpu_hosts import (
    ADDRESS,
    AMD,
    AMD_ADDRESS,
    AMD_ATTRIBUTES,
    AMD_SMI,
    GAUDI,
    GAUDI_ATTRIBUTES,
    LOADED,
    MODULES,
    NOTHING,
    NVIDIA,
    Evidence,
    files,
    folders,
    texts,
)
from .helpers import ok, rows_as_dicts, run, shared, status
from .test_gpu import device, pci

FILES, GPU_MODULES, LINKS = devices.TABLES
GPUS, FIRMWARE, DRIVER, ROCM, PROCESSES = amd.TABLES
(SMI,) = amd_smi.TABLES
(DEVICES,) = gaudi.TABLES
NO_TOOL = status(Status.SKIPPED, "no /opt/rocm/bin/amd-smi on this node")

# --- Device files, modules, links -----------------------------------------------------------------


def test_device_files() -> None:
    """Each file with its family; folders are none, and what lies in a device's place shows."""
    found = {
        "/dev": "dir", "/dev/nvidia0": {"type": "char", "mode": 0o666}, "/dev/nvidiactl": {"type": "char", "mode": 0o660, "gid": 44},
        "/dev/nvidia-caps": "dir", "/dev/nvidia-caps/nvidia-cap1": {"type": "char", "mode": 0o400},
        "/dev/nvidia-caps-imex-channels": "dir", "/dev/nvidia-caps-imex-channels/channel0": {"type": "char", "mode": 0o666},
        "/dev/kfd": {"type": "char", "mode": 0o660, "gid": 109}, "/dev/dri/renderD128": {"type": "char", "mode": 0o660, "gid": 109},
        "/dev/dri/by-path": "dir", "/dev/accel/accel0": "char", "/dev/hl0": "char", "/dev/nvidia1": "file",
    }  # fmt: skip
    result = run(FILES, {devices.FILES.id: files(found)})
    assert result.coverage is Coverage.COMPLETE
    rows = {row["path"]: (row["family"], row["type"], row["mode"], row["gid"]) for row in rows_as_dicts(FILES, result)}
    assert rows == {
        "/dev/nvidia0": ("nvidia", "char", 0o666, 0),
        "/dev/nvidiactl": ("nvidia", "char", 0o660, 44),
        "/dev/nvidia-caps/nvidia-cap1": ("nvidia-caps", "char", 0o400, 0),
        "/dev/nvidia-caps-imex-channels/channel0": ("nvidia-imex", "char", 0o666, 0),
        "/dev/kfd": ("amd", "char", 0o660, 109),
        "/dev/dri/renderD128": ("dri", "char", 0o660, 109),
        "/dev/accel/accel0": ("accel", "char", 0o644, 0),
        "/dev/hl0": ("habana", "char", 0o644, 0),
        "/dev/nvidia1": ("nvidia", "file", 0o644, 0),
    }


@pytest.mark.parametrize(
    ("found", "coverage"),
    [
        ({}, Coverage.NONE),
        ({"/dev": {"status": "denied", "detail": ""}}, Coverage.NONE),
        ({"/dev": {"type": "dir"}, "/dev/nvidia0": {"status": "denied", "detail": ""}}, Coverage.PARTIAL),
        ({"/dev": {"type": "dir"}, "/dev/nvidia0": {"type": "char"}}, Coverage.PARTIAL),
        ({"/dev": {"type": "dir"}, "/dev/kfd": {"status": "absent", "detail": ""}}, Coverage.COMPLETE),
    ],
)
def test_device_files_unread(found: dict[str, Any], coverage: Coverage) -> None:
    """Without /dev, no file is proved to be missing."""
    result = run(FILES, {devices.FILES.id: ok(json.dumps(found))})
    assert (result.coverage, result.rows) == (coverage, ())


def test_device_files_of_this_machine() -> None:
    """The reader's own answer is understood."""
    assert run(FILES, {devices.FILES.id: read(devices.FILES)}).coverage is Coverage.COMPLETE


def test_modules() -> None:
    """Modules that are loaded; those of the kernel itself have no version."""
    two: dict[str, dict[str, Any]] = {"/sys/module/nvidia": LOADED, "/sys/module/nouveau": {**LOADED, "version": None}}
    found = run(GPU_MODULES, NVIDIA | {devices.MODULES.id: folders({**MODULES, **two})})
    assert found.coverage is Coverage.COMPLETE
    assert found.rows == (
        ("nouveau", None, "0123456789ABCDEF0123456"),
        ("nvidia", "590.48.01", "0123456789ABCDEF0123456"),
    )


@pytest.mark.parametrize(
    "document",
    [
        {path: fields for path, fields in MODULES.items() if path != "/sys/module/nouveau"},
        {**MODULES, "/sys/module/nvidia": {}},
        {**MODULES, "/sys/module/nvidia": {name: {"status": "denied", "detail": ""} for name in LOADED}},
        {**MODULES, "/sys/module/nvidia": {**LOADED, "version": {"status": "failed", "detail": ""}}},
    ],
)
def test_modules_unread(document: dict[str, Any]) -> None:
    """A module that was not looked for, or does not tell, makes the table partial."""
    assert run(GPU_MODULES, NVIDIA | {devices.MODULES.id: folders(document)}).coverage is Coverage.PARTIAL


def test_links() -> None:
    """Widths and speeds; a node below zero is none."""
    found = run(LINKS, NVIDIA)
    assert found.rows == ((ADDRESS, "nvidia", 16, 16, "32.0 GT/s PCIe", "32.0 GT/s PCIe", 0, 17),)
    path = f"/sys/bus/pci/drivers/amdgpu/{AMD_ADDRESS}"
    narrow = {"current_link_speed": "Unknown", "current_link_width": "8", "max_link_speed": None, "max_link_width": "16", "numa_node": "-1"}
    found = run(LINKS, NVIDIA | {devices.LINKS.id: folders({path: {**narrow, "iommu_group": None}})})
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((AMD_ADDRESS, "amdgpu", 8, 16, "Unknown", None, None, None),))
    found = run(LINKS, NVIDIA | {devices.LINKS.id: folders({"/sys/bus/pci/drivers/nvidia/x:y": {}, path: narrow})})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)


# --- AMD ------------------------------------------------------------------------------------------


def tree(root: Path) -> None:
    """synthetic: sysfs of an AMD GPU, with the links by which a driver names its devices."""
    home = root / "sys/devices/pci0000:00" / AMD_ADDRESS
    (root / "sys/bus/pci/drivers/amdgpu").mkdir(parents=True)
    (root / "sys/bus/pci/drivers/amdgpu" / AMD_ADDRESS).symlink_to(f"../../../../devices/pci0000:00/{AMD_ADDRESS}")
    (root / "sys/bus/pci/drivers/amdgpu/bind").write_text("")
    (root / "sys/kernel/iommu_groups/17").mkdir(parents=True)
    for name, text in {**AMD_ATTRIBUTES, "current_link_width": "16", "max_link_width": "16", "numa_node": "1"}.items():
        if text is not None:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            (home / name).write_text(text + "\n")
    (home / "iommu_group").symlink_to("../../../../kernel/iommu_groups/17")


def read(source: Source, root: Path | None = None) -> Item:
    """What the node's program reads, below another root."""
    here = Files()
    here.root = str(root or "")
    return ok({"attrs": read_attrs, "stat": read_stat}[source.reader](here, source.for_node()))


def test_amd_tree(tmp_path: Path) -> None:
    """The reader finds a driver's devices through links, and the parser understands its answer."""
    tree(tmp_path)
    evidence = AMD | {amd.GPUS.id: read(amd.GPUS, tmp_path), devices.LINKS.id: read(devices.LINKS, tmp_path)}
    assert run(GPUS, evidence) == run(GPUS, AMD)
    assert run(FIRMWARE, evidence) == run(FIRMWARE, AMD)
    assert run(LINKS, evidence).rows == ((AMD_ADDRESS, "amdgpu", 16, 16, None, None, 1, 17),)


def test_amd_gpu() -> None:
    """What sysfs tells of a GPU."""
    found = run(GPUS, AMD)
    assert found.coverage is Coverage.COMPLETE
    assert rows_as_dicts(GPUS, found) == [
        {
            "address": AMD_ADDRESS, "name": "AMD Instinct MI300X OAM", "vbios": "113-M3000100-102", "unique_id": "ab1ce23d45f67890",
            "memory_bytes": 206141652992, "compute_partition": "SPX", "memory_partition": "NPS1", "process_isolation": True,
            "uncorrected_errors": 0, "corrected_errors": 3,
        }
    ]  # fmt: skip
    assert run(FIRMWARE, AMD).rows == ((AMD_ADDRESS, "sos", "0x00362a4e"),)


def amd_with(**fields: Any) -> tuple[Coverage, dict[str, Any]]:
    """Coverage and row of a GPU whose attributes differ; `__` stands for a slash."""
    entry = AMD_ATTRIBUTES | {name.replace("__", "/"): text for name, text in fields.items()}
    found = run(GPUS, AMD | {amd.GPUS.id: folders({f"/sys/bus/pci/drivers/amdgpu/{AMD_ADDRESS}": entry})})
    return found.coverage, rows_as_dicts(GPUS, found)[0]


@pytest.mark.parametrize(
    ("fields", "column", "value", "coverage"),
    [
        ({"enforce_isolation": "1 0"}, "process_isolation", False, Coverage.COMPLETE),
        ({"enforce_isolation": None}, "process_isolation", None, Coverage.COMPLETE),
        ({"enforce_isolation": "on"}, "process_isolation", None, Coverage.PARTIAL),
        ({"ras__umc_err_count": "ue: 2\nce: 0"}, "uncorrected_errors", 2, Coverage.COMPLETE),
        ({"ras__umc_err_count": None}, "uncorrected_errors", None, Coverage.COMPLETE),
        ({"ras__umc_err_count": "Query currently inaccessible"}, "uncorrected_errors", None, Coverage.PARTIAL),
        ({"product_name": ""}, "name", None, Coverage.COMPLETE),
        ({"vbios_version": {"status": "failed", "detail": ""}}, "vbios", None, Coverage.PARTIAL),
        ({"mem_info_vram_total": "much"}, "memory_bytes", None, Coverage.PARTIAL),
    ],
)
def test_amd_attributes(fields: dict[str, Any], column: str, value: object, coverage: Coverage) -> None:
    """What a GPU lacks is NULL; what cannot be read makes the table partial."""
    found, row = amd_with(**fields)
    assert (found, row[column]) == (coverage, value)


@pytest.mark.parametrize("table", [GPUS, FIRMWARE])
def test_amd_gpu_on_pci_only(table: Any) -> None:
    """A GPU without its driver makes the table partial; one of a virtual machine does not."""
    for driver, coverage in ((None, Coverage.PARTIAL), ("radeon", Coverage.PARTIAL), ("vfio-pci", Coverage.COMPLETE)):
        more = pci({AMD_ADDRESS: device("0x1002", "0x120000", "amdgpu"), "0000:06:00.0": device("0x1002", "0x120000", driver)})
        assert run(table, AMD | more).coverage is coverage
    assert run(table, AMD | {PCI.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_amd_firmware_garbage() -> None:
    """A version that is none is a gap."""
    entry = {**AMD_ATTRIBUTES, "fw_version/smc_fw_version": "new"}
    found = run(FIRMWARE, AMD | {amd.GPUS.id: folders({f"/sys/bus/pci/drivers/amdgpu/{AMD_ADDRESS}": entry})})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)


def test_amd_driver() -> None:
    """Loaded and on disk; the kernel's own module has no version, and no module no row."""
    assert run(DRIVER, AMD).rows == (("6.10.5", "6.12.12", "AAA", "BBB"),)
    own = {"version": None, "srcversion": "AAA", "refcnt": "8", "initstate": "live"}
    evidence = {
        amd.MODULE.id: folders({"/sys/module/amdgpu": own}),
        amd.DISK_VERSION.id: ok("\n", 0),
        amd.DISK_SRCVERSION.id: ok("AAA\n", 0),
    }
    found = run(DRIVER, AMD | evidence)
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ((None, None, "AAA", "AAA"),))
    gone = Item(Status.FAILED, exit=1, detail="exit 1: modinfo: ERROR: Module amdgpu not found.")
    found = run(DRIVER, AMD | {amd.DISK_VERSION.id: gone, amd.DISK_SRCVERSION.id: gone})
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, (("6.10.5", None, "AAA", None),))
    assert run(DRIVER, AMD | {amd.DISK_VERSION.id: status(Status.ABSENT, "modinfo: not found")}).coverage is Coverage.PARTIAL
    assert run(DRIVER, AMD | {amd.MODULE.id: ok("{}")}).coverage is Coverage.NONE


def test_rocm() -> None:
    """Installations side by side; a file without a version is a gap."""
    assert run(ROCM, AMD).rows == (("/opt/rocm-6.3.1", "6.3.1-48"), ("/opt/rocm", "6.3.1-48"))
    found = run(ROCM, {amd.ROCM.id: texts({"/opt/rocm/.info/version": "?\n", "/opt/rocm-7.0.0/.info/version": "7.0.0\n"})})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, (("/opt/rocm-7.0.0", "7.0.0"),))


def test_amd_processes() -> None:
    """A folder per process."""
    assert run(PROCESSES, AMD).rows == ((4711,),)
    found = run(PROCESSES, AMD | {amd.KFD.id: folders({"/sys/class/kfd/kfd/proc/x": {"pasid": "1"}})})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, ())


# --- AMD's tools ----------------------------------------------------------------------------------


def tool(document: Any, where: Evidence | None = None) -> tuple[Coverage, list[dict[str, Any]]]:
    """Coverage and rows with amd-smi."""
    text = document if isinstance(document, str) else json.dumps(document)
    found = run(SMI, AMD | (where or {}) | {amd_smi.AMD_SMI.id: ok(text, 0)})
    return found.coverage, rows_as_dicts(SMI, found)


EXPECTED = {
    "gpu_index": 0, "address": AMD_ADDRESS, "name": "AMD Instinct MI300X OAM", "vbios": "113-M3000100-102", "driver_version": "6.10.5",
    "compute_partition": "SPX", "memory_partition": "NPS1", "process_isolation": False, "tool": "amd-smi",
}  # fmt: skip


def test_amd_smi_of_rocm_6_and_7() -> None:
    """A bare list, then an object with `gpu_data`; `vbios`, then `ifwi`; warnings before it."""
    assert tool(AMD_SMI) == (Coverage.COMPLETE, [EXPECTED])
    new = {**AMD_SMI[0], "ifwi": AMD_SMI[0]["vbios"]}
    del new["vbios"]
    assert tool({"gpu_data": [new]}) == (Coverage.COMPLETE, [EXPECTED])
    assert tool("WARNING: User is missing the following required groups: render\n" + json.dumps(AMD_SMI, indent=4)) == (
        Coverage.COMPLETE,
        [EXPECTED],
    )


def test_amd_smi_not_available() -> None:
    """Its `N/A`, as a text or in place of an object."""
    bare = {
        "gpu": 0,
        "asic": {"market_name": "N/A"},
        "bus": {"bdf": AMD_ADDRESS},
        "vbios": "N/A",
        "driver": {"version": ""},
        "partition": "N/A",
    }
    coverage, (row,) = tool([{**bare, "process_isolation": "N/A"}])
    assert (coverage, row) == (Coverage.COMPLETE, dict.fromkeys(EXPECTED) | {"gpu_index": 0, "address": AMD_ADDRESS, "tool": "amd-smi"})


@pytest.mark.parametrize(
    ("document", "coverage", "count"),
    [
        ([*AMD_SMI, {}], Coverage.PARTIAL, 1),
        ([*AMD_SMI, 7], Coverage.PARTIAL, 1),
        ([{**AMD_SMI[0], "bus": {}}], Coverage.PARTIAL, 1),
        ([], Coverage.PARTIAL, 0),
        ({"gpu_data": 7}, Coverage.NONE, 0),
        ("", Coverage.NONE, 0),
        (json.dumps(AMD_SMI)[:-5], Coverage.NONE, 0),
        ("[" * 90000, Coverage.NONE, 0),
    ],
)
def test_amd_smi_garbage(document: Any, coverage: Coverage, count: int) -> None:
    """What is no GPU is a gap; what is no document says nothing; a GPU of PCI that is missing is a gap."""
    found, rows = tool(document)
    assert (found, len(rows)) == (coverage, count)


def test_rocm_smi_capture() -> None:
    """A real answer of ROCm 5.7 in the old spelling, with more than was asked for."""
    text = shared("captures/rocm-smi.rx6700xt.rocm571.json").read_text()
    where = pci({"0000:07:00.0": device("0x1002", "0x030000", "amdgpu")})
    expected = {
        **dict.fromkeys(EXPECTED), "gpu_index": 0, "address": "0000:07:00.0", "name": "Navi 22 [Radeon RX 6700/6700 XT / 6800M]",
        "vbios": "113-67XA6SSB1-D01", "driver_version": "6.3.6", "tool": "rocm-smi",
    }  # fmt: skip
    for form in (text, "WARNING: AMD GPU device(s) is/are in a low-power state.\n" + text, text.replace("Card series", "Card Series")):
        found = run(SMI, AMD | where | {amd_smi.AMD_SMI.id: NO_TOOL, amd_smi.ROCM_SMI.id: ok(form, 0)})
        assert (found.coverage, rows_as_dicts(SMI, found)) == (Coverage.COMPLETE, [expected])
    found = run(SMI, AMD | where | {amd_smi.AMD_SMI.id: NO_TOOL, amd_smi.ROCM_SMI.id: ok(text.replace('"card0"', '"gpu"'), 0)})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, ())
    assert run(SMI, AMD | where | {amd_smi.AMD_SMI.id: NO_TOOL, amd_smi.ROCM_SMI.id: ok("[]", 0)}).coverage is Coverage.NONE


def test_no_amd_tool() -> None:
    """A GPU and no tool: not known. No GPU: nothing to tell."""
    neither = {amd_smi.AMD_SMI.id: NO_TOOL, amd_smi.ROCM_SMI.id: NO_TOOL}
    assert run(SMI, AMD | neither).coverage is Coverage.NONE
    assert run(SMI, NOTHING).coverage is Coverage.COMPLETE
    assert run(SMI, NOTHING | {PCI.id: status(Status.DENIED)}).coverage is Coverage.NONE


# --- Gaudi ----------------------------------------------------------------------------------------


def test_gaudi() -> None:
    """What the driver tells, in the folders of newer and older kernels."""
    expected = {
        "name": "accel0", "address": "0000:19:00.0", "type": "GAUDI2", "status": "Operational", "firmware": "hl-gaudi2-1.18.0-fw-53.1.1-sec-9",
        "os_firmware": None, "preboot": "hl-gaudi2-1.18.0-fw-53.1.1-sec-9", "boot_loader": None, "cpld": "0x0000000f", "secured": True, "module": 3,
    }  # fmt: skip
    found = run(DEVICES, GAUDI)
    assert (found.coverage, rows_as_dicts(DEVICES, found)) == (Coverage.COMPLETE, [expected])
    old = {**GAUDI_ATTRIBUTES, "cpucp_ver": None, "armcp_ver": GAUDI_ATTRIBUTES["cpucp_ver"]}
    found = run(DEVICES, GAUDI | {gaudi.DEVICES.id: folders({"/sys/class/habanalabs/hl0": old})})
    assert (found.coverage, rows_as_dicts(DEVICES, found)) == (Coverage.COMPLETE, [expected | {"name": "hl0"}])


def test_accelerators_of_others() -> None:
    """Their folders stand beside, and are none of Gaudi's."""
    other = {"/sys/class/accel/accel1/device": dict.fromkeys(GAUDI_ATTRIBUTES), "/sys/class/accel/accel0/device": GAUDI_ATTRIBUTES}
    found = run(DEVICES, GAUDI | {gaudi.DEVICES.id: folders(other)})
    assert (found.coverage, len(found.rows)) == (Coverage.COMPLETE, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"pci_addr": {"status": "denied", "detail": ""}},
        {"pci_addr": "?"},
        {"security_enabled": "yes"},
        {"status": {"status": "failed", "detail": ""}},
    ],
)
def test_gaudi_unread(fields: dict[str, Any]) -> None:
    """What cannot be read makes the table partial."""
    entry = {"/sys/class/accel/accel0/device": {**GAUDI_ATTRIBUTES, **fields}}
    assert run(DEVICES, GAUDI | {gaudi.DEVICES.id: folders(entry)}).coverage is Coverage.PARTIAL


def test_gaudi_on_pci_only() -> None:
    """An accelerator that its driver does not drive is a gap."""
    found = run(DEVICES, GAUDI | {gaudi.DEVICES.id: ok("{}")})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, ())
