# SPDX-License-Identifier: Apache-2.0
"""One audit of some forty real SSH hosts, most of which have something wrong with them."""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from fleet_audit.checks import load
from fleet_audit.facts import sources, tables
from tests.conftest import Cli, InLab, lines_with, load_report
from tests.e2e.conftest import COUNTED, Audit
from tests.e2e.fleet import HASH, PASSWORD, PLAIN, PRIVATE_KEY, TOKEN, WRONG, Fleet, changed

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("lab")]

REACH = {
    "deb11": "ok", "deb12": "ok", "deb13": "ok", "deb12-openssh": "ok", "quiet": "ok", "calm": "ok", "jump": "ok", "behind": "ok",
    "rootlogin": "ok", "fine1": "ok", "fine2": "ok", "fine3": "ok", "fine4": "ok", "fine1-openssh": "ok", "noise": "ok", "noise-openssh": "ok",
    "right": "ok", "right-openssh": "ok",
    "plain": "become refused", "pinned": "become refused",
    "wrong-deb11": "become refused", "wrong-deb12": "become refused", "wrong-deb13": "become refused",
    "tty": "requires tty", "nopy": "no python",
    "hang": "timeout", "black": "timeout", "nobanner": "timeout", "black-openssh": "timeout", "nobanner-openssh": "timeout",
    "flood": "over limit", "refuse": "refused", "refuse-openssh": "refused", "newkey": "host key", "newkey-openssh": "host key",
    "noauth": "auth", "noauth-openssh": "auth", "nologin": "login refused", "nologin-openssh": "login refused",
    "forced": "forced command", "forced-openssh": "forced command", "cutreply": "cut short", "cutreply-openssh": "cut short",
    "close": "cut short", "busy": "busy", "busy-openssh": "busy", "eater": "start-up noise",
    "lost": "unresolved", "lost-openssh": "unresolved",
}  # fmt: skip
READ = {name for name, reach in REACH.items() if reach in ("ok", "become refused", "requires tty")}
EXPLAINED = {
    "plain": "read without root", "tty": "requiretty", "nopy": "install python3", "refuse": "is sshd running", "newkey": "CHANGED",
    "newkey-openssh": "CHANGED", "noauth": "user audit", "nologin": "not available", "forced": "nothing", "busy": "Not allowed at this time",
    "eater": "standard input", "nobanner": "no SSH banner", "black": "did not answer", "flood": "more than it may",
}  # fmt: skip


@pytest.mark.parametrize("name", REACH)
def test_each_host_has_the_word_for_what_became_of_it(audit: Audit, name: str) -> None:
    host = audit.host(name)
    assert host["reach"] == REACH[name], host["detail"]
    assert bool(host["detail"]) is (REACH[name] != "ok") and host["answered"] is (name in READ)
    assert EXPLAINED.get(name, "") in host["detail"], host["detail"]


def test_every_host_and_check_has_exactly_one_result_dead_hosts_included(audit: Audit) -> None:
    report = audit.report
    hosts, checks = [h["name"] for h in report["hosts"]], [c["id"] for c in report["checks"]]
    assert set(hosts) == audit.fleet.names and len(hosts) == len(set(hosts)) and checks
    assert Counter((r["host"], r["check"]) for r in report["results"]) == Counter((h, c) for h in hosts for c in checks)
    dead = {h["name"] for h in report["hosts"] if not h["answered"]}
    assert {r["outcome"] for r in report["results"] if r["host"] in dead} == {"unknown"}
    assert not [r for r in report["results"] if r["outcome"] == "error"]


def test_hosts_beside_dead_and_hostile_ones_get_what_they_would_get_alone(audit: Audit, in_lab: InLab, store: Path) -> None:
    alone = in_lab("run", audit.fleet.inventory, "-b", "-l", "fine3", "-f", "json", "-o", "-", "--store", store)
    among = {r["check"]: r["outcome"] for r in audit.report["results"] if r["host"] == "fine3"}
    fleet_scope = {check.id for check in load((), tables=tables()).checks.values() if check.file.scope == "fleet"}
    told = {r["check"]: r["outcome"] for r in json.loads(alone.stdout)["results"] if r["check"] not in fleet_scope}
    assert told and told == {check: outcome for check, outcome in among.items() if check not in fleet_scope}


def test_run_ends_with_a_status_that_is_told_and_without_a_traceback(audit: Audit) -> None:
    assert audit.done.returncode == 1, audit.done.stderr[-2000:]
    assert f"exit {audit.done.returncode}: " in audit.done.stdout.splitlines()[-1]
    assert "Traceback" not in audit.done.stderr + audit.done.stdout and "fleet-audit itself" not in audit.done.stderr
    assert audit.seconds < 90


