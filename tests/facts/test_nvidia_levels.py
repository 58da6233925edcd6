# SPDX-License-Identifier: Apache-2.0
"""Levels of the NVIDIA driver on a node, and which level knows of each GPU."""

from __future__ import annotations

from typing import Any

import pytest

from fleet_audit.facts.base import Extract, Item
from fleet_audit.facts.gpu import DISK_LICENSE, DISK_VERSION, PCI, VERSION
from fleet_audit.facts.nvidia.nvml import NVML
from fleet_audit.facts.nvidia.smi import SMI
from fleet_audit.facts.nvidia_node import sightings, versions
from fleet_audit.facts.packages import DPKG, RPM
from fleet_audit.model import Coverage, Status

from .gpu_hosts import ADDRESS, INFORMATION, NOTHING, NVIDIA, UUID, Evidence, files, folders, texts
from .helpers import ok, rows_as_dicts, run, status
from .test_gpu import ANSWERS, CLOSED, DOCUMENT, NO_DRIVER, capture, device, failing, lines, pci

(VERSIONS,) = versions.TABLES
(SIGHTINGS,) = sightings.TABLES


def levels(found: Extract) -> set[tuple[str, str | None]]:
    """(level, version) of each row."""
    return {(row["level"], row["version"]) for row in rows_as_dicts(VERSIONS, found)}


# --- Levels ---------------------------------------------------------------------------------------


def test_all_levels() -> None:
    """Every level of a node that is in order names one version."""
    found = run(VERSIONS, NVIDIA)
    assert found.coverage is Coverage.COMPLETE
    rows = rows_as_dicts(VERSIONS, found)
    assert {(r["level"], r["name"]) for r in rows} == {
        ("loaded", "nvidia"),
        ("sysfs", "nvidia"),
        ("disk", "nvidia"),
        ("dkms", "/var/lib/dkms/nvidia/590.48.01"),
        ("firmware", "/lib/firmware/nvidia/590.48.01"),
        ("library", "/usr/lib/x86_64-linux-gnu/libcuda.so.590.48.01"),
        ("library", "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.590.48.01"),
        ("package", "nvidia-dkms-590-open"),
        ("fabric-manager", "nv-fabricmanager"),
        ("imex", "nvidia-imex"),
    }
    assert {(r["version"], r["branch"]) for r in rows} == {("590.48.01", 590)}
    assert len({r["version_key"] for r in rows}) == 1
    assert {r["level"]: r["flavour"] for r in rows if r["flavour"]} == {"loaded": "open", "disk": "open", "package": "open"}


def test_conflict_shows() -> None:
    """An update without a reload, and libraries of a third version, stay apart."""
    found = run(
        VERSIONS,
        NVIDIA
        | {
            VERSION.id: CLOSED,
            versions.FILES.id: files({"/usr/lib64/libcuda.so.580.95.05": "file", "/usr/lib64/libcuda.so.1": "link"}),
            versions.MODULE.id: folders({"/sys/module/nvidia": {"version": "550.90.07"}}),
        },
    )
    assert found.coverage is Coverage.COMPLETE
    assert levels(found) >= {("loaded", "550.90.07"), ("sysfs", "550.90.07"), ("disk", "590.48.01"), ("library", "580.95.05")}
    loaded = next(r for r in rows_as_dicts(VERSIONS, found) if r["level"] == "loaded")
    assert (loaded["flavour"], loaded["branch"]) == ("proprietary", 550)


