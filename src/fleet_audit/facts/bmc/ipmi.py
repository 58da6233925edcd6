# SPDX-License-Identifier: Apache-2.0
"""The questions to a BMC, and what their answers have in common."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread, describe
from fleet_audit.facts.smbios import structures
from fleet_audit.model import Source, SourceId, Status

CHANNELS = (1, 2, 3, 8)
"""Where makers put LAN interfaces; ipmitool has no command that lists channels."""


def _ask(name: str, words: Sequence[str], doc: str, *, keep: Sequence[str] = (), after: Source | None = None) -> Source:
    args = {"argv": ["ipmitool", "-I", "open", *words]} | ({"keep": list(keep)} if keep else {})
    return Source(
        SourceId(name), "command", args, f"ipmitool(1) {' '.join(words)}. {doc}",
        when_exists="/dev/ipmi*", when_ok=after.id if after else None, needs_root=True, timeout_s=30.0,
    )  # fmt: skip


MC = _ask("ipmi-mc-info", ("mc", "info"), "IPMI specification, Get Device ID.")
LAN = {
    number: _ask(
        f"ipmi-lan-{number}", ("lan", "print", str(number)),
        "IPMI specification, LAN configuration parameters. Lines are chosen: one of the others is the SNMP community, a secret.",
        keep=("Set in Progress", "Auth Type", " ", "IP Address", "Subnet Mask", "Default Gateway IP", "802.1q VLAN ID",
              "RMCP+ Cipher", "Cipher Suite", "Bad Password"),
    )
    for number in CHANNELS
}  # fmt: skip
INFO, ACCESS, AUTHCAP = (
    {n: _ask(f"ipmi-{name}-{n}", ("channel", command, str(n), *rest), doc, after=LAN[n]) for n in CHANNELS}
    for name, command, rest, doc in (
        ("channel", "info", (), "IPMI specification, Get Channel Info and Get Channel Access."),
        ("access", "getaccess", (), "IPMI specification, Get User Access and Get User Name; never a password."),
        ("authcap", "authcap", ("4",), "IPMI specification, Get Channel Authentication Capabilities, for administrators."),
    )
)
_NO_LAN = re.compile(r"^(?:exit 1: )?(?:Invalid channel: \d+|Channel \d+ is not a LAN channel)\s*$", re.M)
_TROUBLE = re.compile(r"command failed: (?!Parameter out of range|Requested sensor, data, or record not found|Invalid data field)")


def no_bmc(evidence: Bundle, sources: Sequence[Source]) -> bool:
    """Whether the node has none: no device file, and none in SMBIOS. Raises `Unread` where one is without its driver."""
    if any(evidence.item(source).status is not Status.SKIPPED for source in sources):
        return False
    if declared := structures(evidence, 38):
        raise Unread(f"no /dev/ipmi*, yet SMBIOS declares {len(declared)} interface to a BMC: its driver is not loaded")
    if evidence.gaps:
        raise Unread("; ".join(evidence.gaps[:2]))
    return True


def lan_channels(evidence: Bundle) -> list[int]:
    """The channels with a LAN interface; one that could not be asked is a gap. None at all is not understood."""
    found = []
    for number, source in LAN.items():
        item = evidence.item(source)
        if item.status is Status.OK or item.body.strip():
            found.append(number)
        if item.status is not Status.OK and (number in found or not _NO_LAN.search(item.detail) or _TROUBLE.search(item.detail)):
            evidence.gaps.append(describe(source, item))
    if not found:
        raise NotUnderstood(evidence.gaps[0] if evidence.gaps else f"no LAN interface on channels {CHANNELS}")
    return found


def answers(evidence: Bundle, sources: Mapping[int, Source]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """(channel, its answer as pairs) of each LAN channel; nothing where the node has no BMC."""
    if no_bmc(evidence, tuple(LAN.values())):
        return
    for number in lan_channels(evidence):
        item = evidence.item(sources[number])
        if item.status is not Status.OK and sources is not LAN:
            evidence.gaps.append(describe(sources[number], item))
        if item.status is Status.OK or item.body:
            yield number, pairs(evidence, sources[number], item.text)


def pairs(evidence: Bundle, source: Source, text: str) -> list[tuple[str, str]]:
    """(name, value) of each line; of an answer that was cut short only the lines that came whole."""
    whole = text if evidence.item(source).status is Status.OK else text[: text.rfind("\n") + 1]
    found = []
    for line in whole.splitlines():
        name, colon, content = line.partition(":")
        if colon:
            found.append((name.strip(), content.strip()))
        elif line.strip() and not line.startswith("  "):
            evidence.gap(source, "a line without a value")
    return found


def switch(evidence: Bundle, source: Source, name: str, text: str | None) -> bool | None:
    """`enabled`, `disabled`, `yes` or `no` as a switch; other words are gaps."""
    words = {"enabled": True, "disabled": False, "yes": True, "no": False}
    if text is None:
        return None
    if (found := words.get(text.lower())) is None:
        evidence.gap(source, f"{name} is {text[:40]}")
    return found
