# SPDX-License-Identifier: Apache-2.0
"""Which services a node asks for names: local files alone, or directories too, whose users no file tells."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle
from fleet_audit.model import Source, SourceId, Status

NSSWITCH = Source(
    SourceId("nsswitch"), "file", {"paths": ["/etc/nsswitch.conf", "/usr/etc/nsswitch.conf"]},
    "nsswitch.conf(5): for each database the services that are asked, in order.",
)  # fmt: skip


@dataclass(frozen=True)
class NameService:
    """A service that is asked for a database of names. Source: nsswitch.conf(5)."""

    database: Annotated[str, "passwd, group, shadow, sudoers, hosts, ..."]
    service: Annotated[str, "files, compat, systemd, sss, ldap, nis, winbind, ..."]
    position: Annotated[int, "Order in which it is asked, from 0"]


def services(evidence: Bundle, database: str) -> list[str]:
    """The services for one database; `files` where nsswitch.conf is not there or does not name it. A gap where it was not read."""
    if evidence.item(NSSWITCH).status is Status.ABSENT or evidence.try_body(NSSWITCH) is None:
        return ["files"]
    return [row.service for row in parse_services(evidence) if row.database == database] or ["files"]


def parse_services(evidence: Bundle) -> Iterator[NameService]:
    """A row per database and service; none without nsswitch.conf."""
    for line in (evidence.optional(NSSWITCH) or "").split("\n"):
        text = line.partition("#")[0].strip()
        match = re.fullmatch(r"([a-z_]+)\s*:(.*)", text)
        if match:
            for position, service in enumerate(re.sub(r"\[[^\]]*\]", " ", match[2]).split()):
                yield NameService(match[1], service, position)
        elif text:
            evidence.gap(NSSWITCH, "a line is not understood")
