# SPDX-License-Identifier: Apache-2.0
"""One HTML file for people: it opens from a disk without a network, and runs nothing that came from a node.

What must show at once, in print and without a script is written here as HTML, escaped by Jinja. All else is packed
into columns, deflated, and unpacked by the page's one script (`_html/*.js`), which writes text and never markup.
Script and style hold no data of a run, so the hashes that the page's policy allows are the same for every report.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from fleet_audit.advisories.records import SEVERITIES
from fleet_audit.diff import KINDS, Change
from fleet_audit.excerpts import Excerpts
from fleet_audit.findings import Action, CheckView, HostView, Posture, Report
from fleet_audit.landscape import Landscape
from fleet_audit.model import Finding, HostName, InternalError, Outcome, Result, Severity
from fleet_audit.report.interface import Format
from fleet_audit.report.text import clean, count, number, share
from fleet_audit.waivers import Waiver

SCHEMA = 4
"""Of the packed data; the script refuses any other."""
SURFACES = ("data", "tools", "model", "hardware", "edge", "people")
CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.UNKNOWN: 2, Outcome.ERROR: 3, Outcome.NOTAPPLICABLE: 4}
"""Bytes of the outcome column; `NO_ANSWER` stands for every result of a silent host."""
NO_ANSWER = 5
DISRUPTIONS = {
    "none": "no disruption", "service-restart": "service restart", "reboot": "reboot", "drain": "drain jobs", None: "by hand",
}  # fmt: skip
_MIN_SHARE = 0.4
"""Per cent of a bar that even one result gets, so that it shows."""
_HTTPS = re.compile(r"https://[A-Za-z0-9.-]+(?:[:/?#][^\s\"'<>\\]*)?(?=\s|$)")
_TEXT = 200
"""Characters of a node's text in a list."""


def render(report: Report) -> bytes:
    """The report as one self-contained HTML file."""
    data = pack(report)
    style, script = assets()
    page: str = _template().render(
        style=Markup(style), script=Markup(script), style_hash=csp_hash(style), script_hash=csp_hash(script),
        schema=SCHEMA, adler=zlib.adler32(data), size=len(data), sha256=hashlib.sha256(data).hexdigest(),
        data=base64.b64encode(_deflate(data)).decode(), **_static(report),
    )  # fmt: skip
    return page.encode("utf-8", "backslashreplace")


@cache
def assets() -> tuple[str, str]:
    """The page's one style and one script, the same for every report."""
    folder = importlib.resources.files("fleet_audit.report") / "_html"
    names = sorted(f.name for f in folder.iterdir())
    texts = {name: (folder / name).read_text("utf-8") for name in names if name.endswith((".css", ".js"))}
    style = "".join(text for name, text in texts.items() if name.endswith(".css"))
    script = "".join(text for name, text in texts.items() if name.endswith(".js"))
    return style, f'(() => {{\n"use strict";\n{script}}})();\n'


@cache
def _template() -> Any:
    folder = importlib.resources.files("fleet_audit.report") / "_html"
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(node=lambda text: clean(text, _TEXT), number=number, share=share, count=count)
    return environment.from_string((folder / "page.html").read_text("utf-8"))


