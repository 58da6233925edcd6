# SPDX-License-Identifier: Apache-2.0
"""Kernel modules: those that are loaded, whether unsigned ones may be, and what keeps or makes them load."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table, Unread, integer
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.facts.dropins import drop_ins, folders, sources
from fleet_audit.model import Source, SourceId, Status

_KERNEL, _PARAMETERS = "/proc/sys/kernel", "/sys/module/module/parameters"
LOADED = Source(
    SourceId("modules-loaded"), "command", {"argv": ["cat", "/proc/modules"], "unprivileged": True},
    "proc_modules(5). Read as nobody: to root the kernel shows each module's address, which is a secret of the node.",
    when_exists="/proc/modules",
)  # fmt: skip
SUPPORT = Source(
    SourceId("modules-support"), "stat", {"globs": [_KERNEL, "/proc/modules", "/sys/module", f"{_PARAMETERS}/sig_enforce"]},
    "proc_modules(5): not there where the kernel cannot load modules; /proc/sys/kernel shows that /proc is there at all.",
)  # fmt: skip
SIGNING = Source(
    SourceId("modules-signing"), "attrs", {"globs": [_PARAMETERS, _KERNEL], "names": ["sig_enforce", "modules_disabled"]},
    "Kernel documentation, admin-guide/module-signing and admin-guide/sysctl/kernel: Y or N, and 1 or 0.",
)  # fmt: skip
MODPROBE, MODPROBE_STAT = sources("modprobe.d", "modprobe.d(5).")
LOAD, LOAD_STAT = sources("modules-load.d", "modules-load.d(5).")


@dataclass(frozen=True)
class KernelModule:
    """A module that is loaded. No rows: none is, or the kernel cannot load any. Source: /proc/modules."""

    name: Annotated[str, "Name, with underscores"]
    size_bytes: Annotated[int, "Memory that it takes"]
    references: Annotated[int | None, "Users of it; NULL: not told, by kernels that unload none"]
    used_by: Annotated[list[str], "Modules that use it"]
    state: Annotated[str, "Live, Loading or Unloading"]
    taints: Annotated[str, "Letters of the kernel's taints, such as OE: P proprietary, O out of tree, E unsigned, F forced, C staging"]


@dataclass(frozen=True)
class ModuleLoading:
    """Whether modules may be loaded now, and which. Source: module signing, /proc/sys/kernel."""

    possible: Annotated[bool, "The kernel can load modules at all"]
    disabled: Annotated[bool | None, "modules_disabled: none more until the next boot; NULL: not told"]
    signatures_enforced: Annotated[
        bool | None, "Only signed ones; lockdown enforces it too. False also where the kernel knows no signatures"
    ]


@dataclass(frozen=True)
class ModprobeRule:
    """A line that tells modprobe what to do with a module. No rows: none does. Source: modprobe.d(5)."""

    file: Annotated[str, "File"]
    line: Annotated[int, "Number of the line on which it begins"]
    directive: Annotated[str, "blacklist, install, remove, options, alias, softdep or another"]
    module: Annotated[str, "Module, with underscores; of an alias the module that it stands for"]
    argument: Annotated[str, "What follows: a command, options, an alias"]
    blocks: Annotated[bool, "`install` with a command that loads nothing: also modprobe by name fails"]
    effective: Annotated[bool, "No file of the same name in a folder before it replaces it"]


@dataclass(frozen=True)
class ModuleLoad:
    """A module that is loaded at boot whether needed or not. No rows: none is. Source: modules-load.d(5)."""

    file: Annotated[str, "File"]
    module: Annotated[str, "Module, with underscores"]
    effective: Annotated[bool, "No file of the same name in a folder before it replaces it"]


_MODULE = re.compile(
    r"(\w+) (\d{1,12}) (-|-?\d{1,9}) (-|(?:\w+,|\[permanent\],)+) (Live|Loading|Unloading) 0x[0-9a-f]+(?: \(([A-Z]*)[+-]?\))?"
)
_NOTHING = re.compile(r"(?:/usr)?(?:/bin/)?(?:true|false|:)|exec (?:/usr)?/bin/(?:true|false)|exit \d+")


def _support(evidence: Bundle) -> dict[str, Any]:
    there = evidence.entries(SUPPORT)
    if _KERNEL not in there:
        raise Unread(f"{SUPPORT.id}: no {_KERNEL}")
    return there


def parse_loaded(evidence: Bundle) -> Iterable[KernelModule]:
    """A row per module."""
    if evidence.item(LOADED).status is Status.SKIPPED:
        if "/proc/modules" in _support(evidence) or evidence.gaps:
            raise Unread(f"{LOADED.id}: skipped, yet /proc/modules is there")
        return
    for line in whole_lines(evidence, LOADED).splitlines():
        if (match := _MODULE.fullmatch(line)) is None:
            evidence.gap(LOADED, "a line that is no module")
            continue
        name, size, references, users, state, taints = match.groups()
        used_by = [user for user in users.split(",") if user not in ("", "-", "[permanent]")]
        yield KernelModule(name, int(size), integer(references), used_by, state, taints or "")


def parse_loading(evidence: Bundle) -> Iterable[ModuleLoading]:
    """One row."""
    there, found = _support(evidence), evidence.entries(SIGNING)
    disabled = _switch(evidence, found, _KERNEL, "modules_disabled", {"1": True, "0": False})
    enforced = _switch(evidence, found, _PARAMETERS, "sig_enforce", {"Y": True, "N": False})
    if enforced is None and "/sys/module" in there and f"{_PARAMETERS}/sig_enforce" not in there and not evidence.gaps:
        enforced = False
    yield ModuleLoading("/proc/modules" in there, disabled, enforced)


def _switch(evidence: Bundle, found: dict[str, dict[str, Any]], folder: str, name: str, words: dict[str, bool]) -> bool | None:
    content = found.get(folder, {}).get(name)
    known = words.get(content) if isinstance(content, str) else None
    if known is None and content is not None:
        evidence.gap(SIGNING, f"{folder}/{name} not read or not understood")
    return known


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) of each that says something; a backslash at its end goes on with the next."""
    begin, whole = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        begin, whole = (begin, whole + line) if whole else (number, line)
        if whole.endswith("\\"):
            whole = whole[:-1] + " "
            continue
        if whole.strip() and whole.strip()[0] not in "#;":
            yield begin, whole.strip()
        whole = ""
    if whole.strip() and whole.strip()[0] not in "#;":
        yield begin, whole.strip()


