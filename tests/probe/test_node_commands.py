# SPDX-License-Identifier: Apache-2.0
"""Commands, conditions and budgets, by the real program on this machine."""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import termios
import time
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.model import Host, HostName, SourceId
from fleet_audit.probe import pack
from fleet_audit.probe.wire import Frame
from fleet_audit.transport.dispatch import Dispatch
from tests.probe.helpers import Running, altered, ask, command, processes_with, shell, source, until

pytestmark = pytest.mark.slow


def one(script: str, **args: Any) -> Frame:
    return ask([shell("it", script, **args)])["it"]


# --- How a command ends -----------------------------------------------------------------------------


def test_command_that_is_not_there_is_absent() -> None:
    found = ask([command("it", "no-such-tool", "-x")])["it"]
    assert (found.status, found.exit, found.body) == ("absent", None, b"") and found.detail.startswith("no-such-tool: ")


def test_command_that_may_be_in_a_folder_that_is_not_looked_at_is_not_absent() -> None:
    asked = [command("it", "no-such-tool"), command("echo", "echo", "hi")]
    program = altered(pack.build(asked), "{} if ARCHIVE else network_mounts()", '{"/usr/local/bin": "nfs4"}')
    reply = ask(asked, program=program)
    assert (reply["it"].status, reply["echo"].body) == ("failed", b"hi\n")
    assert reply["it"].detail == "no-such-tool: /usr/local/bin was not looked at: network file system (nfs4)"


