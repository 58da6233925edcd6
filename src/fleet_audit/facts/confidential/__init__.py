# SPDX-License-Identifier: Apache-2.0
"""Confidential computing of the CPU: what a host offers to guests, and what protects this guest.

What only attestation off the node can prove (who built the guest, whether it may be debugged) is not here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.facts.confidential.amd import sev_guest, sev_host, snp_host
from fleet_audit.facts.confidential.intel import sgx, tdx_guest, tdx_host
from fleet_audit.facts.confidential.node import CVM, DEVICES, KERNEL_LOG, KVM, Node, Verdict, read
from fleet_audit.facts.cpu import CPUINFO
from fleet_audit.facts.cpu import parse as parse_cpus


@dataclass(frozen=True)
class Confidential:
    """How far a host or guest is with confidential computing. Source: /proc/cpuinfo, the kernel's log, KVM's parameters, devices, systemd.

    All rows of the CPU's vendor are always there. Flags of the CPU alone never make a guest a protected one.
    """

    technology: Annotated[str, "tdx and sgx (Intel); sev, sev-es and sev-snp (AMD)"]
    side: Annotated[str, "host: offers this to guests (sgx: to programs); guest: is protected by it"]
    rung: Annotated[str | None, "absent, capable, enabled (hosts go no further), active; NULL: undetermined"]
    evidence: Annotated[str, "What decided it"]
    missing: Annotated[str | None, "What the next rung needs; for an active guest, what attestation needs"]


Rule = Callable[[Node], Verdict]
_RULES: dict[str, tuple[tuple[str, str, Rule], ...]] = {
    "GenuineIntel": (("tdx", "host", tdx_host), ("tdx", "guest", tdx_guest), ("sgx", "host", sgx)),
    "AuthenticAMD": (
        ("sev", "host", partial(sev_host, name="sev")),
        ("sev-es", "host", partial(sev_host, name="sev-es")),
        ("sev-snp", "host", snp_host),
        ("sev", "guest", partial(sev_guest, name="sev")),
        ("sev-es", "guest", partial(sev_guest, name="sev-es")),
        ("sev-snp", "guest", partial(sev_guest, name="sev-snp")),
    ),
}


def parse(evidence: Bundle) -> Iterator[Confidential]:
    """All rows of the CPU's vendor; of other vendors (arm, ...) nothing is said."""
    cpus = parse_cpus(evidence)
    rules = _RULES.get(cpus[0].vendor)
    if rules is None or len({cpu.vendor for cpu in cpus}) > 1:
        raise NotUnderstood(f"no rules for CPUs of {cpus[0].vendor[:60]}")
    if cpus[0].flags is None:
        evidence.gap(CPUINFO, "no flags")
    node = read(evidence, cpus[0])
    for technology, side, rule in rules:
        rung, why, missing = rule(node)
        if rung is None:
            evidence.gaps.append(f"{technology} {side} not determined: {why}")
        yield Confidential(technology, side, rung, why[:500], missing and missing[:500])


TABLES = (Table("confidential", Confidential, (CPUINFO, KERNEL_LOG, KVM, DEVICES, CVM), parse),)