@pytest.mark.parametrize("name", COUNTED)
def test_one_connection_and_one_exec_for_each_host(audit: Audit, name: str) -> None:
    more = 1 if name == "jump" else 0  # through which another host is reached
    assert audit.logins[name] == (1 + more, 1), "as the host's own sshd counts them"
    assert (audit.host(name)["costs"]["connections"], audit.host(name)["costs"]["execs"]) == (1, 1)


@pytest.mark.parametrize(("name", "twin"), [("quiet", "twin"), ("calm", "twin-calm")])
def test_nothing_is_written_beyond_what_login_and_sudo_write_themselves(audit: Audit, name: str, twin: str) -> None:
    ours, theirs = changed(*audit.written[name]), changed(*audit.written[twin])
    assert audit.host(name)["reach"] == "ok" and theirs, "the login itself leaves traces: the method sees them"
    timer = {"/run/systemd/units/invocation:systemd-tmpfiles-clean.service"}  # the node's own, a quarter of an hour after it booted
    assert ours - theirs - timer == set()


def test_cost_on_each_node_is_told_and_within_the_promise(audit: Audit) -> None:
    for host in audit.report["hosts"]:
        if host["reach"] == "ok":
            costs = host["costs"]
            assert 0 < costs["cpu_self"] + costs["cpu_children"] < 2 and costs["wire_received"] < 4 << 20, host["name"]


# --- Rights -----------------------------------------------------------------------------------------


def test_account_without_rights_gives_what_it_may_read_and_denied_for_the_rest(audit: Audit) -> None:
    host, records = audit.host("plain"), audit.records("plain")
    assert host["privileged"] is False and records["os-release"][1] == "ok"
    by_check = {r["check"]: r for r in audit.report["results"] if r["host"] == "plain"}
    assert by_check["ssh-root-login-restricted"]["outcome"] == "unknown"
    assert {r[1] for r in records.values()} & {"denied", "failed"}


@pytest.mark.parametrize("name", ["right", "right-openssh"])
def test_password_in_the_inventory_becomes_root(audit: Audit, name: str) -> None:
    assert audit.host(name)["privileged"] is True


def test_wrong_password_is_tried_on_one_host_only_and_once(audit: Audit) -> None:
    tried, told = 0, []
    for host in {"deb11", "deb12", "deb13"} - set(audit.fleet.missing):
        log = audit.fleet.lab.exec(host, ["journalctl", "--quiet", "--output=cat", "-t", "sudo"], check=False).stdout
        tried += sum(int(n) for n in re.findall(r"ops : (\d+) incorrect password attempt", log))
        told.append(audit.host(f"wrong-{host}")["detail"])
    assert tried == 1
    assert sum("not sent again" in detail for detail in told) == len(told) - 1


def test_sudoers_line_lets_an_account_without_rights_run_the_probe_as_root_and_nothing_else(
    fleet_audit: Cli, in_lab: InLab, fleet: Fleet, store: Path
) -> None:
    line = fleet_audit("probe", "sudoers", "--account", "plain").stdout
    fleet.lab.exec("deb12", ["sh", "-c", "cat > /etc/sudoers.d/p && chmod 440 /etc/sudoers.d/p && visudo -cf /etc/sudoers.d/p"], input=line)
    try:
        done = in_lab(
            "run", fleet.inventory, "-b", "-l", "pinned", "--check", "ssh-root-login-restricted", "--store", store, "-f", "json", "-o", "-"
        )
        (host,) = json.loads(done.stdout)["hosts"]
        assert (host["reach"], host["privileged"]) == ("ok", True), host["detail"]
        for other in (["id"], ["/usr/bin/python3", "-c", "print(1)"], ["/usr/bin/python3", "-I", "-S", "-c", "print(1)"]):
            refused = fleet.lab.run(fleet.lab.ssh("deb12", "sudo", "-n", *(f"'{word}'" for word in other), user="plain"))
            assert refused.returncode == 1, refused.stdout
    finally:
        fleet.lab.exec("deb12", ["rm", "/etc/sudoers.d/p"])


