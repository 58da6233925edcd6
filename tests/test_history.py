# SPDX-License-Identifier: Apache-2.0
"""Runs over time, through the command line, on synthetic nodes that change: diff, ages, history, baseline, prune."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleet_audit import history
from fleet_audit.runs import Store

from .conftest import Cli
from .factory import write_check

pytestmark = pytest.mark.slow
GOOD, BAD = "ID=good\n", "ID=bad\n"


class Fleet:
    """A synthetic fleet of archives whose files a test changes between runs."""

    def __init__(self, folder: Path, cli: Cli) -> None:
        self.folder, self.cli, self.store = folder, cli, folder / "store"
        query = "SELECT host, id AS subject, id = 'good' AS pass, 'id is ' || id AS reason FROM os"
        write_check(folder / "mine/os", "os-is-good", query=query)

    def set(self, **hosts: str | None) -> None:
        """Each host with its os-release; None: nothing was recorded of it."""
        shutil.rmtree(self.folder / "nodes", ignore_errors=True)
        for name, text in hosts.items():
            (self.folder / "nodes" / name / "files/etc").mkdir(parents=True)
            (self.folder / "nodes" / name / "node.toml").write_text(f'name = "{name}"\nprovenance = "synthetic"\nsynthetic = true\n')
            if text is not None:
                (self.folder / "nodes" / name / "files/etc/os-release").write_text(text)
            else:
                (self.folder / "nodes" / name / "node.toml").write_text(f'name = "{name}"\nprovenance = "synthetic, a part of a record"\n')
        (self.folder / "i.ini").write_text("".join(f"{n} fleet_audit_archive=nodes/{n}\n" for n in hosts))

    def run(self, *more: str) -> Any:
        checks = ["--checks", str(self.folder / "mine"), "--check", "os-is-good"]
        return self.cli("run", str(self.folder / "i.ini"), *checks, "--store", str(self.store), "-f", "json", "-o", "-", *more)

    def ask(self, *words: str) -> Any:
        done = self.cli(*words, "--store", str(self.store), "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def fleet(tmp_path: Path, fleet_audit: Cli) -> Fleet:
    return Fleet(tmp_path, fleet_audit)


def test_what_is_not_seen_is_never_called_fixed(fleet: Fleet) -> None:
    fleet.set(fixed=BAD, dark=BAD, gone=BAD, open=BAD, held=GOOD, new=GOOD)
    fleet.run("-q")
    fleet.set(fixed=GOOD, dark=None, open=BAD, held=None, new=BAD, added=BAD)
    fleet.run("-q")
    found = fleet.ask("diff")
    assert {c["host"]: c["kind"] for c in found["changes"]} == {
        "fixed": "fixed", "dark": "lost-sight", "gone": "not-compared", "open": "open", "held": "newly-unknown", "new": "new",
        "added": "not-compared",
    }  # fmt: skip
    assert any("1 host came: added" in note for note in found["notes"]) and any("gone" in note for note in found["notes"])
    text = fleet.cli("diff", "--store", str(fleet.store)).stdout
    assert "Fixed: 1" in text and "Lost from sight: failed before, not known now: 1" in text and "Still open: 1" in text
    fleet.set(fixed=GOOD, dark=BAD, open=BAD, held=GOOD, new=BAD, added=BAD)
    fleet.run("-q")
    assert {c["host"]: c["kind"] for c in fleet.ask("diff")["changes"] if c["host"] in ("dark", "held")} == {
        "dark": "newly-known", "held": "seen-again"
    }  # fmt: skip


def test_the_same_evidence_decided_again_is_said(fleet: Fleet) -> None:
    fleet.set(a=BAD)
    fleet.run("-q")
    first = fleet.ask("runs")[0]["id"]
    fleet.cli("evaluate", "--store", str(fleet.store), "-q")
    assert fleet.cli("diff", "--store", str(fleet.store)).returncode == 2, "there is no run of other evidence before it"
    found = fleet.ask("diff", first, "latest")
    assert "both runs decide the same evidence" in found["notes"] and found["counts"]["open"] == 1


def test_a_changed_rule_is_noted(fleet: Fleet) -> None:
    fleet.set(a=BAD)
    fleet.run("-q")
    query = "SELECT host, id AS subject, id = 'bad' AS pass, 'id is ' || id AS reason FROM os"
    write_check(fleet.folder / "mine/os", "os-is-good", query=query)
    fleet.run("-q")
    found = fleet.ask("diff")
    assert any("1 check decides otherwise now: os-is-good" in note for note in found["notes"]) and found["counts"]["fixed"] == 1


def test_only_what_is_new_fails_against_a_baseline(fleet: Fleet) -> None:
    fleet.set(a=BAD, b=GOOD)
    assert fleet.run("-q").returncode == 1
    first = fleet.ask("runs")[0]["id"]
    same = fleet.run("--baseline", first)
    assert same.returncode == 0 and f"1 that run {first} had too" in same.stderr
    fleet.set(a=BAD, b=BAD)
    worse = fleet.run("--baseline", first)
    assert worse.returncode == 1 and "1 failure at or above --fail-on high, and 1 that run" in worse.stderr
    assert fleet.run("--baseline", "nowhere").returncode == 2


def test_ages_of_findings_and_the_trend(fleet: Fleet) -> None:
    fleet.set(a=BAD, b=GOOD)
    fleet.run("-q")
    fleet.set(a=BAD, b=BAD)
    fleet.run("-q")
    first, second = (r["id"] for r in fleet.ask("runs"))
    rows = fleet.ask("show", "findings", "--ages")
    assert {r["host"]: (r["first_run"], r["runs"]) for r in rows} == {"a": (first, 2), "b": (second, 1)}
    found = fleet.ask("history")
    assert [(r["passed"], r["failed"], r["open_failures"]["high"]) for r in found["runs"]] == [(1, 1, 1), (0, 2, 2)]
    text = fleet.cli("history", "--store", str(fleet.store)).stdout
    assert "50.0 % to  50.0 %   open 0 critical, 1 high" in text and "shown to pass" in text
    assert "2 fail" in fleet.cli("history", "--area", "os", "--store", str(fleet.store)).stdout
    assert "did you mean 'os'" in fleet.cli("history", "--area", "oss", "--store", str(fleet.store)).stderr


def test_a_broken_run_is_named_and_the_rest_answers(fleet: Fleet) -> None:
    fleet.set(a=BAD)
    fleet.run("-q")
    fleet.run("-q")
    fleet.run("-q")
    one, two, three = (r["id"] for r in fleet.ask("runs"))
    shutil.rmtree(fleet.store / "history")
    (fleet.store / "runs" / two / "results.parquet").write_bytes(b"PAR1 cut short")
    done = fleet.cli("history", "--store", str(fleet.store))
    assert f"skipped {two}" in done.stderr and one in done.stdout and three in done.stdout
    (fleet.store / "history" / f"{one}.json").write_text("{")
    assert one in fleet.cli("history", "--store", str(fleet.store)).stdout, "a damaged summary is made again"
    (fleet.store / "runs" / two / "run.json").write_text("{}")
    compared = fleet.cli("diff", "--store", str(fleet.store))
    assert compared.returncode == 0 and "skipped" in compared.stderr and one in compared.stdout


def test_prune_keeps_what_is_wanted_and_the_evidence_of_it(fleet: Fleet) -> None:
    for number in range(3):
        fleet.set(a=f"ID=n{number}\n")
        fleet.run("-q")
    would = fleet.cli("prune", "--keep-daily", "1", "--dry-run", "--store", str(fleet.store))
    assert would.stdout.count("would remove") == 2 and len(fleet.ask("runs")) == 3
    objects = len([p for p in (fleet.store / "objects").rglob("*") if p.is_file()])
    done = fleet.cli("prune", "--keep-daily", "1", "--store", str(fleet.store))
    assert "2 runs and" in done.stdout and len(fleet.ask("runs")) == 1
    left = len([p for p in (fleet.store / "objects").rglob("*") if p.is_file()])
    assert left < objects
    tombs = sorted((fleet.store / "runs").glob("*.pruned"))
    assert [[p.name for p in tomb.iterdir()] for tomb in tombs] == [["run.json"], ["run.json"]], "the run after it names it by its hash"
    assert fleet.cli("prune", "--keep-daily", "1", "--store", str(fleet.store)).returncode == 0 and all(t.is_dir() for t in tombs)
    assert fleet.cli("evaluate", "--store", str(fleet.store), "-q").returncode == 1, "the run that was kept is whole"
    assert "id is n2" in fleet.cli("explain", "a", "os-is-good", "--store", str(fleet.store)).stdout


def test_the_newest_of_each_period_is_kept() -> None:
    runs = [f"2026{m:02d}{d:02d}T060000Z-{h:04x}" for m in (1, 2, 3) for d in (1, 2, 15) for h in (1, 2)]
    kept = history.keepers({run: run for run in runs}, daily=2, weekly=1, monthly=3)
    assert kept == {"20260315T060000Z-0002", "20260302T060000Z-0002", "20260215T060000Z-0002", "20260115T060000Z-0002"}
    assert history.keepers({run: run for run in runs}, 0, 0, 0) == {runs[-1]} and history.keepers({}, 1, 1, 1) == set()


def test_an_evaluation_of_old_evidence_takes_no_audits_place() -> None:
    """Evidence counts once, by its newest evaluation; its own run stays too, as it holds the evidence."""
    one, two, again = "20260101T060000Z-0001", "20260102T060000Z-0002", "20260102T070000Z-0003"
    assert history.keepers({one: one, two: two, again: one}, 5, 0, 0) == {one, two, again}
    assert history.keepers({one: one, two: two, again: one}, 0, 0, 0) == {one, two, again}, "the newest evidence, and the newest evaluation"
    assert history.keepers({one: one, two: two}, 0, 0, 0) == {two}


def test_a_store_that_cannot_be_written_still_tells_its_history(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.set(a=BAD)
    fleet.run("-q")
    shutil.rmtree(fleet.store / "history")
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert len(history.read(Store(fleet.store)).runs) == 1


def test_a_report_says_what_changed_since_a_run_and_of_an_owner_only_that(fleet: Fleet, tmp_path: Path) -> None:
    """The policy names the owners; a report of one holds nothing of the others' hosts, in any part of it."""
    policy = "owners:\n  Team One: {hosts: ['one*']}\n  Team Two: {groups: [two]}\n  Nobody: {groups: [none]}\n"
    (fleet.folder / "fleet-audit.yaml").write_text(policy)
    fleet.set(oneA=GOOD, oneB=BAD, other=BAD)
    fleet.run("-q")
    fleet.set(oneA=BAD, oneB=GOOD, other=BAD)
    (fleet.folder / "i.ini").write_text(
        "oneA fleet_audit_archive=nodes/oneA\noneB fleet_audit_archive=nodes/oneB\n[two]\nother fleet_audit_archive=nodes/other\n"
    )
    fleet.run("-q")
    store = ["--store", str(fleet.store)]
    whole = json.loads(fleet.cli("report", "-f", "json", "-o", "-", "--since", "previous", *store).stdout)
    assert whole["since"]["counts"]["new"] == 1 and whole["since"]["counts"]["fixed"] == 1 and whole["since"]["counts"]["open"] == 1
    assert {c["host"]: c["kind"] for c in whole["since"]["changes"]} == {"oneA": "new", "oneB": "fixed"}
    assert json.loads(fleet.cli("report", "-f", "json", "-o", "-", *store).stdout)["since"] is None
    part = json.loads(fleet.cli("report", "-f", "json", "-o", "-", "--owner", "Team One", "--since", "previous", *store).stdout)
    assert [h["name"] for h in part["hosts"]] == ["oneA", "oneB"] and "other" not in json.dumps({**part, "run": None})
    assert [r["outcome"] for r in part["results"]] == ["fail", "pass"] and part["since"]["counts"]["open"] == 0
    for name in ("html", "csv", "markdown", "sarif", "junit"):
        out = tmp_path / f"r.{name}"
        assert fleet.cli("report", "-f", name, "-o", str(out), "--owner", "Team Two", "--since", "previous", *store).returncode == 0
        assert "other" in out.read_text() and "oneA" not in out.read_text().partition('id="data"')[0], name
    assert "What changed" in (tmp_path / "r.html").read_text() and "1 finding fail as before" in (tmp_path / "r.html").read_text()
    (folder,) = [p for p in [fleet.store / "reports"] if fleet.cli("report", "-f", "csv", "--owner", "Team Two", *store).returncode == 0]
    assert [p.name for p in folder.iterdir() if "Team_Two" in p.name]
    for name, words in (("Nobody", "no host of theirs"), ("Team Tow", "did you mean")):
        bad = fleet.cli("report", "--owner", name, *store)
        assert bad.returncode == 2 and words in bad.stderr, bad.stderr


