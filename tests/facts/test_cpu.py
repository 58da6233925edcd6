# SPDX-License-Identifier: Apache-2.0
"""The CPUs of a node. All texts are synthetic, in the format of proc_cpuinfo(5) as the probe keeps its lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.cpu import CPUINFO, TABLES
from fleet_audit.model import Coverage, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

(CPU,) = TABLES

# synthetic: proc_cpuinfo(5)
INTEL = """\
processor\t: 0
vendor_id\t: GenuineIntel
cpu family\t: 6
model\t\t: 143
model name\t: Intel(R) Xeon(R) Platinum 8480+
stepping\t: 8
microcode\t: 0x2B000603
flags\t\t: fpu vme sgx tdx_host_platform
processor\t: 1
processor\t: 2
"""
# synthetic: the same manual; arm has its own names
ARM = """\
processor\t: 0
Features\t: fp asimd sha512
CPU implementer\t: 0x41
CPU part\t: 0xd4f
processor\t: 1
"""


def test_one_kind() -> None:
    """CPUs that are alike are one row; microcode is lower-case hex."""
    found = run(CPU, {CPUINFO.id: ok(INTEL)})
    assert found.coverage is Coverage.COMPLETE
    assert rows_as_dicts(CPU, found) == [
        {
            "vendor": "GenuineIntel",
            "model_name": "Intel(R) Xeon(R) Platinum 8480+",
            "family": 6,
            "model": 143,
            "stepping": 8,
            "microcode": "0x2b000603",
            "hypervisor": False,
            "flags": ["fpu", "sgx", "tdx_host_platform", "vme"],
        }
    ]


def test_other_microcode_on_one_cpu() -> None:
    """A CPU that differs in one thing is a second row with all the rest."""
    found = run(CPU, {CPUINFO.id: ok(INTEL + "microcode\t: 0x2b000590\nprocessor\t: 3\n")})
    assert found.coverage is Coverage.COMPLETE
    first, second = rows_as_dicts(CPU, found)
    assert (first.pop("microcode"), second.pop("microcode")) == ("0x2b000603", "0x2b000590")
    assert first == second


def test_cpus_that_differ_in_two_things_apart() -> None:
    """Lines that come once each cannot say which of two earlier values a third CPU has: that is a gap."""
    more = "microcode\t: 0x1\nprocessor\t: 3\nstepping\t: 9\n"
    found = run(CPU, {CPUINFO.id: ok(INTEL + more)})
    assert found.coverage is Coverage.PARTIAL
    assert [row["microcode"] for row in rows_as_dicts(CPU, found)] == ["0x2b000603", "0x1", None]


def test_arm() -> None:
    """Arm has no flags, family or hypervisor bit."""
    (row,) = rows_as_dicts(CPU, run(CPU, {CPUINFO.id: ok(ARM)}))
    assert row["vendor"] == "0x41"
    assert row["model"] == 0xD4F
    assert row["flags"] == ["asimd", "fp", "sha512"]
    assert row["hypervisor"] is None


def test_hypervisor() -> None:
    """The flag tells a virtual machine."""
    found = run(CPU, {CPUINFO.id: ok(INTEL.replace("fpu", "fpu hypervisor"))})
    assert rows_as_dicts(CPU, found)[0]["hypervisor"] is True


@pytest.mark.parametrize(
    "item",
    [
        ok(""),
        ok("garbage\n"),
        ok("\0\xff"),
        status(Status.DENIED),
        status(Status.ABSENT),
        status(Status.TIMEOUT),
        ok("processor : 0\n"),
    ],
)
def test_nothing_to_say(item: Item) -> None:
    """What has no CPU in it says nothing, not `no CPU`."""
    found = run(CPU, {CPUINFO.id: item})
    assert found.coverage is Coverage.NONE
    assert not found.rows


def test_garbage_line() -> None:
    """A line that is no field makes the table partial."""
    assert run(CPU, {CPUINFO.id: ok(INTEL + "flags\n")}).coverage is Coverage.PARTIAL


def test_cut_short() -> None:
    """A line that was cut counts for nothing: no flag list loses its end."""
    whole = rows_as_dicts(CPU, run(CPU, {CPUINFO.id: ok(INTEL)}))[0]
    for found in cut_short(CPU, {CPUINFO.id: ok(INTEL)}, CPUINFO, 7):
        for row in rows_as_dicts(CPU, found):
            assert all(value in (None, whole[name]) for name, value in row.items())


def test_law() -> None:
    """Less evidence never gives an emptier truth."""
    never_emptier(CPU, {CPUINFO.id: ok(INTEL)})


@given(st.sampled_from(Status), st.binary(max_size=300))
def test_any_bytes(what: Status, body: bytes) -> None:
    """Nothing raises, and rows come from lines alone."""
    found = run(CPU, {CPUINFO.id: Item(what, body)})
    assert bool(found.rows) <= (b":" in body)
