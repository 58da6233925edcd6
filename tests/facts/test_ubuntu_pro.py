# SPDX-License-Identifier: Apache-2.0
"""Ubuntu Pro: attached, not attached, no client, and files that do not agree or cannot be read."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.ubuntu_pro import PLACES, PRIVATE, STATUS, TABLES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

PRO, SERVICES = TABLES
Evidence = dict[SourceId, Item]
STATE = "/var/lib/ubuntu-advantage"
TOKEN, CACHE = f"{STATE}/machine-token.json", f"{STATE}/status.json"
GONE = status(Status.ABSENT)

# synthetic: sources.md section 2, `pro status --format json` of an attached machine, account and contract left out
ATTACHED: dict[str, Any] = {
    "_schema_version": "0.1",
    "attached": True,
    "version": "34~24.04",
    "expires": "2027-05-08T19:02:26+00:00",
    "effective": "2025-05-08T19:02:26+00:00",
    "execution_status": "inactive",
    "errors": [],
    "result": "success",
    "contract": {"tech_support_level": "essential", "products": []},
    "services": [
        {"name": "esm-infra", "entitled": "yes", "status": "enabled", "available": "yes", "blocked_by": []},
        {"name": "livepatch", "entitled": "yes", "status": "warning", "available": "yes"},
        {"name": "fips", "entitled": "no", "status": "\u2014", "available": "no"},
        {"name": "usg", "entitled": "yes", "status": "n/a"},
    ],
}
# synthetic: the same, not attached: no status at all
UNATTACHED = {
    "_schema_version": "0.1",
    "attached": False,
    "version": "34~24.04",
    "expires": "n/a",
    "contract": {"tech_support_level": "n/a"},
    "services": [{"name": "esm-infra", "description": "x", "available": "yes"}, {"name": "fips", "description": "x", "available": "no"}],
}
# synthetic: sources.md section 2, a client before contract{} came into the schema
OLD = {
    "attached": True,
    "version": "26.4",
    "expires": "2027-05-08 19:02:26+00:00",
    "techSupportLevel": "advanced",
    "services": [{"name": "esm-infra", "entitled": "yes", "status": "enabled"}],
}


def stat(*there: str, denied: str = "", source: Any = PLACES) -> Item:
    """synthetic: the `stat` reader's answer (probe/node.py)."""
    rows: dict[str, Any] = {path: {"status": "absent", "detail": "No such file or directory"} for path in source.args["globs"]}
    rows |= {path: {"type": "file", "mode": 420, "mtime": 1_700_000_000} for path in there}
    if denied:
        rows[denied] = {"status": "denied", "detail": "Permission denied"}
    return ok(json.dumps(rows))


ROOT_ONLY = stat(denied=PRIVATE.args["globs"][0], source=PRIVATE)
NO_TOKEN = stat(source=PRIVATE)
OLD_TOKEN = stat(PRIVATE.args["globs"][0], source=PRIVATE)


def host(document: Any, *there: str, private: Item = NO_TOKEN) -> Evidence:
    cache = GONE if document is None else ok(json.dumps(document))
    places = stat("/usr/bin/pro", *there, *([] if document is None else [CACHE]))
    return {STATUS.id: cache, PLACES.id: places, PRIVATE.id: private}


def test_attached() -> None:
    evidence = host(ATTACHED, TOKEN, private=ROOT_ONLY)
    extracted = run(PRO, evidence)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    assert extracted.rows == ((True, datetime(2027, 5, 8, 19, 2, 26), "essential", "34~24.04", datetime(2023, 11, 14, 22, 13, 20)),)
    services = run(SERVICES, evidence)
    assert services.coverage is Coverage.COMPLETE
    assert services.rows == (
        ("esm-infra", True, "enabled", True),
        ("livepatch", True, "warning", True),
        ("fips", False, "—", False),
        ("usg", True, "n/a", None),
    )


def test_not_attached_has_services_without_a_status() -> None:
    evidence = host(UNATTACHED)
    (row,) = rows_as_dicts(PRO, run(PRO, evidence))
    assert row["attached"] is False and row["expires_at"] is None and row["tech_support_level"] is None
    assert run(SERVICES, evidence).rows == (("esm-infra", None, None, True), ("fips", None, None, False))