def test_command_that_may_not_be_run_is_denied(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(0o644)
    assert ask([command("it", f"{tmp_path}/tool")])["it"].status == "denied"


def test_command_that_is_no_program_is_failed(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("no shebang, no ELF")
    (tmp_path / "tool").chmod(0o755)
    assert ask([command("it", f"{tmp_path}/tool")])["it"].status == "failed"


@pytest.mark.parametrize("code", [0, 1, 3, 127, 255])
def test_exit_status_other_than_zero_is_failed_with_output_and_the_head_of_stderr(code: int) -> None:
    found = one(f"echo out; echo reason >&2; exit {code}")
    assert (found.status, found.exit, found.body) == ("ok" if code == 0 else "failed", code, b"out\n")
    assert found.detail == ("" if code == 0 else f"exit {code}: reason")


def test_exit_statuses_that_the_source_names_are_ok() -> None:
    assert one("exit 3", ok_exits=[0, 3]).status == "ok" and one("exit 3", ok_exits=[0, 3]).exit == 3
    assert one("exit 0", ok_exits=[3]).status == "failed"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_command_killed_by_a_signal_is_failed_and_has_no_exit_status(number: signal.Signals) -> None:
    found = one(f"echo out; kill -{number} $$")
    assert (found.status, found.exit) == ("failed", None) and f"signal {int(number)}" in found.detail


def test_command_that_does_not_end_is_timeout_with_what_it_said() -> None:
    begin = time.monotonic()
    found = one("echo out; sleep 60", timeout_s=0.5)
    assert (found.status, found.exit, found.body) == ("timeout", None, b"out\n") and time.monotonic() - begin < 4


def test_command_that_ignores_signals_is_killed() -> None:
    word = "fleet-" + secrets.token_hex(6)
    assert one(f"trap '' TERM INT HUP; while :; do sleep 1; done; : {word}", timeout_s=0.5).status == "timeout"
    assert not processes_with(word)


# --- What a command may not do -----------------------------------------------------------------------


def test_command_that_writes_a_file_is_killed_and_the_file_stays_empty(tmp_path: Path) -> None:
    found = ask([command("it", "dd", "if=/dev/zero", f"of={tmp_path}/written", "bs=1", "count=10")])["it"]
    assert found.status == "failed" and f"signal {int(signal.SIGXFSZ)}" in found.detail
    assert (tmp_path / "written").stat().st_size == 0


def test_flood_is_truncated_and_ended_early() -> None:
    begin = time.monotonic()
    found = ask([command("it", "yes", cap_bytes=100_000)])["it"]
    assert (found.status, len(found.body)) == ("truncated", 100_000) and time.monotonic() - begin < 4


def test_flood_on_stderr_is_dropped() -> None:
    found = one("yes >&2 & sleep 0.3; echo out; kill $!", timeout_s=5.0)
    assert found.status == "ok" and found.body == b"out\n"


def test_background_child_that_holds_the_pipe_is_not_waited_for_and_is_gone() -> None:
    word = "fleet-" + secrets.token_hex(6)
    found = one(f"echo out; sh -c 'sleep 60; : {word}' & exit 0", timeout_s=8.0)
    assert (found.status, found.body) == ("ok", b"out\n") and found.seconds < 3
    assert until(lambda: not processes_with(word))


def test_grandchild_in_a_session_of_its_own_is_gone_afterwards() -> None:
    word = "fleet-" + secrets.token_hex(6)
    found = one(f"echo out; setsid sh -c 'sleep 60; : {word}' >/dev/null 2>&1 & exit 0", timeout_s=8.0)
    assert found.status == "ok"
    assert until(lambda: not processes_with(word), 3)


def test_command_has_no_input_no_terminal_and_a_fixed_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_LOGIN", "x")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("LD_PRELOAD", "")
    assert one("cat; echo end").body == b"end\n"
    assert one("tty; readlink /proc/self/fd/0").body == b"not a tty\n/dev/null\n"
    lines = dict(line.split("=", 1) for line in ask([command("it", "env")])["it"].body.decode().splitlines())
    assert lines["LC_ALL"] == "C" and lines["PATH"].startswith("/usr/sbin:/usr/bin") and lines["HOME"] == "/nonexistent"
    assert not {"SECRET_OF_THE_LOGIN", "LD_PRELOAD", "USER", "SSH_CONNECTION"} & set(lines)
    assert one("pwd").body == b"/\n"


def test_command_gets_none_of_the_probes_descriptors() -> None:
    listed = one("ls -l /proc/self/fd").body.decode()
    assert "socket" not in listed and len([line for line in listed.splitlines() if "->" in line]) <= 4


def test_command_runs_with_least_priority_and_limits() -> None:
    asked = ask([command("it", "cat", "/proc/self/stat"), command("limits", "cat", "/proc/self/limits"), shell("mask", "umask")])
    assert asked["it"].body.rpartition(b")")[2].split()[16] == b"19"
    limits = asked["limits"].body.decode()
    assert "Max file size             0" in limits and "Max open files            512" in limits
    assert asked["mask"].body == b"0077\n"


def test_commands_and_reader_take_the_least_share_among_sessions_too() -> None:
    found = ask(
        [command("io", "ionice"), command("tool", "cat", "/proc/self/autogroup"), source("reader", "file", paths=["/proc/self/autogroup"])]
    )
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel has no autogroups")
    for name in ("tool", "reader"):
        assert found[name].body.strip().endswith(b"nice 19"), found[name].body
    assert found.status("io") == "absent" or found["io"].body == b"idle\n"


def test_command_has_no_terminal_where_the_probe_has_one_as_under_use_pty() -> None:
    master, slave = os.openpty()

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    running = Running([shell("it", "echo x > /dev/tty; tty; cat /proc/self/autogroup")], preexec=take_terminal)
    found = running.finish().frames["it"]
    os.close(slave)
    os.close(master)
    assert b"not a tty" in found.body and b"nice 0" not in found.body


# --- grep and keep ----------------------------------------------------------------------------------


def test_grep_gives_the_first_line_and_those_with_a_word() -> None:
    assert one("seq 1 30", grep=["2", "["]).body == b"1\n2\n12\n20\n21\n22\n23\n24\n25\n26\n27\n28\n29"


def test_keep_gives_lines_by_their_beginning() -> None:
    assert one("printf 'a 1\\nb 2\\na 3\\n'", keep=["a "]).body == b"a 1\na 3\n"


def test_grep_reads_far_more_than_the_cap() -> None:
    found = one("seq 1 200000", grep=["99999"], cap_bytes=1000)
    assert found.status == "ok" and found.body == b"1\n99999\n199999"


def test_recorded_output_that_was_cut_before_it_was_reduced_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "node/files").mkdir(parents=True)
    (tmp_path / "node/commands").mkdir()
    (tmp_path / "node/node.toml").write_text('name = "n"\nprovenance = "synthetic, for this test"\n')
    (tmp_path / "node/commands/tool").write_text("token = hf_" + "A1b2" * 300 + "\nlast\n")
    tool = command("it", "tool", redact=True, cap_bytes=1000)
    objects = Objects(tmp_path / "objects")
    node = Host(HostName("n"), address=str(tmp_path / "node"), connection="archive")
    (record,) = Collector(pack.build([tool]), [tool.id], objects, Limits(), Dispatch()).host(node, "archive").records
    assert record.status == "truncated" and record.sha256 is not None and b"A1b2" not in objects.get(record.sha256)


# --- when and otherwise -----------------------------------------------------------------------------


def test_source_whose_path_is_not_there_is_skipped(tmp_path: Path) -> None:
    asked = ask([command("no", "echo", "x", when_exists=f"{tmp_path}/no"), command("yes", "echo", "x", when_exists=str(tmp_path))])
    assert asked.status("no") == "skipped" and asked.status("yes") == "ok"


def test_link_that_leads_nowhere_is_no_path_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("nowhere")
    (tmp_path / "b").symlink_to(".")
    names = {"a": "skipped", "b": "ok", "?": "ok", "[ac]": "skipped"}
    asked = ask([command(str(n), "echo", when_exists=f"{tmp_path}/{name}") for n, name in enumerate(names)])
    assert [asked.status(str(n)) for n in range(4)] == list(names.values())


def test_condition_that_cannot_be_looked_at_is_not_skipped(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    asked = ask([command("it", "echo", when_exists=f"{tmp_path}/loop/x")])
    assert asked.status("it") == "failed"


def test_source_that_follows_another_is_read_only_if_that_is_ok() -> None:
    asked = ask([
        command("good", "true"), command("bad", "false"), command("a", "echo", when_ok=SourceId("good")),
        command("b", "echo", when_ok=SourceId("bad")), command("c", "echo", when_ok=SourceId("b")),
    ])  # fmt: skip
    assert [asked.status(n) for n in "abc"] == ["ok", "skipped", "skipped"]


def test_fallback_is_read_only_if_the_first_is_not_ok(tmp_path: Path) -> None:
    asked = ask([
        command("good", "true", otherwise=SourceId("g2")), command("g2", "echo"),
        command("bad", "false", otherwise=SourceId("b2")), command("b2", "echo", "x"),
        command("not", "true", when_exists=f"{tmp_path}/no", otherwise=SourceId("n2")), command("n2", "echo"),
    ])  # fmt: skip
    assert [asked.status(n) for n in ("good", "g2", "bad", "b2", "not", "n2")] == ["ok", "skipped", "failed", "ok", "skipped", "ok"]


def test_source_whose_condition_was_not_asked_for_is_skipped_and_a_fallback_alone_is_read() -> None:
    first = command("first", "true", otherwise=SourceId("second"))
    asked = ask([first, command("second", "echo"), command("x", "echo", when_ok=SourceId("first"))], ["second", "x"])
    assert asked.status("second") == "ok" and asked.status("x") == "skipped" and "first" not in asked.reply.frames


def test_source_that_the_program_does_not_know_is_failed_and_the_others_come() -> None:
    asked = ask([command("it", "echo", "hi")], ["it", "newer", "../../etc"])
    assert asked.status("it") == "ok" and asked.status("newer") == asked.status("../../etc") == "failed"
    assert asked.reply.end is not None


# --- Budgets ----------------------------------------------------------------------------------------


def test_sources_after_the_cpu_budget_is_spent_are_timeout() -> None:
    burn = "i=0; while [ $i -lt 400000 ]; do i=$((i+1)); done"
    asked = ask([shell(f"s{n:02}", burn) for n in range(12)], cpu=0.4)
    statuses = [asked.status(f"s{n:02}") for n in range(12)]
    assert statuses[0] == "ok" and statuses[-1] == "timeout" and "CPU budget" in asked["s11"].detail
    assert asked.reply.end is not None


def test_command_that_burns_cpu_is_killed_at_what_is_left_of_the_budget() -> None:
    found = ask([shell("it", "while :; do :; done")], seconds=25, cpu=1.0)["it"]
    assert found.status == "failed" and found.seconds < 8, found.detail


def test_whole_time_budget_ends_the_probe_with_what_it_has() -> None:
    asked = ask([shell("a", "echo out"), *(shell(f"s{n}", "sleep 30") for n in range(5))], seconds=1.5)
    assert asked.wall < 4 and asked.status("a") == "ok" and asked.reply.end is not None
    assert {asked.status(f"s{n}") for n in range(5)} == {"timeout"}


def test_byte_budget_of_the_host_truncates_what_no_longer_fits() -> None:
    asked = ask([command(f"s{n}", "head", "-c", "1000", "/dev/zero") for n in range(4)], byte_budget=2500)
    assert sorted(asked.status(f"s{n}") for n in range(4)) == ["ok", "ok", "truncated", "truncated"]


def test_at_most_two_commands_run_at_once() -> None:
    asked = ask([shell(f"s{n}", "date +%s.%N; sleep 0.15; date +%s.%N") for n in range(6)])
    spans = [tuple(map(float, asked[f"s{n}"].body.split())) for n in range(6)]
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == 2


# --- The ends of things -----------------------------------------------------------------------------


def test_probe_and_its_commands_end_within_a_second_of_the_controller() -> None:
    word = "fleet-" + secrets.token_hex(6)
    running = Running([shell("it", f"sleep 60; : {word}")])
    assert until(lambda: processes_with(word))
    running.stdin.close()
    begin = time.monotonic()
    running.process.wait(5)
    assert until(lambda: not processes_with(word), 2) and time.monotonic() - begin < 1.5
    running.stdout.close()


def test_commands_of_a_probe_that_is_killed_end_with_it() -> None:
    word = "fleet-" + secrets.token_hex(6)
    running = Running([command("it", "sleep", "61.5"), shell("word", f"exec sleep 60 # {word}")])
    assert until(lambda: "sleep" in _children(running.process.pid))
    running.process.kill()
    running.process.wait()
    assert until(lambda: "sleep" not in _children(running.process.pid))
    assert until(lambda: not processes_with("61.5"), 10), "within a second, on a machine that has time"
    running.end()


def _children(pid: int) -> str:
    try:
        pids = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return " ".join(Path(f"/proc/{child}/comm").read_text() for child in pids)
    except OSError:
        return ""


def test_costs_and_notes_come_with_the_end() -> None:
    end = ask([command("it", "true")]).reply.end
    assert end is not None and set(end["costs"]) >= {"cpu_self", "cpu_children", "cpu_init", "rss_kib", "seconds", "raw_bytes"}
    assert 0 < end["costs"]["cpu_self"] < 2 and 1000 < end["costs"]["rss_kib"] < 60_000
