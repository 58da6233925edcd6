# SPDX-License-Identifier: Apache-2.0
"""From evidence to tables: each distinct content is parsed once, however many hosts have it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from fleet_audit.evidence import Objects
from fleet_audit.facts.base import Extract, Item, Table, extract
from fleet_audit.model import EMPTY, HostEvidence, HostName, Record, Roster, SourceId
from fleet_audit.tables import Facts, content_id, uncovered


def build(
    evidence: Iterable[HostEvidence], roster: Roster, tables: Mapping[str, Table], objects: Objects, *,
    oldest: float = 0.0, unasked: Mapping[str, str] = EMPTY,
) -> Facts:  # fmt: skip
    """The tables of all hosts; a host of which nothing came back is uncovered in each of them.

    So is one that was read before `oldest` (UNIX time), but for recorded ones, which have no age. `unasked`
    says of which folder of the policy a host was never asked; its tables of data are uncovered too.
    """
    facts = Facts(tables)
    parsed: dict[str, Extract] = {}
    for name, groups in roster.others.items():
        facts.add_host(HostName(name), groups)
    for host in sorted(evidence, key=lambda e: e.host):
        facts.add_host(host.host, roster.groups.get(host.host, ()), expected=roster.expected.get(host.host, True))
        records = {record.source: record for record in host.records}
        lost = ""
        if not host.answered:
            lost = f"unreached ({host.reach}): {host.detail}"
        elif host.transport != "archive" and host.started_at < oldest:
            lost = f"stale: it was read at {datetime.fromtimestamp(host.started_at, UTC):%Y-%m-%d %H:%M} UTC"
        for table in tables.values():
            if why := lost or (unasked.get(host.host, "") if any(source.reader == "data" for source in table.sources) else ""):
                facts.add(host.host, table.name, "", uncovered(why))
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
