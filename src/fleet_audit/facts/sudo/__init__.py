# SPDX-License-Identifier: Apache-2.0
"""What sudo allows by its files. It cannot know rules that LDAP or SSSD hold: where nsswitch.conf asks them, the tables are partial."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import LEADS_TO, masked, metadata, with_targets
from fleet_audit.facts.accounts.services import NSSWITCH, services
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.sudo.entries import Grant, Member
from fleet_audit.facts.sudo.policy import Policy, Where, read
from fleet_audit.model import Source, SourceId

MAINS = ("/etc/sudoers", "/etc/sudoers-rs", "/usr/etc/sudoers")

SUDOERS = Source(
    SourceId("sudoers"), "files", {"globs": list(MAINS), "follow": "sudoers", "redact": "arguments"},
    "sudoers(5), Including other files: the main file and what it includes. sudo-rs reads /etc/sudoers-rs instead where it is there;"
    " openSUSE's sudo reads /usr/etc/sudoers where /etc/sudoers is not.",
    needs_root=True, cap_bytes=1 << 19,
)  # fmt: skip
SUDO_CONF = Source(
    SourceId("sudo-conf"), "file", {"paths": ["/etc/sudo.conf"], "keep": ["Plugin"]},
    "sudo.conf(5), Plugin: another policy, or other files with rules.",
)  # fmt: skip
SUDOERS_FILES = Source(
    SourceId("sudoers-files"), "stat", {"globs": [*MAINS, "/etc/sudoers.d", "/etc/sudoers.d/*"], "targets": True},
    "sudoers(5): sudo wants them to be root's and writable by nobody else. It passes over names in sudoers.d with `.` or with `~` at the end.",
)  # fmt: skip


@dataclass(frozen=True)
class SudoRule:
    """A command that sudo allows or forbids, a row for each user or group and command, aliases expanded. Source: sudoers(5)."""

    who: Annotated[str, "User, %group, +netgroup, #uid, %#gid or ALL"]
    who_kind: Annotated[str, "user, group, netgroup or all"]
    excepting: Annotated[list[str], "Users and groups that the rule leaves out (`!`)"]
    hosts: Annotated[list[str], "Hosts that it holds on, ALL for each; `!` before those left out"]
    runas_users: Annotated[list[str], "Users that the command may run as, `!` before those left out; empty: the caller alone"]
    runas_groups: Annotated[list[str], "Groups that it may run with; empty: those of the user"]
    tags: Annotated[list[str], "Tags in force, such as NOPASSWD, SETENV or NOEXEC"]
    options: Annotated[list[str], "Options in force, such as CWD=* or NOTAFTER=20270101000000Z"]
    password_asked: Annotated[
        bool | None, "sudo asks for a password, by tag or Defaults; NULL where Defaults of some hosts or commands decide"
    ]
    command: Annotated[str, "Path, folder with `/` at the end, ALL, sudoedit or list"]
    any_arguments: Annotated[bool, "Any arguments are allowed, none are named"]
    arguments: Annotated[str, "Arguments that are allowed; empty: none, or any"]
    excluded: Annotated[bool, "The command is forbidden (`!`), which another name for the same program gets around"]
    wildcard: Annotated[bool, "Command or arguments have `*`, `?` or `[`, or are a regular expression"]
    digests: Annotated[list[str], "Kinds of digests that pin the program's file, such as sha256"]
    main: Annotated[str, "Main file that leads to it; only sudo-rs reads /etc/sudoers-rs"]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where its entry begins"]


@dataclass(frozen=True)
class SudoDefault:
    """A setting of sudo that differs from what it was built with; the last of one scope counts. Source: sudoers(5), Defaults."""

    key: Annotated[str, "Setting, such as use_pty or timestamp_timeout"]
    operator: Annotated[str, "=, += or -=; empty for a flag"]
    value: Annotated[str, "Its value; empty for a flag"]
    negated: Annotated[bool, "It is switched off (`!`)"]
    scope: Annotated[str, "global, host, user, runas or command"]
    names: Annotated[list[str], "Whom or what the scope names, aliases expanded, `!` before those left out"]
    main: Annotated[str, "Main file that leads to it; only sudo-rs reads /etc/sudoers-rs"]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where its entry begins"]


@dataclass(frozen=True)
class SudoersFile:
    """A file or folder with sudo's rules, what links of it lead to, and folders on the way that others may change. Source: metadata."""

    path: Annotated[str, "Path"]
    type: Annotated[str, "file, dir, link or other"]
    mode: Annotated[int, "Permission bits as a number: 288 is 0440; of a link they say nothing"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    leads_to: Annotated[str | None, LEADS_TO]
    ignored: Annotated[bool, "sudo passes over it for its name"]


def policies(evidence: Bundle) -> list[Policy]:
    """What each main file leads to; gaps where files are not all that counts. The one in /usr counts where /etc has none."""
    document = evidence.document(SUDOERS)
    found = [policy for main in MAINS if (policy := read(evidence, SUDOERS, document, main)) is not None]
    if any(policy.main == MAINS[0] for policy in found):
        found = [policy for policy in found if policy.main != MAINS[2]]
    others = [name for name in services(evidence, "sudoers") if name != "files"]
    if others:
        evidence.gap(NSSWITCH, f"rules come from {', '.join(others)} too")
    for line in (evidence.try_body(SUDO_CONF) or "").split("\n"):
        words = line.split()
        if words and (len(words) < 3 or words[2].rpartition("/")[2] != "sudoers.so" or "sudoers_file=" in line):
            evidence.gap(SUDO_CONF, "a plugin decides, or another file")
    return found


_SIGNS = {"%": "group", "+": "netgroup"}


def _names(members: Iterable[Member]) -> list[str]:
    return [f"{'!' * member.negated}{member.text}" for member in members]


def parse_rules(evidence: Bundle) -> Iterator[SudoRule]:
    """A row for each user or group and command; none where sudo has no file."""
    for policy in policies(evidence):
        for where, grant in policy.grants:
            yield from _rules(policy, where, grant)


def _rules(policy: Policy, where: Where, grant: Grant) -> Iterator[SudoRule]:
    who = policy.expand("User", grant.who)
    hosts = _names(policy.expand("Host", grant.hosts))
    users, groups = ([Member(policy.runas_default)], ()) if grant.runas is None else grant.runas
    runas = _names(policy.expand("Runas", users)), _names(policy.expand("Runas", groups))
    tags = [tag if on else f"NO{tag}" for tag, on in grant.tags.items()]
    options = [f"{key}={value}" for key, value in grant.options.items()]
    commands = policy.expand("Cmnd", [grant.command])
    excepting = [member.text for member in who if member.negated]
    size = 10 + sum(len(part) for part in (excepting, hosts, *runas))
    for member in (member for member in who if not member.negated):
        kind = "all" if member.text == "ALL" else _SIGNS.get(member.text[:1], "user")
        asked = policy.asks(member.text, grant.tags.get("PASSWD"))
        for command in commands:
            if not policy.spend(size):
                return
            wild = any(re.search(r"(?<!\\)[*?[]|^\^", text) for text in (command.text, command.arguments or ""))
            yield SudoRule(
                member.text, kind, excepting, hosts, *runas, tags, options, asked, command.text, command.arguments is None,
                masked(command.arguments or ""), command.negated, wild, list(command.digests), policy.main, where.file, where.line,
            )  # fmt: skip


def parse_defaults(evidence: Bundle) -> Iterator[SudoDefault]:
    """A row for each setting, in the order in which sudo reads them."""
    for policy in policies(evidence):
        for where, default in policy.defaults:
            kind = {"host": "Host", "runas": "Runas", "command": "Cmnd"}.get(default.scope, "User")
            names = _names(policy.expand(kind, default.names))
            if not policy.spend(len(names)):
                break
            yield SudoDefault(
                default.key, default.operator, default.value, default.negated, default.scope,
                names, policy.main, where.file, where.line,
            )  # fmt: skip


def parse_files(evidence: Bundle) -> Iterable[SudoersFile]:
    """A row for each file and folder that is there."""
    for path, there in with_targets(metadata(evidence, SUDOERS_FILES)):
        folder, _, name = path.rpartition("/")
        ignored = folder.endswith(".d") and ("." in name or name.endswith("~"))
        yield SudoersFile(there.path, there.type, there.mode, there.uid, there.gid, there.leads_to, ignored)


TABLES = (
    Table("sudo_rules", SudoRule, (SUDOERS, SUDO_CONF, NSSWITCH), parse_rules),
    Table("sudo_defaults", SudoDefault, (SUDOERS, SUDO_CONF, NSSWITCH), parse_defaults),
    Table("sudoers_files", SudoersFile, (SUDOERS_FILES,), parse_files),
)
