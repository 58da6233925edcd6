# SPDX-License-Identifier: Apache-2.0
"""Network interfaces of the host's namespace, and how the kernel handles IP on each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer
from fleet_audit.model import Source, SourceId

_NET = "/sys/class/net/"
INTERFACES = Source(
    SourceId("net-interfaces"), "attrs",
    {"globs": ["/sys/class/net/*"],
     "names": ["type", "flags", "mtu", "speed", "operstate", "uevent", "tun_flags", "bonding/mode", "bridge/bridge_id", "phy80211/index"],
     "links": ["device", "device/driver", "master"]},
    "Kernel documentation, ABI/testing/sysfs-class-net; numbers of `type` in include/uapi/linux/if_arp.h, of `flags` in if.h.",
)  # fmt: skip
_FOUR = ("forwarding", "accept_redirects", "accept_source_route", "send_redirects", "secure_redirects", "rp_filter", "log_martians")
_SIX = ("forwarding", "accept_redirects", "accept_source_route", "accept_ra", "disable_ipv6")
SETTINGS = Source(
    SourceId("net-settings"), "attrs",
    {"globs": ["/proc/sys/net/ipv4/conf/*", "/proc/sys/net/ipv6/conf/*"], "names": sorted({*_FOUR, *_SIX})},
    "Kernel documentation, networking/ip-sysctl: `all` and `default`, and one folder for each interface; none for ipv6 where it is off.",
)  # fmt: skip


@dataclass(frozen=True)
class Interface:
    """A network interface. Source: /sys/class/net."""

    name: Annotated[str, "Interface; it may change at a reboot"]
    role: Annotated[
        str, "loopback, ethernet, infiniband, wireless, bridge, bond, vlan, tunnel (tun, gre, wireguard, ...) or virtual (veth, ...)"
    ]
    up: Annotated[bool, "It is switched on"]
    link: Annotated[bool | None, "It has a link; NULL: it does not tell"]
    promiscuous: Annotated[bool, "It takes frames that are not for it, as for a bridge or a sniffer"]
    mtu: Annotated[int | None, "Largest packet, bytes"]
    speed_mbit: Annotated[int | None, "Speed, Mbit/s; NULL: without a link, or it does not tell"]
    driver: Annotated[str | None, "Kernel driver; NULL: a device in software"]
    master: Annotated[str | None, "Bridge, bond or VRF that it belongs to; empty: none; NULL: not read"]


@dataclass(frozen=True)
class InterfaceSetting:
    """How the kernel handles an IP version on an interface. No rows of ip6: IPv6 is off at boot. Source: /proc/sys/net."""

    family: Annotated[str, "ip4 or ip6"]
    interface: Annotated[str, "Interface; `all` and `default` (for those to come) stand beside them"]
    forwarding: Annotated[bool, "Packets for others are sent on. On `all` of ip4 it is net.ipv4.ip_forward"]
    accept_redirects: Annotated[bool | None, "ICMP redirects change routes"]
    accept_source_route: Annotated[
        bool | None,
        "Packets may choose their own route; ip6: set above 0, as since 2.6.22 no value takes more than the harmless type 2 header",
    ]
    send_redirects: Annotated[bool | None, "ICMP redirects are sent; NULL: ip6 has no such switch"]
    secure_redirects: Annotated[bool | None, "Redirects of listed gateways are taken; NULL: ip6"]
    rp_filter: Annotated[int | None, "Check of the source: 0 none, 1 strict, 2 loose; the larger of this and `all` counts; NULL: ip6"]
    log_martians: Annotated[bool | None, "Impossible addresses are logged; NULL: ip6"]
    accept_ra: Annotated[int | None, "Router advertisements: 0 no, 1 unless forwarding, 2 always; NULL: ip4"]
    disabled: Annotated[bool | None, "The IP version is off on this interface; NULL: ip4, which cannot be"]


_DEVTYPES = {"bridge": "bridge", "bond": "bond", "vlan": "vlan", "wlan": "wireless", "wwan": "wireless"}
_TUNNELS = frozenset("vxlan geneve wireguard gtp bareudp ppp macsec".split())
_TUNNEL_TYPES = frozenset({512, 768, 769, 776, 778, 823, 65534})
_WIRELESS_TYPES = frozenset({801, 802, 803})


def parse_interfaces(evidence: Bundle) -> Iterator[Interface]:
    """A row per interface; there is always one, the loopback."""
    found = evidence.entries(INTERFACES)
    some = False
    for path, entry in found.items():
        if all(value is None for value in entry.values()):
            continue  # a file beside the interfaces, such as bonding_masters
        kind, flags = integer(_text(evidence, path, entry, "type")), _text(evidence, path, entry, "flags") or ""
        try:
            bits = int(flags, 16)
        except ValueError:
            bits = -1
        if kind is None or bits < 0:
            evidence.gap(INTERFACES, f"{path}: without type or flags")
            continue
        some = True
        speed = integer(_text(evidence, path, entry, "speed"))
        state = _text(evidence, path, entry, "operstate")
        yield Interface(
            path.removeprefix(_NET), _role(evidence, path, entry, kind), bool(bits & 1),
            {"up": True, "down": False, "lowerlayerdown": False, "dormant": False, "notpresent": False}.get(state or ""), bool(bits & 0x100),
            integer(_text(evidence, path, entry, "mtu")), speed if speed is not None and speed > 0 else None,
            _text(evidence, path, entry, "device/driver"), "" if entry.get("master", "") is None else _text(evidence, path, entry, "master"),
        )  # fmt: skip
    if not some:
        raise Unread("; ".join(evidence.gaps[:3]) or f"{INTERFACES.id}: no interface, not even the loopback")


def _text(evidence: Bundle, path: str, entry: dict[str, Any], name: str) -> str | None:
    """An attribute; None where it is not there or has no value now, which the kernel calls an invalid argument."""
    content = entry.get(name)
    if isinstance(content, str | None):
        return content
    if not (isinstance(content, dict) and content.get("detail") == "Invalid argument"):
        evidence.gap(INTERFACES, f"{path}/{name} not read")
    return None


def _role(evidence: Bundle, path: str, entry: dict[str, Any], kind: int) -> str:
    """What an interface is, by its type, its driver's own name for it and the folders that it has."""
    lines = (_text(evidence, path, entry, "uevent") or "").splitlines()
    devtype = next((line.partition("=")[2] for line in lines if line.startswith("DEVTYPE=")), "")
    if kind == 772:
        return "loopback"
    if devtype in _DEVTYPES:
        return _DEVTYPES[devtype]
    for name, role in (("bridge/bridge_id", "bridge"), ("bonding/mode", "bond"), ("phy80211/index", "wireless")):
        if _text(evidence, path, entry, name) is not None:
            return role
    if kind == 32:
        return "infiniband"
    if kind in _WIRELESS_TYPES:
        return "wireless"
    if kind in _TUNNEL_TYPES or devtype in _TUNNELS or _text(evidence, path, entry, "tun_flags") is not None:
        return "tunnel"
    return "ethernet" if kind == 1 and _text(evidence, path, entry, "device") is not None else "virtual"


