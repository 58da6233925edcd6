# SPDX-License-Identifier: Apache-2.0
"""The shippers of logs: where their configurations send them. Targets put together at run time stay NULL."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import yaml

from fleet_audit.facts.base import Bundle, integer
from fleet_audit.facts.logs.rows import LogForward, encrypted
from fleet_audit.facts.texts import boolean
from fleet_audit.model import Source, SourceId

SHIPPERS = Source(
    SourceId("log-shippers"), "files",
    {"globs": ["/etc/fluent-bit/*.conf", "/etc/td-agent-bit/*.conf", "/etc/fluent-bit/*.yaml", "/etc/fluent/*.conf", "/etc/fluent/conf.d/*.conf",
               "/etc/td-agent/*.conf", "/etc/vector/*.toml", "/etc/vector/*.yaml", "/etc/filebeat/filebeat.yml", "/etc/promtail/*.yml",
               "/etc/promtail/*.yaml", "/etc/otelcol*/*.yaml", "/opt/splunkforwarder/etc/system/local/outputs.conf",
               "/opt/splunkforwarder/etc/apps/*/local/outputs.conf"],
     "redact": True, "cap_each": 1 << 16},
    "Manuals of Fluent Bit, Fluentd, Vector, Filebeat, Promtail, the OpenTelemetry Collector and Splunk's forwarder: their outputs.",
    needs_root=True, cap_bytes=1 << 19,
)  # fmt: skip

_LOCAL = frozenset(
    "stdout null file counter flowcounter console blackhole debug logging exit lib tap print copy relabel roundrobin memory socket_local".split()
)
_METRICS = frozenset("prometheus_exporter prometheus_remote_write statsd influxdb_metrics datadog_metrics aws_cloudwatch_metrics".split())
_PLAIN = frozenset("forward http es opensearch loki syslog tcp splunk gelf opentelemetry influxdb nats websocket datadog".split())
"""Outputs of Fluent Bit that are in the clear unless `tls` is on."""

Output = tuple[str, str | None, int | None, bool | None, bool | None]
"""(name of the output, target, port, tls, verified)"""


def _fluent_bit(text: str) -> Iterator[Output]:
    found: list[dict[str, str]] = []
    for line in text.split("\n"):
        if line.lstrip().startswith("["):
            if not (match := re.fullmatch(r"\s*\[(\w+)\]\s*(?:#.*)?", line)):
                raise ValueError("a section that is none")
            found.append({"": match[1].upper()})
        elif (words := line.split(None, 1))[1:] and found and not words[0].startswith("#"):
            found[-1].setdefault(words[0].lower(), words[1].strip())
    yield from (_fluent_output(section) for section in found if section[""] == "OUTPUT" and section.get("name", "").lower() not in _LOCAL)


def _fluent_output(given: dict[str, str]) -> Output:
    name, tls = given.get("name", "").lower(), boolean(given.get("tls"))
    if tls is None and name in _PLAIN:
        tls = False  # the outputs of clouds encrypt by themselves
    return (
        name,
        given.get("host"),
        integer(given.get("port")),
        tls,
        boolean(given.get("tls.verify", "on")) if tls else None,
    )


def _fluent_bit_yaml(text: str) -> Iterator[Output]:
    for output in _list(_at(_yaml(text), "pipeline", "outputs")):
        given = {str(name).lower(): word for name, value in _map(output).items() if (word := _text(value)) is not None}
        if given.get("name", "").lower() not in _LOCAL:
            yield _fluent_output(given)


def _fluentd(text: str) -> Iterator[Output]:
    for match in re.findall(r"<match\b[^>\n]{0,500}>((?:(?!</?match)[^<]|<(?!/?match))*)", text):
        for body in re.split(r"<store\b[^>\n]{0,500}>", match):  # of @type copy
            kind = re.search(r"^[ \t]*@?type\s+(\S+)", body, re.M)
            if kind and kind[1] not in _LOCAL:
                yield from _fluentd_output(kind[1], body)


def _fluentd_output(kind: str, body: str) -> Iterator[Output]:
    hosts: list[str | None] = [*re.findall(r"^[ \t]*(?:host|hosts|endpoint|brokers)[ \t]+(\S+)", body, re.M)] or [None]
    port = re.search(r"^[ \t]*port\s+(\d{1,5})\s*$", body, re.M)
    wire = re.search(r"^[ \t]*(?:transport|scheme)\s+(\S+)", body, re.M)
    insecure = re.search(r"^[ \t]*(?:tls_insecure_mode\s+true|ssl_verify\s+false|tls_allow_self_signed_cert\s+true)", body, re.M)
    for host in hosts:
        tls = wire[1] in ("tls", "https") if wire else encrypted(host)
        if tls is None and kind == "forward":
            tls = False
        yield kind, host, integer(port[1]) if port else None, tls, insecure is None if tls else None


def _vector(document: Any) -> Iterator[Output]:
    for sink in _map(_at(document, "sinks")).values():
        given = _map(sink)
        if (kind := _text(given.get("type")) or "") in _LOCAL | _METRICS:
            continue
        targets = [text for name in ("endpoint", "address", "uri", "bootstrap_servers") if (text := _text(given.get(name)))]
        targets += [text for target in _list(given.get("endpoints")) if (text := _text(target))]
        tls, wanted = _map(given.get("tls")), list[str | None](targets)
        for target in wanted or [None]:
            on = boolean(_text(tls["enabled"])) if "enabled" in tls else encrypted(target)
            yield kind, target, None, on, boolean(_text(tls.get("verify_certificate", "true"))) if on else None


def _filebeat(text: str) -> Iterator[Output]:
    document = _map(_yaml(text))
    outputs = {str(name).removeprefix("output."): value for name, value in document.items() if str(name).startswith("output.")}
    for kind, value in {**_map(document.get("output")), **outputs}.items():
        given = _map(value)
        if kind in _LOCAL or boolean(_text(given.get("enabled", "true"))) is False:
            continue
        ssl = {**_map(given.get("ssl")), **{str(name)[4:]: text for name, text in given.items() if str(name).startswith("ssl.")}}
        hosts = given.get("hosts")
        for host in [_text(host) for host in _list(hosts)] or [None] if isinstance(hosts, list) else [_text(hosts)]:
            tls = boolean(_text(ssl["enabled"])) if "enabled" in ssl else bool(ssl)
            if kind == "elasticsearch":  # there ssl holds for https alone
                tls = encrypted(host) if encrypted(host) is not None else given.get("protocol") == "https"
                if host is None and "cloud.id" in document:
                    tls = None  # the id holds the address
            yield kind, host, None, tls, ssl.get("verification_mode", "full") != "none" if tls else None


def _promtail(text: str) -> Iterator[Output]:
    for client in _list(_at(_yaml(text), "clients")):
        target, tls = _text(_map(client).get("url")), _map(_map(client).get("tls_config"))
        on = encrypted(target)
        yield "loki", target, None, on, boolean(_text(tls.get("insecure_skip_verify", "false"))) is False if on else None


def _otelcol(text: str) -> Iterator[Output]:
    document = _yaml(text)
    pipelines = _map(_at(document, "service", "pipelines"))
    used = [name for pipe, value in pipelines.items() if pipe.partition("/")[0] == "logs" for name in _list(_map(value).get("exporters"))]
    for name, value in _map(_at(document, "exporters")).items():
        kind, given = name.partition("/")[0], _map(value)
        if kind not in _LOCAL and (name in used or not pipelines):
            target, tls = _text(given.get("endpoint") or given.get("logs_endpoint")), _map(given.get("tls"))
            on = encrypted(target)
            if on is None and (kind == "otlp" or "tls" in given):  # otlp encrypts unless it is told otherwise
                on = boolean(_text(tls.get("insecure", "false"))) is False
            yield kind, target, None, on, boolean(_text(tls.get("insecure_skip_verify", "false"))) is False if on else None


def _splunk(text: str) -> Iterator[Output]:
    for body in re.split(r"^[ \t]*\[", text, flags=re.M)[1:]:
        given = {name.strip(): text.strip() for name, _, text in (line.partition("=") for line in body.split("\n"))}
        for server in filter(None, (part.strip() for part in given.get("server", "").split(","))):
            host, _, port = server.rpartition(":")
            tls = boolean(given.get("useSSL")) if "useSSL" in given else True if "clientCert" in given or "sslCertPath" in given else None
            yield "splunktcp", host or server, integer(port), tls, boolean(given.get("sslVerifyServerCert", "false")) if tls else None


def _yaml(text: str) -> Any:
    return yaml.load(text, Loader=yaml.BaseLoader)  # texts, lists and maps alone


def _toml(text: str) -> Any:
    if any(line.count(".") > 500 for line in text.split("\n")):
        raise ValueError("tables too deep")  # the time that they take grows with the square of their depth
    return tomllib.loads(text)


def _at(document: Any, *path: str) -> Any:
    for name in path:
        document = _map(document).get(name)
    return document


def _map(value: Any) -> dict[Any, Any]:
    """A map, empty where nothing is set. Raises `ValueError` for anything else: what it would hold is not known."""
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise ValueError("no map")
    return value


def _text(value: Any) -> str | None:
    """A text; None for what is none: a list may hold itself through aliases, and more often than memory has room."""
    return value if isinstance(value, str) else str(value) if isinstance(value, bool | int) else None


def _list(value: Any) -> list[Any]:
    """A list, empty where nothing is set. Raises `ValueError` for anything else, and for one that is too long."""
    if value is None or value == "":
        return []
    if not isinstance(value, list) or len(value) > 200:
        raise ValueError("no list of at most 200")
    return value


_READERS: tuple[tuple[str, str, Callable[[str], Iterable[Output]]], ...] = (
    (r"/etc/(?:fluent-bit|td-agent-bit)/.*\.conf", "fluent-bit", _fluent_bit),
    (r"/etc/fluent-bit/.*\.yaml", "fluent-bit", _fluent_bit_yaml),
    (r"/etc/(?:fluent|td-agent)/.*\.conf", "fluentd", _fluentd),
    (r"/etc/vector/.*\.toml", "vector", lambda text: _vector(_toml(text))),
    (r"/etc/vector/.*\.yaml", "vector", lambda text: _vector(_yaml(text))),
    (r"/etc/filebeat/.*", "filebeat", _filebeat),
    (r"/etc/promtail/.*", "promtail", _promtail),
    (r"/etc/otelcol[^/]*/.*", "otelcol", _otelcol),
    (r"/opt/splunkforwarder/.*", "splunk", _splunk),
)


def read_shippers(evidence: Bundle) -> Iterator[LogForward]:
    """Where the shippers' configurations send logs; what is not understood, and what they include from elsewhere, is a gap."""
    found = evidence.entries(SHIPPERS)
    for path, entry in found.items():
        program, reader = next(((program, reader) for pattern, program, reader in _READERS if re.fullmatch(pattern, path)), ("", None))
        try:
            outputs = list(reader(str(entry.get("text", "")))) if reader else []
        except (yaml.YAMLError, tomllib.TOMLDecodeError, ValueError, RecursionError):
            evidence.gap(SHIPPERS, f"{path}: not understood")
            continue
        for include in (
            re.findall(r"^[ \t]*@include[ \t]+(\S+)", str(entry.get("text", "")), re.M | re.I) if program.startswith("fluent") else ()
        ):
            name = include if include.startswith("/") else f"{path.rpartition('/')[0]}/{include}"
            if not fnmatch.filter(found, name):
                evidence.gap(SHIPPERS, f"{path}: it includes {include[:80]}, which is not read")
        for protocol, target, port, tls, verified in outputs:
            yield LogForward(program, path, protocol or "unnamed", target, port, tls, verified)
