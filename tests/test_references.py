# SPDX-License-Identifier: Apache-2.0
"""Reference tables: dated, extended or replaced by a site, and never leaned on when they are too old."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from fleet_audit import checks, content, references
from fleet_audit.facts import tables
from fleet_audit.model import FleetAuditError, Outcome
from fleet_audit.policy import Policy
from fleet_audit.tables import Facts

from .factory import AS_OF, decide, library, make_check, outcomes, rows

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
    ("ends_at: {type", "End Of: {type", "columns.End Of: a column is named in small letters"),
])  # fmt: skip
def test_errors_name_file_line_and_field(tmp_path: Path, old: str, new: str, words: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new))
    with pytest.raises(FleetAuditError) as caught:
        references.load(path)
    assert str(path) in str(caught.value) and words in str(caught.value)


def test_a_version_has_a_key_for_each_kind_that_it_is_compared_with(tmp_path: Path) -> None:
    more = "minimum: {type: version, kind: dotted, also: [dpkg, rpm], doc: Least firmware}"
    table, _ = references.load(write(tmp_path, GOOD.replace("minimum: {type: version, kind: dotted, doc: Least firmware}", more)))
    assert [c.name for c in table.columns] == ["board", "minimum", "minimum_key", "minimum_dpkg_key", "minimum_rpm_key", "ends_at"]
    assert table.rows[0][2:5] == tuple(references.key(kind, "1.10") for kind in ("dotted", "dpkg", "rpm"))
    assert table.rows[1][1:5] == (None,) * 4 and table.keys["minimum_rpm_key"] == ("minimum", "rpm")
    path = write(tmp_path / "odd", (tmp_path / "reference/ref_boards.yaml").read_text().replace("1.10", "1.10!"))
    with pytest.raises(FleetAuditError, match=r"'1\.10!' is no dotted version"):
        references.load(path)


def test_a_table_may_be_empty_for_a_site_to_fill(tmp_path: Path) -> None:
    head = GOOD[: GOOD.index("rows:")]
    empty = write(tmp_path / "base", head + "rows: []\n")
    more = write(tmp_path / "more", GOOD.replace("title:", "mode: extend\ntitle:"))
    assert references.load(empty)[0].rows == ()
    joined = references.joined([(path, *references.load(path)) for path in (empty, more)])
    assert [r[0] for r in joined["ref_boards"].rows] == ["a", "b"]


def test_a_site_raises_a_minimum_and_lists_a_series(tmp_path: Path) -> None:
    """The shipped table of minimum versions, extended: a row of the same series is replaced, one of another is added."""
    shipped = library().references["ref_minimum_versions"]
    source = (content.folder("checks") / "reference" / "ref_minimum_versions.yaml").read_text()
    head = source[: source.index("rows:")].replace("as_of:", "mode: extend\nas_of:")
    rows_ = """rows:
  - {product: runc, series: "1.3", since: "1.3", below: "1.4", minimum: 1.3.6, advisory: the site}
  - {product: runc, series: "1.9", since: "1.9", below: "1.10", minimum: 1.9.0, advisory: the site}
"""
    write(tmp_path, head + rows_, "ref_minimum_versions")
    site = checks.load([tmp_path], tables=tables())
    check = site.named("runc-minimum")
    hosts = {
        version: {"container_runtimes": rows("container_runtimes", {
            "name": "runc", "path": "/usr/local/bin/runc", "version": version, "version_key": references.key("dotted", version)})}
        for version in ("1.3.3", "1.3.6", "1.9.0", "1.8.0")
    }  # fmt: skip
    assert len(site.references["ref_minimum_versions"].rows) == len(shipped.rows) + 1
    from fleet_audit.evaluate import Evaluator
    from fleet_audit.model import HostName

    decide(tmp_path, [check], hosts)
    found = Evaluator(
        tmp_path / "facts", {HostName(h): () for h in hosts}, [check], Policy(reference_days=1000), {}, AS_OF, site.references
    ).evaluate()
    assert {h: o for (_, h), o in outcomes(found).items()} == {
        "1.3.3": Outcome.FAIL, "1.3.6": Outcome.PASS, "1.9.0": Outcome.PASS, "1.8.0": Outcome.UNKNOWN,
    }  # fmt: skip


def test_a_column_may_have_the_name_of_a_word_of_sql(tmp_path: Path) -> None:
    table, _ = references.load(write(tmp_path, GOOD.replace("ends_at", "end")))
    facts = Facts({})
    facts.add_reference(table.name, table.for_evaluator()["columns"], table.for_evaluator()["rows"])
    assert facts.connection.execute('SELECT count("end") FROM ref_boards').fetchall() == [(1,)]


@pytest.mark.parametrize("mode", ["whole", "extend"])
def test_keys_of_another_kind_do_not_compare_and_are_refused(tmp_path: Path, mode: str) -> None:
    first, other = write(tmp_path / "a"), write(tmp_path / "b", f"mode: {mode}\n" + GOOD.replace("kind: dotted", "kind: rpm"))
    with pytest.raises(FleetAuditError, match="minimum_key must be of kind dotted"):
        references.joined((path, *references.load(path)) for path in (first, other))


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
    whole = library()
    chosen = [whole.named("os-release-supported"), whole.named("reference-tables-fresh"), whole.named("os-recognised")]
    hosts = {
        "h": {
            "os": rows("os", {"id": "debian", "version_id": "11", "family": "debian"}),
            "ubuntu_pro_services": rows("ubuntu_pro_services"),
        }
    }
    age = (AS_OF - datetime.combine(whole.references["ref_os_releases"].as_of, datetime.min.time())) // timedelta(days=1)
    assert age < 0, "AS_OF of these tests lies before the table"
    from fleet_audit.evaluate import Evaluation, Evaluator
    from fleet_audit.model import HostName

    decide(tmp_path, chosen, hosts)

    def at(days: int, limit: int = 120) -> Evaluation:
        when = AS_OF - timedelta(days=age) + timedelta(days=days)
        return Evaluator(
            tmp_path / "facts", {HostName("h"): ()}, chosen, Policy(reference_days=limit), {}, when, whole.references
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
    shipped = library().references
    assert {"ref_os_releases", "ref_nvidia_branches", "ref_minimum_versions", "ref_firmware_minimum", "ref_ubuntu_kernels"} <= set(shipped)
    for table in shipped.values():
        assert table.rows and all("read 20" in source for source in table.sources)


@pytest.mark.parametrize("name", ["ref_minimum_versions", "ref_firmware_minimum"])
def test_the_series_of_a_product_do_not_overlap(name: str) -> None:
    """Else two rows would speak of one version, and the stricter would be a finding beside the other's pass."""
    table = library().references[name]
    names = [c.name for c in table.columns]
    ranges: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    for row in table.rows:
        cells = dict(zip(names, row, strict=True))
        product = tuple(cells[k] for k in table.key if k != "series")
        ranges.setdefault(product, []).append((cells["since_key"] or "", cells["below_key"] or "~"))
    for product, found in ranges.items():
        ordered = sorted(found)
        assert all(low < high for low, high in ordered), product
        assert all(a[1] <= b[0] for a, b in pairwise(ordered)), product
