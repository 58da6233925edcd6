# SPDX-License-Identifier: Apache-2.0
"""The identity that a system gives itself at its first boot, as a digest. It cannot know who else had it before."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.model import Source, SourceId

MACHINE_ID = Source(
    SourceId("machine-id"), "file", {"paths": ["/etc/machine-id"], "digest": True},
    "machine-id(5): 32 hexadecimal digits, to be kept confidential, so that only their SHA-256 leaves the node; empty or "
    "`uninitialized` in an image that was not booted.",
    cap_bytes=4096,
)  # fmt: skip
UNSET = {hashlib.sha256(text).hexdigest() for text in (b"", b"uninitialized")}


@dataclass(frozen=True)
class MachineId:
    """The machine id that systemd, D-Bus and DHCP clients know the node by. Source: machine-id(5)."""

    digest: Annotated[str | None, "SHA-256 of it in hexadecimal; NULL if none was given yet"]


def parse_machine_id(evidence: Bundle) -> Iterable[MachineId]:
    """One row; none where there is no such file, as on systems without systemd."""
    text = evidence.optional(MACHINE_ID)
    if text is None:
        return
    digest = text.strip()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise NotUnderstood("machine-id: not a digest")
    yield MachineId(None if digest in UNSET else digest)


TABLES = (Table("machine_ids", MachineId, (MACHINE_ID,), parse_machine_id),)
