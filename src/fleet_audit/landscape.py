# SPDX-License-Identifier: Apache-2.0
"""What the facts of a run show of the fleet beside results: levels, open ports, confidential computing, vulnerabilities.

Nothing here is judged: a map shows what is there, on how many hosts it is not known, and what a check said of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet_audit.advisories import matching, priorities
from fleet_audit.facts import tables
from fleet_audit.model import HostName, Outcome, Result
from fleet_audit.tables import Facts

PORTS = 60
"""Open ports that a map shows, those on most hosts first."""
ACTIONS = 200
"""Actions for vulnerabilities that a report shows."""
NO_GROUP = "no group"


@dataclass(frozen=True)
class Kind:
    """Something that has a version on each host."""

    title: str
    table: str
    query: str
    """SELECT host, value."""
    checks: tuple[str, ...]
    """A host that fails one of these has a level that is too low."""


KINDS = (
    Kind("Operating system", "os", "SELECT host, coalesce(name, id) FROM os", ("os-release-supported",)),
    Kind("Kernel", "kernel_running", "SELECT host, release FROM kernel_running",
         ("kernel-newest-installed-runs", "kernel-update-installed", "kernel-build-is-installed-one")),
    Kind("NVIDIA driver", "nvidia_driver", "SELECT host, loaded_version FROM nvidia_driver WHERE loaded_version IS NOT NULL",
         ("nvidia-driver-minimum", "nvidia-driver-branch-supported")),
    Kind("VBIOS", "gpus", "SELECT host, coalesce(name, 'GPU') || ' ' || vbios FROM gpus", ("gpu-vbios-uniform", "vbios-at-site-minimum")),
    Kind("BIOS", "dmi", "SELECT host, coalesce(product_name || ' ', '') || bios_version FROM dmi", ("bios-at-site-minimum",)),
    Kind("BMC firmware", "bmc_firmware", "SELECT host, coalesce(manufacturer || ' ', '') || firmware FROM bmc_firmware",
         ("bmc-firmware-at-site-minimum",)),
    Kind("NIC firmware", "nic_firmware",
         "SELECT host, coalesce(hca_type, driver, device) || ' ' || firmware FROM nic_firmware WHERE driver IS NOT NULL",
         ("nic-firmware-at-site-minimum",)),
)  # fmt: skip


@dataclass(frozen=True)
class Level:
    """Hosts of a group that have the same value."""

    value: str
    hosts: int
    failing: int
    """Those of them on which a check of levels fails."""


@dataclass(frozen=True)
class Levels:
    """The levels of one kind in one group; hosts that lack the thing count nowhere."""

    kind: str
    group: str
    levels: tuple[Level, ...]
    """Those on most hosts first."""
    not_known: int
    no_answer: int


@dataclass(frozen=True)
class Port:
    """A port that is open beyond the loopback, with the hosts of each group on which it is."""

    port: str
    """Such as 22/tcp."""
    names: tuple[str, ...]
    """Services and programs that have it."""
    groups: Mapping[str, int]
    hosts: int
    open_login: int
    """Hosts on which the service is shown to ask for no login."""
    login_unknown: int
    """Hosts on which an ML service has it of which that is not known."""


@dataclass(frozen=True)
class Rung:
    """Hosts that are equally far with confidential computing."""

    technology: str
    """tdx, sgx, sev, sev-es, sev-snp, or gpu."""
    side: str
    rung: str
    """absent, capable, enabled, active; `not known` where none is shown."""
    missing: str
    """What the next rung needs, in the words of the facts."""
    hosts: tuple[HostName, ...]


@dataclass(frozen=True)
class Landscape:
    """All maps of a run."""

    levels: tuple[Levels, ...] = ()
    ports: tuple[Port, ...] = ()
    more_ports: int = 0
    ports_unread: Mapping[str, int] | None = None
    """Group -> hosts whose sockets were not all read."""
    rungs: tuple[Rung, ...] = ()
    vulnerabilities: tuple[priorities.Action, ...] = ()
    more_vulnerabilities: int = 0
    gaps: tuple[tuple[str, int, str], ...] = ()
    """(table of vulnerabilities, hosts of which it is not whole, a reason)."""


def load(
    folder: Path, groups: Mapping[HostName, Sequence[str]], silent: frozenset[HostName], results: Iterable[Result], *, part: bool = False
) -> Landscape:
    """The maps of a run's facts; hosts that did not answer are counted apart. With `part` the run has other hosts too."""
    names = (
        {kind.table for kind in KINDS}
        | {"sockets", "socket_owners", "ml_services", "confidential", "gpu_confidential"}
        | {*matching.TABLES, *priorities.BESIDE}
    )
    known = {name: tables()[name] for name in sorted(names) if (folder / f"{name}.parquet").exists()}
    facts = Facts.load(known, folder, hosts=sorted(groups) if part else None)
    try:
        of_host = primary(groups)
        states = facts.coverage()
        whole = {name: {h for h in groups if states.get(h, {}).get(name, ("", ""))[0] == "complete"} for name in known}
        failing: dict[HostName, set[str]] = defaultdict(set)
        for result in results:
            if result.outcome is Outcome.FAIL:
                failing[result.host].add(result.check)
        ports, more = _ports(facts, of_host) if "sockets" in known else ((), 0)
        unread = (
            Counter(of_host[h] for h in groups if h not in whole.get("sockets", ()) and h not in silent) if "sockets" in known else None
        )
        actions = priorities.actions(facts)
        return Landscape(
            tuple(found for kind in KINDS if kind.table in known for found in _levels(facts, kind, of_host, whole[kind.table], silent, failing)),
            ports, more, unread, _rungs(facts, groups, whole, silent), tuple(actions[:ACTIONS]), max(0, len(actions) - ACTIONS),
            tuple(_gaps(states, groups)),
        )  # fmt: skip
    finally:
        facts.connection.close()


