# SPDX-License-Identifier: Apache-2.0
"""Checks that the policy asks for: the hosts of a group must be alike in a column of a table. One for each entry of `peers:`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fleet_audit import sql
from fleet_audit.checkfile import BUILT_IN, Bounds, Check, Definition, Parameter, sql_type
from fleet_audit.facts.base import Table
from fleet_audit.model import CheckId, did_you_mean
from fleet_audit.policy import PeerFile, Policy

AREA = "fleet"
APPLIES = "SELECT host, expected AND (len($groups) = 0 OR list_has_any(groups, $groups)) AS applies FROM hosts"
QUERY = """WITH member AS (SELECT host,
                       unnest(CASE WHEN len(groups) = 0 THEN ['hosts in no group'] ELSE groups END) AS grp FROM hosts WHERE expected),
     size AS (SELECT grp, count(*) AS n FROM member WHERE len($groups) = 0 OR list_contains($groups, grp) GROUP BY grp),
     looked AS (SELECT m.grp, m.host FROM member AS m JOIN size AS z ON z.grp = m.grp JOIN covered AS c ON c.host = m.host AND c.tab = '{table}'),
     line AS (SELECT t.host, {item} AS item, t.{value}::VARCHAR AS val FROM {table} AS t
              WHERE len($only) = 0 OR {item} IS NULL OR list_contains($only, {item})),
     extent AS (SELECT host, item, min(val) AS low, max(val) AS high, bool_or(val IS NULL) AS unsure FROM line GROUP BY host, item),
     several AS (SELECT l.host, l.item, string_agg(DISTINCT l.val, ', ' ORDER BY l.val) AS val FROM line AS l
                 JOIN extent AS e ON e.host = l.host AND e.item = l.item AND e.low <> e.high GROUP BY l.host, l.item),
     cell AS (SELECT e.host, e.item, CASE WHEN NOT e.unsure THEN coalesce(s.val, e.low) END AS val
              FROM extent AS e LEFT JOIN several AS s ON s.host = e.host AND s.item = e.item WHERE e.item IS NOT NULL),
     vague AS (SELECT DISTINCT host FROM extent WHERE item IS NULL),
     able AS (SELECT l.grp, l.host FROM looked AS l WHERE NOT EXISTS (SELECT 1 FROM vague AS u WHERE u.host = l.host)),
     share AS (SELECT z.grp, z.n, count(a.host) AS able, z.n >= $minimum_hosts AND 100 * count(a.host) >= $minimum_percent * z.n AS enough
               FROM size AS z LEFT JOIN able AS a ON a.grp = z.grp GROUP BY z.grp, z.n),
     here AS (SELECT l.grp, l.host, c.item, c.val FROM looked AS l JOIN cell AS c ON c.host = l.host),
     present AS (SELECT h.grp, h.item, count(*) - count(u.host) AS able, count(h.val) AS told
                 FROM here AS h LEFT JOIN vague AS u ON u.host = h.host GROUP BY h.grp, h.item),
     vote AS (SELECT grp, item, val, count(*) AS n FROM here WHERE val IS NOT NULL GROUP BY grp, item, val
              UNION ALL SELECT p.grp, p.item, NULL, s.able - p.able FROM present AS p JOIN share AS s ON s.grp = p.grp),
     best AS (SELECT v.grp, v.item, v.val, v.val IS NULL AS absent, v.n FROM vote AS v JOIN share AS s ON s.grp = v.grp
              WHERE s.n >= $minimum_hosts AND 100 * v.n >= $minimum_percent * s.n),
     odd AS (SELECT h.grp, h.host, h.item, h.val, false AS absent FROM here AS h
             LEFT JOIN best AS b ON b.grp = h.grp AND b.item = h.item WHERE h.val IS NULL OR b.absent IS NULL OR b.absent OR h.val <> b.val
             UNION ALL
             SELECT a.grp, a.host, p.item, NULL, true FROM present AS p JOIN able AS a ON a.grp = p.grp
             LEFT JOIN best AS b ON b.grp = p.grp AND b.item = p.item
             WHERE NOT coalesce(b.absent, false) AND NOT EXISTS (SELECT 1 FROM cell AS c WHERE c.host = a.host AND c.item = p.item))
SELECT o.host, o.grp || ': ' || o.item AS subject,
       CASE WHEN b.absent IS NULL OR (o.val IS NULL AND NOT o.absent) THEN NULL ELSE false END AS pass,
       o.item || ' is ' || CASE WHEN o.absent THEN 'not there' ELSE coalesce(o.val, 'not determined') END || '; '
       || CASE WHEN s.n < $minimum_hosts THEN 'the group has too few hosts to compare' WHEN b.absent IS NULL THEN 'too few hosts of the group agree'
               WHEN b.absent THEN b.n || ' hosts of the group have none' ELSE b.n || ' hosts of the group have ' || b.val END
       || ' (' || p.told + s.able - p.able || ' of ' || s.n || ' compared)' AS reason
FROM odd AS o JOIN share AS s ON s.grp = o.grp JOIN present AS p ON p.grp = o.grp AND p.item = o.item
LEFT JOIN best AS b ON b.grp = o.grp AND b.item = o.item
UNION ALL
SELECT l.host, l.grp || ': all else' AS subject,
       CASE WHEN s.enough AND NOT EXISTS (SELECT 1 FROM vague AS u WHERE u.host = l.host)
                 AND (len($only) = 0 OR EXISTS (SELECT 1 FROM present AS p WHERE p.grp = l.grp)) THEN true END,
       CASE WHEN s.n < $minimum_hosts THEN 'The group has too few hosts to compare' WHEN NOT s.enough THEN 'Too few hosts of the group were read'
            WHEN EXISTS (SELECT 1 FROM vague AS u WHERE u.host = l.host) THEN 'What one of them is was not read'
            ELSE 'No host of the group has any of these' END || ' (' || s.able || ' of ' || s.n || ' compared)'
FROM looked AS l JOIN share AS s ON s.grp = l.grp"""
"""Of what all of a group have alike no row is made but `all else`: a fleet has millions of those."""


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
    bounds: dict[str, Bounds | list[str]] = {"minimum_hosts": Bounds(least=2), "minimum_percent": Bounds(least=51, most=100)}
    types = {name: sql_type(default) for name, default in params.items()} | BUILT_IN
    query, applies = QUERY.format(table=entry.table, value=entry.value, item=item), APPLIES
    id_ = f"peers-{entry.name or f'{entry.table}-{entry.value}'}".replace("_", "-")
    file = Definition(  # it has no examples of its own: the template is tested
        id=id_, aliases=[], title=f"The hosts of a group have the same {entry.value} in {entry.table}"[:120], severity=entry.severity,
        scope="fleet", surface=["hardware", "tools"],
        rationale="A node that differs from its peers missed a change, or was changed by somebody.",
        unknown="The group has too few hosts, or too few of them were read or agree for a majority.",
        fix="Find out why the node differs, and bring it to what its group has.", controls={"nist-800-53": ["CM-2", "CM-6"]}, profiles=[],
        params=params, bounds=bounds, applies=applies, query=query, none="unknown",
        none_because="Nothing of the group was compared", learn={}, remediation=None,
        references=[f"peers: in {path.name}"],
    )  # fmt: skip
    return Check(
        CheckId(id_), AREA, file, path, sql.parse(query, types=types, prefix="query_version_key"),
        sql.parse(applies, types=types, prefix="applies_version_key"),
    )  # fmt: skip
