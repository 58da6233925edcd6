# SPDX-License-Identifier: Apache-2.0
"""Formats that several areas share: lines that must be whole, and the configuration files of systemd's programs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.model import Source, SourceId, Status

CONFIG_FOLDERS = ("/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd")
"""Where systemd's programs look for their files, first wins. Source: systemd-system.conf(5), before usr-merge /lib too."""

_TRUE, _FALSE = frozenset("1 yes y true t on".split()), frozenset("0 no n false f off".split())


def boolean(word: str | None) -> bool | None:
    """A truth value as systemd writes it; None if it is none. Source: systemd.syntax(7)."""
    return True if (text := (word or "").strip().lower()) in _TRUE else False if text in _FALSE else None


def lines(evidence: Bundle, source: Source) -> list[str]:
    """The lines of a source that must have been read; of one cut short the last, which may not be whole, is left out."""
    found = evidence.body(source).split("\n")
    return found[:-1] if found[-1] == "" or evidence.item(source).status is Status.TRUNCATED else found


def places(evidence: Bundle, source: Source) -> dict[str, dict[str, Any]]:
    """What is there of a few places whose presence decides. Raises `Unread` if one could not be looked at."""
    known = len(evidence.gaps)
    found, told = evidence.entries(source), evidence.document(source)
    if lost := [path for path in source.args["globs"] if not re.search(r"[*?\[]", path) and path not in told]:
        raise NotUnderstood(f"{source.id}: does not tell of {lost[0]}")
    if len(evidence.gaps) > known:
        raise Unread("; ".join(evidence.gaps[known:][:3]))
    return found


def of_systemd(id_: str, name: str, doc: str) -> Source:
    """The source of a program's settings, such as `journald.conf`: its file and the drop-ins."""
    globs = [path for folder in CONFIG_FOLDERS for path in (f"{folder}/{name}", f"{folder}/{name}.d/*.conf")]
    return Source(SourceId(id_), "files", {"globs": globs, "cap_each": 1 << 18, "redact": True}, doc)


def settings(evidence: Bundle, source: Source, section: str) -> dict[str, list[str]]:
    """What is set in a section: {name: values in order}. An empty value takes back what was set before it."""
    found, names = evidence.entries(source), dict[str, list[str]]()
    for path in in_order(found):
        for where, name, text in ini(evidence, source, path, found[path].get("text")):
            if where == section and text:
                names.setdefault(name, []).append(text)
            elif where == section:
                names[name] = []
    return {name: values for name, values in names.items() if values}


def in_order(found: Iterable[str]) -> list[str]:
    """The files that count, in the order in which they do: the first main one, then the drop-ins, of each name the first folder's."""
    rank = {folder: place for place, folder in enumerate(CONFIG_FOLDERS)}
    main, drop_ins = [], dict[str, tuple[int, str]]()
    for path in found:
        folder, _, name = path.rpartition("/")
        if folder in rank:
            main.append((rank[folder], path))
        else:
            place = (rank.get(folder.rpartition("/")[0], len(rank)), path)
            drop_ins[name] = min(place, drop_ins.get(name, place))
    return [path for _, path in sorted(main)[:1]] + [drop_ins[name][1] for name in sorted(drop_ins)]


def ini(evidence: Bundle, source: Source, path: str, text: object) -> Iterable[tuple[str, str, str]]:
    """(section, name, value) of a file in systemd's syntax; lines that are none of it are gaps. Source: systemd.syntax(7)."""
    if not isinstance(text, str):
        raise NotUnderstood(f"{source.id}: {path}: no text")
    section, held = "", list[str]()
    for raw in text.split("\n"):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue  # a comment does not end a continued line
        if line.endswith("\\"):
            held.append(line[:-1].rstrip())
            continue
        line, held = " ".join([*held, line]), []
        if match := re.fullmatch(r"\[([^\[\]]+)\]", line):
            section = match[1]
        elif (name := line.partition("=")[0].strip()) and "=" in line and section:
            yield section, name, line.partition("=")[2].strip()
        else:
            evidence.gap(source, f"{path}: a line that is no setting")
    if held:
        evidence.gap(source, f"{path}: its last line is not whole")


_INTERPRETER = re.compile(r"(?:python|perl|ruby|bash|dash|sh|node|java)[\d.]*")


def program_names(process: Mapping[str, Any]) -> set[str]:
    """Names of what a process runs: its program's file, else its first word, and a script's name, of which the kernel keeps 15 letters.

    Where the program's file is known a cut name is none: systemd-journald and systemd-journal-upload have the same.
    """
    argv = process.get("argv")
    exe = process.get("exe") or (argv[0] if isinstance(argv, list) and argv else None)
    program = str(exe or "").removesuffix(" (deleted)").rpartition("/")[2].rstrip(":")
    comm = process.get("comm")
    names = {program} if program else set()
    return names | {comm} if isinstance(comm, str) and (len(comm) < 15 or not program or _INTERPRETER.fullmatch(program)) else names


TABLES: tuple[Table, ...] = ()
