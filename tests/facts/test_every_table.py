# SPDX-License-Identifier: Apache-2.0
"""What holds for every table, found by itself: on this machine as it is, on the demo's nodes (synthetic), and with the corpus.

The corpus is evidence of the tests of this folder that gives nearly every table rows: see make_corpus.py.

A source that was not read, with what stands in for it, leaves a table `partial` or `none`, or says the same as
before; no bytes make a parser raise, hang or invent a row.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.facts import sources, tables
from fleet_audit.facts.base import GAP_CAP, MISSING, Item, Table, extract
from fleet_audit.model import Coverage, Host, HostName, SourceId, Status
from fleet_audit.probe import pack
from fleet_audit.transport.dispatch import Dispatch
from tests.facts import make_corpus

DEMO = Path(__file__).parents[2] / "demo" / "nodes"
NODES = ["this machine", *sorted(path.name for path in DEMO.iterdir())]
UNREAD = (Status.DENIED, Status.FAILED, Status.TIMEOUT, Status.UNREACHED)
Evidence = dict[SourceId, Item]
CORPUS = make_corpus.load()
OF_MANY = ("files", "stat", "attrs", "json", "home_lines", "tokens", "keys")
"""Readers of many paths: an entry of theirs may be denied alone."""
EMPTY = (b"", b"{}", b"[]")
"""What may be true: an empty file, no path that fits, no folder that the policy names."""
FREE_TEXT = {"core-pattern", "kernel-cmdline", "ld-so-preload", "crypttab", "snap-system"}
"""Sources in which a line of any words means something, or (snap-system) an object of any fields."""


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


def cases(nodes: dict[str, Evidence], table: Table) -> Iterator[tuple[str, Evidence]]:
    """(name, evidence): the nodes', then the corpus's for this table."""
    yield from nodes.items()
    yield from ((f"corpus {number}", evidence) for number, evidence in enumerate(CORPUS.get(table.name, ())))


@pytest.mark.slow
def test_most_tables_have_rows_in_the_corpus() -> None:
    with_rows = {name for name, found in CORPUS.items() if name in tables() and all(extract(tables()[name], case).rows for case in found)}
    assert len(with_rows) >= 200, sorted(set(tables()) - with_rows)


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_a_source_that_was_not_read_never_makes_an_emptier_truth(nodes: dict[str, Evidence], table: str) -> None:
    found = tables()[table]
    for name, evidence in cases(nodes, found):
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
    for name, evidence in cases(nodes, found):
        before = extract(found, evidence)
        for source in found.sources:
            body = evidence.get(source.id, MISSING).body
            for size in sorted(chance.sample(range(len(body)), min(4, len(body)))):
                after = extract(found, {**evidence, source.id: Item(Status.TRUNCATED, body[:size], None, "cut short")})
                assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, f"{name}: {source.id} cut at {size}"


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_garbage_makes_no_parser_raise_hang_or_invent(nodes: dict[str, Evidence], table: str) -> None:
    found = tables()[table]
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
    for name, evidence in (case for case in cases(nodes, found) if case[0].startswith(("this", "corpus"))):
        before = extract(found, evidence)
        for source in found.sources:
            for body in garbage:
                begin = time.process_time()
                after = extract(found, {**evidence, source.id: Item(Status.OK, body, 0)})
                assert time.process_time() - begin < 5, source.id
                assert "not understood: " not in after.reason or "Error" not in after.reason or after.coverage is Coverage.NONE
                word = body == b"null" and source.reader in ("file", "command")
                if body not in EMPTY and not word and source.id not in FREE_TEXT:
                    what = f"{name}: {source.id} {body[:12]!r}"
                    assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, what
    everything = {source.id: Item(Status.OK, b"\xff\xfe{]" * 40, 0) for source in found.sources}
    after = extract(found, everything)
    assert after.coverage is not Coverage.COMPLETE or after.rows == ()


@pytest.mark.slow
@pytest.mark.parametrize("table", tables())
def test_a_path_that_was_denied_never_makes_an_emptier_truth(nodes: dict[str, Evidence], table: str) -> None:
    found, chance = tables()[table], random.Random(table)
    for name, evidence in cases(nodes, found):
        before = extract(found, evidence)
        for source in found.sources:
            item = evidence.get(source.id, MISSING)
            if source.reader not in OF_MANY or item.status is not Status.OK:
                continue
            try:
                document = json.loads(item.body)
            except ValueError:
                continue  # a case of the corpus may hold garbage
            for path in chance.sample(sorted(document), min(20, len(document))):
                body = json.dumps(document | {path: {"status": "denied", "detail": ""}}).encode()
                after = extract(found, {**evidence, source.id: Item(Status.OK, body, 0)})
                assert after.coverage is not Coverage.COMPLETE or after.rows == before.rows, f"{name}: {source.id} {path}"


def test_tables_with_the_same_columns_tell_their_difference() -> None:
    docs = [table.doc for table in tables().values()]
    assert sorted({doc for doc in docs if docs.count(doc) > 1}) == []


def test_every_source_has_a_documented_format_and_every_column_a_meaning() -> None:
    for source in sources().values():
        assert len(source.doc) > 20, source.id
        assert not source.otherwise or source.otherwise in sources(), source.id
    for table in tables().values():
        assert "Source:" in table.doc, table.name
        assert all(column.doc for column in table.columns), table.name


HOSTILE = {
    "os": ("os-release", b"ID=" + b"a" * (1 << 20)), "nfs_exports": ("nfs-exports", b"a b " * 100_000), "gpus": ("nvml", b"\n" * (4 << 20)),
    "confidential": ("kernel-log", b"\n" * (4 << 20)), "tee_firmware": ("kernel-log", b"\n" * (4 << 20)),
    "imex_nodes": ("imex-nodes", b"\\\n" * (2 << 20)), "slurm_settings": ("slurm-settings", b"\n" * (2 << 20)),
    "sudo_rules": ("sudoers", b"a\n" * 250_000),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("table", HOSTILE)
def test_hostile_text_does_not_stall(table: str) -> None:
    source, text = HOSTILE[table]
    found = tables()[table]
    reader = next(s for s in found.sources if s.id == source)
    if reader.reader == "files":
        paths = [path for path in reader.args["globs"] if "*" not in path][:2]
        text = json.dumps({path: {"text": text.decode()} for path in paths}).encode()
    for case in CORPUS[table]:
        begin = time.process_time()
        extract(found, {**case, SourceId(source): Item(Status.OK, text, 0)})
        assert time.process_time() - begin < 5


def test_a_parser_is_stopped_after_many_gaps_and_keeps_its_rows() -> None:
    begin = time.process_time()
    after = extract(
        tables()["imex_nodes"], {**CORPUS["imex_nodes"][0], SourceId("imex-nodes"): Item(Status.OK, b"10.0.0.1\n" + b"x\n" * 2_000_000)}
    )
    assert after.coverage is Coverage.PARTIAL and [row[0] for row in after.rows] == ["10.0.0.1"]
    assert f"and {GAP_CAP - 2} more" in after.reason
    assert time.process_time() - begin < 5
