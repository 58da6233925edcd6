# SPDX-License-Identifier: Apache-2.0
"""Tools that keep a host's firewall, by their units and switches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.firewall import ufw
from fleet_audit.facts.units import LINKS, UNITS, SystemdUnit, parse_starts, parse_units
from fleet_audit.model import Source, SourceId

_UNITS = {
    "ufw.service": "ufw", "firewalld.service": "firewalld", "nftables.service": "nftables", "netfilter-persistent.service": "netfilter-persistent",
    "iptables.service": "iptables", "ip6tables.service": "iptables", "ferm.service": "ferm", "shorewall.service": "shorewall",
    "shorewall6.service": "shorewall", "csf.service": "csf",
}  # fmt: skip
FILES = Source(
    SourceId("firewall-units"), "stat",
    {"globs": [*(f"{base}/{unit}" for base in ("/usr/lib/systemd/system", "/lib/systemd/system", "/etc/systemd/system") for unit in _UNITS),
               "/run/systemd/system", "/etc/systemd/system"]},
    "systemd.unit(5): unit files of the tools that load rules; ufw(8), firewalld(1), nft(8), netfilter-persistent(8), ferm(1), shorewall(8).",
)  # fmt: skip


@dataclass(frozen=True)
class FirewallManager:
    """A tool that is installed to load firewall rules. No rows: none that is known here. Source: units, ufw's switch.

    `active` and `enabled` are of its unit and its own switch together: ufw's unit runs with the switch off too.
    """

    tool: Annotated[str, "ufw, firewalld, nftables, netfilter-persistent, iptables, ferm, shorewall or csf"]
    unit: Annotated[str, "Its unit"]
    enabled: Annotated[bool | None, "It loads its rules at boot"]
    active: Annotated[bool | None, "It has loaded its rules, as far as systemd knows; the kernel may hold others"]


def parse(evidence: Bundle) -> Iterator[FirewallManager]:
    """A row per unit that is installed."""
    there = evidence.entries(FILES)
    if "/etc/systemd/system" not in there:
        raise Unread(f"{FILES.id}: no systemd here, whose units would tell")
    switch = ufw.enabled(evidence)
    states: dict[str, SystemdUnit] | None = None
    try:
        states = {unit.name: unit for unit in parse_units(evidence)}
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
    starts = list(parse_starts(evidence))
    masked = {start.name for start in starts if start.masked}
    wanted = {start.name for start in starts if not start.masked and start.wanted_by != "rescue.target"}
    for unit, tool in _UNITS.items():
        if not any(path.endswith(f"/{unit}") for path in there):
            continue
        enabled: bool | None = unit in wanted and unit not in masked
        active: bool | None = None
        if states is not None and "/run/systemd/system" in there:
            active = unit in states and states[unit].active == "active"
        if tool == "ufw" and switch is not True:
            enabled, active = (enabled and switch, active and switch)
        yield FirewallManager(tool, unit, enabled, active)


TABLES = (Table("firewall_managers", FirewallManager, (FILES, ufw.CONF, UNITS, LINKS), parse),)
