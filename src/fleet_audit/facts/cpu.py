# SPDX-License-Identifier: Apache-2.0
"""What CPUs a node has, a row per distinct kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, value
from fleet_audit.model import Source, SourceId, Status

CPUINFO = Source(
    SourceId("cpuinfo"),
    "file",
    {
        "paths": ["/proc/cpuinfo"],
        "unique": True,
        "keep": [
            "processor",
            "vendor_id",
            "cpu family",
            "model",
            "stepping",
            "microcode",
            "flags",
            "Features",
            "CPU implementer",
            "CPU part",
        ],
    },
    "proc_cpuinfo(5): a block for each CPU. Lines that repeat come once; `processor` lines, which never repeat, keep the blocks apart.",
)


@dataclass(frozen=True)
class Cpu:
    """A distinct kind of CPU: nodes whose CPUs are all alike have one row. Source: /proc/cpuinfo."""

    vendor: Annotated[str, "GenuineIntel, AuthenticAMD, ...; for arm the implementer's code, such as 0x41"]
    model_name: Annotated[str | None, "Product name as CPU or hypervisor give it; NULL on most arm systems"]
    family: Annotated[int | None, "x86 family"]
    model: Annotated[int | None, "x86 model; for arm the part number"]
    stepping: Annotated[int | None, "x86 stepping"]
    microcode: Annotated[str | None, "Microcode revision in hex; hypervisors may show 0xffffffff or 0x1"]
    hypervisor: Annotated[bool | None, "The CPU says that a hypervisor runs it; NULL on arm"]
    flags: Annotated[list[str] | None, "Feature flags, sorted; NULL if they were not read"]


def parse(evidence: Bundle) -> list[Cpu]:
    """The kinds of CPU of a node; more than one only where CPUs differ."""
    text = whole_lines(evidence, CPUINFO)
    if any(line.strip() and ":" not in line for line in text.splitlines()):
        evidence.gap(CPUINFO, "a line is no field")
    cpus = [cpu for block in _kinds(evidence, _blocks(text)) if (cpu := _cpu(block)) is not None]
    if not cpus:
        raise NotUnderstood(f"{CPUINFO.id}: no CPU in it")
    return cpus


def whole_lines(evidence: Bundle, source: Source) -> str:
    """The text of a source; of one that was cut short only the lines that came whole."""
    text = evidence.body(source)
    if evidence.item(source).status is Status.TRUNCATED:
        return text[: text.rfind("\n") + 1]
    return text


def _blocks(text: str) -> Iterator[dict[str, str]]:
    """{name: value} of each CPU; lines that an earlier CPU had too are missing."""
    block: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, content = line.partition(":")
        name = name.strip()
        if not colon:
            continue
        if name == "processor" or name in block:
            yield block
            block = {}
        if name != "processor":
            block[name] = content.strip()
    yield block


def _kinds(evidence: Bundle, blocks: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Whole blocks of the kinds. What a later block lacks is what the CPUs before it have in common."""
    kinds: list[dict[str, str]] = []
    seen: dict[str, list[str]] = {}
    for block in blocks:
        if not block:
            continue
        kind = {name: values[0] for name, values in seen.items() if len(values) == 1} | block
        if len(kind) < len(seen):
            evidence.gap(CPUINFO, "CPUs differ in several ways, which cannot be told apart")
        kinds.append(kind)
        for name, content in block.items():
            seen.setdefault(name, []).append(content)
    return kinds


def _cpu(block: dict[str, str]) -> Cpu | None:
    vendor = value(block.get("vendor_id")) or value(block.get("CPU implementer"))
    if vendor is None:
        return None
    x86 = "vendor_id" in block
    words = block.get("flags") if x86 else block.get("Features")
    flags = None if words is None else sorted(set(words.split()))
    return Cpu(
        vendor,
        value(block.get("model name")),
        integer(block.get("cpu family")),
        integer(block.get("model")) if x86 else _hex(block.get("CPU part")),
        integer(block.get("stepping")),
        _revision(block.get("microcode")),
        None if flags is None or not x86 else "hypervisor" in flags,
        flags,
    )


def _hex(text: str | None) -> int | None:
    return int(text, 16) if text and re.fullmatch(r"0x[0-9a-fA-F]{1,8}", text) else None


def _revision(text: str | None) -> str | None:
    number = _hex(text)
    return None if number is None else f"0x{number:x}"


TABLES = (Table("cpu", Cpu, (CPUINFO,), parse),)
