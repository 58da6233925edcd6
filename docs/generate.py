# SPDX-License-Identifier: Apache-2.0
"""Writes the pages and schemas that come from the code; with --check, says which are not true any more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from fleet_audit import checks
from fleet_audit.checks import CheckFile
from fleet_audit.facts import tables
from fleet_audit.report.schema import SCHEMA

HERE = Path(__file__).resolve().parent / "reference"
NOTE = "<!-- Written by docs/generate.py: change the code, then run `make docs`. -->\n"


def pages() -> Iterator[tuple[str, str]]:
    """(file, text) of every generated page, and of the README with the help that is printed."""
    yield "../../README.md", _readme()
    yield "report.schema.json", json.dumps(SCHEMA, indent=1, sort_keys=True) + "\n"
    yield "check.schema.json", json.dumps(CheckFile.model_json_schema(), indent=1, sort_keys=True) + "\n"
    yield "tables.md", _tables()
    yield "checks.md", _checks()


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


def _checks() -> str:
    library = checks.load(tables=tables())
    out = [NOTE, f"# Checks\n\n{len(library.checks)} checks. `fleet-audit checks show ID` tells everything about one.\n"]
    for area in sorted({c.area for c in library.checks.values()}):
        out += [f"## {area}\n", "| check | severity | profiles | what it wants | unknown means |", "|---|---|---|---|---|"]
        for check in sorted((c for c in library.checks.values() if c.area == area), key=lambda c: c.id):
            file = check.file
            unknown = file.unknown or f"not read: {', '.join(sorted(check.tables))}"
            out.append(f"| {check.id} | {file.severity} | {', '.join(file.profiles)} | {_cell(file.title)} | {_cell(unknown)} |")
        out.append("")
    return "\n".join(out)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> int:
    """Write the pages, or with --check compare them."""
    stale = []
    for name, text in pages():
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
