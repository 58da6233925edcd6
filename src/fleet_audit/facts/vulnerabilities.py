# SPDX-License-Identifier: Apache-2.0
"""Known vulnerabilities of what is installed: decided from other tables and the store's advisories, by `advisories.matching`.

It cannot know what no advisory speaks of, nor what was built by hand.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts import boot, containers, firmware, gpu, kernel, livepatch, nvidia, os, packages, python_packages, ubuntu_pro
from fleet_audit.facts.base import Bundle, Table, Unread
from fleet_audit.model import Source

STATES = (
    "open: an update closes it; needs-pro: an update of Ubuntu Pro does, and the service is not enabled; no-fix: there is none yet; "
    "fixed-not-active: the fix is installed, and the old kernel runs; livepatched: a live patch closes it in the running kernel; "
    "not-affected: the vendor says so. NULL: not known"
)


@dataclass(frozen=True)
class Vulnerability:
    """A vulnerability of an installed package, or of the running kernel. Source: packages, and the distribution's advisories."""

    package: Annotated[str, "Source package, as advisories name it; of rpm the package"]
    version: Annotated[str, "Its installed version; of a kernel that of the running one"]
    cve: Annotated[str, "CVE; an advisory's id where it has none"]
    kernel: Annotated[bool, "It is one of the running kernel"]
    state: Annotated[str | None, STATES]
    why: Annotated[str | None, "What decides the state, or why it is not known"]
    severity: Annotated[str, "critical, high, medium, low or info, by the distribution; unknown: nobody says"]
    fixed_version: Annotated[str | None, "Version to update to"]
    fix_from: Annotated[str | None, "updates, or the service of Ubuntu Pro, such as esm-apps"]
    published_at: Annotated[datetime | None, "When it was published"]
    exploited: Annotated[bool | None, "Known to be exploited, by CISA's catalogue; NULL: the catalogue is not here or too old"]
    exploited_since: Annotated[datetime | None, "Since when the catalogue lists it"]
    probability_permille: Annotated[int | None, "Chance that it is exploited within 30 days, by EPSS, in thousandths"]
    advisories: Annotated[list[str], "Ids of the advisories that say so"]


@dataclass(frozen=True)
class PythonVulnerability:
    """A vulnerability of an installed Python package that the distribution does not look after. Source: PyPA, GitHub."""

    environment: Annotated[str, "Folder, as in python_environments"]
    package: Annotated[str, "Name in normal form"]
    version: Annotated[str, "Installed version"]
    cve: Annotated[str, "CVE; an advisory's id where it has none"]
    state: Annotated[str | None, "open, no-fix; NULL: not known whether it is concerned"]
    why: Annotated[str | None, "Why it is not known"]
    severity: Annotated[str, "critical, high, medium, low or info, by CVSS; unknown: nobody says"]
    fixed_version: Annotated[str | None, "Version to update to"]
    published_at: Annotated[datetime | None, "When it was published"]
    exploited: Annotated[bool | None, "Known to be exploited, by CISA's catalogue; NULL: the catalogue is not here or too old"]
    probability_permille: Annotated[int | None, "Chance that it is exploited within 30 days, by EPSS, in thousandths"]
    advisories: Annotated[list[str], "Ids of the advisories that say so"]


@dataclass(frozen=True)
class NvidiaVulnerability:
    """A vulnerability of NVIDIA's driver, CUDA toolkit, container toolkit or DCGM. Source: NVIDIA's security bulletins, by branch of the driver."""

    product: Annotated[str, "gpu-driver, container-toolkit, cuda-toolkit or dcgm"]
    version: Annotated[str, "Loaded version of the driver, else the one on disk; installed version of the others"]
    cve: Annotated[str, "CVE"]
    state: Annotated[
        str | None, "open; fixed-not-active: the fix is on disk, and the old module is loaded; no-fix: none in this branch; NULL: not known"
    ]
    why: Annotated[str | None, "What decides the state, or why it is not known"]
    severity: Annotated[str, "critical, high, medium, low or info; unknown: nobody says"]
    fixed_version: Annotated[str | None, "Version to update to, in the same branch"]
    published_at: Annotated[datetime | None, "When the bulletin came out"]
    exploited: Annotated[bool | None, "Known to be exploited, by CISA's catalogue; NULL: the catalogue is not here or too old"]
    advisories: Annotated[list[str], "Ids of the bulletins that say so"]


