# SPDX-License-Identifier: Apache-2.0
"""Rule sets as `nft -j list ruleset` prints them: libnftables-json(5). Older versions leave things out, newer ones add some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fleet_audit.facts.base import NotUnderstood
from fleet_audit.facts.firewall.iptables import PASSING
from fleet_audit.facts.firewall.ruleset import Chain, Rule
from fleet_audit.facts.firewall.where import LOCAL, Ports, Where, at

_FAMILIES = {"ip": ("ip4",), "ip6": ("ip6",), "inet": ("ip4", "ip6")}
_NFPROTO = {"ipv4": ("ip4",), "ipv6": ("ip6",), "ip": ("ip4",), "ip6": ("ip6",)}
_VERDICTS = frozenset({"accept", "drop", "return", "jump", "goto"})
_PASSING = frozenset("counter log mangle notrack set map flow dup last secmark comment masquerade snat meta tproxy synproxy".split()) | {
    "ct helper", "ct timeout", "ct expectation", "ct zone", "ct mark",
}  # fmt: skip
"""Statements that say nothing on whether a packet passes, or let it pass only where it passes anyway."""
_INTERFACES = {"iif": "inside", "iifname": "inside", "oif": "outside", "oifname": "outside"}
_LIMITS = frozenset({"limit", "quota", "ct count"})
_XT = {"REJECT": "reject", "DNAT": "forward", "REDIRECT": "forward"}
ELEMENTS = 128
"""Elements of a set that are told one by one."""

CONDITIONS = 200_000
"""Conditions of rules that are looked at, alternatives counted."""

Set = list[Any]


class Ruleset:
    """The chains of all tables for IP, and the sets and maps that their rules name."""

    def __init__(self, text: str) -> None:
        try:
            objects = json.loads(text)["nftables"]
            if not isinstance(objects, list) or not objects or not isinstance(objects[0].get("metainfo"), dict):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise NotUnderstood("nft: not what nft -j prints") from None
        self.chains: dict[tuple[str, str], Chain] = {}
        self.sets: dict[tuple[str, str], Set] = {}
        self.left = CONDITIONS
        self.asleep: set[str] = set()
        """Tables that are dormant, and stop nothing: nft(8), flags."""
        self.compat: set[str] = set()
        """Tables with rules that only iptables-nft-save tells in full."""
        rules = []
        for entry in objects[1:]:
            if not isinstance(entry, dict) or len(entry) != 1:
                raise NotUnderstood("nft: an object that is not understood")
            ((kind, fields),) = entry.items()
            if not isinstance(fields, dict):
                raise NotUnderstood(f"nft: a {kind} that is not understood")
            family = fields.get("family")
            if not isinstance(family, str):
                raise NotUnderstood(f"nft: a {kind} of a family that is not understood")
            if family not in _FAMILIES:
                continue
            if kind == "table":
                self._table(f"{family} {fields.get('name')}", fields.get("flags", []))
                continue
            table = f"{family} {fields.get('table')}"
            if kind == "chain":
                self.add(table, fields)
            elif kind in ("set", "map"):
                elements = fields.get("elem", [])
                self.sets[table, str(fields.get("name"))] = elements if isinstance(elements, list) else []
            elif kind == "rule":
                rules.append((table, fields))
        for table, fields in rules:
            chain = self.chains.get((table, str(fields.get("chain"))))
            if chain is None or not isinstance(fields.get("expr"), list):
                raise NotUnderstood("nft: a rule without a chain or statements")
            chain.rules += self.rule(table, fields["expr"])

    def _table(self, table: str, flags: Any) -> None:
        """Take in a table's flags. nft 1.0.6, for one, prints the table's name where a flag should be."""
        for flag in flags if isinstance(flags, list) else [flags]:
            if flag == "dormant":
                self.asleep.add(table)
            elif flag not in ("owner", "persist"):
                raise NotUnderstood(f"nft: the flags of the table {table} are not told: it may be dormant, and then stops nothing")

    def add(self, table: str, fields: dict[str, Any]) -> None:
        """Take in a chain."""
        name, hook, policy, priority = (fields.get(key) for key in ("name", "hook", "policy", "prio"))
        if not isinstance(name, str) or policy not in (None, "accept", "drop") or (hook and type(priority) is not int):
            raise NotUnderstood("nft: a chain that is not understood")
        families = _FAMILIES[fields["family"]]
        number = priority if isinstance(priority, int) else 0
        self.chains[table, name] = Chain(families, table, name, str(hook or ""), str(fields.get("type")), number, policy or "accept")

    # Statements

    def rule(self, table: str, statements: list[Any]) -> list[Rule]:
        """The rules that a rule's statements come to: several where it has a verdict map."""
        found: list[Rule] = []
        wheres = [Where()]
        for statement in statements:
            if not isinstance(statement, dict) or len(statement) != 1:
                return [*found, Rule("unknown", tuple(wheres), text="a statement that is not understood")]
            ((kind, value),) = statement.items()
            if kind == "match":
                wheres = self.joined(wheres, self.match(table, value))
            elif kind in _LIMITS:
                wheres = self.joined(wheres, [Where(other=(words({kind: value}),))])
            elif kind == "vmap":
                found += self.vmap(table, wheres, value)
            elif kind == "xt":
                self.compat.add(table)
                name = value.get("name") if isinstance(value, dict) else None
                if isinstance(value, dict) and value.get("type") == "match":
                    wheres = self.joined(wheres, [Where(other=(f"iptables {name}",))])
                elif name not in PASSING:
                    return [*found, Rule(_XT.get(str(name), "unknown"), tuple(wheres), text=f"iptables {name}")]
            elif kind in ("dnat", "redirect"):
                only = _FAMILIES.get(str(value.get("family"))) if isinstance(value, dict) else None
                return [*found, Rule("forward", tuple(self.joined(wheres, [Where(families=only)])), address(value))]
            elif kind == "reject":
                return [*found, Rule("reject", tuple(wheres))]
            elif kind in _VERDICTS:
                return [*found, verdict(kind, value, wheres)]
            elif kind not in _PASSING:
                return [*found, Rule("unknown", tuple(wheres), text=f"{kind} {words(value)}")]
        return found

    def vmap(self, table: str, wheres: list[Where], value: Any) -> list[Rule]:
        """A rule for each element of a verdict map."""
        data = value.get("data") if isinstance(value, dict) else None
        elements = self.elements(table, data)
        if elements is None or len(elements) > 10 * ELEMENTS:
            return [Rule("unknown", tuple(wheres), text=f"vmap {words(data)}")]
        found = []
        for element in elements:
            key, does = element if isinstance(element, list) and len(element) == 2 else (None, None)
            if not isinstance(does, dict) or len(does) != 1 or next(iter(does)) not in (*_VERDICTS, "continue"):
                return [Rule("unknown", tuple(wheres), text="a verdict map that is not understood")]
            ((kind, target),) = does.items()
            where = self.joined(wheres, self.fits(table, value.get("key"), [key]))
            found += [verdict(kind, target, where)] if kind != "continue" else []
        return found

    def elements(self, table: str, data: Any) -> Set | None:
        """The elements of a set, written out or by name; None if it is none or changes by itself."""
        if isinstance(data, str) and data.startswith("@"):
            return self.sets.get((table, data[1:])) or None
        inner = data.get("set", data.get("map")) if isinstance(data, dict) else None
        return inner if isinstance(inner, list) else None

    # Conditions

    def joined(self, wheres: list[Where], more: list[Where]) -> list[Where]:
        """What fits one of each; no more than can be told."""
        self.left -= sum(wheres[0].cost(one) for one in more[: 10 * ELEMENTS]) * len(wheres) if wheres else 0
        if self.left < 0:
            raise NotUnderstood("nft: more conditions than can be told")
        if len(wheres) * len(more) > 10 * ELEMENTS:
            return [where.also("one of many") for where in wheres]
        return [both for where in wheres for one in more if (both := where.both(one)) is not None]

    def match(self, table: str, value: Any) -> list[Where]:
        """Alternatives, of which one must hold for a match."""
        op, left, right = (value.get(key) for key in ("op", "left", "right")) if isinstance(value, dict) else (None, None, None)
        if op in ("<", ">", "<=", ">=") and type(right) is int:
            right, op = {"range": [right + (op == ">"), 65535] if op[0] == ">" else [0, right - (op == "<")]}, "=="
        elements = self.elements(table, right)
        if elements is None and not (isinstance(right, str) and right.startswith("@")):
            elements = right if isinstance(right, list) else [right]
        name, field = payload(left)
        if op == "!=" and name == "meta" and field in _INTERFACES and isinstance(right, str):
            return [at(_INTERFACES[field], ("!" + right,))]
        if op not in ("==", "in") or elements is None or len(elements) > ELEMENTS:
            return [Where(families=family_of(left), protocols=protocol_of(left), other=(f"{words(left)} {op} {words(right)}",))]
        return self.fits(table, left, elements)

    def fits(self, table: str, left: Any, elements: Set) -> list[Where]:
        """Alternatives for one of `elements` at the place that `left` names."""
        if isinstance(left, dict) and isinstance(left.get("concat"), list):
            found = []
            for element in elements:
                parts = bare(element).get("concat") if isinstance(bare(element), dict) else None
                if not isinstance(parts, list) or len(parts) != len(left["concat"]):
                    return [Where(other=(f"{words(left)} in {words(elements)}",))]
                wheres = [Where()]
                for name, part in zip(left["concat"], parts, strict=True):
                    wheres = self.joined(wheres, self.fits(table, name, [part]))
                found += wheres
            return found
        plain = [bare(element) for element in elements]
        text = f"{words(left)} {words({'set': plain}) if len(plain) != 1 else words(plain[0])}"
        return [place(left, plain) or Where(families=family_of(left), protocols=protocol_of(left), other=(text,))]


