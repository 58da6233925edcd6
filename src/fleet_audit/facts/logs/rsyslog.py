# SPDX-License-Identifier: Apache-2.0
"""rsyslog: where its configuration, old and new style, sends logs and takes them."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from fleet_audit.facts.base import Bundle, integer
from fleet_audit.facts.logs.rows import LogForward, LogReceiver, blocks, listened, masked
from fleet_audit.model import Source, SourceId

_MAIN = "/etc/rsyslog.conf"
RSYSLOG = Source(
    SourceId("rsyslog-conf"), "files", {"globs": [_MAIN], "follow": "rsyslog", "redact": True, "cap_each": 1 << 17},
    "rsyslog.conf(5), omfwd, omrelp, imtcp: actions, inputs, legacy directives and selectors, with the files that it includes.",
)  # fmt: skip

_TLS_DRIVERS = frozenset(("gtls", "ossl", "mbedtls"))
_OUTPUTS = {  # module: (protocol, parameters that name the target)
    "omfwd": ("", ("target", "targets")), "builtin:omfwd": ("", ("target", "targets")), "omrelp": ("relp", ("target",)),
    "omdtls": ("dtls", ("target",)), "omhttp": ("http", ("server",)), "omelasticsearch": ("elasticsearch", ("server",)),
    "omkafka": ("kafka", ("broker",)), "omgssapi": ("gssapi", ("target",)), "omazureeventhubs": ("azure-event-hubs", ("azurehost",)),
    "omamqp1": ("amqp", ("host",)), "omhiredis": ("redis", ("server",)), "omclickhouse": ("clickhouse", ("server",)),
    "ommysql": ("mysql", ("server",)), "ompgsql": ("postgresql", ("server",)), "ommongodb": ("mongodb", ("server", "uristr")),
}  # fmt: skip
_KEPT = frozenset("omfile omusrmsg ompipe omdiscard omshell omprog omjournal omuxsock omstdout ommail omtesting".split())
_INPUTS = {"imudp": "udp", "imtcp": "tcp", "imptcp": "tcp", "imrelp": "relp", "imgssapi": "gssapi", "imdtls": "dtls"}
_LEGACY_INPUTS = {"udpserverrun": "udp", "inputtcpserverrun": "tcp", "inputptcpserverrun": "tcp", "inputrelpserverrun": "relp"}
_TARGET = re.compile(r"(?:^|[\s&])(@@?)(?:\([^()\s]*\))?(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+)(?::(\d+|[\w-]+))?")
_OBJECT = r"(?i)(?<![\w$.])(action|input|module|global|include)\s{0,9}\("
_PARAMETER = re.compile(r"""(?<![\w.])([\w.]+)\s*=\s*("(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\[[^\[\]]*\])""")

Parameters = dict[str, list[str]]


@dataclass
class _State:
    """What was read so far; what directives set for an action stays in force for later ones."""

    files: dict[str, str]
    told: set[str]  # paths that were looked at, there or not
    forwards: list[LogForward] = field(default_factory=list)
    receivers: list[LogReceiver] = field(default_factory=list)
    directives: dict[str, str] = field(default_factory=dict)
    modules: dict[str, Parameters] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    includes: int = 0
    unknown: list[str] = field(default_factory=list)

    def one(self, name: str) -> str:
        return self.directives.get(name, "").lower()


def read(evidence: Bundle) -> tuple[list[LogForward], list[LogReceiver]]:
    """(where logs go, where they come from); nothing where rsyslog is not configured."""
    found = evidence.entries(RSYSLOG)
    state = _State({path: str(entry.get("text", "")) for path, entry in found.items()}, set(evidence.document(RSYSLOG)))
    if _MAIN in state.files:
        _file(evidence, _MAIN, state)
    for what in state.unknown:
        evidence.gap(RSYSLOG, what)
    return state.forwards, state.receivers


def read_forwards(evidence: Bundle) -> list[LogForward]:
    """Where logs go."""
    return read(evidence)[0]


def _file(evidence: Bundle, path: str, state: _State) -> None:
    """Take in a file and, where it includes them, others; each once."""
    state.seen.add(path)
    plain, mask, whole = masked(state.files[path])
    if not whole:
        evidence.gap(RSYSLOG, f"{path}: a comment that does not end")
    events, lines, done = [], [], 0
    for match, end, inner in blocks(plain, mask, _OBJECT):
        if inner is None:
            evidence.gap(RSYSLOG, f"{path}: a bracket that is not closed")
        if re.match(r"(?i)include\s", match[0]):
            evidence.gap(RSYSLOG, f"{path}: an include that was not followed")  # the reader knows it without blanks alone
        events.append((match.start(), match[1].lower(), inner or ""))
        lines += [mask[done : match.start()], re.sub(r"[^\n]", " ", mask[match.start() : end + 1])]
        done = end + 1
    place = 0
    for line in ("".join(lines) + mask[done:]).split("\n"):
        events.append((place, "", plain[place : place + len(line)] if line.lstrip().startswith("$") else line))
        place += len(line) + 1
    for _, word, content in sorted(events, key=lambda event: event[0]):
        for pattern in _take(path, word, content, state):
            unfollowed = word and not re.match(r"""\s*file="[^"\s,']+""", content)  # the reader knows this form alone
            pattern = pattern if pattern.startswith("/") else f"{path.rpartition('/')[0]}/{pattern}"
            if unfollowed or re.search(r"[`$\s,]", pattern) or not (re.search(r"[*?\[]", pattern) or pattern in state.told):
                evidence.gap(RSYSLOG, f"{path}: an include that was not followed")
            state.includes += 1
            if state.includes > 500:
                evidence.gap(RSYSLOG, "more includes than are followed")
                return
            for other in sorted(fnmatch.filter(state.files, pattern)):
                if other not in state.seen and other.count("/") == pattern.count("/"):
                    _file(evidence, other, state)


