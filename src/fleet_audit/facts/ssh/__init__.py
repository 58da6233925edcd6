# SPDX-License-Identifier: Apache-2.0
"""The SSH server: effective settings as sshd says them, its files as they are written, its host keys."""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.ssh.config import CONFIG, SshdConfigSetting, parse_config
from fleet_audit.facts.ssh.keys import FILES, HOST_KEYS, SshFile, SshHostKey, parse_files, parse_host_keys
from fleet_audit.facts.ssh.server import EFFECTIVE as EFFECTIVE
from fleet_audit.facts.ssh.server import PROGRAM as PROGRAM
from fleet_audit.facts.ssh.server import SERVER_TABLES

TABLES = (
    *SERVER_TABLES,
    Table("sshd_config", SshdConfigSetting, (CONFIG,), parse_config),
    Table("ssh_host_keys", SshHostKey, (HOST_KEYS, CONFIG), parse_host_keys),
    Table("ssh_files", SshFile, (FILES,), parse_files),
)
