# SPDX-License-Identifier: Apache-2.0
"""Jobs of cron and anacron, as their files are written. It cannot know whether a cron runs, nor what a command runs in turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import looked
from fleet_audit.facts.base import Bundle, Unread
from fleet_audit.model import Source, SourceId

CRONTABS = Source(
    SourceId("crontabs"), "files", {"globs": ["/etc/crontab", "/etc/anacrontab", "/etc/cron.d/*"], "redact": True},
    "crontab(5), anacrontab(5): schedule, user and command; secrets in them are reduced on the node.",
    cap_bytes=1 << 20,
)  # fmt: skip
SPOOL = Source(
    SourceId("cron-spool"), "files", {"globs": ["/var/spool/cron/crontabs/*", "/var/spool/cron/tabs/*", "/var/spool/cron/*"], "redact": True},
    "crontab(1): users' own jobs, in files named after them: Debian in crontabs, openSUSE in tabs, Red Hat beside them.",
    needs_root=True, cap_bytes=1 << 20,
)  # fmt: skip


@dataclass(frozen=True)
class CronJob:
    """A job of cron or anacron. Source: crontab(5), anacrontab(5)."""

    user_name: Annotated[str, "User whose rights it has"]
    schedule: Annotated[str, "When: five fields, @daily and the like, or anacron's period in days and delay in minutes"]
    command: Annotated[str, "Command, secrets reduced to <secret:KIND:LENGTH>"]
    program: Annotated[str, "First word of the command, if it is an absolute path; else empty"]
    secrets: Annotated[list[str], "Kinds of secrets in the command"]
    file: Annotated[str, "File; in cron.d one with a dot in its name counts for cronie, not for Debian's cron"]
    line: Annotated[int, "Line"]


@dataclass(frozen=True)
class CronVariable:
    """A variable that a crontab sets for its jobs. Source: crontab(5)."""

    name: Annotated[str, "Variable"]
    secrets: Annotated[list[str], "Kinds of secrets in its value"]
    file: Annotated[str, "File"]
    line: Annotated[int, "Line"]


_LEFT = re.compile(r"^[.#]|~$|\.(?:dpkg-\w+|rpm(?:save|new|orig)|ucf-\w+|swp)$")
_PART = r"(?:[*~]|[0-9]{1,2}|[A-Za-z]{3})(?:[-~](?:[0-9]{1,2}|[A-Za-z]{3})?)?(?:/[0-9]{1,2})?"
_FIELD = rf"{_PART}(?:,{_PART})*+"
_NAMED = "@(?:reboot|yearly|annually|monthly|weekly|daily|midnight|hourly|every_minute)"
_WHEN = re.compile(rf"-?({_NAMED}|{_FIELD}(?:[ \t]+{_FIELD}){{4}})[ \t]+(.*)", re.S)
_ANACRON = re.compile(rf"({_NAMED}|[0-9]+)[ \t]+([0-9]+)[ \t]+\S+[ \t]+(.*)", re.S)
_VARIABLE = re.compile(r"[\"']?([A-Za-z_][A-Za-z0-9_]*)[\"']?[ \t]*=(.*)", re.S)
_SECRET = re.compile(r"<secret:([\w-]+):[0-9]+>")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\$-]*")


def secrets_of(text: str) -> list[str]:
    """Kinds of the secrets that the node has reduced in a text, each once."""
    return sorted(set(_SECRET.findall(text)))


def program_of(command: str) -> str:
    """The first word of a command if it is an absolute path, else an empty text."""
    words = command.split(None, 1)
    return words[0] if words and re.fullmatch(r"/[^\s;&|<>()$`\"'*?\\%]+", words[0]) else ""


def _lines(evidence: Bundle, source: Source) -> Iterator[tuple[str, int, str]]:
    looked(evidence, source)
    for path, entry in evidence.document(source).items():
        if _LEFT.search(path.rpartition("/")[2]) or (isinstance(entry, dict) and entry.get("detail") == "not a regular file"):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            if not isinstance(entry, dict) or entry.get("status") != "absent":
                evidence.gap(source, f"{path} was not read")
            continue
        for number, line in enumerate(entry["text"].split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield path, number, line.strip()


def _all(evidence: Bundle) -> Iterator[CronJob | CronVariable]:
    for source in (CRONTABS, SPOOL):
        try:
            for path, number, line in _lines(evidence, source):
                row = _row(path, number, line, None if source is CRONTABS else path.rpartition("/")[2])
                if row is None:
                    evidence.gap(source, f"{path}:{number} is not understood")
                else:
                    yield row
        except Unread as unread:
            if source is CRONTABS:
                raise
            evidence.gaps.append(str(unread))


def _row(path: str, number: int, line: str, user: str | None) -> CronJob | CronVariable | None:
    """What one line says; None if it is not understood. `user` is the owner of a crontab of their own."""
    if match := _VARIABLE.fullmatch(line):
        return CronVariable(match[1], secrets_of(match[2]), path, number)
    if path == "/etc/anacrontab":
        match = _ANACRON.fullmatch(line)
        when, name, command = (f"{match[1]} {match[2]}", "root", match[3]) if match else ("", "", "")
    else:
        match = _WHEN.fullmatch(line)
        when, command = (match[1], match[2]) if match else ("", "")
        name, command = (user, command) if user is not None else [*command.split(None, 1), "", ""][:2]
    if not command or not _USER.fullmatch(name):
        return None
    return CronJob(name, " ".join(when.split()), command, program_of(re.split(r"(?<!\\)%", command)[0]), secrets_of(command), path, number)


def parse_jobs(evidence: Bundle) -> Iterator[CronJob]:
    """A row per job; without root those of users are missing, and the table is partial."""
    yield from (row for row in _all(evidence) if isinstance(row, CronJob))


def parse_variables(evidence: Bundle) -> Iterator[CronVariable]:
    """A row per variable."""
    yield from (row for row in _all(evidence) if isinstance(row, CronVariable))
