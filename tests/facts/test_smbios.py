# SPDX-License-Identifier: Apache-2.0
"""SMBIOS as dmidecode(8) prints it: memory and interfaces to a BMC."""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.smbios import SMBIOS, TABLES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

ARRAYS, DEVICES, BMCS = TABLES
Evidence = dict[SourceId, Item]

# synthetic: dmidecode's source, dmi_decode() of version 3.4, reduced as the source's `keep` does; values of a server with DDR5
SERVER = """\
SMBIOS 3.5.0 present.
Handle 0x0020, DMI type 16, 23 bytes
\tLocation: System Board Or Motherboard
\tUse: System Memory
\tError Correction Type: Multi-bit ECC
\tMaximum Capacity: 12 TB
\tNumber Of Devices: 32
Handle 0x0021, DMI type 17, 100 bytes
\tArray Handle: 0x0020
\tTotal Width: 80 bits
\tData Width: 64 bits
\tSize: 64 GB
\tForm Factor: DIMM
\tLocator: P1-DIMMA1
\tBank Locator: P0_Node0_Channel0_Dimm0
\tType: DDR5
\tManufacturer: Samsung
\tPart Number: M321R8GA0BB0-CQKZJ
Handle 0x0022, DMI type 17, 100 bytes
\tArray Handle: 0x0020
\tTotal Width: Unknown
\tData Width: Unknown
\tSize: No Module Installed
\tForm Factor: Unknown
\tLocator: P1-DIMMA2
\tBank Locator: P0_Node0_Channel0_Dimm1
\tType: Unknown
Handle 0x0040, DMI type 38, 18 bytes
\tInterface Type: KCS (Keyboard Control Style)
\tSpecification Version: 2.0
Handle 0x0059, DMI type 127, 4 bytes
"""
# synthetic: the words of dmidecode 2.11 (`SMBIOS 2.6`, sizes in MB, a full stop after a structure's length in 2.7)
OLD = """\
SMBIOS 2.6 present.
Handle 0x1000, DMI type 16, 15 bytes.
\tLocation: System Board Or Motherboard
\tUse: System Memory
\tError Correction Type: None
\tMaximum Capacity: 192 GB
\tNumber Of Devices: 1
Handle 0x1100, DMI type 17, 28 bytes
\tArray Handle: 0x1000
\tTotal Width: 72 bits
\tData Width: 64 bits
\tSize: 16384 MB
\tForm Factor: DIMM
\tLocator: DIMM_A1
\tBank Locator: Not Specified
\tType: DDR3
\tManufacturer: Not Specified
\tPart Number: Not Specified
Handle 0x7F00, DMI type 127, 4 bytes
"""
EMPTY = "SMBIOS 2.8 present.\nHandle 0x0003, DMI type 127, 4 bytes\n"


def evidence(text: str | Item) -> Evidence:
    return {SMBIOS.id: text if isinstance(text, Item) else ok(text, 0)}


def test_a_server() -> None:
    arrays = run(ARRAYS, evidence(SERVER))
    assert (arrays.coverage, arrays.rows) == (
        Coverage.COMPLETE, (("0x0020", "System Board Or Motherboard", "System Memory", "Multi-bit ECC", 12 << 40, 32),)
    )  # fmt: skip
    devices = run(DEVICES, evidence(SERVER))
    assert devices.coverage is Coverage.COMPLETE
    assert devices.rows == (
        ("0x0021", "0x0020", "P1-DIMMA1", True, 64 << 30, "DDR5", 80, 64, "Samsung", "M321R8GA0BB0-CQKZJ"),
        ("0x0022", "0x0020", "P1-DIMMA2", False, 0, None, None, None, None, None),
    )
    assert run(BMCS, evidence(SERVER)).rows == (("KCS", "2.0"),)


def test_an_old_version_and_a_conflict() -> None:
    """The array says that nothing is corrected, the module is wide enough for it: both show."""
    (array,) = rows_as_dicts(ARRAYS, run(ARRAYS, evidence(OLD)))
    (device,) = rows_as_dicts(DEVICES, run(DEVICES, evidence(OLD)))
    assert (array["ecc"], device["total_width_bits"], device["data_width_bits"]) == ("None", 72, 64)
    assert (device["size_bytes"], device["manufacturer"], array["maximum_bytes"]) == (16 << 30, None, 192 << 30)


@pytest.mark.parametrize("table", TABLES)
def test_a_whole_table_without_any_is_complete(table: Any) -> None:
    extracted = run(table, evidence(EMPTY))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "dmidecode: No such file or directory"), status(Status.SKIPPED), status(Status.DENIED), status(Status.TIMEOUT),
    Item(Status.FAILED, b"# dmidecode 3.4\n", 1, "exit 1: /sys/firmware/dmi/tables/smbios_entry_point: Permission denied"),
    ok(""), ok("garbage"), ok("# No SMBIOS nor DMI entry point found, sorry.\n"), ok(b"\xff\xfe\0"),
])  # fmt: skip
@pytest.mark.parametrize("table", TABLES)
def test_not_read_or_not_understood_is_none(table: Any, item: Item) -> None:
    extracted = run(table, evidence(item))
    assert (extracted.coverage, extracted.rows) == (Coverage.NONE, ())


