# SPDX-License-Identifier: Apache-2.0
"""Facts in DuckDB: schema from the row types, loading, Parquet files, and a database for untrusted SQL.

Nodes of one image have the same bytes, so rows are stored once for each distinct *content* of a
table's evidence; each table is a view of content rows joined with the hosts that have them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb

from fleet_audit.facts.base import Column, Extract, Table
from fleet_audit.model import Coverage, FleetAuditError, HostName

DatabaseError = duckdb.Error
"""What a statement raises that the database refuses or cannot finish."""
SCHEMA_VERSION = 1
"""Of the Parquet files of a run; a column never changes its type, it gets a new name."""
_COVERAGE = "(host VARCHAR, tab VARCHAR, state VARCHAR, reason VARCHAR, content VARCHAR)"
_HOSTS = "(host VARCHAR, groups VARCHAR[], expected BOOLEAN)"
_LOCK = (
    "SET disabled_filesystems='LocalFileSystem'", "SET enable_external_access=false", "SET allow_community_extensions=false",
    "SET autoload_known_extensions=false", "SET autoinstall_known_extensions=false",
    "SET python_enable_replacements=false", "SET lock_configuration=true",
)  # fmt: skip


def connect(memory: str = "4GB") -> duckdb.DuckDBPyConnection:
    """An empty database in memory; one thread, so that each answer is the same each time."""
    found = duckdb.connect(
        ":memory:", config={"threads": 1, "memory_limit": memory, "temp_directory": "", "max_temp_directory_size": "0KB"}
    )
    found.execute("SET enable_progress_bar = false").fetchall()  # it would be drawn on standard output, reports or not
    return found


@dataclass(frozen=True)
class Schema:
    """The columns of a table, without its sources and parser: what the evaluator needs to know of it."""

    columns: tuple[Column, ...]


class Facts:
    """The tables of a run, as a database."""

    def __init__(self, tables: Mapping[str, Table] | Mapping[str, Schema], memory: str = "4GB") -> None:
        self.tables = tables
        self.connection = connect(memory)
        self._contents: set[tuple[str, str]] = set()
        run = self.connection.execute
        run(f"CREATE TABLE _coverage {_COVERAGE}").fetchall()
        run(f"CREATE TABLE hosts {_HOSTS}").fetchall()
        for name, table in tables.items():
            columns = ", ".join(f'"{c.name}" {c.type}' for c in table.columns)
            run(f"CREATE TABLE _rows_{name} (content VARCHAR, ordinal BIGINT, {columns})").fetchall()
        self._buffers: dict[str, list[tuple[Any, ...]]] = {}
        self._states: dict[str, dict[str, tuple[str, str]]] | None = None

    def add_host(self, name: HostName, groups: Sequence[str], *, expected: bool = True) -> None:
        """Make a host known; one without any facts is `unreached` in every table."""
        self._append("hosts", (name, list(groups), expected))

    def add(self, host: HostName, table: str, content: str, facts: Extract) -> None:
        """Add what a table holds for a host; rows are stored once for each content."""
        self._append("_coverage", (host, table, str(facts.coverage), facts.reason, content))
        if (table, content) not in self._contents:
            self._contents.add((table, content))
            for ordinal, row in enumerate(facts.rows):
                self._append(f"_rows_{table}", (content, ordinal, *row))

    def add_reference(self, name: str, columns: Sequence[Sequence[str]], rows: Iterable[Sequence[Any]]) -> None:
        """Add a reference table: columns as (name, SQL type), dates in the rows as texts or datetimes."""
        given = ", ".join(f'"{column}" {kind}' for column, kind in columns)
        self.connection.execute(f"CREATE TABLE {name} ({given})").fetchall()
        places = ", ".join("?" for _ in columns)
        for row in rows:
            self.connection.execute(f"INSERT INTO {name} VALUES ({places})", list(row)).fetchall()

    def _append(self, target: str, row: tuple[Any, ...]) -> None:
        buffer = self._buffers.setdefault(target, [])
        buffer.append(row)
        if len(buffer) >= 20_000:
            self._flush(target)

    def _flush(self, target: str) -> None:
        if rows := self._buffers.pop(target, []):
            appender = self.connection.appender(target)
            appender.append_rows(rows)
            appender.flush()

    def finish(self) -> None:
        """All rows are in: make the views that checks read."""
        for target in list(self._buffers):
            self._flush(target)
        run = self.connection.execute
        run("CREATE OR REPLACE VIEW coverage AS SELECT host, tab, state, reason FROM _coverage").fetchall()
        run("CREATE OR REPLACE VIEW covered AS SELECT host, tab FROM _coverage WHERE state = 'complete'").fetchall()
        for name, table in self.tables.items():
            columns = ", ".join(f'r."{c.name}"' for c in table.columns)
            run(
                f"CREATE OR REPLACE VIEW {name} AS SELECT c.host, {columns} FROM _coverage c "
                f"JOIN _rows_{name} r ON r.content = c.content WHERE c.tab = '{name}'"
            ).fetchall()

    def coverage(self) -> dict[str, dict[str, tuple[str, str]]]:
        """{host: {table: (state, reason)}} of all hosts, those without a record included; read once."""
        if self._states is None:
            self._states = {host: {} for (host,) in self.connection.execute("SELECT host FROM hosts").fetchall()}
            for host, table, state, reason in self.connection.execute("SELECT host, tab, state, reason FROM _coverage").fetchall():
                self._states.setdefault(host, {})[table] = (state, reason)
        return self._states

    def save(self, folder: Path) -> None:
        """Write Parquet files, each sorted so that the same facts give the same bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        self._copy("SELECT * FROM hosts ORDER BY host", folder / "hosts.parquet")
        self._copy("SELECT * FROM _coverage ORDER BY tab, host", folder / "coverage.parquet")
        for name in self.tables:
            self._copy(f"SELECT * FROM _rows_{name} ORDER BY content, ordinal", folder / f"{name}.parquet")

    def _copy(self, query: str, path: Path) -> None:
        self.connection.execute(f"COPY ({query}) TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)").fetchall()

    @classmethod
    def load(
        cls, tables: Mapping[str, Table] | Mapping[str, Schema], folder: Path, *,
        hosts: Sequence[str] | None = None, only: Iterable[str] | None = None, memory: str = "4GB",
    ) -> Facts:  # fmt: skip
        """Facts of a run, of some hosts and tables if these are named; of the others it is known that they are there.

        A column that did not exist then is NULL.
        """
        facts = cls(tables, memory)
        run = facts.connection.execute
        run(f"INSERT INTO hosts BY NAME SELECT * FROM read_parquet('{_quoted(folder / 'hosts.parquet')}')").fetchall()
        where = "" if hosts is None else " WHERE list_contains($hosts, host)"
        args = {} if hosts is None else {"hosts": list(hosts)}
        covered = _quoted(folder / "coverage.parquet")
        run(f"INSERT INTO _coverage BY NAME SELECT * FROM read_parquet('{covered}'){where}", args).fetchall()
        for name in only if only is not None else tables:
            path = folder / f"{name}.parquet"
            if not path.exists():
                continue
            kept = [c[0] for c in run(f"DESCRIBE SELECT * FROM read_parquet('{_quoted(path)}')").fetchall()]
            known = [f'"{c}"' for c in kept if c in {"content", "ordinal", *(column.name for column in tables[name].columns)}]
            some = "" if hosts is None else f" WHERE content IN (SELECT content FROM _coverage WHERE tab = '{name}')"
            run(f"INSERT INTO _rows_{name} BY NAME SELECT {', '.join(known)} FROM read_parquet('{_quoted(path)}'){some}").fetchall()
        facts.finish()
        return facts

    def lock(self) -> None:
        """From here on no statement reaches a file, an extension or a setting."""
        for statement in _LOCK:
            self.connection.execute(statement).fetchall()


