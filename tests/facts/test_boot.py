# SPDX-License-Identifier: Apache-2.0
"""Machine or guest, Secure Boot, lockdown, microcode and vulnerabilities."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.boot import CONTAINER, EFI, EFI_VARIABLES, LOCKDOWN, MARKERS, TABLES, VULNERABILITIES
from fleet_audit.facts.cpu import CPUINFO
from fleet_audit.facts.firmware import DMI, SYSFS
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

MACHINES, BOOTS, LOCKDOWNS, MICROCODES, VULNERABLE = TABLES
Evidence = dict[SourceId, Item]
ID = "/sys/class/dmi/id"
ABSENT = {"status": "absent", "detail": "No such file or directory"}
DENIED = {"status": "denied", "detail": "Permission denied"}
CLASSES = ok(json.dumps({"/sys/class": {"type": "dir"}, ID: {"type": "link"}}))
NO_SMBIOS = ok(json.dumps({"/sys/class": {"type": "dir"}, ID: ABSENT}))


def stat(source: Any, *there: str) -> Item:
    """synthetic: the `stat` reader's answer (probe/node.py)."""
    return ok(json.dumps({path: {"type": "file"} if path in there else ABSENT for path in source.args["globs"]}))


# --- Machine and microcode ------------------------------------------------------------------------


def cpus(flags: str = "fpu lm", microcode: str = "0x2b000643") -> Item:
    """synthetic: proc_cpuinfo(5), as the probe keeps its lines."""
    return ok(
        f"processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nmodel name\t: X\nstepping\t: 8\n"
        f"microcode\t: {microcode}\nflags\t\t: {flags}\nprocessor\t: 1\n"
    )


GUEST = "fpu hypervisor lm"
ARM = ok("processor\t: 0\nFeatures\t: fp asimd\nCPU implementer\t: 0x41\nCPU part\t: 0xd4f\n")


def machine(cpu: Item, vendor: str = "", product: str = "", *there: str, container: Item | None = None) -> Evidence:
    """synthetic: systemd-detect-virt(1) on SMBIOS, systemd's container interface."""
    fields = dict.fromkeys(DMI.args["names"]) | {"sys_vendor": vendor or None, "product_name": product or None}
    return {
        CPUINFO.id: cpu,
        DMI.id: ok(json.dumps({ID: fields})),
        SYSFS.id: CLASSES if vendor else NO_SMBIOS,
        MARKERS.id: stat(MARKERS, *there),
        CONTAINER.id: container or status(Status.ABSENT),
    }


@pytest.mark.parametrize(("cpu", "vendor", "product", "expected"), [
    (cpus(), "Supermicro", "SYS-821GE-TNHR", ("none", False)), (cpus(), "", "", ("none", False)),
    (cpus(), "Amazon EC2", "p5.48xlarge", ("none", False)), (cpus(GUEST), "Amazon EC2", "p5.48xlarge", ("amazon", True)),
    (cpus(GUEST), "QEMU", "Standard PC (Q35 + ICH9, 2009)", ("kvm", True)), (cpus(GUEST), "Red Hat", "KVM", ("kvm", True)),
    (cpus(), "QEMU", "Standard PC (Q35 + ICH9, 2009)", ("kvm", False)), (cpus(GUEST), "VMware, Inc.", "VMware20,1", ("vmware", True)),
    (cpus(GUEST), "Microsoft Corporation", "Virtual Machine", ("microsoft", True)), (cpus(GUEST), "Xen", "HVM domU", ("xen", True)),
    (cpus(), "Microsoft Corporation", "C2080", ("none", False)), (cpus(GUEST), "Google", "Google Compute Engine", ("google", True)),
    (cpus(GUEST), "DigitalOcean", "Droplet", ("other", True)), (cpus(GUEST), "", "", ("other", True)),
    (ARM, "QEMU", "KVM Virtual Machine", ("kvm", None)), (ARM, "Amazon EC2", "c7g.metal", (None, None)),
    (ARM, "Supermicro", "ARS-221GL", (None, None)), (ARM, "", "", (None, None)),
])  # fmt: skip
def test_machine(cpu: Item, vendor: str, product: str, expected: tuple[str | None, bool | None]) -> None:
    extracted = run(MACHINES, machine(cpu, vendor, product))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ((*expected, None),))


@pytest.mark.parametrize(("there", "container", "expected"), [
    (("/.dockerenv",), None, "docker"), (("/run/.containerenv",), None, "podman"), ((), ok("systemd-nspawn"), "systemd-nspawn"),
    (("/.dockerenv",), ok("lxc\n"), "lxc"), ((), ok(""), None),
])  # fmt: skip
def test_containers(there: tuple[str, ...], container: Item | None, expected: str | None) -> None:
    extracted = run(MACHINES, machine(cpus(), "Supermicro", "X", *there, container=container))
    assert extracted.coverage is Coverage.COMPLETE and extracted.rows[0][2] == expected