# synthetic: package names and versions as Ubuntu's, Debian's and NVIDIA's repositories have them
@pytest.mark.parametrize(
    ("name", "version", "expected"),
    [
        ("nvidia-driver-580-server-open", "580.95.05-0ubuntu0.24.04.1", ("580.95.05", 580, "open")),
        ("nvidia-dkms-580-server", "580.95.05-0ubuntu0.24.04.1", ("580.95.05", 580, "proprietary")),
        ("nvidia-kernel-open-dkms", "550.163.01-2", ("550.163.01", 550, "open")),
        ("nvidia-kernel-dkms", "535.247.01-1~deb12u1", ("535.247.01", 535, "proprietary")),
        ("linux-modules-nvidia-580-server-open-6.8.0-60-generic", "6.8.0-60.63", (None, 580, "open")),
        ("linux-modules-nvidia-570-6.8.0-60-generic", "6.8.0-60.63", (None, 570, "proprietary")),
        ("libnvidia-compute-580", "580.95.05-0ubuntu1", ("580.95.05", 580, None)),
        ("libcuda1", "535.247.01-1", ("535.247.01", 535, None)),
        ("cuda-drivers", "580.95.05-1", ("580.95.05", 580, None)),
        ("nvidia-fabricmanager-580", "580.95.05-1", ("580.95.05", 580, None)),
        ("nvidia-imex", "10:595.80-1", ("595.80", 595, None)),
        ("nvidia-container-toolkit", "1.19.1-1", None),
        ("nvidia-cuda-toolkit", "12.4.131~12.4.1-2", None),
        ("firmware-nvidia-graphics", "20250410-2", None),
        ("libnvidia-egl-wayland1", "1:1.1.18-1", None),
        ("nvidia-open-release-notes", "1.0", None),
        ("linux-image-6.8.0-580-generic", "6.8.0-580.1", None),
    ],
)
def test_packages(name: str, version: str, expected: tuple[Any, ...] | None) -> None:
    """Packages of the driver, and none of what only bears NVIDIA's name."""
    found = run(
        VERSIONS, NOTHING | {DPKG.id: ok(f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n")}
    )
    assert found.coverage is Coverage.COMPLETE
    rows = rows_as_dicts(VERSIONS, found)
    assert [(r["version"], r["branch"], r["flavour"]) for r in rows] == ([expected] if expected else [])


def test_rpm_packages() -> None:
    """The same of an rpm system, epochs left out."""
    rpm = ok("kmod-nvidia-open-dkms\t3\t580.95.05\t1.el9\tnoarch\tnvidia-open-kmod-580.95.05-1.el9.src.rpm\n", 0)
    found = run(VERSIONS, NOTHING | {DPKG.id: status(Status.ABSENT), RPM.id: rpm})
    (row,) = rows_as_dicts(VERSIONS, found)
    assert (row["name"], row["version"], row["flavour"]) == ("kmod-nvidia-open-dkms", "580.95.05", "open")


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ({VERSION.id: status(Status.DENIED)}, "loaded"),
        ({VERSION.id: ok("garbage\n")}, "loaded"),
        ({DISK_VERSION.id: status(Status.ABSENT, "modinfo: not found")}, "disk"),
        ({DISK_VERSION.id: ok("?\n", 0)}, "disk"),
        ({versions.MODULE.id: folders({"/sys/module/nvidia": {"version": {"status": "denied", "detail": ""}}})}, "sysfs"),
        ({versions.MODULE.id: ok("{}")}, "sysfs"),
        ({versions.FILES.id: status(Status.TIMEOUT)}, "library"),
        ({DPKG.id: status(Status.DENIED)}, "package"),
        ({DPKG.id: status(Status.ABSENT)}, "package"),
        ({versions.FABRIC_MANAGER.id: Item(Status.FAILED, exit=1, detail="exit 1")}, "fabric-manager"),
        ({versions.FABRIC_MANAGER.id: status(Status.ABSENT, "no such command recorded")}, "fabric-manager"),
        ({versions.IMEX.id: ok("usage: nvidia-imex\n", 0)}, "imex"),
    ],
)
def test_a_level_that_fails_costs_itself(change: Evidence, gone: str) -> None:
    """It makes the table partial, and the other levels stay."""
    found = run(VERSIONS, NVIDIA | change)
    assert found.coverage is Coverage.PARTIAL
    left = {level for level, _ in levels(found)}
    assert gone not in left
    assert left >= {"loaded", "disk", "sysfs", "package", "imex", "fabric-manager"} - {gone}


