# SPDX-License-Identifier: Apache-2.0
"""A node that runs something else and answers what it likes: its evidence is a value, and fits everything after it."""

from __future__ import annotations

import json
import time
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects, from_json, to_json
from fleet_audit.model import Host, HostEvidence, HostName, Reach, Status
from fleet_audit.probe import pack
from fleet_audit.transport.dispatch import Dispatch
from fleet_audit.transport.interface import Carried, Conversation
from tests.probe.helpers import command

pytestmark = pytest.mark.slow

SOURCES = [command("a", "echo"), command("b", "echo")]
program = pack.build(SOURCES)


class Liar(Dispatch):
    """Answers every conversation with what a function makes of its nonce."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def carry(self, name: str, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        nonce = talk._nonce.decode()  # type: ignore[attr-defined]  # a Dialogue
        talk.start()
        data = self.answer(nonce)
        for at in range(0, len(data), 65536):
            if talk.finished:
                break
            talk.feed(data[at : at + 65536])
        return Carried(Reach.OK, "", 0, 1, 1, 10, len(data))


def frame(nonce: str, head: dict[str, Any], body: bytes = b"") -> bytes:
    top, packed = json.dumps({"size": len(body), **head}).encode(), zlib.compress(body)
    return b"\nF%s %d %d %08x\n" % (nonce.encode(), len(top), len(packed), zlib.crc32(packed, zlib.crc32(top))) + top + packed


def told(answer: Any, folder: Path, limits: Limits | None = None) -> HostEvidence:
    collector = Collector(program, [s.id for s in SOURCES], Objects(folder), limits or Limits(host_s=10), Liar(answer))
    evidence = collector.host(Host(HostName("liar")), "liar")
    line = json.dumps(to_json(evidence), sort_keys=True).encode()  # as the journal keeps it
    assert from_json(json.loads(line)) == evidence and len(line) < 1 << 20
    assert [r.source for r in evidence.records] == ["a", "b"]
    for text in (evidence.detail, *evidence.notes, *(r.detail for r in evidence.records)):
        text.encode("utf-8")
        assert len(text) <= 2000
    assert all(value == value and abs(value) < 1e300 for value in evidence.costs.values())
    assert all(r.exit is None or abs(r.exit) < 1 << 31 for r in evidence.records)
    return evidence


def reply(nonce: str, *frames: bytes, hello: bytes = b"{}") -> bytes:
    return b"\nFA1 %s %s\n" % (nonce.encode(), hello) + b"".join(frames)


ENDS = [
    {"costs": [1]}, {"costs": "x"}, {"costs": {"cpu_self": 10**400}}, {"costs": {"cpu_self": float("nan"), "x": float("inf")}},
    {"costs": {f"k{n}": 1 for n in range(3000)}}, {"costs": {"k" * 60_000: 1}}, {"costs": {"\ud800": 1}}, {"costs": {"wire_sent": 5}},
    {"notes": "x"}, {"notes": {"a": 1}}, {"notes": ["\ud800", 10**400, None, ["x"] * 900]}, {"notes": ["n"] * 3000}, {"costs": None, "notes": None},
]  # fmt: skip


@pytest.mark.parametrize("end", ENDS, ids=range(len(ENDS)))
def test_end_frame_with_any_costs_and_notes_breaks_nothing(end: dict[str, Any], tmp_path: Path) -> None:
    evidence = told(
        lambda n: reply(n, frame(n, {"source": "a", "status": "ok"}, b"x"), frame(n, {"source": "", "status": "end", **end})), tmp_path
    )
    assert evidence.reach is Reach.OK and evidence.records[0].status is Status.OK
    assert evidence.costs["wire_sent"] == 10, "what the controller counted is not the node's to say"
    assert len(evidence.costs) < 64


@pytest.mark.parametrize("head", [
    {"detail": "\ud800\udfff"}, {"detail": {"a": ["b"] * 5000}}, {"detail": 10**400}, {"detail": "\0\x1b[2J\n" * 2000},
    {"exit": 10**300}, {"exit": -(2**63)}, {"exit": True}, {"seconds": 10**400, "cpu": -1}, {"seconds": float("nan")},
], ids=range(9))  # fmt: skip
def test_frame_with_any_header_breaks_nothing(head: dict[str, Any], tmp_path: Path) -> None:
    failed = {"source": "a", "status": "failed", **head}
    evidence = told(lambda n: reply(n, frame(n, failed, b"x"), frame(n, {"source": "", "status": "end"})), tmp_path)
    assert evidence.records[0].status is Status.FAILED


@pytest.mark.parametrize("hello", [b"[]", b"nonsense", b'{"euid": "0"}', b'{"euid": [0]}', b"\xff" * 500, b'{"euid": 0.0}'])
def test_hello_of_any_kind_breaks_nothing(hello: bytes, tmp_path: Path) -> None:
    told(lambda n: reply(n, frame(n, {"source": "", "status": "end"}), hello=hello), tmp_path)


_flat = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
_json = _flat | st.lists(_flat) | st.dictionaries(st.text(), _flat | st.lists(_flat, max_size=3))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(st.lists(st.dictionaries(st.sampled_from(["source", "status", "detail", "exit", "seconds", "cpu", "costs", "notes"]), _json | st.sampled_from(
    ["a", "b", "ok", "end", "failed", ""])), max_size=5))  # fmt: skip
def test_any_frames_break_nothing(tmp_path: Path, heads: list[dict[str, Any]]) -> None:
    told(lambda n: reply(n, *(frame(n, head, b"body") for head in heads)), tmp_path)


def test_sources_that_were_not_asked_for_are_dropped_and_counted(tmp_path: Path) -> None:
    evidence = told(
        lambda n: reply(n, frame(n, {"source": "other", "status": "ok"}, b"x"), frame(n, {"source": "", "status": "end"})), tmp_path
    )
    assert any("not asked for" in note for note in evidence.notes) and {r.status for r in evidence.records} == {Status.UNREACHED}


def test_reply_without_end_is_cut_short_and_what_is_missing_unreached(tmp_path: Path) -> None:
    evidence = told(lambda n: reply(n, frame(n, {"source": "a", "status": "absent"})), tmp_path)
    assert evidence.reach is Reach.CUT_SHORT and [r.status for r in evidence.records] == [Status.ABSENT, Status.UNREACHED]


def test_reply_over_the_cap_of_the_wire_is_over_limit_and_bounded(tmp_path: Path) -> None:
    begin = time.monotonic()
    evidence = told(
        lambda n: reply(n) + b"\nF%s 10 1000000 00000000\n" % n.encode() * 100_000, tmp_path, Limits(host_s=10, wire_bytes=1 << 20)
    )
    assert evidence.reach is Reach.OVER_LIMIT and time.monotonic() - begin < 5
