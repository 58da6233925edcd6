# SPDX-License-Identifier: Apache-2.0
"""JSON for programs, by the published schema in `docs/reference/report.schema.json`."""

from __future__ import annotations

import json
from typing import Any

from fleet_audit.findings import Posture, Report
from fleet_audit.report.interface import Format

SCHEMA_VERSION = 4


def document(report: Report) -> dict[str, Any]:
    """The report as a JSON value."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run": {
            "id": report.id, "version": report.version, "started_at": report.started_at.isoformat(),
            "as_of": report.as_of.isoformat(), "program_sha256": report.program, "evidence_of": report.evidence_of,
            "inputs": dict(report.inputs),
        },
        "posture": posture(report.posture()),
        "breakdown": {
            kind: [{"name": name, **posture(value)} for name, value in values] for kind, values in report.breakdown().items()
        },
        "waivers": [
            {"check": w.check, "owner": w.owner, "reason": w.reason, "expires": w.expires, "hosts": list(w.hosts), "groups": list(w.groups),
             "subject": w.subject, "expired": w.expired, "expires_soon": w.soon, "accepted": w.accepted,
             "idle": w.idle} for w in report.waivers
        ],
        "exclusions": [{"check": e.check, "reason": e.reason} for e in report.exclusions],
        "reference_tables": [{"name": r.name, "as_of": r.as_of, "stale": r.stale} for r in report.references],
        "since": None if report.since is None else {
            "run": report.since.before, "counts": dict(report.since.counts), "notes": list(report.since.notes),
            "changes": [
                {"kind": c.kind, "check": c.check, "host": c.host, "subject": c.subject, "severity": str(c.severity), "reason": c.reason,
                 "fingerprint": c.fingerprint, "waived": c.waived} for c in report.since.changes if c.kind != "open"
            ],
            "facts": [{"host": f.host, "what": f.what, "came": f.came, "values": list(f.values)} for f in report.since.facts],
        },
        "open_failures": {str(s): n for s, n in report.open_failures().items()},
        "not_known": [
            {"reason": c.reason, "results": c.results, "hosts": c.hosts, "checks": c.checks, "no_answer": c.silent} for c in report.causes()
        ],
        "actions": [
            {"title": a.title, "role": a.role, "disruption": a.disruption, "checks": list(a.checks), "hosts": a.hosts,
             "failures": a.failures, "critical": a.critical, "weight": a.weight} for a in report.actions()
        ],
        "levels": [
            {"kind": x.kind, "group": x.group, "levels": [{"value": v.value, "hosts": v.hosts, "failing": v.failing} for v in x.levels],
             "not_known": x.not_known, "no_answer": x.no_answer} for x in report.landscape.levels
        ],
        "ports": [
            {"port": p.port, "names": list(p.names), "groups": dict(p.groups), "hosts": p.hosts, "open_login": p.open_login,
             "login_unknown": p.login_unknown} for p in report.landscape.ports
        ],
        "confidential": [
            {"technology": r.technology, "side": r.side, "rung": r.rung, "missing": r.missing, "hosts": list(r.hosts)}
            for r in report.landscape.rungs
        ],
        "vulnerabilities": [
            {"title": a.title, "kind": a.kind, "hosts": sorted(a.hosts), "reasons": a.reasons, "cves": dict(sorted(a.cves.items())),
             "exploited": sorted(a.exploited), "likely": sorted(a.likely), "listens": sorted(a.exposed)} for a in report.landscape.vulnerabilities
        ],
        "vulnerabilities_not_whole": [{"table": t, "hosts": n, "reason": why} for t, n, why in report.landscape.gaps],
        "hosts": [
            {"name": h.name, "groups": h.entry.groups, "expected": h.entry.expected, "reach": h.entry.reach, "detail": h.entry.detail,
             "answered": h.entry.answered, "privileged": h.entry.privileged, "transport": h.entry.transport, "os": h.os,
             "kernel": h.kernel, "sources": dict(h.sources),
             "read_at": h.entry.read_at.isoformat() if h.entry.read_at else None, "seconds": h.entry.seconds, "costs": h.entry.costs,
             "notes": h.entry.notes} for h in report.hosts
        ],
        "checks": [
            {"id": c.id, "title": c.title, "area": c.area, "severity": str(c.severity), "surface": list(c.surface),
             "rationale": c.rationale, "fix": c.fix, "impact": c.impact, "controls": {k: list(v) for k, v in c.controls.items()},
             "references": list(c.references), "params": dict(c.params),
             "group_params": {g: dict(p) for g, p in c.group_params.items()}, "tables": list(c.tables), "sources": list(c.sources),
             "role": c.role, "disruption": c.disruption} for c in report.checks
        ],
        "results": [
            {"check": r.check, "host": r.host, "outcome": str(r.outcome), "reason": r.reason, "subjects": r.subjects,
             "failed": r.failed, "undetermined": r.undetermined, "waived": r.waived} for r in report.results
        ],
        "findings": [
            {"check": f.check, "host": f.host, "subject": f.subject, "outcome": str(f.outcome), "reason": f.reason,
             "fingerprint": f.fingerprint, "waiver": f.waiver} for f in report.findings
        ],
    }  # fmt: skip


def posture(value: Posture) -> dict[str, Any]:
    """A posture as a JSON value; shares in per cent, null if nothing was expected."""
    return {
        "expected": value.expected, "pass": value.passed, "fail": value.failed, "unknown": value.unknown, "error": value.error,
        "no_answer": value.no_answer, "notapplicable": value.notapplicable, "waived": value.waived,
        "at_least": value.at_least, "at_most": value.at_most,
    }  # fmt: skip


def render(report: Report) -> bytes:
    """UTF-8 JSON with sorted keys; every control character is escaped by JSON itself."""
    return json.dumps(document(report), sort_keys=True, indent=1).encode() + b"\n"


FORMAT = Format("json", render)
