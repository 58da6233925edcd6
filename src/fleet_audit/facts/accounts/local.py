# SPDX-License-Identifier: Apache-2.0
"""Users and groups of passwd and group, and the settings by which people's accounts are told from the system's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import looked
from fleet_audit.facts.base import Bundle, NotUnderstood, Unread, integer
from fleet_audit.model import Source, SourceId

PASSWD = Source(
    SourceId("passwd"), "colon", {"paths": ["/etc/passwd"], "fields": 7, "secret": [1], "drop": [4]},
    "passwd(5): seven fields; the password field comes as a state, the comment field is dropped.",
)  # fmt: skip
GROUP = Source(
    SourceId("group"), "colon", {"paths": ["/etc/group"], "fields": 4, "secret": [1]},
    "group(5): four fields; the password field comes as a state.",
)  # fmt: skip
LOGIN_DEFS = Source(
    SourceId("login-defs"), "files", {"globs": ["/usr/etc/login.defs", "/etc/login.defs", "/etc/login.defs.d/*.defs"]},
    "login.defs(5): a key and a value on each line; openSUSE has the vendor's file in /usr/etc and reads login.defs.d.",
)  # fmt: skip


@dataclass(frozen=True)
class User:
    """An account of /etc/passwd. Source: passwd(5), login.defs(5)."""

    name: Annotated[str, "User name"]
    uid: Annotated[int, "User id; those with one id are one user to the kernel"]
    gid: Annotated[int, "Primary group"]
    home: Annotated[str, "Home folder, as written"]
    shell: Annotated[str, "Login shell; empty stands for /bin/sh"]
    login_shell: Annotated[bool, "The shell lets one in: not nologin, false or the like"]
    kind: Annotated[
        str | None,
        "root: id 0; system: below UID_MIN; human: from there to UID_MAX, and a shell that lets one in; other: above UID_MAX, "
        "or without such a shell. NULL: login.defs was not read",
    ]
    password: Annotated[str, "What the password field of passwd says: shadowed, empty, locked or set"]


@dataclass(frozen=True)
class NisEntry:
    """A line that takes users of NIS in (`+`) or leaves them out (`-`), where nsswitch.conf says compat. Source: nsswitch.conf(5)."""

    file: Annotated[str, "/etc/passwd or /etc/group"]
    entry: Annotated[str, "+, +user, +@netgroup, -user, ..."]


@dataclass(frozen=True)
class Group:
    """A group of /etc/group. Source: group(5)."""

    name: Annotated[str, "Group name"]
    gid: Annotated[int, "Group id"]
    password: Annotated[str, "What the password field says: shadowed, empty, locked or set"]


@dataclass(frozen=True)
class GroupMember:
    """A user in a group, of their own or by /etc/group. Source: group(5), passwd(5)."""

    group_name: Annotated[str, "Group; its number, as ls shows it, for a primary group that /etc/group lacks"]
    gid: Annotated[int, "Group id"]
    user_name: Annotated[str, "User; /etc/group may name some that /etc/passwd lacks"]
    primary_group: Annotated[bool, "It is the user's primary group, by /etc/passwd"]


@dataclass(frozen=True)
class LoginDefault:
    """A setting of login.defs; PAM decides over some of them. Source: login.defs(5)."""

    key: Annotated[str, "Setting, such as PASS_MAX_DAYS"]
    value: Annotated[str, "Its value"]
    file: Annotated[str, "File; /usr/etc counts where /etc has none, login.defs.d over both and on openSUSE alone"]


NO_LOGIN = frozenset("nologin false true sync halt shutdown".split())
STATES = frozenset("shadowed empty locked set".split())
"""What the reader says of a password field."""
_NIS = ("+", "-")


def lines(evidence: Bundle, source: Source, fields: int) -> Iterator[list[str]]:
    """The lines split; those with too few fields are gaps, those for NIS left out."""
    for line in evidence.body(source).split("\n"):
        parts = line.split(":")
        if not line.strip() or line.startswith((*_NIS, "#")):
            continue
        if len(parts) < fields or not parts[0] or parts[1].partition(" ")[0] not in STATES:
            evidence.gap(source, "a line is not understood")
            continue
        yield parts


def number(text: str) -> int | None:
    """A whole number without a sign, None if it is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,10}", text) else None


