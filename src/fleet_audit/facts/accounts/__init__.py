# SPDX-License-Identifier: Apache-2.0
"""Local accounts: users, groups, passwords, homes. It cannot know users of directories; `name_services` tells whether there are such."""

from __future__ import annotations

from fleet_audit.facts.accounts.homes import HOMES, ROOT_HOME, HomeFolder, parse_homes
from fleet_audit.facts.accounts.local import (
    GROUP,
    LOGIN_DEFS,
    PASSWD,
    Group,
    GroupMember,
    LoginDefault,
    NisEntry,
    User,
    parse_groups,
    parse_login_defaults,
    parse_members,
    parse_nis,
    parse_users,
)
from fleet_audit.facts.accounts.passwords import SHADOW, PasswordState, parse_passwords
from fleet_audit.facts.accounts.services import NSSWITCH, NameService, parse_services
from fleet_audit.facts.base import Table

TABLES = (
    Table("users", User, (PASSWD, LOGIN_DEFS), parse_users),
    Table("nis_entries", NisEntry, (PASSWD, GROUP), parse_nis),
    Table("user_groups", Group, (GROUP,), parse_groups),
    Table("group_members", GroupMember, (GROUP, PASSWD), parse_members),
    Table("password_states", PasswordState, (SHADOW, PASSWD), parse_passwords),
    Table("login_defaults", LoginDefault, (LOGIN_DEFS,), parse_login_defaults),
    Table("name_services", NameService, (NSSWITCH,), parse_services),
    Table("home_folders", HomeFolder, (ROOT_HOME, HOMES, PASSWD, LOGIN_DEFS), parse_homes),
)
