# SPDX-License-Identifier: Apache-2.0
"""States, NVLinks, MIG devices and capabilities of NVIDIA GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_audit.facts.base import Item
from fleet_audit.facts.gpu import PCI, VERSION
from fleet_audit.facts.nvidia_node import mig, nvlink, states
from fleet_audit.model import Coverage, SourceId, Status

from .gpu_hosts import ADDRESS, CAPABILITY, CAPS, MIG_LIST, NOT_HERE, NOTHING, NVIDIA, NVLINKS, STATES, UUID, Evidence, section, texts
from .helpers import ok, rows_as_dicts, run, status
from .test_gpu import device, pci

(STATE,) = states.TABLES
(NVLINK,) = nvlink.TABLES
CAPABILITIES, MIG_DEVICES = mig.TABLES
H200, RTX4080 = "h200.590.48.01", "rtx-4080-super.595.71.05"
WHERE = {H200: pci({"0000:83:00.0": device()}), RTX4080: pci({"0000:01:00.0": device(kind="0x030000")})}
CSV = "query-gpu (csv, what the exporter parses)"
MASKED = "GPU-00000000-0000-0000-0000-000000000000"
CLUSTER = "0aa7f2c6-6a7f-4dbf-8d5d-0d24dd9ee8a4"
SECOND = {ADDRESS: device(), "0000:40:00.0": device()}
GUEST = pci({ADDRESS: device(driver="vfio-pci")})
FAILED = Item(Status.FAILED, exit=2, detail='exit 2: Field "gpu_recovery_action" is not a valid field to query.')


def state(text: str, **evidence: Item) -> tuple[Coverage, dict[str, Any]]:
    """Coverage and the only row."""
    found = run(STATE, NVIDIA | {states.STATES.id: ok(text, 0)} | {SourceId(name): item for name, item in evidence.items()})
    (row,) = rows_as_dicts(STATE, found)
    return found.coverage, row


# --- States ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["idle", "load"])
def test_states_of_an_h200(when: str) -> None:
    """A real answer with more columns than are asked for: names find them."""
    coverage, row = state(section(H200, f"{when} :: {CSV}"), **WHERE[H200])
    assert coverage is Coverage.COMPLETE
    utilization = row.pop("utilization_percent")
    assert utilization == 0 if when == "idle" else utilization > 0
    assert row == {
        "uuid": MASKED, "gpu_index": 0, "address": "0000:83:00.0", "compute_mode": "default", "power_limit_milliwatts": 700_000,
        "power_default_milliwatts": 700_000, "retirement_pending": None, "recovery_action": "none", "fabric_state": "completed",
        "fabric_status": "success", "fabric_clique": 0, "fabric_cluster": None, "dram_encryption": None,
    }  # fmt: skip


@pytest.mark.parametrize("when", ["idle", "load"])
def test_states_of_an_rtx_4080(when: str) -> None:
    """A consumer GPU has no fabric; its `N/A` comes with and without brackets."""
    coverage, row = state(section(RTX4080, f"{when} :: {CSV}"), **WHERE[RTX4080])
    assert coverage is Coverage.COMPLETE
    assert (row["address"], row["power_limit_milliwatts"], row["recovery_action"]) == ("0000:01:00.0", 320_000, "none")
    assert (row["fabric_state"], row["fabric_status"], row["fabric_clique"], row["retirement_pending"]) == (None, None, None, None)


def put(old: str, new: str) -> str:
    """The states with another value."""
    assert old in STATES
    return STATES.replace(old, new)


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        (put("Default", "Exclusive_Process"), "compute_mode", "exclusive-process"),
        (put("3 %, [N/A]", "3 %, Yes"), "retirement_pending", True),
        (put("0, 00000000-0000-0000-0000-000000000000, [N/A]", f"32766, {CLUSTER}, Enabled"), "dram_encryption", True),
        (put("00000000-0000-0000-0000-000000000000", CLUSTER), "fabric_cluster", CLUSTER),
        (put("None", "Drain and Reset"), "recovery_action", "drain-and-reset"),
        (put("Completed, Success", "In Progress, [N/A]"), "fabric_state", "in-progress"),
        (put("3 %", "[Not Supported]"), "utilization_percent", None),
        (put("None", "Requested functionality has been deprecated"), "recovery_action", None),
    ],
)  # fmt: skip
def test_other_values(text: str, column: str, expected: object) -> None:
    """Spellings of the tool, and its words for nothing."""
    coverage, row = state(text)
    assert (coverage, row[column]) == (Coverage.COMPLETE, expected)


@pytest.mark.parametrize(
    ("text", "column"),
    [
        (put("Completed", "[Unknown Error]"), "fabric_state"),
        (put("Completed", "[GPU requires reset]"), "fabric_state"),
        (put("Default", "[Insufficient Permissions]"), "compute_mode"),
        (put("700.00 W, 700.00 W", "lots, 700.00 W"), "power_limit_milliwatts"),
        (put("3 %, [N/A]", "3 %, Perhaps"), "retirement_pending"),
        (put("3 %", "ERR!"), "utilization_percent"),
        (put("00000000:30:00.0", ""), "address"),
    ],
)
def test_states_that_failed(text: str, column: str) -> None:
    """What the tool failed to say is NULL and makes the table partial."""
    coverage, row = state(text)
    assert (coverage, row[column]) == (Coverage.PARTIAL, None)


def test_states_of_an_old_driver() -> None:
    """One unknown name fails the whole question; fewer are asked then, and the rest is not told."""
    old = "index, uuid, pci.bus_id, compute_mode, power.limit [W]\n" + f"0, {UUID}, 00000000:30:00.0, Default, 300.00 W\n"
    found = run(STATE, NVIDIA | {states.STATES.id: FAILED, states.OLD_STATES.id: ok(old, 0)})
    (row,) = rows_as_dicts(STATE, found)
    assert (found.coverage, row["power_limit_milliwatts"], row["fabric_state"], row["recovery_action"]) == (
        Coverage.COMPLETE,
        300_000,
        None,
        None,
    )


@pytest.mark.parametrize("text", ["", "No devices were found\n", "a, b\n1, 2\n", 'Field "x" is not a valid field to query.\n'])
def test_states_not_understood(text: str) -> None:
    """An answer without the names says nothing."""
    assert run(STATE, NVIDIA | {states.STATES.id: ok(text, 0)}).coverage is Coverage.NONE


def test_states_line_that_is_no_gpu() -> None:
    """A line of another length, and one without a UUID, make the table partial."""
    for line in ("1, GPU-2\n", "\x00\n", STATES.splitlines()[1].replace(UUID, "[Unknown Error]") + "\n"):
        found = run(STATE, NVIDIA | {states.STATES.id: ok(STATES + line, 0)})
        assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)


@pytest.mark.parametrize(("table", "source"), [(STATE, states.STATES), (NVLINK, nvlink.NVLINK), (MIG_DEVICES, mig.MIG)])
def test_gpu_that_the_tool_does_not_list(table: Any, source: Any) -> None:
    """A GPU more on PCI: the table is partial, not shorter; unknown PCI is a gap too."""
    assert run(table, NVIDIA | pci(SECOND)).coverage is Coverage.PARTIAL
    assert run(table, NVIDIA | {PCI.id: status(Status.DENIED)}).coverage is Coverage.PARTIAL
    assert run(table, NVIDIA | GUEST).coverage is Coverage.COMPLETE
    for gone in (status(Status.ABSENT, "nvidia-smi: No such file"), status(Status.TIMEOUT), Item(Status.FAILED, exit=18, detail="exit 18")):
        assert run(table, NVIDIA | {source.id: gone}).coverage is Coverage.NONE


@pytest.mark.parametrize("table", [STATE, NVLINK, MIG_DEVICES])
def test_no_driver(table: Any) -> None:
    """Without a driver there is nothing to tell only if PCI shows no GPU."""
    assert run(table, NOTHING).coverage is Coverage.COMPLETE
    assert run(table, NOTHING | pci({ADDRESS: device(driver=None)})).coverage is Coverage.NONE
    assert run(table, NOTHING | {VERSION.id: status(Status.DENIED)}).coverage is Coverage.NONE


# --- NVLink ---------------------------------------------------------------------------------------


def links(text: str, where: Evidence | None = None) -> tuple[Coverage, list[tuple[Any, ...]]]:
    """Coverage and rows."""
    found = run(NVLINK, NVIDIA | (where or {}) | {nvlink.NVLINK.id: ok(text, 0)})
    return found.coverage, list(found.rows)


def test_links_of_an_h200() -> None:
    """A real answer: 18 links to the switches."""
    coverage, rows = links(section(H200, "capabilities :: nvlink -s"), WHERE[H200])
    assert coverage is Coverage.COMPLETE
    assert rows == [(MASKED, 0, number, True, 26562) for number in range(18)]


def test_no_links_of_an_rtx_4080() -> None:
    """A real answer: it says so, with exit status 0 or 3."""
    assert links(section(RTX4080, "capabilities :: nvlink -s"), WHERE[RTX4080]) == (Coverage.COMPLETE, [])


def test_inactive_links() -> None:
    """synthetic: forms in public reports; all links inactive come as a message, on the GPU's line or below it."""
    assert links(NVLINKS) == (Coverage.COMPLETE, [(UUID, 0, 0, True, 26562), (UUID, 0, 1, False, None)])
    head = NVLINKS.splitlines()[0]
    message = "NVML: Unable to retrieve NVLink information as all links are inActive"
    for text in (f"{head} {message}\n", f"{head}\n{message}\n"):
        assert links(text) == (Coverage.COMPLETE, [(UUID, 0, None, False, None)])