def primary(groups: Mapping[HostName, Sequence[str]]) -> dict[HostName, str]:
    """The group in which a host is shown where it counts once: its smallest."""
    sizes = Counter(group for names in groups.values() for group in names)
    return {host: min(names, key=lambda g: (sizes[g], g)) if names else NO_GROUP for host, names in groups.items()}


def _levels(
    facts: Facts, kind: Kind, of_host: Mapping[HostName, str], whole: set[HostName], silent: frozenset[HostName],
    failing: Mapping[HostName, set[str]],
) -> Iterable[Levels]:  # fmt: skip
    values: dict[HostName, set[str]] = defaultdict(set)
    gaps: set[HostName] = set()
    for host, value in facts.connection.execute(kind.query).fetchall():
        if value is None:
            gaps.add(host)
        else:
            values[host].add(value)
    for group in sorted(set(of_host.values())):
        hosts = [h for h, name in of_host.items() if name == group]
        unknown = sum(h not in silent and (h in gaps or h not in whole) and h not in values for h in hosts)
        counts: Counter[str] = Counter()
        low: Counter[str] = Counter()
        for host in hosts:
            if found := values.get(host):
                value = " + ".join(sorted(found))
                counts[value] += 1
                low[value] += any(check in failing.get(host, ()) for check in kind.checks)
        levels = sorted((Level(value, n, low[value]) for value, n in counts.items()), key=lambda x: (-x.hosts, x.value))
        if levels or unknown:
            yield Levels(kind.title, group, tuple(levels), unknown, sum(h in silent for h in hosts))


_OPEN = "SELECT DISTINCT host, port || '/' || proto AS p FROM sockets WHERE scope NOT IN ('loopback')"


