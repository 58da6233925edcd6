# SPDX-License-Identifier: Apache-2.0
"""Slurm's configuration files, as its own parser reads them. It cannot know files on shared file systems or a folder of another name."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.model import Source, SourceId

FOLDERS = (
    "/etc/slurm", "/etc/slurm-llnl", "/usr/local/etc/slurm", "/usr/local/etc", "/opt/slurm/etc", "/run/slurm/conf",
    "/var/spool/slurmd/conf-cache", "/var/spool/slurm/conf-cache", "/var/spool/slurm/d/conf-cache", "/var/lib/slurm/slurmd/conf-cache",
)  # fmt: skip
"""Where packages and builds look for slurm.conf; the last ones hold what nodes without files get from the controller."""
_LIMIT = 100_000
"""Settings of one file and those that it includes."""
_NAMES = ("slurm.conf", "cgroup.conf", "gres.conf", "job_container.conf", "topology.conf", "oci.conf", "mpi.conf", "acct_gather.conf")

SETTINGS = Source(
    SourceId("slurm-settings"), "files",
    {"globs": [f"{folder}/{name}" for folder in FOLDERS for name in _NAMES], "follow": "slurm", "redact": True, "cap_each": 2 << 20},
    "slurm.conf(5), cgroup.conf(5), gres.conf(5), job_container.conf(5), topology.conf(5), oci.conf(5): Key=Value, keys in any case.",
    cap_bytes=4 << 20,
)  # fmt: skip
DBD = Source(
    SourceId("slurmdbd-settings"), "files",
    {"globs": [f"{folder}/slurmdbd.conf" for folder in FOLDERS], "follow": "slurm", "redact": True, "cap_each": 256 << 10},
    "slurmdbd.conf(5): only SlurmUser may read it; StoragePass is reduced on the node.",
    needs_root=True,
)  # fmt: skip
PLUGSTACK = Source(
    SourceId("slurm-plugstack"), "files",
    {"globs": [f"{folder}/plugstack.conf" for folder in FOLDERS], "follow": "slurm", "redact": True, "cap_each": 256 << 10},
    "spank(8): `required|optional PLUGIN [ARGUMENTS]` or `include PATTERN`.",
)  # fmt: skip


@dataclass(frozen=True)
class SlurmSetting:
    """A line of a configuration file of Slurm. One that is not there has Slurm's default. Source: slurm.conf(5) and its like."""

    folder: Annotated[str, "Folder of the configuration; a node may hold more than one, daemons use one"]
    config: Annotated[str, "File that it belongs to, such as slurm.conf or cgroup.conf"]
    key: Annotated[str, "Key in lower case"]
    value: Annotated[str, "Value without quotes; secrets are reduced to <secret:KIND:LENGTH>"]
    rest: Annotated[str, "Options of NodeName=, PartitionName=, Name= and the like; else empty, as Slurm takes one setting a line"]
    file: Annotated[str, "File with the line; another one if it is included"]
    line: Annotated[int, "Number of the line, of the first one if it is continued"]
    in_force: Annotated[bool, "The last one of its key: Slurm takes the last value, save of keys that add up, as NodeName"]


class SlurmdbdSetting(SlurmSetting):
    """A line of the configuration of Slurm's accounting daemon. One that is not there has its default. Source: slurmdbd.conf(5)."""


@dataclass(frozen=True)
class SlurmPlugin:
    """A SPANK plugin that runs within slurmd's job steps and srun. Source: spank(8), plugstack.conf."""

    file: Annotated[str, "File that names it"]
    line: Annotated[int, "Number of the line"]
    required: Annotated[bool, "Jobs fail without it"]
    path: Annotated[str, "Plugin: a path, or a name in PluginDir"]
    arguments: Annotated[str, "Its arguments; secrets are reduced"]


def _uncommented(line: str) -> str:
    """A line up to its comment: a `#` before which no odd number of backslashes stands."""
    if "#" not in line:
        return line
    escaped = False
    for place, char in enumerate(line):
        if char == "#" and not escaped:
            return line[:place]
        escaped = char == "\\" and not escaped
    return line


def lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) without comments and escapes, continued lines joined. Source: slurm, src/common/parse_config.c."""
    whole, first = "", 0
    for number, raw in enumerate(text.split("\n"), 1):
        if not whole and raw.strip()[:1] in ("", "#"):
            continue
        line = _uncommented(raw)
        first = first or number
        bare = line.rstrip()
        if (len(bare) - len(bare.rstrip("\\"))) % 2:
            whole += bare[:-1]
            continue
        yield first, re.sub(r"\\(.?)", r"\1", whole + line)
        whole, first = "", 0
    if whole:
        yield first, re.sub(r"\\(.?)", r"\1", whole)


def _rows(
    evidence: Bundle, source: Source, texts: Mapping[str, Any], path: str, root: tuple[str, str], seen: set[str]
) -> Iterator[SlurmSetting]:
    """The settings of a file, those of included files in their place; what is not understood is a gap."""
    text = texts.get(path, {}).get("text")
    if not isinstance(text, str) or path in seen or len(seen) > 200:
        evidence.gap(source, f"{path} is included twice" if path in seen else f"{path} was not read")
        return
    seen.add(path)
    for number, line in lines(text):
        if included := re.match(r"(?i)include\s+(\S+)", line):
            yield from _rows(evidence, source, texts, posixpath.join(posixpath.dirname(path), included[1]), root, seen)
        elif match := re.match(r'\s*([\w.]+)\s*=\s*(?:"([^"]*)"|(\S+))(?=\s|$)', line, re.ASCII):
            value, rest = match[2] if match[2] is not None else match[3], line[match.end() :].strip()
            if rest and match[1].lower() not in _WITH_OPTIONS:
                evidence.gap(source, f"{path}:{number} goes on behind the value of {match[1]}, and Slurm refuses the file")
            yield SlurmSetting(*root, match[1].lower(), value, rest, path, number, True)
        elif line.strip():
            evidence.gap(source, f"{path}:{number} is no setting")


def _settings(evidence: Bundle, source: Source, names: Iterable[str]) -> Iterator[SlurmSetting]:
    texts = evidence.entries(source)
    for folder in FOLDERS:
        for name in names:
            path = f"{folder}/{name}"
            if path not in texts:
                continue
            rows = list(islice(_rows(evidence, source, texts, path, (folder, name), set()), _LIMIT + 1))
            if len(rows) > _LIMIT:
                evidence.gap(source, f"{path}: more than {_LIMIT} settings")
                return
            last = {row.key: number for number, row in enumerate(rows)}
            many = {row.key for row in rows if row.rest} | _ADDING
            for number, row in enumerate(rows):
                yield row if row.key in many or last[row.key] == number else replace(row, in_force=False)


_WITH_OPTIONS = frozenset(
    "nodename partitionname nodeset downnodes frontendname switchname blockname ringname name basepath poweraction".split()
)
"""Keys whose line goes on with options; after any other nothing may follow. Source: slurm, S_P_ARRAY with a handler, s_p_parse_file."""
_ADDING = _WITH_OPTIONS | {"slurmctldhost", "prolog", "epilog", "prologslurmctld", "epilogslurmctld"}
"""Keys of which each line counts."""


def parse_settings(evidence: Bundle) -> Iterable[SlurmSetting]:
    """A row per setting; no rows where no file is there."""
    return _settings(evidence, SETTINGS, _NAMES)


def parse_dbd(evidence: Bundle) -> Iterable[SlurmSetting]:
    """A row per setting of the accounting daemon."""
    return _settings(evidence, DBD, ("slurmdbd.conf",))


def parse_plugstack(evidence: Bundle) -> Iterable[SlurmPlugin]:
    """A row per plugin; included files are among the entries."""
    texts = evidence.entries(PLUGSTACK)
    for path, entry in texts.items():
        if not isinstance(entry.get("text"), str):
            evidence.gap(PLUGSTACK, f"{path}: no text")
            continue
        for number, line in enumerate(entry["text"].split("\n"), 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            if words[0].lower() == "include" and len(words) == 2:
                name = posixpath.join(posixpath.dirname(path), words[1])
                if not re.search(r"[*?[]", name) and name not in texts:
                    evidence.gap(PLUGSTACK, f"{path}:{number} includes {name}, which was not read")
            elif words[0].lower() in ("required", "optional") and len(words) > 1:
                yield SlurmPlugin(path, number, words[0].lower() == "required", words[1], " ".join(words[2:]))
            else:
                evidence.gap(PLUGSTACK, f"{path}:{number} is no plugin")


TABLES = (
    Table("slurm_settings", SlurmSetting, (SETTINGS,), parse_settings),
    Table("slurmdbd_settings", SlurmdbdSetting, (DBD,), parse_dbd),
    Table("slurm_plugins", SlurmPlugin, (PLUGSTACK,), parse_plugstack),
)
