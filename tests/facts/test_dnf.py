# SPDX-License-Identifier: Apache-2.0
"""Repositories of dnf and zypp, as dnf itself reads them, and the age of their metadata."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.dnf import CACHE, CONF, REPOS, TABLES, ini, switch
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

REPOSITORIES, METADATA = TABLES
Evidence = dict[SourceId, Item]
R, DNF, ZYPP = "/etc/yum.repos.d", "/etc/dnf/dnf.conf", "/etc/zypp/zypp.conf"

# synthetic: the form of Rocky Linux 9's rocky.repo, with a proxy's credentials as the probe reduces them
ROCKY = """# Rocky
[baseos]
name=Rocky Linux $releasever - BaseOS
mirrorlist=https://mirrors.rockylinux.org/mirrorlist?arch=$basearch&repo=BaseOS-$releasever$rltype
#baseurl=http://dl.rockylinux.org/$contentdir/$releasever/BaseOS/$basearch/os/
gpgcheck=1
enabled=1
countme=1
metadata_expire=6h
gpgkey=file:///etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9

[site]
name = Site
baseurl = https://user:<secret:value:6>@mirror.example.org/one/
    https://mirror.example.org/two/
enabled = False
gpgcheck = no
repo_gpgcheck = true
sslverify = 0

[bare]
name=Bare
metalink=https://example.org/metalink
"""


def files(contents: dict[str, Any]) -> Item:
    return ok(json.dumps({path: what if isinstance(what, dict) else {"text": what} for path, what in contents.items()}))


def evidence(repos: dict[str, Any], conf: dict[str, Any] | None = None) -> Evidence:
    return {REPOS.id: files(repos), CONF.id: files(conf or {})}


FULL = evidence({f"{R}/rocky.repo": ROCKY}, {DNF: "[main]\ngpgcheck=1\ninstallonly_limit=3\n"})


def rows(*args: Any) -> dict[str, dict[str, Any]]:
    extracted = run(REPOSITORIES, evidence(*args))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    return {row["id"]: row for row in rows_as_dicts(REPOSITORIES, extracted)}


def test_repositories() -> None:
    extracted = run(REPOSITORIES, FULL)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    file = f"{R}/rocky.repo"
    mirrors = ["https://mirrors.rockylinux.org/mirrorlist?arch=$basearch&repo=BaseOS-$releasever$rltype"]
    assert extracted.rows == (
        ("dnf", file, "baseos", True, [], mirrors, True, False, ["file:///etc/pki/rpm-gpg/RPM-GPG-KEY-Rocky-9"], True, False),
        (
            "dnf",
            file,
            "site",
            False,
            ["https://mirror.example.org/one/", "https://mirror.example.org/two/"],
            [],
            False,
            True,
            [],
            False,
            True,
        ),
        ("dnf", file, "bare", True, [], ["https://example.org/metalink"], True, False, [], True, False),
    )


SECTIONS = """[a]
baseurl=http://h/a
[b]
baseurl=http://h/b
gpgcheck=No
sslverify=off
[c]
baseurl=http://h/c
gpgcheck=1
repo_gpgcheck=yes
enabled=0
"""
SCRIPT = """
import dnf, json, sys
base = dnf.Base()
base.conf.read(sys.argv[1])
base.conf.reposdir = [sys.argv[2]]
base.conf.substitutions["releasever"] = "9"
base.read_all_repos()
print(json.dumps({r.id: [r.enabled, r.gpgcheck, r.repo_gpgcheck, r.sslverify, list(r.baseurl)] for r in base.repos.values()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("main", ["", "gpgcheck=1\n", "gpgcheck=True\nrepo_gpgcheck=True\nsslverify=False\n", "gpgcheck=0\n"])
def test_dnf_itself_reads_the_same(main: str, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    if not Path(python).exists() or subprocess.run([python, "-c", "import dnf"], capture_output=True, check=False).returncode:
        pytest.skip("python3-dnf is not installed here")
    (tmp_path / "dnf.conf").write_text(f"[main]\n{main}")
    (tmp_path / "repos").mkdir()
    (tmp_path / "repos/a.repo").write_text(SECTIONS)
    argv = [python, "-c", SCRIPT, f"{tmp_path}/dnf.conf", f"{tmp_path}/repos"]
    wanted = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True, env={"HOME": str(tmp_path)}).stdout)
    mine = rows({f"{R}/a.repo": SECTIONS}, {DNF: f"[main]\n{main}"})
    assert wanted == {
        name: [r[column] for column in ("enabled", "gpgcheck", "repo_gpgcheck", "ssl_verify", "urls")] for name, r in mine.items()
    }


def test_dnf_without_a_word_checks_nothing() -> None:
    row = rows({f"{R}/a.repo": "[a]\nbaseurl=http://h/a\n"})["a"]
    assert (row["enabled"], row["gpgcheck"], row["repo_gpgcheck"], row["ssl_verify"]) == (True, False, False, True)


def test_drop_ins_and_overrides_of_dnf5() -> None:
    vendor, site = "/usr/share/dnf5/libdnf.conf.d", "/etc/dnf/libdnf5.conf.d"
    conf = {f"{vendor}/20.conf": "[main]\ngpgcheck=0\nsslverify=0\n", f"{vendor}/30.conf": "[main]\nsslverify=0\n",
            f"{site}/30.conf": "[main]\nsslverify=1\n", DNF: "[main]\ngpgcheck=1\n"}  # fmt: skip
    over = {f"{R}/a.repo": SECTIONS, "/etc/dnf/repos.override.d/99.repo": "[b*]\ngpgcheck=1\n",
            "/usr/share/dnf5/repos.override.d/50.repo": "[*]\nenabled=0\n", "/etc/dnf/repos.override.d/50.repo": "[a]\nenabled=0\n"}  # fmt: skip
    found = rows(over, conf)
    assert {name: (r["enabled"], r["gpgcheck"], r["ssl_verify"]) for name, r in found.items()} == {
        "a": (False, True, True), "b": (True, True, False), "c": (False, True, True),
    }  # fmt: skip
    policy = rows({f"{R}/a.repo": SECTIONS}, {DNF: "[main]\ngpgcheck=1\ngpgcheck_policy=full\n"})
    assert {name: r["repo_gpgcheck"] for name, r in policy.items()} == {"a": True, "b": False, "c": True}


def test_two_words_for_one_must_both_say_yes() -> None:
    assert rows({f"{R}/a.repo": "[a]\ngpgcheck=0\npkg_gpgcheck=1\n"})["a"]["gpgcheck"] is False
    assert rows({f"{R}/a.repo": "[a]\npkg_gpgcheck=1\n"}, {DNF: "[main]\ngpgcheck=0\n"})["a"]["gpgcheck"] is True


def test_yum_conf_counts_only_without_dnf_conf() -> None:
    yum = {"/etc/yum.conf": "[main]\ngpgcheck=1\n"}
    assert rows({f"{R}/a.repo": "[a]\n"}, yum)["a"]["gpgcheck"] is True
    assert rows({f"{R}/a.repo": "[a]\n"}, yum | {DNF: "[main]\n"})["a"]["gpgcheck"] is False


# the settings of zypp.conf of libzypp 17.25.7: its comments tell what these mean
@pytest.mark.parametrize(("options", "conf", "wanted"), [
    ("", "", (True, True)), ("gpgcheck=0", "", (False, False)), ("gpgcheck=0\nrepo_gpgcheck=1", "", (False, True)),
    ("gpgcheck=1\nrepo_gpgcheck=0", "", (True, False)), ("pkg_gpgcheck=0", "", (False, True)), ("", "gpgcheck = off", (False, False)),
    ("gpgcheck=1", "gpgcheck = off\nrepo_gpgcheck = off", (True, True)), ("", "repo_gpgcheck = off", (True, False)),
    ("pkg_gpgcheck=1", "gpgcheck = off", (True, False)),
])  # fmt: skip
def test_zypp(options: str, conf: str, wanted: Any) -> None:
    found = rows({"/etc/zypp/repos.d/a.repo": f"[a]\nbaseurl=http://h/x?ssl_verify=no\n{options}\n"}, {ZYPP: f"[main]\n{conf}\n"})["a"]
    assert (found["manager"], found["gpgcheck"], found["repo_gpgcheck"], found["ssl_verify"]) == ("zypp", *wanted, False)


@pytest.mark.parametrize("conf", [status(Status.DENIED), status(Status.UNREACHED), files({DNF: {"status": "denied", "detail": ""}}),
                                  files({DNF: "garbage\n"})])  # fmt: skip
def test_what_would_be_inherited_is_not_known_without_the_main_file(conf: Item) -> None:
    extracted = run(REPOSITORIES, {REPOS.id: files({f"{R}/a.repo": SECTIONS}), CONF.id: conf})
    found = {row["id"]: row for row in rows_as_dicts(REPOSITORIES, extracted)}
    assert extracted.coverage is Coverage.PARTIAL
    assert (found["a"]["gpgcheck"], found["a"]["ssl_verify"], found["b"]["gpgcheck"], found["c"]["repo_gpgcheck"]) == (
        None,
        None,
        False,
        True,
    )


@pytest.mark.parametrize("text", ["gpgcheck=1\n", "[a]\nnonsense\n", "[a]\ngpgcheck=perhaps\n", "[a\n", "[a]\nenabled=\n  1\n  2\n"])
def test_what_is_not_understood_is_a_gap(text: str) -> None:
    assert run(REPOSITORIES, evidence({f"{R}/a.repo": text})).coverage is Coverage.PARTIAL


def test_no_repositories_unread_ones_and_other_places() -> None:
    assert run(REPOSITORIES, evidence({})).coverage is Coverage.COMPLETE
    assert run(REPOSITORIES, evidence({f"{R}/a.repo": {"status": "denied", "detail": ""}})).coverage is Coverage.PARTIAL
    assert run(REPOSITORIES, evidence({}, {DNF: "[main]\nreposdir=/srv/repos\n"})).coverage is Coverage.PARTIAL
    assert run(REPOSITORIES, evidence({}, {DNF: "[main]\nreposdir=/etc/yum.repos.d\n"})).coverage is Coverage.COMPLETE
    many = "".join(f"[a{n}]\nenabled=0\n" for n in range(300))
    assert run(REPOSITORIES, evidence({"/etc/dnf/repos.override.d/a.repo": many})).coverage is Coverage.NONE
    for item in (status(Status.DENIED), status(Status.TIMEOUT), ok("[]"), ok("x")):
        assert run(REPOSITORIES, evidence({}) | {REPOS.id: item}).coverage is Coverage.NONE


def test_ini() -> None:
    problems: list[str] = []
    text = "; c\n[s] # x\na = 1\n  b\n\n  c\nD: 2\n[t]\n"
    assert ini(text, problems) == [("s", {"a": "1\nb\nc"}), ("t", {})] and len(problems) == 1
    assert ini("[s]\nD: 2=3\ne=4:5\n", problems, "=:") == [("s", {"d": "2=3", "e": "4:5"})] and len(problems) == 1
    assert [switch(word) for word in ("1", "YES", "True", "on", "0", "no", "FALSE", "off", "2", "")] == [True] * 4 + [False] * 4 + [
        None
    ] * 2


CACHED = {
    "/var/cache/dnf/baseos-522ed8e2b2f761ff/repodata/0f8c-primary.xml.gz": {"type": "file", "mtime": 1763978700},
    "/var/cache/dnf/baseos-522ed8e2b2f761ff/repodata/repomd.xml": {"type": "file", "mtime": 1763900000},
    "/var/cache/libdnf5/fedora-2d95c80a1fa0a67d/repodata/repomd.xml": {"type": "file", "mtime": 1763978701},
    "/var/cache/yum/x86_64/7/base/repomd.xml": {"type": "file", "mtime": 1763978702},
    "/var/cache/zypp/raw/repo-oss/repodata/repomd.xml": {"type": "file", "mtime": 1763978703},
}  # synthetic: libdnf, libzypp


def test_metadata() -> None:
    extracted = run(METADATA, {CACHE.id: ok(json.dumps(CACHED))})
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("dnf", "baseos-522ed8e2b2f761ff", datetime(2025, 11, 24, 10, 5)), ("dnf5", "fedora-2d95c80a1fa0a67d", datetime(2025, 11, 24, 10, 5, 1)),
        ("yum", "x86_64/7/base", datetime(2025, 11, 24, 10, 5, 2)), ("zypp", "repo-oss", datetime(2025, 11, 24, 10, 5, 3)),
    )  # fmt: skip
    assert run(METADATA, {CACHE.id: ok("{}")}).coverage is Coverage.COMPLETE
    for item, coverage in (
        (ok('{"/var/cache/dnf/a/repodata/repomd.xml": {"type": "file"}}'), Coverage.PARTIAL),
        (status(Status.DENIED), Coverage.NONE), (ok("[]"), Coverage.NONE),
        (ok('{"/var/cache/dnf/a/repodata/repomd.xml": {"mtime": 99999999999999}}'), Coverage.PARTIAL),
    ):  # fmt: skip
        assert run(METADATA, {CACHE.id: item}).coverage is coverage


def test_laws() -> None:
    never_emptier(REPOSITORIES, FULL)
    never_emptier(METADATA, {CACHE.id: ok(json.dumps(CACHED))})
    assert list(cut_short(REPOSITORIES, FULL, REPOS, step=37)) and list(cut_short(REPOSITORIES, FULL, CONF, step=7))
    assert list(cut_short(METADATA, {CACHE.id: ok(json.dumps(CACHED))}, CACHE, step=37))


@given(st.text() | st.text(alphabet="[]=\n #ab1 gpcheck"), st.text() | st.text(alphabet="[main]=\n #gpcheck"))
def test_nothing_raises(text: str, conf: str) -> None:
    found = run(REPOSITORIES, evidence({f"{R}/a.repo": text, "/etc/dnf/repos.override.d/a.repo": conf}, {DNF: conf, ZYPP: conf}))
    assert found.coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    assert all(f"[{row[2]}" in text or row[2] in text for row in found.rows)
    for table in TABLES:
        run(table, {source.id: ok(text) for source in table.sources})
