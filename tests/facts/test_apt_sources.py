# SPDX-License-Identifier: Apache-2.0
"""Sources and pins of apt, as apt itself and its manual pages understand them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.apt_conf import APT_CONF
from fleet_audit.facts.apt_sources import PREFERENCES, SOURCES, TABLES, bare
from fleet_audit.facts.base import Item
from fleet_audit.model import Coverage, SourceId, Status
from tests.probe.helpers import ask

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

REPOS, PINS = TABLES
Evidence = dict[SourceId, Item]
D = "/etc/apt/sources.list.d"

# synthetic: sources.list(5), one-line-style format
LIST = """# deb http://commented.example.org/debian bookworm main
deb [arch=amd64,arm64 signed-by=/usr/share/keyrings/x.gpg trusted=yes] https://user:<secret:value:2>@example.org/debian bookworm main contrib # tail

deb-src http://example.org/debian bookworm-updates main
deb [ allow-insecure=yes check-valid-until=no ] http://flat.example.org/repo ./
deb cdrom:[Debian GNU/Linux 12 _Bookworm_ - Official amd64]/ bookworm main
"""
# synthetic: sources.list(5), deb822-style format, with a key in place
STANZAS = """# comment
Types: deb deb-src
URIs: http://one.example.org/debian
 http://two.example.org/debian
Suites: bookworm bookworm-backports
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYCQjIxYJKwYBBAHaRw8BAQdAD
 -----END PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example.org/debian
Suites: sid
Components: main
Trusted: yes
#Signed-By: /x

