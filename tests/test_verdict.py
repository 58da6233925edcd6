# SPDX-License-Identifier: Apache-2.0
"""Exit statuses: the first that fits, with a sentence that says why."""

from __future__ import annotations

import pytest

from fleet_audit.cli._verdict import Allowance, allowance, verdict
from fleet_audit.model import FleetAuditError, Outcome, Severity

from .report.factory import report

P, F, U, E, N = Outcome.PASS, Outcome.FAIL, Outcome.UNKNOWN, Outcome.ERROR, Outcome.NOTAPPLICABLE


@pytest.mark.parametrize(
    ("outcomes", "severity", "fail_on", "allowed", "code"),
    [
        ({"a": P}, "high", "high", "0", 0),
        ({"a": F}, "high", "high", "0", 1),
        ({"a": F}, "medium", "high", "0", 0),
        ({"a": F}, "critical", "high", "0", 1),
        ({"a": F, "b": U}, "high", "high", "0", 1),
        ({"a": U}, "high", "high", "0", 3),
        ({"a": E}, "high", "high", "0", 3),
        ({"a": U}, "low", "high", "0", 0),
        ({"a": U}, "high", "high", "1", 0),
        ({"a": U, "b": U}, "high", "high", "1", 3),
        ({"a": U, "b": P}, "high", "high", "50%", 0),
        ({"a": U, "b": P}, "high", "high", "49%", 3),
        ({"a": U, "b": E}, "high", "high", "any", 0),
        ({"a": P, "silent": U}, "high", "high", "0", 3),
        ({"a": P, "silent": U}, "low", "high", "0", 3),
        ({"a": N}, "high", "high", "0", 0),
    ],
)
def test_exit_status(outcomes: dict[str, Outcome], severity: str, fail_on: str, allowed: str, code: int) -> None:
    assert verdict(report(outcomes, Severity(severity)), Severity(fail_on), allowance(allowed))[0] == code


def test_a_host_that_need_not_answer_is_in_no_exit_status() -> None:
    assert verdict(report({"silent": U}, expected=False), Severity.HIGH, Allowance())[0] == 0


@pytest.mark.parametrize("text", ["", "-1", "x", "5.5", "101%", "%", "²"])
def test_what_is_no_allowance_is_an_error(text: str) -> None:
    with pytest.raises(FleetAuditError, match="--max-unknown"):
        allowance(text)