def accounts(evidence: Bundle) -> list[tuple[str, str, int, int, str, str]]:
    """(name, password, uid, gid, home, shell) of each account; a file without any is not understood."""
    found = []
    for name, password, uid, gid, _, home, shell in (line[:7] for line in lines(evidence, PASSWD, 7)):
        numbers = number(uid), number(gid)
        if numbers[0] is None or numbers[1] is None:
            evidence.gap(PASSWD, f"{name}: no numbers")
            continue
        found.append((name, password, numbers[0], numbers[1], home, shell))
    if not found:
        raise NotUnderstood(f"{PASSWD.id}: no account in it")
    return found


def lets_in(shell: str) -> bool:
    """Whether a login shell lets its user work; an empty one stands for /bin/sh."""
    return shell.strip().rpartition("/")[2] not in NO_LOGIN


def parse_login_defaults(evidence: Bundle) -> list[LoginDefault]:
    """A row per setting and file, in the order in which the files count."""
    looked(evidence, LOGIN_DEFS)
    found = []
    files = evidence.entries(LOGIN_DEFS)
    order = ("/usr/etc/login.defs", "/etc/login.defs")
    for path in sorted(files, key=lambda path: (order.index(path) if path in order else 2, path)):
        for line in str(files[path].get("text", "")).split("\n"):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            match = re.fullmatch(r"\s*([A-Z][A-Z0-9_]*)(?:\s+(.*?))?\s*", line)
            if match:
                found.append(LoginDefault(match[1], (match[2] or "").strip('"'), path))
            else:
                evidence.gap(LOGIN_DEFS, f"{path}: a line is not understood")
    return found


def human_ids(evidence: Bundle) -> range | None:
    """The ids of people, None where login.defs was not read whole; 1000 to 60000 where it does not say."""
    before = len(evidence.gaps)
    try:
        settings = {row.key: integer(row.value) for row in parse_login_defaults(evidence)}
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        return None
    low, high = settings.get("UID_MIN", 1000), settings.get("UID_MAX", 60000)
    return None if len(evidence.gaps) > before or low is None or high is None else range(low, high + 1)


def parse_users(evidence: Bundle) -> Iterator[User]:
    """A row per account."""
    people = human_ids(evidence)
    for name, password, uid, gid, home, shell in accounts(evidence):
        login = lets_in(shell)
        if uid == 0 or people is None:
            kind = "root" if uid == 0 else None
        else:
            kind = "system" if uid < people.start else "human" if uid in people and login else "other"
        yield User(name, uid, gid, home, shell, login, kind, password.partition(" ")[0])


def parse_nis(evidence: Bundle) -> Iterator[NisEntry]:
    """A row per line that begins with `+` or `-`."""
    for source, fields in ((PASSWD, 7), (GROUP, 4)):
        list(lines(evidence, source, fields))
        for line in evidence.body(source).split("\n"):
            if line.startswith(_NIS):
                yield NisEntry(source.args["paths"][0], line.partition(":")[0])


def parse_groups(evidence: Bundle) -> Iterator[Group]:
    """A row per group; a file without any is not understood."""
    found = False
    for line in lines(evidence, GROUP, 4):
        if (gid := number(line[2])) is None:
            evidence.gap(GROUP, f"{line[0]}: no number")
            continue
        found = True
        yield Group(line[0], gid, line[1].partition(" ")[0])
    if not found:
        raise NotUnderstood(f"{GROUP.id}: no group in it")


def parse_members(evidence: Bundle) -> Iterator[GroupMember]:
    """A row per user and group, primary groups included."""
    names: dict[int, list[str]] = {}
    for line in lines(evidence, GROUP, 4):
        if (gid := number(line[2])) is None:
            evidence.gap(GROUP, f"{line[0]}: no number")
            continue
        names.setdefault(gid, []).append(line[0])
        for member in dict.fromkeys(part.strip() for part in line[3].split(",")):
            if member:
                yield GroupMember(line[0], gid, member, False)
    if not names:
        raise NotUnderstood(f"{GROUP.id}: no group in it")
    for user, _, _, gid, *_ in accounts(evidence):
        for name in names.get(gid, [str(gid)]):
            yield GroupMember(name, gid, user, True)
