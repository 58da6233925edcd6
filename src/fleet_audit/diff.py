# SPDX-License-Identifier: Apache-2.0
"""What changed between two runs: findings and facts, and what cannot be compared, which is never called fixed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet_audit.facts import tables
from fleet_audit.findings import FINDING_COLUMNS
from fleet_audit.model import Severity
from fleet_audit.runs import Run
from fleet_audit.tables import Facts, read_rows

KINDS = {
    "new": "fails now, and did not", "newly-known": "fails now; before it was not known", "fixed": "failed, and is shown to hold now",
    "gone": "failed, and does not apply any more", "lost-sight": "failed, and is not known now", "open": "fails as before",
    "newly-unknown": "held, and is not known now", "seen-again": "was not known, and holds now",
    "not-compared": "of a host or check that only one of the runs has",
}  # fmt: skip
"""What may have become of a finding, or of a result that is not known."""
FACTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sockets": ("port", ("proto", "address", "port")), "nvidia_driver": ("GPU driver", ("loaded_version",)),
    "kernel_running": ("kernel", ("release",)), "gpus": ("GPU", ("uuid", "name", "vbios")),
    "ssh_authorized_keys": ("authorised key", ("user_name", "path", "fingerprint")), "ssh_host_keys": ("host key", ("path", "fingerprint")),
    "users": ("account", ("name", "uid")), "group_members": ("group member", ("group_name", "user_name")),
    "model_files": ("model file", ("folder", "path", "size_bytes", "changed_at")), "kernel_modules": ("kernel module", ("name",)),
    "bmc_users": ("BMC user", ("channel", "name", "enabled")),
}  # fmt: skip
"""Table -> what a row is called, and the columns that make it the one that it is."""
FACTS_CAP = 5_000
"""Changed rows of one table that are told of."""


@dataclass(frozen=True)
class Change:
    """What became of one finding, or of one result that is not known."""

    kind: str
    check: str
    host: str
    subject: str
    severity: Severity
    reason: str
    """As it is now, else as it was."""
    fingerprint: str
    waived: bool


@dataclass(frozen=True)
class FactChange:
    """A row of facts that came or went on a host of which the table was read whole both times."""

    host: str
    table: str
    what: str
    came: bool
    values: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """All that changed from run `before` to run `after`."""

    before: str
    after: str
    changes: tuple[Change, ...]
    facts: tuple[FactChange, ...]
    more_facts: int
    notes: tuple[str, ...]
    """What else is different between the runs, so that not all can be compared."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Kind -> how many; those of `open` too."""

    def of(self, hosts: Collection[str]) -> Difference:
        """What of it is about some hosts."""
        changes = tuple(c for c in self.changes if c.host in hosts)
        counts = Counter(c.kind for c in changes)
        return replace(
            self,
            changes=changes,
            facts=tuple(f for f in self.facts if f.host in hosts),
            more_facts=0,
            counts={kind: counts[kind] for kind in KINDS},
        )


@dataclass(frozen=True)
class _Side:
    """One run as it is compared."""

    run: Run
    results: dict[tuple[str, str], tuple[str, str, int]]
    """(check, host) -> outcome, reason, how many subjects failed."""
    findings: dict[tuple[str, str], dict[str, tuple[str, str, str, bool]]]
    """(check, host) -> fingerprint -> subject, reason, outcome, waived."""
    checks: dict[str, Mapping[str, Any]]
    silent: frozenset[str]

    def known(self, key: tuple[str, str]) -> bool:
        """Whether a result is there and determined."""
        return key in self.results and key[1] not in self.silent and self.results[key][0] not in ("unknown", "error")


def compare(before: Run, after: Run, *, facts: bool = True) -> Difference:
    """The difference of two evaluated runs. Raises `FleetAuditError` if one is broken."""
    old, new = _side(before), _side(after)
    changes = sorted(_changes(old, new), key=lambda c: (list(KINDS).index(c.kind), c.severity.rank, c.check, c.host, c.subject))
    counts = Counter(c.kind for c in changes)
    rows, more = _facts(old, new) if facts else ([], 0)
    return Difference(
        before.file.id, after.file.id, tuple(changes), tuple(rows), more, tuple(_notes(old, new)), {kind: counts[kind] for kind in KINDS}
    )


def _side(run: Run) -> _Side:
    rows = read_rows(run.path("results.parquet"), ["check_id", "host", "outcome", "reason", "failed"])
    results = {(c, h): (o, r, f) for c, h, o, r, f in rows}
    findings: dict[tuple[str, str], dict[str, tuple[str, str, str, bool]]] = defaultdict(dict)
    for c, h, subject, outcome, reason, fingerprint, waiver in read_rows(run.path("findings.parquet"), list(FINDING_COLUMNS)):
        findings[c, h][fingerprint] = (subject, reason, outcome, waiver is not None)
    checks = {c["id"]: c for c in run.document("checks.json")}
    return _Side(run, results, findings, checks, frozenset(n for n, h in run.file.hosts.items() if not h.answered))


