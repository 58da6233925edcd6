# SPDX-License-Identifier: Apache-2.0
"""The rule sets that the kernel holds, from nft and from both back ends of iptables, without loading anything."""

from __future__ import annotations

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread, describe, value
from fleet_audit.facts.firewall import iptables
from fleet_audit.facts.firewall.nft import Ruleset
from fleet_audit.facts.firewall.ruleset import Chain
from fleet_audit.facts.kernel import RELEASE
from fleet_audit.model import Source, SourceId, Status


def _ready(module: str) -> Source:
    """Whether a part of netfilter is there, so that to ask for its rules loads nothing."""
    return Source(
        SourceId(f"{module.replace('_', '-')}-loaded"),
        "command",
        {"argv": ["test", "-e", f"/sys/module/{module}", "-o", "!", "-e", "/proc/modules"]},
        f"Kernel documentation, ABI/stable/sysfs-module: exit 0, the module {module} is loaded, or this kernel can load none at all;"
        " 1, to ask for its rules might load it.",
    )


NF_TABLES, NFT_COMPAT = _ready("nf_tables"), _ready("nft_compat")
NFT = Source(
    SourceId("nft-ruleset"), "command", {"argv": ["nft", "-j", "list", "ruleset"]},
    "nft(8), libnftables-json(5): all tables, chains, rules and sets of this network namespace.",
    when_ok=NF_TABLES.id, needs_root=True, cap_bytes=16 << 20,
)  # fmt: skip
COMPAT = {
    family: Source(
        SourceId(f"{tool}-nft-save"), "command", {"argv": [f"{tool}-nft-save"]},
        "iptables-save(8), nf_tables back end: rules that iptables made, whose conditions nft's JSON leaves out.",
        when_ok=NFT_COMPAT.id, needs_root=True,
    )
    for family, tool in (("ip4", "iptables"), ("ip6", "ip6tables"))
}  # fmt: skip
NAMES = Source(
    SourceId("iptables-legacy-tables"), "files",
    {"globs": ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names", "/proc/net/protocols"]},
    "Kernel source, net/netfilter/x_tables.c: names of the tables of the legacy back end; no file where it is not loaded."
    " proc_net(5) protocols shows that /proc/net can be seen.",
    needs_root=True,
)  # fmt: skip
LEGACY = {
    family: Source(
        SourceId(f"{tool}-legacy-save"), "command", {"argv": [f"{tool}-legacy-save"]},
        "iptables-save(8), legacy back end; it looks only at tables that are in use.",
        when_exists=f"/proc/net/{names}", needs_root=True,
    )
    for family, tool, names in (("ip4", "iptables", "ip_tables_names"), ("ip6", "ip6tables", "ip6_tables_names"))
}  # fmt: skip
BUILTIN = Source(
    SourceId("builtin-nf-tables"), "files", {"globs": ["/lib/modules/*/modules.builtin"], "keep": ["kernel/net/netfilter/nf_tables.ko"]},
    "Kernel documentation, kbuild: modules.builtin lists what is built into the kernel; empty here: nf_tables is not.",
)  # fmt: skip
SOURCES = (NF_TABLES, NFT_COMPAT, NFT, *COMPAT.values(), NAMES, *LEGACY.values(), BUILTIN, RELEASE)


def unused(evidence: Bundle) -> bool:
    """Whether it is proved that nf_tables is not in the running kernel: neither loaded nor built in."""
    ready = evidence.item(NF_TABLES)
    if ready.status is not Status.FAILED or ready.exit != 1:
        return False
    entry = evidence.entries(BUILTIN).get(f"/lib/modules/{value(evidence.body(RELEASE))}/modules.builtin", {})
    return entry.get("text") == ""


def nft_chains(evidence: Bundle) -> list[Chain]:
    """The chains of nf_tables; those that iptables made, in the words of iptables-nft-save."""
    if evidence.item(NFT).status is Status.SKIPPED:
        if unused(evidence):
            return []
        raise Unread(f"{describe(NFT, evidence.item(NFT))}; nf_tables is not proved to be out of use")
    ruleset = Ruleset(evidence.body(NFT))
    found = [chain for chain in ruleset.chains.values() if chain.table not in ruleset.asleep]
    for family, word in (("ip4", "ip"), ("ip6", "ip6")):
        wanted = {table for table in ruleset.compat if table.startswith(f"{word} ")}
        if not wanted:
            continue
        try:
            told = iptables.chains_of(evidence.body(COMPAT[family]), family, "iptables")
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(f"{error}; nft leaves out conditions of iptables")
            continue
        missing = wanted - {f"{word} {chain.table.partition(' ')[2]}" for chain in told}
        if missing:
            evidence.gap(COMPAT[family], f"without {', '.join(sorted(missing))[:200]}")
        told = [chain for chain in told if f"{word} {chain.table.partition(' ')[2]}" in wanted]
        found = [chain for chain in found if chain.table not in wanted - missing] + told
    if strange := sorted(table for table in ruleset.compat if table.startswith("inet ")):
        evidence.gap(NFT, f"conditions of iptables in {', '.join(strange)[:200]}")
    return found


def legacy_chains(evidence: Bundle, family: str) -> list[Chain]:
    """The chains of the legacy back end for one family; none where it is not loaded or has no tables."""
    there = evidence.entries(NAMES)
    if "/proc/net/protocols" not in there:
        raise Unread(f"{NAMES.id}: /proc/net is not to be seen")
    path = f"/proc/net/{'ip' if family == 'ip4' else 'ip6'}_tables_names"
    document = evidence.document(NAMES)
    if document.get(path, {}).get("status", "") not in ("", Status.ABSENT):
        raise Unread(f"{NAMES.id}: {path} {document[path]['status']}")
    if not (names := there.get(path, {}).get("text", "").split()):
        return []
    found = iptables.chains_of(evidence.body(LEGACY[family]), family, "iptables-legacy")
    if missing := set(names) - {chain.table.partition(" ")[2] for chain in found}:
        evidence.gap(LEGACY[family], f"without the tables {', '.join(sorted(missing))[:200]}")
    for chain in found:
        chain.table = f"legacy-{chain.table}"  # both back ends may have a table of this name
    return found


def chains(evidence: Bundle) -> tuple[list[Chain], bool]:
    """All chains, and whether these are all; what is missing are gaps. Raises `Unread` where nothing was read."""
    before, found, read = len(evidence.gaps), [], 0
    for part in (nft_chains, lambda given: legacy_chains(given, "ip4"), lambda given: legacy_chains(given, "ip6")):
        try:
            found += part(evidence)
            read += 1
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))
    if not read or (not found and len(evidence.gaps) > before):
        raise Unread("; ".join(evidence.gaps[before : before + 3]))
    return found, len(evidence.gaps) == before
