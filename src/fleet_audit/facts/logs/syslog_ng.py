# SPDX-License-Identifier: Apache-2.0
"""syslog-ng: where its configuration sends logs and takes them. Targets put together at run time stay NULL."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet_audit.facts.base import Bundle, integer
from fleet_audit.facts.logs.rows import LogForward, LogReceiver, blocks, encrypted, listened, masked
from fleet_audit.model import Source, SourceId

SYSLOG_NG = Source(
    SourceId("syslog-ng-conf"), "files",
    {"globs": ["/etc/syslog-ng/syslog-ng.conf", "/etc/syslog-ng/conf.d/*.conf"], "redact": True, "cap_each": 1 << 17},
    "syslog-ng administration guide: sources and destinations with their drivers, joined by log paths.",
)  # fmt: skip
_DRIVERS = {"network": "tcp", "syslog": "tcp", "tcp": "tcp", "tcp6": "tcp", "udp": "udp", "udp6": "udp", "http": "http", "loki": "loki",
            "elasticsearch-http": "http", "kafka-c": "kafka", "kafka": "kafka", "opentelemetry": "otlp", "syslog-ng-otlp": "otlp"}  # fmt: skip
_BLOCK = r"\b(destination|source)\s{1,9}[\"']?([\w.-]{1,200})[\"']?\s{0,9}\{|\b(destination|source)\s{0,9}\{"
_LOCAL = frozenset(
    "file wildcard-file pipe fifo program unix-stream unix-dgram usertty pseudofile internal system systemd-journal systemd-syslog "
    "sun-streams linux-audit stdin nodejs hook-commands null example-destination channel log junction".split()
)


def read(evidence: Bundle) -> tuple[list[LogForward], list[LogReceiver]]:
    """(where logs go, where they come from): drivers of those destinations and sources that a log path names."""
    forwards, receivers = [], []
    texts = {path: masked(str(entry.get("text", ""))) for path, entry in evidence.entries(SYSLOG_NG).items()}
    used = {
        (kind, name) for plain, *_ in texts.values() for kind, name in re.findall(r"\b(destination|source)\s*\(\s*[\"']?([\w.-]+)", plain)
    }
    for path, (plain, mask, whole) in texts.items():
        if not whole:
            evidence.gap(SYSLOG_NG, f"{path}: a comment that does not end")
        for pattern in re.findall(r"^[ \t]*@?include[ \t]+[\"']?([^\"'\s;]+)", plain, re.M):
            if pattern != "scl.conf" and not re.fullmatch(r"(?:/etc/syslog-ng/)?conf\.d/[^/]*\.conf", pattern):
                evidence.gap(SYSLOG_NG, f"{path}: it includes {pattern[:80]}, which is not read")
        for match, _, inner in blocks(plain, mask, _BLOCK, "{}"):
            kind, name = match[1] or match[3], match[2] or ""
            if inner is None:
                evidence.gap(SYSLOG_NG, f"{path}: a bracket that is not closed")
            elif not name or (kind, name) in used:
                for driver, address, port, transport, verify in _drivers(inner):
                    if driver not in _DRIVERS:
                        evidence.gap(SYSLOG_NG, f"{path}: a {kind} that is not known: {driver[:40]}") if driver not in _LOCAL else None
                        continue
                    plain_wire = transport == "plain" or driver in ("network", "syslog", "tcp", "tcp6", "udp", "udp6")
                    tls = transport == "tls" or (False if plain_wire else None)
                    protocol = "udp" if transport == "udp" else _DRIVERS[driver]
                    if kind == "destination":
                        verified = verify not in ("optional-trusted", "optional-untrusted", "required-untrusted", "no") if tls else None
                        forwards.append(LogForward("syslog-ng", path, protocol, address, port, tls, verified))
                    else:
                        receivers.append(LogReceiver("syslog-ng", path, protocol, listened(address), port, tls))
    return forwards, receivers


def read_forwards(evidence: Bundle) -> list[LogForward]:
    """Where logs go."""
    return read(evidence)[0]


def _drivers(text: str) -> Iterator[tuple[str, str | None, int | None, str, str]]:
    """(driver, address, port, transport, peer-verify) of a source's or destination's drivers."""
    plain, mask, _ = masked(text)
    for match, _, inner in blocks(plain, mask, r"(?<![\w-])([A-Za-z][\w-]{0,80})\s{0,9}\("):
        options = inner or ""
        first = re.match(r"\s*+[\"']?+([\w.:/\[\]-]++)[\"']?+(?!\s*\()", options)
        named = re.search(r"\b(?:ip|url|bootstrap-servers|localip)\s*\(\s*[\"']?([^\"'\s()]+)", options)
        port = re.search(r"\bport\s*\(\s*[\"']?(\d{1,5})", options)
        transport = re.search(r"\btransport\s*\(\s*[\"']?([\w-]+)", options)
        verify = re.search(r"\bpeer-verify\s*\(\s*[\"']?([\w-]+)", options)
        address = first[1] if first else named[1] if named else None
        scheme = encrypted(address)
        wire = transport[1] if transport else "" if scheme is None else "tls" if scheme else "plain"
        yield match[1], address, integer(port[1]) if port else None, wire, verify[1] if verify else ""
