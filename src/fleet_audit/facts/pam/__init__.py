# SPDX-License-Identifier: Apache-2.0
"""PAM: the stacks of services, and the settings of modules that have a file of their own."""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.pam.settings import (
    ACCESS,
    LIMITS,
    SETTINGS,
    LoginAccessRule,
    PamSetting,
    ResourceLimit,
    parse_access,
    parse_limits,
    parse_settings,
)
from fleet_audit.facts.pam.stacks import PAM, PamRule, parse_rules

TABLES = (
    Table("pam_rules", PamRule, (PAM,), parse_rules),
    Table("pam_settings", PamSetting, (SETTINGS,), parse_settings),
    Table("resource_limits", ResourceLimit, (LIMITS,), parse_limits),
    Table("login_access_rules", LoginAccessRule, (ACCESS,), parse_access),
)
