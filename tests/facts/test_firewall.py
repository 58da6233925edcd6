# SPDX-License-Identifier: Apache-2.0
"""What the kernel's rule sets come to. Recorded rule sets: firewall_data/README.md tells by whom, when and with which versions."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.firewall import TABLES, loaded
from fleet_audit.facts.firewall.iptables import chains_of
from fleet_audit.facts.firewall.ruleset import Chain, Rule, Walk
from fleet_audit.facts.firewall.where import Where
from fleet_audit.facts.kernel import RELEASE
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

POLICIES, OPENINGS, BLOCKS, FORWARDS = TABLES[:4]
LIVE = (POLICIES, OPENINGS, BLOCKS, FORWARDS)
Evidence = dict[SourceId, Item]
DATA = Path(__file__).parent / "firewall_data"
ABSENT = {"status": "absent", "detail": ""}
FOUR, SIX = "/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"
# synthetic: what nft 1.0.6 prints of an empty rule set, and /proc/net where no legacy table is in use
EMPTY = '{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}}]}'
PROTOCOLS = {
    "text": "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se re sp bi br ha uh gp em\n"
}


CHAIN = {"chain": {"family": "ip", "table": "filter", "name": "INPUT", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}}


def data(name: str) -> str:
    return (DATA / name).read_text()


def names(four: Any = ABSENT, six: Any = ABSENT) -> Item:
    return ok(json.dumps({FOUR: four, SIX: six, "/proc/net/protocols": PROTOCOLS}))


def host(nft: str = EMPTY, ip4: str | None = None, ip6: str | None = None) -> Evidence:
    """A host whose kernel has nf_tables; `ip4` and `ip6`: what iptables-nft-save prints."""
    return {
        loaded.NF_TABLES.id: ok("", 0),
        loaded.NFT_COMPAT.id: status(Status.FAILED, "exit 1") if ip4 is None else ok("", 0),
        loaded.NFT.id: ok(nft),
        loaded.COMPAT["ip4"].id: status(Status.SKIPPED) if ip4 is None else ok(ip4),
        loaded.COMPAT["ip6"].id: status(Status.SKIPPED) if ip6 is None else ok(ip6),
        loaded.NAMES.id: names(),
        loaded.LEGACY["ip4"].id: status(Status.SKIPPED),
        loaded.LEGACY["ip6"].id: status(Status.SKIPPED),
        loaded.BUILTIN.id: ok("{}"),
        RELEASE.id: ok("6.8.0-60-generic\n"),
    }


def legacy(four: str, text: str, six: str = "") -> Evidence:
    """A host with the legacy back end alone."""
    return without_nft() | {
        loaded.NAMES.id: names({"text": four}, {"text": six}),
        loaded.LEGACY["ip4"].id: ok(text),
        loaded.LEGACY["ip6"].id: ok(""),
    }


def without_nft(builtin: str = "") -> Evidence:
    path = "/lib/modules/6.8.0-60-generic/modules.builtin"
    return host() | {
        loaded.NF_TABLES.id: Item(Status.FAILED, exit=1, detail="exit 1"),
        loaded.NFT.id: status(Status.SKIPPED),
        loaded.BUILTIN.id: ok(json.dumps({path: {"text": builtin}})),
    }


UFW = host(data("ufw.nft.json"), data("ufw.ip4.save"), data("ufw.ip6.save"))
DOCKER = host(data("docker.nft.json"), data("docker.ip4.save"))
NATIVE = host(data("native.nft.json"))
FIREWALLD = host(data("firewalld.nft.json"))


def policies(evidence: Evidence) -> dict[tuple[str, str], str | None]:
    return {(row["family"], row["direction"]): row["policy"] for row in rows_as_dicts(POLICIES, run(POLICIES, evidence))}


def brief(table: Table, evidence: Evidence, family: str = "ip4", direction: str = "input") -> list[str]:
    """Rows in short: protocol ports [from source] [to destination] [in] [out] [if condition]."""
    found = []
    for row in rows_as_dicts(table, run(table, evidence)):
        if (row["family"], row.get("direction", direction)) != (family, direction):
            continue
        first, last = row["port_first"], row["port_last"]
        words = [row["protocol"], "all" if (first, last) == (0, 65535) else str(first) if first == last else f"{first}-{last}"]
        for word, key in (("from", "source"), ("to", "destination"), ("in", "interface_in"), ("out", "interface_out"), ("if", "condition")):
            words += [word, row[key]] if row.get(key, "any") not in ("any", "") else []
        found.append(" ".join(words))
    return found


ACCEPTED = {(family, direction): "accept" for family in ("ip4", "ip6") for direction in ("input", "forward", "output")}


def test_no_rules_is_accept() -> None:
    for evidence in (host(), without_nft()):
        for table in LIVE:
            extracted = run(table, evidence)
            assert extracted.coverage is Coverage.COMPLETE, extracted.reason
            assert len(extracted.rows) == (6 if table is POLICIES else 0)
            never_emptier(table, evidence)
        assert policies(evidence) == ACCEPTED
        assert {row["chain"] for row in rows_as_dicts(POLICIES, run(POLICIES, evidence))} == {"none"}


def test_ufw() -> None:
    assert all(run(table, UFW).coverage is Coverage.COMPLETE for table in LIVE)
    assert policies(UFW) == ACCEPTED | {(f, d): "drop" for f in ("ip4", "ip6") for d in ("input", "forward")}
    assert brief(OPENINGS, UFW) == [
        "udp 68 if --sport 67", "udp 5353 to 224.0.0.251", "udp 1900 to 239.255.255.250", "tcp 22", "tcp 9400 from 10.0.0.0/8", "any all in eth1",
        "tcp 2222", "tcp 6000-6007", "udp 123 from 192.168.1.0/24", "tcp 80", "tcp 443",
    ]  # fmt: skip
    assert brief(OPENINGS, UFW, "ip6") == [
        "udp 546 from fe80::/10 to fe80::/10 if --sport 547", "udp 5353 to ff02::fb", "udp 1900 to ff02::f", "tcp 22", "any all in eth1",
        "tcp 6000-6007", "tcp 80", "tcp 443",
    ]  # fmt: skip
    assert brief(OPENINGS, UFW, direction="forward") == ["tcp 25 to 10.1.2.3 in eth0 out eth1"]
    assert brief(BLOCKS, UFW)[1:3] == ["tcp 111", "udp 111"]
    rows = rows_as_dicts(OPENINGS, run(OPENINGS, UFW))
    assert {row["tool"] for row in rows} == {"ufw"} and rows[3]["chain"] == "ip4 filter ufw-user-input"


def test_without_iptables_nft_save_its_conditions_are_missing_and_nothing_is_made_up() -> None:
    evidence = UFW | {loaded.COMPAT["ip4"].id: status(Status.ABSENT)}
    extracted = run(OPENINGS, evidence)
    assert extracted.coverage is Coverage.PARTIAL and "conditions of iptables" in extracted.reason
    assert policies(evidence)["ip4", "input"] == "drop"
    assert "tcp all if iptables multiport" in brief(OPENINGS, evidence)


def test_docker_publishes_ports_past_the_rules_for_input() -> None:
    evidence = DOCKER | {loaded.COMPAT["ip6"].id: ok("")}
    assert policies(evidence) == ACCEPTED | {("ip4", "forward"): "drop"}
    assert rows_as_dicts(FORWARDS, run(FORWARDS, evidence)) == [
        {
            "family": "ip4", "protocol": "tcp", "port_first": 8443, "port_last": 8443, "source": "any", "address": "10.5.0.2",
            "interface": "!docker0", "to_address": "172.17.0.2", "to_port": "443", "condition": "", "chain": "ip4 nat DOCKER", "tool": "docker",
        },
        {
            "family": "ip4", "protocol": "tcp", "port_first": 8080, "port_last": 8080, "source": "any", "address": "any",
            "interface": "!docker0", "to_address": "172.17.0.2", "to_port": "80", "condition": "", "chain": "ip4 nat DOCKER", "tool": "docker",
        },
    ]  # fmt: skip
    assert brief(OPENINGS, evidence, direction="forward") == [
        "tcp 9000 to 172.17.0.2 in !docker0 out docker0", "tcp 443 to 172.17.0.2 in !docker0 out docker0",
        "tcp 80 to 172.17.0.2 in !docker0 out docker0", "any all in docker0 out !docker0", "any all in docker0 out docker0",
    ]  # fmt: skip


def test_docker_beside_ufw() -> None:
    evidence = host(data("docker.nft.json"), data("ufw-docker.ip4.save"))
    assert policies(evidence)["ip4", "input"] == "drop"
    assert [row["port_first"] for row in rows_as_dicts(FORWARDS, run(FORWARDS, evidence))] == [8443, 8080]
    assert "tcp 22" in brief(OPENINGS, evidence) and not any("8080" in row for row in brief(OPENINGS, evidence))


def test_firewalld() -> None:
    assert all(run(table, FIREWALLD).coverage is Coverage.COMPLETE for table in LIVE)
    assert policies(FIREWALLD) == ACCEPTED | {(f, d): "reject" for f in ("ip4", "ip6") for d in ("input", "forward")}
    assert brief(OPENINGS, FIREWALLD) == [
        "any all from 10.20.0.0/16", "tcp 22 in ib0", "udp 5353 to 224.0.0.251 in ib0", "udp 137 in ib0", "udp 138 in ib0", "tcp 22", "tcp 8265",
        "tcp 6000-6007", "tcp 9400 from 10.0.0.0/8",
    ]  # fmt: skip
    assert brief(FORWARDS, FIREWALLD) == ["tcp 8080"]
    assert {row["tool"] for row in rows_as_dicts(POLICIES, run(POLICIES, FIREWALLD))} == {"firewalld"}


def test_a_default_zone_that_accepts_all_is_a_policy_of_accept() -> None:
    document = json.loads(data("firewalld.nft.json"))
    for entry in document["nftables"]:
        rule = entry.get("rule", {})
        if rule.get("chain") == "filter_INPUT_ZONES" and rule["expr"][0].get("goto"):
            rule["expr"] = [{"goto": {"target": "filter_IN_trusted"}}]
    evidence = host(json.dumps(document))
    assert policies(evidence)["ip4", "input"] == "accept" and brief(OPENINGS, evidence) == []


def test_native_rules() -> None:
    assert all(run(table, NATIVE).coverage is Coverage.COMPLETE for table in LIVE)
    assert policies(NATIVE) == ACCEPTED | {(f, "input"): "reject" for f in ("ip4", "ip6")} | {
        (f, "forward"): "drop" for f in ("ip4", "ip6")
    }
    assert brief(OPENINGS, NATIVE) == [
        "tcp 22 in eth0", "tcp 80-90 in eth0", "tcp 22 in eth1", "tcp 80-90 in eth1", "tcp 9400 from 10.1.1.1", "tcp 9401 from 10.1.1.2", "tcp 8081",
        "tcp 8082 from 10.0.0.0/8", "tcp 8082 from 192.168.7.1", "tcp 7000", "tcp 53", "udp 53", "tcp 5000 if ip saddr != 10.0.0.0/8",
        "tcp 9100 from 10.0.0.0/8 if limit rate 10/second", "tcp 9100 from 192.168.7.1 if limit rate 10/second", "tcp 60000-65535",
        "udp 123 if meta skuid 0", "tcp 4444 if ip saddr == @dyn", "igmp all",
    ]  # fmt: skip
    assert brief(OPENINGS, NATIVE, "ip6") == [
        "tcp 22 in eth0", "tcp 80-90 in eth0", "tcp 22 in eth1", "tcp 80-90 in eth1", "tcp 8081", "tcp 7000", "tcp 53", "udp 53",
        "udp 546 from fe80::/10", "tcp 60000-65535", "udp 123 if meta skuid 0",
    ]  # fmt: skip
    assert brief(BLOCKS, NATIVE, direction="output")[0] == "any all to 169.254.169.254 if meta skuid != 0"
    assert brief(BLOCKS, NATIVE, "ip6", "output")[0].startswith("any all if ct count")  # the metadata service is of IPv4
    forwards = rows_as_dicts(FORWARDS, run(FORWARDS, NATIVE))
    assert [(r["family"], r["port_first"], r["to_address"], r["to_port"]) for r in forwards][:2] == [
        ("ip4", 8443, "10.0.0.9", "443"), ("ip4", 81, "", "8080"),
    ]  # fmt: skip
    assert [(r["port_first"], r["port_last"]) for r in forwards if r["family"] == "ip4"][2:] == [(0, 65535)]
    assert [r["port_first"] for r in forwards if r["family"] == "ip6"] == [81]


@pytest.mark.parametrize(
    ("flags", "coverage", "policy"),
    [
        (["owner", "persist"], Coverage.COMPLETE, "reject"), ("owner", Coverage.COMPLETE, "reject"), (["dormant"], Coverage.COMPLETE, "accept"),
        ("dormant", Coverage.COMPLETE, "accept"), ("fleet", Coverage.NONE, None), ([{}], Coverage.NONE, None),
    ],
)  # fmt: skip
def test_a_dormant_table_stops_nothing(flags: Any, coverage: Coverage, policy: str | None) -> None:
    document = json.loads(NATIVE[loaded.NFT.id].text)
    for entry in document["nftables"]:
        if "table" in entry:
            entry["table"]["flags"] = flags
    evidence = {**NATIVE, loaded.NFT.id: ok(json.dumps(document))}
    assert run(POLICIES, evidence).coverage is coverage
    assert policies(evidence).get(("ip4", "input")) == policy if policy else not run(POLICIES, evidence).rows


LEGACY = """# Generated by iptables-save v1.8.9 on Wed Nov 25 18:31:16 2026
*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:LOGDROP - [0:0]
-A INPUT -i lo -j ACCEPT
-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT
-A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 22 -m comment --comment "ssh -j ACCEPT for ops" -j ACCEPT
-A INPUT -p udp -m udp --dport :1023 -m set --match-set good src -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A INPUT -j LOGDROP
-A INPUT -p tcp -m tcp --dport 9999 -j ACCEPT
-A LOGDROP -m limit --limit 3/min -j LOG --log-prefix "drop -j: "
-A LOGDROP -j DROP
COMMIT
# Completed on Wed Nov 25 18:31:16 2026
"""


def test_legacy_with_a_last_rule_that_drops() -> None:
    """Synthetic, in the words of iptables-save(8): a policy of accept, and a last rule that jumps to a drop."""
    evidence = legacy("filter\n", LEGACY)
    assert policies(evidence)["ip4", "input"] == "drop" and policies(evidence)["ip6", "input"] == "accept"
    assert brief(OPENINGS, evidence) == [
        "tcp 22 from 10.0.0.0/8",
        "udp 0-1023 if --match-set good src",
    ]  # what follows the drop opens nothing
    row = rows_as_dicts(POLICIES, run(POLICIES, evidence))[0]
    assert (row["chain"], row["tool"]) == ("legacy-ip4 filter LOGDROP", "iptables-legacy")
    for table in LIVE:
        assert run(table, evidence).coverage is Coverage.COMPLETE
        never_emptier(table, evidence)


@pytest.mark.parametrize(
    "change",
    [
        {loaded.LEGACY["ip4"].id: status(Status.ABSENT)}, {loaded.LEGACY["ip4"].id: ok("")}, {loaded.LEGACY["ip4"].id: ok(LEGACY[:-60])},
        {loaded.NAMES.id: names({"status": "denied", "detail": ""})}, {loaded.NAMES.id: ok("{}")}, {loaded.NAMES.id: status(Status.TIMEOUT)},
    ],
)  # fmt: skip
def test_legacy_tables_that_are_not_told_leave_the_policy_open(change: Evidence) -> None:
    evidence = legacy("filter\nnat\n", LEGACY) | change
    extracted = run(POLICIES, evidence)
    assert extracted.coverage is not Coverage.COMPLETE
    assert "accept" not in [policy for (family, _), policy in policies(evidence).items() if family == "ip4"]


def test_a_default_of_deny_is_proved_by_one_back_end_alone() -> None:
    evidence = NATIVE | {loaded.NAMES.id: status(Status.DENIED)}
    extracted = run(POLICIES, evidence)
    assert extracted.coverage is Coverage.PARTIAL
    assert policies(evidence) == {
        ("ip4", "input"): "reject", ("ip4", "forward"): "drop", ("ip4", "output"): None,
        ("ip6", "input"): "reject", ("ip6", "forward"): "drop", ("ip6", "output"): None,
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {loaded.NFT.id: status(Status.ABSENT)}, {loaded.NFT.id: status(Status.DENIED)},
        {loaded.NFT.id: Item(Status.FAILED, exit=1, detail="Operation not permitted")},
        {loaded.NFT.id: ok("")}, {loaded.NFT.id: ok("{}")}, {loaded.NFT.id: ok('{"nftables": []}')}, {loaded.NFT.id: ok('{"nftables": [3]}')},
        {loaded.NFT.id: Item(Status.TRUNCATED, data("native.nft.json")[:5000].encode())},
        without_nft("kernel/net/netfilter/nf_tables.ko\n"), without_nft() | {RELEASE.id: ok("6.8.0-61-generic\n")},
        without_nft() | {loaded.BUILTIN.id: ok("{}")}, without_nft() | {loaded.NF_TABLES.id: status(Status.ABSENT)},
        without_nft() | {loaded.NF_TABLES.id: Item(Status.FAILED, exit=None, detail="killed by signal 9")},
    ],
)  # fmt: skip
@pytest.mark.parametrize("table", LIVE, ids=lambda table: table.name)
def test_no_rules_are_proved_not_guessed(table: Table, change: Evidence) -> None:
    assert run(table, host() | change).coverage is Coverage.NONE


def chain(rules: list[Rule], **given: Any) -> Chain:
    return Chain(("ip4",), "ip4 filter", given.pop("name", "INPUT"), rules=rules, **given)


def test_returns_keep_a_jump_from_deciding() -> None:
    """As with ufw-not-local: a chain that ends in a drop, after some packets have gone back."""
    sub = chain([Rule("return", (Where(other=("x",)),)), Rule("accept")], name="sub")
    outcome = Walk([sub, base := chain([Rule("jump", target="sub")], hook="input", policy="drop")], "ip4", True).run(base)
    assert outcome.rest.verdict == "drop"
    assert [(item.verdict, item.where.other) for item in outcome.items] == [("accept", ("unless an earlier rule returns it",))]


def test_goto_does_not_come_back() -> None:
    sub = chain([Rule("accept", (Where(protocols=("tcp",)),))], name="sub")
    rules = [Rule("goto", (Where(inside=("eth0",)),), "sub"), Rule("accept")]
    outcome = Walk([sub, base := chain(rules, hook="input", policy="drop")], "ip4", True).run(base)
    assert outcome.rest.verdict == "accept"
    assert [(item.verdict, item.where.inside, item.where.protocols) for item in outcome.items] == [
        ("accept", ("eth0",), ("tcp",)), ("drop", ("eth0",), None),
    ]  # fmt: skip


def test_chains_that_call_each_other_end() -> None:
    loop = [chain([Rule("jump", target="b"), Rule("jump", target="b")], name=name) for name in "ab"]
    outcome = Walk([*loop, base := chain([Rule("jump", target="a")], hook="input", policy="drop")], "ip4", True).run(base)
    assert outcome.rest.verdict == "unknown" and "more rules" in outcome.odd[0]


def test_a_target_that_is_not_known_leaves_the_policy_open() -> None:
    text = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j MAGIC\n-A INPUT -p tcp --dport 22 -j MAGIC\nCOMMIT\n"
    evidence = legacy("filter", text)
    extracted = run(POLICIES, evidence)
    assert policies(evidence)["ip4", "input"] is None and policies(evidence)["ip4", "output"] == "accept"
    assert extracted.coverage is Coverage.PARTIAL and "target MAGIC" in extracted.reason
    assert run(OPENINGS, evidence).coverage is Coverage.PARTIAL


def test_two_chains_that_deny_leave_only_what_both_let_pass() -> None:
    nft = json.loads(EMPTY)
    for name, ports in (("one", [22, {"range": [80, 90]}]), ("two", [{"range": [85, 99]}, 443])):
        nft["nftables"] += [
            {"chain": {"family": "inet", "table": name, "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
            {"rule": {"family": "inet", "table": name, "chain": "in", "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": {"set": ports}}}, {"accept": None}]}},
        ]  # fmt: skip
    assert brief(OPENINGS, host(json.dumps(nft))) == ["tcp 85-90"]


@pytest.mark.parametrize(
    ("rule", "rows"),
    [
        ("-j ACCEPT -p tcp --dport 22", ["tcp 22"]),  # conditions behind the target, as people write them
        ("--protocol tcp --destination-port 22 --source 10.0.0.1/32 --jump ACCEPT", ["tcp 22 from 10.0.0.1"]),
        ("-p tcp -m multiport --dports 1,2:3 -j ACCEPT", ["tcp 1", "tcp 2-3"]),
        ("! -i eth0 -p tcp -j ACCEPT", ["tcp all in !eth0"]), ("! -s 10.0.0.0/8 -j ACCEPT", ["any all if ! -s 10.0.0.0/8"]),
        ("-i eth+ -p tcp -j ACCEPT", ["tcp all in eth+"]), ("-p tcp -m conntrack --ctstate NEW -j ACCEPT", ["tcp all"]),
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", []), ("-m conntrack --ctstate DNAT -j ACCEPT", []),
        ("-p ipv6-icmp -j ACCEPT", []), ("-j LOG", []), ("-m recent --set", []), ("-p tcp -j CONNMARK --set-mark 1", []),
        ("-s 0.0.0.0/0 -p udp -j ACCEPT", ["udp all"]), ("-p tcp -j RETURN", []), ("-g SUB", ["tcp 7"]), ("-p udp -j SUB", []),
        ("-p tcp --dport 70000 -j ACCEPT", ["tcp all if --dport 70000"]),
    ],
)  # fmt: skip
def test_rules_of_iptables(rule: str, rows: list[str]) -> None:
    text = f"*filter\n:INPUT DROP [0:0]\n:SUB - [0:0]\n-A INPUT {rule}\n-A SUB -p tcp --dport 7 -j ACCEPT\nCOMMIT\n"
    assert brief(OPENINGS, legacy("filter", text)) == rows


@pytest.mark.parametrize(
    "text",
    [
        "*filter\n:INPUT DROP [0:0]\n-A INPUT -j ACCEPT\n", "*filter\n*nat\n", ":INPUT DROP [0:0]\n", "*filter\n:INPUT DENY [0:0]\nCOMMIT\n",
        "*filter\n-A INPUT -j ACCEPT\nCOMMIT\n", '*filter\n:INPUT DROP [0:0]\n-A INPUT -m comment --comment "x\nCOMMIT\n', "garbage",
        "*strange\nCOMMIT\n",
        "*filter\n:INPUT DROP [0:0]\n-D INPUT -j ACCEPT\nCOMMIT\n", "# Table `filter' is incompatible, use 'nft' tool.\n",
    ],
)  # fmt: skip
def test_texts_that_are_no_rule_set(text: str) -> None:
    with pytest.raises(Exception, match="iptables"):
        chains_of(text, "ip4", "iptables")


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Where(ports=((1, 9),)), Where(ports=((5, 20),)), Where(ports=((5, 9),))), (Where(protocols=("tcp",)), Where(protocols=("udp",)), None),
        (Where(sources=("10.0.0.0/8",)), Where(sources=("10.1.0.0/16", "11.0.0.0/8")), Where(sources=("10.1.0.0/16",))),
        (Where(inside=("!eth0",)), Where(inside=("eth0", "eth1")), Where(inside=("eth1",))), (Where(inside=("!a",)), Where(inside=("a",)), None),
        (Where(inside=("eth+",)), Where(inside=("eth0",)), Where(inside=("eth+",), other=("inside eth0",))),
        (Where(sources=("@x",)), Where(sources=("::1",)), Where(sources=("@x",), other=("sources ::1",))),
        (Where(other=("a",)), Where(other=("a", "b")), Where(other=("a", "b"))),
    ],
)  # fmt: skip
def test_what_two_conditions_have_in_common(one: Where, other: Where, both: Where | None) -> None:
    assert one.both(other) == both


def test_more_elements_than_can_be_told_stay_in_words() -> None:
    many = [f"10.0.{n // 250}.{n % 250}" for n in range(300)]
    nft = json.loads(EMPTY)
    match = {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"set": many}}}
    nft["nftables"] += [
        {"chain": {"family": "ip", "table": "t", "name": "in", "type": "filter", "hook": "input", "prio": 0, "policy": "drop"}},
        {"rule": {"family": "ip", "table": "t", "chain": "in", "expr": [match, {"accept": None}]}},
    ]
    (row,) = brief(OPENINGS, host(json.dumps(nft)))
    assert row.startswith("any all if ip saddr == {10.0.0.0, 10.0.0.1, ") and row.endswith("...}")


def test_a_rule_set_that_grows_without_end_is_refused() -> None:
    """Synthetic: verdict maps whose combinations would fill the controller."""
    ranges = [{"range": [n, n]} for n in range(100)]
    port = {"payload": {"protocol": "tcp", "field": "dport"}}
    ips = {"set": [[{"concat": [f"10.0.0.{n}", n]}, {"accept": None}] for n in range(100)]}
    pair = {"concat": [{"payload": {"protocol": "ip", "field": "saddr"}}, port]}
    rule = [{"match": {"op": "==", "left": port, "right": {"set": ranges}}}, *[{"vmap": {"key": pair, "data": ips}}] * 20]
    objects = [{"rule": {"family": "ip", "table": "filter", "chain": "INPUT", "expr": rule}}] * 100
    extracted = run(OPENINGS, host(json.dumps({"nftables": [{"metainfo": {}}, CHAIN, *objects]})))
    assert extracted.coverage is Coverage.NONE and "more conditions" in extracted.reason


@pytest.mark.parametrize("table", LIVE, ids=lambda table: table.name)
@pytest.mark.parametrize("evidence", [UFW, DOCKER, NATIVE, FIREWALLD], ids=["ufw", "docker", "native", "firewalld"])
def test_laws(table: Table, evidence: Evidence) -> None:
    never_emptier(table, evidence)
    for source in (loaded.NFT, loaded.COMPAT["ip4"]):
        if source is loaded.NFT or evidence is UFW:
            assert list(cut_short(table, evidence, source, step=len(evidence[source.id].body) // 7))


WORDS = st.sampled_from(
    ["ip", "inet", "filter", "INPUT", "input", "drop", "accept", "tcp", "dport", "@x", "jump", "a", "b", 22, None, True]
)
KEYS = st.sampled_from(
    "nftables metainfo table chain rule set map elem expr match left right op payload meta ct key protocol field family name hook prio policy type "
    "xt vmap data jump goto accept drop target range prefix addr len concat limit dnat reject handle".split()
)
JSON = st.recursive(WORDS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5), max_leaves=30)
RULE = st.fixed_dictionaries({
    "rule": st.fixed_dictionaries(
        {"family": st.just("ip"), "table": st.just("filter"), "chain": st.just("INPUT"), "expr": st.lists(JSON, max_size=4)})
})  # fmt: skip


@given(st.lists(RULE | JSON, max_size=5))
@example([{"chain": {"family": []}}])
@example([{"chain": {"name": "x"}}])
def test_no_rules_raise(rules: list[Any]) -> None:
    text = json.dumps({"nftables": [{"metainfo": {}}, CHAIN, *rules]})
    for table in LIVE:
        assert run(table, host(text)).reason[:14] != "not understood"


@given(st.text("-AINPUTjsdpm! :.0129*filternaCOMT\n\"'#", max_size=300))
def test_no_text_of_iptables_raises(text: str) -> None:
    for table in LIVE:
        assert run(table, legacy("filter", "*filter\n:INPUT DROP [0:0]\n" + text)).reason[:14] != "not understood"


@given(st.dictionaries(
    st.sampled_from([source.id for source in loaded.SOURCES]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200), st.sampled_from([0, 1, None])),
))  # fmt: skip
def test_garbage_yields_no_rows(evidence: Evidence) -> None:
    for table in LIVE:
        extracted = run(table, evidence)
        assert extracted.rows == () or table is POLICIES
        assert extracted.coverage is not Coverage.COMPLETE or policies(evidence) == ACCEPTED


needs_tools = pytest.mark.skipif(
    os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nft", "iptables-nft", "iptables-legacy"))),
    reason="needs root, and the packages nftables and iptables",
)


def real(commands: str) -> Evidence:
    """The evidence of a network namespace of its own, after these commands, by the sources' own commands."""
    asked = {
        "nft": loaded.NFT,
        "ip4": loaded.COMPAT["ip4"],
        "ip6": loaded.COMPAT["ip6"],
        "l4": loaded.LEGACY["ip4"],
        "l6": loaded.LEGACY["ip6"],
    }
    script = commands + "".join(f"\necho @{name}; {' '.join(source.args['argv'])}" for name, source in asked.items())
    script += f"\necho @names4; cat {FOUR}\necho @names6; cat {SIX}"
    done = subprocess.run(["unshare", "-n", "sh", "-ec", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    texts = {part.partition("\n")[0]: part.partition("\n")[2] for part in ("\n" + done.stdout).split("\n@")[1:]}
    found = {asked[name].id: ok(text) for name, text in texts.items() if name in asked}
    return host() | found | {loaded.NFT_COMPAT.id: ok(""), loaded.NAMES.id: names({"text": texts["names4"]}, {"text": texts["names6"]})}


@needs_tools
def test_the_real_nft_tells_what_was_loaded() -> None:
    evidence = real(f"ip link add eth0 type veth peer name other; nft -f {DATA}/native.nft")
    assert brief(OPENINGS, evidence) == brief(OPENINGS, NATIVE) and policies(evidence) == policies(NATIVE)
    assert all(run(table, evidence).coverage is Coverage.COMPLETE for table in LIVE)


@needs_tools
def test_the_real_nft_of_a_dormant_table() -> None:
    chain = "'{ type filter hook input priority 0; policy drop; }'"
    found = run(POLICIES, real(f"nft add table ip old '{{ flags dormant; }}'; nft add chain ip old in {chain}"))
    assert ("ip4", "input", "drop") not in found.rows  # either left out, or, by an nft that does not name the flag, nothing is told
    assert found.coverage is (Coverage.COMPLETE if found.rows else Coverage.NONE)


@needs_tools
def test_the_real_iptables_of_both_back_ends() -> None:
    evidence = real(
        f"iptables-nft-restore {DATA}/ufw-docker.ip4.save; iptables-legacy -P INPUT DROP; iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT;"
        "ip6tables-legacy -P FORWARD DROP; iptables-legacy -A OUTPUT -d 169.254.169.254 -m owner ! --uid-owner 0 -j REJECT"
    )
    assert all(run(table, evidence).coverage is Coverage.COMPLETE for table in LIVE)
    assert brief(OPENINGS, evidence) == ["tcp 22"]  # what both back ends let pass
    assert policies(evidence) == ACCEPTED | {("ip4", "input"): "drop", ("ip4", "forward"): "drop", ("ip6", "forward"): "drop"}
    assert brief(BLOCKS, evidence, direction="output") == ["any all to 169.254.169.254 if ! --uid-owner 0"]
    assert [row["port_first"] for row in rows_as_dicts(FORWARDS, run(FORWARDS, evidence))] == [8443, 8080]


@needs_tools
def test_asking_changes_nothing() -> None:
    save = "; ".join(" ".join(source.args["argv"]) for source in (*loaded.COMPAT.values(), *loaded.LEGACY.values()))
    evidence = real(f"{save}; {save}")
    assert json.loads(evidence[loaded.NFT.id].text)["nftables"][1:] == [] and policies(evidence) == ACCEPTED
    assert json.loads(evidence[loaded.NAMES.id].text)[FOUR]["text"] == ""
    assert all(run(table, evidence).coverage is Coverage.COMPLETE for table in LIVE)
