# SPDX-License-Identifier: Apache-2.0
"""NVMe drives that encrypt by themselves: whether locking is on. SATA and SAS drives cannot be asked without a tool per device."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread, describe
from fleet_audit.facts.storage.devices import BLOCK, BLOCK_LINKS
from fleet_audit.model import Source, SourceId, Status

_COUNT = 16
_DOC = "nvme-sed-discover(1): Opal level 0 discovery, which only reads: `Locking Supported`, `Locking Feature Enabled`, `Locked`."
OPAL = tuple(
    Source(
        SourceId(f"nvme{number}-opal"), "command", {"argv": ["nvme", "sed", "discover", f"/dev/nvme{number}n1"]}, _DOC,
        when_exists=f"/sys/block/nvme{number}n1", otherwise=SourceId(f"nvme{number}-commands"), needs_root=True, timeout_s=5.0,
    )
    for number in range(_COUNT)
)  # fmt: skip
COMMANDS = tuple(  # the namespace is asked: with multipath the controller of its number may be another drive's
    Source(
        SourceId(f"nvme{number}-commands"), "command", {"argv": ["nvme", "id-ctrl", f"/dev/nvme{number}n1"], "keep": ["oacs", "sanicap"]},
        "NVM Express base specification, Identify Controller: bit 0 of OACS is Security Send and Receive, without which there is no Opal. "
        "Two lines: serial numbers are not read.",
        when_exists=f"/sys/block/nvme{number}n1", needs_root=True, timeout_s=5.0,
    )
    for number in range(_COUNT)
)  # fmt: skip


@dataclass(frozen=True)
class SelfEncryptingDrive:
    """An NVMe drive, and whether it can lock itself. No row: no NVMe drive. Source: nvme(1)."""

    name: Annotated[str, "First namespace of the drive, such as nvme0n1"]
    locking_supported: Annotated[bool | None, "It can encrypt and lock itself (TCG Opal); NULL: it could not be asked"]
    locking_enabled: Annotated[bool | None, "Locking is set up: without power it is locked"]
    locked: Annotated[bool | None, "It is locked now"]


def parse_drives(evidence: Bundle) -> Iterable[SelfEncryptingDrive]:
    """A row per drive that the kernel shows; what could not be asked is NULL and a gap, as a drive whose first namespace is not n1."""
    if "/sys/class/block" not in evidence.entries(BLOCK_LINKS):
        raise Unread(f"{BLOCK_LINKS.id}: no /sys/class/block")
    names = [re.fullmatch(r"nvme(\d{1,9})n(\d{1,9})", path.rpartition("/")[2], re.ASCII) for path in evidence.entries(BLOCK)]
    drives = sorted((int(match[1]), int(match[2])) for match in names if match)
    for number, first in sorted(dict(reversed(drives)).items()):
        name = f"nvme{number}n{first}"
        if number >= _COUNT or first != 1:
            evidence.gap(BLOCK, f"{name}: only the first {_COUNT} drives are asked, by their namespace 1")
            yield SelfEncryptingDrive(name, None, None, None)
        else:
            yield SelfEncryptingDrive(name, *_state(evidence, OPAL[number], COMMANDS[number]))


def _state(evidence: Bundle, opal: Source, commands: Source) -> tuple[bool | None, bool | None, bool | None]:
    if evidence.item(opal).status is Status.OK:
        text = evidence.body(opal)
        found = [re.search(rf"^[ \t]*{words}[ \t]*:[ \t]*(yes|no)[ \t]*$", text, re.M | re.I) for words in
                 ("Locking Supported", "Locking Feature Enabled", "Locked")]  # fmt: skip
        if not all(found):
            raise NotUnderstood(f"{opal.id}: without its three answers")
        supported, enabled, locked = (match is not None and match[1].lower() == "yes" for match in found)
        return supported, enabled, locked
    item = evidence.item(commands)
    match = re.search(r"^oacs[ \t]*:[ \t]*(0x[0-9a-fA-F]{1,4}|0)[ \t]*$", item.text, re.M) if item.status is Status.OK else None
    if match and not int(match[1], 16) & 1:
        return False, False, False
    evidence.gaps.append(describe(opal, evidence.item(opal)))
    return None, None, None