def _changes(old: _Side, new: _Side) -> Iterable[Change]:
    # Of a result that was determined both times and never failed there is nothing to tell: that is most of them.
    told = {key for side in (old, new) for key, (outcome, _, _) in side.results.items() if outcome not in ("pass", "notapplicable")}
    for key in sorted(told):
        check, host = key
        shared = key in old.results and key in new.results
        side = new if key in new.results else old
        severity = Severity(side.checks[check]["severity"])
        was = {f: v for f, v in old.findings.get(key, {}).items() if v[2] == "fail"}
        now = {f: v for f, v in new.findings.get(key, {}).items() if v[2] == "fail"}
        if not shared:
            for fingerprint, (subject, reason, _, waived) in (was | now).items():
                yield Change("not-compared", check, host, subject, severity, reason, fingerprint, waived)
            continue
        for fingerprint, (subject, reason, _, waived) in now.items():
            kind = "open" if fingerprint in was else "new" if old.known(key) and _listed(old, key) else "newly-known"
            yield Change(kind, check, host, subject, severity, reason, fingerprint, waived)
        for fingerprint, (subject, reason, _, waived) in was.items():
            if fingerprint not in now:
                yield Change(_left(new, key, fingerprint), check, host, subject, severity, reason, fingerprint, waived)
        if not was and not now and old.known(key) != new.known(key):
            words = new.results[key][1] or old.results[key][1]
            yield Change("newly-unknown" if old.known(key) else "seen-again", check, host, "", severity, words, "", waived=False)


def _listed(side: _Side, key: tuple[str, str]) -> bool:
    """Whether all that failed of a result is listed: of very many subjects only some are."""
    return side.results[key][2] <= sum(outcome == "fail" for _, _, outcome, _ in side.findings.get(key, {}).values())


def _left(new: _Side, key: tuple[str, str], fingerprint: str) -> str:
    """What became of a failure that is not in the later run."""
    if not new.known(key) or not _listed(new, key) or fingerprint in new.findings.get(key, {}):
        return "lost-sight"
    return "gone" if new.results[key][0] == "notapplicable" else "fixed"


def _notes(old: _Side, new: _Side) -> Iterable[str]:
    one, other = old.run.file, new.run.file
    for word, left, right in (("profile", one.inputs.get("profile"), other.inputs.get("profile")), ("version", one.version, other.version)):
        if left != right:
            yield f"the {word} was {left}, and is {right}"
    if (one.inputs.get("policy") or "") != (other.inputs.get("policy") or ""):
        yield "the policy is another one"
    for word, left, right in (("host", set(one.hosts), set(other.hosts)), ("check", set(old.checks), set(new.checks))):
        for verb, names in (("came", sorted(right - left)), ("is no more there", sorted(left - right))):
            if names:
                yield (
                    f"{len(names)} {word}{'s' if len(names) > 1 else ''} {verb if len(names) == 1 or verb == 'came' else 'are no more there'}: "
                    + (", ".join(names[:5]) + (" and more" if len(names) > 5 else ""))
                )
    if dark := sorted(old.silent & new.silent):
        yield (
            f"{len(dark)} host{'s' if len(dark) > 1 else ''} answered neither time, so that nothing is known of "
            f"{'them' if len(dark) > 1 else 'it'}: {', '.join(dark[:5])}" + (" and more" if len(dark) > 5 else "")
        )
    still = sum(o in ("unknown", "error") and old.results.get(k, ("",))[0] in ("unknown", "error") and k[1] not in new.silent | old.silent
                for k, (o, _, _) in new.results.items())  # fmt: skip
    if still:
        yield f"{still:,} result{'s were' if still > 1 else ' was'} not known either time"
    changed = sorted(c for c in old.checks.keys() & new.checks.keys() if _rule(old.checks[c]) != _rule(new.checks[c]))
    if changed:
        yield (
            f"{len(changed)} check{'s' if len(changed) > 1 else ''} decide{'' if len(changed) > 1 else 's'} otherwise now: "
            + ", ".join(changed[:5])
            + (" and more" if len(changed) > 5 else "")
        )
    if other.as_of < one.as_of:
        yield "the later run measures ages at an earlier time: a clock went back, or --as-of was given"
    if one.evidence_of == other.evidence_of:
        yield "both runs decide the same evidence"
    if (days := (other.started_at - one.started_at).days) > 2:
        yield f"{days} days lie between them"


def _rule(check: Mapping[str, Any]) -> tuple[object, ...]:
    return check.get("query"), check.get("applies"), repr(check.get("params")), repr(check.get("group_params"))


def _facts(old: _Side, new: _Side) -> tuple[list[FactChange], int]:
    """Rows that came or went, of hosts and tables that were read whole both times."""
    found: list[FactChange] = []
    more = 0
    for name, (what, columns) in FACTS.items():
        if name not in tables() or not {f"facts/{name}.parquet"} <= old.run.file.files.keys() & new.run.file.files.keys():
            continue
        was, now = (_rows(side.run.facts(), name, columns) for side in (old, new))
        changed = [
            FactChange(host, name, what, came, values)
            for host in sorted(was.keys() & now.keys())
            for came, names in ((True, now[host] - was[host]), (False, was[host] - now[host]))
            for values in sorted(names)
        ]  # fmt: skip
        found += changed[:FACTS_CAP]
        more += max(0, len(changed) - FACTS_CAP)
    return found, more


def _rows(folder: Path, name: str, columns: Sequence[str]) -> dict[str, set[tuple[str, ...]]]:
    """{host: rows as texts} of the hosts of which the table is complete."""
    facts = Facts.load({name: tables()[name]}, folder)
    try:
        whole = {h for h, states in facts.coverage().items() if states.get(name, ("", ""))[0] == "complete"}
        found: dict[str, set[tuple[str, ...]]] = {host: set() for host in whole}
        there = {c.name for c in tables()[name].columns}
        chosen = ", ".join(f"{c}::VARCHAR" for c in columns if c in there)
        for host, *values in facts.connection.execute(f"SELECT host, {chosen} FROM {name}").fetchall():
            if host in whole:
                found[host].add(tuple("" if v is None else v for v in values))
        return found
    finally:
        facts.connection.close()
