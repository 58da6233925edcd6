# SPDX-License-Identifier: Apache-2.0
"""Who is concerned: Ubuntu Pro, Livepatch, kernels that wait for a reboot, VEX, Python, NVIDIA's branches (synthetic data sets)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.advisories import matching
from fleet_audit.advisories.database import Database
from fleet_audit.advisories.reading import SOURCES
from fleet_audit.model import Coverage

from .nodes import Node, affects, data_set, decide, dpkg, osv, pip, rpm

KERNEL = "6.8.0-60-generic"
SIGNATURE = "6.8.0-60.63-generic"
FIXED_KERNEL = "6.8.0-61.64~22.04.1"


def modules(abi: str, version: str, source: str = "linux-hwe-6.8") -> dict[str, Any]:
    return dpkg(f"linux-modules-6.8.0-{abi}-generic", version, source)


OLD, NEW = modules("60", "6.8.0-60.63~22.04.1"), modules("61", FIXED_KERNEL)


@pytest.fixture
def database(tmp_path: Path) -> Database:
    jammy, pro = "Ubuntu:22.04:LTS", "Ubuntu:Pro:22.04:LTS"
    own = {"cves_map": {"cves": [{"id": "CVE-2026-0001"}]}}
    apps = "pkg:deb/ubuntu/x?arch=source&distro=esm-apps/jammy"
    return data_set(
        tmp_path,
        base=osv("UBUNTU-CVE-2026-0001", affects(jammy, "curl", {"fixed": "7.81.0-1ubuntu1.20"}), severity=[{"type": "Ubuntu", "score": "high"}]),
        pro=osv("UBUNTU-CVE-2026-0002", affects(jammy, "mc"), affects(pro, "mc", {"fixed": "4.8-1ubuntu0.1~esm2"}, purl=apps)),
        pro_only=osv("UBUNTU-CVE-2026-0003", affects(pro, "nano", {"fixed": "6.2-1ubuntu0.1~esm1"}, purl=apps)),
        none=osv("UBUNTU-CVE-2026-0004", affects(jammy, "vim")),
        fips=osv("UBUNTU-CVE-2026-0005", affects("Ubuntu:Pro:FIPS-updates:22.04:LTS", "openssl", {"fixed": "3.0.2-0ubuntu1.fips.9"})),
        kernel=osv("UBUNTU-CVE-2026-0006", affects(jammy, "linux-hwe-6.8", {"fixed": FIXED_KERNEL}), affects(jammy, "linux", {"fixed": "9"})),
        notice=osv("USN-1-1", affects(jammy, "curl", {"fixed": "7.81.0-1ubuntu1.99"}, database_specific=own),
                   affects(jammy, "wget", {"fixed": "1.21-2"}),
                   cves=["UBUNTU-CVE-2026-0001", "UBUNTU-CVE-2026-0007"]),
        vex={"metadata": {"@context": "https://openvex.dev/ns/v0.2.0", "timestamp": "2026-07-20T00:00:00"}, "statements": [
            {"vulnerability": {"name": "CVE-2026-0008"}, "status": "not_affected",
             "products": [{"@id": "pkg:deb/ubuntu/zip@3.0-12build2?arch=source&distro=jammy"}]}]},
        excused=osv("UBUNTU-CVE-2026-0008", affects(jammy, "zip"), affects(jammy, "unzip")),
        withdrawn=osv("UBUNTU-CVE-2026-0009", affects(jammy, "curl"), withdrawn="2026-07-02T00:00:00Z"),
        odd=osv("UBUNTU-CVE-2026-0010", affects(jammy, "tar", {"fixed": "not a version!"})),
        lsn=osv("LSN-0108-1", affects(pro, "linux-hwe-6.8", {"fixed": "6.8.0-50.51~22.04.1"}), cves=["UBUNTU-CVE-2026-0006"]),
        kev={"catalogVersion": "1", "dateReleased": "2026-07-20T00:00:00Z", "vulnerabilities": [
            {"cveID": "CVE-2026-0001", "dateAdded": "2026-07-10", "dueDate": "2026-07-31", "knownRansomwareCampaignUse": "Known"}]},
    )  # fmt: skip


@pytest.mark.parametrize(("package", "pro", "states"), [
    (dpkg("curl", "7.81.0-1ubuntu1.19"), (), {"CVE-2026-0001": "open"}),
    (dpkg("libcurl4", "7.81.0-1ubuntu1.19", "curl"), (), {"CVE-2026-0001": "open"}),
    (dpkg("curl", "7.81.0-1ubuntu1.20"), (), {}), (dpkg("curl", "7.81.0-1ubuntu1.100"), (), {}),
    (dpkg("mc", "4.8-1"), (), {"CVE-2026-0002": "needs-pro"}), (dpkg("mc", "4.8-1"), ("esm-infra",), {"CVE-2026-0002": "needs-pro"}),
    (dpkg("mc", "4.8-1"), ("esm-apps",), {"CVE-2026-0002": "open"}), (dpkg("mc", "4.8-1ubuntu0.1~esm2"), (), {}),
    (dpkg("nano", "6.2-1"), (), {"CVE-2026-0003": "needs-pro"}), (dpkg("nano", "6.2-1ubuntu0.1~esm1"), (), {}),
    (dpkg("vim", "8.2"), ("esm-apps", "esm-infra"), {"CVE-2026-0004": "no-fix"}), (dpkg("openssl", "3.0.2-0ubuntu1.1"), (), {}),
    (dpkg("wget", "1.21-1"), (), {"CVE-2026-0001": "open", "CVE-2026-0007": "open"}),
    (dpkg("zip", "3.0"), (), {"CVE-2026-0008": "not-affected"}), (dpkg("unzip", "6.0"), (), {"CVE-2026-0008": "no-fix"}),
    (dpkg("tar", "1.34"), (), {"CVE-2026-0010": None}), (dpkg("linux-libc-dev", "6.8.0-1.1", "linux"), (), {}),
    (dpkg("linux-headers-generic", "6.8.0-1.1", "linux-hwe-6.8"), (), {}),
])  # fmt: skip
def test_a_package_of_ubuntu(database: Database, package: dict[str, Any], pro: tuple[str, ...], states: dict[str, str]) -> None:
    found = decide(database, Node(packages=[package], pro=pro, container="docker"))
    assert found.states() == states
    assert found.coverage() == ("complete", "")


def test_a_row_says_what_to_do(database: Database) -> None:
    (row,) = decide(database, Node(packages=[dpkg("curl", "7.81.0-1ubuntu1.19")], container="docker")).rows("vulnerabilities")
    assert row["fixed_version"] == "7.81.0-1ubuntu1.20" and row["fix_from"] == "updates" and row["severity"] == "high"
    assert (row["exploited"], row["exploited_since"], row["advisories"]) == (True, datetime(2026, 7, 10), ["UBUNTU-CVE-2026-0001"])
    (row,) = decide(database, Node(packages=[dpkg("mc", "4.8-1")], container="docker")).rows("vulnerabilities")
    assert (row["fix_from"], row["severity"], row["exploited"], row["probability_permille"]) == ("esm-apps", "unknown", False, None)


PATCHED = {
    "installed": True,
    "enabled": True,
    "kernel": SIGNATURE,
    "state": "applied",
    "patch_version": "108.1",
    "fixes": ["CVE-2026-0006"],
}


@pytest.mark.parametrize(("packages", "livepatch", "state"), [
    ([OLD], None, "open"), ([OLD, NEW], None, "fixed-not-active"), ([OLD], PATCHED, "livepatched"), ([OLD, NEW], PATCHED, "fixed-not-active"),
    ([OLD], {**PATCHED, "fixes": []}, "open"), ([OLD], {**PATCHED, "state": "apply-failed"}, "open"),
    ([OLD], {**PATCHED, "kernel": "6.8.0-59.61-generic"}, "open"), ([OLD], {**PATCHED, "state": None}, None),
    ([OLD], {"installed": True, "enabled": False}, "open"), ([OLD], {"installed": False}, "open"),
])  # fmt: skip
def test_a_running_kernel(database: Database, packages: list[Any], livepatch: dict[str, Any] | None, state: str | None) -> None:
    found = decide(database, Node(packages=packages, kernel=KERNEL, signature=SIGNATURE, livepatch=livepatch))
    assert found.states() == {"CVE-2026-0006": state}
    (row,) = found.rows("vulnerabilities")
    assert row["kernel"] and row["version"] == "6.8.0-60.63~22.04.1" and row["package"] == "linux-hwe-6.8"


def test_a_kernel_that_is_mended_runs_and_an_old_one_on_disk_is_nothing(database: Database) -> None:
    assert decide(database, Node(packages=[OLD, NEW], kernel="6.8.0-61-generic", signature="6.8.0-61.64-generic")).states() == {}


def test_livepatch_that_was_not_read_makes_a_kernels_state_unknown(database: Database) -> None:
    node = Node(packages=[OLD], kernel=KERNEL, signature=SIGNATURE, coverage={"livepatch_client": Coverage.NONE})
    assert decide(database, node).states() == {"CVE-2026-0006": None}


@pytest.mark.parametrize(("module", "state"), [
    ("lkp_Ubuntu_6_8_0_60_63_generic_108", None), ("lkp_Ubuntu_6_8_0_60_63_generic_110", None), ("lkp_Ubuntu_6_8_0_60_63_generic_107", "open"),
    ("lkp_other", "open"),
])  # fmt: skip
def test_a_live_patch_that_only_the_kernel_shows_is_no_credit_and_no_failure(database: Database, module: str, state: str | None) -> None:
    node = Node(packages=[OLD], kernel=KERNEL, signature=SIGNATURE, modules=[module])
    (row,) = decide(database, node).rows("vulnerabilities")
    assert row["state"] == state and ("is loaded, and the client does not say" in (row["why"] or "")) == (state is None)
    node.livepatch = PATCHED
    assert decide(database, node).states() == {"CVE-2026-0006": "livepatched"}, "the client's word counts"
    node.livepatch = {**PATCHED, "fixes": []}
    assert decide(database, node).states() == {"CVE-2026-0006": "open"}


def test_in_a_container_no_kernel_counts(database: Database) -> None:
    found = decide(database, Node(packages=[OLD], kernel=KERNEL, signature=SIGNATURE, container="docker"))
    assert (found.states(), found.coverage()[0]) == ({}, "complete")


@pytest.mark.parametrize(("node", "state", "words"), [
    (Node(packages=[dpkg("vim", "8")], kernel="6.8.0-60-own"), "partial", "the running kernel 6.8.0-60-own belongs to no package"),
    (Node(os=("ubuntu", "20.04"), packages=[dpkg("vim", "8")], container="x"), "none", "say nothing of ubuntu 20.04"),
    (Node(os=("arch", "1"), packages=[dpkg("vim", "8")], container="x"), "none", "not known to this program"),
    (Node(os=("debian", "12"), packages=[dpkg("vim", "8")], container="x"), "none", "no advisories of debian"),
    (Node(packages=[dpkg("vim", "8"), dpkg("odd", "!")], container="x"), "partial", "the version of odd is not understood"),
    (Node(packages=[dpkg("vim", "8")], container="x", coverage={"packages": Coverage.PARTIAL}), "partial", "packages partial"),
    (Node(packages=[], container="x", coverage={"packages": Coverage.NONE}), "none", "packages none"),
])  # fmt: skip
def test_what_is_not_known_is_no_absence(database: Database, node: Node, state: str, words: str) -> None:
    found = decide(database, node).coverage()
    assert found[0] == state and words in found[1]


def test_advisories_that_are_too_old_decide_nothing(database: Database) -> None:
    node = Node(packages=[dpkg("vim", "8.2")], container="docker", python=[pip("x", "1")])
    assert decide(database, node, as_of=datetime(2026, 8, 19), days=30).coverage()[0] == "complete"
    late = decide(database, node, as_of=datetime(2026, 8, 20), days=30)
    assert late.coverage() == ("none", "the advisories of ubuntu are 31 days old, more than 30")
    assert late.coverage("python_vulnerabilities")[0] == "none", "there are none of PyPI"
    curl = Node(packages=[dpkg("curl", "7.81.0-1ubuntu1.19")], container="docker")
    assert decide(database, curl, as_of=datetime(2026, 8, 19), days=29).rows("vulnerabilities")[0]["exploited"] is True, "a hit stays one"


def test_hosts_of_one_image_are_decided_alike_and_others_for_themselves(database: Database) -> None:
    old, new = (Node(packages=[dpkg("curl", f"7.81.0-1ubuntu1.{n}")], container="docker") for n in (19, 20))
    found = decide(database, a=old, b=new, c=old)
    assert [found.states(host=h) for h in "abc"] == [{"CVE-2026-0001": "open"}, {}, {"CVE-2026-0001": "open"}]


def test_without_a_data_set_nothing_is_decided(tmp_path: Path) -> None:
    found = decide(Database(tmp_path / "none"), Node(packages=[dpkg("vim", "8")]))
    assert "vulnerabilities" not in found.facts.coverage()["n"]


def test_rpm_packages_by_their_own_name_or_their_source(tmp_path: Path) -> None:
    database = data_set(
        tmp_path,
        source=osv("RLSA-2026:1", affects("Rocky Linux:9", "openssl", {"fixed": "1:3.0.7-28.el9_4"}), cves=["CVE-2026-1001"]),
        binary=osv("ALSA-2026:1", affects("AlmaLinux:8", "kernel-core", {"fixed": "0:4.18.0-553.el8_10"}),
                   affects("AlmaLinux:8", "kernel", {"fixed": "0:4.18.0-553.el8_10"}), cves=["CVE-2026-1002"]),
    )  # fmt: skip
    rocky = Node(os=("rocky", "9.4"), packages=[rpm("openssl-libs", "1:3.0.7-27.el9", "openssl")], container="podman")
    assert decide(database, rocky).states() == {"CVE-2026-1001": "open"}
    fixed = Node(os=("rocky", "9.4"), packages=[rpm("openssl-libs", "1:3.0.7-28.el9_4", "openssl")], container="podman")
    assert decide(database, fixed).states() == {}
    kernels = [rpm("kernel-core", "4.18.0-552.el8", "kernel"), rpm("kernel-core", "4.18.0-553.el8_10", "kernel")]
    alma = Node(os=("almalinux", "8.10"), packages=kernels, kernel="4.18.0-552.el8.x86_64")
    assert decide(database, alma).states() == {"CVE-2026-1002": "fixed-not-active"}
    assert decide(database, Node(os=("almalinux", "8.10"), packages=kernels[:1], kernel="4.18.0-552.el8.x86_64")).states() == {
        "CVE-2026-1002": "open"
    }


@pytest.mark.parametrize(("package", "state"), [
    (pip("mlflow", "2.9.1"), "open"), (pip("mlflow", "2.9.2"), "absent"), (pip("mlflow", "2.9.2rc1"), "open"),
    (pip("mlflow", "2.9.1+cu117"), "open"), (pip("mlflow", "2.9.2+local"), "absent"), (pip("mlflow", "2.9.1", distribution=True), "absent"),
    (pip("mlflow", "2.9.1", distribution=None), None), (pip("mlflow", "2.9.0a0+6ddf5cf.nv24.04"), None), (pip("my-flow", "2.9.1"), "absent"),
])  # fmt: skip
def test_a_python_package(tmp_path: Path, package: dict[str, Any], state: str | None) -> None:
    database = data_set(tmp_path, one=osv("PYSEC-2026-1", affects("PyPI", "MLflow", {"fixed": "2.9.2"}), aliases=["CVE-2026-2001"]))
    assert decide(database, Node(python=[package])).states("python_vulnerabilities").get("CVE-2026-2001", "absent") == state


def bulletin(number: int, day: str, *rows: tuple[str, str, str, str | None], cve: str = "CVE-2026-3001") -> dict[str, Any]:
    """A bulletin with rows of (platform, product, affected text, fixed version), synthetic."""
    branches, affected, fixed = [], [], []
    for index, (platform, product, text, better) in enumerate(rows):
        leaves = [("a", text)] + ([("f", better)] if better else [])
        branches.append(
            {
                "category": "architecture",
                "name": platform,
                "branches": [
                    {"category": "product_version", "name": product, "product": {"product_id": f"{index}{mark}", "name": name}}
                    for mark, name in leaves
                ],
            }
        )
        affected.append(f"{index}a")
        fixed += [f"{index}f"] if better else []
    return {
        "document": {"csaf_version": "2.0", "publisher": {"namespace": "https://www.nvidia.com/security"}, "title": "A bulletin",
                     "tracking": {"id": str(number), "initial_release_date": f"{day}T00:00:00Z", "current_release_date": f"{day}T00:00:00Z"}},
        "product_tree": {"branches": [{"category": "vendor", "name": "NVIDIA", "branches": branches}]},
        "vulnerabilities": [{"cve": cve, "product_status": {"known_affected": affected, "fixed": fixed},
                             "scores": [{"cvss_v3": {"baseSeverity": "HIGH"}}]}],
    }  # fmt: skip


def driver(branch: int, text: str, fixed: str | None, product: str = "Tesla") -> tuple[str, str, str, str | None]:
    return f"Linux(R{branch})", product, text, fixed


@pytest.mark.parametrize(("loaded", "disk", "state"), [
    ("535.261.03", "535.261.03", "open"), ("535.274.02", "535.274.02", "absent"), ("535.54.03", None, "open"),
    ("535.261.03", "535.274.02", "fixed-not-active"),
    ("580.95.05", None, "absent"), ("580.82.07", None, "open"),
    ("550.163.01", None, "no-fix"),  # between branches that are mended
    ("470.256.02", None, "no-fix"),  # older than all that are mended
    ("590.48.01", None, None), ("odd", None, None),
    (None, "535.261.03", "open"),
])  # fmt: skip
def test_a_driver_by_its_branch(tmp_path: Path, loaded: str | None, disk: str | None, state: str | None) -> None:
    rows = [driver(int(f[:3]), f"All driver versions prior to {f}", f) for f in ("535.274.02", "580.95.05")]
    database = data_set(tmp_path, one=bulletin(1, "2026-06-01", *rows))
    found = decide(database, Node(driver=(loaded, disk), gpus=["NVIDIA H100 80GB HBM3"])).states("nvidia_vulnerabilities")
    assert found.get("CVE-2026-3001", "absent") == state


def test_a_branch_that_newer_bulletins_no_longer_list_is_never_safe(tmp_path: Path) -> None:
    database = data_set(
        tmp_path,
        old=bulletin(1, "2024-06-01", driver(470, "All driver versions prior to 470.256.02", "470.256.02"), cve="CVE-2024-3000"),
        new=bulletin(2, "2026-06-01", driver(535, "All driver versions prior to 535.274.02", "535.274.02")),
        later=bulletin(3, "2026-07-01", driver(590, "All driver versions prior to 590.1", "590.1"), cve="CVE-2026-3002"),
    )
    assert decide(database, Node(driver=("470.256.02", None))).states("nvidia_vulnerabilities") == {
        "CVE-2026-3001": "no-fix", "CVE-2026-3002": "no-fix",
    }  # fmt: skip
    assert decide(database, Node(driver=("590.1", None))).states("nvidia_vulnerabilities") == {}, "it came after the first two"


@pytest.mark.parametrize(("gpus", "state"), [(["NVIDIA H100"], "open"), (["NVIDIA GeForce RTX 4090"], "absent"), ([], "open")])
def test_lines_of_gpus_have_rows_of_their_own(tmp_path: Path, gpus: list[str], state: str) -> None:
    lines = (("Tesla", "535.274.02"), ("GeForce", "535.1"))
    rows = [driver(535, f"All driver versions prior to {fixed}", fixed, line) for line, fixed in lines]
    found = decide(data_set(tmp_path, one=bulletin(1, "2026-06-01", *rows)), Node(driver=("535.261.03", None), gpus=gpus))
    assert found.states("nvidia_vulnerabilities").get("CVE-2026-3001", "absent") == state


@pytest.mark.parametrize(("text", "fixed", "version", "state"), [
    ("All versions up to and including v1.16.1", "v1.16.2", "1.16.1-1", "open"),
    ("All versions up to and including v1.16.1", "v1.16.2", "1.16.2-1", "absent"),
    ("All versions prior to 1.17.8", "1.17.8", "1.17.7-1", "open"), ("Any version with the flag", "1.17.8", "1.17.9-1", None),
    ("1.17.0 to 1.17.3", None, "1.17.2-1", "no-fix"), ("1.17.0 to 1.17.3", None, "1.16.9-1", "absent"),
])  # fmt: skip
def test_the_container_toolkit(tmp_path: Path, text: str, fixed: str | None, version: str, state: str | None) -> None:
    database = data_set(tmp_path, one=bulletin(1, "2026-06-01", ("Linux", "NVIDIA Container Toolkit", text, fixed)))
    found = decide(database, Node(packages=[dpkg("nvidia-container-toolkit", version)]))
    assert found.states("nvidia_vulnerabilities").get("CVE-2026-3001", "absent") == state


def test_a_few_documents_say_what_they_say_and_not_that_there_is_nothing_else(database: Database) -> None:
    node = Node(packages=[dpkg("curl", "7.81.0-1ubuntu1.19")], container="docker")
    found = decide(database, node, least=matching.LEAST)
    assert found.states() == {"CVE-2026-0001": "open"}
    state, reason = found.coverage()
    assert state == "partial" and "the advisories of ubuntu are but a part of what is published (ranges: " in reason
    assert set(matching.LEAST) == set(SOURCES) - {"kev", "epss", "ubuntu-vex"}
