# SPDX-License-Identifier: Apache-2.0
"""What the facts of accelerators share: attributes of sysfs, and the comparison with PCI."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from fleet_audit.facts.base import Bundle, Unread, integer, value
from fleet_audit.facts.firmware import SYSFS
from fleet_audit.facts.gpu import PCI, GpuPci, handed_away, parse_pci
from fleet_audit.model import Source


@dataclass(frozen=True)
class Folder:
    """One folder as the `attrs` reader answers it."""

    evidence: Bundle
    source: Source
    path: str
    entry: dict[str, Any]

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self.path.rpartition("/")[2]

    def present(self) -> bool:
        """Whether an attribute says that the folder is there; a gap if none could be read to tell."""
        told = any(isinstance(content, str) for content in self.entry.values())
        if not told and (not self.entry or any(content is not None for content in self.entry.values())):
            self.evidence.gap(self.source, f"{self.path} not read")
        return told

    def text(self, name: str) -> str | None:
        """An attribute; None if it is empty or not there, and a gap if it could not be read."""
        content = self.entry.get(name, {})
        if not isinstance(content, str | None):
            self.evidence.gap(self.source, f"{self.path}/{name} not read")
            return None
        return value(content)

    def number(self, name: str) -> int | None:
        """A decimal attribute; a gap if it is none."""
        text = self.text(name)
        number = integer(text)
        if text is not None and number is None:
            self.evidence.gap(self.source, f"{self.path}/{name}: not a number")
        return number


def folders(evidence: Bundle, source: Source) -> Iterator[Folder]:
    """The folders of a source, in order."""
    for path, entry in sorted(evidence.entries(source).items()):
        yield Folder(evidence, source, path, entry)


def sysfs(evidence: Bundle) -> None:
    """Raises `Unread` unless sysfs is there, without which no folders would prove nothing."""
    if "/sys/class" not in evidence.entries(SYSFS):
        raise Unread(f"{SYSFS.id}: no /sys/class")


def on_pci(evidence: Bundle, vendor: str) -> list[GpuPci]:
    """A maker's physical GPUs and accelerators that this system should drive."""
    return [d for d in parse_pci(evidence) if d.vendor == vendor and d.kind != "nvswitch" and not d.virtual_function and not handed_away(d)]


def compare(evidence: Bundle, vendor: str, named: Collection[str | None]) -> None:
    """A gap for each device of a maker on PCI that its driver or tool does not name."""
    for device in on_pci(evidence, vendor):
        if device.address not in named:
            evidence.gap(PCI, f"{device.address} (driver {device.driver or 'none'}) is on PCI, but not told of here")
