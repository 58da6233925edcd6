# SPDX-License-Identifier: Apache-2.0
"""Every check of the library on nodes of many kinds (synthetic facts): an empty one, distributions, guests, GPUs or none."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract
from fleet_audit.model import Coverage, Outcome

from .factory import decide, library, outcomes, rows

pytestmark = pytest.mark.slow
LIBRARY = library()
EVERY = sorted(LIBRARY.checks.values(), key=lambda c: c.id)
SYSTEMS: dict[str, dict[str, Any]] = {
    "ubuntu-20.04": {"id": "ubuntu", "id_like": ["debian"], "version_id": "20.04", "family": "debian"},
    "ubuntu-22.04": {"id": "ubuntu", "id_like": ["debian"], "version_id": "22.04", "family": "debian"},
    "ubuntu-24.04": {"id": "ubuntu", "id_like": ["debian"], "version_id": "24.04", "family": "debian"},
    "rhel-8": {"id": "rhel", "id_like": ["fedora"], "version_id": "8.10", "family": "rhel"},
    "rhel-9": {"id": "rhel", "id_like": ["fedora"], "version_id": "9.6", "family": "rhel"},
    "rocky-9": {"id": "rocky", "id_like": ["rhel", "centos", "fedora"], "version_id": "9.6", "family": "rhel"},
    "debian-11": {"id": "debian", "version_id": "11", "family": "debian"},
    "debian-12": {"id": "debian", "version_id": "12", "family": "debian"},
    "debian-13": {"id": "debian", "version_id": "13", "family": "debian"},
    "sles-15": {"id": "sles", "id_like": ["suse"], "version_id": "15.6", "family": "suse"},
}  # fmt: skip
GPUS = (0, 1, 8)


def node(system: str, gpus: int, guest: bool) -> dict[str, Extract]:
    """All tables complete: an operating system, a machine, so many H100 with their driver, and nothing else."""
    found = {name: rows(name) for name in tables()}
    found["os"] = rows("os", SYSTEMS[system])
    found["machine"] = rows("machine", {"virtualization": "kvm" if guest else "none", "hypervisor": guest})
    found["kernel_running"] = rows("kernel_running", {"release": "6.8.0-60-generic", "tainted": 0})
    if gpus:
        found["gpu_pci"] = rows(
            "gpu_pci", *({"address": f"0000:{n:02x}:00.0", "vendor": "nvidia", "kind": "gpu", "driver": "nvidia"} for n in range(gpus))
        )
        found["gpus"] = rows("gpus", *(
            {"uuid": f"GPU-{n}", "gpu_index": n, "name": "NVIDIA H100 80GB HBM3", "ecc_supported": True, "ecc_enabled": n == 0, "ecc_pending": True}
            for n in range(gpus)
        ))  # fmt: skip
        found["nvidia_driver"] = rows("nvidia_driver", {"loaded_version": "580.178.04", "branch": 580, "flavour": "open"})
    return found


def test_of_an_empty_node_nothing_is_known(tmp_path: Path) -> None:
    found = decide(tmp_path, EVERY, {"dark": {}}, groups={"dark": ("lab",)})
    assert {r.check: r.outcome for r in found.results} == dict.fromkeys((c.id for c in EVERY), Outcome.UNKNOWN)
    assert all(r.reason for r in found.results)


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_check_breaks_on_a_distribution_and_gpu_checks_know_when_they_apply(tmp_path: Path, system: str) -> None:
    nodes = {f"{gpus}-{'guest' if guest else 'metal'}": node(system, gpus, guest) for gpus in GPUS for guest in (False, True)}
    found = decide(tmp_path, EVERY, nodes)
    told = outcomes(found)
    assert Outcome.ERROR not in set(told.values()), [r for r in found.results if r.outcome is Outcome.ERROR]
    for host in nodes:
        counts = Counter(outcome for (_, name), outcome in told.items() if name == host)
        assert counts[Outcome.PASS] > 20 and counts[Outcome.NOTAPPLICABLE] > 20, counts
    ecc = {str(r.host): (r.outcome, r.subjects, r.failed) for r in found.results if r.check == "gpu-ecc-enabled"}
    for guest in ("metal", "guest"):
        assert ecc[f"0-{guest}"][0] is Outcome.NOTAPPLICABLE
        assert ecc[f"1-{guest}"] == (Outcome.PASS, 1, 0) and ecc[f"8-{guest}"] == (Outcome.FAIL, 8, 7)
    apt = {host: outcome for (check, host), outcome in told.items() if check == "apt-lists-fresh"}
    assert (set(apt.values()) == {Outcome.NOTAPPLICABLE}) is (SYSTEMS[system]["family"] != "debian")


def test_without_a_table_no_check_that_needs_it_passes(tmp_path: Path) -> None:
    whole = node("ubuntu-24.04", 8, guest=False)
    hosts = {
        f"{table} {state}": {**whole, table: rows(table, coverage=state, reason="taken away")}
        for table in tables() for state in (Coverage.NONE, Coverage.PARTIAL)
    }  # fmt: skip
    needs = {str(check.id): check.tables for check in EVERY}
    told = outcomes(decide(tmp_path, [c for c in EVERY if c.file.scope == "host"], hosts))
    wrong = [(check, host) for (check, host), outcome in told.items() if outcome is Outcome.PASS and host.split()[0] in needs[check]]
    assert wrong == []
