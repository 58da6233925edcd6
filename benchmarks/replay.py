# SPDX-License-Identifier: Apache-2.0
"""A fleet made from one recorded host: every host differs in identity and in a share of what it has."""

from __future__ import annotations

import json
import random
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks._workload import dpkg_status
from fleet_audit.evidence import Objects
from fleet_audit.model import Host, HostEvidence, HostName, Record, SourceId, Status

SOCKETS = 40
Change = Callable[[str, random.Random, int, float], str]


def record(objects: Objects, folder: Path) -> HostEvidence:
    """All sources of this machine, with a package list and sockets that are the same on every machine."""
    from fleet_audit.collect import Collector, Limits
    from fleet_audit.facts import sources
    from fleet_audit.probe import pack
    from fleet_audit.transport.dispatch import Dispatch

    dispatch = Dispatch()
    here = Host(HostName("recorded"), connection="local")
    evidence = Collector(pack.build(sources().values()), sorted(sources()), objects, Limits(), dispatch).host(here, "local")
    dispatch.close()
    if not evidence.answered:
        raise RuntimeError(f"this machine could not be read: {evidence.reach}: {evidence.detail}")
    made = {"dpkg-status": _packages(), "sockets": _sockets()}
    records = [_with(r, made[r.source], objects) if r.source in made else r for r in evidence.records if r.source != "rpm-qa"]
    records.append(Record(SourceId("rpm-qa"), Status.SKIPPED, "no /var/lib/rpm on this node"))
    return replace(evidence, records=tuple(sorted(records, key=lambda r: r.source)))


def hosts(base: HostEvidence, objects: Objects, count: int, seed: int = 1, share: float = 0.05) -> Iterator[HostEvidence]:
    """So many hosts; the same seed gives the same ones."""
    texts = {r.source: objects.get(r.sha256).decode("utf-8", "surrogateescape") for r in base.records if r.sha256 and r.source in CHANGES}
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        records = tuple(
            _with(r, CHANGES[r.source](texts[r.source], chance, number, share), objects) if r.source in texts else r for r in base.records
        )
        yield replace(base, host=HostName(f"made{number:05}"), records=records, transport="archive")


def _with(record: Record, text: str, objects: Objects) -> Record:
    body = text.encode("utf-8", "surrogateescape")
    sha256 = objects.put(body, zlib.compress(body, 1))
    return replace(record, status=Status.OK, detail="", sha256=sha256, size=len(body))


def _packages() -> str:
    """The five fields that the probe keeps of each stanza."""
    keep = ("Package: ", "Status: ", "Version: ", "Architecture: ", "Source: ")
    return re.sub(r"\n\n+", "\n\n", "".join(f"{line}\n" for line in dpkg_status().split("\n") if not line or line.startswith(keep)))


def _sockets() -> str:
    rows = [
        {"kind": "tcp", "local": f"{'0100007F' if number % 2 else '00000000'}:{1024 + number * 7:04X}", "uid": str(number % 5 * 100),
         "owners": [{"comm": f"made{number}", "exe": f"/usr/sbin/made{number}"}]}
        for number in range(SOCKETS)
    ]  # fmt: skip
    return json.dumps({"sockets": rows, "unread": {}, "owners_gap": ""})


def _other_packages(text: str, chance: random.Random, number: int, share: float) -> str:
    """Other versions of some packages, at least one."""
    blocks = text.split("\n\n")
    for index in chance.sample(range(len(blocks)), max(1, int(len(blocks) * share))):
        blocks[index] = re.sub(r"(?m)^Version: .*", f"Version: {chance.randrange(9)}.{number}-1", blocks[index])
    return "\n\n".join(blocks)


def _other_sockets(text: str, chance: random.Random, number: int, share: float) -> str:
    """Other ports and other processes behind some sockets, at least one."""
    document = json.loads(text)
    rows = document["sockets"]
    for index in chance.sample(range(len(rows)), max(1, int(len(rows) * share))):
        rows[index]["local"] = f"{rows[index]['local'].partition(':')[0]}:{chance.randrange(1, 65536):04X}"
        rows[index]["owners"] = [{"comm": f"job{number}", "exe": f"/opt/job{number}/bin/serve"}]
    return json.dumps(document)


def _other_digits(text: str, chance: random.Random, number: int, share: float) -> str:
    """The same text with the last eight digits of its longest number or id replaced: another identity."""
    words = re.findall(r"[0-9a-f]{8,}", text)
    return text.replace(max(words, key=len)[-8:], f"{10_000_000 + number}") if words else text


CHANGES: dict[SourceId, Change] = {
    SourceId("dpkg-status"): _other_packages,
    SourceId("sockets"): _other_sockets,
    **{SourceId(name): _other_digits for name in ("boot-time", "boot-id", "machine-id", "dmi-id", "product-uuid")},
    **{SourceId(name): lambda text, chance, number, share: f"made{number:05}\n" for name in ("hostname", "kernel-hostname")},
}
"""What differs from host to host; sources that there are not are passed over."""
