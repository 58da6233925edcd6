# SPDX-License-Identifier: Apache-2.0
"""The store: what is sealed never changes, what is not sealed never looks whole."""

from __future__ import annotations

import contextlib
import json
import random
import resource
import stat
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_audit.evidence import Objects, from_json, to_json
from fleet_audit.model import FleetAuditError, HostEvidence, HostName, InternalError, Reach, Record, SourceId, Status
from fleet_audit.runs import Draft, Run, Store


def _evidence(name: str, detail: str = "") -> HostEvidence:
    record = Record(SourceId("os-release"), Status.OK, detail, 0, "ab" * 32, 5, 0.1, 0.0)
    return HostEvidence(HostName(name), Reach.OK, detail, (record,), True, "local", {"cpu_self": 0.1}, ("a note",), 1.5, 0.2)


def _sealed(store: Store) -> Run:
    draft = store.begin({"profile": "baseline"}, "program", ["os-release"])
    draft.add(_evidence("h1"))
    (draft.folder / "results.parquet").write_bytes(b"rows")
    return draft.seal({"stage": "evaluated", "as_of": datetime(2026, 1, 1, tzinfo=UTC).isoformat(), "hosts": {}})


def test_a_sealed_run_is_found_by_id_prefix_and_latest(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    run = _sealed(store)
    assert store.runs() == [run.file.id]
    assert store.find(run.file.id).folder == store.find("latest").folder == store.find(run.file.id[:14]).folder
    assert [e.host for e in run.evidence()] == ["h1"]
    assert not (run.folder / "journal.jsonl").exists()


def test_every_run_names_the_one_before_by_hash(tmp_path: Path) -> None:
    import hashlib

    store = Store(tmp_path).writable()
    first, second = _sealed(store), _sealed(store)
    assert first.file.previous is None
    assert second.file.previous == {"id": first.file.id, "sha256": hashlib.sha256((first.folder / "run.json").read_bytes()).hexdigest()}


def test_of_runs_that_overlap_each_is_named_by_the_next_one_sealed(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    drafts = [store.begin({}, "p", []) for _ in range(3)]
    sealed = [
        draft.seal({"stage": "collected", "as_of": "2026-01-01T00:00:00", "hosts": {}}) for draft in (drafts[1], drafts[2], drafts[0])
    ]
    assert [run.file.previous and run.file.previous["id"] for run in sealed] == [None, drafts[1].id, drafts[2].id]
    (store.folder / "last").write_text("gone\n")
    after = _sealed(store).file.previous
    assert after is not None and after["id"] == max(draft.id for draft in drafts)


def test_what_an_evaluation_left_behind_is_not_resumed(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    collecting = store.begin({"profile": "a"}, "p", [])
    _close(collecting)
    _close(store.begin({}, "p", [], evidence_of=collecting.id))
    assert {name: head["inputs"] for name, head in store.interrupted().items()} == {collecting.id: {"profile": "a"}}


@contextlib.contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file grows beyond so many bytes: what goes is written, then an error comes, as where there is no room left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_no_stump_in_the_store(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(30_000)
    packed = zlib.compress(body)
    with full_disk(8192), pytest.raises(OSError, match="too large"):
        Objects(tmp_path).put(body, packed)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    name = Objects(tmp_path).put(body, packed)
    assert Objects(tmp_path).get(name) == body


@pytest.mark.parametrize("left", [0, 3, 2000])
def test_a_stump_is_replaced(tmp_path: Path, left: int) -> None:
    body = random.Random(2).randbytes(4000)
    name = Objects(tmp_path).put(body, zlib.compress(body))
    path = tmp_path / name[:2] / name
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(InternalError, match="evidence is"):
        Objects(tmp_path).get(name)
    assert Objects(tmp_path).put(body, zlib.compress(body)) == name
    assert Objects(tmp_path).get(name) == body


def test_a_full_disk_leaves_no_half_line_in_the_journal(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    draft = store.begin({}, "p", [])
    size = (draft.folder / "journal.jsonl").stat().st_size
    with full_disk(size + 20), pytest.raises(OSError, match="too large"):
        draft.add(_evidence("h1"))
    draft.add(_evidence("h2"))
    _close(draft)
    assert set(store.resume(draft.id).evidence) == {"h2"}


def test_modes_keep_others_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "s").writable()
    run = _sealed(store)
    store.objects.put(b"x", zlib.compress(b"x"))
    for path in [store.folder, *store.folder.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert run.folder.exists()


def test_a_run_in_progress_is_invisible_and_locked(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    draft = store.begin({}, "p", [])
    assert (store.runs(), store.partial()) == ([], [draft.id])
    with pytest.raises(FleetAuditError, match="in progress"):
        store.resume(draft.id)
    with pytest.raises(FleetAuditError, match="--resume"):
        store.find(draft.id)


@pytest.mark.parametrize("cut", [0, 1, 7, 20])
def test_a_journal_cut_anywhere_keeps_the_hosts_that_were_whole(tmp_path: Path, cut: int) -> None:
    store = Store(tmp_path).writable()
    draft = store.begin({}, "p", [])
    draft.add(_evidence("h1"))
    draft.add(_evidence("h2"))
    path = draft.folder / "journal.jsonl"
    data = path.read_bytes()
    _close(draft)
    path.write_bytes(data[: len(data) - cut])
    again = store.resume(draft.id)
    assert set(again.evidence) == ({"h1", "h2"} if cut == 0 else {"h1"})
    again.add(_evidence("h2"))
    assert [json.loads(line).get("host") for line in path.read_bytes().splitlines()][-1] == "h2"


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    draft = store.begin({}, "p", [])
    _close(draft)
    (draft.folder / "journal.jsonl").write_bytes(b"{}\n[1]\n")
    with pytest.raises(FleetAuditError, match="damaged"):
        store.resume(draft.id)


def test_an_altered_file_is_named(tmp_path: Path) -> None:
    run = _sealed(Store(tmp_path).writable())
    (run.folder / "results.parquet").write_bytes(b"other")
    with pytest.raises(FleetAuditError, match=r"results\.parquet: the run is broken"):
        run.path("results.parquet")
    with pytest.raises(FleetAuditError, match="has no nothing"):
        run.path("nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema_version": "x"}', "\x00"])
def test_a_broken_run_json_is_named(tmp_path: Path, text: str) -> None:
    store = Store(tmp_path).writable()
    run = _sealed(store)
    (run.folder / "run.json").write_text(text)
    with pytest.raises(FleetAuditError, match=r"run\.json: the run is broken"):
        store.find(run.file.id)


def test_a_run_of_a_newer_version_says_so(tmp_path: Path) -> None:
    store = Store(tmp_path).writable()
    run = _sealed(store)
    path = run.folder / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(FleetAuditError, match="newer"):
        store.find(run.file.id)


def test_objects_are_kept_once_and_checked(tmp_path: Path) -> None:
    objects = Objects(tmp_path)
    name = objects.put(b"body", zlib.compress(b"body"))
    assert objects.put(b"body", zlib.compress(b"body")) == name
    assert Objects(tmp_path).get(name) == b"body"
    path = tmp_path / name[:2] / name
    path.write_bytes(zlib.compress(b"other"))
    with pytest.raises(InternalError, match="not what its name says"):
        Objects(tmp_path).get(name)
    path.write_bytes(b"junk")
    with pytest.raises(InternalError, match="damaged"):
        Objects(tmp_path).get(name)
    path.unlink()
    with pytest.raises(InternalError, match="missing"):
        Objects(tmp_path).get(name)


@settings(max_examples=50)
@given(st.text(), st.text())
def test_evidence_survives_json(host: str, detail: str) -> None:
    evidence = _evidence(host, detail)
    assert from_json(json.loads(json.dumps(to_json(evidence)))) == evidence


def test_a_store_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FleetAuditError, match="--store"):
        Store(tmp_path / "file").writable()


def _close(draft: Draft) -> None:
    import os

    os.close(draft._journal)
