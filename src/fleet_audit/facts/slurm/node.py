# SPDX-License-Identifier: Apache-2.0
"""Slurm on a node: its daemons and versions. The controller is never asked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.containers.flags import running, words_of
from fleet_audit.facts.packages import DPKG, RPM, parse_packages
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId, Status
from fleet_audit.versions import key

DAEMONS = ("slurmctld", "slurmd", "slurmdbd", "slurmrestd", "sackd")
VERSIONS = {
    name: Source(
        SourceId(f"{name}-version"), "command", {"argv": [name, "-V"], "unprivileged": True},
        f"{name}(8) -V prints a version and ends. scontrol and sinfo are not asked: they look up the controller in the DNS first.",
        timeout_s=5.0, cap_bytes=16 << 10,
    )
    for name in ("slurmctld", "slurmd")
}  # fmt: skip


@dataclass(frozen=True)
class SlurmDaemon:
    """A daemon of Slurm that runs. Source: /proc."""

    program: Annotated[str, "slurmctld, slurmd, slurmdbd, slurmrestd or sackd"]
    pid: Annotated[int, "Process id"]
    uid: Annotated[int, "User whose rights it has; slurmrestd with -u changes it after it has opened its sockets"]
    command: Annotated[str, "Command line, secrets reduced"]
    config: Annotated[
        str | None, "Configuration file that the command line names (-f); NULL: the default of its build, or the controller's"
    ]
    server: Annotated[str | None, "Controller from which it gets its configuration (--conf-server)"]
    listens: Annotated[
        list[str] | None, "slurmrestd: where the command line says, HOST:PORT or unix:PATH; NULL: it does not, SLURMRESTD_LISTEN may"
    ]
    auth: Annotated[list[str] | None, "slurmrestd: kinds of authentication (-a); NULL: all that there are, rest_auth/local too"]


@dataclass(frozen=True)
class SlurmVersion:
    """Slurm as it is installed. Source: packages, and what daemons say of themselves."""

    name: Annotated[str, "Package, or daemon that was asked"]
    package: Annotated[bool, "It is a package; advisories of the distribution hold for it"]
    version: Annotated[str, "Version as the package or daemon says"]
    version_key: Annotated[str | None, "Sortable key of Slurm's own version in it, kind `dotted`"]


def option(words: list[str], *names: str) -> list[str]:
    """The values of an option, `-f X`, `-fX` or `--long=X`."""
    found = []
    for place, word in enumerate(words):
        for name in names:
            if word == name and place + 1 < len(words):
                found.append(words[place + 1])
            elif name.startswith("--") and word.startswith(name + "="):
                found.append(word[len(name) + 1 :])
            elif not name.startswith("--") and word.startswith(name) and len(word) > 2 and not word.startswith("--"):
                found.append(word[2:])
    return found


def parse_daemons(evidence: Bundle) -> Iterator[SlurmDaemon]:
    """A row per daemon; slurmstepd and srun are none."""
    for program, row in running(evidence, DAEMONS):
        words = words_of(row)
        if type(row.get("euid")) is not int:
            evidence.gap(PROCESSES, "a daemon's process is not understood")
            continue
        rest = program == "slurmrestd"
        listens = [word for word in words[1:] if re.fullmatch(r"unix:\S+|[\w.\[\]:*-]*:[\w-]+", word, re.ASCII)] if rest else []
        auth = [kind for value in option(words[1:], "-a") for kind in value.split(",")] if rest else []
        yield SlurmDaemon(
            program, row["pid"], row["euid"], " ".join(words), next(iter(option(words[1:], "-f")), None),
            next(iter(option(words[1:], "--conf-server")), None), listens or None, auth or None,
        )  # fmt: skip


def parse_versions(evidence: Bundle) -> Iterator[SlurmVersion]:
    """A row per package of Slurm and per daemon that answers."""
    for name, source in VERSIONS.items():
        if evidence.item(source).status is Status.ABSENT or (text := evidence.line(source)) is None:
            continue
        match = re.match(r"slurm(?:-wlm)? ([0-9][\w.~+-]{0,60})", text)
        if match is None:
            evidence.gap(source, "no version in what it says")
            continue
        yield SlurmVersion(name, False, match[1], _upstream(match[1]))
    try:
        for package in parse_packages(evidence):
            monitor = package.name == "slurm" and package.manager == "dpkg"  # Debian's tool of that name shows network traffic
            if re.fullmatch(r"slurm(?:-.*|ctld|d|dbd|restd)?|sackd", package.name) and not monitor:
                yield SlurmVersion(package.name, True, package.version, _upstream(package.version))
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))


def _upstream(version: str) -> str | None:
    match = re.match(r"(?:[0-9]+:)?([0-9]{1,4}(?:\.[0-9]{1,4}){1,3})(?!\.?[0-9])(?![-~.]?[0-9]?(?:rc|pre|beta))", version)
    return key("dotted", match[1]) if match else None


TABLES = (
    Table("slurm_daemons", SlurmDaemon, (PROCESSES,), parse_daemons),
    Table("slurm_versions", SlurmVersion, (*VERSIONS.values(), DPKG, RPM), parse_versions),
)
