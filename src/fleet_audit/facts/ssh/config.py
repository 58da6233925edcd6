# SPDX-License-Identifier: Apache-2.0
"""sshd's files as they are written, Match blocks included. It cannot know options that sshd was started with (-o, -f)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.model import Source, SourceId

MAINS = ("/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config")

CONFIG = Source(
    SourceId("sshd-config"), "files", {"globs": list(MAINS), "follow": "sshd", "redact": "arguments"},
    "sshd_config(5) with Include; openSUSE reads the file in /usr/etc where /etc has none.",
    needs_root=True, cap_bytes=1 << 19,
)  # fmt: skip


@dataclass(frozen=True)
class SshdConfigSetting:
    """A line of sshd's files. sshd reads them when it starts: `sshd_settings` says what holds. Source: sshd_config(5)."""

    keyword: Annotated[str, "Keyword in lower case, as written: older names of a setting are other keywords"]
    value: Annotated[str, "Its arguments, blanks between them"]
    match_block: Annotated[
        str, "Criteria of the Match block that it stands in, blocks in each other joined by ` & `; empty: it holds for all"
    ]
    counts: Annotated[
        bool, "It is the first of its keyword in its block, or one of those that add up; an earlier line wins over a later one"
    ]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line"]


ADD_UP = frozenset("acceptenv allowgroups allowusers denygroups denyusers hostcertificate hostkey listenaddress port subsystem".split())
DEPTH = 16
"""Includes within includes that sshd follows."""
SIZE = 1 << 20
"""Characters of all files, each counted as often as it is included."""
FOLLOWED = 300
"""Files that the reader follows; more are not read."""
_WORD = re.compile(r"\"((?:[^\"\\]|\\.)*+)\"|'((?:[^'\\]|\\.)*+)'|((?:[^\s\"'\\]|\\.|\\)++)")


@dataclass
class _Reading:
    evidence: Bundle
    document: Mapping[str, dict[str, Any]]
    seen: set[tuple[str, str]] = field(default_factory=set)
    left: int = SIZE


def words_of(text: str) -> list[str] | None:
    """The arguments of a line, quotes taken off and a comment left out; None if they are not understood."""
    found, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
        elif text[at] == "#":
            break
        else:
            word = ""
            while match := _WORD.match(text, at):
                word += re.sub(r"\\([\\\"' ])", r"\1", next(part for part in match.groups() if part is not None))
                at = match.end()
            if at < len(text) and not text[at].isspace():
                return None
            found.append(word)
    return found


def parse_config(evidence: Bundle) -> Iterator[SshdConfigSetting]:
    """A row per line, in the order in which sshd reads them; none where there is no file."""
    document = evidence.document(CONFIG)
    if not isinstance(document, dict) or not all(isinstance(entry, dict) for entry in document.values()):
        raise NotUnderstood(f"{CONFIG.id}: not an object of files")
    if not all(main in document for main in MAINS):
        raise NotUnderstood(f"{CONFIG.id}: not what the reader says")
    if len(document) > FOLLOWED:
        evidence.gap(CONFIG, f"more than {FOLLOWED} files")
    main = next((main for main in MAINS if document[main].get("status") != "absent"), None)
    if main is not None:
        if not isinstance(document[main].get("text"), str):
            raise NotUnderstood(f"{CONFIG.id}: {main} {document[main].get('status')}: {document[main].get('detail', '')}")
        yield from _file(_Reading(evidence, document), main, "", 0)


def _file(reading: _Reading, path: str, outer: str, depth: int) -> Iterator[SshdConfigSetting]:
    entry = reading.document.get(path, {"status": "was not read"})
    text = entry.get("text")
    if not isinstance(text, str):
        if entry.get("status") != "absent":
            reading.evidence.gap(CONFIG, f"{path} {entry.get('status')}: {entry.get('detail', '')}")
        return
    reading.left -= len(text) + 100
    if depth > DEPTH or reading.left < 0:
        reading.evidence.gap(CONFIG, f"{path} includes itself, or too much")
        return
    block = outer
    for number, line in enumerate(text.split("\n"), 1):
        match = re.fullmatch(r"\s*(?:#.*|\"?([^\s=\"#]+)\"?(?:\s*=\s*|\s+|$)(.*))?", line, re.S)
        if match is None:
            reading.evidence.gap(CONFIG, f"{path}:{number} is not understood")
        if match is None or match[1] is None:
            continue
        keyword, words = match[1].lower(), words_of(match[2])
        if words is None or not re.fullmatch(r"[a-z0-9]+", keyword):
            reading.evidence.gap(CONFIG, f"{path}:{number} is not understood")
        elif keyword == "include":
            for pattern in words:
                for name in _included(reading, pattern):
                    yield from _file(reading, name, block, depth + 1)
        elif keyword == "match":
            block = " & ".join(filter(None, (outer, " ".join(words))))
        else:
            counts = keyword in ADD_UP or (block, keyword) not in reading.seen
            reading.seen.add((block, keyword))
            yield SshdConfigSetting(keyword, " ".join(words), block, counts, path, number)


def _included(reading: _Reading, pattern: str) -> list[str]:
    """The files that an Include names, sorted: those of a pattern that are there, hidden ones left out as by glob(7)."""
    pattern = pattern if pattern.startswith("/") else f"/etc/ssh/{pattern}"
    if not re.search(r"[*?[]", pattern):
        return [pattern]
    parts = pattern.split("/")
    found = []
    for path in reading.document:
        names = path.split("/")
        pairs = list(zip(names, parts, strict=False)) if len(names) == len(parts) else []
        if pairs and all(fnmatchcase(name, part) and name.startswith(".") <= part.startswith(".") for name, part in pairs):
            found.append(path)
    return sorted(found)
