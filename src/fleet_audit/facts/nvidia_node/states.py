# SPDX-License-Identifier: Apache-2.0
"""States of NVIDIA GPUs that the NVML reader does not ask for: fabric, recovery, pending page retirement, compute mode, power limits."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe
from fleet_audit.facts.gpu import PCI, PCI_BUS, VERSION, not_loaded, pci_address
from fleet_audit.facts.nvidia import compare, no_driver
from fleet_audit.facts.nvidia.smi import said
from fleet_audit.model import Source, SourceId, Status

_OLD = ("index", "uuid", "pci.bus_id", "compute_mode", "power.limit", "power.default_limit", "utilization.gpu", "retired_pages.pending")
_NEW = ("gpu_recovery_action", "fabric.state", "fabric.status", "fabric.cliqueId", "fabric.clusterUuid", "dramEncryption.mode.current")
STATES = Source(
    SourceId("nvidia-smi-states"), "command", {"argv": ["nvidia-smi", f"--query-gpu={','.join(_OLD + _NEW)}", "--format=csv"]},
    "nvidia-smi(1), SELECTIVE QUERY OPTIONS: a line of names, a line per GPU. It asks for these alone, which costs a fraction of `-q -x`; "
    "a name that the driver does not know fails it as a whole.",
    when_exists=VERSION.args["paths"][0], otherwise=SourceId("nvidia-smi-old-states"), timeout_s=20.0,
)  # fmt: skip
OLD_STATES = Source(
    SourceId("nvidia-smi-old-states"), "command", {"argv": ["nvidia-smi", f"--query-gpu={','.join(_OLD)}", "--format=csv"]},
    "The same with the names that drivers before R570 know.",
    when_exists=VERSION.args["paths"][0], timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class GpuState:
    """States of an NVIDIA GPU beside those in `gpus`. NULL: the GPU has no such thing, or its driver does not tell. Source: nvidia-smi."""

    uuid: Annotated[str, "UUID, GPU-..."]
    gpu_index: Annotated[int | None, "Number of the GPU as the driver counts"]
    address: Annotated[str | None, "PCI address as in gpu_pci"]
    compute_mode: Annotated[str | None, "default, exclusive-process or prohibited"]
    power_limit_milliwatts: Annotated[int | None, "Power limit in force, in milliwatts"]
    power_default_milliwatts: Annotated[int | None, "Power limit of the product, in milliwatts"]
    utilization_percent: Annotated[int | None, "Share of the last sample in which a kernel ran"]
    retirement_pending: Annotated[bool | None, "Memory pages wait for a reboot to be retired; before Ampere"]
    recovery_action: Annotated[str | None, "What the driver asks for: none, reset, reboot, drain-p2p, drain-and-reset"]
    fabric_state: Annotated[str | None, "Registration with the NVLink fabric: completed, in-progress, not-started"]
    fabric_status: Annotated[str | None, "How the registration ended: success, or an error in NVML's words"]
    fabric_clique: Annotated[int | None, "Clique of GPUs that reach each other by NVLink"]
    fabric_cluster: Annotated[str | None, "UUID of the NVLink domain; NULL: none, as inside one machine"]
    dram_encryption: Annotated[bool | None, "GPU memory is encrypted; Blackwell and later"]


_NO_CLUSTER = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True)
class _Line:
    evidence: Bundle
    source: Source
    fields: dict[str, str]

    def text(self, name: str) -> str | None:
        return said(self.fields[name], lambda why: self.evidence.gap(self.source, f"{name}: {why}")) if name in self.fields else None

    def word(self, name: str) -> str | None:
        text = self.text(name)
        return None if text is None else "-".join(text.lower().replace("_", " ").split())

    def number(self, name: str, unit: str = "", scale: int = 1) -> int | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            return round(float(text.removesuffix(unit)) * scale)
        except (ValueError, OverflowError):
            self.evidence.gap(self.source, f"{name}: not a number")
            return None

    def switch(self, name: str) -> bool | None:
        text = self.text(name)
        state = {"yes": True, "enabled": True, "no": False, "disabled": False}.get((text or "").lower())
        if text is not None and state is None:
            self.evidence.gap(self.source, f"{name}: not understood")
        return state

    def row(self) -> GpuState | None:
        uuid, cluster = self.text("uuid"), self.text("fabric.clusterUuid")
        if uuid is None:
            return None
        return GpuState(
            uuid, self.number("index"), pci_address(self.text("pci.bus_id")), self.word("compute_mode"),
            self.number("power.limit", " W", 1000), self.number("power.default_limit", " W", 1000), self.number("utilization.gpu", " %"),
            self.switch("retired_pages.pending"), self.word("gpu_recovery_action"), self.word("fabric.state"), self.word("fabric.status"),
            self.number("fabric.cliqueId"), None if cluster == _NO_CLUSTER else cluster, self.switch("dramEncryption.mode.current"),
        )  # fmt: skip


def parse_states(evidence: Bundle) -> Iterable[GpuState]:
    """A row per GPU; a GPU on PCI that the driver does not name makes the table partial."""
    source = next((s for s in (STATES, OLD_STATES) if evidence.item(s).status is Status.OK), None)
    if source is None:
        if not not_loaded(evidence):
            raise Unread("; ".join(describe(s, evidence.item(s)) for s in (VERSION, STATES, OLD_STATES)))
        no_driver(evidence)
        return
    lines = list(csv.reader(evidence.body(source).splitlines(), skipinitialspace=True))
    names = [name.partition(" [")[0].strip() for name in lines[0]] if lines else []
    if not {"index", "uuid", "pci.bus_id"} <= set(names):
        raise NotUnderstood(f"{source.id}: no line of names")
    rows = []
    for line in lines[1:]:
        row = _Line(evidence, source, dict(zip(names, line, strict=True))).row() if len(line) == len(names) else None
        if row is None:
            evidence.gap(source, "a line that is no GPU")
        else:
            rows.append(row)
    compare(evidence, {row.address for row in rows})
    yield from rows


TABLES = (Table("gpu_states", GpuState, (VERSION, PCI_BUS, PCI, STATES, OLD_STATES), parse_states),)
