# SPDX-License-Identifier: Apache-2.0
"""A first policy, written for a person to review: what there is to set, and what a run has seen.

Nothing that was seen is switched on: proposals are comments, each with the hosts that it was seen on.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from fleet_audit import sql
from fleet_audit.checkfile import Check
from fleet_audit.checks import Library
from fleet_audit.facts import tables
from fleet_audit.findings import Report
from fleet_audit.model import FleetAuditError, HostName, Outcome
from fleet_audit.report.text import clean, count
from fleet_audit.runs import Run
from fleet_audit.tables import DatabaseError, Facts

VALUES = 50
"""Values of one parameter that are proposed."""
HEAD = """# What is right for this fleet: `fleet-audit policy check` tells what is wrong with this file,
# `fleet-audit policy show HOST` what holds for a host and why.

# Which checks: {profiles}, or one of your own in a folder given with --checks.
profile: {profile}

# What the nodes run that hardening may break; checks adapt to it. Any of: {workloads}.
# workload: [enroot]

# Folders whose owners, modes, models and manifests are looked at. One on a network file system is walked by one host.
# data:
#   - {{path: /scratch/models, kind: models, on: login1}}

# Checks beside those of the profile, and checks that are not wanted anywhere, each with a reason.
# include: [some-check]
# exclude:
#   - {{check: some-check, reason: why it is not wanted here}}

# What is wrong and accepted for a while. The result stays; the exit status passes over it until the last day is over.
# waivers:
#   - {{check: some-check, owner: who answers for it, reason: why, expires: {expires}, groups: [lab]}}

# What must be the same on all hosts of a group: any column of any table (`fleet-audit facts list`).
# peers:
#   - {{table: packages, key: name, value: version, only: [openssl, openssh-server], groups: [train]}}

# Who is told of what changed (`fleet-audit notify`); the address stands in the environment or a file, never here.
# notify:
#   - {{name: oncall, env: ONCALL_ADDRESS, severity: critical}}

# Days after which a source of advisories decides nothing any more.
advisories: {{maximum_days: 30}}

# Days after which what was read of a host decides nothing any more.
evidence: {{maximum_days: 7}}

# Days after which reference tables (ends of support, minimum versions) are too old to be leaned on.
reference: {{maximum_days: 120}}

# Parameters of checks, for the fleet; `groups:` below has the same for the groups of the inventory.
params:
"""
TAIL = """
groups:
#  lab:
#    workload: [profiling]
#    params:
#      some-check: {some_parameter: 1}
"""


@dataclass(frozen=True)
class Seen:
    """A value that a run has seen for a parameter."""

    value: str
    hosts: tuple[str, ...]
    failing: bool
    """The check fails on one of these hosts for it, as things are."""


def learn(run: Run, report: Report, library: Library) -> dict[str, dict[str, list[Seen]]]:
    """{check: {parameter: values}} by the `learn` statements of the run's checks. Raises `FleetAuditError`."""
    found: dict[str, dict[str, list[Seen]]] = {}
    failures = {(r.check, r.host): r.failed for r in report.results if r.outcome is Outcome.FAIL}
    texts: dict[tuple[str, str], list[str]] = defaultdict(list)
    for finding in report.findings:
        if finding.outcome is Outcome.FAIL:
            texts[finding.check, finding.host].append(f"{finding.subject}\n{finding.reason}")
    for view in report.checks:
        check = library.checks.get(view.id)
        for parameter, statement in (check.file.learn if check else {}).items():
            hosts: dict[str, set[str]] = defaultdict(set)
            for host, value in _rows(run, statement):
                if value is not None:
                    hosts[str(value)].add(str(host))
            of_host: dict[str, set[str]] = defaultdict(set)
            for value, names in hosts.items():
                for name in names:
                    of_host[name].add(value)
            blamed = {
                name: _blamed(values, texts[view.id, name], failures[view.id, HostName(name)])
                for name, values in of_host.items() if (view.id, HostName(name)) in failures
            }  # fmt: skip
            found.setdefault(view.id, {})[parameter] = [
                Seen(value, tuple(sorted(names)), any(value in blamed.get(name, ()) for name in names))
                for value, names in sorted(hosts.items())
            ]
    return found


def _blamed(values: set[str], findings: list[str], failed: int) -> set[str]:
    """The values that a host's failing findings name; all of them where that cannot be told."""
    named = {value for value in values if any(re.search(rf"(?<![\w.-]){re.escape(value)}(?![\w-])", text) for text in findings)}
    return named if named and failed <= len(findings) else values


def _rows(run: Run, statement: str) -> list[tuple[object, ...]]:
    names = sql.parse(statement, types={}).tables & set(tables())
    facts = Facts.load({name: tables()[name] for name in sorted(names)}, run.facts())
    facts.connection.execute("SET max_execution_time=60000").fetchall()
    facts.lock()
    try:
        return facts.connection.execute(f"SELECT host, value FROM ({statement}) ORDER BY ALL").fetchall()
    except DatabaseError as error:
        raise FleetAuditError(str(error).splitlines()[0]) from None
    finally:
        facts.connection.close()


def text(
    library: Library, profile: str, workloads: Iterable[str], learned: Mapping[str, Mapping[str, list[Seen]]], report: Report | None
) -> str:
    """The policy as commented YAML."""
    from datetime import UTC, datetime

    expires = (datetime.now(UTC) + timedelta(days=90)).date()
    head = HEAD.format(profiles=", ".join(sorted(library.profiles)), profile=profile, workloads=", ".join(workloads), expires=expires)
    lines = []
    if report is not None:
        lines += [
            f"  # Proposals are what run {report.id} has seen, right or wrong: review each before you take its # away.",
            *_levels(report),
        ]
    for check in library.select(profile):
        if check.file.params:
            lines += _check(check, library.params(profile).get(check.id, {}), learned.get(check.id, {}))
    return head + "\n".join(lines) + "\n" + TAIL


def _check(check: Check, profile: Mapping[str, object], learned: Mapping[str, list[Seen]]) -> list[str]:
    lines = [f"  # {check.file.title}", f"  # {check.id}:"]
    for name, default in check.file.params.items():
        usual = json.dumps(profile.get(name, default), ensure_ascii=True)
        for seen in learned.get(name, [])[:VALUES]:
            hosts = f"{count(len(seen.hosts), 'host')}: {clean(', '.join(seen.hosts[:3]), 60)}"
            lines.append(
                f"  #     seen: {json.dumps(clean(seen.value), ensure_ascii=True)} on {hosts}{', FAILING NOW' if seen.failing else ''}"
            )
        if taken := [clean(seen.value) for seen in learned.get(name, [])[:VALUES] if not seen.failing]:
            lines.append(f"  #   {name}: {json.dumps(taken, ensure_ascii=True)}   # seen and not failing: review it; it is {usual} now")
        else:
            lines.append(f"  #   {name}: {usual}")
    return lines


def _levels(report: Report) -> list[str]:
    """Kernels that were seen, for those who set minimum levels."""
    kernels: dict[str, int] = defaultdict(int)
    for host in report.hosts:
        if host.kernel:
            kernels[clean(host.kernel, 80)] += 1
    return [f"  # seen: kernel {name} on {count(n, 'host')}" for name, n in sorted(kernels.items())]
