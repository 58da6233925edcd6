# SPDX-License-Identifier: Apache-2.0
"""SARIF 2.1.0 (OASIS): a rule for each check, a result for each finding, notifications for what broke and for hosts without an answer.

What is not known is `review`, never `pass` and never left out; only hosts without an answer have no results.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any
from urllib.parse import quote

from fleet_audit.findings import CheckView, Report
from fleet_audit.model import Finding, Outcome, Result, Severity
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean

LEVELS = {Severity.CRITICAL: "error", Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFO: "note"}
KINDS = {
    Outcome.PASS: "pass", Outcome.FAIL: "fail", Outcome.UNKNOWN: "review", Outcome.ERROR: "review", Outcome.NOTAPPLICABLE: "notApplicable",
}  # fmt: skip
SCORES = {Severity.CRITICAL: "9.5", Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "3.0", Severity.INFO: "0.0"}
"""`security-severity`, by which code hosting sites sort; the middle of each band of CVSS."""

_ADDRESS = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?([/?][^#]*)?(#[^#]*)?")


def render(report: Report) -> bytes:
    """One run with all results."""
    places = {c.id: n for n, c in enumerate(report.checks)}
    checks = {c.id: c for c in report.checks}
    findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        findings[finding.check, finding.host].append(finding)
    results = [
        _result(report, checks[result.check], places[result.check], result, finding)
        for result in report.results if result.host not in report.silent
        for finding in findings.get((result.check, result.host), (None,))
    ]  # fmt: skip
    driver = {
        "name": "fleet-audit",
        "version": report.version,
        "semanticVersion": report.version,
        "rules": [_rule(c) for c in report.checks],
    }
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": clean(f"fleet-audit/{report.id}")},
        "invocations": [{
            "startTimeUtc": f"{report.started_at:%Y-%m-%dT%H:%M:%SZ}", "executionSuccessful": len(report.silent) < len(report.hosts),
            "toolExecutionNotifications": _notifications(report),
        }],
        "originalUriBaseIds": {"HOSTS": {"description": {"text": "Names of the inventory's hosts"}}},
        "columnKind": "unicodeCodePoints", "results": results,
    }  # fmt: skip
    document = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [run]}
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _rule(check: CheckView) -> dict[str, Any]:
    controls = (f"{framework} {n}" for framework, numbers in sorted(check.controls.items()) for n in numbers)
    rule = {
        "id": check.id, "name": check.id, "shortDescription": {"text": _text(check.title)},
        "fullDescription": {"text": _text(" ".join(check.rationale.split()))}, "help": {"text": _text(" ".join(check.fix.split()))},
        "defaultConfiguration": {"level": LEVELS[check.severity]},
        "properties": {
            "tags": list(dict.fromkeys(clean(t, 300) for t in ("security", check.area, *check.surface, *controls))),  # each once: the schema
            "security-severity": SCORES[check.severity], "severity": str(check.severity),
        },
    }  # fmt: skip
    addresses = (quote(clean(r.split()[0]), safe=":/?#@!$&'()*+,;=%~") for r in check.references if r.startswith("https://"))
    address = next((a for a in addresses if _ADDRESS.fullmatch(a)), None)
    return {**rule, "helpUri": address} if address else rule


def _text(text: str, limit: int = 4000) -> str:
    """A plain text message of SARIF, in which `[text](address)` would be a link and `{0}` a placeholder."""
    return clean(text, limit).replace("](", "] (").replace("{", "{{").replace("}", "}}")


def _place(host: str, subject: str) -> list[dict[str, Any]]:
    name = clean(subject or host, 300)
    return [{
        "physicalLocation": {"artifactLocation": {"uri": quote(clean(host), safe=""), "uriBaseId": "HOSTS"}},
        "logicalLocations": [{"name": name, "fullyQualifiedName": clean(f"{host}/{subject}" if subject else host, 500), "kind": "resource"}],
    }]  # fmt: skip


def _result(report: Report, check: CheckView, place: int, result: Result, finding: Finding | None) -> dict[str, Any]:
    outcome = finding.outcome if finding else result.outcome
    reason = (finding.reason if finding else result.reason) or {Outcome.PASS: "It holds."}.get(outcome, "No reason given.")
    found: dict[str, Any] = {
        "ruleId": check.id, "ruleIndex": place, "kind": KINDS[outcome], "level": LEVELS[check.severity] if outcome is Outcome.FAIL else "none",
        "message": {"text": _text(f"{result.host}: {reason}")}, "locations": _place(result.host, finding.subject if finding else ""),
        "properties": {"outcome": str(outcome)},
    }  # fmt: skip
    if finding:
        found["partialFingerprints"] = {"fleetAudit/v1": finding.fingerprint}
        if finding.waiver is not None:
            waiver = report.waivers[finding.waiver]
            why = f"{waiver.reason} ({waiver.owner}, until {waiver.expires})"
            found["suppressions"] = [{
                "kind": "external", "status": "accepted", "justification": clean(why, 1000),
                "properties": {"owner": clean(waiver.owner, 300), "expires": waiver.expires},
            }]  # fmt: skip
    return found


def _notifications(report: Report) -> list[dict[str, Any]]:
    """Hosts without an answer, hosts of which a part came back, and checks that broke."""
    told = [
        {"level": "warning" if h.entry.answered else "error", "descriptor": {"id": "host-partly-read" if h.entry.answered else "host-without-answer"},
         "message": {"text": _text(f"{h.name}: {h.entry.reach}: {h.entry.detail}", 1000)}, "locations": _place(h.name, "")}
        for h in report.hosts if h.entry.reach != "ok" or not h.entry.answered
    ]  # fmt: skip
    broken = [r for r in report.results if r.outcome is Outcome.ERROR]
    return told + [
        {"level": "error", "descriptor": {"id": "check-broke"}, "associatedRule": {"id": r.check},
         "message": {"text": _text(f"{r.check} on {r.host}: {r.reason}", 1000)}, "locations": _place(r.host, "")} for r in broken
    ]  # fmt: skip


FORMAT = Format("sarif", render)
