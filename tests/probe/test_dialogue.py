# SPDX-License-Identifier: Apache-2.0
"""The controller's side of the conversation, with a node played by hand."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import Become, Host, HostName, Reach, Secret
from fleet_audit.probe import loader, pack, wire
from fleet_audit.probe.dialogue import PREAMBLE_CAP, Dialogue
from fleet_audit.transport import local
from tests.probe.helpers import command

NONCE = "a1b2c3d4e5f60718"
DIGEST = "d" * 64
PASSWORD = 'S3cret of ops\'s \\ $x "q"'
READY = DIGEST.encode() + b"\n"
PROMPT = NONCE.encode() + b"-prompt"
REFUSED = NONCE.encode() + b"-refused\n"
MARKER = b"\nFA1 " + NONCE.encode() + b" {}\n"
FINAL = b"\nZ" + NONCE.encode() + b"\n"
SENT = b"p" + PASSWORD.encode() + b"\n"


def talk(become: Become | None = None, *, cap: int = 1 << 20, nvml: bytes = b"NVML", reserve: Any = None) -> Dialogue:
    more = {"reserve": reserve} if reserve else {}
    return Dialogue(nonce=NONCE, digest=DIGEST, payload=b"PAYLOAD", nvml=nvml, become=become, cap=cap, **more)


def with_password() -> Dialogue:
    return talk(Become(password=Secret(PASSWORD)))


def in_pieces(one: Dialogue, data: bytes) -> bytes:
    """What is sent when every byte comes by itself."""
    return b"".join(one.feed(data[n : n + 1]) for n in range(len(data)))


def test_without_become_the_payload_goes_at_once_and_the_end_mark_finishes() -> None:
    one = talk()
    assert one.start() == b"PAYLOAD"
    assert in_pieces(one, b"motd\n" + READY + MARKER + b"reply" + FINAL) == b""
    assert one.finished and one.ready == 1 and bytes(one.reply) == MARKER + b"reply" + FINAL
    assert one.said == "motd"


def test_sudo_without_password_refused_says_so_and_goes_on_without_root() -> None:
    one = talk(Become())
    assert one.start() == b"PAYLOAD"
    assert in_pieces(one, b"sudo: a password is required\n" + REFUSED + READY + MARKER + FINAL) == b""
    assert one.refused and one.finished and one.ready == 1 and not one.password_sent


def test_password_goes_to_the_prompt_and_the_payload_to_the_ready_line() -> None:
    one = with_password()
    assert one.start() == b""
    assert in_pieces(one, b"lecture\n" + PROMPT) == SENT
    assert in_pieces(one, READY) == b"go\nPAYLOAD"
    assert in_pieces(one, MARKER + FINAL) == b"" and one.finished and not one.refused


def test_second_prompt_means_a_wrong_password_which_is_not_sent_again() -> None:
    one = with_password()
    assert one.feed(PROMPT) == SENT
    assert one.feed(b"\nSorry, try again.\n" + PROMPT) == b"no\n"
    assert one.feed(PROMPT + PROMPT) == b""
    assert one.feed(REFUSED) == b"" and one.refused
    assert one.feed(READY) == b"PAYLOAD", "the loop that feeds sudo has ended: no go"
    assert one.feed(MARKER + FINAL) == b"" and one.finished


@pytest.mark.parametrize("between", ["", "\x00", "\x1b", "\r"])
def test_a_password_that_a_node_echoes_is_in_no_diagnosis(between: str) -> None:
    one = with_password()
    one.feed(PROMPT)
    one.feed(f"\npam_echo: got {between.join(PASSWORD)} from tty\n".encode() + REFUSED)
    assert PASSWORD not in one.said and "pam_echo: got <password> from tty" in one.said


def test_refusal_without_any_prompt_ends_the_loop_and_sends_no_password() -> None:
    one = with_password()
    assert one.feed(b"sudo: you must have a tty\n" + REFUSED) == b"no\n"
    assert one.feed(READY) == b"PAYLOAD" and not one.password_sent and one.refused


def test_nopasswd_with_a_password_given_never_sends_it() -> None:
    one = with_password()
    assert one.feed(READY) == b"go\nPAYLOAD"
    assert not one.password_sent
    one.feed(MARKER)
    assert one.feed(PROMPT) == b"", "a prompt within the reply is data"


def test_prompt_and_ready_line_in_one_chunk_are_answered_in_their_order() -> None:
    one = with_password()
    assert one.feed(PROMPT + READY) == SENT + b"go\nPAYLOAD"


def test_prompt_on_standard_error_is_answered_and_cut_anywhere() -> None:
    one = with_password()
    data = b"[sudo] " + PROMPT
    assert b"".join(one.feed_error(data[n : n + 1]) for n in range(len(data))) == SENT
    assert one.feed_error(b"Sorry, try again.\n" + PROMPT) == b"no\n"


def test_nothing_is_a_prompt_without_our_nonce() -> None:
    one = with_password()
    assert one.feed(b"[sudo] password for ops: \nPassword:\n" + b"f" * 16 + b"-prompt") == b""
    assert one.feed_error(b"Password: ") == b"" and not one.password_sent


def test_without_a_password_no_prompt_is_answered() -> None:
    assert talk(Become()).feed(PROMPT + PROMPT) == b""


def test_ready_line_that_is_faked_first_gets_the_payload_once_and_never_a_password() -> None:
    one = with_password()
    assert one.feed(READY * 5) == b"go\nPAYLOAD"
    assert one.feed(b"x\n") == b"" and one.ready == 5 and not one.password_sent


def test_refusal_after_the_ready_line_is_the_programs_own_end() -> None:
    one = talk(Become())
    one.start()
    assert one.feed(READY + b"ValueError: invalid literal\n" + REFUSED) == b""
    assert one.finished and not one.refused


def test_no_python_finishes() -> None:
    one = talk()
    one.feed(b"noise\n" + NONCE.encode() + b"-nopython\n")
    assert one.no_python and one.finished


def test_noise_without_end_before_the_marker_is_over_the_limit() -> None:
    one = talk()
    for _ in range(2 + PREAMBLE_CAP // 2000):
        one.feed(b"y\n" * 1000)
    assert one.over_limit and one.finished and len(one.preamble) < 2 * PREAMBLE_CAP


def test_noise_without_end_on_standard_error_is_not_kept() -> None:
    one = talk()
    for _ in range(100):
        one.feed_error(b"y" * 4096)
    assert len(one.errors) <= PREAMBLE_CAP and not one.finished


def test_reply_over_its_cap_is_cut_off_there() -> None:
    one = talk(cap=10_000)
    one.feed(MARKER)
    for _ in range(30):
        one.feed(b"x" * 1000)
    assert one.over_limit and one.finished and len(one.reply) <= 10_000


def test_reply_that_the_budget_of_all_hosts_does_not_take_is_cut_off() -> None:
    left = [5000]

    def reserve(size: int) -> bool:
        left[0] -= size
        return left[0] >= 0

    one = talk(reserve=reserve)
    one.feed(MARKER)
    for _ in range(30):
        if not one.finished:
            one.feed(b"x" * 1000)
    assert one.over_limit and len(one.reply) <= 5000


def test_nvml_part_goes_once_when_it_is_asked_for_and_never_else() -> None:
    wants = b"\nW" + NONCE.encode() + b" nvml\n"
    one = talk()
    one.start()
    assert in_pieces(one, MARKER + b"frames" + wants) == b"NVML"
    assert one.feed(wants + wants) == b""
    other = talk()
    assert other.feed(wants) == b"" and other.feed(MARKER) == b""


def test_end_mark_cut_anywhere_is_seen() -> None:
    for cut in range(1, len(FINAL)):
        one = talk()
        one.feed(MARKER + b"frames" + FINAL[:cut])
        assert not one.finished
        one.feed(FINAL[cut:])
        assert one.finished


def test_what_was_said_holds_neither_password_nor_digest_nor_nonce() -> None:
    one = with_password()
    one.feed(b"hello\n" + PROMPT + b"\n" + READY)
    one.feed_error(b"world " + PROMPT)
    for word in (PASSWORD, DIGEST, NONCE):
        assert word not in one.said
    assert "hello" in one.said and "world" in one.said


# --- The same with the real line, a real shell, and a sudo of our own ------------------------------

SUDO = r"""#!/bin/sh
# Plays sudo: `-n` is refused or not, `-S` reads one line as the password, at most three times.
echo "$@" >> "$FAKE/argv"
mode=$(cat "$FAKE/mode")
if [ "$1" = -n ]; then
  [ "$mode" = nopasswd ] || { echo "sudo: a password is required" >&2; exit 1; }
  shift; [ "$1" = -u ] && shift 2; [ "$1" = -- ] && shift
  exec "$@"
