# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs as AMD's own tools report them: amd-smi, or rocm-smi where that is missing. They stand beside `amd_gpus`, which sysfs tells."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.accelerators.sysfs import compare, on_pci
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe
from fleet_audit.facts.gpu import PCI, PCI_BUS, pci_address
from fleet_audit.model import Source, SourceId, Status

_BIN = "/opt/rocm/bin"
_GENTLY = ["env", "RSMI_MUTEX_THREAD_ONLY=1", "PYTHONDONTWRITEBYTECODE=1"]  # else the library makes mutexes in /dev/shm, and Python caches
LIVE = Source(
    SourceId("amdgpu-initstate"), "file", {"paths": ["/sys/module/amdgpu/initstate"]},
    "Kernel documentation, ABI/stable/sysfs-module: there only while the module is loaded; without it the tools have nothing to tell.",
)  # fmt: skip
AMD_SMI = Source(
    SourceId("amd-smi-static"), "command", {"argv": [*_GENTLY, f"{_BIN}/amd-smi", "static", "--json"]},
    "AMD SMI documentation, command line tool: a list of GPUs, since ROCm 7 below `gpu_data`, with `ifwi` in place of `vbios`.",
    when_exists=f"{_BIN}/amd-smi", when_ok=LIVE.id, otherwise=SourceId("rocm-smi"), timeout_s=20.0,
)  # fmt: skip
ROCM_SMI = Source(
    SourceId("rocm-smi"), "command",
    {"argv": [*_GENTLY, f"{_BIN}/rocm-smi", "--showdriverversion", "--showvbios", "--showproductname", "--showbus", "--json"]},
    "ROCm SMI documentation: an object per card and one for the system; keys differ in case between releases, warnings may precede it.",
    when_exists=f"{_BIN}/rocm-smi", when_ok=LIVE.id, timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class AmdSmiGpu:
    """An AMD GPU as amd-smi or rocm-smi reports it. NULL: not reported. Source: these tools below /opt/rocm."""

    gpu_index: Annotated[int, "Number of the GPU as the tool counts"]
    address: Annotated[str | None, "PCI address as in gpu_pci"]
    name: Annotated[str | None, "Product name"]
    vbios: Annotated[str | None, "VBIOS (IFWI) part number where it has one, else its version"]
    driver_version: Annotated[str | None, "Driver version; the kernel's banner for the kernel's own driver"]
    compute_partition: Annotated[str | None, "SPX, DPX, TPX, QPX or CPX"]
    memory_partition: Annotated[str | None, "NPS1, NPS2, NPS4 or NPS8"]
    process_isolation: Annotated[bool | None, "What a process leaves in the GPU is cleaned before the next one runs"]
    tool: Annotated[str, "amd-smi or rocm-smi"]


_NOTHING = frozenset({"", "n/a", "none", "unknown", "not supported"})


def _text(found: object) -> str | None:
    """A value of the tool that says something; numbers stand in `{value, unit}` in newer releases."""
    if isinstance(found, dict):
        found = found.get("value")
    text = str(found).strip() if isinstance(found, str | int) else ""
    return None if text.lower() in _NOTHING else text


def _object(evidence: Bundle, source: Source) -> Any:
    """The JSON in a text; what precedes it is warnings."""
    text = evidence.body(source)
    begin = min((at for at in (text.find("{"), text.find("[")) if at >= 0), default=0)
    try:
        return json.loads(text[begin:])
    except (ValueError, RecursionError):
        raise NotUnderstood(f"{source.id}: no whole JSON document") from None


def _part(gpu: dict[str, Any], *names: str) -> dict[str, Any]:
    """The first of the named objects of a GPU that is there."""
    return next((gpu[name] for name in names if isinstance(gpu.get(name), dict)), {})


def _amd(evidence: Bundle) -> Iterator[AmdSmiGpu]:
    document = _object(evidence, AMD_SMI)
    gpus = document.get("gpu_data") if isinstance(document, dict) else document
    if not isinstance(gpus, list):
        raise NotUnderstood(f"{AMD_SMI.id}: no list of GPUs")
    for gpu in gpus:
        if not isinstance(gpu, dict) or type(gpu.get("gpu")) is not int:
            evidence.gap(AMD_SMI, "an entry that is no GPU")
            continue
        vbios, partition = _part(gpu, "ifwi", "vbios"), _part(gpu, "partition")
        isolation = _text(gpu.get("process_isolation"))
        yield AmdSmiGpu(
            gpu["gpu"], pci_address(_text(_part(gpu, "bus").get("bdf"))), _text(_part(gpu, "asic").get("market_name")),
            _text(vbios.get("part_number")) or _text(vbios.get("version")), _text(_part(gpu, "driver").get("version")),
            _text(partition.get("compute_partition") or partition.get("accelerator_partition")), _text(partition.get("memory_partition")),
            {"enabled": True, "disabled": False}.get((isolation or "").lower()), "amd-smi",
        )  # fmt: skip


def _rocm(evidence: Bundle) -> Iterator[AmdSmiGpu]:
    document = _object(evidence, ROCM_SMI)
    if not isinstance(document, dict):
        raise NotUnderstood(f"{ROCM_SMI.id}: no object")
    parts = {str(name).lower(): {str(k).lower(): v for k, v in part.items()} for name, part in document.items() if isinstance(part, dict)}
    driver = _text(parts.get("system", {}).get("driver version"))
    for name, card in sorted(parts.items()):
        number = name.removeprefix("card")
        if name == "system":
            continue
        if number == name or not number.isdecimal():
            evidence.gap(ROCM_SMI, "an entry that is no card")
            continue
        yield AmdSmiGpu(
            int(number), pci_address(_text(card.get("pci bus"))), _text(card.get("card series")), _text(card.get("vbios version")), driver,
            None, None, None, "rocm-smi",
        )  # fmt: skip


def parse(evidence: Bundle) -> Iterable[AmdSmiGpu]:
    """A row per GPU; one on PCI that the tool does not report makes the table partial."""
    for source, rows in ((AMD_SMI, _amd), (ROCM_SMI, _rocm)):
        if evidence.item(source).status is Status.OK:
            found = list(rows(evidence))
            compare(evidence, "amd", {row.address for row in found})
            return found
    if on_pci(evidence, "amd"):
        raise Unread("; ".join(describe(s, evidence.item(s)) for s in (AMD_SMI, ROCM_SMI)))
    return []


TABLES = (Table("amd_smi_gpus", AmdSmiGpu, (PCI_BUS, PCI, LIVE, AMD_SMI, ROCM_SMI), parse),)
