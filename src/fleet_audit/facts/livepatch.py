# SPDX-License-Identifier: Apache-2.0
"""Live patching of the kernel: Canonical's client, the kernel's own view, kpatch."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe, timestamp, value
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.model import Source, SourceId, Status

CLIENT = Source(
    SourceId("livepatch-status"),
    "command",
    {"argv": ["canonical-livepatch", "status", "--verbose", "--format", "json"], "redact": True},
    "Ubuntu Livepatch documentation, client status: JSON; where not enabled it says so on stderr and fails.",
)
PLACES = Source(
    SourceId("livepatch-places"),
    "stat",
    {"globs": ["/snap/bin/canonical-livepatch", "/snap/canonical-livepatch", "/var/lib/snapd/snap/canonical-livepatch"]},
    "snapd documentation, system paths: where the client's snap is mounted, on Ubuntu and elsewhere.",
)
MODULES = Source(
    SourceId("livepatch-modules"),
    "attrs",
    {"globs": ["/sys/kernel/livepatch/*"], "names": ["enabled", "transition"]},
    "Kernel documentation, ABI/testing/sysfs-kernel-livepatch: a folder per patch, 1 or 0 in its files.",
)
FOLDER = Source(
    SourceId("livepatch-folder"),
    "stat",
    {"globs": ["/sys/kernel", "/sys/kernel/livepatch"]},
    "The folder is there where the kernel can live patch; /sys/kernel shows that sysfs is there at all.",
)
KPATCH = Source(
    SourceId("kpatch-list"),
    "command",
    {"argv": ["kpatch", "list"]},
    "kpatch(1): `Loaded patch modules:` with `name [state]`, `Installed patch modules:`, `name (kernel)`.",
)


@dataclass(frozen=True)
class LivepatchClient:
    """What Canonical's Livepatch client says of the running kernel. Source: canonical-livepatch status."""

    installed: Annotated[bool, "The client is installed"]
    enabled: Annotated[bool | None, "It is enabled with a token; NULL where it is not installed"]
    client_version: Annotated[str | None, "Version of the client, without a leading v"]
    kernel: Annotated[
        str | None,
        "The running kernel as it prints it, as 6.8.0-60.63-generic; NULL, like the next five, if it says of none or several that they run",
    ]
    check_state: Annotated[str | None, "checked, needs-check, check-failed or another word"]
    state: Annotated[
        str | None,
        "applied, nothing-to-apply, unapplied, applied-with-bug, apply-failed, applying, kernel-upgrade-required, unknown or another word",
    ]
    patch_version: Annotated[str | None, "Version of the patch; NULL if there is none"]
    supported: Annotated[
        str | None,
        "supported, kernel-upgrade-required, kernel-end-of-life, unsupported, unknown or another word; NULL: clients before 10 do not say",
    ]
    fixes: Annotated[list[str] | None, "CVEs that it says are patched, sorted; NULL if it does not say"]
    last_check_at: Annotated[datetime | None, "When it last asked for patches; NULL: never"]
    tier: Annotated[str | None, "Which patches it gets, and when"]


@dataclass(frozen=True)
class LivepatchModule:
    """A live patch that the kernel has loaded, whoever made it. Source: /sys/kernel/livepatch."""

    name: Annotated[str, "Module"]
    enabled: Annotated[bool | None, "The patch is enabled; effective only without a transition"]
    transition: Annotated[bool | None, "It still converges: some tasks run the old code"]
    vendor: Annotated[str, "canonical, kpatch or other: by the name"]
    kernel: Annotated[str | None, "The kernel it is for, where the name of a module of Canonical tells it"]


@dataclass(frozen=True)
class KpatchModule:
    """A module of kpatch, loaded, installed or both. Source: kpatch(1) list."""

    name: Annotated[str, "Module, as the kernel names it"]
    kernel: Annotated[str | None, "The kernel it is installed for; NULL for one that is only loaded"]
    loaded: Annotated[bool, "In the running kernel"]
    installed: Annotated[bool, "Loaded again at boot"]
    state: Annotated[str | None, "enabled, disabled, enabling..., disabling...; NULL: kpatch does not say"]


