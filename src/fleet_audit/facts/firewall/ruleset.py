# SPDX-License-Identifier: Apache-2.0
"""What chains of rules come to: what they do with a packet that no rule names, and what they let in or stop.

The kernel asks all base chains of a hook in order; a packet passes if each lets it pass, so that one chain
that drops the rest is a default of deny. Rules are followed through jumps as nft(8) and iptables(8) say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from fleet_audit.facts.firewall.where import LOCAL, Where

FAMILIES = ("ip4", "ip6")
DIRECTIONS = ("input", "forward", "output")
_HOOKS = {"input": ("prerouting", "input"), "forward": ("prerouting", "forward", "postrouting"), "output": ("output", "postrouting")}
_STOPS = frozenset({"drop", "reject"})
_OWN = frozenset({"established", "related", "invalid"})
BUDGET = 100_000
DEPTH = 32
"""The kernel allows 16 jumps within each other."""


@dataclass(frozen=True)
class Rule:
    """One rule; `where` are alternatives, of which one must hold."""

    verdict: str
    """accept, drop, reject, return, jump, goto, forward (to another address), or unknown."""
    where: tuple[Where, ...] = (Where(),)
    target: str = ""
    """Chain to jump to, or address and port to forward to."""
    text: str = ""
    """What was not understood."""


@dataclass
class Chain:
    """A chain; one with a hook is asked by the kernel itself."""

    families: tuple[str, ...]
    table: str
    """Family and name of its table, by which jumps are found."""
    name: str
    hook: str = ""
    kind: str = "filter"
    priority: int = 0
    policy: str = "accept"
    tool: str = "nftables"
    """Whose table it is: nftables, iptables or iptables-legacy."""
    rules: list[Rule] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Table and name, for people."""
        return f"{self.table} {self.name}"


@dataclass(frozen=True)
class Item:
    """A verdict that packets meet, where, and in which chain it stands."""

    verdict: str
    where: Where
    chain: Chain
    target: str = ""


@dataclass(frozen=True)
class Outcome:
    """What one base chain comes to for one family."""

    base: Chain
    rest: Item
    """What meets packets that no rule names; `unknown` where that is not certain."""
    items: tuple[Item, ...]
    """The other verdicts, in order."""
    odd: tuple[str, ...]
    """What was not understood on the way."""


_MANAGERS = (
    ("ufw", "ufw"), ("firewalld", "firewalld"), ("docker", "docker"), ("kube-", "kubernetes"), ("cali-", "calico"), ("cilium_", "cilium"),
    ("netavark", "podman"), ("cni-", "cni"), ("libvirt_", "libvirt"), ("lxd", "lxd"), ("f2b-", "fail2ban"), ("shorewall", "shorewall"),
)  # fmt: skip


def manager(chain: Chain) -> str:
    """The tool that keeps a chain, by the names that it gives to its tables or chains; else whose table it is."""
    names = (chain.name.lower(), chain.table.partition(" ")[2].lower())
    return next((tool for start, tool in _MANAGERS if any(name.startswith(start) for name in names)), chain.tool)


