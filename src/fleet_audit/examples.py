# SPDX-License-Identifier: Apache-2.0
"""Runs the examples of checks, and takes their evidence away.

Evidence moves results one way: losing a table, a row of a table that is then only partly read, or a
value may turn a result into `unknown`, and nothing into anything else; of a fleet those of its other hosts too.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from fleet_audit._evaluator import BrokenCheckError, decide
from fleet_audit.checkfile import Check, check_params
from fleet_audit.evaluate import judge, set_of, spec_of
from fleet_audit.facts.base import Bundle, Column, Extract, Table, extract
from fleet_audit.model import Coverage, FleetAuditError, HostName, Outcome, Result
from fleet_audit.references import LIST, LIST_COLUMNS, Reference
from fleet_audit.tables import DatabaseError, Facts
from fleet_audit.versions import key, kinds

LIMIT_MS = 20_000
"""Of one statement on all examples."""
AS_OF = datetime(2026, 1, 1)
"""The time at which examples are decided unless they say otherwise."""
_NEUTRAL: dict[str, Any] = {
    "VARCHAR": "example", "BIGINT": 0, "BOOLEAN": False, "TIMESTAMP": AS_OF, "VARCHAR[]": [], "BIGINT[]": [],
}  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One host of an example, with the facts that it has."""

    check: Check
    label: str
    host: HostName
    wanted: Outcome
    facts: Mapping[str, Extract]
    groups: tuple[str, ...] = ()
    as_of: datetime = AS_OF
    params: tuple[tuple[str, Any], ...] = ()
    reason: str | None = None
    references: Mapping[str, tuple[tuple[Any, ...], ...]] = field(default_factory=dict)
    """Rows of the reference tables that the check reads."""
    stale: tuple[str, ...] = ()
    """Those of them that are too old."""
    workload: tuple[str, ...] = ()


@dataclass(frozen=True)
class Problem:
    """An example, or an example robbed of evidence, that came out otherwise than it must."""

    check: str
    label: str
    message: str


def trials(check: Check, tables: Mapping[str, Table], references: Mapping[str, Reference]) -> list[list[Trial]]:
    """The examples of a check; each inner list is one fleet. Raises `FleetAuditError` for a row that fits no table.

    Of a reference table an example sees the rows that it gives, and no others.
    """
    fleets = []
    for index, example in enumerate(check.examples):
        label = f"example {index + 1}" + (f" ({example['name']})" if "name" in example else "")
        params = example.get("params", {})
        check_params(check, params, f"{check.path}: {label}")
        try:
            as_of = datetime.fromisoformat(str(example["as_of"])) if "as_of" in example else AS_OF
        except ValueError:
            raise FleetAuditError(f"{check.path}: {label}: as_of: {example['as_of']!r} is no time, such as 2026-01-01") from None
        rows = {name: _reference(check, references[name], example, label) for name in sorted(check.references)}
        stale, workload = tuple(example.get("stale", ())), tuple(example.get("workload", ()))
        parts = example["hosts"] if check.file.scope == "fleet" else {f"ex{index:03d}": example}
        fleet = []
        for name, part in parts.items():
            facts = {t: _facts(check, tables[t], part, label) for t in sorted(check.tables)}
            fleet.append(
                Trial(check, label, HostName(f"{check.id}.{name}" if check.file.scope == "host" else name),
                      Outcome(part["result"]), facts, ("example",), as_of, tuple(sorted(params.items())), part.get("reason"),
                      rows, stale, workload)
            )  # fmt: skip
        fleets.append(fleet)
    return fleets


def _facts(check: Check, table: Table, part: Mapping[str, Any], label: str) -> Extract:
    """What an example gives of one table: complete unless it says otherwise."""
    where = f"{check.path}: {label}: {table.name}"
    rows = []
    for row in part.get(table.name, []):
        if not isinstance(row, dict):
            raise FleetAuditError(f"{where}: a row is a mapping of columns")
        known = {column.name for column in table.columns}
        if unknown := sorted(set(row) - known):
            raise FleetAuditError(f"{where}: no column is named {unknown[0]!r}; there are {', '.join(sorted(known))}")
        rows.append({c.name: _value(c, row, where) for c in table.columns})
    said = part.get("coverage", {}).get(table.name, Coverage.COMPLETE)
    if said not in list(Coverage):
        raise FleetAuditError(f"{where}: coverage is {', '.join(Coverage)}, and not {said!r}")
    state = Coverage(said)
    checked = extract(_probe(table, rows), {})
    if checked.coverage is not Coverage.COMPLETE:
        raise FleetAuditError(f"{where}: {checked.reason}")
    return Extract(checked.rows, state, "" if state is Coverage.COMPLETE else "the example says so")


