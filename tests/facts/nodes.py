# SPDX-License-Identifier: Apache-2.0
"""Evidence by the real readers: of a folder of files made for a test, and of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.facts.base import Item, Table
from fleet_audit.model import Host, HostName, Source, SourceId, Status
from fleet_audit.probe import pack
from fleet_audit.transport.dispatch import Dispatch
from tests.probe.helpers import ask

ABSENT = {"status": "absent", "detail": "No such file or directory"}
DENIED = {"status": "denied", "detail": "Permission denied"}
FOLDER = {"status": "failed", "detail": "not a regular file"}


def sources_of(tables: Iterable[Table]) -> list[Source]:
    """The sources of some tables, each once."""
    return list({source.id: source for table in tables for source in table.sources}.values())


def node(
    folder: Path, tables: Iterable[Table], files: Mapping[str, str | bytes], links: Mapping[str, str] | None = None
) -> dict[SourceId, Item]:
    """What the program reads on a node with these files; a name with `/` at its end is a folder. All the rest is absent."""
    (folder / "files").mkdir(parents=True)
    (folder / "node.toml").write_text('name = "node"\nprovenance = "made by a test"\nsynthetic = true\n')
    for path, content in files.items():
        target = folder / "files" / path.lstrip("/")
        if path.endswith("/"):
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content if isinstance(content, bytes) else content.encode())
    for path, goal in (links or {}).items():
        (folder / "files" / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path.lstrip("/")).symlink_to(goal)
    sources, objects = sources_of(tables), Objects(folder / "objects")
    collector = Collector(pack.build(sources), sorted(source.id for source in sources), objects, Limits(), Dispatch())
    found = collector.host(Host(HostName("node"), address=str(folder), connection="archive"), "archive")
    assert found.reach == "ok", found.detail
    return {r.source: Item(r.status, objects.get(r.sha256) if r.sha256 else b"", r.exit, r.detail) for r in found.records}


def this_machine(tables: Iterable[Table]) -> dict[SourceId, Item]:
    """What the program reads here, as root."""
    import os

    if os.geteuid() != 0:
        pytest.skip("this machine's accounts are not read: not root")
    sources = sources_of(tables)
    asked = ask(sources)
    return {s.id: Item(Status(asked[s.id].status), asked[s.id].body, asked[s.id].exit, asked[s.id].detail) for s in sources}


def files(**entries: object) -> Item:
    """The answer of a reader of many paths: texts, entries, or a status that stands for one."""
    return Item(Status.OK, json.dumps({path: {"text": e} if isinstance(e, str) else e for path, e in entries.items()}).encode())
