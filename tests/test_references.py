# SPDX-License-Identifier: Apache-2.0
"""Reference tables: dated, extended or replaced by a site, and never leaned on when they are too old."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from fleet_audit import checks, references
from fleet_audit.facts import tables
from fleet_audit.model import FleetAuditError, Outcome
from fleet_audit.policy import Policy

from .factory import AS_OF, decide, make_check, outcomes, rows

GOOD = """id: ref_boards
title: Boards
as_of: 2025-12-01
sources: [synthetic]
key: [board]
columns:
  board: {type: text, doc: Name}
  minimum: {type: version, kind: dotted, doc: Least firmware}
  ends_at: {type: date, doc: End}
rows:
  - {board: a, minimum: "1.10", ends_at: 2026-05-01}
  - {board: b}
"""


def write(folder: Path, text: str = GOOD, name: str = "ref_boards") -> Path:
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    path = folder / "reference" / f"{name}.yaml"
    path.write_text(text)
    return path


def test_rows_have_their_types_and_sortable_keys(tmp_path: Path) -> None:
    table, extends = references.load(write(tmp_path))
    assert not extends and [c.name for c in table.columns] == ["board", "minimum", "minimum_key", "ends_at"]
    assert table.rows[0][0] == "a" and table.rows[0][3] == datetime(2026, 5, 1) and table.rows[1] == ("b", None, None, None)
    assert table.rows[0][2] == references.key("dotted", "1.10")


@pytest.mark.parametrize(("old", "new", "words"), [
    ("board: b", "bord: b", ":12: rows.1.bord: no column is named so"), ('minimum: "1.10"', "minimum: 1.10", "must be a version; write it in quotes"),
    ('minimum: "1.10"', 'minimum: "one"', "'one' is no dotted version"), ("2026-05-01", "soon", "must be a date"),
    ("board: b", "board: a", "the same board"),
    ("board: b", "minimum: '2'", "the key 'board' has no value"), ("as_of: 2025-12-01", "as_of: lately", ":3: as_of"),
    ("id: ref_boards", "id: ref_bords", "must be the file's name"), ("key: [board]", "key: [name]", "no column is named 'name'"),
])  # fmt: skip
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(FleetAuditError) as caught:
        references.load(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_a_site_extends_a_table_or_stands_its_own_in_its_place(tmp_path: Path) -> None:
    write(tmp_path / "base")
    write(
        tmp_path / "more",
        GOOD.replace("title:", "mode: extend\ntitle:").replace('minimum: "1.10"', 'minimum: "2"').replace("board: b", "board: c"),
    )
    write(tmp_path / "other", GOOD.replace("as_of: 2025-12-01", "as_of: 2025-12-31").replace("board: b", "board: d"))
    found = {}
    for folders in (("base",), ("base", "more"), ("base", "other")):
        loaded = [(tmp_path / f, *references.load(tmp_path / f / "reference/ref_boards.yaml")) for f in folders]
        found[folders] = references.joined(loaded)["ref_boards"]
    assert [r[0] for r in found["base", "more"].rows] == ["b", "a", "c"] and found["base", "more"].rows[1][1] == "2"
    assert found["base", "more"].as_of == found["base",].as_of, "the shipped rows are as old as they were"
    assert [r[0] for r in found["base", "other"].rows] == ["a", "d"] and str(found["base", "other"].as_of) == "2025-12-31"
    with pytest.raises(FleetAuditError, match="no table ref_boards to extend"):
        references.joined([(tmp_path, *references.load(tmp_path / "more/reference/ref_boards.yaml"))])


def test_a_table_that_is_too_old_decides_nothing_and_one_check_says_so(tmp_path: Path) -> None:
    library = checks.load(tables=tables())
    chosen = [library.named("os-release-supported"), library.named("reference-tables-fresh"), library.named("os-recognised")]
    hosts = {
        "h": {
            "os": rows("os", {"id": "debian", "version_id": "11", "family": "debian"}),
            "ubuntu_pro_services": rows("ubuntu_pro_services"),
        }
    }
    age = (AS_OF - datetime.combine(library.references["ref_os_releases"].as_of, datetime.min.time())) // timedelta(days=1)
    assert age < 0, "AS_OF of these tests lies before the table"
    from fleet_audit.evaluate import Evaluation, Evaluator
    from fleet_audit.model import HostName

    decide(tmp_path, chosen, hosts)

    def at(days: int, limit: int = 120) -> Evaluation:
        when = AS_OF - timedelta(days=age) + timedelta(days=days)
        return Evaluator(
            tmp_path / "facts", {HostName("h"): ()}, chosen, Policy(reference_days=limit), {}, when, library.references
        ).evaluate()

    fresh, old = at(100), at(130)
    assert outcomes(fresh) == {
        ("os-release-supported", "h"): Outcome.FAIL, ("reference-tables-fresh", "h"): Outcome.PASS, ("os-recognised", "h"): Outcome.PASS,
    }  # fmt: skip
    assert outcomes(old) == {
        ("os-release-supported", "h"): Outcome.UNKNOWN, ("reference-tables-fresh", "h"): Outcome.FAIL, ("os-recognised", "h"): Outcome.PASS,
    }  # fmt: skip
    reason = next(r.reason for r in old.results if r.check == "os-release-supported")
    assert "ref_os_releases" in reason and "more than 120 days old" in reason
    assert outcomes(at(130, limit=400))["os-release-supported", "h"] is Outcome.FAIL


def test_a_check_adapts_to_what_the_policy_says_that_a_host_runs(tmp_path: Path) -> None:
    query = """SELECT host, name AS subject, name <> 'userns' OR list_contains($workload, 'enroot') AS pass, 'it is there' AS reason FROM packages"""
    check = make_check(tmp_path, query=query)
    policy = Policy(group_workload={"train": ("enroot",)})
    hosts = {n: {"packages": rows("packages", {"name": "userns"})} for n in ("t1", "login")}
    found = outcomes(decide(tmp_path, [check], hosts, policy=policy, groups={"t1": ("train",)}))
    assert found == {("a-check", "t1"): Outcome.PASS, ("a-check", "login"): Outcome.FAIL}


def test_the_shipped_tables_tell_their_sources_and_days() -> None:
    shipped = checks.load(tables=tables()).references
    assert {"ref_os_releases", "ref_nvidia_branches"} <= set(shipped)
    for table in shipped.values():
        assert table.rows and all("read 20" in source for source in table.sources)
