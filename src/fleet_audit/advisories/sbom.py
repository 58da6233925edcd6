# SPDX-License-Identifier: Apache-2.0
"""What is installed as CycloneDX, of a host or of the fleet: packages with their addresses, and what is known against them.

The same run gives the same bytes: serial number and time are made from it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from cyclonedx.model import Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.impact_analysis import ImpactAnalysisState
from cyclonedx.model.vulnerability import BomTarget, Vulnerability, VulnerabilityAnalysis, VulnerabilityRating, VulnerabilitySeverity
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from fleet_audit import __version__
from fleet_audit.tables import Facts

TABLES = ("os", "packages", "python_packages", "vulnerabilities", "python_vulnerabilities")
_STATES = {
    "open": ImpactAnalysisState.EXPLOITABLE, "needs-pro": ImpactAnalysisState.EXPLOITABLE, "no-fix": ImpactAnalysisState.EXPLOITABLE,
    "fixed-not-active": ImpactAnalysisState.EXPLOITABLE, "livepatched": ImpactAnalysisState.RESOLVED,
    "not-affected": ImpactAnalysisState.NOT_AFFECTED, None: ImpactAnalysisState.IN_TRIAGE,
}  # fmt: skip


def document(facts: Facts, name: str, hosts: Iterable[str], run_id: str, made_at: datetime) -> str:
    """The CycloneDX 1.6 JSON of some hosts; of several, each component says on how many of them it is."""
    chosen = sorted(hosts)
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"fleet-audit:{run_id}:{name}"))
    bom.metadata.timestamp = made_at.replace(tzinfo=UTC)
    bom.metadata.component = root = Component(
        name=name, type=ComponentType.DEVICE if len(chosen) == 1 else ComponentType.PLATFORM, bom_ref=name
    )
    bom.metadata.tools.components.add(Component(name="fleet-audit", version=__version__, type=ComponentType.APPLICATION))
    there: dict[tuple[str, str], list[Component]] = {}
    for address, package, source, version, count in _components(facts, chosen):
        component = Component(name=package, version=version, type=ComponentType.LIBRARY, purl=address, bom_ref=address.to_string())
        if len(chosen) > 1:
            component.properties.add(Property(name="fleet-audit:hosts", value=str(count)))
        bom.components.add(component)
        there.setdefault((source, version), []).append(component)
    bom.register_dependency(root, bom.components)
    for vulnerability in _vulnerabilities(facts, chosen, there):
        bom.vulnerabilities.add(vulnerability)
    return str(JsonV1Dot6(bom).output_as_string(indent=1)) + "\n"


def _components(facts: Facts, hosts: list[str]) -> Iterator[tuple[PackageURL, str, str, str, int]]:
    """(address, package, name that advisories use, version, hosts that have it)."""
    system = """SELECT o.id, o.version_id, p.manager, p.name, p.source, p.version, p.arch, count(DISTINCT p.host)
        FROM packages AS p JOIN os AS o ON o.host = p.host WHERE list_contains(?, p.host) GROUP BY ALL ORDER BY ALL"""
    for distribution, release, manager, name, source, version, arch, count in _ask(facts, system, hosts):
        more = {"arch": arch, "distro": f"{distribution}-{release}" if release else distribution}
        address = PackageURL("deb" if manager == "dpkg" else "rpm", distribution, name, version, more)
        yield address, name, source if manager == "dpkg" else name, version, count
    python = """SELECT name, version, count(DISTINCT host) FROM python_packages
        WHERE list_contains(?, host) AND version IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    for name, version, count in _ask(facts, python, hosts):
        yield PackageURL("pypi", None, name, version), name, f"pypi:{name}", version, count


def _vulnerabilities(facts: Facts, hosts: list[str], there: dict[tuple[str, str], list[Component]]) -> Iterator[Vulnerability]:
    """One for each CVE, package and state."""
    query = """SELECT cve, package, version, state, severity, why FROM vulnerabilities WHERE list_contains($1, host)
        UNION SELECT cve, 'pypi:' || package, version, state, severity, why FROM python_vulnerabilities WHERE list_contains($1, host) ORDER BY ALL"""
    for cve, package, version, state, severity, why in _ask(facts, query, hosts):
        yield Vulnerability(
            id=cve, bom_ref=f"{cve}/{package}/{version}/{state}", ratings=[VulnerabilityRating(severity=_severity(severity))],
            affects=[BomTarget(ref=str(component.bom_ref.value)) for component in there.get((package, version), [])],
            analysis=VulnerabilityAnalysis(state=_STATES[state], detail=why or state or "not known"),
        )  # fmt: skip


def _severity(word: str) -> VulnerabilitySeverity:
    return VulnerabilitySeverity(word) if word in set(VulnerabilitySeverity) else VulnerabilitySeverity.UNKNOWN


def _ask(facts: Facts, query: str, hosts: list[str]) -> list[tuple[Any, ...]]:
    return facts.connection.execute(query, [hosts]).fetchall()
