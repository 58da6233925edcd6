# SPDX-License-Identifier: Apache-2.0
"""Unattended upgrades of apt: settings, runs, stamps, and packages on hold."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.apt_conf import APT_CONF
from fleet_audit.facts.base import Item
from fleet_audit.facts.packages import DPKG
from fleet_audit.facts.updates import APT_PLACES, LOG, LOGS, STAMPS, TABLES, _is_security
from fleet_audit.model import Coverage, SourceId, Status
from tests.probe.helpers import ask, source

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

UNATTENDED, LAST, RUNS, HELD = TABLES
Evidence = dict[SourceId, Item]
ABSENT = {"status": "absent", "detail": ""}
FILE = {"type": "file", "size": 9, "mtime": 1763978700}
PROGRAM = "/usr/bin/unattended-upgrade"
PATH = "/var/log/unattended-upgrades/unattended-upgrades.log"

# The settings of unattended-upgrades 2.9.1+nmu3 of Debian 12 as the package brings them, without its comments
AUTO = 'APT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
DEBIAN = """Unattended-Upgrade::Origins-Pattern {
        "origin=Debian,codename=${distro_codename},label=Debian";
        "origin=Debian,codename=${distro_codename},label=Debian-Security";
        "origin=Debian,codename=${distro_codename}-security,label=Debian-Security";
};
Unattended-Upgrade::Package-Blacklist {
};
"""
# synthetic: the same of Ubuntu, README of unattended-upgrades
UBUNTU = """Unattended-Upgrade::Allowed-Origins {
        "${distro_id}:${distro_codename}";
        "${distro_id}:${distro_codename}-security";
        "${distro_id}ESMApps:${distro_codename}-apps-security";
};
Unattended-Upgrade::Package-Blacklist { "nvidia"; "linux-"; };
Unattended-Upgrade::Automatic-Reboot "true";
Unattended-Upgrade::Automatic-Reboot-WithUsers "false";
Unattended-Upgrade::Automatic-Reboot-Time "02:38";
Unattended-Upgrade::Update-Days {"Mon"; "4"};
"""


def places(apt: bool = True, program: bool = True) -> Item:
    return ok(json.dumps({"/usr/bin/apt-get": FILE if apt else ABSENT, PROGRAM: FILE if program else ABSENT}))


def conf(*texts: str) -> Item:
    return ok(json.dumps({f"/etc/apt/apt.conf.d/{place}": {"text": text} for place, text in enumerate(texts)}))


def settings(*texts: str, installed: bool = True) -> dict[str, Any]:
    extracted = run(UNATTENDED, {APT_PLACES.id: places(program=installed), APT_CONF.id: conf(*texts)})
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    (row,) = rows_as_dicts(UNATTENDED, extracted)
    return row


def test_settings_of_debian() -> None:
    row = settings(AUTO, DEBIAN)
    assert row["origins"] == [line.strip('"; ') for line in DEBIAN.splitlines()[1:4]]
    assert {name: row[name] for name in row if name != "origins"} == {
        "installed": True, "periodic": True, "lists": True, "lists_interval_seconds": 86400, "upgrades": True,
        "upgrades_interval_seconds": 86400, "security": True, "excluded": [], "only": [], "days": [], "reboot": False,
        "reboot_with_users": True, "reboot_time": "now",
    }  # fmt: skip


def test_settings_of_ubuntu() -> None:
    row = settings(AUTO, UBUNTU)
    assert row["origins"][1] == "${distro_id}:${distro_codename}-security" and row["security"] is True
    assert (row["excluded"], row["days"]) == (["nvidia", "linux-"], ["Mon", "4"])
    assert (row["reboot"], row["reboot_with_users"], row["reboot_time"]) == (True, False, "02:38")


@pytest.mark.parametrize(("text", "lists", "upgrades"), [
    ("", (False, None), (False, None)), (AUTO + 'APT::Periodic::Enable "0";', (False, None), (False, None)),
    (AUTO + 'APT::Periodic::Unattended-Upgrade "0";', (True, 86400), (False, None)),
    ('APT::Periodic::Unattended-Upgrade "always";', (False, None), (True, 0)),
    ('APT::Periodic { Unattended-Upgrade "36h"; };', (False, None), (True, 129600)),
    ('APT::Periodic::Update-Package-Lists "7d";', (True, 604800), (False, None)), (AUTO + 'APT::Periodic::Enable "1";', (True, 86400), (True, 86400)),
])  # fmt: skip
def test_intervals(text: str, lists: Any, upgrades: Any) -> None:
    row = settings(text)
    assert (row["lists"], row["lists_interval_seconds"]) == lists and (row["upgrades"], row["upgrades_interval_seconds"]) == upgrades


def test_without_the_package_nothing_is_upgraded() -> None:
    row = settings(AUTO, DEBIAN, installed=False)
    assert (row["installed"], row["lists"], row["upgrades"]) == (False, True, False)


@pytest.mark.parametrize(("text", "column"), [
    (AUTO + 'APT::Periodic::Unattended-Upgrade "often";', "upgrades"), (AUTO + 'APT::Periodic::Enable "maybe";', "upgrades"),
    (AUTO + 'APT::Periodic::Enable "true";', "lists"),
])  # fmt: skip
def test_words_that_are_none_are_not_known(text: str, column: str) -> None:
    extracted = run(UNATTENDED, {APT_PLACES.id: places(), APT_CONF.id: conf(text)})
    (row,) = rows_as_dicts(UNATTENDED, extracted)
    assert extracted.coverage is Coverage.PARTIAL and row[column] is None


@pytest.mark.parametrize(("pattern", "security"), [
    ("origin=Debian,codename=${distro_codename}-security,label=Debian-Security", True), ("o=Ubuntu,a=jammy-security", True),
    ("origin=Debian,codename=${distro_codename},label=Debian", False), ("origin=Debian,codename=bookworm,label=Debian-Security", None),
    ("o=${distro_id},a=${distro_codename}", False), ("o=${distro_id}ESM,a=${distro_codename}-infra-security", False), ("origin=*", True),
    ("o=Docker", False), ("site=download.docker.com", False), ("site=security.debian.org", True), ("l=Debian-Security", True),
    ("o=Google,a=stable-security", False), ("", False), ("nonsense", False), ("o=Debian,a=*", True),
])  # fmt: skip
def test_which_origins_are_of_security(pattern: str, security: bool | None) -> None:
    assert _is_security(pattern) is security


def test_a_pattern_that_depends_on_the_release() -> None:
    assert settings('Unattended-Upgrade::Origins-Pattern { "origin=Debian,codename=bookworm,label=Debian-Security"; };')["security"] is None


def test_no_apt_and_unread_places() -> None:
    extracted = run(UNATTENDED, {APT_PLACES.id: places(apt=False, program=False), APT_CONF.id: conf()})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    denied = ok(json.dumps({"/usr/bin/apt-get": {"status": "denied", "detail": ""}, PROGRAM: ABSENT}))
    for item in (denied, status(Status.DENIED), ok("[]")):
        assert run(UNATTENDED, {APT_PLACES.id: item, APT_CONF.id: conf(AUTO)}).coverage is Coverage.NONE
    assert run(UNATTENDED, {APT_PLACES.id: places(), APT_CONF.id: status(Status.TIMEOUT)}).coverage is Coverage.NONE


@pytest.mark.slow
def test_this_machine() -> None:
    if not shutil.which("apt-get"):
        pytest.skip("the mirror lacks apt here")
    there = shutil.which("unattended-upgrade") is not None
    reply = ask([APT_PLACES, APT_CONF, STAMPS])
    extracted = run(UNATTENDED, {place.id: Item(Status.OK, reply[place.id].body) for place in (APT_PLACES, APT_CONF)})
    (row,) = rows_as_dicts(UNATTENDED, extracted)
    assert extracted.coverage is Coverage.COMPLETE and row["installed"] is there
    assert bool(row["origins"]) or not there
    stamps = run(RUNS, {STAMPS.id: Item(Status.OK, reply[STAMPS.id].body)})
    assert stamps.coverage is Coverage.COMPLETE
    assert sum(not job.endswith(".timer") for job, _ in stamps.rows) == len(list(Path("/var/lib/apt/periodic").glob("*-stamp")))


# --- The last run: synthetic, messages of unattended-upgrade 2.9.1 -----------------------------------

INSTALLED = """2025-11-23 06:25:31,123 INFO Starting unattended upgrades script
2025-11-23 06:25:33,001 ERROR An error occurred: Could not connect
2025-11-24 06:11:02,530 INFO Starting unattended upgrades script
2025-11-24 06:11:02,531 INFO Allowed origins are: origin=Debian,codename=bookworm-security,label=Debian-Security
2025-11-24 06:11:05,120 INFO Packages that will be upgraded: openssl
2025-11-24 06:11:05,121 INFO Writing dpkg log to /var/log/unattended-upgrades/unattended-upgrades-dpkg.log
2025-11-24 06:11:14,911 INFO All upgrades installed
"""
NOTHING = """2025-11-24 06:11:02,530 INFO Starting unattended upgrades script
2025-11-24 06:11:05,120 INFO No packages found that can be upgraded unattended and no pending auto-removals
"""
FAILED = """2025-11-24 06:11:02,530 INFO Starting unattended upgrades script
2025-11-24 06:11:05,120 ERROR Installing the upgrades failed!
2025-11-24 06:11:05,121 ERROR error message: installArchives() failed
"""


def last(text: Any, logs: dict[str, Any] | None = None) -> Evidence:
    entry = text if isinstance(text, dict) else {"text": text}
    return {LOG.id: ok(json.dumps({PATH: entry})), LOGS.id: ok(json.dumps({PATH: FILE} if logs is None else logs))}


@pytest.mark.parametrize(("text", "row"), [
    (INSTALLED, ("installed", 0, "All upgrades installed")),
    (NOTHING, ("nothing", 0, "No packages found that can be upgraded unattended and no pending auto-removals")),
    (FAILED, ("failed", 2, "error message: installArchives() failed")),
    (NOTHING.splitlines()[0] + "\n", ("other", 0, "Starting unattended upgrades script")),
])  # fmt: skip
def test_last_run(text: str, row: Any) -> None:
    extracted = run(LAST, last(text))
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == ((datetime(2025, 11, 24, 10, 5), *row),)


def test_translated_empty_rotated_and_absent_logs() -> None:
    translated = run(LAST, last("2025-11-24 06:11:02,530 INFO Das Skript startet\n"))
    assert (translated.coverage, translated.rows[0][1:]) == (Coverage.PARTIAL, (None, None, "Das Skript startet"))
    rotated = run(LAST, last("", {PATH: FILE | {"size": 0, "mtime": 1764000000}, f"{PATH}.1.gz": FILE}))
    assert rotated.rows == ((datetime(2025, 11, 24, 10, 5), None, None, None),)
    assert run(LAST, last("", {PATH: FILE | {"size": 0}})).rows == ((None, None, None, None),)
    none = run(LAST, last(ABSENT, {PATH: ABSENT}))
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    denied = run(LAST, last({"status": "denied", "detail": ""}))
    assert denied.coverage is Coverage.PARTIAL and denied.rows[0][1] is None
    assert run(LAST, last(INSTALLED) | {LOGS.id: status(Status.DENIED)}).coverage is Coverage.NONE
    assert run(LAST, last(INSTALLED) | {LOG.id: status(Status.TRUNCATED)}).coverage is Coverage.NONE


# --- Stamps and holds --------------------------------------------------------------------------------

STAMP = {
    "/var/lib/apt/periodic/unattended-upgrades-stamp": FILE,
    "/var/lib/apt/periodic/update-success-stamp": FILE | {"mtime": 1763978701},
    "/var/lib/systemd/timers/stamp-apt-daily-upgrade.timer": FILE | {"mtime": 1763978702},
}


def test_stamps() -> None:
    extracted = run(RUNS, {STAMPS.id: ok(json.dumps(STAMP))})
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("unattended-upgrades", datetime(2025, 11, 24, 10, 5)), ("update-success", datetime(2025, 11, 24, 10, 5, 1)),
        ("apt-daily-upgrade.timer", datetime(2025, 11, 24, 10, 5, 2)),
    )  # fmt: skip
    assert run(RUNS, {STAMPS.id: ok("{}")}).coverage is Coverage.COMPLETE
    assert run(RUNS, {STAMPS.id: ok('{"/a-stamp": {"type": "file"}}')}).coverage is Coverage.PARTIAL
    assert run(RUNS, {STAMPS.id: status(Status.DENIED)}).coverage is Coverage.NONE


# synthetic: dpkg(1), the fields that the probe sends
DPKGS = """Package: openssl
Status: hold ok installed
Architecture: amd64
Version: 3.0.17-1~deb12u2