@cache
def _scratch() -> duckdb.DuckDBPyConnection:
    """A database for reading and writing files of one table, shared because opening one takes 15 ms."""
    return connect()


def write_rows(path: Path, columns: Mapping[str, str], rows: Iterable[tuple[Any, ...]]) -> None:
    """Write rows, in the order given, as a Parquet file with these columns and SQL types."""
    connection = _scratch()
    connection.execute(f"CREATE OR REPLACE TABLE t ({', '.join(f'{n} {t}' for n, t in columns.items())})").fetchall()
    if rows := list(rows):
        appender = connection.appender("t")
        appender.append_rows(rows)
        appender.flush()
    connection.execute(f"COPY t TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd)").fetchall()
    connection.execute("DROP TABLE t").fetchall()


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[Any, ...]]:
    """The rows of a Parquet file; a column that it lacks is NULL. Raises `FleetAuditError` if it is broken."""
    connection = _scratch()
    try:
        source = f"read_parquet('{_quoted(path)}')"
        there = {c[0] for c in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
        chosen = ", ".join(c if c in there else f"NULL AS {c}" for c in columns)
        return connection.execute(f"SELECT {chosen} FROM {source}").fetchall()
    except duckdb.Error as error:
        raise FleetAuditError(f"{path}: not a readable Parquet file: {str(error).splitlines()[0]}") from None


def content_id(table: str, parts: Iterable[object]) -> str:
    """Name of a table's content: the hash of the evidence that it is parsed from."""
    return hashlib.sha256(repr((table, *parts)).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def uncovered(reason: str) -> Extract:
    """What a table holds for a host of which nothing came back."""
    return Extract((), Coverage.NONE, reason)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
