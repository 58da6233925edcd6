# SPDX-License-Identifier: Apache-2.0
"""Whether an SSH server is installed, and OpenSSH's effective settings as sshd itself says them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import looked
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.packages import DPKG, RPM, parse_packages
from fleet_audit.model import Source, SourceId

PROGRAM = Source(
    SourceId("sshd-program"),
    "stat",
    {
        "globs": [
            "/usr/sbin/sshd", "/usr/bin/sshd", "/usr/local/sbin/sshd", "/opt/openssh/sbin/sshd", "/usr/sbin/dropbear",
            "/usr/local/sbin/dropbear", "/usr/sbin/tinysshd", "/usr/sbin/lshd",
        ]
    },
    "Programs of SSH servers where distributions and their own builds put them.",
)  # fmt: skip
EFFECTIVE = Source(
    SourceId("sshd-effective"),
    "command",
    {"argv": ["sshd", "-T", "-C", "user=root,host=client.invalid,addr=192.0.2.1,laddr=192.0.2.2,lport=22"], "redact": "arguments"},
    "sshd(8) -T with -C: the configuration that holds for root from a public address, Match blocks applied.",
    needs_root=True,
)


@dataclass(frozen=True)
class SshServer:
    """Whether an SSH server is installed, by its program's file and by the package lists. Source: metadata, dpkg, rpm."""

    installed: Annotated[bool | None, "A program or a package is there; false only where the package lists were read whole and name none"]
    program: Annotated[bool | None, "A program is where distributions put it; NULL: not looked at"]
    packages: Annotated[list[str], "Packages of SSH servers, as far as they were asked for: they are where no program was found"]


@dataclass(frozen=True)
class SshdSetting:
    """An effective setting of sshd for root from a public address. Source: sshd(8) -T, sshd_config(5)."""

    keyword: Annotated[str, "Keyword in lower case, as sshd -T prints it"]
    value: Annotated[str, "Its value; a keyword that repeats has a row for each"]


SERVERS = frozenset(
    "openssh-server openssh-server-gssapi openssh-server-pkcs11 openssh-ssh1-server dropbear dropbear-bin dropbear-run tinysshd lsh-server".split()
)
"""Packages of dpkg and rpm that hold an SSH server."""


def parse_server(evidence: Bundle) -> Iterable[SshServer]:
    """One row. A program proves a server; that there is none takes whole package lists besides."""
    try:
        looked(evidence, PROGRAM)
        program: bool | None = bool(evidence.entries(PROGRAM))
    except (Unread, NotUnderstood) as error:
        program = None
        evidence.gaps.append(str(error))
    if program:
        yield SshServer(True, True, [])
        return
    try:
        found = sorted({package.name for package in parse_packages(evidence)} & SERVERS)
    except (Unread, NotUnderstood) as error:
        found = []
        evidence.gaps.append(str(error))
    yield SshServer(True if found else None if evidence.gaps else False, program, found)


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


SERVER_TABLES = (
    Table("ssh_server", SshServer, (PROGRAM, DPKG, RPM), parse_server),
    Table("sshd_settings", SshdSetting, (EFFECTIVE,), parse_settings),
)
