# SPDX-License-Identifier: Apache-2.0
"""The data set of advisories in the store: a folder of Parquet files for each source, and a manifest that names them.

A source is built beside the one in use; replacing the manifest, one rename, puts it in its place. So whatever ends
an import leaves the data set as it was.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_audit.advisories.reading import DOCUMENTS_CAP, SOURCES, documents, read
from fleet_audit.advisories.records import Batch, Broken, Foreign, Refused
from fleet_audit.model import FleetAuditError
from fleet_audit.tables import connect
from fleet_audit.versions import key

SCHEMA = 1
MANIFEST = "manifest.json"
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "advisories": {"id": "VARCHAR", "kind": "VARCHAR", "cves": "VARCHAR[]", "summary": "VARCHAR", "severity": "VARCHAR",
                   "published": "TIMESTAMP", "modified": "TIMESTAMP"},
    "ranges": {"advisory": "VARCHAR", "cves": "VARCHAR[]", "ecosystem": "VARCHAR", "release": "VARCHAR", "tier": "VARCHAR", "package": "VARCHAR",
               "kind": "VARCHAR", "low": "VARCHAR", "low_key": "VARCHAR", "high": "VARCHAR", "high_key": "VARCHAR", "inclusive": "BOOLEAN",
               "fixed": "VARCHAR", "severity": "VARCHAR", "unparsed": "VARCHAR"},
    "livepatches": {"notice": "VARCHAR", "cve": "VARCHAR", "release": "VARCHAR", "package": "VARCHAR", "kernel": "VARCHAR", "kernel_key": "VARCHAR"},
    "exploited": {"cve": "VARCHAR", "added": "TIMESTAMP", "due": "TIMESTAMP", "ransomware": "BOOLEAN"},
    "scores": {"cve": "VARCHAR", "probability": "DOUBLE", "percentile": "DOUBLE"},
}  # fmt: skip
_FLUSH = 20_000
_REFUSED_SHOWN = 100


class SourceEntry(BaseModel):
    """What the manifest says of a source."""

    model_config = ConfigDict(extra="ignore")
    folder: str
    sha256: str
    """Of its records, in their order."""
    as_of: datetime | None
    """The newest time that its documents name, UTC."""
    taken_at: datetime
    """When it was imported or downloaded, UTC."""
    checked_at: datetime | None = None
    """When its server last said that this is the newest, UTC; None of what was imported."""
    origin: str
    documents: int
    withdrawn: int
    counts: dict[str, int]
    unparsed: int
    """Ranges whose text was not understood."""
    refused: int = 0
    """Documents that lay among its own and could not be read: what they say is missing."""

    def age_days(self, as_of: datetime) -> float:
        """Days since it was current: by its server's word, else by its own, else since it was taken in."""
        return (as_of - (self.checked_at or self.as_of or self.taken_at)).total_seconds() / 86400


class Manifest(BaseModel):
    """Which folder holds each source."""

    model_config = ConfigDict(extra="ignore")
    schema_version: int = SCHEMA
    sources: dict[str, SourceEntry] = {}
    before: list[str] = []
    """Folders of the data set before this one, which a run in progress may still read."""

    @property
    def id(self) -> str:
        """Name of the data set: a hash of its sources' hashes."""
        return hashlib.sha256(repr(sorted((n, s.sha256) for n, s in self.sources.items())).encode()).hexdigest()[:16]


@dataclass
class Imported:
    """What became of an import."""

    sources: dict[str, SourceEntry]
    refused: list[tuple[str, str]] = field(default_factory=list)
    """(document, why), the first hundred."""
    refused_count: int = 0
    kept: dict[str, str] = field(default_factory=dict)
    """Sources that were not replaced, and why: what was there before is still in use."""


