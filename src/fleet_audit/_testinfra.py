# SPDX-License-Identifier: Apache-2.0
"""A pytest plugin: writes a line of JSON for each outcome of a site's pytest-testinfra tests. Loaded with `-p` in a process of its own."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """One line for what decides a test: its call, or a setup or teardown that did not pass."""
    outcome = yield
    report = outcome.get_result()
    if report.when != "call" and report.passed:
        return
    params = dict(getattr(getattr(item, "callspec", None), "params", {}))
    host = params.pop("_testinfra_host", None)
    mark = item.get_closest_marker("fleet_audit")
    word = "error" if report.when != "call" and report.failed else report.outcome
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else getattr(getattr(report.longrepr, "reprcrash", None), "message", "")
    backend, doc = getattr(host, "backend", None), getattr(getattr(item, "obj", None), "__doc__", None) or ""
    line = {
        "host": getattr(backend, "hostname", None) or getattr(backend, "host", None), "file": item.location[0],
        "test": getattr(item, "originalname", item.name), "subject": ", ".join(f"{k}={v}" for k, v in sorted(params.items())), "outcome": word,
        "reason": str(text or "")[:2000], "title": doc.strip().split("\n")[0],
        "mark": {k: v for k, v in mark.kwargs.items() if isinstance(v, str)} if mark else {},
    }  # fmt: skip
    with open(os.environ["FLEET_AUDIT_OUTCOMES"], "a", encoding="utf-8") as out:
        out.write(json.dumps(line) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Make our marker known."""
    config.addinivalue_line("markers", "fleet_audit(severity, fix, rationale): how fleet-audit shows the outcome of a site's test")
