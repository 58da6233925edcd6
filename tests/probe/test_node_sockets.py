# SPDX-License-Identifier: Apache-2.0
"""The reader of sockets, by the real program among real sockets of the test's own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts.network import address_of
from tests.probe.helpers import Running, ask, source

pytestmark = pytest.mark.slow


def answer(**args: Any) -> Any:
    asked = ask([source("it", "sockets", **args)])
    assert asked.status("it") == "ok", asked["it"].detail
    return asked.rows("it")


def of_port(document: Any, port: int) -> list[dict[str, Any]]:
    return [row for row in document["sockets"] if address_of(row["local"])[1] == port]


def test_a_listener_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        document = answer()
        (row,) = of_port(document, server.getsockname()[1])
    assert (row["kind"], address_of(row["local"])[0], row["uid"]) == ("tcp", "127.0.0.1", str(os.getuid()))
    comm = Path("/proc/self/comm").read_text().rstrip("\n")
    assert row["owners"] == [{"pid": os.getpid(), "comm": comm, "exe": os.path.realpath("/proc/self/exe")}]
    assert "inode" not in row and document["unread"] == {}


def test_a_socket_that_connects_or_is_connected_is_no_listener() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        with accepted:
            document = answer()
        assert of_port(document, client.getsockname()[1]) == []
        assert len(of_port(document, server.getsockname()[1])) == 1, "not the accepted one"


def test_datagrams_count_unless_connected() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as anyone, socket.socket(type=socket.SOCK_DGRAM) as one:
        anyone.bind(("0.0.0.0", 0))
        one.bind(("127.0.0.1", 0))
        one.connect(("127.0.0.1", 9))
        document, port, other = answer(), anyone.getsockname()[1], one.getsockname()[1]
    assert of_port(document, other) == []
    (row,) = of_port(document, port)
    assert (row["kind"], address_of(row["local"])[0]) == ("udp", "0.0.0.0")


def test_version_six() -> None:
    if not Path("/proc/net/tcp6").exists():
        pytest.skip("this kernel has no IPv6")
    try:
        server = socket.create_server(("::", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no address of IPv6 here")
    with server:
        (row,) = of_port(answer(), server.getsockname()[1])
    assert (row["kind"], address_of(row["local"])[0]) == ("tcp6", "::")


def test_a_socket_that_two_processes_hold() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"], pass_fds=[server.fileno()])
        try:
            (row,) = of_port(answer(), server.getsockname()[1])
        finally:
            child.kill()
            child.wait()
    assert {owner["pid"] for owner in row["owners"]} == {os.getpid(), child.pid}


LISTEN = "import socket, sys; s = socket.create_server(('0.0.0.0', 4321)); print('up', flush=True); sys.stdin.read()"


def test_sockets_of_another_network_namespace_are_told_apart() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a network namespace is not made here: not root")
    with subprocess.Popen(
        ["unshare", "--net", sys.executable, "-I", "-S", "-c", LISTEN],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        try:
            assert child.stdout
            if child.stdout.readline() != b"up\n":
                pytest.skip("this kernel gives no network namespace here")
            space = os.readlink(f"/proc/{child.pid}/ns/net")[5:-1]
            inner, outer = answer(namespaces=True), answer()
        finally:
            child.kill()
    (row,) = [row for row in of_port(inner, 4321) if row["namespace"] == space]
    assert space in inner["namespaces"] and [owner["pid"] for owner in row["owners"]] == [child.pid]
    assert row["pid"] == child.pid and all("namespace" not in row for row in outer["sockets"])
    assert all(owner["pid"] != child.pid for row in of_port(outer, 4321) for owner in row["owners"])


def test_without_rights_owners_are_a_gap() -> None:
    if os.geteuid() != 0:
        pytest.skip("what another account may not see is not tried here: not root")

    def become() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    with socket.create_server(("127.0.0.1", 0)) as server:
        frame = Running([source("it", "sockets")], preexec=become, python="/usr/bin/python3").finish().frames["it"]
        port = server.getsockname()[1]
    document = json.loads(frame.body)
    (row,) = of_port(document, port)
    assert row["owners"] == [] and "not readable" in document["owners_gap"]


def test_many_sockets_are_all_there() -> None:
    made = [socket.create_server(("127.0.0.1", 0)) for _ in range(300)]
    try:
        document = answer()
    finally:
        ports = {server.getsockname()[1] for server in made}
        for server in made:
            server.close()
    found = {address_of(row["local"])[1] for row in document["sockets"] if any(owner["pid"] == os.getpid() for owner in row["owners"])}
    assert ports <= found