def test_file_without_a_version() -> None:
    """A library whose name tells no version of a driver is not passed over."""
    found = run(VERSIONS, NVIDIA | {versions.FILES.id: files({"/usr/lib64/libcuda.so.1.1": "file"})})
    assert (found.coverage, "library" in dict(levels(found))) == (Coverage.PARTIAL, False)


def test_licence_is_not_needed_for_the_version() -> None:
    """Without the licence the flavour on disk is not known."""
    found = run(VERSIONS, NVIDIA | {DISK_LICENSE.id: ok("GPL\n", 0)})
    assert next(r["flavour"] for r in rows_as_dicts(VERSIONS, found) if r["level"] == "disk") is None


# --- Sightings ------------------------------------------------------------------------------------

SECOND = "0000:40:00.0"
BOTH = pci({ADDRESS: device(), SECOND: device()})


def sight(evidence: Evidence) -> tuple[Coverage, dict[str, dict[str, Any]]]:
    """Coverage, and rows by address."""
    found = run(SIGHTINGS, evidence)
    return found.coverage, {row["address"]: row for row in rows_as_dicts(SIGHTINGS, found)}


def test_sighting() -> None:
    """A GPU that all levels show."""
    coverage, rows = sight(NVIDIA)
    assert coverage is Coverage.COMPLETE
    assert rows == {
        ADDRESS: {
            "address": ADDRESS, "on_pci": True, "driver": "nvidia", "handed_away": False, "in_kernel": True, "excluded": False,
            "in_library": True, "minor": 0, "uuid": UUID,
        }
    }  # fmt: skip


def test_gpu_that_fell_off_the_library() -> None:
    """What PCI lists and the library does not is told, and is no gap."""
    coverage, rows = sight(NVIDIA | BOTH)
    assert coverage is Coverage.COMPLETE
    assert (rows[SECOND]["on_pci"], rows[SECOND]["in_kernel"], rows[SECOND]["in_library"]) == (True, False, False)
    lost = ok(lines(ANSWERS, {"handle": failing(15)}), 0)
    coverage, rows = sight(NVIDIA | BOTH | {NVML.id: lost, sightings.GPUS.id: information(ADDRESS, SECOND)})
    assert (coverage, rows[SECOND]["in_kernel"], rows[SECOND]["in_library"]) == (Coverage.COMPLETE, True, False)


def test_gpu_that_is_not_on_pci() -> None:
    """The other way round: the driver names a GPU that PCI does not list."""
    coverage, rows = sight(NVIDIA | pci({}))
    assert coverage is Coverage.COMPLETE
    assert (rows[ADDRESS]["on_pci"], rows[ADDRESS]["driver"], rows[ADDRESS]["in_kernel"], rows[ADDRESS]["in_library"]) == (
        False,
        None,
        True,
        True,
    )


def information(*where: str, text: str = INFORMATION) -> Item:
    """What the kernel module tells of GPUs."""
    return texts({f"/proc/driver/nvidia/gpus/{address}/information": text for address in where})


def test_gpus_without_a_driver() -> None:
    """A GPU of nouveau, and one of a virtual machine: no NVIDIA module is loaded, which is proved."""
    bound = pci({ADDRESS: device(driver="nouveau"), SECOND: device(driver="vfio-pci")})
    coverage, rows = sight(NOTHING | bound | {VERSION.id: NO_DRIVER})
    assert coverage is Coverage.COMPLETE
    assert [(r["driver"], r["handed_away"], r["in_kernel"], r["in_library"]) for r in rows.values()] == [
        ("nouveau", False, False, False),
        ("vfio-pci", True, False, False),
    ]


