# SPDX-License-Identifier: Apache-2.0
"""The grammar of sudoers(5): what the text of one file says, in order. It expands no alias and judges nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fleet_audit.facts.sudo.entries import Alias, Default, Entry, Grant, Include, Member


class Malformed(Exception):
    """A line that is no sudoers entry: sudo passes over it, or refuses the whole file (before 1.9.3)."""


PROBLEMS = 1000
"""Lines that are not understood after which the rest of a file is not read: it is no file of sudo."""

_BLANK = re.compile(r"(?:[ \t]|\\[ \t]*\r?\n)*")
_END = re.compile(r"\r?\n|\Z")
_REST = re.compile(r"(?:\\[ \t]*\r?\n|[^\n])*")
_COMMENT = re.compile(r"#(?!-?[0-9])[^\n]*")
_INCLUDE = re.compile(r"(?:@|(?<![^\n])#(?=include(?:dir)?[ \t]))include(dir)?(?![A-Za-z_])")
_INCLUDED = re.compile(r"\"([^\"\n]+)\"|((?:\\[ \t]|[^\s\"])(?:\\[ \t]|\S)*)")
_DEFAULTS = re.compile(r"Defaults(?=[:@>!\s\\])([:@>!])?")
_ALIASES = re.compile(r"(Host|Cmnd|Cmd|User|Runas)_Alias(?=[ \t\\])")
_ALIAS = re.compile(r"[A-Z][A-Z0-9_]*(?![^#>!=:,() \t\r\n\\\"]|\\(?![ \t]*\r?\n)[^\t\n])")
_NEGATION = re.compile(r"!+(?:[ \t]*!+)*")
_WORD = re.compile(r"(?:%:?|\+)?(?:#-?[0-9]+|(?:[^#>!=:,() \t\r\n\\\"]|\\(?![ \t]*\r?\n)[^\t\n])+)")
_STRING = re.compile(r"\"((?:[^\"\r\n\\]|\\(?![ \t]*\r?\n)[^\r\n]|\\[ \t]*\r?\n[ \t]*+)++)\"")
_IPV6 = re.compile(r"(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f.]*(?:/[0-9A-Fa-f:.]+)?")
_KEY = re.compile(r"[a-z_]+")
_OPERATOR = re.compile(r"\+=|-=|=")
_VALUE = re.compile(r"(?:[^#!=, \t\r\n\\\"]|\\(?![ \t]*\r?\n)[^\r\n])(?:[^#=, \t\r\n\\\"]|\\(?![ \t]*\r?\n)[^\r\n])*")
_TAG = re.compile(r"(NO)?(PASSWD|EXEC|INTERCEPT|SETENV|LOG_OUTPUT|LOG_INPUT|MAIL|FOLLOW)[ \t]*:")
_OPTION = re.compile(r"(ROLE|TYPE|PRIVS|LIMITPRIVS|NOTBEFORE|NOTAFTER|TIMEOUT|CWD|CHROOT|APPARMOR_PROFILE)[ \t]*=")
_OPTION_VALUE = re.compile(r"/(?:\\[,:= \t#]|[^,:=\\ \t\r\n#])+|(?:[^#>!=:,() \t\r\n\\\"]|\\[^\t\n])+")
_DIGEST = re.compile(r"(sha(?:224|256|384|512))[ \t]*:[ \t]*[0-9A-Za-z+/]+=*")
_COMMAND = re.compile(r"/(?:\\[,:= \t#]|[^,:=\\ \t\r\n#])+|\^(?:\\[#$]|[^#\r\n$])*\$|sudoedit(?=[\s,:\\#]|\Z)|list(?=[\s,:\\#]|\Z)")
_ARGUMENT = re.compile(r"(\\[*?\[\]!^])|\\([:\\,= \t#])|([^#\\:, \t\r\n]+)")
_ARGUMENT_END = re.compile(r"[#:,\r\n]|=(?=[#\\:, \t\r\n])|\Z")
_PATTERN = re.compile(r"\^(?:\\[^\r\n]|[^#\\\r\n$])*\$")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.))")


def plain(text: str) -> str:
    """A word or string without its backslashes; `\\xHH` is a character."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else match[2], text)


def path_of(text: str) -> str:
    """A command without the backslashes that keep sudoers' own characters from their meaning; those of patterns stay."""
    return re.sub(r"\\([,:= \t#])", r"\1", text)


