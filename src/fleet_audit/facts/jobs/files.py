# SPDX-License-Identifier: Apache-2.0
"""Who can write what runs by itself, and the programs in /usr/local that such jobs mostly run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import metadata
from fleet_audit.facts.base import Bundle
from fleet_audit.model import Source, SourceId

BASE = "/etc/systemd/system"
UNIT_FILES = [f"{BASE}/{name}" for name in ("*.service", "*.timer", "*.service.d/*.conf", "*.timer.d/*.conf")]
CRON = ("/etc/cron.hourly", "/etc/cron.daily", "/etc/cron.weekly", "/etc/cron.monthly", "/etc/cron.yearly")

FILES = Source(
    SourceId("job-files"), "stat",
    {"globs": ["/etc/crontab", "/etc/anacrontab", "/etc/cron.allow", "/etc/cron.deny", "/etc/at.allow", "/etc/at.deny",
               "/etc/cron.d", "/etc/cron.d/*",
               *(name for folder in CRON for name in (folder, f"{folder}/*")),
               "/var/spool/cron", "/var/spool/cron/*", BASE, *UNIT_FILES]},
    "Metadata of what cron and systemd read: who can write them can run as their user.",
)  # fmt: skip
PROGRAMS = Source(
    SourceId("local-programs"), "stat", {"globs": ["/usr/local", "/usr/local/bin", "/usr/local/bin/*", "/usr/local/sbin", "/usr/local/sbin/*"]},
    "hier(7): programs of the site. Of a /usr/local on a network file system nothing is read.",
)  # fmt: skip


@dataclass(frozen=True)
class JobFile:
    """A file or folder that decides what runs by itself. Source: its metadata."""

    path: Annotated[str, "Path"]
    kind: Annotated[str, "crontab, cron-script, cron-access, spool, unit, drop-in or folder"]
    type: Annotated[str, "file, dir, link or another kind of file"]
    mode: Annotated[int, "Permission bits as a number: 420 is 0644; of a link they say nothing"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    link: Annotated[str | None, "What a link leads to; NULL: it is none"]


@dataclass(frozen=True)
class LocalProgram:
    """A program in /usr/local, or its folder. Source: its metadata."""

    path: Annotated[str, "Path"]
    type: Annotated[str, "file, dir, link or another kind of file"]
    mode: Annotated[int, "Permission bits as a number: 493 is 0755; of a link they say nothing"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    link: Annotated[str | None, "What a link leads to; NULL: it is none"]


def parse_programs(evidence: Bundle) -> Iterator[LocalProgram]:
    """A row per file and folder that is there."""
    for there in metadata(evidence, PROGRAMS):
        yield LocalProgram(there.path, there.type, there.mode, there.uid, there.gid, there.link)


def parse_files(evidence: Bundle) -> Iterator[JobFile]:
    """A row per file and folder that is there."""
    for there in metadata(evidence, FILES):
        path = there.path
        folder = path.rpartition("/")[0]
        if there.type == "dir":
            kind = "folder"
        elif folder in CRON:
            kind = "cron-script"
        elif path.endswith((".allow", ".deny")):
            kind = "cron-access"
        elif folder == BASE:
            kind = "unit"
        else:
            kind = "drop-in" if folder.endswith((".service.d", ".timer.d")) else "spool" if folder == "/var/spool/cron" else "crontab"
        yield JobFile(path, kind, there.type, there.mode, there.uid, there.gid, there.link)
