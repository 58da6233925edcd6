# SPDX-License-Identifier: Apache-2.0
"""IP addresses, default routes and name servers of the host's network namespace."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.network import scope
from fleet_audit.model import Source, SourceId, Status

FIB = Source(
    SourceId("fib-trie"), "file", {"paths": ["/proc/net/fib_trie"]},
    "Kernel source, net/ipv4/fib_trie.c: each `/32 host LOCAL` is an address of the host. Not there: no IPv4.",
)  # fmt: skip
ADDRESSES = Source(
    SourceId("ip-addresses"), "command", {"argv": ["ip", "-j", "addr", "show"]}, "ip-address(8): interfaces with their addresses, as JSON.",
    otherwise=FIB.id,
)  # fmt: skip
INET6 = Source(
    SourceId("if-inet6"), "file", {"paths": ["/proc/net/if_inet6"]},
    "Kernel source, net/ipv6/addrconf.c: address, index, prefix length, scope, flags, interface. Not there: IPv6 is off at boot.",
)  # fmt: skip
ROUTES4 = Source(SourceId("routes-ipv4"), "file", {"paths": ["/proc/net/route"]}, "proc_net(5), route: the main table, in hexadecimal.")
ROUTES6 = Source(
    SourceId("routes-ipv6"), "file", {"paths": ["/proc/net/ipv6_route"]},
    "Kernel source, net/ipv6/route.c and ip6_fib.c: destination, source, next hop, metric, counters, flags, interface.",
)  # fmt: skip
RESOLVER = Source(SourceId("resolv-conf"), "file", {"paths": ["/etc/resolv.conf"]}, "resolv.conf(5): whom programs ask for names.")
UPSTREAM = Source(
    SourceId("resolved-upstream"), "file", {"paths": ["/run/systemd/resolve/resolv.conf"]},
    "systemd-resolved(8): whom its own server on 127.0.0.53 asks; not there without it.",
)  # fmt: skip


@dataclass(frozen=True)
class InterfaceAddress:
    """An IP address of the host. Source: ip-address(8), else /proc/net."""

    interface: Annotated[str | None, "Interface; NULL: not told where /proc/net/fib_trie had to serve"]
    family: Annotated[str, "ip4 or ip6"]
    address: Annotated[str, "Address in its usual form"]
    prefix: Annotated[int | None, "Length of the prefix, bits; NULL: as for the interface"]
    scope: Annotated[str, "How far it reaches: loopback, link-local, private or public (globally routed)"]
    dynamic: Annotated[bool | None, "It has a lifetime, as from DHCP or a router advertisement; NULL: not told"]


@dataclass(frozen=True)
class DefaultRoute:
    """A way to everywhere in the main routing table; other tables and VRFs are not seen. Source: /proc/net."""

    family: Annotated[str, "ip4 or ip6"]
    interface: Annotated[str, "Interface"]
    gateway: Annotated[str | None, "Address of the router; NULL: straight on the interface"]
    metric: Annotated[int, "The least one wins"]


@dataclass(frozen=True)
class NameServer:
    """A name server that is asked. Source: resolv.conf(5)."""

    path: Annotated[str, "File that names it; /run/systemd/resolve/resolv.conf: asked by systemd-resolved for others"]
    position: Annotated[int, "Place in the file, from 0; libc asks the first three"]
    address: Annotated[str, "Its address"]
    scope: Annotated[str, "How far that reaches: loopback, link-local, private or public"]


def parse_addresses(evidence: Bundle) -> Iterator[InterfaceAddress]:
    """A row per address; there is always one, the loopback's."""
    six = evidence.item(INET6).status is not Status.ABSENT
    if evidence.item(ADDRESSES).status is Status.OK:
        rows = list(_by_ip(evidence))
    else:
        if evidence.item(ADDRESSES).status is Status.TRUNCATED:
            evidence.gap(ADDRESSES, "cut short: interfaces are not told")
        rows = list(_by_trie(evidence))
        try:
            rows += list(_by_inet6(evidence)) if six else []
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))
    if not rows:
        raise NotUnderstood(f"{ADDRESSES.id}: no address, not even the loopback's")
    yield from dict.fromkeys(rows)


