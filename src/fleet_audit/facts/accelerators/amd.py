# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs as the amdgpu driver shows them in sysfs, the driver itself, ROCm's installations and compute processes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accelerators.sysfs import Folder, compare, folders, sysfs
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, value
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.facts.gpu import PCI, PCI_BUS, on_disk, pci_address
from fleet_audit.model import Source, SourceId

_FIRMWARE = ("asd", "ce", "dmcub", "imu", "mc", "me", "mec", "mec2", "mes", "mes_kiq", "pfp", "pldm", "rlc", "sdma", "sdma2", "smc", "sos",
             "ta_ras", "ta_xgmi", "uvd", "vce", "vcn")  # fmt: skip
_MODULE = "/sys/module/amdgpu"
GPUS = Source(
    SourceId("amdgpu-devices"), "attrs",
    {"globs": ["/sys/bus/pci/drivers/amdgpu/*:*"],
     "names": ["product_name", "vbios_version", "unique_id", "mem_info_vram_total", "current_compute_partition", "current_memory_partition",
               "enforce_isolation", "ras/umc_err_count", *(f"fw_version/{part}_fw_version" for part in _FIRMWARE)]},
    "Kernel documentation, gpu/amdgpu (driver-misc, ras, process-isolation): the functions that the driver drives, as below "
    "/sys/class/drm/card*/device.",
)  # fmt: skip
MODULE = Source(
    SourceId("amdgpu-module"), "attrs", {"globs": [_MODULE], "names": ["version", "srcversion", "refcnt", "initstate"]},
    "Kernel documentation, ABI/stable/sysfs-module: a version is there for AMD's own build (DKMS) only.",
)  # fmt: skip
DISK_VERSION = Source(
    SourceId("amdgpu-disk-version"), "command", {"argv": ["modinfo", "-F", "version", "amdgpu"]},
    "modinfo(8): version of the module that would be loaded for the running kernel; empty for the kernel's own.", when_exists=_MODULE,
)  # fmt: skip
DISK_SRCVERSION = Source(
    SourceId("amdgpu-disk-srcversion"), "command", {"argv": ["modinfo", "-F", "srcversion", "amdgpu"]},
    "modinfo(8): checksum of the sources of that module.", when_exists=_MODULE,
)  # fmt: skip
ROCM = Source(
    SourceId("rocm-versions"), "files", {"globs": ["/opt/rocm*/.info/version"], "cap_each": 1024},
    "ROCm installation guide: each release has a folder of its own, /opt/rocm leads to one of them. A line such as 6.3.1-48.",
)  # fmt: skip
KFD = Source(
    SourceId("kfd-processes"), "attrs", {"globs": ["/sys/class/kfd/kfd/proc/*"], "names": ["pasid"]},
    "Kernel source, drivers/gpu/drm/amd/amdkfd/kfd_process.c: a folder per process that computes, named by its number.",
)  # fmt: skip


@dataclass(frozen=True)
class AmdGpu:
    """An AMD GPU that the amdgpu driver drives. NULL: the GPU or its driver has no such thing. Source: sysfs."""

    address: Annotated[str, "PCI address as in gpu_pci"]
    name: Annotated[str | None, "Product name of its FRU memory; server GPUs only"]
    vbios: Annotated[str | None, "VBIOS part number with version, such as 113-M3000100-102"]
    unique_id: Annotated[str | None, "Its own number, in hex"]
    memory_bytes: Annotated[int | None, "GPU memory in bytes"]
    compute_partition: Annotated[str | None, "SPX, DPX, TPX, QPX or CPX"]
    memory_partition: Annotated[str | None, "NPS1, NPS2, NPS4 or NPS8"]
    process_isolation: Annotated[bool | None, "What a process leaves in the GPU is cleaned before the next one runs, on all partitions"]
    uncorrected_errors: Annotated[int | None, "Uncorrectable memory errors since the driver was loaded"]
    corrected_errors: Annotated[int | None, "Corrected memory errors since the driver was loaded"]


@dataclass(frozen=True)
class AmdFirmware:
    """A firmware that runs in an AMD GPU. Source: sysfs, fw_version; those that read 0 are not in use and have no row."""

    address: Annotated[str, "PCI address as in gpu_pci"]
    component: Annotated[str, "Part of the GPU, such as smc, sos (security processor), mec, sdma, vcn, ta_ras"]
    version: Annotated[str, "Version as the driver writes it, in hex"]


@dataclass(frozen=True)
class AmdDriver:
    """The amdgpu kernel module; no row: it is not loaded. Versions that differ: a reload or reboot is pending. Source: sysfs, modinfo."""

    loaded_version: Annotated[str | None, "Version of the loaded module; NULL for the kernel's own"]
    disk_version: Annotated[str | None, "Version of the module on disk; NULL for the kernel's own"]
    loaded_srcversion: Annotated[str | None, "Checksum of the loaded module's sources"]
    disk_srcversion: Annotated[str | None, "Checksum of the sources of the module on disk"]


