# SPDX-License-Identifier: Apache-2.0
"""Interfaces and their settings; addresses, default routes and name servers."""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import addresses, interfaces
from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.network import scope
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_attrs

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

INTERFACES, SETTINGS = interfaces.TABLES
ADDRESSES, ROUTES, SERVERS = addresses.TABLES
Evidence = dict[SourceId, Item]
INVALID = {"status": "failed", "detail": "Invalid argument"}  # what the kernel says of a speed without a link
DENIED = {"status": "denied", "detail": "Permission denied"}
NONE = dict.fromkeys([*interfaces.INTERFACES.args["names"], *interfaces.INTERFACES.args["links"]])


def link(kind: str = "1", flags: str = "0x1003", devtype: str = "", **more: Any) -> dict[str, Any]:
    uevent = (f"DEVTYPE={devtype}\n" if devtype else "") + "INTERFACE=x\nIFINDEX=2"
    fields = {"type": kind, "flags": flags, "mtu": "1500", "speed": INVALID, "operstate": "unknown", "uevent": uevent}
    return NONE | fields | {name.replace("__", "/"): value for name, value in more.items()}


# recorded on Debian 12, kernel 6.18, 2026-11-25, from /sys/class/net of a namespace with a device of each kind, as the reader `attrs`
# answers; infiniband, wireless and bond are synthetic: include/uapi/linux/if_arp.h, net/wireless/sysfs.c, drivers/net/bonding/bond_sysfs.c
NET: dict[str, Any] = {
    "bonding_masters": NONE,
    "lo": link("772", "0x9", mtu="65536"),
    "eth0": link(speed="-1", operstate="up", device="virtio2", device__driver="virtio_net"),
    "eno1": link(flags="0x1803", speed="100000", operstate="up", device="0000:31:00.0", device__driver="mlx5_core", master="bond0"),
    "ib0": link("32", "0x1043", mtu="4092", device="0000:18:00.0", device__driver="mlx5_core", operstate="down"),
    "wlan0": link(devtype="wlan", device="0000:01:00.0", device__driver="iwlwifi", phy80211__index="0"),
    "br0": link(flags="0x1002", devtype="bridge", bridge__bridge_id="8000.000000000000", operstate="down"),
    "bond0": link(flags="0x1403", devtype="bond", bonding__mode="802.3ad 4"),
    "eth0.5": link(devtype="vlan"),
    "vx": link(devtype="vxlan"),
    "t0": link("65534", "0x1090", tun_flags="0x1001"),
    "tap0": link(tun_flags="0x1002"),
    "v0": link(flags="0x1103", speed="10000", operstate="lowerlayerdown"),
    "v1": link(flags="0x1302", operstate="down", master="br0"),
}


def net(links: Any = NET) -> Evidence:
    return {interfaces.INTERFACES.id: ok(json.dumps({f"/sys/class/net/{name}": entry for name, entry in links.items()}))}


def test_interfaces() -> None:
    extracted = run(INTERFACES, net())
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    assert extracted.rows == (
        ("lo", "loopback", True, None, False, 65536, None, None, ""), ("eth0", "ethernet", True, True, False, 1500, None, "virtio_net", ""),
        ("eno1", "ethernet", True, True, False, 1500, 100000, "mlx5_core", "bond0"),
        ("ib0", "infiniband", True, False, False, 4092, None, "mlx5_core", ""),
        ("wlan0", "wireless", True, None, False, 1500, None, "iwlwifi", ""), ("br0", "bridge", False, False, False, 1500, None, None, ""),
        ("bond0", "bond", True, None, False, 1500, None, None, ""), ("eth0.5", "vlan", True, None, False, 1500, None, None, ""),
        ("vx", "tunnel", True, None, False, 1500, None, None, ""), ("t0", "tunnel", False, None, False, 1500, None, None, ""),
        ("tap0", "tunnel", True, None, False, 1500, None, None, ""), ("v0", "virtual", True, False, True, 1500, 10000, None, ""),
        ("v1", "virtual", False, False, True, 1500, None, None, "br0"),
    )  # fmt: skip
    never_emptier(INTERFACES, net())
    assert list(cut_short(INTERFACES, net(), interfaces.INTERFACES, step=200))


