# SPDX-License-Identifier: Apache-2.0
"""What chronyd says of its synchronisation, as it runs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, utc, value
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

TRACKING = Source(
    SourceId("chrony-tracking"), "command", {"argv": ["chronyc", "-n", "-c", "tracking"], "unprivileged": True},
    "chronyc(1): fourteen fields, comma-separated. As nobody it asks chronyd on the loopback and makes no socket file.",
    when_exists="/run/chrony", timeout_s=5.0,
)  # fmt: skip
PEERS = Source(
    SourceId("chrony-sources"), "command", {"argv": ["chronyc", "-n", "-c", "sources"], "unprivileged": True},
    "chronyc(1): ten fields for each source, comma-separated.",
    when_exists="/run/chrony", timeout_s=5.0,
)  # fmt: skip


@dataclass(frozen=True)
class TimeTracking:
    """What chronyd says of its synchronisation; no row where chrony does not run. Source: chronyc(1) tracking."""

    reference: Annotated[str | None, "Source that it follows; NULL: none"]
    stratum: Annotated[int, "Hops from a reference clock; 0: not synchronised"]
    updated_at: Annotated[datetime | None, "When the last measurement was taken"]
    offset_microseconds: Annotated[int, "How far the system's clock is from true time, either way"]
    root_delay_microseconds: Annotated[int, "Delay of the network to the reference clock"]
    leap_status: Annotated[str, "Normal, Insert second, Delete second or Not synchronised"]


@dataclass(frozen=True)
class TimePeer:
    """A source that chronyd asks; no row where chrony does not run. Source: chronyc(1) sources."""

    kind: Annotated[str, "server, peer or refclock"]
    state: Annotated[str, "selected, combined, not combined, unusable, falseticker or variable"]
    address: Annotated[str, "Address, or name of a reference clock"]
    stratum: Annotated[int, "Its own distance from a reference clock"]
    reachable: Annotated[bool, "One of the last eight polls was answered"]
    offset_microseconds: Annotated[int, "Offset of the last measurement"]


def _microseconds(text: str) -> int:
    return round(float(text) * 1_000_000)


def parse_tracking(evidence: Bundle) -> Iterable[TimeTracking]:
    """One row where chrony runs."""
    if evidence.item(TRACKING).status is Status.SKIPPED:
        return []
    found = lines(evidence, TRACKING)
    words = found[0].split(",") if len(found) == 1 else []
    number = r"-?\d{1,12}\.\d{1,12}"
    if len(words) != 14 or not words[2].isdecimal() or not all(re.fullmatch(number, words[place], re.ASCII) for place in (3, 4, 10)):
        raise NotUnderstood(f"{TRACKING.id}: not its fourteen fields")
    when = float(words[3])
    return [TimeTracking(value(words[1]), int(words[2]), utc(when) if when > 0 else None, abs(_microseconds(words[4])),
                         _microseconds(words[10]), words[13])]  # fmt: skip


_MODES = {"^": "server", "=": "peer", "#": "refclock"}
_STATES = {"*": "selected", "+": "combined", "-": "not combined", "?": "unusable", "x": "falseticker", "~": "variable"}


def parse_peers(evidence: Bundle) -> Iterable[TimePeer]:
    """A row per source that chronyd asks."""
    if evidence.item(PEERS).status is Status.SKIPPED:
        return
    for line in lines(evidence, PEERS):
        words = line.split(",")
        if (
            len(words) == 10
            and words[0] in _MODES
            and words[1] in _STATES
            and words[3].isdecimal()
            and re.fullmatch(r"[0-7]{1,3},\d+,-?\d{1,12}\.\d{1,12}", f"{words[5]},{words[6]},{words[7]}", re.ASCII)
        ):
            yield TimePeer(_MODES[words[0]], _STATES[words[1]], words[2], int(words[3]), int(words[5], 8) > 0, _microseconds(words[7]))
        else:
            evidence.gap(PEERS, "a line that is no source")
