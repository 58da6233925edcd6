# SPDX-License-Identifier: Apache-2.0
"""The command line as a user meets it: bad input, exit statuses, and the way back to evidence."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import MAIN, Cli, cli_environment, load_report
from .factory import write_check

pytestmark = pytest.mark.slow

HERE = ["--check", "ssh-root-login-restricted"]


def _archive(folder: Path, name: str, **files: str) -> Path:
    """A synthetic recorded node with these files."""
    node = folder / name
    node.mkdir(parents=True)
    (node / "node.toml").write_text(f'name = "{name}"\nprovenance = "synthetic, for this test"\nsynthetic = true\n')
    for path, text in files.items():
        target = node / "files" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return node


@pytest.fixture
def checks_dir(tmp_path: Path) -> Path:
    """One check on os-release, and one on the kernel's command line."""
    write_check(
        tmp_path / "mine/os", "os-is-good", query="SELECT host, id AS subject, id = 'good' AS pass, 'id is ' || id AS reason FROM os"
    )
    write_check(tmp_path / "mine/os", "kernel-is-quiet", severity="low", none="fail",
                query="SELECT host, name AS subject, true AS pass, name AS reason FROM kernel_parameters WHERE name = 'quiet'")  # fmt: skip
    return tmp_path / "mine"


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A synthetic fleet of archives: good, bad, dark (nothing recorded) and lost (no archive)."""
    cmdline = {"proc/cmdline": "quiet ro\n"}
    _archive(tmp_path / "nodes", "good", **{"etc/os-release": "ID=good\n", **cmdline})
    _archive(tmp_path / "nodes", "bad", **{"etc/os-release": "ID=bad\n", **cmdline})
    _archive(tmp_path / "nodes", "dark")
    path = tmp_path / "inventory.ini"
    path.write_text("[fleet]\n" + "".join(f"{n} fleet_audit_archive=nodes/{n}\n" for n in ("good", "bad", "dark", "lost")))
    return path


def _mine(checks_dir: Path, store: Path) -> list[object]:
    return ["--checks", checks_dir, "--check", "os-is-good", "--check", "kernel-is-quiet", "--store", store]


def test_every_host_and_check_has_one_result_and_the_dead_are_in_it(
    fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path
) -> None:
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "-f", "json", "-o", tmp_path / "r.json")
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    report = load_report(tmp_path / "r.json")
    found = {(r["host"], r["check"]): r["outcome"] for r in report["results"]}
    assert len(report["results"]) == len(found) == 8
    assert {h: found[h, "os-is-good"] for h in ("good", "bad", "dark", "lost")} == {
        "good": "pass",
        "bad": "fail",
        "dark": "unknown",
        "lost": "unknown",
    }
    reach = {h["name"]: h["reach"] for h in report["hosts"]}
    assert reach == {"good": "ok", "bad": "ok", "dark": "ok", "lost": "unresolved"}
    assert "node.toml" in next(h["detail"] for h in report["hosts"] if h["name"] == "lost")
    assert "3 of 4 hosts answered" in done.stdout
    assert done.stdout.rstrip().splitlines()[-1].strip().startswith("exit 1: 1 failure")


def test_evaluating_the_same_evidence_twice_gives_identical_bytes(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    mine = _mine(checks_dir, store)
    fleet_audit("run", inventory, *mine, "-q")
    for _ in range(2):
        assert fleet_audit("evaluate", *mine, "-q").returncode == 1
    runs = sorted(p for p in (store / "runs").iterdir())
    assert len(runs) == 3
    names = {str(p.relative_to(runs[0])) for p in runs[0].rglob("*") if p.is_file()} - {"run.json"}
    assert {"results.parquet", "findings.parquet", "facts/os.parquet", "checks.json", "evidence.jsonl.gz"} <= names
    for name in names:
        assert len({(run / name).read_bytes() for run in runs}) == 1, name


def test_collect_then_evaluate_then_report(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    mine = _mine(checks_dir, store)
    assert fleet_audit("collect", inventory, *mine, "-q").returncode == 3
    early = fleet_audit("report", "latest", "--store", store)
    assert early.returncode == 2 and "no evaluated run yet" in early.stderr
    assert fleet_audit("evaluate", "latest", *mine, "-q").returncode == 1
    done = fleet_audit("report", "--store", store, "-f", "json", "-o", "-")
    assert json.loads(done.stdout)["posture"]["expected"] == 8
    listed = json.loads(fleet_audit("runs", "--store", store, "--format", "json").stdout)
    assert [r["stage"] for r in listed] == ["collected", "evaluated"]


def test_explain_leads_back_to_the_bytes(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    done = fleet_audit("explain", "bad", "os-is-good", "--store", store, "--format", "json")
    value = json.loads(done.stdout)
    assert (value["outcome"], value["reason"]) == ("fail", "id is bad")
    assert [(e["source"], e["head"]) for e in value["evidence"]] == [("os-release", "ID=bad\n")]
    text = fleet_audit("explain", "lost", "os-is-good", "--store", store).stdout
    assert "unresolved" in text
    for wrong, arguments in (("nobody", ("nobody", "os-is-good")), ("no-such-check", ("bad", "no-such-check"))):
        done = fleet_audit("explain", *arguments, "--store", store)
        assert done.returncode == 2 and wrong in done.stderr


def test_query_reads_facts_and_nothing_else(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    done = fleet_audit("query", "SELECT host, id FROM os ORDER BY host", "--store", store, "--format", "json")
    assert json.loads(done.stdout) == [{"host": "bad", "id": "bad"}, {"host": "good", "id": "good"}]
    for statement in (
        "SELECT * FROM read_text('/etc/passwd')",
        "DROP TABLE os",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM nope",
        "SELEC",
    ):
        done = fleet_audit("query", statement, "--store", store)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), statement


BAD_INPUT = {
    "no such inventory": (["run", "nowhere.ini"], "nowhere.ini: no such inventory"),
    "malformed inventory": (["run", "broken.ini"], "broken.ini"),
    "empty inventory": (["run", "empty.ini"], "empty.ini"),
    "unresolved variable": (["run", "unresolved.ini"], "nothing_there"),
    "limit that fits nobody": (["run", "good.ini", "--limit", "zzz"], "zzz"),
    "no such profile": (["run", "--profile", "nope"], "no profile is named 'nope'"),
    "no such check": (["run", "--check", "ssh-root-login-restrictd"], "did you mean 'ssh-root-login-restricted'"),
    "no such checks folder": (["run", "--checks", "nowhere"], "nowhere: no such folder"),
    "broken check": (["run", "--checks", "badchecks"], "a-check.yaml:"),
    "no such policy": (["run", "--policy", "nowhere.yaml"], "nowhere.yaml: no such policy"),
    "broken policy": (["run", "--policy", "broken.yaml"], "broken.yaml:"),
    "policy names an unknown check": (["run", "--policy", "unknown.yaml"], "no check is named 'no-such'"),
    "policy of a wrong type": (["run", "--policy", "type.yaml"], "ssh-root-login-restricted.allowed: must be a list"),
    "no such format": (["run", "-f", "pdf"], "no such format"),
    "output in no folder": (["run", "-o", "nowhere/r.html"], "there is no folder"),
    "several formats in one file": (["run", "-f", "json,html", "-o", "r"], "need a folder"),
    "max-unknown": (["run", "--max-unknown", "some"], "--max-unknown"),
    "store that is a file": (["run", "--store", "empty.ini"], "--store"),
    "report of no run": (["report", "--store", "fresh"], "there is no store"),
    "no such run": (["explain", "h", "c", "--run", "1999", "--store", "fresh"], "there is no store"),
    "key that is not there": (["run", "good.ini", "--private-key", "nowhere.key"], "nowhere.key: no such file"),
    "limit without an inventory": (["run", "-l", "train"], "--limit needs an inventory"),
    "password without a terminal": (["run", "good.ini", "-K"], "no terminal"),
    "folder without checks": (["run", "--checks", "void"], "void: no checks there"),
    "file instead of checks": (["run", "--checks", "good.ini"], "good.ini: a folder of checks is wanted"),
    "output that may not be written": (["run", "-o", "/proc/x.html"], "it cannot be written"),
    "archive into a file": (["record", "localhost", "good.ini"], "no empty folder"),
    "resume without a run": (["run", "--resume", "--store", "begun"], "no interrupted run"),
    "no such table": (["facts", "show", "nope"], "no table is named 'nope'"),
    "no such host to record": (["record", "zzz", "out", "-i", "good.ini"], "zzz"),
    "vault password file": (["run", "good.ini", "--vault-password-file", "nowhere"], "nowhere"),
    "account": (["probe", "sudoers", "--account", "a b"], "no account name"),
}


@pytest.fixture(scope="module")
def crooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that are wrong in one way each."""
    folder = tmp_path_factory.mktemp("crooked")
    (folder / "broken.ini").write_text("[fleet\nhost ansible_port=\n")
    (folder / "empty.ini").write_text("# nobody\n")
    (folder / "unresolved.ini").write_text("h ansible_host={{ nothing_there }}\n")
    (folder / "good.ini").write_text("h ansible_connection=local\n")
    (folder / "broken.yaml").write_text("profile: [\n")
    (folder / "unknown.yaml").write_text("params: {no-such: {x: 1}}\n")
    (folder / "type.yaml").write_text("params: {ssh-root-login-restricted: {allowed: 3}}\n")
    write_check(folder / "badchecks", "a-check", query="SELECT host FROM nope")
    (folder / "void").mkdir()
    return folder


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_a_clear_message_and_status_2(fleet_audit: Cli, crooked: Path, name: str, tmp_path: Path) -> None:
    arguments, words = BAD_INPUT[name]
    done = fleet_audit(*arguments, cwd=crooked, env={"XDG_STATE_HOME": str(tmp_path)})
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("fleet-audit: ", "Usage: "))


