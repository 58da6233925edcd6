# SPDX-License-Identifier: Apache-2.0
"""Runs over time: a small summary of each, first sightings of findings, and which runs to keep.

The summaries are a cache beside the runs: one that is missing or damaged is made again from its run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_audit.findings import Report, load
from fleet_audit.model import FleetAuditError
from fleet_audit.runs import Run, Store
from fleet_audit.tables import DatabaseError, connect

FOLDER = "history"


class Summary(BaseModel):
    """What a trend needs of a run."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    id: str
    started_at: datetime
    profile: str
    hosts: int
    answered: int
    passed: int
    failed: int
    waived: int
    unknown: int
    """Errors counted in."""
    no_answer: int
    open_failures: dict[str, int]
    areas: dict[str, tuple[int, int, int]] = {}
    """Area -> pass, fail, not known."""
    controls: dict[str, tuple[int, int, int]] = {}
    evidence_of: str
    run_sha256: str = ""
    """Of the `run.json` that it was made from: a run that is not that one any more is read again."""

    @property
    def expected(self) -> int:
        """The denominator."""
        return self.passed + self.failed + self.unknown + self.no_answer

    @property
    def at_least(self) -> float | None:
        """Share shown to pass, in per cent."""
        return 100 * self.passed / self.expected if self.expected else None

    @property
    def at_most(self) -> float | None:
        """Share not shown to fail, in per cent."""
        return 100 * (self.expected - self.failed) / self.expected if self.expected else None


@dataclass(frozen=True)
class History:
    """The evaluated runs of a store, oldest first."""

    runs: tuple[Summary, ...]
    skipped: tuple[tuple[str, str], ...]
    """(run, why) of those that are broken."""


def summary(report: Report) -> Summary:
    """What a report says, in short."""
    posture, parts = report.posture(), report.breakdown()
    split = {
        kind: {name: (p.passed, p.failed, p.not_known) for name, p in parts[kind] if p.expected} for kind in ("areas", "controls")
    }  # fmt: skip
    return Summary(
        id=report.id, started_at=report.started_at, profile=str(report.inputs.get("profile") or ""), hosts=len(report.hosts),
        answered=len(report.hosts) - len(report.silent), passed=posture.passed, failed=posture.failed, waived=posture.waived,
        unknown=posture.unknown + posture.error, no_answer=posture.no_answer,
        open_failures={str(s): n for s, n in report.open_failures().items()}, evidence_of=report.evidence_of,
        areas=split["areas"], controls=split["controls"],
    )  # fmt: skip


def remember(store: Store, report: Report) -> Summary:
    """Keep the summary of a run; a store that cannot be written is left as it is."""
    found = summary(report)
    folder = store.folder / FOLDER
    try:
        found = found.model_copy(update={"run_sha256": run_hash(store, report.id)})
        folder.mkdir(mode=0o700, exist_ok=True)
        path = folder / f".{found.id}.new"
        path.write_text(found.model_dump_json() + "\n", encoding="utf-8")
        path.chmod(0o600)
        path.rename(folder / f"{found.id}.json")
    except OSError:
        pass  # it is made again when it is wanted
    return found


def run_hash(store: Store, name: str) -> str:
    """What binds a summary to its run. Raises `OSError` if there is no `run.json`."""
    return hashlib.sha256((store.folder / "runs" / name / "run.json").read_bytes()).hexdigest()


def read(store: Store, *, limit: int | None = None) -> History:
    """The summaries of the newest runs, all if no limit is given. What is broken is named and skipped."""
    runs: list[Summary] = []
    skipped: list[tuple[str, str]] = [(name, "it has no run.json") for name in store.broken()]
    for name in reversed(store.runs()):
        if limit and len(runs) >= limit:
            break
        try:
            kept = Summary.model_validate_json((store.folder / FOLDER / f"{name}.json").read_bytes())
            if kept.run_sha256 == run_hash(store, name):
                runs.append(kept)
                continue
        except (OSError, ValidationError, ValueError):
            pass
        try:
            run = store.find(name)
            if run.file.stage == "evaluated":
                runs.append(remember(store, load(run)))
        except FleetAuditError as error:
            skipped.append((name, str(error)))
    return History(tuple(sorted(runs, key=lambda s: (s.started_at, s.id))), tuple(sorted(skipped)))


class NothingBefore(FleetAuditError):
    """A run is the first of its store."""


def previous(store: Store, run: Run, told: Callable[[str], None] = lambda why: None) -> Run:
    """The newest evaluation of the newest evidence that is older than a run's own; `told` hears of broken runs.

    Raises `NothingBefore` if there is none. What was read when counts, not what was decided when.
    """
    best: Run | None = None
    same = False
    for name in store.runs():
        try:
            found = store.find(name)
        except FleetAuditError as error:
            told(str(error))
            continue
        if found.file.stage != "evaluated" or found.file.id == run.file.id:
            continue
        same |= found.file.evidence_of == run.file.evidence_of
        if found.file.evidence_of < run.file.evidence_of and (best is None or found.file.evidence_of >= best.file.evidence_of):
            best = found
    if best is not None:
        return best
    raise NothingBefore(
        f"run {run.file.id} has no evaluated run of earlier evidence to compare with; name one"
        + (", such as one of the same evidence" if same else "")
    )


