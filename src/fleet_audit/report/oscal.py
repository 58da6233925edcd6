# SPDX-License-Identifier: Apache-2.0
"""OSCAL assessment results (NIST): observations for each check and outcome, findings for controls, risks for failures.

A control is `satisfied` only where every expected result of its checks was shown to pass. One of which something is not
known, and nothing fails, has no finding: its observations say what is missing. Identifiers are made from what they
name, so that the same run gives the same document.
"""

from __future__ import annotations

import json
import re
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from fleet_audit.findings import CheckView, Report
from fleet_audit.model import CheckId, HostName, Result
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean
from fleet_audit.waivers import Waiver

VERSION = "1.1.3"
FRAMEWORK = "nist-800-53"
"""The one framework whose controls OSCAL's own catalogue names."""
_SPACE = uuid.UUID("5f1c6a0e-3c1b-5c0f-9d7e-1a2b3c4d5e6f")
_CONTROL = re.compile(r"([A-Z]{2})-([0-9]+)(?:\(([0-9]+)\))?")


def control_id(text: str) -> str | None:
    """`AC-6(2)` as OSCAL's catalogue writes it, `ac-6.2`; None for what is no control of NIST 800-53."""
    match = _CONTROL.fullmatch(text)
    return f"{match[1].lower()}-{match[2]}" + (f".{match[3]}" if match[3] else "") if match else None


def render(report: Report) -> bytes:
    """The document as JSON."""

    def name(*parts: str) -> str:
        return str(uuid.uuid5(_SPACE, "\0".join((report.id, *parts)).encode("utf-8", "backslashreplace").decode()))

    started = _time(report.started_at)
    by_check: dict[CheckId, list[Result]] = defaultdict(list)
    for result in report.results:
        by_check[result.check].append(result)
    accepted: dict[CheckId, set[int]] = defaultdict(set)
    for finding in report.findings:
        if finding.waiver is not None:
            accepted[finding.check].add(finding.waiver)
    observations: list[dict[str, Any]] = []
    risks: list[dict[str, Any]] = []
    of_check: dict[CheckId, list[str]] = {}
    for check in report.checks:
        made = list(_observations(report, check, by_check[check.id], name))
        observations += made
        of_check[check.id] = [o["uuid"] for o in made]
        risks += _risks(report, check, by_check[check.id], [report.waivers[n] for n in sorted(accepted[check.id])], name)
    controls: dict[str, list[CheckView]] = defaultdict(list)
    for check in report.checks:
        for number in check.controls.get(FRAMEWORK, ()):
            if found := control_id(number):
                controls[found].append(check)
    chosen: dict[str, Any] = {"include-controls": [{"control-id": c} for c in sorted(controls)]} if controls else {"include-all": {}}
    value: dict[str, Any] = {
        "uuid": name("result"), "title": f"fleet-audit run {clean(report.id)}",
        "description": f"{len(report.checks)} checks on {len(report.hosts)} hosts, of which {len(report.silent)} did not answer.",
        "start": started, "end": started, "reviewed-controls": {"control-selections": [chosen]},
    }  # fmt: skip
    items = [{"uuid": name("host", h.name), "description": clean(h.name), "props": [_prop("reach", h.entry.reach)]} for h in report.hosts]
    lists = {"observations": observations, "risks": risks, "findings": list(_findings(report, controls, by_check, of_check, name))}
    value |= {key: found for key, found in lists.items() if found}  # the format knows no empty list
    if items:
        value["local-definitions"] = {"inventory-items": items}
    if report.exclusions:
        value["remarks"] = clean("Left out by the policy: " + "; ".join(f"{e.check} ({e.reason})" for e in report.exclusions))
    plan = name("plan")
    document = {"assessment-results": {
        "uuid": name("document"),
        "metadata": {"title": "fleet-audit", "last-modified": started, "version": clean(report.id), "oscal-version": VERSION},
        "import-ap": {"href": f"#{plan}"}, "results": [value],
        "back-matter": {"resources": [{"uuid": plan, "title": "The checks and the policy of the run"}]},
    }}  # fmt: skip
    return json.dumps(document, sort_keys=True, indent=1).encode() + b"\n"


