# SPDX-License-Identifier: Apache-2.0
"""Evidence moves results one way, from the sources up: found and run for each check and source by itself.

Each node of the demo fleet is evaluated as it is, and again with each of its sources taken away in each
way. That may turn a result into `unknown`, and nothing into anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest

from fleet_audit import checks
from fleet_audit.collect import Collector, Limits
from fleet_audit.evaluate import Evaluator
from fleet_audit.evidence import Objects
from fleet_audit.facts import sources, tables
from fleet_audit.facts.base import Extract, Item, extract
from fleet_audit.model import Host, HostName, Outcome, SourceId, Status
from fleet_audit.policy import Policy
from fleet_audit.probe import pack
from fleet_audit.tables import Facts
from fleet_audit.transport.dispatch import Dispatch

NODES = sorted((Path(__file__).parents[1] / "demo/nodes").glob("*/node.toml"))
AS_OF = datetime(2026, 11, 24, 6)
GARBAGE = b"\xff\xfe\x00 garbage {[<\n\t= :\n"


def _taken(status: Status, item: Item) -> Item:
    return Item(status, detail="taken away")


AWAY: dict[str, Callable[[Item], Item] | None] = {
    **{str(s): partial(_taken, s) for s in (Status.DENIED, Status.FAILED, Status.TIMEOUT, Status.UNREACHED)},
    "cut short": lambda item: Item(Status.TRUNCATED, item.body[: len(item.body) // 2], item.exit, "taken away"),
    "nothing of it": lambda item: Item(Status.TRUNCATED, b"", None, "taken away"),
    "garbage": lambda item: Item(Status.OK, GARBAGE, 0) if item.status is Status.OK else item,
    "unasked": None,
}


def _evidence(node: Path, folder: Path) -> dict[SourceId, Item]:
    """All sources of a recorded node."""
    objects, dispatch = Objects(folder), Dispatch()
    collector = Collector(pack.build(sources().values()), sorted(sources()), objects, Limits(), dispatch)
    found = collector.host(Host(HostName("node"), address=str(node), connection="archive"), "archive")
    assert found.reach == "ok", found.detail
    return {r.source: Item(r.status, objects.get(r.sha256) if r.sha256 else b"", r.exit, r.detail) for r in found.records}


@pytest.mark.slow
@pytest.mark.parametrize("node", [
    pytest.param(path.parent, id=path.parent.name, marks=[pytest.mark.thorough] if number > 1 else []) for number, path in enumerate(NODES)
])  # fmt: skip
def test_taking_a_source_away_turns_results_into_unknown_and_nothing_else(node: Path, tmp_path: Path) -> None:
    library = checks.load(tables=tables())
    whole = _evidence(node, tmp_path / "objects")
    base = {name: extract(table, whole) for name, table in tables().items()}
    variants: dict[str, dict[str, Extract]] = {"whole": base}
    for source in sources():
        for how, take in AWAY.items():
            poor = {**whole}
            if take is None:
                del poor[source]
            else:
                poor[source] = take(whole[source])
            variants[f"{source}~{how}"] = {
                name: extract(table, poor) if any(s.id == source for s in table.sources) else base[name] for name, table in tables().items()
            }
    facts = Facts(tables())
    for name, extracted in variants.items():
        facts.add_host(HostName(name), ("g",))
        for table, found in extracted.items():
            shared = "whole" if found is base[table] else name
            facts.add(HostName(name), table, f"{shared}-{table}", found)
    facts.finish()
    facts.save(tmp_path / "facts")
    chosen = [c for c in library.checks.values() if c.file.scope == "host"]
    done = Evaluator(
        tmp_path / "facts", {HostName(n): ("g",) for n in variants}, chosen, Policy(), {}, AS_OF, library.references
    ).evaluate()
    wanted = {r.check: r for r in done.results if r.host == "whole"}
    assert Outcome.ERROR not in {r.outcome for r in done.results}
    wrong = [
        f"{r.check}: {r.host} turned {wanted[r.check].outcome} into {r.outcome}: {r.reason}"
        for r in done.results if r.outcome not in (wanted[r.check].outcome, Outcome.UNKNOWN)
    ]  # fmt: skip
    assert wrong == []
