# SPDX-License-Identifier: Apache-2.0
"""Ansible in a process of its own, on this machine by a local connection: what it is given, and what is kept of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from fleet_audit import content, roleplay
from fleet_audit.model import FleetAuditError
from fleet_audit.remediation import Action

pytestmark = pytest.mark.slow

HERE = roleplay.Reach("localhost,", become=False, variables={"ansible_connection": "local", "ansible_python_interpreter": sys.executable})
"""An inventory that is a list of hosts, as `-i` takes it."""


def test_nothing_of_the_operators_environment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UBUNTU_PRO_TOKEN", "C1TheTokenOfTheTest")
    assert roleplay.ask("localhost", ["echo", "here"], HERE, tmp_path) == (0, "here")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "command" for path in files)
    assert not [path for path in files if b"C1TheTokenOfTheTest" in path.read_bytes()]


def test_what_cannot_be_asked_says_why(tmp_path: Path) -> None:
    code, said = roleplay.ask("localhost", ["no-such-tool"], HERE, tmp_path)
    assert code != 0 and said
    with pytest.raises(FleetAuditError, match=r"other: scontrol could not be run there: .*all it said is in"):
        roleplay.ask("other", ["scontrol"], HERE, tmp_path)


def test_an_ansible_that_dies_is_no_success(tmp_path: Path) -> None:
    """Killed after its first task, as the kernel does that is short of memory; in check mode, so that nothing of this machine changes."""
    action = Action(role="nvidia_devices", grade="dry", disruption="none", confirm=False, saves="", checks=["nvidia-capability-files-limited"],
                    variables={}, batches=[["localhost"]], findings={"localhost": ["nvidia-capability-files-limited"]})  # fmt: skip

    def kill() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not any(b"runner_on_ok" in p.read_bytes() for p in tmp_path.glob("artifacts/*/job_events/*.json")):
            time.sleep(0.01)
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "ansible-playbook" in " ".join(child.cmdline()):
                    child.kill()

    killer = threading.Thread(target=kill)
    killer.start()
    played = roleplay.play(action, ["localhost"], HERE, tmp_path, state="present", check=True, plan="0" * 12, extra={}, belongs={})
    killer.join()
    assert "Ansible ended in the middle of it" in played.failed["localhost"] and not played.ok


def test_a_reader_that_is_gone_ends_no_roll_out() -> None:
    program = (
        "from fleet_audit.cli._rollout import say\nfor n in range(2000): say('x' * 100)\nprint('went on', file=__import__('sys').stderr)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert process.stderr.read() == "went on\n"
    assert process.returncode == 0


class Modules:
    """The modules of `playbooks/library` on this machine."""

    def __init__(self, folder: Path) -> None:
        books = content.folder("playbooks")
        self.env = {
            **os.environ, "ANSIBLE_LIBRARY": str(books / "library"), "ANSIBLE_MODULE_UTILS": str(books / "module_utils"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.oneline", "ANSIBLE_HOME": str(folder / "ansible"), "ANSIBLE_NOCOLOR": "1",
        }  # fmt: skip

    def __call__(self, name: str, **params: Any) -> dict[str, Any]:
        """What a module answers."""
        program = str(Path(sys.executable).with_name("ansible"))
        argv = [program, "-i", "localhost,", "-c", "local", "-e", f"ansible_python_interpreter={sys.executable}", "-m", name]
        done = subprocess.run(
            [*argv, "-a", json.dumps(params), "localhost"], env=self.env, capture_output=True, text=True, timeout=60, check=False
        )
        head, arrow, answer = done.stdout.partition(" => ")
        assert arrow, done.stdout + done.stderr
        found: dict[str, Any] = json.loads(answer) if answer.startswith("{") else {"msg": answer}
        return {**found, "failed": "FAILED" in head or found.get("failed", False)}


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    return Modules(tmp_path)


def test_a_file_that_somebody_changed_is_neither_written_again_nor_put_back(modules: Modules, tmp_path: Path) -> None:
    path, saved = tmp_path / "app.conf", str(tmp_path / "saved")
    path.write_text("a = 1\n")
    edits = [{"keys": {"b": "2"}, "equals": " = "}]
    assert modules("fleet_file", paths=[str(path)], edits=edits, saved=saved)["changed"]
    path.write_text("a = 9\n")
    for state in ("present", "restored"):
        again = modules("fleet_file", paths=[str(path)], edits=edits, saved=saved, state=state)
        assert again["failed"] and "changed by others" in again["msg"], again
        assert path.read_text() == "a = 9\n"
    path.write_text("a = 1\nb = 2\n")
    assert modules("fleet_file", paths=[str(path)], edits=edits, saved=saved, state="restored")["changed"]
    assert path.read_text() == "a = 1\n" and not (tmp_path / "saved/state.json").exists()


def test_two_plans_and_a_person_share_the_file_of_kernel_settings(modules: Modules, tmp_path: Path) -> None:
    """With the values that the kernel has already, so that it is told nothing."""
    path = tmp_path / "zz.conf"
    now = {key: Path("/proc/sys", *key.split(".")).read_text().strip() for key in ("kernel.pid_max", "vm.swappiness")}
    for key, value in now.items():
        assert modules("fleet_sysctl", path=str(path), settings={key: value}, saved=str(tmp_path / key))["changed"]
    path.write_text(path.read_text() + "vm.dirty_ratio = 7\n")
    assert modules("fleet_sysctl", path=str(path), state="restored", saved=str(tmp_path / "kernel.pid_max"))["changed"]
    assert "vm.swappiness" in path.read_text() and "vm.dirty_ratio = 7\n" in path.read_text() and "pid_max" not in path.read_text()
    assert modules("fleet_sysctl", path=str(path), state="restored", saved=str(tmp_path / "vm.swappiness"))["changed"]
    assert "vm.dirty_ratio = 7\n" in path.read_text() and "swappiness" not in path.read_text()


def test_rights_that_somebody_has_set_since_stay(modules: Modules, tmp_path: Path) -> None:
    given = {"paths": [str(tmp_path / "secret*")], "clear": "077"}
    first, second = tmp_path / "secret1", tmp_path / "secret2"
    for path in (first, second):
        path.touch()
        path.chmod(0o644)
    assert modules("fleet_modes", rules=[given], saved=str(tmp_path / "saved"))["changed"]
    assert [path.stat().st_mode & 0o777 for path in (first, second)] == [0o600, 0o600]
    first.chmod(0o400)
    assert modules("fleet_modes", rules=[given], saved=str(tmp_path / "saved"), state="restored")["changed"]
    assert [path.stat().st_mode & 0o777 for path in (first, second)] == [0o400, 0o644]


def test_a_command_that_was_cut_before_it_began_is_not_taken_back(modules: Modules, tmp_path: Path) -> None:
    there, saved = tmp_path / "there", tmp_path / "saved"
    what = {"unless": ["test", "-e", str(there)], "command": ["touch", str(there)], "back": ["rm", str(there)], "saved": str(saved)}
    saved.mkdir()
    (saved / "state.json").write_text(json.dumps({"back": what["back"]}))
    cut = modules("fleet_command", **what, state="restored")
    assert not cut["changed"] and not cut["failed"], "rm would have failed"
    assert modules("fleet_command", **what)["changed"] and there.exists()
    assert modules("fleet_command", **what, state="restored")["changed"] and not there.exists()