fi
prompt=$3; shift 5; [ "$1" = -- ] && shift
if [ "$mode" != nopasswd ]; then
  [ "$mode" = tty ] && { echo "sudo: sorry, you must have a tty to run sudo" >&2; exit 1; }
  for try in 1 2 3; do
    printf %s "$prompt" >&2
    IFS= read -r given || { echo "sudo: no password was provided" >&2; exit 1; }
    printf '%s\n' "$given" >> "$FAKE/given"
    [ "$given" = "$(cat "$FAKE/password")" ] && exec "$@"
    echo "Sorry, try again." >&2
  done
  exit 1
fi
exec "$@"
"""


class Fake:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "sudo").write_text(SUDO)
        (folder / "sudo").chmod(0o755)
        (folder / "password").write_text(PASSWORD)

    def carry(self, mode: str, become: Become | None, cap_s: float = 15.0) -> tuple[Dialogue, wire.Reply, Reach, float]:
        (self.folder / "mode").write_text(mode)
        program = pack.build([command("hello", "echo", "hi")])
        sent = program.packed + pack.request(["hello"], NONCE, seconds=10, command_seconds=5, byte_budget=1 << 20)
        one = Dialogue(nonce=NONCE, digest=program.digest, payload=sent, nvml=b"", become=become, cap=1 << 20)
        begin = time.monotonic()
        carried = local.Local().carry(Host(HostName("x")), loader.line(program.digest, NONCE, become), one, begin + cap_s)
        return one, wire.decode(bytes(one.reply), NONCE), carried.reach, time.monotonic() - begin

    def read(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setenv("FAKE", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Fake(tmp_path)


@pytest.mark.parametrize(
    ("mode", "password", "refused", "given"),
    [
        ("nopasswd", None, False, []),
        ("asks", None, True, []),
        ("asks", PASSWORD, False, [PASSWORD]),
        ("asks", "wrong one", True, ["wrong one"]),
        ("nopasswd", PASSWORD, False, []),
        ("tty", PASSWORD, True, []),
        ("tty", None, True, []),
    ],
    ids=["nopasswd", "asks, none given", "right", "wrong", "nopasswd, one given", "requiretty, one given", "requiretty"],
)
def test_whole_conversation_with_a_shell_and_sudo(fake: Fake, mode: str, password: str | None, refused: bool, given: list[str]) -> None:
    become = Become(password=Secret(password) if password else None)
    one, reply, reach, wall = fake.carry(mode, become)
    assert reach is Reach.OK and reply.end is not None and reply.frames["hello"].body == b"hi\n", one.said
    assert one.refused is refused
    assert fake.read("given") == given, "one attempt at most, and nothing of the payload"
    assert not any(password and password in line for line in fake.read("argv")) and len(fake.read("argv")) == 1
    assert wall < 5


def test_program_of_another_digest_under_sudo_runs_nowhere(fake: Fake) -> None:
    (fake.folder / "mode").write_text("nopasswd")
    program = pack.build([command("hello", "echo", "hi")])
    sent = program.packed.replace(program.packed[8:], b"") + b"x" * int(program.packed[:8])
    one = Dialogue(nonce=NONCE, digest=program.digest, payload=sent, nvml=b"", become=Become(), cap=1 << 20)
    line = loader.line(program.digest, NONCE, Become())
    local.Local().carry(Host(HostName("x")), line, one, time.monotonic() + 10)
    assert not one.reply and one.finished is True and not one.refused and "zlib" in one.said


def test_become_user_that_is_no_user_name_is_refused() -> None:
    for user in ("root;id", "$(id)", "", "a b", "-u", "x" * 65):
        with pytest.raises(ValueError, match="not a user name"):
            loader.line(DIGEST, NONCE, Become(user=user))


def test_secret_never_shows_in_the_dialogue() -> None:
    one = with_password()
    assert PASSWORD not in repr(one) + repr(vars(one))
    assert subprocess.run([sys.executable, "-c", ""], check=False).returncode == 0
