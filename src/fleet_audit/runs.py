# SPDX-License-Identifier: Apache-2.0
"""The store: evidence shared by all runs, and a folder for each run.

A run in progress is `runs/ID.partial` with a journal; sealing writes `run.json` last and renames, so
whatever ends the program leaves no run that looks whole. A sealed run never changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import json
import os
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from pydantic import BaseModel, ConfigDict

from fleet_audit import __version__
from fleet_audit.evidence import Objects, from_json, to_json, write_all
from fleet_audit.model import FleetAuditError, HostEvidence

SCHEMA = 1
JOURNAL = "journal.jsonl"


class HostEntry(BaseModel):
    """What `run.json` says of a host."""

    model_config = ConfigDict(extra="ignore")
    groups: list[str]
    expected: bool
    reach: str
    detail: str
    answered: bool
    privileged: bool | None
    transport: str
    seconds: float
    costs: dict[str, float]
    notes: list[str]
    read_at: datetime | None = None
    """When it was read, UTC; None of a recorded one, and in runs of older versions."""


class RunFile(BaseModel):
    """`run.json`: versions, inputs, hosts with their times and costs, hashes of every file and of the run before."""

    model_config = ConfigDict(extra="ignore")
    schema_version: int
    id: str
    version: str
    stage: str
    """`collected` or `evaluated`."""
    started_at: datetime
    as_of: datetime
    program: str
    """SHA-256 of the program that ran on the nodes."""
    sources: list[str]
    inputs: dict[str, Any]
    hosts: dict[str, HostEntry]
    others: dict[str, list[str]] = {}
    """Groups of the inventory's hosts that were not selected."""
    evidence_of: str
    """The run that collected the evidence; its own id unless it was evaluated again."""
    previous: dict[str, str] | None
    """Id and SHA-256 of run.json of the run before."""
    files: dict[str, str]
    """File of the run -> SHA-256."""


