# SPDX-License-Identifier: Apache-2.0
"""Files of Slurm and the programs that it runs: who may change them. It cannot know those on shared file systems."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import LEADS_TO, Metadata, understood, with_targets
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.slurm.config import FOLDERS, SETTINGS, parse_settings
from fleet_audit.model import Source, SourceId

_ABOVE = (
    "/", "/etc", "/usr", "/usr/local", "/usr/local/etc", "/opt", "/opt/slurm", "/usr/lib", "/usr/lib64", "/usr/libexec", "/usr/local/lib",
    "/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/usr/share", "/var", "/var/lib", "/var/lib/slurm", "/var/spool",
)  # fmt: skip
_HOOKS = ("prolog.d", "epilog.d", "task_prolog.d", "task_epilog.d", "scripts", "hooks", "bin", "plugstack.conf.d", "prologs", "epilogs")
FILES = Source(
    SourceId("slurm-files"), "stat",
    {"globs": [*_ABOVE,
               *(path for folder in FOLDERS if folder != "/usr/local/etc" for path in (folder, f"{folder}/*")),
               *(f"/usr/local/etc/{name}" for name in ("slurm.conf", "cgroup.conf", "gres.conf", "slurmdbd.conf", "slurm.key")),
               *(f"/etc/slurm/{name}/*" for name in _HOOKS),
               "/usr/libexec/slurm", "/usr/libexec/slurm/*", "/usr/local/slurm", "/usr/local/slurm/*", "/opt/slurm/*", "/opt/slurm/etc/*/*",
               "/usr/local/sbin/*slurm*", "/usr/local/bin/*slurm*", "/usr/lib/slurm", "/usr/lib/slurm/*.so",
               "/usr/lib64/slurm", "/usr/lib64/slurm/*.so",
               "/usr/lib/*-linux-gnu", "/usr/lib/*-linux-gnu/slurm*", "/usr/lib/*-linux-gnu/slurm*/*.so", "/usr/local/lib/slurm",
               "/usr/local/lib/slurm/*.so", "/opt/slurm/lib/slurm", "/opt/slurm/lib/slurm/*.so",
               *(f"{base}/{name}" for base in ("/var/spool/slurmctld", "/var/spool/slurm/statesave", "/var/spool/slurm/ctld", "/var/spool/slurm",
                                               "/var/lib/slurm/slurmctld", "/var/lib/slurm/statesave")
                 for name in ("jwt_hs256.key", "slurm.key"))],
     "targets": True},
    "slurm.conf(5): configuration, keys (slurm.key, jwt_hs256.key), hooks and plugins where packages and custom put them. Never a content.",
    needs_root=True,
)  # fmt: skip
HOOK_KEYS = frozenset(
    "prolog epilog prologslurmctld epilogslurmctld taskprolog taskepilog srunprolog srunepilog healthcheckprogram rebootprogram resumeprogram "
    "resumefailprogram suspendprogram unkillablestepprogram mailprog slurmctldprimaryonprog slurmctldprimaryoffprog plugindir clonensscript "
    "clonensepilog initscript".split()
)


@dataclass(frozen=True)
class SlurmFile:
    """A file or folder of Slurm, what links of it lead to, and folders on the way that others may change. Source: stat."""

    path: Annotated[str, "The file or folder"]
    named: Annotated[str, "By what name it is found: its own path, or a link that leads to it or past it"]
    kind: Annotated[str, "folder, config, key, hook or plugin, by name and place; of a link as of what it leads to"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    mode: Annotated[int, "Permission bits as a number: 420 is 0644; those of a link say nothing"]
    link: Annotated[bool, "It is a symbolic link"]
    leads_to: Annotated[str | None, LEADS_TO]


@dataclass(frozen=True)
class SlurmHook:
    """A program or folder that Slurm runs or loads, named by slurm.conf. Source: slurm.conf(5), stat."""

    folder: Annotated[str, "Folder of the configuration that names it"]
    setting: Annotated[str, "Key, such as prolog or plugindir"]
    path: Annotated[str, "Path as named; of a pattern a row for each file, or the pattern if there is none"]
    found: Annotated[bool | None, "It is there; NULL: it lies where nobody looked"]
    uid: Annotated[int | None, "Owner; of a link, of what it leads to"]
    mode: Annotated[int | None, "Permission bits as a number; of a link, of what it leads to"]
    weakest: Annotated[
        str | None,
        "Itself, what it leads to, or the nearest folder on the way there that others than root may change; empty: none; "
        "NULL: not all are known",
    ]


def _kind(path: str) -> str:
    name = posixpath.basename(path)
    if name.endswith((".key", ".jwks", "_key.pem")):
        return "key"
    if path.endswith(".so"):
        return "plugin"
    hook = re.search(r"(?i)/(?:(?:task_?)?(?:pro|epi)logs?\.?d?|scripts|hooks|bin|libexec/slurm|s?bin)/[^/]*$", path)
    return "hook" if hook or re.search(r"(?i)prolog|epilog|health|\.(?:sh|py|lua|pl|bash)$", name) else "config"


def parse_files(evidence: Bundle) -> Iterator[SlurmFile]:
    """A row per file or folder that is Slurm's own."""
    for path, there in with_targets(understood(evidence, FILES)):
        if there.path == path and ((path in _ABOVE and "slurm" not in path) or re.fullmatch(r"/usr/lib/[^/]*-linux-gnu", path)):
            continue
        kind = "folder" if "dir" in (there.type, *(one.type for one in there.behind[:1])) or path in FOLDERS else _kind(path)
        yield SlurmFile(there.path, path, kind, there.uid, there.gid, there.mode, there.type == "link", there.leads_to)


def _weakest(files: Mapping[str, Metadata], path: str) -> str | None:
    """The nearest part of a path that others than root may change, empty if none, None if not all parts are known."""
    known = True
    while True:
        entry = files.get(path)
        parts = () if entry is None else entry.behind if entry.type == "link" else (entry,)
        known = known and bool(parts)
        if weak := next((part.path for part in parts if part.others_may_change), None):
            return weak
        if path == "/":
            return "" if known else None
        path = posixpath.dirname(path)


def parse_hooks(evidence: Bundle) -> Iterator[SlurmHook]:
    """A row per program that slurm.conf names."""
    files = {there.path: there for there in understood(evidence, FILES)}
    for row in parse_settings(evidence):
        if row.config != "slurm.conf" or row.key not in HOOK_KEYS or row.value.lower() in ("none", "(null)"):
            continue
        for value in row.value.split(":") if row.key == "plugindir" else [row.value]:
            path = posixpath.normpath(posixpath.join(row.folder, value))
            matching = [name for name in files if fnmatch.fnmatchcase(name, path)] if re.search(r"[*?[]", path) else [path]
            for one in matching or [path]:
                entry = files.get(one)
                looked = posixpath.dirname(one) in FOLDERS[:3] or any(fnmatch.fnmatchcase(one, glob) for glob in FILES.args["globs"])
                there = True if entry else False if looked else None
                end = entry if entry is None or entry.type != "link" else next(iter(entry.behind), None)
                owner, mode = (end.uid, end.mode) if end else (None, None)
                yield SlurmHook(row.folder, row.key, one, there, owner, mode, _weakest(files, one) if entry else None)


TABLES = (
    Table("slurm_files", SlurmFile, (FILES,), parse_files),
    Table("slurm_hooks", SlurmHook, (SETTINGS, FILES), parse_hooks),
)
