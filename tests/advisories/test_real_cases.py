# SPDX-License-Identifier: Apache-2.0
"""Cases worked out by hand from published advisories (the shared slices): a third of them are not vulnerable.

Each line is: what is installed, the CVE, and the state; `absent` where the CVE does not concern it. Worked out by reading the
records themselves: UBUNTU-CVE-..., USN-..., PYSEC-..., DSA-... and NVIDIA's bulletins, as of the slices' dates.
"""

from __future__ import annotations

from typing import Any

import pytest

from fleet_audit.advisories.database import Database, opened
from tests.facts.helpers import shared

from .nodes import Node, decide, dpkg, pip, rpm


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Database:
    folder = shared("advisories")
    database = Database(tmp_path_factory.mktemp("real") / "advisories")
    database.take([folder], "the shared slices")
    return database


def ubuntu(release: str, package: str, version: str, cve: str, state: str | None, *pro: str) -> Any:
    node = Node(os=("ubuntu", release), packages=[dpkg(package, version)], pro=pro, container="docker")
    return pytest.param(node, "vulnerabilities", cve, state, id=f"{package} {version} on {release} {cve}{' pro' if pro else ''}")


def kernel(release: str, source: str, abi: str, version: str, cve: str, state: str | None) -> Any:
    node = Node(os=("ubuntu", release), packages=[dpkg(f"linux-modules-{abi}", version, source)], kernel=abi)
    return pytest.param(node, "vulnerabilities", cve, state, id=f"{source} {version} on {release} {cve}")


def debian(release: str, package: str, version: str, cve: str, state: str | None) -> Any:
    node = Node(os=("debian", release), packages=[dpkg(package, version)], container="docker")
    return pytest.param(node, "vulnerabilities", cve, state, id=f"{package} {version} on debian {release} {cve}")


def rhel(release: str, package: str, version: str, cve: str, state: str | None) -> Any:
    node = Node(os=("rhel", release), packages=[rpm(package, version)], container="docker")
    return pytest.param(node, "vulnerabilities", cve, state, id=f"{package} {version} on rhel {release} {cve}")


def python(package: str, version: str, cve: str, state: str | None) -> Any:
    return pytest.param(Node(python=[pip(package, version)]), "python_vulnerabilities", cve, state, id=f"{package} {version} {cve}")


def driver(version: str, cve: str, state: str | None, gpu: str = "NVIDIA H100 80GB HBM3") -> Any:
    return pytest.param(Node(driver=(version, None), gpus=[gpu]), "nvidia_vulnerabilities", cve, state, id=f"driver {version} {cve} {gpu}")


def toolkit(version: str, cve: str, state: str | None) -> Any:
    node = Node(packages=[dpkg("nvidia-container-toolkit", version)])
    return pytest.param(node, "nvidia_vulnerabilities", cve, state, id=f"toolkit {version} {cve}")


def cuda(version: str, cve: str, state: str | None) -> Any:
    node = Node(packages=[dpkg("cuda-toolkit-" + "-".join(version.split(".")[:2]), version)])
    return pytest.param(node, "nvidia_vulnerabilities", cve, state, id=f"cuda {version} {cve}")


def nic(version: str, cve: str, state: str | None) -> Any:
    return pytest.param(Node(nics=[version]), "nvidia_firmware_vulnerabilities", cve, state, id=f"adapter {version} {cve}")


def dgx(name: str, version: str, cve: str, state: str | None) -> Any:
    return pytest.param(Node(dmi=(name, version)), "nvidia_firmware_vulnerabilities", cve, state, id=f"{name} {version} {cve}")


def triton(image: str, cve: str, state: str | None) -> Any:
    return pytest.param(Node(images=[image]), "triton_vulnerabilities", cve, state, id=f"{image} {cve}")


