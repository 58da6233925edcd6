# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit advisories`, and an old run decided again with a newer data set, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Cli

from .nodes import affects, osv

pytestmark = pytest.mark.slow
SUDO = osv(
    "UBUNTU-CVE-2026-0001",
    affects("Ubuntu:22.04:LTS", "sudo", {"fixed": "1.9.9-1ubuntu2.9"}),
    severity=[{"type": "Ubuntu", "score": "high"}],
)
KEV = {"catalogVersion": "1", "vulnerabilities": [{"cveID": "CVE-2026-0001", "dateAdded": "2026-07-10"}]}


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """A synthetic node of Ubuntu 22.04 with one package, in a container, so that no kernel counts."""
    folder = tmp_path / "nodes/n"
    files = {
        "etc/os-release": 'ID=ubuntu\nVERSION_ID="22.04"\n', ".dockerenv": "",
        "proc/cpuinfo": "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: x\nflags\t\t: fpu\n\n",
        "var/lib/dpkg/status": "Package: sudo\nStatus: install ok installed\nVersion: 1.9.9-1ubuntu2.4\nArchitecture: amd64\n",
        "proc/sys/kernel/osrelease": "6.8.0-60-generic\n", "proc/version": "Linux version 6.8.0\n", "sys/class/x": "",
    }  # fmt: skip
    for path, content in files.items():
        (folder / "files" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "files" / path).write_text(content)
    (folder / "node.toml").write_text('name = "n"\nprovenance = "written by hand for a test"\nsynthetic = true\n')
    (tmp_path / "inventory.ini").write_text("[fleet]\nn fleet_audit_archive=nodes/n\n")
    return tmp_path / "inventory.ini"