@pytest.mark.parametrize(("links", "coverage"), [
    ({}, Coverage.NONE), ({"bonding_masters": NONE}, Coverage.NONE), ({"lo": link("x")}, Coverage.NONE),
    ({"lo": link("772"), "eth0": link(flags="up")}, Coverage.PARTIAL), ({"lo": link("772"), "eth0": link(mtu=DENIED)}, Coverage.PARTIAL),
    ({"lo": link("772", speed=DENIED)}, Coverage.PARTIAL), ({"lo": 3}, Coverage.NONE), ({"lo": link("772", speed=["x"])}, Coverage.PARTIAL),
])  # fmt: skip
def test_interfaces_that_are_not_read(links: Any, coverage: Coverage) -> None:
    assert run(INTERFACES, net(links)).coverage is coverage


def test_a_master_that_is_not_read_is_not_none() -> None:
    extracted = run(INTERFACES, net({"lo": link("772"), "eth0": link() | {"master": DENIED}}))
    assert (extracted.coverage, [row[-1] for row in extracted.rows]) == (Coverage.PARTIAL, ["", None])


FOUR = {
    "forwarding": "1", "accept_redirects": "0", "accept_source_route": "0", "send_redirects": "1", "secure_redirects": "1", "rp_filter": "2",
    "log_martians": "0", "accept_ra": None, "disable_ipv6": None,
}  # fmt: skip
SIX = dict.fromkeys(FOUR) | {"forwarding": "0", "accept_redirects": "1", "accept_source_route": "-1", "accept_ra": "1", "disable_ipv6": "0"}


def conf(four: Any = None, six: Any = None) -> Evidence:
    found = {f"/proc/sys/net/ipv4/conf/{name}": entry for name, entry in (four or {"all": FOUR, "eth0.5": FOUR}).items()}
    found |= {f"/proc/sys/net/ipv6/conf/{name}": entry for name, entry in ({"all": SIX} if six is None else six).items()}
    return {interfaces.SETTINGS.id: ok(json.dumps(found))}


def test_settings() -> None:
    """Synthetic: networking/ip-sysctl of the kernel's documentation."""
    extracted = run(SETTINGS, conf())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("ip4", "all", True, False, False, True, True, 2, False, None, None), ("ip4", "eth0.5", True, False, False, True, True, 2, False, None, None),
        ("ip6", "all", False, True, False, None, None, None, None, 1, False),
    )  # fmt: skip
    for value, route in (("0", False), ("1", True)):  # 0, the default, takes the type 2 header of mobile IPv6 alone
        assert run(SETTINGS, conf(six={"all": SIX | {"accept_source_route": value}})).rows[2][4] is route
    without = run(SETTINGS, conf(six={}))
    assert (without.coverage, len(without.rows)) == (Coverage.COMPLETE, 2)
    never_emptier(SETTINGS, conf())


@pytest.mark.parametrize(("evidence", "coverage"), [
    (conf({"default": FOUR}), Coverage.NONE), (conf({"all": FOUR, "eth0": FOUR | {"forwarding": None}}), Coverage.PARTIAL),
    (conf({"all": FOUR | {"rp_filter": DENIED}}), Coverage.PARTIAL), (conf({"all": FOUR | {"rp_filter": "two"}}), Coverage.PARTIAL),
    ({interfaces.SETTINGS.id: ok("{}")}, Coverage.NONE), ({interfaces.SETTINGS.id: status(Status.DENIED)}, Coverage.NONE),
])  # fmt: skip
def test_settings_that_are_not_read(evidence: Evidence, coverage: Coverage) -> None:
    assert run(SETTINGS, evidence).coverage is coverage


