# SPDX-License-Identifier: Apache-2.0
"""CSV, Markdown, JUnit, SARIF, OSCAL and Prometheus, each read by a reader of others: outcomes, totals, hostile text."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections import Counter
from datetime import datetime
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit import report as formats
from fleet_audit.findings import Report
from fleet_audit.model import CheckId, Outcome
from fleet_audit.report.csv import cell
from fleet_audit.report.markdown import code
from fleet_audit.report.oscal import control_id
from fleet_audit.waivers import Waiver

from . import factory
from .sample import HOSTILE, sample

EVERY = {"a": Outcome.PASS, "b": Outcome.FAIL, "c": Outcome.UNKNOWN, "d": Outcome.ERROR, "e": Outcome.NOTAPPLICABLE, "silent": Outcome.UNKNOWN,
         "w": Outcome.FAIL}  # fmt: skip


@cache
def every() -> Report:
    """One host of each outcome, and one whose failure is waived."""
    found = factory.report(EVERY)
    waiver = Waiver(CheckId("a-check"), "kim", "until the move", "2027-01-31", ("w",), (), None, False, False, accepted=1)
    return dataclasses.replace(
        found, waivers=(waiver,), results=tuple(dataclasses.replace(r, waived=r.host == "w") for r in found.results),
        findings=tuple(dataclasses.replace(f, waiver=0 if f.host == "w" else None) for f in found.findings),
    )  # fmt: skip


@cache
def hostile() -> Report:
    return sample(20, 24, hostile=True)


def rendered(name: str, report: Report) -> str:
    return formats.get(name).render(report).decode()


# ---------------------------------------------------------------- CSV


def rows(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(rendered("csv", report), newline="")))


def test_csv_has_a_row_for_each_result() -> None:
    found = {r["host"]: (r["outcome"], r["reach"], r["waived_until"]) for r in rows(every())}
    assert found == {
        "a": ("pass", "ok", ""), "b": ("fail", "ok", ""), "c": ("unknown", "ok", ""), "d": ("error", "ok", ""), "e": ("notapplicable", "ok", ""),
        "silent": ("unknown", "timeout", ""), "w": ("fail", "ok", "2027-01-31"),
    }  # fmt: skip


def test_csv_of_hostile_text_is_as_long_as_its_findings_and_evaluates_nothing() -> None:
    report = hostile()
    found = rows(report)
    told = {(f.check, f.host) for f in report.findings}
    assert len(found) == len(report.findings) + sum((r.check, r.host) not in told for r in report.results)
    for row in found:
        assert None not in row and not any(re.match(r"[\s\ufeff]*[=+\-@|%]", text) for text in row.values())
    assert any(row["reason"].startswith("'=HYPERLINK") for row in found)


@given(st.text(max_size=20), st.sampled_from(["=", "+", "-", "@", "|", "\t=", "\ufeff=", " +", "\r@", "＝"]))
def test_no_cell_begins_a_formula(text: str, begin: str) -> None:
    shown = cell(begin + text)
    assert shown[0] == "'" or not re.match(r"[\s\ufeff]*[=+\-@|%＝＋－＠]", shown)


# ---------------------------------------------------------------- Markdown


def tokens(text: str) -> list[Any]:
    from markdown_it import MarkdownIt

    found = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    return [token for outer in found for token in (outer, *(outer.children or ()))]


def test_markdown_says_what_is_not_known_beside_what_fails() -> None:
    text = rendered("markdown", every())
    assert "6 of 7 hosts answered." in text and "| 1 | 2 | 1 | 2 | 1 | 1 |" in text
    assert "- **high** `a-check` on `b`: `reason of b`" in text and "on `w`" not in text
    assert (
        "`no answer: timeout`" in text and "`reason of c`" in text and "until 2027-01-31 by kim: until the move (accepts 1 finding)" in text
    )


def test_hostile_text_in_markdown_is_code_and_no_markup() -> None:
    text = rendered("markdown", hostile())
    kinds = Counter(token.type for token in tokens(text))
    assert not {"html_block", "html_inline", "link_open", "image", "fence", "code_block"} & set(kinds)
    spans = [token.content for token in tokens(text) if token.type == "code_inline"]
    assert any("<script>" in span for span in spans)
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or c in "\u202e\u2066\u200b"]


@given(st.text(alphabet="`|<>a \\\n_*", max_size=30))
def test_a_code_span_holds_any_text(text: str) -> None:
    (span,) = [token for token in tokens(code(text)) if token.type == "code_inline"] or [None]
    shown = " ".join(text.split()).replace("|", "¦")
    assert span is None if not shown else span.content == shown


# ---------------------------------------------------------------- JUnit


def cases(report: Report) -> dict[tuple[str, str], Any]:
    from junitparser import JUnitXml

    return {(suite.name, case.name): case for suite in JUnitXml.fromstring(rendered("junit", report).encode()) for case in suite}


def test_junit_is_green_only_where_it_holds() -> None:
    found = {suite: [r.type or type(r).__name__ for r in case.result] for (suite, _), case in cases(every()).items()}
    assert found == {
        "a": [],
        "b": ["high"],
        "c": ["unknown"],
        "d": ["error"],
        "e": ["Skipped"],
        "silent": ["unknown"],
        "w, waived": ["high"],
    }
    kinds = {suite: [type(r).__name__ for r in case.result] for (suite, _), case in cases(every()).items()}
    assert kinds["c"] == kinds["d"] == kinds["silent"] == ["Error"] and kinds["b"] == kinds["w, waived"] == ["Failure"]


def test_junit_of_hostile_text_is_xml_with_every_case() -> None:
    from junitparser import JUnitXml

    report = hostile()
    suites = JUnitXml.fromstring(rendered("junit", report).encode())
    assert sum(len(list(suite)) for suite in suites) == len(report.results)
    assert sum(suite.tests for suite in suites) == len(report.results)


# ---------------------------------------------------------------- SARIF


def sarif(report: Report) -> Any:
    from sarif_pydantic import Sarif

    text = rendered("sarif", report)
    Sarif.model_validate_json(text)
    (run,) = json.loads(text)["runs"]
    return run


def test_sarif_has_a_kind_for_each_outcome_and_a_notification_for_silence() -> None:
    run = sarif(every())
    found = {
        r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]: (r["kind"], r["level"], "suppressions" in r)
        for r in run["results"]
    }
    assert found == {
        "a": ("pass", "none", False), "b": ("fail", "error", False), "c": ("review", "none", False), "d": ("review", "none", False),
        "e": ("notApplicable", "none", False), "w": ("fail", "error", True),
    }  # fmt: skip
    told = [(n["descriptor"]["id"], n["level"]) for n in run["invocations"][0]["toolExecutionNotifications"]]
    assert told == [("host-without-answer", "error"), ("check-broke", "error")]
    (waived,) = [r["suppressions"][0] for r in run["results"] if "suppressions" in r]
    assert waived["justification"] == "until the move (kim, until 2027-01-31)"


def test_sarif_of_hostile_text() -> None:
    report = hostile()
    run = sarif(report)
    for rule in run["tool"]["driver"]["rules"]:
        assert len(set(rule["properties"]["tags"])) == len(rule["properties"]["tags"]) and re.match(r"https://[!-~]+$", rule["helpUri"])
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert re.fullmatch(r"[A-Za-z0-9%._~-]+", result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
    prints = [r["partialFingerprints"]["fleetAudit/v1"] for r in run["results"] if "partialFingerprints" in r]
    assert set(prints) == {f.fingerprint for f in report.findings if f.host not in report.silent}


# ---------------------------------------------------------------- OSCAL


def oscal(report: Report) -> Any:
    from trestle.oscal.assessment_results import Model

    text = rendered("oscal", report)
    Model.model_validate_json(text)
    return json.loads(text)["assessment-results"]["results"][0]


def observed(result: Any) -> dict[str, list[str]]:
    return {
        next(p["value"] for p in o["props"] if p["name"] == "outcome"): [s["title"] for s in o["subjects"]] for o in result["observations"]
    }


def test_oscal_observes_each_outcome_and_a_failure_is_not_satisfied() -> None:
    result = oscal(every())
    assert observed(result) == {"pass": ["a"], "fail": ["b"], "unknown": ["c"], "error": ["d"], "notapplicable": ["e"], "no-answer": ["silent"],
                                "waived": ["w"]}  # fmt: skip
    (finding,) = result["findings"]
    assert (finding["target"]["target-id"], finding["target"]["status"]["state"]) == ("ac-6", "not-satisfied")
    assert sorted(r["status"] for r in result["risks"]) == ["deviation-approved", "open"]


@pytest.mark.parametrize(("given", "state"), [
    ({"a": Outcome.PASS}, "satisfied"), ({"a": Outcome.PASS, "b": Outcome.UNKNOWN}, None), ({"a": Outcome.PASS, "silent": Outcome.UNKNOWN}, None),
    ({"a": Outcome.NOTAPPLICABLE}, None), ({"a": Outcome.ERROR}, None), ({"a": Outcome.PASS, "b": Outcome.NOTAPPLICABLE}, "satisfied"),
])  # fmt: skip
def test_oscal_gives_no_verdict_on_what_is_not_known(given: dict[str, Outcome], state: str | None) -> None:
    found = [f["target"]["status"]["state"] for f in oscal(factory.report(given)).get("findings", ())]
    assert found == ([state] if state else [])


def test_oscal_of_hostile_text_refers_to_what_is_there() -> None:
    result = oscal(hostile())
    observations = {o["uuid"] for o in result["observations"]}
    items = {i["uuid"] for i in result["local-definitions"]["inventory-items"]}
    risks = {r["uuid"] for r in result["risks"]}
    assert {s["subject-uuid"] for o in result["observations"] for s in o["subjects"]} <= items and len(items) == 20
    for finding in result["findings"]:
        assert {r["observation-uuid"] for r in finding["related-observations"]} <= observations
        assert {r["risk-uuid"] for r in finding.get("related-risks", ())} <= risks


def test_controls_as_oscal_writes_them() -> None:
    assert [control_id(t) for t in ("AC-6(2)", "SC-28", "A.8.12", "AC-6 (2)")] == ["ac-6.2", "sc-28", None, None]


# ---------------------------------------------------------------- Prometheus


def samples(report: Report) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    from prometheus_client.parser import text_string_to_metric_families

    found = [s for family in text_string_to_metric_families(rendered("prometheus", report)) for s in family.samples]
    values = {(s.name.removeprefix("fleet_audit_"), frozenset(s.labels.items())): s.value for s in found}
    assert len(values) == len(found), "no series twice"
    return values


def test_prometheus_counts_what_the_report_counts() -> None:
    found = samples(every())
    results = {dict(labels)["outcome"]: value for (name, labels), value in found.items() if name == "results"}
    assert results == {"pass": 1, "fail": 2, "unknown": 1, "error": 1, "no_answer": 1, "notapplicable": 1}
    assert found["open_failures", frozenset({("severity", "high")})] == 1
    assert found["posture_ratio", frozenset({("bound", "at_least")})] == pytest.approx(1 / 6)
    assert found["hosts_silent", frozenset()] == 1
    assert found["run_timestamp_seconds", frozenset()] == datetime.fromisoformat("2026-11-24T06:00:00+00:00").timestamp()


def test_prometheus_of_hostile_names() -> None:
    report = hostile()
    hosts = {dict(labels)["host"] for name, labels in samples(report) if name == "host_results"}
    assert len(hosts) == len(report.hosts) and any("HYPERLINK" in name or "script" in name for name in hosts)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", formats.names())
def test_a_report_of_nothing_and_of_silence_renders(name: str) -> None:
    for report in (factory.report({}), factory.report({"silent": Outcome.UNKNOWN})):
        assert formats.get(name).render(report)


def good(report: Report) -> dict[str, float]:
    """What counts as good in each format."""
    oscal_ = observed(oscal(report))
    return {
        "csv": sum(r["outcome"] == "pass" for r in rows(report)), "junit": sum(not case.result for case in cases(report).values()),
        "sarif": sum(r["kind"] == "pass" for r in sarif(report)["results"]), "oscal": len(oscal_.get("pass", ())),
        "prometheus": sum(v for (n, labels), v in samples(report).items() if n == "results" and ("outcome", "pass") in labels),
    }  # fmt: skip


def test_taking_evidence_away_makes_nothing_good() -> None:
    before = good(factory.report({"a": Outcome.PASS, "b": Outcome.PASS, "c": Outcome.FAIL}))
    assert set(before.values()) == {2}
    for name in ("a", "silent"):
        after = good(factory.report({name: Outcome.UNKNOWN, "b": Outcome.PASS, "c": Outcome.UNKNOWN}))
        assert set(after.values()) == {1}, after


def test_hostile_is_in_the_sample() -> None:
    assert any(text in f.reason for f in hostile().findings for text in HOSTILE[:3])