def write(folder: Path, **documents: object) -> Path:
    folder.mkdir(exist_ok=True)
    for name, document in documents.items():
        (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def others() -> dict[str, object]:
    """As many ranges as the whole of a source has at least, about packages that nobody has."""
    return {
        f"other{n}": osv(f"UBUNTU-CVE-2020-{n}000", *(affects("Ubuntu:22.04:LTS", f"other{n}-{i}", {"fixed": "1"}) for i in range(17_000)))
        for n in range(1, 4)
    }


def test_import_status_search_and_show(fleet_audit: Cli, tmp_path: Path) -> None:
    store = tmp_path / "store"
    none = fleet_audit("advisories", "status", "--store", store)
    assert none.returncode == 0 and "no advisories yet" in none.stdout
    folder = write(tmp_path / "in", sudo=SUDO, kev=KEV)
    (folder / "README.md").write_text("beside it")
    done = fleet_audit("advisories", "import", folder, "--store", store)
    assert done.returncode == 0 and "ubuntu: 1 document, as of 2026-07-20: 1 advisories, 1 ranges" in done.stdout, done.stderr
    said = json.loads(fleet_audit("advisories", "status", "--store", store, "--format", "json").stdout)
    assert set(said["sources"]) == {"ubuntu", "kev"} and said["id"]
    assert "UBUNTU-CVE-2026-0001" in fleet_audit("advisories", "search", "sudo", "--store", store).stdout
    shown = fleet_audit("advisories", "show", "cve-2026-0001", "--store", store).stdout
    assert "known to be exploited since 2026-07-10" in shown and "ubuntu 22.04: sudo before 1.9.9-1ubuntu2.9" in shown
    assert fleet_audit("advisories", "show", "CVE-1999-0001", "--store", store).returncode == 2


def test_import_tells_what_it_refused(fleet_audit: Cli, tmp_path: Path) -> None:
    store, folder = tmp_path / "store", write(tmp_path / "in", sudo=SUDO)
    (folder / "bad.json").write_text("{")
    some = fleet_audit("advisories", "import", folder, "--store", store)
    assert some.returncode == 3 and "bad.json: no JSON" in some.stderr
    (folder / "sudo.json").unlink()
    nothing = fleet_audit("advisories", "import", folder, "--store", store)
    assert nothing.returncode == 2 and "nothing was read" in nothing.stderr
    assert fleet_audit("advisories", "import", tmp_path / "nowhere", "--store", store).returncode == 2
    assert fleet_audit("advisories", "show", "CVE-2026-0001", "--store", store).returncode == 0, "the first import is still there"


def test_an_old_run_is_decided_again_with_newer_advisories(fleet_audit: Cli, inventory: Path, tmp_path: Path) -> None:
    policy = tmp_path / "p.yaml"
    policy.write_text("advisories: {maximum_days: 3650}\n")
    mine = ["--check", "exploited-vulnerabilities-closed", "--store", tmp_path / "store", "-f", "json", "-o", "-", "--policy", policy]
    first = json.loads(fleet_audit("run", inventory, *mine).stdout)
    assert first["results"][0]["outcome"] == "unknown" and "no advisories" in first["results"][0]["reason"], first["results"]
    fleet_audit("advisories", "import", write(tmp_path / "in", sudo=SUDO, **others()), "--store", tmp_path / "store")
    (undecided,) = json.loads(fleet_audit("evaluate", *mine).stdout)["results"]
    assert undecided["outcome"] == "unknown" and "the catalogue is not here" in undecided["reason"]
    fleet_audit("advisories", "import", write(tmp_path / "kev", kev=KEV), "--store", tmp_path / "store")
    done = fleet_audit("evaluate", *mine)
    report = json.loads(done.stdout)
    assert (done.returncode, report["results"][0]["outcome"]) == (1, "fail"), report["results"]
    assert "CVE-2026-0001 in sudo 1.9.9-1ubuntu2.4 is exploited since 2026-07-10" in report["results"][0]["reason"]
    assert {r["name"] for r in report["reference_tables"]} == {"advisories of kev", "advisories of ubuntu"}
    again = fleet_audit("query", "SELECT package, state FROM vulnerabilities", "--store", tmp_path / "store", "--format", "json")
    assert json.loads(again.stdout) == [{"package": "sudo", "state": "open"}]
    listed = fleet_audit("vulnerabilities", "--store", tmp_path / "store")
    assert "1. update sudo on n: 1 vulnerability, 1 known to be exploited, 1 high\n     CVE-2026-0001\n" in listed.stdout, listed.stdout
    assert json.loads(fleet_audit("vulnerabilities", "--store", tmp_path / "store", "--format", "json").stdout)["actions"][0]["hosts"] == [
        "n"
    ]
    assert fleet_audit("vulnerabilities", "--store", tmp_path / "store", "--host", "x").returncode == 2


def test_nothing_passes_by_advisories_of_which_some_could_not_be_read(fleet_audit: Cli, inventory: Path, tmp_path: Path) -> None:
    """A broken document may be the one that concerns the host."""
    harmless = osv("UBUNTU-CVE-2026-0002", affects("Ubuntu:22.04:LTS", "vim", {"fixed": "1"}))
    store, folder = tmp_path / "store", write(tmp_path / "in", vim=harmless, kev=KEV, **others())
    policy = tmp_path / "p.yaml"
    policy.write_text("advisories: {maximum_days: 3650}\n")
    mine = ["--check", "exploited-vulnerabilities-closed", "--store", store, "-f", "json", "-o", "-", "--policy", policy]
    assert fleet_audit("advisories", "import", folder, "--store", store).returncode == 0
    assert json.loads(fleet_audit("run", inventory, *mine).stdout)["results"][0]["outcome"] == "pass"
    few = write(tmp_path / "few", vim=harmless)
    assert fleet_audit("advisories", "import", few, "--store", tmp_path / "other").returncode == 0
    (part,) = json.loads(fleet_audit("run", inventory, *mine[:2], "--store", tmp_path / "other", *mine[4:]).stdout)["results"]
    assert part["outcome"] == "unknown" and "but a part of what is published" in part["reason"]
    (folder / "bad.json").write_text("{")
    assert fleet_audit("advisories", "import", folder, "--store", store).returncode == 3
    (result,) = json.loads(fleet_audit("evaluate", *mine).stdout)["results"]
    assert result["outcome"] == "unknown" and "1 documents among the advisories of ubuntu could not be read" in result["reason"]
    assert "1 documents unread" in fleet_audit("advisories", "status", "--store", store).stdout