# recorded on Debian 12, iproute2 6.1.0 and kernel 6.18, 2026-11-25, by the author of this test, shortened to two interfaces
IP = json.dumps([
    {"ifindex": 1, "ifname": "lo", "flags": ["LOOPBACK", "UP", "LOWER_UP"], "mtu": 65536, "addr_info": [
        {"family": "inet", "local": "127.0.0.1", "prefixlen": 8, "scope": "host", "label": "lo", "valid_life_time": 4294967295},
        {"family": "inet6", "local": "::1", "prefixlen": 128, "scope": "host", "valid_life_time": 4294967295}]},
    {},
    {"ifindex": 4, "ifname": "eth0", "flags": ["BROADCAST", "UP"], "mtu": 1400, "addr_info": [
        {"family": "inet", "local": "192.0.2.2", "prefixlen": 24, "broadcast": "192.0.2.255", "scope": "global", "label": "eth0"},
        {"family": "inet6", "local": "fd00::2", "prefixlen": 64, "scope": "global", "dynamic": True, "valid_life_time": 3600},
        {"family": "inet6", "local": "fe80::fc:ff:fe00:1", "prefixlen": 64, "scope": "link", "valid_life_time": 4294967295}]},
])  # fmt: skip
# recorded on the same machine
INET6 = """00000000000000000000000000000001 01 80 10 80       lo
fd000000000000000000000000000002 04 40 00 00     eth0
fe8000000000000000fc00fffe000001 04 40 20 80     eth0
"""
TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 192.0.2.0/24 2 0 2
        +-- 192.0.2.0/30 2 0 2
           |-- 192.0.2.0
              /24 link UNICAST
           |-- 192.0.2.2
              /30 link UNICAST
              /32 host LOCAL
        |-- 192.0.2.255
           /32 link BROADCAST