def parse_settings(evidence: Bundle) -> Iterator[InterfaceSetting]:
    """A row per IP version and interface."""
    seen = set()
    for path, entry in evidence.entries(SETTINGS).items():
        family, name = ("ip4" if path.startswith("/proc/sys/net/ipv4/") else "ip6"), path.rpartition("/")[2]
        numbers: dict[str, int | None] = {}
        for key in _FOUR if family == "ip4" else _SIX:
            content = entry.get(key)
            numbers[key] = integer(content) if isinstance(content, str) else None
            if content is not None and numbers[key] is None:
                evidence.gap(SETTINGS, f"{path}/{key} not read")
        forwarding = numbers["forwarding"]
        if forwarding is None:
            evidence.gap(SETTINGS, f"{path}: without forwarding")  # or the interface went away meanwhile
            continue
        seen.add((family, name))
        route = numbers["accept_source_route"]
        yield InterfaceSetting(
            family, name, forwarding != 0, _switch(numbers, "accept_redirects"),
            None if route is None else route > 0 if family == "ip6" else route != 0,
            _switch(numbers, "send_redirects"), _switch(numbers, "secure_redirects"), numbers.get("rp_filter"), _switch(numbers, "log_martians"),
            numbers.get("accept_ra"), _switch(numbers, "disable_ipv6"),
        )  # fmt: skip
    if ("ip4", "all") not in seen:
        raise NotUnderstood("; ".join(evidence.gaps[:3]) or f"{SETTINGS.id}: not even `all` of ipv4")


def _switch(numbers: dict[str, int | None], name: str) -> bool | None:
    number = numbers.get(name)
    return None if number is None else number != 0


TABLES = (
    Table("interfaces", Interface, (INTERFACES,), parse_interfaces),
    Table("interface_settings", InterfaceSetting, (SETTINGS,), parse_settings),
)
