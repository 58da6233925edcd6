# SPDX-License-Identifier: Apache-2.0
"""What ufw, firewalld and the files of iptables are set to load: it may differ from what the kernel holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.firewall import firewalld, ufw
from fleet_audit.facts.firewall.iptables import chains_of
from fleet_audit.facts.firewall.ruleset import DIRECTIONS, FAMILIES, denying, outcomes
from fleet_audit.facts.firewall.ruleset import openings as opened
from fleet_audit.facts.firewall.where import Where
from fleet_audit.model import Source, SourceId, Status

_FILES = {
    "/etc/iptables/rules.v4": "ip4",
    "/etc/sysconfig/iptables": "ip4",
    "/etc/iptables/rules.v6": "ip6",
    "/etc/sysconfig/ip6tables": "ip6",
}
IPTABLES = Source(
    SourceId("iptables-files"), "files", {"globs": list(_FILES)},
    "netfilter-persistent(8), and the iptables services of Red Hat: rules as iptables-restore(8) takes them.",
    needs_root=True,
)  # fmt: skip
_UFW = (ufw.CONF, ufw.DEFAULTS)
_TOOL = "ufw, firewalld or iptables (its files of rules)"


@dataclass(frozen=True)
class SavedPolicy:
    """What a tool is set to do with what no rule names. No rows: no such tool has files here. Source: files of ufw, firewalld, iptables."""

    tool: Annotated[str, _TOOL]
    enabled: Annotated[bool | None, "Its own switch is on; NULL: it has none, its unit decides"]
    family: Annotated[str, "ip4 or ip6"]
    direction: Annotated[str, "input, forward or output"]
    zone: Annotated[str, "firewalld's zone; the default one holds for what no other takes; empty for other tools"]
    policy: Annotated[str, "accept, drop or reject"]


@dataclass(frozen=True)
class SavedOpening:
    """What a tool is set to let pass, by its own rules; ICMP, answers and the loopback are left out. Source: as `firewall_saved_policies`."""

    tool: Annotated[str, _TOOL]
    enabled: Annotated[bool | None, "Its own switch is on; NULL: it has none, its unit decides"]
    family: Annotated[str, "ip4 or ip6"]
    direction: Annotated[str, "input, forward or output"]
    protocol: Annotated[str, "tcp, udp, ... or any"]
    port_first: Annotated[int, "First port; 0 with the last 65535: any"]
    port_last: Annotated[int, "Last port"]
    source: Annotated[str, "Address or network that it may come from, or any"]
    destination: Annotated[str, "The same for where it may go to"]
    interface_in: Annotated[str, "Interface that it may come in by, or any"]
    interface_out: Annotated[str, "Interface that it may go out by, or any"]
    condition: Annotated[str, "What else must hold; empty: nothing"]
    zone: Annotated[str, "firewalld's zone; empty for other tools"]


def files(evidence: Bundle) -> Iterator[tuple[str, str]]:
    """(family, text) of the files of iptables that are there."""
    for path, entry in evidence.entries(IPTABLES).items():
        yield _FILES.get(path, ""), str(entry.get("text", ""))


def parse_policies(evidence: Bundle) -> Iterator[SavedPolicy]:
    """The rows of each tool that has files; one that is not understood is a gap."""
    for part in (_ufw_policies, _firewalld_policies, _iptables_policies):
        try:
            yield from list(part(evidence))
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))


def _ufw_policies(evidence: Bundle) -> Iterator[SavedPolicy]:
    switch = ufw.enabled(evidence)
    if switch is not None:
        yield from (SavedPolicy("ufw", switch, family, direction, "", policy) for family, direction, policy in ufw.policies(evidence))


def _firewalld_policies(evidence: Bundle) -> Iterator[SavedPolicy]:
    if evidence.item(firewalld.FILES).status is not Status.SKIPPED:
        for zone in firewalld.zones(evidence):
            yield from (SavedPolicy("firewalld", None, family, "input", zone.name, zone.target) for family in FAMILIES)


def _iptables_policies(evidence: Bundle) -> Iterator[SavedPolicy]:
    for family, text in files(evidence):
        found = chains_of(text, family, "iptables")
        for direction in DIRECTIONS:
            asked = outcomes(found, family, direction)
            deny = denying(asked)
            if doubts := [odd for outcome in asked for odd in outcome.odd if not deny]:
                evidence.gaps.append(doubts[0][:200])
            else:
                yield SavedPolicy("iptables", None, family, direction, "", deny[0].rest.verdict if deny else "accept")


def parse_openings(evidence: Bundle) -> Iterator[SavedOpening]:
    """The rows of each tool that has files, each once."""
    seen: set[SavedOpening] = set()
    for part in (_ufw_openings, _firewalld_openings, _iptables_openings):
        try:
            for tool, switch, family, direction, where, zone in list(part(evidence)):
                for row in where.rows():
                    made = SavedOpening(tool, switch, family, direction, *row, zone)
                    if made not in seen and len(seen) < 5000:
                        seen.add(made)
                        yield made
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))
    if len(seen) >= 5000:
        evidence.gaps.append("more than 5000 openings")


Opening = tuple[str, bool | None, str, str, Where, str]


def _ufw_openings(evidence: Bundle) -> Iterator[Opening]:
    switch = ufw.enabled(evidence)
    if switch is not None:
        for family, direction, item in ufw.openings(evidence):
            yield "ufw", switch, family, direction, item.where, ""


def _firewalld_openings(evidence: Bundle) -> Iterator[Opening]:
    if evidence.item(firewalld.FILES).status is not Status.SKIPPED:
        for zone in firewalld.zones(evidence):
            for where in zone.openings:
                if not where.answers:
                    yield from (("firewalld", None, family, "input", where, zone.name) for family in where.families or FAMILIES)


def _iptables_openings(evidence: Bundle) -> Iterator[Opening]:
    for family, text in files(evidence):
        found = chains_of(text, family, "iptables")
        for direction in DIRECTIONS:
            for outcome in denying(outcomes(found, family, direction)):
                evidence.gaps += [odd[:200] for odd in outcome.odd]
                yield from (("iptables", None, family, direction, item.where, "") for item in opened(outcome))


TABLES = (
    Table("firewall_saved_policies", SavedPolicy, (*_UFW, firewalld.FILES, IPTABLES), parse_policies),
    Table("firewall_saved_openings", SavedOpening, (*_UFW, ufw.RULES, firewalld.FILES, IPTABLES), parse_openings),
)