def test_a_broken_archive_is_named_and_the_others_are_read(
    fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path
) -> None:
    (tmp_path / "nodes/bad/node.toml").write_text("name = \n")
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "-v", "-f", "json", "-o", tmp_path / "r.json")
    hosts = {h["name"]: h for h in load_report(tmp_path / "r.json")["hosts"]}
    assert hosts["good"]["reach"] == "ok"
    assert "bad/node.toml" in hosts["bad"]["detail"]
    assert "line 1" in hosts["bad"]["detail"]
    assert "Traceback" not in done.stderr


def test_dry_run_says_what_would_be_read_and_reads_nothing(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "--dry-run")
    assert done.returncode == 0
    assert "good: archive (the inventory says so)" in done.stdout
    assert "/etc/os-release" in done.stdout
    assert not store.exists()


def test_this_machine_is_audited_without_an_inventory(fleet_audit: Cli, store: Path, tmp_path: Path) -> None:
    done = fleet_audit("run", *HERE, "--store", store, "-f", "json", "-o", tmp_path / "r.json")
    assert done.returncode in (0, 1, 3), done.stderr
    assert [h["transport"] for h in load_report(tmp_path / "r.json")["hosts"]] == ["local"]


def test_report_to_standard_output_is_nothing_but_the_report(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "-f", "json", "-o", "-")
    assert json.loads(done.stdout)["schema_version"] == 4
    assert "hosts answered" in done.stderr


