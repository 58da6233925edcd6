# SPDX-License-Identifier: Apache-2.0
"""NVIDIA GPUs as their driver knows them: by NVML, or by nvidia-smi where NVML did not answer."""

from __future__ import annotations

from collections.abc import Iterator

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe
from fleet_audit.facts.gpu import PCI, PCI_BUS, VERSION, GpuPci, handed_away, not_loaded, nvidia_gpu, parse_pci
from fleet_audit.facts.nvidia import nvml, smi
from fleet_audit.facts.nvidia.conf_compute import CONF_COMPUTE, GpuConfidential, from_nvml, from_tool
from fleet_audit.facts.nvidia.nvml import NVML
from fleet_audit.facts.nvidia.rows import Gpu, GpuProcess, Reading
from fleet_audit.facts.nvidia.smi import SMI


def parse_gpus(evidence: Bundle) -> Iterator[Gpu]:
    """A row per GPU; a GPU on PCI that the driver does not name makes the table partial."""
    rows = [row for gpu in _reading(evidence).gpus if (row := gpu.row()) is not None]
    compare(evidence, {row.address for row in rows})
    yield from rows


def parse_processes(evidence: Bundle) -> Iterator[GpuProcess]:
    """A row per GPU and process and kind."""
    gpus = _reading(evidence).gpus
    compare(evidence, {gpu.address() for gpu in gpus})
    for gpu in gpus:
        yield from gpu.processes()


def parse_confidential(evidence: Bundle) -> Iterator[GpuConfidential]:
    """One row where a driver is loaded; the tool where NVML did not answer to the end."""
    first = nvml.answers(evidence)
    second = None
    if first is None or first[2]:
        try:
            second = from_tool(evidence)
        except NotUnderstood:
            if first is None:
                raise
    if second is not None:
        yield second
    elif first is not None:
        evidence.gaps += first[2]
        yield from_nvml(first[0])
    elif not_loaded(evidence):
        no_driver(evidence)
    else:
        raise Unread("; ".join(describe(s, evidence.item(s)) for s in (VERSION, NVML, CONF_COMPUTE)))


def _reading(evidence: Bundle) -> Reading:
    """The best way of asking that worked; no GPU where it is proved that there is none."""
    first = nvml.read(evidence)
    if first is not None and not first.gaps:
        return first
    try:
        second = smi.read(evidence)
    except NotUnderstood:
        if first is None:
            raise
        second = None
    chosen = second or first
    if chosen is not None:
        evidence.gaps += chosen.gaps
        return chosen
    if not_loaded(evidence):
        return no_driver(evidence)
    raise Unread("; ".join(describe(source, evidence.item(source)) for source in (VERSION, NVML, SMI)))


def no_driver(evidence: Bundle) -> Reading:
    """No GPU, where PCI shows none beside the driver that is not loaded; raises `Unread` otherwise."""
    found = [device for device in parse_pci(evidence) if nvidia_gpu(device)]
    if found:
        away = all(handed_away(device) for device in found)
        raise Unread(f"a GPU on PCI ({found[0].address}) but no driver loaded" + (": it is handed to virtual machines" if away else ""))
    return Reading(())


def driven(evidence: Bundle) -> list[GpuPci]:
    """The GPUs on PCI that the NVIDIA driver should name; none, and a gap, if PCI could not be read."""
    try:
        return [device for device in parse_pci(evidence) if nvidia_gpu(device) and not handed_away(device)]
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(f"GPUs not compared with PCI: {error}")
        return []


def compare(evidence: Bundle, named: set[str | None]) -> None:
    """A gap for each GPU on PCI that the driver should name and does not."""
    for device in driven(evidence):
        if device.address not in named:
            evidence.gap(PCI, f"{device.address} (driver {device.driver or 'none'}) is unknown to the NVIDIA driver")


_SOURCES = (VERSION, PCI_BUS, PCI, NVML, SMI)

TABLES = (
    Table("gpus", Gpu, _SOURCES, parse_gpus),
    Table("gpu_processes", GpuProcess, _SOURCES, parse_processes),
    Table("gpu_confidential", GpuConfidential, (*_SOURCES, CONF_COMPUTE), parse_confidential),
)
