# SPDX-License-Identifier: Apache-2.0
"""What the SQL of a check may be, and what it reads: told from DuckDB's own syntax tree.

A statement must be one SELECT whose table and scalar functions are on an allow list. From the tree
come the tables that it needs, its *absence tables* (those whose missing rows could change a row: outer
joins, subqueries, aggregates, windows, EXCEPT) and its parameters; nobody lists them by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import duckdb

from fleet_audit.model import FleetAuditError

TABLE_FUNCTIONS = frozenset({"unnest", "range", "generate_series"})
AGGREGATES = frozenset("count count_star min max sum avg bool_or bool_and string_agg list arg_max arg_min".split())
FUNCTIONS = AGGREGATES | frozenset(
    """+ - * % & | << >> || ~~ !~~ ~~* !~~* ^@ abs array_to_string ceil concat concat_ws contains date_diff date_part
    date_trunc ends_with epoch floor greatest hex ifnull instr least left len length like_escape list_contains
    list_distinct list_filter list_has_all list_has_any list_position list_sort list_transform list_value lower ltrim
    nullif not_like_escape prefix regexp_extract regexp_full_match regexp_matches replace reverse right round
    row rpad rtrim split_part starts_with strip_accents string_split struct_extract struct_pack substr substring suffix
    to_days to_hours to_minutes to_seconds to_years to_months to_weeks trim trunc unnest upper version_key array_extract list_extract xor
    strftime row_number rank dense_rank lag lead first_value last_value""".split()
)
BUILT_IN_TABLES = frozenset({"hosts", "covered", "ref_tables"})
"""Always complete: `hosts(host, groups, expected)`, `covered(host, tab)` and `ref_tables(name, as_of, stale)`."""


class SqlError(FleetAuditError):
    """SQL that is not understood or not allowed, in words for its author."""


@dataclass(frozen=True)
class Statement:
    """What one SELECT reads."""

    text: str
    """Ready to run: `version_key(...)` replaced by hidden parameters, parameters cast to their types."""
    tables: frozenset[str]
    absence: frozenset[str]
    columns: frozenset[str]
    """Last part of every column named."""
    parameters: frozenset[str]
    """All that the author named."""
    bound: frozenset[str]
    """Those that `text` names, hidden ones included: what must be bound when it runs."""
    version_keys: dict[str, tuple[str, str | None, str | None]] = field(default_factory=dict)
    """Hidden parameter -> (kind, literal, parameter): its value is the sortable key of one of the latter."""
    star: bool = False


def parse(text: str, *, types: dict[str, str] | None = None, lint: bool = True, prefix: str = "version_key") -> Statement:
    """What `text` reads and needs.

    `types` gives the SQL type of each parameter that may be named, None any. `lint` refuses what is
    legal but goes wrong with NULL or hostile values. `prefix` begins the names of hidden parameters.
    Raises `SqlError` with the place where known.
    """
    node = _single_select(text)
    walker = _Walker(types, lint, prefix)
    read = walker.query(node, {}, absent=False)
    return Statement(
        _rewrite(text, walker.edits), frozenset(read.tables), frozenset(read.absence), frozenset(walker.columns),
        frozenset(walker.parameters), frozenset(walker.bound), dict(walker.version_keys), walker.star,
    )  # fmt: skip


def _single_select(text: str) -> dict[str, Any]:
    if "\0" in text:
        raise SqlError("a NUL character in the statement")
    row = _parser().execute("SELECT json_serialize_sql($q::VARCHAR)", {"q": text}).fetchall()[0]
    tree = json.loads(row[0])
    if tree["error"]:
        if "SELECT" in tree.get("error_message", "") and "serialized" in tree.get("error_message", ""):
            raise SqlError("only a SELECT is allowed")
        raise SqlError(f"not understood: {tree.get('error_message', 'no reason given')}")
    if len(tree["statements"]) != 1:
        raise SqlError("exactly one statement is allowed")
    node: dict[str, Any] = tree["statements"][0]["node"]
    return node


@cache
def _parser() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(":memory:", config={"threads": 1})


def _rewrite(text: str, edits: list[tuple[int, int, str]]) -> str:
    """Apply (byte offset, byte length, replacement), which do not overlap."""
    data = text.encode()
    for start, length, new in sorted(set(edits), reverse=True):  # CASE $p WHEN names one place several times
        data = data[:start] + new.encode() + data[start + length :]
    return data.decode() + ("\n" if "--" in text else "")  # or a comment at its end would swallow what comes after


@dataclass
class _Read:
    tables: set[str] = field(default_factory=set)
    absence: set[str] = field(default_factory=set)

    def add(self, other: _Read, *, absent: bool) -> None:
        self.tables |= other.tables
        self.absence |= other.tables if absent else other.absence


_Ctes = dict[str, _Read]
_JOINS = {"INNER": (False, False), "LEFT": (False, True), "RIGHT": (True, False), "OUTER": (True, True), "FULL": (True, True),
          "SEMI": (False, True), "ANTI": (False, True)}  # fmt: skip
_EXPRESSIONS = frozenset(
    "BETWEEN CASE CAST COLLATE COLUMN_REF COMPARISON CONJUNCTION CONSTANT FUNCTION LAMBDA LAMBDA_REF OPERATOR PARAMETER "
    "STAR SUBQUERY WINDOW TYPE".split()
)


class _Walker:
    def __init__(self, types: dict[str, str] | None, lint: bool, prefix: str) -> None:
        self.types, self.lint, self.prefix = types, lint, prefix
        self.bound: set[str] = set()
        self.columns: set[str] = set()
        self.parameters: set[str] = set()
        self.version_keys: dict[str, tuple[str, str | None, str | None]] = {}
        self.edits: list[tuple[int, int, str]] = []
        self.star = False

    # Queries

    def query(self, node: dict[str, Any], ctes: _Ctes, *, absent: bool) -> _Read:
        """What a query reads; in absent position all of it counts as absence."""
        kind = node["type"]
        read = _Read()
        scope = dict(ctes)
        for entry in node.get("cte_map", {}).get("map", []):
            name = entry["key"].lower()
            inner = entry["value"].get("query_node") or entry["value"]["query"]["node"]
            scope[name] = self.query(inner, scope, absent=False)
        if kind == "SELECT_NODE":
            read.add(self._select(node, scope), absent=absent)
        elif kind == "SET_OPERATION_NODE":
            sides = node.get("children") or [node["left"], node["right"]]
            for index, side in enumerate(sides):
                minus = node["setop_type"] == "EXCEPT" and index > 0
                read.add(self.query(side, scope, absent=minus), absent=absent)
            read.add(self._modifiers(node, scope), absent=absent)
        else:
            raise SqlError("only SELECT is allowed, also inside WITH; no recursion")
        return read

    def _select(self, node: dict[str, Any], ctes: _Ctes) -> _Read:
        if node.get("sample"):
            raise SqlError("USING SAMPLE gives a different answer each time")
        source = self._from(node["from_table"], ctes)
        read = _Read()
        expressions = [node["select_list"], node["where_clause"], node["group_expressions"], node["having"], node["qualify"]]
        folds = bool(node["group_expressions"]) or any(m["type"] == "LIMIT_MODIFIER" for m in node["modifiers"])
        folds = folds or any(self._folds(e) for e in _nodes(expressions))
        for expression in expressions:
            read.add(self._expression(expression, ctes), absent=False)
        read.add(self._modifiers(node, ctes), absent=False)
        read.add(source, absent=folds)
        return read

    @staticmethod
    def _folds(node: dict[str, Any]) -> bool:
        """Whether an expression makes one value of many rows."""
        return node.get("class") == "WINDOW" or (node.get("class") == "FUNCTION" and node["function_name"] in AGGREGATES)

    def _modifiers(self, node: dict[str, Any], ctes: _Ctes) -> _Read:
        kinds = {m["type"] for m in node["modifiers"]}
        if self.lint and "LIMIT_MODIFIER" in kinds:
            raise SqlError("LIMIT drops subjects: leave it out")
        if any(m.get("distinct_on_targets") for m in node["modifiers"]):
            raise SqlError("DISTINCT ON keeps one row of many: leave ON out, or say which row with min, max or arg_max")
        return self._expression(node["modifiers"], ctes)

    def _from(self, ref: dict[str, Any], ctes: _Ctes) -> _Read:
        kind, read = ref["type"], _Read()
        if ref.get("sample"):
            raise SqlError("TABLESAMPLE gives a different answer each time")
        if kind == "BASE_TABLE":
            if ref["schema_name"] or ref["catalog_name"]:
                raise SqlError(f"{ref['schema_name']}.{ref['table_name']}: tables are named without a schema")
            name = ref["table_name"].lower()
            if name in ctes:
                read.add(ctes[name], absent=False)
            else:
                read.tables.add(name)
        elif kind == "JOIN":
            if ref["ref_type"] not in ("REGULAR", "CROSS", "DEPENDENT") or ref["join_type"] not in _JOINS:
                raise SqlError(f"{ref['ref_type']} {ref['join_type']} JOIN is not allowed")
            left, right = _JOINS[ref["join_type"]]
            read.add(self._from(ref["left"], ctes), absent=left)
            read.add(self._from(ref["right"], ctes), absent=right)
            read.add(self._expression(ref["condition"], ctes), absent=False)
            self.columns.update(name.lower() for name in ref["using_columns"])
        elif kind == "SUBQUERY":
            read.add(self.query(ref["subquery"]["node"], ctes, absent=False), absent=False)
        elif kind == "TABLE_FUNCTION":
            if ref["function"].get("function_name") not in TABLE_FUNCTIONS:
                raise SqlError(f"table function {ref['function'].get('function_name')} is not allowed")
            read.add(self._expression(ref["function"]["arguments"], ctes), absent=False)
        elif kind == "EXPRESSION_LIST":
            read.add(self._expression(ref["values"], ctes), absent=False)
        elif kind != "EMPTY":
            raise SqlError(f"{kind} is not allowed in FROM")
        return read

    # Expressions

    def _expression(self, value: Any, ctes: _Ctes, into: _Read | None = None) -> _Read:
        """What an expression reads, added to `into` if that is given."""
        read = _Read() if into is None else into
        if isinstance(value, list):
            for element in value:
                self._expression(element, ctes, read)
        elif isinstance(value, dict):
            if (kind := value.get("class")) is not None:
                if kind not in _EXPRESSIONS:
                    raise SqlError(f"{kind} expressions are not allowed")
                if self._handled(kind, value):
                    return read
            if kind == "SUBQUERY":
                read.add(self.query(value["subquery"]["node"], ctes, absent=True), absent=True)
                return self._expression(value.get("child"), ctes, read)
            for name, child in value.items():
                if isinstance(child, (dict, list)) and name != "type_expr":
                    self._expression(child, ctes, read)
        return read

    def _handled(self, kind: str, node: dict[str, Any]) -> bool:
        """Check one expression; True if its children need no look."""
        if kind == "COLUMN_REF":
            self.columns.add(node["column_names"][-1].lower())
        elif kind == "STAR":
            self.star = True
        elif kind == "PARAMETER":
            self._parameter(node)
        elif kind == "FUNCTION":
            name = node["function_name"].lower()
            if node.get("schema") or name not in FUNCTIONS:
                raise SqlError(f"function {name} is not allowed")
            if name == "version_key":
                self._version_key(node)
                return True
            if self.lint and name in ("list", "string_agg", "arg_max", "arg_min") and not node["order_bys"]["orders"]:
                raise SqlError(f"{name} needs ORDER BY inside, or its value depends on the order of rows")
        elif self.lint:
            self._lint(kind, node)
        return False

    def _lint(self, kind: str, node: dict[str, Any]) -> None:
        data = {"COLUMN_REF", "SUBQUERY", "LAMBDA_REF", "STAR"}
        if kind == "CAST" and not node["try_cast"] and any(n["class"] in data for n in _nodes(node["child"])):
            name = node["type_expr"].get("type_name", "").upper()
            if name not in ("VARCHAR", "TEXT", "STRING"):
                raise SqlError("CAST raises for a hostile value: use TRY_CAST")
        if (
            kind == "COMPARISON"
            and node["type"] in ("COMPARE_EQUAL", "COMPARE_NOTEQUAL")
            and any(map(_is_null, (node["left"], node["right"])))
        ):
            raise SqlError("a comparison with NULL is always NULL: use IS NULL or IS NOT NULL")
        if kind == "OPERATOR" and node["type"] in ("OPERATOR_NOT", "COMPARE_NOT_IN"):
            for child in node["children"]:
                if child["class"] == "SUBQUERY" and child["subquery_type"] == "ANY":
                    raise SqlError("NOT IN (SELECT ...) is NULL as soon as one value is: use NOT EXISTS")

    def _parameter(self, node: dict[str, Any]) -> None:
        name = node["identifier"]
        if self.types is not None and name not in self.types:
            raise SqlError(f"parameter ${name} is not declared in params")
        self.parameters.add(name)
        self.bound.add(name)
        if self.types is not None:
            self._edit(node, f"CAST(${name} AS {self.types[name]})")

    def _version_key(self, node: dict[str, Any]) -> None:
        arguments = [argument["expression"] for argument in node["arguments"]]
        if len(arguments) != 2 or arguments[0]["class"] != "CONSTANT" or arguments[1]["class"] not in ("CONSTANT", "PARAMETER"):
            raise SqlError("version_key takes a kind and a literal or parameter; columns have their own *_key column")
        literal = arguments[1]["literal"]["text"] if arguments[1]["class"] == "CONSTANT" else None
        parameter = arguments[1].get("identifier")
        if parameter is not None:
            if self.types is not None and parameter not in self.types:
                raise SqlError(f"parameter ${parameter} is not declared in params")
            self.parameters.add(parameter)
        if any(start == node["query_location"] for start, _, _ in self.edits):
            return  # CASE names its operand once for each branch
        name = f"{self.prefix}_{len(self.version_keys)}"
        self.bound.add(name)
        self.version_keys[name] = (arguments[0]["literal"]["text"], literal, parameter)
        self._edit(node, f"CAST(${name} AS VARCHAR)")

    def _edit(self, node: dict[str, Any], new: str) -> None:
        self.edits.append((node["query_location"], node["query_location_length"], new))


def _is_null(node: dict[str, Any]) -> bool:
    return bool(node["class"] == "CONSTANT" and node["literal"]["kind"] == "NULL_LITERAL")


def _nodes(value: Any) -> Iterator[dict[str, Any]]:
    """All expression nodes, those inside subqueries left out: they fold their own rows."""
    todo = [value]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            todo += one
        elif isinstance(one, dict):
            if "class" in one:
                yield one
            todo += [child for name, child in one.items() if name != "subquery" and isinstance(child, (dict, list))]