def parse_rules(evidence: Bundle) -> Iterable[ModprobeRule]:
    """A row per line."""
    for file in drop_ins(evidence, MODPROBE, MODPROBE_STAT, folders("modprobe.d")):
        for number, line in _lines(file.text):
            words = line.split(None, 2)
            if len(words) < 2 or (words[0] == "alias" and len(words) < 3):
                evidence.gap(MODPROBE, f"{file.path}:{number} is no rule")
                continue
            directive, name, argument = words[0], words[1], words[2] if len(words) > 2 else ""
            if directive == "alias":
                name, argument = argument, name
            blocks = directive == "install" and _NOTHING.fullmatch(argument) is not None
            yield ModprobeRule(file.path, number, directive, name.replace("-", "_"), argument, blocks, file.counts)


def parse_loads(evidence: Bundle) -> Iterable[ModuleLoad]:
    """A row per file and module; what follows a name are options, which systemd does not take."""
    for file in drop_ins(evidence, LOAD, LOAD_STAT, folders("modules-load.d")):
        for number, line in _lines(file.text):
            name = line.split()[0]
            if not re.fullmatch(r"[\w-]+", name, re.ASCII):
                evidence.gap(LOAD, f"{file.path}:{number} is no module")
                continue
            yield ModuleLoad(file.path, name.replace("-", "_"), file.counts)


TABLES = (
    Table("kernel_modules", KernelModule, (LOADED, SUPPORT), parse_loaded),
    Table("module_loading", ModuleLoading, (SUPPORT, SIGNING), parse_loading),
    Table("modprobe_rules", ModprobeRule, (MODPROBE, MODPROBE_STAT), parse_rules),
    Table("modules_load", ModuleLoad, (LOAD, LOAD_STAT), parse_loads),
)
