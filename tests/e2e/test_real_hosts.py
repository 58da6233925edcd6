# SPDX-License-Identifier: Apache-2.0
"""The main job on real sshd hosts: three Debian releases booted, and hosts with a fault each.

All tests share one lab and one audit of it; what a test needs beyond that it runs itself.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MAIN, cli_environment
from tests.hosts import HostSpec, Lab, LabUnavailable

pytestmark = [pytest.mark.hosts, pytest.mark.slow, pytest.mark.xdist_group("lab")]

TOKEN = "hf_plantedtokenplantedtokenplanted42"
SECRET = "ops"  # the password of the user ops in the lab's images
HOME_TOKEN = {"/home/audit/.cache/huggingface/token": TOKEN + "\n", "/etc/environment": f"HF_TOKEN={TOKEN}\n"}
BOOTED = {"deb11": "bullseye", "deb12": "bookworm", "deb13": "trixie"}
FAULTS = {
    "hang": ("hang", "timeout"), "flood": ("flood", "over limit"), "noise": ("noise", "ok"), "newkey": ("newkey", "host key"),
    "black": ("blackhole", "timeout"), "refuse": ("refuse", "refused"), "nobanner": ("nobanner", "timeout"), "cutreply": ("cutreply", "cut short"),
    "close": ("close", "cut short"), "busy": ("busy", "busy"), "noauth": ("noauth", "auth"), "nologin": ("nologin", "login refused"),
    "forced": ("forced", "forced command"), "eater": ("stdin-eater", "start-up noise"),
}  # fmt: skip
EXTRA = """
[odd]
plain ansible_host={noise} ansible_user=plain
nottyuser ansible_host={twin} ansible_user=notty
right ansible_host={deb12} ansible_user=ops ansible_become_password=ops
wrong1 ansible_host={deb12} ansible_user=ops ansible_become_password=not-it
wrong2 ansible_host={twin} ansible_user=ops ansible_become_password=not-it
lost ansible_host=no-such-host.invalid
client ansible_host={deb13} fleet_audit_transport=openssh
[odd:vars]
{vars}
"""


@dataclass
class Audited:
    """The lab, and the one audit of all its hosts."""

    lab: Lab
    inventory: Path
    folder: Path
    done: subprocess.CompletedProcess[str]
    report: dict[str, Any]
    booted: list[str]

    def run(self, *args: object, store: str = "store", timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """The command line inside the lab's network."""
        argv = [*MAIN, *map(str, args), "--store", str(self.folder / store)]
        return self.lab.run(argv, env=cli_environment(), timeout=timeout, errors="replace")

    def host(self, name: str) -> dict[str, Any]:
        """A host of the report."""
        return next(h for h in self.report["hosts"] if h["name"] == name)

    def outcomes(self, name: str) -> set[str]:
        """What results a host has."""
        return {r["outcome"] for r in self.report["results"] if r["host"] == name}


def _booted_specs() -> tuple[list[HostSpec], list[str]]:
    from tests.hosts.image import image

    specs, missing = [], []
    for name, release in BOOTED.items():
        try:
            image(release)
            specs.append(HostSpec(name, kind="boot", release=release, files=HOME_TOKEN))
        except LabUnavailable as error:
            missing.append(f"{release}: {error}")
    return specs, missing


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    """The lab after one audit of everything in it."""
    if os.geteuid() != 0:
        pytest.skip("no real SSH hosts here: not root, or the mirror lacks them")
    folder = tmp_path_factory.mktemp("lab", numbered=True)
    try:
        booted, missing = _booted_specs()
    except LabUnavailable as error:
        pytest.skip(f"the mirror lacks what the lab needs: {error}")
    if not any(s.name == "deb12" for s in booted):
        pytest.skip(f"the mirror lacks {missing}")
    light = [
        HostSpec("jump"),
        HostSpec("behind", behind="jump"),
        HostSpec("nopy", python=False),
        HostSpec("twin"),
        HostSpec("quiet"),
        HostSpec("counted"),
    ]
    with Lab(folder / "lab") as lab:
        lab.up([*booted, *light, *(HostSpec(name) for name in FAULTS)])
        for name, (fault, _) in FAULTS.items():
            lab.fault(name, fault)
        names = {n: lab.address(n) for n in ("noise", "twin", "deb12")} | {
            "deb13": lab.address("deb13" if "deb13" in [s.name for s in booted] else "deb12")
        }
        text = lab.inventory.read_text()
        variables = text.split(":vars]\n", 1)[1].split("\n[", 1)[0]
        inventory = folder / "inventory.ini"
        inventory.write_text(
            text + EXTRA.format(vars="\n".join(v for v in variables.splitlines() if not v.startswith("ansible_user")), **names)
        )
        audit = Audited(lab, inventory, folder, None, {}, [s.name for s in booted])  # type: ignore[arg-type]
        path = folder / "report.json"
        audit.done = audit.run("run", inventory, "-b", "--timeout", 25, "-v", "-f", "json", "-o", path, timeout=240)
        audit.report = json.loads(path.read_text()) if path.exists() else {}
        yield audit


