# SPDX-License-Identifier: Apache-2.0
"""One module per area; each has `TABLES`. Adding an area is adding a module."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from fleet_audit.facts.base import Table
from fleet_audit.model import Source, SourceId


@cache
def tables() -> dict[str, Table]:
    """All tables by name, found by looking through this package."""
    found: dict[str, Table] = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base"):
        for table in importlib.import_module(f"{__name__}.{module}").TABLES:
            if table.name in found:
                raise TypeError(f"two tables are named {table.name}")
            found[table.name] = table
    return found


@cache
def sources() -> dict[SourceId, Source]:
    """All sources by id: what the program on the node holds."""
    found: dict[SourceId, Source] = {}
    for table in tables().values():
        for source in table.sources:
            if found.setdefault(source.id, source) != source:
                raise TypeError(f"two sources are named {source.id}")
    return found
