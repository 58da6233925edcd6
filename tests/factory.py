# SPDX-License-Identifier: Apache-2.0
"""Synthetic checks and facts for tests of the later stages."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fleet_audit import checkfile, checks
from fleet_audit.checkfile import Check
from fleet_audit.checks import Library
from fleet_audit.evaluate import Evaluation, Evaluator
from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract
from fleet_audit.model import Coverage, HostName, Outcome
from fleet_audit.policy import Policy
from fleet_audit.tables import Facts

AS_OF = datetime(2026, 1, 1)
BASE: dict[str, Any] = {
    "title": "A state", "severity": "high", "surface": ["tools"], "rationale": "Because.", "fix": "Do it.", "profiles": ["baseline"],
    "none": "unknown", "none_because": "there is no row", "references": ["synthetic"],
    "examples": [{"result": "pass"}, {"result": "fail"}],
}  # fmt: skip
_NEUTRAL = {"VARCHAR": "x", "BIGINT": 0, "BOOLEAN": False, "TIMESTAMP": AS_OF, "VARCHAR[]": [], "BIGINT[]": []}


def write_check(folder: Path, name: str, **fields: Any) -> Path:
    """A check file; `fields` over the defaults, a field of None is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    document = {k: v for k, v in {"id": name, **BASE, **fields}.items() if v is not None}
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def make_check(folder: Path, name: str = "a-check", **fields: Any) -> Check:
    """A loaded check."""
    return checkfile.load_check(write_check(folder, name, **fields), frozenset(tables()) | {"hosts", "covered"})


def rows(table: str, *given: Mapping[str, Any], coverage: Coverage = Coverage.COMPLETE, reason: str = "") -> Extract:
    """Rows of a table; required columns not given get a neutral value."""
    columns = tables()[table].columns
    return Extract(
        tuple(tuple(row.get(c.name, None if c.nullable else _NEUTRAL[c.type]) for c in columns) for row in given),
        coverage, reason or ("" if coverage is Coverage.COMPLETE else "synthetic gap"),
    )  # fmt: skip


def decide(folder: Path, chosen: list[Check], hosts: Mapping[str, Mapping[str, Extract]], *, policy: Policy | None = None,
           groups: Mapping[str, tuple[str, ...]] | None = None, seconds: float = 20.0) -> Evaluation:  # fmt: skip
    """Evaluate checks on hosts with these tables; a table not given has no coverage record."""
    used = {table for found in hosts.values() for table in found} | {table for check in chosen for table in check.tables}
    facts = Facts({name: table for name, table in tables().items() if name in used})
    for name, found in hosts.items():
        facts.add_host(HostName(name), (groups or {}).get(name, ()))
        for table, extract in found.items():
            facts.add(HostName(name), table, f"{name}-{table}", extract)
    facts.finish()
    facts.save(folder / "facts")
    facts.connection.close()
    names = {HostName(name): (groups or {}).get(name, ()) for name in hosts}
    return Evaluator(folder / "facts", names, chosen, policy or Policy(), {}, AS_OF, library().references, seconds).evaluate()


@cache
def library() -> Library:
    """The shipped checks, loaded once."""
    return checks.load(tables=tables())


def outcomes(found: Evaluation) -> dict[tuple[str, str], Outcome]:
    """{(check, host): outcome}."""
    return {(r.check, r.host): r.outcome for r in found.results}
