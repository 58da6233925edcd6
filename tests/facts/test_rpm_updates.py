# SPDX-License-Identifier: Apache-2.0
"""dnf-automatic and its like, and what dnf and zypp hold back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.dnf import CONF, REPOS
from fleet_audit.facts.rpm_updates import AUTOMATIC, AUTOMATIC_PLACES, LOCKS, TABLES
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

AUTO, HOLDS = TABLES
Evidence = dict[SourceId, Item]
VENDOR, SITE, YUM = AUTOMATIC.args["globs"]
PROGRAM, CRON = "/usr/bin/dnf-automatic", "/usr/sbin/yum-cron"
FILE, ABSENT = {"type": "file"}, {"status": "absent", "detail": ""}

# dnf 4.14 of Debian 12, /etc/dnf/automatic.conf without its comments and emitters
DNF4 = """[commands]
upgrade_type = default
random_sleep = 0
network_online_timeout = 60
download_updates = yes
apply_updates = no

[emitters]
emit_via = stdio

[base]
debuglevel = 1
"""


def files(contents: dict[str, Any]) -> Item:
    return ok(json.dumps({path: what if isinstance(what, dict) else {"text": what} for path, what in contents.items()}))


def automatic(contents: dict[str, Any], *there: str) -> Evidence:
    places = {path: FILE if path in there else ABSENT for path in AUTOMATIC_PLACES.args["globs"]}
    return {AUTOMATIC.id: files(contents), AUTOMATIC_PLACES.id: ok(json.dumps(places))}


@pytest.mark.parametrize(("evidence", "rows"), [
    (automatic({SITE: DNF4}, PROGRAM), (("dnf-automatic", "default", True, False, "never", []),)),
    (automatic({}, PROGRAM), (("dnf-automatic", "default", False, False, "never", []),)),
    (automatic({SITE: "[commands]\nupgrade_type=security\napply_updates=1\nreboot=when-needed\n[base]\nexclude=kernel* nvidia*\n"}, PROGRAM),
     (("dnf-automatic", "security", True, True, "when-needed", ["kernel*", "nvidia*"]),)),
    (automatic({VENDOR: "[commands]\napply_updates = no\ndownload_updates = yes\nupgrade_type = default\nreboot = never\n"}, PROGRAM, VENDOR),
     (("dnf5-automatic", "default", True, False, "never", []),)),
    (automatic({VENDOR: "[commands]\napply_updates = no\n", SITE: "[commands]\napply_updates = yes\nupgrade_type = security\n"}, VENDOR),
     (("dnf5-automatic", "security", True, True, "never", []),)),
    (automatic({YUM: "[commands]\nupdate_cmd = security\ndownload_updates = yes\napply_updates = yes\n"}, CRON),
     (("yum-cron", "security", True, True, "never", []),)),
    (automatic({SITE: DNF4}), ()), (automatic({}), ()),
])  # fmt: skip
def test_automatic(evidence: Evidence, rows: Any) -> None:
    extracted = run(AUTO, evidence)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, rows)
    never_emptier(AUTO, evidence)


@pytest.mark.parametrize(("evidence", "coverage"), [
    (automatic({SITE: "[commands]\napply_updates = perhaps\n"}, PROGRAM), Coverage.PARTIAL),
    (automatic({SITE: {"status": "denied", "detail": ""}}, PROGRAM), Coverage.PARTIAL), (automatic({SITE: "words\n"}, PROGRAM), Coverage.PARTIAL),
    (automatic({}, PROGRAM) | {AUTOMATIC.id: status(Status.DENIED)}, Coverage.NONE),
    (automatic({SITE: DNF4}) | {AUTOMATIC_PLACES.id: status(Status.TIMEOUT)}, Coverage.NONE),
    (automatic({SITE: DNF4}) | {AUTOMATIC_PLACES.id: ok("[]")}, Coverage.NONE),
])  # fmt: skip
def test_automatic_not_read_or_not_understood(evidence: Evidence, coverage: Coverage) -> None:
    assert run(AUTO, evidence).coverage is coverage


def test_a_file_that_was_not_read_gives_no_defaults() -> None:
    extracted = run(AUTO, automatic({SITE: {"status": "denied", "detail": ""}}, PROGRAM))
    assert extracted.rows == (("dnf-automatic", None, None, None, None, []),)


# recorded: zypper 1.14.42 of Debian 12, `zypper al kernel-default`, `al 'openssl < 3'`, `al -r plain bash`, by the author of this test
ZYPP = """
repo: plain
type: package
match_type: glob
case_sensitive: on
solvable_name: bash