def outcomes(store: Store, column: Literal["host", "check_id"], value: str, names: Sequence[str]) -> dict[str, dict[str, int]]:
    """{run: {outcome: how many}} of a host or a check in some runs; runs without it, or broken, are left out."""
    files = [path for name in names if (path := store.folder / "runs" / name / "results.parquet").is_file()]
    connection = connect()
    try:
        found: dict[str, dict[str, int]] = {}
        for run, outcome, count in _outcomes(connection, column, value, files) if files else ():
            found.setdefault(run, {})[outcome] = count
        return found
    finally:
        connection.close()


def _outcomes(connection: Any, column: str, value: str, files: Sequence[Path]) -> list[tuple[str, str, int]]:
    """A file that is broken costs its own run alone."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    query = f"""SELECT filename, outcome, count(*) FROM read_parquet([{listed}], filename = true) WHERE {column} = ? GROUP BY ALL"""
    try:
        return [(Path(file).parent.name, outcome, n) for file, outcome, n in connection.execute(query, [value]).fetchall()]
    except DatabaseError:
        middle = len(files) // 2
        return (
            []
            if len(files) == 1
            else [row for half in (files[:middle], files[middle:]) for row in _outcomes(connection, column, value, half)]
        )


def missing_since(store: Store, hosts: Collection[str]) -> dict[str, datetime]:
    """{host: since when it has not answered} over the audits before now; a host that none of them has is left out."""
    since: dict[str, datetime] = {}
    todo = set(hosts)
    for name in reversed(store.runs()):
        if not todo:
            break
        try:
            file = store.find(name).file
        except FleetAuditError:
            continue
        if file.evidence_of != name:
            continue
        for host in sorted(todo & file.hosts.keys()):
            if file.hosts[host].answered:
                todo.discard(host)
            since[host] = _time(name)
    return since


@dataclass(frozen=True)
class Age:
    """Since when a finding fails."""

    first_run: str
    first_seen: datetime
    runs: int
    """In how many audits it failed; evidence that was decided several times counts once."""


def read_at(report: Report) -> datetime:
    """When the evidence of a run was read, UTC."""
    return _time(report.evidence_of)


def ages(store: Store, report: Report) -> dict[str, Age]:
    """{fingerprint: age} of the failures of a run, over it and the newest evaluation of all evidence before its own."""
    wanted = sorted({f.fingerprint for f in report.findings if f.outcome == "fail"})
    newest = {s.evidence_of: s.id for s in read(store).runs if s.evidence_of < report.evidence_of}
    files = [p for name in (*sorted(newest.values()), report.id) if (p := store.folder / "runs" / name / "findings.parquet").is_file()]
    if not wanted or not files:
        return {}
    connection = connect()
    try:
        connection.execute("CREATE TABLE wanted (fingerprint VARCHAR)").fetchall()
        appender = connection.appender("wanted")
        appender.append_rows([(w,) for w in wanted])
        appender.flush()
        found = _sightings(connection, files)
    finally:
        connection.close()
    of = {name: evidence for evidence, name in newest.items()} | {report.id: report.evidence_of}
    return {name: Age(of[first], _time(of[first]), count) for name, (first, count) in found.items()}


def _sightings(connection: Any, files: Sequence[Path]) -> dict[str, tuple[str, int]]:
    """{fingerprint: (first run, how many runs)} of those in the table `wanted`; a file that is broken costs its own run alone."""
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
    query = f"""SELECT f.fingerprint, min(f.filename), count(DISTINCT f.filename) FROM read_parquet([{listed}], filename = true) AS f
                SEMI JOIN wanted USING (fingerprint) WHERE f.outcome = 'fail' GROUP BY f.fingerprint"""
    try:
        return {name: (Path(first).parent.name, count) for name, first, count in connection.execute(query).fetchall()}
    except DatabaseError:
        if len(files) == 1:
            return {}
    middle, found = len(files) // 2, dict[str, tuple[str, int]]()
    for half in (files[:middle], files[middle:]):
        for name, (first, count) in _sightings(connection, half).items():
            before = found.get(name, (first, 0))
            found[name] = before[0], before[1] + count
    return found


def _time(run: str) -> datetime:
    """The time in a run's id."""
    return datetime.strptime(run.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


@dataclass(frozen=True)
class Fixed:
    """A failure that was seen to hold again."""

    check: str
    host: str
    subject: str
    first_seen: datetime
    fixed_at: datetime
    """When the first audit after its last failure was read that determined its result."""

    @property
    def days(self) -> float:
        """How long it was open, as far as the audits tell."""
        return (self.fixed_at - self.first_seen).total_seconds() / 86400


def fixed(store: Store) -> list[Fixed]:
    """All failures of the store's audits that were seen to hold again, the newest first. What is only lost from sight is none."""
    newest = {s.evidence_of: s.id for s in read(store).runs}
    order = sorted(newest)
    runs = [(n, name) for n, evidence in enumerate(order) if _both(store, name := newest[evidence])]
    if len(runs) < 2:
        return []
    connection = connect()
    try:
        connection.execute("CREATE TABLE runs (n BIGINT, run VARCHAR)").fetchall()
        appender = connection.appender("runs")
        appender.append_rows(runs)
        appender.flush()

        def files(kind: str) -> str:
            paths = ", ".join("'" + str(store.folder / "runs" / name / f"{kind}.parquet").replace("'", "''") + "'" for _, name in runs)
            return f"read_parquet([{paths}], filename = true)"

        rows = connection.execute(
            f"""WITH failed AS (SELECT f.check_id, f.host, f.fingerprint, any_value(f.subject) AS subject, min(r.n) AS first, max(r.n) AS last
                                FROM {files("findings")} AS f JOIN runs AS r ON r.run = split_part(f.filename, '/', -2)
                                WHERE f.outcome = 'fail' GROUP BY f.check_id, f.host, f.fingerprint),
                     pair AS (SELECT DISTINCT check_id, host FROM failed WHERE last < (SELECT max(n) FROM runs)),
                     known AS (SELECT o.check_id, o.host, r.n FROM {files("results")} AS o SEMI JOIN pair USING (check_id, host)
                               JOIN runs AS r ON r.run = split_part(o.filename, '/', -2) WHERE o.outcome IN ('pass', 'fail'))
                SELECT f.check_id, f.host, f.subject, f.first, min(k.n) FROM failed AS f JOIN known AS k
                ON k.check_id = f.check_id AND k.host = f.host AND k.n > f.last GROUP BY ALL ORDER BY 5 DESC, 1, 2, 3"""
        ).fetchall()
    except DatabaseError as error:
        raise FleetAuditError(f"a run of the store cannot be read: {str(error).splitlines()[0]}; `fleet-audit runs` lists them") from None
    finally:
        connection.close()
    return [Fixed(check, host, subject, _time(order[first]), _time(order[seen])) for check, host, subject, first, seen in rows]


def _both(store: Store, name: str) -> bool:
    return all((store.folder / "runs" / name / f"{kind}.parquet").is_file() for kind in ("findings", "results"))


# ---------------------------------------------------------------- which runs to keep


def keepers(runs: Mapping[str, str], daily: int, weekly: int, monthly: int) -> set[str]:
    """Of the evaluated runs, each with the run whose evidence it decides, those to keep, and the runs of their evidence.

    Kept is the newest evaluation of the newest evidence of each of so many days, weeks and months that have one, and the newest of all.
    """
    audits = {evidence: name for name, evidence in sorted(runs.items())}  # of each evidence its newest evaluation
    kept: set[str] = {audits[max(audits)], max(runs)} if runs else set()
    for count, form in ((daily, "%Y-%m-%d"), (weekly, "%G-%V"), (monthly, "%Y-%m")):
        periods: dict[str, str] = {}
        for evidence in sorted(audits):
            periods[f"{_time(evidence):{form}}"] = audits[evidence]
        kept |= {periods[p] for p in sorted(periods, reverse=True)[:count]}
    return kept | {runs[name] for name in kept}


def prune(store: Store, remove: Iterable[str]) -> tuple[int, int]:
    """Remove runs but for their `run.json`, and the evidence that no run needs any more; (runs, objects) removed.

    Evidence stays while a run is in progress: what that has stored is named nowhere yet.
    """
    count = 0
    for name in remove:
        folder = store.folder / "runs" / name
        doomed = folder.with_name(f"{name}.pruned")
        folder.rename(doomed)  # from here on nobody takes it for a run
        (store.folder / FOLDER / f"{name}.json").unlink(missing_ok=True)
        count += 1
    for left in (store.folder / "runs").glob("*.pruned"):
        for path in left.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "run.json":  # it stays: the run after it names it by its hash
                path.unlink(missing_ok=True)
    if store.partial():
        return count, 0
    needed = set()
    for name in store.runs():
        try:
            for evidence in store.find(name).evidence():
                needed |= {record.sha256 for record in evidence.records if record.sha256}
        except FleetAuditError:  # nobody knows what a broken run needs
            return count, 0
    gone = 0
    for path in (store.folder / "objects").rglob("*"):
        if path.is_file() and len(path.name) == 64 and path.name not in needed:
            path.unlink()
            gone += 1
    return count, gone


def as_json(found: History) -> str:
    """For programs."""
    return json.dumps({
        "runs": [{**s.model_dump(mode="json"), "expected": s.expected, "at_least": s.at_least, "at_most": s.at_most} for s in found.runs],
        "skipped": [{"run": name, "reason": why} for name, why in found.skipped],
    }, indent=1)  # fmt: skip
