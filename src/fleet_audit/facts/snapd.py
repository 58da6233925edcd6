# SPDX-License-Identifier: Apache-2.0
"""snapd itself: versions, confinement, refreshes, settings and stores. It cannot know what the store would say now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.apt_sources import bare
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, timestamp, value
from fleet_audit.facts.snaps import FILES, RUNS, said
from fleet_audit.model import Source, SourceId

TIMES = Source(
    SourceId("snap-refresh-time"), "command", {"argv": ["snap", "refresh", "--time", "--abs-time"]},
    "snap(8) refresh: lines of timer (or schedule), last, hold and next, in RFC 3339.", when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
SYSTEM = Source(
    SourceId("snap-system"), "command", {"argv": ["snap", "get", "-d", "system"], "redact": True},
    "snap(8) get: the system's own settings as JSON, those that were set.", when_exists=RUNS, needs_root=True, timeout_s=20.0,
)  # fmt: skip
VERSION = Source(
    SourceId("snap-version"), "command", {"argv": ["snap", "version"]}, "snap(8) version: lines of a name and a version.",
    when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
CONFINEMENT = Source(
    SourceId("snap-confinement"), "command", {"argv": ["snap", "debug", "confinement"]},
    "snap debug confinement: strict, partial or none, by what the kernel offers.", when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
_HEADERS = ["type: ", "brand-id: ", "operator-id: ", "model: ", "store: ", "url: "]
MODEL = Source(
    SourceId("snap-model"), "command", {"argv": ["snap", "model", "--assertion"], "keep": _HEADERS},
    "snap(8) model, since snapd 2.42: headers of the assertion of the node's model, which names its store.", when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip
STORES = Source(
    SourceId("snap-stores"), "command", {"argv": ["snap", "known", "store"], "keep": _HEADERS},
    "snap(8) known: headers of the assertions of stores, such as a proxy's.", when_exists=RUNS, timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class Snapd:
    """snapd itself; no row where it is not installed. Source: snap(8) version, snap debug confinement."""

    version: Annotated[str | None, "Version of the daemon that runs"]
    client_version: Annotated[str | None, "Version of the program snap"]
    confinement: Annotated[str | None, "strict; partial or none where the kernel cannot enforce all of it"]


@dataclass(frozen=True)
class SnapRefresh:
    """When snaps are refreshed; no row where there is no snapd. Source: snap(8) refresh --time."""

    timer: Annotated[str, "When refreshes are tried, as snapd writes it"]
    last_at: Annotated[datetime | None, "Last refresh of all; NULL for never"]
    next_at: Annotated[datetime | None, "Next try; NULL where there is none"]
    held: Annotated[bool, "All refreshes are held, now or until a moment that has passed"]
    held_forever: Annotated[bool, "They are held without an end"]
    held_until: Annotated[datetime | None, "Until when; NULL where they are not held, or forever"]


@dataclass(frozen=True)
class SnapSystem:
    """Settings of snapd that were set; no row where there is no snapd. Source: snap(8) get system."""

    refresh_timer: Annotated[str | None, "refresh.timer; empty: not set"]
    refresh_hold: Annotated[str | None, "refresh.hold: a time, or forever; empty: not set"]
    refresh_metered: Annotated[str | None, "refresh.metered; hold: no refresh on metered connections; empty: not set"]
    refresh_retain: Annotated[int | None, "refresh.retain: revisions kept; NULL where not set"]
    proxy_http: Annotated[str | None, "proxy.http, without user and password; empty: not set"]
    proxy_https: Annotated[str | None, "proxy.https, without user and password; empty: not set"]
    proxy_store: Annotated[str | None, "proxy.store: the store that stands in for the public one; empty: not set"]
    store_access: Annotated[str | None, "store.access; offline: never asked; empty: not set"]


@dataclass(frozen=True)
class SnapAssertion:
    """A signed statement on the node about its model or about a store. Source: snap(8) known."""

    type: Annotated[str, "model or store"]
    account: Annotated[str, "Brand of the model, or operator of the store"]
    name: Annotated[str, "Model, or store"]
    store: Annotated[str | None, "Store that the model uses; NULL for the public one"]
    url: Annotated[str | None, "Where the store is; NULL for one within the public one"]


def parse_snapd(evidence: Bundle) -> Iterable[Snapd]:
    """One row where snapd is installed."""
    text = said(evidence, VERSION)
    if text is None:
        return
    words = dict(pair for line in text.split("\n") if len(pair := line.split()) == 2)
    if "snap" not in words:
        raise NotUnderstood(f"{VERSION.id}: no version in it")
    version = value(words.get("snapd"), missing="-")
    if version is None or not version[0].isdigit():
        evidence.gap(VERSION, "no version of the daemon")
        version = None
    confinement = value(evidence.try_body(CONFINEMENT))
    if confinement not in ("strict", "partial", "none"):
        evidence.gap(CONFINEMENT, "not a word that is known")
        confinement = None
    yield Snapd(version, words["snap"], confinement)


def parse_refresh(evidence: Bundle) -> Iterable[SnapRefresh]:
    """One row where snapd is installed."""
    text = said(evidence, TIMES)
    if text is None:
        return
    lines = {name: rest.strip() for name, mark, rest in (line.partition(": ") for line in text.split("\n")) if mark}
    timer = lines.get("timer") or lines.get("schedule")
    if not timer or not {"last", "next"} <= set(lines):
        raise NotUnderstood(f"{TIMES.id}: no timer, last or next in it")

    def when(name: str) -> datetime | None:
        words = lines.get(name, "n/a").removesuffix(" (but held)")
        found = timestamp(words)
        if found is None and words not in ("n/a", "forever"):
            evidence.gap(TIMES, f"{name} is not understood")
        return found

    yield SnapRefresh(timer, when("last"), when("next"), "hold" in lines, lines.get("hold") == "forever", when("hold"))


def parse_system(evidence: Bundle) -> Iterable[SnapSystem]:
    """One row where snapd is installed."""
    if said(evidence, SYSTEM) is None:
        return
    document = evidence.document(SYSTEM)
    if not isinstance(document, dict):
        raise NotUnderstood(f"{SYSTEM.id}: not an object")

    def at(group: str, name: str) -> Any:
        part = document.get(group, {})
        found = part.get(name, "") if isinstance(part, dict) else None
        return str(found) if type(found) in (int, float) else found

    def proxy(name: str) -> Any:
        found = at("proxy", name)
        return bare(found)[0] if found and isinstance(found, str) else found

    retain = at("refresh", "retain")
    yield SnapSystem(
        at("refresh", "timer"), at("refresh", "hold"), at("refresh", "metered"), integer(retain),
        proxy("http"), proxy("https"), at("proxy", "store"), at("store", "access"),
    )  # fmt: skip


def parse_assertions(evidence: Bundle) -> Iterable[SnapAssertion]:
    """A row for the node's model and for each store that it knows."""
    unread = 0
    for source, kind, account in ((MODEL, "model", "brand-id"), (STORES, "store", "operator-id")):
        try:
            text = said(evidence, source) or ""
        except Unread as error:
            evidence.gaps.append(str(error))
            unread += 1
            continue
        found: list[dict[str, str]] = []
        for line in text.split("\n"):
            name, mark, rest = line.partition(": ")
            if name == "type":
                found.append({})
            if mark and found:
                found[-1][name] = rest.strip()
            elif line.strip():
                evidence.gap(source, "a line is not understood")
        for headers in found:
            if headers.get("type") == kind and {account, kind} <= set(headers):
                store = headers.get("store") if kind == "model" else None
                yield SnapAssertion(kind, headers[account], headers[kind], store, headers.get("url"))
            else:
                evidence.gap(source, f"not an assertion of a {kind}")
    if unread == 2:
        raise Unread("; ".join(evidence.gaps[:3]))


TABLES = (
    Table("snapd", Snapd, (VERSION, CONFINEMENT, FILES), parse_snapd),
    Table("snap_refresh", SnapRefresh, (TIMES, FILES), parse_refresh),
    Table("snap_system", SnapSystem, (SYSTEM, FILES), parse_system),
    Table("snap_assertions", SnapAssertion, (MODEL, STORES, FILES), parse_assertions),
)
