# SPDX-License-Identifier: Apache-2.0
"""Shares of other file servers, by their configuration: Samba, rsync as a server, iSCSI, NVMe. Whether they run is told by `sockets`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.model import Source, SourceId

SAMBA = Source(
    SourceId("samba-conf"), "files", {"globs": ["/etc/samba/smb.conf"], "redact": True},
    "smb.conf(5): a section for each share; [global] gives defaults.",
)  # fmt: skip
RSYNC = Source(
    SourceId("rsyncd-conf"), "files", {"globs": ["/etc/rsyncd.conf"], "redact": True},
    "rsyncd.conf(5): a section for each module; what stands before the first is for all.",
)  # fmt: skip
LIO = Source(
    SourceId("iscsi-target-groups"), "attrs",
    {"globs": ["/sys/kernel/config/target/iscsi/*/tpgt_*"],
     "names": ["enable", "attrib/authentication", "attrib/generate_node_acls", "attrib/demo_mode_write_protect"]},
    "Kernel documentation, target/tcm_mod_builder and ABI of configfs: portal groups of the kernel's iSCSI target. Its saved file holds secrets.",
)  # fmt: skip
NVMET = Source(
    SourceId("nvme-target-subsystems"),
    "attrs",
    {"globs": ["/sys/kernel/config/nvmet/subsystems/*"], "names": ["attr_allow_any_host"]},
    "Kernel source, drivers/nvme/target/configfs.c: subsystems that the kernel's NVMe target offers.",
)
TGT = Source(
    SourceId("tgt-targets"), "files", {"globs": ["/etc/tgt/targets.conf", "/etc/tgt/conf.d/*.conf"], "keep": ["<target "]},
    "targets.conf(5) of tgt: only the lines that begin a target, as others hold secrets.",
)  # fmt: skip


@dataclass(frozen=True)
class FileShare:
    """A share, module or target that is configured. No rows: none, or none in the usual files. Source: smb.conf(5), rsyncd.conf(5), ..."""

    kind: Annotated[str, "samba, rsync, iscsi or nvme"]
    name: Annotated[str, "Name of the share, module, target or subsystem"]
    path: Annotated[str | None, "Folder; NULL: of another kind, or not said"]
    writable: Annotated[bool | None, "It may be written; NULL: not told"]
    anonymous: Annotated[bool | None, "It is open without a password; NULL: not told"]
    clients: Annotated[list[str], "Hosts that are allowed, as written; empty: no such limit"]
    file: Annotated[str, "Where that is said"]


_YES, _NO = frozenset("yes true 1 on".split()), frozenset("no false 0 off".split())
_ALIASES = {
    "writeable": "readonly", "writable": "readonly", "writeok": "readonly", "public": "guestok", "directory": "path", "allowhosts": "hostsallow",
}  # fmt: skip
Settings = dict[str, str]


def sections(text: str, comments: str) -> tuple[Settings, list[tuple[str, Settings]], list[str]]:
    """(settings for all, sections in order, lines that are not understood); names without blanks, in small letters, the last of them holds."""
    everywhere: Settings = {}
    found: list[tuple[str, Settings]] = []
    odd: list[str] = []
    here = everywhere
    for line in text.replace("\\\n", " ").splitlines():
        words = line.strip()
        if not words or words[0] in comments:
            continue
        if words.startswith("[") and words.endswith("]"):
            name, here = words[1:-1].strip(), {}
            if name.lower() in ("global", "globals"):
                here = everywhere
            else:
                found.append((name, here))
            continue
        key, equals, value = words.partition("=")
        key, value = re.sub(r"[\s_]", "", key).lower(), value.strip()
        if not equals or words.startswith("&"):
            odd.append(words[:80])
        elif _ALIASES.get(key) == "readonly":  # the same parameter, turned round
            here["readonly"] = "no" if value.lower() in _YES else "yes" if value.lower() in _NO else value
        else:
            here[_ALIASES.get(key, key)] = value
    return everywhere, found, odd


def switch(settings: Settings, name: str, default: bool) -> bool | None:
    """A switch; None for what is neither yes nor no."""
    value = settings.get(name, "yes" if default else "no").lower()
    return True if value in _YES else False if value in _NO else None


def _writable(settings: Settings) -> bool | None:
    closed = switch(settings, "readonly", True)
    return None if closed is None else not closed


def _hosts(settings: Settings) -> list[str]:
    return [word for word in re.split(r"[\s,]+", settings.get("hostsallow", "")) if word]


def parse(evidence: Bundle) -> Iterator[FileShare]:
    """The rows of each kind; one that was not read is a gap."""
    for part in (_samba, _rsync, _lio, _nvmet, _tgt):
        try:
            yield from list(part(evidence))
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))


def _samba(evidence: Bundle) -> Iterator[FileShare]:
    for path, entry in evidence.entries(SAMBA).items():
        everywhere, found, odd = sections(str(entry.get("text", "")), "#;")
        for settings in (everywhere, *(own for _, own in found)):
            odd += [
                name
                for name in ("include", "copy", "registryshares", "configbackend")
                if settings.get(name, "no").lower() not in ("no", "file")
            ]
        if odd:
            evidence.gap(SAMBA, f"{path}: {odd[0]}: not followed")
        for name, own in found:
            settings = everywhere | own
            if switch(settings, "available", True) is not False:
                folder, anonymous = settings.get("path"), switch(settings, "guestok", False)
                yield FileShare("samba", name, folder, _writable(settings), anonymous, _hosts(settings), path)


def _rsync(evidence: Bundle) -> Iterator[FileShare]:
    for path, entry in evidence.entries(RSYNC).items():
        everywhere, found, odd = sections(str(entry.get("text", "")), "#")
        if odd:
            evidence.gap(RSYNC, f"{path}: {odd[0]}: not followed")
        for name, own in found:
            settings = everywhere | own
            yield FileShare("rsync", name, settings.get("path"), _writable(settings), not settings.get("authusers"), _hosts(settings), path)


def _lio(evidence: Bundle) -> Iterator[FileShare]:
    for path, entry in evidence.entries(LIO).items():
        values = {name: entry.get(name) for name in LIO.args["names"]}
        if any(value not in ("0", "1") for value in values.values()):
            evidence.gap(LIO, f"{path} is not understood")
            continue
        if values["enable"] == "1":
            everyone = values["attrib/generate_node_acls"] == "1"
            writable = None if not everyone else values["attrib/demo_mode_write_protect"] == "0"
            open_to_all = everyone and values["attrib/authentication"] == "0"
            yield FileShare("iscsi", path.split("/")[6], None, writable, open_to_all, [], path)


def _nvmet(evidence: Bundle) -> Iterator[FileShare]:
    for path, entry in evidence.entries(NVMET).items():
        everyone = {"0": False, "1": True}.get(str(entry.get("attr_allow_any_host")))
        if everyone is None:
            evidence.gap(NVMET, f"{path} is not understood")
        yield FileShare("nvme", path.rpartition("/")[2], None, None, everyone, [], path)


def _tgt(evidence: Bundle) -> Iterator[FileShare]:
    for path, entry in evidence.entries(TGT).items():
        for name in re.findall(r"(?m)^<target\s+([^>\s]+)>", str(entry.get("text", ""))):
            yield FileShare("iscsi", name, None, None, None, [], path)


TABLES = (Table("file_shares", FileShare, (SAMBA, RSYNC, LIO, NVMET, TGT), parse),)