# --- Canonical's client ---------------------------------------------------------------------------

_CVE = re.compile(r"(?<![0-9A-Za-z])CVE-[0-9]{4}-[0-9]{4,19}(?![0-9A-Za-z])", re.IGNORECASE)


def parse_client(evidence: Bundle) -> Iterable[LivepatchClient]:
    """One row, or none where it is not known whether there is a client."""
    item = evidence.item(CLIENT)
    if item.status is Status.ABSENT:
        there = evidence.entries(PLACES)
        if there or evidence.gaps:
            why = ", ".join(there) or evidence.gaps[0]
            raise Unread(f"{describe(CLIENT, item)}; yet it may be installed: {why}")
        return [_client(installed=False)]
    if item.status is Status.FAILED and item.exit and "Machine is not enabled" in item.detail:
        return [_client(enabled=False)]
    return [_said(evidence, _folded(evidence.document(CLIENT)))]


def _client(*, installed: bool = True, enabled: bool | None = None, **said: Any) -> LivepatchClient:
    names = ("client_version", "kernel", "check_state", "state", "patch_version", "supported", "fixes", "last_check_at", "tier")
    return LivepatchClient(installed, enabled, **{name: said.get(name) for name in names})


def _folded(document: Any) -> Any:
    """JSON with its keys in lower case, without hyphens: spellings differ between versions and formats."""
    if isinstance(document, list):
        return [_folded(element) for element in document]
    if not isinstance(document, dict):
        return document
    folded = {key.lower().replace("-", ""): _folded(content) for key, content in document.items()}
    if len(folded) < len(document):
        raise NotUnderstood(f"{CLIENT.id}: a key in two spellings")
    return folded


def _said(evidence: Bundle, document: Any) -> LivepatchClient:
    if not isinstance(document, dict) or not {"clientversion", "status"} & set(document):
        raise NotUnderstood(f"{CLIENT.id}: neither Client-Version nor Status in it")
    running = _running(document.get("status"))
    patch = running.get("livepatch") or {}
    if not isinstance(patch, dict):
        raise NotUnderstood(f"{CLIENT.id}: Livepatch is no object")
    version = _text(document.get("clientversion"))
    state = _text(patch.get("state", patch.get("patchstate")), lower=True)
    return _client(
        enabled=True,
        kernel=_text(running.get("kernel")),
        state=state,
        check_state=_text(patch.get("checkstate"), lower=True),
        patch_version=_text(patch.get("version")),
        supported=_text(running.get("supported"), lower=True),
        fixes=_fixes(evidence, patch.get("fixes"), state),
        client_version=version.removeprefix("v") if isinstance(version, str) else version,
        last_check_at=_when(evidence, document.get("lastcheck")),
        tier=_text(document.get("tier")),
    )


def _running(entries: Any) -> dict[str, Any]:
    """The entry of the running kernel; empty if not exactly one says that it is."""
    if not isinstance(entries, list | None) or not all(isinstance(entry, dict) for entry in entries or ()):
        raise NotUnderstood(f"{CLIENT.id}: Status is no list of objects")
    running: list[dict[str, Any]] = [entry for entry in entries or () if entry.get("running") is True]
    return running[0] if len(running) == 1 else {}


def _text(content: Any, *, lower: bool = False) -> Any:
    """A text, NULL if it is blank; what is no text is left to the check of the row."""
    return value(content.lower() if lower else content) if isinstance(content, str) else content


def _fixes(evidence: Bundle, content: Any, state: Any) -> list[str] | None:
    """Patched CVEs: a list says of each whether it is; the text of old clients names those of the patch."""
    if isinstance(content, list):
        patched = []
        for fix in content:
            said = fix if isinstance(fix, dict) else {}
            if not isinstance(said.get("name"), str) or type(said.get("patched")) is not bool:
                evidence.gap(CLIENT, "a fix without Name and Patched")
            elif said["patched"]:
                patched += _CVE.findall(said["name"])
    elif isinstance(content, str) and content.strip():
        if state != "applied":
            return None
        patched = _CVE.findall(content)
    elif content in (None, ""):
        return [] if state == "nothing-to-apply" else None
    else:
        raise NotUnderstood(f"{CLIENT.id}: Fixes is neither list nor text")
    return sorted({cve.upper() for cve in patched})