@pytest.mark.parametrize("cpu", [cpus(), cpus(GUEST)])
def test_without_smbios_read_it_is_not_known_whose_machine(cpu: Item) -> None:
    for lost in (DMI.id, SYSFS.id):
        evidence = machine(cpu) | {lost: status(Status.DENIED)}
        extracted = run(MACHINES, evidence)
        assert extracted.coverage is Coverage.PARTIAL and extracted.rows[0][0] is None
    unread = ok(json.dumps({ID: dict.fromkeys(DMI.args["names"]) | {"sys_vendor": DENIED, "bios_vendor": "X"}}))
    assert run(MACHINES, machine(cpu, "X") | {DMI.id: unread}).rows[0][0] is None


@pytest.mark.parametrize(("change", "coverage"), [
    ({CPUINFO.id: status(Status.DENIED)}, Coverage.NONE), ({CPUINFO.id: ok("garbage")}, Coverage.NONE),
    ({MARKERS.id: status(Status.TIMEOUT)}, Coverage.PARTIAL), ({CONTAINER.id: status(Status.DENIED)}, Coverage.PARTIAL),
    ({CONTAINER.id: ok("\x1b[2J two words")}, Coverage.PARTIAL),
])  # fmt: skip
def test_machine_otherwise(change: Evidence, coverage: Coverage) -> None:
    assert run(MACHINES, machine(cpus(), "QEMU") | change).coverage is coverage


@pytest.mark.parametrize(("cpu", "rows"), [
    (cpus(), (("0x2b000643", False),)), (cpus(GUEST, "0x1"), (("0x1", True),)), (cpus(microcode="0x1"), (("0x1", False),)),
    (cpus(GUEST, "0xffffffff"), (("0xffffffff", True),)), (cpus(microcode="0xffffffff"), (("0xffffffff", True),)), (ARM, ()),
])  # fmt: skip
def test_microcode(cpu: Item, rows: Any) -> None:
    extracted = run(MICROCODES, {CPUINFO.id: cpu})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, rows)


def test_microcode_not_told() -> None:
    assert run(MICROCODES, {CPUINFO.id: cpus(microcode="new")}).coverage is Coverage.PARTIAL
    assert run(MICROCODES, {CPUINFO.id: status(Status.ABSENT)}).coverage is Coverage.NONE


# --- Secure Boot ----------------------------------------------------------------------------------

UEFI, BOOT_CURRENT, *OTHERS = EFI.args["globs"]
SECURE, SETUP = EFI_VARIABLES.args["globs"]
ON, OFF = {"text": "\6\0\0\0\1"}, {"text": "\6\0\0\0\0"}


def efi(secure: Any = ABSENT, setup: Any = ABSENT, *there: str) -> Evidence:
    """synthetic: efivarfs, 4 bytes of attributes and one of value, as the `files` reader answers it."""
    return {EFI.id: stat(EFI, *(there or (UEFI, BOOT_CURRENT, *OTHERS))), EFI_VARIABLES.id: ok(json.dumps({SECURE: secure, SETUP: setup}))}


@pytest.mark.parametrize(("evidence", "coverage", "rows"), [
    (efi(ON, OFF), Coverage.COMPLETE, ((True, True, False),)), (efi(OFF, ON), Coverage.COMPLETE, ((True, False, True),)),
    (efi(), Coverage.COMPLETE, ((True, False, False),)), (efi(ABSENT, ABSENT, UEFI, *OTHERS), Coverage.PARTIAL, ((True, None, None),)),
    (efi(ABSENT, ABSENT, *OTHERS), Coverage.COMPLETE, ((False, False, None),)),
    (efi(DENIED, OFF), Coverage.PARTIAL, ((True, None, False),)), (efi(DENIED, ABSENT), Coverage.PARTIAL, ((True, None, None),)),
    (efi({"text": "\1"}, {"text": ""}), Coverage.PARTIAL, ((True, None, None),)),
    (efi({"text": "\6\0\0\0\2"}, {"text": 7}), Coverage.PARTIAL, ((True, None, None),)),
])  # fmt: skip
def test_secure_boot(evidence: Evidence, coverage: Coverage, rows: Any) -> None:
    extracted = run(BOOTS, evidence)
    assert (extracted.coverage, extracted.rows) == (coverage, rows)
    never_emptier(BOOTS, evidence)


@pytest.mark.parametrize("evidence", [
    efi(ON, OFF) | {EFI.id: stat(EFI)}, efi(ON, OFF) | {EFI.id: status(Status.DENIED)}, efi() | {EFI_VARIABLES.id: status(Status.TIMEOUT)},
    efi() | {EFI.id: ok(json.dumps({UEFI: DENIED, OTHERS[0]: {"type": "dir"}}))}, efi() | {EFI_VARIABLES.id: ok("[]")},
])  # fmt: skip
def test_secure_boot_hidden_or_unread_is_none(evidence: Evidence) -> None:
    """A container hides all of /sys/firmware: that is no legacy BIOS."""
    assert run(BOOTS, evidence).coverage is Coverage.NONE


# --- Lockdown and vulnerabilities -----------------------------------------------------------------


@pytest.mark.parametrize(("text", "mode"), [
    ("[none] integrity confidentiality\n", "none"), ("none [integrity] confidentiality\n", "integrity"),
    ("none integrity [confidentiality]\n", "confidentiality"),
])  # fmt: skip
def test_lockdown(text: str, mode: str) -> None:
    extracted = run(LOCKDOWNS, {LOCKDOWN.id: ok(text)})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ((mode,),))


