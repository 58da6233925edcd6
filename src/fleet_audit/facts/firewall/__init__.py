# SPDX-License-Identifier: Apache-2.0
"""Host firewalls: the rules that the kernel holds, what is configured for the next start, and which tools keep them.

A firewall outside the node (a cloud's, a switch's) is not to be seen from it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Annotated, TypeVar

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.firewall.loaded import SOURCES, chains
from fleet_audit.facts.firewall.managers import TABLES as MANAGERS
from fleet_audit.facts.firewall.ruleset import DIRECTIONS, FAMILIES, Item, Outcome, blocks, denying, forwards, manager, openings, outcomes
from fleet_audit.facts.firewall.saved import TABLES as SAVED

_FAMILY = "ip4 or ip6"
_DIRECTION = "input (to this node), forward (through it) or output"
_CHAIN = "Table and chain in which the rule stands"
_TOOL = "Who keeps it, by its names: ufw, firewalld, docker, kubernetes, ...; else nftables, iptables or iptables-legacy"
_CONDITION = "What else must hold, as the tool writes it; empty: nothing, else it concerns less than the other columns say"
ASKED = tuple(product(FAMILIES, DIRECTIONS))
LIMIT = 5000


@dataclass(frozen=True)
class FirewallPolicy:
    """What the kernel does with a new connection that no rule names: always six rows. Source: nft, iptables."""

    family: Annotated[str, _FAMILY]
    direction: Annotated[str, _DIRECTION]
    policy: Annotated[str | None, "accept, drop or reject: a chain's policy, or its last rule for all; NULL: not certain"]
    chain: Annotated[str, "Table and chain that decides; `none`: no chain filters this"]
    tool: Annotated[str, _TOOL + "; `none`"]


@dataclass(frozen=True)
class FirewallOpening:
    """What a firewall lets pass though it stops the rest. No rows for a direction whose policy is accept: all is open.

    Answers, the loopback, ICMP and what `port_forwards` tells are left out, as is what an earlier rule stops whole; an
    earlier rule may still stop part of it. Source: nft, iptables.
    """

    family: Annotated[str, _FAMILY]
    direction: Annotated[str, _DIRECTION]
    protocol: Annotated[str, "tcp, udp, ... or any"]
    port_first: Annotated[int, "First port; 0 with the last 65535: any"]
    port_last: Annotated[int, "Last port"]
    source: Annotated[str, "Address, network or range that it may come from, or any"]
    destination: Annotated[str, "The same for where it may go to"]
    interface_in: Annotated[str, "Interface that it may come in by, !NAME for all but one, or any"]
    interface_out: Annotated[str, "Interface that it may go out by, or any"]
    condition: Annotated[str, _CONDITION]
    chain: Annotated[str, _CHAIN]
    tool: Annotated[str, _TOOL]


@dataclass(frozen=True)
class FirewallBlock:
    """What a rule stops by name, unless an earlier one lets it pass. Source: nft, iptables."""

    family: Annotated[str, _FAMILY]
    direction: Annotated[str, _DIRECTION]
    verdict: Annotated[str, "drop or reject"]
    protocol: Annotated[str, "tcp, udp, ... or any"]
    port_first: Annotated[int, "First port; 0 with the last 65535: any"]
    port_last: Annotated[int, "Last port"]
    source: Annotated[str, "Address, network or range that it comes from, or any"]
    destination: Annotated[str, "The same for where it goes to"]
    interface_in: Annotated[str, "Interface that it comes in by, !NAME for all but one, or any"]
    interface_out: Annotated[str, "Interface that it goes out by, or any"]
    condition: Annotated[str, _CONDITION]
    chain: Annotated[str, _CHAIN]
    tool: Annotated[str, _TOOL]


@dataclass(frozen=True)
class PortForward:
    """What is sent on to another address as it comes in, past the rules for input, as Docker publishes ports. Source: nft, iptables."""

    family: Annotated[str, _FAMILY]
    protocol: Annotated[str, "tcp, udp, ... or any"]
    port_first: Annotated[int, "First port on this node; 0 with the last 65535: any"]
    port_last: Annotated[int, "Last port"]
    source: Annotated[str, "Address, network or range that it may come from, or any"]
    address: Annotated[str, "Address of this node, or any"]
    interface: Annotated[str, "Interface that it comes in by, !NAME for all but one, or any"]
    to_address: Annotated[str, "Where it is sent to; empty: this node itself, or not told"]
    to_port: Annotated[str, "Port or range there; empty: the same"]
    condition: Annotated[str, _CONDITION]
    chain: Annotated[str, _CHAIN]
    tool: Annotated[str, _TOOL]


def parse_policies(evidence: Bundle) -> Iterator[FirewallPolicy]:
    """Six rows; a default of deny is proved by one chain, one of accept only by all of them."""
    found, whole = chains(evidence)
    for family, direction in ASKED:
        asked = outcomes(found, family, direction)
        deny = denying(asked)
        own = [outcome for outcome in asked if outcome.base.hook == direction]
        chain = deny[0].rest.chain if deny else own[-1].rest.chain if own else None
        doubts = [odd for outcome in asked for odd in outcome.odd if outcome.rest.verdict == "unknown"]
        policy = deny[0].rest.verdict if deny else "accept" if whole and not doubts else None
        if policy is None:
            evidence.gaps += [odd[:200] for odd in doubts]
        yield FirewallPolicy(family, direction, policy, chain.place if chain else "none", manager(chain) if chain else "none")


def through(deny: list[Outcome]) -> list[Item]:
    """What passes all chains that stop the rest."""
    found = openings(deny[0]) if deny else []
    for outcome in deny[1:]:
        more = openings(outcome)
        found = [replace(a, where=both) for a in found[:500] for b in more[:500] if (both := a.where.both(b.where)) is not None]
    return found


Row = TypeVar("Row")


def told(evidence: Bundle, rows: Iterable[Row]) -> Iterator[Row]:
    """Each row once; a gap where there are more than can be told."""
    seen: set[Row] = set()
    for number, row in enumerate(rows):
        if len(seen) >= LIMIT or number >= 10 * LIMIT:
            evidence.gaps.append(f"more than {LIMIT} rules")
            return
        if row not in seen:
            seen.add(row)
            yield row


def parse_openings(evidence: Bundle) -> Iterator[FirewallOpening]:
    """What passes in each direction whose default is deny; rules that are not understood are gaps."""
    found, _ = chains(evidence)

    def rows() -> Iterator[FirewallOpening]:
        for family, direction in ASKED:
            asked = outcomes(found, family, direction)
            deny = denying(asked)
            evidence.gaps.extend(odd[:200] for outcome in deny or asked for odd in outcome.odd)
            for item in through(deny):
                for row in item.where.rows():
                    yield FirewallOpening(family, direction, *row, item.chain.place, manager(item.chain))

    yield from told(evidence, rows())


def parse_blocks(evidence: Bundle) -> Iterator[FirewallBlock]:
    """What the chains of each direction stop by name."""
    found, _ = chains(evidence)

    def rows() -> Iterator[FirewallBlock]:
        for family, direction in ASKED:
            for outcome in outcomes(found, family, direction):
                evidence.gaps.extend(odd[:200] for odd in outcome.odd)
                for item in blocks(outcome):
                    for row in item.where.rows():
                        yield FirewallBlock(family, direction, item.verdict, *row, item.chain.place, manager(item.chain))

    yield from told(evidence, rows())


def parse_forwards(evidence: Bundle) -> Iterator[PortForward]:
    """What chains of type nat send on as it comes in."""
    found, _ = chains(evidence)

    def rows() -> Iterator[PortForward]:
        for family in FAMILIES:
            items, odd = forwards(found, family)
            evidence.gaps.extend(words[:200] for words in odd)
            for item in items:
                address, _, port = item.target.partition(" ")
                for proto, first, last, source, target, inside, _, condition in item.where.rows():
                    place = (item.chain.place, manager(item.chain))
                    yield PortForward(family, proto, first, last, source, target, inside, address, port, condition, *place)

    yield from told(evidence, rows())


TABLES = (
    Table("firewall_policies", FirewallPolicy, SOURCES, parse_policies),
    Table("firewall_openings", FirewallOpening, SOURCES, parse_openings),
    Table("firewall_blocks", FirewallBlock, SOURCES, parse_blocks),
    Table("port_forwards", PortForward, SOURCES, parse_forwards),
    *SAVED,
    *MANAGERS,
)
