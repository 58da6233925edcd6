# SPDX-License-Identifier: Apache-2.0
"""Reference tables: dated data that checks lean on, such as ends of support. One YAML file each, `checks/reference/`.

A site's folder of checks may hold some too: with `mode: extend` its rows are added to those of the shipped table, and
replace those of the same key, and the table is as old as the older of both; else it stands in place of it. In SQL a table has the file's id, such as
`ref_os_releases`. A text of `type: version` also has a column NAME_key, which sorts, and one NAME_KIND_key for each
further kind of version that it is compared with.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_audit import yamlfile
from fleet_audit.facts.base import Column
from fleet_audit.model import FleetAuditError
from fleet_audit.versions import key

PREFIX = "ref_"
LIST = "ref_tables"
"""The built-in table of them: name, as_of, stale."""
LIST_COLUMNS = (("name", "VARCHAR"), ("as_of", "TIMESTAMP"), ("stale", "BOOLEAN"))
ROW_CAP = 20_000
_STRICT = ConfigDict(extra="forbid", frozen=True)
_TYPES = {"text": "VARCHAR", "texts": "VARCHAR[]", "date": "TIMESTAMP", "number": "BIGINT", "boolean": "BOOLEAN", "version": "VARCHAR"}
_PYTHON: dict[str, type] = {"text": str, "texts": list, "date": dt.date, "number": int, "boolean": bool, "version": str}

Kind = Literal["dotted", "dpkg", "rpm", "pep440"]


class ColumnFile(BaseModel):
    """One column of a reference table."""

    model_config = _STRICT
    type: Literal["text", "texts", "date", "number", "boolean", "version"]
    kind: Annotated[Kind, Field(description="How a version sorts")] = "dotted"
    also: Annotated[list[Kind], Field(description="Further kinds of versions that it is compared with")] = []
    doc: Annotated[str, Field(min_length=3, description="What it means")]

    def keys(self, name: str) -> Mapping[str, str]:
        """The columns of sortable keys that a column of this name brings, with their kinds."""
        if self.type != "version":
            return {}
        return {f"{name}_key": self.kind} | {f"{name}_{kind}_key": kind for kind in self.also}


class TableFile(BaseModel):
    """A reference table."""

    model_config = _STRICT
    id: Annotated[str, Field(pattern=r"^ref_[a-z][a-z0-9_]*$")]
    title: Annotated[str, Field(min_length=3)]
    as_of: Annotated[dt.date, Field(description="Day on which the data was true")]
    sources: Annotated[list[str], Field(min_length=1, description="Where it comes from, with the date read")]
    mode: Annotated[Literal["whole", "extend"], Field(description="extend: adds to the shipped table of this name")] = "whole"
    key: Annotated[list[str], Field(min_length=1, description="Columns that tell rows apart")]
    columns: Annotated[dict[str, ColumnFile], Field(min_length=1)]
    rows: Annotated[list[dict[str, Any]], Field(max_length=ROW_CAP)]


@dataclass(frozen=True)
class Reference:
    """A reference table as checks see it."""

    name: str
    title: str
    as_of: dt.date
    sources: tuple[str, ...]
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[Any, ...], ...]
    """Values in the order of the columns; dates as naive UTC midnight."""
    keys: Mapping[str, tuple[str, str]]
    """Columns of sortable keys: the column that each is made from, and the kind of its versions."""

    def stale(self, as_of: dt.datetime, maximum_days: int) -> bool:
        """Whether it is older than that many days."""
        return as_of - dt.datetime.combine(self.as_of, dt.time()) > dt.timedelta(days=maximum_days)

    def for_evaluator(self) -> dict[str, Any]:
        """Columns and rows as JSON."""
        rows = [[v.isoformat(sep=" ") if isinstance(v, dt.datetime) else v for v in row] for row in self.rows]
        return {"columns": [(c.name, c.type) for c in self.columns], "rows": rows}


def load(path: Path) -> tuple[Reference, bool]:
    """(table, whether it extends the shipped one). Raises `FleetAuditError` naming file, line and field."""
    document = yamlfile.load(path)
    try:
        file = TableFile.model_validate(document.value)
    except ValidationError as error:
        raise document.invalid(error, {*TableFile.model_fields, *ColumnFile.model_fields}) from None
    if file.id != path.stem:
        raise document.error(("id",), f"must be the file's name, {path.stem!r}")
    if file.id == LIST:
        raise document.error(("id",), f"{LIST} is the table of the tables")
    if file.as_of > dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1):
        raise document.error(("as_of",), f"{file.as_of} has not come yet")
    if wrong := [name for name in file.columns if not re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name)]:
        raise document.error(("columns", wrong[0]), "a column is named in small letters, digits and _")
    if unknown := [name for name in file.key if name not in file.columns]:
        raise document.error(("key",), f"no column is named {unknown[0]!r}")
    rows = []
    for number, row in enumerate(file.rows):
        for name in row:
            if name not in file.columns:
                raise document.error(("rows", number, name), f"no column is named so; there are {', '.join(file.columns)}")
        if lacking := [name for name in file.key if row.get(name) is None]:
            raise document.error(("rows", number), f"the key {lacking[0]!r} has no value")
        rows.append(_row(document, number, row, file))
    columns = _columns(file)
    keys = {made: (name, kind) for name, column in file.columns.items() for made, kind in column.keys(name).items()}
    reference = Reference(file.id, file.title, file.as_of, tuple(file.sources), tuple(file.key), columns, tuple(rows), keys)
    if len({_identity(reference, row) for row in rows}) < len(rows):
        raise document.error(("rows",), f"two rows have the same {', '.join(file.key)}")
    return reference, file.mode == "extend"


def _columns(file: TableFile) -> tuple[Column, ...]:
    found = []
    for name, column in file.columns.items():
        found.append(Column(name, _TYPES[column.type], name not in file.key, column.doc))
        found += [Column(made, "VARCHAR", True, f"Sortable key of {name} ({kind})") for made, kind in column.keys(name).items()]
    return tuple(found)


def _row(document: yamlfile.Document, number: int, row: Mapping[str, Any], file: TableFile) -> tuple[Any, ...]:
    values: list[Any] = []
    for name, column in file.columns.items():
        value = row.get(name)
        if value is not None and not _fits(value, column.type):
            hint = "; write it in quotes" if column.type in ("text", "version") else ""
            raise document.error(("rows", number, name), f"must be a {column.type}{hint}")
        values.append(dt.datetime.combine(value, dt.time()) if column.type == "date" and value is not None else value)
        for kind in column.keys(name).values():
            values.append(key(kind, value) if value is not None else None)
            if value is not None and values[-1] is None:
                raise document.error(("rows", number, name), f"{value!r} is no {kind} version")
    return tuple(values)


def _fits(value: Any, kind: str) -> bool:
    """Whether a value is of a column's type."""
    return type(value) is _PYTHON[kind] and (not isinstance(value, list) or all(type(v) is str for v in value))


