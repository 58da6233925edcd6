# SPDX-License-Identifier: Apache-2.0
"""The stacks of PAM, includes followed. It cannot know which services programs ask for, nor what a module does."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from fleet_audit.facts.accounts.metadata import masked
from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.model import Source, SourceId

FOLDERS = ("/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d")
"""In the order in which Linux-PAM looks for a service's file."""

PAM = Source(
    SourceId("pam-services"), "files",
    {"globs": [name for folder in FOLDERS for name in (folder, f"{folder}/*")] + ["/etc/pam.conf"], "redact": "arguments"},
    "pam.conf(5), pam.d(5): a file per service, `type control module arguments`; Linux-PAM also reads /usr/lib/pam.d and the vendor's folder.",
)  # fmt: skip


@dataclass(frozen=True)
class PamRule:
    """A module in the stack of a service, in the order in which they are asked. Source: pam.d(5)."""

    service: Annotated[str, "Service, such as sshd, sudo or common-auth; `other` holds for those without a file"]
    type: Annotated[str, "auth, account, password or session"]
    position: Annotated[int, "Place in the stack of that type, from 0, includes counted in"]
    control: Annotated[str, "required, requisite, sufficient, optional, or `[value=action ...]`"]
    module: Annotated[str, "Module without folder and .so, such as pam_unix"]
    module_path: Annotated[str, "Module as written"]
    arguments: Annotated[list[str], "Its arguments"]
    silent: Annotated[bool, "`-` before the type: it may be missing without a word in the log"]
    via: Annotated[
        list[str], "References that lead to it from the service's own file, such as `@include common-auth` or `substack system-auth`"
    ]
    file: Annotated[str, "File that it stands in"]
    line: Annotated[int, "Line where it begins"]


TYPES = ("auth", "account", "password", "session")
DEPTH = 32
"""Includes within includes that Linux-PAM follows."""
RULES = 5000
"""Lines that one service may have, includes counted in."""
ALL_RULES = 100_000
"""The same of all services together."""
_LEFT = re.compile(r"\.(?:dpkg-\w+|rpm(?:save|new|orig)|ucf-\w+|bak|old|orig|pam-old|swp)$|~$|^\.")
_TOKEN = re.compile(r"\[((?:[^\]\\]|\\.?)*+)(?:\]|\Z)|([^\s\[]\S*)", re.S)


@dataclass
class _Stacks:
    evidence: Bundle
    files: Mapping[str, str]
    """{path: text}."""
    unread: frozenset[str]
    """Paths that are there but were not read."""
    words: dict[str, list[tuple[int, list[str]]]] = field(default_factory=dict)
    """{path: its lines}, each file read once."""
    left: int = RULES
    left_in_all: int = ALL_RULES
    counts: dict[str, int] = field(default_factory=dict)


def parse_rules(evidence: Bundle) -> Iterator[PamRule]:
    """A row per module and service; none where there is no PAM."""
    document = evidence.document(PAM)
    if not isinstance(document, dict) or not all(isinstance(entry, dict) for entry in document.values()):
        raise NotUnderstood(f"{PAM.id}: not an object of files")
    if not all(path in document for path in (*FOLDERS, "/etc/pam.conf")):
        raise NotUnderstood(f"{PAM.id}: not what the reader says")
    there = [folder for folder in FOLDERS if document[folder].get("status") != "absent"]
    if not there and document["/etc/pam.conf"].get("status") != "absent":
        raise NotUnderstood(f"{PAM.id}: pam.conf without a folder pam.d")
    for folder in there:
        if document[folder].get("detail") != "not a regular file":
            evidence.gap(PAM, f"{folder} {document[folder].get('status')}: {document[folder].get('detail', '')}")
    files, unread = {}, set()
    for path, entry in document.items():
        folder, _, name = path.rpartition("/")
        if folder in FOLDERS and not _LEFT.search(name) and entry.get("detail") != "not a regular file":
            if isinstance(entry.get("text"), str):
                files[path] = entry["text"]
            elif entry.get("status") != "absent":
                unread.add(path)
                evidence.gap(PAM, f"{path} {entry.get('status')}: {entry.get('detail', '')}")
    stacks = _Stacks(evidence, files, frozenset(unread))
    for name in sorted({path.rpartition("/")[2] for path in files}):
        stacks.left, stacks.counts = RULES, {}
        if (path := _find(stacks, name)) is not None:
            yield from _file(stacks, name, path, None, ())
        if stacks.left < 0 or stacks.left_in_all < 0:
            evidence.gap(PAM, f"{name}: more than {RULES} lines, or {ALL_RULES} of all services")


def _find(stacks: _Stacks, name: str) -> str | None:
    """The file of a service: of the first folder that has one; None if that one was not read."""
    for path in [name] if name.startswith("/") else [f"{folder}/{name}" for folder in FOLDERS]:
        if path in stacks.unread:
            return None
        if path in stacks.files:
            return path
    return None


def lines_of(text: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of each line with something in it: comments left out, lines with `\\` at the end joined."""
    begun, joined = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        begun = begun or number
        bare, hash_, _ = line.partition("#")
        if not hash_ and bare.rstrip(" \t").endswith("\\"):
            joined += bare.rstrip(" \t")[:-1] + " "
            continue
        if (joined + bare).strip():
            yield begun, joined + bare
        begun, joined = 0, ""
    if joined.strip():
        yield begun, joined


def _words(text: str) -> list[str]:
    return [f"[{' '.join(match[1].split())}]" if match[1] is not None else match[2] for match in _TOKEN.finditer(text)]


def _file(stacks: _Stacks, service: str, path: str, only: str | None, via: tuple[str, ...]) -> Iterator[PamRule]:
    if path not in stacks.words:
        stacks.words[path] = [(number, _words(text)) for number, text in lines_of(stacks.files[path])]
    for number, words in stacks.words[path]:
        stacks.left -= 1
        stacks.left_in_all -= 1
        if stacks.left < 0 or stacks.left_in_all < 0:
            return
        if words[:1] == ["@include"] and len(words) == 2:
            yield from _refer(stacks, service, path, number, words[1], only, (*via, f"@include {words[1]}"))
            continue
        silent = bool(words) and words[0].startswith("-")
        kind, control = (words[0].lower().removeprefix("-"), words[1]) if len(words) >= 3 else ("", "")
        control = control if control.startswith("[") else control.lower()
        if kind not in TYPES or not re.fullmatch(r"required|requisite|sufficient|optional|include|substack|\[[\w=+ -]*\]", control):
            stacks.evidence.gap(PAM, f"{path}:{number} is not understood")
        elif only not in (None, kind):
            continue
        elif control in ("include", "substack"):
            yield from _refer(stacks, service, path, number, words[2], kind, (*via, f"{control} {words[2]}"))
        else:
            position = stacks.counts.get(kind, 0)
            stacks.counts[kind] = position + 1
            module = words[2].rpartition("/")[2].removesuffix(".so")
            arguments = [masked(word[1:-1] if word.startswith("[") else word) for word in words[3:]]
            yield PamRule(service, kind, position, control, module, words[2], arguments, silent, list(via), path, number)


def _refer(
    stacks: _Stacks, service: str, path: str, number: int, name: str, only: str | None, via: tuple[str, ...]
) -> Iterator[PamRule]:  # fmt: skip
    target = _find(stacks, name)
    if target is None or len(via) >= DEPTH:
        stacks.evidence.gap(PAM, f"{path}:{number}: {name} was not read, or includes itself")
    else:
        yield from _file(stacks, service, target, only, via)
