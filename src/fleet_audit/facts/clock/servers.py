# SPDX-License-Identifier: Apache-2.0
"""The time sources that are configured, for each program that may set the clock. Those that DHCP gives timesyncd are not seen."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Unread
from fleet_audit.facts.texts import in_order, of_systemd, settings
from fleet_audit.model import Source, SourceId

CHRONY = Source(
    SourceId("chrony-conf"), "files",
    {"globs": ["/etc/chrony/chrony.conf", "/etc/chrony.conf"], "follow": "chrony", "redact": True, "cap_each": 1 << 16},
    "chrony.conf(5): server, pool, peer, refclock, with the files of include, confdir (*.conf) and sourcedir (*.sources).",
)  # fmt: skip
NTP = Source(
    SourceId("ntp-conf"), "files",
    {"globs": ["/etc/ntpsec/ntp.conf", "/etc/ntpsec/ntp.d/*.conf", "/etc/ntp.conf"], "redact": True, "cap_each": 1 << 16},
    "ntp.conf(5) of NTPsec and ntp: server, pool, peer.",
)  # fmt: skip
TIMESYNCD = of_systemd("timesyncd-conf", "timesyncd.conf", "timesyncd.conf(5): section [Time], NTP= and FallbackNTP=.")


@dataclass(frozen=True)
class TimeServer:
    """A time source that is configured, whether its program runs or not. Source: chrony.conf(5), ntp.conf(5), timesyncd.conf(5)."""

    daemon: Annotated[str, "chrony, ntp or timesyncd"]
    file: Annotated[str | None, "Configuration file; NULL: more than one makes the list"]
    kind: Annotated[str, "server, pool, peer, refclock or fallback"]
    address: Annotated[str, "Name, address or device"]
    nts: Annotated[bool, "Network Time Security: its answers are authenticated"]
    key: Annotated[bool, "Its answers are authenticated by a shared key"]
    options: Annotated[list[str], "Other words of the line"]


_INCLUDES = {"include": "", "confdir": "/*.conf", "sourcedir": "/*.sources"}


def parse_servers(evidence: Bundle) -> Iterator[TimeServer]:
    """A row per source of each program's configuration."""
    for read in (_chrony, _ntp, _timesyncd):
        try:
            yield from read(evidence)
        except Unread as unread:
            evidence.gaps.append(str(unread))


def _chrony(evidence: Bundle) -> Iterator[TimeServer]:
    files = {path: str(entry.get("text", "")) for path, entry in evidence.entries(CHRONY).items()}
    told = evidence.document(CHRONY)
    todo, places = [path for path in CHRONY.args["globs"] if path in files], set[str]()
    for path in todo:  # grows by what is included, each file once
        for line in files[path].split("\n"):
            words = line.split()
            if not words or words[0][0] in "!;#%":
                continue
            name, rest = words[0].lower(), words[1:]
            if name in ("server", "pool", "peer", "refclock"):
                if row := _server("chrony", path, name, rest):
                    yield row
                else:
                    evidence.gap(CHRONY, f"{path}: a source without address")
            for place in rest if name in _INCLUDES else ():
                pattern = place if name == "include" else place.rstrip("/") + _INCLUDES[name]
                if not re.search(r"[*?[]", place) and place not in told:
                    evidence.gap(CHRONY, f"{path}: {place} was not looked at")
                if pattern not in places and len(places) < 500:
                    places.add(pattern)
                    found = fnmatch.filter(files, pattern)
                    todo += sorted(other for other in found if other not in todo and other.count("/") == pattern.count("/"))
    if len(places) == 500:
        evidence.gap(CHRONY, "more includes than are followed")
    folders = {f"{CHRONY.id}: {place.rpartition('/')[0]}{end} failed: not a regular file" for place in places for end in ("", "/")}
    evidence.gaps[:] = [gap for gap in evidence.gaps if gap not in folders]  # the reader tries a folder as a file first


def _ntp(evidence: Bundle) -> Iterator[TimeServer]:
    for path, entry in evidence.entries(NTP).items():
        for line in str(entry.get("text", "")).split("\n"):
            words = line.partition("#")[0].split()
            if words and words[0].lower() in ("server", "pool", "peer", "refclock"):
                if row := _server("ntp", path, words[0].lower(), [word for word in words[1:] if word not in ("-4", "-6")]):
                    yield row
                else:
                    evidence.gap(NTP, f"{path}: a source without address")


def _server(daemon: str, path: str, kind: str, rest: list[str]) -> TimeServer | None:
    if not rest:
        return None
    address, options = (" ".join(rest[:2]), rest[2:]) if kind == "refclock" and daemon == "chrony" else (rest[0], rest[1:])
    if daemon == "ntp" and address.startswith("127.127."):
        kind = "refclock"
    lowered = [option.lower() for option in options]
    return TimeServer(daemon, path, kind, address, "nts" in lowered, "key" in lowered, options)


def _timesyncd(evidence: Bundle) -> Iterator[TimeServer]:
    given = settings(evidence, TIMESYNCD, "Time")
    files = in_order(evidence.entries(TIMESYNCD))
    for name, kind in (("NTP", "server"), ("FallbackNTP", "fallback")):
        for address in " ".join(given.get(name, [])).split():
            yield TimeServer("timesyncd", files[0] if len(files) == 1 else None, kind, address, False, False, [])
