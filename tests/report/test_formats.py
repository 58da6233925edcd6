# SPDX-License-Identifier: Apache-2.0
"""JSON and the terminal summary: totals, words, schema, and hostile text."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jsonschema
import pytest

from fleet_audit import report as formats
from fleet_audit.findings import Report
from fleet_audit.model import HostName, Outcome
from fleet_audit.report import terminal
from fleet_audit.report.json import document
from fleet_audit.report.text import clean, share

from . import factory

EVERY = {
    "a": Outcome.PASS,
    "b": Outcome.FAIL,
    "c": Outcome.UNKNOWN,
    "d": Outcome.ERROR,
    "e": Outcome.NOTAPPLICABLE,
    "silent": Outcome.UNKNOWN,
}
HOSTILE = "\x1b]0;owned\x07\x1b[31m\u202egnp.exe\u2066\x00\r\n<script>=cmd|' /C calc'!A0"


def _hostile() -> Report:
    good = factory.report({"h": Outcome.FAIL})
    hosts = tuple(dataclasses.replace(h, name=HostName("h"), os=HOSTILE, kernel=HOSTILE) for h in good.hosts)
    for host in hosts:
        host.entry.detail, host.entry.notes, host.entry.reach = HOSTILE, [HOSTILE], "cut short"
    return dataclasses.replace(
        good, hosts=hosts, results=tuple(dataclasses.replace(r, reason=HOSTILE) for r in good.results),
        findings=tuple(dataclasses.replace(f, subject=HOSTILE, reason=HOSTILE) for f in good.findings),
    )  # fmt: skip


def test_every_format_renders_the_same_bytes_twice() -> None:
    for name in formats.names():
        form = formats.get(name)
        assert form.render(factory.report(EVERY)) == form.render(factory.report(EVERY)), name


def test_json_follows_the_published_schema() -> None:
    schema = json.loads((Path(__file__).parents[2] / "docs/reference/report.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for report in (factory.report(EVERY), factory.report({"silent": Outcome.UNKNOWN}), _hostile()):
        jsonschema.validate(json.loads(formats.get("json").render(report)), schema)


def test_each_host_and_check_has_exactly_one_result() -> None:
    found = document(factory.report(EVERY))["results"]
    assert sorted((r["check"], r["host"]) for r in found) == sorted(("a-check", h) for h in EVERY)


def test_totals_add_up_and_silent_hosts_are_apart() -> None:
    posture = factory.report(EVERY).posture()
    assert (posture.passed, posture.failed, posture.unknown, posture.error, posture.no_answer, posture.notapplicable) == (1, 1, 1, 1, 1, 1)
    assert posture.expected == 5
    assert (posture.at_least, posture.at_most) == (20.0, 80.0)


def test_switching_a_bad_host_off_never_raises_the_lower_end() -> None:
    on = factory.report({"a": Outcome.PASS, "b": Outcome.FAIL}).posture()
    off = factory.report({"a": Outcome.PASS, "silent": Outcome.UNKNOWN}).posture()
    assert off.at_least is not None
    assert on.at_least is not None
    assert off.at_least <= on.at_least


def test_terminal_says_what_is_not_known() -> None:
    text = terminal.render(factory.report(EVERY)).decode()
    assert "5 of 6 hosts answered" in text
    assert "1 timeout" in text
    assert "2 of 5 results could not be determined, 1 more were never asked" in text
    assert "at least 20.0 %, at most 80.0 %" in text
    assert "no answer: timeout" in text


def test_terminal_of_a_fleet_that_is_silent_shows_no_pass() -> None:
    text = terminal.render(factory.report({"silent1": Outcome.UNKNOWN, "silent2": Outcome.UNKNOWN})).decode()
    assert "0 of 2 hosts answered" in text
    assert "█" * 2 not in text
    assert "(2 not known)" in text


def test_terminal_claims_certainty_only_if_everything_was_determined() -> None:
    assert "Every result was determined." in terminal.render(factory.report({"a": Outcome.PASS})).decode()
    assert "Every result was determined." not in terminal.render(factory.report(EVERY)).decode()


def test_hostile_text_is_inert_on_a_terminal() -> None:
    import pyte

    text = terminal.render(_hostile()).decode()
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or c in "\u202e\u2066\u2069\x7f\x9b"]
    screen = pyte.Screen(100, 60)
    pyte.Stream(screen).feed(text.replace("\n", "\r\n"))
    assert screen.title == ""
    assert any("1 of 1 host answered" in line for line in screen.display)


def test_hostile_text_in_json_is_escaped() -> None:
    data = formats.get("json").render(_hostile())
    assert data.isascii()
    assert b"\x1b" not in data
    assert json.loads(data)["findings"][0]["subject"] == HOSTILE


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "none expected"), (0.0, "0 %"), (100.0, "100 %"), (99.95, "> 99.9 %"), (0.01, "< 0.1 %"), (67.64, "67.6 %")],
)
def test_shares_are_exact_only_when_they_are(value: float | None, words: str) -> None:
    assert share(value) == words


def test_clean_shows_codes_and_cuts() -> None:
    assert clean("a\x1bb\u202ec\n") == "a\\x1bbU+202Ec\\x0a"
    assert clean("x" * 50, 10) == "x" * 9 + "…"
