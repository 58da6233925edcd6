# SPDX-License-Identifier: Apache-2.0
"""MUNGE: its daemon, and who may read its key. The key itself is never read."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.accounts.metadata import understood
from fleet_audit.facts.base import Bundle, Table, Unread, utc
from fleet_audit.facts.containers.flags import running, words_of
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.facts.slurm.node import option
from fleet_audit.model import Source, SourceId

MUNGE = Source(
    SourceId("munge-files"), "stat",
    {"globs": ["/etc/munge", "/etc/munge/munge.key", "/usr/local/etc/munge", "/usr/local/etc/munge/munge.key", "/run/munge",
               "/run/munge/munge.socket.2", "/usr/sbin/munged", "/usr/local/sbin/munged"]},
    "munged(8): the key is read by its owner alone, mode 0600 or 0400, in a folder of mode 0700. Its content is never read.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class Munge:
    """MUNGE, by which Slurm's daemons trust each other. No row: it is not there. Source: stat, /proc."""

    running: Annotated[bool, "munged runs"]
    uid: Annotated[int | None, "User whose rights it has; NULL if it does not run"]
    key: Annotated[str | None, "Its key; NULL: none was found where it belongs"]
    key_uid: Annotated[int | None, "Owner of the key"]
    key_gid: Annotated[int | None, "Group of the key"]
    key_mode: Annotated[int | None, "Permission bits as a number: 256 is 0400, 384 is 0600"]
    key_bytes: Annotated[int | None, "Length of the key, bytes; at least 32, 128 by default"]
    key_changed_at: Annotated[datetime | None, "When it was last written, UTC"]
    folder_uid: Annotated[int | None, "Owner of the folder"]
    folder_mode: Annotated[int | None, "Permission bits of the folder: 448 is 0700"]


def parse_munge(evidence: Bundle) -> Iterable[Munge]:
    """One row where there is munge."""
    daemons = [row for _, row in running(evidence, {"munged"})]
    files = {there.path: there for there in understood(evidence, MUNGE)}
    if not daemons and not files:
        if evidence.gaps:
            raise Unread(evidence.gaps[0])
        return
    named = option(words_of(daemons[0])[1:], "--key-file") if daemons else []
    path = next((path for path in named or files if path.endswith("munge.key") or named), None)
    if named and named[0] not in files:
        evidence.gap(MUNGE, f"its key {named[0]} is not where keys are looked for")
    key, around = files.get(path or ""), files.get(posixpath.dirname(path or "/etc/munge/munge.key"))
    uid = daemons[0].get("euid") if daemons else None
    yield Munge(
        bool(daemons), uid if type(uid) is int else None, key.path if key else None, key.uid if key else None, key.gid if key else None,
        key.mode if key else None, key.size if key else None, utc(key.mtime) if key and key.mtime is not None else None,
        around.uid if around else None, around.mode if around else None,
    )  # fmt: skip


TABLES = (Table("munge", Munge, (MUNGE, PROCESSES), parse_munge),)
