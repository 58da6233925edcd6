# SPDX-License-Identifier: Apache-2.0
"""The evidence that a report carries: what failed or is not known, the severe first, within limits (real runs of synthetic nodes)."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_audit import excerpts
from fleet_audit.findings import load
from fleet_audit.model import Outcome
from fleet_audit.runs import Run, Store
from tests.conftest import Cli

DEMO = Path(__file__).parent.parent / "demo"
CHECKS = ("ssh-root-login-restricted", "os-release-supported", "ssh-tunnel-off")
pytestmark = pytest.mark.slow


@pytest.fixture
def run(fleet_audit: Cli, tmp_path: Path) -> Run:
    chosen = [word for check in CHECKS for word in ("--check", check)]
    done = fleet_audit("run", DEMO / "inventory.ini", *chosen, "--store", tmp_path / "store", "-q")
    assert done.returncode in (1, 3), done.stderr
    return Store(tmp_path / "store").find("latest")


def test_what_failed_or_is_not_known_has_its_bytes(run: Run) -> None:
    report = load(run)
    found = report.excerpts
    bad = {r.host: r.check for r in report.results if r.outcome in (Outcome.FAIL, Outcome.UNKNOWN, Outcome.ERROR)}
    assert set(found.of) == set(bad)
    whole = {e.host: {r.source: r for r in e.records} for e in run.evidence()}
    carried = 0
    for host, told in found.of.items():
        sources = {s for c in report.checks for s in c.sources if (c.id, host) in {(r.check, r.host) for r in report.results}}
        for excerpt in told:
            record = whole[host][excerpt.source]
            assert excerpt.source in sources and (excerpt.status, excerpt.sha256, excerpt.size) == (
                str(record.status),
                record.sha256,
                record.size,
            )
            if excerpt.sha256:
                assert found.heads[excerpt.sha256] == run.store.objects.get(excerpt.sha256)[: excerpts.HEAD]
                carried += 1
    assert carried > 5


def test_limits_leave_out_bytes_and_say_what_they_were(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(excerpts, "TEXTS", 10)
    found = load(run).excerpts
    assert len(found.heads) == 1 and sum(len(told) for told in found.of.values()) > 10
    monkeypatch.setattr(excerpts, "PAIRS", 1)
    assert len(load(run).excerpts.of) == 1


def test_evidence_that_is_gone_is_no_reason_to_have_no_report(run: Run) -> None:
    for path in (run.store.folder / "objects").glob("*/*"):
        path.unlink()
    found = load(run).excerpts
    assert found.heads == {} and found.of