def test_nothing_crashed_and_the_exit_status_says_what_is_open(audited: Audited) -> None:
    assert "Traceback" not in audited.done.stderr
    assert audited.done.returncode in (1, 3), audited.done.stderr
    assert "exit" in audited.done.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", BOOTED)
def test_booted_releases_are_read_as_root(audited: Audited, name: str) -> None:
    if name not in audited.booted:
        pytest.skip(f"the mirror lacks {BOOTED[name]}")
    host = audited.host(name)
    assert (host["reach"], host["privileged"]) == ("ok", True), host["detail"]
    assert "pass" in audited.outcomes(name)
    assert "error" not in audited.outcomes(name)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_has_its_word_and_a_sentence(audited: Audited, name: str) -> None:
    host = audited.host(name)
    assert host["reach"] == FAULTS[name][1], host["detail"]
    assert host["reach"] == "ok" or host["detail"]
    if host["reach"] != "ok":
        assert audited.outcomes(name) == {"unknown"}


def test_every_host_and_check_has_exactly_one_result(audited: Audited) -> None:
    pairs = [(r["host"], r["check"]) for r in audited.report["results"]]
    hosts, checks = [h["name"] for h in audited.report["hosts"]], [c["id"] for c in audited.report["checks"]]
    assert len(pairs) == len(set(pairs)) == len(hosts) * len(checks)
    assert {"lost", "black", "behind", "right"} <= set(hosts)


def test_behind_a_jump_host_and_without_python(audited: Audited) -> None:
    assert audited.host("behind")["reach"] == "ok", audited.host("behind")["detail"]
    assert (audited.host("nopy")["reach"], audited.outcomes("nopy")) == ("no python", {"unknown"})
    assert audited.host("lost")["reach"] == "unresolved"


def test_refused_sudo_is_read_without_root_and_says_so(audited: Audited) -> None:
    for name, reach in (("plain", "become refused"), ("nottyuser", "requires tty")):
        host = audited.host(name)
        assert (host["reach"], host["privileged"], host["answered"]) == (reach, False, True), host["detail"]
        assert {"pass", "unknown"} <= audited.outcomes(name)


def test_a_right_password_becomes_root_and_a_wrong_one_goes_to_one_host_only(audited: Audited) -> None:
    assert (audited.host("right")["reach"], audited.host("right")["privileged"]) == ("ok", True), audited.host("right")["detail"]
    wrong = [audited.host("wrong1"), audited.host("wrong2")]
    assert {h["reach"] for h in wrong} == {"become refused"}, wrong
    assert sum("refused on another host" in h["detail"] for h in wrong) == 1


def test_the_openssh_transport_reads_the_same(audited: Audited) -> None:
    host = audited.host("client")
    assert (host["transport"], host["reach"]) == ("openssh", "ok"), host["detail"]
    twin = "deb13" if "deb13" in audited.booted else "deb12"
    found = {
        name: {
            r["check"]: (r["outcome"], r["reason"]) for r in audited.report["results"] if r["host"] == name and "uniform" not in r["check"]
        }
        for name in ("client", twin)
    }  # checks of uniformity see groups, and these two are in different ones
    assert found["client"] == found[twin]


def test_one_connection_and_one_exec_per_host(audited: Audited) -> None:
    log = audited.lab.sshd_log("counted")  # which no other test talks to
    assert (log.count("Accepted publickey for"), log.count("Starting session:")) == (1, 1), log
    costs = audited.host("counted")["costs"]
    assert (costs["connections"], costs["execs"]) == (1, 1)


