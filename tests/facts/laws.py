# SPDX-License-Identifier: Apache-2.0
"""Laws that every table obeys, for the tests of its module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from fleet_audit.facts.base import Extract, Item, Table
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import run, status

Evidence = Mapping[SourceId, Item]
_SAYS_NOTHING = (Status.DENIED, Status.FAILED, Status.TIMEOUT, Status.TRUNCATED, Status.UNREACHED)


def never_emptier(table: Table, evidence: Evidence) -> None:
    """Taking a source away, with each status and with what stands in for it, is never `complete` with fewer rows."""
    before = run(table, evidence)
    for source in table.sources:
        gone = (source.id, source.otherwise)
        rest = {name: item for name, item in evidence.items() if name not in gone}
        worse: list[Evidence] = [rest]
        worse += [{**rest, source.id: status(what, "taken away")} for what in _SAYS_NOTHING]
        for less in worse:
            after = run(table, less)
            fewer = len(after.rows) < len(before.rows)
            assert not (fewer and after.coverage is Coverage.COMPLETE), f"{table.name} without {source.id}"


def cut_short(table: Table, evidence: Evidence, source: Source, step: int = 50) -> Iterator[Extract]:
    """The table with one source cut at every `step` bytes; never complete."""
    body = evidence[source.id].body
    for size in range(0, len(body), step):
        extracted = run(table, {**evidence, source.id: Item(Status.TRUNCATED, body[:size])})
        assert extracted.coverage is not Coverage.COMPLETE, f"{table.name}: {source.id} cut at {size}"
        yield extracted