"""
TRIE += TRIE.replace("Main:", "Local:")


def ip(answer: Item | None = None, trie: Item | None = None, six: Item | None = None) -> Evidence:
    return {
        addresses.ADDRESSES.id: answer or ok(IP),
        addresses.FIB.id: trie or (status(Status.SKIPPED) if answer is None else ok(TRIE)),
        addresses.INET6.id: six or ok(INET6),
    }


OLD = Item(Status.FAILED, exit=255, detail='exit 255: Option "-j" is unknown, try "ip -help".')


def test_addresses() -> None:
    extracted = run(ADDRESSES, ip())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("lo", "ip4", "127.0.0.1", 8, "loopback", False), ("lo", "ip6", "::1", 128, "loopback", False),
        ("eth0", "ip4", "192.0.2.2", 24, "private", False), ("eth0", "ip6", "fd00::2", 64, "private", True),
        ("eth0", "ip6", "fe80::fc:ff:fe00:1", 64, "link-local", False),
    )  # fmt: skip
    never_emptier(ADDRESSES, ip())
    for extract in cut_short(ADDRESSES, ip(), addresses.ADDRESSES, step=60):
        assert extract.coverage is not Coverage.COMPLETE


def test_addresses_without_ip() -> None:
    for answer in (OLD, status(Status.ABSENT), status(Status.TIMEOUT)):
        extracted = run(ADDRESSES, ip(answer))
        assert extracted.coverage is Coverage.COMPLETE
        assert [row[2] for row in extracted.rows] == ["127.0.0.1", "192.0.2.2", "::1", "fd00::2", "fe80::fc:ff:fe00:1"]
        assert extracted.rows[1] == (None, "ip4", "192.0.2.2", None, "private", None)
        assert extracted.rows[3] == ("eth0", "ip6", "fd00::2", 64, "private", True)
    assert [row[1] for row in run(ADDRESSES, ip(OLD, six=status(Status.ABSENT))).rows] == ["ip4", "ip4"]  # IPv6 is off at boot


@pytest.mark.parametrize(("evidence", "coverage"), [
    (ip(ok("")), Coverage.NONE), (ip(ok("[]")), Coverage.NONE), (ip(ok("{}")), Coverage.NONE), (ip(ok('[{"addr_info": 3}]')), Coverage.NONE),
    (ip(ok('[{"ifname": "x", "addr_info": [{"family": "inet", "local": "x", "prefixlen": 1}]}]')), Coverage.NONE),
    (ip(OLD, status(Status.DENIED)), Coverage.NONE), (ip(OLD, ok("")), Coverage.PARTIAL), (ip(OLD, six=ok("garbage\n")), Coverage.PARTIAL),
    (ip(OLD, six=status(Status.DENIED)), Coverage.PARTIAL), (ip(OLD, Item(Status.TRUNCATED, TRIE[:300].encode())), Coverage.PARTIAL),
])  # fmt: skip
def test_addresses_that_are_not_read(evidence: Evidence, coverage: Coverage) -> None:
    assert run(ADDRESSES, evidence).coverage is coverage


@pytest.mark.parametrize(("address", "reach"), [
    ("100.64.0.1", "private"), ("100.128.0.1", "public"),
    ("2606:4700::1", "public"), ("fd00::1", "private"),
])  # fmt: skip
def test_shared_address_space_is_not_public(address: str, reach: str) -> None:
    """RFC 6598: carriers, clouds and VPNs use 100.64.0.0/10 within."""
    assert scope(address) == reach


# recorded on the same machine; the refused default of IPv6 is what the kernel always shows
ROUTES4 = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""
ZERO = "0" * 32
ROUTES6 = f"""fd000000000000000000000000000000 40 {ZERO} 00 {ZERO} 00000100 00000001 00000000 00000001     eth0
{ZERO} 00 {ZERO} 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0
{ZERO} 00 {ZERO} 00 {ZERO} ffffffff 00000001 00000000 00200200       lo
"""


def routes(four: Item | None = None, six: Item | None = None) -> Evidence:
    return {addresses.ROUTES4.id: four or ok(ROUTES4), addresses.ROUTES6.id: six or ok(ROUTES6)}


def test_default_routes() -> None:
    extracted = run(ROUTES, routes())
    assert extracted.rows == (("ip4", "eth0", "192.0.2.1", 0), ("ip6", "eth0", "fd00::1", 1024))
    assert extracted.coverage is Coverage.COMPLETE
    on_link = "wg0\t00000000\t00000000\t0001\t0\t0\t50\t00000000\t0\t0\t0\nlo\t00000000\t00000000\t0201\t0\t0\t0\t00000000\t0\t0\t0\n"
    assert run(ROUTES, routes(ok(ROUTES4 + on_link))).rows[1] == ("ip4", "wg0", None, 50)
    none = run(ROUTES, routes(ok(ROUTES4.splitlines()[0]), status(Status.ABSENT)))
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    never_emptier(ROUTES, routes())
    assert list(cut_short(ROUTES, routes(), addresses.ROUTES4))
    assert list(cut_short(ROUTES, routes(), addresses.ROUTES6))


@pytest.mark.parametrize(("evidence", "coverage"), [
    (routes(ok("")), Coverage.NONE), (routes(status(Status.ABSENT)), Coverage.NONE), (routes(six=status(Status.DENIED)), Coverage.NONE),
    (routes(ok(ROUTES4 + "eth0\tzz\n")), Coverage.PARTIAL), (routes(six=ok("garbage\n")), Coverage.PARTIAL),
])  # fmt: skip
def test_routes_that_are_not_read(evidence: Evidence, coverage: Coverage) -> None:
    assert run(ROUTES, evidence).coverage is coverage


# synthetic: resolv.conf(5) and systemd-resolved(8)
STUB = "# This is /run/systemd/resolve/stub-resolv.conf managed by\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"
REAL = "; a comment\nnameserver 10.0.0.2\n\nnameserver 2606:4700:4700::1111\nnameserver fe80::1%eth0\n"


def servers(resolver: Item | None = None, upstream: Item | None = None) -> Evidence:
    return {addresses.RESOLVER.id: resolver or ok(STUB), addresses.UPSTREAM.id: upstream or ok(REAL)}


def test_name_servers() -> None:
    extracted = run(SERVERS, servers())
    assert extracted.coverage is Coverage.COMPLETE
    upstream = "/run/systemd/resolve/resolv.conf"
    assert extracted.rows == (
        ("/etc/resolv.conf", 0, "127.0.0.53", "loopback"), (upstream, 0, "10.0.0.2", "private"),
        (upstream, 1, "2606:4700:4700::1111", "public"), (upstream, 2, "fe80::1", "link-local"),
    )  # fmt: skip
    never_emptier(SERVERS, servers())
    none = run(SERVERS, servers(status(Status.ABSENT), status(Status.ABSENT)))
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    for text in ("nameserver\n", "nameserver ns.example\n", "nameservers 1.1.1.1\n"):
        assert run(SERVERS, servers(ok(text))).coverage is Coverage.PARTIAL
    assert run(SERVERS, servers(status(Status.DENIED))).coverage is Coverage.PARTIAL


# The real kernel and the real ip

HERE = pytest.mark.skipif(not Path("/proc/net/fib_trie").exists() or not shutil.which("ip"), reason="needs Linux and iproute2")


def text(path: str) -> Item:
    return ok(Path(path).read_text()) if Path(path).exists() else status(Status.ABSENT)


@HERE
def test_the_real_ip_and_the_real_kernel_tell_the_same_addresses() -> None:
    answer = ok(subprocess.run(addresses.ADDRESSES.args["argv"], capture_output=True, text=True, check=True, timeout=30).stdout)
    files = {"trie": text("/proc/net/fib_trie"), "six": text("/proc/net/if_inet6")}
    by_ip, by_kernel = run(ADDRESSES, ip(answer, **files)), run(ADDRESSES, ip(OLD, **files))
    assert by_ip.coverage is by_kernel.coverage is Coverage.COMPLETE
    assert {row[2] for row in by_ip.rows} == {row[2] for row in by_kernel.rows} >= {"127.0.0.1"}


@HERE
def test_real_interfaces_settings_and_routes() -> None:
    files = Files()
    links = run(INTERFACES, {interfaces.INTERFACES.id: ok(read_attrs(files, dict(interfaces.INTERFACES.args)))})
    assert links.coverage is Coverage.COMPLETE and ("lo", "loopback") in [row[:2] for row in links.rows]
    settings = run(SETTINGS, {interfaces.SETTINGS.id: ok(read_attrs(files, dict(interfaces.SETTINGS.args)))})
    assert settings.coverage is Coverage.COMPLETE and {("ip4", "all"), ("ip4", "default"), ("ip4", "lo")} <= {
        row[:2] for row in settings.rows
    }
    ways = run(ROUTES, routes(text("/proc/net/route"), text("/proc/net/ipv6_route")))
    assert ways.coverage is Coverage.COMPLETE and all(row[2] is None or ipaddress.ip_address(row[2]) for row in ways.rows)


@pytest.mark.skipif(os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "ip"))), reason="needs root, unshare and iproute2")
def test_real_devices_of_each_kind() -> None:
    script = """
    mount -t sysfs none /sys
    ip link add br0 type bridge; ip link add v0 type veth peer name v1; ip link add vx type vxlan id 1 dstport 4789
    ip link set v1 master br0; ip link set v0 promisc on; ip link set v0 up
    exec "$0" -c 'import sys
