# SPDX-License-Identifier: Apache-2.0
"""machine-id(5), read by the real reader from files made here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from fleet_audit.facts import tables
from fleet_audit.facts.machine_ids import MACHINE_ID
from fleet_audit.model import Coverage, Status

from .helpers import ok, run, status
from .nodes import node

TABLE = tables()["machine_ids"]
ID = "0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("content", "digest"), [(f"{ID}\n", hashlib.sha256(ID.encode()).hexdigest()), ("", None), ("\n", None), ("uninitialized\n", None)]
)
def test_only_the_digest_leaves_the_node(tmp_path: Path, content: str, digest: str | None) -> None:
    items = node(tmp_path, [TABLE], {"/etc/machine-id": content})
    assert ID.encode() not in items[MACHINE_ID.id].body
    found = run(TABLE, items)
    assert (found.rows, found.coverage) == (((digest,),), Coverage.COMPLETE)


def test_two_hosts_with_the_same_file_are_alike_whatever_ends_it(tmp_path: Path) -> None:
    with_end, without = (run(TABLE, node(tmp_path / str(n), [TABLE], {"/etc/machine-id": ID + end})) for n, end in enumerate(("\n", "")))
    assert with_end.rows == without.rows


def test_no_file_is_no_identity_and_an_unread_one_is_not_known(tmp_path: Path) -> None:
    found = run(TABLE, node(tmp_path, [TABLE], {}))
    assert (found.rows, found.coverage) == ((), Coverage.COMPLETE)
    assert run(TABLE, {MACHINE_ID.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_what_is_no_digest_is_not_understood() -> None:
    assert run(TABLE, {MACHINE_ID.id: ok(f"{ID}\n")}).coverage is Coverage.NONE
