# SPDX-License-Identifier: Apache-2.0
"""Settings of the kernel under /proc/sys: those that count now, and those that files set at boot."""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.sysctl.configured import FILES, STATS, SysctlSetting, parse_settings
from fleet_audit.facts.sysctl.running import RUNNING, Sysctl, parse_sysctls

TABLES = (
    Table("sysctls", Sysctl, (RUNNING,), parse_sysctls),
    Table("sysctl_settings", SysctlSetting, (FILES, STATS), parse_settings),
)