def test_a_locale_without_blocks_gets_ascii(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.stdout.isascii()
    assert "hosts answered" in done.stdout


def test_a_pipe_that_closes_is_no_error(tmp_path: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" | head -c 1', *MAIN, "probe", "show"], env=cli_environment(), capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    script = '"$0" "$@"; echo $? >&2'
    done = subprocess.run(
        ["sh", "-c", f"{{ {script}; }} | :", *MAIN, "checks", "list"], env=cli_environment(), capture_output=True, check=False
    )
    assert done.stderr == b"0\n"


def test_a_reader_that_is_gone_does_not_change_the_verdict(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    arguments = ["run", inventory, *_mine(checks_dir, store), "-l", "good"]
    script = '{ "$0" "$@"; echo $? >&2; } | :'
    done = subprocess.run(
        ["sh", "-c", script, *MAIN, *map(str, arguments)], env=cli_environment(), capture_output=True, text=True, check=False
    )
    assert done.stderr.splitlines()[-1] == "0", done.stderr


def test_output_into_a_pipe_a_device_or_through_a_link(
    fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path
) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    assert fleet_audit("report", "--store", store, "-o", "/dev/null").returncode == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    target, link, pipe = tmp_path / "target.json", tmp_path / "link.json", tmp_path / "pipe"
    target.write_text("old")
    link.symlink_to(target)
    assert fleet_audit("report", "--store", store, "-f", "json", "-o", link).returncode == 0
    assert link.is_symlink() and load_report(target)["hosts"]
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as cat:
        assert fleet_audit("report", "--store", store, "-f", "json", "-o", pipe).returncode == 0
        assert cat.stdout is not None and json.loads(cat.stdout.read())["hosts"]


def test_a_store_that_is_only_read_needs_no_right_to_write(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    script, wrap = 'exec "$@"', ["sh", "-c"]
    if os.geteuid() == 0:  # no mode keeps root from writing, a read-only mount does
        script, wrap = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"', ["unshare", "--mount", "sh", "-c"]
    else:
        for path in (store / "runs", store):
            path.chmod(0o500)
    for arguments, code in ((["runs"], 0), (["report", "-o", "-"], 0), (["query", "SELECT 1 AS one FROM os"], 0), (["run", inventory], 2)):
        words = [*wrap, script, store, *MAIN, *arguments, "--store", store]
        done = subprocess.run(list(map(str, words)), env=cli_environment(), capture_output=True, text=True, check=False)
        assert done.returncode == code, (arguments, done.stderr)
    assert "the store cannot be used" in done.stderr


def test_reading_makes_no_store(fleet_audit: Cli, store: Path) -> None:
    done = fleet_audit("runs", "--store", store)
    assert done.returncode == 2 and "there is no store" in done.stderr and not store.exists()


def test_a_folder_that_is_no_run_is_named_and_disturbs_nothing(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    stray = store / "runs" / "20991231T000000Z-0000"
    stray.mkdir(parents=True)
    assert fleet_audit("run", inventory, *_mine(checks_dir, store), "-q").returncode == 1
    listed = json.loads(fleet_audit("runs", "--store", store, "--format", "json").stdout)
    assert {(r["id"], r["stage"]) for r in listed} == {(listed[0]["id"], "evaluated"), (stray.name, "broken")}
    assert fleet_audit("report", "--store", store, "-o", "-").returncode == 0


def test_a_run_is_not_resumed_as_another_one(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path) -> None:
    from fleet_audit.runs import Store

    arguments = ["run", inventory, *_mine(checks_dir, store), "-q"]
    broken = (
        "import fleet_audit.extract as e, os\ndef broken(*a): os._exit(9)\ne.build = broken\nfrom fleet_audit.cli.main import main; main()"
    )
    subprocess.run([MAIN[0], "-c", broken, *map(str, arguments)], env=cli_environment(), check=False)
    assert len(Store(store).partial()) == 1
    other = tmp_path / "other.ini"
    other.write_text(inventory.read_text())
    for more in (["run", other, *arguments[2:]], [*arguments, "-l", "good"]):
        done = fleet_audit(*more, "--resume")
        assert done.returncode == 2 and "cannot be resumed" in done.stderr, done.stderr
    assert fleet_audit(*arguments, "--resume").returncode == 1
    assert Store(store).partial() == []


def test_a_misspelt_group_of_the_policy_is_told(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("groups: {flete: {params: {}}}\n")
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "-q", "--policy", policy)
    assert "groups.flete: no host is in it" in done.stderr


@pytest.mark.parametrize(("text", "words"), [
    ("data: [{path: /lustre/models, on: gpu99}]", "p.yaml:1: data.0.on: the inventory has no host 'gpu99'"),
    ("peers: [{table: packages, key: name, value: version, groups: [flete]}]", "p.yaml:1: peers.0.groups: no host of the inventory is in 'flete'"),
])  # fmt: skip
def test_names_by_which_hosts_would_go_unexamined_are_errors(
    fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path, tmp_path: Path, text: str, words: str
) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text(text + "\n")
    done = fleet_audit("run", inventory, *_mine(checks_dir, store), "-q", "--policy", policy)
    assert done.returncode == 2 and words in done.stderr, done.stderr
    assert not list((store / "runs").glob("*"))


def test_explain_shows_the_parameters_that_held_for_the_host(fleet_audit: Cli, inventory: Path, store: Path, tmp_path: Path) -> None:
    write_check(tmp_path / "own/os", "os-is-allowed", params={"allowed": ["bad"]},
                query="SELECT host, id AS subject, list_contains($allowed, id) AS pass, 'id is ' || id AS reason FROM os")  # fmt: skip
    (tmp_path / "p.yaml").write_text("groups: {fleet: {params: {os-is-allowed: {allowed: [good]}}}}\n")
    fleet_audit(
        "run", inventory, "--checks", tmp_path / "own", "--check", "os-is-allowed", "--policy", tmp_path / "p.yaml", "--store", store, "-q"
    )
    said = json.loads(fleet_audit("explain", "good", "os-is-allowed", "--store", store, "--format", "json").stdout)
    assert (said["outcome"], said["params"]) == ("pass", {"allowed": ["good"]})


def test_hosts_that_a_limit_leaves_out_are_not_compared(fleet_audit: Cli, inventory: Path, store: Path, tmp_path: Path) -> None:
    write_check(tmp_path / "own/os", "os-is-unique", scope="fleet", none="unknown", applies=None, query=(
        "WITH t AS (SELECT count(*) AS n, count(c.host) AS looked FROM hosts AS h LEFT JOIN covered AS c ON c.host = h.host AND c.tab = 'os' "
        "WHERE h.expected) SELECT o.host, o.id AS subject, CASE WHEN t.looked = t.n THEN true END AS pass, "
        "t.looked || ' of ' || t.n || ' compared' AS reason FROM os AS o, t"
    ), examples=[{"hosts": {"a": {"result": "pass", "os": [{}]}}},
                 {"hosts": {"a": {"result": "unknown", "coverage": {"os": "none"}, "os": []}}}])  # fmt: skip
    mine = ["--checks", tmp_path / "own", "--check", "os-is-unique", "--store", store, "-f", "json", "-o", "-"]
    first = fleet_audit("run", inventory, "--limit", "good,bad", *mine)
    again = fleet_audit("evaluate", *mine)
    for done in (first, again):
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        assert [h["name"] for h in report["hosts"]] == ["bad", "good"]
        assert {(r["outcome"], r["reason"]) for r in report["results"]} == {("unknown", "2 of 4 compared")}


def test_a_folder_that_was_not_asked_for_is_not_known(fleet_audit: Cli, inventory: Path, store: Path, tmp_path: Path) -> None:
    mine = ["--check", "data-folders-closed-to-others", "--store", store, "-f", "json", "-o", "-"]
    fleet_audit("run", inventory, "--limit", "good", *mine)
    (tmp_path / "p.yaml").write_text("data: [{path: /lustre/models}]\n")
    (result,) = json.loads(fleet_audit("evaluate", *mine, "--policy", tmp_path / "p.yaml").stdout)["results"]
    assert result["outcome"] == "unknown" and "/lustre/models is in the policy now and was not when the host was read" in result["reason"]


def test_subjects_that_begin_alike_are_two(fleet_audit: Cli, inventory: Path, store: Path, tmp_path: Path) -> None:
    write_check(tmp_path / "own/os", "long-names", query=(
        "SELECT host, repeat('x', 300) || n AS subject, false AS pass, 'bad' AS reason FROM os, unnest(['1', '2']) AS t(n)"
    ).replace("repeat('x', 300)", "'" + "x" * 300 + "'"))  # fmt: skip
    done = fleet_audit(
        "run",
        inventory,
        "--limit",
        "good",
        "--checks",
        tmp_path / "own",
        "--check",
        "long-names",
        "--store",
        store,
        "-f",
        "json",
        "-o",
        "-",
    )
    report = json.loads(done.stdout)
    assert report["results"][0]["failed"] == 2 and len({f["fingerprint"] for f in report["findings"]}) == 2
    assert all(len(f["subject"]) <= 200 for f in report["findings"])


def test_query_runs_the_sql_of_checks(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    statement = "SELECT host FROM os WHERE version_key('dotted', '1.10') > version_key('dotted', '1.9') ORDER BY host;"
    done = fleet_audit("query", statement, "--store", store, "--format", "json")
    assert [row["host"] for row in json.loads(done.stdout)] == ["bad", "good"], done.stderr


def test_query_says_on_which_hosts_a_table_is_not_whole(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    fleet_audit("run", inventory, *_mine(checks_dir, store), "-q")
    done = fleet_audit("query", "SELECT host FROM os", "--store", store)
    assert "not whole: os on 2 of 4 hosts" in done.stderr
    done = fleet_audit("query", "SELECT host, state FROM coverage WHERE tab = 'os' ORDER BY host", "--store", store, "--format", "json")
    assert [row["state"] for row in json.loads(done.stdout)] == ["complete", "none", "complete", "none"]


def test_as_of_before_the_evidence_is_refused(fleet_audit: Cli, checks_dir: Path, store: Path) -> None:
    mine = _mine(checks_dir, store)
    fleet_audit("run", *mine, "-q")
    for text, words in (
        ("1999-01-01", "newer than that"),
        ("tomorrow", "is no time"),
        ("9999-12-31T23:59:59-14:00", "no time that there is"),
    ):
        done = fleet_audit("evaluate", *mine, "--as-of", text)
        assert done.returncode == 2 and words in done.stderr, done.stderr
    late = fleet_audit("evaluate", *mine, "--as-of", "2100-01-01", "-o", "-", "-f", "json")
    assert late.returncode == 3 and "stale: it was read at" in late.stdout
    assert {r["outcome"] for r in json.loads(late.stdout)["results"]} == {"unknown"}


def test_a_recorded_archive_knows_nothing_of_what_was_not_recorded(fleet_audit: Cli, tmp_path: Path, store: Path) -> None:
    node = _archive(tmp_path, "part", **{"etc/os-release": "ID=debian\n"})
    (node / "node.toml").write_text('name = "part"\nprovenance = "synthetic, but said to be a part of a record"\n')
    (tmp_path / "i.ini").write_text("part fleet_audit_archive=part\n")
    done = fleet_audit("run", tmp_path / "i.ini", "--store", store, "-f", "json", "-o", tmp_path / "r.json")
    assert done.returncode == 3
    report = load_report(tmp_path / "r.json")
    outcomes = {r["check"]: r["outcome"] for r in report["results"]}
    known = {c["id"] for c in report["checks"] if set(c["tables"]) <= {"os"}}
    assert {o for check, o in outcomes.items() if check not in known and not check.endswith("-uniform")} <= {"unknown", "notapplicable"}
    assert outcomes["ssh-empty-passwords-refused"] == "unknown"


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.05, 0.4, 0.8, 1.2, 1.8, 2.5])
def test_sigkill_leaves_no_run_that_looks_whole_and_resume_completes_it(
    fleet_audit: Cli, checks_dir: Path, tmp_path: Path, store: Path, after: float
) -> None:
    names = [f"n{i:02d}" for i in range(24)]
    for name in names:
        _archive(tmp_path / "many", name, **{"etc/os-release": "ID=good\n", "proc/cmdline": "quiet\n"})
    inventory = tmp_path / "many.ini"
    inventory.write_text("".join(f"{n} fleet_audit_archive=many/{n}\n" for n in names))
    arguments = ["run", inventory, *_mine(checks_dir, store), "-q", "--concurrency", "2"]
    child = subprocess.Popen([*MAIN, *map(str, arguments)], env=cli_environment(), start_new_session=True)
    time.sleep(after)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    listed = fleet_audit("runs", "--store", store, "--format", "json")
    if listed.returncode == 2:
        return  # it was killed before there was a store
    runs = json.loads(listed.stdout)
    assert not [r for r in runs if r["stage"] == "broken"]
    if not [r for r in runs if r["stage"] == "interrupted"]:
        return  # it was killed before it began, or had ended
    assert fleet_audit(*arguments, "--resume").returncode == 0
    report = json.loads(fleet_audit("report", "--store", store, "-f", "json", "-o", "-").stdout)
    assert [h["name"] for h in report["hosts"]] == names
    assert report["posture"]["pass"] == 2 * len(names)


def test_record_and_audit_again_gives_the_same_facts(fleet_audit: Cli, tmp_path: Path, store: Path) -> None:
    assert fleet_audit("record", "localhost", tmp_path / "me").returncode == 0
    (tmp_path / "i.ini").write_text("me fleet_audit_archive=me\n")
    both = {}
    for name, arguments in (("live", []), ("again", [tmp_path / "i.ini"])):
        fleet_audit("run", *arguments, "--profile", "baseline", "--store", store, "-q")
        rows = fleet_audit("query", "SELECT name, version, arch FROM packages ORDER BY ALL", "--store", store, "--format", "json").stdout
        both[name] = json.loads(rows)
    assert both["live"] == both["again"] != []


def test_help_of_every_command(fleet_audit: Cli) -> None:
    text = fleet_audit("--help").stdout
    for name in ("run", "collect", "evaluate", "report", "runs", "explain", "query", "checks", "facts", "probe", "record"):
        assert f"  {name} " in text
        assert "Usage:" in fleet_audit(name, "--help").stdout


def test_an_internal_failure_is_status_4(fleet_audit: Cli, inventory: Path, checks_dir: Path, store: Path) -> None:
    """A store that vanishes under the run is nobody's bad input."""
    if shutil.which("python3") is None:
        pytest.skip("the mirror lacks python3")
    broken = "import fleet_audit.extract as e\ndef broken(*a, **more): raise RuntimeError('planted')\ne.build = broken\n"
    script = broken + "from fleet_audit.cli.main import main; main()"
    done = subprocess.run(
        [MAIN[0], "-c", script, *map(str, ["run", inventory, *_mine(checks_dir, store), "-q"])],
        env=cli_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr, "planted" in done.stderr) == (4, False, True)
