# SPDX-License-Identifier: Apache-2.0
"""The kernel's clock, the programs that set it, their servers, and the time zone."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.base import Item
from fleet_audit.facts.clock import KERNEL, LOCALTIME, TABLES, TIMESYNC, ZONE
from fleet_audit.facts.clock.chrony import PEERS, TRACKING
from fleet_audit.facts.clock.servers import CHRONY, NTP, TIMESYNCD
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, Source, SourceId, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

T = {table.name: table for table in TABLES}
DENIED = {"status": "denied", "detail": "Permission denied"}


def rows(table: str, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(T[table], evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(T[table], extracted)


def test_the_kernels_clock() -> None:
    assert rows("clock", recorded()) == [
        {"synchronized": False, "offset_microseconds": 0, "estimated_error_microseconds": 16000000, "max_error_microseconds": 16000000}
    ]
    synced = {"status": 0x2001, "state": 0, "offset": 1, "estimated_error_us": 90, "max_error_us": 4000}  # STA_NANO and STA_PLL
    assert rows("clock", {KERNEL.id: ok(json.dumps(synced))})[0]["synchronized"] is True
    for bits, wanted in ((0x2001, 1), (0x0001, 1500)):
        (row,) = rows("clock", {KERNEL.id: ok(json.dumps({**synced, "status": bits, "offset": -1500}))})
        assert row["offset_microseconds"] == wanted
    for item in (ok("{}"), ok("[]"), ok('{"status": "64"}'), ok(""), status(Status.ABSENT, "not recorded"), status(Status.FAILED)):
        assert run(T["clock"], {KERNEL.id: item}).coverage is Coverage.NONE


def process(pid: int, comm: str, exe: str | None, **more: Any) -> dict[str, Any]:
    row = {"pid": pid, "ppid": 1, "uid": 0, "euid": 0, "comm": comm, "exe": exe, "argv": [exe or comm], "contained": False, "env": {}}
    return row | more


def processes(*found: dict[str, Any], gap: str = "") -> Item:
    return ok(json.dumps({"processes": [process(1, "systemd", "/usr/lib/systemd/systemd"), *found], "kernel_threads": 9, "gap": gap}))


def test_daemons() -> None:
    assert rows("time_daemons", recorded()) == [{"name": "chrony", "pid": 647, "uid": 100, "contained": False}]
    both = processes(
        process(7, "chronyd", "/usr/sbin/chronyd"), process(8, "chronyd", "/usr/sbin/chronyd", ppid=7),
        process(9, "systemd-timesyn", "/usr/lib/systemd/systemd-timesyncd", uid=997), process(10, "ntpd", None, argv=["/usr/sbin/ntpd", "-n"]),
        process(11, "systemd-timedat", "/usr/lib/systemd/systemd-timedated"), process(12, "ptp4l", "/usr/sbin/ptp4l", contained=True),
    )  # fmt: skip
    assert [(row["name"], row["pid"], row["contained"]) for row in rows("time_daemons", {PROCESSES.id: both})] == [
        ("chrony", 7, False), ("timesyncd", 9, False), ("ntp", 10, False), ("ptp4l", 12, True),
    ]  # fmt: skip
    assert rows("time_daemons", {PROCESSES.id: processes()}) == []
    assert rows("time_daemons", {PROCESSES.id: processes(gap="hidepid")}, Coverage.PARTIAL) == []
    for item in (status(Status.ABSENT, "not recorded"), ok('{"processes": []}'), ok("[]"), status(Status.DENIED)):
        assert run(T["time_daemons"], {PROCESSES.id: item}).coverage is Coverage.NONE


NOTHING: Evidence = {CHRONY.id: document({"/etc/chrony/chrony.conf": None, "/etc/chrony.conf": None}), NTP.id: document({}),
                     TIMESYNCD.id: document({"/etc/systemd/timesyncd.conf": None})}  # fmt: skip


def servers(evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[tuple[Any, ...]]:
    return [
        tuple(row[name] for name in ("daemon", "kind", "address", "nts", "key"))
        for row in rows("time_servers", NOTHING | evidence, coverage)
    ]


def test_servers_of_a_real_node() -> None:
    """The reader looks at the folders of confdir and sourcedir as files first: that is no gap."""
    assert servers({name: item for name, item in recorded().items() if name == CHRONY.id}) == [
        ("chrony", "server", "127.0.0.1", False, False), ("chrony", "pool", "192.0.2.7", True, False),
        ("chrony", "server", "192.0.2.9", False, True),
    ]  # fmt: skip
    assert rows("time_servers", recorded())[2]["file"] == "/etc/chrony/sources.d/lan.sources"


def test_servers_of_chrony() -> None:
    conf = "! c\n% c\nserver\nRefClock PHC /dev/ptp0 poll 2\npeer b key 3\ninclude /etc/chrony.d/*.conf\nconfdir /etc/c.d\nsourcedir /run/s/ /x\n"
    files = {
        "/etc/chrony.conf": conf, "/etc/chrony.d/a.conf": "server a nts\nInclude /etc/chrony.conf\n", "/etc/c.d/z.conf": "pool z\n",
        "/etc/c.d/z.sources": "server no\n", "/run/s/dhcp.sources": "server dhcp\n", "/run/s/x.conf": "server no\n", "/etc/unused": "server no\n",
        "/etc/c.d": {"status": "failed", "detail": "not a regular file"}, "/run/s/": {"status": "failed", "detail": "not a regular file"},
    }  # fmt: skip
    found = servers({CHRONY.id: document(files)}, Coverage.PARTIAL)  # the server without a name
    assert found == [
        ("chrony", "refclock", "PHC /dev/ptp0", False, False), ("chrony", "peer", "b", False, True), ("chrony", "server", "a", True, False),
        ("chrony", "pool", "z", False, False), ("chrony", "server", "dhcp", False, False),
    ]  # fmt: skip
    assert servers({CHRONY.id: document({"/etc/chrony.conf": "include /a\n", "/a": DENIED})}, Coverage.PARTIAL) == []
    folder = {"status": "failed", "detail": "not a regular file"}
    assert servers({CHRONY.id: document({"/etc/chrony.conf": "server a\n", "/etc/other": folder})}, Coverage.PARTIAL) == [
        ("chrony", "server", "a", False, False)
    ]


@pytest.mark.parametrize(
    "line", ["Include /etc/more.conf", "include /etc/more.conf", "confdir /etc/c.d", "SourceDir /etc/s.d", "include more"]
)
def test_an_include_of_chrony_that_was_not_followed_is_a_gap(line: str) -> None:
    conf = {"/etc/chrony.conf": f"server a\n{line}\n"}
    assert servers({CHRONY.id: document(conf)}, Coverage.PARTIAL) == [("chrony", "server", "a", False, False)]
    assert servers({CHRONY.id: document(conf | {line.split()[1]: None})}) == [("chrony", "server", "a", False, False)]


def test_servers_of_ntp_and_timesyncd() -> None:
    # the pools that ntpsec 1.2.2 and systemd-timesyncd 252 of Debian 12 come with, and more in the style of their manuals
    ntp = "pool 0.debian.pool.ntp.org iburst\nserver -4 time.lan key 5 # c\nserver 127.127.28.0\nserver nts.lan nts\nfudge 127.127.28.0 refid NMEA\n"
    timesyncd = {
        "/etc/systemd/timesyncd.conf": "[Time]\n#NTP=x\nNTP=gone\n",
        "/etc/systemd/timesyncd.conf.d/10.conf": "[Time]\nNTP=\nNTP=a b\nNTP=c\nFallbackNTP=f\n[Other]\nNTP=no\n",
    }
    assert servers({NTP.id: document({"/etc/ntpsec/ntp.conf": ntp}), TIMESYNCD.id: document(timesyncd)}) == [
        ("ntp", "pool", "0.debian.pool.ntp.org", False, False), ("ntp", "server", "time.lan", False, True),
        ("ntp", "refclock", "127.127.28.0", False, False), ("ntp", "server", "nts.lan", True, False), ("timesyncd", "server", "a", False, False),
        ("timesyncd", "server", "b", False, False), ("timesyncd", "server", "c", False, False), ("timesyncd", "fallback", "f", False, False),
    ]  # fmt: skip
    assert servers({}) == []


@pytest.mark.parametrize("source", [CHRONY, NTP, TIMESYNCD])
def test_one_configuration_that_was_not_read_leaves_the_others(source: Source) -> None:
    evidence = {NTP.id: document({"/etc/ntp.conf": "server a\n"})} | {source.id: status(Status.DENIED)}
    assert len(servers(evidence, Coverage.PARTIAL)) == (source is not NTP)


# recorded on Debian 13, chrony 4.6.1, with a second chronyd on the loopback as its server, 2026-11-25
SYNCED = (
    "7F000001,127.0.0.1,4,1795638700.901088258,-0.000001239,0.000000031,0.000000600,0.011,0.005,0.040,0.000005557,0.000002024,1.0,Normal\n"
)
SELECTED = "^,*,127.0.0.1,3,0,377,1,0.000000168,0.000000199,0.000002813\n"


def test_tracking_and_sources_of_chrony() -> None:
    assert rows("time_tracking", {TRACKING.id: ok(SYNCED)}) == [{
        "reference": "127.0.0.1", "stratum": 4, "updated_at": datetime(2026, 11, 25, 20, 31, 40, 901088), "offset_microseconds": 1,
        "root_delay_microseconds": 6, "leap_status": "Normal",
    }]  # fmt: skip
    (row,) = rows("time_tracking", recorded())
    assert (row["reference"], row["stratum"], row["updated_at"], row["leap_status"]) == (None, 0, None, "Not synchronised")
    assert rows("time_peers", {PEERS.id: ok(SELECTED)}) == [
        {"kind": "server", "state": "selected", "address": "127.0.0.1", "stratum": 3, "reachable": True, "offset_microseconds": 0}
    ]
    assert [(row["state"], row["reachable"]) for row in rows("time_peers", recorded())] == [("unusable", False)] * 3
    clock = "#,x,PPS0,0,4,7,12,-0.031,0.000000199,0.000002813\n"  # synthetic: chronyc(1)
    assert rows("time_peers", {PEERS.id: ok(clock)})[0] == {
        "kind": "refclock", "state": "falseticker", "address": "PPS0", "stratum": 0, "reachable": True, "offset_microseconds": -31000,
    }  # fmt: skip


@pytest.mark.parametrize("table", ["time_tracking", "time_peers"])
def test_chrony_that_does_not_answer(table: str) -> None:
    (source,) = T[table].sources
    assert rows(table, {source.id: status(Status.SKIPPED)}) == []
    for item in (status(Status.ABSENT), status(Status.FAILED, "exit 1: 506 Cannot talk to daemon"), status(Status.TIMEOUT)):
        assert run(T[table], {source.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize(
    "text", ["", "506 Cannot talk to daemon\n", SYNCED * 2, SYNCED.replace(",4,", ",four,"), SYNCED.replace("-0.000001239", "nan")]
)
def test_tracking_that_is_not_understood_is_none(text: str) -> None:
    assert run(T["time_tracking"], {TRACKING.id: ok(text)}).coverage is Coverage.NONE


def test_sources_that_are_not_understood_are_gaps() -> None:
    text = SELECTED + "^,!,a,3,0,377,1,0.1,0.1,0.1\n^,*,a,3,0,999,1,0.1,0.1,0.1\nx\n"
    assert len(rows("time_peers", {PEERS.id: ok(text)}, Coverage.PARTIAL)) == 1


def test_timesyncd() -> None:
    there = {"/run/systemd/timesync": {"type": "dir"}, "/run/systemd/timesync/synchronized": {"type": "file", "mtime": 1764072000}}
    assert rows("timesyncd", {TIMESYNC.id: document(there)}) == [{"synchronized": True, "synchronized_at": datetime(2025, 11, 25, 12, 0)}]
    assert rows("timesyncd", {TIMESYNC.id: document({**there, "/run/systemd/timesync/synchronized": None})}) == [
        {"synchronized": False, "synchronized_at": None}
    ]
    assert rows("timesyncd", {TIMESYNC.id: document(dict.fromkeys(there))}) == []
    for item in (document({**there, "/run/systemd/timesync/synchronized": DENIED}), status(Status.DENIED), ok("[]")):
        assert run(T["timesyncd"], {TIMESYNC.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize(("localtime", "timezone", "wanted"), [
    ({"type": "link", "link": "/usr/share/zoneinfo/Etc/UTC"}, ok("Etc/UTC\n"), ("Etc/UTC", "Etc/UTC")),
    ({"type": "link", "link": "../usr/share/zoneinfo/Europe/Berlin"}, ok("Etc/UTC\n"), ("Europe/Berlin", "Etc/UTC")),
    ({"type": "file", "link": None}, status(Status.ABSENT), (None, None)), (None, status(Status.ABSENT), ("UTC", None)),
    ({"type": "link", "link": "/opt/zones/x"}, status(Status.ABSENT), (None, None)),
])  # fmt: skip
def test_time_zone(localtime: Any, timezone: Item, wanted: tuple[Any, ...]) -> None:
    (row,) = rows("time_zone", {LOCALTIME.id: document({"/etc": {"type": "dir"}, "/etc/localtime": localtime}), ZONE.id: timezone})
    assert (row["zone"], row["named"]) == wanted


def test_time_zone_that_was_not_read() -> None:
    for item in (document({"/etc": {"type": "dir"}, "/etc/localtime": DENIED}), document({"/etc": None}), status(Status.DENIED)):
        assert run(T["time_zone"], {LOCALTIME.id: item, ZONE.id: ok("UTC\n")}).coverage is Coverage.NONE


def test_laws() -> None:
    more: Evidence = {TRACKING.id: ok(SYNCED), PEERS.id: ok(SELECTED * 3), SourceId("none"): ok("")}
    for evidence in (recorded(), recorded() | more):
        for table in TABLES:
            never_emptier(table, evidence)
            for source in table.sources:
                assert list(cut_short(table, evidence, source, step=19)) or not evidence[source.id].body


@given(anything(TABLES, ["/etc/chrony.conf", "/etc/ntp.conf", "processes", "pid", "comm", "/etc", "link", "gap"],
                [SYNCED.strip(), SELECTED.strip(), "server a", "include /etc/*", "[Time]", "NTP=a"]))  # fmt: skip
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name
