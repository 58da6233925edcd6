# SPDX-License-Identifier: Apache-2.0
"""Collects evidence from all hosts, concurrently, with deadlines and retries. Knows nothing of what bytes mean."""

from __future__ import annotations

import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

from fleet_audit.evidence import Objects
from fleet_audit.model import Become, DataFolder, Host, HostEvidence, HostName, Reach, Record, Secret, SourceId, Status
from fleet_audit.probe import loader, pack, wire
from fleet_audit.probe.dialogue import Dialogue
from fleet_audit.probe.password import PasswordGate
from fleet_audit.transport.dispatch import Dispatch
from fleet_audit.transport.interface import Carried

RETRIES = 2
RETRY_AFTER_S = 0.7
_EMPTY = zlib.compress(b"")


@dataclass(frozen=True)
class Limits:
    """What one host, and all together, may take."""

    host_s: float = 60.0
    command_s: float = 10.0
    wire_bytes: int = 16 << 20
    host_bytes: int = 32 << 20
    source_bytes: int = 4 << 20
    all_bytes: int = 1 << 30
    """Replies under way at once, of all hosts."""


class _Budget:
    """Bytes of replies under way."""

    def __init__(self, size: int) -> None:
        self._left, self._lock = size, threading.Lock()

    def reserve(self, size: int) -> bool:
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def release(self, size: int) -> None:
        with self._lock:
            self._left += size


class Collector:
    """Carries the program to hosts and keeps what comes back."""

    def __init__(
        self, program: pack.Program, sources: Sequence[SourceId], objects: Objects, limits: Limits, dispatch: Dispatch,
        data: Mapping[HostName, Sequence[DataFolder]] = {},
    ) -> None:  # fmt: skip
        self.program, self.sources, self.objects, self.data = program, tuple(sources), objects, data
        self.limits, self.dispatch = limits, dispatch
        self._budget = _Budget(limits.all_bytes)
        self._gates: dict[Secret, PasswordGate] = {}
        self._lock = threading.Lock()
        self.stop = threading.Event()

    def collect(self, hosts: Iterable[Host], concurrency: int, done: Callable[[HostEvidence], None],
                begun: Callable[[Host], None] = lambda host: None) -> None:  # fmt: skip
        """Collect from all hosts; `done` is called for each as it ends, from several threads."""
        free = threading.BoundedSemaphore(concurrency)
        failures: list[BaseException] = []

        def work(host: Host, transport: str) -> None:
            begun(host)
            done(self.host(host, transport))

        def ended(future: Future[None]) -> None:
            free.release()
            if not future.cancelled() and (error := future.exception()) is not None:
                failures.append(error)

        pool = ThreadPoolExecutor(concurrency, thread_name_prefix="host")
        try:
            for host, transport in self.dispatch.arrivals(hosts, ahead=concurrency):
                while not free.acquire(timeout=0.2):
                    pass  # so that an interrupt is seen
                if failures or self.stop.is_set():
                    break
                pool.submit(work, host, transport).add_done_callback(ended)
            pool.shutdown(wait=True)
        except BaseException:  # an interrupt does not wait for the hosts that are under way
            self.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        if failures:
            raise failures[0]

    def host(self, host: Host, transport: str) -> HostEvidence:
        """All evidence of one host. Trouble with it is in the value, never raised."""
        started, begin = time.time(), time.monotonic()
        deadline = begin + self.limits.host_s
        connections = execs = 0
        for attempt in range(RETRIES + 1):
            evidence, carried = self._once(host, transport, deadline)
            connections, execs = connections + carried.connections, execs + carried.execs
            pause = RETRY_AFTER_S * (attempt + 1) + secrets.randbelow(300) / 1000
            if not carried.transient or attempt == RETRIES or self.stop.is_set() or time.monotonic() + pause > deadline - 2:
                break
            time.sleep(pause)
        costs = {**evidence.costs, "connections": connections, "execs": execs}
        return replace(evidence, started_at=started, seconds=round(time.monotonic() - begin, 3), costs=costs)

    def _once(self, host: Host, transport: str, deadline: float) -> tuple[HostEvidence, Carried]:
        become = host.become if transport != "archive" else None
        talk, carried, nonce = self._carry(host, transport, become, deadline)
        talk.close()
        size = len(talk.reply)
        try:
            reply = wire.decode(bytes(talk.reply), nonce, cap=self.limits.host_bytes, cap_source=self.limits.source_bytes)
            return self._evidence(host, transport, become, talk, carried, reply), carried
        finally:
            self._budget.release(size)

    def _gate(self, become: Become | None) -> PasswordGate | None:
        """The gate that a password goes through, one for all hosts."""
        if become is None or become.password is None:
            return None
        with self._lock:
            return self._gates.setdefault(become.password, PasswordGate())

    def _carry(self, host: Host, transport: str, become: Become | None, deadline: float) -> tuple[Dialogue, Carried, str]:
        nonce = secrets.token_hex(8)
        seconds = max(3.0, deadline - time.monotonic() - 4.0)
        request = pack.request(
            self.sources, nonce, seconds=round(seconds, 1), command_seconds=self.limits.command_s, byte_budget=self.limits.host_bytes,
            data=self.data.get(host.name, ()),
        )  # fmt: skip
        talk = Dialogue(
            nonce=nonce, digest=self.program.digest, payload=self.program.packed + request, nvml=self.program.packed_nvml,
            become=become, cap=self.limits.wire_bytes, reserve=self._budget.reserve, gate=self._gate(become),
        )  # fmt: skip
        try:
            line = loader.line(self.program.digest, nonce, become)
        except ValueError as error:
            return talk, Carried(Reach.UNRESOLVED, f"become user: {error}"), nonce
        try:
            return talk, self.dispatch.carry(transport, host, line, talk, deadline), nonce
        except Exception as error:  # a transport's own fault on one host must not stop the others
            return talk, Carried(Reach.CUT_SHORT, f"fleet-audit itself failed on this host: {type(error).__name__}: {error}"[:500]), nonce

    def _evidence(
        self, host: Host, transport: str, become: Become | None, talk: Dialogue, carried: Carried, reply: wire.Reply
    ) -> HostEvidence:
        reach, detail = outcome(talk, carried, reply, become)
        if talk.withheld and reach is Reach.BECOME_REFUSED:
            detail = "the become password was refused on another host and is not sent again; " + detail
        records, notes = [], list(reply.notes)
        for source in self.sources:
            frame = reply.frames.get(source)
            if frame is None:
                records.append(Record(source, Status.UNREACHED, f"{reach}: nothing came"))
                continue
            status = Status(frame.status)
            sha256 = None
            if frame.body or status is Status.OK:
                sha256 = self.objects.put(frame.body, frame.packed if frame.body else _EMPTY)
            records.append(Record(source, status, frame.detail, frame.exit, sha256, len(frame.body), frame.seconds, frame.cpu))
        if extra := sorted(set(reply.frames) - set(self.sources)):
            notes.append(f"{len(extra)} sources that were not asked for were dropped")
        notes += reply.end["notes"] if reply.end else []
        costs: dict[str, float] = dict(reply.end["costs"]) if reply.end else {}
        costs |= {"wire_sent": carried.sent, "wire_received": carried.received}
        privileged = reply.hello.get("euid") == 0 if reply.hello is not None and transport != "archive" else None
        return HostEvidence(host.name, reach, detail, tuple(records), privileged, transport, costs, tuple(notes))


