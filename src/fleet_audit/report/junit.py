# SPDX-License-Identifier: Apache-2.0
"""JUnit XML for build servers: a suite for each host, a case for each check. What is not known is an error, so that no build is green by it."""

from __future__ import annotations

from collections import defaultdict
from xml.etree import ElementTree as xml  # it only writes here

from fleet_audit.findings import Report
from fleet_audit.model import Outcome, Result
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean


def render(report: Report) -> bytes:
    """All results. Failures that waivers accept are in a suite of their own for each host."""
    checks = {c.id: c for c in report.checks}
    by_host: dict[str, list[Result]] = defaultdict(list)
    for result in report.results:
        by_host[result.host].append(result)
    top = xml.Element("testsuites", name=clean(f"fleet-audit {report.id}"))
    for host in report.hosts:
        waived = [r for r in by_host[host.name] if r.waived]
        for name, results in ((host.name, [r for r in by_host[host.name] if not r.waived]), (f"{host.name}, waived", waived)):
            if name != host.name and not results:
                continue
            suite = xml.SubElement(
                top, "testsuite", name=clean(name), hostname=clean(host.name), timestamp=f"{report.started_at:%Y-%m-%dT%H:%M:%S}"
            )
            kinds = {"failure": 0, "error": 0, "skipped": 0}
            for result in results:
                check = checks[result.check]
                case = xml.SubElement(suite, "testcase", classname=clean(f"{check.area}.{check.severity}"), name=clean(check.id))
                kind = {Outcome.FAIL: "failure", Outcome.UNKNOWN: "error", Outcome.ERROR: "error", Outcome.NOTAPPLICABLE: "skipped"}.get(
                    result.outcome
                )
                if not host.entry.answered:
                    kind = "error"
                if kind:
                    kinds[kind] += 1
                    words = result.reason if host.entry.answered else f"no answer: {host.entry.reach}: {host.entry.detail}"
                    why = xml.SubElement(case, kind, message=clean(words, 1000))
                    if kind != "skipped":
                        why.set("type", str(check.severity if kind == "failure" else result.outcome))
                        why.text = clean(f"{check.title}. Fix: {' '.join(check.fix.split())}", 4000)
            suite.attrib.update(
                tests=str(len(results)), failures=str(kinds["failure"]), errors=str(kinds["error"]), skipped=str(kinds["skipped"])
            )
    for key in ("tests", "failures", "errors", "skipped"):
        top.set(key, str(sum(int(suite.get(key, "0")) for suite in top)))
    xml.indent(top, " ")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(top, "unicode")}\n'.encode()


FORMAT = Format("junit.xml", render)
