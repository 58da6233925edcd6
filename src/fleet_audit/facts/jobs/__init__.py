# SPDX-License-Identifier: Apache-2.0
"""What runs by itself: jobs of cron, services and timers of the site, and who can write them."""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.jobs.cron import CRONTABS, SPOOL, CronJob, CronVariable, parse_jobs
from fleet_audit.facts.jobs.cron import parse_variables as parse_cron_variables
from fleet_audit.facts.jobs.files import FILES, PROGRAMS, JobFile, LocalProgram, parse_files, parse_programs
from fleet_audit.facts.jobs.site_units import (
    UNITS,
    SiteTimer,
    SiteUnitCommand,
    SiteUnitVariable,
    parse_commands,
    parse_timers,
    parse_variables,
)

TABLES = (
    Table("cron_jobs", CronJob, (CRONTABS, SPOOL), parse_jobs),
    Table("cron_variables", CronVariable, (CRONTABS, SPOOL), parse_cron_variables),
    Table("site_unit_commands", SiteUnitCommand, (UNITS, FILES), parse_commands),
    Table("site_unit_variables", SiteUnitVariable, (UNITS, FILES), parse_variables),
    Table("site_timers", SiteTimer, (UNITS, FILES), parse_timers),
    Table("job_files", JobFile, (FILES,), parse_files),
    Table("local_programs", LocalProgram, (PROGRAMS,), parse_programs),
)
