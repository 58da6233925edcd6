# SPDX-License-Identifier: Apache-2.0
"""What a format is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fleet_audit.findings import Report


@dataclass(frozen=True)
class Format:
    """One output format."""

    suffix: str
    """Of its files, without a dot."""
    render: Callable[[Report], bytes]
    """The same report gives the same bytes."""
