# SPDX-License-Identifier: Apache-2.0
"""The BMC on the network: its address, and what it demands of those who talk IPMI to it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, integer, value
from fleet_audit.facts.bmc.ipmi import LAN, answers
from fleet_audit.model import Source


@dataclass(frozen=True)
class BmcLan:
    """A LAN channel of the BMC, of channels 1, 2, 3 and 8. No rows: the node has no BMC. Source: ipmitool(1) lan print."""

    channel: Annotated[int, "Number of the channel"]
    ip_address: Annotated[str | None, "IPv4 address; 0.0.0.0: none"]
    ip_source: Annotated[str | None, "static, dhcp, bios, unspecified or other"]
    subnet_mask: Annotated[str | None, "IPv4 mask"]
    gateway: Annotated[str | None, "IPv4 address of its gateway; 0.0.0.0: none"]
    vlan: Annotated[int | None, "VLAN; 0: none"]
    auth_types: Annotated[list[str] | None, "IPMI 1.5 authentication that any level may use: NONE, MD2, MD5, PASSWORD, OEM"]
    cipher_suites: Annotated[list[int] | None, "IPMI 2.0 cipher suites that it knows; 0 authenticates nobody"]
    cipher_levels: Annotated[str | None, "Their levels as ipmitool writes them: X unused, c, u, o, a, O"]
    cipher_suites_usable: Annotated[
        list[int] | None, "Suites with a level, or too many to have one shown; NULL: not told, or told in an order that is not clear"
    ]
    cipher_zero: Annotated[bool | None, "Suite 0 may be used: anyone is let in without a password; NULL: undetermined"]
    bad_password_threshold: Annotated[int | None, "Bad passwords until a user is locked out; 0: never"]


_SOURCES = {
    "Static Address": "static",
    "DHCP Address": "dhcp",
    "BIOS Assigned Address": "bios",
    "Unspecified": "unspecified",
    "Other": "other",
}


def parse_lan(evidence: Bundle) -> Iterable[BmcLan]:
    """A row per LAN channel."""
    for number, pairs in answers(evidence, LAN):
        source, fields = LAN[number], {name: content for name, content in pairs if name}
        if "Set in Progress" not in fields and "IP Address" not in fields:
            raise NotUnderstood(f"{source.id}: neither state nor address in it")
        known, levels = _suites(evidence, source, fields), value(fields.get("Cipher Suite Priv Max"), missing=["Not Available"])
        if levels is not None and not re.fullmatch(r"[XcuoaO]{15}", levels):
            evidence.gap(source, "cipher suites' levels are not understood")
            levels = None
        vlan = fields.get("802.1q VLAN ID")
        kind = fields.get("IP Address Source")
        if kind is not None and kind not in _SOURCES:
            evidence.gap(source, "another source of the address than those that are known")
        yield BmcLan(
            number, _address(evidence, source, fields, "IP Address"), _SOURCES.get(kind or ""),
            _address(evidence, source, fields, "Subnet Mask"), _address(evidence, source, fields, "Default Gateway IP"),
            0 if vlan == "Disabled" else integer(vlan), _types(evidence, source, pairs), known, levels,
            usable(known, levels), zero(known, levels), integer(fields.get("Bad Password Threshold")),
        )  # fmt: skip


def _address(evidence: Bundle, source: Source, fields: dict[str, str], name: str) -> str | None:
    text = value(fields.get(name))
    if text is not None and not re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", text):
        evidence.gap(source, f"{name} is no address")
        return None
    return text


def _types(evidence: Bundle, source: Source, pairs: list[tuple[str, str]]) -> list[str] | None:
    """What any level may use: a line for each of five levels, of which the first has the name before it."""
    found: set[str] = set()
    levels, inside = 0, False
    for name, content in pairs:
        inside = name == "Auth Type Enable" or (inside and not name)
        if inside and (match := re.fullmatch(r"(Callback|User|Operator|Admin|OEM)\s*:\s*((?:(?:NONE|MD2|MD5|PASSWORD|OEM)\s*)*)", content)):
            found.update(match[2].split())
            levels += 1
    if levels not in (0, 5):
        evidence.gap(source, "authentication of some levels only")
    return sorted(found) if levels == 5 else None


def _suites(evidence: Bundle, source: Source, fields: dict[str, str]) -> list[int] | None:
    """The suites in the order in which they are told, which counts for their levels."""
    text = value(fields.get("RMCP+ Cipher Suites"), missing=["None"])
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,3}(?:,\d{1,3})*", text):
        evidence.gap(source, "cipher suites are not understood")
        return None
    return [int(number) for number in text.split(",")]


def _readings(known: list[int], levels: str) -> list[set[int]]:
    """The suites in use, by each way of reading the levels that fits: by the order of the suites, or by their numbers.

    Source: the IPMI specification orders them as the suites are told (Intel, AMI, Lenovo); ipmitool's manual page and Supermicro
    count by number.
    """
    used = [place for place, level in enumerate(levels) if level != "X"]
    found = []
    if all(place < len(known) for place in used):
        found.append({known[place] for place in used} | set(known[len(levels) :]))
    if set(used) <= set(known):
        found.append(set(used) | {number for number in known if number >= len(levels)})
    return found


def usable(known: list[int] | None, levels: str | None) -> list[int] | None:
    """The suites that sessions may use. Levels that are all X tell nothing: makers leave them unset and use the suites."""
    if not known or levels is None or set(levels) == {"X"}:
        return None
    readings = _readings(known, levels)
    return sorted(readings[0]) if readings and all(one == readings[0] for one in readings) else None


def zero(known: list[int] | None, levels: str | None) -> bool | None:
    """Whether suite 0 may be used; false if the BMC does not know it, or if it has no level in either reading."""
    if known is None:
        return None
    if 0 not in known:
        return False
    if levels is None or set(levels) == {"X"}:
        return None
    place = known.index(0)
    by_place, by_number = levels[place : place + 1] != "X", levels[0] != "X"
    fitting = [0 in reading for reading in _readings(known, levels)] or [by_place, by_number]
    return fitting[0] if len(set(fitting)) == 1 else None
