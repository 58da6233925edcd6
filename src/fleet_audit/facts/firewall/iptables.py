# SPDX-License-Identifier: Apache-2.0
"""Rule sets as iptables-save(8) prints them, by either back end, and as iptables-restore(8) takes them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Container
from itertools import pairwise

from fleet_audit.facts.base import VALUE_CAP, NotUnderstood
from fleet_audit.facts.firewall.ruleset import Chain, Rule
from fleet_audit.facts.firewall.where import LOCAL, Ports, Where, at

_HOOKS = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward", "OUTPUT": "output", "POSTROUTING": "postrouting"}
_PRIORITY = {"raw": -300, "mangle": -150, "filter": 0, "security": 50, "nat": -100}
_VERDICTS = {"ACCEPT": "accept", "DROP": "drop", "REJECT": "reject", "RETURN": "return", "TARPIT": "drop", "STEAL": "drop"}
PASSING = frozenset(
    "AUDIT CHECKSUM CLASSIFY CONNMARK CONNSECMARK CT DSCP ECN HL HMARK IDLETIMER LED LOG MARK MASQUERADE NETMAP NFLOG NOTRACK RATEEST SECMARK "
    "SET SNAT TCPMSS TCPOPTSTRIP TEE TOS TRACE TTL ULOG".split()
)
"""Targets after which the next rule is asked, or which let pass what passes anyway."""
_SAYS_NOTHING = frozenset({"--comment", "--ctproto", "-m"})
_TEXTS = frozenset({"--comment", "--log-prefix", "--nflog-prefix", "-j", "-g", "-m"})
_LISTS = {"-s": "sources", "-d": "destinations", "-i": "inside", "-o": "outside", "-p": "protocols"}
_SHORT = {
    "--source": "-s", "--destination": "-d", "--in-interface": "-i", "--out-interface": "-o", "--protocol": "-p", "--jump": "-j", "--goto": "-g",
    "--match": "-m", "--src": "-s", "--dst": "-d", "--proto": "-p", "--destination-port": "--dport", "--destination-ports": "--dports",
}  # fmt: skip


def chains_of(text: str, family: str, tool: str) -> list[Chain]:
    """The chains of all tables. Raises `NotUnderstood` for a text that ends within a table, or is none."""
    found: dict[tuple[str, str], Chain] = {}
    table = ""
    for line in text.splitlines():
        words = line.strip()
        if not words or words.startswith("#"):
            if "incompatible" in words:
                raise NotUnderstood(f"{tool}: {words.lstrip('# ')}")
            continue
        if words.startswith("*"):
            if table or words[1:] not in _PRIORITY:
                raise NotUnderstood(f"{tool}: a table within another one, or one that is not known")
            table = words[1:]
        elif words == "COMMIT":
            table = ""
        elif not table:
            raise NotUnderstood(f"{tool}: a line outside of a table")
        elif words.startswith(":"):
            add(found, words, table, family, tool)
        else:
            append(found, words, table, tool)
    if table:
        raise NotUnderstood(f"{tool}: it ends within the table {table}")
    return list(found.values())


def add(found: dict[tuple[str, str], Chain], words: str, table: str, family: str, tool: str) -> None:
    """Take in a line `:CHAIN POLICY [packets:bytes]`."""
    match = re.fullmatch(r":(\S+) (ACCEPT|DROP|QUEUE|-)(?: \[\d+:\d+\])?", words)
    if not match or match[2] == "QUEUE":
        raise NotUnderstood(f"{tool}: a chain that is not understood")
    base = match[1] in _HOOKS and match[2] != "-"
    chain = Chain(
        (family,), f"{family} {table}", match[1], _HOOKS[match[1]] if base else "", "nat" if table == "nat" else "filter", tool=tool
    )
    chain.priority, chain.policy = _PRIORITY[table], "drop" if match[2] == "DROP" else "accept"
    found[table, match[1]] = chain


def append(found: dict[tuple[str, str], Chain], line: str, table: str, tool: str) -> None:
    """Take in a line `-A CHAIN ...`, with counters before it or not."""
    line = re.sub(r"^\[\d+:\d+\] ", "", line)
    if len(line) > VALUE_CAP:  # shlex takes time that grows with the square of a word
        raise NotUnderstood(f"{tool}: a line of more than {VALUE_CAP} characters")
    try:
        words = shlex.split(line) if re.search(r"""["'\\]""", line) else line.split()
    except ValueError:
        raise NotUnderstood(f"{tool}: quotes that do not end") from None
    if len(words) < 2 or words[0] not in ("-A", "-I") or (table, words[1]) not in found:
        raise NotUnderstood(f"{tool}: a line that is no rule of a chain")
    made = rule(words[2:], table, found)
    rules = found[table, words[1]].rules
    rules.insert(0 if words[0] == "-I" else len(rules), made)