def _take(path: str, word: str, content: str, state: _State) -> Iterator[str]:
    """Take in one object or line; yields the patterns of files that it includes."""
    if word:
        given = _parameters(content)
        kind = (given.get("type") or given.get("load") or [""])[0].lower()
        if word == "include":
            yield from given.get("file", ["`"])  # text= comes from elsewhere
        elif word == "global":
            state.directives.update({name: values[0] for name, values in given.items() if values})
        elif word == "module":
            state.modules[kind] = given
        elif word == "action" and kind in _OUTPUTS:
            state.forwards += _action(path, kind, given, state)
        elif word == "action" and kind.removeprefix("builtin:") not in _KEPT and not kind.startswith("mm"):
            state.unknown.append(f"{path}: an action that is not known: {kind[:40]}")
        elif word == "input" and kind in _INPUTS:
            both = {**state.modules.get(kind, {}), **given}
            tls = (both.get("streamdriver.mode") or both.get("tls") or ["0"])[0].lower() in ("1", "on")
            computed = re.search(r"(?i)\baddress\s*=\s*`", content)
            addresses = [listened(text) for text in given.get("address") or ["`" if computed else ""]]
            state.receivers += [LogReceiver("rsyslog", path, _INPUTS[kind], address, integer(port), tls or kind == "imdtls")
                          for address in addresses for port in given.get("port") or [""]]  # fmt: skip
        return
    line = content.strip()
    if match := re.fullmatch(r"\$(\w+)\s+(.*)", line):
        name, text = match[1].lower(), match[2].strip().strip("\"'")
        if name == "includeconfig":
            yield text
        elif name in _LEGACY_INPUTS:
            tls = state.one("inputtcpserverstreamdrivermode") == "1" and _LEGACY_INPUTS[name] == "tcp"
            address = state.directives.get("udpserveraddress") if name == "udpserverrun" else None
            state.receivers.append(LogReceiver("rsyslog", path, _LEGACY_INPUTS[name], listened(address), integer(text), tls))
        else:
            state.directives[name] = text
    elif match := re.search(r":om(relp|gssapi):(\[[^\]\s]+\]|[^\s:;]+)(?::(\d+))?", line):
        state.forwards.append(
            LogForward("rsyslog", path, match[1], match[2], integer(match[3]), False if match[1] == "relp" else None, None)
        )
    elif match := _TARGET.search(line):
        tcp = match[1] == "@@"
        tls = tcp and _tls(state.one("actionsendstreamdriver"), state.one("actionsendstreamdrivermode"), state)
        verified = state.one("actionsendstreamdriverauthmode").startswith("x509/") if tls else None
        state.forwards.append(LogForward("rsyslog", path, "tcp" if tcp else "udp", match[2].strip("[]"), integer(match[3]), tls, verified))


def _parameters(content: str) -> Parameters:
    """Parameters in lower case, as lists."""
    found: Parameters = {}
    for name, text in _PARAMETER.findall(content):
        items = re.findall(r"""["']([^"']*)["']""", text) if text.startswith("[") else [text[1:-1]]
        found[name.lower()] = items
    return found


def _tls(driver: str, mode: str, state: _State) -> bool:
    return mode == "1" and (driver or state.one("defaultnetstreamdriver")) in _TLS_DRIVERS


def _action(path: str, kind: str, given: Parameters, state: _State) -> list[LogForward]:
    """Source: rsyslog's manual of each module; omfwd is plain UDP unless it is told otherwise."""

    def one(*names: str) -> str:
        return next((given[name][0].lower() for name in names if given.get(name)), "")

    protocol, places = _OUTPUTS[kind]
    tls: bool | None = None
    mode = one("streamdriverauthmode", "streamdriver.authmode", "tls.authmode")
    if not protocol:
        protocol = one("protocol") or "udp"
        tls = protocol == "tcp" and _tls(one("streamdriver", "streamdriver.name"), one("streamdrivermode", "streamdriver.mode"), state)
    elif kind == "omrelp":
        tls = one("tls") == "on"
    elif kind in ("omhttp", "omelasticsearch"):
        tls = (one("usehttps") or ("on" if kind == "omhttp" else "off")) == "on"
    elif kind == "omdtls":
        tls = True
    verified = None
    if tls and kind not in ("omhttp", "omelasticsearch"):
        verified = mode not in ("", "anon")
    elif tls:
        verified = one("skipverifyhost", "allowunsignedcerts") != "on"
    targets: list[str | None] = [target for name in places for target in given.get(name, [])] or [None]
    return [LogForward("rsyslog", path, protocol, target, integer(one("port", "serverport")), tls, verified) for target in targets]
