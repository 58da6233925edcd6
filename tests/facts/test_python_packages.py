# SPDX-License-Identifier: Apache-2.0
"""Python packages by the real reader on real virtual environments, and by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.python_packages import DISTS, TABLES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.versions import key
from tests.probe.helpers import ask, source

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

ENVIRONMENTS, PACKAGES = TABLES
Evidence = dict[SourceId, Item]
SYSTEM, LOCAL, VENV = "/usr/lib/python3/dist-packages", "/usr/local/lib/python3.12/dist-packages", "/opt/app/lib/python3.11/site-packages"
EL, LAYER = "/usr/lib/python3.9/site-packages", "/var/lib/docker/overlay2/0a1b/diff/usr/lib/python3/dist-packages"
CONDA, META = "/opt/conda/lib/python3.12/site-packages", "/opt/conda/conda-meta"

# synthetic: what the reader `dists` answers
ROOTS: list[Any] = [
    [SYSTEM, "system", None, 0, 0o755, 0], [LOCAL, "local", None, 0, 0o2775, 50], [VENV, "venv", None, 1000, 0o777, 0],
    [EL, "system", None, 0, 0o755, 0],
    [LAYER, "image", None, 0, 0o755, 0], [CONDA, "venv", None, 0, 0o755, 0], [META, "conda-meta", None, 0, 0o755, 0],
    ["/home/a/.local/lib/python3.12/site-packages", "user", "a", 1001, 0o700, 0],
    ["/usr/lib/python3/dist-packages/x", "image", None, 0, 0o755, 0],
]  # fmt: skip
FOUND: list[Any] = [
    [0, "requests", "2.31.0", None, None, "dist-info"], [0, "PyYAML", "6.0.1", "debian", None, "egg-info"], [0, "odd", "1", "pip", None, "dist-info"],
    [1, "Flask_SQLAlchemy", "3.1.1", "pip", None, "dist-info"], [2, "my.pkg", "0.1", "uv", "editable", "dist-info"],
    [3, "dnf", "4.14.0", "rpm", None, "dist-info"], [3, "urllib3", "1.26.5", None, None, "egg-info"], [4, "six", "1.16.0", None, None, "egg-info"],
    [5, "torch", "2.6.0+cu124", "conda", None, "dist-info"], [6, "_libgcc_mutex", "0.1", "conda", None, "conda"],
    [7, "vllm", None, None, "vcs", "dist-info"], [2, "odd-version", "1.0-really", "pip", "url", "dist-info"],
]  # fmt: skip


def evidence(roots: Any = ROOTS, dists: Any = FOUND, gaps: Any = ()) -> Evidence:
    return {DISTS.id: ok(json.dumps({"roots": roots, "dists": dists, "gaps": list(gaps)}))}


def test_environments() -> None:
    extracted = run(ENVIRONMENTS, evidence())
    assert extracted.coverage is Coverage.COMPLETE
    assert [row[1:] for row in extracted.rows] == [
        ("system", None, 0, 0, 0o755, False, False, None), ("local", None, 0, 50, 0o2775, True, False, "3.12"),
        ("venv", None, 1000, 0, 0o777, True, True, "3.11"), ("system", None, 0, 0, 0o755, False, False, "3.9"),
        ("image", None, 0, 0, 0o755, False, False, None), ("conda", None, 0, 0, 0o755, False, False, "3.12"),
        ("conda", None, 0, 0, 0o755, False, False, None), ("user", "a", 1001, 0, 0o700, False, False, "3.12"),
        ("system", None, 0, 0, 0o755, False, False, None),
    ]  # fmt: skip


def test_a_recording_without_groups_is_read() -> None:
    extracted = run(ENVIRONMENTS, evidence([root[:5] for root in ROOTS]))
    assert extracted.coverage is Coverage.COMPLETE and {row[4] for row in extracted.rows} == {None}


def test_packages() -> None:
    extracted = run(PACKAGES, evidence())
    assert extracted.coverage is Coverage.COMPLETE
    rows = rows_as_dicts(PACKAGES, extracted)
    assert [(r["name"], r["version"], r["distribution"], r["installer"], r["origin"], r["form"]) for r in rows] == [
        ("requests", "2.31.0", True, None, None, "dist-info"), ("pyyaml", "6.0.1", True, "debian", None, "egg-info"),
        ("odd", "1", False, "pip", None, "dist-info"), ("flask-sqlalchemy", "3.1.1", False, "pip", None, "dist-info"),
        ("my-pkg", "0.1", False, "uv", "editable", "dist-info"), ("dnf", "4.14.0", True, "rpm", None, "dist-info"),
        ("urllib3", "1.26.5", None, None, None, "egg-info"), ("six", "1.16.0", True, None, None, "egg-info"),
        ("torch", "2.6.0+cu124", False, "conda", None, "dist-info"), ("_libgcc_mutex", "0.1", False, "conda", None, "conda"),
        ("vllm", None, False, None, "vcs", "dist-info"), ("odd-version", "1.0-really", False, "pip", "url", "dist-info"),
    ]  # fmt: skip
    assert [r["environment"] for r in rows][:5] == [SYSTEM, SYSTEM, SYSTEM, LOCAL, VENV]
    assert rows[8]["version_key"] == key("pep440", "2.6.0+cu124") and rows[8]["version_key"]
    assert rows[10]["version_key"] is rows[11]["version_key"] is None


@pytest.mark.slow
def test_a_real_virtual_environment(tmp_path: Path) -> None:
    """What `python -m venv` and pip make, offline: pip's own wheel, and a package from a folder, editable."""
    subprocess.run([sys.executable, "-m", "venv", f"{tmp_path}/env"], check=True)
    site = next((tmp_path / "env/lib").glob("python3*/site-packages"))
    made = site / "Made_Up.Name-1.2.dev3.dist-info"
    made.mkdir()
    (made / "METADATA").write_text("Metadata-Version: 2.1\nName: Made_Up.Name\nVersion: 1.2.dev3\n")
    (made / "INSTALLER").write_text("uv\n")
    (made / "direct_url.json").write_text('{"dir_info": {"editable": true}, "url": "file:///srv/x"}')
    (site / "old.egg-info").write_text("Metadata-Version: 1.0\nName: old\nVersion: 0.9\n")
    (site / "~ip-1.0.dist-info").mkdir()
    site.chmod(0o777)
    args = {**DISTS.args, "roots": {"venv": [f"{tmp_path}/*/lib*/python[23]*/site-packages"]}, "homes": {}}
    found = {DISTS.id: Item(Status.OK, ask([source("it", "dists", **args)])["it"].body)}
    (place,) = rows_as_dicts(ENVIRONMENTS, run(ENVIRONMENTS, found))
    assert (place["folder"], place["kind"], place["world_writable"]) == (str(site), "venv", True)
    assert place["python"] == f"{sys.version_info[0]}.{sys.version_info[1]}"
    rows = {row["name"]: row for row in rows_as_dicts(PACKAGES, run(PACKAGES, found))}
    listing = subprocess.run(
        [f"{tmp_path}/env/bin/pip", "list", "--format=json", "--disable-pip-version-check"], capture_output=True, check=True
    )
    native = {entry["name"].lower(): entry["version"] for entry in json.loads(listing.stdout)}
    assert rows["pip"]["version"] == native["pip"] and rows["pip"]["installer"] == "pip" and rows["pip"]["version_key"]
    assert [rows["made-up-name"][name] for name in ("version", "installer", "origin")] == ["1.2.dev3", "uv", "editable"]
    assert rows["old"]["version"] == "0.9" and rows["old"]["form"] == "egg-info" and len(rows) == len(native)


