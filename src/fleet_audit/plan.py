# SPDX-License-Identifier: Apache-2.0
"""What will be read where: only the sources that the chosen checks need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleet_audit.checkfile import Check
from fleet_audit.facts.base import Table
from fleet_audit.model import DataFolder, Host, HostName, Source, SourceId
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


def make(
    hosts: Sequence[Host],
    checks: Iterable[Check],
    tables: Mapping[str, Table],
    known: Mapping[SourceId, Source],
    policy: Policy,
    *,
    everything: bool = False,
) -> Plan:
    """The plan for these hosts and checks; with `everything` all tables are read."""
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
    return Plan(tuple(hosts), checks, tuple(sorted(names)), tuple(sorted(wanted)), {host.name: policy.folders(host.name) for host in hosts})