Types: deb
URIs: http://weak.example.org/d
Suites: stable
Components: main
Allow-Weak: yes
Allow-Downgrade-To-Insecure: no
Signed-By: /usr/share/keyrings/a.gpg, /usr/share/keyrings/b.gpg
"""


def files(contents: dict[str, Any]) -> Item:
    return ok(json.dumps({path: what if isinstance(what, dict) else {"text": what} for path, what in contents.items()}))


def evidence(contents: dict[str, Any], conf: str = "") -> Evidence:
    return {SOURCES.id: files(contents), APT_CONF.id: files({"/etc/apt/apt.conf": conf})}


FULL = evidence({f"{D}/a.list": LIST, f"{D}/b.sources": STANZAS})


def test_lines_and_stanzas() -> None:
    extracted = run(REPOS, FULL)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    rows = rows_as_dicts(REPOS, extracted)
    assert [(r["file"].rpartition("/")[2], r["position"], r["enabled"], r["types"], r["uris"], r["suites"], r["components"]) for r in rows] == [
        ("a.list", 0, True, ["deb"], ["https://example.org/debian"], ["bookworm"], ["main", "contrib"]),
        ("a.list", 1, True, ["deb-src"], ["http://example.org/debian"], ["bookworm-updates"], ["main"]),
        ("a.list", 2, True, ["deb"], ["http://flat.example.org/repo"], ["./"], []),
        ("a.list", 3, True, ["deb"], ["cdrom:[Debian GNU/Linux 12 _Bookworm_ - Official amd64]/"], ["bookworm"], ["main"]),
        ("b.sources", 0, True, ["deb", "deb-src"], ["http://one.example.org/debian", "http://two.example.org/debian"],
         ["bookworm", "bookworm-backports"], ["main"]),
        ("b.sources", 1, False, ["deb"], ["http://off.example.org/debian"], ["sid"], ["main"]),
        ("b.sources", 2, True, ["deb"], ["http://weak.example.org/d"], ["stable"], ["main"]),
    ]  # fmt: skip
    assert [r["signed_by"] for r in rows] == [
        ["/usr/share/keyrings/x.gpg"], [], [], [], ["embedded"], [], ["/usr/share/keyrings/a.gpg", "/usr/share/keyrings/b.gpg"],
    ]  # fmt: skip
    assert [r["trusted"] for r in rows] == [True, False, False, False, False, True, False]
    assert [r["allow_insecure"] for r in rows] == [False, False, True, False, False, False, False]
    assert [r["allow_weak"] for r in rows] == [False] * 6 + [True]
    assert [r["check_valid_until"] for r in rows] == [True, True, False, True, True, True, True]
    assert [r["credentials"] for r in rows] == [True] + [False] * 6


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="apt is not installed here")
@pytest.mark.slow
def test_apt_itself_would_fetch_from_the_same_places(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "lists/partial").mkdir(parents=True)
    (tmp_path / "parts/a.list").write_text(LIST.replace("<secret:value:2>", "pw"))
    (tmp_path / "parts/b.sources").write_text(STANZAS)
    options = {"Dir::Etc::SourceList": "/dev/null", "Dir::Etc::SourceParts": tmp_path / "parts", "Dir::State::Lists": tmp_path / "lists"}
    argv = ["apt-get", "update", "--print-uris", *(word for key, value in options.items() for word in ("-o", f"{key}={value}"))]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    wanted = {re.sub(r"//[^/@]*@", "//", uri) for uri in re.findall(r"'([^']*)/InRelease'", done.stdout)}
    mine = set()
    for row in rows_as_dicts(REPOS, run(REPOS, FULL)):
        for uri in row["uris"] if row["enabled"] else []:
            uri = uri.replace("cdrom:[", "cdrom://[").rstrip("/")
            mine |= {f"{uri}/." if suite == "./" else f"{uri}/dists/{suite}" for suite in row["suites"]}
    assert mine == {uri.rstrip("/") + ("/." if uri.endswith("repo") else "") for uri in wanted}


@pytest.mark.slow
def test_sources_of_this_machine() -> None:
    if not Path("/etc/apt").exists():
        pytest.skip("apt is not installed here")
    reply = ask([SOURCES, PREFERENCES, APT_CONF])
    items = {source.id: Item(Status.OK, reply[source.id].body) for source in (SOURCES, PREFERENCES, APT_CONF)}
    assert run(REPOS, items).coverage is run(PINS, items).coverage is Coverage.COMPLETE
    assert run(REPOS, items).rows


def test_settings_of_apt_count_where_the_source_says_nothing() -> None:
    conf = 'Acquire { AllowInsecureRepositories "true"; Check-Valid-Until "false"; };'
    (row,) = rows_as_dicts(REPOS, run(REPOS, evidence({f"{D}/a.list": "deb http://h/d s c\n"}, conf)))
    assert (row["allow_insecure"], row["allow_weak"], row["check_valid_until"]) == (True, False, False)
    (row,) = rows_as_dicts(REPOS, run(REPOS, evidence({f"{D}/a.list": "deb [allow-insecure=no] http://h/d s c\n"}, conf)))
    assert row["allow_insecure"] is False


@pytest.mark.parametrize("conf", [status(Status.DENIED), status(Status.UNREACHED), files({"/etc/apt/apt.conf": "A {"})])
def test_without_the_settings_of_apt_they_are_not_known(conf: Item) -> None:
    extracted = run(REPOS, evidence({f"{D}/a.list": "deb http://h/d s c\n"}) | {APT_CONF.id: conf})
    (row,) = rows_as_dicts(REPOS, extracted)
    assert extracted.coverage is Coverage.PARTIAL and row["allow_insecure"] is row["check_valid_until"] is None and row["trusted"] is False


@pytest.mark.parametrize(("name", "text"), [
    ("a.list", "deb http://h/d\n"), ("a.list", "rpm http://h/d s c\n"), ("a.list", "nonsense\n"), ("a.list", "deb [trusted=maybe] http://h/d s c\n"),
    ("a.list", "deb [trusted=yes http://h/d s c\n"), ("a.sources", "Types: deb\nURIs: http://h/d\n"), ("a.sources", "what is this\n"),
    ("a.sources", "Types: deb\nURIs: http://h/d\nSuites: s\nComponents: c\nEnabled: perhaps\n"), ("a.sources", " Types: deb\n"),
    ("a.sources", "Types: deb\nURIs: http://h/d\nSuites: s\nComponents: c\n\t\nTypes: deb\nURIs: http://i/d\nSuites: s\nComponents: c\n"),
])  # fmt: skip
def test_entries_that_are_not_understood_are_gaps_and_no_rows(name: str, text: str) -> None:
    extracted = run(REPOS, evidence({f"{D}/{name}": text}))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())


def test_no_sources_unread_ones_and_other_names() -> None:
    absent = {"/etc/apt/sources.list": {"status": "absent", "detail": ""}}
    assert run(REPOS, evidence(absent)).coverage is Coverage.COMPLETE
    assert run(REPOS, evidence({f"{D}/b c.list": "deb http://h/d s c\n"})).rows == ()
    assert run(REPOS, evidence({f"{D}/a.list": {"status": "denied", "detail": ""}})).coverage is Coverage.PARTIAL
    for item in (status(Status.DENIED), status(Status.TIMEOUT), ok("[]"), ok("x")):
        assert run(REPOS, evidence({}) | {SOURCES.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize(("uri", "wanted"), [
    ("https://u:p@h/a", ("https://h/a", True)), ("https://token@h/a@b", ("https://h/a@b", True)), ("https://h/a@b", ("https://h/a@b", False)),
    ("file:/srv/u@x", ("file:/srv/u@x", False)), ("https://h", ("https://h", False)), ("https://u:p@h", ("https://h", True)),
    ("https://conda.example.org/t/tk-123/main", ("https://conda.example.org/t/<secret>/main", True)),
    ("https://pypi.example.org/a1b2c3d4e5f6a7b8c9d0e1/acme/", ("https://pypi.example.org/<secret>/acme/", True)),
    ("https://h/compute/cuda/repos/ubuntu2204/x86_64", ("https://h/compute/cuda/repos/ubuntu2204/x86_64", False)),
])  # fmt: skip
def test_uris_without_credentials(uri: str, wanted: tuple[str, bool]) -> None:
    assert bare(uri) == wanted


# synthetic: apt_preferences(5)
PREFERENCE = """Explanation: keep it
Explanation: for long
Package: gnome* /kde/ src:apt
Pin: release o=Debian, a=stable
Pin-Priority: 990

