# SPDX-License-Identifier: Apache-2.0
"""What holds for every table, found by itself: on this machine as it is, and on the demo's nodes (synthetic).

A source that was not read, with what stands in for it, leaves a table `partial` or `none`, or says the same as
before; no bytes make a parser raise, hang or invent a row.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.facts import sources, tables
from fleet_audit.facts.base import Item, extract
from fleet_audit.model import Coverage, Host, HostName, SourceId, Status
from fleet_audit.probe import pack
from fleet_audit.transport.dispatch import Dispatch

DEMO = Path(__file__).parents[2] / "demo" / "nodes"
NODES = ["this machine", *sorted(path.name for path in DEMO.iterdir())]
UNREAD = (Status.DENIED, Status.FAILED, Status.TIMEOUT, Status.UNREACHED)
Evidence = dict[SourceId, Item]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Evidence]]:
    """{node: all evidence}; this machine is read by the real program."""
    objects, dispatch = Objects(tmp_path_factory.mktemp("objects")), Dispatch()
    collector = Collector(pack.build(sources().values()), sorted(sources()), objects, Limits(host_s=120), dispatch)
    found = {}
    for name in NODES:
        local = name == "this machine"
        host = Host(HostName("node"), address="" if local else str(DEMO / name), connection="local" if local else "archive")
        evidence = collector.host(host, host.connection)
        assert evidence.reach == "ok", evidence.detail
        found[name] = {r.source: Item(r.status, objects.get(r.sha256) if r.sha256 else b"", r.exit, r.detail) for r in evidence.records}
    yield found
    dispatch.close()


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_a_source_that_was_not_read_never_makes_an_emptier_truth(nodes: dict[str, Evidence], table: str) -> None:
    found = tables()[table]
    for name, evidence in nodes.items():
        before = extract(found, evidence)
        for source in found.sources:
            gone = {source.id, source.otherwise}
            rest = {key: item for key, item in evidence.items() if key not in gone}
            for status in UNREAD:
                after = extract(found, {**rest, source.id: Item(status, detail="taken away")})
                assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, f"{name}: {source.id} {status}"
            after = extract(found, rest)
            assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, f"{name}: {source.id} not asked for"


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_a_source_that_was_cut_never_makes_an_emptier_truth(nodes: dict[str, Evidence], table: str) -> None:
    found, chance = tables()[table], random.Random(table)
    for name, evidence in nodes.items():
        before = extract(found, evidence)
        for source in found.sources:
            body = evidence[source.id].body
            for size in sorted(chance.sample(range(len(body)), min(4, len(body)))):
                after = extract(found, {**evidence, source.id: Item(Status.TRUNCATED, body[:size], None, "cut short")})
                assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, f"{name}: {source.id} cut at {size}"


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_garbage_makes_no_parser_raise_hang_or_invent(nodes: dict[str, Evidence], table: str) -> None:
    found = tables()[table]
    evidence = nodes["this machine"]
    garbage = (
        b"",
        b"\0" * 64,
        b"\xff\xfe{]" * 40,
        b"{}",
        b"[]",
        b"null",
        b'{"a": 1}',
        b"[" * 100_000,
        b"a b c d e f g\n" * 2000,
        b"=" * 100_000,
    )
    for source in found.sources:
        for body in garbage:
            begin = time.process_time()
            after = extract(found, {**evidence, source.id: Item(Status.OK, body, 0)})
            assert time.process_time() - begin < 5, source.id
            assert "not understood: " not in after.reason or "Error" not in after.reason or after.coverage is Coverage.NONE
    everything = {source.id: Item(Status.OK, b"\xff\xfe{]" * 40, 0) for source in found.sources}
    after = extract(found, everything)
    assert after.coverage is not Coverage.COMPLETE or after.rows == ()


def test_every_source_has_a_documented_format_and_every_column_a_meaning() -> None:
    for source in sources().values():
        assert len(source.doc) > 20, source.id
        assert not source.otherwise or source.otherwise in sources(), source.id
    for table in tables().values():
        assert "Source:" in table.doc or "source" in table.doc.lower(), table.name
        assert all(column.doc for column in table.columns), table.name
