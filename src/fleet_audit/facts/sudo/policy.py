# SPDX-License-Identifier: Apache-2.0
"""What the files of one sudo say together: includes followed in sudo's order, aliases to be expanded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.sudo.entries import Alias, Default, Grant, Include, Member
from fleet_audit.facts.sudo.grammar import Parser
from fleet_audit.model import Source

DEPTH = 128
"""Includes within includes that sudo follows."""
STEPS = 5000
"""Members that one list may have once it is expanded."""
BUDGET = 1_000_000
"""Members of all lists of one policy once they are expanded, and elements of the lists in its rows."""
SIZE = 1 << 19
"""Characters of all files behind one main file, each counted as often as it is included."""
PROBLEMS = 100
"""Lines of one file that are named as not understood."""
FOLLOWED = 300
"""Files that the reader follows; more are not read."""


FOLDER = "not a regular file"
"""What the reader says of a folder that is there."""


@dataclass(frozen=True)
class Where:
    """Where an entry stands."""

    file: str
    line: int


@dataclass
class Policy:
    """All entries behind one main file, in sudo's order."""

    main: str
    evidence: Bundle
    source: Source
    grants: list[tuple[Where, Grant]] = field(default_factory=list)
    defaults: list[tuple[Where, Default]] = field(default_factory=list)
    aliases: dict[tuple[str, str], Alias] = field(default_factory=dict)
    left: int = SIZE
    budget: int = BUDGET
    expanded: dict[tuple[str, str], list[Member]] = field(default_factory=dict)
    """What each alias stands for."""

    @cached_property
    def runas_default(self) -> str:
        """The user that commands run as where a rule names none."""
        return next((d.value for _, d in reversed(self.defaults) if d.key == "runas_default" and d.scope == "global" and d.value), "root")

    def expand(self, kind: str, members: Iterable[Member]) -> list[Member]:
        """The members with each alias replaced by its own; a negated alias negates them."""
        found = self._expand(kind, members, ()) if self.spend(1) else []
        return found if self.spend(len(found)) else []

    def spend(self, amount: int) -> bool:
        """Whether the policy may take this much more work; once it may not, nothing more is allowed."""
        if 0 <= self.budget < amount:
            self.evidence.gap(self.source, f"more than {BUDGET} members once aliases are expanded")
            self.budget = -1
        self.budget -= amount if self.budget >= 0 else 0
        return self.budget >= 0

    def _expand(self, kind: str, members: Iterable[Member], above: tuple[str, ...]) -> list[Member]:
        found: list[Member] = []
        for member in members:
            inside = self._alias(kind, member.text, above) if member.alias else None
            added = [member] if inside is None else inside
            if len(found) + len(added) > STEPS:
                self.evidence.gap(self.source, f"a list of more than {STEPS} members")
                break
            negated = inside is not None and member.negated
            found += [replace(inner, negated=not inner.negated) for inner in added] if negated else added
        return found

    def _alias(self, kind: str, name: str, above: tuple[str, ...]) -> list[Member] | None:
        """What an alias stands for, worked out once; None if none has the name."""
        alias = self.aliases.get((kind, name))
        if alias is None or (kind, name) in self.expanded:
            return self.expanded.get((kind, name))
        if name in above or len(above) >= DEPTH:
            self.evidence.gap(self.source, f"alias {name} names itself, or too deep")
            return []
        self.expanded[kind, name] = found = self._expand(kind, alias.members, (*above, name))
        return found

    @cached_property
    def _asking(self) -> tuple[list[str], list[Default]]:
        """Groups that sudo does not ask for a password, and the settings of whether it asks."""
        found = [d for _, d in self.defaults]
        return [d.value for d in found if d.key == "exempt_group" and d.value], [d for d in found if d.key == "authenticate"]

    def asks(self, who: str, tag: bool | None) -> bool | None:
        """Whether sudo asks this user or group for a password, by tag or else by Defaults; None where that is open."""
        if tag is False:
            return False
        exempt, settings = self._asking
        if exempt:
            return False if who == f"%{exempt[-1]}" else None
        if tag:
            return True
        if not self.spend(len(settings)):
            return None
        asked: bool | None = next((not d.negated for d in reversed(settings) if d.scope == "global"), True)
        for default in settings:
            if default.scope == "global" or asked is not default.negated:
                continue
            names = self.expand("User", default.names) if default.scope == "user" else []
            if any(n.text in (who, "ALL") for n in names) and not any(n.negated for n in names):
                asked = not default.negated
            elif not names or not all(_is_user(name) for name in (who, *(n.text for n in names))):
                asked = None
        return asked


