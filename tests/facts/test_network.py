# SPDX-License-Identifier: Apache-2.0
"""Sockets: addresses of /proc/net, their scope, and who holds them."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import network, tables
from fleet_audit.facts.network import address_of, scope
from fleet_audit.model import Coverage, Status

from .helpers import ok, rows_as_dicts, run, shared, status


@pytest.mark.parametrize(
    ("text", "address", "port", "reach"),
    [
        ("0100007F:0016", "127.0.0.1", 22, "loopback"), ("00000000:1F90", "0.0.0.0", 8080, "all"), ("3500007F:0035", "127.0.0.53", 53, "loopback"),
        ("00000000000000000000000000000000:0016", "::", 22, "all"), ("00000000000000000000000001000000:0016", "::1", 22, "loopback"),
        ("0000000000000000FFFF00000101A8C0:0050", "192.168.1.1", 80, "private"), ("0101A8C0:0050", "192.168.1.1", 80, "private"),
        ("08080808:01BB", "8.8.8.8", 443, "public"), ("000080FE000000000000000001000000:0222", "fe80::1", 546, "link-local"),
    ],
)  # fmt: skip
def test_addresses_and_scopes(text: str, address: str, port: int, reach: str) -> None:
    assert address_of(text) == (address, port)
    assert scope(address) == reach


def _document(*sockets: dict[str, object], unread: object = None, gap: str = "") -> str:
    return json.dumps({"sockets": list(sockets), "unread": unread or {}, "owners_gap": gap})


def _socket(local: str = "00000000:0016", owners: Sequence[object] = (), kind: str = "tcp") -> dict[str, object]:
    return {"kind": kind, "local": local, "uid": "0", "owners": list(owners)}


def test_one_row_for_each_socket_and_one_for_each_owner() -> None:
    owners = [
        {"pid": 1, "comm": "sshd", "exe": "/usr/sbin/sshd"},
        {"pid": 9, "comm": "sshd", "exe": "/usr/sbin/sshd"},
        {"pid": 2, "comm": "x", "exe": None},
    ]
    given = {network.SOCKETS.id: ok(_document(_socket(owners=owners), _socket("0100007F:0019")))}
    sockets = rows_as_dicts(tables()["sockets"], run(tables()["sockets"], given))
    assert [(s["proto"], s["address"], s["port"], s["scope"]) for s in sockets] == [
        ("tcp", "0.0.0.0", 22, "all"),
        ("tcp", "127.0.0.1", 25, "loopback"),
    ]
    held = rows_as_dicts(tables()["socket_owners"], run(tables()["socket_owners"], given))
    assert [(h["port"], h["process"], h["kernel"]) for h in held] == [(22, "sshd", False), (22, "x", False), (25, None, True)]


def test_a_holder_that_may_not_be_seen_is_not_the_kernel() -> None:
    given = {network.SOCKETS.id: ok(_document(_socket(owners=[{"pid": 9, "comm": None, "exe": None}])))}
    (held,) = rows_as_dicts(tables()["socket_owners"], run(tables()["socket_owners"], given))
    assert (held["kernel"], held["process"], held["program"]) == (False, None, None)


def test_owners_that_could_not_be_seen_make_only_the_owners_partial() -> None:
    given = {network.SOCKETS.id: ok(_document(_socket(), gap="descriptors of 3 processes not readable"))}
    assert run(tables()["sockets"], given).coverage is Coverage.COMPLETE
    owners = run(tables()["socket_owners"], given)
    assert (owners.coverage, owners.rows) == (Coverage.PARTIAL, ())


@pytest.mark.parametrize(
    ("kind", "state", "coverage"),
    [("tcp6", "absent", Coverage.COMPLETE), ("tcp6", "denied", Coverage.PARTIAL), ("tcp", "absent", Coverage.PARTIAL)],
)
def test_ipv6_that_is_off_is_no_gap(kind: str, state: str, coverage: Coverage) -> None:
    given = {network.SOCKETS.id: ok(_document(_socket(), unread={kind: {"status": state, "detail": ""}}))}
    assert run(tables()["sockets"], given).coverage is coverage


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"sockets": 3, "unread": {}}', _document({"kind": "tcp", "local": "zz:1"}), _document(_socket())[:-9]]
)
def test_what_is_not_understood_is_none(text: str) -> None:
    assert run(tables()["sockets"], {network.SOCKETS.id: ok(text)}).coverage is Coverage.NONE


def test_denied_is_none() -> None:
    assert run(tables()["sockets"], {network.SOCKETS.id: status(Status.DENIED)}).coverage is Coverage.NONE


@given(st.binary())
def test_no_bytes_raise(body: bytes) -> None:
    for name in ("sockets", "socket_owners"):
        assert run(tables()[name], {network.SOCKETS.id: ok(body)}).coverage in Coverage


def test_a_real_proc_net_tcp_yields_its_listeners() -> None:
    """Real capture: listeners 127.0.0.53:53, 127.0.0.1:35303, 127.0.0.1:631, 0.0.0.0:22."""
    lines = shared("captures/proc-net-tcp.txt").read_text().splitlines()[1:]
    listening = sorted(address_of(line.split()[1]) for line in lines if line.split()[3] == "0A")
    assert listening == [("0.0.0.0", 22), ("127.0.0.1", 631), ("127.0.0.1", 35303), ("127.0.0.53", 53)]
