# SPDX-License-Identifier: Apache-2.0
"""The SSH server's effective settings, as sshd itself says them. It cannot know other Match cases."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.model import Source, SourceId

PROGRAM = Source(
    SourceId("sshd-program"),
    "stat",
    {"globs": ["/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd"]},
    "Whether an OpenSSH server is installed where distributions and its own build put it.",
)
EFFECTIVE = Source(
    SourceId("sshd-effective"),
    "command",
    {"argv": ["sshd", "-T", "-C", "user=root,host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22"]},
    "sshd(8) -T with -C: the configuration that holds for root from a public address, Match blocks applied.",
    when_exists="/etc/ssh/sshd_config",
    needs_root=True,
)


@dataclass(frozen=True)
class SshServer:
    """Whether an OpenSSH server is installed. Source: the program's file."""

    installed: Annotated[bool, "An sshd program is there"]


@dataclass(frozen=True)
class SshdSetting:
    """An effective setting of sshd for root from a public address. Source: sshd(8) -T, sshd_config(5)."""

    keyword: Annotated[str, "Keyword in lower case, as sshd -T prints it"]
    value: Annotated[str, "Its value; a keyword that repeats has a row for each"]


def parse_server(evidence: Bundle) -> Iterable[SshServer]:
    """One row."""
    yield SshServer(bool(evidence.entries(PROGRAM)))


def parse_settings(evidence: Bundle) -> Iterable[SshdSetting]:
    """A row per line; output without `port` is not a configuration."""
    rows = []
    for line in evidence.body(EFFECTIVE).splitlines():
        keyword, blank, value = line.strip().partition(" ")
        if not keyword:
            continue
        if not keyword.isalnum() or not keyword.isascii():
            evidence.gap(EFFECTIVE, "a line is no setting")
            continue
        rows.append(SshdSetting(keyword.lower(), value.strip() if blank else ""))
    if not any(row.keyword == "port" for row in rows):
        raise NotUnderstood("sshd-effective: no port in what sshd -T printed")
    return rows


TABLES = (
    Table("ssh_server", SshServer, (PROGRAM,), parse_server),
    Table("sshd_settings", SshdSetting, (EFFECTIVE,), parse_settings),
)
