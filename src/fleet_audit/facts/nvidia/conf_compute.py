# SPDX-License-Identifier: Apache-2.0
"""Confidential computing of the NVIDIA GPUs of a host: one state for the whole system."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.gpu import VERSION
from fleet_audit.facts.nvidia.nvml import NVML, Calls
from fleet_audit.facts.nvidia.smi import SMI
from fleet_audit.model import Source, SourceId, Status

CONF_COMPUTE = Source(
    SourceId("nvidia-smi-conf-compute"),
    "command",
    {"argv": ["nvidia-smi", "conf-compute", "-q"]},
    "Confidential-computing state, `label : value` lines; asked only where nvidia-smi stands in for NVML.",
    when_exists=VERSION.args["paths"][0],
    when_ok=SMI.id,
    timeout_s=20.0,
)

_ENVIRONMENT = {0: "unavailable", 1: "simulation", 2: "production"}
_CPU = {0: "none", 1: "sev", 2: "tdx", 3: "sev-snp", 4: "sev-snp-vtom"}
_MULTI_GPU = {0: "none", 1: "protected-pcie", 2: "nvle"}
_SPOKEN = {word: word for word in ("production", "simulation", "internal", "unavailable")}
_LABELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {  # label -> column, {value without blanks: meaning}
    "cc state": ("cc_enabled", {"on": True, "off": False}),
    "cc status": ("cc_enabled", {"on": True, "off": False}),
    "devtools mode": ("devtools", {"on": True, "off": False}),
    "environment": ("environment", _SPOKEN),
    "cc environment": ("environment", _SPOKEN),
    "cpu cc capabilities": (
        "cpu_capability",
        {"none": "none", "amdsev": "sev", "amdsev-snp": "sev-snp", "amdsev-snp(vtommode)": "sev-snp-vtom", "inteltdx": "tdx"},
    ),
    "gpu cc capabilities": ("gpu_capable", {"cccapable": True, "notcapable": False, "ccnotcapable": False}),
    "cc gpus ready state": ("ready", {"ready": True, "notready": False}),
    "confidential compute gpus ready state": ("ready", {"ready": True, "notready": False}),
    "multi-gpu mode": ("multi_gpu_mode", {"none": "none", "protectedpcie": "protected-pcie", "nvle": "nvle"}),
}


@dataclass(frozen=True)
class GpuConfidential:
    """Confidential computing (CC) of all GPUs; no row without a driver. None of it proves attestation.

    Source: NVML's ConfCompute calls, or `nvidia-smi conf-compute -q`.
    """

    cc_enabled: Annotated[bool | None, "CC is on; off by design where multi_gpu_mode is protected-pcie"]
    devtools: Annotated[bool | None, "Profilers are let in: encrypted, but not protected"]
    environment: Annotated[str | None, "production, simulation, internal or unavailable"]
    cpu_capability: Annotated[str | None, "CPU TEE to the driver: none, sev, sev-snp, sev-snp-vtom, tdx"]
    gpu_capable: Annotated[bool | None, "The GPUs can do CC"]
    ready: Annotated[bool | None, "The GPUs accept work; anyone with root can set it"]
    multi_gpu_mode: Annotated[str | None, "none, protected-pcie (Hopper HGX) or nvle (Blackwell HGX)"]


def from_nvml(system: Calls) -> GpuConfidential:
    """From NVML's answers.

    Source: structures nvmlConfComputeSystemState_t, nvmlConfComputeSystemCaps_t and
    nvmlSystemConfComputeSettings_t, constants NVML_CC_SYSTEM_* of pynvml.
    """
    settings = system.value("cc_settings", dict)
    state = settings or system.value("cc_state", dict)
    caps = system.value("cc_capabilities", dict)
    capable = None if caps is None else _switch(system, caps, "gpusCaps")
    return GpuConfidential(
        _switch(system, state, "ccFeature"),
        _switch(system, state, "devToolsMode"),
        _word(system, state, "environment", _ENVIRONMENT),
        _word(system, caps, "cpuCaps", _CPU),
        False if system.supported("cc_capabilities") is False else capable,
        _switch(system, {"cc_ready": system.value("cc_ready", int)}, "cc_ready"),
        _word(system, settings, "multiGpuMode", _MULTI_GPU),
    )


def _switch(system: Calls, fields: dict[str, Any] | None, name: str) -> bool | None:
    number = (fields or {}).get(name)
    return None if number is None else system.switch(name, number)


def _word(system: Calls, fields: dict[str, Any] | None, name: str, words: Mapping[int, str]) -> str | None:
    number = (fields or {}).get(name)
    if number is None:
        return None
    if type(number) is not int:
        system.evidence.gap(NVML, f"{name}: not understood")
        return None
    return words.get(number, f"nvml {number}")


def from_tool(evidence: Bundle) -> GpuConfidential | None:
    """From what nvidia-smi printed; None if it did not run. Source: blanks and case vary between drivers."""
    item = evidence.item(CONF_COMPUTE)
    if item.status is not Status.OK:
        return None
    found: dict[str, Any] = {}
    for line in item.text.splitlines():
        label, colon, content = line.partition(":")
        label = " ".join(label.lower().split())
        if not colon or label not in _LABELS:
            continue
        column, meanings = _LABELS[label]
        meaning = meanings.get("".join(content.lower().split()))
        if meaning is None:
            evidence.gap(CONF_COMPUTE, f"{label}: not understood")
        found[column] = meaning
    if "cc_enabled" not in found:
        raise NotUnderstood(f"{CONF_COMPUTE.id}: no CC state in it")
    if "multi_gpu_mode" not in found:
        evidence.gap(CONF_COMPUTE, "no multi-GPU mode")
    return GpuConfidential(*(found.get(name) for name in GpuConfidential.__dataclass_fields__))
