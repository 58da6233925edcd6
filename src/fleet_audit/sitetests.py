# SPDX-License-Identifier: Apache-2.0
"""A site's own pytest-testinfra tests as checks: they open their own connections, and their outcomes are results like others.

A test is a check, `site-FILE-NAME`, of the area `site`. Passed is pass, failed is fail, skipped is not applicable, a
setup that breaks is an error; of a host on which a test did not run it is unknown.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_audit.evaluate import fingerprint
from fleet_audit.model import CheckId, Finding, FleetAuditError, Host, HostName, Outcome, Result, Severity

AREA = "site"
LINES_CAP = 500_000
WORDS = {"passed": Outcome.PASS, "failed": Outcome.FAIL, "skipped": Outcome.NOTAPPLICABLE, "error": Outcome.ERROR}


@dataclass(frozen=True)
class SiteResults:
    """What the tests say, in the form of an evaluation."""

    checks: tuple[dict[str, Any], ...]
    """As `checks.json` holds checks."""
    results: tuple[Result, ...]
    findings: tuple[Finding, ...]


def ready(folder: Path) -> None:
    """Raise `FleetAuditError` if tests below a folder cannot be run, before anything is audited."""
    if importlib.util.find_spec("testinfra") is None:
        raise FleetAuditError("--testinfra needs pytest-testinfra: install fleet-audit with the extra `testinfra`")
    if not folder.is_dir():
        raise FleetAuditError(f"--testinfra {folder}: there is no such folder")


def run(folder: Path, inventory: str | None, hosts: Sequence[Host], *, become: bool, seconds: float = 3600.0) -> list[dict[str, Any]]:
    """Run the tests below a folder for these hosts; a line for each outcome. Raises `FleetAuditError` if they cannot be run.

    Recorded hosts are left out: there is nobody to connect to.
    """
    live = [h for h in hosts if h.connection != "archive"]
    if not live:
        return []
    names = ["local://"] if inventory is None else [f"ansible://{h.name}" for h in live]
    with tempfile.TemporaryDirectory(prefix="fleet-audit-") as scratch:
        out = Path(scratch) / "outcomes"
        out.touch(mode=0o600)
        argv = [
            sys.executable, "-m", "pytest", "-q", "-p", "fleet_audit._testinfra", "-p", "no:cacheprovider", "-o", "addopts=", str(folder.absolute()),
            f"--hosts={','.join(names)}", *([f"--ansible-inventory={inventory}"] if inventory else []), *(["--sudo"] if become else []),
        ]  # fmt: skip
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")])
        env = {**os.environ, "FLEET_AUDIT_OUTCOMES": str(out), "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(argv, capture_output=True, text=True, env=env, cwd=folder, timeout=seconds, check=False, errors="replace")
        except subprocess.TimeoutExpired:
            raise FleetAuditError(f"--testinfra {folder}: the tests took longer than {seconds:.0f} s") from None
        if done.returncode not in (0, 1):  # pytest: 0 all passed, 1 some failed; else it did not run them
            words = (done.stdout + done.stderr).strip().splitlines()
            raise FleetAuditError(f"--testinfra {folder}: pytest ended with {done.returncode}: {words[-1] if words else 'no reason given'}")
        lines = out.read_text("utf-8").splitlines()
    if len(lines) > LINES_CAP:
        raise FleetAuditError(f"--testinfra {folder}: more than {LINES_CAP:,} outcomes")
    found = [json.loads(line) for line in lines]
    if inventory is None:
        for line in found:
            line["host"] = live[0].name
    return found


def decided(lines: Iterable[Mapping[str, Any]], hosts: Sequence[HostName]) -> SiteResults:
    """Checks, results and findings of the outcomes: one result for each test and host."""
    tests: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for line in lines:
        tests[_id(line)].append(line)
    checks, results, findings = [], [], []
    for name, outcomes in sorted(tests.items()):
        checks.append(_check(name, outcomes[0]))
        by_host: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for line in outcomes:
            by_host[str(line["host"])].append(line)
        for host in sorted(hosts):
            result, found = _result(CheckId(name), host, by_host.get(host, []))
            results.append(result)
            findings += found
    return SiteResults(tuple(checks), tuple(results), tuple(findings))


def _id(line: Mapping[str, Any]) -> str:
    stem = Path(str(line["file"])).stem.removeprefix("test_")
    words = f"{stem} {str(line['test']).removeprefix('test_')}".lower()
    return "site-" + re.sub(r"[^a-z0-9]+", "-", words).strip("-")


def _result(check: CheckId, host: HostName, lines: Sequence[Mapping[str, Any]]) -> tuple[Result, list[Finding]]:
    """The worst outcome of a host's parameters: error, fail, pass; all skipped is not applicable."""
    outcomes = [WORDS.get(str(line["outcome"]), Outcome.ERROR) for line in lines]
    if not lines:
        words = "the test did not run on this host"
        return Result(check, host, Outcome.UNKNOWN, words, 0, 0, 0), [_finding(check, host, "", Outcome.UNKNOWN, words)]
    worst = next(o for o in (Outcome.ERROR, Outcome.FAIL, Outcome.PASS, Outcome.NOTAPPLICABLE) if o in outcomes)
    bad = [line for line, o in zip(lines, outcomes, strict=True) if o in (Outcome.FAIL, Outcome.ERROR)]
    first = next((line for line, o in zip(lines, outcomes, strict=True) if o is worst), lines[0])
    reason = "" if worst is Outcome.PASS else str(first["reason"]).strip() or f"the test {first['outcome']}"
    found = [
        _finding(check, host, str(line["subject"]), WORDS.get(str(line["outcome"]), Outcome.ERROR), str(line["reason"]) or reason) for line in bad
    ]  # fmt: skip
    return Result(check, host, worst, reason, len(lines), sum(o is Outcome.FAIL for o in outcomes), 0), found


def _finding(check: CheckId, host: HostName, subject: str, outcome: Outcome, reason: str) -> Finding:
    return Finding(check, host, subject, outcome, reason, fingerprint(check, host, subject))


def _check(name: str, line: Mapping[str, Any]) -> dict[str, Any]:
    mark = line.get("mark") or {}
    severity = mark.get("severity", "high")
    if severity not in [str(s) for s in Severity]:
        raise FleetAuditError(f"{line['file']}: {line['test']}: severity {severity!r} is none of {', '.join(map(str, Severity))}")
    title = str(line.get("title") or "") or str(line["test"]).removeprefix("test_").replace("_", " ")
    return {
        "id": name, "title": title[:120], "area": AREA, "severity": severity, "surface": ["tools"], "scope": "host",
        "rationale": mark.get("rationale", "The site tests it."), "unknown": "The test did not run on the host.",
        "fix": mark.get("fix", f"See {line['file']}."), "impact": None, "controls": {}, "references": [f"{line['file']}, {line['test']}"],
        "params": {}, "group_params": [], "query": f"{line['file']}::{line['test']}", "applies": None, "tables": [], "sources": [],
        "references_read": [], "remediation": None, "profiles": [], "aliases": [], "none": "unknown",
    }  # fmt: skip