@pytest.mark.parametrize("item", [
    ok(""), ok("none integrity confidentiality"), ok("[none] [integrity]"), ok("[maximum]"), ok("[]"), ok("["), ok(b"\xff[none"),
    status(Status.ABSENT), status(Status.DENIED), status(Status.UNREACHED),
])  # fmt: skip
def test_lockdown_otherwise_is_none(item: Item) -> None:
    assert run(LOCKDOWNS, {LOCKDOWN.id: item}).coverage is Coverage.NONE


# synthetic: the kernel's hw-vuln documents, states as they word them
STATES: dict[str, tuple[str, bool | None, list[str]]] = {
    "meltdown": ("Not affected", False, []),
    "mds": ("Mitigation: Clear CPU buffers; SMT vulnerable", False, []),
    "spectre_v2": (
        "Mitigation: Enhanced / Automatic IBRS; IBPB: conditional; PBRSB-eIBRS: SW sequence; BHI: Vulnerable",
        False,
        ["BHI: Vulnerable"],
    ),
    "l1tf": ("Mitigation: PTE Inversion; VMX: vulnerable", False, ["VMX: vulnerable"]),
    "srbds": ("Vulnerable: No microcode", True, []),
    "gather_data_sampling": ("Vulnerable", True, []),
    "spectre_v1": ("Vulnerable; IBPB: disabled; STIBP: disabled", True, []),
    "itlb_multihit": ("KVM: Mitigation: VMX unsupported", False, []),
    "retbleed": ("Processor vulnerable", True, []),
    "tsx_async_abort": ("KVM: Vulnerable", True, []),
    "mmio_stale_data": ("Unknown: No mitigations", None, []),
}


def states(texts: dict[str, Any]) -> Evidence:
    rows = {f"/sys/devices/system/cpu/vulnerabilities/{name}": entry for name, entry in texts.items()}
    return {VULNERABILITIES.id: ok(json.dumps(rows))}


ALL = states({name: {"text": f"{state}\n"} for name, (state, _, _) in STATES.items()})


def test_vulnerabilities() -> None:
    extracted = run(VULNERABLE, ALL)
    assert extracted.coverage is Coverage.COMPLETE
    assert {row[0]: row[1:4] for row in extracted.rows} == STATES
    assert {row[0] for row in extracted.rows if row[4]} == {name for name, (text, _, _) in STATES.items() if "SMT vulnerable" in text}


@pytest.mark.parametrize("text", ["Mitigated by prayer", "not affected", "Mitigation", "nothing", "KVM: ?", "Not affected, mostly"])
def test_other_words_are_never_good(text: str) -> None:
    extracted = run(VULNERABLE, states({"new": {"text": text}}))
    assert extracted.coverage is Coverage.PARTIAL and extracted.rows == (("new", text, None, [], False),)


@pytest.mark.parametrize(("evidence", "coverage"), [
    (states({}), Coverage.NONE), (states({"mds": DENIED}), Coverage.NONE), (states({"mds": {"text": ""}}), Coverage.NONE),
    (states({"mds": DENIED, "l1tf": {"text": "Not affected\n"}}), Coverage.PARTIAL), (states({"mds": {"text": 7}}), Coverage.NONE),
    ({VULNERABILITIES.id: status(Status.TIMEOUT)}, Coverage.NONE), ({VULNERABILITIES.id: ok("garbage")}, Coverage.NONE),
])  # fmt: skip
def test_vulnerabilities_otherwise(evidence: Evidence, coverage: Coverage) -> None:
    assert run(VULNERABLE, evidence).coverage is coverage


# --- Laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("table", "evidence", "source"), [
    (MACHINES, machine(cpus(), "QEMU", container=ok("lxc\n")), CPUINFO), (MACHINES, machine(cpus(), "QEMU"), DMI), (BOOTS, efi(ON, OFF), EFI),
    (BOOTS, efi(ON, OFF), EFI_VARIABLES), (LOCKDOWNS, {LOCKDOWN.id: ok("none [integrity] confidentiality\n")}, LOCKDOWN),
    (MICROCODES, {CPUINFO.id: cpus()}, CPUINFO), (VULNERABLE, ALL, VULNERABILITIES),
])  # fmt: skip
def test_laws(table: Table, evidence: Evidence, source: Any) -> None:
    never_emptier(table, evidence)
    assert list(cut_short(table, evidence, source, step=5))


KEYS = st.sampled_from([ID, "sys_vendor", "/sys/class", UEFI, BOOT_CURRENT, *OTHERS, SECURE, SETUP, "text", "status", "detail", "/x"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)
BODIES = st.one_of(
    st.binary(max_size=200), JSON.map(lambda v: json.dumps(v).encode()), st.just(cpus().body), st.just(ALL[VULNERABILITIES.id].body)
)


@given(st.dictionaries(
    st.sampled_from([source.id for table in TABLES for source in table.sources]), st.builds(Item, st.sampled_from(Status), BODIES),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)