def rule(words: list[str], table: str, chains: Container[tuple[str, str]]) -> Rule:
    """A rule by its words; conditions may stand behind its target too."""
    where: Where | None = Where()
    target, verb, given, of_target, place = "", "", list[str](), False, 0
    while place < len(words):
        negated = words[place] == "!"
        place += negated
        option = _SHORT.get(words[place], words[place]) if place < len(words) else ""
        end = place + 1
        while end < len(words) and words[end] != "!" and not re.match(r"-{1,2}[a-zA-Z]", words[end]):
            end += 1
        if option in _TEXTS:
            end = place + 2  # what it says may look like an option
        values = words[place + 1 : end]
        of_target = of_target and option != "-m" and option not in _LISTS
        if option in ("-j", "-g"):
            target, verb, of_target = (values[0] if values else ""), option, True
        elif of_target:
            given += [option, *values]
        elif where is not None:
            where = where.both(condition(option, values, negated))
        place = end
    if where is None or not target or target in PASSING:
        return Rule("accept", ())  # it holds for nothing, or does no more than count, note or mark
    if verb == "-g" or (table, target) in chains:
        return Rule("goto" if verb == "-g" else "jump", (where,), target)
    if target in ("DNAT", "REDIRECT"):
        return Rule("forward", (where,), address(given))
    return Rule(_VERDICTS.get(target, "unknown"), (where,), text=f"target {target}")


def condition(option: str, values: list[str], negated: bool) -> Where:
    """What one option of a rule demands."""
    value = values[0] if len(values) == 1 else None
    if option in _SAYS_NOTHING:
        return Where()
    if value is not None and negated and option in ("-i", "-o"):
        return at(_LISTS[option], ("!" + value,))
    if value is not None and not negated:
        if option in _LISTS and (option != "-p" or value != "all"):
            return at(_LISTS[option], (value.removesuffix("/32" if "." in value else "/128"),))
        if option in ("--dport", "--dports") and (ports := numbers(value)) is not None:
            return Where(ports=ports)
        states = value.lower().split(",")
        if option in ("--ctstate", "--state", "--ctstatus") and {"new", "established", "related", "invalid", "dnat"}.issuperset(states):
            return Where(states=None if "new" in states else tuple(states))
        if option in ("--icmp-type", "--icmpv6-type"):
            return Where()
        if option == "--dst-type" and value == "LOCAL":
            return Where(other=(LOCAL,))
    return Where(other=(" ".join(["!"] * negated + [option, *values])[:200],))


def numbers(text: str) -> Ports | None:
    """Ports as `22`, `6000:6007`, `:1023` and lists of them; None if one is none."""
    found = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d{1,5})?(?:(:)(\d{1,5})?)?", part)
        if not match or not part:
            return None
        first = int(match[1] or 0)
        found.append((first, int(match[3] or 65535) if match[2] else first))
    return tuple(found) if all(a <= b <= 65535 for a, b in found) else None


def address(words: list[str]) -> str:
    """Where a packet is forwarded to: address, blank, port; what is not told is empty."""
    for option, value in pairwise(words):
        if option == "--to-ports":
            return f" {value}"
        if option == "--to-destination":
            match = re.fullmatch(r"\[?([0-9a-fA-F.:-]*?)\]?(?::(\d+(?:-\d+)?))?", value)
            return f"{match[1]} {match[2] or ''}" if match else f"{value} "
    return " "