def csp_hash(text: str) -> str:
    """A text's hash as a content policy names it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _deflate(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return squeeze.compress(data) + squeeze.flush()


# ---------------------------------------------------------------- what is written as HTML


def _static(report: Report) -> dict[str, Any]:
    posture, causes, actions = report.posture(), report.causes(), report.actions()
    weight = sum(a.weight for a in actions)
    silent = [h for h in report.hosts if not h.entry.answered]
    return {
        "report": report, "posture": posture, "verdict": verdict(report), "coverage": coverage(report),
        "segments": segments(posture), "failures": report.open_failures(), "severities": list(Severity),
        "actions": [_action(a, weight) for a in actions[:10]], "top": max([a.weight for a in actions] + [1]), "action_count": len(actions),
        "top_weight": share(100 * sum(a.weight for a in actions[:10]) / weight) if weight else "",
        "top_failures": sum(a.failures for a in actions[:10]),
        "frameworks": _frameworks(report), "causes": causes[:8], "more_causes": causes[8:], "silent": silent, "surfaces": _surfaces(report),
        "words": sorted(Counter(h.entry.reach for h in silent).items(), key=lambda w: (-w[1], w[0])),
        "since": report.since, "kinds": KINDS, "told": _changes(report),
        "areas": len({c.area for c in report.checks}), "synthetic": bool(report.inputs.get("synthetic")),
        "profile": str(report.inputs.get("profile") or ""), "ends": _ends(posture),
    }  # fmt: skip


def verdict(report: Report) -> str:
    """At most two sentences: the worst that is open, then how much is not known."""
    posture = report.posture()
    if not report.hosts:
        return "No host is in this run."
    if len(report.silent) == len(report.hosts):
        return "No host answered."
    if not posture.expected:
        return "No check applies to any host that answered."
    if not posture.failed and not posture.not_known:
        return f"All clear: {'the one' if posture.expected == 1 else 'all ' + number(posture.expected)} expected " + (
            "result is shown to pass." if posture.expected == 1 else "results are shown to pass."
        )
    first = "No open failure was found."
    severity = {c.id: c.severity for c in report.checks}
    for worst, failures in report.open_failures().items():
        if failures:
            hosts = {r.host for r in report.results if r.outcome is Outcome.FAIL and not r.waived and severity[r.check] is worst}
            verb = "is" if failures == 1 else "are"
            first = f"{count(failures, f'{worst} failure')} {verb} open on {count(len(hosts), 'host')}."
            break
    if posture.not_known:
        first += f" {share(100 * posture.not_known / posture.expected)} of the results are not known."
    return first


def coverage(report: Report) -> str:
    """Who answered, and what could not be determined or was never asked."""
    posture, silent = report.posture(), len(report.silent)
    text = f"{number(len(report.hosts) - silent)} of {count(len(report.hosts), 'host')} answered."
    if not posture.expected:
        return text + " Nothing was expected: no check applies."
    bad = posture.unknown + posture.error
    if bad or not posture.no_answer:
        text += f" {number(bad)} of {count(posture.expected, 'expected result')} could not be determined"
        text += f"; {number(posture.no_answer)} more" if posture.no_answer else "."
    else:
        text += f" {number(posture.no_answer)} of {count(posture.expected, 'expected result')}"
    if posture.no_answer:
        were = "was" if posture.no_answer == 1 else "were"
        text += f" {were} never asked, because {count(silent, 'host')} did not answer."
    return text


def segments(posture: Posture) -> list[dict[str, Any]]:
    """The bar: kind, count, left end and width in per cent. Pass, unknown, no answer, fail; the gap is in the middle."""
    parts = [
        ("pass", posture.passed), ("unk", posture.unknown + posture.error), ("gone", posture.no_answer), ("fail", posture.failed),
    ]  # fmt: skip
    shown = [(kind, n, max(_MIN_SHARE, 100 * n / posture.expected)) for kind, n in parts if n]
    total, left, out = sum(w for _, _, w in shown), 0.0, []
    for kind, n, width in shown:
        out.append({"kind": kind, "n": n, "x": round(left, 3), "w": round(100 * width / total, 3)})
        left += 100 * width / total
    return out


TOLD = ("new", "newly-known", "lost-sight", "newly-unknown", "fixed")
"""Kinds of change that the first screen lists, a few of each."""


def _changes(report: Report) -> list[tuple[str, list[Change]]]:
    found: dict[str, list[Change]] = {kind: [] for kind in TOLD}
    for change in report.since.changes if report.since else ():
        if change.kind in found:
            found[change.kind].append(change)
    return [(kind, changes[:8]) for kind, changes in found.items() if changes]


def _ends(posture: Posture) -> dict[str, Any] | None:
    """Both ends of the bracket under what is not known, and how their labels stand, if both have room."""
    gap = [s for s in segments(posture) if s["kind"] in ("unk", "gone")] if posture.expected else []
    if not gap:
        return None
    left, right = gap[0]["x"], gap[-1]["x"] + gap[-1]["w"]
    low, high = "end" if left >= 14 else "start", "start" if right <= 86 else "end"
    inside = (low == "start") + (high == "end")
    return {"x": left, "right": round(right, 3), "low": low, "high": high, "labels": right - left >= 16 * inside}


def _action(action: Action, total: int) -> dict[str, Any]:
    return {
        "title": action.title, "role": action.role, "disruption": DISRUPTIONS.get(action.disruption, action.disruption),
        "kind": action.disruption or "hand", "checks": action.checks, "hosts": action.hosts, "failures": action.failures,
        "critical": action.critical, "weight": action.weight, "share": share(100 * action.weight / total if total else None),
    }  # fmt: skip


def _surfaces(report: Report) -> list[dict[str, Any]]:
    """Six cells; a check may count in several."""
    postures = dict(report.breakdown()["surface"])
    views = {c.id: c for c in report.checks}
    cells = []
    for name in SURFACES:
        total = postures.get(name, Posture())
        failures = Counter(
            views[r.check].severity
            for r in report.results if r.outcome is Outcome.FAIL and not r.waived and name in views[r.check].surface
        )  # fmt: skip
        cells.append({
            "name": name, "checks": sum(name in c.surface for c in report.checks), "posture": total,
            "segments": segments(total) if total.expected else [], **{str(s): failures[s] for s in (Severity.CRITICAL, Severity.HIGH)},
        })  # fmt: skip
    return cells


def _frameworks(report: Report) -> list[dict[str, Any]]:
    """Control frameworks with their controls by the worst result of their checks; what applies nowhere is left out."""
    found: dict[str, Counter[str]] = {}
    for name, posture in report.breakdown()["controls"]:
        if posture.expected:
            word = "bad" if posture.failed else "dark" if posture.not_known else "good"
            found.setdefault(name.partition(" ")[0], Counter())[word] += 1
    return [
        {"name": name, "bad": n["bad"], "dark": n["dark"], "good": n["good"], "total": n.total(),
         "segments": segments(Posture(passed=n["good"], unknown=n["dark"], failed=n["bad"]))} for name, n in sorted(found.items())
    ]  # fmt: skip


# ---------------------------------------------------------------- what is packed


class Dictionary:
    """Distinct cleaned texts, in the order in which they were first seen."""

    def __init__(self) -> None:
        self._of: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        """Its place, a new one if it was not seen."""
        return self._of.setdefault(clean(text), len(self._of))

    @property
    def texts(self) -> list[str]:
        """All of them."""
        return list(self._of)


def pack(report: Report) -> bytes:
    """`uint32` length of a JSON header, the header (dictionaries, hosts, checks), then binary columns in its order."""
    host_at = {h.name: i for i, h in enumerate(report.hosts)}
    check_at = {c.id: i for i, c in enumerate(report.checks)}
    width, reasons, subjects, silent = len(report.hosts), Dictionary(), Dictionary(), report.silent
    grid: list[Result | None] = [None] * (width * len(report.checks))
    for result in report.results:
        grid[check_at[result.check] * width + host_at[result.host]] = result
    results = [r for r in grid if r is not None]
    if len(results) != len(grid):
        raise InternalError(f"run {report.id}: {len(grid) - len(results)} results are missing")
    told = [r for r in results if r.outcome is not Outcome.PASS or r.host in silent]
    found = sorted(
        ((check_at[f.check] * width + host_at[f.host], f) for f in report.findings), key=lambda p: (p[0], p[1].outcome, p[1].subject)
    )
    columns = {
        "outcome": bytes(NO_ANSWER if r.host in silent else CODES[r.outcome] for r in results),
        "reason": _deltas(reasons(r.reason) for r in told),
        "subjects": _varints(r.subjects for r in results),
        "failed": _varints(r.failed for r in told),
        "undetermined": _varints(r.undetermined for r in told),
        "finding_row": _deltas(row for row, _ in found),
        "finding_outcome": bytes(CODES[f.outcome] for _, f in found),
        "finding_subject": _deltas(subjects(f.subject) for _, f in found),
        "finding_reason": _deltas(_finding_reason(reasons, results[row], f) for row, f in found),
        "finding_waiver": _varints(0 if f.waiver is None else f.waiver + 1 for _, f in found),
        "waived": _deltas(row for row, r in enumerate(results) if r.waived),
    }
    actions = report.actions()
    weight = sum(a.weight for a in actions)
    head = {
        "schema": SCHEMA, "run": _run(report), "totals": _totals(report.posture()), "reasons": reasons.texts, "subjects": subjects.texts,
        "hosts": [_host(h) for h in report.hosts], "checks": [_check(c) for c in report.checks],
        "actions": [_action(a, weight) for a in actions],
        **_landscape(report.landscape), "findings": len(found), "waived_results": sum(r.waived for r in results),
        "waivers": [_waiver(w) for w in report.waivers], "evidence": _evidence(report.excerpts, host_at),
        "columns": [[name, len(column)] for name, column in columns.items()],
    }  # fmt: skip
    header = json.dumps(head, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode("utf-8", "backslashreplace")
    return len(header).to_bytes(4, "little") + header + b"".join(columns.values())


def _waiver(waiver: Waiver) -> dict[str, Any]:
    return {
        "check": clean(waiver.check), "owner": clean(waiver.owner), "reason": clean(waiver.reason), "until": clean(waiver.expires),
        "hosts": [clean(h) for h in waiver.hosts], "groups": [clean(g) for g in waiver.groups],
        "subject": None if waiver.subject is None else clean(waiver.subject), "expired": waiver.expired, "soon": waiver.soon,
        "accepted": waiver.accepted, "idle": clean(waiver.idle),
    }  # fmt: skip


def _evidence(excerpts: Excerpts, host_at: Mapping[HostName, int]) -> dict[str, Any]:
    """Of a host, by its place: (source, status, detail, object) of each source; of an object its hash, size and first bytes, if they are here."""
    texts, bodies = Dictionary(), dict[str, int]()
    listed: list[list[Any]] = []
    of: dict[str, list[list[int]]] = {}
    for host, found in sorted(excerpts.of.items()):
        rows = of.setdefault(str(host_at[host]), [])
        for e in found:
            if e.sha256 and e.sha256 not in bodies:
                bodies[e.sha256] = len(listed)
                head = excerpts.heads.get(e.sha256)
                listed.append([e.sha256[:16], e.size, None if head is None else _lines(head.decode("utf-8", "backslashreplace"))])
            rows.append([texts(e.source), texts(e.status), texts(e.detail), bodies[e.sha256] if e.sha256 else -1])
    return {"of": of, "texts": texts.texts, "objects": listed}


def _landscape(maps: Landscape) -> dict[str, Any]:
    return {
        "levels": [
            {"kind": x.kind, "group": clean(x.group), "levels": [[clean(level.value, _TEXT), level.hosts, level.failing] for level in x.levels],
             "unknown": x.not_known, "silent": x.no_answer} for x in maps.levels
        ],
        "ports": [
            {"port": clean(p.port), "names": [clean(n) for n in p.names], "groups": {clean(g): n for g, n in p.groups.items()}, "hosts": p.hosts,
             "bare": p.open_login, "unsure": p.login_unknown} for p in maps.ports
        ],
        "more_ports": maps.more_ports,
        "ports_unread": None if maps.ports_unread is None else {clean(g): n for g, n in sorted(maps.ports_unread.items())},
        "rungs": [
            {"technology": clean(r.technology), "side": clean(r.side), "rung": clean(r.rung), "missing": clean(r.missing, _TEXT),
             "hosts": [clean(h) for h in r.hosts]} for r in maps.rungs
        ],
        "vulns": [
            {"title": clean(a.title, _TEXT), "kind": a.kind, "hosts": sorted(clean(h) for h in a.hosts), "reasons": clean(a.reasons),
             "exploited": len(a.exploited), "count": len(a.cves),
             "cves": [[clean(cve), word] for cve, word in sorted(a.cves.items(), key=lambda x: (x[0] not in a.exploited, x[0] not in a.likely,
                      SEVERITIES.index(x[1]) if x[1] in SEVERITIES else len(SEVERITIES), x[0]))[:40]]} for a in maps.vulnerabilities
        ],
        "more_vulns": maps.more_vulnerabilities, "vuln_gaps": [[name, n, clean(why)] for name, n, why in maps.gaps],
    }  # fmt: skip


def _finding_reason(reasons: Dictionary, result: Result, finding: Finding) -> int:
    return reasons(finding.reason or result.reason)


def _varints(values: Iterable[int]) -> bytes:
    out = bytearray()
    for value in values:
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out)


def _deltas(values: Iterable[int]) -> bytes:
    """Varints of the zig-zag differences."""

    def steps() -> Iterable[int]:
        last = 0
        for value in values:
            step, last = value - last, value
            yield step << 1 if step >= 0 else (-step << 1) - 1

    return _varints(steps())


def _run(report: Report) -> dict[str, Any]:
    inputs = dict(report.inputs)
    policy = inputs.pop("policy", None)
    checks = inputs.pop("checks", None)
    return {
        "id": clean(report.id), "version": clean(report.version), "started": f"{report.started_at:%Y-%m-%d %H:%M:%S} UTC",
        "as_of": f"{report.as_of:%Y-%m-%d %H:%M:%S} UTC", "program": clean(report.program), "evidence_of": clean(report.evidence_of),
        "policy": _lines(policy if isinstance(policy, str) else json.dumps(policy, sort_keys=True, default=str) if policy else ""),
        "selected": len(checks) if isinstance(checks, Sequence) else None,
        "inputs": [[clean(str(k)), _plain(v)] for k, v in sorted(inputs.items()) if v is not None],
    }  # fmt: skip


def _totals(posture: Posture) -> dict[str, int]:
    return {
        "passed": posture.passed, "failed": posture.failed, "unknown": posture.unknown, "error": posture.error,
        "no_answer": posture.no_answer, "notapplicable": posture.notapplicable, "waived": posture.waived, "expected": posture.expected,
    }  # fmt: skip


def _host(host: HostView) -> dict[str, Any]:
    entry = host.entry
    return {
        "name": clean(host.name), "groups": [clean(g) for g in entry.groups], "expected": entry.expected, "reach": clean(entry.reach),
        "detail": clean(entry.detail), "answered": entry.answered, "root": entry.privileged, "transport": clean(entry.transport),
        "os": clean(host.os or ""), "kernel": clean(host.kernel or ""), "sources": {str(k): v for k, v in sorted(host.sources.items())},
        "read": f"{entry.read_at:%Y-%m-%d %H:%M} UTC" if entry.read_at else "",
        "seconds": round(entry.seconds, 3), "costs": {clean(k): round(v, 4) for k, v in sorted(entry.costs.items())},
        "notes": [clean(n) for n in entry.notes],
    }  # fmt: skip


def _check(check: CheckView) -> dict[str, Any]:
    return {
        "id": clean(check.id), "title": clean(check.title), "area": clean(check.area), "severity": str(check.severity),
        "surface": [clean(s) for s in check.surface], "rationale": _lines(check.rationale), "unknown": _lines(check.unknown or ""),
        "fix": _lines(check.fix), "impact": _lines(check.impact or ""),
        "controls": [[clean(k), [clean(str(c)) for c in v]] for k, v in sorted(check.controls.items())],
        "references": [_reference(r) for r in check.references], "params": [[clean(k), _plain(v)] for k, v in sorted(check.params.items())]
        + [[f"{clean(k)} ({clean(g)})", _plain(v)] for g, params in check.group_params.items() for k, v in sorted(params.items())],
        "query": _lines(check.query), "applies": _lines(check.applies or ""), "tables": [clean(t) for t in check.tables],
        "sources": [clean(s) for s in check.sources], "role": clean(check.role or ""), "disruption": check.disruption or "",
    }  # fmt: skip


def _reference(text: str) -> list[str]:
    """[address, the rest]; the address is empty if it is not a plain https one."""
    match = _HTTPS.match(text)
    return [match[0], clean(text[match.end() :].strip())] if match else ["", clean(text)]


def _lines(text: str) -> str:
    """Our own text of several lines; only line ends and tabs are let through."""
    return "\n".join(clean(line.expandtabs(4), 100_000) for line in text.strip().split("\n"))


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping | Sequence | bool):
        return clean(json.dumps(value, ensure_ascii=False, sort_keys=True, default=str))
    return clean(str(value))


FORMAT = Format("html", render)
