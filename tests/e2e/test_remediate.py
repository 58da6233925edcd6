# SPDX-License-Identifier: Apache-2.0
"""From findings to fixed nodes and back, on real booted hosts: plan, check mode, apply, audit, again, rollback, and a lock-out."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml

from tests.conftest import MAIN, cli_environment, load_report
from tests.e2e.site import Site
from tests.hosts import HostSpec
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("remediation")]

CHECKS = ("icmp-redirects-refused", "redirects-not-sent", "source-routes-refused", "network-floods-resisted", "ssh-x11-forwarding-off",
          "ssh-authentication-attempts-limited", "ssh-tunnel-off", "ssh-agent-forwarding-off")  # fmt: skip
BAD = """
sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1 net.ipv4.conf.all.send_redirects=1
sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.eth0.accept_source_route=1 net.ipv4.tcp_syncookies=0
printf 'X11Forwarding yes\\nMaxAuthTries 6\\nPermitTunnel yes\\nAllowAgentForwarding yes\\n' > /etc/ssh/sshd_config.d/50-bad.conf
systemctl reload ssh
"""


class Groups(Site):
    """Three booted hosts in two groups, all bad; one is reached by another host alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.inventory = folder / "site.ini"

    def up(self) -> None:
        names = ("node-1", "node-2", "node-3")
        self.lab.up(
            [HostSpec("jump"), *(HostSpec(n, kind="boot", release="bookworm", behind="jump" if n == "node-3" else None) for n in names)]
        )
        for name in names:
            self.lab.exec(name, ["sh", "-c", BAD], timeout=60)
        lines = [line for line in self.lab.inventory.read_text().splitlines() if line.split(" ")[0] in names]
        rest = [line for line in self.lab.inventory.read_text().splitlines() if line.split(" ")[0] not in names and "[" not in line]
        common = self.lab.inventory.read_text().partition("[all:vars]")[2]
        self.inventory.write_text(
            "\n".join(["[train]", *lines[:2], "[login]", lines[2], "[all:vars]" + common, *([] if common else rest)]) + "\n"
        )

    def audit(self, *checks: str) -> dict[tuple[str, str], str]:
        chosen = [word for check in checks or CHECKS for word in ("--check", check)]
        done = self.cli("run", self.inventory, "-b", *chosen, "-q", "-f", "json", "-o", self.folder / "r.json")
        assert done.returncode in (0, 1, 3), done.stderr
        return {(r["host"], r["check"]): r["outcome"] for r in load_report(self.folder / "r.json")["results"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Groups]:
    with standing(Groups(tmp_path_factory.mktemp("remediate"))) as found:
        yield found


def test_from_findings_to_fixed_nodes_and_back(site: Groups) -> None:
    bad = site.audit()
    assert set(bad.values()) == {"fail"}, [key for key, outcome in bad.items() if outcome != "fail"]
    path = site.folder / "plan.yaml"
    quiet = site.cli("remediate", "plan")
    assert "sysctl (behaviour, none): 4 checks on 3 hosts" in quiet.stderr and "its disruption is service-restart" in quiet.stdout
    done = site.cli("remediate", "plan", "--max-disruption", "service-restart", "--batch", "1", "-o", path)
    assert done.returncode == 0, done.stderr
    plan = yaml.safe_load(path.read_text())
    assert [(a["role"], a["batches"]) for a in plan["actions"]] == [
        ("sysctl", [["node-1", "node-3"], ["node-2"]]), ("ssh_hardening", [["node-1", "node-3"], ["node-2"]]),
    ]  # fmt: skip

    shown = site.cli("remediate", "apply", path, "-b", "--check", "--drain", "none")
    assert shown.returncode == 0, shown.stderr
    assert "+net.ipv4.tcp_syncookies = 1" in shown.stdout and "+X11Forwarding no" in shown.stdout
    assert set(site.audit().values()) == {"fail"}, "check mode changes nothing"

    unasked = site.cli("remediate", "apply", path, "-b", "--drain", "none", input="")
    assert unasked.returncode == 2 and "nothing was changed" in unasked.stderr
    part = site.cli("remediate", "apply", path, "-b", "--yes")
    assert part.returncode == 3 and "ssh_hardening is left, as it disturbs" in part.stderr, part.stdout + part.stderr
    half = site.audit()
    assert {outcome for (_, c), outcome in half.items() if c.startswith("ssh-")} == {"fail"}
    assert {outcome for (_, c), outcome in half.items() if not c.startswith("ssh-")} == {"pass"}

    applied = site.cli("remediate", "apply", path, "-b", "--yes", "--drain", "none")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "canaries: node-1, node-3" in applied.stdout and "batch 2 of 2: node-2" in applied.stdout
    assert set(site.audit().values()) == {"pass"}
    again = site.cli("remediate", "apply", path, "-b", "--yes", "--drain", "none")
    assert again.returncode == 0 and "all of the plan is done already" in again.stdout
    time.sleep(1)
    config = site.lab.exec("node-1", ["cat", "/etc/ssh/sshd_config.d/0-fleet-audit.conf"], timeout=20).stdout
    assert "X11Forwarding no\n" in config and "MaxAuthTries 4\n" in config and "Ciphers" not in config, "only what was planned"

    overwritten = site.cli("remediate", "plan", "-o", path)
    assert overwritten.returncode == 2 and "which was begun; name another file" in overwritten.stderr
    asked = site.cli("remediate", "rollback", plan["plan"], "-b", input="")
    assert asked.returncode == 2 and "-net.ipv4.tcp_syncookies = 1" in asked.stdout and "-X11Forwarding no" in asked.stdout, asked.stderr
    assert set(site.audit().values()) == {"pass"}, "unasked nothing is taken back"
    back = site.cli("remediate", "rollback", plan["plan"], "-b", "--yes")
    assert back.returncode == 0, back.stderr
    assert "ssh_hardening: restored on 3 of 3 hosts" in back.stdout
    assert set(site.audit().values()) == {"fail"}, "the findings are back"
    twice = site.cli("remediate", "apply", path, "-b", "--yes")
    assert "canaries: node-1, node-3" in twice.stdout, "what was taken back is done again"
    site.cli("remediate", "rollback", path, "-b", "--yes", "--host", "node-1", "--host", "node-2", "--host", "node-3")
    gone = site.lab.exec("node-1", ["ls", "/etc/ssh/sshd_config.d", "/etc/sysctl.d"], timeout=20).stdout
    assert "fleet-audit" not in gone


def test_an_apply_that_is_killed_is_completed_by_a_second_one_or_undone(site: Groups) -> None:
    site.audit()
    path = site.folder / "killed.yaml"
    assert site.cli("remediate", "plan", "--max-disruption", "none", "--limit", "node-1", "-o", path).returncode == 0
    progress = site.store / "remediation" / yaml.safe_load(path.read_text())["plan"] / "progress.jsonl"
    for second, after, how in (("apply", "pass", signal.SIGKILL), ("rollback", "fail", signal.SIGINT)):
        argv = [*MAIN, "remediate", "apply", str(path), "-b", "--yes", "--store", str(site.store)]
        process = subprocess.Popen(
            site.lab.command(argv), env=cli_environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a suite in the background ignores it
        )  # fmt: skip
        before = progress.read_text().count("begun") if progress.exists() else 0
        while not progress.exists() or progress.read_text().count("begun") == before:
            assert process.poll() is None, "it ended before it began"
            time.sleep(0.05)
        time.sleep(random.random() * 1.5)  # Ansible and the audit after it take longer
        process.send_signal(how)
        _, said = process.communicate(timeout=60)
        if how == signal.SIGINT:
            assert process.returncode == 130 and "half changed: node-1" in said, said
        told = site.cli("remediate", "status", path, "--format", "json")
        assert told.returncode == 3 and {a["state"] for a in json.loads(told.stdout)["actions"]} == {"begun"}, told.stdout
        done = site.cli("remediate", second, path, "-b", "--yes")
        assert done.returncode == 0, done.stdout + done.stderr
        outcomes = {o for (h, c), o in site.audit().items() if h == "node-1" and not c.startswith("ssh-")}
        assert outcomes == {after}
        assert site.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0


def test_a_host_that_cannot_be_reached_is_left_and_the_others_are_done(site: Groups) -> None:
    site.audit("redirects-not-sent")
    path = site.folder / "lost.yaml"
    words = ("--check", "redirects-not-sent", "--limit", "node-1,node-3")
    assert site.cli("remediate", "plan", *words, "-o", path).returncode == 0
    site.lab.fault("node-3", "refuse")
    try:
        done = site.cli("remediate", "apply", path, "-b", "--yes")
        assert done.returncode == 3 and "node-3: left, it cannot be reached" in done.stderr and "but for node-3" in done.stdout, done.stderr
        told = json.loads(site.cli("remediate", "status", path, "--format", "json").stdout)
        assert {a["host"]: a["state"] for a in told["actions"]} == {"node-1": "done", "node-3": "planned"}
    finally:
        site.lab.clear("node-3")
    assert site.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0


def lock_out(site: Groups, name: str, within: int) -> CompletedProcess[str]:
    """Carry out a plan whose variables are altered by hand to settings that let nobody in."""
    site.audit("ssh-x11-forwarding-off")
    path = site.folder / name
    site.cli("remediate", "plan", "--max-disruption", "service-restart", "--limit", "node-2", "-o", path)
    plan = yaml.safe_load(path.read_text())
    (action,) = plan["actions"]
    action["variables"]["ssh_max_startups"] = "1:100:1"
    action["variables"]["ssh_pubkey_accepted_algorithms"] = ["ssh-dss-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com"]
    path.write_text(yaml.safe_dump(plan))
    # A connection of Ansible's own that stays open would let a confirmation in that proves nothing.
    kept = {**cli_environment(), "ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=120"}
    program = [str(Path(sys.executable).with_name("ansible")), "-i", str(site.inventory), "-m", "ping", "node-2"]
    assert site.lab.run(program, env=kept, timeout=60).returncode == 0
    done = site.cli("remediate", "apply", path, "-b", "--yes", "--drain", "none", "--confirm-within", within)
    assert done.returncode == 1 and "the nodes put the state before back by themselves" in done.stderr, done.stdout + done.stderr
    return done


def let_in(site: Groups, seconds: float) -> bool:
    """Whether a new connection is let in within a time."""
    deadline = time.monotonic() + seconds
    while site.lab.run(site.lab.ssh("node-2", "true"), timeout=30).returncode != 0:
        if time.monotonic() > deadline:
            return False
        time.sleep(2)
    return True


def test_what_locks_one_out_comes_back_by_itself(site: Groups) -> None:
    lock_out(site, "lock.yaml", 25)
    assert let_in(site, 60), "a new connection is let in again"
    assert "0-fleet-audit" not in site.lab.exec("node-2", ["ls", "/etc/ssh/sshd_config.d"], timeout=20).stdout
    assert site.lab.exec("node-2", ["find", "/etc/systemd", "-name", "fleet-audit-*"], timeout=20).stdout == ""


def test_a_node_that_restarts_before_it_is_confirmed_puts_the_state_before_back_at_boot(site: Groups) -> None:
    lock_out(site, "restart.yaml", 3600)
    assert not let_in(site, 0), "it is really locked out"
    assert "fleet-audit-revert" in site.lab.exec("node-2", ["find", "/etc/systemd", "-name", "fleet-audit-*"], timeout=20).stdout
    site.lab.reboot("node-2")
    assert let_in(site, 10)
    assert "0-fleet-audit" not in site.lab.exec("node-2", ["ls", "/etc/ssh/sshd_config.d"], timeout=20).stdout
    assert site.lab.exec("node-2", ["find", "/etc/systemd", "-name", "fleet-audit-*"], timeout=20).stdout == ""
    assert "running" in site.lab.exec("node-2", ["systemctl", "is-system-running"], check=False, timeout=20).stdout
    bad = BAD.replace("systemctl reload ssh", "true")
    site.lab.exec("node-2", ["sh", "-c", bad], timeout=60)  # what the kernel was told is gone with the restart


def test_a_password_to_become_root_is_asked_for_and_is_nowhere_kept(site: Groups) -> None:
    """As the lab's user `ops`, whose sudo wants one: asked once, for Ansible and for the audits between the batches."""
    pexpect = pytest.importorskip("pexpect")
    site.lab.exec("node-3", ["sysctl", "-qw", "net.ipv4.conf.all.send_redirects=1"], timeout=20)
    site.audit("redirects-not-sent")
    path = site.folder / "ops.yaml"
    assert site.cli("remediate", "plan", "--check", "redirects-not-sent", "--limit", "node-3", "-o", path).returncode == 0
    refused = site.cli("remediate", "apply", path, "-u", "ops", "-K", "--yes", input="")
    assert refused.returncode == 2 and "standard input is no terminal" in refused.stderr
    argv = site.lab.command([*MAIN, "remediate", "apply", str(path), "-u", "ops", "-K", "--yes", "--store", str(site.store)])
    child = pexpect.spawn(argv[0], argv[1:], env=cli_environment(), timeout=240, encoding="utf-8", echo=False)
    child.expect("Password to become root")
    child.sendline("ops")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and "shown to pass" in child.before, child.before
    assert site.lab.exec("node-3", ["sysctl", "-n", "net.ipv4.conf.all.send_redirects"], timeout=20).stdout == "0\n"
    folder = site.store / "remediation" / yaml.safe_load(path.read_text())["plan"]
    kept = [p for p in folder.rglob("*") if p.is_file() and ("_pass=" in (text := p.read_text("utf-8", "replace")) or '"ops"' in text)]
    assert not kept and not list(folder.rglob("passwords")), kept
    assert site.cli("remediate", "rollback", path, "-b", "--yes").returncode == 0, "the other tests find the host as it was"


def test_a_plan_that_is_old_altered_or_of_another_run_is_refused(site: Groups) -> None:
    site.audit("ssh-x11-forwarding-off")
    path = site.folder / "old.yaml"
    site.cli("remediate", "plan", "--max-disruption", "service-restart", "-o", path)
    plan = yaml.safe_load(path.read_text())
    for change, words in (
        ({"stale_after": "2020-01-01T00:00:00Z"}, "is stale since"), ({"run_sha256": "0" * 64}, "is not of run"), ({"actions": [{}]}, "actions.0"),
        ({"surprise": 1}, "surprise"), ({"plan": "../../x"}, "plan"), ({"stale_after": "2030-01-01T00:00:00"}, "stale_after"),
        ({"actions": []}, "no action"),
        ({"actions": [{**plan["actions"][0], "confirm": False}]}, "whatever the plan says"),
        ({"actions": [{**plan["actions"][0], "variables": {"ssh_x11_forwarding": "no\nPermitRootLogin yes"}}]}, "line break"),
        ({"actions": [{**plan["actions"][0], "variables": {"ssh_x11_forwarding": "{{ lookup('pipe', 'id') }}"}}]}, "Ansible would evaluate"),
        ({"actions": [{**plan["actions"][0], "role": "no_such"}]}, "this version has no role 'no_such'"),
        ({"actions": [{**plan["actions"][0], "batches": [["node-1"]]}]}, "batches and findings name different hosts"),
    ):  # fmt: skip
        path.write_text(yaml.safe_dump({**plan, **change}))
        done = site.cli("remediate", "apply", path, "-b", "--yes", "--drain", "none")
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr
