# SPDX-License-Identifier: Apache-2.0
"""Snaps and what they are connected to, as snapd tells. It cannot know what a newer revision would bring."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe, value
from fleet_audit.model import Source, SourceId, Status

RUNS = "/run/systemd/units/invocation:snapd.service"
"""There while snapd runs, since systemd 236; its socket would start one that does not. Source: systemd, src/core/unit.c."""

LIST = Source(
    SourceId("snap-list"), "command", {"argv": ["snap", "list", "--all", "--color=never", "--unicode=never"]},
    "snap(8) list: columns under a heading, of snapd 2.16 to 2.7x; publishers that are verified end in **, starred ones in *.",
    when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
CONNECTIONS = Source(
    SourceId("snap-connections"), "command", {"argv": ["snap", "connections"]},
    "snap(8) connections, since snapd 2.38: columns under a heading, nothing at all where nothing is connected.",
    when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
FILES = Source(
    SourceId("snap-files"), "stat", {"globs": ["/var/lib/snapd/snaps/*.snap"]},
    "Snaps as snapd keeps them, by which their absence is proved where snapd does not listen.",
)  # fmt: skip


@dataclass(frozen=True)
class Snap:
    """A revision of a snap on the node, in use or kept to go back to. No rows where there are none. Source: snap(8) list."""

    name: Annotated[str, "Snap"]
    version: Annotated[str | None, "Version, as its maker writes it"]
    revision: Annotated[str, "Revision of the store, or x with a number for one from a file"]
    local: Annotated[bool, "From a file, not from a store: nobody vouches for it"]
    channel: Annotated[str | None, "Channel that it follows; a branch shows as …; NULL for none"]
    publisher: Annotated[str | None, "User name of the publisher"]
    publisher_state: Annotated[str, "verified, starred or unproven"]
    type: Annotated[str, "app, base, core, snapd, kernel, gadget or another word"]
    active: Annotated[bool, "In use; else disabled, or an older revision kept to go back to"]
    confinement: Annotated[str, "strict, classic (none), devmode (not enforced) or jailmode (enforced by will)"]
    held: Annotated[bool, "Its refreshes are held; snapd before 2.58 had no such holds"]
    broken: Annotated[bool, "It cannot be used"]
    notes: Annotated[list[str], "All notes, such as try, ignore-validation or in-cohort"]


@dataclass(frozen=True)
class SnapConnection:
    """An interface that is connected. No rows where nothing is. Source: snap(8) connections."""

    interface: Annotated[str, "Interface, such as docker-support"]
    shared_content: Annotated[str | None, "What the interface `content` shares"]
    plug_snap: Annotated[str, "Snap that is given the right; `system` for snapd's own"]
    plug: Annotated[str, "Its plug"]
    slot_snap: Annotated[str, "Snap that gives it; `system` for snapd's own"]
    slot: Annotated[str, "Its slot"]
    manual: Annotated[bool, "Connected by hand"]
    gadget: Annotated[bool, "Connected by the gadget snap"]


def said(evidence: Bundle, source: Source) -> str | None:
    """What a command of snap printed; None where it is proved that there is no snap."""
    item = evidence.item(source)
    if item.status is not Status.SKIPPED:
        return evidence.body(source)
    if files := evidence.entries(FILES):
        raise Unread(f"{describe(source, item)}: snapd does not listen, but {len(files)} snaps are there")
    if evidence.gaps:
        raise Unread("; ".join(evidence.gaps[:3]))
    return None


def _cells(evidence: Bundle, source: Source, text: str, needed: set[str]) -> Iterable[dict[str, str]]:
    """The rows under a heading as {heading in lower case: cell}; columns are two blanks or more apart."""
    lines = [line.rstrip() for line in text.split("\n") if line.strip()]
    heads = re.split(r" {2,}", lines[0].lower()) if lines else []
    if lines and not needed <= set(heads):
        raise NotUnderstood(f"{source.id}: not the heading that is known")
    for line in lines[1:]:
        cells = re.split(r" {2,}", line)
        if len(cells) == len(heads):
            yield dict(zip(heads, cells, strict=True))
        else:
            evidence.gap(source, "a line has not as many columns as the heading")


_TYPES = ("base", "core", "snapd", "kernel", "gadget", "os")


def parse_snaps(evidence: Bundle) -> Iterable[Snap]:
    """A row per revision."""
    text = said(evidence, LIST)
    rows = 0
    for cells in _cells(evidence, LIST, text or "", {"name", "version", "rev", "notes"}):
        notes = [] if cells["notes"] == "-" else cells["notes"].split(",")
        publisher = cells.get("publisher", cells.get("developer", "-"))
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", cells["name"]) or not re.fullmatch(r"x?[0-9]+|unset", cells["rev"]):
            evidence.gap(LIST, "a line that is no snap")
            continue
        rows += 1
        yield Snap(
            cells["name"], value(cells["version"], missing="-"), cells["rev"], cells["rev"].startswith("x"),
            value(cells.get("tracking"), missing="-"), value(publisher.rstrip("*✓✪"), missing="-"),
            "verified" if publisher.endswith(("**", "✓")) else "starred" if publisher.endswith(("*", "✪")) else "unproven",
            next((note for note in notes if note in _TYPES), "app"), "disabled" not in notes,
            next((word for word in ("devmode", "jailmode", "classic") if word in notes), "strict"),
            "held" in notes, "broken" in notes, notes,
        )  # fmt: skip
    if text is not None and not rows and not evidence.gaps and evidence.entries(FILES):
        evidence.gap(LIST, "it lists no snap, but files of snaps are there")


def parse_connections(evidence: Bundle) -> Iterable[SnapConnection]:
    """A row per connection."""
    for cells in _cells(evidence, CONNECTIONS, said(evidence, CONNECTIONS) or "", {"interface", "plug", "slot", "notes"}):
        name = re.fullmatch(r"([a-z0-9-]+)(?:\[(.*)\])?", cells["interface"])
        plug, slot = (cells[end].partition(":") for end in ("plug", "slot"))
        if not name or not plug[1] or not slot[1]:
            evidence.gap(CONNECTIONS, "a line that is no connection")
            continue
        notes = cells["notes"].split(",")
        yield SnapConnection(
            name[1], name[2], plug[0] or "system", plug[2], slot[0] or "system", slot[2], "manual" in notes, "gadget" in notes
        )


TABLES = (
    Table("snaps", Snap, (LIST, FILES), parse_snaps),
    Table("snap_connections", SnapConnection, (CONNECTIONS, FILES), parse_connections),
)
