# SPDX-License-Identifier: Apache-2.0
"""Files of Slurm and the programs that it runs: who may change them. It cannot know those on shared file systems."""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

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
                 for name in ("jwt_hs256.key", "slurm.key"))]},
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
    """A file or folder of Slurm. Source: stat."""

    path: Annotated[str, "The file or folder"]
    kind: Annotated[str, "folder, config, key, hook or plugin, by name and place"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    mode: Annotated[int, "Permission bits as a number: 420 is 0644; those of a link say nothing"]
    link: Annotated[bool, "It is a symbolic link"]


@dataclass(frozen=True)
class SlurmHook:
    """A program or folder that Slurm runs or loads, named by slurm.conf. Source: slurm.conf(5), stat."""

    folder: Annotated[str, "Folder of the configuration that names it"]
    setting: Annotated[str, "Key, such as prolog or plugindir"]
    path: Annotated[str, "Path as named; of a pattern a row for each file, or the pattern if there is none"]
    found: Annotated[bool | None, "It is there; NULL: it lies where nobody looked"]
    uid: Annotated[int | None, "Owner"]
    mode: Annotated[int | None, "Permission bits as a number"]
    weakest: Annotated[
        str | None, "Itself or the nearest folder above it that others than root may change; empty: none; NULL: not all are known"
    ]


def _kind(path: str) -> str:
    name = posixpath.basename(path)
    if name.endswith(".key"):
        return "key"
    if path.endswith(".so"):
        return "plugin"
    hook = re.search(r"(?i)/(?:(?:task_?)?(?:pro|epi)logs?\.?d?|scripts|hooks|bin|libexec/slurm|s?bin)/[^/]*$", path)
    return "hook" if hook or re.search(r"(?i)prolog|epilog|health|\.(?:sh|py|lua|pl|bash)$", name) else "config"


def well_formed(evidence: Bundle, source: Source) -> dict[str, dict[str, Any]]:
    """{path: metadata} of what is there; entries that are not understood are gaps."""
    found = {}
    for path, entry in evidence.entries(source).items():
        if any(type(entry.get(name)) is not int for name in ("uid", "gid", "mode")):
            evidence.gap(source, f"{path} is not understood")
        else:
            found[path] = entry
    return found


def parse_files(evidence: Bundle) -> Iterator[SlurmFile]:
    """A row per file or folder that is Slurm's own."""
    for path, entry in well_formed(evidence, FILES).items():
        if (path in _ABOVE and "slurm" not in path) or re.fullmatch(r"/usr/lib/[^/]*-linux-gnu", path):
            continue
        kind = "folder" if entry.get("type") == "dir" else _kind(path)
        yield SlurmFile(path, kind, entry["uid"], entry["gid"], entry["mode"], entry.get("type") == "link")


def _others_may_change(entry: Mapping[str, Any]) -> bool:
    """Whether a file or folder is not root's alone; in a sticky folder others cannot replace what is root's."""
    writable = entry["mode"] & 0o002 or (entry["mode"] & 0o020 and entry["gid"] != 0)
    return bool(entry["uid"] != 0 or (writable and not (entry.get("type") == "dir" and entry["mode"] & 0o1000)))


def _weakest(files: Mapping[str, Mapping[str, Any]], path: str) -> str | None:
    """The nearest part of a path that others than root may change, empty if none, None if not all parts are known."""
    known = True
    while True:
        entry = files.get(path)
        if entry is None or entry.get("type") == "link":
            known = False
        elif _others_may_change(entry):
            return path
        if path == "/":
            return "" if known else None
        path = posixpath.dirname(path)


def parse_hooks(evidence: Bundle) -> Iterator[SlurmHook]:
    """A row per program that slurm.conf names."""
    files = well_formed(evidence, FILES)
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
                owner, mode, weakest = (entry["uid"], entry["mode"], _weakest(files, one)) if entry else (None, None, None)
                yield SlurmHook(row.folder, row.key, one, there, owner, mode, weakest)


TABLES = (
    Table("slurm_files", SlurmFile, (FILES,), parse_files),
    Table("slurm_hooks", SlurmHook, (SETTINGS, FILES), parse_hooks),
)
