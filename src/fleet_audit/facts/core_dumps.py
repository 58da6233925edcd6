# SPDX-License-Identifier: Apache-2.0
"""Dumps of crashed programs, GPU ones too: who makes them, where they go, who may read them. They hold whatever was in memory."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, value
from fleet_audit.facts.processes import PROCESSES, documents
from fleet_audit.facts.texts import lines, of_systemd, places, settings
from fleet_audit.model import Source, SourceId, Status

PATTERN = Source(
    SourceId("core-pattern"), "file", {"paths": ["/proc/sys/kernel/core_pattern"]},
    "core(5): a file name, after a pipe sign a program that takes the dump, after @ a socket (Linux 6.16); empty: none, unless core_uses_pid.",
)  # fmt: skip
DUMPABLE = Source(
    SourceId("suid-dumpable"), "file", {"paths": ["/proc/sys/fs/suid_dumpable"]}, "proc_sys_fs(5): 0 no, 1 all, 2 readable by root alone.",
)  # fmt: skip
COREDUMP = of_systemd("coredump-conf", "coredump.conf", "coredump.conf(5): section [Coredump].")
MANAGER = of_systemd("systemd-manager-conf", "system.conf", "systemd-system.conf(5): section [Manager], DefaultLimitCORE=.")
HANDLERS = Source(
    SourceId("core-handlers"), "stat",
    {"globs": ["/usr/lib/systemd/systemd-coredump", "/lib/systemd/systemd-coredump", "/usr/share/apport/apport", "/usr/libexec/abrt-hook-ccpp"]},
    "Programs that take dumps: systemd-coredump(8), Ubuntu's apport, abrt.",
)  # fmt: skip
APPORT = Source(
    SourceId("apport-default"), "file", {"paths": ["/etc/default/apport"], "keep": ["enabled"]}, "Ubuntu's apport: enabled=1 or 0."
)
LIMITS = Source(
    SourceId("core-limits"), "files", {"globs": ["/etc/security/limits.conf", "/etc/security/limits.d/*.conf"], "cap_each": 1 << 16},
    "limits.conf(5): domain, type, item, value, for logins by PAM; files of limits.d come after, by name. Services follow systemd's limits.",
)  # fmt: skip
FOLDERS = Source(
    SourceId("core-folders"), "stat",
    {"globs": [path for folder in ("/var/lib/systemd/coredump", "/var/crash", "/var/core", "/var/lib/apport/coredump", "/var/spool/abrt", "/cores")
               for path in (folder, f"{folder}/*")] + ["/var/crash/*/*"]},
    "Where dumps lie by default: coredump.conf(5), kdump, apport, abrt; /var/core and /cores by habit.",
    needs_root=True,
)  # fmt: skip
GPU_DEFAULTS = Source(
    SourceId("gpu-core-defaults"), "files",
    {"globs": ["/etc/environment", "/etc/environment.d/*.conf", "/etc/profile", "/etc/profile.d/*.sh", "/etc/slurm/prolog.d/*"],
     "keep": [f"{indent}{start}CUDA_{name}" for indent in ("", "  ", "    ", "\t") for start in ("", "export ")
              for name in ("ENABLE_", "COREDUMP_")],
     "cap_each": 1 << 16},
    "CUDA-GDB documentation, GPU core dump support: variables that processes start with.",
)  # fmt: skip


@dataclass(frozen=True)
class CoreDumps:
    """What the kernel does with a crashed program's memory. Source: core(5)."""

    pattern: Annotated[str, "Pattern of the file, or the program behind a pipe sign"]
    handler: Annotated[
        str,
        "What takes the dumps: systemd-coredump, apport or abrt, each where distributions put it; else the program's or socket's path; "
        "empty: the kernel writes a file",
    ]
    absolute: Annotated[bool, "Files go to one place; else into the program's working folder, maybe shared"]
    suid_dumpable: Annotated[int | None, "Set-user-ID programs: 0 are not dumped, 1 are, 2 for root alone"]


@dataclass(frozen=True)
class SystemdCoredump:
    """How systemd-coredump keeps dumps; no row where it is not installed. NULL: the built-in default. Source: coredump.conf(5)."""

    storage: Annotated[str, "external (a file, the default), journal or none"]
    process_size_max: Annotated[str | None, "Size of a process up to which it is processed, as written; 0: never"]
    external_size_max: Annotated[str | None, "Size of a file at most, as written"]
    max_use: Annotated[str | None, "Space that dumps may take, as written"]
    journal_size_max: Annotated[str | None, "Size of an entry of the journal at most, as written"]
    keeps_nothing: Annotated[
        bool, "No dump is kept: storage none, or its own size is 0. process_size_max says what is processed, and not what is kept"
    ]


