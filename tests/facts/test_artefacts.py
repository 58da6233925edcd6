# SPDX-License-Identifier: Apache-2.0
"""Data folders, odd rights, model files and manifests, as the `data` reader answers them (probe/node/trees.py)."""

from __future__ import annotations

import base64
import json
import os
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import artefacts
from fleet_audit.facts.artefacts import DATA, TABLES, runs_code
from fleet_audit.facts.base import Item
from fleet_audit.model import Coverage, DataFolder, SourceId, Status
from fleet_audit.probe.node import trees
from tests.probe.nodes import carried

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

FOLDERS, ODDITIES, MODELS, MANIFESTS = TABLES
Evidence = dict[SourceId, Item]
DIGEST, OTHER = "ab" * 32, "cd" * 32


def folder(**change: Any) -> dict[str, Any]:
    """A folder as the reader tells it (synthetic: trees.py `read_data`)."""
    row: dict[str, Any] = {
        "path": "/data", "kind": "models", "why": "", "status": "ok", "real": "/mnt/data", "mode": 0o750, "uid": 1, "gid": 2, "files": 3,
        "folders": 1, "bytes": 4096, "newest": 1700000000,
        "odd": [
            ["/mnt/data/a", 0o666, 5, 6, 7, 1700000000, "file"], ["/mnt/data/b", 0o777, 5, 6, 7, 1700000000, "folder"],
            ["/mnt/data/c", 0o4755, 0, 0, 7, 1700000000, "file"], ["/mnt/data/d", 0o600, 0, 0, 0, 1700000000, "device"],
        ],
        "models": [
            [["/mnt/data/x.pt", 0o644, 5, 6, 700, 1700000000], {"format": "zip", "verity": None}],
            [["/mnt/data/y.safetensors", 0o444, 0, 0, 800, 1600000000], {"format": "safetensors", "verity": f"sha256:{DIGEST}"}],
        ],
        "manifests": {
            "/mnt/data/fsverity.digests": [
                ["y.safetensors", "sha256", DIGEST], ["./y.safetensors", "sha256", OTHER], ["x.pt", "sha256", OTHER],
                ["gone.pt", "sha256", OTHER], ["README.md", "sha256", OTHER], ["../../etc/x.pt", "sha256", OTHER],
            ],
            "/mnt/data/model.sig": [["y.safetensors", "sha256", DIGEST]],
        },
    }  # fmt: skip
    return row | change


def data(*rows: Any) -> Evidence:
    return {DATA.id: ok(json.dumps(rows))}


def test_a_folder_and_what_is_in_it() -> None:
    evidence = data(folder())
    for table in TABLES:
        assert run(table, evidence).coverage is Coverage.COMPLETE
        never_emptier(table, evidence)
        assert list(cut_short(table, evidence, DATA, step=90))
    (row,) = rows_as_dicts(FOLDERS, run(FOLDERS, evidence))
    assert row == {
        "path": "/data", "kind": "models", "present": True, "whole": True, "real_path": "/mnt/data", "mode": 0o750, "uid": 1, "gid": 2,
        "files": 3, "folders": 1, "size_bytes": 4096, "newest_at": datetime(2023, 11, 14, 22, 13, 20),
    }  # fmt: skip
    odd = rows_as_dicts(ODDITIES, run(ODDITIES, evidence))
    assert [(row["path"][-1], row["kind"], row["world_writable"], row["set_id"]) for row in odd] == [
        ("a", "file", True, False), ("b", "folder", True, False), ("c", "file", False, True), ("d", "device", False, False),
    ]  # fmt: skip
    one, two = rows_as_dicts(MODELS, run(MODELS, evidence))
    assert (one["folder"], one["format"], one["runs_code"], one["verity"]) == ("/data", "zip", True, "")
    assert (two["format"], two["runs_code"], two["verity"], two["size_bytes"]) == ("safetensors", False, f"sha256:{DIGEST}", 800)
    assert two["changed_at"] == datetime(2020, 9, 13, 12, 26, 40)


