# SPDX-License-Identifier: Apache-2.0
"""The format of a reply, decoded so that no bytes can do harm.

    \\nFA1 NONCE {hello}\\n
    \\nFNONCE <header length> <body length> <crc32, hex>\\n <header: JSON> <body: zlib>      per source
    ... the same with source "" and status "end": the END frame, which alone proves the reply whole

Noise before and after does no harm, a reply cut anywhere yields the whole frames that arrived, and
the work is bounded for any bytes: decoding gives up after 64 broken frames.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BROKEN_LIMIT = 64
HEADER_CAP = 64 << 10
_SIZES = re.compile(rb"(\d{1,8}) (\d{1,9}) ([0-9a-f]{8})\n")
_COSTS = ("cpu_self", "cpu_children", "cpu_init", "rss_kib", "rss_children_kib", "seconds", "raw_bytes")
_STATUS = {"ok", "absent", "denied", "failed", "timeout", "truncated", "skipped", "end"}


@dataclass(frozen=True, slots=True)
class Frame:
    """One source's answer."""

    source: str
    status: str
    detail: str
    exit: int | None
    body: bytes
    packed: bytes
    """The body as it came, zlib-compressed: stored as it is."""
    seconds: float
    cpu: float


@dataclass
class Reply:
    """What a reply held."""

    hello: Mapping[str, Any] | None = None
    """None if the marker never came: the probe did not run."""
    frames: dict[str, Frame] = field(default_factory=dict)
    end: Mapping[str, Any] | None = None
    """`costs` and `notes` of the END frame, as numbers and texts; None if the reply was cut short."""
    notes: list[str] = field(default_factory=list)
    broken: int = 0
    duplicates: int = 0
    """Frames for a source that had been answered; the first counts."""
    over_limit: bool = False


def decode(data: bytes, nonce: str, *, cap: int = 32 << 20, cap_source: int = 4 << 20) -> Reply:
    """All whole frames of a reply; never raises, whatever the bytes."""
    reply = Reply()
    marker, prefix = b"\nFA1 " + nonce.encode() + b" ", b"\nF" + nonce.encode() + b" "
    at = data.find(marker)
    end = data.find(b"\n", at + len(marker), at + len(marker) + 4096) if at >= 0 else -1
    if end < 0:
        return reply
    reply.hello = _json(data[at + len(marker) : end]) or {}
    position, left = end, cap
    while reply.broken < BROKEN_LIMIT and (at := data.find(prefix, position)) >= 0:
        position = at + len(prefix)
        match = _SIZES.match(data, position)
        if match is None:
            continue
        position = match.end()
        header_size, body_size = int(match[1]), int(match[2])
        stop = position + header_size + body_size
        if header_size > HEADER_CAP or stop > len(data):
            reply.broken += 1
            continue
        header, packed = data[position : position + header_size], data[position + header_size : stop]
        if zlib.crc32(packed, zlib.crc32(header)) != int(match[3], 16):
            reply.broken += 1
            continue
        position = stop
        left = _accept(reply, _json(header), packed, left, cap_source)
    if reply.broken:
        reply.notes.append(f"{reply.broken} broken frames")
    if reply.duplicates:
        reply.notes.append(f"{reply.duplicates} duplicate frames dropped")
    return reply


def _accept(reply: Reply, header: Mapping[str, Any] | None, packed: bytes, left: int, cap_source: int) -> int:
    """Take one frame whose checksum holds; returns the bytes that the host may still unpack."""
    try:
        if header is None:
            raise ValueError("header is not JSON")
        source, status, size = header["source"], header["status"], header.get("size", 0)
        if not isinstance(source, str) or status not in _STATUS or type(size) is not int or size < 0:
            raise ValueError("header fields are not what they should be")
        if status == "end":
            if reply.end is None:
                reply.end = {"costs": _costs(header.get("costs")), "notes": _notes(header.get("notes"))}
            return left
        if source in reply.frames:
            reply.duplicates += 1
            return left
        if size > cap_source or size > left:
            reply.over_limit = True
            reply.frames[source] = Frame(source, "truncated", "over the limit when unpacked", None, b"", zlib.compress(b""), 0.0, 0.0)
            return left
        stream = zlib.decompressobj()
        body = stream.decompress(packed, size + 1)
        if len(body) != size or not stream.eof or stream.unused_data:
            raise ValueError("body is not as long as it says")
        code = header.get("exit")
        reply.frames[source] = Frame(
            source,
            status,
            _text(header.get("detail", ""))[:1000],
            code if type(code) is int and abs(code) < 1 << 31 else None,
            body,
            packed,
            _seconds(header.get("seconds")),
            _seconds(header.get("cpu")),
        )
        return left - size
    except (KeyError, TypeError, ValueError, zlib.error):
        reply.broken += 1
        return left


def _json(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str:
    """Text without lone surrogates, which no file takes."""
    return str(value)[:4096].encode("utf-8", "backslashreplace").decode()


def _costs(value: object) -> dict[str, float]:
    """The costs that the program reports, where they are numbers that can be."""
    found = value if isinstance(value, dict) else {}
    return {k: float(v) for k in _COSTS if isinstance(v := found.get(k), int | float) and -1e15 < v < 1e15}


def _notes(value: object) -> list[str]:
    return [_text(note)[:200] for note in value[:20]] if isinstance(value, list) else []


def _seconds(value: object) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e6 else 0.0
