# SPDX-License-Identifier: Apache-2.0
"""States and ageing of passwords. A hash never leaves the node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.accounts.local import accounts, lines, number
from fleet_audit.facts.base import Bundle, utc
from fleet_audit.model import Source, SourceId

SHADOW = Source(
    SourceId("shadow"), "colon", {"paths": ["/etc/shadow"], "fields": 8, "secret": [1]},
    "shadow(5): eight fields, dates in days since 1970; the password field comes as a state and the kind of hash.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class PasswordState:
    """Whether an account has a password, and how long it holds. Source: shadow(5), passwd(5)."""

    user_name: Annotated[str, "User"]
    origin: Annotated[str, "File whose field decides: passwd where its own field is not `x`, else shadow"]
    account: Annotated[bool, "The user is in /etc/passwd; if not, the line means nothing"]
    state: Annotated[str, "empty (anyone gets in), locked, set, or missing: `x` in passwd, but no line in shadow"]
    scheme: Annotated[str, "Kind of hash, of a locked one too: 1 MD5, 5, 6 SHA-2, y yescrypt, 2b, des, other; empty: there is none"]
    ageing: Annotated[str | None, "dated, due (to be changed at the next login) or off (no date: no ageing); NULL: not understood"]
    changed_at: Annotated[datetime | None, "Day of the last change, where ageing is `dated`"]
    minimum_days: Annotated[int | None, "Days before it may be changed; -1: not set"]
    maximum_days: Annotated[int | None, "Days after which it must be changed; -1: not set, 99999 means never as well"]
    warning_days: Annotated[int | None, "Days of warning before that; -1: not set"]
    inactive_days: Annotated[int | None, "Days after that in which it still counts; -1: not set"]
    expires: Annotated[bool | None, "The account has an expiry date"]
    expires_at: Annotated[datetime | None, "First day on which the account is shut, where there is one"]


def parse_passwords(evidence: Bundle) -> Iterator[PasswordState]:
    """A row per account, and one per line of shadow without an account."""
    kept: dict[str, list[str]] = {}
    for line in lines(evidence, SHADOW, 8):
        kept.setdefault(line[0], line)
    fields = {name: password for name, password, *_ in reversed(accounts(evidence))}
    for name, password in reversed(fields.items()):
        own = kept.get(name)
        if password != "shadowed":
            yield _state(evidence, name, "passwd", True, password, own)
        elif own is None:
            yield PasswordState(name, "shadow", True, "missing", "", None, None, None, None, None, None, None, None)
        else:
            yield _state(evidence, name, "shadow", True, own[1], own)
    for name, line in kept.items():
        if name not in fields:
            yield _state(evidence, name, "shadow", False, line[1], line)


def _state(evidence: Bundle, name: str, origin: str, account: bool, password: str, line: list[str] | None) -> PasswordState:
    word, _, scheme = password.partition(" ")
    days = [-1 if text == "" else number(text) for text in (line or [""] * 8)[2:8]]
    if None in days:
        evidence.gap(SHADOW, f"{name}: a field is no number")
    changed, minimum, maximum, warning, inactive, expiry = days
    ageing = None if changed is None else {-1: "off", 0: "due"}.get(changed, "dated")
    return PasswordState(
        name, origin, account, "locked" if word == "shadowed" else word, scheme, ageing, _day(changed) if ageing == "dated" else None,
        minimum, maximum, warning, inactive, None if expiry is None else expiry >= 0, _day(expiry),
    )  # fmt: skip


def _day(count: int | None) -> datetime | None:
    return None if count is None or count < 0 else utc(count * 86400)
