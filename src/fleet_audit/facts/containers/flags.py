# SPDX-License-Identifier: Apache-2.0
"""Programs that run, and the flags of their command lines, as Go's pflag reads them."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from typing import Any

from fleet_audit.facts.base import Bundle
from fleet_audit.facts.processes import PROCESSES, documents


def words_of(row: Mapping[str, Any]) -> list[str]:
    """The words of a process's command line; none if it is not understood."""
    words = row.get("argv")
    return [word for word in words if isinstance(word, str)] if isinstance(words, list) else []


def program_of(row: Mapping[str, Any], names: Container[str]) -> str | None:
    """Which of these programs a process is: by its file, else its first word or its own name, as files may have other names."""
    path, words = row.get("exe"), words_of(row)
    for place in (path.removesuffix(" (deleted)") if isinstance(path, str) else "", words[0] if words else "", str(row.get("comm"))):
        name = place.rpartition("/")[2]
        if name in names:
            return name
    return None


def running(evidence: Bundle, names: Container[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(program, process) of what runs of these; a command line that was cut, or may have been, is a gap. Raises `Unread`."""
    for row in documents(evidence):
        program = program_of(row, names)
        if program is not None and type(row.get("pid")) is int:
            if row.get("cut") is not False:
                evidence.gap(PROCESSES, f"the command line of process {row['pid']} is cut")
            yield program, row


def flags_of(words: list[str], valued: Container[str], short: Mapping[str, str]) -> dict[str, list[str]]:
    """{flag: its values in order} of a command line; a switch without a value is `true`.

    `valued` are the flags whose value may be a word of its own, `short` maps letters to flags.
    """
    found: dict[str, list[str]] = {}
    rest = iter(words[1:])
    for word in rest:
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        name, equals, value = word.lstrip("-").partition("=")
        if not word.startswith("--") and name[:1] in short and name != short[name[:1]]:
            letter, value = name[:1], name[1:] + equals + value
            name, equals, value = short[letter], "=" if value else "", value.removeprefix("=")
        name = name.replace("_", "-")
        if not equals:
            value = next(rest, "") if name in valued else "true"
        found.setdefault(name, []).append(value)
    return found


def switch(text: str) -> bool | None:
    """A switch's value as Go's strconv.ParseBool reads it; None for other words."""
    return {"1": True, "t": True, "true": True, "0": False, "f": False, "false": False}.get(text.lower())
