# SPDX-License-Identifier: Apache-2.0
"""The reader of processes, by the real program among real processes of the test's own."""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.probe.node.base import READERS
from fleet_audit.probe.node.processes import ARGV_LIMIT, replaced_in, shortened
from tests.probe.helpers import Running, ask, source, until
from tests.probe.nodes import opened_to_all

pytestmark = pytest.mark.slow
SLEEP = "import time; time.sleep(60)"
Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process with these words after the interpreter's own, and this environment; ends it after the test."""
    made = []

    def begin(*words: str, env: dict[str, str] | None = None, script: str = SLEEP, wait: bool = True, **given: Any) -> int:
        child = subprocess.Popen([sys.executable, "-I", "-S", "-c", script, *words], env={"A": "b", **(env or {})}, **given)
        made.append(child)
        if wait:
            assert until(lambda: Path(f"/proc/{child.pid}/comm").read_text().startswith("python"))
        return child.pid

    yield begin
    for child in made:
        child.kill()
        child.wait()


def found(pid: int, **args: Any) -> dict[str, Any]:
    """The row of a process."""
    return next(row for row in ask([source("it", "processes", **args)]).rows("it")["processes"] if row["pid"] == pid)


def test_process_with_its_words_user_and_parent(start: Start) -> None:
    pid = start("--port", "8000", "", "two words", "ü", "last")
    row = found(pid)
    assert row["argv"][1:] == ["-I", "-S", "-c", SLEEP, "--port", "8000", "", "two words", "ü", "last"] and row["cut"] is False
    assert (row["ppid"], row["uid"], row["euid"], row["contained"]) == (os.getpid(), os.getuid(), os.geteuid(), False)
    assert row["exe"] == os.path.realpath(sys.executable) and row["comm"].startswith("python")
    assert int(row["caps"], 16) >= 0 and row["no_new_privs"] in ("0", "1", None) and row["env"] == {}
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"CapEff:\t{row['caps']}\n" in status


def test_last_word_that_is_empty_is_kept(start: Start) -> None:
    assert found(start("--token", ""))["argv"][-2:] == ["--token", ""]
    assert found(start("--token="))["argv"][-1] == "--token="


def test_secrets_of_command_lines_and_environments_never_leave_the_node(start: Start) -> None:
    word = "S3cret" + secrets.token_hex(12)
    pid = start(
        "--api-key", word, f"--password={word}", f"https://u:{word}@h/", f"hf_{word}", f"Authorization: token {word}", "--port", "1",
        env={"HF_TOKEN": f"hf_{word}", "MY_KEY": word, "OTHER": word, "PIP_INDEX_URL": f"https://me:{word}@pypi.example/simple", "HOST": "::",
             "API_KEY": "", "AUTH": "true", "PLAIN_PASSWORD": word},
    )  # fmt: skip
    asked = ask(
        [
            source(
                "it",
                "processes",
                env=["HOST", "PIP_INDEX_URL", "PLAIN_PASSWORD", "ABSENT"],
                env_secret=["HF_TOKEN", "MY_KEY", "API_KEY", "AUTH"],
            )
        ]
    )
    assert word.encode() not in asked["it"].body
    row = next(row for row in asked.rows("it")["processes"] if row["pid"] == pid)
    size = len(word)
    assert row["env"] == {
        "HF_TOKEN": f"<secret:huggingface:{size + 3}>", "MY_KEY": f"<secret:value:{size}>", "API_KEY": "", "AUTH": "true", "HOST": "::",
        "PIP_INDEX_URL": f"https://me:<secret:value:{size}>@pypi.example/simple", "PLAIN_PASSWORD": f"<secret:value:{size}>",
    }  # fmt: skip
    assert row["argv"][-8:] == [
        "--api-key", f"<secret:value:{size}>", f"--password=<secret:value:{size}>", f"https://u:<secret:value:{size}>@h/",
        f"<secret:huggingface:{size + 3}>", f"Authorization: <secret:value:{size + 6}>", "--port", "1",
    ]  # fmt: skip


def test_environment_that_is_not_told_whole_is_none(start: Start) -> None:
    long = start(env={"HOST": "x" * 513, "B": "c"})
    large = start(env={**{f"FILL{n}": "x" * 100_000 for n in range(3)}, "HOST": "::"})
    fits = start(env={"HOST": "x" * 512, "OTHER": "y" * 100_000})
    rows = {row["pid"]: row["env"] for row in ask([source("it", "processes", env=["HOST"])]).rows("it")["processes"]}
    assert (rows[long], rows[large], rows[fits]) == (None, None, {"HOST": "x" * 512})


