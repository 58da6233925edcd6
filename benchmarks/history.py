# SPDX-License-Identifier: Apache-2.0
"""A year of daily runs of 1,000 hosts: the trend, the ages of findings, and the difference of two runs."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._result import Result, at_most
from fleet_audit import diff, history
from fleet_audit.findings import FINDING_COLUMNS, RESULT_COLUMNS, load
from fleet_audit.runs import Store
from fleet_audit.tables import Facts, write_rows

RUNS, HOSTS, CHECKS = 365, 1000, 200
BAR_S = 2.0
_FAILING = 0.07
"""Share of the results that fails."""


def _make(folder: Path) -> Store:
    """A store of made runs: two that are whole, and of the others what a trend and ages read."""
    store, dice = Store(folder).writable(), random.Random(7)
    hosts, checks = [f"n{i:04d}" for i in range(HOSTS)], [f"area-check-{i:03d}" for i in range(CHECKS)]
    failing = {(c, h) for c in checks for h in hosts if dice.random() < _FAILING}
    start = datetime.now(UTC) - timedelta(days=RUNS)  # the two that are whole get their names now
    for day in range(RUNS):
        for pair in [p for p in failing if dice.random() < 0.01]:
            failing.discard(pair)
        failing |= {(dice.choice(checks), dice.choice(hosts)) for _ in range(130)}
        _run(store, start + timedelta(days=day), hosts, checks, failing, whole=day >= RUNS - 2)
    return store


def _run(store: Store, when: datetime, hosts: list[str], checks: list[str], failing: set[tuple[str, str]], *, whole: bool) -> None:
    name = f"{when:%Y%m%dT%H%M%SZ}-0000"
    findings = [(c, h, "subject", "fail", "it is so", f"{hash((c, h)) & (2**128 - 1):032x}", None) for c, h in sorted(failing)]
    if not whole:
        folder = store.folder / "runs" / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps({"made": ["x" * 200] * HOSTS}))  # about as long as a real one: it is hashed
        write_rows(folder / "findings.parquet", FINDING_COLUMNS, findings)
    else:
        draft = store.begin({"profile": "made", "checks": checks}, "0" * 64, [])
        results = [
            (c, h, "fail" if (c, h) in failing else "pass", "it is so", 1, int((c, h) in failing), 0, False) for c in checks for h in hosts
        ]
        write_rows(draft.folder / "results.parquet", RESULT_COLUMNS, results)
        write_rows(draft.folder / "findings.parquet", FINDING_COLUMNS, findings)
        facts = Facts({})
        facts.finish()
        facts.save(draft.folder / "facts")
        described: list[dict[str, Any]] = [
            {"id": c, "title": c, "area": "area", "severity": "high", "surface": ["tools"], "rationale": "r", "fix": "f", "controls": {},
             "references": [], "params": {}, "query": "q", "tables": [], "sources": []} for c in checks
        ]  # fmt: skip
        (draft.folder / "checks.json").write_text(json.dumps(described))
        entry = {"groups": ["g"], "expected": True, "reach": "ok", "detail": "", "answered": True, "privileged": True, "transport": "paramiko",
                 "seconds": 1.0, "costs": {}, "notes": []}  # fmt: skip
        sealed = draft.seal({"stage": "evaluated", "as_of": when.isoformat(), "hosts": dict.fromkeys(hosts, entry)})
        name = sealed.file.id
    summary = history.Summary(
        id=name, started_at=when, profile="made", hosts=HOSTS, answered=HOSTS, passed=HOSTS * CHECKS - len(failing), failed=len(failing), waived=0,
        unknown=0, no_answer=0, open_failures={"high": len(failing)}, areas={"area": (1, 1, 1)}, evidence_of=name,
        run_sha256=history.run_hash(store, name),
    )  # fmt: skip
    (store.folder / history.FOLDER).mkdir(exist_ok=True)
    (store.folder / history.FOLDER / f"{name}.json").write_text(summary.model_dump_json())


def run() -> Result:
    """The slowest of the three answers."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-bench-"))
    try:
        store = _make(folder)
        begin = time.monotonic()
        found = history.read(store)
        trend = time.monotonic() - begin
        latest, before = (store.find(name) for name in reversed(store.runs()[-2:]))
        report = load(latest)
        begin = time.monotonic()
        ages = history.ages(store, report)
        aged = time.monotonic() - begin
        begin = time.monotonic()
        compared = diff.compare(before, latest)
        differed = time.monotonic() - begin
    finally:
        shutil.rmtree(folder)
    detail = [
        f"{len(found.runs)} runs of {HOSTS} hosts x {CHECKS} checks", f"trend {trend:.2f} s, ages of {len(ages):,} findings {aged:.2f} s",
        f"difference of two runs {differed:.2f} s ({sum(compared.counts.values()):,} changes)",
    ]  # fmt: skip
    return at_most("history", max(trend, aged, differed), BAR_S, "s", detail)