def verdict(kind: str, value: Any, wheres: list[Where]) -> Rule:
    """A rule of a plain verdict."""
    target = value.get("target") if isinstance(value, dict) else None
    return Rule(kind, tuple(wheres), str(target or ""))


def bare(element: Any) -> Any:
    """An element without its timeout, counter or comment."""
    inner = element.get("elem") if isinstance(element, dict) else None
    return inner.get("val") if isinstance(inner, dict) else element


def payload(left: Any) -> tuple[str, str]:
    """Protocol and field that a match looks at; ("meta", key) and ("ct", key) alike."""
    for kind in ("payload", "meta", "ct"):
        inner = left.get(kind) if isinstance(left, dict) else None
        if isinstance(inner, dict):
            return str(inner.get("protocol", kind)), str(inner.get("field", inner.get("key")))
    return "", ""


def family_of(left: Any) -> tuple[str, ...] | None:
    """The family that a match of this field implies."""
    return {"ip": ("ip4",), "ip6": ("ip6",), "icmp": ("ip4",), "icmpv6": ("ip6",), "arp": ()}.get(payload(left)[0])


def protocol_of(left: Any) -> tuple[str, ...] | None:
    """The protocol that a match of this field implies."""
    name = payload(left)[0]
    return (name,) if name in ("tcp", "udp", "sctp", "dccp", "udplite", "icmp", "icmpv6") else None


