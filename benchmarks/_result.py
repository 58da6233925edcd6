# SPDX-License-Identifier: Apache-2.0
"""What a benchmark says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field


class Unavailable(Exception):
    """A benchmark cannot run on this machine, and why."""


@dataclass(frozen=True)
class Result:
    """One figure against its bar, and what else was seen."""

    name: str
    figure: float | None
    unit: str
    bar: str
    """Such as `<= 3` or `>= 8`, as a person reads it."""
    holds: bool | None
    """None if it could not be measured here."""
    detail: list[str] = field(default_factory=list)
    """Lines for people; of a benchmark that could not run, why."""

    def line(self) -> str:
        """The one line for programs."""
        value = {"name": self.name, "figure": self.figure, "unit": self.unit, "bar": self.bar, "holds": self.holds}
        if self.holds is None:
            value["reason"] = "; ".join(self.detail)
        return json.dumps(value)


def at_most(name: str, figure: float, bar: float, unit: str, detail: list[str], *, also: bool = True) -> Result:
    """A figure that must not be over its bar; `also` is what else must hold."""
    return Result(name, round(figure, 3), unit, f"<= {bar:g}", figure <= bar and also, detail)


def at_least(name: str, figure: float, bar: float, unit: str, detail: list[str]) -> Result:
    """A figure that must not be under its bar."""
    return Result(name, round(figure, 3), unit, f">= {bar:g}", figure >= bar, detail)
