# SPDX-License-Identifier: Apache-2.0
"""Makes recorded/corpus.json.gz: `.venv/bin/python -m tests.facts.make_corpus`, again whenever a table's sources change.

It runs the tests of this folder and keeps, for each table, evidence of theirs that gave a complete table with rows:
synthetic or recorded, as the tests say. Nothing of the machine that it runs on, nor of the shared data, is kept.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract, Item, Table, extract
from fleet_audit.model import Coverage, SourceId, Status
from tests.facts import helpers, nodes
from tests.probe import helpers as probe

CORPUS = Path(__file__).parent / "recorded" / "corpus.json.gz"
SIZE = 64 << 10
"""Bytes of evidence of one case."""
CASES = 2
"""Cases of one table: those that read most sources, then those with most rows."""
ORIGIN = "Synthetic and recorded cases of tests/facts, as each test there says; collected by tests/facts/make_corpus.py."


def load() -> dict[str, list[dict[SourceId, Item]]]:
    """{table: cases of evidence}."""
    cases = json.loads(gzip.decompress(CORPUS.read_bytes()))["tables"]
    return {table: [{SourceId(id_): _item(*fields) for id_, fields in case.items()} for case in found] for table, found in cases.items()}


def _item(status: str, body: str, code: int | None, detail: str) -> Item:
    return Item(Status(status), body.encode("utf-8", "surrogateescape"), code, detail)


def _skip(*_: Any, **__: Any) -> Any:
    pytest.skip("nothing of this machine, nor of the shared data, comes into the corpus")


def main() -> int:
    """Run the tests, write the file."""
    found: dict[str, dict[tuple[int, int, str], dict[str, Any]]] = {}

    def record(table: Table, items: Mapping[SourceId, Item]) -> Extract:
        extracted = extract(table, items)
        wanted = {id_ for source in table.sources for id_ in (source.id, source.otherwise) if id_ is not None and id_ in items}
        size = sum(len(items[id_].body) for id_ in wanted)
        if tables().get(table.name) is table and extracted.rows and extracted.coverage is Coverage.COMPLETE and size <= SIZE:
            case: dict[str, Any] = {
                id_: [str(items[id_].status), items[id_].body.decode("utf-8", "surrogateescape"), items[id_].exit, items[id_].detail]
                for id_ in sorted(wanted)
            }
            read = sum(items[id_].status is Status.OK for id_ in wanted)
            found.setdefault(table.name, {})[read, len(extracted.rows), json.dumps(case)] = case
        return extracted

    helpers.extract = record
    helpers.shared = nodes.this_machine = probe.ask = _skip
    pytest.main(["-q", "-m", "not slow", "-p", "no:xdist", "-p", "no:randomly", str(Path(__file__).parent)])
    cases = {table: [those[key] for key in sorted(those, reverse=True)[:CASES]] for table, those in sorted(found.items())}
    CORPUS.write_bytes(gzip.compress(json.dumps({"origin": ORIGIN, "tables": cases}, sort_keys=True).encode(), mtime=0))
    print(f"{len(cases)} tables, {CORPUS.stat().st_size} bytes; none of {sorted(set(tables()) - set(cases))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