def test_manifests_say_what_is_there_and_what_matches() -> None:
    rows = rows_as_dicts(MANIFESTS, run(MANIFESTS, data(folder())))
    assert [(row["manifest"].rpartition("/")[2], row["name"], row["present"], row["matches"]) for row in rows] == [
        ("fsverity.digests", "y.safetensors", True, True), ("fsverity.digests", "./y.safetensors", True, False),
        ("fsverity.digests", "x.pt", True, None), ("fsverity.digests", "gone.pt", False, None),
        ("fsverity.digests", "README.md", None, None), ("fsverity.digests", "../../etc/x.pt", None, None),
        ("model.sig", "y.safetensors", True, None),
    ]  # fmt: skip
    part = rows_as_dicts(MANIFESTS, run(MANIFESTS, data(folder(why="more than 99 entries"))))
    assert [row["present"] for row in part if row["name"] == "gone.pt"] == [None]


def test_no_folder_named_is_complete_without_rows() -> None:
    for table in TABLES:
        extracted = run(table, data())
        assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


def test_a_folder_that_is_not_there_is_so_and_no_gap() -> None:
    gone = {"path": "/gone", "kind": "data", "why": "no such file", "status": "absent"}
    extracted = run(FOLDERS, data(gone))
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (("/gone", "data", False, False, *[None] * 8),)
    assert run(MODELS, data(gone)).coverage is Coverage.COMPLETE


@pytest.mark.parametrize("row", [
    {"path": "/nfs", "kind": "data", "why": "network file system (nfs4)", "status": "skipped"},
    {"path": "/nfs", "kind": "data", "why": "Permission denied", "status": "denied"}, {"path": "/nfs", "kind": "data"},
])  # fmt: skip
def test_a_folder_that_was_not_looked_at_is_a_gap(row: dict[str, Any]) -> None:
    for table in TABLES:
        extracted = run(table, data(folder(), row))
        assert extracted.coverage is Coverage.PARTIAL and extracted.rows
    assert run(FOLDERS, data(folder(), row)).rows[1] == ("/nfs", "data", None, False, *[None] * 8)


def test_a_folder_that_is_not_whole_is_a_gap() -> None:
    for table in TABLES:
        extracted = run(table, data(folder(why="more than 100000 entries")))
        assert extracted.coverage is Coverage.PARTIAL and "more than 100000 entries" in extracted.reason and extracted.rows
    assert rows_as_dicts(FOLDERS, run(FOLDERS, data(folder(why="x"))))[0]["whole"] is False


@pytest.mark.parametrize("seen", [{"format": None, "verity": None, "unread": "Permission denied"}, {"format": "zip", "verity": "?"}])
def test_a_model_that_was_not_read_is_a_gap(seen: dict[str, Any]) -> None:
    extracted = run(MODELS, data(folder(models=[[["/mnt/data/x.pt", 0o644, 5, 6, 700, 1700000000], seen]])))
    assert extracted.coverage is Coverage.PARTIAL and rows_as_dicts(MODELS, extracted)[0]["verity"] is None


@pytest.mark.parametrize("names", [None, "truncated", "denied"])
def test_a_manifest_that_was_not_read_is_a_gap(names: Any) -> None:
    extracted = run(MANIFESTS, data(folder(manifests={"/mnt/data/model.sig": names})))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())


@pytest.mark.parametrize(("path", "form", "runs"), [
    ("/m/a.pt", "zip", True), ("/m/a.PTH", "zip", True), ("/m/a.bin", "pickle", True), ("/m/a.npz", "zip", None), ("/m/a.keras", "zip", None),
    ("/m/a.mar", "zip", True), ("/m/a.pt", None, None), ("/m/a.gguf", "gguf", False), ("/m/a.onnx", "onnx", False), ("/m/a.h5", "hdf5", None),
    ("/m/a.npy", "numpy", None), ("/m/a.plan", "tensorrt", None), ("/m/a.safetensors", "pickle", True), ("/m/a.pkl", "safetensors", False),
])  # fmt: skip
def test_what_runs_code(path: str, form: str | None, runs: bool | None) -> None:
    assert runs_code(path, form) is runs


