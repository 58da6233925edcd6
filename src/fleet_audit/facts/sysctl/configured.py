# SPDX-License-Identifier: Apache-2.0
"""The settings that files set at boot, as systemd-sysctl applies them. Other programs may change them later: ufw, tuned, Docker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle
from fleet_audit.facts.dropins import drop_ins, folders, sources

_MAIN = "/etc/sysctl.conf"
FILES, STATS = sources("sysctl.d", "sysctl.d(5), sysctl.conf(5).", _MAIN)


@dataclass(frozen=True)
class SysctlSetting:
    """A line that sets a key at boot. No rows: none does. Source: sysctl.d(5); /etc/sysctl.conf counts only where a file links to it."""

    file: Annotated[str, "File"]
    line: Annotated[int, "Number of the line"]
    key: Annotated[str, "Key as sysctl(8) writes it, maybe with wildcards, such as net.ipv4.conf.*.rp_filter"]
    value: Annotated[str | None, "Value; NULL: the line keeps wildcards from setting this key"]
    effective: Annotated[bool, "No other file or later line replaces it; a key that is named in full goes before wildcards"]


_SECRET = re.compile(r"secret|_key$")


def canonical(key: str) -> str:
    """A key as sysctl(8) writes it: with dots, and slashes for the dots in a name. Source: sysctl.d(5)."""
    first = re.search(r"[./]", key)
    slashes = first is not None and first[0] == "/"
    parts = (key if slashes else key.translate(str.maketrans("./", "/."))).strip("/").split("/")
    return ".".join(part.replace(".", "/") for part in parts)


def _lines(evidence: Bundle, path: str, text: str) -> Iterator[tuple[int, str, str | None]]:
    """(number, key, value) of each setting."""
    for number, line in enumerate(text.splitlines(), 1):
        words = line.strip()
        if not words or words[0] in "#;":
            continue
        key, equals, content = (part.strip() for part in words.partition("="))
        if not key.lstrip("-").strip() or (not equals and not key.startswith("-")):
            evidence.gap(FILES, f"{path}:{number} sets nothing")
            continue
        name = canonical(key.removeprefix("-").strip())
        yield number, name, None if not equals else "<secret>" if _SECRET.search(name) else content


def parse_settings(evidence: Bundle) -> Iterable[SysctlSetting]:
    """A row per line, in the order in which they are applied."""
    found: list[tuple[str, int, str, str | None, bool]] = []
    linked = False
    for file in drop_ins(evidence, FILES, STATS, folders("sysctl.d")):
        linked |= file.link in (_MAIN, "../sysctl.conf")
        found += [(file.path, *line, file.counts) for line in _lines(evidence, file.path, file.text)]
    main = evidence.document(FILES).get(_MAIN, {})
    if main.get("status", "absent") != "absent":
        evidence.gap(FILES, f"{_MAIN} {main['status']}")
    if not linked and isinstance(main.get("text"), str):
        found += [(_MAIN, *line, False) for line in _lines(evidence, _MAIN, main["text"])]
    last = {key: place for place, (_, _, key, _, counts) in enumerate(found) if counts}
    for place, (path, number, key, content, counts) in enumerate(found):
        yield SysctlSetting(path, number, key, content, counts and last[key] == place)
