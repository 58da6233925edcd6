# SPDX-License-Identifier: Apache-2.0
"""CycloneDX of a synthetic run: valid by its own validator, the same each time, and no host left out in silence."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.advisories import sbom
from fleet_audit.facts import tables
from fleet_audit.model import HostName
from fleet_audit.tables import Facts
from tests.factory import rows

from .nodes import dpkg, pip, rpm


def facts() -> Facts:
    found = Facts({name: tables()[name] for name in sbom.TABLES})
    hosts: dict[str, dict[str, list[dict[str, Any]]]] = {
        "a": {
            "os": [{"id": "ubuntu", "version_id": "22.04"}],
            "packages": [dpkg("libcurl4", "7.81.0-1ubuntu1.19", "curl"), dpkg("sudo", "1:1.9+x~1")],
            "python_packages": [pip("torch", "2.3.0+cu121")],
            "vulnerabilities": [{"package": "curl", "version": "7.81.0-1ubuntu1.19", "cve": "CVE-2026-0001", "state": "open", "severity": "high"},
                                {"package": "curl", "version": "7.81.0-1ubuntu1.19", "cve": "CVE-2026-0002", "severity": "unknown"}],
            "python_vulnerabilities": [{"package": "torch", "version": "2.3.0+cu121", "cve": "CVE-2026-0003", "state": "open",
                                        "severity": "critical"}],
        },
        "b": {"os": [{"id": "rocky", "version_id": "9"}], "packages": [rpm("bash", "5.1-2.el9")]},
    }  # fmt: skip
    for host, given in hosts.items():
        found.add_host(HostName(host), ("g",))
        for name in sbom.TABLES:
            found.add(HostName(host), name, f"{host}-{name}", rows(name, *given.get(name, [])))
    found.finish()
    return found


def made(*hosts: str) -> dict[str, Any]:
    text = sbom.document(facts(), "fleet" if len(hosts) > 1 else hosts[0], hosts, "run", datetime(2026, 8, 1))
    assert text == sbom.document(facts(), "fleet" if len(hosts) > 1 else hosts[0], hosts, "run", datetime(2026, 8, 1)), (
        "the same bytes each time"
    )
    document: dict[str, Any] = json.loads(text)
    return document


@pytest.mark.parametrize("hosts", [("a",), ("b",), ("a", "b")])
def test_it_is_valid_by_its_own_validator(hosts: tuple[str, ...]) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made(*hosts))) is None


def test_packages_and_what_is_known_against_them() -> None:
    document = made("a")
    purls = {c["purl"] for c in document["components"]}
    assert purls == {
        "pkg:deb/ubuntu/libcurl4@7.81.0-1ubuntu1.19?arch=x&distro=ubuntu-22.04", "pkg:deb/ubuntu/sudo@1:1.9%2Bx~1?arch=x&distro=ubuntu-22.04",
        "pkg:pypi/torch@2.3.0%2Bcu121",
    }  # fmt: skip
    found = {
        v["id"]: (v["analysis"]["state"], v["ratings"][0]["severity"], [a["ref"] for a in v["affects"]])
        for v in document["vulnerabilities"]
    }
    assert found["CVE-2026-0001"] == ("exploitable", "high", ["pkg:deb/ubuntu/libcurl4@7.81.0-1ubuntu1.19?arch=x&distro=ubuntu-22.04"])
    assert found["CVE-2026-0002"][:2] == ("in_triage", "unknown")
    assert found["CVE-2026-0003"] == ("exploitable", "critical", ["pkg:pypi/torch@2.3.0%2Bcu121"])


def test_of_the_fleet_each_component_says_on_how_many_hosts_it_is() -> None:
    document = made("a", "b")
    assert len(document["components"]) == 4
    assert {p["value"] for c in document["components"] for p in c["properties"]} == {"1"}


@pytest.mark.slow
def test_the_command(fleet_audit: Any, tmp_path: Path) -> None:
    demo = Path(__file__).parents[2] / "demo/inventory.ini"
    store = tmp_path / "store"
    fleet_audit("run", demo, "--limit", "train-01,train-05", "--check", "legacy-clients-absent", "--store", store, "-q")
    done = fleet_audit("sbom", "--store", store, "-o", tmp_path / "out", "--fleet")
    assert done.returncode == 3 and "not whole: the packages of 1 of 2 hosts, such as train-05" in done.stderr, done.stderr
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["fleet.cdx.json", "train-01.cdx.json"]
    assert len(json.loads((tmp_path / "out/train-01.cdx.json").read_text())["components"]) > 3
