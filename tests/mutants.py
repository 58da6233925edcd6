# SPDX-License-Identifier: Apache-2.0
"""Whether the examples of checks have teeth: single tokens of their SQL are altered, and an example must notice.

    python -m tests.mutants [--survivors] [FOLDER-OR-FILE ...]     # default: all shipped checks
    python -m tests.mutants --write                                # ... and docs/reference/mutants.md

Altered are `applies` and `query` but for what only makes the subject and the reason: comparisons, literals, AND and
OR, NOT, columns, joins. A mutant that is no valid SQL any more does not count. Those that mean the same are listed in
tests/equivalent_mutants.yaml, each with a reason.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from fleet_audit import checkfile, checks, sql
from fleet_audit._evaluator import BrokenCheckError
from fleet_audit.checkfile import Check
from fleet_audit.examples import prepared, results, trials
from fleet_audit.facts import tables
from fleet_audit.facts.base import Table
from fleet_audit.references import Reference
from fleet_audit.tables import DatabaseError, Facts
from fleet_audit.versions import key, kinds

ROOT = Path(__file__).parents[1]
EQUIVALENT = ROOT / "tests" / "equivalent_mutants.yaml"
PAGE = ROOT / "docs" / "reference" / "mutants.md"
WANTED = 90
"""Per cent of a check's mutants that its examples must notice."""
_TOKEN = re.compile(r"'(?:[^']|'')*'|\$?\w+(?:\.\d+)?|<>|!=|<=|>=|->|\|\||::|\S")
_OTHER = {"=": "<>", "<>": "=", "!=": "=", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "and": "OR", "or": "AND", "true": "FALSE",
          "false": "TRUE", "not": "", "left": "", "join": "LEFT JOIN"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One altered token of a check."""

    label: str
    """`query: = -> <> (2)`: the second such alteration in the query."""
    check: Check


@dataclass(frozen=True)
class Score:
    """What became of the mutants of a check."""

    check: str
    caught: int
    survivors: tuple[str, ...]

    @property
    def total(self) -> int:
        """Mutants that are valid and not listed as equivalent."""
        return self.caught + len(self.survivors)

    @property
    def percent(self) -> float:
        """Share that was caught; 100 where nothing can be altered."""
        return 100 * self.caught / self.total if self.total else 100.0


def mutants(check: Check, known: Mapping[str, Table], references: Mapping[str, Reference]) -> Iterator[Mutant]:
    """All mutants of a check that are valid SQL."""
    types = {name: checkfile.sql_type(default) for name, default in check.file.params.items()} | checkfile.BUILT_IN
    read = {*known, *references, *sql.BUILT_IN_TABLES}
    for field in ("applies", "query"):
        text = getattr(check.file, field)
        seen: Counter[str] = Counter()
        for start, end, new in _alterations(text, check, known, references) if text else ():
            change = f"{field}: {text[start:end]} -> {new or 'nothing'}"
            seen[change] += 1
            try:
                statement = sql.parse(text[:start] + new + text[end:], types=types, prefix=f"{field}_version_key")
            except sql.SqlError:
                continue
            if statement.tables <= read and _versions(statement):
                altered = replace(check, query=statement) if field == "query" else replace(check, applies=statement)
                yield Mutant(f"{change} ({seen[change]})", altered)


def _versions(statement: sql.Statement) -> bool:
    """Whether all versions that it names are such."""
    return all(kind in kinds() and (text is None or key(kind, text) is not None) for kind, text, _ in statement.version_keys.values())


def _alterations(
    text: str, check: Check, known: Mapping[str, Table], references: Mapping[str, Reference]
) -> Iterator[tuple[int, int, str]]:
    """(start, end, what stands there instead)."""
    tokens = [(m.start(), m.end(), m.group(0)) for m in _TOKEN.finditer(text)]
    words = [word.lower() for _, _, word in tokens]
    spoken = _spoken(words)
    columns = _columns(check, known, references)
    for index, (start, end, word) in enumerate(tokens):
        before, after = words[index - 1] if index else "", words[index + 1] if index + 1 < len(words) else ""
        low = words[index]
        if index in spoken:
            continue
        if word.startswith("'"):
            yield start, end, word[:-1] + "~'"
        elif before == "select" and after == "from":
            continue  # of EXISTS (SELECT 1 FROM ...): any value is as good
        elif re.fullmatch(r"\d+(\.\d+)?", word):
            yield start, end, str(int(word) + 1) if word.isdigit() else f"{word}1"
        elif low == "left" and after == "join":
            yield start, end, ""
        elif low == "join" and before not in ("left", "right", "full", "cross", "outer", "semi", "anti"):
            yield start, end, "LEFT JOIN"
        elif low in _OTHER and low not in ("left", "join"):
            yield start, end, _OTHER[low]
        elif low in columns and after not in ("(", ".") and before != "as":
            yield start, end, columns[low]


def _spoken(words: Sequence[str]) -> set[int]:
    """Places of the tokens that only make a subject or a reason."""
    found: set[int] = set()
    for index, word in enumerate(words):
        if word != "select":
            continue
        depth, begin, place = 0, index + 1, index + 1
        while place <= len(words):
            here = words[place] if place < len(words) else "from"
            if depth == 0 and here in (",", "from", ")"):
                if place - begin >= 2 and words[place - 2] == "as" and words[place - 1] in ("subject", "reason"):
                    found.update(range(begin, place))
                if here != ",":
                    break
                begin = place + 1
            depth += (here in ("(", "[", "{")) - (here in (")", "]", "}"))
            depth += (here == "case") - (here == "end" and depth > 0)
            place += 1
    return found


def _columns(check: Check, known: Mapping[str, Table], references: Mapping[str, Reference]) -> dict[str, str]:
    """{column: another of the same type and table}."""
    found: dict[str, str] = {}
    for row in [known[name].columns for name in sorted(check.tables)] + [references[name].columns for name in sorted(check.references)]:
        for column in row:
            others = [c.name for c in row if c.type == column.type and c.name != column.name]
            if others:
                found.setdefault(column.name, others[0])
    return found


def score(check: Check, known: Mapping[str, Table], references: Mapping[str, Reference], equivalent: Iterable[str] = ()) -> Score:
    """Try all mutants of a check on its examples."""
    ready = list(prepared(check, trials(check, known, references), known, references))
    try:
        if _noticed(check, ready):
            raise ValueError(f"{check.id}: its examples do not hold as it is: `fleet-audit checks test` tells why")
        listed, caught, survivors = set(equivalent), 0, []
        for mutant in mutants(check, known, references):
            if mutant.label in listed:
                continue
            if _noticed(mutant.check, ready):
                caught += 1
            else:
                survivors.append(mutant.label)
        return Score(check.id, caught, tuple(survivors))
    finally:
        for _, facts in ready:
            facts.connection.close()


def _noticed(check: Check, ready: Sequence[tuple[Any, Facts]]) -> bool:
    for fleet, facts in ready:
        try:
            for trial, result in results(check, fleet, facts):
                if result.outcome != trial.wanted or (trial.reason is not None and trial.reason not in result.reason):
                    return True
        except (DatabaseError, BrokenCheckError):
            return True
    return False


def equivalents() -> dict[str, dict[str, str]]:
    """{check: {mutant: why it means the same}}."""
    return yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}


def page(scores: Sequence[Score]) -> str:
    """The figures as a page of the documentation."""
    caught, total = sum(s.caught for s in scores), sum(s.total for s in scores)
    listed = equivalents()
    lines = [
        "<!-- Written by `make mutants`. -->\n", "# Examples with teeth\n",
        f"Of {total} single-token mutants of {len(scores)} checks, their own examples catch {caught} ({100 * caught / total:.1f} %).",
        f"Each check must catch {WANTED} % of its own. Equivalent ones are listed with a reason in `tests/equivalent_mutants.yaml`.\n",
        "| check | caught | of | per cent | equivalent |", "|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {s.check} | {s.caught} | {s.total} | {s.percent:.0f} | {len(listed.get(s.check, {}))} |" for s in scores]
    return "\n".join(lines) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="folders or files of checks")
    parser.add_argument("--survivors", action="store_true", help="show survivors of checks that catch enough, too")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    known = tables()
    library = checks.load(tables=known)
    inside = [path.resolve() for path in given.paths]
    chosen = [c for c in library.checks.values() if not inside or any(c.path.resolve().is_relative_to(p) for p in inside)]
    listed, scores = equivalents(), []
    for check in sorted(chosen, key=lambda c: c.id):
        found = score(check, known, library.references, listed.get(check.id, ()))
        scores.append(found)
        print(f"{found.percent:5.0f} %  {found.caught:3} of {found.total:3}  {found.check}", flush=True)
        if found.percent < WANTED or given.survivors:
            print("".join(f"             {label}\n" for label in found.survivors), end="")
    poor = [s for s in scores if s.percent < WANTED]
    print(f"{sum(s.caught for s in scores)} of {sum(s.total for s in scores)} caught; {len(poor)} of {len(scores)} checks below {WANTED} %")
    if given.write:
        PAGE.write_text(page(scores), encoding="utf-8")
    return 1 if poor else 0


if __name__ == "__main__":
    sys.exit(main())
