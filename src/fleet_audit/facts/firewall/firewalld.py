# SPDX-License-Identifier: Apache-2.0
"""What firewalld is set to do, by the XML files of its zones and services. What was changed at run time only is not here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from fleet_audit.facts.base import Bundle, NotUnderstood
from fleet_audit.facts.firewall.iptables import numbers
from fleet_audit.facts.firewall.where import Ports, Where, at
from fleet_audit.model import Source, SourceId

FILES = Source(
    SourceId("firewalld-files"), "files",
    {"globs": ["/etc/firewalld/firewalld.conf", "/etc/firewalld/direct.xml", "/etc/firewalld/policies/*.xml",
               *(f"{base}/firewalld/{what}/*.xml" for base in ("/etc", "/usr/lib") for what in ("zones", "services"))], "cap_each": 1 << 18},
    "firewalld.conf(5), firewalld.zone(5), firewalld.service(5): files in /etc stand for those of the same name in /usr/lib.",
    when_exists="/etc/firewalld", needs_root=True,
)  # fmt: skip
_TARGETS = {"default": "reject", "%%REJECT%%": "reject", "REJECT": "reject", "DROP": "drop", "ACCEPT": "accept"}
_FAMILY = {"ipv4": ("ip4",), "ipv6": ("ip6",)}
_SILENT = frozenset(
    "short description interface source icmp-block icmp-block-inversion masquerade forward forward-port tcp-mss-clamp ingress-priority "
    "egress-priority".split()
)
"""What opens no port of this node."""


@dataclass
class Zone:
    """A zone that is in use: what it does with the rest, and what it lets in."""

    name: str
    target: str
    default: bool
    """It holds for all that no other zone takes."""
    openings: list[Where] = field(default_factory=list)


def zones(evidence: Bundle) -> list[Zone]:
    """The default zone and those with an interface or a source. Files that are not understood are gaps."""
    found = evidence.entries(FILES)
    default = default_zone(found)
    names = {path.rpartition("/")[2] for path in found if "/zones/" in path}
    used = []
    for name in sorted(names):
        root = element(evidence, found, f"zones/{name}")
        zone = name.removesuffix(".xml")
        bound = root is not None and (root.find("interface") is not None or root.find("source") is not None)
        if root is None or not (zone == default or bound):
            continue
        target = _TARGETS.get(root.get("target", "default"))
        if target is None:
            raise NotUnderstood(f"{FILES.id}: the target of zone {zone} is not understood")
        made = Zone(zone, target, zone == default)
        for base in [Where()] if made.default else bindings(root):
            made.openings += [both for where in openings(evidence, found, root) if (both := base.both(where)) is not None]
            if target == "accept":
                made.openings.append(base)
        used.append(made)
    if not any(zone.default for zone in used):
        raise NotUnderstood(f"{FILES.id}: the default zone {default[:60]} is not among the files")
    for path in found:
        if "/policies/" in path or path.endswith("direct.xml"):
            evidence.gap(FILES, f"{path} may open more")
    return used


def default_zone(found: dict[str, dict[str, Any]]) -> str:
    """Name of the default zone."""
    text = str(found.get("/etc/firewalld/firewalld.conf", {}).get("text", ""))
    given = [line.partition("=")[2].strip() for line in text.splitlines() if line.startswith("DefaultZone=")]
    return given[-1] if given and given[-1] else "public"  # firewalld.conf(5): what holds without one


def element(evidence: Bundle, found: dict[str, dict[str, Any]], name: str) -> Element | None:
    """The root of a file, the one in /etc first; None, with a gap, for one that is no XML."""
    for base in ("/etc", "/usr/lib"):
        entry = found.get(f"{base}/firewalld/{name}")
        if entry is None:
            continue
        try:
            root: Element = fromstring(str(entry.get("text", "")).encode())
            return root
        except (ParseError, DefusedXmlException, ValueError):
            evidence.gap(FILES, f"{name} is not understood")
            return None
    return None


def bindings(root: Element) -> Iterator[Where]:
    """The interfaces and sources that are bound to a zone."""
    for bound in root.findall("interface"):
        yield Where(inside=(bound.get("name", ""),))
    for bound in root.findall("source"):
        yield source(bound)


def source(given: Element) -> Where:
    """A source or destination by address, or in words."""
    place = "sources" if given.tag == "source" else "destinations"
    address = given.get("address")
    if address and given.get("invert", "no").lower() not in ("true", "yes"):
        return at(place, (address,), ("ip6",) if ":" in address else ("ip4",))
    return Where(other=(f"{given.tag} {' '.join(f'{name}={text}' for name, text in sorted(given.attrib.items()))}"[:200],))


def openings(evidence: Bundle, found: dict[str, dict[str, Any]], root: Element) -> Iterator[Where]:
    """What a zone lets in by its services, ports, protocols and rich rules."""
    for child in root:
        if child.tag == "rule":
            yield from rich(evidence, found, child)
        elif child.tag not in _SILENT:
            yield from lets(evidence, found, child, 0)


def lets(evidence: Bundle, found: dict[str, dict[str, Any]], child: Element, depth: int) -> Iterator[Where]:
    """What one entry of a zone, service or rich rule lets in."""
    protocol = child.get("protocol", "")
    if child.tag == "port" and protocol:
        yield Where(protocols=(protocol,), ports=ports(child.get("port", "")))
    elif child.tag == "source-port" and protocol:
        yield Where(protocols=(protocol,), other=(f"source port {child.get('port', '')[:40]}",))
    elif child.tag == "protocol":
        yield Where(protocols=(child.get("value", ""),))
    elif child.tag == "service" or child.tag == "include":
        root = element(evidence, found, f"services/{child.get('name', child.get('service', ''))}.xml") if depth < 8 else None
        if root is None:
            evidence.gap(FILES, f"the service {child.get('name', child.get('service', ''))[:60]} is not understood")
            return
        only = [
            Where(families=_FAMILY[family], destinations=(address,))
            for target in root.findall("destination") for family in _FAMILY if (address := target.get(family))
        ]  # fmt: skip
        for inner in root:
            if inner.tag not in ("short", "description", "destination", "module", "helper"):
                for where in lets(evidence, found, inner, depth + 1):
                    yield from [both for base in only or [Where()] if (both := base.both(where)) is not None]
    else:
        evidence.gap(FILES, f"<{child.tag[:40]}> is not understood")


def rich(evidence: Bundle, found: dict[str, dict[str, Any]], rule: Element) -> Iterator[Where]:
    """What a rich rule lets in."""
    accept = rule.find("accept")
    if accept is None:
        return
    base: Where | None = Where(families=_FAMILY.get(rule.get("family", "")))
    inner = []
    for child in rule:
        if child.tag in ("source", "destination") and base is not None:
            base = base.both(source(child))
        elif child.tag not in ("accept", "log", "nflog", "audit", "source", "destination", "icmp-type", "icmp-block"):
            inner += list(lets(evidence, found, child, 0))
        elif child.tag.startswith("icmp"):
            return
    if accept.find("limit") is not None and base is not None:
        base = base.also("rate limit")
    for where in inner or [Where()]:
        if base is not None and (both := base.both(where)) is not None:
            yield both


def ports(text: str) -> Ports:
    """A port or a range of them."""
    found = numbers(text.replace("-", ":"))
    if not text or found is None:
        raise NotUnderstood(f"{FILES.id}: the port {text[:40]} is not understood")
    return found