Package: *
Pin: version 5.10*
Pin-Priority: -1

Explanation: only words
"""


def pins(contents: dict[str, Any]) -> Evidence:
    return {PREFERENCES.id: files(contents)}


def test_pins() -> None:
    extracted = run(PINS, pins({"/etc/apt/preferences": PREFERENCE}))
    assert extracted.coverage is Coverage.COMPLETE
    assert [row[1:] for row in extracted.rows] == [
        ("gnome*", "release o=Debian, a=stable", 990), ("/kde/", "release o=Debian, a=stable", 990),
        ("src:apt", "release o=Debian, a=stable", 990), ("*", "version 5.10*", -1),
    ]  # fmt: skip


def test_pins_by_name_and_what_is_no_pin() -> None:
    stanza, folder = "Package: a\nPin: version 1\nPin-Priority: 1\n", "/etc/apt/preferences.d"
    names = {"a": True, "b.pref": True, "c.d.pref": True, "e.conf": False, "f.bak": False, ".g": False}
    rows = run(PINS, pins({f"{folder}/{name}": stanza for name in names})).rows
    assert {row[0].rpartition("/")[2] for row in rows} == {name for name, read in names.items() if read}
    for text in (
        "Package: a\nPin: version 1\n",
        "Package: a\nPin-Priority: 1\n",
        "words\n",
        "Package: a\nPin: version 1\nPin-Priority: high\n",
    ):
        assert run(PINS, pins({f"{folder}/a": text})).coverage is Coverage.PARTIAL
    assert run(PINS, pins({})).coverage is Coverage.COMPLETE
    assert run(PINS, {PREFERENCES.id: status(Status.FAILED)}).coverage is Coverage.NONE


def test_laws() -> None:
    never_emptier(REPOS, FULL)
    never_emptier(PINS, pins({"/etc/apt/preferences": PREFERENCE}))
    assert list(cut_short(REPOS, FULL, SOURCES, step=37)) and list(cut_short(REPOS, FULL, APT_CONF, step=7))


@given(st.sampled_from(["a.list", "a.sources"]), st.text() | st.text(alphabet="deb []=:\n -#TypesURIs"))
def test_nothing_raises(name: str, text: str) -> None:
    found = run(REPOS, evidence({f"{D}/{name}": text}))
    assert found.coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    assert not found.rows or "deb" in text.lower()
    run(PINS, pins({"/etc/apt/preferences": text}))
    for table in TABLES:
        run(table, {source.id: ok(text) for source in table.sources})
