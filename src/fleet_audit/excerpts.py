# SPDX-License-Identifier: Apache-2.0
"""The evidence behind what failed or is not known, as much of it as a report of its own can carry; `explain` has all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet_audit.evidence import Objects
from fleet_audit.model import HostName, MachineError, Outcome, Result, SourceId
from fleet_audit.runs import Run

HEAD = 1500
"""Bytes of a source's evidence that are carried."""
TEXTS = 1 << 20
"""Bytes of all of them together; what is left out is told with its size and hash."""
PAIRS = 20_000
"""Sources of hosts that are told of."""


@dataclass(frozen=True)
class Excerpt:
    """What came of a source on a host. Hosts whose bytes are the same share them."""

    source: SourceId
    status: str
    detail: str
    sha256: str | None
    size: int


@dataclass(frozen=True)
class Excerpts:
    """Evidence by host, and the first bytes of it by hash."""

    of: Mapping[HostName, tuple[Excerpt, ...]] = field(default_factory=dict)
    heads: Mapping[str, bytes] = field(default_factory=dict)


def choose(
    run: Run, objects: Objects, sources: Mapping[str, Sequence[str]], ranks: Mapping[str, int], results: Sequence[Result]
) -> Excerpts:
    """The evidence of results that failed or are not known, the severe ones first. `sources` and `ranks` are by check."""
    bad = (r for r in results if r.outcome in (Outcome.FAIL, Outcome.UNKNOWN, Outcome.ERROR))
    wanted: dict[tuple[str, str], None] = {}
    for result in sorted(bad, key=lambda r: (ranks[r.check], r.outcome is not Outcome.FAIL, r.check, r.host)):
        if len(wanted) >= PAIRS:
            break
        wanted.update(dict.fromkeys((result.host, source) for source in sources[result.check]))
    hosts = {host for host, _ in wanted}
    of: dict[HostName, tuple[Excerpt, ...]] = {}
    hashes: dict[tuple[str, str], str] = {}
    for evidence in run.evidence():
        if evidence.host in hosts:
            told = [r for r in evidence.records if (evidence.host, r.source) in wanted]
            of[evidence.host] = tuple(Excerpt(r.source, str(r.status), r.detail, r.sha256, r.size) for r in told)
            hashes |= {(evidence.host, r.source): r.sha256 for r in told if r.sha256}
    heads: dict[str, bytes] = {}
    left = TEXTS
    for pair in wanted:
        sha256 = hashes.get(pair)
        if sha256 and sha256 not in heads and left > 0:
            try:
                heads[sha256] = objects.get(sha256)[:HEAD]
            except MachineError:  # pruned, or damaged: the report still has its size and hash
                continue
            left -= len(heads[sha256])
    return Excerpts(of, heads)
