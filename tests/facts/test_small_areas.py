# SPDX-License-Identifier: Apache-2.0
"""os, packages and ssh: real captures and systems, and what each absence means."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import packages, ssh, tables
from fleet_audit.facts.base import Extract, Item
from fleet_audit.facts.os import OS_RELEASE
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, shared, status

# synthetic, in the format of os-release(5)
RELEASES = {
    "ubuntu": (
        'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\nVERSION_ID="22.04"\nVERSION_CODENAME=jammy\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "debian",
        "22.04",
    ),
    "rocky": ('NAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n', "rhel", "9.4"),
    "rhel": ("ID=\"rhel\"\nID_LIKE='fedora'\nVERSION_ID=8.10\n", "rhel", "8.10"),
    "opensuse-leap": ('ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n', "suse", "15.6"),
    "debian": ("ID=debian\nNAME='Debian GNU/Linux'\n", "debian", None),
    "arch": ("ID=arch\nBUILD_ID=rolling\n", "other", None),
}


@pytest.mark.parametrize("ident", RELEASES)
def test_os_release(ident: str) -> None:
    text, family, version = RELEASES[ident]
    (row,) = rows_as_dicts(tables()["os"], run(tables()["os"], {OS_RELEASE.id: ok(text)}))
    assert (row["id"], row["family"], row["version_id"]) == (ident, family, version)


def test_os_release_of_this_machine() -> None:
    path = Path("/etc/os-release")
    if not path.exists():
        pytest.skip("the mirror lacks an os-release here")
    (row,) = rows_as_dicts(tables()["os"], run(tables()["os"], {OS_RELEASE.id: ok(path.read_bytes())}))
    assert f"ID={row['id']}" in path.read_text().replace('"', "")


@pytest.mark.parametrize("text", ["", "nothing here\n", "=\n", "\x00\x01"])
def test_what_is_no_os_release_is_none(text: str) -> None:
    assert run(tables()["os"], {OS_RELEASE.id: ok(text)}).coverage is Coverage.NONE


# synthetic: five fields of dpkg's status, as the probe sends them
DPKG = """Package: openssl
Status: install ok installed
Architecture: amd64
Version: 3.0.2-0ubuntu1.18

Package: libssl3
Status: hold ok installed
Architecture: amd64
Source: openssl (3.0.2-0ubuntu1.17)
Version: 3.0.2-0ubuntu1.18

Package: gone
Status: deinstall ok config-files
Architecture: amd64
Version: 1
"""


SKIPPED = status(Status.SKIPPED)


def _packages(dpkg: Item, rpm: Item = SKIPPED) -> tuple[Extract, list[dict[str, Any]]]:
    found = run(tables()["packages"], {packages.DPKG.id: dpkg, packages.RPM.id: rpm})
    return found, rows_as_dicts(tables()["packages"], found)


def test_dpkg_source_versions_and_removed_packages() -> None:
    found, rows = _packages(ok(DPKG))
    assert found.coverage is Coverage.COMPLETE
    assert [(r["name"], r["source"], r["source_version"]) for r in rows] == [
        ("openssl", "openssl", "3.0.2-0ubuntu1.18"), ("libssl3", "openssl", "3.0.2-0ubuntu1.17"),
    ]  # fmt: skip
    assert rows[0]["source_version_key"] > rows[1]["source_version_key"]


def test_rpm_epochs_and_keys_that_are_no_packages() -> None:
    text = (
        "bash\t0\t5.1.8\t9.el9\tx86_64\tbash-5.1.8-9.el9.src.rpm\n"
        "openssl-libs\t1\t3.0.7\t27.el9\tx86_64\topenssl-3.0.7-27.el9.src.rpm\n"
        "gpg-pubkey\t0\t6225c5b\t61\t(none)\t(none)\n"
    )
    found, rows = _packages(status(Status.ABSENT), ok(text))
    assert found.coverage is Coverage.COMPLETE
    assert [(r["name"], r["version"], r["source"], r["manager"]) for r in rows] == [
        ("bash", "5.1.8-9.el9", "bash", "rpm"), ("openssl-libs", "1:3.0.7-27.el9", "openssl", "rpm"),
    ]  # fmt: skip


def test_garbage_lines_make_it_partial_and_no_row() -> None:
    found, rows = _packages(status(Status.ABSENT), ok("warning: something\nbash\t0\t5\t9\tx\ty.src.rpm\n"))
    assert (found.coverage, len(rows)) == (Coverage.PARTIAL, 1)
    found, rows = _packages(ok("Package: half\n\n" + DPKG))
    assert (found.coverage, len(rows)) == (Coverage.PARTIAL, 2)


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="the mirror lacks dpkg here")
def test_dpkg_of_this_machine_agrees_with_dpkg_query() -> None:
    native = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\\n"], capture_output=True, text=True, check=True
    )
    wanted = sorted(line.split()[1:] for line in native.stdout.splitlines() if line.startswith("installed "))
    _, rows = _packages(ok(Path("/var/lib/dpkg/status").read_text().replace("\n ", "\n_")))
    assert sorted([r["name"], r["version"]] for r in rows) == wanted
    assert all(r["version_key"] for r in rows)


def test_sshd_settings_of_a_real_capture() -> None:
    text = shared("captures/sshd-T.txt").read_text()
    found = run(tables()["sshd_settings"], {ssh.EFFECTIVE.id: ok(text)})
    rows = {(r["keyword"], r["value"]) for r in rows_as_dicts(tables()["sshd_settings"], found)}
    assert found.coverage is Coverage.COMPLETE
    assert len(found.rows) == len(text.splitlines())
    assert any(keyword == "permitrootlogin" for keyword, _ in rows)


@pytest.mark.parametrize("body", ["", "usage: sshd\n", "permitrootlogin no\n"])
def test_output_without_a_port_is_no_configuration(body: str) -> None:
    assert run(tables()["sshd_settings"], {ssh.EFFECTIVE.id: ok(body)}).coverage is Coverage.NONE


@pytest.mark.parametrize("given", [Status.DENIED, Status.FAILED, Status.SKIPPED, Status.ABSENT, Status.UNREACHED])
def test_settings_that_were_not_read_are_none(given: Status) -> None:
    assert run(tables()["sshd_settings"], {ssh.EFFECTIVE.id: status(given)}).coverage is Coverage.NONE


@given(st.binary(max_size=400), st.sampled_from(list(Status)))
def test_no_evidence_raises_in_any_table(body: bytes, given: Status) -> None:
    for table in tables().values():
        found = run(table, {SourceId(s.id): Item(given, body, 1, "x") for s in table.sources})
        assert found.coverage in Coverage
        assert found.coverage is Coverage.COMPLETE or found.reason
