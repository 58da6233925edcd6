# SPDX-License-Identifier: Apache-2.0
"""Device files, kernel modules and PCIe links of GPUs and accelerators."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accelerators.sysfs import folders, sysfs
from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.facts.gpu import PCI_BUS, pci_address, pci_bus
from fleet_audit.model import Source, SourceId

FILES = Source(
    SourceId("gpu-device-files"), "stat",
    {"globs": ["/dev", "/dev/nvidia*", "/dev/nvidia-caps/*", "/dev/nvidia-caps-imex-channels/*", "/dev/kfd", "/dev/dri/*", "/dev/accel/*", "/dev/hl*",
               "/dev/gdrdrv"]},
    "NVIDIA driver README, chapter on device files; kernel documentation, gpu/drm-uapi and accel: who may open them may use the device.",
)  # fmt: skip
_MODULES = ("nvidia", "nvidia_uvm", "nvidia_modeset", "nvidia_drm", "nvidia_peermem", "nvidia_fs", "nouveau", "nova_core", "gdrdrv",
            "amdgpu", "amd_iommu_v2", "radeon", "habanalabs", "xe", "i915", "vfio_pci", "nvgrace_gpu_vfio_pci")  # fmt: skip
MODULES = Source(
    SourceId("gpu-modules"), "attrs",
    {"globs": [f"/sys/module/{name}" for name in _MODULES], "names": ["initstate", "version", "srcversion"]},
    "Kernel documentation, ABI/stable/sysfs-module: a folder per loaded module; one that is built in has no initstate.",
)  # fmt: skip
LINKS = Source(
    SourceId("gpu-pcie-links"), "attrs",
    {"globs": [f"/sys/bus/pci/drivers/{name}/*:*" for name in ("nvidia", "nvidia-nvswitch", "amdgpu", "habanalabs", "xe", "i915")],
     "names": ["current_link_speed", "current_link_width", "max_link_speed", "max_link_width", "numa_node"], "links": ["iommu_group"]},
    "Kernel documentation, ABI/testing/sysfs-bus-pci, of the functions that a GPU driver is bound to.",
)  # fmt: skip


@dataclass(frozen=True)
class GpuDeviceFile:
    """A device file of a GPU or accelerator, or what lies in its place. No row: there is none here. Source: metadata in /dev."""

    path: Annotated[str, "File, such as /dev/nvidia0, /dev/nvidia-caps/nvidia-cap1, /dev/kfd, /dev/dri/renderD128"]
    family: Annotated[str, "nvidia, nvidia-caps, nvidia-imex, amd (kfd), dri (GPUs of any maker), accel, habana or gdrcopy"]
    type: Annotated[str, "char; another type is no device"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]


@dataclass(frozen=True)
class GpuModule:
    """Version of a loaded kernel module of GPUs or accelerators, which `kernel_modules` lacks. Source: /sys/module."""

    name: Annotated[str, "Module, such as nvidia, nvidia_peermem, nouveau, amdgpu, habanalabs, xe"]
    version: Annotated[str | None, "Its version; NULL for one that comes with the kernel, whose version counts"]
    srcversion: Annotated[str | None, "Checksum of its sources"]


@dataclass(frozen=True)
class GpuPcieLink:
    """The PCIe link of a function that a GPU driver drives. Source: sysfs. Speeds fall when a GPU is idle; widths should not."""

    address: Annotated[str, "PCI address as in gpu_pci"]
    driver: Annotated[str, "Bound kernel driver"]
    width: Annotated[int | None, "Lanes in use; 0, 255 or NULL: not told, as in many virtual machines"]
    max_width: Annotated[int | None, "Lanes that the device has"]
    speed: Annotated[str | None, "Speed in use, such as 32.0 GT/s PCIe"]
    max_speed: Annotated[str | None, "Speed that the device can do"]
    numa_node: Annotated[int | None, "NUMA node; NULL: none"]
    iommu_group: Annotated[int | None, "IOMMU group; NULL: no IOMMU translates for it"]


_FAMILIES = (
    ("/dev/nvidia-caps-imex-channels/", "nvidia-imex"), ("/dev/nvidia-caps/", "nvidia-caps"), ("/dev/nvidia", "nvidia"), ("/dev/kfd", "amd"),
    ("/dev/dri/", "dri"), ("/dev/accel/", "accel"), ("/dev/hl", "habana"), ("/dev/gdrdrv", "gdrcopy"),
)  # fmt: skip


def parse_files(evidence: Bundle) -> Iterable[GpuDeviceFile]:
    """A row per file; folders are no device files."""
    there = evidence.entries(FILES)
    if there.get("/dev", {}).get("type") != "dir":
        raise Unread(f"{FILES.id}: no /dev to be seen")
    for path, entry in there.items():
        family = next((name for start, name in _FAMILIES if path.startswith(start)), None)
        if family is None or entry.get("type") == "dir":
            continue
        try:
            yield GpuDeviceFile(path, family, entry["type"], entry["mode"], entry["uid"], entry["gid"])
        except KeyError:
            evidence.gap(FILES, f"{path}: not understood")


def parse_modules(evidence: Bundle) -> Iterable[GpuModule]:
    """A row per module that is loaded."""
    sysfs(evidence)
    found = list(folders(evidence, MODULES))
    if len(found) < len(_MODULES):
        evidence.gap(MODULES, "not all modules were looked for")
    for folder in found:
        if not folder.present():
            continue
        yield GpuModule(folder.name, folder.text("version"), folder.text("srcversion"))


def parse_links(evidence: Bundle) -> Iterable[GpuPcieLink]:
    """A row per function."""
    pci_bus(evidence)
    for folder in folders(evidence, LINKS):
        address = pci_address(folder.name)
        if address is None:
            evidence.gap(LINKS, f"{folder.path}: no PCI address")
            continue
        node, group = folder.number("numa_node"), folder.number("iommu_group")
        yield GpuPcieLink(
            address, folder.path.split("/")[-2], folder.number("current_link_width"), folder.number("max_link_width"),
            folder.text("current_link_speed"), folder.text("max_link_speed"), None if node is not None and node < 0 else node, group,
        )  # fmt: skip


TABLES = (
    Table("gpu_device_files", GpuDeviceFile, (FILES,), parse_files),
    Table("gpu_modules", GpuModule, (SYSFS, MODULES), parse_modules),
    Table("gpu_pcie_links", GpuPcieLink, (PCI_BUS, LINKS), parse_links),
)
