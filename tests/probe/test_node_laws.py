# SPDX-License-Identifier: Apache-2.0
"""What holds for the program as a whole: readers that stall or die, old Pythons, nothing left behind."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from fleet_audit.model import Source
from fleet_audit.probe import loader, pack, wire
from tests.probe.helpers import Running, altered, ask, command, payload, processes_with, source, until

pytestmark = pytest.mark.slow

PYTHONS = ("3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14")
BEFORE_MAIN = "def main(stream):"


def sources() -> list[Source]:
    return [
        source("a", "stat", globs=["/etc/passwd"]), source("b", "file", paths=["/etc/passwd"], timeout_s=0.7),
        source("c", "stat", globs=["/etc/group"]), command("d", "echo", "hi"), source("e", "sockets"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("reader", "status", "words"),
    [
        ("lambda f, s: time.sleep(60)", "timeout", "no answer in time"),
        ("lambda f, s: os._exit(3)", "failed", "reader died"),
        ("lambda f, s: os.kill(os.getpid(), 11)", "failed", "reader died"),
        ("lambda f, s: 1 // 0", "failed", "ZeroDivisionError"),
        ("lambda f, s: bytes(1 << 46)", "failed", "memory"),
        ("lambda f, s: os.kill(os.getpid(), 19)", "timeout", "no answer in time"),
    ],
    ids=["sleeps", "exits", "crashes", "raises", "takes all memory", "is stopped"],
)
def test_reader_that_fails_costs_its_own_source_alone(reader: str, status: str, words: str) -> None:
    program = altered(pack.build(sources()), BEFORE_MAIN, f'READERS["file"] = {reader}\n\n\n{BEFORE_MAIN}')
    asked = ask(sources(), program=program)
    assert asked.status("b") == status and words in asked["b"].detail
    assert [asked.status(n) for n in "acde"] == ["ok"] * 4 and asked.reply.end is not None
    assert asked.wall < 5


def test_condition_that_stalls_settles_the_sources_behind_it_as_timeout() -> None:
    gated = [*sources(), command("f", "echo", when_exists="/stall", timeout_s=1.0), command("g", "echo", when_exists="/etc")]
    look = 'look_for(files, spec["path"])'
    program = altered(pack.build(gated), look, f'(time.sleep(60) if spec["path"] == "/stall" else None, {look})[1]')
    asked = ask(gated, program=program, command_seconds=1.0)
    assert asked.status("f") == "timeout" and asked.status("g") == "ok" and asked.status("a") == "ok"


def test_program_that_fails_itself_exits_95_and_gives_no_end() -> None:
    program = altered(pack.build(sources()), "probe.run(libc, wake)", "raise ValueError('broken')")
    asked = ask(sources(), program=program)
    assert asked.exit == 95 and asked.reply.hello is not None and asked.reply.end is None
    assert b"FA-BROKEN ValueError: broken" in bytes(asked.talk.reply)


@pytest.mark.parametrize("wrong", [b"00000005", b"0000000x", b"", b"99999999"], ids=["cut", "no number", "none", "too long"])
def test_request_that_is_not_whole_runs_nothing(wrong: bytes) -> None:
    program = pack.build(sources())
    done = subprocess.run(
        ["/usr/bin/python3", "-I", "-S", "-c", loader.BOOT, program.digest], input=program.packed + wrong, capture_output=True, check=False
    )
    assert done.returncode == 95 and b"FA1" not in done.stdout and b"FA-BROKEN" in done.stdout


def test_program_needs_no_syntax_newer_than_3_6_and_the_standard_library_alone() -> None:
    tree = ast.parse(pack.build(sources()).text, feature_version=(3, 6))
    imported = {alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names}
    imported |= {str(n.module) for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    newer = {keyword.arg for n in ast.walk(tree) if isinstance(n, ast.Call) for keyword in n.keywords} & {
        "strict",
        "capture_output",
        "missing_ok",
    }
    assert newer == set(), "arguments that came after 3.6"
    assert imported <= set(
        "binascii ctypes errno fcntl fnmatch functools gc hashlib json os re resource select signal socket stat struct sys time types zlib".split()
    )


def _python(version: str) -> str | None:
    for path in sorted(Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob(f"versions/{version}.*/bin/python")):
        return str(path)
    return shutil.which(f"python{version}")


@pytest.mark.parametrize("version", PYTHONS)
def test_program_gives_the_same_evidence_under_each_python(version: str) -> None:
    python = _python(version)
    if python is None:
        pytest.skip(f"the mirror lacks python{version}, and it is not here otherwise")
    asked = [
        source("passwd", "file", paths=["/etc/passwd"]), source("etc", "stat", globs=["/etc/ssh*", "/etc/passwd"]),
        source("block", "attrs", globs=["/sys/class/net/*"], names=["type"], links=["subsystem"]),
        source("dpkg", "stanzas", globs=["/var/lib/dpkg/status"], fields=["Package", "Version"]), source("ports", "sockets"),
        command("no", "no-such-tool"), command("bad", "false"), command("hi", "echo", "hi"), command("slow", "sleep", "9", timeout_s=0.3),
    ]  # fmt: skip
    reply = Running(asked, python=python).finish()
    assert reply.end is not None and reply.hello is not None and reply.hello["python"].startswith(version)
    here = ask(asked).reply
    for name in ("passwd", "etc", "block", "dpkg", "no", "bad", "hi", "slow"):
        ours, theirs = here.frames[name], reply.frames[name]
        assert (ours.status, ours.detail, ours.exit, ours.body) == (theirs.status, theirs.detail, theirs.exit, theirs.body)


def test_probe_writes_no_file_and_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    ours = pack.build([*sources(), command("own", "echo", str(tmp_path))])  # no other test runs the same program
    asked = ask(sources(), program=ours)
    assert asked.exit == 0 and list(tmp_path.iterdir()) == []
    assert until(lambda: not processes_with(ours.digest))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="a read-only root is not tried here: not root")
def test_probe_runs_where_nothing_can_be_written_and_the_limits_are_tight() -> None:
    program = pack.build(sources())
    line = loader.line(program.digest, "0" * 16, None)
    script = f"mount --make-rprivate / && mount -o remount,bind,ro / && ulimit -S -c 0 && ulimit -H -c 0 && ulimit -n 64 && {line}"
    with subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin and child.stdout
        child.stdin.write(payload(program, [s.id for s in sources()], "0" * 16, 10.0, 5.0, 1 << 20))
        child.stdin.flush()
        reply = wire.decode(child.stdout.read(), "0" * 16)
    assert reply.end is not None and any("clamped" in note for note in reply.end["notes"])
    assert {f.status for f in reply.frames.values()} == {"ok"}