CASES = [
    # needrestart: fixed for all in 22.04 and 24.04, by Pro alone in 16.04 to 20.04
    ubuntu("22.04", "needrestart", "3.5-5ubuntu2.1", "CVE-2024-48990", "open"),
    ubuntu("22.04", "needrestart", "3.5-5ubuntu2.2", "CVE-2024-48990", "absent"),
    ubuntu("22.04", "needrestart", "3.5-5ubuntu2.10", "CVE-2024-48990", "absent"),
    ubuntu("24.04", "needrestart", "3.6-7ubuntu4.2", "CVE-2024-48990", "open"),
    ubuntu("24.04", "needrestart", "3.6-7ubuntu4.3", "CVE-2024-48990", "absent"),
    ubuntu("20.04", "needrestart", "3.4-6ubuntu0.1", "CVE-2024-48990", "needs-pro"),
    ubuntu("20.04", "needrestart", "3.4-6ubuntu0.1", "CVE-2024-48990", "open", "esm-apps"),
    ubuntu("20.04", "needrestart", "3.4-6ubuntu0.1", "CVE-2024-48990", "needs-pro", "esm-infra"),
    ubuntu("20.04", "needrestart", "3.4-6ubuntu0.1+esm1", "CVE-2024-48990", "absent"),
    ubuntu("18.04", "needrestart", "3.1-1ubuntu0.1", "CVE-2024-48990", "needs-pro"),
    ubuntu("16.04", "needrestart", "2.6-1ubuntu0.1~esm1", "CVE-2024-48990", "absent"),
    ubuntu("16.04", "needrestart", "2.6-1", "CVE-2024-48990", "needs-pro"),
    # sudo: --chroot came after 22.04's version; --host concerns all
    ubuntu("24.04", "sudo", "1.9.15p5-3ubuntu5", "CVE-2025-32463", "open"),
    ubuntu("24.04", "sudo", "1.9.15p5-3ubuntu5.24.04.1", "CVE-2025-32463", "absent"),
    ubuntu("22.04", "sudo", "1.9.9-1ubuntu2", "CVE-2025-32463", "absent"),
    ubuntu("20.04", "sudo", "1.8.31-1ubuntu1.5", "CVE-2025-32462", "needs-pro"),
    ubuntu("20.04", "sudo", "1.8.31-1ubuntu1.5+esm1", "CVE-2025-32462", "absent"),
    ubuntu("20.04", "sudo", "1.8.31-1ubuntu1.1", "CVE-2021-3156", "open"),
    ubuntu("20.04", "sudo", "1.8.31-1ubuntu1.2", "CVE-2021-3156", "absent"),
    # rabbitmq-server and wayland
    ubuntu("22.04", "rabbitmq-server", "3.9.13-1ubuntu0.22.04.2", "CVE-2024-51988", "open"),
    ubuntu("22.04", "rabbitmq-server", "3.9.27-0ubuntu0.1", "CVE-2024-51988", "absent"),
    ubuntu("20.04", "rabbitmq-server", "3.8.2-0ubuntu1", "CVE-2024-51988", "open"),
    ubuntu("20.04", "wayland", "1.18.0-1", "CVE-2021-3782", "open"),
    ubuntu("20.04", "wayland", "1.18.0-1ubuntu0.1", "CVE-2021-3782", "absent"),
    ubuntu("22.04", "wayland", "1.20.0-1", "CVE-2021-3782", "open"),
    # OpenSSH's regreSSHion came with 8.5: 20.04 has an older one
    ubuntu("22.04", "openssh", "1:8.9p1-3ubuntu0.7", "CVE-2024-6387", "open"),
    ubuntu("22.04", "openssh", "1:8.9p1-3ubuntu0.10", "CVE-2024-6387", "absent"),
    ubuntu("20.04", "openssh", "1:8.2p1-4ubuntu0.11", "CVE-2024-6387", "absent"),
    # glibc's looney tunables
    ubuntu("22.04", "glibc", "2.35-0ubuntu3.3", "CVE-2023-4911", "open"),
    ubuntu("22.04", "glibc", "2.35-0ubuntu3.4", "CVE-2023-4911", "absent"),
    ubuntu("22.04", "glibc", "2.35-0ubuntu3.10", "CVE-2023-4911", "absent"),
    # kernels of NVIDIA's flavour: each source package has its own fixed version
    kernel("22.04", "linux-nvidia-6.8", "6.8.0-1016-nvidia", "6.8.0-1016.17~22.04.1", "CVE-2024-41007", "open"),
    kernel("22.04", "linux-nvidia-6.8", "6.8.0-1017-nvidia", "6.8.0-1017.19~22.04.1", "CVE-2024-41007", "absent"),
    kernel("24.04", "linux-nvidia", "6.8.0-1016-nvidia", "6.8.0-1016.17", "CVE-2024-41007", "open"),
    kernel("24.04", "linux-nvidia", "6.8.0-1017-nvidia", "6.8.0-1017.19", "CVE-2024-41007", "absent"),
    kernel("24.04", "linux-nvidia-lowlatency", "6.8.0-1017-nvidia-lowlatency", "6.8.0-1017.19", "CVE-2024-41007", "open"),
    kernel("24.04", "linux-nvidia-lowlatency", "6.8.0-1017-nvidia-lowlatency", "6.8.0-1017.19.1", "CVE-2024-41007", "absent"),
    # Debian's list of advisories
    debian("11", "curl", "7.74.0-1.3+deb11u5", "CVE-2023-23916", "open"),
    debian("11", "curl", "7.74.0-1.3+deb11u7", "CVE-2023-23916", "absent"),
    debian("11", "sudo", "1.9.5p2-3", "CVE-2023-22809", "open"),
    debian("11", "sudo", "1.9.5p2-3+deb11u1", "CVE-2023-22809", "absent"),
    debian("11", "openssl", "1.1.1n-0+deb11u3", "CVE-2023-0286", "open"),
    debian("11", "git", "1:2.30.2-1+deb11u1", "CVE-2023-22490", "open"),
    debian("11", "git", "1:2.30.2-1+deb11u2", "CVE-2023-22490", "absent"),
    # Red Hat: a fix of the main line, one of a kept minor release (EUS), none at all
    rhel("9.4", "libtiff", "4.4.0-10.el9", "CVE-2023-6228", "open"),
    rhel("9.4", "libtiff", "4.4.0-12.el9", "CVE-2023-6228", "absent"),
    rhel("8.10", "libtiff", "4.0.9-31.el8", "CVE-2023-6228", "open"),
    rhel("8.10", "libtiff", "4.0.9-32.el8_10", "CVE-2023-6228", "absent"),
    rhel("7.9", "libtiff", "4.0.3-35.el7", "CVE-2023-6228", "no-fix"),
    rhel("9.2", "python3.11", "3.11.2-2.el9_2.5", "CVE-2024-6923", "open"),
    rhel("9.2", "python3.11", "3.11.2-2.el9_2.6", "CVE-2024-6923", "absent"),
    rhel("9.2", "python3.9", "3.9.16-1.el9_2.8", "CVE-2024-6923", "absent"),
    rhel("9.4", "python3.9", "3.9.18-3.el9_4.3", "CVE-2024-6923", "open"),
    rhel("8.10", "python39", "3.9.19-1.module+el8.10.0+21815+bb024982", "CVE-2024-6923", None),
    rhel("10.0", "python3.12", "3.12.5-2.el10", "CVE-2024-6923", "no-fix"),
    # PyPI: events in any order, local parts, pre-releases, names in any spelling, withdrawn records
    python("urllib3", "1.26.16", "CVE-2023-43804", "open"),
    python("urllib3", "1.26.17", "CVE-2023-43804", "absent"),
    python("urllib3", "2.0.5", "CVE-2023-43804", "open"),
    python("urllib3", "2.0.6", "CVE-2023-43804", "absent"),
    python("urllib3", "2.1.0", "CVE-2023-43804", "absent"),
    python("torch", "1.13.0+cu117", "CVE-2022-45907", "open"),
    python("torch", "1.13.1rc1", "CVE-2022-45907", "open"),
    python("torch", "1.13.1", "CVE-2022-45907", "absent"),
    python("torch", "2.3.0+cu121", "CVE-2022-45907", "absent"),
    python("pyyaml", "5.3", "CVE-2020-1747", "open"),
    python("pyyaml", "5.3.1", "CVE-2020-1747", "absent"),
    python("selenium", "4.1.0", "CVE-2023-5590", "absent"),
    python("loguru", "0.5.3", "CVE-2022-0329", "absent"),
    # NVIDIA's driver, October 2025 and January 2026
    driver("535.261.03", "CVE-2025-23280", "open"),
    driver("535.274.02", "CVE-2025-23280", "absent"),
    driver("570.172.08", "CVE-2025-23280", "open"),
    driver("570.195.03", "CVE-2025-23280", "absent"),
    driver("580.82.07", "CVE-2025-23280", "open"),
    driver("580.95.05", "CVE-2025-23280", "absent"),
    driver("535.274.02", "CVE-2025-33219", "open"),
    driver("580.82.07", "CVE-2025-23309", "absent"),  # Windows alone
    driver("550.163.01", "CVE-2025-23280", "no-fix"),  # the branch is no longer mended
    # CUDA writes updates as 12.6U1; its packages as 12.6.1
    cuda("12.6.1-1", "CVE-2024-0124", "open"),
    cuda("12.6.2-1", "CVE-2024-0124", "absent"),
    cuda("13.0.2-1", "CVE-2025-33228", "open"),
    cuda("13.1.0-1", "CVE-2025-33228", "absent"),
    # adapters: a fix for each line of firmware; the first part of the number tells the model
    nic("28.39.3004", "CVE-2024-0105", "open"),
    nic("28.39.3560", "CVE-2024-0105", "absent"),
    nic("20.35.4030", "CVE-2024-0105", "absent"),
    nic("22.40.1000", "CVE-2024-0105", "open"),
    nic("28.43.1014", "CVE-2024-0105", "absent"),
    nic("16.35.2000", "CVE-2024-0105", "open"),
    nic("12.28.2302", "CVE-2024-0105", "absent"),
    nic("40.41.0900", "CVE-2024-0105", "absent"),  # a ConnectX-8 is not in the bulletin
    nic("24.39.3560", "CVE-2024-0106", "absent"),
    # DGX
    dgx("DGXA100 920-23687-2530-000", "1.16", "CVE-2023-31035", "open"),
    dgx("DGXA100 920-23687-2530-000", "1.25", "CVE-2023-31035", "absent"),
    dgx("DGXH100", "1.1", "CVE-2023-31035", "absent"),
    dgx("DGX-1", "S2W_3A10", "CVE-2023-25506", None),
    # Triton by its image; numbers of the server itself are not those of a release
    triton("nvcr.io/nvidia/tritonserver:25.06-py3", "CVE-2025-23319", "open"),
    triton("nvcr.io/nvidia/tritonserver:25.07-trtllm-python-py3", "CVE-2025-23319", "absent"),
    triton("nvcr.io/nvidia/tritonserver:24.03-py3", "CVE-2024-0087", "open"),
    triton("nvcr.io/nvidia/tritonserver:22.08-py3", "CVE-2024-0087", "absent"),
    triton("nvcr.io/nvidia/tritonserver:25.07-py3", "CVE-2025-23268", None),  # with the DALI backend alone
    triton("nvcr.io/nvidia/tritonserver:23.10-py3", "CVE-2023-31036", None),  # before 2.40, says the bulletin
    toolkit("1.16.1-1", "CVE-2024-0132", "open"),
    toolkit("1.16.2-1", "CVE-2024-0132", "absent"),
]


