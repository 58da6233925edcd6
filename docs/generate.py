# SPDX-License-Identifier: Apache-2.0
"""Writes the pages and schemas that come from the code; with --check, says which are not true any more."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import yaml

from fleet_audit import checks, remediation
from fleet_audit.checkfile import Check, CheckFile
from fleet_audit.checks import Library
from fleet_audit.facts import tables
from fleet_audit.model import CheckId, Severity
from fleet_audit.policy import PolicyFile
from fleet_audit.report.schema import SCHEMA

HERE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py: change the code, then run `make docs`. -->\n"


def pages() -> Iterator[tuple[str, str]]:
    """(file, text) of every generated page, and of the README with the help that is printed."""
    yield "../../README.md", _readme()
    yield "report.schema.json", json.dumps(SCHEMA, indent=1, sort_keys=True) + "\n"
    yield "check.schema.json", json.dumps(CheckFile.model_json_schema(), indent=1, sort_keys=True) + "\n"
    yield "tables.md", _tables()
    library = checks.load(tables=tables())
    yield "checks.md", _checks(library)
    for check in library.checks.values():
        yield f"checks/{check.id}.md", _check(check, library)
    yield "profiles.md", _profiles(library)
    yield "reference-tables.md", _references(library)
    yield "coverage.md", _coverage(library)
    yield "roles.md", _roles(library)
    yield "policy.schema.json", json.dumps(PolicyFile.model_json_schema(), indent=1, sort_keys=True) + "\n"


def _readme() -> str:
    done = subprocess.run(
        [sys.executable, "-c", "from fleet_audit.cli.main import main; main()", "run", "--help"],
        env=os.environ | {"COLUMNS": "100"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    before, _, rest = (HERE / "../../README.md").read_text(encoding="utf-8").partition("<!-- help -->")
    return f"{before}<!-- help -->\n```\n{done.stdout}```\n<!-- /help -->{rest.partition('<!-- /help -->')[2]}"


def _tables() -> str:
    out = [NOTE, "# Tables of facts\n", "Each table also has `host`. A column marked `?` may be NULL: then it was not determined.\n"]
    for table in sorted(tables().values(), key=lambda t: t.name):
        out += [f"## {table.name}\n", f"{' '.join(table.doc.split())}\n", "| column | type | meaning |", "|---|---|---|"]
        out += [f"| {c.name}{' ?' if c.nullable else ''} | {c.type} | {_cell(c.doc)} |" for c in table.columns]
        out += ["", "| source | reader | needs root | what and where documented |", "|---|---|---|---|"]
        out += [f"| {s.id} | {s.reader} | {'yes' if s.needs_root else 'no'} | {_cell(s.doc)} |" for s in table.sources]
        out.append("")
    return "\n".join(out)


def _checks(library: Library) -> str:
    out = [NOTE, f"# Checks\n\n{len(library.checks)} checks. `fleet-audit checks show ID` tells everything about one.\n"]
    for area in sorted({c.area for c in library.checks.values()}):
        out += [f"## {area}\n", "| check | severity | profiles | what it wants | unknown means |", "|---|---|---|---|---|"]
        for check in sorted((c for c in library.checks.values() if c.area == area), key=lambda c: c.id):
            file = check.file
            unknown = file.unknown or f"not read: {', '.join(sorted(check.tables))}"
            out.append(
                f"| [{check.id}](checks/{check.id}.md) | {file.severity} | {', '.join(file.profiles)} | {_cell(file.title)} | {_cell(unknown)} |"
            )
        out.append("")
    return "\n".join(out)


def _check(check: Check, library: Library) -> str:
    file = check.file
    selected = [name for name in sorted(library.profiles) if check.id in {c.id for c in library.select(name)}]
    out = [
        NOTE, f"# {file.title}\n",
        f"`{check.id}`: {file.severity}, area [{check.area}](../checks.md#{check.area}), part of the attack surface: {', '.join(file.surface)}. "
        f"Selected by the {'profile' if len(selected) == 1 else 'profiles'} {', '.join(selected) or 'of a site alone'}.\n",
    ]  # fmt: skip
    if file.scope == "fleet":
        out.append("It compares hosts: another host's evidence may change its result.\n")
    out += ["## Why\n", _flat(file.rationale), "", "## What to do\n", _flat(file.fix), ""]
    if file.impact:
        out += ["## What it means for training\n", _flat(file.impact), ""]
    if file.remediation:
        given = f", with `{json.dumps(file.remediation.vars, sort_keys=True)}`" if file.remediation.vars else ""
        out += [f"Role `{file.remediation.role}`{given}; disruption: {file.remediation.disruption}.\n"]
    out += [
        "## How it is decided\n",
        f"Read: {', '.join(f'`{name}`' for name in sorted(check.tables | check.references)) or 'the hosts of the run'}.\n",
    ]
    if file.applies:
        out += ["It applies where:\n", f"```sql\n{file.applies}\n```\n"]
    out += [f"```sql\n{file.query}\n```\n"]
    because = f": {_flat(file.none_because)}" if file.none_because else ""
    out += [f"Without a row it is `{file.none}`{because}.\n"]
    if file.params:
        out += [
            "| parameter | default |",
            "|---|---|",
            *(f"| {n} | `{_cell(json.dumps(v, ensure_ascii=False))}` |" for n, v in file.params.items()),
            "",
        ]
    out += [
        "## What unknown means\n",
        _flat(file.unknown) if file.unknown else f"Not everything was read: {', '.join(sorted(check.tables))}.",
        "",
    ]
    if file.controls:
        out += ["## Controls\n", *(f"- {framework}: {', '.join(numbers)}" for framework, numbers in sorted(file.controls.items())), ""]
    if file.aliases:
        out += [f"Former ids: {', '.join(file.aliases)}.\n"]
    out += ["## References\n", *(f"- {_flat(reference)}" for reference in file.references)]
    return "\n".join(out) + "\n"


def _profiles(library: Library) -> str:
    out = [NOTE, "# Profiles\n", "A profile selects checks. A policy names one; a site may have its own, in a folder of checks.\n"]
    for name in sorted(library.profiles):
        profile, chosen = library.profiles[name], library.select(name)
        inherited = {c.id for parent in profile.inherits for c in library.select(parent)}
        own = [c for c in chosen if c.id not in inherited]
        by = ", ".join(f"{sum(c.file.severity is s for c in chosen)} {s}" for s in Severity if any(c.file.severity is s for c in chosen))
        out += [f"## {name}\n", f"{profile.title}. {len(chosen)} checks ({by})."]
        if profile.inherits:
            out.append(f"All of {', '.join(profile.inherits)}, and {len(own)} of its own:")
        out += ["", *(f"- [{c.id}](checks/{c.id}.md): {c.file.title}" for c in own), ""]
    return "\n".join(out)


def _references(library: Library) -> str:
    out = [
        NOTE, "# Reference tables\n",
        "Dated data that checks lean on. One that is older than the policy's `reference.maximum_days` decides nothing: what leans on it is "
        "unknown, and `reference-tables-fresh` fails. A site extends or replaces one by a file `reference/NAME.yaml` in its folder of checks.\n",
    ]  # fmt: skip
    for table in sorted(library.references.values(), key=lambda r: r.name):
        users = sorted(c.id for c in library.checks.values() if table.name in c.references)
        out += [f"## {table.name}\n", f"{table.title}. As of {table.as_of}. Used by {', '.join(f'[{i}](checks/{i}.md)' for i in users)}.\n"]
        out += [*(f"- {_flat(source)}" for source in table.sources), "", "| column | type | meaning |", "|---|---|---|"]
        out += [f"| {c.name}{' ?' if c.nullable else ''} | {c.type} | {_cell(c.doc)} |" for c in table.columns]
        shown = [i for i, c in enumerate(table.columns) if not c.name.endswith("_key")]
        out += ["", f"| {' | '.join(table.columns[i].name for i in shown)} |", f"|{'---|' * len(shown)}"]
        out += [f"| {' | '.join(_value(row[i]) for i in shown)} |" for row in table.rows]
        out.append("")
    return "\n".join(out)


def _roles(library: Library) -> str:
    roles = remediation.roles()
    wanted = {c.file.remediation.role for c in library.checks.values() if c.file.remediation}
    covered = sum(len(role.file.checks) for role in roles.values())
    out = [
        NOTE, "# Roles\n",
        f"What `fleet-audit remediate` changes: {len(roles)} roles over {covered} checks. Grade `behaviour`: tried on booted Debian hosts, with the "
        "services themselves. `parser`: what it writes is accepted by the tool that reads it. `dry`: tried with players of what it changes, and "
        "planned with `--experimental` alone. The policy gives variables under `remediation: vars`.\n",
        "| role | grade | disruption | checks |", "|---|---|---|---|",
    ]  # fmt: skip
    for name, role in roles.items():
        disruptions = {fix.disruption for c in role.file.checks if (fix := library.checks[CheckId(c)].file.remediation)}
        most = max(disruptions, key=remediation.DISRUPTIONS.index)
        confirmed = ", confirmed" if role.file.confirm else ""
        out.append(f"| [{name}](#{name}) | {role.file.grade} | {most}{confirmed} | {len(role.file.checks)} |")
    for name, role in roles.items():
        spec = yaml.safe_load((role.path / "meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]["main"]
        out += ["", f"## {name}\n", f"{_flat(spec['description'])}\n", f"Saves: {role.file.saves}\n"]
        out += ["Checks: " + ", ".join(f"[{c}](checks/{c}.md)" for c in role.file.checks)]
        if role.variables:
            out += ["", "| variable | default | meaning |", "|---|---|---|"]
            for variable in sorted(role.variables):
                option = spec["options"][variable]
                default = json.dumps(option["default"]) if "default" in option else ""
                out.append(f"| {variable} | {_cell(f'`{default}`' if default else '')} | {_cell(option['description'])} |")
    out += ["", f"Checks name roles that are not there yet, and a plan says so: {', '.join(sorted(wanted - set(roles)))}.", ""]
    return "\n".join(out)


def _value(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d}"
    return "" if value is None else _cell(str(value))


FAMILIES = {
    "AC": "Access Control", "AT": "Awareness and Training", "AU": "Audit and Accountability", "CA": "Assessment, Authorization, and Monitoring",
    "CM": "Configuration Management", "CP": "Contingency Planning", "IA": "Identification and Authentication", "IR": "Incident Response",
    "MA": "Maintenance", "MP": "Media Protection", "PE": "Physical and Environmental Protection", "PL": "Planning", "PM": "Program Management",
    "PS": "Personnel Security", "PT": "PII Processing and Transparency", "RA": "Risk Assessment", "SA": "System and Services Acquisition",
    "SC": "System and Communications Protection", "SI": "System and Information Integrity", "SR": "Supply Chain Risk Management",
}  # fmt: skip
"""The families of NIST SP 800-53 revision 5."""


def _coverage(library: Library) -> str:
    every = sorted(library.checks.values(), key=lambda c: c.id)
    out = [
        NOTE, "# What the checks cover\n",
        "A check speaks to a control; it never proves one. What is not here is not looked at.\n",
        "## The ML attack surface\n", "| part | checks | critical | high |", "|---|---|---|---|",
    ]  # fmt: skip
    for part in ("data", "tools", "model", "hardware", "edge", "people"):
        chosen = [c for c in every if part in c.file.surface]
        out.append(f"| {part} | {len(chosen)} | {_of(chosen, Severity.CRITICAL)} | {_of(chosen, Severity.HIGH)} |")
    out += ["", "## Families of NIST SP 800-53\n", "| family | checks | controls |", "|---|---|---|"]
    for family, title in FAMILIES.items():
        numbers = sorted({n for c in every for n in c.file.controls.get("nist-800-53", []) if n.startswith(f"{family}-")}, key=_number)
        checks_ = sum(any(n.startswith(f"{family}-") for n in c.file.controls.get("nist-800-53", [])) for c in every)
        out.append(f"| {family} {title} | {checks_ or 'none'} | {', '.join(numbers)} |")
    for framework in sorted({name for c in every for name in c.file.controls}):
        by: dict[str, list[str]] = {}
        for check in every:
            for number in check.file.controls.get(framework, []):
                by.setdefault(number, []).append(check.id)
        out += ["", f"## {framework}\n", "| control | checks |", "|---|---|"]
        out += [f"| {number} | {', '.join(f'[{i}](checks/{i}.md)' for i in by[number])} |" for number in sorted(by, key=_number)]
    return "\n".join(out) + "\n"


def _of(chosen: list[Check], severity: Severity) -> int:
    return sum(c.file.severity is severity for c in chosen)


def _number(text: str) -> list[tuple[int, str]]:
    """Sorts AC-2 before AC-10, and 5.4.2 before 5.10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", text)]


def _flat(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Write the pages, or with --check compare them."""
    stale, written = [], dict(pages())
    for path in (HERE / "checks").glob("*.md"):
        if f"checks/{path.name}" not in written:  # of a check that is no more
            if "--check" in sys.argv[1:]:
                stale.append(str(path))
            else:
                path.unlink()
    for name, text in written.items():
        path = HERE / name
        if "--check" in sys.argv[1:]:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(str(path.resolve()))
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    if stale:
        print(f"not true any more, run `make docs`: {', '.join(stale)}", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
