# SPDX-License-Identifier: Apache-2.0
"""What every table of `nvidia_node` and `accelerators` obeys: no evidence makes it emptier, raises, or makes up a row."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_audit.facts import accelerators, nvidia_node
from fleet_audit.facts.base import Item, Table
from fleet_audit.model import Coverage, Source, SourceId, Status

from .gpu_hosts import HOSTS, without_bus
from .helpers import ok, run, status
from .laws import cut_short, never_emptier

TABLES = (*nvidia_node.TABLES, *accelerators.TABLES)
SYSFS_TABLES = frozenset("gpu_pcie_links gpu_modules amd_gpus amd_firmware amd_driver amd_processes gaudi_devices".split())


def full(table: Table) -> str:
    """The host on which a table has most rows."""
    return max(HOSTS, key=lambda host: len(run(table, HOSTS[host]).rows))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_whole_evidence_is_complete(table: Table, host: str) -> None:
    """A node that was read whole leaves no gap, whatever is on it."""
    found = run(table, HOSTS[host])
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert host != "nothing" or not found.rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_each_table_has_rows_somewhere(table: Table) -> None:
    """No table stays empty in these tests."""
    assert run(table, HOSTS[full(table)]).rows


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_law(table: Table, host: str) -> None:
    """Less evidence never gives an emptier truth."""
    never_emptier(table, HOSTS[host])


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_unread_is_never_complete(table: Table) -> None:
    """Where nothing could be read, nothing is told."""
    for what in (Status.DENIED, Status.TIMEOUT, Status.FAILED, Status.UNREACHED):
        found = run(table, {source.id: status(what, "taken away") for source in table.sources})
        assert found.coverage is not Coverage.COMPLETE
        assert not found.rows


@pytest.mark.parametrize("table", [t for t in TABLES if t.name in SYSFS_TABLES], ids=lambda table: table.name)
def test_hidden_sysfs_proves_nothing(table: Table) -> None:
    """An empty list of folders is an answer only where sysfs is there."""
    assert run(table, HOSTS["nothing"] | without_bus()).coverage is Coverage.NONE


def _cases() -> list[tuple[Table, Source]]:
    return [(t, s) for t in TABLES for s in t.sources if HOSTS[full(t)].get(s.id, ok("")).body]


@pytest.mark.parametrize(("table", "source"), _cases(), ids=lambda x: x.name if isinstance(x, Table) else x.id)
def test_cut_short(table: Table, source: Source) -> None:
    """A source that lost its end makes no row that the whole one does not make."""
    evidence = HOSTS[full(table)]
    identities = {row[:2] for row in run(table, evidence).rows}
    whole = len(evidence[source.id].body)
    for found in cut_short(table, evidence, source, max(1, whole // 9)) if _decides(table, source) else ():
        assert len(found.rows) <= len(identities) or {row[:2] for row in found.rows} <= identities


def _decides(table: Table, source: Source) -> bool:
    """Whether a table reads a source at all when the others answer: what stands in for another may not."""
    evidence = HOSTS[full(table)]
    return run(table, {**evidence, source.id: status(Status.DENIED)}).coverage is not Coverage.COMPLETE


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
@settings(max_examples=40)
@given(data=st.data())
def test_any_bytes(table: Table, data: st.DataObject) -> None:
    """Whatever a source says, nothing raises, and noise makes no row."""
    base: dict[SourceId, Item] = dict(HOSTS[data.draw(st.sampled_from(sorted(HOSTS)))])
    source = data.draw(st.sampled_from(table.sources))
    body = base.get(source.id, ok("")).body
    at, junk = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=40))
    noise = data.draw(st.booleans())
    mangled = junk * 3 if noise else data.draw(st.sampled_from([body[:at] + junk + body[at:], body[:at], body[at:]]))
    before = len(run(table, base).rows)
    found = run(table, {**base, source.id: Item(data.draw(st.sampled_from(Status)), mangled)})
    assert not found.reason.startswith("not understood: ")  # so reads what `extract` caught of a parser's fault
    assert not noise or len(found.rows) <= before
