# SPDX-License-Identifier: Apache-2.0
"""Services and timers that a site has put into /etc/systemd/system. Those of packages, and in /usr/local/lib/systemd, are not read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import Metadata, metadata
from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.jobs.cron import program_of, secrets_of
from fleet_audit.facts.jobs.files import FILES, UNIT_FILES
from fleet_audit.model import Source, SourceId

UNITS = Source(
    SourceId("site-units"), "files", {"globs": UNIT_FILES, "cap_each": 1 << 16, "redact": True},
    "systemd.unit(5), systemd.service(5), systemd.timer(5): unit files and drop-ins of the site; secrets in them are reduced on the node.",
)  # fmt: skip


@dataclass(frozen=True)
class SiteUnitCommand:
    """A command of a service that the site has put on the node or changed. Source: systemd.service(5)."""

    unit: Annotated[str, "Unit, such as backup.service"]
    setting: Annotated[str, "ExecStart, ExecStartPre, ExecStop, ..."]
    command: Annotated[str, "Command with its prefixes, secrets reduced to <secret:KIND:LENGTH>"]
    program: Annotated[str, "Its program, if it is an absolute path; else empty"]
    user_name: Annotated[str | None, "User whose rights it has; NULL: the unit's own file is a package's, and the drop-in does not say"]
    secrets: Annotated[list[str], "Kinds of secrets in the command"]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where it begins"]


@dataclass(frozen=True)
class SiteUnitVariable:
    """A variable that such a service gets from its unit file, which everybody may read. Source: systemd.exec(5), Environment=."""

    unit: Annotated[str, "Unit"]
    name: Annotated[str, "Variable"]
    secrets: Annotated[list[str], "Kinds of secrets in its value"]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where it begins"]


@dataclass(frozen=True)
class SiteTimer:
    """A time at which a timer of the site starts its unit; `systemd_units` says which timers are loaded. Source: systemd.timer(5)."""

    unit: Annotated[str, "Timer, such as backup.timer"]
    setting: Annotated[str, "OnCalendar, OnBootSec, OnUnitActiveSec, ..."]
    value: Annotated[str, "When"]
    activates: Annotated[str, "Unit that it starts"]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where it begins"]


_WORD = re.compile(r"(?:\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|[^\s\"'\\]|\\.|[\"'\\])++", re.S)
_ALIAS = re.compile(r"/dev/null|(?:.*/)?lib/systemd/system/.*|(?:/etc/systemd/system/)?[^/]+", re.S)
"""Links that put nothing of the site's there: masks, and names for units of packages or of this folder."""


@dataclass(frozen=True)
class _Line:
    file: str
    number: int
    section: str
    key: str
    value: str


def _stated(evidence: Bundle) -> dict[str, Metadata]:
    return {there.path: there for there in metadata(evidence, FILES)}


def _units(evidence: Bundle) -> Iterator[tuple[str, bool, list[_Line]]]:
    """(unit, whether its own file is the site's, lines in the order in which they count), links to packages' units left out."""
    stated = _stated(evidence)
    document = evidence.document(UNITS)
    if not isinstance(document, dict):
        raise NotUnderstood(f"{UNITS.id}: not an object")
    units: dict[str, list[tuple[bool, str, str]]] = {}
    for path, entry in document.items():
        link = stated[path].link if path in stated else None
        if link is not None and _ALIAS.fullmatch(link):
            continue
        if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
            said = f"{entry.get('status')}: {entry.get('detail', '')}" if isinstance(entry, dict) else "not understood"
            evidence.gap(UNITS, f"{path} {said}")
            continue
        folder, _, name = path.rpartition("/")
        drop_in = folder.endswith(".d")
        unit = folder.rpartition("/")[2].removesuffix(".d") if drop_in else name
        units.setdefault(unit, []).append((drop_in, name if drop_in else path, path))
    for unit in sorted(units):
        parts = sorted(units[unit])
        own = [path for drop_in, _, path in parts if not drop_in][:1]
        read = [*own, *(path for drop_in, _, path in parts if drop_in)]
        yield unit, bool(own), [line for path in read for line in _lines(evidence, path, document[path]["text"])]


def _lines(evidence: Bundle, path: str, text: str) -> Iterator[_Line]:
    section, begun, joined = "", 0, ""
    for number, raw in enumerate([*text.split("\n"), ""], 1):
        if raw.lstrip()[:1] in ("#", ";") and raw.strip():
            continue
        begun = begun or number
        if raw.endswith("\\"):
            joined += raw[:-1] + " "
            continue
        line, joined = (joined + raw).strip(), ""
        here, begun = begun, 0
        key, equals, value = line.partition("=")
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif equals and section:
            yield _Line(path, here, section, key.strip(), value.strip())
        else:
            evidence.gap(UNITS, f"{path}:{here} is not understood")


def _kept(lines: list[_Line], section: str, pattern: str) -> list[_Line]:
    """The lines of these keys that hold at the end: an empty value takes back what was set before."""
    found: list[_Line] = []
    for line in lines:
        if line.section == section and re.fullmatch(pattern, line.key):
            if line.value:
                found.append(line)
            else:
                found = [other for other in found if other.key != line.key]
    return found


def parse_commands(evidence: Bundle) -> Iterator[SiteUnitCommand]:
    """A row per command."""
    for unit, own, lines in _units(evidence):
        if unit.endswith(".service"):
            users = [line.value for line in _kept(lines, "Service", "User")]
            dynamic = any(line.value in ("yes", "true", "on", "1") for line in _kept(lines, "Service", "DynamicUser")[-1:])
            user = users[-1] if users else unit.partition(".")[0] if dynamic else "root" if own else None
            for line in _kept(lines, "Service", r"Exec[A-Z]\w*"):
                bare = line.value.lstrip("@-:+!| ")
                yield SiteUnitCommand(
                    unit, line.key, line.value, program_of(bare), user, secrets_of(line.value), line.file, line.number
                )  # fmt: skip


def parse_variables(evidence: Bundle) -> Iterator[SiteUnitVariable]:
    """A row per variable."""
    for unit, _, lines in _units(evidence):
        for line in _kept(lines, "Service", "Environment"):
            for word in _WORD.findall(line.value):
                name, _, text = re.sub(r"[\"']", "", word).partition("=")
                if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                    yield SiteUnitVariable(unit, name, secrets_of(text), line.file, line.number)
                else:
                    evidence.gap(UNITS, f"{line.file}:{line.number}: a variable is not understood")


def parse_timers(evidence: Bundle) -> Iterator[SiteTimer]:
    """A row per time."""
    for unit, _, lines in _units(evidence):
        if unit.endswith(".timer"):
            units = _kept(lines, "Timer", "Unit")
            activates = units[-1].value if units else unit.removesuffix(".timer") + ".service"
            for line in _kept(lines, "Timer", r"On[A-Z]\w*"):
                yield SiteTimer(unit, line.key, line.value, activates, line.file, line.number)
