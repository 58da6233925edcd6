# SPDX-License-Identifier: Apache-2.0
"""Rows that all programs for logs share, and the scanner of their configuration languages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class LogForward:
    """A place off this program to which logs are configured to go. Whether they arrive, only the receiver knows.

    Other agents may send logs too, such as alloy, elastic-agent, datadog or a cloud's: see `agents`.
    Source: rsyslog's, syslog-ng's and the shippers' manuals.
    """

    program: Annotated[str, "rsyslog, syslog-ng, journal-upload, fluent-bit, fluentd, vector, filebeat, promtail, otelcol or splunk"]
    file: Annotated[str, "Configuration file"]
    protocol: Annotated[str, "udp, tcp, relp, http, or the name of the program's output"]
    target: Annotated[str | None, "Host, address or URL; a loopback one stays here; NULL: it is put together elsewhere"]
    port: Annotated[int | None, "Port, where it is set apart from the target"]
    tls: Annotated[bool | None, "The way is encrypted; NULL: the configuration does not tell"]
    verified: Annotated[bool | None, "The receiver's certificate is checked; NULL: without TLS, or not told"]


@dataclass(frozen=True)
class LogReceiver:
    """A port on which a program is configured to take logs of others. Source: rsyslog's and syslog-ng's manuals."""

    program: Annotated[str, "rsyslog or syslog-ng"]
    file: Annotated[str, "Configuration file"]
    protocol: Annotated[str, "udp, tcp, relp, ..."]
    address: Annotated[str | None, "Address that it listens on; *: all; NULL: the file puts it together"]
    port: Annotated[int | None, "Port; NULL: the program's default"]
    tls: Annotated[bool | None, "The way is encrypted; NULL: the configuration does not tell"]


_SPECIAL = re.compile(r"[\"'#]|(?<![^\s(){}\[\];,&])/\*")  # /* within a word, as in /etc/rsyslog.d/*.conf, begins no comment


def masked(text: str) -> tuple[str, str, bool]:
    """(the text with its `#` and `/* */` comments blank, the same with quoted texts blank too, whether each comment ends).

    Both are as long as the text.
    """
    plain, mask, whole = list(text), list(text), True
    place, quotes = 0, {'"': 0, "'": 0}  # up to where such a quote is none, for want of its end

    def blank(start: int, end: int, *where: list[str]) -> None:
        for letters in where:
            letters[start:end] = [letter if letter == "\n" else " " for letter in letters[start:end]]

    while match := _SPECIAL.search(text, place):
        start, place = match.start(), match.end()
        if match[0] in quotes:
            if start >= quotes[match[0]]:
                limit = len(text) if match[0] == '"' else _end(text, "\n", place)
                if (end := _unquoted(text, place, match[0], limit)) is None:
                    quotes[match[0]] = limit
                else:
                    blank(place, end, mask)
                    place = end + 1
            continue
        place = _end(text, "\n", place) if match[0] == "#" else _end(text, "*/", place) + 2
        whole = whole and (match[0] == "#" or place <= len(text))
        blank(start, place, plain, mask)
    return "".join(plain), "".join(mask), whole


def _end(text: str, what: str, start: int) -> int:
    found = text.find(what, start)
    return len(text) if found < 0 else found


def _unquoted(text: str, place: int, quote: str, limit: int) -> int | None:
    """Where a quoted text ends, None if not before the limit."""
    for match in re.compile(rf"\\.|{quote}", re.S).finditer(text, place, limit):
        if match[0] == quote:
            return match.start()
    return None


def blocks(plain: str, mask: str, opening: str, brackets: str = "()") -> Iterator[tuple[re.Match[str], int, str | None]]:
    """(match, where its brackets end, what stands in them) for each match of a pattern that ends with the open bracket.

    None for what is in them: they are never closed.
    """
    done = 0
    for match in re.finditer(opening, mask):
        if match.start() < done:
            continue
        depth, done = 1, len(mask)
        for bracket in re.compile(f"[{re.escape(brackets)}]").finditer(mask, match.end()):
            depth += 1 if bracket[0] == brackets[0] else -1
            if not depth:
                done = bracket.start()
                break
        yield match, done, None if depth else plain[match.end() : done]


def listened(written: str | None) -> str | None:
    """The address that a receiver listens on, * for all, None if it is put together when the program starts."""
    if not written or written in ("*", "0.0.0.0", "::"):
        return "*"
    return None if re.search(r"[`$]", written) else written


def encrypted(url: str | None) -> bool | None:
    """Whether a URL's scheme encrypts; None: it has none."""
    scheme, there, _ = (url or "").partition("://")
    return scheme in ("https", "tls", "wss", "grpcs") if there else None
