# SPDX-License-Identifier: Apache-2.0
"""Checks that the policy asks for: the hosts of a group must be alike in a column of a table. One for each entry of `peers:`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet_audit import sql
from fleet_audit.checkfile import BUILT_IN, Check, Definition, Parameter, sql_type
from fleet_audit.facts.base import Table
from fleet_audit.model import CheckId, did_you_mean
from fleet_audit.policy import PeerFile, Policy

AREA = "fleet"
APPLIES = "SELECT host, expected AND len(groups) > 0 AND (len($groups) = 0 OR list_has_any(groups, $groups)) AS applies FROM hosts"
QUERY = """WITH member AS (SELECT host, unnest(groups) AS grp FROM hosts WHERE expected),
     size AS (SELECT grp, count(*) AS n FROM member WHERE len($groups) = 0 OR list_contains($groups, grp) GROUP BY grp),
     looked AS (SELECT m.grp, m.host FROM member AS m JOIN size AS z ON z.grp = m.grp JOIN covered AS c ON c.host = m.host AND c.tab = '{table}'),
     cell AS (SELECT l.grp, l.host, {item} AS item, bool_or(t.{value} IS NULL) AS unsure,
                     string_agg(DISTINCT t.{value}::VARCHAR, ', ' ORDER BY t.{value}::VARCHAR) AS val
              FROM looked AS l JOIN {table} AS t ON t.host = l.host
              WHERE len($only) = 0 OR list_contains($only, {item}) GROUP BY l.grp, l.host, {item}),
     item AS (SELECT DISTINCT grp, item FROM cell),
     seen AS (SELECT l.grp, l.host, i.item, CASE WHEN c.host IS NULL THEN 'none' WHEN NOT c.unsure THEN c.val END AS val
              FROM looked AS l JOIN item AS i ON i.grp = l.grp LEFT JOIN cell AS c ON c.grp = l.grp AND c.host = l.host AND c.item = i.item),
     compared AS (SELECT grp, item, count(val) AS n FROM seen GROUP BY grp, item),
     vote AS (SELECT grp, item, val, count(*) AS n FROM seen WHERE val IS NOT NULL GROUP BY grp, item, val),
     best AS (SELECT v.grp, v.item, v.val, v.n FROM vote AS v JOIN size AS z ON z.grp = v.grp
              WHERE z.n >= $minimum_hosts AND 100 * v.n >= $minimum_percent * z.n)
SELECT s.host, s.grp || ': ' || s.item AS subject, s.val = b.val AS pass,
       s.item || ' is ' || coalesce(s.val, 'not determined') || '; '
       || CASE WHEN z.n < $minimum_hosts THEN 'the group has too few hosts to compare'
               ELSE coalesce(b.n || ' hosts of the group have ' || b.val, 'too few hosts of the group agree') END
       || ' (' || p.n || ' of ' || z.n || ' compared)' AS reason
FROM seen AS s JOIN size AS z ON z.grp = s.grp JOIN compared AS p ON p.grp = s.grp AND p.item = s.item
LEFT JOIN best AS b ON b.grp = s.grp AND b.item = s.item"""


def checks(policy: Policy, tables: Mapping[str, Table]) -> list[Check]:
    """The checks of a policy's `peers:`. Raises `FleetAuditError` for a table or column that there is not."""
    found: dict[str, Check] = {}
    for number, entry in enumerate(policy.peers):
        place = ("peers", number)
        if entry.table not in tables:
            raise policy.error((*place, "table"), f"no table is named {entry.table!r}{did_you_mean(entry.table, tables)}")
        columns = {c.name for c in tables[entry.table].columns}
        for field, name in (("value", entry.value), ("key", entry.key)):
            if name is not None and name not in columns:
                raise policy.error((*place, field), f"{entry.table} has no column {name!r}{did_you_mean(name, columns)}")
        check = _check(entry, policy.path or Path("policy"))
        if check.id in found:
            raise policy.error(place, f"{check.id} is there already: give one of them a `name`")
        found[check.id] = check
    return list(found.values())


def _check(entry: PeerFile, path: Path) -> Check:
    item = f"t.{entry.key}::VARCHAR" if entry.key else f"'{entry.value}'"
    params: dict[str, Parameter] = {"groups": list(entry.groups), "only": list(entry.only), "minimum_hosts": 5, "minimum_percent": 60}
    types = {name: sql_type(default) for name, default in params.items()} | BUILT_IN
    query, applies = QUERY.format(table=entry.table, value=entry.value, item=item), APPLIES
    id_ = f"peers-{entry.name or f'{entry.table}-{entry.value}'}".replace("_", "-")
    file = Definition(  # it has no examples of its own: the template is tested
        id=id_, aliases=[], title=f"The hosts of a group have the same {entry.value} in {entry.table}"[:120], severity=entry.severity,
        scope="fleet", surface=["hardware", "tools"],
        rationale="A node that differs from its peers missed a change, or was changed by somebody.",
        unknown="The group has too few hosts, or too few of them were read or agree for a majority.",
        fix="Find out why the node differs, and bring it to what its group has.", controls={"nist-800-53": ["CM-2", "CM-6"]}, profiles=[],
        params=params, applies=applies, query=query, none="unknown" if entry.only else "pass",
        none_because="No host of the group has a row of these", learn={}, remediation=None,
        references=[f"peers: in {path.name}"],
    )  # fmt: skip
    return Check(
        CheckId(id_), AREA, file, path, sql.parse(query, types=types, prefix="query_version_key"),
        sql.parse(applies, types=types, prefix="applies_version_key"),
    )  # fmt: skip