class Database:
    """The advisories of a store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def manifest(self) -> Manifest:
        """The sources that there are; none where nothing was imported. Raises `FleetAuditError` if it is broken."""
        path = self.folder / MANIFEST
        try:
            found = Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return Manifest()
        except (OSError, ValidationError, ValueError) as error:
            raise FleetAuditError(f"{path}: it is broken: {str(error).splitlines()[0]}; import or update the advisories again") from None
        if found.schema_version > SCHEMA:
            raise FleetAuditError(f"{path}: made by a newer fleet-audit")
        return found

    def files(self, manifest: Manifest, table: str) -> list[Path]:
        """The Parquet files of a table, of all sources."""
        return [p for name in sorted(manifest.sources) if (p := self.folder / manifest.sources[name].folder / f"{table}.parquet").exists()]

    def attach(self, connection: Any, manifest: Manifest, prefix: str = "adv_") -> None:
        """Make a view of each table in a database, empty where there is no file."""
        for table, columns in COLUMNS.items():
            listed = ", ".join(f"{name}::{kind} AS {name}" for name, kind in columns.items())
            empty = ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns.items())
            files = ", ".join("'" + str(path).replace("'", "''") + "'" for path in self.files(manifest, table))
            body = f"SELECT {listed} FROM read_parquet([{files}])" if files else f"SELECT {empty} LIMIT 0"
            connection.execute(f"CREATE OR REPLACE VIEW {prefix}{table} AS {body}").fetchall()

    def take(
        self, paths: Iterable[Path], origin: str, told: Callable[[int], None] = lambda count: None, *,
        only: str | None = None, checked_at: datetime | None = None, fewer: bool = False,
    ) -> Imported:  # fmt: skip
        """Read documents and put what they hold in the place of the sources that they belong to, or of `only` one.

        Of each source that anything was read of, what was there before is replaced; but not by what comes from an archive
        that breaks off, nor, unless `fewer` allows it, by less than half as many documents. Raises `FleetAuditError` if
        nothing was read.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _Builder(self.folder) as builder:
            done, places = Imported({}), _Places()
            for number, (name, given) in enumerate(item for path in paths for item in documents(path)):
                if number >= DOCUMENTS_CAP:
                    raise FleetAuditError(f"more than {DOCUMENTS_CAP:,} documents")
                try:
                    if isinstance(given, Refused):
                        raise given
                    places.read(name, builder.add(name, given()))
                except (Refused, OSError, EOFError) as refused:
                    places.refused(name, refused)
                    done.refused_count += 1
                    if len(done.refused) < _REFUSED_SHOWN:
                        done.refused.append((name, str(refused)))
                if number % 500 == 499:
                    told(number + 1)
            found = {
                name: entry.model_copy(update={"checked_at": checked_at, "refused": places.missing[name]})
                for name, entry in builder.finish(origin).items() if only in (None, name)
            }  # fmt: skip
            if not found:
                why = f": {done.refused[0][0]}: {done.refused[0][1]}" if done.refused else ": there is no document"
                raise FleetAuditError(f"nothing was read{why}")
            before = self.manifest().sources
            done.kept = {
                name: why for name, entry in found.items()
                if (why := places.broken.get(name) or ("" if fewer else _shrunk(before.get(name), entry)))
            }  # fmt: skip
            done.sources = {name: entry for name, entry in found.items() if name not in done.kept}
            self._replace(done.sources)
        return done

    def checked(self, source: str, now: datetime) -> None:
        """Note that a source is still the newest one."""
        self._replace({source: self.manifest().sources[source].model_copy(update={"checked_at": now})})

    def _replace(self, sources: Mapping[str, SourceEntry]) -> None:
        """Put sources in the place of those of their names, and remove what nobody names any more."""
        with (self.folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            old = self.manifest()
            new = Manifest(sources={**old.sources, **sources}, before=sorted({s.folder for s in old.sources.values()}))
            path = self.folder / f"{MANIFEST}.new"
            path.write_text(new.model_dump_json(indent=1) + "\n", encoding="utf-8")
            path.chmod(0o600)
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
            path.rename(self.folder / MANIFEST)
            kept = {s.folder for s in new.sources.values()} | set(new.before)
            for folder in self.folder.iterdir():
                if folder.is_dir() and folder.name not in kept and folder.name != "downloads" and not folder.name.startswith("."):
                    shutil.rmtree(folder, ignore_errors=True)


def _shrunk(old: SourceEntry | None, new: SourceEntry) -> str:
    """Why a source is not to be replaced; empty if it may be."""
    if old is None or new.documents * 2 >= old.documents:
        return ""
    return f"{new.documents:,} documents are less than half of the {old.documents:,} that are in use; --fewer replaces them all the same"


class _Places:
    """Which sources lie together in an archive or a folder: a document that cannot be read there is missing from all of them."""

    def __init__(self) -> None:
        self._sources: dict[str, set[str]] = defaultdict(set)
        self._refused: Counter[str] = Counter()
        self._broken: dict[str, str] = {}

    def read(self, name: str, source: str) -> None:
        """A document was one of this source."""
        self._sources[self._place(name)].add(source)

    def refused(self, name: str, why: Exception) -> None:
        """A document was not read."""
        if isinstance(why, Broken):
            self._broken[name] = str(why)
        elif not isinstance(why, Foreign):
            self._refused[self._place(name)] += 1

    @property
    def missing(self) -> Counter[str]:
        """Source -> documents that may have been its own."""
        found: Counter[str] = Counter()
        for place, count in self._refused.items():
            for source in self._sources[place]:
                found[source] += count
        return found

    @property
    def broken(self) -> dict[str, str]:
        """Source -> why it is not whole, for those that came from an archive that breaks off."""
        return {source: f"{archive}: {why}" for archive, why in self._broken.items() for source in self._sources[archive]}

    @staticmethod
    def _place(name: str) -> str:
        archive, inside, _ = name.partition("!")
        return archive if inside else os.path.dirname(name)


class _Builder:
    """Collects records of all sources in a database in memory, and writes those that got any."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.batches = {name: Batch() for name in SOURCES}
        self.seen: dict[str, tuple[int, int, datetime | None]] = {}
        self.connection = connect()
        for table, columns in COLUMNS.items():
            listed = ", ".join(f"{name} {kind}" for name, kind in columns.items())
            self.connection.execute(f"CREATE TABLE {table} (source VARCHAR, {listed})").fetchall()

    def __enter__(self) -> _Builder:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def add(self, name: str, data: bytes) -> str:
        """Take in one document; the source that it belongs to."""
        source = read(name, data, self.batches)
        if sum(len(getattr(self.batches[source], table)) for table in COLUMNS) >= _FLUSH:
            self._flush(source)
        return source

    def _flush(self, source: str) -> None:
        batch = self.batches[source]
        rows: dict[str, list[tuple[Any, ...]]] = {
            "advisories": [(a.id, a.kind, list(a.cves), a.summary, a.severity, a.published, a.modified) for a in batch.advisories],
            "ranges": [
                (r.advisory, list(r.cves), r.ecosystem, r.release, r.tier, r.package, r.kind, r.low, _key(r.kind, r.low), r.high,
                 _key(r.kind, r.high), r.inclusive, r.fixed, r.severity, r.unparsed)
                for r in batch.ranges
            ],
            "livepatches": [(p.notice, p.cve, p.release, p.package, p.kernel, key("dpkg", p.kernel)) for p in batch.livepatches],
            "exploited": [(e.cve, e.added, e.due, e.ransomware) for e in batch.exploited],
            "scores": [(s.cve, s.probability, s.percentile) for s in batch.scores],
        }  # fmt: skip
        for table, found in rows.items():
            if found:
                appender = self.connection.appender(table)
                appender.append_rows([(source, *row) for row in found])
                appender.flush()
        documents, withdrawn, as_of = self.seen.get(source, (0, 0, None))
        newest = max((t for t in (as_of, batch.as_of) if t is not None), default=None)
        self.seen[source] = documents + batch.documents, withdrawn + batch.withdrawn, newest
        self.batches[source] = Batch()

    def finish(self, origin: str) -> dict[str, SourceEntry]:
        """Write each source that anything was read of."""
        for source in SOURCES:
            if self.batches[source].documents:
                self._flush(source)
        return {source: self._write(source, origin) for source in sorted(self.seen)}

    def _write(self, source: str, origin: str) -> SourceEntry:
        building = self.folder / f".{source}-{secrets.token_hex(4)}"
        building.mkdir(mode=0o700)
        digest, counts = hashlib.sha256(), {}
        try:
            for table, columns in COLUMNS.items():
                listed = ", ".join(columns)
                path = building / f"{table}.parquet"
                query = f"SELECT DISTINCT {listed} FROM {table} WHERE source = '{source}' ORDER BY ALL"
                count = self.connection.execute(
                    f"SELECT count(*) FROM (SELECT DISTINCT {listed} FROM {table} WHERE source = '{source}')"
                ).fetchall()[0][0]
                if count:
                    quoted = str(path).replace("'", "''")
                    self.connection.execute(f"COPY ({query}) TO '{quoted}' (FORMAT parquet, COMPRESSION zstd)").fetchall()
                    path.chmod(0o600)
                    digest.update(f"{table} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
                counts[table] = count
            unparsed = self.connection.execute(f"SELECT count(*) FROM ranges WHERE source = '{source}' AND unparsed <> ''").fetchall()[0][0]
            name = f"{source}-{digest.hexdigest()[:16]}"
            final = self.folder / name
            if final.exists():
                shutil.rmtree(building)
            else:
                building.rename(final)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        documents, withdrawn, as_of = self.seen[source]
        now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
        return SourceEntry(folder=name, sha256=digest.hexdigest(), as_of=as_of, taken_at=now, origin=origin, documents=documents,
                           withdrawn=withdrawn, counts=counts, unparsed=unparsed)  # fmt: skip


def _key(kind: str, version: str | None) -> str | None:
    return None if version is None else key(kind, version)


@contextlib.contextmanager
def opened(database: Database) -> Iterator[tuple[Any, Manifest]]:
    """A database in memory with views of the whole data set."""
    connection, manifest = connect(), database.manifest()
    try:
        database.attach(connection, manifest)
        yield connection, manifest
    finally:
        connection.close()


def as_json(value: object) -> str:
    """JSON for programs; times as ISO 8601."""
    return json.dumps(value, indent=1, default=lambda o: o.isoformat() if isinstance(o, datetime) else str(o))