@pytest.mark.parametrize(
    ("text", "coverage", "rows"),
    [
        (NVLINKS.replace("<inactive>", "<something new>"), Coverage.PARTIAL, [(UUID, 0, 0, True, 26562), (UUID, 0, 1, None, None)]),
        (NVLINKS + "\t what?\n", Coverage.PARTIAL, [(UUID, 0, 0, True, 26562), (UUID, 0, 1, False, None)]),
        ("Warning: x\n" + NVLINKS, Coverage.PARTIAL, [(UUID, 0, 0, True, 26562), (UUID, 0, 1, False, None)]),
        (NVLINKS.splitlines()[0] + "\n", Coverage.PARTIAL, []),
        ("", Coverage.NONE, []),
        ("Failed to initialize NVML: Driver/library version mismatch\n", Coverage.NONE, []),
    ],
)
def test_other_wording_of_links(text: str, coverage: Coverage, rows: list[tuple[Any, ...]]) -> None:
    """A state that is not known is neither up nor down."""
    assert links(text) == (coverage, rows)


# --- MIG ------------------------------------------------------------------------------------------

NO_INSTANCE = {mig.CAPABILITIES.id: texts({f"{CAPS}/mig/config": CAPABILITY.format(1, 256)}), mig.MIG.id: NOT_HERE}