@pytest.mark.parametrize("text", [
    SERVER.replace("Handle 0x0059, DMI type 127, 4 bytes\n", ""),  # a broken table: dmidecode stops at its fault
    SERVER + "garbage\n", SERVER.replace("Handle 0x0021, DMI type 17", "Handle 0x0021, DMI kind 17"),
    SERVER.replace("64 GB", "many GB"), SERVER.replace("80 bits", "80 bit"),
])  # fmt: skip
def test_what_is_not_understood_is_a_gap(text: str) -> None:
    assert run(DEVICES, evidence(text)).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("filler", ["Unknown", "Not Specified", "<OUT OF SPEC>", "<BAD INDEX>", "Other", "", "   "])
def test_fillers_are_nothing(filler: str) -> None:
    extracted = run(ARRAYS, evidence(SERVER.replace("Multi-bit ECC", filler)))
    assert (extracted.rows[0][3], extracted.coverage) == (None, Coverage.COMPLETE)


@pytest.mark.parametrize("table", TABLES)
def test_laws(table: Any) -> None:
    never_emptier(table, evidence(SERVER))
    whole = run(table, evidence(SERVER)).rows
    for cut in cut_short(table, evidence(SERVER), SMBIOS, step=7):
        assert len(cut.rows) <= len(whole)


@given(st.sampled_from(Status), st.binary(max_size=200), st.integers(0, len(SERVER)))
def test_nothing_raises(what: Status, junk: bytes, at: int) -> None:
    whole = SERVER.encode()
    for body in (junk, whole[:at] + junk + whole[at:]):
        for table in TABLES:
            assert not run(table, evidence(Item(what, body))).reason.startswith("not understood: ")


def _structure(kind: int, handle: int, data: bytes, *strings: str) -> bytes:
    text = b"".join(s.encode() + b"\0" for s in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(data), handle) + data + text + b"\0"


def _dump(*structures: bytes) -> bytes:
    """A file as `dmidecode --dump-bin` writes it: entry point of SMBIOS 3, then the table at 32."""
    table = b"".join(structures)
    entry = bytearray(b"_SM3_\0\x18\x03\x05\0\x01\0" + struct.pack("<IQ", len(table), 32))
    entry[5] = -sum(entry) & 0xFF
    return bytes(entry).ljust(32, b"\0") + table


def test_what_dmidecode_really_prints(tmp_path: Path) -> None:
    """A table made by the SMBIOS specification, decoded by the real program, reduced as on a node."""
    if (program := shutil.which("dmidecode", path="/usr/sbin:/usr/bin")) is None:
        pytest.skip("no dmidecode on this machine")
    array = struct.pack("<BBBIHHQ", 3, 3, 6, 0x80000000, 0xFFFE, 2, 3 << 40)
    module = struct.pack("<HHHHHBBBBBHHBBBBBI", 0x20, 0xFFFE, 80, 64, 0x7FFF, 9, 0, 1, 2, 0x22, 0x80, 4800, 3, 4, 5, 6, 2, 96 << 10)
    empty = struct.pack("<HHHHHBBBBBHHBBBBBI", 0x20, 0xFFFE, 0xFFFF, 0xFFFF, 0, 9, 0, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0)
    file = tmp_path / "dump"
    file.write_bytes(_dump(
        _structure(16, 0x20, array),
        _structure(17, 0x21, module, "DIMM_A1", "BANK 0", "Micron", "0123SECRET", "tag", "MTC40F204WS1RC48BB1"),
        _structure(17, 0x22, empty, "DIMM_A2", "BANK 0"),
        _structure(38, 0x30, struct.pack("<BBBBQBB", 1, 0x20, 0x20, 0xFF, 0xCA3, 0, 0)),
        _structure(127, 0x40, b""),
    ))  # fmt: skip
    said = subprocess.run([program, "--from-dump", str(file), *SMBIOS.args["argv"][1:]], capture_output=True, check=True, text=True).stdout
    kept = "".join(line + "\n" for line in said.splitlines() if line.startswith(tuple(SMBIOS.args["keep"])))
    assert "SECRET" in said and "SECRET" not in kept
    assert run(ARRAYS, evidence(kept)).rows == (("0x0020", "System Board Or Motherboard", "System Memory", "Multi-bit ECC", 3 << 40, 2),)
    devices = run(DEVICES, evidence(kept))
    assert (devices.coverage, devices.rows) == (Coverage.COMPLETE, (
        ("0x0021", "0x0020", "DIMM_A1", True, 96 << 30, "DDR5", 80, 64, "Micron", "MTC40F204WS1RC48BB1"),
        ("0x0022", "0x0020", "DIMM_A2", False, 0, None, None, None, None, None),
    ))  # fmt: skip
    assert run(BMCS, evidence(kept)).rows == (("KCS", "2.0"),)
