# SPDX-License-Identifier: Apache-2.0
"""The published JSON Schema of the JSON report. It changes only by a new `schema_version`."""

from __future__ import annotations

from typing import Any

from fleet_audit.model import Outcome, Reach, Severity

_TEXT: dict[str, Any] = {"type": "string"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_MAYBE: dict[str, Any] = {"type": ["string", "null"]}
_TEXTS: dict[str, Any] = {"type": "array", "items": _TEXT}
_SHARE: dict[str, Any] = {"type": ["number", "null"], "minimum": 0, "maximum": 100}


def _object(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": sorted(properties), "additionalProperties": False}


def _list(**properties: Any) -> dict[str, Any]:
    return {"type": "array", "items": _object(**properties)}


def _one_of(words: Any, description: str) -> dict[str, Any]:
    return {"enum": [str(word) for word in words], "description": description}


_POSTURE: dict[str, Any] = {
    "expected": {**_COUNT, "description": "The denominator: all but notapplicable; results of silent hosts count"},
    "pass": _COUNT, "fail": _COUNT, "unknown": _COUNT, "error": _COUNT, "no_answer": _COUNT, "notapplicable": _COUNT,
    "waived": {**_COUNT, "description": "Those of `fail` that waivers accept"},
    "at_least": {**_SHARE, "description": "Per cent shown to pass; null if nothing was expected"},
    "at_most": {**_SHARE, "description": "Per cent not shown to fail; null if nothing was expected"},
}  # fmt: skip
SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "fleet-audit report",
    "description": "Every selected host and check has exactly one result, hosts without an answer included.",
    **_object(
        schema_version={"const": 4},
        run=_object(id=_TEXT, version=_TEXT, started_at=_TEXT, as_of=_TEXT, program_sha256=_TEXT, evidence_of=_TEXT, inputs={"type": "object"}),
        posture=_object(**_POSTURE),
        breakdown=_object(
            groups=_list(name=_TEXT, **_POSTURE), areas=_list(name=_TEXT, **_POSTURE), surface=_list(name=_TEXT, **_POSTURE),
            controls=_list(name=_TEXT, **_POSTURE),
        ),
        waivers=_list(
            check=_TEXT, owner=_TEXT, reason=_TEXT, expires=_TEXT, hosts=_TEXTS, groups=_TEXTS, subject=_MAYBE, expired={"type": "boolean"},
            expires_soon={"type": "boolean"}, accepted={**_COUNT, "description": "Findings that it accepts"},
            idle={**_TEXT, "description": "Why it accepts nothing, though it has not expired; else empty"},
        ),
        exclusions=_list(check=_TEXT, reason=_TEXT),
        reference_tables=_list(name=_TEXT, as_of=_TEXT, stale={"type": "boolean"}),
        since={"anyOf": [{"type": "null"}, _object(
            run=_TEXT, counts={"type": "object", "additionalProperties": _COUNT}, notes=_TEXTS,
            changes=_list(
                kind=_TEXT, check=_TEXT, host=_TEXT, subject=_TEXT, severity=_TEXT, reason=_TEXT, fingerprint=_TEXT, waived={"type": "boolean"},
            ),
            facts=_list(host=_TEXT, what=_TEXT, came={"type": "boolean"}, values=_TEXTS),
        )], "description": "What changed from an earlier run, where that was asked for"},
        open_failures=_object(**{str(s): _COUNT for s in Severity}),
        not_known=_list(reason=_TEXT, results=_COUNT, hosts=_COUNT, checks=_COUNT, no_answer={"type": "boolean"}),
        actions=_list(title=_TEXT, role=_MAYBE, disruption=_MAYBE, checks=_TEXTS, hosts=_COUNT, failures=_COUNT, critical=_COUNT, weight=_COUNT),
        levels=_list(
            kind=_TEXT, group=_TEXT, levels=_list(value=_TEXT, hosts=_COUNT, failing=_COUNT), not_known=_COUNT, no_answer=_COUNT,
        ),
        ports=_list(
            port=_TEXT, names=_TEXTS, groups={"type": "object", "additionalProperties": _COUNT}, hosts=_COUNT,
            open_login={**_COUNT, "description": "Hosts on which the service is shown to ask for no login"},
            login_unknown={**_COUNT, "description": "Hosts on which that is not known of an ML service"},
        ),
        confidential=_list(technology=_TEXT, side=_TEXT, rung=_TEXT, missing=_TEXT, hosts=_TEXTS),
        vulnerabilities=_list(
            title=_TEXT, kind=_TEXT, hosts=_TEXTS, reasons=_TEXT, cves={"type": "object", "additionalProperties": _TEXT}, exploited=_TEXTS,
            likely=_TEXTS, listens={**_TEXTS, "description": "Hosts on which a service of it listens beyond loopback"},
        ),
        vulnerabilities_not_whole=_list(table=_TEXT, hosts=_COUNT, reason=_TEXT),
        hosts=_list(
            name=_TEXT, groups=_TEXTS, expected={"type": "boolean"}, reach=_one_of(Reach, "What became of the host"), detail=_TEXT,
            answered={"type": "boolean"}, privileged={"type": ["boolean", "null"]}, transport=_TEXT, os=_MAYBE, kernel=_MAYBE,
            sources={"type": "object", "additionalProperties": _COUNT}, read_at=_MAYBE,
            seconds={"type": "number"}, costs={"type": "object"}, notes=_TEXTS,
        ),
        checks=_list(
            id=_TEXT, title=_TEXT, area=_TEXT, severity=_one_of(Severity, "Harm if the state does not hold"), surface=_TEXTS, rationale=_TEXT,
            fix=_TEXT, impact=_MAYBE, controls={"type": "object"}, references=_TEXTS, params={"type": "object"},
            group_params={"type": "object"}, tables=_TEXTS, sources=_TEXTS,
            role=_MAYBE, disruption=_MAYBE,
        ),
        results=_list(
            check=_TEXT, host=_TEXT, outcome=_one_of(Outcome, "The one outcome of the check on the host"), reason=_TEXT, subjects=_COUNT,
            failed=_COUNT, undetermined=_COUNT, waived={"type": "boolean", "description": "It failed, and waivers accept all of it"},
        ),
        findings=_list(
            check=_TEXT, host=_TEXT, subject=_TEXT, outcome=_one_of(("fail", "unknown", "error"), "Of the subject"),
            reason=_TEXT, fingerprint=_TEXT, waiver={"type": ["integer", "null"], "minimum": 0, "description": "Place in `waivers`"},
        ),
    ),
}  # fmt: skip