def test_mig_devices() -> None:
    """Profiles and UUIDs; those of old drivers name the GPU within."""
    found = run(MIG_DEVICES, NVIDIA)
    assert found.rows == (
        (UUID, 0, 0, "3g.40gb", "MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"),
        (UUID, 0, 1, "1c.2g.20gb", "MIG-cba663e8-9bed-5b25-b243-5985ef7c9beb"),
    )
    old = MIG_LIST.splitlines()[0] + "\n  MIG 1g.5gb Device 0: (UUID: MIG-GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f/7/0)\n"
    found = run(MIG_DEVICES, NVIDIA | {mig.MIG.id: ok(old, 0)})
    assert (found.coverage, found.rows[0][3:]) == (Coverage.COMPLETE, ("1g.5gb", "MIG-GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f/7/0"))


@pytest.mark.parametrize("capture", [H200, RTX4080])
def test_captures_without_mig(capture: str) -> None:
    """Real answers of GPUs that are not partitioned."""
    evidence = NVIDIA | WHERE[capture] | {mig.MIG.id: ok(section(capture, "capabilities :: list (-L)"), 0)}
    assert run(MIG_DEVICES, evidence).coverage is Coverage.COMPLETE
    assert run(MIG_DEVICES, evidence).rows == ()


def test_mig_off() -> None:
    """The tool is not run where the driver shows no GPU instance; that the driver shows anything must be seen."""
    assert run(MIG_DEVICES, NVIDIA | NO_INSTANCE).coverage is Coverage.COMPLETE
    assert run(MIG_DEVICES, NVIDIA | NO_INSTANCE | {mig.CAPABILITIES.id: ok("{}")}).coverage is Coverage.NONE
    assert run(MIG_DEVICES, NVIDIA | NO_INSTANCE | {mig.CAPABILITIES.id: NVIDIA[mig.CAPABILITIES.id]}).coverage is Coverage.NONE
    assert run(MIG_DEVICES, NVIDIA | NO_INSTANCE | {mig.CAPABILITIES.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_mig_garbage() -> None:
    """A line that is no MIG device makes the table partial."""
    text = MIG_LIST + "Unable to determine the device handle for GPU0000:40:00.0: Unknown Error\n"
    found = run(MIG_DEVICES, NVIDIA | {mig.MIG.id: ok(text, 0)})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 2)


def test_capabilities() -> None:
    """Names without the noise of the paths, and the device file of each."""
    found = run(CAPABILITIES, NVIDIA)
    assert set(found.rows) == {
        ("mig/config", "/dev/nvidia-caps/nvidia-cap1", 0o400, True),
        ("mig/monitor", "/dev/nvidia-caps/nvidia-cap2", 0o444, True),
        ("gpu0/gi1", "/dev/nvidia-caps/nvidia-cap12", 0o444, True),
        ("gpu0/gi1/ci0", "/dev/nvidia-caps/nvidia-cap13", 0o444, True),
    }
    fabric = texts({f"{CAPS}/fabric-imex-mgmt": "DeviceFileMinor: 4323\nDeviceFileMode: 256\n"})
    found = run(CAPABILITIES, NVIDIA | {mig.CAPABILITIES.id: fabric})
    assert found.rows == (("fabric-imex-mgmt", "/dev/nvidia-caps/nvidia-cap4323", 0o400, None),)


def test_capabilities_that_are_missing() -> None:
    """None without a driver; with one, an empty answer is none."""
    assert run(CAPABILITIES, NOTHING).coverage is Coverage.COMPLETE
    assert run(CAPABILITIES, NVIDIA | {mig.CAPABILITIES.id: ok("{}")}).coverage is Coverage.NONE
    odd = texts({f"{CAPS}/mig/config": "?", f"{CAPS}/mig/monitor": CAPABILITY.format(2, 292)})
    found = run(CAPABILITIES, NVIDIA | {mig.CAPABILITIES.id: odd})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)