@dataclass(frozen=True)
class CoreLimit:
    """A limit on the size of core dumps for logins, in the order in which PAM reads them. Source: limits.conf(5)."""

    file: Annotated[str, "File"]
    domain: Annotated[str, "User, @group or *"]
    type: Annotated[str, "soft, hard or - for both"]
    value: Annotated[str, "KiB, or unlimited; 0: no dumps"]
    position: Annotated[int, "Place in the whole order, from 0"]


@dataclass(frozen=True)
class ServiceCoreLimit:
    """The limit that services start with; a unit may set another. Always one row. Source: systemd-system.conf(5), systemd.exec(5)."""

    value: Annotated[str | None, "DefaultLimitCORE as written, soft:hard or both in one; 0: no dumps; NULL: not set, no limit"]


@dataclass(frozen=True)
class CoreFolder:
    """A folder of dumps that is there; those in /var/crash, which kdump makes, too, if others come that far. Source: stat(2)."""

    path: Annotated[str, "Folder"]
    mode: Annotated[int, "Mode bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    files: Annotated[int, "Files in it"]
    files_open: Annotated[int, "Those of them that everybody may read"]
    folders: Annotated[int, "Folders in it"]
    folders_open: Annotated[
        int, "Those of them that everybody may enter, and that have no row of their own: what they hold was not looked at"
    ]


@dataclass(frozen=True)
class GpuCoreDump:
    """A process that writes the GPU's memory to a file when its kernel fails. Source: CUDA-GDB documentation, processes."""

    pid: Annotated[int, "Process"]
    name: Annotated[str | None, "Its name"]
    uid: Annotated[int, "Who runs it"]
    enabled: Annotated[bool, "CUDA_ENABLE_COREDUMP_ON_EXCEPTION is 1"]
    file: Annotated[str | None, "CUDA_COREDUMP_FILE; NULL: core_TIME_HOST_PID.nvcudmp in its working folder"]


@dataclass(frozen=True)
class GpuCoreDefault:
    """A CUDA core dump variable that logins or jobs start with. No row: none is set. Source: CUDA-GDB documentation."""

    file: Annotated[str, "File that sets it"]
    name: Annotated[str, "Variable"]
    value: Annotated[str, "Its value"]


@dataclass(frozen=True)
class Apport:
    """Whether Ubuntu's apport takes dumps from the next boot on; no row: it is not installed. Source: /etc/default/apport."""

    enabled: Annotated[bool, "It is switched on, as is the default"]


_HANDLERS = {path: next(word for word in ("systemd-coredump", "apport", "abrt") if word in path) for path in HANDLERS.args["globs"]}


def parse_kernel(evidence: Bundle) -> Iterable[CoreDumps]:
    """One row."""
    found = lines(evidence, PATTERN)
    if evidence.gaps or len(found) > 1:
        raise NotUnderstood(f"{PATTERN.id}: not one line")
    pattern = found[0] if found else ""
    mode = integer(evidence.line(DUMPABLE))
    if evidence.item(DUMPABLE).status is Status.OK and mode not in (0, 1, 2):
        evidence.gap(DUMPABLE, "none of its numbers")
        mode = None
    program = next(iter(pattern.lstrip("|@").split()), pattern) if pattern.startswith(("|", "@")) else ""
    yield CoreDumps(pattern, _HANDLERS.get(program, program), pattern.startswith(("/", "|", "@")), mode)


def parse_systemd(evidence: Bundle) -> Iterable[SystemdCoredump]:
    """One row where systemd-coredump is installed. Source: systemd, src/coredump: storage_size_max, maybe_remove_external_coredump."""
    if not any("systemd-coredump" in path for path in places(evidence, HANDLERS)):
        return
    given = {name: values[-1] for name, values in settings(evidence, COREDUMP, "Coredump").items()}
    storage = given.get("Storage", "external")
    if storage not in ("external", "journal", "none"):
        evidence.gap(COREDUMP, "a storage that is not known: the default holds")
        storage = "external"
    size = given.get({"external": "ExternalSizeMax", "journal": "JournalSizeMax"}.get(storage, ""), "")
    nothing = storage == "none" or re.fullmatch(r"0+[KMGTPE]?", size) is not None
    yield SystemdCoredump(
        storage, given.get("ProcessSizeMax"), given.get("ExternalSizeMax"), given.get("MaxUse"), given.get("JournalSizeMax"), nothing
    )


def parse_limits(evidence: Bundle) -> Iterable[CoreLimit]:
    """A row per line that is about core dumps."""
    position = 0
    for path, entry in sorted(evidence.entries(LIMITS).items(), key=lambda item: ("/limits.d/" in item[0], item[0])):
        for line in str(entry.get("text", "")).split("\n"):
            words = line.partition("#")[0].split()
            if len(words) == 4 and words[1] in ("soft", "hard", "-"):
                if words[2] == "core":
                    yield CoreLimit(path, words[0], words[1], words[3], position)
                    position += 1
            elif words and words[1:] != ["-"]:
                evidence.gap(LIMITS, f"{path}: a line that is no limit")


def parse_services(evidence: Bundle) -> Iterable[ServiceCoreLimit]:
    """One row."""
    given = settings(evidence, MANAGER, "Manager").get("DefaultLimitCORE")
    yield ServiceCoreLimit(given[-1] if given else None)


def parse_folders(evidence: Bundle) -> Iterable[CoreFolder]:
    """A row per folder that is there."""
    there = evidence.entries(FOLDERS)
    for folder in (path for path in FOLDERS.args["globs"] if not path.endswith("*")):
        entry = there.get(folder)
        if entry is None or entry.get("type") != "dir":
            if entry is not None and entry.get("type") == "link":
                evidence.gap(FOLDERS, f"{folder}: a link, to what was not looked at")
            continue
        row = _folder(evidence, there, folder, entry)
        if row is not None:
            yield row
        if row is not None and folder == _KDUMP and row.mode & 0o001:
            inner = {path: found for path, found in there.items() if path.rpartition("/")[0] == folder and found.get("type") == "dir"}
            yield from (one for path, found in inner.items() if (one := _folder(evidence, there, path, found)))


_KDUMP = "/var/crash"


def _folder(evidence: Bundle, there: Mapping[str, Mapping[str, Any]], folder: str, entry: Mapping[str, Any]) -> CoreFolder | None:
    mode, uid, gid = (entry.get(name) for name in ("mode", "uid", "gid"))
    if type(mode) is not int or type(uid) is not int or type(gid) is not int:
        evidence.gap(FOLDERS, f"{folder}: not understood")
        return None
    inside = [found for path, found in there.items() if path.rpartition("/")[0] == folder]
    folders = [found for found in inside if found.get("type") == "dir"]
    files = [found for found in inside if found.get("type") != "dir"]
    entered = 0 if folder == _KDUMP else _open(folders, 0o001)
    return CoreFolder(folder, mode, uid, gid, len(files), _open(files, 0o004), len(folders), entered)


def _open(found: Iterable[Mapping[str, Any]], bit: int) -> int:
    return sum(type(bits := one.get("mode")) is int and bool(bits & bit) and one.get("type") != "link" for one in found)


def parse_gpu(evidence: Bundle) -> Iterable[GpuCoreDump]:
    """A row per process whose environment names either variable; environments that may not be read are a gap."""
    hidden = 0
    for process in documents(evidence):
        variables, pid, uid = process.get("env"), process.get("pid"), process.get("uid")
        if not isinstance(variables, dict) or type(pid) is not int or type(uid) is not int:
            hidden += 1
        elif any(name.startswith(("CUDA_ENABLE_COREDUMP", "CUDA_COREDUMP")) for name in variables):
            comm = process.get("comm")
            enabled = str(variables.get("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "")).strip() == "1"
            yield GpuCoreDump(pid, comm if isinstance(comm, str) else None, uid, enabled, value(variables.get("CUDA_COREDUMP_FILE")))
    if hidden:
        evidence.gap(PROCESSES, f"environments of {hidden} processes not readable")


def parse_gpu_defaults(evidence: Bundle) -> Iterable[GpuCoreDefault]:
    """A row per variable and file."""
    for path, entry in evidence.entries(GPU_DEFAULTS).items():
        for line in str(entry.get("text", "")).split("\n"):
            name, equals, text = line.strip().removeprefix("export ").partition("=")
            if equals and "COREDUMP" in name:
                yield GpuCoreDefault(path, name.strip(), text.strip().strip("\"'"))


def parse_apport(evidence: Bundle) -> Iterable[Apport]:
    """One row where apport is installed."""
    if "/usr/share/apport/apport" in places(evidence, HANDLERS):
        text = evidence.optional(APPORT) or ""
        found = re.findall(r"^enabled=[\"']?(\w*)", text, re.M)
        if text.strip() and not found:
            evidence.gap(APPORT, "no enabled= in it")
        yield Apport(found[-1] != "0" if found else True)


TABLES = (
    Table("core_dumps", CoreDumps, (PATTERN, DUMPABLE), parse_kernel),
    Table("systemd_coredump", SystemdCoredump, (COREDUMP, HANDLERS), parse_systemd),
    Table("core_limits", CoreLimit, (LIMITS,), parse_limits),
    Table("service_core_limit", ServiceCoreLimit, (MANAGER,), parse_services),
    Table("core_folders", CoreFolder, (FOLDERS,), parse_folders),
    Table("gpu_core_dumps", GpuCoreDump, (PROCESSES,), parse_gpu),
    Table("gpu_core_defaults", GpuCoreDefault, (GPU_DEFAULTS,), parse_gpu_defaults),
    Table("apport", Apport, (APPORT, HANDLERS), parse_apport),
)
