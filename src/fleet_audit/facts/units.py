# SPDX-License-Identifier: Apache-2.0
"""systemd's units: what is loaded now, and what is to be started at boot. It cannot know units of users' own managers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

UNITS = Source(
    SourceId("systemd-units"), "command",
    {"argv": ["systemctl", "list-units", "--type=service,socket,timer,mount,swap", "--all", "--plain", "--no-legend", "--no-pager", "--full"],
     "redact": "arguments"},
    "systemctl(1) list-units: unit, load, active and sub state, description, for what systemd has loaded.",
    when_exists="/run/systemd/system",
)  # fmt: skip
LINKS = Source(
    SourceId("systemd-links"), "stat",
    {"globs": [f"{base}/{what}" for base in ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
               for what in ("*.wants/*", "*.requires/*")] + ["/etc/systemd/system/*", "/run/systemd/system", "/etc/systemd/system"]},
    "systemd.unit(5): links in .wants and .requires folders start a unit with another; a link to /dev/null masks it.",
)  # fmt: skip


@dataclass(frozen=True)
class SystemdUnit:
    """A unit that systemd has loaded, active or not. No rows where systemd does not run. Source: systemctl(1)."""

    name: Annotated[str, "Unit with its type, such as ssh.service"]
    load: Annotated[str, "loaded, not-found, masked, error or bad-setting"]
    active: Annotated[str, "active, inactive, failed, activating, deactivating, reloading or maintenance"]
    sub: Annotated[str, "State of its type, such as running, exited, dead, listening or waiting"]


@dataclass(frozen=True)
class SystemdStart:
    """A unit that is started with another one, or masked, by a link. No rows where there is no systemd. Source: systemd.unit(5)."""

    name: Annotated[str, "Unit, as the link is named"]
    wanted_by: Annotated[str | None, "Unit that starts it, such as multi-user.target; NULL for a mask"]
    masked: Annotated[bool, "A link to /dev/null, or an empty file: it cannot be started"]
    site: Annotated[bool, "The link lies in /etc: enabled here, not by the vendor alone"]


_LOAD = frozenset("loaded not-found masked error bad-setting stub merged".split())
_ACTIVE = frozenset("active inactive failed activating deactivating reloading maintenance refreshing".split())


def parse_units(evidence: Bundle) -> Iterable[SystemdUnit]:
    """A row per unit; none where it is proved that systemd does not run."""
    if evidence.item(UNITS).status is Status.SKIPPED:
        return
    found = False
    for line in lines(evidence, UNITS):
        words = line.split(None, 4)
        if len(words) < 4 or "." not in words[0] or words[1] not in _LOAD or words[2] not in _ACTIVE:
            evidence.gap(UNITS, "a line that is no unit")
            continue
        found = True
        yield SystemdUnit(*words[:4])
    if not found:
        raise NotUnderstood(f"{UNITS.id}: no unit in what systemctl printed")


def parse_starts(evidence: Bundle) -> Iterable[SystemdStart]:
    """A row per link, and per mask."""
    there = evidence.entries(LINKS)
    if "/etc/systemd/system" not in evidence.document(LINKS):
        raise NotUnderstood(f"{LINKS.id}: not said whether there is a folder of units")
    if "/etc/systemd/system" not in there:
        return
    yield from dict.fromkeys(row for path, entry in there.items() if (row := _start(path, entry)))


def _start(path: str, entry: dict[str, Any]) -> SystemdStart | None:
    """What a path says, if it starts or masks a unit; an empty file masks too. /lib and /usr/lib may be one folder."""
    folder, _, name = path.rpartition("/")
    site = path.startswith("/etc/")
    if folder.endswith((".wants", ".requires")):
        return SystemdStart(name, folder.rpartition("/")[2].rpartition(".")[0], False, site) if entry.get("type") == "link" else None
    empty = entry.get("type") == "file" and entry.get("size") == 0 and "." in name
    return SystemdStart(name, None, True, site) if empty or entry.get("link") == "/dev/null" else None


TABLES = (
    Table("systemd_units", SystemdUnit, (UNITS,), parse_units),
    Table("systemd_starts", SystemdStart, (LINKS,), parse_starts),
)
