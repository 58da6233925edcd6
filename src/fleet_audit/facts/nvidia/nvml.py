# SPDX-License-Identifier: Apache-2.0
"""NVML's answers, a line of JSON per call: `{scope, index, name, value | error}`.

Source: nvidia-ml-py (pynvml) for structures and constants; `probe/node.py` for the calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from fleet_audit.facts.base import Bundle, Item
from fleet_audit.facts.gpu import VERSION, branch, dotted, pci_address, release
from fleet_audit.facts.nvidia.rows import Gpu, GpuProcess, Reading
from fleet_audit.model import Source, SourceId, Status

NVML = Source(
    SourceId("nvml"),
    "nvml",
    {},
    "The driver's own library, asked by the pynvml module in a child process; a row per call.",
    when_exists=VERSION.args["paths"][0],
    otherwise=SourceId("nvidia-smi"),
    timeout_s=20.0,
)

_NOT_SUPPORTED, _FUNCTION_NOT_FOUND, _CORRUPTED_INFOROM = 3, 13, 14
_VIRTUALIZATION = {0: "none", 1: "pass-through", 2: "vgpu", 3: "host-vgpu", 4: "host-vsga"}
_ARCHITECTURE = {
    2: "kepler",
    3: "maxwell",
    4: "pascal",
    5: "volta",
    6: "turing",
    7: "ampere",
    8: "ada",
    9: "hopper",
    10: "blackwell",
    13: "rubin",
}


@dataclass
class Calls:
    """The answers of one scope: the system, or a GPU."""

    evidence: Bundle
    label: str
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def error(self, name: str) -> object:
        """What a call failed with, None if it did not fail or was not made."""
        return self.answers.get(name, {}).get("error")

    def supported(self, name: str) -> bool | None:
        """Whether the driver has this for this GPU; None if it did not say."""
        if self.error(name) == _NOT_SUPPORTED:
            return False
        return True if "value" in self.answers.get(name, {}) else None

    def value(self, name: str, *kinds: type) -> Any:
        """A call's value, None if it has none. A failure other than `no such thing` is a gap."""
        answer = self.answers.get(name, {})
        if (error := answer.get("error")) is not None:
            if error not in (_NOT_SUPPORTED, _FUNCTION_NOT_FOUND):
                self.evidence.gap(NVML, f"{self.label} {name}: error {str(error)[:80]}")
            return None
        found = answer.get("value")
        if found is not None and type(found) not in kinds:
            self.evidence.gap(NVML, f"{self.label} {name}: not understood")
            return None
        return found

    def text(self, name: str) -> str | None:
        """A text that says something."""
        return (self.value(name, str) or "").strip() or None

    def number(self, name: str) -> int | None:
        """A whole number."""
        found = self.value(name, int)
        return found if found is None else int(found)

    def flags(self, name: str, size: int) -> list[bool | None]:
        """A call's list of switches, each NULL where it is neither 0 nor 1."""
        found = self.value(name, list, int)
        if found is None:
            return [None] * size
        numbers = found if isinstance(found, list) else [found]
        if len(numbers) != size:
            self.evidence.gap(NVML, f"{self.label} {name}: not understood")
            return [None] * size
        return [self.switch(name, number) for number in numbers]

    def switch(self, name: str, number: object) -> bool | None:
        """0 or 1 as a truth value; anything else is a gap."""
        if type(number) is int and number in (0, 1):
            return bool(number)
        self.evidence.gap(NVML, f"{self.label} {name}: not understood")
        return None

    def word(self, name: str, words: dict[int, str]) -> str | None:
        """The word for a number; `nvml N` for one that is newer than this program."""
        number = self.number(name)
        return None if number is None else words.get(number, f"nvml {number}")