def test_an_old_client() -> None:
    evidence = host(OLD, private=OLD_TOKEN)
    (row,) = rows_as_dicts(PRO, run(PRO, evidence))
    assert row["attached"] is True and row["tech_support_level"] == "advanced"
    assert row["expires_at"] == datetime(2027, 5, 8, 19, 2, 26)
    assert run(SERVICES, evidence).rows == (("esm-infra", True, "enabled", None),)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_no_client_is_complete_without_rows(table: Any) -> None:
    extracted = run(table, {STATUS.id: GONE, PLACES.id: stat(), PRIVATE.id: ROOT_ONLY})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize(("places", "coverage"), [
    (stat(TOKEN), Coverage.PARTIAL), (stat(denied="/usr/bin/pro"), Coverage.NONE), (status(Status.DENIED), Coverage.NONE),
])  # fmt: skip
def test_a_client_that_may_be_there_is_never_none_at_all(table: Any, places: Item, coverage: Coverage) -> None:
    extracted = run(table, {STATUS.id: GONE, PLACES.id: places, PRIVATE.id: NO_TOKEN})
    assert (extracted.coverage, extracted.rows) == (coverage, ())


def test_no_token_proves_no_attachment_without_a_status() -> None:
    extracted = run(PRO, host(None))
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == ((False, None, None, None, None),)
    assert run(SERVICES, host(None)).coverage is Coverage.NONE


def test_where_only_root_sees_the_token_the_status_counts_in_part() -> None:
    for document in (OLD, UNATTACHED):
        extracted = run(PRO, host(document, private=ROOT_ONLY))
        assert extracted.coverage is Coverage.PARTIAL and extracted.rows[0][0] is document["attached"]
    assert run(PRO, host(None, private=ROOT_ONLY)).coverage is Coverage.NONE


@pytest.mark.parametrize(("document", "there", "attached"), [(UNATTACHED, (TOKEN,), True), (ATTACHED, (), False)])
def test_the_token_wins_over_an_older_status(document: Any, there: tuple[str, ...], attached: bool) -> None:
    extracted = run(PRO, host(document, *there))
    assert extracted.coverage is Coverage.PARTIAL
    assert extracted.rows[0][:4] == (attached, None, None, None)
    assert run(SERVICES, host(document, *there)).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("item", [status(what) for what in (Status.DENIED, Status.TIMEOUT, Status.FAILED, Status.UNREACHED)])
def test_status_unread(item: Item) -> None:
    evidence = host(ATTACHED, TOKEN) | {STATUS.id: item}
    extracted = run(PRO, evidence)
    assert extracted.coverage is Coverage.PARTIAL and extracted.rows[0][:4] == (True, None, None, None)
    assert run(SERVICES, evidence).coverage is Coverage.NONE


@pytest.mark.parametrize("document", [{}, [], "x", {"attached": "yes"}, {"attached": None, "services": []}])
def test_another_form_is_none(document: Any) -> None:
    for table in TABLES:
        assert run(table, host(document, TOKEN)).coverage is Coverage.NONE
    assert run(SERVICES, host({"attached": True, "services": {}}, TOKEN)).coverage is Coverage.NONE


@pytest.mark.parametrize("change", [{"expires": "next year"}, {"expires": 7}, {"version": 34}, {"contract": {"tech_support_level": []}}])
def test_another_value_is_a_gap(change: dict[str, Any]) -> None:
    assert run(PRO, host(ATTACHED | change, TOKEN)).coverage is Coverage.PARTIAL


def test_odd_services() -> None:
    services = [{"name": "a", "entitled": True, "status": "Halted"}, {"name": 7}, "x", {"name": "b", "status": 7}]
    extracted = run(SERVICES, host(ATTACHED | {"services": services}, TOKEN))
    assert extracted.coverage is Coverage.PARTIAL
    assert extracted.rows == (("a", None, "Halted", None), ("b", None, None, None))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@pytest.mark.parametrize("evidence", [host(ATTACHED, TOKEN), host(OLD, private=OLD_TOKEN), host(UNATTACHED), host(None)])
def test_laws(table: Any, evidence: Evidence) -> None:
    never_emptier(table, evidence)
    if evidence[STATUS.id].body:
        assert list(cut_short(table, evidence, STATUS, step=7))
    assert list(cut_short(table, evidence, PLACES, step=7))


KEYS = st.sampled_from(["attached", "services", "name", "status", "expires", "contract", "entitled", TOKEN, "/usr/bin/pro", "mtime"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner),
)


@given(st.dictionaries(
    st.sampled_from([source.id for source in PRO.sources]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)
        run(table, host(ATTACHED, TOKEN) | evidence)
