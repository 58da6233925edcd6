# SPDX-License-Identifier: Apache-2.0
"""Opening many connections at once: dead hosts cost one timeout in all, and busy is not dead."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack

import pytest

from fleet_audit.model import Host, HostName, Reach
from fleet_audit.transport import doors
from fleet_audit.transport.doors import Door, open_doors

BANNER = b"SSH-2.0-Test\r\n"
Target = tuple[Host, str, int]


class Servers:
    """TCP servers on loopback that greet in a way of their own, all served by one thread."""

    def __init__(self) -> None:
        self.stack = ExitStack()
        self.accepted: dict[int, int] = {}
        self._open = True
        self._greetings: dict[int, bytes | None] = {}
        self._servers: list[socket.socket] = []
        self._kept: list[socket.socket] = []
        self.thread = threading.Thread(target=self._serve)

    def add(self, greeting: bytes | None) -> int:
        """A server's port; None accepts and says nothing."""
        server = socket.create_server(("127.0.0.1", 0), backlog=128)
        server.setblocking(False)
        port: int = server.getsockname()[1]
        self._greetings[port] = greeting
        self._servers.append(server)
        return port

    def swallow(self) -> int:
        """A port whose backlog is full, so that connecting hangs as with a host that drops packets."""
        server = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.stack.callback(server.close)
        port: int = server.getsockname()[1]
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            self.stack.callback(filler.close)
        time.sleep(0.05)
        return port

    def _serve(self) -> None:
        while self._open:
            for server in list(self._servers):
                try:
                    connection, _ = server.accept()
                except OSError:
                    continue
                port = server.getsockname()[1]
                self.accepted[port] = self.accepted.get(port, 0) + 1
                greeting = self._greetings[port]
                if greeting is not None:
                    connection.sendall(greeting)
                if greeting == b"":
                    connection.close()
                else:
                    self._kept.append(connection)
            time.sleep(0.005)

    def close(self) -> None:
        self._open = False
        self.thread.join(5)
        for each in (*self._kept, *self._servers):
            each.close()
        self.stack.close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    made = Servers()
    made.thread.start()
    yield made
    made.close()


def dead_port() -> tuple[socket.socket, int]:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return taken, taken.getsockname()[1]


def target(name: object, port: int, address: str = "127.0.0.1") -> Target:
    return Host(HostName(str(name))), address, port


def all_of(targets: list[Target], *, ahead: int = 1000, timeout: float = 1.0) -> dict[str, Door]:
    found: dict[str, Door] = {}
    for door in open_doors(targets, ahead=ahead, timeout=timeout):
        if door.socket is not None:
            door.socket.close()
        found[door.host.name] = door
    return found


def test_each_kind_of_server_has_its_own_word_and_words_that_name_it(servers: Servers) -> None:
    taken, dead = dead_port()
    targets = [
        target("good", servers.add(BANNER)), target("silent", servers.add(None)), target("closes", servers.add(b"")),
        target("busy", servers.add(b"Not allowed at this time\r\n")), target("web", servers.add(b"HTTP/1.1 400\r\n")),
        target("dead", dead), target("swallows", servers.swallow()), target("nameless", 22, "no-such-host.invalid"),
    ]  # fmt: skip
    with taken:
        found = all_of(targets)
    assert {n: d.reach for n, d in found.items()} == {
        "good": Reach.OK, "silent": Reach.TIMEOUT, "closes": Reach.BUSY, "busy": Reach.BUSY, "web": Reach.BUSY,
        "dead": Reach.REFUSED, "swallows": Reach.TIMEOUT, "nameless": Reach.UNRESOLVED,
    }  # fmt: skip
    assert "Not allowed at this time" in found["busy"].detail and "no SSH banner" in found["silent"].detail
    assert "did not answer" in found["swallows"].detail and str(dead) in found["dead"].detail
    assert "no-such-host.invalid" in found["nameless"].detail


def test_banner_is_left_in_the_socket_for_the_handshake(servers: Servers) -> None:
    (door,) = open_doors([target("a", servers.add(BANNER))], ahead=1, timeout=2.0)
    assert door.socket is not None
    with door.socket as opened:
        assert opened.recv(100) == BANNER and opened.gettimeout() is None
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_many_dead_hosts_cost_one_timeout_in_all(servers: Servers) -> None:
    silent, swallowing, (taken, dead) = servers.add(None), servers.swallow(), dead_port()
    good = servers.add(BANNER)
    targets = [target(f"silent{n}", silent) for n in range(60)] + [target(f"swallow{n}", swallowing) for n in range(60)]
    targets += [target(f"dead{n}", dead, f"127.0.{n}.9") for n in range(60)] + [target(f"good{n}", good) for n in range(20)]
    begin, cpu = time.monotonic(), resource.getrusage(resource.RUSAGE_THREAD).ru_utime
    with taken:
        found = all_of(targets, timeout=1.5)
    spent = time.monotonic() - begin
    assert len(found) == 200 and spent < 3.0, spent
    assert [sum(d.reach is r for d in found.values()) for r in (Reach.TIMEOUT, Reach.REFUSED, Reach.OK)] == [120, 60, 20]
    assert resource.getrusage(resource.RUSAGE_THREAD).ru_utime - cpu < 1.5


def test_live_hosts_come_before_dead_ones_that_were_asked_first(servers: Servers) -> None:
    targets = [target("silent", servers.add(None)), target("slow", servers.swallow()), *(target(n, servers.add(BANNER)) for n in range(5))]
    order = list(all_of(targets))
    assert set(order[:5]) == set("01234") and set(order[5:]) == {"silent", "slow"}


def test_more_hosts_than_may_be_under_way_all_come(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doors, "PENDING_CAP", 8)
    good = servers.add(BANNER)
    assert len(all_of([target(n, good) for n in range(100)], timeout=5.0)) == 100


def test_no_more_is_opened_ahead_than_was_asked_for(servers: Servers) -> None:
    good = servers.add(BANNER)
    walk = open_doors([target(n, good) for n in range(60)], ahead=4, timeout=10.0)
    first = next(walk)
    time.sleep(0.5)
    assert servers.accepted[good] <= 9, "each open connection counts against the server's MaxStartups"
    left = [first, *walk]
    for door in left:
        assert door.socket is not None
        door.socket.close()
    assert len(left) == 60


def test_walk_that_is_given_up_leaves_no_thread(servers: Servers) -> None:
    before = set(threading.enumerate())
    walk = open_doors([target(n, servers.add(BANNER)) for n in range(3)], ahead=1, timeout=2.0)
    door = next(walk)
    assert isinstance(walk, Generator)
    walk.close()
    assert door.socket is not None
    door.socket.close()
    assert not set(threading.enumerate()) - before


def test_next_address_of_a_name_is_tried(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    good, (taken, dead) = servers.add(BANNER), dead_port()
    addresses = [(socket.AF_INET6, ("::1", dead, 0, 0)), (socket.AF_INET, ("127.0.0.1", dead)), (socket.AF_INET, ("127.0.0.1", good))]
    monkeypatch.setattr(doors, "_resolve", lambda name, port: addresses)
    with taken:
        assert all_of([target("a", 22)])["a"].reach is Reach.OK


def test_as_many_descriptors_as_doors_and_none_left(servers: Servers) -> None:
    good, before = servers.add(BANNER), len(os.listdir("/proc/self/fd"))
    for door in open_doors([target(n, good) for n in range(30)], ahead=5, timeout=5.0):
        assert door.socket is not None
        door.socket.close()
    time.sleep(0.1)
    assert len(os.listdir("/proc/self/fd")) <= before + 35  # the servers' own ends
