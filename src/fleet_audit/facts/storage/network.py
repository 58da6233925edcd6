# SPDX-License-Identifier: Apache-2.0
"""Network file systems as this client mounts them. What servers demand, and who may mount, they alone know."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.accounts.metadata import understood, with_targets
from fleet_audit.facts.base import Bundle, NotUnderstood, integer
from fleet_audit.facts.storage.mounts import Mount, parse_mounts
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

LUSTRE = Source(
    SourceId("lustre-security"), "command", {"argv": ["lctl", "get_param", "*.*.srpc_info"]},
    "Lustre manual, Configuring Shared-Secret Key Security: `NAME.srpc_info=`, then `rpc flavor:` and `bulk flavor:` of each connection; "
    "null and plain protect nothing, skn to krb5p do. /sys/fs/lustre is there where the modules are loaded.",
    when_exists="/sys/fs/lustre", needs_root=True,
)  # fmt: skip
_INDENTS = (*(" " * width for width in range(9)), "\t", "\t\t")
SETTINGS = Source(
    SourceId("parallel-fs-settings"), "files",
    {"globs": ["/etc/beegfs/*.conf", "/etc/beegfs/*.toml", "/etc/ceph/*.conf", "/var/mmfs/gen/mmfs.cfg", "/etc/modprobe.d/*lustre*.conf",
               "/etc/modprobe.d/*lnet*.conf"],
     "keep": [indent + word for indent in _INDENTS for word in
              ("[", "connAuthFile", "connDisableAuthentication", "sysMgmtdHost", "auth-", "tls-", "auth_", "auth ", "ms_", "ms ", "ms-",
               "cipherList", "options lnet", "options ptlrpc", "options ptlrpc_gss")],
     "redact": True, "cap_each": 1 << 16},
    "BeeGFS documentation, Authentication; Ceph documentation, ms modes and cephx; IBM Storage Scale, mmauth: cipherList. Chosen lines.",
    needs_root=True,
)  # fmt: skip
SECRETS = Source(
    SourceId("parallel-fs-secrets"), "stat",
    {"globs": ["/etc/beegfs/*auth*", "/etc/beegfs/*.key", "/etc/beegfs/key.pem", "/etc/ceph/*.keyring", "/etc/ceph/*secret*", "/etc/lustre/*.key",
               "/var/mmfs/ssl/*key*", "/etc/samba/*cred*", "/etc/cifs*cred*", "/root/*smbcred*", "/etc/passwd-s3fs", "/etc/krb5.keytab"],
     "targets": True},
    "Where BeeGFS, Ceph, Lustre, GPFS, CIFS, s3fs and Kerberos keep a client's secret by habit. Never a content.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class NetworkMount:
    """A mounted network file system. Source: mountinfo, nfs(5), mount.cifs(8), mount.ceph(8)."""

    mount_point: Annotated[str, "Where it is mounted"]
    type: Annotated[str, "Type of file system"]
    source: Annotated[str, "Export, share or file system, with its server where the type has one"]
    server: Annotated[str | None, "Address or name of the server; a loopback one may be a tunnel"]
    port: Annotated[int | None, "Port, where the options name one"]
    version: Annotated[str | None, "Version of the protocol, such as 4.2"]
    security: Annotated[str | None, "Flavour as the kernel names it: sys, krb5, krb5i, krb5p, ntlmssp, ..."]
    transport_security: Annotated[str | None, "NFS over TLS: none, tls or mtls; Ceph: ms_mode, legacy where none is set"]
    protection: Annotated[
        str | None,
        "What the options promise on the wire: none, identity, integrity or privacy; NULL: they do not tell (Lustre, BeeGFS, ...)",
    ]
    read_only: Annotated[bool, "Nothing can be written"]
    nodev: Annotated[bool, "Device files have no effect"]
    nosuid: Annotated[bool, "Set-user-ID bits have no effect"]
    noexec: Annotated[bool, "Programs cannot be started"]


@dataclass(frozen=True)
class LustreConnection:
    """How a connection of a Lustre client is secured; no row where Lustre is not loaded. Source: lctl(8)."""

    name: Annotated[str, "Connection, such as mdc.scratch-MDT0000-mdc-ffff8800da9f0800"]
    rpc_flavour: Annotated[str, "null, plain, gssnull: no protection; skn, ska, ski, skpi, krb5n, krb5a, krb5i, krb5p"]
    bulk_flavour: Annotated[str | None, "The same for bulk data"]


@dataclass(frozen=True)
class ParallelFsSetting:
    """A setting of security in a parallel file system's configuration. No row: none is set there. Source: vendors' manuals."""

    file: Annotated[str, "Configuration file"]
    system: Annotated[str, "beegfs, ceph, gpfs or lustre"]
    section: Annotated[str, "Section or stanza; empty where there is none"]
    name: Annotated[str, "Setting, with _ for blanks and dashes in Ceph's"]
    value: Annotated[str, "Value as written"]


@dataclass(frozen=True)
class ParallelFsSecret:
    """A file that holds a client's secret; its content is not read. Source: stat(2)."""

    path: Annotated[str, "File"]
    mode: Annotated[int, "Mode bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    others_read: Annotated[bool, "Everybody may read it"]
    group_read: Annotated[bool, "Its group may read it"]


_FLAVOURS = {"sys": "none", "none": "none", "null": "none", "krb5": "identity", "krb5i": "integrity", "krb5p": "privacy"}


def parse_network_mounts(evidence: Bundle) -> Iterable[NetworkMount]:
    """A row per mount that is a network file system, or may be one."""
    for mount in parse_mounts(evidence):
        if mount.network is not False:
            options = dict(option.partition("=")[::2] for option in mount.super_options)
            security, wire = options.get("sec"), options.get("xprtsec")
            if mount.type == "ceph":
                wire = options.get("ms_mode", "legacy")
            found = re.match(r"(?://)?(\[[^\]]+\]|[^/:,\[\]]+)(?::/|/|:\d)", mount.source)
            server = options.get("addr") or options.get("ip") or options.get("mon_addr") or (found[1] if found else None)
            version = options.get("vers") or ("4" if mount.type == "nfs4" else None)
            yield NetworkMount(
                mount.mount_point, mount.type, mount.source, server, integer(options.get("port")), version, security, wire,
                _protection(mount, security, wire, options), mount.read_only, mount.nodev, mount.nosuid, mount.noexec,
            )  # fmt: skip


def _protection(mount: Mount, security: str | None, wire: str | None, options: dict[str, str]) -> str | None:
    """Source: nfs(5) sec and xprtsec; mount.cifs(8) sec, seal, sign; Ceph documentation, ms_mode."""
    if mount.type in ("nfs", "nfs4"):
        return "privacy" if wire in ("tls", "mtls") else _FLAVOURS.get(security or "")
    if mount.type == "ceph":
        return "privacy" if wire == "secure" else "identity" if "secret" in options else "none"
    if mount.type not in ("cifs", "smb3"):
        return None
    if "seal" in options:
        return "privacy"
    if "sign" in options or (security or "").endswith("i"):
        return "integrity"
    return None if security is None else "none" if security == "none" else "identity"


def parse_lustre(evidence: Bundle) -> Iterable[LustreConnection]:
    """A row per connection; none where the modules are not loaded."""
    if evidence.item(LUSTRE).status is Status.SKIPPED:
        return
    name, found = "", dict[str, dict[str, str]]()
    for line in lines(evidence, LUSTRE):
        if match := re.fullmatch(r"(\S+)\.srpc_info=\s*", line):
            name = match[1]
            found[name] = {}
        elif name and (words := re.fullmatch(r"(rpc|bulk) flavor:\s*(\S+)\s*", line)):
            found[name][words[1]] = words[2]
        elif line.strip() and not (name and re.match(r"[\w ]+(?::|\s+\d+$)", line)):
            evidence.gap(LUSTRE, "a line that belongs to no connection")
    if not found:
        raise NotUnderstood(f"{LUSTRE.id}: no connection in it")
    for name, flavours in found.items():
        if "rpc" in flavours:
            yield LustreConnection(name, flavours["rpc"], flavours.get("bulk"))
        else:
            evidence.gap(LUSTRE, f"{name}: without a flavour")


_SYSTEMS = (("/etc/beegfs/", "beegfs"), ("/etc/ceph/", "ceph"), ("/var/mmfs/", "gpfs"), ("/etc/modprobe.d/", "lustre"))


def parse_settings(evidence: Bundle) -> Iterable[ParallelFsSetting]:
    """A row per setting of the chosen lines; Ceph's later ones win, and its options may be written in three ways."""
    for path, entry in evidence.entries(SETTINGS).items():
        system, section = next((word for start, word in _SYSTEMS if path.startswith(start)), "other"), ""
        for line in str(entry.get("text", "")).split("\n"):
            text = line.strip()
            if match := re.fullmatch(r"\[([^\[\]]*)\]\s*(?:[#;].*)?", text):
                section = match[1]
            elif system == "lustre" and (words := text.split(None, 2))[2:]:
                yield ParallelFsSetting(path, system, "", words[1], words[2])
            elif system == "gpfs" and (words := text.split(None, 1))[1:] and "=" not in text:
                yield ParallelFsSetting(path, system, section, words[0], words[1])
            elif "=" in text:
                name, _, value = (part.strip() for part in text.partition("="))
                value = next((value[:place] for place in (value.find(" #"), value.find(" ;")) if place >= 0), value).strip().strip("\"'")
                yield ParallelFsSetting(path, system, section, re.sub(r"[ -]+", "_", name) if system == "ceph" else name, value)
            elif text:
                evidence.gap(SETTINGS, f"{path}: a line that is no setting")


def parse_secrets(evidence: Bundle) -> Iterable[ParallelFsSecret]:
    """A row per file that is there, of a link what it leads to in the end; one that could not be followed is a gap."""
    for path, there in with_targets(understood(evidence, SECRETS)):
        if path.endswith((".conf", ".md")):
            continue
        if there.type == "file":
            yield ParallelFsSecret(there.path, there.mode, there.uid, there.gid, bool(there.mode & 0o004), bool(there.mode & 0o040))
        elif there.leads_to is None:
            evidence.gap(SECRETS, f"{path}: a link that could not be followed")