def test_nothing_is_written_beyond_what_the_login_writes(audited: Audited) -> None:
    """`twin` gets a login and a sudo of `true`, `quiet` the whole audit: the same files change."""
    changed = {}
    for name in ("quiet", "twin"):
        before = audited.lab.written(name)
        if name == "quiet":
            (audited.folder / "one.ini").write_text(audited.inventory.read_text())
            done = audited.run("run", audited.folder / "one.ini", "-l", "quiet", "-b", "-q", store="written")
            assert done.returncode in (0, 1, 3), done.stderr
        else:
            audited.lab.run(audited.lab.ssh("twin", "sudo", "-n", "true"), check=True)
        after = audited.lab.written(name)
        changed[name] = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
    assert changed["quiet"] - changed["twin"] == set()


def test_no_secret_crosses_the_wire_or_is_kept(audited: Audited) -> None:
    import gzip
    import zlib

    seen = audited.done.stdout.encode() + audited.done.stderr.encode()
    for path in audited.folder.rglob("*"):
        if path.is_file() and "lab" not in path.relative_to(audited.folder).parts:
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            elif "objects" in path.parts:
                data = zlib.decompress(data)
            seen += data
    assert TOKEN.encode() not in seen
    assert b"not-it" not in seen.replace(audited.inventory.read_bytes(), b"")
    assert b"PRIVATE KEY" not in seen


def test_sigkill_then_resume_has_each_host_once(audited: Audited) -> None:
    names = ",".join(["quiet", "twin", "jump", "noise", "deb12", "hang"])
    arguments = ["run", audited.inventory, "-b", "-q", "-l", names, "--timeout", "8", "--store", audited.folder / "killed"]
    child = subprocess.Popen(audited.lab.command([*MAIN, *map(str, arguments)]), env=cli_environment(), start_new_session=True)
    time.sleep(random.uniform(1.5, 4.0))
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    listed = json.loads(audited.run("runs", "--format", "json", store="killed").stdout)
    assert not [r for r in listed if r["stage"] in ("broken", "evaluated")]
    if not listed:
        return  # killed before the run began
    assert audited.run(*arguments[:-2], "--resume", store="killed").returncode in (1, 3)
    report = json.loads(audited.run("report", "-f", "json", "-o", "-", store="killed").stdout)
    assert [h["name"] for h in report["hosts"]] == sorted(names.split(","))


def test_an_interrupt_is_status_130_and_keeps_what_is_done(audited: Audited) -> None:
    arguments = ["run", audited.inventory, "-b", "-l", "quiet,hang", "--timeout", "30", "--store", audited.folder / "stopped"]
    child = subprocess.Popen(
        audited.lab.command([*MAIN, *map(str, arguments)]), env=cli_environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    time.sleep(5)
    os.killpg(child.pid, signal.SIGINT)
    _, stderr = child.communicate(timeout=20)
    assert (child.returncode, "Traceback" in stderr) == (130, False), stderr
    assert "1 of 2 hosts are kept" in stderr


def test_the_sudoers_line_lets_the_probe_become_root_and_nothing_else(audited: Audited) -> None:
    line = _sudoers()
    lab = audited.lab
    lab.exec(
        "deb12", ["sh", "-c", "cat > /etc/sudoers.d/plain && chmod 440 /etc/sudoers.d/plain && visudo -cf /etc/sudoers.d/plain"], input=line
    )
    inventory = audited.folder / "pinned.ini"
    text = audited.inventory.read_text()
    variables = text.split(":vars]\n", 1)[1].split("\n[", 1)[0].replace("ansible_user=audit", "ansible_user=plain")
    inventory.write_text(f"[fleet]\npinned ansible_host={lab.address('deb12')}\n[fleet:vars]\n{variables}\n")
    report = audited.folder / "pinned.json"
    done = audited.run("run", inventory, "-b", "-q", "-f", "json", "-o", report, store="pinned")
    assert report.exists(), done.stderr
    host = json.loads(report.read_text())["hosts"][0]
    assert (host["reach"], host["privileged"]) == ("ok", True), host["detail"]
    other = lab.run(lab.ssh("deb12", "sudo", "-n", "/usr/bin/python3", "-c", "print(1)", user="plain"))
    assert other.returncode != 0


def _sudoers() -> str:
    return subprocess.run(
        [*MAIN, "probe", "sudoers", "--account", "plain"], env=cli_environment(), capture_output=True, text=True, check=True
    ).stdout