def outcome(talk: Dialogue, carried: Carried, reply: wire.Reply, become: Become | None) -> tuple[Reach, str]:
    """What became of a host, in our word and a sentence."""
    said = f": {talk.said[:300]}" if talk.said else ""
    if reply.hello is None:
        return _no_start(talk, carried, said)
    if reply.end is None:
        if talk.over_limit:
            return Reach.OVER_LIMIT, "the reply was larger than it may be and was cut off"
        if carried.reach is Reach.TIMEOUT:
            return Reach.TIMEOUT, "the reply was not whole in time"
        return Reach.CUT_SHORT, carried.detail or "the reply ended before its end mark"
    if reply.over_limit:
        return Reach.OVER_LIMIT, "a source was larger than it may be when unpacked"
    if talk.refused or (become and reply.hello.get("euid") != 0):
        if "must have a tty" in talk.said:
            return Reach.REQUIRES_TTY, f"sudo wants a terminal there (requiretty); it was read without root{said}"
        return Reach.BECOME_REFUSED, f"becoming {become.user if become else 'root'} was refused; it was read without root{said}"
    return Reach.OK, ""


def _no_start(talk: Dialogue, carried: Carried, said: str) -> tuple[Reach, str]:
    """Why the probe did not run."""
    if carried.reach is not Reach.OK:
        if carried.reach is Reach.TIMEOUT and talk.ready:
            return Reach.TIMEOUT, "the program was started and said nothing in time"
        return carried.reach, carried.detail
    if talk.no_python:
        return Reach.NO_PYTHON, "no Python 3 was found: install python3, or platform-python"
    if talk.over_limit:
        return Reach.OVER_LIMIT, "it sent more than it may before the probe began"
    lowered = talk.said.lower()
    if "brokenpipeerror" in lowered:
        return Reach.CUT_SHORT, "what it says was cut off before the probe could begin"
    if talk.ready and ("traceback" in lowered or talk.refused or carried.exit == 98):
        return Reach.STARTUP_NOISE, "the program was cut or altered on its way: a start-up file there reads standard input"
    if talk.ready:
        return Reach.CUT_SHORT, f"the program was started, and nothing came from it{said}"
    if "not available" in lowered or "nologin" in lowered:
        return Reach.LOGIN_REFUSED, f"the account may not log in{said}"
    if carried.exit is None and carried.detail:
        return Reach.CUT_SHORT, carried.detail
    if "shell" in lowered or "start-up" in lowered or carried.exit in (126, 127):
        return Reach.STARTUP_NOISE, f"the login shell did not run the command (exit {carried.exit}){said}"
    return Reach.FORCED_COMMAND, f"another program ran instead of the probe (exit {carried.exit}){said}"
