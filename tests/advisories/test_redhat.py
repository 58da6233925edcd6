# SPDX-License-Identifier: Apache-2.0
"""Red Hat's VEX documents: modules, kept minor releases, epochs, and its archive (synthetic documents in the published form)."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.advisories.database import Database, opened
from fleet_audit.advisories.reading import SOURCES, documents, read, zstd
from fleet_audit.advisories.records import Batch, Foreign, Refused

from .nodes import Node, data_set, decide, rpm

MAIN, EUS = "cpe:/a:redhat:enterprise_linux:8::appstream", "cpe:/a:redhat:rhel_eus:8.6::appstream"


def vex(
    cve: str, products: dict[str, str], status: dict[str, list[tuple[str, str]]], nested: dict[str, tuple[str, str]] | None = None
) -> Any:
    """A document: CPE of each product, and (product, package address) of each status; `nested`: modules in products."""
    branches: list[Any] = [{"category": "product_name", "product": {"product_id": p, "product_identification_helper": {"cpe": c}}}
                           for p, c in products.items()]  # fmt: skip
    relationships: list[Any] = []

    def part(place: str, purl: str) -> str:
        branches.append({"category": "product_version", "product": {"product_id": purl, "product_identification_helper": {"purl": purl}}})
        relationships.append(
            {
                "category": "default_component_of",
                "full_product_name": {"product_id": f"{place}:{purl}"},
                "product_reference": purl,
                "relates_to_product_reference": place,
            }
        )
        return f"{place}:{purl}"

    for name, (place, purl) in (nested or {}).items():
        assert part(place, purl) == name
    said = {kind: [part(*pair) for pair in pairs] for kind, pairs in status.items()}
    return {
        "document": {"category": "csaf_vex", "csaf_version": "2.0", "publisher": {"namespace": "https://www.redhat.com"}, "title": "t",
                     "aggregate_severity": {"text": "Important"}, "tracking": {"id": cve, "current_release_date": "2026-07-01T00:00:00+00:00"}},
        "product_tree": {"branches": [{"category": "vendor", "branches": branches}], "relationships": relationships},
        "vulnerabilities": [{"cve": cve, "product_status": said}],
    }  # fmt: skip


NODE18 = "M:pkg:rpmmod/redhat/nodejs@18:8100020240101010101:489197e6"
NODE20 = "M:pkg:rpmmod/redhat/nodejs@20:8100020240101010101:489197e6"


def src(name: str, version: str, more: str = "") -> str:
    return f"pkg:rpm/redhat/{name}@{version}?arch=src{more}"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Database:
    return data_set(
        tmp_path_factory.mktemp("redhat"),
        a=vex("CVE-2026-0001", {"M": MAIN, "E": EUS}, {
            "fixed": [(NODE18, src("nodejs", "18.19.1-1.module%2Bel8.10.0%2B1%2Ba", "&epoch=1")),
                      (NODE20, src("nodejs", "20.11.1-1.module%2Bel8.10.0%2B1%2Ba", "&epoch=1")),
                      ("M", src("bind", "9.11.36-16.el8_10")), ("E", src("bind", "9.11.36-3.el8_6.8")),
                      ("M", "pkg:rpm/redhat/bind-libs@9.11.36-16.el8_10?arch=x86_64")],
            "known_affected": [("M", "pkg:rpm/redhat/dhcp?arch=src")], "known_not_affected": [("M", "pkg:rpm/redhat/vim?arch=src")],
            "under_investigation": [("M", "pkg:rpm/redhat/zlib?arch=src")],
        }, {NODE18: ("M", NODE18[2:]), NODE20: ("M", NODE20[2:])}),
        b=vex("CVE-2026-0002", {"M": MAIN}, {"fixed": [("M", src("bind", "9.11.36-14.el8_9")), ("M", src("bind", "9.11.36-12.el8_8"))]}),
        c=vex("CVE-2026-0003", {"M": MAIN}, {"fixed": [("M", src("kernel", "4.18.0-553.el8_10"))]}),
    )  # fmt: skip


@pytest.mark.parametrize(("package", "version", "cve", "state"), [
    ("nodejs", "1:18.18.0-1.module+el8.9.0+1+a", "CVE-2026-0001", "open"), ("nodejs", "1:18.20.0-1.module+el8.10.0+1+a", "CVE-2026-0001", "absent"),
    ("nodejs", "1:20.10.0-1.module+el8.10.0+1+a", "CVE-2026-0001", "open"), ("nodejs", "1:16.20.0-1.module+el8.8.0+1+a", "CVE-2026-0001", "absent"),
    ("nodejs", "1:18.18.0-1.el8", "CVE-2026-0001", "absent"),  # of no module
    ("bind", "32:9.11.36-15.el8_10", "CVE-2026-0001", "absent"), ("bind", "9.11.36-15.el8_10", "CVE-2026-0001", "open"),
    ("bind", "9.11.36-3.el8_6.8", "CVE-2026-0001", "absent"), ("bind", "9.11.36-3.el8_6.7", "CVE-2026-0001", "open"),
    ("dhcp", "4.3.6-50.el8", "CVE-2026-0001", "no-fix"), ("vim", "8.0-1.el8", "CVE-2026-0001", "absent"),
    ("zlib", "1.2-1.el8", "CVE-2026-0001", None),
    ("bind", "9.11.36-12.el8_8", "CVE-2026-0002", "absent"), ("bind", "9.11.36-11.el8_8", "CVE-2026-0002", "open"),
])  # fmt: skip
def test_a_package(database: Database, package: str, version: str, cve: str, state: str | None) -> None:
    node = Node(os=("rhel", "8.10"), packages=[rpm(package, version)], container="docker")
    assert decide(database, node).states().get(cve, "absent") == state


def test_the_running_kernel_counts_and_a_newer_one_that_is_installed_waits_for_a_reboot(database: Database) -> None:
    old, new = rpm("kernel-core", "4.18.0-513.el8_9", "kernel"), rpm("kernel-core", "4.18.0-553.el8_10", "kernel")
    node = Node(os=("rhel", "8.10"), packages=[old], kernel="4.18.0-513.el8_9.x86_64")
    assert decide(database, node).states()["CVE-2026-0003"] == "open"
    node.packages = [old, new]
    assert decide(database, node).states()["CVE-2026-0003"] == "fixed-not-active"
    rt = Node(os=("rhel", "8.10"), packages=[rpm("kernel-rt-core", "4.18.0-513.el8_9", "kernel")], kernel="4.18.0-513.el8_9.x86_64+rt")
    assert decide(database, rt).states()["CVE-2026-0003"] == "open"


def test_another_clone_of_it_is_not_taken_for_it(database: Database) -> None:
    node = Node(os=("ol", "8.10"), packages=[rpm("dhcp", "4.3.6-50.el8")], container="docker")
    found = decide(database, node)
    assert found.states() == {} and found.coverage()[0] == "none"


def test_its_advisories_are_left_to_its_vex_documents() -> None:
    document = vex("CVE-2026-0001", {"M": MAIN}, {})
    document["document"]["category"] = "csaf_security_advisory"
    with pytest.raises(Foreign, match="its VEX documents say the same"):
        read("x.json", json.dumps(document).encode(), {name: Batch() for name in SOURCES})
    document["document"]["category"], document["vulnerabilities"] = "csaf_vex", 1
    with pytest.raises(Refused):
        read("x.json", json.dumps(document).encode(), {name: Batch() for name in SOURCES})


def test_its_archive_is_read_and_a_cut_one_replaces_nothing(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for cve in ("CVE-2026-0001", "CVE-2026-0002"):
            data = json.dumps(vex(cve, {"M": MAIN}, {"known_affected": [("M", "pkg:rpm/redhat/dhcp?arch=src")]})).encode()
            member = tarfile.TarInfo(f"2026/{cve.lower()}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    whole = zstd.compress(out.getvalue())
    path = tmp_path / "csaf_vex_2026-07-01.tar.zst"
    path.write_bytes(whole)
    database = Database(tmp_path / "a")
    assert database.take([path], "test").sources["redhat"].documents == 2
    path.write_bytes(whole[: len(whole) - 40])
    assert [name for name, given in documents(path) if isinstance(given, Refused)] == [str(path)]
    with opened(database) as (connection, _):
        assert connection.execute("SELECT count(*) FROM adv_ranges").fetchall() == [(2,)]