def test_time_to_fix_is_from_the_first_failure_to_the_first_audit_that_saw_it_hold(fleet: Fleet) -> None:
    """Four audits, dated by hand: `quick` is fixed at once, `dark` after an audit that could not tell, `lost` is only out of sight."""
    days = ("20260901T060000Z-0001", "20260903T060000Z-0002", "20260906T060000Z-0003", "20260910T060000Z-0004")
    states: list[dict[str, str | None]] = [
        {"quick": BAD, "dark": BAD, "lost": BAD, "good": GOOD, "open": BAD},
        {"quick": GOOD, "dark": BAD, "lost": BAD, "good": GOOD, "open": BAD},
        {"quick": GOOD, "dark": None, "lost": None, "good": GOOD, "open": BAD},
        {"quick": GOOD, "dark": GOOD, "lost": None, "good": GOOD, "open": BAD},
    ]  # fmt: skip
    assert fleet.cli("history", "--fixed", "--store", str(fleet.store)).returncode == 2
    for day, state in zip(days, states, strict=True):
        fleet.set(**state)
        fleet.run("-q")
        newest = max(p for p in (fleet.store / "runs").iterdir() if p.name not in days)
        (newest / "run.json").write_text((newest / "run.json").read_text().replace(newest.name, day))
        newest.rename(newest.with_name(day))
    shutil.rmtree(fleet.store / "history")
    found = {f["host"]: (f["first_seen"][:10], f["fixed_at"][:10], f["days"]) for f in fleet.ask("history", "--fixed")}
    assert found == {"quick": ("2026-09-01", "2026-09-03", 2.0), "dark": ("2026-09-01", "2026-09-10", 9.0)}
    text = fleet.cli("history", "--fixed", "--store", str(fleet.store)).stdout
    assert "2 fixed   median 5.5 days, longest 9.0" in text and "2026-09-10     9.0 days  dark  os-is-good" in text
