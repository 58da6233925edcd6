# SPDX-License-Identifier: Apache-2.0
"""The rule that turns rows into results, and the isolation of what breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_audit.facts.base import Extract
from fleet_audit.model import Coverage, Outcome
from fleet_audit.policy import Policy

from .factory import decide, library, make_check, outcomes, rows

FULL, PARTIAL, NONE = Coverage.COMPLETE, Coverage.PARTIAL, Coverage.NONE
QUERY = "SELECT host, name AS subject, manager = 'good' AS pass, 'manager is ' || manager AS reason FROM packages"
APPLIES = "SELECT host, CASE version_id WHEN 'yes' THEN true WHEN 'no' THEN false END AS applies FROM os"


def _packages(*managers: str | None, coverage: Coverage = FULL) -> Extract:
    return rows("packages", *({"name": f"p{i}", "manager": m} for i, m in enumerate(managers)), coverage=coverage)


def _os(version: str | None, coverage: Coverage = FULL) -> Extract:
    return rows("os", {"version_id": version}, coverage=coverage) if coverage is not NONE else rows("os", coverage=NONE)


CASES = {
    "all rows pass": (_os("yes"), _packages("good", "good"), Outcome.PASS),
    "one row fails": (_os("yes"), _packages("good", "bad"), Outcome.FAIL),
    "a failing row counts although the table is partial": (_os("yes"), _packages("bad", coverage=PARTIAL), Outcome.FAIL),
    "passing rows of a partial table prove nothing": (_os("yes"), _packages("good", coverage=PARTIAL), Outcome.UNKNOWN),
    "no row in a complete table is what none says": (_os("yes"), _packages(), Outcome.UNKNOWN),
    "no row in a partial table": (_os("yes"), _packages(coverage=PARTIAL), Outcome.UNKNOWN),
    "the table was not read": (_os("yes"), rows("packages", coverage=NONE), Outcome.UNKNOWN),
    "it does not apply": (_os("no"), _packages("bad"), Outcome.NOTAPPLICABLE),
    "it does not apply, and the other table was not read": (_os("no"), rows("packages", coverage=NONE), Outcome.NOTAPPLICABLE),
    "whether it applies is NULL": (_os(None), _packages("bad"), Outcome.UNKNOWN),
    "false on a partial table does not say that it does not apply": (_os("no", PARTIAL), _packages("good"), Outcome.UNKNOWN),
    "whether it applies was not read": (_os("yes", NONE), _packages("bad"), Outcome.UNKNOWN),
    "it applies by a partial table, and a row fails": (_os("yes", PARTIAL), _packages("bad"), Outcome.FAIL),
    "it applies by a partial table, and all rows pass": (_os("yes", PARTIAL), _packages("good"), Outcome.UNKNOWN),
}


def test_truth_table(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=QUERY, applies=APPLIES)
    hosts = {name: {"os": os, "packages": packages} for name, (os, packages, _) in CASES.items()}
    found = outcomes(decide(tmp_path, [check], hosts))
    assert found == {("a-check", name): wanted for name, (_, _, wanted) in CASES.items()}


@pytest.mark.parametrize(("none", "wanted"), [("pass", Outcome.PASS), ("fail", Outcome.FAIL), ("unknown", Outcome.UNKNOWN)])
def test_an_applicable_host_without_a_row_is_what_none_says(tmp_path: Path, none: str, wanted: Outcome) -> None:
    check = make_check(tmp_path, query=QUERY, none=none)
    found = decide(tmp_path, [check], {"empty": {"packages": _packages()}, "unread": {"packages": rows("packages", coverage=NONE)}})
    assert outcomes(found) == {("a-check", "empty"): wanted, ("a-check", "unread"): Outcome.UNKNOWN}


def test_a_missing_coverage_record_is_not_complete(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=QUERY, none="pass")
    assert outcomes(decide(tmp_path, [check], {"h": {}})) == {("a-check", "h"): Outcome.UNKNOWN}


def test_a_failure_from_absence_needs_the_whole_table(tmp_path: Path) -> None:
    """`os LEFT JOIN packages ... IS NOT NULL` says fail for what was only not read."""
    query = """SELECT o.host, o.id AS subject, p.name IS NOT NULL AS pass, 'not installed' AS reason
               FROM os o LEFT JOIN packages p ON p.host = o.host AND p.name = 'p0'"""
    check = make_check(tmp_path, query=query)
    assert check.query.absence == {"packages"}
    hosts = {"partial": PARTIAL, "none": NONE, "full": FULL}
    found = outcomes(decide(tmp_path, [check], {n: {"os": _os("x"), "packages": _packages(coverage=c)} for n, c in hosts.items()}))
    assert found == {("a-check", "partial"): Outcome.UNKNOWN, ("a-check", "none"): Outcome.UNKNOWN, ("a-check", "full"): Outcome.FAIL}


def test_counts_are_exact_and_subjects_are_bounded_and_ordered(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=QUERY)
    many = rows("packages", *({"name": f"p{i:03d}", "manager": "bad"} for i in reversed(range(250))))
    found = decide(tmp_path, [check], {"h": {"packages": many}})
    assert (found.results[0].subjects, found.results[0].failed) == (250, 250)
    assert [f.subject for f in found.findings] == [f"p{i:03d}" for i in range(100)]
    assert found.results[0].reason == "manager is bad, and 249 more"


def test_parameters_differ_by_group(tmp_path: Path) -> None:
    query = "SELECT host, name AS subject, list_contains($allowed, manager) AS pass, manager AS reason FROM packages"
    check = make_check(tmp_path, query=query, params={"allowed": ["good"]})
    policy = Policy(params={"a-check": {"allowed": ["better"]}}, groups={"lab": {"a-check": {"allowed": ["bad", "good"]}}})
    hosts = {"prod": {"packages": _packages("better")}, "lab1": {"packages": _packages("bad")}, "prod2": {"packages": _packages("good")}}
    found = outcomes(decide(tmp_path, [check], hosts, policy=policy, groups={"lab1": ("lab",)}))
    assert found == {("a-check", "prod"): Outcome.PASS, ("a-check", "lab1"): Outcome.PASS, ("a-check", "prod2"): Outcome.FAIL}


def test_version_keys_and_ages_are_bound(tmp_path: Path) -> None:
    query = """SELECT host, release AS subject, booted_at > $as_of - INTERVAL 2 DAY AND release < version_key('dotted', $least) AS pass,
               release AS reason FROM kernel_running"""
    check = make_check(tmp_path, query=query, params={"least": "580.1"})
    from datetime import datetime, timedelta

    from .factory import AS_OF

    hosts = {
        f"h{days}": {"kernel_running": rows("kernel_running", {"release": "@", "booted_at": AS_OF - timedelta(days=days)})}
        for days in (1, 3)
    }
    assert isinstance(AS_OF, datetime)
    assert outcomes(decide(tmp_path, [check], hosts)) == {("a-check", "h1"): Outcome.PASS, ("a-check", "h3"): Outcome.FAIL}


def test_the_same_facts_give_identical_results(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=QUERY, applies=APPLIES)
    hosts = {name: {"os": os, "packages": packages} for name, (os, packages, _) in CASES.items()}
    assert decide(tmp_path / "one", [check], hosts) == decide(tmp_path / "two", [check], dict(reversed(hosts.items())))


HOSTILE = [
    "'; DROP TABLE os; --", "<script>alert(1)</script>", "\x1b[31mred", "\u202eevil", "x" * 4096, "\x00", "99999999999999999999999",
    "=1+1", "%s%n", "NaN", "\ud7ff\uffff", "{{7*7}}", "1e999",
]  # fmt: skip


@pytest.mark.slow
def test_a_hostile_value_in_every_text_column_of_one_host_leaves_the_others_identical(tmp_path: Path) -> None:
    from fleet_audit.facts import tables

    numeric = "SELECT host, name AS subject, TRY_CAST(version AS BIGINT) < 5 AS pass, reverse(name) || upper(arch) AS reason FROM packages"
    chosen = [make_check(tmp_path / "a", query=QUERY, applies=APPLIES), make_check(tmp_path / "b", "b-check", query=numeric)]
    clean = {n: {"os": _os("yes"), "packages": _packages("good", "bad")} for n in ("a", "b", "z")}
    before = [r for r in decide(tmp_path / "clean", chosen, clean).results if r.host != "b"]
    for index, text in enumerate(HOSTILE):
        evil = {
            table: rows(table, {c.name: [text] if c.type.endswith("[]") else text for c in tables()[table].columns if "VARCHAR" in c.type})
            for table in ("os", "packages")
        }
        after = decide(tmp_path / str(index), chosen, {**clean, "b": evil})
        assert [r for r in after.results if r.host != "b"] == before, repr(text)


@pytest.mark.slow
@pytest.mark.thorough
def test_a_hostile_value_in_every_column_of_every_table_leaves_the_others_identical_in_every_shipped_check(tmp_path: Path) -> None:
    from fleet_audit.facts import tables

    chosen = [c for c in library().checks.values() if c.file.scope == "host"]
    clean = {name: {table: rows(table, {}) for table in tables()} for name in ("a", "b", "z")}
    before = [r for r in decide(tmp_path / "clean", chosen, clean).results if r.host != "b"]
    assert len(before) == 2 * len(chosen)
    for index, text in enumerate(HOSTILE):
        evil = {
            name: rows(name, {c.name: [text] if c.type.endswith("[]") else text for c in table.columns if "VARCHAR" in c.type})
            for name, table in tables().items()
        }
        after = decide(tmp_path / str(index), chosen, {**clean, "b": evil})
        assert [r for r in after.results if r.host != "b"] == before, repr(text)


def test_a_host_that_breaks_a_query_stands_alone(tmp_path: Path) -> None:
    """to_days of an absurd number overflows: an error that no allow list foresees."""
    query = """SELECT host, 'age' AS subject, $as_of - to_days(TRY_CAST(tainted AS INTEGER)) < $as_of AS pass, 'old' AS reason
               FROM kernel_running"""
    broken, sound = make_check(tmp_path / "a", query=query), make_check(tmp_path / "b", "b-check", query=QUERY, none="pass")
    hosts = {f"h{i:02d}": {"kernel_running": rows("kernel_running", {"tainted": 1}), "packages": _packages("good")} for i in range(20)}
    before = decide(tmp_path / "clean", [broken, sound], hosts)
    assert {r.outcome for r in before.results} == {Outcome.PASS}
    hosts["h07"] = {**hosts["h07"], "kernel_running": rows("kernel_running", {"tainted": 2_000_000_000})}
    after = decide(tmp_path / "evil", [broken, sound], hosts)
    assert [r for r in after.results if r.outcome is Outcome.ERROR] == [r for r in after.results if (r.check, r.host) == ("a-check", "h07")]
    assert [r for r in after.results if r.host != "h07"] == [r for r in before.results if r.host != "h07"]
    assert next(f for f in after.findings if f.host == "h07").outcome is Outcome.ERROR


def test_a_query_that_takes_too_long_is_an_error_for_its_check_alone(tmp_path: Path) -> None:
    slow_sum = "(SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b)"
    query = f"SELECT host, 'x' AS subject, {slow_sum} > 0 AS pass, 'x' AS reason FROM hosts"
    slow, sound = make_check(tmp_path / "a", query=query), make_check(tmp_path / "b", "b-check", query=QUERY)
    found = decide(tmp_path, [slow, sound], {"h": {"packages": _packages("good")}}, seconds=1.0)
    assert outcomes(found) == {("a-check", "h"): Outcome.ERROR, ("b-check", "h"): Outcome.PASS}
    assert "limit" in next(r.reason for r in found.results if r.check == "a-check")


def test_fleet_scope_sees_all_hosts(tmp_path: Path) -> None:
    query = """SELECT k.host, 'kernel' AS subject, k.release = g.common AS pass, k.release || ' against ' || g.common AS reason
               FROM kernel_running k JOIN covered c ON c.host = k.host AND c.tab = 'kernel_running',
                    (SELECT arg_max(release, (n, release) ORDER BY release) AS common
                                       FROM (SELECT release, count(*) AS n FROM kernel_running GROUP BY release)) g"""
    check = make_check(tmp_path, query=query, scope="fleet", examples=[
        {"hosts": {"a": {"result": "pass"}}}, {"hosts": {"a": {"result": "fail"}}}])  # fmt: skip
    hosts = {n: {"kernel_running": rows("kernel_running", {"release": r})} for n, r in (("a", "6.8"), ("b", "6.8"), ("c", "5.15"))}
    assert outcomes(decide(tmp_path, [check], hosts)) == {
        ("a-check", "a"): Outcome.PASS, ("a-check", "b"): Outcome.PASS, ("a-check", "c"): Outcome.FAIL,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT host, name AS subject, true AS pass, 'r' AS reason FROM packages UNION ALL SELECT NULL, 'y', false, 'q'", "no host"),
        ("SELECT 'ghost' AS host, name AS subject, true AS pass, 'r' AS reason FROM packages", "'ghost'"),
        ("SELECT host, '' AS subject, count(*) AS pass, 'r' AS reason FROM packages GROUP BY host", "pass BOOLEAN"),
        ("SELECT host, name AS subject, 'true' AS pass, 'r' AS reason FROM packages", "pass BOOLEAN"),
    ],
)
def test_a_query_that_yields_what_no_check_may_is_an_error_on_every_host(tmp_path: Path, query: str, words: str) -> None:
    found = decide(tmp_path, [make_check(tmp_path, query=query)], {"h": {"packages": rows("packages", {"name": "a"})}})
    assert outcomes(found) == {("a-check", "h"): Outcome.ERROR}
    assert words in found.results[0].reason


def test_a_comment_at_the_end_of_a_statement_swallows_nothing(tmp_path: Path) -> None:
    query = "SELECT host, id AS subject, id = 'yes' AS pass, id AS reason FROM os -- by its id"
    found = decide(tmp_path, [make_check(tmp_path / "a", query=query)], {"h": {"os": rows("os", {"id": "yes"})}})
    assert outcomes(found) == {("a-check", "h"): Outcome.PASS}
