# SPDX-License-Identifier: Apache-2.0
"""What the programs that send logs note of it on disk: the last acknowledgement, or what still waits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.base import Bundle, utc
from fleet_audit.model import Source, SourceId

STATES = Source(
    SourceId("log-deliveries"), "stat",
    {"globs": ["/var/lib/systemd/journal-upload/state", "/var/lib/filebeat/registry/filebeat/log.json",
               "/var/spool/rsyslog/*.qi", "/var/lib/rsyslog/*.qi"]},
    "systemd-journal-upload(8) --save-state: written when the receiver has taken entries; Filebeat's manual: the registry notes what outputs"
    " acknowledged; rsyslog's manual, queues: a .qi file is there while messages wait on disk.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class LogDelivery:
    """A note on disk of how far logs were sent. No row: no such program, or it keeps none by default. Source: stat(2)."""

    program: Annotated[str, "journal-upload, filebeat or rsyslog"]
    path: Annotated[str, "File"]
    waiting: Annotated[bool, "It is there because messages wait; else it was written at the last acknowledgement"]
    modified_at: Annotated[datetime, "When it was last written; with few logs an old one need be no failure"]


def parse_deliveries(evidence: Bundle) -> Iterable[LogDelivery]:
    """A row per file; a link, which may lead nowhere, is a gap."""
    for path, entry in evidence.entries(STATES).items():
        program = "journal-upload" if path.endswith("/state") else "filebeat" if path.endswith(".json") else "rsyslog"
        when = entry.get("mtime")
        if entry.get("type") == "file" and type(when) is int and (modified := utc(when)):
            yield LogDelivery(program, path, path.endswith(".qi"), modified)
        else:
            evidence.gap(STATES, f"{path}: no file that is understood")
