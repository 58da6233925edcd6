# SPDX-License-Identifier: Apache-2.0
"""What came back: bytes addressed by their content, and a record per host and source."""

from __future__ import annotations

import hashlib
import os
import threading
import zlib
from collections import OrderedDict
from pathlib import Path
from typing import Any

from fleet_audit.model import HostEvidence, HostName, MachineError, Reach, Record, SourceId, Status

_CACHE_BYTES = 64 << 20
_BODY_CAP = 64 << 20


class Objects:
    """Evidence by the SHA-256 of its raw bytes, compressed, shared by all runs. Never altered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._there: set[str] = set()
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()

    def put(self, body: bytes, packed: bytes) -> str:
        """Keep `body`, given also as its zlib stream; its hash."""
        name = hashlib.sha256(body).hexdigest()
        with self._lock:
            self._remember(name, body)
            if name in self._there:
                return name
        path = self._path(name)
        if not _holds(path, body):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}")
            try:
                with open(temporary, "xb", buffering=0, opener=_private) as out:
                    write_all(out.fileno(), packed)
                temporary.rename(path)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise
        with self._lock:
            self._there.add(name)
        return name

    def get(self, name: str) -> bytes:
        """The bytes of a hash. Raises `MachineError` if they are lost or damaged."""
        with self._lock:
            if name in self._cache:
                return self._cache[name]
        path = self._path(name)
        try:
            body = zlib.decompressobj().decompress(path.read_bytes(), _BODY_CAP)
        except OSError as error:
            raise MachineError(f"{path}: evidence is missing: {error.strerror}") from None
        except zlib.error:
            raise MachineError(f"{path}: evidence is damaged") from None
        if hashlib.sha256(body).hexdigest() != name:
            raise MachineError(f"{path}: evidence is not what its name says")
        with self._lock:
            self._remember(name, body)
        return body

    def _remember(self, name: str, body: bytes) -> None:
        if name in self._cache or len(body) > _CACHE_BYTES >> 3:
            return
        self._cache[name] = body
        self._cached += len(body)
        while self._cached > _CACHE_BYTES:
            self._cached -= len(self._cache.popitem(last=False)[1])

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / name


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _holds(path: Path, body: bytes) -> bool:
    """Whether a file is there and ends as the stream of these bytes does; a full disk or a power cut may have left less of it."""
    try:
        with path.open("rb") as file:
            file.seek(-4, os.SEEK_END)
            return file.read() == zlib.adler32(body).to_bytes(4, "big")
    except OSError:
        return False


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it, however little goes at a time."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def to_json(evidence: HostEvidence) -> dict[str, Any]:
    """A host's evidence as a JSON value."""
    return {
        "host": evidence.host, "reach": str(evidence.reach), "detail": evidence.detail, "privileged": evidence.privileged,
        "transport": evidence.transport, "costs": dict(evidence.costs), "notes": list(evidence.notes),
        "started_at": evidence.started_at, "seconds": evidence.seconds,
        "records": [[r.source, str(r.status), r.detail, r.exit, r.sha256, r.size, r.seconds, r.cpu_seconds] for r in evidence.records],
    }  # fmt: skip


def from_json(value: dict[str, Any]) -> HostEvidence:
    """A host's evidence from its JSON value. Raises `KeyError`, `TypeError` or `ValueError` if it is none."""
    records = tuple(
        Record(SourceId(source), Status(status), detail, code, sha256, size, seconds, cpu)
        for source, status, detail, code, sha256, size, seconds, cpu in value["records"]
    )
    return HostEvidence(
        HostName(value["host"]), Reach(value["reach"]), value["detail"], records, value["privileged"], value["transport"],
        value["costs"], tuple(value["notes"]), value["started_at"], value["seconds"],
    )  # fmt: skip