# --- Transports -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["deb12", "fine1", "noise"])
def test_both_transports_bring_the_same_records(audit: Audit, name: str) -> None:
    one, other = audit.records(name), audit.records(f"{name}-openssh")
    assert audit.host(name)["transport"] == "paramiko" and audit.host(f"{name}-openssh")["transport"] == "openssh"
    assert {s: (r[1], r[3]) for s, r in one.items()} == {s: (r[1], r[3]) for s, r in other.items()}
    files = [s for s, found in sources().items() if s in one and found.reader == "file"]
    still = [s for s in files if all(p.startswith(("/etc", "/usr")) for p in sources()[s].args["paths"])]
    assert still and {s: one[s][4] for s in still} == {s: other[s][4] for s in still}


# --- Secrets ----------------------------------------------------------------------------------------


def test_no_secret_is_in_the_store_the_report_or_the_output(audit: Audit) -> None:
    shadow = audit.fleet.lab.exec("deb12", ["getent", "shadow", "ops"]).stdout.split(":")[1]
    assert shadow.startswith("$")
    secrets = [word.encode() for word in (PASSWORD, WRONG, TOKEN, shadow, shadow.rpartition("$")[2])]
    found = {
        "stdout": audit.done.stdout.encode(),
        "stderr": audit.done.stderr.encode(),
        **_contents([*audit.store.rglob("*"), audit.report_path]),
    }
    assert len(found) > 20
    assert [(name, word) for name, data in found.items() for word in secrets if word in data] == []


def test_no_planted_secret_crosses_the_wire_when_everything_is_read(in_lab: InLab, fleet: Fleet, store: Path) -> None:
    """The store keeps all that came back: every source's bytes as they were received."""
    done = in_lab("collect", fleet.inventory, "-b", "-l", "deb12", "--all", "--store", store, "-v")
    assert done.returncode == 0, done.stderr
    contents = _contents(store.rglob("*"))
    read = b"".join(contents.values())
    for word in (b"leak.service", b"requirepass", b"pam_mysql.so", b"apt.example.invalid", b"slurmdbd.conf", b"/usr/bin/mysql"):
        assert word in read, f"{word!r} was not read at all"
    shadow = fleet.lab.exec("deb12", ["getent", "shadow", "ops"]).stdout.split(":")[1]
    secrets = [word.encode() for word in (PASSWORD, TOKEN, PLAIN, PRIVATE_KEY, HASH, shadow, shadow.rpartition("$")[2])]
    at = {
        (name, word, data[max(0, data.find(word) - 80) : data.find(word) + 40])
        for name, data in {**contents, "stdout": done.stdout.encode(), "stderr": done.stderr.encode()}.items()
        for word in secrets if word in data
    }  # fmt: skip
    assert at == set()


def _contents(paths: Iterable[Path]) -> dict[str, bytes]:
    """{path: bytes, unpacked too where they are packed}."""
    found = {}
    for path in paths:
        if path.is_file():
            data = path.read_bytes()
            for bits in (zlib.MAX_WBITS, 16 + zlib.MAX_WBITS):  # an object, a gzip file
                with contextlib.suppress(zlib.error):
                    data += zlib.decompressobj(bits).decompress(data)
            found[str(path)] = data
    return found


def test_store_is_for_its_owner_alone(audit: Audit) -> None:
    assert {p for p in audit.store.rglob("*") if p.stat().st_mode & 0o077} == set()


# --- Exit status ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "more", "code"),
    [
        ("fine4", [], 0),
        ("rootlogin", [], 1),
        ("rootlogin", ["--fail-on", "critical"], 0),
        ("refuse", [], 3),
        ("refuse,fine4", ["--max-unknown", "any"], 0),
    ],
)
def test_exit_status_says_how_it_went(in_lab: InLab, fleet: Fleet, store: Path, limit: str, more: list[str], code: int) -> None:
    done = in_lab("run", fleet.inventory, "-b", "-l", limit, "--check", "ssh-root-login-restricted", "--store", store, "-f", "json", *more)
    assert done.returncode == code, done.stdout + done.stderr
    assert lines_with(done.stdout, [f"exit {code}: "])


def test_all_hosts_of_the_lab_are_in_the_dry_run_with_their_transport(in_lab: InLab, fleet: Fleet) -> None:
    done = in_lab("run", fleet.inventory, "-b", "--dry-run")
    assert done.returncode == 0
    told = {line.split(":")[0].strip(): line for line in done.stdout.splitlines()}
    assert fleet.names <= set(told) and ": openssh (" in told["deb12-openssh"] and ": paramiko (" in told["fine1"]
    assert PASSWORD not in done.stdout and WRONG not in done.stdout


def test_report_is_the_one_that_was_loaded(audit: Audit) -> None:
    assert load_report(audit.report_path)["run"]["id"] in {p.name for p in (audit.store / "runs").iterdir()}
