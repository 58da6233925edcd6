# SPDX-License-Identifier: Apache-2.0
"""A whole node as the program's readers saw it (recorded/debian13-vm.json says how), and evidence that hypothesis makes up."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.model import SourceId, Status

Evidence = dict[SourceId, Item]


def recorded() -> Evidence:
    """All evidence of the recorded node."""
    found = json.loads((Path(__file__).parent / "recorded" / "debian13-vm.json").read_text())["sources"]
    return {SourceId(name): Item(Status(e["status"]), e["text"].encode(), detail=e["detail"]) for name, e in found.items()}


def anything(tables: Iterable[Table], words: Iterable[str], lines: Iterable[str] = ()) -> st.SearchStrategy[Evidence]:
    """Evidence with any status and bytes; documents and lines that are nearly right among them."""
    inner = st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.sampled_from([*lines, ""])
    values = st.recursive(
        inner, lambda more: st.lists(more, max_size=3) | st.dictionaries(st.sampled_from([*words, "status", "text"]), more, max_size=4)
    )
    texts = st.lists(st.sampled_from([*lines, "", "x"]) | st.text(max_size=20), max_size=6).map("\n".join)
    bodies = (
        st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()) | texts.map(lambda t: t.encode("utf-8", "replace"))
    )
    names = sorted({source.id for table in tables for source in table.sources})
    return st.dictionaries(st.sampled_from(names), st.builds(Item, st.sampled_from(Status), bodies))


def document(entries: dict[str, Any]) -> Item:
    """The answer of a reader of many paths; a text stands for a file's content, None for a path that is absent."""
    absent = {"status": "absent", "detail": "No such file or directory"}
    found = {path: {"text": e} if isinstance(e, str) else absent if e is None else e for path, e in entries.items()}
    return Item(Status.OK, json.dumps(found).encode())
