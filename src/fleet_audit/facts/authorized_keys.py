# SPDX-License-Identifier: Apache-2.0
"""Keys by which users log in over SSH: fingerprints and options. It cannot know keys that a command or a directory yields."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.accounts.metadata import metadata
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.ssh.config import CONFIG, parse_config
from fleet_audit.facts.ssh.keys import FIXED_BITS
from fleet_audit.model import Source, SourceId

NAMES = (
    ".ssh/authorized_keys", ".ssh/authorized_keys2", "/etc/ssh/authorized_keys/%u", "/etc/ssh/authorized_keys.d/%u",
)  # fmt: skip
KEYS = Source(
    SourceId("authorized-keys"), "keys", {"names": list(NAMES)},
    "sshd(8), AUTHORIZED_KEYS FILE FORMAT, for each local account: type, fingerprint and options; no comment and no command leaves the node.",
    needs_root=True,
)  # fmt: skip
FOLDERS = Source(
    SourceId("ssh-key-folders"), "stat", {"globs": ["/root/.ssh", "/etc/ssh/authorized_keys", "/etc/ssh/authorized_keys.d"]},
    "sshd(8), FILES: whoever can write these folders can add keys.",
    needs_root=True,
)  # fmt: skip
HOME_FOLDERS = Source(
    SourceId("ssh-home-folders"), "stat", {"globs": ["/home/*/.ssh"]},
    "The same of users, where distributions put homes; nothing of a /home on a network file system.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class AuthorizedKey:
    """A key that lets one in as a local user; one fingerprint with several users is one key. Source: sshd(8)."""

    user_name: Annotated[str, "Local user"]
    path: Annotated[str, "File that it stands in"]
    type: Annotated[str, "Key type, such as ssh-ed25519, ssh-rsa or sk-ssh-ed25519@openssh.com"]
    bits: Annotated[int | None, "Length in bits; NULL where it is not told, as of DSA keys and certificates"]
    fingerprint: Annotated[str, "SHA256:..., as ssh-keygen -l prints it"]
    options: Annotated[list[str], "Names of its options in lower case, such as from, command, restrict, cert-authority"]
    from_hosts: Annotated[str, "Hosts and addresses that it is limited to; empty: from anywhere"]
    mode: Annotated[int, "Permission bits of the file as a number: 384 is 0600"]
    uid: Annotated[int, "Owner of the file"]


@dataclass(frozen=True)
class AuthorizedKeysFile:
    """A file of authorised keys that is there, empty or not. Source: sshd(8), metadata."""

    path: Annotated[str, "Path"]
    user_name: Annotated[str, "First local user whose file it is"]
    key_count: Annotated[int, "Keys in it"]
    odd_line_count: Annotated[int, "Lines in it that are neither key nor comment"]
    mode: Annotated[int, "Permission bits as a number: 384 is 0600"]
    uid: Annotated[int, "Owner"]


@dataclass(frozen=True)
class SshUserFolder:
    """A folder with authorised keys in /home, of root, or of the system. Source: its metadata."""

    path: Annotated[str, "Path"]
    type: Annotated[str, "dir, link or another kind of file"]
    mode: Annotated[int, "Permission bits as a number: 448 is 0700; of a link they say nothing"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]


def _files(evidence: Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files that were read; a gap for each that was not, and for places that sshd looks at and we do not."""
    document = evidence.document(KEYS)
    if not isinstance(document, dict):
        raise NotUnderstood(f"{KEYS.id}: not an object")
    for path, entry in document.items():
        fields = [entry.get(name) for name in ("users", "mode", "uid", "odd", "keys")] if isinstance(entry, dict) else []
        if [type(field) for field in fields] == [list, int, int, int, list] and fields[0] and all(type(u) is str for u in fields[0]):
            yield path, entry
        else:
            said = (
                f"{entry.get('status')}: {entry.get('detail', '')}" if isinstance(entry, dict) and "status" in entry else "not understood"
            )
            evidence.gap(KEYS, f"{path} {said}")
    try:
        for row in parse_config(evidence):
            if row.keyword == "authorizedkeysfile" and row.counts:
                for name in row.value.split():
                    if name != "none" and re.sub(r"^%h/", "", name) not in NAMES:
                        evidence.gap(CONFIG, f"AuthorizedKeysFile {name} was not read")
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))


def parse_keys(evidence: Bundle) -> Iterator[AuthorizedKey]:
    """A row per key, file and user whose file it is; a line that is no key is a gap."""
    for path, entry in _files(evidence):
        if entry["odd"]:
            evidence.gap(KEYS, f"{path}: {entry['odd']} lines are no key")
        for key in entry["keys"]:
            fields: list[Any] = [key.get(name) for name in ("type", "fingerprint", "options")] if isinstance(key, dict) else []
            if [type(field) for field in fields] != [str, str, list]:
                evidence.gap(KEYS, f"{path}: a key is not understood")
                continue
            kind, fingerprint, options = fields
            bits = key.get("bits") or next((n for name, n in FIXED_BITS.items() if name in kind and "-cert-" not in kind), None)
            limited = str(key.get("from") or "")
            for user in entry["users"]:
                yield AuthorizedKey(user, path, kind, bits, fingerprint, options, limited, entry["mode"], entry["uid"])


def parse_files(evidence: Bundle) -> Iterator[AuthorizedKeysFile]:
    """A row per file that is there."""
    for path, entry in _files(evidence):
        yield AuthorizedKeysFile(path, entry["users"][0], len(entry["keys"]), entry["odd"], entry["mode"], entry["uid"])


def parse_folders(evidence: Bundle) -> Iterator[SshUserFolder]:
    """A row per folder that is there."""
    for source in (FOLDERS, HOME_FOLDERS):
        try:
            yield from (SshUserFolder(there.path, there.type, there.mode, there.uid, there.gid) for there in metadata(evidence, source))
        except Unread as unread:
            evidence.gaps.append(str(unread))


TABLES = (
    Table("ssh_authorized_keys", AuthorizedKey, (KEYS, CONFIG), parse_keys),
    Table("ssh_authorized_keys_files", AuthorizedKeysFile, (KEYS, CONFIG), parse_files),
    Table("ssh_user_folders", SshUserFolder, (FOLDERS, HOME_FOLDERS), parse_folders),
)