sys.path.insert(0, sys.argv[1])
import json; from fleet_audit.probe.node.files import Files; from fleet_audit.probe.node.readers import read_attrs
sys.stdout.write(read_attrs(Files(), json.loads(sys.argv[2])).decode())' "$1" "$2"
    """
    import sys

    source = str(Path(interfaces.__file__).parents[2])
    argv = ["unshare", "-n", "-m", "sh", "-ec", script, sys.executable, source, json.dumps(dict(interfaces.INTERFACES.args))]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    if "Unknown device type" in done.stderr:
        pytest.skip(f"this kernel lacks a kind of device: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr
    found = {row["name"]: row for row in rows_as_dicts(INTERFACES, run(INTERFACES, {interfaces.INTERFACES.id: ok(done.stdout)}))}
    roles = {"lo": "loopback", "br0": "bridge", "v0": "virtual", "v1": "virtual", "vx": "tunnel"}
    assert {name: row["role"] for name, row in found.items()} == roles
    assert found["v1"]["master"] == "br0" and found["v0"]["promiscuous"] and found["v0"]["up"] and not found["vx"]["up"]


ALL = (INTERFACES, SETTINGS, ADDRESSES, ROUTES, SERVERS)
WORDS = st.sampled_from(
    ["/sys/class/net/lo", "/proc/sys/net/ipv4/conf/all", "type", "flags", "772", "0x9", "forwarding", "addr_info", "inet", "1"]
)
JSON = st.recursive(
    WORDS | st.none() | st.integers(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4)
)
IDS = st.sampled_from([source.id for table in ALL for source in table.sources])


@given(st.dictionaries(IDS, st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda v: json.dumps(v).encode()))))
def test_nothing_raises(evidence: Evidence) -> None:
    for table in ALL:
        assert run(table, evidence).reason[:14] != "not understood"


@pytest.mark.parametrize("table", [INTERFACES, SETTINGS, ADDRESSES, ROUTES])
@given(body=st.binary(max_size=200))
def test_garbage_yields_no_rows(table: Table, body: bytes) -> None:
    assert run(table, {source.id: ok(body) for source in table.sources}).rows == ()