@dataclass(frozen=True)
class NvidiaFirmwareVulnerability:
    """A vulnerability of the firmware of a ConnectX or BlueField adapter, or of a DGX system. Source: NVIDIA's security bulletins.

    Bundles of HGX boards, BMCs and VBIOS are told by numbers that no node shows, and are not in it.
    """

    product: Annotated[str, "connectx-firmware or dgx-sbios"]
    device: Annotated[str, "Device such as mlx5_0; of a system its name"]
    model: Annotated[str, "Such as connectx7 or dgxa100"]
    version: Annotated[str, "Version of the firmware"]
    cve: Annotated[str, "CVE"]
    state: Annotated[str | None, "open; no-fix: none is named; NULL: not known"]
    why: Annotated[str | None, "Why it is not known"]
    severity: Annotated[str, "critical, high, medium, low or info; unknown: nobody says"]
    fixed_version: Annotated[str | None, "Version to update to, in the same line"]
    published_at: Annotated[datetime | None, "When the bulletin came out"]
    exploited: Annotated[bool | None, "Known to be exploited, by CISA's catalogue; NULL: the catalogue is not here or too old"]
    advisories: Annotated[list[str], "Ids of the bulletins that say so"]


@dataclass(frozen=True)
class TritonVulnerability:
    """A vulnerability of Triton Inference Server in a container, by its image's tag. Source: NVIDIA's security bulletins.

    An image whose tag is no release of NVIDIA's has no row.
    """

    container: Annotated[str, "Id of the container"]
    image: Annotated[str, "Image as it was named"]
    version: Annotated[str | None, "Release, such as 25.07"]
    cve: Annotated[str, "CVE"]
    state: Annotated[str | None, "open; no-fix: none is named; NULL: not known"]
    why: Annotated[str | None, "Why it is not known"]
    severity: Annotated[str, "critical, high, medium, low or info; unknown: nobody says"]
    fixed_version: Annotated[str | None, "Release to update to"]
    published_at: Annotated[datetime | None, "When the bulletin came out"]
    exploited: Annotated[bool | None, "Known to be exploited, by CISA's catalogue; NULL: the catalogue is not here or too old"]
    advisories: Annotated[list[str], "Ids of the bulletins that say so"]


def _undecided(evidence: Bundle) -> Iterable[Vulnerability]:
    """The evidence of one host alone says nothing of vulnerabilities."""
    raise Unread(
        "no advisories in the store: `fleet-audit advisories update` or `import` takes them in, and `fleet-audit evaluate` decides again"
    )


def _sources(*tables: tuple[object, str]) -> tuple[Source, ...]:
    """The sources of tables, by module and name."""
    found = {t.name: t.sources for module, _ in tables for t in module.TABLES}  # type: ignore[attr-defined]  # a module of facts
    return tuple({source.id: source for _, name in tables for source in found[name]}.values())


TABLES = (
    Table("vulnerabilities", Vulnerability, _sources(
        (packages, "packages"), (os, "os"), (kernel, "kernel_running"), (boot, "machine"), (livepatch, "livepatch_client"),
        (livepatch, "livepatch_modules"), (ubuntu_pro, "ubuntu_pro"), (ubuntu_pro, "ubuntu_pro_services")), _undecided),
    Table("python_vulnerabilities", PythonVulnerability, _sources((python_packages, "python_packages")), _undecided),
    Table("nvidia_vulnerabilities", NvidiaVulnerability, _sources(
        (gpu, "nvidia_driver"), (nvidia, "gpus"), (packages, "packages")), _undecided),
    Table("nvidia_firmware_vulnerabilities", NvidiaFirmwareVulnerability, _sources((firmware, "nic_firmware"), (firmware, "dmi")), _undecided),
    Table("triton_vulnerabilities", TritonVulnerability, _sources((containers, "containers")), _undecided),
)  # fmt: skip
