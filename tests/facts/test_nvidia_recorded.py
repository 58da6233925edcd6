# SPDX-License-Identifier: Apache-2.0
"""An H100 and an H200 that really answered: recorded/nvidia.json says how it was recorded, and what was replaced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts import nvidia, tables
from fleet_audit.facts.base import Item
from fleet_audit.facts.nvidia.nvml import NVML
from fleet_audit.facts.nvidia.smi import SMI
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status

RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded/nvidia.json").read_text())["nodes"]
Evidence = dict[SourceId, Item]
UUID = "GPU-0d000000-0000-0000-0000-000000000001"

both = pytest.mark.parametrize("card", ["h100", "h200"])


def evidence(card: str) -> Evidence:
    """All recorded sources of a node."""
    found = {name: entry for name, entry in RECORDED[card].items() if "status" in entry}
    return {SourceId(name): Item(Status(e["status"]), e["text"].encode(), e["exit"], e["detail"]) for name, e in found.items()}


def by_smi(card: str) -> Evidence:
    """The node as it is where NVML's library does not load."""
    return {**evidence(card), NVML.id: status(Status.FAILED, "no library"), SMI.id: ok(RECORDED[card]["nvidia-smi-xml"]["text"], 0)}


def rows(name: str, items: Evidence) -> list[dict[str, Any]]:
    """The rows of a table that is complete."""
    table = tables()[name]
    found = run(table, items)
    assert found.coverage is Coverage.COMPLETE, found
    return rows_as_dicts(table, found)


@both
def test_gpu(card: str) -> None:
    (row,) = rows("gpus", evidence(card))
    assert (row["uuid"], row["address"], row["driver_version"], row["driver_branch"]) == (UUID, "0000:00:06.0", "580.159.04", 580)
    assert (row["gsp_version"], row["architecture"], row["virtualization"]) == ("580.159.04", "hopper", "pass-through")
    assert (row["ecc_enabled"], row["mig_enabled"], row["persistence"], row["remap_failure"]) == (True, False, True, False)
    assert row["name"] == {"h100": "NVIDIA H100 80GB HBM3", "h200": "NVIDIA H200"}[card]


def test_inforom_was_asked_on_the_h100_alone() -> None:
    """The H200 was recorded before the program asked for it: not known is not intact."""
    assert [rows("gpus", evidence(card))[0]["inforom_valid"] for card in ("h100", "h200")] == [True, None]


@both
def test_nvml_and_nvidia_smi_agree(card: str) -> None:
    """Two ways to the same facts; nvidia-smi does not check the InfoROM."""
    (one,), (other,) = rows("gpus", evidence(card)), rows("gpus", by_smi(card))
    assert {**one, "inforom_valid": None} == other


@both
def test_process_of_the_loop(card: str) -> None:
    (row,) = rows("gpu_processes", evidence(card))
    assert row["kind"] == "compute" and row["pid"] > 1 and row["used_memory_bytes"] > 1 << 29


@both
def test_states(card: str) -> None:
    (row,) = rows("gpu_states", evidence(card))
    assert (row["uuid"], row["compute_mode"], row["recovery_action"]) == (UUID, "default", "none")


@both
def test_confidential_computing_is_off(card: str) -> None:
    (row,) = rows("gpu_confidential", evidence(card))
    assert (row["cc_enabled"], row["devtools"]) == (False, False)


@both
def test_pci_module_and_library_see_the_same_gpu(card: str) -> None:
    (row,) = rows("gpu_sightings", evidence(card))
    assert (row["address"], row["driver"], row["handed_away"]) == ("0000:00:06.0", "nvidia", False)
    assert all(row[column] for column in row if column.startswith(("on_", "by_"))), row


@both
def test_driver_that_modinfo_does_not_tell_is_partial(card: str) -> None:
    """These machines have no kmod: the loaded driver is known, the one on disk is not."""
    table = tables()["nvidia_driver"]
    found = run(table, evidence(card))
    (row,) = rows_as_dicts(table, found)
    assert found.coverage is Coverage.PARTIAL and (row["loaded_version"], row["flavour"]) == ("580.159.04", "open")


@both
def test_no_table_of_nvidia_is_lost_to_an_answer(card: str) -> None:
    """None of the tables that these sources feed alone is `none` for a reason of ours."""
    items = evidence(card)
    for table in nvidia.TABLES:
        assert run(table, items).coverage is Coverage.COMPLETE, table.name
