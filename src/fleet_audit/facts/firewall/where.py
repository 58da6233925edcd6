# SPDX-License-Identifier: Apache-2.0
"""Conditions of firewall rules, in the words that nft(8) and iptables(8) share, and what two of them have in common."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

Ports = tuple[tuple[int, int], ...]
Words = tuple[str, ...]
PAIRS = 256
"""Pairs of elements that are compared; more of them stay in words."""
ALL_PORTS: Ports = ((0, 65535),)
LOCAL = "to an address of this host"
"""A condition that holds for all that the chains for input ever see."""
_ANSWERS = frozenset({"established", "related", "dnat"})
"""What is forwarded to another address is told by the rules that do so."""
_ICMP = frozenset({"icmp", "icmpv6", "ipv6-icmp"})


@dataclass(frozen=True)
class Where:
    """What a packet must be for a rule to hold; None: anything. New connections are what is asked about."""

    families: Words | None = None
    """`ip4`, `ip6`."""
    protocols: Words | None = None
    ports: Ports | None = None
    """Of the destination."""
    sources: Words | None = None
    destinations: Words | None = None
    inside: Words | None = None
    """Interfaces that it came in by; a single one may be `!name`: by any other."""
    outside: Words | None = None
    """Interfaces that it goes out by, alike."""
    states: Words | None = None
    other: Words = ()
    """What else must hold, in words."""

    @property
    def anything(self) -> bool:
        """No condition at all."""
        return self == Where()

    @property
    def answers(self) -> bool:
        """Only what opens nothing: answers, the loopback, ICMP."""
        return (
            (self.states is not None and _ANSWERS.issuperset(self.states))
            or (self.protocols is not None and _ICMP.issuperset(self.protocols))
            or self.inside == ("lo",)
            or self.outside == ("lo",)
        )

    def cost(self, more: Where) -> int:
        """How much work it is to see what they have in common, roughly."""
        pairs = ((self.ports, more.ports), (self.sources, more.sources), (self.destinations, more.destinations))
        return 1 + sum(min(PAIRS, len(mine) * len(its)) for mine, its in pairs if mine and its)

    def also(self, words: str) -> Where:
        """This, with a further condition in words."""
        return self if words in self.other else replace(self, other=(*self.other, words))

    def both(self, more: Where) -> Where | None:
        """Where this and another one hold; None: nowhere."""
        joined: dict[str, Any] = {}
        other = self.other + tuple(word for word in more.other if word not in self.other)
        for field in fields(self):
            mine, its = getattr(self, field.name), getattr(more, field.name)
            if field.name == "other":
                continue
            if mine is None or its is None or mine == its:
                joined[field.name] = its if mine is None else mine
            elif field.name in _COMPARED:
                narrow = _COMPARED[field.name](mine, its)
                if narrow is None:
                    other += (f"{field.name} {', '.join(map(str, its))}"[:200],)
                joined[field.name] = mine if narrow is None else narrow
            else:
                joined[field.name] = tuple(word for word in mine if word in its)
            if joined[field.name] == ():
                return None
        return Where(**joined, other=other)

    def covers(self, less: Where) -> bool:
        """Whether all that `less` holds for is held for here; False where that is not certain."""
        return not self.other and self.both(less) == less and less.states == self.states

    def rows(self) -> Iterator[tuple[str, int, int, str, str, str, str, str]]:
        """Protocol, first and last port, source, destination, interfaces in and out, condition."""
        words = (self.protocols, self.sources, self.destinations, self.inside, self.outside)
        for proto, source, target, inside, outside in product(*(w or ("any",) for w in words)):
            for first, last in self.ports or ALL_PORTS:
                yield proto, first, last, source, target, inside, outside, "; ".join(self.other)


def at(field: str, words: Words, families: Words | None = None) -> Where:
    """The condition that one of the fields that hold words has one of these."""
    if "0.0.0.0/0" in words or "::/0" in words:
        return Where(families=families)
    changes: dict[str, Any] = {field: words}
    return replace(Where(families=families), **changes)


def _common(mine: Words, its: Words) -> Words | None:
    """Networks that lie in both; None where one of them is no network."""
    if len(mine) * len(its) > PAIRS:
        return None
    try:
        pairs = [(a, ipaddress.ip_network(a, False), b, ipaddress.ip_network(b, False)) for a in mine for b in its]
    except ValueError:
        return None
    found = []
    for a, left, b, right in pairs:
        if left.version == right.version and left.overlaps(right):
            found.append(a if left.prefixlen >= right.prefixlen else b)
    return tuple(dict.fromkeys(found))


def _overlap(mine: Ports, its: Ports) -> Ports | None:
    """Ports that are in both; None where that is too much to tell."""
    if len(mine) * len(its) > 16 * PAIRS:
        return None
    return tuple((max(a, c), min(b, d)) for a, b in mine for c, d in its if max(a, c) <= min(b, d))


def _between(mine: Words, its: Words) -> Words | None:
    """Interfaces that are in both; None where that is not told."""
    if any(word[-1:] in ("*", "+") for word in mine + its):
        return None
    for here, there in ((mine, its), (its, mine)):
        if here[0].startswith("!"):
            return None if there[0].startswith("!") else tuple(word for word in there if word != here[0][1:])
    return tuple(word for word in mine if word in its)


_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "ports": _overlap,
    "sources": _common,
    "destinations": _common,
    "inside": _between,
    "outside": _between,
}
"""How two values of a field are compared that need not be equal; of the others, what is in both."""
