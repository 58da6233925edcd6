# SPDX-License-Identifier: Apache-2.0
"""Services of training and inference that run or listen, and what their configuration says."""

from __future__ import annotations

from fleet_audit.facts.accounts.local import PASSWD
from fleet_audit.facts.base import Table
from fleet_audit.facts.jobs.site_units import UNITS
from fleet_audit.facts.ml_services.found import MlService, parse
from fleet_audit.facts.ml_services.settings import FILES, HOMES, MlSetting, MlSettingOfUser, parse_files, parse_homes
from fleet_audit.facts.namespaces import NAMESPACES
from fleet_audit.facts.network import SOCKETS
from fleet_audit.facts.processes import PROCESSES

TABLES = (
    Table("ml_services", MlService, (PROCESSES, SOCKETS, NAMESPACES, FILES, HOMES, PASSWD), parse),
    Table("ml_settings", MlSetting, (FILES, UNITS), parse_files),
    Table("ml_settings_of_users", MlSettingOfUser, (HOMES,), parse_homes),
)
