# SPDX-License-Identifier: Apache-2.0
"""Time: the kernel's clock, which programs set it, from whom, and the time zone. That the servers are right, it cannot know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, utc, value
from fleet_audit.facts.clock.chrony import PEERS, TRACKING, TimePeer, TimeTracking, parse_peers, parse_tracking
from fleet_audit.facts.clock.servers import CHRONY, NTP, TIMESYNCD, TimeServer, parse_servers
from fleet_audit.facts.processes import PROCESSES, documents
from fleet_audit.facts.texts import places, program_names
from fleet_audit.model import Source, SourceId, Status

KERNEL = Source(SourceId("kernel-clock"), "clock", {}, "adjtimex(2), read only: status bits, estimated and maximum error in microseconds.")
TIMESYNC = Source(
    SourceId("timesync-state"), "stat", {"globs": ["/run/systemd/timesync", "/run/systemd/timesync/synchronized"]},
    "systemd-timesyncd.service(8): the file is touched at each synchronisation; the folder is there where it runs.",
)  # fmt: skip
ZONE = Source(SourceId("timezone"), "file", {"paths": ["/etc/timezone"]}, "Debian: the zone's name; others do without it.")
LOCALTIME = Source(
    SourceId("localtime"), "stat", {"globs": ["/etc/localtime", "/etc"]}, "localtime(5): a link into the zone files; without it UTC holds.",
)  # fmt: skip


@dataclass(frozen=True)
class Clock:
    """The kernel's clock. Source: adjtimex(2)."""

    synchronized: Annotated[bool, "A program keeps it right, by STA_UNSYNC; chronyd says so only with rtcsync"]
    offset_microseconds: Annotated[int, "Offset that the kernel still corrects, either way; chronyd leaves it at 0: see time_tracking"]
    estimated_error_microseconds: Annotated[int, "Error that the program estimates; 16000000 where none does"]
    max_error_microseconds: Annotated[int, "Error at most; it grows while nothing corrects it"]


@dataclass(frozen=True)
class TimeDaemon:
    """A program that sets the clock and runs now; more than one fight each other. Source: processes."""

    name: Annotated[str, "chrony, ntp, timesyncd, openntpd, ptp4l, phc2sys, timemaster, ptpd or ntpd-rs"]
    pid: Annotated[int, "Process"]
    uid: Annotated[int, "Who runs it"]
    contained: Annotated[bool, "In a container; the clock is the node's all the same"]


@dataclass(frozen=True)
class TimesyncdState:
    """Whether systemd-timesyncd has synchronised since boot; no row where it has not run. Source: systemd-timesyncd.service(8)."""

    synchronized: Annotated[bool, "It has, at least once"]
    synchronized_at: Annotated[datetime | None, "When it last did"]


@dataclass(frozen=True)
class TimeZone:
    """The node's time zone. Always one row. Source: localtime(5), /etc/timezone."""

    zone: Annotated[str | None, "Zone that is in force; UTC without /etc/localtime; NULL: a file that names none"]
    named: Annotated[str | None, "What /etc/timezone says, which may differ"]


_UNSYNC, _NANO = 0x40, 0x2000  # STA_UNSYNC, STA_NANO: its offset is in nanoseconds
_DAEMONS = {"chronyd": "chrony", "ntpd": "ntp", "ntp4d": "ntp", "systemd-timesyncd": "timesyncd", "openntpd": "openntpd", "ptp4l": "ptp4l",
            "phc2sys": "phc2sys", "timemaster": "timemaster", "ptpd": "ptpd", "ntpd-rs": "ntpd-rs", "ntp-daemon": "ntpd-rs"}  # fmt: skip


def parse_clock(evidence: Bundle) -> Iterable[Clock]:
    """One row."""
    told = evidence.document(KERNEL)
    status, offset, estimated, most = (
        told.get(name) if isinstance(told, dict) else None for name in ("status", "offset", "estimated_error_us", "max_error_us")
    )
    if type(status) is not int or type(offset) is not int or type(estimated) is not int or type(most) is not int:
        raise NotUnderstood(f"{KERNEL.id}: without its numbers")
    yield Clock(not status & _UNSYNC, abs(offset) // 1000 if status & _NANO else abs(offset), estimated, most)


def parse_daemons(evidence: Bundle) -> Iterable[TimeDaemon]:
    """A row per process; threads and helpers of the same name that it started are left out."""
    found: dict[int, tuple[Any, TimeDaemon]] = {}
    for process in documents(evidence):
        if daemon := next((_DAEMONS[name] for name in program_names(process) if name in _DAEMONS), None):
            pid, parent, uid = (process.get(key) for key in ("pid", "ppid", "uid"))
            if type(pid) is int and type(uid) is int:
                found[pid] = (parent, TimeDaemon(daemon, pid, uid, process.get("contained") is True))
            else:
                evidence.gap(PROCESSES, "a process that is not understood")
    return [row for parent, row in found.values() if not (parent in found and found[parent][1].name == row.name)]


def parse_timesyncd(evidence: Bundle) -> Iterable[TimesyncdState]:
    """One row where timesyncd has run since boot."""
    there = places(evidence, TIMESYNC)
    if "/run/systemd/timesync" in there:
        when = there.get("/run/systemd/timesync/synchronized", {}).get("mtime")
        yield TimesyncdState("/run/systemd/timesync/synchronized" in there, utc(when) if type(when) is int else None)


def parse_zone(evidence: Bundle) -> Iterable[TimeZone]:
    """One row."""
    there = places(evidence, LOCALTIME)
    if "/etc" not in there:
        raise Unread(f"{LOCALTIME.id}: no /etc")
    entry = there.get("/etc/localtime")
    link = (entry or {}).get("link")
    zone = "UTC" if entry is None else link.partition("zoneinfo/")[2] or None if isinstance(link, str) else None
    named = value(evidence.line(ZONE))
    if evidence.item(ZONE).status is Status.OK and not re.fullmatch(r"[A-Za-z][\w+/-]*", named or ""):
        evidence.gap(ZONE, "no name of a zone")
        named = None
    yield TimeZone(zone, named)


TABLES = (
    Table("clock", Clock, (KERNEL,), parse_clock),
    Table("time_daemons", TimeDaemon, (PROCESSES,), parse_daemons),
    Table("time_servers", TimeServer, (CHRONY, NTP, TIMESYNCD), parse_servers),
    Table("time_tracking", TimeTracking, (TRACKING,), parse_tracking),
    Table("time_peers", TimePeer, (PEERS,), parse_peers),
    Table("timesyncd", TimesyncdState, (TIMESYNC,), parse_timesyncd),
    Table("time_zone", TimeZone, (LOCALTIME, ZONE), parse_zone),
)