class Walk:
    """Follows the rules of a base chain for packets of one family; `local`: those that are for this host."""

    def __init__(self, chains: Iterable[Chain], family: str, local: bool) -> None:
        self.family = family
        self.local = local
        self.chains = {(chain.table, chain.name): chain for chain in chains}
        self.budget = BUDGET
        self.items: list[Item] = []
        self.odd: list[str] = []
        self.doubt = False

    def run(self, base: Chain) -> Outcome:
        """What the base chain comes to."""
        self.items, self.odd, self.doubt = [], [], False
        policy = Item(base.policy, Where(), base)
        end, _ = self.follow(base, Where(), policy, 0)
        rest = end or policy
        return Outcome(base, replace(rest, verdict="unknown") if self.doubt else rest, tuple(self.items), tuple(self.odd))

    def follow(self, chain: Chain, given: Where, on_return: Item | None, depth: int) -> tuple[Item | None, bool]:
        """(what meets all packets that meet nothing before, None if they go back to the caller; whether some went back before)."""
        back = False
        for rule in chain.rules:
            for narrow in map(self.asked, rule.where):
                self.budget -= given.cost(narrow) if narrow else 1
                if self.budget < 0 or depth > DEPTH:
                    self.odd.append("more rules or deeper jumps than can be followed")
                    self.doubt = True
                    return None, back
                where = given.both(narrow) if narrow is not None else None
                if narrow is None or where is None:
                    continue
                end, leaves = self.apply(rule, where, chain, on_return, depth)
                stays = rule.verdict == "jump" and (end is None or leaves)  # what came back meets the next rule
                if narrow.anything and not stays and (end is not None or leaves):
                    return end, back or leaves
                if end is not None:
                    self.items.append(replace(end, where=where.also("unless an earlier rule returns it") if leaves else where))
                back = back or (leaves and rule.verdict != "jump")
        return None, back

    def asked(self, where: Where) -> Where | None:
        """A condition for the packets that are asked about; None: it holds for none of them."""
        if where.families is not None and self.family not in where.families:
            return None
        other = tuple(words for words in where.other if not (self.local and words == LOCAL))
        return replace(where, families=None, other=other) if where.families or other != where.other else where

    def apply(self, rule: Rule, where: Where, chain: Chain, on_return: Item | None, depth: int) -> tuple[Item | None, bool]:
        """The same for one rule that holds: its verdict, and whether packets leave the chain for its caller by it."""
        if rule.verdict in ("jump", "goto"):
            target = self.chains.get((chain.table, rule.target))
            if target is None:
                self.unsure(where, f"{chain.place}: no chain {rule.target}")
                return None, False
            if rule.verdict == "jump":
                return self.follow(target, where, None, depth + 1)
            end, back = self.follow(target, where, on_return, depth + 1)
            return (on_return, False) if end is None and on_return is not None else (end, back or end is None)
        if rule.verdict == "return":
            return on_return, on_return is None
        if rule.verdict == "unknown":
            self.unsure(where, f"{chain.place}: {rule.text}")
            return None, False
        return Item(rule.verdict, where, chain, rule.target), False

    def unsure(self, where: Where, why: str) -> None:
        """Note a rule that is not understood; one that meets all packets leaves the chain's outcome open."""
        self.odd.append(why)
        self.doubt = self.doubt or where.anything


def outcomes(chains: list[Chain], family: str, direction: str) -> list[Outcome]:
    """What the base chains of a direction come to, in the order in which the kernel asks them."""
    hooks = _HOOKS[direction]
    bases = [c for c in chains if c.hook in hooks and c.kind in ("filter", "route") and family in c.families]
    walk = Walk(chains, family, direction == "input")
    return [walk.run(base) for base in sorted(bases, key=lambda c: (hooks.index(c.hook), c.priority))]


def denying(found: list[Outcome]) -> list[Outcome]:
    """Those that stop what no rule names."""
    return [outcome for outcome in found if outcome.rest.verdict in _STOPS]


def openings(outcome: Outcome) -> list[Item]:
    """What a chain that denies the rest lets pass: neither answers nor what an earlier rule stops."""
    stopped: list[Where] = []
    found = []
    for item in outcome.items:
        if item.verdict in _STOPS:
            stopped.append(item.where)
        elif item.verdict == "accept" and not item.where.answers and not any(where.covers(item.where) for where in stopped[:200]):
            found.append(item)
    return found


def blocks(outcome: Outcome) -> list[Item]:
    """What a chain stops by name, without the noise of broken connections."""
    return [
        item for item in outcome.items
        if item.verdict in _STOPS and not (item.where.states and _OWN.issuperset(item.where.states)) and not item.where.answers
    ]  # fmt: skip


def forwards(chains: list[Chain], family: str) -> tuple[list[Item], list[str]]:
    """What is sent on to another address as it comes in, and what was not understood."""
    walk = Walk(chains, family, True)
    found = [walk.run(base) for base in chains if base.hook == "prerouting" and base.kind == "nat" and family in base.families]
    items = [item for outcome in found for item in (*outcome.items, outcome.rest) if item.verdict == "forward"]
    return items, [odd for outcome in found for odd in outcome.odd]