def _when(evidence: Bundle, content: Any) -> datetime | None:
    """The last check. Go's zero time, year 1, is never."""
    if content in (None, "") or (isinstance(content, str) and content.startswith("0001-01-01T")):
        return None
    if (when := timestamp(content)) is None:
        evidence.gap(CLIENT, "Last-Check is not understood")
    return when


# --- The kernel's view, and kpatch ----------------------------------------------------------------

_CANONICAL = re.compile(r"(?:lkp|(?:kpatch_)?livepatch)_Ubuntu_")
_EXACT = re.compile(r"[a-z_]+_Ubuntu_(\d+)_(\d+)_(\d+)_(\d+)_(\d+)_([a-z]+)_\d+", re.ASCII)


def parse_modules(evidence: Bundle) -> Iterable[LivepatchModule]:
    """A row per patch. None and no folder: this kernel cannot live patch."""
    patches = evidence.entries(MODULES)
    if not patches and "/sys/kernel" not in evidence.entries(FOLDER):
        raise Unread(f"{FOLDER.id}: no /sys/kernel")
    for path, entry in patches.items():
        name = path.rpartition("/")[2]
        other = "kpatch" if name.startswith("kpatch_") else "other"
        vendor = "canonical" if _CANONICAL.match(name) else other
        kernel = _EXACT.fullmatch(name) if vendor == "canonical" else None
        yield LivepatchModule(
            name,
            _flag(evidence, path, entry, "enabled"),
            _flag(evidence, path, entry, "transition"),
            vendor,
            "{}.{}.{}-{}.{}-{}".format(*kernel.groups()) if kernel else None,
        )


def _flag(evidence: Bundle, path: str, entry: dict[str, Any], name: str) -> bool | None:
    content = entry.get(name)
    if content not in ("0", "1"):
        evidence.gap(MODULES, f"{path}/{name} not read or not understood")
    return {"0": False, "1": True}.get(content) if isinstance(content, str) else None


_LOADED = re.compile(r"([\w.-]+)(?: \[([a-z]+(?:\.\.\.)?)\])?")
_INSTALLED = re.compile(r"([\w.-]+) \(([\w.+~-]+)\)")


def parse_kpatch(evidence: Bundle) -> Iterable[KpatchModule]:
    """A row per module and kernel; no kpatch, no rows."""
    if evidence.item(KPATCH).status is Status.ABSENT:
        return []
    loaded: dict[str, str | None] = {}
    installed: list[tuple[str, str]] = []
    heads: list[str] = []
    for line in filter(None, map(str.strip, whole_lines(evidence, KPATCH).splitlines())):
        if line.endswith(":"):
            heads.append(line)
        elif heads[-1:] == ["Loaded patch modules:"] and (match := _LOADED.fullmatch(line)):
            loaded[_module(match[1])] = match[2]
        elif heads[-1:] == ["Installed patch modules:"] and (match := _INSTALLED.fullmatch(line)):
            installed.append((_module(match[1]), match[2]))
        else:
            evidence.gap(KPATCH, "a line is no module")
    if not {"Loaded patch modules:", "Installed patch modules:"} <= set(heads):
        raise NotUnderstood(f"{KPATCH.id}: not both blocks in it")
    only = loaded.keys() - {name for name, _ in installed}
    rows = [KpatchModule(name, kernel, name in loaded, True, loaded.get(name)) for name, kernel in installed]
    return rows + [KpatchModule(name, None, True, False, loaded[name]) for name in sorted(only)]


def _module(name: str) -> str:
    """The kernel's name of a module file. Source: kpatch's own rule, `-` to `_` and no suffix."""
    return name.removesuffix(".ko").replace("-", "_")


TABLES = (
    Table("livepatch_client", LivepatchClient, (CLIENT, PLACES), parse_client),
    Table("livepatch_modules", LivepatchModule, (MODULES, FOLDER), parse_modules),
    Table("kpatch_modules", KpatchModule, (KPATCH,), parse_kpatch),
)
