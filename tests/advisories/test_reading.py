# SPDX-License-Identifier: Apache-2.0
"""Formats of advisories: what is understood, what is refused with a reason, and that no document breaks the rest."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_audit.advisories import nvidia
from fleet_audit.advisories.database import Database, opened
from fleet_audit.advisories.osv import intervals, place_of
from fleet_audit.advisories.reading import SOURCES, read
from fleet_audit.advisories.records import Batch, Refused, moment, severity_by_vector
from fleet_audit.model import FleetAuditError
from fleet_audit.versions import key

from .nodes import affects, osv

ONE = osv("PYSEC-2026-1", affects("PyPI", "x", {"fixed": "2"}), aliases=["CVE-2026-0001"])


def batches() -> dict[str, Batch]:
    return {name: Batch() for name in SOURCES}


VERSIONS = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=6, unique=True)


@given(VERSIONS, st.randoms(use_true_random=False), st.sampled_from(["fixed", "last_affected"]))
def test_events_in_any_order_give_the_same_intervals(points: list[tuple[int, int]], chance: Any, end: str) -> None:
    ordered = [f"{a}.{b}" for a, b in sorted(points)]
    events = [{"introduced" if index % 2 == 0 else end: version} for index, version in enumerate(ordered)]
    wanted = list(intervals(events, "pep440"))
    shuffled = list(events)
    chance.shuffle(shuffled)
    assert list(intervals(shuffled, "pep440")) == wanted
    for index in range(60):
        version = f"{index // 2}.{index % 31}"
        inside = sum(e <= v for e in (key("pep440", x) or "" for x in ordered) for v in [key("pep440", version) or ""])
        mine = key("pep440", version) or ""
        hit = any(
            (key("pep440", low or "0") or "") <= mine and (high is None or mine < (key("pep440",
            high) or "") or (inclusive and mine == key("pep440", high)))
            for low, high, inclusive, _, _ in wanted
        )  # fmt: skip
        at_end = end == "last_affected" and version in ordered[1::2]
        assert hit == (inside % 2 == 1 or at_end), (version, wanted)


@pytest.mark.parametrize(("ecosystem", "purl", "place"), [
    ("Ubuntu:22.04:LTS", "", ("ubuntu", "22.04", "base")), ("Ubuntu:24.10", "", ("ubuntu", "24.10", "base")),
    ("Ubuntu:Pro:20.04:LTS", "pkg:deb/ubuntu/x?arch=src?distro=esm-apps/focal", ("ubuntu", "20.04", "esm-apps")),
    ("Ubuntu:Pro:20.04:LTS", "", ("ubuntu", "20.04", "pro")), ("Ubuntu:Pro:14.04:LTS", "x?distro=trusty/esm",
    ("ubuntu", "14.04", "esm-infra-legacy")),
    ("Ubuntu:Pro:FIPS-updates:18.04:LTS", "x?distro=fips-updates/bionic", ("ubuntu", "18.04", "fips-updates")),
    ("Ubuntu:Pro:Realtime:22.04:LTS", "", ("ubuntu", "22.04", "realtime")), ("Debian:12", "", ("debian", "12", "base")), ("Debian", "", None),
    ("Rocky Linux:9", "", ("rocky", "9", "base")), ("AlmaLinux:8", "", ("alma", "8", "base")), ("PyPI", "", ("pypi", "", "base")),
    ("npm", "", None), ("", "", None),
])  # fmt: skip
def test_where_an_ecosystem_belongs(ecosystem: str, purl: str, place: tuple[str, str, str] | None) -> None:
    assert place_of(ecosystem, purl) == place


@pytest.mark.parametrize(("text", "said"), [
    ("All driver versions prior to 580.95.05", (None, "580.95.05", False)), ("All versions up to and including v1.16.1", (None, "1.16.1", True)),
    ("All versions prior to r26.02", (None, "26.02", False)), ("22.09 to 24.03", ("22.09", "24.03", True)), ("580.95.05",
    ("580.95.05", "580.95.05", True)),
    ("CUDA Toolkit 12.8", ("12.8", "12.8", True)), ("All versions prior to 12.6U1", (None, "12.6.1", False)),
    ("12.9 Update 1", ("12.9.1", "12.9.1", True)), ("All versions up to CUDA Toolkit 12.8", None),
    ("xx.32.1900 or later", ("32.1900", "32.1900", True)),
    ("All versions prior to xx.41.1000", (None, "41.1000", False)), ("All SBIOS firmware versions prior to 1.18", (None, "1.18", False)),
    ("All SBIOS prior to S2W_3A13", None), ("v19.11 through v24.08", ("19.11", "24.08", True)),
    ("580.82.07(All versions prior to and including vGPU 19.1)", None), ("HGX-22.10-1-rc57 (1.3.0/1.3.1)", None), ("", None),
])  # fmt: skip
def test_versions_in_nvidias_words(text: str, said: object) -> None:
    assert nvidia.versions_of(text) == said


@pytest.mark.parametrize(("platform", "product", "place"), [
    ("Linux(R535)", "Tesla", ("gpu-driver", "535", "tesla")), ("Linux(R580)", "NVIDIA RTX, Quadro, NVS", ("gpu-driver", "580", "rtx")),
    ("Linux(R535 vGPU 16)", "Guest driver", None), ("Windows(R580)", "Tesla", None), ("Linux", "NVIDIA Container Toolkit",
    ("container-toolkit", "", "base")),
    ("Windows, Linux", "NVIDIA CUDA Toolkit", ("cuda-toolkit", "", "base")), ("Windows", "NVIDIA CUDA Toolkit", None),
    ("XenServer, VMware vSphere, Red Hat Enterprise Linux KVM, Ubuntu(R535 vGPU 16)", "Virtual GPU Manager", None),
    ("Linux", "NVIDIA Triton Inference Server", ("triton", "", "base")), ("All", "NVIDIA Base Command Manager", None),
    ("HMC", "Hopper HGX 8-GPU", None), ("DGX H100 BMC", "DGX H100", None),
])  # fmt: skip
def test_products_that_a_host_may_have(platform: str, product: str, place: object) -> None:
    assert nvidia.places_of(platform, product, "All versions prior to 1.0") == ([place] if place else [])


@pytest.mark.parametrize(("platform", "product", "text", "places"), [
    ("DGX A100", "NVIDIA DGX servers", "All SBIOS firmware versions prior to 1.18", [("dgx-sbios", "", "dgxa100")]),
    ("DGX Station A100", "NVIDIA DGX servers", "All SBIOS versions prior to 10.16", [("dgx-sbios", "", "dgxstationa100")]),
    ("DGX A100", "NVIDIA DGX servers", "All BMC firmware versions prior to 00.19.07", []),
    ("ConnectX 6 DX, ConnectX 7", "ConnectX GA", "All versions prior to xx.41.1000",
     [("connectx-firmware", "", "connectx6 dx"), ("connectx-firmware", "", "connectx7")]),
    ("ConnectX 5", "ConnectX LTS22", "All versions prior to xx.35.4030", [("connectx-firmware", "35", "connectx5")]),
    ("N/A(12.28)", "ConnectX4", "All versions prior to 12.28.2302", [("connectx-firmware", "28", "connectx4")]),
    ("N/A(xx.32)", "ConnectX4", "All versions prior to xx.32.1900", [("connectx-firmware", "", "connectx4")]),
    ("BlueField 2, BlueField 3(DOCA 2.5.2 or later)", "BlueField LTS23", "All versions prior to xx.39.3560",
     [("connectx-firmware", "39", "bluefield2"), ("connectx-firmware", "39", "bluefield3")]),
])  # fmt: skip
def test_firmware_that_a_host_may_have(platform: str, product: str, text: str, places: object) -> None:
    assert nvidia.places_of(platform, product, text) == places


@pytest.mark.parametrize(("vector", "word"), [
    ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", "high"), ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", "critical"),
    ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", "critical"), ("AV:N/AC:L/Au:N/C:N/I:N/A:P", "medium"), ("nonsense", None),
    ("CVSS:3.1/AV:X", None),
])  # fmt: skip
def test_a_severity_by_its_vector(vector: str, word: str | None) -> None:
    assert severity_by_vector([vector]) == word


@pytest.mark.parametrize("text", ["2026-13-01", "", None, 3, "0000-00-00T00:00:00Z", "9999-12-31T23:59:59-23:00"])
def test_what_is_no_time_is_none(text: object) -> None:
    assert moment(text) is None


BROKEN: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "no JSON"), "a list": (b"[]", "not an object"), "deep": (b"[" * 100_000, "no JSON"),
    "no id": (json.dumps({**ONE, "id": 3}).encode(), "no format"),
    "an unknown database": (json.dumps({**ONE, "id": "XYZ-1"}).encode(), "database that is not known"),
    "no list": (json.dumps({**ONE, "affected": {"a": 1}}).encode(), "no list"),
    "no package": (json.dumps({**ONE, "affected": [3]}).encode(), "no object"),
    "no events": (json.dumps({**ONE, "affected": [{"package": {"ecosystem": "PyPI", "name": "x"},
    "ranges": [{"type": "ECOSYSTEM"}]}]}).encode(), "events"),
    "CSAF of another": (b'{"document": {"csaf_version": "2.0", "publisher": {"namespace": "https://x"}}}', "none of the sources"),
    "VEX of another": (b'{"statements": [], "metadata": {"@context": "x"}}', "no OpenVEX"),
    "an empty catalogue": (b'{"catalogVersion": "1", "vulnerabilities": []}', "none of its entries"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_refused_with_a_reason_and_nothing_of_it_is_taken(name: str) -> None:
    data, words = BROKEN[name]
    taken = batches()
    with pytest.raises(Refused, match=words):
        read("x.json", data, taken)
    assert all(batch == Batch() for batch in taken.values())


def _values() -> st.SearchStrategy[Any]:
    return st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["id", "affected", "package", "ranges", "events", "fixed", "name", "ecosystem", "document", "tracking",
            "vulnerabilities", "cve",
                         "statements", "products", "severity", "score", "type", "introduced", "product_tree", "branches"]) | st.text(max_size=5),
        inner, max_size=6), max_leaves=30)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)
@given(
    _values(),
    st.sampled_from(["affected", "published", "severity", "document", "statements", "product_tree", "vulnerabilities", "aliases"]),
)
def test_no_document_raises_anything_but_refused(value: Any, field: str) -> None:
    kev = {"catalogVersion": "1", "vulnerabilities": []}
    csaf = {"document": {"csaf_version": "2.0", "publisher": {"namespace": "nvidia.com"}, "tracking": {"id": "1"}}, "vulnerabilities": []}
    vex = {"metadata": {"@context": "openvex"}, "statements": []}
    for base in (ONE, kev, csaf, vex):
        with contextlib.suppress(Refused):
            read("x.json", json.dumps({**base, field: value}).encode(), batches())


@given(st.binary(max_size=400), st.sampled_from(["a.json", "a.yaml", "a.csv", "a", "epss.csv.gz"]))
def test_no_bytes_raise_anything_but_refused(data: bytes, name: str) -> None:
    with contextlib.suppress(Refused):
        read(name, data, batches())


def test_folders_archives_and_what_lies_beside(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("README.md", "LICENSE", "cve.schema.json", "x.sha256"):
        (folder / name).write_text("no advisory")
    (folder / "a.yaml").write_text(
        "id: PYSEC-2026-2\nmodified: 2026-07-01T00:00:00Z\naffected:\n- package: {ecosystem: PyPI, name: y}\n  versions: ['1']\n"
    )
    with tarfile.open(folder / "b.tar.xz", "w:xz") as archive:
        data = json.dumps(ONE).encode()
        member = tarfile.TarInfo("osv/PYSEC-2026-1.json")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    with zipfile.ZipFile(folder / "c.zip", "w") as packed:
        packed.writestr("GHSA-1.json", json.dumps(osv("GHSA-aaaa-bbbb-cccc", affects("PyPI", "z"), aliases=["CVE-2026-3"])))
    (folder / "d.csv.gz").write_bytes(
        gzip.compress(b"#model_version:v1,score_date:2026-07-01T00:00:00+0000\ncve,epss,percentile\nCVE-2026-0001,0.5,0.9\n")
    )
    (folder / "broken.tar.gz").write_bytes(b"\x1f\x8b nothing")
    done = Database(tmp_path / "db").take([folder], "test")
    assert {n: e.documents for n, e in done.sources.items()} == {"pypi": 3, "epss": 1}
    assert [(Path(name).name, "archive is broken" in why) for name, why in done.refused] == [("broken.tar.gz", True)]


def test_links_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "outside.json").write_text(json.dumps(ONE))
    (tmp_path / "in/link.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(FleetAuditError, match="nothing was read"):
        Database(tmp_path / "db").take([tmp_path / "in"], "test")


def test_an_import_replaces_its_sources_and_leaves_the_others(tmp_path: Path) -> None:
    database = Database(tmp_path / "db")
    for name, document in (
        ("a", ONE),
        ("b", {"catalogVersion": "1", "vulnerabilities": [{"cveID": "CVE-2026-0001", "dateAdded": "2026-01-01"}]}),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        database.take([tmp_path / f"{name}.json"], "test")
    first = database.manifest()
    (tmp_path / "a.json").write_text(json.dumps({**ONE, "id": "PYSEC-2026-9"}))
    database.take([tmp_path / "a.json"], "test")
    with opened(database) as (connection, manifest):
        assert connection.execute("SELECT id FROM adv_advisories").fetchall() == [("PYSEC-2026-9",)]
        assert connection.execute("SELECT cve FROM adv_exploited").fetchall() == [("CVE-2026-0001",)]
    assert manifest.id != first.id and manifest.sources["kev"] == first.sources["kev"]


def test_an_import_that_breaks_off_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "db")
    (tmp_path / "a.json").write_text(json.dumps(ONE))
    database.take([tmp_path / "a.json"], "test")
    before = database.manifest()
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(FleetAuditError, match="nothing was read"):
        database.take([tmp_path / "a.json"], "test")
    monkeypatch.setattr(Database, "_replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    (tmp_path / "a.json").write_text(json.dumps({**ONE, "id": "PYSEC-2026-9"}))
    with pytest.raises(KeyboardInterrupt):
        database.take([tmp_path / "a.json"], "test")
    assert database.manifest() == before
    with opened(database) as (connection, _):
        assert connection.execute("SELECT id FROM adv_advisories").fetchall() == [("PYSEC-2026-1",)]


def test_the_same_documents_give_the_same_data_set(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(ONE))
    ids = []
    for name in ("one", "two"):
        database = Database(tmp_path / name)
        database.take([tmp_path / "a.json"], "test")
        ids.append(database.manifest().id)
    assert ids[0] == ids[1]


def test_a_broken_manifest_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(FleetAuditError, match=r"manifest\.json: it is broken"):
        Database(tmp_path).manifest()


def _osv(number: int) -> dict[str, object]:
    return osv(f"PYSEC-2026-{number}", affects("PyPI", "ray", {"fixed": f"2.{number}"}))


def _zipped(path: Path, count: int, *, bad: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            archive.writestr(f"PYSEC-2026-{number}.json", json.dumps(_osv(number)))
        for number in range(bad):
            archive.writestr(f"bad-{number}.json", "{")
        archive.writestr("other.json", '{"id": "CURL-1", "affected": []}')
    return path


def test_a_source_is_not_replaced_by_a_few_documents(tmp_path: Path) -> None:
    database = Database(tmp_path / "advisories")
    assert database.take([_zipped(tmp_path / "all.zip", 9)], "test").sources["pypi"].documents == 9
    done = database.take([_zipped(tmp_path / "few.zip", 4)], "test")
    assert done.sources == {} and "4 documents are less than half of the 9" in done.kept["pypi"]
    assert database.manifest().sources["pypi"].documents == 9
    assert database.take([tmp_path / "few.zip"], "test", fewer=True).kept == {} and database.manifest().sources["pypi"].documents == 4


def test_an_archive_that_breaks_off_replaces_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "advisories")
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(50):
        (folder / f"PYSEC-2026-{number}.json").write_text(json.dumps(_osv(number)))
    whole = tmp_path / "all.tar.gz"
    with tarfile.open(whole, "w:gz") as archive:
        archive.add(folder, "x")
    database.take([whole], "test")
    cut = tmp_path / "cut.tar"
    cut.write_bytes(gzip.decompress(whole.read_bytes())[:60_000])
    done = database.take([cut], "test", fewer=True)
    assert done.sources == {} and "the archive is broken" in done.kept["pypi"] and done.refused_count == 1
    assert database.manifest().sources["pypi"].documents == 50


def test_documents_that_are_missing_are_counted_and_foreign_ones_are_not(tmp_path: Path) -> None:
    database = Database(tmp_path / "advisories")
    done = database.take([_zipped(tmp_path / "all.zip", 9, bad=2)], "test")
    assert done.refused_count == 3 and done.sources["pypi"].refused == 2
    assert database.manifest().sources["pypi"].refused == 2
