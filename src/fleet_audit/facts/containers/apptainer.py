# SPDX-License-Identifier: Apache-2.0
"""Apptainer, Singularity and Enroot: what users may run without an engine. It cannot know copies in folders of modules or users."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.model import Source, SourceId

_PREFIXES = ("/usr", "/usr/local", "/opt/apptainer", "/opt/apptainer/*", "/opt/singularity", "/opt/singularity/*")

STARTERS = Source(
    SourceId("apptainer-starters"), "stat",
    {"globs": [f"{prefix}/{folder}/{name}/bin/starter-suid" for prefix in _PREFIXES
               for folder in ("libexec", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu") for name in ("apptainer", "singularity")]},
    "Apptainer's admin guide, setuid installation: the program starter-suid is there in such an installation alone.",
)  # fmt: skip
SETTINGS = Source(
    SourceId("apptainer-settings"), "files",
    {"globs": [f"{prefix}/{name}/{name}.conf" for prefix in ("/etc", "/usr/local/etc", "/opt/apptainer/etc", "/opt/apptainer/*/etc",
                                                              "/opt/singularity/etc", "/opt/singularity/*/etc")
               for name in ("apptainer", "singularity")], "redact": True, "cap_each": 256 << 10},
    "Apptainer's admin guide, apptainer.conf: `directive = value`; it must be root's for a setuid installation to run.",
)  # fmt: skip
ENROOT = Source(
    SourceId("enroot-settings"), "files",
    {"globs": ["/etc/enroot/enroot.conf", "/etc/enroot/enroot.conf.d/*.conf"], "redact": True, "cap_each": 256 << 10},
    "Enroot, doc/configuration.md: NAME VALUE lines that the environment may override.",
)  # fmt: skip


@dataclass(frozen=True)
class ApptainerStarter:
    """A program by which Apptainer or Singularity gets root's rights. Source: stat."""

    path: Annotated[str, "The program"]
    setuid: Annotated[bool, "It runs as its owner"]
    uid: Annotated[int, "Owner"]
    mode: Annotated[int, "Permission bits as a number, setuid included: 2541 is 04755"]


@dataclass(frozen=True)
class ApptainerSetting:
    """A directive of Apptainer or Singularity; one that is not there has its version's default. Source: apptainer.conf, singularity.conf."""

    file: Annotated[str, "Configuration file"]
    directive: Annotated[str, "Directive in lower case, such as `allow setuid-mount extfs`"]
    value: Annotated[str, "Its value; lists are separated by commas, `NULL` is none"]
    line: Annotated[int, "Line of the file"]


@dataclass(frozen=True)
class EnrootSetting:
    """A setting of Enroot for all users. Source: enroot.conf."""

    file: Annotated[str, "Configuration file"]
    name: Annotated[str, "Variable, such as ENROOT_DATA_PATH"]
    value: Annotated[str, "Its value, shell expressions unresolved"]
    line: Annotated[int, "Line of the file"]


def _lines(evidence: Bundle, source: Source) -> Iterator[tuple[str, int, str]]:
    """(file, number, line) of what is neither blank nor a comment."""
    for path, entry in evidence.entries(source).items():
        if not isinstance(entry.get("text"), str):
            evidence.gap(source, f"{path}: no text")
            continue
        for number, line in enumerate(entry["text"].split("\n"), 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield path, number, line.strip()


def parse_starters(evidence: Bundle) -> Iterable[ApptainerStarter]:
    """A row per program."""
    for path, entry in evidence.entries(STARTERS).items():
        if type(entry.get("mode")) is not int or type(entry.get("uid")) is not int:
            evidence.gap(STARTERS, f"{path} is not understood")
            continue
        yield ApptainerStarter(path, bool(entry["mode"] & 0o4000), entry["uid"], entry["mode"])


def parse_settings(evidence: Bundle) -> Iterable[ApptainerSetting]:
    """A row per directive; of one that repeats, `bind path` adds up, others take the last."""
    for path, number, line in _lines(evidence, SETTINGS):
        directive, equals, value = line.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9 _-]+", directive.strip()):
            evidence.gap(SETTINGS, f"{path}:{number} is no directive")
            continue
        yield ApptainerSetting(path, " ".join(directive.lower().split()), value.strip(), number)


def parse_enroot(evidence: Bundle) -> Iterable[EnrootSetting]:
    """A row per setting."""
    for path, number, line in _lines(evidence, ENROOT):
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]{0,100})(?:[ \t]+(\S.*))?", line)
        if match is None:
            evidence.gap(ENROOT, f"{path}:{number} is no setting")
            continue
        yield EnrootSetting(path, match[1], match[2] or "", number)


TABLES = (
    Table("apptainer_starters", ApptainerStarter, (STARTERS,), parse_starters),
    Table("apptainer_settings", ApptainerSetting, (SETTINGS,), parse_settings),
    Table("enroot_settings", EnrootSetting, (ENROOT,), parse_enroot),
)
