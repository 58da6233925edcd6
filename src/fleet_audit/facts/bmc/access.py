# SPDX-License-Identifier: Apache-2.0
"""Who may log in to the BMC over a LAN channel, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, integer
from fleet_audit.facts.bmc.ipmi import ACCESS, AUTHCAP, INFO, answers, switch
from fleet_audit.model import Source


@dataclass(frozen=True)
class BmcChannel:
    """A LAN channel's access. No rows: the node has no BMC. Source: ipmitool(1) channel info."""

    channel: Annotated[int, "Number of the channel"]
    medium: Annotated[str | None, "802.3 LAN or Other LAN"]
    access_mode: Annotated[str | None, "Now: disabled, pre-boot only, always available or shared"]
    access_mode_stored: Annotated[str | None, "The same, after the BMC's next start"]
    user_auth: Annotated[bool | None, "Now: requests of the level user are authenticated"]
    message_auth: Annotated[bool | None, "Now: each message is authenticated, not the session's start alone"]


@dataclass(frozen=True)
class BmcUser:
    """A user slot of the BMC on a LAN channel. No rows: the node has no BMC. Source: ipmitool(1) channel getaccess."""

    channel: Annotated[int, "Number of the channel"]
    user_id: Annotated[int, "Slot; the first is the user without a name"]
    name: Annotated[str, "Name; empty: none"]
    enabled: Annotated[bool | None, "The user may log in; NULL: the BMC does not say"]
    privilege: Annotated[str | None, "CALLBACK, USER, OPERATOR, ADMINISTRATOR, OEM or NO ACCESS; NULL: none of them"]
    ipmi_messaging: Annotated[bool | None, "Sessions over IPMI are allowed"]
    fixed_name: Annotated[bool | None, "The name cannot be changed"]


@dataclass(frozen=True)
class BmcAuthentication:
    """What a LAN channel demands of sessions. No rows: the node has no BMC. Source: ipmitool(1) channel authcap."""

    channel: Annotated[int, "Number of the channel"]
    auth_types: Annotated[list[str], "IPMI 1.5 authentication for administrators, as ipmitool names it"]
    key_set: Annotated[bool | None, "A BMC key is set, which sessions of IPMI 2.0 need; NULL: the BMC does not say"]
    anonymous: Annotated[bool | None, "A login without user name and password is possible"]
    null_users: Annotated[bool | None, "A user without a name, but with a password, may log in"]
    ipmi_1_5: Annotated[bool | None, "IPMI 1.5 sessions are possible, which encrypt nothing"]


_MODES = ("disabled", "pre-boot only", "always available", "shared")
_LEVELS = ("CALLBACK", "USER", "OPERATOR", "ADMINISTRATOR", "OEM", "NO ACCESS")


def parse_channels(evidence: Bundle) -> Iterable[BmcChannel]:
    """A row per LAN channel: what counts now comes first, then what is stored."""
    for number, pairs in answers(evidence, INFO):
        source, fields = INFO[number], dict(reversed(pairs))
        modes = [content for name, content in pairs if name == "Access Mode"]
        if "Channel Medium Type" not in fields:
            raise NotUnderstood(f"{source.id}: no channel in it")
        if len(modes) != 2 or any(mode not in _MODES for mode in modes):
            evidence.gap(source, "not two known access modes")
        now, stored = (mode if mode in _MODES else None for mode in (*modes, "", "")[:2])
        user, message = (switch(evidence, source, name, fields.get(name)) for name in ("User Level Auth", "Per-message Auth"))
        yield BmcChannel(number, fields["Channel Medium Type"], now, stored, user, message)


def parse_users(evidence: Bundle) -> Iterable[BmcUser]:
    """A row per slot and channel; fewer slots than the BMC says are a gap."""
    for number, pairs in answers(evidence, ACCESS):
        source, slots = ACCESS[number], list[dict[str, str]]()
        for name, content in pairs:
            if name == "User ID":
                slots.append({})
            if slots:
                slots[-1][name] = content
        if len(slots) != integer(dict(pairs).get("Maximum User IDs")):
            evidence.gap(source, "not as many users as it says")
        for slot in slots:
            if (row := _user(evidence, source, number, slot)) is not None:
                yield row


def _user(evidence: Bundle, source: Source, channel: int, slot: dict[str, str]) -> BmcUser | None:
    user_id, name = integer(slot.get("User ID")), slot.get("User Name")
    status, level = slot.get("Enable Status", ""), slot.get("Privilege Level", "")
    if user_id is None or name is None or not status or not level:
        evidence.gap(source, "a user that is not understood")
        return None
    if status not in ("enabled", "disabled", "unknown", "reserved"):
        evidence.gap(source, f"the status of user {user_id} is another word than those that are known")
    return BmcUser(
        channel, user_id, name, {"enabled": True, "disabled": False}.get(status), level if level in _LEVELS else None,
        switch(evidence, source, "IPMI Messaging", slot.get("IPMI Messaging")),
        switch(evidence, source, "Fixed Name", slot.get("Fixed Name")),
    )  # fmt: skip


def parse_authentication(evidence: Bundle) -> Iterable[BmcAuthentication]:
    """A row per LAN channel."""
    for number, pairs in answers(evidence, AUTHCAP):
        source = AUTHCAP[number]
        fields = {" ".join(name.split()): content for name, content in pairs}
        if "IPMI v1.5 auth types" not in fields:
            raise NotUnderstood(f"{source.id}: no authentication types in it")
        key = {"non-zero": True, "default (all zeroes)": False}.get(fields.get("KG status", ""))
        if key is None and "KG status" in fields:
            evidence.gap(source, "the state of the key is not understood")
        names = ("Anonymous login enabled", "Null user names exist", "Channel supports IPMI v1.5")
        switches = (switch(evidence, source, name, fields.get(name)) for name in names)
        yield BmcAuthentication(number, fields["IPMI v1.5 auth types"].split(), key, *switches)