def _ports(facts: Facts, of_host: Mapping[HostName, str]) -> tuple[tuple[Port, ...], int]:
    run = facts.connection.execute
    hosts: dict[str, set[HostName]] = defaultdict(set)
    for host, port in run(_OPEN).fetchall():
        hosts[port].add(host)
    names: dict[str, Counter[str]] = defaultdict(Counter)
    if "socket_owners" in facts.tables:
        query = """SELECT port || '/' || proto, coalesce(process, CASE WHEN kernel THEN 'the kernel' END) AS name, count(DISTINCT host)
                   FROM socket_owners WHERE scope <> 'loopback' GROUP BY ALL HAVING name IS NOT NULL"""
        for port, name, n in run(query).fetchall():
            names[port][name] += n
    bare: dict[str, set[HostName]] = defaultdict(set)
    unsure: dict[str, set[HostName]] = defaultdict(set)
    if "ml_services" in facts.tables:
        query = "SELECT host, port || '/' || proto, name, auth FROM ml_services WHERE scope <> 'loopback' AND NOT namespaced"
        for host, port, name, auth in run(query).fetchall():
            names[port][name] += 1_000_000  # a service's name says more than a program's
            if auth is not True:
                (unsure if auth is None else bare)[port].add(host)
    found = [
        Port(
            port, tuple(name for name, _ in sorted(names[port].items(), key=lambda x: (-x[1], x[0]))[:3]),
            dict(sorted(Counter(of_host[h] for h in on if h in of_host).items())), len(on), len(bare[port]), len(unsure[port] - bare[port]),
        ) for port, on in hosts.items()
    ]  # fmt: skip
    found.sort(key=lambda p: (-p.open_login, -p.login_unknown, -p.hosts, int(p.port.partition("/")[0]), p.port))
    return tuple(found[:PORTS]), max(0, len(found) - PORTS)


def _gpu_rung(enabled: bool | None, devtools: bool | None, capable: bool | None, mode: str | None) -> tuple[str, str]:
    """How far a node's GPUs are, and what is missing."""
    if enabled or mode in ("protected-pcie", "nvle"):
        return (
            ("active", "attestation, which only a verifier can do")
            if devtools is False
            else ("enabled", "development tools are let in, or may be")
        )
    if enabled is None:
        return "not known", "the driver does not tell"
    return ("capable", "confidential computing is off") if capable else ("absent" if capable is False else "not known", "")


def _rungs(
    facts: Facts, groups: Mapping[HostName, Sequence[str]], whole: Mapping[str, set[HostName]], silent: frozenset[HostName]
) -> tuple[Rung, ...]:
    found: dict[tuple[str, str, str, str], list[HostName]] = defaultdict(list)
    if "confidential" in facts.tables:
        for host, technology, side, rung, missing in facts.connection.execute(
            "SELECT host, technology, side, rung, coalesce(missing, '') FROM confidential"
        ).fetchall():
            found[technology, side, rung or "not known", missing].append(host)
        for host in groups:
            if host not in whole["confidential"] and host not in silent:
                found["CPU", "not told", "not known", "its facts were not all read"].append(host)
    if "gpu_confidential" in facts.tables:
        query = "SELECT host, cc_enabled, devtools, gpu_capable, multi_gpu_mode FROM gpu_confidential"
        for host, enabled, devtools, capable, mode in facts.connection.execute(query).fetchall():
            rung, missing = _gpu_rung(enabled, devtools, capable, mode)
            found["gpu", "guest", rung, missing].append(host)
    order = {"active": 0, "enabled": 1, "capable": 2, "not known": 3, "absent": 4}
    rungs = [Rung(*key, tuple(sorted(set(hosts)))) for key, hosts in found.items()]
    return tuple(sorted(rungs, key=lambda r: (order.get(r.rung, 5), -len(r.hosts), r.technology, r.side, r.missing)))


def _gaps(states: Mapping[str, Mapping[str, tuple[str, str]]], groups: Mapping[HostName, Any]) -> Iterable[tuple[str, int, str]]:
    for name in matching.TABLES:
        found = [s.get(name, ("none", "not asked for")) for h in sorted(groups) for s in (states.get(h, {}),)]
        bad = [why for state, why in found if state != "complete"]
        if bad:
            yield name, len(bad), Counter(bad).most_common(1)[0][0]
