# SPDX-License-Identifier: Apache-2.0
"""Keys in UEFI's variables, and what shim leaves there. Certificates are made here; lists by the UEFI specification."""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.boot import EFI
from fleet_audit.facts.efi_keys import KEYS, LISTING, SWITCHES, TABLES, certificate
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, run, status
from .laws import never_emptier

DATABASE, KEY, SHIM = TABLES
Evidence = dict[SourceId, Item]
VARS = "/sys/firmware/efi/efivars"
SHIM_GUID = "605dab50-e046-4300-abb6-3dd810dd8b23"
ABSENT, DENIED = {"status": "absent", "detail": ""}, {"status": "denied", "detail": ""}
X509, SHA256 = "a5c059a1-94e4-4aa7-87b5-ab155c2bf072", "c1c41626-504c-4092-aca9-41f936934328"
OWNER = uuid.UUID("77fa9abd-0359-4d32-bd60-28f4e78f784b").bytes_le


@cache
def cert(name: str, until: datetime = datetime(2038, 6, 13, 19, 31, 47)) -> bytes:
    """A certificate in DER, of another issuer than its subject."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "US"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Maker"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key()).serial_number(77)
    builder = builder.issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")]))
    signed = builder.not_valid_before(datetime(2020, 1, 1)).not_valid_after(until).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def signatures(kind: str, *contents: bytes, header: bytes = b"") -> bytes:
    """An EFI_SIGNATURE_LIST."""
    size = 16 + len(contents[0])
    head = uuid.UUID(kind).bytes_le + struct.pack("<III", 28 + len(header) + size * len(contents), len(header), size)
    return head + header + b"".join(OWNER + content for content in contents)


def variable(*lists: bytes) -> bytes:
    """What efivarfs shows: attributes, then the content."""
    return b"\x06\0\0\0" + b"".join(lists)


DIGEST = bytes(range(32))
DB = variable(signatures(X509, cert("Microsoft UEFI CA 2023")), signatures(SHA256, DIGEST, bytes(32), header=b"hh"))
MOK = variable(signatures(X509, cert("Debian Secure Boot CA", datetime(2051, 8, 9, 18, 9, 18))))


def uefi(keys: dict[str, bytes] | None = None, switches: dict[str, Any] | None = None, sizes: dict[str, Any] | None = None) -> Evidence:
    """A node started by UEFI."""
    contents = {"PK": variable(signatures(X509, cert("Platform"))), "KEK": variable(), "db": DB, "MokListRT": MOK} if keys is None else keys
    there: dict[str, Any] = dict.fromkeys(LISTING.args["globs"], ABSENT)
    for path in there:
        name = path.rpartition("/")[2].partition("-")[0]
        if name in contents:
            there[path] = {"type": "file", "size": len(contents[name])}
        elif name == "dbx":
            there[path] = {"type": "file", "size": 4 + 76}
    there |= sizes or {}
    found = {f"{VARS}/{name}-{SHIM_GUID}": ABSENT for name in ("MokSBStateRT", "MokIgnoreDB")} | {
        f"{VARS}/SbatLevelRT-{SHIM_GUID}": {"text": "\x06\0\0\0sbat,1,2023012900\nshim,2\ngrub,3\ngrub.debian,4\n"}
    }
    found |= {f"{VARS}/{name}-{SHIM_GUID}": entry for name, entry in (switches or {}).items()}
    folders = {"/sys/firmware/efi": {"type": "dir"}, EFI.args["globs"][1]: {"type": "file"}, "/sys/firmware/acpi": {"type": "dir"}}
    return {EFI.id: ok(json.dumps(folders)), LISTING.id: ok(json.dumps(there)), SWITCHES.id: ok(json.dumps(found))} | {
        source.id: ok(contents[name]) if name in contents else status(Status.ABSENT) for name, source in KEYS.items()
    }


LEGACY = uefi({}) | {EFI.id: ok(json.dumps({"/sys/firmware/acpi": {"type": "dir"}, "/sys/firmware/efi": ABSENT}))}
MASKED = uefi({}) | {EFI.id: ok(json.dumps({"/sys/firmware/efi": ABSENT}))}
UNMOUNTED = uefi({}) | {EFI.id: ok(json.dumps({"/sys/firmware/efi": {"type": "dir"}}))}


def test_keys() -> None:
    extracted = run(KEY, uefi())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("PK", "x509", hashlib.sha256(cert("Platform")).hexdigest(), "Platform", datetime(2038, 6, 13, 19, 31, 47)),
        (
            "db",
            "x509",
            hashlib.sha256(cert("Microsoft UEFI CA 2023")).hexdigest(),
            "Microsoft UEFI CA 2023",
            datetime(2038, 6, 13, 19, 31, 47),
        ),
        ("db", "sha256", DIGEST.hex(), None, None),
        ("db", "sha256", "0" * 64, None, None),
        ("MokListRT", "x509", hashlib.sha256(MOK[4 + 28 + 16 :]).hexdigest(), "Debian Secure Boot CA", datetime(2051, 8, 9, 18, 9, 18)),
    )
    never_emptier(KEY, uefi())


def test_databases() -> None:
    extracted = run(DATABASE, uefi())
    assert extracted.coverage is Coverage.COMPLETE
    assert {row[0]: row[1:] for row in extracted.rows} == {
        "PK": (True, len(uefi()[KEYS["PK"].id].body) - 4), "KEK": (True, 0), "db": (True, len(DB) - 4), "MokListRT": (True, len(MOK) - 4),
        "dbx": (True, 76), "MokListXRT": (False, 0),
    }  # fmt: skip
    never_emptier(DATABASE, uefi())


def test_setup_mode_has_no_platform_key() -> None:
    rows = {row[0]: row[1] for row in run(DATABASE, uefi({"db": DB})).rows}
    assert rows["PK"] is False and rows["db"] is True
    assert {row[0] for row in run(KEY, uefi({"db": DB})).rows} == {"db"}


@pytest.mark.parametrize(("switches", "expected"), [
    ({}, (True, True, "2023012900", ["shim,2", "grub,3", "grub.debian,4"])),
    ({"MokSBStateRT": {"text": "\x06\0\0\0\x01"}}, (False, True, "2023012900", ["shim,2", "grub,3", "grub.debian,4"])),
    ({"MokSBStateRT": {"text": "\x06\0\0\0\0"}, "MokIgnoreDB": {"text": "\x06\0\0\0\x01"}, "SbatLevelRT": ABSENT}, (True, False, "", [])),
    ({"SbatLevelRT": {"text": "\x06\0\0\0sbat,1,2021030218\n"}}, (True, True, "2021030218", [])),
    ({"SbatLevelRT": {"text": "\x06\0\0\0sbat,1,2024010900\nshim,4\ngrub,3"}}, (True, True, "2024010900", ["shim,4", "grub,3"])),
])  # fmt: skip
def test_shim(switches: Any, expected: Any) -> None:
    extracted = run(SHIM, uefi(switches=switches))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (expected,))
    never_emptier(SHIM, uefi(switches=switches))


@pytest.mark.parametrize(("switches", "coverage"), [
    ({"MokSBStateRT": DENIED}, Coverage.NONE), ({"MokSBStateRT": {"text": "\x06\0\0\0\x02"}}, Coverage.NONE),
    ({"MokSBStateRT": {"text": "x"}}, Coverage.NONE), ({"SbatLevelRT": {"text": "\x06\0\0\0nonsense"}}, Coverage.PARTIAL),
    ({"SbatLevelRT": {"text": "\x06\0\0\0sbat,1,2024010900\nnonsense\n"}}, Coverage.PARTIAL),
])  # fmt: skip
def test_shim_not_understood(switches: Any, coverage: Coverage) -> None:
    assert run(SHIM, uefi(switches=switches)).coverage is coverage


def test_without_shim() -> None:
    extracted = run(SHIM, uefi({"PK": DB, "KEK": DB, "db": DB}))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize("table", TABLES)
def test_without_uefi(table: Any) -> None:
    extracted = run(table, LEGACY)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    for hidden in (MASKED, UNMOUNTED, uefi() | {EFI.id: status(Status.DENIED)}, uefi() | {LISTING.id: status(Status.DENIED)}):
        assert run(table, hidden).coverage is Coverage.NONE


def test_variables_not_read() -> None:
    """A list that is there and was not read is a gap, and so is one that could not be looked for."""
    for item in (status(Status.DENIED), status(Status.ABSENT), Item(Status.TRUNCATED, DB[:90]), status(Status.TIMEOUT)):
        extracted = run(KEY, uefi() | {KEYS["db"].id: item})
        assert (extracted.coverage, {row[0] for row in extracted.rows}) == (Coverage.PARTIAL, {"PK", "MokListRT"})
    path = next(path for path in LISTING.args["globs"] if "/dbx-" in path)
    extracted = run(DATABASE, uefi(sizes={path: DENIED}))
    assert extracted.coverage is Coverage.PARTIAL and "dbx" not in {row[0] for row in extracted.rows}


@pytest.mark.parametrize("content", [
    DB[:-1], DB + b"\0", variable(b"x" * 27), DB[:20] + b"\xff" + DB[21:], DB[:4] + DB[4:20] + struct.pack("<III", 28, 0, 0) + DB[32:],
    variable(uuid.UUID(X509).bytes_le + struct.pack("<III", 0, 0, 16)),
], ids=["short", "long", "no-list", "too-large-list", "too-small-list", "empty-list"])  # fmt: skip
def test_a_list_that_does_not_add_up_is_a_gap(content: bytes) -> None:
    assert run(KEY, uefi() | {KEYS["db"].id: ok(content)}).coverage is Coverage.PARTIAL


def test_other_kinds() -> None:
    """The type's GUID stands for it, and the entry's hash."""
    kind = "3c5766e8-269c-4e34-aa14-ed776e85b3b6"
    extracted = run(KEY, uefi({"db": variable(signatures(kind, b"rsa" * 85))}))
    assert extracted.rows == (("db", kind, hashlib.sha256(b"rsa" * 85).hexdigest(), None, None),)


@pytest.mark.parametrize(
    "der", [b"", b"\x30", b"\x30\x84\xff\xff\xff\xff", b"\x30\x80\x00\x00", b"junk" * 9, cert("x")[:100], cert("x")[:150]], ids=range(7)
)
def test_what_is_no_certificate(der: bytes) -> None:
    assert certificate(der)[1] is None


@given(st.binary(max_size=300), st.integers(0, len(DB)), st.sampled_from(Status))
def test_nothing_raises(junk: bytes, at: int, what: Status) -> None:
    for body in (junk, DB[:at] + junk + DB[at:]):
        certificate(body)
        for source in (EFI, LISTING, SWITCHES, KEYS["db"]):
            for table in TABLES:
                assert not run(table, uefi() | {source.id: Item(what, body)}).reason.startswith("not understood: ")