def _is_user(name: str) -> bool:
    return name != "ALL" and name[:1] not in "%+#"


def read(evidence: Bundle, source: Source, document: Any, main: str) -> Policy | None:
    """What a main file leads to; None where it is not there. Raises `NotUnderstood` where it was not read."""
    if not isinstance(document, dict) or not all(isinstance(entry, dict) for entry in document.values()):
        raise NotUnderstood(f"{source.id}: not an object of files")
    if len(document) > FOLLOWED:
        evidence.gap(source, f"more than {FOLLOWED} files")
    entry = document.get(main, {"status": "not looked for"})
    if entry.get("status") == "absent":
        return None
    if not isinstance(entry.get("text"), str):
        raise NotUnderstood(f"{source.id}: {main} {entry.get('status')}: {entry.get('detail', '')}")
    policy = Policy(main, evidence, source)
    _file(policy, document, main, ())
    if any(d.key == "runas_default" and d.scope != "global" for _, d in policy.defaults):
        evidence.gap(source, "runas_default is not the same for all")
    return policy


def _file(policy: Policy, document: Mapping[str, dict[str, Any]], path: str, above: tuple[str, ...]) -> None:
    entry = document.get(path)
    if entry is None or not isinstance(entry.get("text"), str):
        if entry is None or entry.get("status") != "absent":
            policy.evidence.gap(policy.source, f"{path} {(entry or {}).get('status', 'was not read')}")
        return
    policy.left -= len(entry["text"]) + 100
    if path in above or len(above) >= DEPTH or policy.left < 0:
        policy.evidence.gap(policy.source, f"{path} includes itself, or too much")
        return
    parser = Parser(entry["text"])
    for line, found in parser.entries():
        where = Where(path, line)
        if isinstance(found, Include):
            target = found.path if found.path.startswith("/") else f"{path.rpartition('/')[0]}/{found.path}"
            for name in _folder(policy, document, target) if found.folder else [target]:
                _file(policy, document, name, (*above, path))
        elif isinstance(found, Alias):
            if (found.kind, found.name) in policy.aliases:
                policy.evidence.gap(policy.source, f"{path}:{line}: alias {found.name} is defined twice")
            policy.aliases.setdefault((found.kind, found.name), found)
        elif isinstance(found, Default):
            policy.defaults.append((where, found))
        else:
            policy.grants.append((where, found))
    for line in parser.problems[:PROBLEMS]:
        policy.evidence.gap(policy.source, f"{path}:{line} is not understood")


def _folder(policy: Policy, document: Mapping[str, dict[str, Any]], folder: str) -> list[str]:
    """The files of a folder that sudo reads: no name with `.`, none with `~` at its end, nothing but regular files."""
    there = document.get(folder, {})
    if there.get("status") != "absent" and there.get("detail") != FOLDER:
        policy.evidence.gap(policy.source, f"{folder} was not read")
    inside = [path for path in document if path.rpartition("/")[0] == folder.rstrip("/")]
    names = [path for path in inside if not re.search(r"\.|~$", path.rpartition("/")[2])]
    return sorted(path for path in names if document[path].get("detail") != FOLDER)
