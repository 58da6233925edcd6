# SPDX-License-Identifier: Apache-2.0
"""What of the store's advisories concerns what is installed: rows for `vulnerabilities` and its like, by joins on sortable keys.

Nodes of one image have the same packages: what is decided for one of them holds for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from fleet_audit.advisories import match_nvidia, match_packages, match_python
from fleet_audit.advisories.database import Database, Manifest
from fleet_audit.advisories.records import SEVERITIES
from fleet_audit.model import Coverage
from fleet_audit.tables import Facts

TABLES = (
    "vulnerabilities", "python_vulnerabilities", "nvidia_vulnerabilities", "nvidia_firmware_vulnerabilities", "triton_vulnerabilities",
)  # fmt: skip
NEEDED = {
    "vulnerabilities": ("packages", "os", "kernel_running", "machine", "livepatch_client", "livepatch_modules", "ubuntu_pro_services"),
    "python_vulnerabilities": ("python_packages",), "nvidia_vulnerabilities": ("nvidia_driver", "gpus", "packages"),
    "nvidia_firmware_vulnerabilities": ("nic_firmware", "dmi"), "triton_vulnerabilities": ("containers",),
}  # fmt: skip


_QUERIES: Mapping[str, Callable[[Any], str]] = {
    "vulnerabilities": match_packages.query, "python_vulnerabilities": match_python.query, "nvidia_vulnerabilities": match_nvidia.query,
    "nvidia_firmware_vulnerabilities": match_nvidia.firmware, "triton_vulnerabilities": match_nvidia.triton,
}  # fmt: skip


LEAST = {"ubuntu": 50_000, "debian": 5_000, "redhat": 20_000, "rocky": 2_000, "alma": 2_000, "pypi": 2_000, "nvidia": 500}
"""Ranges that a source has at least where all of it was taken in; each publishes several times as many."""


def decide(facts: Facts, database: Database, as_of: datetime, maximum_days: int, least: Mapping[str, int] = LEAST) -> dict[str, Any]:
    """Fill the tables of vulnerabilities of a run's facts; what the run says of the data set.

    A source of advisories that is older than so many days decides nothing. Of one that has fewer ranges than `least` says, a
    document or two were taken in: what they say holds, and that no other vulnerability is known is not said.
    """
    wanted = [name for name in TABLES if name in facts.tables]
    manifest = database.manifest()
    if not wanted or not manifest.sources:
        return {}
    run = facts.connection.execute
    database.attach(facts.connection, manifest)
    old = {name: entry.age_days(as_of) for name, entry in manifest.sources.items() if entry.age_days(as_of) > maximum_days}
    has = {name: name in manifest.sources and name not in old for name in ("kev", "epss", "ubuntu-vex")}
    _common(run, has)
    for name in wanted:
        if any(table not in facts.tables for table in NEEDED[name]):
            continue
        _contents(run, NEEDED[name])
        _insert(run, facts, name, _QUERIES[name](run))
        _cover(run, facts, name, manifest, old, maximum_days, least)
    for view in ("advisories", "ranges", "livepatches", "exploited", "scores"):
        run(f"DROP VIEW adv_{view}").fetchall()
    return {
        "id": manifest.id,
        "sources": {n: {"as_of": e.as_of and e.as_of.isoformat(), "taken_at": e.taken_at.isoformat(), "stale": n in old,
                        "records": sum(e.counts.values()), "unparsed": e.unparsed, "refused": e.refused}
                    for n, e in sorted(manifest.sources.items())},
    }  # fmt: skip


def _common(run: Any, has: Mapping[str, bool]) -> None:
    """What is known of a CVE whatever it is in."""
    run("CREATE OR REPLACE TEMP TABLE known AS SELECT cve, min(added) AS since FROM adv_exploited GROUP BY cve").fetchall()
    run("CREATE OR REPLACE TEMP TABLE score AS SELECT cve, max(probability) AS chance FROM adv_scores GROUP BY cve").fetchall()
    words = ", ".join(f"'{word}'" for word in SEVERITIES)
    run(f"CREATE OR REPLACE TEMP MACRO worst(s) AS min_by(s, list_position([{words}], s))").fetchall()
    run("CREATE OR REPLACE TEMP MACRO told(x) AS " + ("x" if has["kev"] else "CASE WHEN x THEN true END")).fetchall()
    run(f"CREATE OR REPLACE TEMP MACRO chance(x) AS {'x' if has['epss'] else 'CASE WHEN false THEN x END'}").fetchall()


def _contents(run: Any, needed: Sequence[str]) -> None:
    """`rep`: of the hosts that have the same contents in these tables one, and the name of that content; `twin`: all of them."""
    names = ", ".join(f"'{name}'" for name in needed)
    run(
        f"CREATE OR REPLACE TEMP TABLE twin AS SELECT host, md5(string_agg(tab || ' ' || content || ' ' || state, ';' ORDER BY tab)) AS content "
        f"FROM _coverage WHERE tab IN ({names}) GROUP BY host"
    ).fetchall()
    run("CREATE OR REPLACE TEMP TABLE rep AS SELECT content, min(host) AS host FROM twin GROUP BY content").fetchall()


def _insert(run: Any, facts: Facts, name: str, query: str) -> None:
    """Store the rows of a query once for each content."""
    columns = ", ".join(f'"{c.name}"' for c in facts.tables[name].columns)
    given = ", ".join(f"c{number}" for number in range(len(facts.tables[name].columns)))
    run(
        f"INSERT INTO _rows_{name} (content, ordinal, {columns}) SELECT content, row_number() OVER (PARTITION BY content ORDER BY {given}), {given} "
        f"FROM (SELECT DISTINCT * FROM ({query}) AS t(content, {given}))"
    ).fetchall()


def _cover(
    run: Any, facts: Facts, name: str, manifest: Manifest, old: Mapping[str, float], maximum_days: int, least: Mapping[str, int]
) -> None:
    """How far the table is known of each host: as far as what it is made from, and as the advisories are there and fresh."""
    states: dict[str, dict[str, tuple[str, str]]] = {}
    for host, table, state, reason in run("SELECT host, tab, state, reason FROM _coverage").fetchall():
        states.setdefault(host, {})[table] = (state, reason)
    contents = dict(run("SELECT host, content FROM twin").fetchall())
    gaps = _gaps(run, name, manifest, old, maximum_days, least)
    run(f"DELETE FROM _coverage WHERE tab = '{name}'").fetchall()
    rows = []
    for host, content in sorted(contents.items()):
        state, reason = _state(name, states[host])
        if state is not Coverage.NONE and content in gaps:
            state, reason = max((state, reason), gaps[content], key=lambda s: list(Coverage).index(s[0]))
        rows.append((host, name, str(state), reason, content))
    if rows:
        appender = facts.connection.appender("_coverage")
        appender.append_rows(rows)
        appender.flush()


def _state(name: str, states: Mapping[str, tuple[str, str]]) -> tuple[Coverage, str]:
    """As far as the tables behind it are known; Livepatch and Pro change states alone, which are then NULL or say so."""
    needed = {
        "vulnerabilities": ("os", "packages", "kernel_running", "machine"),
        "nvidia_vulnerabilities": ("nvidia_driver", "packages"),
    }.get(name, NEEDED[name])
    worst, why = Coverage.COMPLETE, ""
    for table in needed:
        state, reason = states.get(table, ("none", "not read"))
        found = Coverage(state)
        if found is Coverage.NONE and table in ("kernel_running", "machine"):
            found = Coverage.PARTIAL
        if list(Coverage).index(found) > list(Coverage).index(worst):
            worst, why = found, f"{table} {state}: {reason}"
    return worst, why


def _gaps(
    run: Any, name: str, manifest: Manifest, old: Mapping[str, float], maximum_days: int, least: Mapping[str, int]
) -> dict[str, tuple[Coverage, str]]:
    """{content: how far its advisories go} where they do not go all the way."""

    def source(name: str) -> tuple[Coverage, str] | None:
        if name not in manifest.sources:
            return Coverage.NONE, f"no advisories of {name} in the store: `fleet-audit advisories update` downloads them"
        if name in old:
            return Coverage.NONE, f"the advisories of {name} are {old[name]:.0f} days old, more than {maximum_days}"
        if missing := manifest.sources[name].refused:
            return Coverage.PARTIAL, f"{missing} documents among the advisories of {name} could not be read"
        if (ranges := manifest.sources[name].counts.get("ranges", 0)) < least.get(name, 0):
            return Coverage.PARTIAL, f"the advisories of {name} are but a part of what is published (ranges: {ranges:,})"
        return None

    found: dict[str, tuple[Coverage, str]] = {}
    if name != "vulnerabilities":
        if gap := source("pypi" if name == "python_vulnerabilities" else "nvidia"):
            found = dict.fromkeys((content for (content,) in run("SELECT content FROM rep").fetchall()), gap)
        return found
    there = set(run("SELECT DISTINCT ecosystem, release FROM adv_ranges").fetchall())
    kernels = {content for (content,) in run("SELECT content FROM installed WHERE kernel").fetchall()}
    odd = dict(
        run(
            "SELECT l.content, min(p.name) FROM place AS l JOIN packages AS p ON p.host = l.host WHERE p.version_key IS NULL GROUP BY l.content"
        ).fetchall()
    )
    for content, ecosystem, release, kernel, own in run("SELECT content, ecosystem, release, kernel, own_kernel FROM place").fetchall():
        if ecosystem is None:
            found[content] = Coverage.NONE, "advisories of this distribution are not known to this program"
        elif (gap := source(ecosystem)) and gap[0] is Coverage.NONE:
            found[content] = gap
        elif (ecosystem, release) not in there:
            found[content] = Coverage.NONE, f"the advisories say nothing of {ecosystem} {release}"
        elif gap:
            found[content] = gap
        elif content in odd:
            found[content] = Coverage.PARTIAL, f"the version of {odd[content]} is not understood"
        elif own and kernel is not None and content not in kernels:
            found[content] = Coverage.PARTIAL, f"the running kernel {kernel} belongs to no package"
    return found
