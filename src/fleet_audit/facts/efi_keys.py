# SPDX-License-Identifier: Apache-2.0
"""Whose programs the firmware and shim start: the keys that they trust, and whether shim checks at all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table, Unread, describe, utc
from fleet_audit.facts.boot import EFI
from fleet_audit.model import Source, SourceId, Status

_VARS = "/sys/firmware/efi/efivars"
_GLOBAL, _IMAGES = "8be4df61-93ca-11d2-aa0d-00e098032b8c", "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
_SHIM = "605dab50-e046-4300-abb6-3dd810dd8b23"
_LISTS = {"PK": _GLOBAL, "KEK": _GLOBAL, "db": _IMAGES, "MokListRT": _SHIM}
KEYS = {
    name: Source(
        SourceId(f"efi-{name.lower()}"), "file", {"paths": [f"{_VARS}/{name}-{guid}"]},
        f"The variable {name}: UEFI specification, EFI_SIGNATURE_LIST after efivarfs's 4 bytes of attributes; shim, MokVars.txt.",
        cap_bytes=256 << 10,
    )
    for name, guid in _LISTS.items()
}  # fmt: skip
SWITCHES = Source(
    SourceId("shim-switches"), "files",
    {"globs": [f"{_VARS}/{name}-{_SHIM}" for name in ("MokSBStateRT", "MokIgnoreDB", "SbatLevelRT")], "cap_each": 4096},
    "shim, MokVars.txt and SBAT.md: what shim passes on to the kernel. MokSBStateRT 1: it checks nothing.",
)  # fmt: skip
LISTING = Source(
    SourceId("efi-databases"), "stat",
    {"globs": [f"{_VARS}/{name}-{guid}" for name, guid in (*_LISTS.items(), ("dbx", _IMAGES), ("MokListXRT", _SHIM))]},
    "efivarfs: which of the variables are there, and their sizes with 4 bytes of attributes.",
)  # fmt: skip


@dataclass(frozen=True)
class EfiDatabase:
    """A list of keys or hashes that decides what starts. No rows: no UEFI. Source: efivarfs."""

    name: Annotated[str, "PK, KEK, db (trusted), dbx (revoked), MokListRT (trusted by shim) or MokListXRT (revoked there)"]
    present: Annotated[bool, "The variable is there; those of shim are there where it started the node"]
    size_bytes: Annotated[int, "Size of the list; 0: empty or not there. A dbx that grows has been updated"]


@dataclass(frozen=True)
class EfiKey:
    """A key or hash that the firmware or shim trusts. No rows: no UEFI, or empty lists. Source: efivarfs."""

    database: Annotated[str, "PK, KEK, db or MokListRT, which holds the key of shim's maker too"]
    kind: Annotated[str, "x509 for a certificate, sha256 for the hash of a program, else the type's GUID"]
    fingerprint: Annotated[str, "SHA-256 of the certificate, or the hash itself, in hex; of other kinds the SHA-256 of the entry"]
    subject: Annotated[str | None, "Common name of the certificate's subject, such as Microsoft UEFI CA 2023"]
    expires_at: Annotated[datetime | None, "End of the certificate's validity; firmware mostly ignores it"]


@dataclass(frozen=True)
class Shim:
    """How shim checks what it starts. No row: no UEFI, or shim did not start the node. Source: efivarfs."""

    validates: Annotated[bool, "It checks signatures; false: someone turned validation off (mokutil --disable-validation)"]
    uses_db: Annotated[bool, "It trusts the firmware's db beside its own list"]
    sbat_level: Annotated[
        str | None, "Date of the revocations that it enforces, such as 2023012900; empty: a shim without SBAT; NULL: not understood"
    ]
    sbat_generations: Annotated[list[str], "What they demand at least, such as `grub,3` and `shim,4`"]


def _there(evidence: Bundle) -> dict[str, int | None] | None:
    """{variable: size of its list, None: not there} as far as they could be looked for; None without UEFI."""
    folders = evidence.entries(EFI)
    if "/sys/firmware/efi" not in folders:
        if not folders or evidence.gaps:
            raise Unread(f"{EFI.id}: nothing of /sys/firmware is there to be seen")
        return None
    if f"{_VARS}/BootCurrent-{_GLOBAL}" not in folders:
        raise Unread(f"{EFI.id}: efivarfs is not to be seen")
    found, document = evidence.entries(LISTING), evidence.document(LISTING)
    sizes: dict[str, int | None] = {}
    for path, name in ((path, path.rpartition("/")[2].partition("-")[0]) for path in LISTING.args["globs"]):
        size = found.get(path, {}).get("size")
        if document.get(path, {}).get("status") == Status.ABSENT:
            sizes[name] = None
        elif type(size) is int:
            sizes[name] = max(0, size - 4)
        else:
            evidence.gap(LISTING, f"{name} was not looked for")
    return sizes


def parse_databases(evidence: Bundle) -> Iterable[EfiDatabase]:
    """A row for each of six."""
    for name, size in (_there(evidence) or {}).items():
        yield EfiDatabase(name, size is not None, size or 0)


def parse_keys(evidence: Bundle) -> Iterable[EfiKey]:
    """A row per entry; a list that does not add up is a gap."""
    sizes = _there(evidence)
    for name, source in () if sizes is None else KEYS.items():
        item = evidence.item(source)
        if item.status is Status.ABSENT and (sizes or {}).get(name, 0) is None:
            continue
        if item.status is not Status.OK:
            evidence.gaps.append(describe(source, item))
            continue
        if len(item.body) < 4 or any(item.body[1:4]):
            evidence.gap(source, "without a variable's attributes")
            continue
        for kind, content in _signatures(evidence, source, item.body[4:]):
            if kind == "x509":
                subject, expires = certificate(content)
                yield EfiKey(name, kind, hashlib.sha256(content).hexdigest(), subject, expires)
            else:
                yield EfiKey(name, kind, content.hex() if kind == "sha256" else hashlib.sha256(content).hexdigest(), None, None)


_KINDS = {"a5c059a1-94e4-4aa7-87b5-ab155c2bf072": "x509", "c1c41626-504c-4092-aca9-41f936934328": "sha256"}


def _signatures(evidence: Bundle, source: Source, data: bytes) -> Iterator[tuple[str, bytes]]:
    """(kind, entry without its owner's GUID). Source: UEFI specification, EFI_SIGNATURE_LIST: type, whole size, header's and entry's."""
    at = 0
    while at < len(data):
        whole, header, size = (int.from_bytes(data[at + part : at + part + 4], "little") for part in (16, 20, 24))
        first, end = at + 28 + header, at + whole
        if not first <= end <= len(data) or size <= 16 or (end - first) % size:
            evidence.gap(source, "a list that does not add up")
            return
        kind = _KINDS.get(guid := _guid(data[at : at + 16]), guid)
        for place in range(first, end, size):
            yield kind, data[place + 16 : place + size]
        at = end


def _guid(raw: bytes) -> str:
    """The text form of a GUID, of which three parts are little-endian."""
    digits = (raw[3::-1] + raw[5:3:-1] + raw[7:5:-1] + raw[8:]).hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(tag, content) of the elements of DER; ends where it does not understand them."""
    place = 0
    while place + 2 <= len(data):
        size, at = data[place + 1], place + 2
        if size & 0x80:
            at += size & 0x7F
            size = int.from_bytes(data[place + 2 : at], "big")
        if at > place + 6 or at + size > len(data):
            return
        yield data[place], data[at : at + size]
        place = at + size


def certificate(der: bytes) -> tuple[str | None, datetime | None]:
    """Common name and end of validity of an X.509 certificate; None where it is none. Source: RFC 5280, 4.1."""
    outer = next(_parts(der), (0, b""))[1]
    fields = [(tag, content) for tag, content in _parts(next(_parts(outer), (0, b""))[1]) if tag != 0xA0]
    if len(fields) < 5:
        return None, None
    (_, validity), (_, subject) = fields[3:5]
    names = [[content for _, content in _parts(pair)] for _, group in _parts(subject) for _, pair in _parts(group)]
    common = next((pair[1].decode("utf-8", "replace") for pair in names if len(pair) == 2 and pair[0] == b"\x55\x04\x03"), None)
    times = [content.decode("ascii", "replace") for _, content in _parts(validity)]
    return common, _time(times[1]) if len(times) == 2 else None


def _time(text: str) -> datetime | None:
    """A UTCTime (years 1950 to 2049) or a GeneralizedTime."""
    if re.fullmatch(r"\d{12}Z", text, re.ASCII):
        text = ("19" if text[0] >= "5" else "20") + text
    try:
        return utc(datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return None


def parse_shim(evidence: Bundle) -> Iterable[Shim]:
    """One row where shim left its list; a switch of its that is not there is off."""
    sizes = _there(evidence)
    if sizes is None or sizes.get("MokListRT", 0) is None:
        return []
    found = evidence.entries(SWITCHES)
    if evidence.gaps:
        raise Unread(evidence.gaps[0])
    off, ignore = (_switch(found.get(f"{_VARS}/{name}-{_SHIM}")) for name in ("MokSBStateRT", "MokIgnoreDB"))
    if off is None or ignore is None:
        raise Unread(f"{SWITCHES.id}: a switch is not understood")
    text = found.get(f"{_VARS}/SbatLevelRT-{_SHIM}", {}).get("text")
    level, *least = text[4:].strip("\n\0").split("\n") if isinstance(text, str) else [""]
    none = "" if text is None else None
    head = re.fullmatch(r"sbat,\d{1,4},(\d{8,12})", level)
    if isinstance(text, str) and (head is None or not all(re.fullmatch(r"[\w.-]+,\d{1,6}(?:,\d+)?", line) for line in least)):
        evidence.gap(SWITCHES, "the SBAT level is not understood")
    return [Shim(not off, not ignore, head[1] if head else none, least if head else [])]


def _switch(entry: dict[str, object] | None) -> bool | None:
    """4 bytes of attributes and one that is 0 or 1, as text; not there: 0."""
    text = "\0\0\0\0\0" if entry is None else entry.get("text")
    return text[4] == "\1" if isinstance(text, str) and len(text) == 5 and text[4] in "\0\1" else None


TABLES = (
    Table("efi_databases", EfiDatabase, (EFI, LISTING), parse_databases),
    Table("efi_keys", EfiKey, (EFI, LISTING, *KEYS.values()), parse_keys),
    Table("shim", Shim, (EFI, LISTING, SWITCHES), parse_shim),
)
