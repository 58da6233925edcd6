# SPDX-License-Identifier: Apache-2.0
"""The evaluator process: runs checks' SQL on facts that it cannot change, within limits.

Started by `evaluate.py` as `python -m fleet_audit._evaluator`; takes one JSON request on standard
input and answers a line of JSON per check. The parent enforces the time of each check.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet_audit.facts import tables
from fleet_audit.tables import DatabaseError, Facts

MEMORY_LIMIT = 8 << 30
"""Address space: DuckDB's own limit counts buffers only."""
SUBJECT_CAP = 100

# The order of the design, section 5. `why` says which rule decided, for the reason.
RESULT = """
WITH h AS (SELECT host FROM hosts {hosts}),
a AS (SELECT host, coalesce(bool_or(applies), false) AS yes, coalesce(bool_or(applies IS NULL), true) AS unsure
      FROM ({applies}) GROUP BY host),
g AS (SELECT host, count(*) AS n, count(*) FILTER (NOT pass) AS nf, count(*) FILTER (pass IS NULL) AS nu,
             min({{'pass': pass, 'subject': left(subject::VARCHAR, 200), 'reason': left(reason::VARCHAR, 500)}}, {cap})
                 FILTER (pass IS DISTINCT FROM true) AS subjects
      FROM ({query}) GROUP BY host),
c AS (SELECT host,
             count(*) FILTER (state = 'complete' AND list_contains({a_tables}, tab)) AS a_read,
             count(*) FILTER (state = 'complete' AND list_contains({a_absence}, tab)) AS a_absence_read,
             count(*) FILTER (state = 'complete' AND list_contains({q_absence}, tab)) AS q_absence_read,
             count(*) FILTER (state = 'complete' AND list_contains({tables}, tab)) AS read,
             min(tab || ' ' || state || ': ' || reason) FILTER (state <> 'complete' AND list_contains({a_tables}, tab)) AS a_gap,
             min(tab || ' ' || state || ': ' || reason) FILTER (state <> 'complete' AND list_contains({tables}, tab)) AS gap
      FROM _coverage GROUP BY host)
SELECT h.host,
  CASE WHEN a.host IS NULL OR a.unsure THEN 'applies'
       WHEN coalesce(c.a_absence_read, 0) < len({a_absence}) THEN 'applies'
       WHEN NOT a.yes AND coalesce(c.a_read, 0) < len({a_tables}) THEN 'applies'
       WHEN NOT a.yes THEN 'notapplicable'
       WHEN coalesce(c.q_absence_read, 0) < len({q_absence}) THEN 'gap'
       WHEN g.nf > 0 THEN 'fail'
       WHEN coalesce(c.read, 0) < len({tables}) THEN 'gap'
       WHEN g.nu > 0 THEN 'null'
       WHEN coalesce(g.n, 0) = 0 THEN 'none'
       ELSE 'pass' END AS why,
  coalesce(g.n, 0), coalesce(g.nf, 0), coalesce(g.nu, 0), coalesce(c.a_gap, ''), coalesce(c.gap, ''), g.subjects
FROM h LEFT JOIN a USING (host) LEFT JOIN g USING (host) LEFT JOIN c USING (host) ORDER BY h.host
"""


def statement(check: Mapping[str, Any], hosts: Sequence[str] | None) -> str:
    """The one statement that decides a check for some hosts, None for all."""
    everywhere = "SELECT host, true AS applies FROM hosts"
    return RESULT.format(
        hosts="" if hosts is None else "WHERE list_contains($_hosts, host)",
        applies=check["applies"] or everywhere,
        query=check["query"],
        cap=SUBJECT_CAP,
        **{name: _list(check[name]) for name in ("a_tables", "a_absence", "q_absence", "tables")},
    )


def _list(names: Sequence[str]) -> str:
    """Table names, which are ours, as a SQL list."""
    return f"[{', '.join(repr(n) for n in names)}]::VARCHAR[]"


def decide(facts: Facts, check: Mapping[str, Any]) -> list[list[Any]]:
    """The rows of one check: host, why, counts, gaps, subjects."""
    rows: list[list[Any]] = []
    for group in check["sets"]:
        values = dict(group["params"])
        if group["hosts"] is not None:
            values["_hosts"] = group["hosts"]
        for host, why, n, failed, null, a_gap, gap, subjects in facts.connection.execute(
            statement(check, group["hosts"]), values
        ).fetchall():
            found = [[s["pass"], s["subject"], s["reason"]] for s in subjects or ()] if why in ("fail", "null") else []
            rows.append([host, why, n, failed, null, a_gap if why == "applies" else gap if why == "gap" else "", found])
    return rows


def main() -> None:
    """Serve one request."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    needed = {t for check in request["checks"] for t in check["tables"]}
    facts = Facts.load(tables(), Path(request["facts"]), hosts=request["hosts"], only=sorted(needed))
    facts.lock()
    for check in request["checks"]:
        _say({"begin": check["id"]})
        try:
            _say({"id": check["id"], "rows": decide(facts, check)})
        except (DatabaseError, MemoryError) as error:
            _say({"id": check["id"], "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]})
    _say({"end": True})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