def test_long_command_line_keeps_its_ends_and_no_half_of_a_word(start: Start) -> None:
    word = "S3cret" + secrets.token_hex(12)
    pid = start("--first", "a" * 2000, *["x" * 50] * 200, f"hf_{word}", "b" * 800, "org.example.Main")
    row = found(pid)
    assert row["cut"] is True and row["argv"][-1] == "org.example.Main" and "--first" in row["argv"] and "..." in row["argv"]
    assert sum(len(w) + 1 for w in row["argv"]) <= ARGV_LIMIT and set(row["argv"][7:-2]) <= {
        "a" * 2000,
        "x" * 50,
        "...",
        "b" * 800,
        f"<secret:huggingface:{len(word) + 3}>",
    }
    assert word not in json.dumps(row)


def test_command_line_longer_than_what_is_read_keeps_no_half_of_a_secret(start: Start) -> None:
    word = "S3cret" + secrets.token_hex(12)
    row = found(start(*[f"--token=hf_{word}" + "z" * 20] * 1500))
    assert row["cut"] is True and "S3cret" not in json.dumps(row)


@pytest.mark.parametrize(("words", "cut"), [
    ([], False), ([""], False), (["a"] * 2048, False), (["a"] * 2049, True), (["a" * 4095], False), (["a" * 4096], True),
    (["x", "a" * 9999, "y"], True),
])  # fmt: skip
def test_shortened(words: list[str], cut: bool) -> None:
    kept, was_cut = shortened(words)
    assert was_cut is cut and sum(len(word) + 1 for word in kept) <= ARGV_LIMIT
    if cut:
        at = kept.index("...")
        assert kept[:at] == words[:at] and kept[at + 1 :] == words[len(words) - len(kept[at + 1 :]) :]


def test_title_written_over_the_arguments(start: Start) -> None:
    script = (
        "import ctypes, time\n"
        "libc = ctypes.CDLL(None)\n"
        "stat = open('/proc/self/stat').read().rpartition(')')[2].split()\n"
        "begin, end = int(stat[45]), int(stat[46])\n"
        "title = b'ray::IDLE'\n"
        "ctypes.memset(begin, 0, end - begin)\n"
        "ctypes.memmove(begin, title, len(title))\n"
        "libc.prctl(15, b'ray::IDLE', 0, 0, 0)\n"
        "time.sleep(60)\n"
    )
    pid = start("a" * 40, script=script, wait=False)
    until(lambda: Path(f"/proc/{pid}/comm").read_text() == "ray::IDLE\n")
    if Path(f"/proc/{pid}/comm").read_text() != "ray::IDLE\n":
        pytest.skip("this kernel does not say where the arguments lie")
    row = found(pid)
    assert (row["comm"], row["argv"]) == ("ray::IDLE", ["ray::IDLE"])


def test_hostile_names_and_words_are_text(start: Start, tmp_path: Path) -> None:
    shutil.copy(shutil.which("sleep") or "/bin/sleep", tmp_path / "a\n\x1b[31m<b>")
    with subprocess.Popen([os.fsencode(tmp_path / "a\n\x1b[31m<b>"), b"60"]) as child:
        try:
            assert until(
                lambda: b"sleep" not in Path(f"/proc/{child.pid}/comm").read_bytes() and Path(f"/proc/{child.pid}/cmdline").read_bytes()
            )
            row = found(child.pid)
            assert row["comm"] == "a\n\x1b[31m<b>" and row["exe"].endswith("a\n\x1b[31m<b>")
            (tmp_path / "a\n\x1b[31m<b>").unlink()
            assert found(child.pid)["exe"].endswith("(deleted)")
        finally:
            child.kill()
    pid = subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEP, b"\xff\xfe", "\ud800".encode("utf-8", "surrogatepass")])
    try:
        row = found(pid.pid)
        assert "\\xff\\xfe" in row["argv"]
        json.dumps(row).encode("utf-8")
    finally:
        pid.kill()
        pid.wait()


