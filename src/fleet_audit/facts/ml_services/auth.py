# SPDX-License-Identifier: Apache-2.0
"""Whether a service asks for a login, and encrypts, by what its command line, its environment and its files say. Never by guess."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fleet_audit.facts.ml_services.known import COMMAND_LIMIT, Known

_DEFAULT = re.compile(r"<secret:default:\d+>")
Verdict = tuple[bool | None, str | None]


@dataclass(frozen=True)
class Process:
    """What of a process counts here."""

    pid: int
    parent: int
    uid: int
    names: frozenset[str]
    comm: str | None
    argv: tuple[str, ...]
    whole: bool
    """The command line was not cut."""
    env: dict[str, str] | None
    container: str | None
    contained: bool
    in_container: bool | None

    @property
    def command(self) -> str:
        """The command line in one text."""
        return " ".join(self.argv)


def flag_values(argv: Sequence[str], flag: str) -> list[str]:
    """The values that a flag has: behind `=`, or the next word unless that is a flag; empty for a switch."""
    found = []
    for place, word in enumerate(argv):
        name, equals, text = word.partition("=")
        if name == flag:
            after = argv[place + 1] if place + 1 < len(argv) else "-"
            found.append(text.strip("'\"") if equals else "\0" if after.startswith("-") else after.strip("'\""))
    return found


def holds(rule: str, process: Process) -> str | None:
    """The words of a process that make a rule of `services.yaml` hold, None if it does not."""
    if rule.startswith("~"):
        match = re.search(rule[1:], process.command[:COMMAND_LIMIT])
        return match[0] if match else None
    name, equals, wanted = rule.partition("=")
    if rule.startswith("-"):
        values = flag_values(process.argv, name)
        if any(text.lower() == wanted.lower() if equals else text for text in values):
            return f"{name}={wanted}" if equals else name
        return None
    text = (process.env or {}).get(name)
    if text is None or not (text.lower() == wanted.lower() if equals else text):
        return None
    return f"{name}={wanted}" if equals else name


def _is_default(rule: str, process: Process) -> bool:
    """Whether a variable or a flag has a password that everybody knows."""
    values = flag_values(process.argv, rule) if rule.startswith("-") else [(process.env or {}).get(rule, "")]
    return any(_DEFAULT.match(text) for text in values)


def _all(rules: Iterable[str], processes: Iterable[Process]) -> list[str]:
    return list(dict.fromkeys(words for process in processes for rule in rules if (words := holds(rule, process)) is not None))


def auth(known: Known, line: Sequence[Process], by_command: bool, files: Callable[[Known, Sequence[Process]], Verdict]) -> Verdict:
    """(whether a login is asked for, what says so) for a process and its forebears of the same service, nearest first.

    `files` says what the configuration of a service says, where that may decide.
    """
    on, off = _all(known.rules["asks"], line), _all(known.rules["lacks"], line)
    defaults = [name for process in line for name in known.rules["asks"] if _is_default(name, process)]
    if defaults:
        return False, f"{defaults[0]} is a publicly known default"
    if on and off:
        return None, f"contradictory: {', '.join(on)}; {', '.join(off)}"
    if on or off:
        return bool(on), ", ".join(on or off)
    if part := _all((*known.rules["part"], *known.rules["open"]), line):
        return None, f"{', '.join(part)}: what that asks for is not told"
    readable = by_command and all(process.whole for process in line) and (line[0].env is not None or not _variables(known))
    if not readable:
        return None, None
    if known.settled and known.auth_default in ("yes", "none"):
        asks = known.auth_default == "yes"
        return asks, f"vendor's default ({'a login' if asks else 'no login'}); the command line sets nothing else"
    return files(known, line)


def _variables(known: Known) -> bool:
    return any(not rule.startswith(("-", "~")) for kind in ("asks", "lacks", "part") for rule in known.rules[kind])


def tls(known: Known, line: Sequence[Process], by_command: bool) -> bool | None:
    """Whether it encrypts by its own flags; None where files may decide, or the command line was not read."""
    rules = known.rules["tls"]
    if _all(rules, line):
        return True
    unread = not by_command or not all(process.whole for process in line) or _all((*known.rules["open"], *known.rules["part"]), line)
    return False if rules and known.settled and not unread else None