@dataclass(frozen=True)
class RocmInstall:
    """An installation of ROCm; several may stand side by side. Source: /opt/rocm*/.info/version."""

    folder: Annotated[str, "Its folder"]
    version: Annotated[str, "Version with build number, such as 6.3.1-48"]


@dataclass(frozen=True)
class AmdProcess:
    """A process that computes on AMD GPUs. Source: /sys/class/kfd."""

    pid: Annotated[int, "Process id"]


def _errors(folder: Folder, name: str) -> int | None:
    text = folder.text("ras/umc_err_count")
    found = re.search(rf"(?:^|\n){name}: *(\d{{1,18}})(?:\n|$)", text or "")
    if text is not None and found is None:
        folder.evidence.gap(GPUS, f"{folder.path}/ras/umc_err_count: not understood")
    return int(found[1]) if found else None


def _isolation(folder: Folder) -> bool | None:
    """Source: a number per partition, 0 off, 1 on, 2 and 3 older and partial forms."""
    words = (folder.text("enforce_isolation") or "").split()
    if not all(word in ("0", "1", "2", "3") for word in words):
        folder.evidence.gap(GPUS, f"{folder.path}/enforce_isolation: not understood")
        return None
    return all(word == "1" for word in words) if words else None


def parse_gpus(evidence: Bundle) -> Iterable[AmdGpu]:
    """A row per GPU; one on PCI that the driver does not drive makes the table partial."""
    rows = [
        AmdGpu(
            address, folder.text("product_name"), folder.text("vbios_version"), folder.text("unique_id"), folder.number("mem_info_vram_total"),
            folder.text("current_compute_partition"), folder.text("current_memory_partition"), _isolation(folder), _errors(folder, "ue"),
            _errors(folder, "ce"),
        )
        for folder, address in _devices(evidence)
    ]  # fmt: skip
    compare(evidence, "amd", {row.address for row in rows})
    return rows


def _devices(evidence: Bundle) -> Iterable[tuple[Folder, str]]:
    for folder in folders(evidence, GPUS):
        if (address := pci_address(folder.name)) is None:
            evidence.gap(GPUS, f"{folder.path}: no PCI address")
        else:
            yield folder, address


def parse_firmware(evidence: Bundle) -> Iterable[AmdFirmware]:
    """A row per GPU and firmware."""
    found = list(_devices(evidence))
    compare(evidence, "amd", {address for _, address in found})
    for folder, address in found:
        for part in _FIRMWARE:
            text = folder.text(f"fw_version/{part}_fw_version")
            if text is not None and not re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text):
                evidence.gap(GPUS, f"{folder.path}: {part}: not understood")
            elif text is not None and int(text, 16):
                yield AmdFirmware(address, part, text)


def parse_driver(evidence: Bundle) -> Iterable[AmdDriver]:
    """One row if the module is loaded."""
    sysfs(evidence)
    found = [folder for folder in folders(evidence, MODULE) if folder.path == _MODULE]
    if not found:
        raise NotUnderstood(f"{MODULE.id}: not looked for")
    if found[0].present():
        disk = [_printed(evidence, DISK_VERSION, r"[\w.+~-]*"), _printed(evidence, DISK_SRCVERSION, r"[0-9A-F]*")]
        yield AmdDriver(found[0].text("version"), disk[0], found[0].text("srcversion"), disk[1])


def _printed(evidence: Bundle, source: Source, pattern: str) -> str | None:
    """What modinfo printed, if it looks like it; of the kernel's own module there is no version."""
    text = on_disk(evidence, source)
    if text is not None and not re.fullmatch(pattern, text):
        evidence.gap(source, "not understood")
        return None
    return value(text)


def parse_rocm(evidence: Bundle) -> Iterable[RocmInstall]:
    """A row per installation."""
    for path, entry in evidence.entries(ROCM).items():
        version = value(str(entry.get("text")))
        if version is None or not re.fullmatch(r"\d{1,4}(\.\d{1,6}){1,3}[-.+~0-9A-Za-z]{0,60}", version):
            evidence.gap(ROCM, f"{path}: no version")
            continue
        yield RocmInstall(path.removesuffix("/.info/version"), version)


def parse_processes(evidence: Bundle) -> Iterable[AmdProcess]:
    """A row per process."""
    sysfs(evidence)
    for folder in folders(evidence, KFD):
        pid = integer(folder.name)
        if pid is None:
            evidence.gap(KFD, f"{folder.path}: no process")
            continue
        yield AmdProcess(pid)


TABLES = (
    Table("amd_gpus", AmdGpu, (PCI_BUS, PCI, GPUS), parse_gpus),
    Table("amd_firmware", AmdFirmware, (PCI_BUS, PCI, GPUS), parse_firmware),
    Table("amd_driver", AmdDriver, (SYSFS, MODULE, DISK_VERSION, DISK_SRCVERSION), parse_driver),
    Table("rocm_installs", RocmInstall, (ROCM,), parse_rocm),
    Table("amd_processes", AmdProcess, (SYSFS, KFD), parse_processes),
)
