# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs by PCI address, and which level of the node knows of each: a GPU that one level lacks is a conflict, not one GPU less."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Generic, TypeVar

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.facts.gpu import PCI, PCI_BUS, VERSION, GpuPci, handed_away, not_loaded, nvidia_gpu, parse_pci, pci_address
from fleet_audit.facts.nvidia import nvml, smi
from fleet_audit.facts.nvidia.nvml import NVML
from fleet_audit.facts.nvidia.smi import SMI
from fleet_audit.model import Source, SourceId

GPUS = Source(
    SourceId("nvidia-proc-gpus"), "files", {"globs": ["/proc/driver/nvidia/gpus/*/information"], "cap_each": 8192},
    "NVIDIA driver README, chapter The /proc Interface: a folder per GPU that the kernel module drives, `Name: value` lines. "
    "It needs no library, and does not wake the GPU.",
)  # fmt: skip


@dataclass(frozen=True)
class GpuSighting:
    """An NVIDIA GPU that PCI, the kernel module or the driver's library shows. Source: sysfs, /proc/driver/nvidia, NVML or nvidia-smi."""

    address: Annotated[str, "PCI address as in gpu_pci"]
    on_pci: Annotated[bool | None, "PCI lists it; NULL: PCI was not read"]
    driver: Annotated[str | None, "Bound kernel driver; empty: none; NULL: not read, or PCI does not list it"]
    handed_away: Annotated[bool, "It is kept for a virtual machine: the driver here need not know it"]
    in_kernel: Annotated[bool | None, "The NVIDIA kernel module drives it; NULL: not read"]
    excluded: Annotated[bool | None, "The module keeps it from users (excluded); NULL where the module does not say"]
    in_library: Annotated[bool | None, "NVML, or nvidia-smi in its place, answers for it; NULL: not read to its end"]
    minor: Annotated[int | None, "Its device file is /dev/nvidia<minor>"]
    uuid: Annotated[str | None, "UUID as the kernel module gives it"]


def _pci(evidence: Bundle) -> dict[str, GpuPci]:
    return {device.address: device for device in parse_pci(evidence) if nvidia_gpu(device)}


def _kernel(evidence: Bundle) -> dict[str, dict[str, str]]:
    """{address: fields} of what the kernel module drives; none are proved by the module not being loaded."""
    found = {}
    for path, entry in {} if not_loaded(evidence) else evidence.entries(GPUS).items():
        lines = [line.partition(":") for line in str(entry.get("text", "")).splitlines()]
        fields = {name.strip(): content.strip() for name, colon, content in lines if colon}
        where = pci_address(path.split("/")[-2])
        if where is None or "Model" not in fields:
            evidence.gap(GPUS, f"{path}: not understood")
            continue
        found[where] = fields
    return found


def _library(evidence: Bundle) -> dict[str, None]:
    """Addresses of the GPUs for which NVML answered, or nvidia-smi where NVML did not come to its end."""
    found = nvml.answers(evidence)
    if found is not None and not found[2] and found[0].answers.get("count", {}).get("value") == len(found[1]):
        opened = [nvml.NvmlGpu(index, calls, None) for index, calls in found[1].items() if calls.error("handle") is None]
        return _known(evidence, NVML, [gpu.address() for gpu in opened])
    second = smi.read(evidence)
    if second is not None:
        evidence.gaps += second.gaps
        return _known(evidence, SMI, [gpu.address() for gpu in second.gpus])
    if not not_loaded(evidence):
        raise Unread(f"{NVML.id}: neither it nor nvidia-smi told all GPUs")
    return {}


def _known(evidence: Bundle, source: Source, addresses: list[str | None]) -> dict[str, None]:
    if None in addresses:
        evidence.gap(source, "a GPU without a PCI address")
    return {address: None for address in addresses if address}


_T = TypeVar("_T")


@dataclass(frozen=True)
class _Level(Generic[_T]):
    """What one level told, and whether that was all."""

    gpus: dict[str, _T]
    whole: bool

    @classmethod
    def read(cls, evidence: Bundle, reader: Callable[[Bundle], dict[str, _T]]) -> _Level[_T]:
        before = len(evidence.gaps)
        try:
            gpus = reader(evidence)
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))
            gpus = {}
        return cls(gpus, len(evidence.gaps) == before)

    def knows(self, address: str) -> bool | None:
        return True if address in self.gpus else False if self.whole else None


def parse_sightings(evidence: Bundle) -> Iterable[GpuSighting]:
    """A row per address that any level shows; a level that was not read whole denies nothing."""
    pci, kernel, library = _Level.read(evidence, _pci), _Level.read(evidence, _kernel), _Level.read(evidence, _library)
    if not (pci.whole or kernel.whole or library.whole or pci.gpus or kernel.gpus or library.gpus):
        raise Unread("; ".join(evidence.gaps))
    for address in sorted({*pci.gpus, *kernel.gpus, *library.gpus}):
        device, fields = pci.gpus.get(address), kernel.gpus.get(address, {})
        uuid = value(fields.get("GPU UUID"))
        yield GpuSighting(
            address, pci.knows(address), device.driver if device else None, device is not None and handed_away(device), kernel.knows(address),
            {"yes": True, "no": False}.get(fields.get("GPU Excluded", "").lower()), library.knows(address), integer(fields.get("Device Minor")),
            uuid if re.fullmatch(r"GPU-[0-9A-Fa-f-]{36}", uuid or "") else None,
        )  # fmt: skip


TABLES = (Table("gpu_sightings", GpuSighting, (PCI_BUS, PCI, VERSION, GPUS, NVML, SMI), parse_sightings),)
