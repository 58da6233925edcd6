# SPDX-License-Identifier: Apache-2.0
"""NFS exports of the kernel's server: what is configured, and what exportfs last handed to it. Other servers (Ganesha, ...) are not seen."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.model import Source, SourceId

EXPORTS = Source(
    SourceId("nfs-exports"), "files", {"globs": ["/etc/exports", "/etc/exports.d/*.exports", "/var/lib/nfs/etab"]},
    "exports(5); exportfs(8): /var/lib/nfs/etab is the master table of what is exported now, with all options written out.",
    cap_bytes=512 << 10,
)  # fmt: skip
_LIMIT = 20_000
_FLAGS = {
    "rw": ("writable", True), "ro": ("writable", False), "root_squash": ("root_squash", True), "no_root_squash": ("root_squash", False),
    "all_squash": ("all_squash", True), "no_all_squash": ("all_squash", False), "secure": ("privileged_port", True),
    "insecure": ("privileged_port", False),
}  # fmt: skip
_OTHER = frozenset(
    "async sync wdelay no_wdelay hide nohide crossmnt nocrossmnt subtree_check no_subtree_check auth_nlm no_auth_nlm secure_locks insecure_locks "
    "acl no_acl pnfs no_pnfs security_label nordirplus rdirplus mountpoint mp".split()
)
_VALUED = (
    "anonuid=",
    "anongid=",
    "fsid=",
    "mountpoint=",
    "mp=",
    "refer=",
    "replicas=",
    "reexport=",
    "squash_uids=",
    "squash_gids=",
    "mapping=",
)


@dataclass(frozen=True)
class NfsExport:
    """A folder that is exported to a kind of client, a row for each group of security flavours. No rows: none. Source: exports(5)."""

    file: Annotated[str, "File that says so; /var/lib/nfs/etab: it is exported now"]
    path: Annotated[str, "Folder"]
    client: Annotated[str, "Client as written; * for everyone"]
    kind: Annotated[str, "everyone, network, address, netgroup, wildcard or name"]
    prefix: Annotated[int | None, "Length of the network's prefix, bits; NULL: no network"]
    implied: Annotated[bool, "No client was written before the options, as after a blank in `host (rw)`: everyone is meant by it"]
    writable: Annotated[bool, "It may be written"]
    root_squash: Annotated[bool, "The client's root is nobody here"]
    all_squash: Annotated[bool, "All of the client's users are nobody here"]
    privileged_port: Annotated[bool, "Only programs of the client's root may ask (option secure)"]
    security: Annotated[list[str], "Security flavours: sys (the client's word), krb5, krb5i, krb5p"]
    transport: Annotated[list[str], "Allowed transports: none (no TLS), tls, mtls"]


def parse(evidence: Bundle) -> Iterator[NfsExport]:
    """A row for each folder, client and group of flavours."""
    for number, row in enumerate(_rows(evidence)):
        if number == _LIMIT:
            evidence.gap(EXPORTS, f"more than {_LIMIT} rows")
            return
        yield row


def _rows(evidence: Bundle) -> Iterator[NfsExport]:
    for path, entry in evidence.entries(EXPORTS).items():
        text = str(entry.get("text", ""))
        for line in text.replace("\\\n", " ").splitlines():
            words = re.findall(r'(?:[^\s"#]|"[^"]*")+|#.*', line)
            if words and not words[0].startswith("#"):
                yield from _line(evidence, path, [word for word in words if not word.startswith("#")])


def _line(evidence: Bundle, file: str, words: list[str]) -> Iterator[NfsExport]:
    """The rows of a line: a folder, options for all that follow, clients with theirs."""
    base = NfsExport(file, _plain(words[0]), "*", "everyone", None, True, False, True, False, True, ["sys"], ["none", "tls", "mtls"])
    given: list[str] = []
    clients = []
    for word in words[1:]:
        if word.startswith("-"):
            given += word[1:].split(",")
        else:
            clients.append((word, list(given)))
    if any(word.count("(") > 1 or ("(" in word) != word.endswith(")") for word, _ in clients):
        evidence.gap(EXPORTS, f"{file}: a line that is not understood")
        return
    for word, options in clients or [("", given)]:
        name, _, more = word.partition("(")
        options += more.rstrip(")").split(",")
        name = _plain(name)
        kind, prefix = _kind(name)
        row = replace(base, client=name or "*", kind=kind, prefix=prefix, implied=not name)
        if name.startswith("gss/"):  # exports(5): the old way to write `*(sec=...)`
            row = replace(row, security=[name[4:]])
        yield from _groups(evidence, row, options)


def _groups(evidence: Bundle, row: NfsExport, options: list[str]) -> Iterator[NfsExport]:
    """The row with its options; those behind a `sec=` hold for its flavours alone."""
    groups: list[NfsExport] = []
    for option in filter(None, options):
        if option.startswith("sec="):
            groups.append(replace(row, security=option[4:].split(":")))
        elif option.startswith("xprtsec="):
            row = replace(row, transport=option[8:].split(":"))
        elif option in _FLAGS:
            change: dict[str, Any] = dict([_FLAGS[option]])
            if groups and "privileged_port" not in change:
                groups[-1] = replace(groups[-1], **change)
            else:
                row = replace(row, **change)
        elif option not in _OTHER and not option.startswith(_VALUED):
            evidence.gap(EXPORTS, f"{row.file}: the option {option[:60]} is not known")
    for group in groups or [row]:
        yield replace(group, privileged_port=row.privileged_port, transport=row.transport)


def _kind(name: str) -> tuple[str, int | None]:
    """Kind of a client, and the length of its network's prefix."""
    if name in ("", "*") or name.startswith("gss/"):
        return "everyone", None
    if name.startswith("@"):
        return "netgroup", None
    if not re.fullmatch(r"[0-9a-fA-F:./]*[.:][0-9a-fA-F:./]*", name):
        return ("wildcard" if re.search(r"[*?\[]", name) else "name"), None
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return "name", None
    return ("network", network.prefixlen) if "/" in name else ("address", None)


def _plain(word: str) -> str:
    """A word without its quotes and octal escapes."""
    return re.sub(r"\\([0-3][0-7]{2})", lambda match: chr(int(match[1], 8)), word.replace('"', ""))


TABLES = (Table("nfs_exports", NfsExport, (EXPORTS,), parse),)
