# SPDX-License-Identifier: Apache-2.0
"""What will be read where: only the sources that the chosen checks need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet_audit.checkfile import Check
from fleet_audit.facts.base import Table
from fleet_audit.inventory import Inventory
from fleet_audit.model import DataFolder, Host, HostName, Roster, Source, SourceId, did_you_mean
from fleet_audit.pattern import fits
from fleet_audit.policy import Policy

ALWAYS = ("os", "kernel_running", "machine")
"""Tables that a report names a node by, whatever is checked."""


@dataclass(frozen=True)
class Plan:
    """Hosts, and the sources and tables that are read from each."""

    hosts: tuple[Host, ...]
    checks: tuple[Check, ...]
    tables: tuple[str, ...]
    sources: tuple[SourceId, ...]
    data: Mapping[HostName, tuple[DataFolder, ...]]
    """The policy's data folders that each host looks at."""
    roster: Roster


def make(
    inventory: Inventory,
    checks: Iterable[Check],
    tables: Mapping[str, Table],
    known: Mapping[SourceId, Source],
    policy: Policy,
    *,
    everything: bool = False,
) -> Plan:
    """The plan for an inventory's hosts and these checks; with `everything` all tables are read."""
    checks = tuple(checks)
    names = set(tables) if everything else {name for check in checks for name in check.tables} | {name for name in ALWAYS if name in tables}
    wanted = {source.id for name in names for source in tables[name].sources}
    todo = list(wanted)
    while todo:  # what a source leans on is asked for with it
        source = known[todo.pop()]
        for other in (source.otherwise, source.when_ok):
            if other is not None and other not in wanted:
                wanted.add(other)
                todo.append(other)
    hosts = inventory.hosts
    data = {host.name: policy.folders(host.name) for host in hosts}
    return Plan(hosts, checks, tuple(sorted(names)), tuple(sorted(wanted)), data, roster(inventory))


def roster(inventory: Inventory) -> Roster:
    """Who belongs to the fleet by this inventory."""
    hosts = inventory.hosts
    return Roster({h.name: h.groups for h in hosts}, {h.name: h.expected for h in hosts}, inventory.others)


def nowhere(policy: Policy, roster: Roster) -> list[str]:
    """What the policy names and the inventory lacks, where it then has no effect.

    Raises `FleetAuditError` where hosts would go unexamined for it: a host that is to read a folder, a group whose
    hosts are to be compared.
    """
    names = {**roster.groups, **roster.others}
    groups = {group for found in names.values() for group in found}
    for number, folder in enumerate(policy.data):
        if folder.on is not None and folder.on not in names:
            raise policy.error(("data", number, "on"), f"the inventory has no host {folder.on!r}{did_you_mean(folder.on, names)}")
    for number, entry in enumerate(policy.peers):
        for group in entry.groups:
            if group not in groups:
                raise policy.error(("peers", number, "groups"), f"no host of the inventory is in {group!r}{did_you_mean(group, groups)}")
    notes = [f"groups.{g}: no host is in it" for g in policy.groups if g not in groups]
    for number, waiver in enumerate(policy.waivers):
        notes += [f"waivers.{number}.groups: no host is in {g!r}" for g in waiver.groups if g not in groups]
        notes += [f"waivers.{number}.hosts: no host fits {p!r}" for p in waiver.hosts if not any(fits(p, name) for name in names)]
    return notes