@pytest.mark.parametrize(("node", "table", "cve", "state"), CASES)
def test_a_case(real: Database, node: Node, table: str, cve: str, state: str | None) -> None:
    assert decide(real, node).states(table).get(cve, "absent") == state


def test_a_third_of_the_cases_is_not_vulnerable() -> None:
    safe = sum(case.values[3] == "absent" for case in CASES)
    assert len(CASES) >= 60 and 3 * safe >= len(CASES)


def test_what_the_slices_hold(real: Database) -> None:
    manifest = real.manifest()
    assert set(manifest.sources) == {"debian", "epss", "kev", "nvidia", "pypi", "redhat", "ubuntu", "ubuntu-vex"}
    assert manifest.sources["kev"].counts["exploited"] > 1400 and manifest.sources["pypi"].withdrawn == 2
    assert manifest.sources["nvidia"].documents == 38
    with opened(real) as (connection, _):
        odd = connection.execute("SELECT DISTINCT unparsed FROM adv_ranges WHERE unparsed <> '' ORDER BY ALL").fetchall()
        orders = connection.execute(
            "SELECT count(*) FROM adv_ranges WHERE low_key IS NOT NULL AND high_key IS NOT NULL AND low_key > high_key"
        ).fetchall()
    assert orders == [(0,)] and len(odd) <= 20, odd
