# SPDX-License-Identifier: Apache-2.0
"""YAML that people write: read with limits, every value with the line it stands on."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from fleet_audit.model import FleetAuditError, did_you_mean
from fleet_audit.safeyaml import Loader

SIZE_CAP = 4 << 20
DEPTH_CAP = 32
NODE_CAP = 100_000
"""Values of a document with all its aliases written out."""

Place = tuple[str | int, ...]


class Document:
    """A YAML file's value, and where each part of it stands."""

    def __init__(self, path: Path, value: Any, lines: dict[Place, int]) -> None:
        self.path, self.value, self._lines = path, value, lines

    def at(self, place: Place) -> str:
        """`file:line` of a place, or of the nearest one around it."""
        while place and place not in self._lines:
            place = place[:-1]
        return f"{self.path}:{self._lines.get(place, 1)}"

    def error(self, place: Place, message: str) -> FleetAuditError:
        """An error that names file, line and field."""
        field = ".".join(str(part) for part in place)
        return FleetAuditError(f"{self.at(place)}: {field + ': ' if field else ''}{message}")

    def invalid(self, error: ValidationError, known: Iterable[str] = ()) -> FleetAuditError:
        """A pydantic error as one that names file, line, field and the nearest known word."""
        errors = error.errors(include_url=False)
        first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])  # a misspelt field explains a missing one
        place = tuple(p for p in first["loc"] if not (isinstance(p, str) and p.startswith(("function-", "dict[", "list["))))
        if first["type"] == "extra_forbidden":
            return self.error(place, f"unknown field{did_you_mean(str(place[-1]), known)}")
        if first["type"] == "missing":
            return self.error(place, "this field is missing")
        return self.error(place, _words(first))


_SHOULD = {
    "model_type": "a mapping of fields", "dict_type": "a mapping", "list_type": "a list, such as [a, b]", "string_type": "a text",
    "int_type": "a number", "int_parsing": "a number", "bool_type": "true or false", "float_type": "a number",
}  # fmt: skip


def _words(error: Any) -> str:
    """What is wrong with a value, in words of the file."""
    given = error.get("input")
    if (wanted := _SHOULD.get(error["type"])) is not None:
        hint = " (YAML takes yes, no, on and off for true and false: quote it)" if isinstance(given, bool) and wanted == "a text" else ""
        return f"must be {wanted}{hint}"
    if error["type"] in ("too_short", "string_too_short"):
        return "must not be empty"
    if error["type"] in ("too_long", "string_too_long"):
        return f"is longer than {error['ctx']['max_length']:,} allows"
    return str(error["msg"]).removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")


def load(path: Path, *, until: bytes | None = None) -> Document:
    """Read one document, or what stands before `until`. Raises `FleetAuditError` naming file and line for what is wrong with it."""
    try:
        data = path.read_bytes()
        return parse(data if until is None else data.partition(until)[0] + b"\n", path)
    except OSError as error:
        raise FleetAuditError(f"{path}: {error.strerror}") from None


def parse(data: bytes, path: Path) -> Document:
    """One document from bytes; `path` is what errors name."""
    if len(data) > SIZE_CAP:
        raise FleetAuditError(f"{path}: larger than {SIZE_CAP >> 20} MiB")
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FleetAuditError(f"{path}:{line}: not UTF-8, in which it must be written") from None
    try:
        loader = Loader(data)
        node = loader.get_single_node()
        lines: dict[Place, int] = {}
        value = _build(loader, node, (), lines, path) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FleetAuditError(f"{path}:{mark.line + 1 if mark else 1}: not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FleetAuditError(f"{path}: not YAML: {str(error).splitlines()[0]}") from None
    return Document(path, value, lines)


def _build(loader: Any, node: Any, place: Place, lines: dict[Place, int], path: Path) -> Any:
    lines[place] = node.start_mark.line + 1
    if len(place) > DEPTH_CAP:
        raise FleetAuditError(f"{path}:{lines[place]}: nested deeper than {DEPTH_CAP}")
    if len(lines) > NODE_CAP:
        raise FleetAuditError(f"{path}:{lines[place]}: more than {NODE_CAP} values, aliases written out")
    if isinstance(node, yaml.MappingNode):
        found: dict[Any, Any] = {}
        own: set[Any] = set()
        for key_node, value_node, merged in _pairs(loader, node):
            word = key_node.tag == "tag:yaml.org,2002:bool"  # `on:` is a word, whatever YAML 1.1 says
            key = key_node.value if word else loader.construct_object(key_node, deep=True)
            if not isinstance(key, str | int):
                raise FleetAuditError(f"{path}:{key_node.start_mark.line + 1}: a key must be a word, not {key!r}")
            if key in own:
                raise FleetAuditError(f"{path}:{key_node.start_mark.line + 1}: {key!r} is given twice")
            if not merged:
                own.add(key)
            found[key] = _build(loader, value_node, (*place, key), lines, path)
            lines[(*place, key)] = key_node.start_mark.line + 1
        return found
    if isinstance(node, yaml.SequenceNode):
        return [_build(loader, child, (*place, i), lines, path) for i, child in enumerate(node.value)]
    try:
        return loader.construct_object(node, deep=True)
    except ValueError as error:
        raise FleetAuditError(f"{path}:{lines[place]}: {'.'.join(map(str, place))}: not YAML: {error}") from None


def _pairs(loader: Any, node: Any) -> list[tuple[Any, Any, bool]]:
    """A mapping's keys and values, those merged in by `<<` first, so that its own win."""
    merge = "tag:yaml.org,2002:merge"
    own = [(key, value, False) for key, value in node.value if key.tag != merge]
    if len(own) == len(node.value):
        return own
    sources = [v for k, v in node.value if k.tag == merge]
    nodes = [n for source in sources for n in (source.value if isinstance(source, yaml.SequenceNode) else [source])]
    if sum(len(n.value) for n in nodes if isinstance(n, yaml.MappingNode)) > NODE_CAP:
        raise ValueError(f"`<<` merges more than {NODE_CAP} values")
    merged = yaml.MappingNode(node.tag, [(k, v) for k, v in node.value if k.tag == merge], node.start_mark, node.end_mark)
    loader.flatten_mapping(merged)
    return [(key, value, True) for key, value in merged.value] + own