def test_endings_are_those_of_the_reader() -> None:
    for ending in "pt pth bin ckpt pkl safetensors gguf onnx h5 keras npy npz msgpack mar engine plan txt md json".split():
        assert bool(artefacts._MODEL.search(f"/a/b.{ending}")) is bool(trees.MODEL.search(f"/a/b.{ending}"))
    assert artefacts._MODEL.pattern == trees.MODEL.pattern.removeprefix("(?i)")


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "not recorded"), status(Status.DENIED), ok(""), ok("{}"), ok("[3]"), ok("x"), ok('[{"path": 3}]'),
    ok('[{"path": "/x", "status": "ok", "why": ""}]'), ok(json.dumps([folder(models=3, odd=3, manifests=3, newest="x", mode=None)])),
])  # fmt: skip
def test_what_is_not_understood_is_never_complete(item: Item) -> None:
    for table in TABLES:
        assert run(table, {DATA.id: item}).coverage is not Coverage.COMPLETE


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    for table in TABLES:
        assert body.strip() == b"[]" or run(table, {DATA.id: ok(body)}).coverage is Coverage.NONE


@given(st.recursive(st.none() | st.integers() | st.text(max_size=9), lambda inner: st.lists(inner, max_size=7), max_leaves=9))
def test_no_document_raises(part: Any) -> None:
    for name in ("odd", "models", "manifests", "why", "status"):
        for table in TABLES:
            run(table, data(folder(**{name: part})))


@pytest.mark.slow
def test_a_real_folder_by_the_real_program(tmp_path: Path) -> None:
    """Files of this machine, read by the program that goes to nodes."""
    place = tmp_path / "store"
    place.mkdir()
    (place / "good.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + b"\0" * 64)
    (place / "bad.pt").write_bytes(b"\x80\x04" + b"S3cretContent" * 9)
    (place / "bad.pt").chmod(0o666)
    (place / "drop").mkdir()
    (place / "drop").chmod(0o777)
    (place / "fsverity.digests").write_text(f"sha256:{DIGEST} good.safetensors\nsha256:{DIGEST} gone.safetensors\n")
    payload = {"predicate": {"resources": [{"name": "bad.pt", "algorithm": "sha256", "digest": OTHER}]}}
    envelope = {"dsseEnvelope": {"payload": base64.b64encode(json.dumps(payload).encode()).decode()}}
    (place / "model.sig").write_text(json.dumps(envelope))
    reply = carried([DATA], data=[DataFolder(path=str(place), kind="models"), DataFolder(path=str(tmp_path / "gone"))])
    frame = reply.frames[DATA.id]
    assert b"S3cret" not in frame.body
    evidence = {DATA.id: Item(Status(frame.status), frame.body)}
    there, gone = rows_as_dicts(FOLDERS, run(FOLDERS, evidence))
    assert (there["present"], there["whole"], there["files"], there["folders"], there["uid"]) == (True, True, 4, 1, os.getuid())
    assert gone["present"] is False
    models = {Path(row["path"]).name: row for row in rows_as_dicts(MODELS, run(MODELS, evidence))}
    assert {name: (row["format"], row["runs_code"], row["mode"]) for name, row in models.items()} == {
        "good.safetensors": ("safetensors", False, 0o644), "bad.pt": ("pickle", True, 0o666),
    }  # fmt: skip
    odd = {(Path(row["path"]).name, row["kind"]) for row in rows_as_dicts(ODDITIES, run(ODDITIES, evidence))}
    assert odd == {("bad.pt", "file"), ("drop", "folder")}
    named = {(row["name"], row["present"]) for row in rows_as_dicts(MANIFESTS, run(MANIFESTS, evidence))}
    assert named == {("good.safetensors", True), ("gone.safetensors", False), ("bad.pt", True)}
