# SPDX-License-Identifier: Apache-2.0
"""Decides checks on facts: results for every selected host and check, and the findings behind them.

The SQL runs in a process of its own, whose limits are enforced from here. A check that breaks is
tried on halves of the hosts until those that break it stand alone; all others get the results that
they would have had without them.
"""

from __future__ import annotations

import hashlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet_audit.checkfile import Check, Parameter
from fleet_audit.facts import tables
from fleet_audit.model import CheckId, Finding, HostName, InternalError, Outcome, Result
from fleet_audit.policy import Policy
from fleet_audit.references import LIST, LIST_COLUMNS, Reference

SECONDS_PER_CHECK = 20.0
START_SECONDS = 120.0
PROCESS_CAP = 4
RESULTS_PER_PROCESS = 50_000
"""Results that pay for a further process, which loads the facts again."""
ATTEMPT_CAP = 200
"""Evaluator processes that isolating broken hosts may take."""
ISOLATION_LIMITS = 6
"""Limits of a check that isolating broken hosts may take in all; a check that is too slow on every host would take hundreds."""


@dataclass(frozen=True)
class Evaluation:
    """All results and findings, sorted by check, host and subject."""

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]


@dataclass
class _Attempt:
    rows: dict[str, list[list[Any]]] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)


class Evaluator:
    """Runs checks over one run's facts."""

    def __init__(self, facts: Path, hosts: Mapping[HostName, Sequence[str]], checks: Sequence[Check], policy: Policy,
                 profile_params: Mapping[str, Mapping[str, Parameter]], as_of: datetime,
                 references: Mapping[str, Reference] | None = None, seconds_per_check: float = SECONDS_PER_CHECK) -> None:  # fmt: skip
        self.facts, self.hosts = facts, hosts
        self.checks = {check.id: check for check in checks}
        self.policy, self.profile_params, self.as_of = policy, profile_params, as_of
        self.references = references or {}
        self.stale = {name: words for name, r in self.references.items() if (words := too_old(r, as_of, policy.reference_days))}
        self.seconds, self.attempts, self.until = seconds_per_check, 0, float("inf")

    def evaluate(self) -> Evaluation:
        """Decide everything."""
        names = sorted(self.hosts)
        attempt = self._attempt(list(self.checks), names)
        errors: dict[str, dict[str, str]] = {}
        if attempt.broken:
            self.until = time.monotonic() + ISOLATION_LIMITS * self.seconds
            alone = self._attempt(list(attempt.broken), [])
            for name, reason in alone.broken.items():  # breaks without any host: the check itself is broken
                errors[name] = dict.fromkeys(names, reason)
                attempt.rows[name] = []
            rest = [name for name in attempt.broken if name not in alone.broken]
            for name, culprits in self._culprits(rest, names, attempt.broken).items():
                errors[name] = culprits
                again = self._attempt([name], [h for h in names if h not in culprits])
                if again.broken:
                    errors[name] = dict.fromkeys(names, again.broken[name])
                attempt.rows[name] = again.rows.get(name, [])
        return self._judge(attempt.rows, errors)

    def _culprits(self, checks: Sequence[str], hosts: Sequence[HostName], reasons: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """{check: {host that breaks it: reason}} by halving."""
        if not checks:
            return {}
        if len(hosts) == 1 or self.attempts > ATTEMPT_CAP or time.monotonic() > self.until:
            return {check: dict.fromkeys(hosts, reasons[check]) for check in checks}
        found: dict[str, dict[str, str]] = {check: {} for check in checks}
        middle = len(hosts) // 2
        for half in (hosts[:middle], hosts[middle:]):
            broken = self._attempt(checks, half).broken
            for check, hosts_of in self._culprits(list(broken), half, broken).items():
                found[check] |= hosts_of
        for check in checks:
            if not found[check]:  # only all of them together break it
                found[check] = dict.fromkeys(hosts, reasons[check])
        return found

    # One evaluator process

    def _attempt(self, checks: Sequence[str], hosts: Sequence[HostName]) -> _Attempt:
        """Run checks on some hosts, in as many processes as pay for themselves."""
        done = _Attempt()
        count = min(os.cpu_count() or 1, PROCESS_CAP, 1 + len(checks) * len(hosts) // RESULTS_PER_PROCESS)
        shares = [share for part in range(count) if (share := list(checks[part::count]))]
        if len(shares) == 1:
            self._share(shares[0], hosts, done)
            return done
        with ThreadPoolExecutor(len(shares)) as pool:
            for future in [pool.submit(self._share, share, hosts, done) for share in shares]:
                future.result()
        return done

    def _share(self, checks: Sequence[str], hosts: Sequence[HostName], done: _Attempt) -> None:
        """Run checks one after the other; a process that is killed over one of them is followed by another for the rest."""
        todo = list(checks)
        while todo:
            self.attempts += 1
            stuck = self._process(todo, hosts, done)
            todo = [name for name in todo if name not in done.rows and name not in done.broken]
            if stuck is not None and stuck in todo:
                done.broken[stuck] = f"over its limit of {self.seconds:g} s or of memory"
                todo.remove(stuck)
            elif todo and stuck is None:
                raise InternalError("the evaluator ended without an answer")

    def _process(self, checks: Sequence[str], hosts: Sequence[HostName], done: _Attempt) -> str | None:
        """One process; returns the check over which it was killed or died."""
        subset = None if len(hosts) == len(self.hosts) else list(hosts)
        chosen = [self.checks[CheckId(c)] for c in checks]
        needed = sorted({table for check in chosen for table in check.tables})
        request = {
            "facts": str(self.facts), "hosts": subset, "checks": [self._spec(check, hosts) for check in chosen],
            "tables": {name: [(c.name, c.type) for c in tables()[name].columns] for name in needed},
            "references": self._references(chosen),
        }  # fmt: skip
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "fleet_audit._evaluator"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdin and child.stdout and child.stderr
        try:
            try:
                child.stdin.write(json.dumps(request).encode())
                child.stdin.close()
            except BrokenPipeError:
                pass
            current: str | None = None
            for line in _lines(child.stdout.fileno(), START_SECONDS, self.seconds):
                answer = json.loads(line)
                if "begin" in answer:
                    current = answer["begin"]
                elif "error" in answer:
                    done.broken[answer["id"]] = answer["error"]
                elif "rows" in answer:
                    done.rows[answer["id"]] = answer["rows"]
                else:
                    return None
            child.kill()
            if current is None:
                words = child.stderr.read().decode(errors="replace").strip().splitlines()
                raise InternalError(f"the evaluator did not start: {words[-1] if words else 'no reason given'}")
            return current
        finally:
            child.kill()
            child.wait()
            child.stdout.close()
            child.stderr.close()

    def _references(self, chosen: Sequence[Check]) -> dict[str, Any]:
        """The reference tables that these checks read, and the table of all."""
        ages = [[name, r.as_of.isoformat(), name in self.stale] for name, r in sorted(self.references.items())]
        needed = sorted({name for check in chosen for name in check.references})
        return {LIST: {"columns": LIST_COLUMNS, "rows": ages}} | {name: self.references[name].for_evaluator() for name in needed}

    def _spec(self, check: Check, hosts: Sequence[HostName]) -> dict[str, Any]:
        return {**spec_of(check, self.stale), "sets": self._sets(check, hosts)}

    def _sets(self, check: Check, hosts: Sequence[HostName]) -> list[dict[str, Any]]:
        """Hosts grouped by the distinct values of the check's parameters; mostly one group."""
        groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
        alike: dict[tuple[str, ...], list[str]] = {}  # hosts of the same groups have the same values
        for host in hosts:
            names = tuple(self.hosts[host]) if check.file.scope == "host" else ()
            members = alike.get(names)
            if members is None:
                values = self._values(check, names)
                members = alike[names] = groups.setdefault(json.dumps(values, sort_keys=True), (values, []))[1]
            members.append(host)
        if not groups:
            groups[""] = (self._values(check, ()), [])
        found = []
        for values, members in groups.values():
            params = {**values, **check.hidden(values), "as_of": self.as_of.isoformat(sep=" ")}
            found.append(set_of(check, params, None if len(groups) == 1 else members))
        return found

    def _values(self, check: Check, groups: Sequence[str]) -> dict[str, Any]:
        """What its SQL may name for a host of these groups."""
        adapts = "workload" in check.query.bound | (check.applies.bound if check.applies else frozenset())
        return {**self.values(check, groups), **({"workload": self.policy.runs(groups)} if adapts else {})}

    def values(self, check: Check, groups: Sequence[str]) -> dict[str, Parameter]:
        """A check's parameters for a host of these groups: policy over profile over default."""
        defaults = dict(check.file.params) | dict(self.profile_params.get(check.id, {}))
        return self.policy.values(check.id, defaults, groups)

    # From rows to results

    def _judge(self, rows: Mapping[str, list[list[Any]]], errors: Mapping[str, Mapping[str, str]]) -> Evaluation:
        results, findings = [], []
        for name in sorted(self.checks):
            check = self.checks[name]
            by_host = {row[0]: row for row in rows.get(name, [])}
            for host in sorted(self.hosts):
                if host in errors.get(name, {}) or host not in by_host:
                    reason = errors.get(name, {}).get(host, "the evaluator gave no answer")
                    result = Result(check.id, host, Outcome.ERROR, f"the check broke on this host: {reason}")
                    subjects: list[list[Any]] = []
                else:
                    result, subjects = judge(check, host, by_host[host])
                results.append(result)
                findings += _findings(result, subjects)
        return Evaluation(tuple(results), tuple(findings))


def too_old(reference: Reference, as_of: datetime, maximum_days: int) -> str:
    """Why a reference table decides nothing at that time; empty if it is fresh enough."""
    if not reference.stale(as_of, maximum_days):
        return ""
    return f"the reference table {reference.name} is of {reference.as_of}, more than {maximum_days} days old"


def spec_of(check: Check, stale: Mapping[str, str]) -> dict[str, Any]:
    """What the evaluator needs to know of a check, without hosts and parameters; `stale`: why a reference table is too old."""
    applies = check.applies
    old = {name: stale[name] for name in sorted(check.references) if name in stale}
    return {
        "a_stale": next((why for name, why in old.items() if applies and name in applies.tables), ""),
        "q_stale": next((why for name, why in old.items() if name in check.query.tables), ""),
        "id": check.id, "query": check.query.text, "applies": applies.text if applies else None,
        "a_tables": sorted((applies.tables if applies else set()) & check.tables),
        "a_absence": sorted((applies.absence if applies else set()) & check.tables),
        "q_absence": sorted(check.query.absence & check.tables), "tables": sorted(check.tables),
    }  # fmt: skip


def set_of(check: Check, params: Mapping[str, Any], hosts: list[str] | None) -> dict[str, Any]:
    """Hosts that share the values of a check's parameters (None: all), and which of them each statement names."""
    return {
        "params": dict(params), "hosts": hosts, "query": sorted(check.query.bound),
        "applies": sorted(check.applies.bound) if check.applies else [],
    }  # fmt: skip


def judge(check: Check, host: HostName, row: Sequence[Any]) -> tuple[Result, list[list[Any]]]:
    """The result of one host from its row, with the subjects that are not a pass."""
    _, why, count, failed, null, gap, subjects = row
    first = subjects[0][2] or "no reason given" if subjects else ""
    if why == "applies":
        outcome, reason = Outcome.UNKNOWN, gap or "whether it applies could not be told"
    elif why == "notapplicable":
        outcome, reason = Outcome.NOTAPPLICABLE, "the host lacks what this check is about"
    elif why == "gap":
        outcome, reason = Outcome.UNKNOWN, gap or "a table was not read"
    elif why == "fail":
        null = null or int(bool(gap))  # what was not read may hold more
        outcome, reason = Outcome.FAIL, first + (f", and {failed - 1} more" if failed > 1 else "")
    elif why == "null":
        outcome, reason = Outcome.UNKNOWN, first + (f", and {null - 1} more" if null > 1 else "")
    elif why == "none":
        outcome = Outcome(check.file.none)
        reason = (check.file.none_because or "") if outcome is not Outcome.PASS else ""
    else:
        outcome, reason = Outcome.PASS, ""
    return Result(check.id, host, outcome, reason, count, failed, null), subjects


def fingerprint(check: str, host: str, subject: str) -> str:
    """Identity of a finding across runs."""
    return hashlib.sha256(f"{check}\0{host}\0{subject}".encode("utf-8", "backslashreplace")).hexdigest()[:32]


def _findings(result: Result, subjects: Iterable[Sequence[Any]]) -> list[Finding]:
    if result.outcome in (Outcome.PASS, Outcome.NOTAPPLICABLE):
        return []
    found: dict[str, Finding] = {}
    for passed, subject, reason in subjects:
        outcome = Outcome.FAIL if passed is False else Outcome.UNKNOWN
        name = subject if subject is not None else ""
        found.setdefault(
            name, Finding(result.check, result.host, name, outcome, reason or "no reason given",
                          fingerprint(result.check, result.host, name)),
        )  # fmt: skip
    if not found:
        found[""] = Finding(result.check, result.host, "", result.outcome, result.reason, fingerprint(result.check, result.host, ""))
    return list(found.values())


def _lines(fd: int, first: float, each: float) -> Iterable[bytes]:
    """Lines of a pipe until its end, or until one takes too long."""
    selector = selectors.DefaultSelector()
    selector.register(fd, selectors.EVENT_READ)
    buffer, deadline = bytearray(), time.monotonic() + first
    with selector:
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                return
            chunk = os.read(fd, 1 << 20)
            if not chunk:
                return
            *whole, rest = chunk.split(b"\n")  # of what came before it, none is looked at again
            for part in whole:
                yield bytes(buffer + part)
                buffer.clear()
                deadline = time.monotonic() + each
            buffer += rest