def place(left: Any, elements: Set) -> Where | None:
    """The condition that a field has one of these values; None if it is not one that is told apart."""
    name, field = payload(left)
    if field == "dport" and (ports := numbers(elements)) is not None:
        return Where(protocols=protocol_of(left), ports=ports)
    texts = tuple(networks(elements)) if field in ("saddr", "daddr") else tuple(e for e in elements if isinstance(e, str))
    if (
        isinstance(left, dict)
        and isinstance(left.get("fib"), dict)
        and left["fib"].get("flags") in ("daddr", ["daddr"])
        and texts == ("local",)
    ):
        return Where(other=(LOCAL,))
    if len(texts) != len(elements) or not texts:
        return Where(families=family_of(left), protocols=(name,)) if name in ("icmp", "icmpv6") else None
    if name in ("ip", "ip6") and field in ("saddr", "daddr"):
        return at("sources" if field == "saddr" else "destinations", texts, family_of(left))
    if (name, field) in (("meta", "l4proto"), ("ip", "protocol"), ("ip6", "nexthdr")):
        return Where(families=family_of(left), protocols=texts)
    if name == "meta" and field in _INTERFACES:
        return at(_INTERFACES[field], texts)
    if name == "meta" and field in ("nfproto", "protocol") and all(text in _NFPROTO for text in texts):
        return Where(families=tuple(f for text in texts for f in _NFPROTO[text]))
    if (name, field) == ("ct", "status") and texts == ("dnat",):
        return Where(states=texts)
    if (name, field) == ("ct", "state") and "untracked" not in texts:
        return Where(states=None if "new" in texts else texts)
    return Where(families=family_of(left), protocols=(name,)) if name in ("icmp", "icmpv6") else None


def numbers(elements: Set) -> Ports | None:
    """Ports and ranges of ports; None if one of them is none."""
    found = []
    for element in elements:
        pair = element.get("range") if isinstance(element, dict) else [element, element]
        if not isinstance(pair, list) or len(pair) != 2 or any(type(n) is not int or not 0 <= n <= 65535 for n in pair):
            return None
        found.append((pair[0], pair[1]))
    return tuple(found)


def networks(elements: Set) -> Iterator[str]:
    """Addresses and networks as text; ranges as `first-last`."""
    for element in elements:
        prefix = element.get("prefix") if isinstance(element, dict) else None
        span = element.get("range") if isinstance(element, dict) else None
        if isinstance(prefix, dict):
            yield f"{prefix.get('addr')}/{prefix.get('len')}"
        elif isinstance(span, list) and len(span) == 2:
            yield f"{span[0]}-{span[1]}"
        elif isinstance(element, str):
            yield element


def address(value: Any) -> str:
    """Where a packet is forwarded to: address, blank, port; what is not told is empty."""
    parts = (value.get("addr"), value.get("port")) if isinstance(value, dict) else (None, None)
    return " ".join("" if part is None else str(part) if isinstance(part, str | int) else words(part).replace(" ", "") for part in parts)


def words(value: Any) -> str:
    """An expression in words, as nft writes it where that is short."""
    if isinstance(value, dict) and len(value) == 1:
        ((kind, inner),) = value.items()
        if kind in ("payload", "meta", "ct") and isinstance(inner, dict):
            return " ".join(payload(value))
        if kind == "prefix" and isinstance(inner, dict):
            return f"{inner.get('addr')}/{inner.get('len')}"
        if kind == "limit" and isinstance(inner, dict):
            return f"limit rate {inner.get('rate')}/{inner.get('per')}"
        if kind in ("range", "set") and isinstance(inner, list):
            parts = [words(bare(element)) for element in inner[:8]]
            return "-".join(parts) if kind == "range" else "{" + ", ".join(parts) + (", ..." if len(inner) > 8 else "") + "}"
        return f"{kind} {words(inner)}"[:200]
    text = str(value) if isinstance(value, str | int) else json.dumps(value, sort_keys=True).replace('"', "")
    return text if len(text) <= 200 else text[:197] + "..."
