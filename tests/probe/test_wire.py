# SPDX-License-Identifier: Apache-2.0
"""Decoding a reply: a hostile node can say anything."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.probe import wire

NONCE = "0123456789abcdef"
HELLO = b'\nFA1 %s {"python":"3.11","uid":0,"euid":0,"time":1.0}\n' % NONCE.encode()
_random = random.Random(7)
BODIES = {f"source{n}": _random.randbytes(40 * n) + b"text " * n for n in range(12)}


def frame(source: object, body: bytes, status: object = "ok", *, size: object = None, packed: bytes | None = None, **more: Any) -> bytes:
    head = {"source": source, "status": status, "detail": "", "exit": None, "seconds": 0.1, "cpu": 0.1,
            "size": len(body) if size is None else size, **more}  # fmt: skip
    return raw_frame(json.dumps(head).encode(), zlib.compress(body) if packed is None else packed)


def raw_frame(top: bytes, packed: bytes) -> bytes:
    return b"\nF%s %d %d %08x\n" % (NONCE.encode(), len(top), len(packed), zlib.crc32(packed, zlib.crc32(top))) + top + packed


END = frame("", b"", "end", costs={"cpu_self": 0.1}, notes=[])
REPLY = HELLO + b"".join(frame(name, body) for name, body in BODIES.items()) + END


def assert_nothing_wrong(reply: wire.Reply) -> None:
    for name, found in reply.frames.items():
        assert found.body == BODIES[name] and zlib.decompress(found.packed) == found.body


def test_whole_reply_gives_every_frame_and_the_end() -> None:
    reply = wire.decode(REPLY, NONCE)
    assert {n: f.body for n, f in reply.frames.items()} == BODIES
    assert reply.end is not None and reply.end["costs"] == {"cpu_self": 0.1}
    assert reply.hello is not None and reply.hello["euid"] == 0 and not reply.broken and not reply.over_limit


def test_cut_at_every_byte_never_gives_a_wrong_body_and_no_end_before_the_end() -> None:
    before = 0
    for cut in range(len(REPLY)):
        reply = wire.decode(REPLY[:cut], NONCE)
        assert_nothing_wrong(reply)
        assert reply.end is None and len(reply.frames) >= before
        before = len(reply.frames)
    assert before == len(BODIES)


@given(st.integers(0, len(REPLY) * 8 - 1))
def test_one_flipped_bit_never_gives_a_wrong_body(bit: int) -> None:
    data = bytearray(REPLY)
    data[bit // 8] ^= 1 << bit % 8
    reply = wire.decode(bytes(data), NONCE)
    assert_nothing_wrong(reply)
    assert reply.hello is None or len(reply.frames) >= len(BODIES) - 1


@given(st.lists(st.tuples(st.integers(0, len(REPLY) - 1), st.binary(max_size=300)), max_size=6))
def test_noise_written_over_the_reply_never_gives_a_wrong_body(patches: list[tuple[int, bytes]]) -> None:
    data = bytearray(REPLY)
    for at, noise in patches:
        data[at : at + len(noise)] = noise
    assert_nothing_wrong(wire.decode(bytes(data), NONCE))


@given(st.binary(max_size=3000))
def test_random_bytes_after_the_marker_never_raise(noise: bytes) -> None:
    reply = wire.decode(HELLO + noise, NONCE)
    assert reply.frames == {} and reply.end is None


_flat = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
_values = _flat | st.lists(_flat | st.lists(_flat, max_size=3), max_size=4)


@given(st.dictionaries(st.sampled_from(["source", "status", "detail", "exit", "size", "seconds", "cpu", "costs", "notes"]), _values))
def test_frames_that_verify_but_hold_any_values_never_raise(head: dict[str, Any]) -> None:
    top = json.dumps(head).encode()
    reply = wire.decode(HELLO + raw_frame(top, zlib.compress(b"x")) + frame("good", b"body") + END, NONCE)
    assert reply.frames["good"].body == b"body" and reply.end is not None


def test_noise_before_between_and_after_does_no_harm() -> None:
    parts = [frame(name, body) for name, body in BODIES.items()]
    noisy = b"Last login: never\nFA1 fake 1\n" + HELLO + b"\nwall: going down\n".join(parts) + b"\nF nonsense 1 2\n" + END + b"bye\n"
    reply = wire.decode(noisy, NONCE)
    assert len(reply.frames) == len(BODIES) and reply.end is not None


def test_marker_of_another_nonce_is_no_marker() -> None:
    reply = wire.decode(REPLY, "f" * 16)
    assert reply.hello is None and not reply.frames and reply.end is None


def test_second_frame_for_a_source_is_dropped_and_noted() -> None:
    reply = wire.decode(HELLO + frame("a", b"first") + frame("a", b"second") + END, NONCE)
    assert reply.frames["a"].body == b"first"
    assert any("duplicate" in note for note in reply.notes)


def test_forged_headers_of_16_mib_are_given_up_after_64() -> None:
    forged = b"\nF%s 100 1000000 00000000\n" % NONCE.encode()
    reply = wire.decode(HELLO + forged * ((16 << 20) // len(forged)), NONCE)
    assert reply.broken == 64 == wire.BROKEN_LIMIT and not reply.frames


def test_forged_headers_that_reach_past_the_end_are_given_up_after_64() -> None:
    forged = b"\nF%s 60000 999999999 00000000\n" % NONCE.encode()
    assert wire.decode(HELLO + forged * 200_000, NONCE).broken == 64


def test_verified_frames_with_bad_headers_are_given_up_after_64_too() -> None:
    reply = wire.decode(HELLO + frame(7, b"") * 500 + frame("late", b"x"), NONCE)
    assert reply.broken == 64 and not reply.frames


def test_bomb_that_says_a_small_size_is_a_broken_frame() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    reply = wire.decode(HELLO + frame("bomb", b"", size=10, packed=bomb) + frame("good", b"x") + END, NONCE)
    assert "bomb" not in reply.frames and reply.broken == 1 and "good" in reply.frames


def test_bomb_that_says_its_size_is_not_unpacked_but_truncated() -> None:
    bomb = zlib.compress(bytes(64 << 20), 9)
    reply = wire.decode(HELLO + frame("bomb", b"", size=64 << 20, packed=bomb) + frame("good", b"x") + END, NONCE)
    assert reply.over_limit and reply.frames["bomb"].status == "truncated" and not reply.frames["bomb"].body
    assert reply.frames["good"].body == b"x"


def test_sources_over_the_limit_of_the_host_are_truncated_and_the_small_ones_still_come() -> None:
    parts = b"".join(frame(f"s{n}", bytes(1000)) for n in range(10))
    reply = wire.decode(HELLO + parts + frame("small", b"x") + END, NONCE, cap=5500, cap_source=2000)
    assert [f.status for f in reply.frames.values()].count("ok") == 6
    assert reply.over_limit and sum(len(f.body) for f in reply.frames.values()) <= 5500


def test_body_with_more_behind_its_end_or_without_one_is_a_broken_frame() -> None:
    more, less = zlib.compress(b"x") + b"hidden", zlib.compress(b"x")[:-2]
    reply = wire.decode(HELLO + frame("a", b"x", packed=more) + frame("b", b"x", packed=less) + frame("good", b"x"), NONCE)
    assert set(reply.frames) == {"good"} and reply.broken == 2


@pytest.mark.parametrize("size", [-1, True, 2.0, "3", None, 1 << 70])
def test_size_that_is_no_size_is_refused(size: object) -> None:
    top = json.dumps({"source": "a", "status": "ok", "size": size}).encode()
    reply = wire.decode(HELLO + raw_frame(top, zlib.compress(b"")) + END, NONCE)
    assert "a" not in reply.frames or reply.frames["a"].status == "truncated"


@pytest.mark.parametrize("seconds", [-1, "x", True, 1e300, float("nan"), float("inf"), None])
def test_times_that_are_none_become_zero_or_stay_finite(seconds: object) -> None:
    reply = wire.decode(HELLO + frame("a", b"x", seconds=seconds, cpu=seconds), NONCE)
    assert 0.0 <= reply.frames["a"].seconds < 1e6


def test_status_that_only_the_controller_may_give_is_refused() -> None:
    reply = wire.decode(HELLO + frame("a", b"", "unreached") + frame("b", b"", "nonsense") + END, NONCE)
    assert not reply.frames and reply.broken == 2


def test_only_the_end_frame_proves_the_reply_whole() -> None:
    whole = REPLY[: -len(END)]
    assert wire.decode(whole, NONCE).end is None
    assert wire.decode(whole + b"\nZ%s\n" % NONCE.encode(), NONCE).end is None


def test_deeply_nested_header_is_a_broken_frame() -> None:
    reply = wire.decode(HELLO + raw_frame(b"[" * 60_000, zlib.compress(b"")) + frame("good", b"x"), NONCE)
    assert "good" in reply.frames and reply.broken == 1


def test_hello_that_is_no_json_leaves_the_frames() -> None:
    reply = wire.decode(b"\nFA1 %s nonsense\n" % NONCE.encode() + frame("a", b"x") + END, NONCE)
    assert reply.hello == {} and "a" in reply.frames
