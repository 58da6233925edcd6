# SPDX-License-Identifier: Apache-2.0
"""Output formats: one module each, a pure function of the report model to bytes.

A format is a module of this package with `FORMAT`, an instance of `interface.Format`.
"""

from __future__ import annotations

import importlib
import pkgutil

from fleet_audit.report.interface import Format

_PARTS = {"interface", "text", "schema"}


def names() -> list[str]:
    """Names of all formats, found by looking through this package."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name not in _PARTS and not m.name.startswith("_"))


def get(name: str) -> Format:
    """The format of a name."""
    found: Format = importlib.import_module(f"{__name__}.{name}").FORMAT
    return found
