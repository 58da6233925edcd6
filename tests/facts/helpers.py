# SPDX-License-Identifier: Apache-2.0
"""What the tests of fact modules share: evidence in a line, rows by name, shared data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts.base import Extract, Item, Table, extract
from fleet_audit.model import SourceId, Status


def ok(text: str | bytes, code: int | None = None) -> Item:
    """A source that was read; `code` is a command's exit status."""
    return Item(Status.OK, text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"), code)


def status(what: Status, detail: str = "") -> Item:
    """A source that was not read."""
    return Item(what, detail=detail)


def shared(name: str) -> Path:
    """A path in the shared data folder; skips the test, saying so, where it is absent."""
    default = Path(__file__).resolve().parents[2].parent / "shared"
    path = Path(os.environ.get("FLEET_AUDIT_SHARED") or default) / name
    if not path.exists():
        pytest.skip(f"shared data is absent: {path} (set FLEET_AUDIT_SHARED)")
    return path


def run(table: Table, items: Mapping[SourceId, Item]) -> Extract:
    """One table from evidence by `SOURCE.id` (a Source is not hashable); what is not given was not read."""
    return extract(table, items)


def rows_as_dicts(table: Table, extracted: Extract) -> list[dict[str, Any]]:
    """The rows with their column names."""
    names = [column.name for column in table.columns]
    return [dict(zip(names, row, strict=True)) for row in extracted.rows]
