# SPDX-License-Identifier: Apache-2.0
"""Where apt gets packages from, what it checks there, and which it prefers. It cannot know what a mirror list names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.apt_conf import APT_CONF, Settings, apt_settings, in_force, switch
from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.model import Source, SourceId

SOURCES = Source(
    SourceId("apt-sources"), "files",
    {"globs": ["/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources"], "redact": True},
    "sources.list(5): lines in .list files, deb822 stanzas in .sources files.",
)  # fmt: skip
PREFERENCES = Source(
    SourceId("apt-preferences"), "files", {"globs": ["/etc/apt/preferences", "/etc/apt/preferences.d/*"]},
    "apt_preferences(5): stanzas of Package, Pin and Pin-Priority; files by the names that apt reads.",
)  # fmt: skip


@dataclass(frozen=True)
class AptSource:
    """A source of packages that apt's files name; what is commented out is none. Source: sources.list(5), apt.conf(5)."""

    file: Annotated[str, "File that names it"]
    position: Annotated[int, "Place in the file, from 0"]
    enabled: Annotated[bool, "In use; a .sources file can switch one off"]
    types: Annotated[list[str], "deb for packages, deb-src for source code"]
    uris: Annotated[list[str], "Where it lies, without user and password"]
    suites: Annotated[list[str], "Distributions or paths, such as bookworm-security"]
    components: Annotated[list[str], "Components, such as main"]
    signed_by: Annotated[
        list[str], "Key files or fingerprints that must have signed it; `embedded` for a key in place; none: any that apt trusts"
    ]
    trusted: Annotated[bool, "Taken as authentic without a check: Trusted: yes"]
    allow_insecure: Annotated[bool | None, "Used although it is not signed: by its option, else by apt's setting"]
    allow_weak: Annotated[bool | None, "Used although only weak hashes protect it: by its option, else by apt's setting"]
    allow_downgrade: Annotated[bool | None, "May cease to be signed: by its option, else by apt's setting"]
    check_valid_until: Annotated[bool | None, "An expired release is refused: by its option, else by apt's setting"]
    credentials: Annotated[bool, "A URI holds a user or a password"]


@dataclass(frozen=True)
class AptPin:
    """A preference for versions of packages; no rows where apt prefers as it is built to. Source: apt_preferences(5)."""

    file: Annotated[str, "File that sets it"]
    package: Annotated[str, "Package name, glob, /regular expression/, or * for all"]
    pin: Annotated[str, "What it prefers: release with properties, version or origin"]
    priority: Annotated[int, "Over 1000 even a downgrade, under 0 never installed, 500 as usual"]


_LOCAL = re.compile(r"[A-Za-z0-9_.-]+")
_OPTIONS = {
    "allow_insecure": ("allow-insecure", "Acquire::AllowInsecureRepositories", False),
    "allow_weak": ("allow-weak", "Acquire::AllowWeakRepositories", False),
    "allow_downgrade": ("allow-downgrade-to-insecure", "Acquire::AllowDowngradeToInsecureRepositories", False),
    "check_valid_until": ("check-valid-until", "Acquire::Check-Valid-Until", True),
}


_TOKEN = re.compile(r"(?<=/t/)[^/]+|(?<=/)(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}(?=/|$)")


def bare(uri: str) -> tuple[str, bool]:
    """A URI without user, password and tokens in its path (conda's follow /t/), and whether it had any."""
    scheme, mark, rest = uri.partition("://")
    authority, slash, path = rest.partition("/")
    user, _, place = authority.rpartition("@")
    path, tokens = _TOKEN.subn("<secret>", slash + path) if mark else (slash + path, 0)
    return f"{scheme}{mark}{place}{path}", bool(mark and (user or tokens))


def parse_sources(evidence: Bundle) -> Iterable[AptSource]:
    """A row per line or stanza."""
    files = evidence.entries(SOURCES)
    settings: Settings | None
    known = len(evidence.gaps)
    try:
        settings = apt_settings(evidence)
    except Unread as unread:
        evidence.gaps.append(str(unread))
    if len(evidence.gaps) > known:
        settings = None
    for path, entry in files.items():
        text = entry.get("text")
        if not _LOCAL.fullmatch(path.rpartition("/")[2]):
            continue
        if not isinstance(text, str):
            evidence.gap(SOURCES, f"{path}: no text")
            continue
        read = _stanzas if path.endswith(".sources") else _lines
        position = -1
        for position, fields in enumerate(read(text)):
            if row := _row(evidence, path, position, fields, settings):
                yield row
            else:
                evidence.gap(SOURCES, f"{path}: entry {position} is not understood")


