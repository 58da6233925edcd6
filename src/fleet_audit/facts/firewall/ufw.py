# SPDX-License-Identifier: Apache-2.0
"""What ufw is set to do, by its own files. Rules of before.rules and after.rules, which it seldom shows, are not here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.firewall.iptables import chains_of
from fleet_audit.facts.firewall.ruleset import Item, Walk
from fleet_audit.facts.firewall.where import Where
from fleet_audit.model import Source, SourceId

CONF = Source(
    SourceId("ufw-conf"), "file", {"paths": ["/etc/ufw/ufw.conf"], "keep": ["ENABLED="]}, "ufw(8), ufw.conf: whether it starts at boot."
)
DEFAULTS = Source(
    SourceId("ufw-defaults"), "file", {"paths": ["/etc/default/ufw"], "keep": ["IPV6=", "DEFAULT_"]},
    "ufw-framework(8), /etc/default/ufw: default policies, and whether rules hold for IPv6.",
)  # fmt: skip
RULES = Source(
    SourceId("ufw-rules"), "files", {"globs": ["/etc/ufw/user.rules", "/etc/ufw/user6.rules"]},
    "ufw-framework(8): the rules that `ufw allow` and its like made, as iptables-restore(8) takes them.",
    when_exists="/etc/ufw", needs_root=True,
)  # fmt: skip
DIRECTIONS = ("input", "forward", "output")


def settings(text: str) -> dict[str, str]:
    """NAME=value lines of a shell file; the last one of a name holds."""
    return {m[1]: m[2].strip("\"'").lower() for m in re.finditer(r"(?m)^(\w+)=(\S*)\s*$", text)}


def enabled(evidence: Bundle) -> bool | None:
    """Whether ufw is switched on; None where it is not installed."""
    text = evidence.optional(CONF)
    if text is None:
        return None
    switch = settings(text).get("ENABLED")
    if switch not in ("yes", "no"):
        raise NotUnderstood(f"{CONF.id}: no ENABLED=yes or no")
    return switch == "yes"


def policies(evidence: Bundle) -> Iterator[tuple[str, str, str]]:
    """(family, direction, policy) as set."""
    set_to = settings(evidence.body(DEFAULTS))
    if set_to.get("IPV6") not in ("yes", "no"):
        raise NotUnderstood(f"{DEFAULTS.id}: no IPV6=yes or no")
    for direction in DIRECTIONS:
        policy = set_to.get(f"DEFAULT_{direction.upper()}_POLICY", "")
        if policy not in ("accept", "drop", "reject"):
            raise NotUnderstood(f"{DEFAULTS.id}: the policy for {direction} is not understood")
        yield "ip4", direction, policy
        # With IPV6=no ufw's own start drops all of IPv6 but the loopback.
        yield "ip6", direction, policy if set_to["IPV6"] == "yes" else "drop"


def openings(evidence: Bundle) -> Iterator[tuple[str, str, Item]]:
    """(family, direction, what a rule lets pass)."""
    found = evidence.entries(RULES)
    six = settings(evidence.body(DEFAULTS)).get("IPV6")
    if six not in ("yes", "no"):
        raise NotUnderstood(f"{DEFAULTS.id}: no IPV6=yes or no")
    for family, path, prefix in (("ip4", "/etc/ufw/user.rules", "ufw"), ("ip6", "/etc/ufw/user6.rules", "ufw6"))[
        : 2 if six == "yes" else 1
    ]:
        if path not in found:
            evidence.gap(RULES, f"{path} is not there")
            continue
        chains = chains_of(str(found[path].get("text", "")), family, "ufw")
        for direction in DIRECTIONS:
            start = next((chain for chain in chains if chain.name == f"{prefix}-user-{direction}"), None)
            if start is None:
                raise NotUnderstood(f"{RULES.id}: {path} without the rules for {direction}")
            walk = Walk(chains, family, direction == "input")
            end, _ = walk.follow(start, Where(), None, 0)
            evidence.gaps += [odd[:200] for odd in walk.odd]
            for item in [*walk.items, *([end] if end else [])]:
                if item.verdict == "accept" and not item.where.answers:
                    yield family, direction, item
