# SPDX-License-Identifier: Apache-2.0
"""Kernels: running, installed, on offer, and the reboot flag."""

from __future__ import annotations

import json

import pytest

from fleet_audit.facts import kernel, tables
from fleet_audit.facts.packages import DPKG, RPM
from fleet_audit.model import Coverage, Status

from .helpers import ok, rows_as_dicts, run, status

# synthetic: deb822 of dpkg's status file, five fields a stanza as the probe sends it
UBUNTU = """Package: linux-image-6.8.0-60-generic
Status: install ok installed
Architecture: amd64
Source: linux-signed (6.8.0-60.63)
Version: 6.8.0-60.63

Package: linux-image-6.8.0-9-generic
Status: deinstall ok config-files
Architecture: amd64
Version: 6.8.0-9.9

Package: linux-image-unsigned-6.8.0-100-generic
Status: install ok installed
Architecture: amd64
Version: 6.8.0-100.103

Package: linux-image-generic
Status: install ok installed
Architecture: amd64
Version: 6.8.0.60.60

Package: linux-image-6.8.0-60-generic-dbgsym
Status: install ok installed
Architecture: amd64
Version: 6.8.0-60.63
"""
# synthetic: the query format of the source rpm-qa
ROCKY = (
    "kernel-core\t0\t5.14.0\t427.13.1.el9_4\tx86_64\tkernel-5.14.0-427.13.1.el9_4.src.rpm\n"
    "kernel-core\t0\t5.14.0\t70.13.1.el9_0\tx86_64\tkernel-5.14.0-70.13.1.el9_0.src.rpm\n"
    "kernel-tools\t0\t5.14.0\t427.13.1.el9_4\tx86_64\tkernel-5.14.0-427.13.1.el9_4.src.rpm\n"
)


def test_installed_kernels_of_ubuntu_leave_out_meta_and_removed_ones() -> None:
    found = run(tables()["kernel_packages"], {DPKG.id: ok(UBUNTU), RPM.id: status(Status.SKIPPED)})
    rows = rows_as_dicts(tables()["kernel_packages"], found)
    assert [(r["release"], r["flavour"]) for r in rows] == [("6.8.0-60-generic", "generic"), ("6.8.0-100-generic", "generic")]
    assert rows[0]["release_key"] < rows[1]["release_key"]
    assert found.coverage is Coverage.COMPLETE


def test_installed_kernels_of_rocky_sort_by_release() -> None:
    found = run(tables()["kernel_packages"], {DPKG.id: status(Status.ABSENT), RPM.id: ok(ROCKY)})
    rows = rows_as_dicts(tables()["kernel_packages"], found)
    assert [r["release"] for r in rows] == ["5.14.0-427.13.1.el9_4.x86_64", "5.14.0-70.13.1.el9_0.x86_64"]
    assert rows[0]["release_key"] > rows[1]["release_key"]


@pytest.mark.parametrize(
    ("dpkg", "rpm"), [(Status.ABSENT, Status.ABSENT), (Status.DENIED, Status.SKIPPED), (Status.TIMEOUT, Status.ABSENT)]
)
def test_no_package_database_is_no_empty_list(dpkg: Status, rpm: Status) -> None:
    found = run(tables()["kernel_packages"], {DPKG.id: status(dpkg), RPM.id: status(rpm)})
    assert (found.coverage, found.rows) == (Coverage.NONE, ())


def test_running_kernel_of_ubuntu_knows_its_upload() -> None:
    given = {
        kernel.RELEASE.id: ok("6.8.0-60-generic\n"), kernel.SIGNATURE.id: ok("Ubuntu 6.8.0-60.63-generic 6.8.12\n"),
        kernel.VERSION.id: ok("Linux version 6.8.0\n"), kernel.TAINTED.id: ok("4096\n"), kernel.BOOTED.id: ok("btime 1760000000\n"),
    }  # fmt: skip
    (row,) = rows_as_dicts(tables()["kernel_running"], run(tables()["kernel_running"], given))
    assert (row["release"], row["signature"], row["tainted"]) == ("6.8.0-60-generic", "6.8.0-60.63-generic", 4096)
    assert str(row["booted_at"]) == "2025-10-09 08:53:20"


def test_a_signature_that_was_not_read_is_a_gap_and_one_that_is_not_there_is_none() -> None:
    table = tables()["kernel_running"]
    rest = {s.id: ok("1\n") for s in table.sources} | {kernel.BOOTED.id: ok("btime 1\n"), kernel.VERSION.id: ok("Linux version 1\n")}
    assert run(table, {**rest, kernel.SIGNATURE.id: status(Status.ABSENT)}).coverage is Coverage.COMPLETE
    assert run(table, {**rest, kernel.SIGNATURE.id: status(Status.DENIED)}).coverage is Coverage.PARTIAL


def test_command_line_keeps_order_quotes_and_duplicates() -> None:
    found = run(
        tables()["kernel_parameters"],
        {kernel.CMDLINE.id: ok('BOOT_IMAGE=/v ro mitigations="off" dyndbg="a b" gather-data-sampling=auto\n')},
    )
    rows = rows_as_dicts(tables()["kernel_parameters"], found)
    assert [(r["name"], r["value"], r["position"]) for r in rows] == [
        ("BOOT_IMAGE", "/v", 0), ("ro", "", 1), ("mitigations", "off", 2), ("dyndbg", "a b", 3), ("gather_data_sampling", "auto", 4),
    ]  # fmt: skip


NOTIFIER = "/usr/share/update-notifier/notify-reboot-required"


@pytest.mark.parametrize(
    ("paths", "required"),
    [
        ({"/run/reboot-required": {"type": "file", "mtime": 0}}, True), ({NOTIFIER: {"type": "file", "mtime": 0}}, False), ({}, None),
        ({"/run/reboot-required": {"status": "absent", "detail": ""}, NOTIFIER: {"type": "file", "mtime": 0}}, False),
    ],
)  # fmt: skip
def test_reboot_flag_absent_means_no_only_where_something_would_set_it(paths: dict[str, object], required: bool | None) -> None:
    found = run(tables()["reboot_required"], {kernel.REBOOT.id: ok(json.dumps(paths)), kernel.REBOOT_PACKAGES.id: status(Status.ABSENT)})
    assert rows_as_dicts(tables()["reboot_required"], found)[0]["required"] is required


def test_an_unreadable_reboot_flag_is_a_gap() -> None:
    paths = {"/run/reboot-required": {"status": "denied", "detail": "x"}, NOTIFIER: {"type": "file", "mtime": 0}}
    assert run(tables()["reboot_required"], {kernel.REBOOT.id: ok(json.dumps(paths))}).coverage is Coverage.PARTIAL


def test_available_kernels_name_lists_that_could_not_be_read() -> None:
    text = 'Package: linux-image-generic\nVersion: 6.8.0.61.61\n\n{"detail":"","status":"denied","unread":"/var/lib/apt/lists/x"}\n'
    found = run(tables()["kernel_available"], {kernel.AVAILABLE.id: ok(text)})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)


def test_age_of_lists_is_of_the_fetch_not_of_the_server() -> None:
    paths = {
        "/var/lib/apt/lists": {"mtime": 9},
        "/var/lib/apt/lists/partial": {"mtime": 5},
        "/var/lib/apt/periodic/update-success-stamp": {"mtime": 7},
    }
    (row,) = rows_as_dicts(tables()["apt_lists"], run(tables()["apt_lists"], {kernel.LISTS.id: ok(json.dumps(paths))}))
    assert row["updated_at"].timestamp() is not None
    assert row["updated_at"].second == 7
