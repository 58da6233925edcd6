# SPDX-License-Identifier: Apache-2.0
"""What every transport does alike, against an sshd on loopback and this machine's own shell."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.model import Host, HostEvidence, HostName, Reach, Secret, SourceId, Status
from fleet_audit.probe import pack
from fleet_audit.transport import local
from fleet_audit.transport.dispatch import Dispatch
from tests.probe.helpers import command, processes_with, source, until
from tests.sshd import Sshd

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("sshd")]
SSH = ("paramiko", "openssh")
ALL = (*SSH, "local")
SOURCES = [
    source("passwd", "file", paths=["/etc/passwd"]), source("stat", "stat", globs=["/etc/ssh*"]), command("none", "no-such-tool"),
    command("fails", "false"), command("hi", "echo", secrets.token_hex(4)), command("zeros", "head", "-c", "300000", "/dev/zero"),
    command("bytes", "python3", "-c", "import sys;sys.stdout.buffer.write(bytes(range(256))*100)"),
]  # fmt: skip
BYTES = hashlib.sha256(bytes(range(256)) * 100).hexdigest()
program = pack.build(SOURCES)


class Desk:
    """Collects from one host at a time."""

    def __init__(self, sshd: Sshd, folder: Path) -> None:
        self.sshd, self.folder = sshd, folder
        self.dispatch = Dispatch()

    def host(self, key: str = "good", **changes: Any) -> Host:
        made = Host(
            HostName("node"), address="127.0.0.1", port=self.sshd.port, user=self.sshd.user,
            key_file=str(self.sshd.client_keys[key]), ssh_args=self.sshd.ssh_args(),
        )  # fmt: skip
        return replace(made, **changes)

    def collect(self, transport: str, host: Host | None = None, *, seconds: float = 60.0, sources: Any = None) -> HostEvidence:
        asked = pack.build(sources) if sources else program
        ids = [s.id for s in sources or SOURCES]
        collector = Collector(asked, ids, Objects(self.folder / "objects"), Limits(host_s=seconds), self.dispatch)
        return collector.host(host or self.host(), transport)

    def known(self, text: str) -> tuple[str, ...]:
        path = self.folder / f"known-{len(list(self.folder.iterdir()))}"
        path.write_text(text)
        return self.sshd.ssh_args(path)


@contextlib.contextmanager
def flaky(port: int, drop: int = 1) -> Iterator[int]:
    """A port that closes its first connections before a word, and hands all others on to `port`."""

    def pump(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def serve() -> None:
        taken = 0
        with contextlib.suppress(OSError):
            while True:
                caller, _ = listener.accept()
                taken += 1
                if taken <= drop:
                    caller.close()
                    continue
                real = socket.create_connection(("127.0.0.1", port))
                made.extend((caller, real))
                for pair in ((caller, real), (real, caller)):
                    threads.append(threading.Thread(target=pump, args=pair, daemon=True))
                    threads[-1].start()

    made: list[socket.socket] = []
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads.append(threading.Thread(target=serve, daemon=True))
        threads[0].start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for each in made:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join(5)
        for each in made:
            each.close()


@pytest.fixture
def desk(sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    made = Desk(sshd, tmp_path)
    yield made
    made.dispatch.close()


# --- A whole conversation ---------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ALL)
def test_whole_conversation_gives_each_source_and_bytes_as_they_are(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport)
    assert (evidence.reach, evidence.detail, evidence.transport) == (Reach.OK, "", transport)
    found = {str(r.source): r for r in evidence.records}
    assert {s: r.status for s, r in found.items()} == {s.id: Status.OK for s in SOURCES} | {"none": Status.ABSENT, "fails": Status.FAILED}
    assert found["bytes"].sha256 == BYTES and found["zeros"].size == 300_000 and found["fails"].exit == 1
    assert evidence.privileged is (os.geteuid() == 0)
    assert evidence.costs["wire_sent"] > 5000 and evidence.costs["wire_received"] > 1000 and evidence.costs["execs"] == 1


def test_all_transports_give_the_same_evidence(desk: Desk) -> None:
    told = [[replace(r, seconds=0.0, cpu_seconds=0.0) for r in desk.collect(t).records] for t in ALL]
    assert told[0] == told[1] == told[2]


@pytest.mark.parametrize("transport", SSH)
def test_one_connection_and_one_exec_for_a_host(desk: Desk, transport: str) -> None:
    before = desk.sshd.count("Connection from"), desk.sshd.count("Starting session")
    evidence = desk.collect(transport)
    assert (evidence.costs["connections"], evidence.costs["execs"]) == (1, 1)
    assert (desk.sshd.count("Connection from") - before[0], desk.sshd.count("Starting session") - before[1]) == (1, 1)


@pytest.mark.parametrize("transport", SSH)
def test_noise_on_both_streams_before_the_program_does_no_harm(desk: Desk, transport: str) -> None:
    assert desk.collect(transport, desk.host("noise")).reach is Reach.OK


@pytest.mark.parametrize("transport", ALL)
def test_reply_of_megabytes_comes_whole(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, sources=[command("random", "head", "-c", "3500000", "/dev/urandom")])
    assert evidence.reach is Reach.OK and evidence.records[0].size == 3_500_000 and evidence.seconds < 15


# --- Conversations that go wrong ---------------------------------------------------------------------


@pytest.mark.parametrize("transport", SSH)
def test_host_that_says_nothing_is_timeout_at_the_deadline(desk: Desk, transport: str) -> None:
    begin = time.monotonic()
    evidence = desk.collect(transport, desk.host("hang"), seconds=3.5)
    assert evidence.reach is Reach.TIMEOUT and evidence.detail and 3 < time.monotonic() - begin < 6
    assert {r.status for r in evidence.records} == {Status.UNREACHED}


@pytest.mark.parametrize("transport", ALL)
def test_source_that_does_not_end_is_timeout_before_the_host_is(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, seconds=7.2, sources=[command("slow", "sleep", "60", timeout_s=30.0), command("hi", "echo", "hi")])
    assert evidence.reach is Reach.OK and [r.status for r in evidence.records] == [Status.TIMEOUT, Status.OK]


@pytest.mark.parametrize("transport", SSH)
@pytest.mark.parametrize("key", ["cut", "lost"])
def test_reply_that_ends_midway_is_cut_short_and_keeps_the_whole_frames(desk: Desk, transport: str, key: str) -> None:
    sources = [command("a", "echo", "hi"), command("z", "head", "-c", "50000", "/dev/urandom", when_ok=SourceId("a"))]
    evidence = desk.collect(transport, desk.host(key), sources=sources)
    assert evidence.reach is Reach.CUT_SHORT and evidence.detail
    assert [r.status for r in evidence.records] == [Status.OK, Status.UNREACHED]


@pytest.mark.parametrize("transport", SSH)
@pytest.mark.parametrize(
    ("key", "reach", "words"),
    [
        ("forced", Reach.FORCED_COMMAND, "another program ran"),
        ("flood", Reach.OVER_LIMIT, "more than it may"),
        ("eater", Reach.STARTUP_NOISE, "reads standard input"),
        ("die", Reach.CUT_SHORT, ""),
    ],
)
def test_account_that_runs_something_else_has_its_own_word(desk: Desk, transport: str, key: str, reach: Reach, words: str) -> None:
    evidence = desk.collect(transport, desk.host(key), seconds=8.0)
    assert evidence.reach is reach and words in evidence.detail and evidence.detail, evidence.detail
    assert evidence.seconds < 7


@pytest.mark.parametrize("transport", SSH)
def test_wrong_key_is_auth_and_the_detail_names_user_and_key(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, desk.host("stranger"))
    assert evidence.reach is Reach.AUTH and evidence.costs["execs"] == 0
    assert desk.sshd.user in evidence.detail


@pytest.mark.parametrize("transport", SSH)
def test_wrong_user_is_auth(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, desk.host(user="no-such-user"))
    assert evidence.reach is Reach.AUTH and "no-such-user" in evidence.detail


@pytest.mark.parametrize("transport", SSH)
def test_key_file_that_is_not_there_is_auth(desk: Desk, transport: str) -> None:
    assert desk.collect(transport, desk.host(key_file=f"{desk.folder}/none")).reach is Reach.AUTH


@pytest.mark.parametrize("transport", SSH)
def test_unknown_host_key_is_refused_before_any_login(desk: Desk, transport: str) -> None:
    before = desk.sshd.count("Accepted publickey")
    evidence = desk.collect(transport, desk.host(ssh_args=desk.known("")))
    assert evidence.reach is Reach.HOST_KEY and "known" in evidence.detail and desk.sshd.count("Accepted publickey") == before
    if transport == "paramiko":
        assert "ssh-keyscan" in evidence.detail and "SHA256:" in evidence.detail


@pytest.mark.parametrize("transport", SSH)
def test_changed_host_key_is_refused_and_said_so(desk: Desk, transport: str) -> None:
    other = " ".join(desk.sshd.client_keys["stranger"].with_suffix(".pub").read_text().split()[:2])
    evidence = desk.collect(transport, desk.host(ssh_args=desk.known(f"[127.0.0.1]:{desk.sshd.port} {other}\n")))
    assert evidence.reach is Reach.HOST_KEY and "CHANGED" in evidence.detail, evidence.detail


def test_a_host_whose_key_changed_gets_no_password_even_where_keys_are_not_checked(desk: Desk) -> None:
    other = " ".join(desk.sshd.client_keys["stranger"].with_suffix(".pub").read_text().split()[:2])
    args = ("-o", "StrictHostKeyChecking=no", *desk.known(f"[127.0.0.1]:{desk.sshd.port} {other}\n"))
    evidence = desk.collect("paramiko", desk.host("stranger", ssh_args=args, password=Secret("x")))
    assert evidence.reach is Reach.AUTH and "has changed, so the password was not sent" in evidence.detail, evidence.detail
    assert desk.collect("paramiko", desk.host(ssh_args=args)).reach is Reach.OK, "a key opens it, as with ssh"
    unknown = desk.collect(
        "paramiko", desk.host("stranger", ssh_args=("-o", "StrictHostKeyChecking=no", *desk.known("")), password=Secret("x"))
    )
    assert unknown.reach is Reach.AUTH and "was not sent" not in unknown.detail


def test_a_jump_host_that_drops_one_connection_is_tried_again(desk: Desk) -> None:
    """A listener that closes its first connection before the banner, as sshd over MaxStartups does, and hands on the others."""
    with flaky(desk.sshd.port) as port:
        known = desk.folder / "both"
        known.write_text("".join(f"[127.0.0.1]:{p} {desk.sshd.public_key}\n" for p in (desk.sshd.port, port)))
        (desk.folder / "config").write_text(
            f"Host *\n  HostName 127.0.0.1\n  User {desk.sshd.user}\n  IdentityFile {desk.sshd.client_keys['good']}\n  UserKnownHostsFile {known}\n"
            f"Host bastion\n  Port {port}\nHost node\n  Port {desk.sshd.port}\n  ProxyJump bastion\n"
        )
        through = Host(HostName("n"), address="node", ssh_args=("-F", str(desk.folder / "config")))
        reached = [desk.collect("paramiko", replace(through, name=HostName(f"n{number}"))) for number in range(3)]
    assert [e.reach for e in reached][1:] == [Reach.OK, Reach.OK], [e.detail for e in reached]


@pytest.mark.parametrize("transport", SSH)
def test_revoked_host_key_is_refused_and_said_so(desk: Desk, transport: str) -> None:
    name = f"[127.0.0.1]:{desk.sshd.port}"
    evidence = desk.collect(
        transport, desk.host(ssh_args=desk.known(f"{name} {desk.sshd.public_key}\n@revoked * {desk.sshd.public_key}\n"))
    )
    assert evidence.reach is Reach.HOST_KEY and "revoked" in evidence.detail.lower(), evidence.detail


@pytest.mark.parametrize("transport", SSH)
def test_port_where_nothing_listens_is_refused(desk: Desk, transport: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        evidence = desk.collect(transport, desk.host(port=taken.getsockname()[1]))
    assert evidence.reach is Reach.REFUSED and str(taken) and evidence.detail and evidence.seconds < 3


@pytest.mark.parametrize("transport", SSH)
def test_name_that_does_not_resolve_is_unresolved(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, desk.host(address="no-such-host.invalid"))
    assert evidence.reach is Reach.UNRESOLVED and "no-such-host.invalid" in evidence.detail


@pytest.mark.parametrize("transport", SSH)
@pytest.mark.parametrize(
    ("greeting", "reach"), [(b"", Reach.BUSY), (b"Not allowed at this time\r\n", Reach.BUSY), (b"HTTP/1.1 400\r\n", Reach.BUSY)]
)
def test_server_that_closes_or_says_something_else_is_busy_and_tried_again(
    desk: Desk, transport: str, greeting: bytes, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_audit.collect.RETRY_AFTER_S", 0.02)
    with Greeter(greeting) as greeter:
        evidence = desk.collect(transport, desk.host(port=greeter.port), seconds=12.0)
    assert evidence.reach is reach and greeter.seen == 3, (evidence.detail, greeter.seen)


@pytest.mark.parametrize("transport", SSH)
def test_broken_ssh_option_is_said_in_sshs_own_words(desk: Desk, transport: str) -> None:
    evidence = desk.collect(transport, desk.host(ssh_args=("-F", "none", "-o", "NoSuchOption=1")))
    assert evidence.reach is Reach.UNRESOLVED and "nosuchoption" in evidence.detail.lower()


# --- What is left behind -----------------------------------------------------------------------------


def _sockets() -> int:
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += os.readlink(f"/proc/self/fd/{fd}").startswith("socket:")
        except OSError:
            continue
    return found


@pytest.mark.parametrize("transport", ALL)
@pytest.mark.parametrize("key", ["good", "stranger", "forced"])
def test_after_close_no_socket_no_thread_and_no_process_is_left(sshd: Sshd, tmp_path: Path, transport: str, key: str) -> None:
    before = _sockets(), set(threading.enumerate())
    one = Desk(sshd, tmp_path)
    one.collect(transport, one.host(key))
    one.dispatch.close()
    end = time.monotonic() + 3
    while time.monotonic() < end and (_sockets() > before[0] or set(threading.enumerate()) - before[1]):
        time.sleep(0.02)
    assert _sockets() <= before[0] and not {t for t in threading.enumerate() if t.is_alive()} - before[1]
    assert until(lambda: not processes_with(program.digest))


def test_lines_word_for_word_are_what_the_shell_gets(tmp_path: Path) -> None:
    class Quiet:
        finished = False
        said = b""

        def start(self) -> bytes:
            return b""

        def feed(self, chunk: bytes) -> bytes:
            self.said += chunk
            return b""

        def feed_error(self, chunk: bytes) -> bytes:
            return b""

    talk = Quiet()
    local.Local().carry(Host(HostName("x")), "sh -c 'printf %s \"$0 a b\"' 'x y'", talk, time.monotonic() + 5)
    assert talk.said == b"x y a b"


class Greeter:
    """A TCP server that says one thing and closes."""

    def __init__(self, greeting: bytes) -> None:
        self.greeting, self.seen = greeting, 0
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                self.seen += 1
                connection.settimeout(1)
                try:
                    connection.sendall(self.greeting)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(4096):
                        pass
                except OSError:
                    pass

    def __enter__(self) -> Greeter:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        self.thread.join(3)


def test_client_that_is_not_installed_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    evidence = desk.collect("openssh")
    assert evidence.reach is Reach.UNRESOLVED and "not installed" in evidence.detail
    assert subprocess.run(["/bin/true"], check=False).returncode == 0
