# SPDX-License-Identifier: Apache-2.0
"""From evidence to tables: each distinct content is parsed once, however many hosts have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from fleet_audit.evidence import Objects
from fleet_audit.facts.base import Extract, Item, Table, extract
from fleet_audit.model import HostEvidence, Record, SourceId
from fleet_audit.tables import Facts, content_id, uncovered


def build(
    evidence: Iterable[HostEvidence], groups: Mapping[str, Sequence[str]], expected: Mapping[str, bool], tables: Mapping[str, Table],
    objects: Objects,
) -> Facts:  # fmt: skip
    """The tables of all hosts; a host of which nothing came back is uncovered in each of them."""
    facts = Facts(tables)
    parsed: dict[str, Extract] = {}
    for host in sorted(evidence, key=lambda e: e.host):
        facts.add_host(host.host, groups.get(host.host, ()), expected=expected.get(host.host, True))
        records = {record.source: record for record in host.records}
        for table in tables.values():
            if not host.answered:
                reason = f"unreached ({host.reach}): {host.detail}"
                facts.add(host.host, table.name, "", uncovered(reason))
                continue
            mine = [records[source.id] for source in table.sources if source.id in records]
            name = content_id(table.name, (_identity(record) for record in mine))
            if name not in parsed:
                parsed[name] = extract(table, _items(mine, objects))
                facts.add(host.host, table.name, name, parsed[name])
                parsed[name] = Extract((), parsed[name].coverage, parsed[name].reason)  # the rows are stored
            else:
                facts.add(host.host, table.name, name, parsed[name])
    facts.finish()
    return facts


def _identity(record: Record) -> tuple[object, ...]:
    """What a parser sees of a record."""
    return record.source, str(record.status), record.detail, record.exit, record.sha256


def _items(records: Iterable[Record], objects: Objects) -> dict[SourceId, Item]:
    return {r.source: Item(r.status, objects.get(r.sha256) if r.sha256 else b"", r.exit, r.detail) for r in records}
