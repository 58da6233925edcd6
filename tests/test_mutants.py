# SPDX-License-Identifier: Apache-2.0
"""The examples of every check have teeth: see tests/mutants.py."""

from __future__ import annotations

import pytest

from fleet_audit.checkfile import CheckFile
from fleet_audit.facts import tables
from tests import mutants
from tests.factory import library

LIBRARY = library()
EQUIVALENT = mutants.equivalents()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LIBRARY.checks))
def test_examples_notice_altered_sql(name: str) -> None:
    check = LIBRARY.named(name)
    found = mutants.score(check, tables(), LIBRARY.references, EQUIVALENT.get(name, ()))
    assert found.percent >= mutants.WANTED, found.survivors


def test_what_is_listed_as_equivalent_is_a_mutant() -> None:
    for name, listed in EQUIVALENT.items():
        made = {mutant.label for mutant in mutants.mutants(LIBRARY.named(name), tables(), LIBRARY.references)}
        assert set(listed) <= made, f"{name}: {sorted(set(listed) - made)}"
        assert all(len(why) > 10 for why in listed.values())


def test_a_check_whose_examples_are_blunt_is_told() -> None:
    check = LIBRARY.named("ssh-sessions-limited")
    kept = [e for e in check.examples if e["result"] in ("unknown", "notapplicable")]
    blunt = CheckFile.model_validate({**check.file.model_dump(), "examples": kept})
    found = mutants.score(mutants.replace(check, file=blunt), tables(), LIBRARY.references)
    assert found.percent < mutants.WANTED and "query: <= -> < (1)" in found.survivors
