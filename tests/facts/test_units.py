# SPDX-License-Identifier: Apache-2.0
"""systemd's units, and what starts or masks them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.units import LINKS, TABLES, UNITS
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

LOADED, STARTS = TABLES
Evidence = dict[SourceId, Item]
# recorded on Debian 12, systemd 252 (252.39-1~deb12u2), a booted host of tests/hosts, 2026-11-25
RECORDED = (Path(__file__).parent / "recorded" / "systemd-units.debian12.txt").read_bytes()


def units(text: str | bytes) -> Evidence:
    return {UNITS.id: ok(text)}


def test_units_of_a_real_host() -> None:
    extracted = run(LOADED, units(RECORDED))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.COMPLETE, RECORDED.count(b"\n"))
    rows = {row["name"]: row for row in rows_as_dicts(LOADED, extracted)}
    assert rows["ssh.service"] == {"name": "ssh.service", "load": "loaded", "active": "active", "sub": "running"}
    assert rows["-.mount"]["sub"] == "mounted" and rows["getty@tty1.service"]["load"] == "masked"
    assert rows["auditd.service"] == {"name": "auditd.service", "load": "not-found", "active": "inactive", "sub": "dead"}
    assert rows["systemd-tmpfiles-clean.timer"]["sub"] == "waiting"
    assert "run-credentials-systemd\\x2dtmpfiles\\x2dsetup\\x2ddev.service.mount" in rows
    assert Counter(row["load"] for row in rows.values())["masked"] == 8
    never_emptier(LOADED, units(RECORDED))


def test_units_cut_short_invent_no_state() -> None:
    whole = set(run(LOADED, units(RECORDED)).rows)
    for extracted in cut_short(LOADED, units(RECORDED), UNITS, step=37):
        assert set(extracted.rows) <= whole


def test_without_systemd_there_are_no_units() -> None:
    extracted = run(LOADED, {UNITS.id: status(Status.SKIPPED, "no /run/systemd/system")})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize("item", [
    status(Status.ABSENT), status(Status.FAILED, "exit 1: Failed to connect to bus"), status(Status.DENIED), status(Status.TIMEOUT), ok(""),
    ok("Failed to list units: x\n"), ok("\n\n"), ok("0 loaded units listed.\n"), ok("ssh.service loaded\n"),
])  # fmt: skip
def test_units_that_were_not_listed_are_none(item: Item) -> None:
    assert run(LOADED, {UNITS.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize(
    "line", ["garbage", "x.service odd active running X", "x.service loaded sleeping running X", "noname loaded active running"]
)
def test_a_line_that_is_no_unit_is_a_gap(line: str) -> None:
    extracted = run(LOADED, units(RECORDED + line.encode() + b"\n"))
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) == RECORDED.count(b"\n")


def test_failed_units_and_states_of_newer_versions() -> None:
    # synthetic: systemctl(1), unit states
    text = "a.service loaded failed failed A\nb.mount loaded deactivating unmounting B\nc.service bad-setting inactive dead\n"
    text += "d.service loaded refreshing running D\n"
    assert [row[1:] for row in run(LOADED, units(text)).rows] == [
        ("loaded", "failed", "failed"), ("loaded", "deactivating", "unmounting"), ("bad-setting", "inactive", "dead"),
        ("loaded", "refreshing", "running"),
    ]  # fmt: skip


# --- Links ---------------------------------------------------------------------------------------

ABSENT = {"status": "absent", "detail": ""}
FOLDER = {"type": "dir", "mode": 0o755, "uid": 0, "gid": 0, "size": 4096, "mtime": 1, "link": None}


def link(target: str) -> dict[str, Any]:
    return FOLDER | {"type": "link", "mode": 0o777, "size": len(target), "link": target}


# recorded by `ls -la` on the same host
LINKED = {
    "/etc/systemd/system": FOLDER,
    "/run/systemd/system": FOLDER,
    "/etc/systemd/system/multi-user.target.wants": FOLDER,
    "/etc/systemd/system/multi-user.target.wants/ssh.service": link("/lib/systemd/system/ssh.service"),
    "/etc/systemd/system/getty.target.wants/getty@tty1.service": link("/lib/systemd/system/getty@.service"),
    "/etc/systemd/system/apt-daily.timer": link("/dev/null"),
    "/etc/systemd/system/sshd.service": link("/lib/systemd/system/ssh.service"),
    "/etc/systemd/system/empty.service": FOLDER | {"type": "file", "size": 0},
    "/etc/systemd/system/own.service": FOLDER | {"type": "file", "size": 100},
    "/lib/systemd/system/multi-user.target.wants/dbus.service": link("../dbus.service"),
    "/usr/lib/systemd/system/multi-user.target.wants/dbus.service": link("../dbus.service"),
    "/usr/lib/systemd/system/x.target.requires/y.service": link("../y.service"),
}


def links(entries: Any) -> Evidence:
    return {LINKS.id: ok(json.dumps(entries))}


def test_what_is_started_and_masked() -> None:
    evidence = links(LINKED)
    extracted = run(STARTS, evidence)
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("ssh.service", "multi-user.target", False, True), ("getty@tty1.service", "getty.target", False, True),
        ("apt-daily.timer", None, True, True), ("empty.service", None, True, True), ("dbus.service", "multi-user.target", False, False),
        ("y.service", "x.target", False, False),
    )  # fmt: skip
    never_emptier(STARTS, evidence)
    assert list(cut_short(STARTS, evidence, LINKS, step=90))


def test_a_host_without_systemd_starts_nothing_by_it() -> None:
    extracted = run(STARTS, links({"/etc/systemd/system": ABSENT, "/run/systemd/system": ABSENT}))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize("path", ["/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants/*"])
def test_a_folder_that_was_not_read_is_a_gap(path: str) -> None:
    assert run(STARTS, links(LINKED | {path: {"status": "denied", "detail": "Permission denied"}})).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(
    "item", [status(Status.DENIED), status(Status.ABSENT), ok("{}"), ok("[]"), ok("x"), ok('{"/etc/systemd/system": 3}'), ok("null")]
)
def test_links_that_are_not_understood_are_none(item: Item) -> None:
    assert run(STARTS, {LINKS.id: item}).coverage is Coverage.NONE


@given(st.binary(max_size=300))
def test_no_bytes_raise(body: bytes) -> None:
    for table, source in ((LOADED, UNITS), (STARTS, LINKS)):
        assert run(table, {source.id: ok(body)}).rows == ()
