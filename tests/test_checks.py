# SPDX-License-Identifier: Apache-2.0
"""Checks as files: errors name file, line and field; every shipped check holds what its examples say."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fleet_audit import checkfile, checks, content, examples, sql
from fleet_audit.checkfile import CheckFile
from fleet_audit.facts import tables
from fleet_audit.model import FleetAuditError

from .conftest import Cli
from .factory import library, make_check, write_check

SHIPPED = sorted(p for p in content.folder("checks").rglob("*.yaml") if p.parent.name not in ("profiles", "reference", "checks", "content"))
LIBRARY = library()


@pytest.mark.slow
@pytest.mark.parametrize("name", [p.stem for p in SHIPPED])
def test_shipped_check_holds_its_examples_and_loses_evidence_one_way(name: str) -> None:
    check = LIBRARY.named(name)
    known = frozenset(tables()) | LIBRARY.references.keys() | sql.BUILT_IN_TABLES
    whole = checkfile.load_check(check.path, known)
    assert whole.file.model_dump(exclude={"examples"}) == check.file.model_dump(), (
        "the examples stand last, as a run's reading of it expects"
    )
    assert examples.run(check, tables(), LIBRARY.references) == []


def test_the_shipped_library_is_whole() -> None:
    whole = LIBRARY
    assert {"baseline", "strict"} <= set(whole.profiles)
    assert {c.id for c in whole.select("baseline")} < {c.id for c in whole.select("strict")}


BROKEN = {
    "title: A state": ("title: ''", "title"),
    "severity: high": ("severity: horrible", "severity"),
    "rationale: Because.": ("rationnale: Because.", "did you mean 'rationale'"),
    "none: unknown": ("none: ok", "none"),
    "fix: Do it.": ("", "fix: this field is missing"),
    "SELECT host, name AS subject": ("SELECT host, now() AS subject", "query: function now is not allowed"),
    "FROM packages": ("FROM package", "no table is named 'package'; did you mean 'packages'"),
}
GOOD = "SELECT host, name AS subject, arch = 'x' AS pass, arch AS reason FROM packages"


@pytest.mark.parametrize("old", BROKEN)
def test_errors_name_file_line_and_field(tmp_path: Path, old: str) -> None:
    path = write_check(tmp_path, "a-check", query=GOOD)
    text = path.read_text()
    new, words = BROKEN[old]
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(FleetAuditError) as caught:
        checkfile.load_check(path, frozenset(tables()))
    assert words in str(caught.value)
    line = int(str(caught.value).removeprefix(f"{path}:").split(":")[0])
    where = text.splitlines()[line - 1]
    assert old.split(":")[0].split()[0] in where or "query" in where or line == 1


BOMB = "a0: &a0 [1]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id: [", "not YAML"), ("- 1\n- 2\n", "must be a mapping of fields"), ("id: a\nid: b\n", "given twice"),
        (BOMB, "aliases written out"), ("a: &x [*x]\n", "nested deeper"),
        ("? [1]\n: 2\n", "must be a word"), ("id: \x00", "not YAML"),
        ("!!python/object/apply:os.system ['id']", "must be a mapping of fields"), ("", "must be a mapping of fields"),
    ],
)  # fmt: skip
def test_what_is_no_check_is_named_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "a-check.yaml"
    path.write_text(text)
    with pytest.raises(FleetAuditError, match=words) as caught:
        checkfile.load_check(path, frozenset(tables()))
    assert str(path) in str(caught.value)


def test_ids_are_never_reused(tmp_path: Path) -> None:
    write_check(tmp_path / "one", "a-check", query=GOOD)
    write_check(tmp_path / "two", "b-check", query=GOOD, aliases=["a-check"])
    with pytest.raises(FleetAuditError, match="never reused"):
        checks.load([tmp_path], tables=tables())


def test_a_parameter_that_no_sql_names_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FleetAuditError, match="no SQL names"):
        make_check(tmp_path, query=GOOD, params={"limit": 3})


TRAPS: dict[str, dict[str, Any]] = {
    "null_in_where_drops_the_row": {
        "query": "SELECT host, name AS subject, true AS pass, 'x' AS reason FROM packages WHERE version_key > ' '", "none": "fail",
        "none_because": "none", "examples": [{"result": "pass", "packages": [{"version_key": "dotted:2"}]}, {"result": "fail"}],
    },
    "absence_taken_for_good": {
        "query": "SELECT o.host, o.id AS subject, o.codename IS NULL AS pass, 'x' AS reason FROM os o",
        "examples": [{"result": "fail", "os": [{"codename": "jammy"}]}, {"result": "pass", "os": [{}]}],
    },
    "coalesce_hides_what_is_not_known": {
        "query": "SELECT host, id AS subject, coalesce(codename, 'good') = 'good' AS pass, 'x' AS reason FROM os",
        "examples": [{"result": "fail", "os": [{"codename": "bad"}]}, {"result": "pass", "os": [{"codename": "good"}]}],
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TRAPS)
def test_planted_traps_are_found_by_taking_evidence_away(tmp_path: Path, name: str) -> None:
    fields = {"none": "unknown", **TRAPS[name]}
    check = make_check(tmp_path, **fields)
    problems = examples.run(check, tables(), LIBRARY.references)
    assert problems, "the trap was not found"
    assert all("turned" in p.message for p in problems)


def test_an_example_that_is_wrong_is_told(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=GOOD, examples=[{"result": "pass", "packages": [{"arch": "y"}]}, {"result": "fail"}])
    assert [p.label for p in examples.run(check, tables(), LIBRARY.references)] == ["example 1", "example 2"]


@pytest.mark.parametrize(("row", "words"), [({"nope": 1}, "no column"), ({"name": 3}, "instead of str"), ("x", "mapping")])
def test_an_example_row_must_fit_its_table(tmp_path: Path, row: object, words: str) -> None:
    check = make_check(tmp_path, query=GOOD, examples=[{"result": "pass", "packages": [row]}, {"result": "fail"}])
    with pytest.raises(FleetAuditError, match=words):
        examples.run(check, tables(), LIBRARY.references)


def test_the_json_schema_accepts_every_shipped_check() -> None:
    import jsonschema
    import yaml

    validator = jsonschema.Draft202012Validator(CheckFile.model_json_schema())
    for path in SHIPPED:
        assert list(validator.iter_errors(yaml.safe_load(path.read_text()))) == []


@pytest.mark.slow
def test_a_new_check_is_one_that_holds(fleet_audit: Cli, tmp_path: Path) -> None:
    made = fleet_audit("checks", "new", "sysctls-are-good", tmp_path / "mine/kernel", "--table", "sysctls")
    assert made.returncode == 0 and "sysctls-are-good.yaml" in made.stdout
    assert fleet_audit("checks", "test", tmp_path / "mine").stdout.strip() == "1 of 1 checks hold"
    again = fleet_audit("checks", "new", "sysctls-are-good", tmp_path / "mine/kernel")
    assert again.returncode == 2 and "there already" in again.stderr
    for wrong, words in ((["Bad", "."], "is no id"), (["a-b", ".", "--table", "nothing"], "no table is named 'nothing'")):
        done = fleet_audit("checks", "new", wrong[0], tmp_path / wrong[1], *wrong[2:])
        assert done.returncode == 2 and words in done.stderr
    assert not (tmp_path / "Bad.yaml").exists()


@pytest.mark.slow
def test_a_pack_of_fifty_checks_is_tried_within_seconds(fleet_audit: Cli, tmp_path: Path) -> None:
    for number in range(50):
        fields = {
            "query": GOOD,
            "examples": [{"result": "pass", "packages": [{"arch": "x"}]}, {"result": "fail", "packages": [{"arch": "y"}]}],
        }
        write_check(tmp_path / "pack", f"check-number-{number}", none="pass", **fields)
    begin = time.monotonic()
    done = fleet_audit("checks", "test", tmp_path / "pack")
    assert "50 of 50 checks hold" in done.stdout, done.stdout
    assert time.monotonic() - begin < 30, "5 s on an idle machine; this is no timed test"


def test_no_two_checks_decide_the_same() -> None:
    seen: dict[str, str] = {}
    for check in LIBRARY.checks.values():
        words = " ".join(f"{check.file.applies} | {check.file.query} | {sorted(check.file.params.items())}".lower().split())
        assert seen.setdefault(words, check.id) == check.id, f"{check.id} and {seen[words]}"
    titles = [check.file.title.lower() for check in LIBRARY.checks.values()]
    assert len(set(titles)) == len(titles)


def test_a_retired_id_is_told_and_not_used_again(tmp_path: Path) -> None:
    with pytest.raises(FleetAuditError, match="is no more: decided by data-stores-ask-for-login"):
        LIBRARY.named("data-stores-not-exposed")
    write_check(tmp_path / "mine", "data-stores-not-exposed", query=GOOD)
    with pytest.raises(FleetAuditError, match="ids are never reused"):
        checks.load([tmp_path], tables=tables())


def test_profiles_that_inherit_each_other_are_named(tmp_path: Path) -> None:
    (tmp_path / "mine/profiles").mkdir(parents=True)
    for name, parent in (("mine", "yours"), ("yours", "mine")):
        (tmp_path / f"mine/profiles/{name}.yaml").write_text(f"id: {name}\ntitle: A profile\ninherits: [{parent}]\n")
    with pytest.raises(FleetAuditError, match="inherits 'yours', which inherits it"):
        checks.load([tmp_path / "mine"], tables=tables())


def test_a_profile_sets_parameters_by_a_former_id_too(tmp_path: Path) -> None:
    write_check(tmp_path / "mine/os", "a-new-name", aliases=["an-old-name"], params={"allowed": ["x"]},
                query="SELECT host, id AS subject, list_contains($allowed, id) AS pass, 'id is ' || id AS reason FROM os")  # fmt: skip
    (tmp_path / "mine/profiles").mkdir()
    (tmp_path / "mine/profiles/mine.yaml").write_text("id: mine\ntitle: A profile\nparams: {an-old-name: {allowed: [a, b]}}\n")
    library = checks.load([tmp_path / "mine"], tables=tables())
    assert library.params("mine") == {"a-new-name": {"allowed": ["a", "b"]}}


@pytest.mark.parametrize(("more", "words"), [
    ({"coverage": {"packages": "partly"}}, "coverage is complete, partial, none, and not .partly."),
    ({"as_of": "tomorrow"}, ".tomorrow. is no time"),
])  # fmt: skip
def test_an_example_that_says_what_there_is_not(tmp_path: Path, more: dict[str, object], words: str) -> None:
    check = make_check(tmp_path, query="SELECT host, name AS subject, name = 'a' AS pass, name AS reason FROM packages",
                       examples=[{"result": "pass", "packages": [{"name": "a"}], **more}, {"result": "fail"}])  # fmt: skip
    with pytest.raises(FleetAuditError, match=words):
        examples.run(check, tables(), {})


def test_a_fleet_query_says_how_many_hosts_it_compares(tmp_path: Path) -> None:
    with pytest.raises(FleetAuditError, match="by `covered`"):
        make_check(tmp_path, scope="fleet", query="SELECT host, name AS subject, count(*) OVER () > 1 AS pass, name AS reason FROM packages",
                   examples=[{"hosts": {"a": {"result": "pass"}}}, {"hosts": {"a": {"result": "unknown"}}}])  # fmt: skip


@pytest.mark.parametrize(("check", "name", "value", "words"), [
    ("severe-vulnerabilities-closed-in-time", "severities", ["critical", "High"], "holds 'High'; did you mean 'high'"),
    ("severe-vulnerabilities-closed-in-time", "severities", [], "must not be empty"),
    ("severe-vulnerabilities-closed-in-time", "maximum_days", -1, "at least 0"),
    ("kernel-release-uniform", "minimum_percent", 50, "at least 51"), ("kernel-release-uniform", "minimum_percent", 101, "at most 100"),
    ("kernel-release-uniform", "minimum_hosts", 1, "at least 2"), ("gpu-mig-as-declared", "mode", "On", "it may hold '', 'on', 'off'"),
    ("severe-vulnerabilities-closed-in-time", "severities", ["critical"], ""), ("gpu-mig-as-declared", "mode", "off", ""),
    ("listeners-allowed", "allowed", [], ""),
])  # fmt: skip
def test_a_parameter_takes_what_has_a_meaning(check: str, name: str, value: object, words: str) -> None:
    problem = checkfile.unfit(checks.load(tables=tables()).named(check), name, value)
    assert words in problem and bool(words) == bool(problem)


@pytest.mark.parametrize(("fields", "words"), [
    ({"bounds": {"other": {"least": 1}}}, "bounds.other is no parameter"), ({"bounds": {"least": ["b"]}}, "params.least holds 'a'"),
    ({"bounds": {"least": {"many": 1}}}, "bounds"),
])  # fmt: skip
def test_bounds_of_a_check_file(tmp_path: Path, fields: dict[str, Any], words: str) -> None:
    query = "SELECT host, id AS subject, id = $least AS pass, id AS reason FROM os"
    with pytest.raises(FleetAuditError, match=words):
        make_check(tmp_path / "os", query=query, params={"least": "a"}, **fields)