def _identity(reference: Reference, row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(v for column, v in zip(reference.columns, row, strict=True) if column.name in reference.key)


def joined(found: Iterable[tuple[Path, Reference, bool]]) -> dict[str, Reference]:
    """The tables by name: later ones extend or replace earlier ones. Raises `FleetAuditError` if they do not fit."""
    tables: dict[str, Reference] = {}
    for path, reference, extends in found:
        base = tables.get(reference.name)
        if base is not None and (other := sorted(n for n, made in base.keys.items() if reference.keys.get(n, made) != made)):
            raise FleetAuditError(f"{path}: {other[0]} must be of kind {base.keys[other[0]][1]}, as in the table of this name before it")
        if not extends:
            if base is not None and {c.name: c.type for c in base.columns}.items() - {c.name: c.type for c in reference.columns}.items():
                raise FleetAuditError(f"{path}: it replaces {reference.name}, so it must have its columns: "
                                      + ", ".join(c.name for c in base.columns))  # fmt: skip
            tables[reference.name] = reference
        elif base is None:
            raise FleetAuditError(f"{path}: there is no table {reference.name} to extend")
        elif base.columns != reference.columns and [(c.name, c.type) for c in base.columns] != [
            (c.name, c.type) for c in reference.columns
        ]:
            raise FleetAuditError(f"{path}: its columns must be those of {reference.name}: {', '.join(c.name for c in base.columns)}")
        else:
            own = {_identity(base, row) for row in reference.rows}
            rows = tuple(row for row in base.rows if _identity(base, row) not in own) + reference.rows
            sources = (*base.sources, *(s for s in reference.sources if s not in base.sources))
            tables[reference.name] = replace(base, rows=rows, sources=sources, as_of=min(base.as_of, reference.as_of))
    return tables
