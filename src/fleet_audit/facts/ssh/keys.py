# SPDX-License-Identifier: Apache-2.0
"""The server's host keys and the files of its configuration: public halves and metadata. No private key is read."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import LEADS_TO, metadata, with_targets
from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.ssh.config import CONFIG, parse_config
from fleet_audit.model import Source, SourceId

HOST_KEYS = Source(
    SourceId("ssh-host-keys"), "files", {"globs": ["/etc/ssh/ssh_host_*_key.pub"], "cap_each": 1 << 14},
    "sshd(8), Files: the public half of each host key, in the format of a line of authorized_keys.",
)  # fmt: skip
FILES = Source(
    SourceId("ssh-files"), "stat",
    {"globs": ["/etc/ssh", "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", "/etc/ssh/sshd_config.d/*", "/etc/ssh/ssh_host_*"],
     "targets": True},
    "sshd(8), Files: private keys may be read by root alone; who can write the others decides who may log in.",
)  # fmt: skip


@dataclass(frozen=True)
class SshHostKey:
    """A host key of the SSH server, by its public half. Source: /etc/ssh/ssh_host_*_key.pub."""

    path: Annotated[str, "File of the public half"]
    type: Annotated[str, "Key type, such as ssh-ed25519 or ssh-rsa"]
    bits: Annotated[int | None, "Length in bits; NULL for types that are not known"]
    fingerprint: Annotated[str, "SHA256:..., as ssh-keygen -l prints it"]


@dataclass(frozen=True)
class SshFile:
    """A file or folder of the SSH server, what links of it lead to, and folders on the way that others may change. Source: metadata."""

    path: Annotated[str, "Path"]
    kind: Annotated[str, "config, private-key, public-key or folder"]
    type: Annotated[str, "file, dir, link or another kind of file"]
    mode: Annotated[int, "Permission bits as a number: 384 is 0600; of a link they say nothing"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    leads_to: Annotated[str | None, LEADS_TO]


FIXED_BITS = {"ed25519": 256, "nistp256": 256, "nistp384": 384, "nistp521": 521}


def bits_of(kind: str, blob: bytes) -> int | None:
    """The length of a key: of RSA its modulus, of DSA its p, of the others as their type says."""
    for name, bits in FIXED_BITS.items():
        if name in kind:
            return bits
    fields: list[bytes] = []
    at = 0
    while at + 4 <= len(blob) and len(fields) < 3:
        size = int.from_bytes(blob[at : at + 4], "big")
        fields.append(blob[at + 4 : at + 4 + size])
        at += 4 + size
    place = {"ssh-rsa": 2, "ssh-dss": 1}.get(kind)
    return int.from_bytes(fields[place], "big").bit_length() if place is not None and len(fields) > place else None


def parse_host_keys(evidence: Bundle) -> Iterator[SshHostKey]:
    """A row per public key; a HostKey elsewhere, whose public half was not read, is a gap."""
    found = evidence.entries(HOST_KEYS)
    for path, entry in found.items():
        match = re.match(r"\s*([a-z0-9@.-]+) ([A-Za-z0-9+/]+={0,2})(?:\s|$)", str(entry.get("text", "")))
        try:
            blob = base64.b64decode(match[2], validate=True) if match else b""
        except binascii.Error:
            blob = b""
        if not match or blob[:4] != len(match[1]).to_bytes(4, "big") or blob[4 : 4 + len(match[1])] != match[1].encode():
            evidence.gap(HOST_KEYS, f"{path} is no public key")
            continue
        digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
        yield SshHostKey(path, match[1], bits_of(match[1], blob), f"SHA256:{digest}")
    try:
        for row in parse_config(evidence):
            if row.keyword == "hostkey" and f"{row.value}.pub" not in found:
                evidence.gap(CONFIG, f"host key {row.value}: its public half was not read")
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))


def parse_files(evidence: Bundle) -> Iterator[SshFile]:
    """A row per file and folder that is there."""
    for path, there in with_targets(metadata(evidence, FILES)):
        name = path.rpartition("/")[2]
        private = "public-key" if name.endswith(".pub") else "private-key"
        kind = "folder" if there.type == "dir" else private if name.startswith("ssh_host_") else "config"
        yield SshFile(there.path, kind, there.type, there.mode, there.uid, there.gid, there.leads_to)