def test_zombies_and_processes_that_end_meanwhile_do_no_harm() -> None:
    zombie = subprocess.Popen(["true"])
    until(lambda: " Z " in Path(f"/proc/{zombie.pid}/stat").read_text())
    churn = subprocess.Popen(["sh", "-c", "while :; do true & done"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(0.05)
        asked = ask([source("it", "processes", env=["A"])])
        assert asked.status("it") == "ok", asked["it"].detail
        rows = {row["pid"]: row for row in asked.rows("it")["processes"]}
        assert zombie.pid not in rows and os.getpid() in rows
    finally:
        churn.kill()
        churn.wait()
        zombie.wait()


def test_commands_of_the_program_itself_are_left_out(start: Start) -> None:
    """`kubelet --version`, which the program asks, is no kubelet that runs: readers are children of the program, as its commands are."""
    pid = start()
    with multiprocessing.get_context("fork").Pool(1) as pool:
        rows = json.loads(pool.apply(READERS["processes"], (None, {})))["processes"]
    assert {os.getpid(), pid} & {row["pid"] for row in rows} == {os.getpid()}


def test_groups_are_told_by_the_longest_path(start: Start) -> None:
    pid = start()
    paths = [line.split(":", 2)[2] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    assert found(pid)["cgroup"] == (max(paths, key=len) or None if paths else None)


def test_kernel_threads_are_counted_alone() -> None:
    asked = ask([source("it", "processes")]).rows("it")
    threads = sum(Path(f"/proc/{p}/cmdline").read_bytes() == b"" for p in os.listdir("/proc") if p.isdigit() and _is_kernel(p))
    assert abs(asked["kernel_threads"] - threads) <= 5, "they come and go"
    assert asked["gap"] == ""


def _is_kernel(pid: str) -> bool:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return words[1] == "2" or (pid == "2" and words[1] == "0" and Path("/proc/2/comm").read_text() == "kthreadd\n")


def test_process_in_a_namespace_of_its_own_is_contained() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("a process namespace is not made here: not root")
    child = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-I", "-S", "-c", SLEEP, "inner"])
    try:
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children")
        assert until(lambda: children.read_text() != "")
        inner = [int(word) for word in children.read_text().split()]
        assert until(lambda: b"inner" in Path(f"/proc/{inner[0]}/cmdline").read_bytes())
        if "NSpid:\t" not in Path(f"/proc/{inner[0]}/status").read_text():
            pytest.skip("this kernel does not tell the ids in namespaces")
        assert found(inner[0])["contained"] is True and found(child.pid)["contained"] is False
    finally:
        child.kill()
        child.wait()


def test_without_rights_what_may_not_be_seen_is_none(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("what another account may not see is not tried here: not root")
    opened_to_all(tmp_path)

    def become() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    with subprocess.Popen([sys.executable, "-I", "-S", "-c", SLEEP], env={"HF_TOKEN": "hunter2xyz"}) as child:
        try:
            until(lambda: b"sleep" in Path(f"/proc/{child.pid}/cmdline").read_bytes())
            reply = Running([source("it", "processes", env_secret=["HF_TOKEN"])], preexec=become, python="/usr/bin/python3").finish()
        finally:
            child.kill()
    row = next(row for row in json.loads(reply.frames["it"].body)["processes"] if row["pid"] == child.pid)
    assert row["env"] is None and row["exe"] is None and row["uid"] == 0 and row["argv"][-1] == SLEEP


def test_hidden_processes_are_a_gap() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("hidepid is not tried here: not root")
    libc = ctypes.CDLL(None, use_errno=True)

    def become() -> None:
        assert libc.unshare(0x00020000) == 0
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
        assert libc.mount(b"proc", b"/proc", b"proc", 0, b"hidepid=2") == 0
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    try:
        reply = Running([source("it", "processes")], preexec=become, python="/usr/bin/python3").finish()
    except (subprocess.SubprocessError, BrokenPipeError):
        pytest.skip("this kernel lets no /proc be mounted here")
    document = json.loads(reply.frames["it"].body)
    assert document["gap"] and all(row["uid"] == 65534 for row in document["processes"])


def test_many_processes_cost_little() -> None:
    """The whole node, this one, in a fraction of the CPU budget of 2 s."""
    frame = ask([source("it", "processes", env=["A"], env_secret=["B"])])["it"]
    count = len(json.loads(frame.body)["processes"])
    assert frame.cpu < 0.2 + count * 0.005


def test_code_of_a_file_that_was_removed_is_found_and_data_is_not(tmp_path: Path) -> None:
    """A real process whose program and a mapped data file are gone; the folders that count are those of the system."""
    program, data = Path(f"/opt/fleet-audit-test-{os.getpid()}/old-sleep"), tmp_path / "data"
    program.parent.mkdir()
    try:
        shutil.copy("/bin/sleep", program)
        child = subprocess.Popen([program, "60"])
        other = subprocess.Popen([sys.executable, "-I", "-c", f"import mmap, time; f = open({str(data)!r}, 'w+b'); f.write(b'x' * 9); f.flush();"
                                  "m = mmap.mmap(f.fileno(), 9); print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE)  # fmt: skip
        assert until(lambda: Path(f"/proc/{child.pid}/exe").resolve() == program)
        assert other.stdout and other.stdout.readline() == b"\n"
        assert replaced_in(child.pid, 1 << 20)[0] == set() == replaced_in(other.pid, 1 << 20)[0]
        program.unlink()
        data.unlink()
        found, size = replaced_in(child.pid, 1 << 20)
        assert found == {str(program)} and size > 500
        assert replaced_in(other.pid, 1 << 20)[0] == set()
        assert replaced_in(child.pid, 10)[1] == 10
    finally:
        shutil.rmtree(program.parent)
        for process in (child, other):
            process.kill()
            process.communicate()


def test_replaced_files_of_this_node_are_told_for_little() -> None:
    frame = ask([source("it", "replaced_files")])["it"]
    document = json.loads(frame.body)
    assert set(document) == {"replaced", "gap"} and all(row["unit"].endswith(".service") for row in document["replaced"])
    assert frame.cpu < 0.5
