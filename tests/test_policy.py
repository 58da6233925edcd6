# SPDX-License-Identifier: Apache-2.0
"""The policy file: errors name file, line and the nearest word; a group's value wins over the fleet's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_audit import policy
from fleet_audit.model import FleetAuditError


def test_group_over_fleet_over_default(tmp_path: Path) -> None:
    path = tmp_path / "fleet-audit.yaml"
    path.write_text("profile: strict\nparams: {a-b: {x: 2, y: 2}}\ngroups: {lab: {params: {a-b: {x: 3}}}}\n")
    found = policy.load(path)
    assert found.profile == "strict"
    assert found.values("a-b", {"x": 1, "y": 1, "z": 1}, ["lab"]) == {"x": 3, "y": 2, "z": 1}
    assert found.values("a-b", {"x": 1, "y": 1, "z": 1}, []) == {"x": 2, "y": 2, "z": 1}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("profile: [1]\n", ":1: profile"), ("params: {}\nprofil: x\n", ":2: profil: unknown field; did you mean 'profile'?"),
        ("groups:\n  lab:\n    parms: {}\n", ":3: groups.lab.parms: unknown field; did you mean 'params'?"), ("a: [\n", "not YAML"),
        ("params: {c: {x: {y: 1}}}\n", ":1: params.c.x"), ("- 1\n", ":1"), ("groups: {g: &a {params: *a}}\n", ":1: nested deeper"),
        ("waivers:\n  - {check: a-b, owner: kim, reason: x, expires: soon}\n", ":2: waivers.0.expires"),
        ("waivers:\n  - {check: a-b, owner: kim, reason: x, expires: 2026-01-01T00:00:00}\n", "must be a date such as"),
        ("waivers:\n  - {check: a-b, reason: x, expires: 2026-01-01}\n", ":2: waivers.0.owner: this field is missing"),
        ("waivers:\n  - {check: a-b, owner: '', reason: x, expires: 2026-01-01}\n", ":2: waivers.0.owner"),
        ("exclude: [a-b]\n", ":1: exclude.0"), ("exclude:\n  - {check: a-b}\n", ":2: exclude.0.reason: this field is missing"),
        ("workload: [enrot]\n", ":1: workload.0"), ("reference: {maximum_day: 1}\n", "did you mean 'maximum_days'?"),
    ],
)  # fmt: skip
def test_errors_name_file_line_and_word(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(FleetAuditError) as caught:
        policy.load(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)


def test_the_policy_beside_the_inventory_is_found(tmp_path: Path) -> None:
    (tmp_path / "fleet-audit.yaml").write_text("profile: strict\n")
    assert policy.find(None, str(tmp_path / "inventory.ini")).profile == "strict"
    assert policy.find(None, "a,b").profile == "baseline"
    with pytest.raises(FleetAuditError, match="no such policy"):
        policy.find(str(tmp_path / "other.yaml"), None)


def test_on_is_a_word_and_a_key_with_nothing_under_it_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("params:\n  # nothing yet\ndata: [{path: /data, on: n1}]\n")
    found = policy.load(tmp_path / "p.yaml")
    assert found.data[0].on == "n1" and found.params == {} and found.folders("n2") == ()


def test_an_empty_policy_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("# nothing yet\n")
    assert policy.load(tmp_path / "p.yaml").profile == "baseline"


def test_merged_mappings_are_overridden_by_what_is_written() -> None:
    from fleet_audit.yamlfile import parse

    text = b"a: &a {x: 1, y: {z: 2}}\nb: {<<: *a, x: 3}\n"
    assert parse(text, Path("p")).value == {"a": {"x": 1, "y": {"z": 2}}, "b": {"x": 3, "y": {"z": 2}}}


def test_a_policy_in_another_encoding_is_refused() -> None:
    with pytest.raises(FleetAuditError, match="not UTF-8"):
        policy.parse("profile: strict\n".encode("utf-16"), Path("p.yaml"))
