# SPDX-License-Identifier: Apache-2.0
"""Which operating system a node runs. It cannot know what a derivative changed beneath its name."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import VALUE_CAP, Bundle, NotUnderstood, Table, value
from fleet_audit.model import Source, SourceId

OS_RELEASE = Source(
    SourceId("os-release"),
    "file",
    {"paths": ["/etc/os-release", "/usr/lib/os-release"]},
    "os-release(5): shell-like assignments, quotes optional.",
    cap_bytes=64 << 10,
)


@dataclass(frozen=True)
class Os:
    """The operating system's identity. Source: os-release(5)."""

    id: Annotated[str, "Distribution in lower case, as ID= says; `linux` if it says nothing"]
    id_like: Annotated[list[str], "Distributions that it derives from, nearest first"]
    version_id: Annotated[str | None, "Release, as VERSION_ID= says; none for rolling ones"]
    codename: Annotated[str | None, "VERSION_CODENAME"]
    name: Annotated[str | None, "PRETTY_NAME, for people"]
    family: Annotated[str, "debian, rhel, suse or other: by id and id_like"]


def assignments(text: str) -> dict[str, str]:
    """The assignments of a shell-like file; lines that are none are left out."""
    found = {}
    for line in text.splitlines():
        name, equals, raw = line.strip().partition("=")
        if not equals or name.startswith("#") or not name.replace("_", "").isalnum() or len(raw) > VALUE_CAP:
            continue  # shlex takes time that grows with the square of a word
        try:
            words = shlex.split(raw)
        except ValueError:
            continue
        found[name] = words[0] if words else ""
    return found


def family(ident: str, like: list[str]) -> str:
    """The family of distributions that shares tools and places of files."""
    for word in (ident, *like):
        for name, members in (
            ("debian", ("debian", "ubuntu")), ("rhel", ("rhel", "fedora", "centos")), ("suse", ("suse", "sles", "opensuse")),
        ):  # fmt: skip
            if word in members:
                return name
    return "other"


def parse_os(evidence: Bundle) -> Iterable[Os]:
    """One row; a file without any known field is not understood."""
    text = evidence.body(OS_RELEASE)
    fields = assignments(text)
    written = {line.strip().partition("=")[0] for line in text.splitlines() if "=" in line}
    if "ID" in written - set(fields) or not {"ID", "NAME", "PRETTY_NAME"} & set(fields):
        raise NotUnderstood("os-release: no ID, NAME or PRETTY_NAME that is understood")
    for name in sorted({"ID_LIKE", "VERSION_ID", "VERSION_CODENAME", "PRETTY_NAME"} & written - set(fields)):
        evidence.gap(OS_RELEASE, f"{name} is not understood")
    ident = (value(fields.get("ID")) or "linux").lower()
    like = fields.get("ID_LIKE", "").lower().split()
    yield Os(
        ident, like, value(fields.get("VERSION_ID")), value(fields.get("VERSION_CODENAME")),
        value(fields.get("PRETTY_NAME")), family(ident, like),
    )  # fmt: skip


TABLES = (Table("os", Os, (OS_RELEASE,), parse_os),)
