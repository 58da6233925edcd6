# SPDX-License-Identifier: Apache-2.0
"""What a module of an area declares: sources, row types, and pure parsers from evidence to rows.

A table is the unit of coverage. A parser gets a `Bundle`, the evidence of one host for its table's
sources, and returns rows. It raises `NotUnderstood` for input that it does not understand and calls
`Bundle.gap` for what is missing; it never guesses and never touches the clock, a file or a host.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, get_args, get_origin, get_type_hints

from fleet_audit.model import Coverage, Source, SourceId, Status

VALUE_CAP = 4096
"""Bytes of UTF-8 that a text may have in a table; a longer one becomes NULL and is noted."""
ROW_CAP = 200_000
"""Rows that one host may have in a table; what is more makes it partial."""
GAP_CAP = 10_000
"""Gaps after which a parser is stopped: of hostile input each byte may be one."""


class NotUnderstood(Exception):
    """The input is not what it should be: the table's coverage is `none`, with this reason."""


class Unread(Exception):
    """A source without which the table says nothing was not read."""


class TooManyGaps(Exception):
    """The parser is stopped; the rows that it has given stay, and the table is partial."""


@dataclass(frozen=True, slots=True)
class Item:
    """One source's evidence, as a parser sees it."""

    status: Status
    body: bytes = b""
    exit: int | None = None
    detail: str = ""

    @property
    def text(self) -> str:
        """The body, decoded so that no bytes are lost and none is a lone surrogate."""
        return self.body.decode("utf-8", "backslashreplace")


MISSING = Item(Status.UNREACHED, detail="not asked for, or the reply ended before it")


class Bundle:
    """The evidence of one host for one table, and what is missing in it."""

    def __init__(self, items: Mapping[SourceId, Item]) -> None:
        self._items = items
        self.gaps: list[str] = []

    def item(self, source: Source) -> Item:
        """The evidence as it is, for parsers that judge a status themselves."""
        return self._items.get(source.id, MISSING)

    def body(self, source: Source) -> str:
        """The text of a source that must have been read; one cut short makes the table partial.

        Raises `Unread` otherwise.
        """
        item = self.item(source)
        if item.status is Status.TRUNCATED and item.body:
            self.gap(source, item.detail or "cut short")
        elif item.status is not Status.OK:
            raise Unread(describe(source, item))
        return item.text

    def optional(self, source: Source) -> str | None:
        """The text of a source, None if it was looked for and is not there; else as `body`."""
        if self.item(source).status in (Status.ABSENT, Status.SKIPPED):
            return None
        return self.body(source)

    def try_body(self, source: Source) -> str | None:
        """The text of a source that adds to others: None and a gap if it could not be read."""
        try:
            return self.optional(source)
        except Unread as unread:
            self.gaps.append(str(unread))
            return None

    def line(self, source: Source) -> str | None:
        """The text of a file of one line: None and a gap if it was cut short or could not be read."""
        if self.item(source).status is Status.TRUNCATED:
            self.gap(source, self.item(source).detail or "cut short")
            return None
        return self.try_body(source)

    def document(self, source: Source) -> Any:
        """The JSON of a source that must have been read."""
        text = self.body(source)
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise NotUnderstood(f"{source.id}: not JSON") from None

    def entries(self, source: Source, *, masks: bool = False) -> dict[str, dict[str, Any]]:
        """{path: entry} of a reader of many paths; entries that could not be read are gaps, absent ones are left out.

        With `masks` so are those that are no regular files, as a unit that is masked by a link to /dev/null.
        """
        document = self.document(source)
        if not isinstance(document, dict):
            raise NotUnderstood(f"{source.id}: not an object")
        found = {}
        for path, entry in document.items():
            if not isinstance(entry, dict):
                raise NotUnderstood(f"{source.id}: {path}: not an object")
            if "status" in entry and set(entry) <= {"status", "detail", "user"}:
                if entry["status"] != Status.ABSENT and not (masks and entry.get("detail") == "not a regular file"):
                    self.gap(source, f"{path} {entry['status']}: {entry.get('detail', '')}")
                continue
            found[path] = entry
        return found

    def gap(self, source: Source, reason: str) -> None:
        """Note that something of this table is missing: it is partial. Stops the parser after `GAP_CAP` of them."""
        self.gaps.append(f"{source.id}: {reason}")
        if len(self.gaps) > GAP_CAP:
            raise TooManyGaps


def describe(source: Source, item: Item) -> str:
    """Why a source was not read, for people."""
    hint = "; it needs root" if source.needs_root and item.status is Status.DENIED else ""
    return f"{source.id} {item.status}{': ' + item.detail if item.detail else ''}{hint}"


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    name: str
    type: str
    """SQL type: VARCHAR, BIGINT, BOOLEAN, TIMESTAMP, VARCHAR[] or BIGINT[]."""
    nullable: bool
    doc: str


_SQL = {str: "VARCHAR", int: "BIGINT", bool: "BOOLEAN", datetime: "TIMESTAMP"}