def _lines(text: str) -> Iterator[dict[str, list[str]]]:
    """The fields of one-line entries, with the options in brackets as deb822 names them."""
    for line in text.split("\n"):
        line = line.partition("#")[0].strip()
        if not line:
            continue
        match = re.fullmatch(r"(\S+)\s+(?:\[([^\]]*)\]\s+)?(.*)", line)
        words = re.findall(r"(?:\[[^\]]*\]|[^\s\[])+", match[3]) if match else []  # cdrom:[...] holds blanks
        if match is None or len(words) < 2 or match[3].startswith("["):
            yield {}
            continue
        fields = {"types": [match[1]], "uris": words[:1], "suites": words[1:2], "components": words[2:]}
        options = [option.partition("=") for option in (match[2] or "").split()]
        yield {name.rstrip("+-").lower(): [word for word in what.split(",") if word] for name, _, what in options} | fields


def deb822(text: str) -> Iterator[dict[str, list[str]]]:
    """The stanzas of a deb822 text, names in lower case, values as lines; {} for one that is none.

    Only an empty line ends a stanza, as apt has it, and a field but Explanation stands in it once.
    """
    for block in re.split(r"\n\n+", "\n".join(line for line in text.split("\n") if not line.startswith("#"))):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in block.split("\n"):
            if not line.strip():
                continue
            if line[0] in " \t" and name:
                fields[name].append(line.strip())
                continue
            name, colon, what = line.partition(":")
            if not colon or not re.fullmatch(r"[\w-]+", name) or name.lower() in fields.keys() - {"explanation"}:
                fields = {}
                break
            name = name.lower()
            fields[name] = [what.strip()]
        if fields or block.strip():
            yield fields


def _stanzas(text: str) -> Iterator[dict[str, list[str]]]:
    """The fields of .sources files as words; a key in place is the word `embedded`."""
    for fields in deb822(text):
        if any("BEGIN PGP" in line for line in fields.get("signed-by", ())):
            fields["signed-by"] = ["embedded"]
        fields["signed-by"] = [line.replace(",", " ") for line in fields.get("signed-by", ())]
        yield {name: words for name, lines in fields.items() if (words := " ".join(lines).split())}


def _row(evidence: Bundle, path: str, position: int, fields: dict[str, list[str]], settings: Settings | None) -> AptSource | None:
    if not fields.get("uris") or not fields.get("suites") or not set(fields.get("types", [])) & {"deb", "deb-src"}:
        return None
    uris = [bare(uri) for uri in fields["uris"]]
    switches = {name: _switch(evidence, path, fields, name, settings) for name in _OPTIONS}
    enabled, trusted = (switch(" ".join(fields.get(name, [word]))) for name, word in (("enabled", "yes"), ("trusted", "no")))
    if enabled is None or trusted is None:
        return None
    return AptSource(
        path, position, enabled, fields["types"], [uri for uri, _ in uris], fields["suites"], fields.get("components", []),
        fields.get("signed-by", []), trusted, credentials=any(had for _, had in uris), **switches,
    )  # fmt: skip


def _switch(evidence: Bundle, path: str, fields: dict[str, list[str]], name: str, settings: Settings | None) -> bool | None:
    """An option of the source, else the setting of apt; a word that is none is a gap."""
    option, setting, default = _OPTIONS[name]
    if option in fields:
        found = switch(" ".join(fields[option]))
        if found is None:
            evidence.gap(SOURCES, f"{path}: {option} is not understood")
        return found
    if settings is None:
        return None
    found = settings.flag(setting, default)
    if found is None:
        evidence.gap(APT_CONF, f"{setting} is not understood")
    return found


def parse_pins(evidence: Bundle) -> Iterable[AptPin]:
    """A row per package of each stanza."""
    for path, entry in evidence.entries(PREFERENCES).items():
        text = entry.get("text")
        if not isinstance(text, str):
            evidence.gap(PREFERENCES, f"{path}: no text")
            continue
        if path.startswith("/etc/apt/preferences.d/") and not in_force(path, "pref"):
            continue
        for fields in deb822(text):
            if set(fields) <= {"explanation"} and fields:
                continue
            packages, pin, priority = (" ".join(fields.get(name, [])).strip() for name in ("package", "pin", "pin-priority"))
            if not packages or not pin or not re.fullmatch(r"[+-]?[0-9]{1,9}", priority):
                evidence.gap(PREFERENCES, f"{path}: a stanza is not understood")
                continue
            for package in packages.split():
                yield AptPin(path, package, pin, int(priority))


TABLES = (
    Table("apt_sources", AptSource, (SOURCES, APT_CONF), parse_sources),
    Table("apt_pins", AptPin, (PREFERENCES,), parse_pins),
)