def test_excluded_gpu() -> None:
    """synthetic: NVreg_ExcludedGpus; the BIOS is not read then, and older drivers say nothing of it."""
    text = INFORMATION.replace("96.00.89.00.01", "??.??.??.??.??").replace("Excluded:\t No", "Excluded:\t Yes")
    assert sight(NVIDIA | {sightings.GPUS.id: information(ADDRESS, text=text)})[1][ADDRESS]["excluded"] is True
    old = text.partition("GPU Firmware")[0].replace(UUID, "GPU-????????-????-????-????-????????????")
    row = sight(NVIDIA | {sightings.GPUS.id: information(ADDRESS, text=old)})[1][ADDRESS]
    assert (row["excluded"], row["uuid"], row["minor"]) == (None, None, 0)


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({PCI.id: status(Status.DENIED)}, "on_pci"),
        ({sightings.GPUS.id: status(Status.DENIED)}, "in_kernel"),
        ({NVML.id: ok(lines(ANSWERS, end=False), 0)}, "in_library"),
        ({NVML.id: ok(lines(ANSWERS, system={"count": 2}), 0)}, "in_library"),
        ({NVML.id: ok(lines({**ANSWERS, "pci": failing(999)}), 0)}, "in_library"),
        ({NVML.id: status(Status.FAILED), SMI.id: status(Status.TIMEOUT)}, "in_library"),
        ({NVML.id: status(Status.FAILED), SMI.id: ok("No devices were found\n", 0)}, "in_library"),
    ],
)
def test_level_that_was_not_read(change: Evidence, column: str) -> None:
    """It is NULL, never `does not know of it`."""
    coverage, rows = sight(NVIDIA | change)
    assert (coverage, rows[ADDRESS][column]) == (Coverage.PARTIAL, None)


def test_garbled_information() -> None:
    """A file that is none of the module's makes the table partial."""
    coverage, rows = sight(NVIDIA | {sightings.GPUS.id: texts({"/proc/driver/nvidia/gpus/x/information": "?"})})
    assert (coverage, rows[ADDRESS]["in_kernel"]) == (Coverage.PARTIAL, None)


def test_level_that_was_read_in_part() -> None:
    """What it names it knows; it denies nothing."""
    unread = pci({ADDRESS: device(), SECOND: device(vendor={"status": "denied", "detail": ""})})
    coverage, rows = sight(NVIDIA | unread | {sightings.GPUS.id: information(ADDRESS, SECOND)})
    assert (coverage, rows[ADDRESS]["on_pci"], rows[SECOND]["on_pci"], rows[SECOND]["in_kernel"]) == (Coverage.PARTIAL, True, None, True)


@pytest.mark.parametrize(
    ("name", "where"), [("l40s.595.91.07", ADDRESS), ("t4.515.105.01", "0000:00:1e.0"), ("rtx-3080.v13", "0000:0c:00.0")]
)
def test_captures(name: str, where: str) -> None:
    """Schemas v11 and v13 in NVML's place: the addresses are those of PCI."""
    there = pci({where: device()}) | {NVML.id: status(Status.FAILED, "no library"), sightings.GPUS.id: information(where)}
    coverage, rows = sight(NVIDIA | there | {SMI.id: ok(capture(name), 0)})
    assert (coverage, list(rows), rows[where]["in_library"]) == (Coverage.COMPLETE, [where], True)
    more = pci({where: device(), SECOND: device()})
    coverage, rows = sight(NVIDIA | there | more | {SMI.id: ok(capture(name), 0)})
    assert (coverage, rows[SECOND]["in_library"]) == (Coverage.COMPLETE, False)


def test_tool_that_lists_fewer_than_are_attached() -> None:
    """`attached_gpus` above the number of elements: which one is missing is not known."""
    short = DOCUMENT.replace("<attached_gpus>1", "<attached_gpus>2")
    coverage, rows = sight(NVIDIA | BOTH | {NVML.id: status(Status.FAILED), SMI.id: ok(short, 0)})
    assert (coverage, rows[SECOND]["in_library"]) == (Coverage.PARTIAL, None)