@dataclass(frozen=True)
class Table:
    """A typed table of facts: its name, row type, sources and parser."""

    name: str
    row: type
    """A frozen dataclass; each field is `Annotated[type, "its meaning and unit"]`."""
    sources: tuple[Source, ...]
    parse: Callable[[Bundle], Iterable[Any]]

    @property
    def doc(self) -> str:
        """The row type's docstring."""
        return typing.cast(str, self.row.__doc__).strip()

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns after `host`, in order."""
        hints = get_type_hints(self.row, include_extras=True)
        return tuple(_column(self.name, f.name, hints[f.name]) for f in dataclasses.fields(self.row))


RESERVED = frozenset({"host", "content", "ordinal"})
"""Names of columns that every table has by itself."""


def _column(table: str, name: str, hint: Any) -> Column:
    args = get_args(hint)
    if name in RESERVED:
        raise TypeError(f"{table}.{name}: every table has a column of this name by itself")
    if len(args) != 2 or not isinstance(args[1], str):
        raise TypeError(f"{table}.{name}: must be Annotated[type, 'meaning']")
    kind, doc = args
    nullable = False
    if get_origin(kind) in (types.UnionType, typing.Union):
        kind = next(k for k in get_args(kind) if k is not type(None))
        nullable = True
    sql = f"{_SQL[get_args(kind)[0]]}[]" if get_origin(kind) is list else _SQL[kind]
    return Column(name, sql, nullable, doc)


@dataclass(frozen=True)
class Extract:
    """What a table holds for one host: rows as tuples in column order, and its coverage."""

    rows: tuple[tuple[Any, ...], ...]
    coverage: Coverage
    reason: str = ""
    """Why it is not complete; empty if it is."""


def extract(table: Table, items: Mapping[SourceId, Item]) -> Extract:
    """Parse one table from evidence, with every value checked. Never raises for any evidence."""
    bundle = Bundle(items)
    rows: list[tuple[Any, ...]] = []
    try:
        for row in table.parse(bundle):
            if len(rows) >= ROW_CAP:
                bundle.gaps.append(f"more than {ROW_CAP} rows")
                break
            if (checked := _checked(table, row, bundle.gaps)) is not None:
                rows.append(checked)
    except TooManyGaps:
        pass  # its gaps make the table partial
    except (Unread, NotUnderstood) as error:
        return Extract((), Coverage.NONE, _plain(str(error) or type(error).__name__))
    except Exception as error:  # a parser's fault is no crash of the run: its table says nothing
        return Extract((), Coverage.NONE, _plain(f"not understood: {type(error).__name__}: {error}"))
    if bundle.gaps:
        more = f" and {len(bundle.gaps) - 3} more" if len(bundle.gaps) > 3 else ""
        return Extract(tuple(rows), Coverage.PARTIAL, _plain("; ".join(bundle.gaps[:3])) + more)
    return Extract(tuple(rows), Coverage.COMPLETE)


def _plain(text: str) -> str:
    """A reason that may hold a node's text: cut, and without lone surrogates."""
    return text[:600].encode("utf-8", "backslashreplace").decode()


def _checked(table: Table, row: Any, gaps: list[str]) -> tuple[Any, ...] | None:
    """The row's values if they fit the schema; a required one that does not fit costs the row."""
    values = []
    for column in table.columns:
        value = getattr(row, column.name)
        problem = _problem(column, value)
        if problem and column.nullable:
            gaps.append(f"{table.name}.{column.name}: {problem}") if value is not None else None
            value = None
        elif problem:
            gaps.append(f"{table.name}.{column.name}: {problem}, row left out")
            return None
        values.append(value)
    return tuple(values)


def _problem(column: Column, value: Any) -> str:
    """Why a value does not fit its column; empty if it does."""
    if value is None:
        return "no value"
    if column.type.endswith("[]"):
        inner = Column(column.name, column.type[:-2], False, "")
        if not isinstance(value, list):
            return "not a list"
        if len(value) > 1000:
            return "more than 1000 elements"
        return next((p for v in value if (p := _problem(inner, v))), "")
    kind = {"VARCHAR": str, "BIGINT": int, "BOOLEAN": bool, "TIMESTAMP": datetime}[column.type]
    if type(value) is not kind:
        return f"{type(value).__name__} instead of {kind.__name__}"
    if isinstance(value, str):
        try:
            return f"longer than {VALUE_CAP} bytes" if len(value.encode()) > VALUE_CAP else ""
        except UnicodeEncodeError:
            return "not valid text"
    if isinstance(value, int):
        return "" if -(2**63) <= value < 2**63 else "out of range"
    if isinstance(value, datetime) and value.tzinfo is not None:
        return "time with a zone"
    return ""


# --- What most parsers need -----------------------------------------------------------------------


def utc(seconds: float) -> datetime | None:
    """A UNIX time as the naive UTC of the tables; None if it is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        return None


def timestamp(text: object) -> datetime | None:
    """An ISO 8601 or RFC 3339 text as naive UTC; None if it is not understood or has no zone."""
    if not isinstance(text, str):
        return None
    try:
        when = datetime.fromisoformat(text)
        return when.astimezone(UTC).replace(tzinfo=None) if when.tzinfo else None
    except (ValueError, OverflowError):
        return None


def stanzas(text: str) -> Iterable[dict[str, str]]:
    """The stanzas of a deb822 text; lines that are no field belong to none."""
    for block in text.split("\n\n"):
        fields = {}
        for line in block.splitlines():
            name, colon, value = line.partition(": ")
            if colon and not line.startswith(" "):
                fields[name] = value.strip()
        if fields or block.strip().startswith("{"):
            yield fields or {"unread": block.strip()}


def value(text: str | None, *, missing: Iterable[str] = ()) -> str | None:
    """A text without surrounding blanks; None if it is empty or one of the words for nothing."""
    stripped = (text or "").strip()
    return None if not stripped or stripped in missing else stripped


def integer(text: str | None) -> int | None:
    """A decimal integer, None if it is none."""
    try:
        return int((text or "").strip(), 10)
    except ValueError:
        return None
