# SPDX-License-Identifier: Apache-2.0
"""CSV for spreadsheets (RFC 4180, UTF-8): a row for each finding, and one for each result that has none.

A cell that a spreadsheet would take for a formula begins with an apostrophe, whoever wrote the text.
"""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict

from fleet_audit.findings import Report
from fleet_audit.model import Finding
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean

COLUMNS = (
    "run", "as_of", "host", "groups", "expected", "reach", "check", "title", "area", "severity", "outcome", "subject", "reason", "waived_until",
    "waived_by", "fix", "role", "disruption", "controls", "fingerprint", "failed_subjects",
)  # fmt: skip
_FORMULA = re.compile(r"[\s\ufeff]*[=+\-@|%＝＋－＠﹦﹢﹣﹫−]")
"""Full-width and small variants too; what is invisible before it was shown as a code."""


def cell(text: str) -> str:
    """A text that no spreadsheet evaluates, with control characters shown as codes."""
    shown = clean(text, 32_000)  # a spreadsheet's own limit is 32,767
    return f"'{shown}" if _FORMULA.match(shown) else shown


def render(report: Report) -> bytes:
    """All results; those of hosts without an answer are `unknown`, and `reach` says why.

    A run keeps 100 failing subjects of a result; `failed_subjects` counts them all.
    """
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    hosts, checks = {h.name: h for h in report.hosts}, {c.id: c for c in report.checks}
    findings: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in report.findings:
        findings[finding.check, finding.host].append(finding)
    for result in report.results:
        host, check = hosts[result.host], checks[result.check]
        first = [report.id, report.as_of.isoformat(), host.name, ",".join(host.entry.groups), "yes" if host.entry.expected else "no",
                 host.entry.reach, check.id, check.title, check.area, str(check.severity)]  # fmt: skip
        controls = "; ".join(f"{framework} {n}" for framework, numbers in sorted(check.controls.items()) for n in numbers)
        last = [check.fix, check.role or "", check.disruption or "", controls]
        for finding in findings[result.check, result.host]:
            waiver = None if finding.waiver is None else report.waivers[finding.waiver]
            accepted = [waiver.expires, waiver.owner] if waiver else ["", ""]
            row = [*first, str(finding.outcome), finding.subject, finding.reason, *accepted, *last, finding.fingerprint, str(result.failed)]
            writer.writerow(cell(text) for text in row)
        if not findings[result.check, result.host]:
            writer.writerow(cell(text) for text in [*first, str(result.outcome), "", result.reason, "", "", *last, "", str(result.failed)])
    return out.getvalue().encode("utf-8", "backslashreplace")


FORMAT = Format("csv", render)
