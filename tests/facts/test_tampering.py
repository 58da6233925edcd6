# SPDX-License-Identifier: Apache-2.0
"""Libraries that every program loads, and pinned eBPF objects."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.tampering import PINS, PRELOAD, TABLES
from fleet_audit.model import Coverage, Status

from .debian13 import Evidence, anything, document
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

LIBRARIES, BPF = TABLES
DENIED = {"status": "denied", "detail": "Permission denied"}
FOLDER = {"type": "dir", "uid": 0, "mode": 0o1700}
# synthetic: ld.so(8); systemd 257 and Cilium pin objects so
TEXT = "/usr/lib/libjemalloc.so.2:/opt/a.so /opt/b.so # why\n\n# /opt/no.so\n/opt/c.so\n"
PINNED: dict[str, Any] = {"/sys/fs": FOLDER, "/sys/fs/bpf": FOLDER, "/sys/fs/bpf/systemd": FOLDER,
                          "/sys/fs/bpf/systemd/userns-restrict": FOLDER, "/sys/fs/bpf/odd": {"type": "file", "uid": 1000, "mode": 0o600}}  # fmt: skip


def rows(table: Any, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(table, evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(table, extracted)


def test_preloaded_libraries() -> None:
    assert [row["path"] for row in rows(LIBRARIES, {PRELOAD.id: ok(TEXT)})] == [
        "/usr/lib/libjemalloc.so.2", "/opt/a.so", "/opt/b.so", "/opt/c.so",
    ]  # fmt: skip
    assert [row["path"] for row in rows(LIBRARIES, {PRELOAD.id: ok("libx.so /a/$LIB/b.so\n\xffodd{]\x00\n")}, Coverage.PARTIAL)] == [
        "libx.so", "/a/$LIB/b.so",
    ]  # fmt: skip
    for item in (ok(""), ok("# none\n"), status(Status.ABSENT)):
        assert rows(LIBRARIES, {PRELOAD.id: item}) == []
    for item in (status(Status.DENIED), status(Status.FAILED), status(Status.SKIPPED), status(Status.UNREACHED)):
        assert run(LIBRARIES, {PRELOAD.id: item}).coverage is Coverage.NONE


def test_pins() -> None:
    assert [(row["path"], row["folder"], row["uid"], row["mode"]) for row in rows(BPF, {PINS.id: document(PINNED)})] == [
        ("/sys/fs/bpf/systemd", True, 0, 0o1700), ("/sys/fs/bpf/systemd/userns-restrict", True, 0, 0o1700),
        ("/sys/fs/bpf/odd", False, 1000, 0o600),
    ]  # fmt: skip
    assert rows(BPF, {PINS.id: document({"/sys/fs": FOLDER, "/sys/fs/bpf": FOLDER})}) == []
    assert rows(BPF, {PINS.id: document({"/sys/fs": FOLDER, "/sys/fs/bpf": None})}) == []  # a kernel without it
    odd = {**PINNED, "/sys/fs/bpf/*": DENIED, "/sys/fs/bpf/x": {"uid": "?"}}
    assert len(rows(BPF, {PINS.id: document(odd)}, Coverage.PARTIAL)) == 3


@pytest.mark.parametrize("item", [document({}), document({"/sys/fs": None}), document({"/sys/fs": DENIED}), ok("[]"), status(Status.DENIED),
                                  status(Status.ABSENT), ok(b"\xff")])  # fmt: skip
def test_no_pins_are_proved_by_sysfs_alone(item: Any) -> None:
    assert run(BPF, {PINS.id: item}).coverage is Coverage.NONE


def test_laws() -> None:
    evidence = {PRELOAD.id: ok(TEXT), PINS.id: document(PINNED)}
    for table in TABLES:
        never_emptier(table, evidence)
        assert list(cut_short(table, evidence, table.sources[0], step=3))
    for extracted in cut_short(LIBRARIES, evidence, PRELOAD, step=1):
        assert {row[0] for row in extracted.rows} <= {row[0] for row in run(LIBRARIES, evidence).rows}


@given(anything(TABLES, ["/sys/fs", "/sys/fs/bpf", "/sys/fs/bpf/x", "uid", "mode", "type"], ["/opt/a.so:/opt/b.so", "# c"]))
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name
