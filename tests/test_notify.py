# SPDX-License-Identifier: Apache-2.0
"""Notifications: to a real HTTP and a real mail server of our own on the loopback, and to none."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fleet_audit.model import FleetAuditError
from fleet_audit.notify import address
from fleet_audit.policy import NotifyFile

from .conftest import Cli
from .test_history import BAD, GOOD, Fleet

SECRET = "s3cr3t-token"


@pytest.fixture
def hook() -> Iterator[Any]:
    """A web hook: what was posted to it, and how it answers."""

    class Server(ThreadingHTTPServer):
        posts: ClassVar[list[Any]] = []
        answers: ClassVar[list[int]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            server.posts.append(json.loads(body))
            self.send_response(server.answers.pop(0) if server.answers else 200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def mail() -> Iterator[Any]:
    """A mail server that takes one message after the other (RFC 5321, as much as a client needs)."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        letters: ClassVar[list[str]] = []

    class Smtp(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 test\r\n")
            while line := self.rfile.readline():
                word = line.split()[0].upper() if line.split() else b""
                if word == b"DATA":
                    self.wfile.write(b"354 go\r\n")
                    lines = []
                    while (text := self.rfile.readline()) not in (b".\r\n", b""):
                        lines.append(text)
                    server.letters.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if word == b"QUIT" else b"250 ok\r\n")
                if word == b"QUIT":
                    return

    server = Server(("127.0.0.1", 0), Smtp)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def changed(tmp_path: Path, fleet_audit: Cli) -> Fleet:
    """A store with two runs: a failure is new, one is fixed, one is lost from sight, a host is lost."""
    fleet = Fleet(tmp_path, fleet_audit)
    (tmp_path / "fleet-audit.yaml").write_text(
        "notify:\n"
        "  - {name: hook, env: HOOK_ADDRESS, on: [new, fixed, lost-sight, host-lost, run-failed]}\n"
        "  - {name: quiet, env: HOOK_ADDRESS, on: [new], severity: critical}\n"
    )
    fleet.set(fixed=BAD, dark=BAD, new=GOOD, same=BAD)
    fleet.run("-q")
    fleet.set(fixed=GOOD, dark=None, new=BAD, same=BAD)
    fleet.run("-q")
    return fleet


def tell(fleet: Fleet, where: str, *more: str) -> Any:
    return fleet.cli("notify", "--store", str(fleet.store), *more, env={"HOOK_ADDRESS": where})


@pytest.mark.slow
def test_what_changed_is_told_once(changed: Fleet, hook: Any) -> None:
    where = f"json://{SECRET}@127.0.0.1:{hook.server_port}/x"
    done = tell(changed, where)
    assert done.returncode == 0, done.stderr
    (post,) = hook.posts
    assert post["title"] == "fleet-audit: 1 new, 1 fixed, 1 lost sight"
    assert "- high new os-is-good bad: id is bad" in post["message"] and "same" not in post["message"]
    assert "Fixed: 1" in post["message"] and "Lost from sight" in post["message"]
    again = tell(changed, where)
    assert "was told of it already" in again.stdout and len(hook.posts) == 1
    changed.run("-q")
    assert "nothing to tell" in tell(changed, where).stdout and len(hook.posts) == 1, "quiet when nothing changed"
    for path in changed.store.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_server_that_fails_is_asked_again_and_one_that_is_down_is_told(changed: Fleet, hook: Any) -> None:
    where = f"json://127.0.0.1:{hook.server_port}/"
    hook.answers = [500]
    assert tell(changed, where).returncode == 0 and len(hook.posts) == 2
    (changed.store / "notified.json").unlink()
    down = tell(changed, f"json://{SECRET}@127.0.0.1:1/")
    assert down.returncode == 3 and "could not be delivered, 3 times" in down.stderr and SECRET not in down.stderr
    assert tell(changed, where).returncode == 0, "what was not delivered is told the next time"
    (changed.store / "notified.json").unlink()
    assert tell(changed, "nonsense").returncode == 3


@pytest.mark.slow
def test_mail_and_a_run_that_failed(changed: Fleet, mail: Any) -> None:
    where = f"mailto://127.0.0.1:{mail.server_address[1]}?from=audit@example.org&to=ops@example.org&mode=insecure"
    done = tell(changed, where, "--failed", "the timer did not fire", "--policy", str(changed.folder / "fleet-audit.yaml"))
    assert done.returncode == 0, done.stderr
    (letter,) = mail.letters
    assert "the audit did not run" in letter and "the timer did not fire" in letter
    shown = tell(changed, where, "--dry-run")
    assert "1 new" in shown.stdout and len(mail.letters) == 1


def test_addresses_are_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "address"
    path.write_text(f"json://{SECRET}@example.org\n")
    path.chmod(0o644)
    with pytest.raises(FleetAuditError, match="may be read by others"):
        address(NotifyFile(name="x", file=str(path)))
    path.chmod(0o600)
    assert address(NotifyFile(name="x", file=str(path))) == f"json://{SECRET}@example.org"
    monkeypatch.delenv("NO_SUCH", raising=False)
    with pytest.raises(FleetAuditError, match="no NO_SUCH"):
        address(NotifyFile(name="x", env="NO_SUCH"))
    with pytest.raises(ValueError, match="either `env` or `file`"):
        NotifyFile(name="x")