@dataclass
class Parser:
    """Reads one file; `entries` are what was understood, `problems` the lines that were not."""

    text: str
    at: int = 0
    problems: list[int] = field(default_factory=list)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """(line, entry), in order; a line that is not understood yields nothing of its own."""
        line, counted = 1, 0
        while self.at < len(self.text) and len(self.problems) < PROBLEMS:
            self._eat(_BLANK)
            line, counted = line + self.text.count("\n", counted, self.at), self.at
            if self._ended():
                continue
            try:
                found = list(self._entry())
                if not self._ended():
                    raise Malformed
            except Malformed:
                self.problems.append(line)
                self._eat(_REST)
                self._eat(_END)
                continue
            for entry in found:
                yield line, entry

    def _eat(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What stands here, if it fits; the place moves behind it."""
        match = pattern.match(self.text, self.at)
        if match:
            self.at = match.end()
        return match

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """The same, after blanks and continued lines."""
        self._eat(_BLANK)
        return self._eat(pattern)

    def _sign(self, sign: str) -> bool:
        """Whether this character stands next; the place moves behind it."""
        self._eat(_BLANK)
        found = self.text.startswith(sign, self.at)
        self.at += len(sign) if found else 0
        return found

    def _ended(self) -> bool:
        """Whether the line ends here, a comment before its end left out."""
        self._eat(_BLANK)
        if not _INCLUDE.match(self.text, self.at):
            self._eat(_COMMENT)
        return bool(self._eat(_END))

    def _entry(self) -> Iterator[Entry]:
        """What one logical line says."""
        if match := self._eat(_INCLUDE):
            path = self._take(_INCLUDED)
            if not path:
                raise Malformed
            yield Include(path[1] or re.sub(r"\\([ \t])", r"\1", path[2]), bool(match[1]))
        elif match := self._eat(_DEFAULTS):
            yield from self._defaults({"@": "host", ":": "user", ">": "runas", "!": "command"}.get(match[1] or "", "global"))
        elif match := self._eat(_ALIASES):
            yield from self._aliases("Cmnd" if match[1] == "Cmd" else match[1])
        else:
            yield from self._grants()

    def _defaults(self, scope: str) -> Iterator[Default]:
        names: tuple[Member, ...] = ()
        if scope != "global":
            names = self._members(self._scope_command if scope == "command" else self._host if scope == "host" else self._user)
        while True:
            negated = self._negation()
            key = self._take(_KEY)
            if not key:
                raise Malformed
            operator, value = self._take(_OPERATOR), ""
            if operator:
                value = self._string() or self._word(_VALUE)
            if operator and negated:
                raise Malformed
            yield Default(key[0], operator[0] if operator else "", value, negated, scope, names)
            if not self._sign(","):
                return

    def _aliases(self, kind: str) -> Iterator[Alias]:
        read = {"Cmnd": self._command, "Host": self._host}.get(kind, self._user)
        while True:
            name = self._take(_ALIAS)
            if not name or not self._sign("="):
                raise Malformed
            yield Alias(kind, name[0], self._members(read))
            if not self._sign(":"):
                return

    def _grants(self) -> Iterator[Grant]:
        who = self._members(self._user)
        while True:
            hosts = self._members(self._host)
            if not self._sign("="):
                raise Malformed
            runas: tuple[tuple[Member, ...], tuple[Member, ...]] | None = None
            tags: dict[str, bool] = {}
            options: dict[str, str] = {}
            while True:
                if self._sign("("):
                    runas = self._runas()
                while option := self._take(_OPTION):
                    options = options | {option[1]: self._string() or self._word(_OPTION_VALUE)}
                while tag := self._take(_TAG):
                    tags = tags | {tag[2]: not tag[1]}
                yield Grant(who, hosts, runas, tags, options, self._command())
                if not self._sign(","):
                    break
            if not self._sign(":"):
                return

    def _runas(self) -> tuple[tuple[Member, ...], tuple[Member, ...]]:
        users: tuple[Member, ...] = ()
        groups: tuple[Member, ...] = ()
        if not self._sign(")"):
            if not self._sign(":"):
                users = self._members(self._user)
                if self._sign(")"):
                    return users, groups
                if not self._sign(":"):
                    raise Malformed
            if not self._sign(")"):
                groups = self._members(self._group)
                if not self._sign(")"):
                    raise Malformed
        return users, groups

    def _members(self, read: Callable[[], Member]) -> tuple[Member, ...]:
        found = [read()]
        while self._sign(","):
            found.append(read())
        return tuple(found)

    def _negation(self) -> bool:
        match = self._take(_NEGATION)
        return match is not None and match[0].count("!") % 2 == 1

    def _string(self) -> str:
        match = self._take(_STRING)
        return plain(re.sub(r"\\[ \t]*\r?\n[ \t]*", "", match[1])) if match else ""

    def _word(self, pattern: re.Pattern[str]) -> str:
        match = self._take(pattern)
        if not match:
            raise Malformed
        return plain(match[0])

    def _user(self) -> Member:
        negated = self._negation()
        if quoted := self._string():
            return Member(quoted, negated)
        if match := self._take(_ALIAS):
            return Member(match[0], negated, match[0] != "ALL")
        return Member(self._word(_WORD), negated)

    def _group(self) -> Member:
        member = self._user()
        if member.text[0] in "%+":
            raise Malformed
        return member

    def _host(self) -> Member:
        negated = self._negation()
        if match := self._take(_IPV6):
            return Member(match[0], negated)
        member = self._user()
        return Member(member.text, negated != member.negated, member.alias)

    def _scope_command(self) -> Member:
        negated = self._negation()
        if match := self._take(_ALIAS):
            return Member(match[0], negated, match[0] != "ALL")
        match = self._take(_COMMAND)
        if not match:
            raise Malformed
        return Member(path_of(match[0]), negated)

    def _command(self) -> Member:
        digests: tuple[str, ...] = ()
        while digest := self._take(_DIGEST):
            digests += (digest[1],)
            self._sign(",")
        negated = self._negation()
        if match := self._take(_ALIAS):
            return Member(match[0], negated, match[0] != "ALL", None, digests)
        match = self._take(_COMMAND)
        if not match:
            raise Malformed
        if match[0].startswith("^"):
            return Member(match[0], negated, False, self._arguments(), digests)
        name = path_of(match[0])
        return Member(name, negated, False, None if name.endswith("/") else self._arguments(), digests)

    def _arguments(self) -> str | None:
        """The arguments in the form in which sudo compares them."""
        text = ""
        while True:
            blank = self._eat(_BLANK)
            space = " " if text and blank and blank[0] else ""
            if _ARGUMENT_END.match(self.text, self.at):
                return None if not text else "" if text == '""' else text
            pattern = self._eat(_PATTERN) if not text else None
            if pattern:
                return pattern[0]
            match = self._eat(_ARGUMENT)
            if not match or (not text and match[0].startswith("^")):
                raise Malformed
            text += space + next(part for part in match.groups() if part is not None)