Package: libssl3
Status: install ok installed
Architecture: amd64
Version: 3.0.17-1~deb12u2

Package: gone
Status: hold ok config-files
Architecture: amd64
Version: 1

Package: distroless
Version: 2
"""


def test_holds() -> None:
    extracted = run(HELD, {DPKG.id: ok(DPKGS)})
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (("openssl", "3.0.17-1~deb12u2", "amd64"),)
    assert run(HELD, {DPKG.id: status(Status.ABSENT)}).coverage is Coverage.COMPLETE
    for item in (status(Status.DENIED), ok(""), ok("garbage\n")):
        assert run(HELD, {DPKG.id: item}).coverage is Coverage.NONE
    broken = run(HELD, {DPKG.id: ok(DPKGS + "\nPackage: half\nStatus: hold\n")})
    assert (broken.coverage, len(broken.rows)) == (Coverage.PARTIAL, 1)
    assert run(HELD, {DPKG.id: Item(Status.TRUNCATED, DPKGS.encode())}).coverage is Coverage.PARTIAL


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("dpkg") is None, reason="dpkg is not installed here")
def test_a_hold_that_dpkg_itself_sets(tmp_path: Path) -> None:
    for name in ("status", "available", "arch"):
        if (Path("/var/lib/dpkg") / name).exists():
            shutil.copy(Path("/var/lib/dpkg") / name, tmp_path)
    (tmp_path / "updates").mkdir()
    before = run(HELD, {DPKG.id: ok(_fields(tmp_path))}).rows
    argv = ["dpkg", f"--admindir={tmp_path}", "--set-selections"]
    subprocess.run(argv, input="dpkg hold\n", text=True, capture_output=True, check=True)
    (row,) = set(run(HELD, {DPKG.id: ok(_fields(tmp_path))}).rows) - set(before)
    assert row[0] == "dpkg"


def _fields(folder: Path) -> bytes:
    found = ask([source("it", "stanzas", **{**DPKG.args, "globs": [f"{folder}/status"]})])["it"].body
    assert isinstance(found, bytes)
    return found


def test_laws() -> None:
    never_emptier(UNATTENDED, {APT_PLACES.id: places(), APT_CONF.id: conf(AUTO, UBUNTU)})
    never_emptier(LAST, last(INSTALLED))
    never_emptier(RUNS, {STAMPS.id: ok(json.dumps(STAMP))})
    never_emptier(HELD, {DPKG.id: ok(DPKGS)})
    for table, evidence, cut in (
        (UNATTENDED, {APT_PLACES.id: places(), APT_CONF.id: conf(AUTO, UBUNTU)}, APT_CONF), (LAST, last(INSTALLED), LOG),
        (RUNS, {STAMPS.id: ok(json.dumps(STAMP))}, STAMPS), (HELD, {DPKG.id: ok(DPKGS)}, DPKG),
    ):  # fmt: skip
        assert list(cut_short(table, evidence, cut, step=41))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([PATH, PROGRAM, *STAMP, "text", "mtime", "size", "status"]), inner)
    ),
)


@given(st.dictionaries(
    st.sampled_from([s.id for table in TABLES for s in table.sources]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)
