# SPDX-License-Identifier: Apache-2.0
"""NVLinks of NVIDIA GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.facts.gpu import PCI, PCI_BUS, VERSION, not_loaded
from fleet_audit.facts.nvidia import driven, no_driver
from fleet_audit.model import Source, SourceId, Status

NVLINK = Source(
    SourceId("nvidia-smi-nvlink"), "command", {"argv": ["nvidia-smi", "nvlink", "-s"], "ok_exits": [0, 3]},
    "nvidia-smi(1), nvlink: a line per GPU, and per link its speed or `<inactive>`. Exit status 3: the GPU has no such thing.",
    when_exists=VERSION.args["paths"][0], timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class Nvlink:
    """An NVLink of an NVIDIA GPU; GPUs without NVLink have no row. Source: `nvidia-smi nvlink -s`."""

    uuid: Annotated[str, "UUID of the GPU"]
    gpu_index: Annotated[int, "Number of the GPU as the driver counts"]
    link: Annotated[int | None, "Number of the link; NULL: all links of the GPU are inactive, which the driver does not tell apart"]
    active: Annotated[bool | None, "It is up; NULL: a state that is not understood"]
    speed_megabytes_per_second: Annotated[int | None, "Speed of an active link in MB/s"]


_GPU = re.compile(r"GPU (\d{1,4}): (.*?) \(UUID: (GPU-[0-9A-Za-z-]{1,64})\)(.*)")
_LINK = re.compile(r"Link (\d{1,3}): (.+)")
_SPEED = re.compile(r"(\d{1,6}(?:\.\d{1,6})?) GB/s")


def gpu_blocks(evidence: Bundle, source: Source) -> list[tuple[int, str, list[str]]]:
    """(index, UUID, what follows) of each GPU that nvidia-smi lists; a gap where PCI shows more of them. Source: `-L` and `nvlink` alike."""
    blocks: list[tuple[int, str, list[str]]] = []
    for line in whole_lines(evidence, source).splitlines():
        head = _GPU.fullmatch(line)
        if head:
            blocks.append((int(head[1]), head[3], [head[4].strip()] if head[4].strip() else []))
        elif blocks:
            blocks[-1][2].extend([line.strip()] if line.strip() else [])
        elif line.strip():
            evidence.gap(source, "a line before the first GPU")
    if not blocks:
        raise NotUnderstood(f"{source.id}: no GPU in it")
    if len(blocks) < (expected := len(driven(evidence))):
        evidence.gap(source, f"{len(blocks)} GPUs of {expected} on PCI")
    return blocks


def _link(evidence: Bundle, uuid: str, index: int, line: str) -> Nvlink | None:
    link = _LINK.fullmatch(line)
    if link is None:
        if "all links are inactive" in line.lower():
            return Nvlink(uuid, index, None, False, None)
        if "does not have or support nvlink" not in line.lower():
            evidence.gap(NVLINK, f"GPU {index}: a line that is no link")
        return None
    speed = _SPEED.fullmatch(link[2].strip())
    if speed:
        return Nvlink(uuid, index, int(link[1]), True, round(float(speed[1]) * 1000))
    active = False if link[2].strip().lower() == "<inactive>" else None
    if active is None:
        evidence.gap(NVLINK, f"GPU {index} link {link[1]}: not understood")
    return Nvlink(uuid, index, int(link[1]), active, None)


def parse_nvlinks(evidence: Bundle) -> Iterable[Nvlink]:
    """A row per link."""
    if evidence.item(NVLINK).status not in (Status.OK, Status.TRUNCATED):
        if not not_loaded(evidence):
            raise Unread("; ".join(describe(s, evidence.item(s)) for s in (VERSION, NVLINK)))
        no_driver(evidence)
        return
    yield from _links(evidence)


def _links(evidence: Bundle) -> Iterator[Nvlink]:
    for index, uuid, lines in gpu_blocks(evidence, NVLINK):
        if not lines:
            evidence.gap(NVLINK, f"GPU {index}: nothing said of its links")
        for line in lines:
            if (row := _link(evidence, uuid, index, line)) is not None:
                yield row


TABLES = (Table("nvlinks", Nvlink, (VERSION, PCI_BUS, PCI, NVLINK), parse_nvlinks),)
