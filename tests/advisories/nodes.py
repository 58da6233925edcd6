# SPDX-License-Identifier: Apache-2.0
"""Synthetic hosts and data sets for tests of matching: what is installed in a line, and the rows that come out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fleet_audit.advisories import matching
from fleet_audit.advisories.database import Database
from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract
from fleet_audit.model import Coverage, HostName
from fleet_audit.tables import Facts
from fleet_audit.versions import key
from tests.factory import rows

AS_OF = datetime(2026, 8, 1)
NAMES = sorted(set(matching.TABLES) | {table for needed in matching.NEEDED.values() for table in needed})


def dpkg(name: str, version: str, source: str | None = None, source_version: str | None = None) -> dict[str, Any]:
    """An installed package of dpkg."""
    return _package("dpkg", name, version, source, source_version)


def rpm(name: str, version: str, source: str | None = None, arch: str = "x86_64") -> dict[str, Any]:
    """An installed package of rpm."""
    return {**_package("rpm", name, version, source, None), "arch": arch}


def _package(kind: str, name: str, version: str, source: str | None, source_version: str | None) -> dict[str, Any]:
    return {
        "name": name, "version": version, "version_key": key(kind, version), "source": source or name, "manager": kind,
        "source_version": source_version or version, "source_version_key": key(kind, source_version or version),
    }  # fmt: skip


def pip(name: str, version: str, *, distribution: bool | None = False, environment: str = "/opt/v") -> dict[str, Any]:
    """An installed Python package."""
    return {
        "environment": environment,
        "name": name,
        "version": version,
        "version_key": key("pep440", version),
        "distribution": distribution,
    }


@dataclass
class Node:
    """A host: what each table holds, and how far it was read."""

    os: tuple[str, str] = ("ubuntu", "22.04")
    packages: Sequence[Mapping[str, Any]] = ()
    kernel: str | None = None
    signature: str | None = None
    container: str | None = None
    livepatch: Mapping[str, Any] | None = None
    modules: Sequence[str] = ()
    """Canonical's live patches that are loaded and enabled."""
    pro: Sequence[str] = ()
    python: Sequence[Mapping[str, Any]] = ()
    driver: tuple[str | None, str | None] | None = None
    """Loaded version and that on disk."""
    gpus: Sequence[str] = ()
    nics: Sequence[str] = ()
    """Versions of the firmware of Mellanox adapters."""
    dmi: tuple[str, str] | None = None
    """Product name and BIOS version."""
    images: Sequence[str] = ()
    """Of its containers."""
    coverage: Mapping[str, Coverage] = field(default_factory=dict)

    def facts(self) -> dict[str, Extract]:
        """Its tables."""
        given: dict[str, Sequence[Mapping[str, Any]]] = {
            "os": [{"id": self.os[0], "version_id": self.os[1]}], "packages": self.packages,
            "kernel_running": [{"release": self.kernel, "signature": self.signature}] if self.kernel else [],
            "machine": [{"container": self.container}], "livepatch_client": [self.livepatch] if self.livepatch else [],
            "livepatch_modules": [{"name": name, "enabled": True, "transition": False, "vendor": "canonical"} for name in self.modules],
            "ubuntu_pro_services": [{"name": name, "status": "enabled"} for name in self.pro], "python_packages": self.python,
            "nvidia_driver": [{"loaded_version": self.driver[0], "disk_version": self.driver[1]}] if self.driver else [],
            "nic_firmware": [{"device": f"mlx5_{n}", "driver": "mlx5_core", "firmware": v} for n, v in enumerate(self.nics)],
            "dmi": [{"product_name": self.dmi[0], "bios_version": self.dmi[1]}] if self.dmi else [],
            "containers": [{"id": f"c{n}", "image": image} for n, image in enumerate(self.images)],
            "gpus": [{"uuid": f"GPU-{name}", "name": name} for name in self.gpus],
        }  # fmt: skip
        return {name: rows(name, *found, coverage=self.coverage.get(name, Coverage.COMPLETE)) for name, found in given.items()}


@dataclass
class Decided:
    """Rows and coverage of the tables of vulnerabilities, by host."""

    facts: Facts

    def rows(self, table: str, host: str = "n") -> list[dict[str, Any]]:
        """The rows of a host."""
        cursor = self.facts.connection.execute(f"SELECT * FROM {table} WHERE host = ? ORDER BY ALL", [host])
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def states(self, table: str = "vulnerabilities", host: str = "n") -> dict[str, str | None]:
        """{CVE: state} of a host."""
        return {row["cve"]: row["state"] for row in self.rows(table, host)}

    def coverage(self, table: str = "vulnerabilities", host: str = "n") -> tuple[str, str]:
        """(state, reason) of a host."""
        return self.facts.coverage()[host][table]


def decide(
    database: Database, *nodes: Node, as_of: datetime = AS_OF, days: int = 10_000, least: Mapping[str, int] | None = None, **named: Node
) -> Decided:
    """What the advisories say of some hosts, of one under the name `n`."""
    facts = Facts({name: tables()[name] for name in NAMES})
    for name, node in ({"n": nodes[0]} if nodes else named).items():
        facts.add_host(HostName(name), ("g",))
        for table, extract in node.facts().items():
            facts.add(HostName(name), table, f"{name}-{table}", extract)
    facts.finish()
    matching.decide(facts, database, as_of, days, least or {})
    return Decided(facts)


def data_set(folder: Path, **documents: Any) -> Database:
    """A data set of these JSON documents."""
    (folder / "documents").mkdir(parents=True, exist_ok=True)
    for name, document in documents.items():
        (folder / f"documents/{name}.json").write_text(json.dumps(document))
    database = Database(folder / "advisories")
    database.take([folder / "documents"], "test")
    return database


def osv(name: str, *affected: Mapping[str, Any], cves: Sequence[str] = (), **more: Any) -> dict[str, Any]:
    """A record of the OSV format, synthetic."""
    return {"schema_version": "1.7.0", "id": name, "upstream": list(cves), "published": "2026-07-01T00:00:00Z", "modified": "2026-07-20T00:00:00Z",
            "affected": list(affected), **more}  # fmt: skip


def affects(ecosystem: str, package: str, *events: Mapping[str, str], purl: str = "", **more: Any) -> dict[str, Any]:
    """A package that a record concerns; events after `introduced: 0`."""
    return {"package": {"ecosystem": ecosystem, "name": package, "purl": purl},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, *events]}], **more}  # fmt: skip