@dataclass(frozen=True)
class NvmlGpu:
    """One GPU as NVML answered for it."""

    index: int
    calls: Calls
    driver: str | None

    def row(self) -> Gpu | None:
        """Its facts."""
        calls = self.calls
        uuid = calls.text("uuid")
        if uuid is None:
            calls.evidence.gap(NVML, f"{calls.label}: no UUID")
            return None
        ecc, ecc_pending = calls.flags("ecc", 2)
        mig, mig_pending = calls.flags("mig", 2)
        remap_pending, remap_failure = self._remapping()
        return Gpu(
            uuid,
            self.index,
            calls.text("name"),
            self.address(),
            self.driver,
            dotted(self.driver),
            branch(self.driver),
            calls.text("vbios"),
            calls.text("inforom_image"),
            self._inforom_valid(),
            calls.text("gsp_version"),
            calls.supported("ecc"),
            ecc,
            ecc_pending,
            calls.number("ecc_uncorrected_volatile"),
            calls.number("ecc_uncorrected_aggregate"),
            remap_pending,
            remap_failure,
            calls.supported("mig"),
            mig,
            mig_pending,
            calls.flags("persistence", 1)[0],
            calls.word("virtualization", _VIRTUALIZATION),
            calls.word("architecture", _ARCHITECTURE),
        )

    def processes(self) -> Iterator[GpuProcess]:
        """Its processes. A call that did not answer is a gap: nothing would prove that none runs."""
        calls = self.calls
        uuid = calls.text("uuid")
        if uuid is None:
            calls.evidence.gap(NVML, f"{calls.label}: no UUID")
            return
        for kind in ("compute", "graphics"):
            found = calls.value(f"{kind}_processes", list)
            if found is None:
                calls.evidence.gap(NVML, f"{calls.label}: {kind} processes not read")
            for entry in found or ():
                fields = entry if isinstance(entry, dict) else {}
                pid, used = fields.get("pid"), fields.get("usedGpuMemory")
                if type(pid) is not int:
                    calls.evidence.gap(NVML, f"{calls.label}: a {kind} process without a number")
                    continue
                yield GpuProcess(uuid, pid, None, kind, used if type(used) is int else None)

    def address(self) -> str | None:
        """Where it is on PCI."""
        pci = self.calls.value("pci", dict) or {}
        text = pci.get("busId")
        return pci_address(text if isinstance(text, str) else None)

    def _inforom_valid(self) -> bool | None:
        if self.calls.error("inforom_valid") == _CORRUPTED_INFOROM:
            return False
        self.calls.value("inforom_valid", bool)
        return True if self.calls.supported("inforom_valid") else None

    def _remapping(self) -> tuple[bool | None, bool | None]:
        """Pending and failed. Source: pynvml gives correctable, uncorrectable, pending, failure."""
        found = self.calls.value("remapped_rows", list)
        if found is None:
            return None, None
        if len(found) != 4:
            self.calls.evidence.gap(NVML, f"{self.calls.label} remapped_rows: not understood")
            return None, None
        return self.calls.switch("remapped_rows", found[2]), self.calls.switch("remapped_rows", found[3])


def answers(evidence: Bundle) -> tuple[Calls, dict[int, Calls], tuple[str, ...]] | None:
    """The system's calls, each GPU's, and why there may be more; None if NVML did not start."""
    item = evidence.item(NVML)
    system, gpus = Calls(evidence, "system"), dict[int, Calls]()
    gaps = _sort(evidence, item, system, gpus)
    if "value" not in system.answers.get("init", {}):
        return None
    if item.status is not Status.OK:
        gaps.append(f"nvml: {item.status} {item.detail}".rstrip())
    if "value" not in system.answers.get("end", {}):
        gaps.append("nvml: it ended before all calls were made")
    return system, gpus, tuple(gaps)


def _sort(evidence: Bundle, item: Item, system: Calls, gpus: dict[int, Calls]) -> list[str]:
    """Put each line where it belongs; returns what was no line."""
    gaps = []
    lines = item.text.split("\n")
    if lines.pop():
        gaps.append("nvml: the last line was cut off")
    for line in lines:
        if len(gaps) > 100:
            break  # it is no output of the reader's
        try:
            row = json.loads(line)
            scope, name = row["scope"], row["name"]
            known = scope == "system" or (scope == "gpu" and type(row["index"]) is int)
        except (ValueError, RecursionError, KeyError, TypeError):
            known = False
        if not known or not isinstance(name, str):
            gaps.append("nvml: a line is no row")
        elif scope == "system":
            system.answers[name] = row
        else:
            gpus.setdefault(row["index"], Calls(evidence, f"GPU {row['index']}")).answers[name] = row
    return gaps


def read(evidence: Bundle) -> Reading | None:
    """All GPUs as NVML answered; None if it did not start."""
    found = answers(evidence)
    if found is None:
        return None
    system, gpus, gaps = found
    more = list(gaps)
    driver = release(system.text("driver_version"))
    count = system.answers.get("count", {}).get("value")
    lost = {index for index, calls in gpus.items() if calls.error("handle") is not None}
    more += [f"nvml: GPU {n} cannot be opened, error {gpus[n].error('handle')}" for n in sorted(lost)]
    if type(count) is not int or count != len(gpus):
        more.append(f"nvml: {len(gpus)} GPUs answered, the driver counts another number")
    rest = sorted(set(gpus) - lost)
    return Reading([NvmlGpu(index, gpus[index], driver) for index in rest], tuple(more))
