# SPDX-License-Identifier: Apache-2.0
"""The one line that starts the program, and the sudoers line that pins it."""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import pwd
import re
import shlex
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import Become, Secret
from fleet_audit.probe import loader, pack, wire
from tests.probe.helpers import command, payload

pytestmark = pytest.mark.slow

NONCE = "0011223344556677"
SHELLS = ("sh", "bash", "dash", "zsh", "fish", "tcsh", "ksh", "busybox sh", "rbash")
BECOMES = {
    "none": None,
    "sudo": Become(),
    "doas": Become(method="doas"),
    "password": Become(password=Secret("x")),
    "other user": Become(user="svc_audit-1.x"),
}
program = pack.build([command("hello", "echo", "hi")])
SENT = payload(program, ["hello"], NONCE, 10.0, 5.0, 1 << 20)


def run(argv: list[str], data: bytes, **more: Any) -> subprocess.CompletedProcess[bytes]:
    # stdin stays open until the end, as over SSH: its end would stop the probe
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more) as child:
        assert child.stdin and child.stdout and child.stderr
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(data)
            child.stdin.flush()
        out = child.stdout.read()
        err = child.stderr.read()
        child.wait(20)
        with contextlib.suppress(BrokenPipeError):
            child.stdin.close()
        return subprocess.CompletedProcess(argv, child.returncode, out, err)


@pytest.mark.parametrize("become", BECOMES.values(), ids=BECOMES)
def test_line_holds_nothing_that_a_login_shell_reads_in_its_own_way(become: Become | None) -> None:
    line = loader.line(program.digest, NONCE, become)
    inner = line.removeprefix("sh -c '").removesuffix("'")
    assert line == f"sh -c '{inner}'"
    assert not set(inner) & set("\n!'\\\r\0"), "one single-quoted word for every shell"
    assert line.isascii() and len(line) < 1500
    assert shlex.split(line) == ["sh", "-c", inner]
    assert subprocess.run(["sh", "-n", "-c", inner], capture_output=True, check=False).returncode == 0


