# SPDX-License-Identifier: Apache-2.0
"""Settings of PAM's modules in /etc/security. Arguments in a stack, which `pam_rules` shows, decide over them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import looked
from fleet_audit.facts.base import Bundle
from fleet_audit.model import Source, SourceId

MODULES = ("faillock", "pwquality", "pwhistory")
SITE, VENDOR, BASE = "/etc/security/", "/usr/etc/security/", "/usr/lib/security/"
"""Where the site, the vendor's linux-pam, and libpwquality after 1.4.5 have them."""

SETTINGS = Source(
    SourceId("pam-settings"), "files",
    {"globs": [f"{base}/{name}.conf" for base in ("/etc/security", "/usr/etc/security") for name in MODULES]
              + ["/etc/security/pwquality.conf.d/*.conf", f"{BASE}pwquality.conf", f"{BASE}pwquality.conf.d/*.conf"]},
    "faillock.conf(5), pwquality.conf(5), pwhistory.conf(5): `key = value` or a key alone. pwquality.conf.d is read before pwquality.conf;"
    " the last line counts, in pwhistory.conf the first; the file in /usr where /etc has none of its name.",
)  # fmt: skip
LIMITS = Source(
    SourceId("pam-limits"), "files",
    {"globs": ["/etc/security/limits.conf", "/etc/security/limits.d/*.conf", "/usr/etc/security/limits.conf", "/usr/etc/security/limits.d/*.conf"]},
    "limits.conf(5): domain, type, item, value; limits.d is read after limits.conf, in the C locale's order.",
)  # fmt: skip
ACCESS = Source(
    SourceId("pam-access"), "files",
    {"globs": [f"{base}{name}" for base in (SITE, VENDOR) for name in ("access.conf", "access.d/*.conf")]},
    "access.conf(5): `permission : users : origins`, the first that fits decides; access.d is read after access.conf.",
)  # fmt: skip


@dataclass(frozen=True)
class PamSetting:
    """A setting of pam_faillock, pam_pwquality or pam_pwhistory in its file. Source: faillock.conf(5), pwquality.conf(5), pwhistory.conf(5)."""

    module: Annotated[str, "faillock, pwquality or pwhistory"]
    key: Annotated[str, "Setting, such as deny, minlen or remember"]
    value: Annotated[str, "Its value; empty for a flag"]
    counts: Annotated[bool, "No later line decides over it; arguments in a stack still may"]
    file: Annotated[str, "File"]
    line: Annotated[int, "Line"]


@dataclass(frozen=True)
class ResourceLimit:
    """A limit that pam_limits sets for sessions, where a stack has it. Source: limits.conf(5)."""

    domain: Annotated[str, "User, @group, `*` for all but root, %group, or ranges of ids"]
    type: Annotated[str, "hard, soft or - for both"]
    item: Annotated[str, "core, nofile, memlock, maxlogins, ...; empty: the domain has no limits"]
    value: Annotated[str, "Its value: a number, or -1, unlimited or infinity"]
    file: Annotated[str, "File"]
    line: Annotated[int, "Line"]


@dataclass(frozen=True)
class LoginAccessRule:
    """A rule of pam_access, where a stack has it. Source: access.conf(5)."""

    position: Annotated[int, "Place, from 0; the first rule that fits decides"]
    allowed: Annotated[bool, "Logins that fit are let in"]
    users: Annotated[str, "Users, (groups), @netgroups, ALL, EXCEPT"]
    origins: Annotated[str, "Terminals, hosts, networks, services, ALL, LOCAL, EXCEPT"]
    file: Annotated[str, "File"]
    line: Annotated[int, "Line"]


def _name(path: str) -> str:
    """A path below the folder of such files."""
    return path.removeprefix(VENDOR).removeprefix(BASE).removeprefix(SITE)


def _lines(evidence: Bundle, source: Source, order: tuple[str, ...]) -> Iterator[tuple[str, int, str]]:
    """(path, line, text), the files of these names first and then by name; the vendor's left out where /etc has one of its name."""
    looked(evidence, source)
    document, files = evidence.document(source), evidence.entries(source)

    def rank(path: str) -> tuple[bool, str, str]:
        return _name(path) not in order, path.rpartition("/")[2], path

    for path in sorted(files, key=rank):
        own = document.get(SITE + _name(path), {"status": "absent"})
        if not path.startswith(SITE) and own.get("status") != "absent":
            continue
        for number, line in enumerate(str(files[path].get("text", "")).split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield path, number, line


def parse_settings(evidence: Bundle) -> Iterator[PamSetting]:
    """A row per line."""
    found = []
    for path, number, line in _lines(evidence, SETTINGS, ()):
        match = re.fullmatch(r"([A-Za-z_]+)(?:\s*=\s*|\s+|$)(.*)", line.partition("#")[0].strip(), re.S)
        if match is None:
            evidence.gap(SETTINGS, f"{path}:{number} is not understood")
            continue
        name = _name(path)
        found.append((".d/" not in name, next(module for module in MODULES if name.startswith(module)), match[1], match[2], path, number))
    found.sort(key=lambda row: row[0])
    deciding = {row[1:3]: row for row in found if row[1] != "pwhistory"} | {
        row[1:3]: row for row in reversed(found) if row[1] == "pwhistory"
    }
    for row in found:
        _, module, key, text, path, number = row
        yield PamSetting(module, key, text, deciding[row[1:3]] is row, path, number)


def parse_limits(evidence: Bundle) -> Iterator[ResourceLimit]:
    """A row per line, in the order in which they are read."""
    for path, number, line in _lines(evidence, LIMITS, ("limits.conf",)):
        words = line.partition("#")[0].split()
        if len(words) == 4 and words[1].lower() in ("hard", "soft", "-"):
            yield ResourceLimit(words[0], words[1].lower(), words[2].lower(), words[3].lower(), path, number)
        elif len(words) == 2 and words[1] == "-":
            yield ResourceLimit(words[0], "-", "", "", path, number)
        elif words:
            evidence.gap(LIMITS, f"{path}:{number} is not understood")


def parse_access(evidence: Bundle) -> Iterator[LoginAccessRule]:
    """A row per rule, in the order in which they are asked."""
    position = 0
    for path, number, line in _lines(evidence, ACCESS, ("access.conf",)):
        parts = [part.strip() for part in line.split(":", 2)]
        if len(parts) != 3 or parts[0] not in ("+", "-") or not all(parts):
            evidence.gap(ACCESS, f"{path}:{number} is not understood")
            continue
        yield LoginAccessRule(position, parts[0] == "+", parts[1], parts[2], path, number)
        position += 1
