# SPDX-License-Identifier: Apache-2.0
"""The program as one artefact: the same bytes for every host and run, named by their SHA-256."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from fleet_audit.model import DataFolder, InternalError, Source

PARTS = (
    "base", "files", "words", "redact", "readers", "values", "processes", "accounts", "trees", "archive", "work", "nvml", "children", "frames",
    "probe", "main",
)  # fmt: skip
"""Modules of the program, in an order in which each finds what it needs while it is read."""
_SIBLINGS = re.compile(r"^from fleet_audit\.probe\.node\.\w+ import (?:\([^)]*\)|.*)\n", re.M)


@dataclass(frozen=True)
class Program:
    """What is carried to a node."""

    text: bytes
    """Python source of the program, the definitions of all sources included."""
    nvml: bytes
    """Source of the `pynvml` module, sent only to a node that asks for it."""

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the program: what a sudoers line can demand."""
        return hashlib.sha256(self.text).hexdigest()

    @cached_property
    def packed(self) -> bytes:
        """The program as it goes over the wire, after its length in eight digits."""
        data = zlib.compress(self.text, 9)
        return b"%08d" % len(data) + data

    @cached_property
    def packed_nvml(self) -> bytes:
        """The NVML part as it goes over the wire."""
        data = zlib.compress(self.nvml, 9)
        return b"%08d" % len(data) + data


def build(sources: Iterable[Source]) -> Program:
    """The program that holds these sources."""
    specs: dict[str, dict[str, Any]] = {source.id: source.for_node() for source in sources}
    nvml = _pynvml()
    head = f"SOURCES = {json.dumps(specs, sort_keys=True)!r}\nNVML_SHA256 = {hashlib.sha256(nvml).hexdigest()!r}\n"
    return Program(text=head.encode() + "".join(map(_part, PARTS)).encode(), nvml=nvml)


def _part(name: str) -> str:
    """A module of the program, without the imports of its siblings: all share one namespace on the node."""
    text = resources.files(__package__).joinpath("node", f"{name}.py").read_text(encoding="utf-8")
    return _SIBLINGS.sub("", text)


def request(
    sources: Iterable[str], nonce: str, *, seconds: float, command_seconds: float, byte_budget: int, data: Iterable[DataFolder] = ()
) -> bytes:
    """What this host is asked for: source ids, data folders and budgets, nothing that could be code."""
    body = {
        "sources": sorted(sources),
        "nonce": nonce,
        "data": [{"path": folder.path, "kind": folder.kind, "network": folder.network} for folder in data],
        "budget": {"seconds": seconds, "command_seconds": command_seconds, "cpu": 2.0, "bytes": byte_budget},
    }
    sent = json.dumps(body, sort_keys=True).encode()
    return b"%08d" % len(sent) + sent


def _pynvml() -> bytes:
    """The module of the distribution nvidia-ml-py, without importing it."""
    spec = importlib.util.find_spec("pynvml")
    if spec is None or spec.origin is None:
        raise InternalError("the module pynvml is missing: install the distribution nvidia-ml-py")
    return Path(spec.origin).read_bytes()