@pytest.mark.slow
def test_this_machine_agrees_with_dpkg() -> None:
    if not Path(SYSTEM).exists():
        pytest.skip("this machine has no Python of Debian")
    found = {DISTS.id: Item(Status.OK, ask([DISTS])["python-dists"].body)}
    names = {row["name"] for row in rows_as_dicts(PACKAGES, run(PACKAGES, found)) if row["environment"] == SYSTEM and row["distribution"]}
    assert names
    owned = subprocess.run(["dpkg", "-S", f"{SYSTEM}/*-info*"], capture_output=True, text=True, check=False).stdout
    for name in names:
        assert name.replace("-", "") in owned.lower().replace("-", "").replace("_", "").replace(".", ""), name


@pytest.mark.parametrize(("roots", "dists"), [
    ([["/x", "venv", None, 0]], []), ([["/x", "venv", None, 0, 0, 0, 0]], []), ([[1, "venv", None, 0, 0, 0]], []), (["x"], []),
    (ROOTS, [[99, "a", "1", None, None, "dist-info"]]),
    (ROOTS, [[-1, "a", "1", None, None, "dist-info"]]), (ROOTS, [["0", "a", "1", None, None, "dist-info"]]),
    (ROOTS, [[0, "a b", "1", None, None, "x"]]),
    (ROOTS, [[0, "a"]]), (ROOTS, [None]), ([["/x"]], [[0, "a", "1", None, None, "dist-info"]]),
])  # fmt: skip
def test_what_is_not_understood_is_a_gap_and_no_row(roots: Any, dists: Any) -> None:
    extracted = run(PACKAGES, evidence(roots, dists))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())


def test_gaps_of_the_reader_nothing_and_unread() -> None:
    gap = evidence(gaps=["/home/a/*: failed network file system (nfs4)"])
    assert run(PACKAGES, gap).coverage is run(ENVIRONMENTS, gap).coverage is Coverage.PARTIAL
    assert len(run(PACKAGES, gap).rows) == len(FOUND)
    assert (run(PACKAGES, evidence([], [])).coverage, run(PACKAGES, evidence([], [])).rows) == (Coverage.COMPLETE, ())
    for item in (status(Status.DENIED), status(Status.ABSENT), ok("[]"), ok("{}"), ok('{"roots": {}, "dists": [], "gaps": []}'), ok("x")):
        for table in TABLES:
            assert run(table, {DISTS.id: item}).coverage is Coverage.NONE


def test_laws() -> None:
    for table in TABLES:
        never_emptier(table, evidence())
        assert list(cut_short(table, evidence(), DISTS, step=101))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([SYSTEM, META, "venv", "image"]),
    lambda inner: st.lists(inner, max_size=6),
)


@given(JSON, JSON, JSON, st.binary(max_size=99))
def test_nothing_raises(roots: Any, dists: Any, gaps: Any, content: bytes) -> None:
    for table in TABLES:
        run(table, {DISTS.id: ok(json.dumps({"roots": roots, "dists": dists, "gaps": gaps}))})
        assert run(table, {DISTS.id: ok(content)}).rows == ()