def default_folder() -> Path:
    """`$XDG_STATE_HOME/fleet-audit`."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base and os.path.isabs(base) else Path.home() / ".local" / "state") / "fleet-audit"


class Store:
    """A store's folder. Reading it needs no right to write; `writable` makes what is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.objects = Objects(folder / "objects")

    def writable(self) -> Store:
        """The same store, its folders there and open to writing. Raises `FleetAuditError` if it cannot be used."""
        try:
            for name in ("", "objects", "runs", "reports"):
                (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
                if not os.access(self.folder / name, os.W_OK):
                    raise PermissionError(13, "Permission denied")
        except OSError as error:
            raise FleetAuditError(f"{self.folder}: the store cannot be used: {error.strerror}; choose another with --store") from None
        return self

    def _names(self) -> list[Path]:
        folder = self.folder / "runs"
        try:
            return sorted(p for p in folder.iterdir() if p.is_dir())
        except FileNotFoundError:
            raise FleetAuditError(f"{self.folder}: there is no store; `fleet-audit run` makes one, --store names another") from None
        except OSError as error:
            raise FleetAuditError(f"{folder}: {error.strerror}") from None

    def runs(self) -> list[str]:
        """Ids of the sealed runs, oldest first."""
        return [p.name for p in self._names() if "." not in p.name and (p / "run.json").exists()]

    def broken(self) -> list[str]:
        """Names of folders that look like runs and have no run.json."""
        return [p.name for p in self._names() if "." not in p.name and not (p / "run.json").exists()]

    def partial(self) -> list[str]:
        """Ids of the runs that were interrupted or are in progress, oldest first."""
        return [p.name.removesuffix(".partial") for p in self._names() if p.name.endswith(".partial")]

    def find(self, name: str = "latest", *, stage: str | None = None) -> Run:
        """The run of an id, a unique prefix of one, or `latest`. Raises `FleetAuditError` if there is none."""
        ids = self.runs()
        if name == "latest":
            for candidate in reversed(ids):
                run = self._open(candidate)
                if stage is None or run.file.stage == stage:
                    return run
            raise FleetAuditError(f"{self.folder}: no {stage or ''} run yet; `fleet-audit run` makes one".replace("  ", " "))
        found = [i for i in ids if i == name] or [i for i in ids if i.startswith(name)]
        if len(found) > 1:
            raise FleetAuditError(f"{name!r} fits {len(found)} runs: {', '.join(found[:5])}")
        if not found:
            if any(i.startswith(name) for i in self.partial()):
                raise FleetAuditError(f"run {name} was interrupted: `fleet-audit run --resume` completes it")
            raise FleetAuditError(f"{self.folder}: no run is named {name!r}; `fleet-audit runs` lists them")
        run = self._open(found[0])
        if stage is not None and run.file.stage != stage:
            raise FleetAuditError(f"run {run.file.id} is {run.file.stage}, not {stage}: `fleet-audit evaluate {run.file.id}` first")
        return run

    @contextlib.contextmanager
    def last(self) -> Iterator[_Last]:
        """The run that was sealed last; others wait meanwhile."""
        with (self.folder / "last").open("a+", encoding="utf-8") as file:
            os.chmod(file.fileno(), 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            yield _Last(self, file)

    def _open(self, name: str) -> Run:
        return Run(self, self.folder / "runs" / name)

    def begin(self, inputs: Mapping[str, Any], program: str, sources: list[str], *, evidence_of: str | None = None) -> Draft:
        """A new run in progress; with `evidence_of` on the evidence of another one, and nothing to resume."""
        now = datetime.now(UTC)
        name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        folder = self.folder / "runs" / f"{name}.partial"
        folder.mkdir(mode=0o700)
        head = {"id": name, "started_at": now.isoformat(), "inputs": dict(inputs), "program": program, "sources": sources}
        return Draft(self, name, folder, head | ({"evidence_of": evidence_of} if evidence_of else {}))

    def interrupted(self) -> dict[str, dict[str, Any]]:
        """{id: what it was begun with} of the runs whose collecting can go on, newest first."""
        found = {i: _head(self.folder / "runs" / f"{i}.partial" / JOURNAL) for i in reversed(self.partial())}
        return {name: head for name, head in found.items() if head is not None and "evidence_of" not in head}

    def resume(self, name: str) -> Draft:
        """The interrupted run of an id."""
        return Draft(self, name, self.folder / "runs" / f"{name}.partial", None)


class Draft:
    """A run in progress: resumable, invisible to readers."""

    def __init__(self, store: Store, name: str, folder: Path, head: dict[str, Any] | None) -> None:
        self.store, self.id, self.folder = store, name, folder
        self.evidence: dict[str, HostEvidence] = {}
        self._lock = threading.Lock()
        journal = folder / JOURNAL
        self._journal = os.open(journal, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._journal, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._journal)
            raise FleetAuditError(f"run {name} is in progress in another process") from None
        if head is not None:
            self.head = head
            try:
                self._append(head)
            except OSError:
                self.abandon()
                raise
        else:
            self.head = self._replay(journal)
            for path in folder.iterdir():  # what a run that was ended while it was sealed had already made
                if path != journal:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def _replay(self, path: Path) -> dict[str, Any]:
        """Take in a journal; a last line that was cut is cut off."""
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        os.ftruncate(self._journal, len(whole))
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            head: dict[str, Any] = lines[0]
            for value in lines[1:]:
                evidence = from_json(value)
                self.evidence[evidence.host] = evidence
        except (IndexError, KeyError, TypeError, ValueError) as error:
            raise FleetAuditError(f"{path}: the journal is damaged ({error}): delete {self.folder} and run again") from None
        return head

    def _append(self, value: dict[str, Any]) -> None:
        line = json.dumps(value, sort_keys=True).encode() + b"\n"
        with self._lock:
            end = os.fstat(self._journal).st_size
            try:
                write_all(self._journal, line)
            except OSError:
                os.ftruncate(self._journal, end)  # or the next line would begin in the middle of this one
                raise

    def add(self, evidence: HostEvidence) -> None:
        """Keep a host's evidence; safe from several threads."""
        self._append(to_json(evidence))
        self.evidence[evidence.host] = evidence

    def seal(self, manifest: Mapping[str, Any]) -> Run:
        """Make the run whole: all that it holds is written, then `run.json`, then its name."""
        with gzip.GzipFile(self.folder / "evidence.jsonl.gz", "wb", 6, mtime=0) as out:
            for host in sorted(self.evidence):
                out.write(json.dumps(to_json(self.evidence[host]), sort_keys=True).encode() + b"\n")
        made = [p for p in sorted(self.folder.rglob("*")) if p.name != JOURNAL]
        for path in made:
            path.chmod(0o700 if path.is_dir() else 0o600)
        files = {str(p.relative_to(self.folder)): _hash(p) for p in made if p.is_file()}
        final = self.store.folder / "runs" / self.id
        with self.store.last() as last:  # of two runs at once, one is the other's previous
            document = {
                **self.head, "schema_version": SCHEMA, "version": __version__, **manifest,
                "evidence_of": manifest.get("evidence_of", self.id), "files": files, "previous": last.entry(),
            }  # fmt: skip
            path = self.folder / "run.json.new"
            path.write_text(json.dumps(document, sort_keys=True, indent=1) + "\n", encoding="utf-8")
            path.chmod(0o600)
            for each in (*(p for p in made if p.is_file()), path):
                _to_disk(each)
            path.rename(self.folder / "run.json")
            last.set(self.id)
            self.folder.rename(final)
        (final / JOURNAL).unlink()  # kept until now: whatever ends the program before, the run can be resumed
        os.close(self._journal)
        return Run(self.store, final)

    def abandon(self) -> None:
        """Remove a run that has nothing worth keeping."""
        os.close(self._journal)
        shutil.rmtree(self.folder, ignore_errors=True)


class Run:
    """A sealed run."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        path = folder / "run.json"
        try:
            self.file = RunFile.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise FleetAuditError(f"{path}: the run is broken: it has no run.json") from None
        except OSError as error:
            raise FleetAuditError(f"{path}: {error.strerror}") from None
        except ValueError:  # of pydantic too
            raise FleetAuditError(f"{path}: the run is broken: this is no run.json") from None
        if self.file.schema_version > SCHEMA:
            raise FleetAuditError(f"{path}: made by fleet-audit {self.file.version}, which is newer than this one ({__version__})")

    def path(self, name: str) -> Path:
        """A file of the run, its hash checked. Raises `FleetAuditError` if it was altered or is not there."""
        path = self.folder / name
        wanted = self.file.files.get(name)
        if wanted is None or not path.is_file():
            raise FleetAuditError(f"{self.folder}: the run is broken: it has no {name}")
        if _hash(path) != wanted:
            raise FleetAuditError(f"{path}: the run is broken: the file is not the one that run.json names")
        return path

    def facts(self) -> Path:
        """The folder of the facts, every file's hash checked."""
        for name in self.file.files:
            if name.startswith("facts/"):
                self.path(name)
        return self.folder / "facts"

    def document(self, name: str) -> Any:
        """A JSON file of the run."""
        try:
            return json.loads(self.path(name).read_bytes())
        except ValueError as error:
            raise FleetAuditError(f"{self.folder / name}: the run is broken: {error}") from None

    def evidence(self) -> Iterator[HostEvidence]:
        """The evidence of each host, by name."""
        path = self.path("evidence.jsonl.gz")
        try:
            with gzip.open(path) as lines:
                for line in lines:
                    yield from_json(json.loads(line))
        except (OSError, EOFError, KeyError, TypeError, ValueError) as error:
            raise FleetAuditError(f"{path}: the run is broken: {error}") from None


def _head(journal: Path) -> dict[str, Any] | None:
    """The first line of a journal; None if it is not whole: one that was ended before it, or for want of room, holds nothing."""
    try:
        with journal.open("rb") as lines:
            line = lines.readline()
        found = json.loads(line) if line.endswith(b"\n") else None
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _to_disk(path: Path) -> None:
    """See to it that a file outlives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Last:
    """Which run was sealed last: the one line of a file that is locked while a run is sealed."""

    def __init__(self, store: Store, file: IO[str]) -> None:
        self.store, self.file = store, file

    def entry(self) -> dict[str, str] | None:
        """Id and hash of that run, or of the newest one where the file does not tell."""
        runs = self.store.runs()
        name = self.file.read().strip()
        name = name if name in runs else runs[-1] if runs else ""
        return {"id": name, "sha256": _hash(self.store.folder / "runs" / name / "run.json")} if name else None

    def set(self, name: str) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(f"{name}\n")
        self.file.flush()


def _hash(path: Path) -> str:
    with path.open("rb") as handle:
        return _digest(handle)


def _digest(handle: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := handle.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()
