# SPDX-License-Identifier: Apache-2.0
"""Opens TCP connections ahead of the workers, without a thread each, and peeks at their banners.

So hosts that swallow packets cost one timeout in all, and a server that is busy (it closes, or says
something that is no SSH banner) is told from one that is dead.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from fleet_audit.model import Host, Reach

PENDING_CAP = 256
"""Connections that may be under way at once."""
YOUNG_S = 0.3
"""A connection under way for longer is taken for one that will not come, and no longer counts as one that may wait."""


@dataclass
class Door:
    """A connection to a host's SSH server: open with its banner waiting, or why not."""

    host: Host
    name: str
    port: int
    socket: socket.socket | None = None
    reach: Reach = Reach.OK
    detail: str = ""
    _addresses: deque[tuple[int, Any]] = field(default_factory=deque)
    _deadline: float = 0.0
    _since: float = field(default_factory=time.monotonic)

    def failed(self, reach: Reach, detail: str) -> Door:
        """The door as one that did not open."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
        self.reach, self.detail = reach, detail
        return self


_WORDS = {
    errno.ECONNREFUSED: (Reach.REFUSED, "nothing listens there: is sshd running, and is the port right?"),
    errno.EHOSTUNREACH: (Reach.NO_ROUTE, "no route to it"),
    errno.ENETUNREACH: (Reach.NO_ROUTE, "no route to its network"),
    errno.ETIMEDOUT: (Reach.TIMEOUT, "the connection timed out"),
    errno.ECONNRESET: (Reach.BUSY, "the connection was reset before the SSH banner"),
}


def open_doors(hosts: Iterable[tuple[Host, str, int]], *, ahead: int, timeout: float) -> Iterator[Door]:
    """Doors of hosts (with name and port to connect to), each as soon as it is known.

    About `ahead` open ones wait to be taken: each counts against its server's MaxStartups and LoginGraceTime.
    `timeout` seconds are for connecting and banner together.
    """
    todo, ready = iter(hosts), deque[Door]()
    resolving: dict[Future[list[Any]], Door] = {}
    more = True
    with selectors.DefaultSelector() as selector, ThreadPoolExecutor(8, thread_name_prefix="resolve") as pool:

        def room() -> int:
            """How many may be begun now."""
            under_way: list[Door] = [*resolving.values(), *(key.data for key in selector.get_map().values())]
            young = time.monotonic() - YOUNG_S
            return min(PENDING_CAP - len(under_way), ahead - len(ready) - sum(door._since > young for door in under_way))

        try:
            while True:
                for _ in range(room() if more else 0):
                    item = next(todo, None)
                    if item is None:
                        more = False
                        break
                    door = Door(*item)
                    resolving[pool.submit(_resolve, door.name, door.port)] = door
                for future in [f for f in resolving if f.done()]:
                    door = resolving.pop(future)
                    _resolved(door, future, selector, ready, timeout)
                if ready:
                    yield ready.popleft()
                    continue
                if not (more or resolving or selector.get_map()):
                    return
                _advance(selector, ready, 0.01 if resolving else 0.1)
        finally:
            for door in (*ready, *(key.data for key in selector.get_map().values())):
                door.failed(Reach.TIMEOUT, "given up")


def _resolve(name: str, port: int) -> list[Any]:
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return [(entry[0], entry[4]) for entry in found]


def _resolved(door: Door, future: Future[list[Any]], selector: selectors.BaseSelector, ready: deque[Door], timeout: float) -> None:
    try:
        door._addresses = deque(future.result())
    except (OSError, UnicodeError) as error:
        ready.append(door.failed(Reach.UNRESOLVED, f"{door.name}: {getattr(error, 'strerror', None) or error}"))
        return
    door._deadline = time.monotonic() + timeout
    _knock(door, selector, ready)


def _knock(door: Door, selector: selectors.BaseSelector, ready: deque[Door], why: tuple[Reach, str] | None = None) -> None:
    """Start connecting to the door's next address; the last failure is what the door says."""
    while door._addresses:
        family, address = door._addresses.popleft()
        try:
            door.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        except OSError as error:
            why = (Reach.NO_ROUTE, error.strerror or str(error))
            continue
        code = door.socket.connect_ex(address)
        if code in (0, errno.EINPROGRESS):
            selector.register(door.socket, selectors.EVENT_WRITE, door)
            return
        door.socket.close()
        door.socket = None
        why = _WORDS.get(code, (Reach.NO_ROUTE, os.strerror(code)))
    reach, detail = why or (Reach.UNRESOLVED, "the name has no address")
    ready.append(door.failed(reach, f"{door.name} port {door.port}: {detail}"))


def _advance(selector: selectors.BaseSelector, ready: deque[Door], wait: float) -> None:
    """Let connections and banners come in for a moment, and give up what is too late."""
    if selector.get_map():
        for key, _ in selector.select(wait):
            _event(key.data, selector, ready)
    else:
        time.sleep(wait)
    now = time.monotonic()
    for key in list(selector.get_map().values()):
        door: Door = key.data
        if now > door._deadline:
            selector.unregister(key.fileobj)
            words = "sent no SSH banner in time" if key.events == selectors.EVENT_READ else "did not answer in time"
            ready.append(door.failed(Reach.TIMEOUT, f"{door.name} port {door.port} {words}"))


def _event(door: Door, selector: selectors.BaseSelector, ready: deque[Door]) -> None:
    sock = door.socket
    assert sock is not None
    finish: Callable[[Door], None] = ready.append
    if selector.get_key(sock).events == selectors.EVENT_WRITE:
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        selector.unregister(sock)
        if code:
            sock.close()
            door.socket = None
            _knock(door, selector, ready, _WORDS.get(code, (Reach.NO_ROUTE, os.strerror(code))))
            return
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ, door)
        return
    selector.unregister(sock)
    try:
        head = sock.recv(64, socket.MSG_PEEK)
    except OSError as error:
        finish(door.failed(*_WORDS.get(error.errno or 0, (Reach.BUSY, str(error)))))
        return
    if head.startswith(b"SSH-"):
        sock.setblocking(True)
        finish(door)
    else:
        said = ascii(head.split(b"\n")[0].decode("ascii", "backslashreplace")) if head else "nothing, and closed"
        finish(door.failed(Reach.BUSY, f"{door.name} port {door.port} said {said}: too many connections there, or no SSH server"))
