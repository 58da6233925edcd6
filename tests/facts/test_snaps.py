# SPDX-License-Identifier: Apache-2.0
"""Snaps and snapd. Outputs marked recorded are of the real program `snap` 2.57.6 of Debian 12 that asked a
played snapd for answers in the form of its REST API, by the author of this test; other versions' are synthetic,
from the sources of snapd of that release (cmd/snap)."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import snapd, snaps
from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.snapd import CONFINEMENT, MODEL, STORES, SYSTEM, TIMES, VERSION
from fleet_audit.facts.snaps import CONNECTIONS, FILES, LIST
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

SNAPS, CONNECTED = snaps.TABLES
SNAPD, REFRESH, SETTINGS, ASSERTIONS = snapd.TABLES
TABLES = (*snaps.TABLES, *snapd.TABLES)
Evidence = dict[SourceId, Item]
NO_FILES, SOME_FILES = ok("{}"), ok(json.dumps({"/var/lib/snapd/snaps/core20_2182.snap": {"type": "file", "mode": 0o600}}))

# recorded
RECORDED = """Name    Version   Rev    Tracking       Publisher    Notes
code    441438ab  150    latest/stable  vscode**     classic
core20  20240111  2182   latest/stable  canonical**  base
core20  20231123  2105   latest/stable  canonical**  base,disabled
gone    -         3      2.0/candidate  another      broken
jailed  1.0       12     latest/edge/…  somebody*    jailmode
mine    0.1       x3     -              -            devmode
snapd   2.61.1    20671  latest/stable  canonical**  snapd
"""


def listed(text: str, files: Item = SOME_FILES) -> Evidence:
    return {LIST.id: ok(text, 0), FILES.id: files}


def test_snaps() -> None:
    extracted = run(SNAPS, listed(RECORDED))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    assert [row[:11] for row in extracted.rows] == [
        ("code", "441438ab", "150", False, "latest/stable", "vscode", "verified", "app", True, "classic", False),
        ("core20", "20240111", "2182", False, "latest/stable", "canonical", "verified", "base", True, "strict", False),
        ("core20", "20231123", "2105", False, "latest/stable", "canonical", "verified", "base", False, "strict", False),
        ("gone", None, "3", False, "2.0/candidate", "another", "unproven", "app", True, "strict", False),
        ("jailed", "1.0", "12", False, "latest/edge/…", "somebody", "starred", "app", True, "jailmode", False),
        ("mine", "0.1", "x3", True, None, None, "unproven", "app", True, "devmode", False),
        ("snapd", "2.61.1", "20671", False, "latest/stable", "canonical", "verified", "snapd", True, "strict", False),
    ]
    assert [row[11] for row in extracted.rows] == [False, False, False, True, False, False, False]
    assert extracted.rows[2][12] == ["base", "disabled"]


# synthetic: snapd 2.16 to 2.31 (no Tracking), 2.32 (Developer), 2.58 and later (held), 2.65 (components)
OLD = "Name  Version  Rev   Developer  Notes\ncore  16-2.28  2898  canonical  core\nx     1        x1    -          devmode,try\n"
MIDDLE = "Name  Version    Rev   Tracking  Developer  Notes\ncore  16-2.32.8  4486  stable    canonical  core,disabled\n"
NEW = (
    "Name   Version  Rev   Tracking       Publisher    Notes\n"
    "lxd    5.21     2846  5.21/stable    canonical**  components[1/2],in-cohort,held\n"
    "tried  1        x2    latest/stable  -            classic,private,try,ignore-validation,blocked\n"
)


@pytest.mark.parametrize(("text", "wanted"), [
    (OLD, [("core", "core", None, "canonical", "strict", False), ("x", "app", None, None, "devmode", False)]),
    (MIDDLE, [("core", "core", "stable", "canonical", "strict", False)]),
    (NEW, [("lxd", "app", "5.21/stable", "canonical", "strict", True), ("tried", "app", "latest/stable", None, "classic", False)]),
])  # fmt: skip
def test_other_versions(text: str, wanted: Any) -> None:
    extracted = run(SNAPS, listed(text))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    rows = rows_as_dicts(SNAPS, extracted)
    assert [(r["name"], r["type"], r["channel"], r["publisher"], r["confinement"], r["held"]) for r in rows] == wanted


def test_no_snaps() -> None:
    """Recorded: nothing on standard output, `No snaps are installed yet.` beside it, status 0."""
    assert (run(SNAPS, listed("", NO_FILES)).coverage, run(SNAPS, listed("", NO_FILES)).rows) == (Coverage.COMPLETE, ())
    assert run(SNAPS, listed("", SOME_FILES)).coverage is Coverage.PARTIAL
    assert run(SNAPS, {LIST.id: ok("", 0)}).coverage is Coverage.NONE


@pytest.mark.parametrize("text", [
    "error: cannot list snaps\n", "Name  Version\nx  1\n", "garbage", "Nom  Version  Rév.  Suivi  Éditeur  Notes\nx  1  1  -  -  -\n",
])  # fmt: skip
def test_other_headings_are_not_understood(text: str) -> None:
    assert run(SNAPS, listed(text)).coverage is Coverage.NONE


@pytest.mark.parametrize("line", ["x  1\n", "warning  two  columns  and  a  lot  more\n", "X!  1  2  -  -  -\n", "name  1  rev  -  -  -\n"])
def test_a_line_that_is_no_snap_is_a_gap(line: str) -> None:
    extracted = run(SNAPS, listed(RECORDED + line))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 7)


# recorded
PLUGS = """Interface                 Plug             Slot             Notes
content[gnome-3-38-2004]  code:x           core20:x         -
docker-support            mine:privileged  :docker-support  manual
home                      jailed:home      :home            gadget
"""


def test_connections() -> None:
    extracted = run(CONNECTED, {CONNECTIONS.id: ok(PLUGS, 0), FILES.id: SOME_FILES})
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("content", "gnome-3-38-2004", "code", "x", "core20", "x", False, False),
        ("docker-support", None, "mine", "privileged", "system", "docker-support", True, False),
        ("home", None, "jailed", "home", "system", "home", False, True),
    )
    none = run(CONNECTED, {CONNECTIONS.id: ok("", 0), FILES.id: SOME_FILES})  # recorded: nothing is printed
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    half = run(CONNECTED, {CONNECTIONS.id: ok(PLUGS + "home  -  x:home  -\n"), FILES.id: SOME_FILES})
    assert (half.coverage, len(half.rows)) == (Coverage.PARTIAL, 3)


def test_snapd() -> None:
    recorded = "snap    2.57.6-1+deb12u1+b2\nsnapd   2.57.6\nseries  16\ndebian  12\nkernel  6.1.0-18-amd64\n"
    evidence = {VERSION.id: ok(recorded), CONFINEMENT.id: ok("partial\n"), FILES.id: SOME_FILES}
    extracted = run(SNAPD, evidence)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (("2.57.6", "2.57.6-1+deb12u1+b2", "partial"),))
    gone = run(SNAPD, evidence | {VERSION.id: ok("snap    2.61\nsnapd   unavailable\nseries  -\n")})
    assert (gone.coverage, gone.rows) == (Coverage.PARTIAL, ((None, "2.61", "partial"),))
    odd = run(SNAPD, evidence | {CONFINEMENT.id: status(Status.FAILED)})
    assert (odd.coverage, odd.rows[0][2]) == (Coverage.PARTIAL, None)
    assert run(SNAPD, evidence | {VERSION.id: ok("what\n")}).coverage is Coverage.NONE


# recorded, but for the fourth, which is synthetic: snapd 2.58 and later
@pytest.mark.parametrize(("text", "row"), [
    ("timer: 00:00~24:00/4\nlast: 2025-11-24T10:05:00Z\nhold: 2026-01-31T00:00:00Z\nnext: 2025-11-25T15:12:00Z (but held)\n",
     ("00:00~24:00/4", datetime(2025, 11, 24, 10, 5), datetime(2025, 11, 25, 15, 12), True, False, datetime(2026, 1, 31))),
    ("timer: 00:00~24:00/4\nlast: n/a\nnext: n/a\n", ("00:00~24:00/4", None, None, False, False, None)),
    ("schedule: 00:00-24:00\nlast: 2025-11-24T11:05:00+01:00\nnext: n/a\n", ("00:00-24:00", datetime(2025, 11, 24, 10, 5), None, False, False, None)),
    ("timer: fri5,23:00-01:00\nlast: n/a\nhold: forever\nnext: 2025-11-25T15:12:00Z (but held)\n",
     ("fri5,23:00-01:00", None, datetime(2025, 11, 25, 15, 12), True, True, None)),
])  # fmt: skip
def test_refresh(text: str, row: Any) -> None:
    extracted = run(REFRESH, {TIMES.id: ok(text, 0), FILES.id: SOME_FILES})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (row,))


@pytest.mark.parametrize(("text", "coverage"), [
    ("", Coverage.NONE), ("timer: x\n", Coverage.NONE), ("error: unknown flag\n", Coverage.NONE),
    ("timer: x\nlast: today at 10:05 UTC\nnext: n/a\n", Coverage.PARTIAL), ("timer: x\nlast: n/a\nnext: n/a\nhold: long\n", Coverage.PARTIAL),
])  # fmt: skip
def test_refresh_not_understood(text: str, coverage: Coverage) -> None:
    assert run(REFRESH, {TIMES.id: ok(text), FILES.id: SOME_FILES}).coverage is coverage


# recorded; the password reduced as the probe does it
CONF = """{
	"proxy": {
		"http": "http://user:<secret:value:2>@proxy.example:3128",
		"store": "abcdefSTORE"
	},
	"refresh": {
		"hold": "2026-01-31T00:00:00Z",
		"retain": 2,
		"timer": "fri5,23:00-01:00"
	},
	"seed": {
		"loaded": true
	},
	"store": {
		"access": "offline"
	}
}
"""


def test_system() -> None:
    extracted = run(SETTINGS, {SYSTEM.id: ok(CONF, 0), FILES.id: SOME_FILES})
    wanted = ("fri5,23:00-01:00", "2026-01-31T00:00:00Z", "", 2, "http://proxy.example:3128", "", "abcdefSTORE", "offline")
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (wanted,))
    nothing = run(SETTINGS, {SYSTEM.id: ok("{}\n"), FILES.id: SOME_FILES})  # recorded
    assert (nothing.coverage, nothing.rows) == (Coverage.COMPLETE, (("", "", "", None, "", "", "", ""),))
    for text in ("[]", "error: access denied", "{"):
        assert run(SETTINGS, {SYSTEM.id: ok(text), FILES.id: SOME_FILES}).coverage is Coverage.NONE
    odd = run(SETTINGS, {SYSTEM.id: ok('{"refresh": {"timer": [1], "retain": "many"}, "proxy": 3}'), FILES.id: SOME_FILES})
    assert odd.coverage is Coverage.PARTIAL and odd.rows[0][0] is odd.rows[0][3] is None


# the model recorded; the store synthetic, of a store proxy (snapd, asserts/store_asserts.go)
GENERIC = "type: model\nbrand-id: generic\nmodel: generic-classic\n"
PROXY = "type: store\nstore: abcdefSTORE\noperator-id: acme\nurl: https://store.example.org\n"


def known(model: Item, stores: Item) -> Evidence:
    return {MODEL.id: model, STORES.id: stores, FILES.id: SOME_FILES}


def test_assertions() -> None:
    extracted = run(
        ASSERTIONS, known(ok(GENERIC + "store: brandSTORE\n"), ok(PROXY + PROXY.replace("abcdef", "other").partition("url")[0]))
    )
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("model", "generic", "generic-classic", "brandSTORE", None), ("store", "acme", "abcdefSTORE", None, "https://store.example.org"),
        ("store", "acme", "otherSTORE", None, None),
    )  # fmt: skip
    plain = run(ASSERTIONS, known(ok(GENERIC), ok("")))
    assert (plain.coverage, plain.rows) == (Coverage.COMPLETE, (("model", "generic", "generic-classic", None, None),))
    not_ready = run(ASSERTIONS, known(status(Status.FAILED, "exit 1: error: device not ready yet"), ok(PROXY)))
    assert (not_ready.coverage, len(not_ready.rows)) == (Coverage.PARTIAL, 1)
    assert run(ASSERTIONS, known(ok("type: store\nstore: x\n"), ok("words\n"))).coverage is Coverage.PARTIAL
    assert run(ASSERTIONS, known(status(Status.FAILED), status(Status.FAILED))).coverage is Coverage.NONE


COMMANDS: list[tuple[Table, dict[SourceId, Item], Source]] = [
    (SNAPS, {LIST.id: ok(RECORDED)}, LIST), (CONNECTED, {CONNECTIONS.id: ok(PLUGS)}, CONNECTIONS),
    (SNAPD, {VERSION.id: ok("snap 1\nsnapd 2\n"), CONFINEMENT.id: ok("strict\n")}, VERSION),
    (REFRESH, {TIMES.id: ok("timer: x\nlast: n/a\nnext: n/a\n")}, TIMES), (SETTINGS, {SYSTEM.id: ok(CONF)}, SYSTEM),
    (ASSERTIONS, {MODEL.id: ok(GENERIC), STORES.id: ok(PROXY)}, STORES),
]  # fmt: skip


@pytest.mark.parametrize(("table", "evidence", "source"), COMMANDS)
def test_laws_and_where_there_is_no_snapd(table: Table, evidence: Evidence, source: Source) -> None:
    never_emptier(table, evidence | {FILES.id: SOME_FILES})
    assert list(cut_short(table, evidence | {FILES.id: SOME_FILES}, source, step=13))
    skipped = {name: status(Status.SKIPPED, "no /run/systemd/units/invocation:snapd.service on this node") for name in evidence}
    without = run(table, skipped | {FILES.id: NO_FILES})
    assert (without.coverage, without.rows) == (Coverage.COMPLETE, ())
    for files in (SOME_FILES, status(Status.DENIED), ok('{"/var/lib/snapd/snaps/a.snap": {"status": "denied", "detail": ""}}'), ok("x")):
        assert run(table, skipped | {FILES.id: files}).coverage is Coverage.NONE
    for what in (Status.ABSENT, Status.FAILED, Status.TIMEOUT, Status.DENIED):
        assert run(table, dict.fromkeys(evidence, status(what)) | {FILES.id: NO_FILES}).coverage is Coverage.NONE


@given(st.sampled_from(COMMANDS), st.text() | st.text(alphabet='Name VersionRvNots  -x1\n:{}"') | st.binary())
def test_nothing_raises(which: Any, content: Any) -> None:
    table, evidence, _ = which
    item = ok(content)
    found = run(table, dict.fromkeys(evidence, item) | {FILES.id: SOME_FILES})
    assert not found.rows or found.rows[0]
    if table is SNAPS:
        assert not found.rows or b"Name" in item.body or b"name" in item.body.lower()