def test_bootstrap_nests_in_double_quotes() -> None:
    assert not set(loader.BOOT) & set("\"'`$\\!\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_line_runs_the_program_under_every_login_shell(shell: str) -> None:
    argv = shell.split()
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed here")
    done = run([*argv, "-c", loader.line(program.digest, NONCE, None)], SENT)
    reply = wire.decode(done.stdout, NONCE)
    assert reply.end is not None and reply.frames["hello"].body == b"hi\n", done.stderr
    assert done.returncode == 0


def test_no_python_is_said_with_a_status_of_its_own(tmp_path: Path) -> None:
    line = loader.line(program.digest, NONCE, None).replace("/usr/bin/python3 /usr/libexec/platform-python python3", "/nonexistent/python3")
    done = run(["/bin/sh", "-c", line], SENT)
    assert done.returncode == 97 and done.stdout == f"{NONCE}-nopython\n".encode()


@pytest.mark.parametrize("where", ["program", "digest"])
def test_program_that_is_not_the_one_of_the_digest_exits_98_and_runs_nothing(where: str, tmp_path: Path) -> None:
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')".encode()
    packed = zlib.compress(evil)
    sent = b"%08d" % len(packed) + packed if where == "program" else SENT
    digest = program.digest if where == "program" else hashlib.sha256(b"other").hexdigest()
    done = run(["/bin/sh", "-c", loader.line(digest, NONCE, None)], sent)
    assert done.returncode == 98 and done.stdout == digest.encode() + b"\n"
    assert not (tmp_path / "ran").exists()


def test_program_cut_anywhere_never_runs() -> None:
    for cut in (0, 4, 8, 9, 2000, len(program.packed) - 1):
        with subprocess.Popen(
            ["/bin/sh", "-c", loader.line(program.digest, NONCE, None)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            out, _ = child.communicate(program.packed[:cut])
        assert child.returncode != 0 and NONCE.encode() not in out


def test_bomb_as_program_is_not_unpacked_without_limit() -> None:
    packed = zlib.compress(bytes(256 << 20), 9)
    done = run(["/bin/sh", "-c", "ulimit -v 200000; " + loader.line(program.digest, NONCE, None)], b"%08d" % len(packed) + packed)
    assert done.returncode == 98, done.stderr


def test_modules_in_the_current_folder_and_python_variables_are_not_used(tmp_path: Path) -> None:
    for name in ("zlib.py", "json.py", "hashlib.py", "sitecustomize.py"):
        (tmp_path / name).write_text("raise SystemExit(55)")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path), "PYTHONSTARTUP": str(tmp_path / "zlib.py"), "HOME": str(tmp_path)}
    done = run(["/bin/sh", "-c", loader.line(program.digest, NONCE, None)], SENT, cwd=tmp_path, env=env)
    assert wire.decode(done.stdout, NONCE).end is not None


def test_program_is_the_same_bytes_each_time_and_the_request_holds_no_code() -> None:
    again = pack.build([command("hello", "echo", "hi")])
    assert again.text == program.text and again.digest == hashlib.sha256(program.text).hexdigest()
    assert b"echo" not in pack.request(["hello"], NONCE, seconds=1, command_seconds=1, byte_budget=1)


# --- sudoers ---------------------------------------------------------------------------------------


def visudo(path: Path) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("visudo", path=os.environ["PATH"] + ":/usr/sbin")
    if binary is None:
        pytest.skip("sudo is not installed here")
    return subprocess.run([binary, "-cf", str(path)], capture_output=True, text=True, check=False)


def test_sudoers_line_passes_visudo(tmp_path: Path) -> None:
    path = tmp_path / "sudoers"
    path.write_text(loader.sudoers(program.digest, getpass.getuser()) + "\n")
    path.chmod(0o440)
    done = visudo(path)
    assert done.returncode == 0, done.stderr
    assert "\n" not in loader.sudoers(program.digest, "audit") and len(loader.sudoers(program.digest, "audit")) < 1000


@pytest.fixture
def pinned() -> str:
    """`nobody` may run this very program as root, and nothing else, by a real sudo on this machine."""
    if os.geteuid() != 0:
        pytest.skip("the sudoers line is not tried on a real sudo here: not root")
    if shutil.which("sudo") is None or shutil.which("setpriv") is None:
        pytest.skip("the sudoers line is not tried on a real sudo here: no sudo or setpriv")
    folder = Path("/etc/sudoers.d")
    if not folder.is_dir():
        pytest.skip("the sudoers line is not tried on a real sudo here: no /etc/sudoers.d")
    return loader.sudoers(program.digest, "nobody")


def as_nobody(pinned: str, line: str, data: bytes) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line as nobody, in a mount namespace whose sudoers.d is of our own: this machine's stays as it is."""
    user = pwd.getpwnam("nobody")
    inside = (
        "mount -t tmpfs -o mode=755 tmpfs /etc/sudoers.d && printf '%s\\n' \"$1\" > /etc/sudoers.d/fleet && chmod 440 /etc/sudoers.d/fleet && "
        f'exec setpriv --reuid {user.pw_uid} --regid {user.pw_gid} --clear-groups sh -c "$2"'
    )
    return run(["unshare", "--mount", "sh", "-c", inside, "sh", pinned, line], data)


def test_pinned_account_becomes_root_with_this_program(pinned: str) -> None:
    done = as_nobody(pinned, loader.line(program.digest, NONCE, Become()), SENT)
    reply = wire.decode(done.stdout, NONCE)
    assert reply.hello is not None and reply.hello["euid"] == 0, done.stderr
    assert reply.end is not None and b"-refused" not in done.stdout


def test_pinned_account_does_not_become_root_with_another_program(pinned: str) -> None:
    other = pack.build([command("hello", "echo", "other")])
    done = as_nobody(pinned, loader.line(other.digest, NONCE, Become()), payload(other, ["hello"], NONCE, 10.0, 5.0, 1 << 20))
    reply = wire.decode(done.stdout, NONCE)
    assert f"{NONCE}-refused".encode() in done.stdout and reply.hello is not None and reply.hello["euid"] == pwd.getpwnam("nobody").pw_uid
    evil = zlib.compress(b"import os;os.write(1,b'GOT %d'%os.geteuid())")
    done = as_nobody(pinned, loader.line(program.digest, NONCE, Become()), b"%08d" % len(evil) + evil)
    assert b"GOT" not in done.stdout and done.returncode == 98


PYTHON = "/usr/bin/python3"


@pytest.mark.parametrize("attempt", ["id", f"{PYTHON} -c pass", f"{PYTHON} -I -S -c pass DIGEST", f"{PYTHON} -I -S -c BOOT DIGEST more"])
def test_pinned_account_becomes_root_with_no_other_command(pinned: str, attempt: str) -> None:
    words = attempt.replace("DIGEST", program.digest).split()
    argv = [loader.BOOT if word == "BOOT" else word for word in words]
    done = as_nobody(pinned, f"sudo -n -- {shlex.join(argv)}", b"")
    assert done.returncode == 1 and re.search(rb"password is required|not allowed", done.stderr)