def _time(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%S}+00:00"


def _prop(key: str, value: str) -> dict[str, str]:
    return {"name": key, "value": clean(value, 500) or "none", "ns": "https://fleet-audit.invalid/ns/oscal"}


def _word(report: Report, result: Result) -> str:
    if result.host in report.silent:
        return "no-answer"
    return "waived" if result.waived else str(result.outcome)


def _observations(report: Report, check: CheckView, results: Sequence[Result], name: Any) -> Iterable[dict[str, Any]]:
    """One for each outcome that some host has."""
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[_word(report, result)].append(result)
    for word, found in sorted(groups.items()):
        reasons = sorted({clean(r.reason, 300) for r in found if r.reason})[:20]
        yield {
            "uuid": name("observation", check.id, word), "title": f"{check.id}: {word}",
            "description": clean(check.title) + (". " + "; ".join(reasons) if reasons else ""), "methods": ["TEST"], "types": ["finding"],
            "collected": _time(report.as_of),
            "props": [_prop("check", check.id), _prop("outcome", word), _prop("severity", str(check.severity)), _prop("hosts", str(len(found)))],
            "subjects": [{"subject-uuid": name("host", r.host), "type": "inventory-item", "title": clean(r.host)} for r in found],
            "remarks": {"unknown": "No verdict: it could not be determined.", "error": "No verdict: the check broke.",
                        "no-answer": "No verdict: the hosts did not answer.", "notapplicable": "The hosts lack what the check is about.",
                        "waived": "It fails, and the policy accepts that for a while."}.get(word, "It was decided from evidence of the hosts."),
        }  # fmt: skip


def _risks(report: Report, check: CheckView, results: Sequence[Result], waivers: Sequence[Waiver], name: Any) -> Iterable[dict[str, Any]]:
    for word, status in (("fail", "open"), ("waived", "deviation-approved")):
        hosts: list[HostName] = [r.host for r in results if _word(report, r) == word]
        if hosts:
            owners = "; ".join(f"{w.reason} ({w.owner}, until {w.expires})" for w in waivers if word == "waived")
            yield {
                "uuid": name("risk", check.id, word), "title": clean(check.title), "description": clean(" ".join(check.rationale.split())),
                "statement": clean(f"It does not hold on {len(hosts)} hosts. {owners}".strip(), 4000), "status": status,
                "related-observations": [{"observation-uuid": name("observation", check.id, word)}],
            }  # fmt: skip


def _findings(
    report: Report,
    controls: dict[str, list[CheckView]],
    by_check: dict[CheckId, list[Result]],
    of_check: dict[CheckId, list[str]],
    name: Any,
) -> Iterable[dict[str, Any]]:
    """A verdict on a control where there is one."""
    for control, checks in sorted(controls.items()):
        posture = report.posture(r for c in checks for r in by_check[c.id])
        if not posture.failed and (posture.not_known or not posture.passed):
            continue
        finding = {
            "uuid": name("finding", control), "title": f"Control {control}",
            "description": f"{posture.passed} of {posture.expected} expected results pass, {posture.failed} fail, {posture.not_known} are not known.",
            "target": {"type": "objective-id", "target-id": control, "status": {"state": "not-satisfied" if posture.failed else "satisfied"}},
            "related-observations": [{"observation-uuid": o} for c in checks for o in of_check[c.id]],
        }  # fmt: skip
        risks = [
            {"risk-uuid": name("risk", c.id, word)}
            for c in checks
            for word in ("fail", "waived")
            if any(_word(report, r) == word for r in by_check[c.id])
        ]
        yield {**finding, "related-risks": risks} if risks else finding


FORMAT = Format("oscal.json", render)
