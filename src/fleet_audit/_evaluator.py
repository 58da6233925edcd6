# SPDX-License-Identifier: Apache-2.0
"""The evaluator process: runs checks' SQL on facts that it cannot change, within limits.

Started by `evaluate.py` as `python -m fleet_audit._evaluator`; takes one JSON request on standard
input and answers a line of JSON per check. The parent enforces the time of each check.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleet_audit.facts.base import Column
from fleet_audit.tables import DatabaseError, Facts, Schema

MEMORY_LIMIT = 8 << 30
"""Address space: DuckDB's own limit counts buffers only."""
SUBJECT_CAP = 100

APPLIES = """SELECT host, coalesce(bool_or(applies), false), coalesce(bool_or(applies IS NULL), true)
FROM ({applies}) GROUP BY host"""
SUBJECT_LENGTH = 200
_SUBJECT = (
    f"CASE WHEN length(subject::VARCHAR) > {SUBJECT_LENGTH} "
    f"THEN left(subject::VARCHAR, {SUBJECT_LENGTH - 36}) || '... ' || md5(subject::VARCHAR) ELSE coalesce(subject::VARCHAR, '') END"
)
"""A long subject is cut, and its hash keeps it apart from others that begin alike."""
SUBJECTS = f"""SELECT host, count(DISTINCT {_SUBJECT}), count(DISTINCT {_SUBJECT}) FILTER (NOT pass),
  count(DISTINCT {_SUBJECT}) FILTER (pass IS NULL),
  min({{{{'pass': pass, 'subject': {_SUBJECT}, 'reason': left(reason::VARCHAR, 500)}}}}, {SUBJECT_CAP})
    FILTER (pass IS DISTINCT FROM true), min(typeof(host)), min(typeof(pass))
FROM ({{query}}) GROUP BY host"""
"""Exact counts, and the first subjects that are no pass: failures before what is not known, then by name."""


def decide(facts: Facts, check: Mapping[str, Any]) -> list[list[Any]]:
    """The rows of one check: host, why, counts, gap, subjects."""
    rows: list[list[Any]] = []
    coverage = facts.coverage()
    for group in check["sets"]:
        run = facts.connection.execute
        applies = None
        if check["applies"]:
            found = run(APPLIES.format(applies=check["applies"]), _bound(group, "applies")).fetchall()
            applies = {host: (yes, unsure) for host, yes, unsure in found}
        found = run(SUBJECTS.format(query=check["query"]), _bound(group, "query")).fetchall()
        if wrong := {row[5:] for row in found} - {("VARCHAR", "BOOLEAN"), ("VARCHAR", '"NULL"')}:
            raise BrokenCheckError("host must be VARCHAR and pass BOOLEAN, and they are {} and {}".format(*wrong.pop()))
        subjects = {row[0]: row[1:5] for row in found}
        if stray := [host for host in subjects if host not in coverage]:
            name = "no host (NULL)" if stray[0] is None else repr(stray[0][:80])
            raise BrokenCheckError(f"the query yields rows for {name}, which is not in the run")
        for host in sorted(coverage if group["hosts"] is None else group["hosts"]):
            count, failed, null, worst = subjects.get(host, (0, 0, 0, None))
            states = coverage.get(host, {})
            why, gap = rule(check, states, (True, False) if applies is None else applies.get(host, (False, True)), count, failed, null)
            shown = [[s["pass"], s["subject"], s["reason"]] for s in worst or ()] if why in ("fail", "null") else []
            rows.append([host, why, count, failed, null, gap, shown])
    return rows


class BrokenCheckError(Exception):
    """A check's SQL yields what no check may yield."""


def rule(check: Mapping[str, Any], states: Mapping[str, tuple[str, str]], applies: tuple[bool, bool], count: int, failed: int,
         null: int) -> tuple[str, str]:  # fmt: skip
    """What decides a host's result, and the gap if one does: the order of the design, section 5.

    `states` is {table: (coverage, reason)} of the host; a table without a record is not complete.
    A reference table that is too old decides nothing.
    """

    def gap(names: str) -> str | None:
        for table in check[names]:
            state, reason = states.get(table, ("none", "not read"))
            if state != "complete":
                return f"{table} {state}: {reason}"
        return None

    yes, unsure = applies
    if all(state == "none" for state, _ in states.values()):  # nothing is known of the host: not even what it lacks
        return "applies", gap("tables") or "nothing was read"
    if check["a_stale"]:
        return "applies", check["a_stale"]
    if (missing := gap("a_absence") or (gap("a_tables") if unsure or not yes else None)) is not None:
        return "applies", missing
    if unsure:
        return "applies", ""
    if not yes:
        return "notapplicable", ""
    if check["q_stale"]:
        return "gap", check["q_stale"]
    if (missing := gap("q_absence")) is not None:
        return "gap", missing
    if failed:
        return "fail", gap("tables") or ""
    if (missing := gap("tables")) is not None:
        return "gap", missing
    if null:
        return "null", ""
    return ("pass" if count else "none"), ""


def _bound(group: Mapping[str, Any], statement: str) -> dict[str, Any]:
    """The parameters that a statement names."""
    return {name: group["params"][name] for name in group[statement]}


def main() -> None:
    """Serve one request."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    schemas = {name: Schema(tuple(Column(c, kind, True, "") for c, kind in columns)) for name, columns in request["tables"].items()}
    facts = Facts.load(schemas, Path(request["facts"]), hosts=request["hosts"])
    for name, reference in request["references"].items():
        facts.add_reference(name, reference["columns"], reference["rows"])
    facts.lock()
    for check in request["checks"]:
        _say({"begin": check["id"]})
        try:
            _say({"id": check["id"], "rows": decide(facts, check)})
        except (DatabaseError, MemoryError, BrokenCheckError) as error:
            _say(
                {
                    "id": check["id"],
                    "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300],
                }
            )
    _say({"end": True})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
