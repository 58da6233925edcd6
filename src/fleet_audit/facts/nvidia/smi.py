# SPDX-License-Identifier: Apache-2.0
"""`nvidia-smi -q -x`, for hosts where NVML itself did not answer. Schemas nvsmi_device v10 to v13.

Source: the tool's own output on several drivers; elements that a schema lacks are not known.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from fleet_audit.facts.base import Bundle, NotUnderstood, integer
from fleet_audit.facts.gpu import VERSION, branch, dotted, pci_address, release
from fleet_audit.facts.nvidia.rows import Gpu, GpuProcess, Reading
from fleet_audit.model import Source, SourceId, Status

SMI = Source(
    SourceId("nvidia-smi"),
    "command",
    {"argv": ["nvidia-smi", "-q", "-x"]},
    "All GPU facts as XML; its document type is named in it and never fetched.",
    when_exists=VERSION.args["paths"][0],
    timeout_s=20.0,
)

_NOTHING = frozenset({"n/a", "not supported", "not available"})
_DEPRECATED = "requested functionality has been deprecated"
_UNKNOWN = frozenset(
    {"", "unknown", "unknown error", "err!", "gpu requires reset", "redacted", "insufficient permissions", "not found", "gpu is lost"}
)
_SWITCH = {"enabled": True, "disabled": False, "yes": True, "no": False}
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_CORRUPT = re.compile(r"infoROM is corrupted at gpu ([0-9a-f:.]+)", re.IGNORECASE)
_KINDS = {"c": "compute", "g": "graphics", "m": "compute"}


@dataclass(frozen=True)
class SmiGpu:
    """One `gpu` element."""

    evidence: Bundle
    index: int
    element: Element
    driver: str | None
    corrupt: frozenset[str]
    """Addresses of the GPUs that the tool warned about: their InfoROM is corrupted."""

    def address(self) -> str | None:
        """Where it is on PCI."""
        return pci_address(self.text("pci/pci_bus_id") or self.element.get("id"))

    def row(self) -> Gpu | None:
        """Its facts."""
        uuid, name = self.text("uuid"), self.text("product_name")
        if uuid is None:
            self.gap("no UUID")
            return None
        where = self.address()
        known = name is not None
        ecc, ecc_pending = self.switch("ecc_mode/current_ecc"), self.switch("ecc_mode/pending_ecc")
        mig, mig_pending = self.switch("mig_mode/current_mig"), self.switch("mig_mode/pending_mig")
        return Gpu(
            uuid,
            self.index,
            name,
            where,
            self.driver,
            dotted(self.driver),
            branch(self.driver),
            self.text("vbios_version"),
            self.text("inforom_version/img_version"),
            False if where in self.corrupt else None,
            self.text("gsp_firmware_version"),
            self.supported("ecc_mode/current_ecc", known),
            ecc,
            ecc_pending,
            self.uncorrected("volatile"),
            self.uncorrected("aggregate"),
            self.switch("remapped_rows/remapped_row_pending"),
            self.switch("remapped_rows/remapped_row_failure"),
            self.supported("mig_mode/current_mig", known),
            mig,
            mig_pending,
            self.switch("persistence_mode"),
            self._hyphened("gpu_virtualization_mode/virtualization_mode"),
            self._architecture(),
        )

    def processes(self) -> Iterator[GpuProcess]:
        """Its processes; a list that is not there or `N/A` proves nothing."""
        uuid, found = self.text("uuid"), self.element.find("processes")
        if uuid is None or found is None or (found.text or "").strip():
            self.gap("processes or UUID not read")
            return
        for process in found:
            pid = integer(process.findtext("pid"))
            letters = (process.findtext("type") or "").lower().split("+")
            kinds = dict.fromkeys(_KINDS.get(letter.strip()) for letter in letters)
            if pid is None or None in kinds:
                self.gap("a process is not understood")
                continue
            name = (process.findtext("process_name") or "").strip()
            shown = None if name.strip("[]").lower() in _NOTHING | _UNKNOWN else name
            for kind in kinds:
                yield GpuProcess(uuid, pid, shown, str(kind), _size(process.findtext("used_memory")))

    def gap(self, reason: str) -> None:
        """Something of this GPU is missing."""
        self.evidence.gap(SMI, f"GPU {self.index}: {reason}")

    def raw(self, path: str) -> str | None:
        """The text of an element in lower case without brackets; None if the schema lacks it."""
        found = self.element.find(path)
        return None if found is None else (found.text or "").strip().strip("[]").lower()

    def text(self, path: str) -> str | None:
        """The text of an element if it says something; a gap if the tool failed to say it."""
        found = self.element.find(path)
        return None if found is None else said(found.text, lambda why: self.gap(f"{path}: {why}"))

    def switch(self, path: str) -> bool | None:
        """Enabled or Disabled, Yes or No; another wording is a gap."""
        text = self.text(path)
        if text is None:
            return None
        state = _SWITCH.get(text.lower())
        if state is None:
            self.gap(f"{path}: not understood")
        return state

    def supported(self, path: str, known: bool) -> bool | None:
        """Whether the GPU has such a thing. `N/A` says so only of a product that is known."""
        raw = self.raw(path)
        if raw in _NOTHING:
            return False if known else None
        return True if raw in _SWITCH else None

    def uncorrected(self, counter: str) -> int | None:
        """Uncorrectable ECC errors, summed over the places that the GPU counts.

        Source: `sram_uncorrectable`, later split into `_parity` and `_secded`; schema v10 has
        `double_bit/total` before Ampere.
        """
        parts = self.element.find(f"ecc_errors/{counter}")
        if parts is None:
            return None
        names = [part.tag for part in parts if "_uncorrectable" in part.tag] or ["double_bit/total"]
        counts = [self.text(f"ecc_errors/{counter}/{name}") for name in names]
        numbers = [integer(count) for count in counts if count is not None]
        if None in numbers or any(self.raw(f"ecc_errors/{counter}/{n}") in _UNKNOWN for n in names):
            self.gap(f"ecc_errors/{counter}: not understood")
            return None
        return sum(n for n in numbers if n is not None) if numbers else None

    def _hyphened(self, path: str) -> str | None:
        text = self.text(path)
        return None if text is None else text.lower().replace(" ", "-")

    def _architecture(self) -> str | None:
        """One word, as for NVML: `Ada Lovelace` is ada."""
        text = self.text("product_architecture")
        return None if text is None else text.lower().split(" ")[0]


def said(text: str | None, gap: Callable[[str], None]) -> str | None:
    """A value of the tool if it says something; None for its words for nothing, and a gap where it failed to say it."""
    raw = (text or "").strip().strip("[]").lower()
    if raw in _UNKNOWN:
        gap(raw or "empty")
    return None if raw in _UNKNOWN or raw in _NOTHING or raw == _DEPRECATED else (text or "").strip()


def _size(text: str | None) -> int | None:
    number, _, unit = (text or "").strip().partition(" ")
    amount = integer(number)
    return None if amount is None or unit not in _UNITS else amount * _UNITS[unit]


def read(evidence: Bundle) -> Reading | None:
    """All GPUs; None if the tool did not run or fail. Raises NotUnderstood for what is no such document."""
    item = evidence.item(SMI)
    if item.status is not Status.OK:
        return None
    log = _document(item.text)
    gpus = log.findall("gpu")
    driver = release(log.findtext("kmd_version")) or release(log.findtext("driver_version"))
    corrupt = frozenset(a for found in _CORRUPT.findall(item.text) if (a := pci_address(found.rstrip("."))))
    attached = integer(log.findtext("attached_gpus"))
    gaps = () if attached == len(gpus) else (f"nvidia-smi: {len(gpus)} GPUs of {attached} attached ones",)
    return Reading([SmiGpu(evidence, n, gpu, driver, corrupt) for n, gpu in enumerate(gpus)], gaps)


def _document(text: str) -> Element:
    """The root element; warnings around the document are left out."""
    begin, end = text.find("<?xml"), text.rfind("</nvidia_smi_log>")
    if begin < 0 or end < 0:
        raise NotUnderstood("nvidia-smi: no whole XML document")
    try:
        root: Element = fromstring(text[begin : end + len("</nvidia_smi_log>")], forbid_dtd=False)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise NotUnderstood(f"nvidia-smi: {type(error).__name__}") from None
    if root.tag != "nvidia_smi_log":
        raise NotUnderstood("nvidia-smi: another document")
    return root