type: package
match_type: glob
case_sensitive: on
solvable_name: kernel-default


type: package
version: < 3
match_type: glob
case_sensitive: on
solvable_name: openssl

"""
# synthetic: dnf5-versionlock(8)
TOML = """version = "1.0"
[[packages]]
name = "bash"
[[packages.conditions]]
key = "evr"
comparator = "="
value = "0:5.2.15-5.fc39"
[[packages]]
name = "*nvidia*"
[[packages.conditions]]
key = "evr"
comparator = ">="
value = "3:570"
[[packages.conditions]]
key = "evr"
comparator = "<"
value = "3:571"
"""
LIST, LIST5, LOCK = "/etc/dnf/plugins/versionlock.list", "/etc/dnf/versionlock.toml", "/etc/zypp/locks"
DNF, REPO = "/etc/dnf/dnf.conf", "/etc/yum.repos.d/a.repo"


def holds(conf: dict[str, Any] | None = None, repos: dict[str, Any] | None = None, locks: dict[str, Any] | None = None) -> Evidence:
    return {CONF.id: files(conf or {}), REPOS.id: files(repos or {}), LOCKS.id: files(locks or {})}


FULL = holds(
    {DNF: "[main]\nexclude=kernel*,nvidia-*\n  cuda\n"}, {REPO: "[epel]\nexcludepkgs=slurm*\n"},
    {LIST: "# Added\nbash-0:5.1.8-9.el9.*\n!iftop-1.0-1.el9.*\n", LIST5: TOML, LOCK: ZYPP},
)  # fmt: skip


def test_holds() -> None:
    extracted = run(HOLDS, FULL)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    assert extracted.rows == (
        ("dnf", "exclude", "kernel*", "", None, DNF), ("dnf", "exclude", "nvidia-*", "", None, DNF), ("dnf", "exclude", "cuda", "", None, DNF),
        ("dnf", "exclude", "slurm*", "", "epel", REPO),
        ("dnf", "versionlock", "bash-0:5.1.8-9.el9.*", "=", None, LIST), ("dnf", "versionlock", "iftop-1.0-1.el9.*", "!=", None, LIST),
        ("dnf", "versionlock", "bash", "evr = 0:5.2.15-5.fc39", None, LIST5),
        ("dnf", "versionlock", "*nvidia*", "evr >= 3:570, evr < 3:571", None, LIST5),
        ("zypp", "lock", "bash", "", "plain", LOCK), ("zypp", "lock", "kernel-default", "", None, LOCK),
        ("zypp", "lock", "openssl", "< 3", None, LOCK),
    )  # fmt: skip


def test_nothing_held_and_what_is_not_understood() -> None:
    assert (run(HOLDS, holds()).coverage, run(HOLDS, holds()).rows) == (Coverage.COMPLETE, ())
    assert run(HOLDS, holds(locks={LOCK: "type: patch\nsolvable_name: x\n"})).rows == ()
    for path, text in (
        (LIST5, "packages = 1\n"), (LIST5, "[[packages]]\n"), (LIST5, "= x"), (LIST5, "x = [" * 5000), (LIST5, " " * 300_000),
        (LOCK, "type: package\n"), (LOCK, "words\n"),
    ):  # fmt: skip
        assert run(HOLDS, holds(locks={path: text})).coverage is Coverage.PARTIAL, text[:20]
    denied = {"status": "denied", "detail": ""}
    for evidence in (holds({DNF: denied}), holds(repos={REPO: denied}), holds(locks={LIST: denied}), holds({DNF: "words\n"})):
        assert run(HOLDS, evidence).coverage is Coverage.PARTIAL
    for source in HOLDS.sources:
        assert run(HOLDS, holds() | {source.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_laws() -> None:
    never_emptier(HOLDS, FULL)
    for source in HOLDS.sources:
        assert list(cut_short(HOLDS, FULL, source, step=17))
    assert list(cut_short(AUTO, automatic({SITE: DNF4}, PROGRAM), AUTOMATIC, step=17))


@given(st.text() | st.text(alphabet="[]=\n #ab1:"))
def test_nothing_raises(text: str) -> None:
    found = run(HOLDS, holds({DNF: text}, {REPO: text}, {LIST: text, LIST5: text, LOCK: text}))
    assert found.coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    assert run(AUTO, automatic({SITE: text}, PROGRAM)).coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    for table in TABLES:
        run(table, {source.id: ok(text) for source in table.sources})
