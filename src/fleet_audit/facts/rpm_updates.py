# SPDX-License-Identifier: Apache-2.0
"""Whether dnf or yum updates a node by itself, and what dnf and zypp hold back. It cannot know whether a versionlock plugin is on."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.apt_sources import deb822
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.dnf import CONF, REPOS, Sections, read_ini, switch, words
from fleet_audit.model import Source, SourceId

_VENDOR, _SITE, _YUM = "/usr/share/dnf5/dnf5-plugins/automatic.conf", "/etc/dnf/automatic.conf", "/etc/yum/yum-cron.conf"

LOCKS = Source(
    SourceId("rpm-locks"), "files",
    {"globs": ["/etc/dnf/plugins/versionlock.list", "/etc/yum/pluginconf.d/versionlock.list", "/etc/dnf/versionlock.toml", "/etc/zypp/locks"]},
    "dnf-versionlock(8) of dnf-plugins-core, dnf5-versionlock(8), locks(5) of libzypp.",
)  # fmt: skip
AUTOMATIC = Source(
    SourceId("dnf-automatic"), "files", {"globs": [_VENDOR, _SITE, _YUM], "redact": True},
    "dnf-automatic(8), dnf5-automatic(8): [commands], and [base] over dnf.conf; yum-cron(8).",
)  # fmt: skip
AUTOMATIC_PLACES = Source(
    SourceId("dnf-automatic-places"), "stat", {"globs": ["/usr/bin/dnf-automatic", _VENDOR, "/usr/sbin/yum-cron"]},
    "Which of the three programs is installed; dnf5's brings the vendor's file.",
)  # fmt: skip


@dataclass(frozen=True)
class RpmHold:
    """What keeps packages from being updated. Source: dnf.conf(5), dnf-versionlock(8), locks(5)."""

    manager: Annotated[str, "dnf, for yum too, or zypp"]
    kind: Annotated[str, "exclude of a configuration, versionlock, or lock of zypp"]
    package: Annotated[str, "Package, glob or name with version, as written"]
    condition: Annotated[str, "To what versions it is held, as written; empty for all"]
    repository: Annotated[str | None, "Only in this repository"]
    file: Annotated[str, "File that says so"]


@dataclass(frozen=True)
class DnfAutomatic:
    """A program that updates a node with dnf or yum; no row where there is none. Source: dnf-automatic(8), yum-cron(8)."""

    program: Annotated[str, "dnf-automatic, dnf5-automatic or yum-cron"]
    upgrade_type: Annotated[str | None, "security, default (all) or another word"]
    download: Annotated[bool | None, "It downloads updates"]
    apply: Annotated[bool | None, "It installs them; dnf-automatic-install.timer does so even if this says no"]
    reboot: Annotated[str | None, "never, when-changed or when-needed"]
    excluded: Annotated[list[str], "Packages that it leaves out, beside what rpm_holds tells"]


def parse_automatic(evidence: Bundle) -> Iterable[DnfAutomatic]:
    """A row per program that is installed."""
    there = evidence.entries(AUTOMATIC_PLACES)
    files = read_ini(evidence, AUTOMATIC)
    if "/usr/sbin/yum-cron" in there:
        yield _automatic(evidence, "yum-cron", [files.get(_YUM, [])], download=False)
    if _VENDOR in there:
        yield _automatic(evidence, "dnf5-automatic", [files.get(_VENDOR, []), files.get(_SITE, [])], download=True)
    elif "/usr/bin/dnf-automatic" in there:
        yield _automatic(evidence, "dnf-automatic", [files.get(_SITE, [])], download=False)


def _automatic(evidence: Bundle, program: str, files: list[Sections], *, download: bool) -> DnfAutomatic:
    commands = {key: text for sections in files for name, options in sections if name == "commands" for key, text in options.items()}
    base = [options for sections in files for name, options in sections if name == "base"]

    sure = not evidence.gaps  # else what is not set here may be set in what was not read

    def flag(key: str, default: bool) -> bool | None:
        word = commands.get(key)
        if word and switch(word) is None:
            evidence.gap(AUTOMATIC, f"{key} is not understood")
        return switch(word) if word else default if sure else None

    applies = flag("apply_updates", False)
    return DnfAutomatic(
        program, commands.get("upgrade_type") or commands.get("update_cmd") or ("default" if sure else None),
        applies or flag("download_updates", download), applies, commands.get("reboot") or ("never" if sure else None),
        [name for options in base for key in ("exclude", "excludepkgs") for name in words(options.get(key, ""))],
    )  # fmt: skip


def parse_holds(evidence: Bundle) -> Iterable[RpmHold]:
    """A row per package that is excluded or locked."""
    for source, sections in ((CONF, read_ini(evidence, CONF)), (REPOS, read_ini(evidence, REPOS))):
        for path, found in sections.items():
            for name, options in found:
                for key in ("exclude", "excludepkgs"):
                    for package in words(options.get(key, "")):
                        yield RpmHold("dnf", "exclude", package, "", None if source is CONF else name, path)
    for path, entry in evidence.entries(LOCKS).items():
        text = entry.get("text")
        if not isinstance(text, str):
            evidence.gap(LOCKS, f"{path}: no text")
        elif path.endswith(".toml"):
            yield from _toml_locks(evidence, path, text)
        elif path == "/etc/zypp/locks":
            yield from _zypp_locks(evidence, path, text)
        else:
            for line in text.split("\n"):
                if package := line.partition("#")[0].strip():
                    yield RpmHold("dnf", "versionlock", package.lstrip("!"), "!=" if package.startswith("!") else "=", None, path)


def _toml_locks(evidence: Bundle, path: str, text: str) -> Iterator[RpmHold]:
    if len(text) > 1 << 18:
        evidence.gap(LOCKS, f"{path}: longer than 256 KiB")
        return
    try:
        packages = tomllib.loads(text).get("packages", [])
        for package in packages:
            conditions = [f"{c['key']} {c['comparator']} {c['value']}" for c in package.get("conditions", [])]
            yield RpmHold("dnf", "versionlock", package["name"], ", ".join(conditions), None, path)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        evidence.gap(LOCKS, f"{path}: not understood")


def _zypp_locks(evidence: Bundle, path: str, text: str) -> Iterator[RpmHold]:
    for lock in deb822(text):
        names = lock.get("solvable_name") or lock.get("query_string")
        if not names:
            evidence.gap(LOCKS, f"{path}: a lock is not understood")
        elif " ".join(lock.get("type", ["package"])) == "package":
            repository = " ".join(lock.get("repo", [])) or None
            yield RpmHold("zypp", "lock", " ".join(names), " ".join(lock.get("version", [])), repository, path)


TABLES = (
    Table("dnf_automatic", DnfAutomatic, (AUTOMATIC, AUTOMATIC_PLACES), parse_automatic),
    Table("rpm_holds", RpmHold, (CONF, REPOS, LOCKS), parse_holds),
)
