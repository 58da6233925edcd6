# SPDX-License-Identifier: Apache-2.0
"""Defects that users of other auditors reported, each held here by name.

The number is the row of the list of defects that the project was begun with; `LATER` names the issue
of each row whose feature does not exist yet.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fleet_audit import policy, waivers
from fleet_audit.cli._verdict import Allowance, verdict
from fleet_audit.facts import tables
from fleet_audit.facts.base import Item, extract
from fleet_audit.findings import Report
from fleet_audit.model import Coverage, FleetAuditError, Outcome, Severity, SourceId, Status

from .factory import decide, library, make_check, outcomes, rows

LATER = {
    12: "issue 6, known vulnerabilities: a data set is checked by count, hash and date before use",
    13: "issue 6, known vulnerabilities: source package, pocket and running kernel",
}
HERE = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15, 16, 18, 19, 20}
QUERY = "SELECT host, name AS subject, manager = 'good' AS pass, manager AS reason FROM packages"


def _results(folder: Path, extracted: Any, **fields: Any) -> dict[tuple[str, str], Outcome]:
    return outcomes(decide(folder, [make_check(folder, query=QUERY, **fields)], {"h": {"packages": extracted}}))


def test_every_row_is_held_or_has_its_issue() -> None:
    assert set(LATER) | HERE == set(range(1, 21)) - {17}  # the list has no row 17
    names = {int(n.split("_")[2]) for n in globals() if n.startswith("test_row_")}
    assert names == HERE


def test_row_1_no_observation_is_what_none_says_and_only_with_complete_coverage(tmp_path: Path) -> None:
    assert _results(tmp_path / "a", rows("packages"), none="fail") == {("a-check", "h"): Outcome.FAIL}
    assert _results(tmp_path / "b", rows("packages", coverage=Coverage.PARTIAL), none="pass") == {("a-check", "h"): Outcome.UNKNOWN}


def test_row_2_an_empty_loop_drops_no_check(tmp_path: Path) -> None:
    assert len(_results(tmp_path, rows("packages"))) == 1


def test_row_3_a_missing_file_is_no_skip(tmp_path: Path) -> None:
    applies = "SELECT host, id = 'ubuntu' AS applies FROM os"
    check = make_check(tmp_path, query=QUERY, applies=applies)
    found = decide(tmp_path, [check], {"h": {"os": rows("os", coverage=Coverage.NONE), "packages": rows("packages")}})
    assert outcomes(found) == {("a-check", "h"): Outcome.UNKNOWN}


def test_row_4_a_failed_command_is_no_empty_answer() -> None:
    settings = tables()["sshd_settings"]
    found = extract(settings, {SourceId("sshd-effective"): Item(Status.FAILED, b"port 22\n", 255, "exit 255: bad configuration")})
    assert (found.coverage, found.rows) == (Coverage.NONE, ())
    assert "bad configuration" in found.reason


def test_row_5_a_wrong_product_does_not_make_everything_not_applicable(tmp_path: Path) -> None:

    recognised = library().named("os-recognised")
    assert recognised.applies is None
    assert "baseline" in recognised.file.profiles
    found = decide(tmp_path, [recognised], {"odd": {"os": rows("os", {"id": "plan9"})}, "dark": {"os": rows("os", coverage=Coverage.NONE)}})
    assert found.results[0].outcome is Outcome.UNKNOWN
    assert Outcome.PASS not in outcomes(found).values()


def _report(results: list[tuple[str, Outcome]], severity: Severity = Severity.HIGH) -> Report:
    """A synthetic report of one check on hosts with these outcomes."""
    from .report.factory import report

    return report(dict(results), severity)


def test_row_6_not_applicable_never_counts_as_pass() -> None:
    posture = _report([("a", Outcome.PASS), ("b", Outcome.NOTAPPLICABLE), ("c", Outcome.FAIL)]).posture()
    assert (posture.passed, posture.expected, posture.notapplicable) == (1, 2, 1)
    assert (posture.at_least, posture.at_most) == (50.0, 50.0)


def test_row_7_every_outcome_that_is_no_pass_has_a_reason(tmp_path: Path) -> None:
    check = make_check(tmp_path, query=QUERY, applies="SELECT host, id = 'a' AS applies FROM os")
    full = {"os": rows("os", {"id": "a"})}
    hosts = {
        "gap": {**full, "packages": rows("packages", coverage=Coverage.NONE, reason="dpkg-status denied")},
        "none": {**full, "packages": rows("packages")},
        "na": {"os": rows("os", {"id": "b"}), "packages": rows("packages")}, "unsure": {"os": rows("os", coverage=Coverage.NONE)}, "void": {},
        "fail": {**full, "packages": rows("packages", {"manager": "bad"})},
    }  # fmt: skip
    found = decide(tmp_path, [check], hosts)
    assert all(r.reason for r in found.results)
    assert "dpkg-status denied" in next(r.reason for r in found.results if r.host == "gap")


def test_row_8_a_timeout_is_unknown(tmp_path: Path) -> None:
    extracted = extract(tables()["packages"], {SourceId("dpkg-status"): Item(Status.TIMEOUT, detail="no answer within its time")})
    assert _results(tmp_path, extracted, none="pass") == {("a-check", "h"): Outcome.UNKNOWN}


def test_row_9_severity_never_alters_an_outcome(tmp_path: Path) -> None:
    bad = rows("packages", {"manager": "bad"})
    assert {_results(tmp_path / s, bad, severity=str(s))["a-check", "h"] for s in Severity} == {Outcome.FAIL}


def test_row_10_an_empty_list_of_ports_passes_only_if_it_was_read_whole(tmp_path: Path) -> None:
    query = "SELECT host, address AS subject, port = 22 AS pass, address AS reason FROM sockets"
    check = make_check(tmp_path, query=query, none="pass")
    states = {str(c): {"sockets": rows("sockets", coverage=c)} for c in Coverage}
    assert outcomes(decide(tmp_path, [check], states)) == {
        ("a-check", "complete"): Outcome.PASS, ("a-check", "partial"): Outcome.UNKNOWN, ("a-check", "none"): Outcome.UNKNOWN,
    }  # fmt: skip


def test_row_11_a_become_that_did_nothing_is_told() -> None:
    from fleet_audit.collect import outcome
    from fleet_audit.model import Become, Reach
    from fleet_audit.probe.dialogue import Dialogue
    from fleet_audit.probe.wire import Reply
    from fleet_audit.transport.interface import Carried

    talk = Dialogue(nonce="n", digest="d", payload=b"", nvml=b"", become=Become(), cap=1)
    reply = Reply(hello={"euid": 1000}, end={"status": "end"})
    assert outcome(talk, Carried(Reach.OK), reply, Become())[0] is Reach.BECOME_REFUSED


def test_row_14_a_host_without_an_answer_is_unknown_and_counted() -> None:
    report = _report([("a", Outcome.PASS), ("silent", Outcome.UNKNOWN)])
    posture = report.posture()
    assert (posture.no_answer, posture.expected, posture.at_least) == (1, 2, 50.0)
    code, why = verdict(report, Severity.HIGH, Allowance())
    assert (code, "without an answer" in why) == (3, True)


def test_row_15_each_gpu_is_a_row_of_its_own(tmp_path: Path) -> None:
    query = "SELECT host, uuid AS subject, ecc_enabled AS pass, 'ECC is off' AS reason FROM gpus"
    check = make_check(tmp_path, query=query)
    mixed = rows("gpus", {"uuid": "a", "ecc_enabled": True}, {"uuid": "b", "ecc_enabled": False})
    assert outcomes(decide(tmp_path, [check], {"h": {"gpus": mixed}})) == {("a-check", "h"): Outcome.FAIL}


def test_row_16_unreadable_is_not_absent() -> None:
    denied = extract(tables()["kernel_parameters"], {SourceId("kernel-cmdline"): Item(Status.DENIED)})
    assert denied.coverage is Coverage.NONE
    assert "denied" in denied.reason


def test_row_18_a_tool_that_is_not_installed_is_no_ok() -> None:
    """Livepatch: neither a client that cannot be asked nor a missing probe result says that all is well."""
    client = tables()["livepatch_client"]
    assert extract(client, {}).coverage is Coverage.NONE
    failed = {source.id: Item(Status.FAILED, detail="exit 1") for source in client.sources}
    assert extract(client, failed).coverage is Coverage.NONE


def test_row_19_absent_and_unreadable_are_kept_apart() -> None:
    params = tables()["kernel_parameters"]
    empty = extract(params, {SourceId("kernel-cmdline"): Item(Status.OK, b"\n")})
    absent = extract(params, {SourceId("kernel-cmdline"): Item(Status.ABSENT)})
    assert (empty.coverage, absent.coverage) == (Coverage.COMPLETE, Coverage.NONE)


def test_row_20_a_waiver_ends_with_its_day_in_utc_and_an_expired_one_is_told_and_accepts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("waivers: [{check: a-check, owner: kim, reason: x, expires: 2026-01-01}]\n")
    given = decide(tmp_path, [make_check(tmp_path, query=QUERY)], {"h": {"packages": rows("packages", {"manager": "bad"})}})
    for moment, holds in ((datetime(2026, 1, 1, 23, 59, 59), True), (datetime(2026, 1, 2), False)):
        done = waivers.mark(waivers.at(policy.load(path).waivers, moment), given.results, given.findings, {})
        assert [(r.outcome, r.waived) for r in done.results] == [(Outcome.FAIL, holds)]
        assert done.waivers[0].expired is not holds and done.waivers[0].accepted == holds
    for wrong in ("01/02/2026", "2026-02-30", "1767225600"):
        path.write_text(f"waivers: [{{check: a-check, owner: kim, reason: x, expires: {wrong}}}]\n")
        with pytest.raises(FleetAuditError, match=r"waivers\.0\.expires|not YAML"):
            policy.load(path)
