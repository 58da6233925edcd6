# SPDX-License-Identifier: Apache-2.0
"""Ubuntu Pro: attachment and services, as the client last wrote them down. `pro` itself is never run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe, timestamp, utc, value
from fleet_audit.model import Source, SourceId, Status

_STATE = "/var/lib/ubuntu-advantage"
_PROGRAMS = ("/usr/bin/pro", "/usr/bin/ua")

STATUS = Source(
    SourceId("ubuntu-pro-status"),
    "file",
    {"paths": [f"{_STATE}/status.json"], "redact": True},
    "ubuntu-pro-client, `pro status --format json`: what the client said when root last asked it. `pro` would"
    " write on the node and ask the network.",
)
PLACES = Source(
    SourceId("ubuntu-pro-places"),
    "stat",
    {"globs": [*_PROGRAMS, f"{_STATE}/status.json", f"{_STATE}/machine-token.json"]},
    "ubuntu-pro-client: the program under its two names, and files that it keeps for every account to read.",
)
PRIVATE = Source(
    SourceId("ubuntu-pro-private"),
    "stat",
    {"globs": [f"{_STATE}/private/machine-token.json"]},
    "ubuntu-pro-client: the machine's token, there while it is attached. Its content is not read.",
    needs_root=True,
)


@dataclass(frozen=True)
class UbuntuPro:
    """Whether the node is attached to a contract; no row: no client. Source: files of ubuntu-pro-client."""

    attached: Annotated[bool, "A contract's token is there; an expired one counts too"]
    expires_at: Annotated[datetime | None, "When the contract ends"]
    tech_support_level: Annotated[str | None, "essential, standard or advanced; NULL for none"]
    client_version: Annotated[str | None, "Version of the client that wrote the status"]
    status_at: Annotated[datetime | None, "When the client wrote its status: how old the rest may be"]


@dataclass(frozen=True)
class UbuntuProService:
    """A service of Ubuntu Pro, as the client last wrote it down. Source: its status.json."""

    name: Annotated[str, "esm-infra, esm-apps, livepatch, fips, fips-updates, usg, ..."]
    entitled: Annotated[bool | None, "The contract covers it; NULL while not attached"]
    status: Annotated[
        str | None,
        "enabled, disabled, warning (enabled, but does not work), n/a, — (not"
        " offered for this release) or another word; NULL while not attached",
    ]
    available: Annotated[bool | None, "Offered for this release and machine; NULL if the client does not say"]


def parse_pro(evidence: Bundle) -> Iterable[UbuntuPro]:
    """One row where the client is installed."""
    there = evidence.entries(PLACES)
    if not _installed(evidence, there):
        return
    try:
        cache = _cache(evidence)
    except Unread as unread:
        evidence.gaps.append(str(unread))
        cache = None
    attached = _attached(evidence, there, cache)
    said = cache if cache and cache["attached"] == attached else {}
    contract = said.get("contract")
    level = contract.get("tech_support_level") if isinstance(contract, dict) else said.get("techSupportLevel")
    mtime = there.get(f"{_STATE}/status.json", {}).get("mtime")
    yield UbuntuPro(
        attached,
        _expiry(evidence, said.get("expires")),
        _text(level),
        _text(said.get("version")),
        utc(mtime) if type(mtime) is int else None,
    )


def parse_services(evidence: Bundle) -> Iterable[UbuntuProService]:
    """A row per service in the status; where the client wrote none, nothing is known of them."""
    there = evidence.entries(PLACES)
    if not _installed(evidence, there):
        return
    cache = _cache(evidence)
    if cache is None:
        raise Unread(describe(STATUS, evidence.item(STATUS)))
    _attached(evidence, there, cache)
    services = cache.get("services")
    if not isinstance(services, list):
        raise NotUnderstood(f"{STATUS.id}: no list of services")
    for service in services:
        if not isinstance(service, dict) or not isinstance(service.get("name"), str):
            evidence.gap(STATUS, "a service without a name")
            continue
        yield UbuntuProService(
            service["name"],
            _yes(service.get("entitled")),
            _text(service.get("status"), missing=()),
            _yes(service.get("available")),
        )


def _installed(evidence: Bundle, there: dict[str, Any]) -> bool:
    """Whether the client is there; files of one that was removed are no status."""
    if any(path in there for path in _PROGRAMS):
        return True
    if evidence.gaps:
        raise Unread("; ".join(evidence.gaps))
    if there:
        evidence.gap(PLACES, "files of a client that is no longer installed")
    return False


def _cache(evidence: Bundle) -> dict[str, Any] | None:
    """What the client last wrote down; None if it wrote nothing."""
    if evidence.item(STATUS).status is Status.ABSENT:
        return None
    document = evidence.document(STATUS)
    if not isinstance(document, dict) or type(document.get("attached")) is not bool:
        raise NotUnderstood(f"{STATUS.id}: does not say whether it is attached")
    return document


def _attached(evidence: Bundle, there: dict[str, Any], cache: dict[str, Any] | None) -> bool:
    """Whether there is a token, the proof; where only root could tell, what the client wrote down.

    Older clients keep no public copy of the token, so the absence of that alone proves nothing.
    """
    if f"{_STATE}/machine-token.json" in there:
        token: bool | None = True
    else:
        known = len(evidence.gaps)
        try:
            token = bool(evidence.entries(PRIVATE))
        except Unread as unread:
            evidence.gaps.append(str(unread))
        if len(evidence.gaps) > known:
            token = None
    if token is None and cache is None:
        raise Unread("; ".join(evidence.gaps))
    said: bool | None = cache["attached"] if cache else None
    if token is not None and said is not None and token != said:
        evidence.gap(STATUS, "its status is older than its token's coming or going")
    return token if token is not None else bool(said)


def _expiry(evidence: Bundle, content: Any) -> datetime | None:
    if content in (None, "", "n/a"):
        return None
    if (when := timestamp(content)) is None:
        evidence.gap(STATUS, "expires is not understood")
    return when


def _text(content: Any, *, missing: tuple[str, ...] = ("n/a",)) -> Any:
    """A text; what is no text is left to the check of the row."""
    return value(content, missing=missing) if isinstance(content, str) else content


def _yes(content: Any) -> bool | None:
    return {"yes": True, "no": False}.get(content) if isinstance(content, str) else None


TABLES = (
    Table("ubuntu_pro", UbuntuPro, (STATUS, PLACES, PRIVATE), parse_pro),
    Table("ubuntu_pro_services", UbuntuProService, (STATUS, PLACES, PRIVATE), parse_services),
)