def _reference(check: Check, reference: Reference, part: Mapping[str, Any], label: str) -> tuple[tuple[Any, ...], ...]:
    """The rows that an example gives of a reference table; sortable keys are made from their versions."""
    where = f"{check.path}: {label}: {reference.name}"
    names = {column.name for column in reference.columns}
    rows = []
    for given in part.get(reference.name, []):
        if not isinstance(given, dict) or not set(given) <= names:
            raise FleetAuditError(f"{where}: a row is a mapping of {', '.join(sorted(names))}")
        versions = {made: f"{kind}:{given[name]}" for made, (name, kind) in reference.keys.items() if given.get(name) is not None}
        rows.append(tuple(_value(c, {**versions, **given}, where) for c in reference.columns))
    return tuple(rows)


def _value(column: Column, row: Mapping[str, Any], where: str) -> Any:
    """A column's value in an example; version keys are written `kind:version`."""
    if column.name not in row:
        return None if column.nullable else copy.copy(_NEUTRAL[column.type])
    value = row[column.name]
    if column.type == "TIMESTAMP" and isinstance(value, str):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            raise FleetAuditError(f"{where}.{column.name}: {value!r} is no time, such as 2026-01-01 or 2026-01-01T06:00:00") from None
    if column.name.endswith("_key") and isinstance(value, str):
        kind, _, version = value.partition(":")
        if kind not in kinds() or (made := key(kind, version)) is None:
            raise FleetAuditError(f"{where}.{column.name}: write kind:version with a kind of {', '.join(kinds())}")
        return made
    return value


def _probe(table: Table, rows: list[dict[str, Any]]) -> Table:
    """The table with a parser that yields these rows, so that examples are checked as evidence is."""
    import types

    def parse(evidence: Bundle) -> Iterable[Any]:
        return [types.SimpleNamespace(**row) for row in rows]

    return Table(table.name, table.row, (), parse)


def robbed(trial: Trial, tables: Mapping[str, Table]) -> Iterator[Trial]:
    """The trial with evidence taken away, one way at a time."""
    used = trial.check.query.columns | (trial.check.applies.columns if trial.check.applies else frozenset())
    everything = trial.check.query.star or bool(trial.check.applies and trial.check.applies.star)
    for name, facts in trial.facts.items():
        gone = Extract((), Coverage.NONE, "taken away")
        yield _with(trial, name, gone, f"without {name}")
        for index in range(len(facts.rows)):
            rest = facts.rows[:index] + facts.rows[index + 1 :]
            yield _with(trial, name, Extract(rest, Coverage.PARTIAL, "taken away"), f"without row {index + 1} of {name}")
        for position, column in enumerate(tables[name].columns):
            if not column.nullable or not (everything or column.name in used):
                continue
            for index, row in enumerate(facts.rows):
                if row[position] is not None:
                    null = (*row[:position], None, *row[position + 1 :])
                    rows = (*facts.rows[:index], null, *facts.rows[index + 1 :])
                    yield _with(trial, name, Extract(rows, facts.coverage, facts.reason), f"{name}.{column.name} of row {index + 1} NULL")


def _distinct(fleet: list[Trial]) -> list[Trial]:
    """One of those hosts of a fleet that have the same facts."""
    return list({repr((sorted(t.facts.items()), t.params, t.wanted)): t for t in fleet}.values())


def _with(trial: Trial, table: str, facts: Extract, how: str) -> Trial:
    return replace(trial, label=f"{trial.label}, {how}", facts={**trial.facts, table: facts}, reason=None)


