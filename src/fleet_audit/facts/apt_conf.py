# SPDX-License-Identifier: Apache-2.0
"""What apt's configuration files set. It cannot know what a command line, APT_CONFIG or a file included by name sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.model import Source, SourceId

_MAIN = "/etc/apt/apt.conf"

APT_CONF = Source(
    SourceId("apt-conf"), "files",
    {"globs": [_MAIN, f"{_MAIN}.d/*"], "redact": True},
    "apt.conf(5): the files of apt.conf.d whose names end in .conf or have no suffix, in order, then apt.conf.",
)  # fmt: skip


@dataclass(frozen=True)
class AptSetting:
    """A setting of apt that holds after all its files. No rows where there are none. Source: apt.conf(5)."""

    name: Annotated[str, "Full name in lower case, as apt compares; one that ends in :: is an element of a list"]
    value: Annotated[str, "Value; an empty one is a setting too"]
    file: Annotated[str, "File that set it last"]


_TOKEN = re.compile(
    r"(?s)\s+|//[^\n]*|/\*.*?(?:\*/|\Z)|#(?!clear|include|x-apt-configure-index)[^\n]*"
    r'|(?P<mark>[{};])|"(?P<quoted>[^"\n]*)"|(?P<open>"[^\n]*)|(?P<word>#[a-z-]+|(?:(?!//|/\*)[^\s{};"#])+)'
)
_NAME = re.compile(r"[A-Za-z0-9/:._+-]{1,1024}")
_DEPTH, _MANY = 40, 20_000  # scopes in one another, and statements: more is no configuration


class Settings:
    """The settings while the files are read: names in lower case, elements of lists each on their own."""

    def __init__(self) -> None:
        self.statements = 0
        self._rows: dict[str, AptSetting] = {}
        self._elements = 0

    @property
    def rows(self) -> list[AptSetting]:
        """What is set, in the order of first setting."""
        return list(self._rows.values())

    def set(self, name: str, value: str, file: str) -> None:
        """Set a name anew, or add an element to a list."""
        row = AptSetting(name.lower(), value, file)
        if row.name.endswith("::") and not row.name.endswith("::::"):  # a scope of a name with :: is one element that is set anew
            self._elements += 1
            self._rows[f"{row.name}{self._elements}:"] = row
        else:
            self._rows[row.name] = row

    def clear(self, name: str) -> None:
        """Forget a name and all beneath it; one with :: at its end names nothing."""
        name = name.lower()
        if not name.endswith("::"):
            self._rows = {key: row for key, row in self._rows.items() if row.name != name and not row.name.startswith(f"{name}::")}

    def get(self, name: str) -> str | None:
        """The value of a name, None if no file sets it."""
        row = self._rows.get(name.lower())
        return row.value if row else None

    def values(self, name: str) -> list[str]:
        """What is directly beneath a name: the elements of a list, named or not."""
        below = f"{name.lower()}::"
        return [row.value for row in self._rows.values() if row.name.startswith(below) and ":" not in row.name[len(below) :] and row.value]

    def flag(self, name: str, default: bool) -> bool | None:
        """A switch as apt understands it, the default where it is not set, None for a word that is none."""
        word = self.get(name)
        return default if not word else switch(word)


_SWITCH = dict.fromkeys(("no", "false", "without", "off", "disable"), False) | dict.fromkeys(("yes", "true", "with", "on", "enable"), True)


def switch(word: str) -> bool | None:
    """A word as apt's boolean (strutl.cc, StringToBool): None if it is none."""
    word = word.strip().lower()
    return word.lstrip("0") != "" if word.isdecimal() and word.isascii() else _SWITCH.get(word)


def in_force(path: str, suffix: str = "conf") -> bool:
    """Whether apt reads a file of such a folder, by its name: with the suffix or without any (apt.conf(5))."""
    return re.fullmatch(rf"[A-Za-z0-9_-]+(?:[A-Za-z0-9_.-]*\.{suffix})?", path.rpartition("/")[2]) is not None


def apt_settings(evidence: Bundle) -> Settings:
    """What all files together set; what cannot be read in them is a gap."""
    found = Settings()
    files = evidence.entries(APT_CONF)
    for path in sorted(files, key=lambda path: (path == _MAIN, path)):
        text = files[path].get("text")
        if not isinstance(text, str):
            evidence.gap(APT_CONF, f"{path}: no text")
        elif path == _MAIN or in_force(path):
            for problem in _read(found, text, path):
                evidence.gap(APT_CONF, f"{path}: {problem}")
    return found


def _read(found: Settings, text: str, path: str) -> Iterator[str]:
    """Take in one file; yields what is not understood in it."""
    scope, words = [""], []
    for match in _tokens(text):
        if match is None or match["open"] is not None:
            yield "a text without an end"
            return
        mark, quoted, word = match["mark"], match["quoted"], match["word"]
        if quoted is not None or word is not None:
            words.append((quoted if quoted is not None else word, quoted is not None))
            continue
        if mark is None:
            continue
        found.statements += 100 if words and words[0][0] == "#clear" else 1  # which looks through all of them
        if found.statements > _MANY or len(scope) > _DEPTH:
            yield "more statements or scopes than a configuration has"
            return
        if words:
            yield from _statement(found, scope[-1], words, path, opens=mark == "{")
        if mark == "{":
            scope.append(_join(scope[-1], words[0][0] if words else ""))
        elif mark == "}" and len(scope) > 1:
            scope.pop()
        elif mark == "}":
            yield "a closing brace too many"
        words = []
    if words or len(scope) > 1:
        yield "it ends within a statement"


def _tokens(text: str) -> Iterator[re.Match[str] | None]:
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        yield match
        if match is None:
            return
        at = match.end()


def _join(scope: str, name: str) -> str:
    return f"{scope}::{name}" if scope and name else scope or name


def _statement(found: Settings, scope: str, words: list[tuple[str, bool]], path: str, *, opens: bool) -> Iterator[str]:
    """Take in one statement: a name with its value, an element of a list, or a command."""
    (first, quoted), rest = words[0], words[1:]
    if not quoted and first.startswith("#"):
        if scope:
            yield f"{first} within a scope"
        elif first == "#clear" and rest:
            for name, _ in rest:
                found.clear(name)
        elif first != "#x-apt-configure-index":
            yield f"{first} of another file"
    elif quoted and not rest and scope:
        found.set(f"{scope}::", first, path)
    elif not _NAME.fullmatch(first):
        yield "a name that is none"
    elif len(rest) > 1 and not all(quoted for _, quoted in rest):
        yield f"more than a value for {first[:40]}"
    elif rest:
        found.set(_join(scope, first), " ".join(word for word, _ in rest), path)
    elif not opens:
        yield f"{first[:40]} without a value"


def parse_settings(evidence: Bundle) -> Iterable[AptSetting]:
    """A row per setting that holds in the end."""
    return apt_settings(evidence).rows


TABLES = (Table("apt_settings", AptSetting, (APT_CONF,), parse_settings),)