def _by_ip(evidence: Bundle) -> Iterator[InterfaceAddress]:
    """What `ip -j addr show` tells; old versions put empty objects between."""
    document = evidence.document(ADDRESSES)
    try:
        for link in document:
            for entry in link.get("addr_info", ()):
                if entry.get("family") not in ("inet", "inet6"):
                    continue
                family = "ip4" if entry["family"] == "inet" else "ip6"
                address = str(ipaddress.ip_address(entry["local"]))
                yield InterfaceAddress(link["ifname"], family, address, entry["prefixlen"], scope(address), bool(entry.get("dynamic")))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise NotUnderstood(f"{ADDRESSES.id}: {type(error).__name__}: {error}") from None


def _by_trie(evidence: Bundle) -> Iterator[InterfaceAddress]:
    """The host's own addresses in the trie of the local table; the same text stands in it for each table."""
    text = evidence.body(FIB)
    if "/32 host LOCAL" not in text:
        evidence.gap(FIB, "no address of the host in it, not even the loopback's")
    for match in re.finditer(r"(?m)^ +\|-- ([0-9.]+)\n(?: +/\d+ .*\n)*? +/32 host LOCAL$", text):
        try:
            address = str(ipaddress.IPv4Address(match[1]))
        except ValueError:
            evidence.gap(FIB, "an address that is not understood")
            continue
        yield InterfaceAddress(None, "ip4", address, None, scope(address), None)


def _by_inet6(evidence: Bundle) -> Iterator[InterfaceAddress]:
    """The lines of if_inet6."""
    for line in evidence.body(INET6).splitlines():
        match = re.fullmatch(r"([0-9a-f]{32}) [0-9a-f]+ ([0-9a-f]{2}) [0-9a-f]{2} ([0-9a-f]+) +(\S+)", line)
        if match is None:
            evidence.gap(INET6, "a line that is not understood")
            continue
        address = str(ipaddress.IPv6Address(bytes.fromhex(match[1])))
        permanent = int(match[3], 16) & 0x80
        yield InterfaceAddress(match[4], "ip6", address, int(match[2], 16), scope(address), not permanent)


_UP, _GATEWAY, _REJECT = 1, 2, 0x200


def parse_routes(evidence: Bundle) -> Iterator[DefaultRoute]:
    """The rows of both tables whose destination is everything, without those that refuse it."""
    lines = evidence.body(ROUTES4).splitlines()
    if not lines or not lines[0].startswith("Iface"):
        raise NotUnderstood(f"{ROUTES4.id}: without its first line")
    for line in lines[1:]:
        words = line.split()
        try:
            target, gateway, flags, metric, mask = words[1], words[2], int(words[3], 16), int(words[6]), words[7]
            if int(target, 16) == 0 == int(mask, 16) and flags & _UP and not flags & _REJECT:
                there = str(ipaddress.IPv4Address(bytes.fromhex(gateway)[::-1])) if flags & _GATEWAY else None
                yield DefaultRoute("ip4", words[0], there, metric)
        except (ValueError, IndexError):
            evidence.gap(ROUTES4, "a line that is not understood")
    for line in (evidence.optional(ROUTES6) or "").splitlines():
        words = line.split()
        try:
            target, length, gateway, metric, flags = words[0], int(words[1], 16), words[4], int(words[5], 16), int(words[8], 16)
            if length == 0 == int(target, 16) and flags & _UP and not flags & _REJECT:
                there = str(ipaddress.IPv6Address(bytes.fromhex(gateway))) if flags & _GATEWAY else None
                yield DefaultRoute("ip6", words[9], there, metric)
        except (ValueError, IndexError):
            evidence.gap(ROUTES6, "a line that is not understood")


_OTHER = frozenset({"search", "domain", "options", "sortlist"})


def parse_servers(evidence: Bundle) -> Iterator[NameServer]:
    """The `nameserver` lines of both files."""
    for source in (RESOLVER, UPSTREAM):
        position = 0
        for line in (evidence.try_body(source) or "").splitlines():
            words = line.split()
            if not words or words[0][0] in "#;" or words[0] in _OTHER:
                continue
            if words[0] != "nameserver":
                evidence.gap(source, "a line that is not understood")
                continue
            try:
                address = str(ipaddress.ip_address(words[1].partition("%")[0]))
            except (ValueError, IndexError):
                evidence.gap(source, "a name server that is no address")
                continue
            yield NameServer(source.args["paths"][0], position, address, scope(address))
            position += 1


TABLES = (
    Table("interface_addresses", InterfaceAddress, (ADDRESSES, FIB, INET6), parse_addresses),
    Table("default_routes", DefaultRoute, (ROUTES4, ROUTES6), parse_routes),
    Table("name_servers", NameServer, (RESOLVER, UPSTREAM), parse_servers),
)