def run(check: Check, tables: Mapping[str, Table], references: Mapping[str, Reference], *, one_way: bool = True) -> list[Problem]:
    """Try all examples of a check; what came out otherwise than it must."""
    problems = []
    fleets = trials(check, tables, references)
    for found in _decide(check, fleets, tables, references):
        for trial, result in found:
            if result.outcome != trial.wanted:
                problems.append(Problem(check.id, trial.label, f"{trial.host}: {result.outcome} ({result.reason}), not {trial.wanted}"))
            elif trial.reason is not None and trial.reason not in result.reason:
                problems.append(Problem(check.id, trial.label, f"the reason is {result.reason!r}, without {trial.reason!r}"))
            elif result.outcome is Outcome.FAIL and result.reason.startswith("no reason given"):
                problems.append(Problem(check.id, trial.label, "a failing subject has no reason"))
    if one_way and not problems:
        poorer = [
            [poor if other is trial else replace(other, label=poor.label) for other in fleet]
            for fleet in fleets for trial in _distinct(fleet) for poor in robbed(trial, tables)
        ]  # fmt: skip
        for found in _decide(check, poorer, tables, references):
            for trial, result in found:
                if result.outcome not in (trial.wanted, Outcome.UNKNOWN):
                    who = f"{trial.host}: " if check.file.scope == "fleet" else ""
                    problems.append(Problem(check.id, trial.label, f"{who}turned {trial.wanted} into {result.outcome}: {result.reason}"))
    return problems


def _decide(
    check: Check, fleets: list[list[Trial]], tables: Mapping[str, Table], references: Mapping[str, Reference]
) -> Iterator[list[tuple[Trial, Result]]]:
    """Results of fleets."""
    for fleet, facts in prepared(check, fleets, tables, references):
        try:
            yield list(results(check, fleet, facts))
        except (DatabaseError, BrokenCheckError) as error:
            raise FleetAuditError(f"{check.path}: {str(error).splitlines()[0]}") from None
        finally:
            facts.connection.close()


def prepared(
    check: Check, fleets: list[list[Trial]], tables: Mapping[str, Table], references: Mapping[str, Reference]
) -> Iterator[tuple[list[Trial], Facts]]:
    """Fleets with their facts in a database; hosts of a host-scope check share one where their reference tables are the same."""
    mine = {name: tables[name] for name in check.tables}
    if check.file.scope == "host":
        named = [replace(t, host=HostName(f"h{i:05d}")) for i, t in enumerate(t for fleet in fleets for t in fleet)]
        alike: dict[str, list[Trial]] = {}
        for trial in named:
            alike.setdefault(repr((sorted(trial.references.items()), trial.stale)), []).append(trial)
        fleets = list(alike.values())
    for fleet in fleets:
        facts = Facts(mine)
        given, stale = fleet[0].references, fleet[0].stale
        facts.add_reference(LIST, LIST_COLUMNS, [(name, AS_OF, name in stale) for name in sorted({*given, *stale})])
        for name, rows in given.items():
            facts.add_reference(name, [(c.name, c.type) for c in references[name].columns], rows)
        for trial in fleet:
            facts.add_host(trial.host, trial.groups)
            for name, extracted in trial.facts.items():
                facts.add(trial.host, name, trial.host, extracted)
        facts.finish()
        facts.connection.execute(f"SET max_execution_time={LIMIT_MS}").fetchall()
        facts.lock()
        yield fleet, facts


def results(check: Check, fleet: list[Trial], facts: Facts) -> Iterator[tuple[Trial, Result]]:
    """What a check says of a fleet. Raises `DatabaseError` or `BrokenCheckError` if it breaks."""
    groups: dict[str, tuple[dict[str, Any], list[Trial]]] = {}
    for trial in fleet:
        values = {**check.file.params, **dict(trial.params)}
        bound = {**values, **check.hidden(values), "as_of": trial.as_of.isoformat(sep=" "), "workload": list(trial.workload)}
        groups.setdefault(repr(sorted(bound.items(), key=str)), (bound, []))[1].append(trial)
    spec = spec_of(check, dict.fromkeys(fleet[0].stale, "a reference table is too old"))
    for bound, members in groups.values():
        spec["sets"] = [set_of(check, bound, [t.host for t in members])]
        rows = {row[0]: row for row in decide(facts, spec)}
        for trial in members:
            yield trial, judge(check, trial.host, rows[trial.host])[0]
