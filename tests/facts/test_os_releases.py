# SPDX-License-Identifier: Apache-2.0
"""os-release of the distributions that fleets run.

Debian's three are of the lab's images and this machine (base-files of 11, 12 and 13). The others hold the fields
as those releases ship them, by public bug reports and documentation of 2019 to 2026, shortened: synthetic in that sense.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.facts import tables
from fleet_audit.facts.os import OS_RELEASE
from fleet_audit.model import Coverage, Status

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

OS = tables()["os"]

TEXTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "debian 11": (
        'PRETTY_NAME="Debian GNU/Linux 11 (bullseye)"\nNAME="Debian GNU/Linux"\nVERSION_ID="11"\nVERSION="11 (bullseye)"\n'
        'VERSION_CODENAME=bullseye\nID=debian\nHOME_URL="https://www.debian.org/"\nBUG_REPORT_URL="https://bugs.debian.org/"\n',
        ("debian", [], "11", "bullseye", "Debian GNU/Linux 11 (bullseye)", "debian"),
    ),
    "debian 12": (
        'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\nVERSION_ID="12"\nVERSION="12 (bookworm)"\n'
        'VERSION_CODENAME=bookworm\nID=debian\nSUPPORT_URL="https://www.debian.org/support"\n',
        ("debian", [], "12", "bookworm", "Debian GNU/Linux 12 (bookworm)", "debian"),
    ),
    "debian 13": (
        'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nNAME="Debian GNU/Linux"\nVERSION_ID="13"\nVERSION="13 (trixie)"\n'
        "VERSION_CODENAME=trixie\nDEBIAN_VERSION_FULL=13.8\nID=debian\n",
        ("debian", [], "13", "trixie", "Debian GNU/Linux 13 (trixie)", "debian"),
    ),
    "debian testing": (
        'PRETTY_NAME="Debian GNU/Linux forky/sid"\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=forky\nID=debian\n',
        ("debian", [], None, "forky", "Debian GNU/Linux forky/sid", "debian"),
    ),
    "ubuntu 20.04": (
        'NAME="Ubuntu"\nVERSION="20.04.6 LTS (Focal Fossa)"\nID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 20.04.6 LTS"\n'
        'VERSION_ID="20.04"\nVERSION_CODENAME=focal\nUBUNTU_CODENAME=focal\n',
        ("ubuntu", ["debian"], "20.04", "focal", "Ubuntu 20.04.6 LTS", "debian"),
    ),
    "ubuntu 22.04": (
        'PRETTY_NAME="Ubuntu 22.04.5 LTS"\nNAME="Ubuntu"\nVERSION_ID="22.04"\nVERSION="22.04.5 LTS (Jammy Jellyfish)"\n'
        "VERSION_CODENAME=jammy\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=jammy\n",
        ("ubuntu", ["debian"], "22.04", "jammy", "Ubuntu 22.04.5 LTS", "debian"),
    ),
    "ubuntu 24.04": (
        'PRETTY_NAME="Ubuntu 24.04.4 LTS"\nNAME="Ubuntu"\nVERSION_ID="24.04"\nVERSION="24.04.4 LTS (Noble Numbat)"\n'
        "VERSION_CODENAME=noble\nID=ubuntu\nID_LIKE=debian\nUBUNTU_CODENAME=noble\nLOGO=ubuntu-logo\n",
        ("ubuntu", ["debian"], "24.04", "noble", "Ubuntu 24.04.4 LTS", "debian"),
    ),
    "rhel 8": (
        'NAME="Red Hat Enterprise Linux"\nVERSION="8.10 (Ootpa)"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="8.10"\nPLATFORM_ID="platform:el8"\n'
        'PRETTY_NAME="Red Hat Enterprise Linux 8.10 (Ootpa)"\nANSI_COLOR="0;31"\nCPE_NAME="cpe:/o:redhat:enterprise_linux:8::baseos"\n\n'
        'REDHAT_BUGZILLA_PRODUCT="Red Hat Enterprise Linux 8"\nREDHAT_BUGZILLA_PRODUCT_VERSION=8.10\n',
        ("rhel", ["fedora"], "8.10", None, "Red Hat Enterprise Linux 8.10 (Ootpa)", "rhel"),
    ),
    "rhel 9": (
        'NAME="Red Hat Enterprise Linux"\nVERSION="9.4 (Plow)"\nID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"\nPLATFORM_ID="platform:el9"\n'
        'PRETTY_NAME="Red Hat Enterprise Linux 9.4 (Plow)"\nLOGO="fedora-logo-icon"\n',
        ("rhel", ["fedora"], "9.4", None, "Red Hat Enterprise Linux 9.4 (Plow)", "rhel"),
    ),
    "centos stream 9": (
        'NAME="CentOS Stream"\nVERSION="9"\nID="centos"\nID_LIKE="rhel fedora"\nVERSION_ID="9"\nPRETTY_NAME="CentOS Stream 9"\n',
        ("centos", ["rhel", "fedora"], "9", None, "CentOS Stream 9", "rhel"),
    ),
    "rocky 9": (
        'NAME="Rocky Linux"\nVERSION="9.6 (Blue Onyx)"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\nPLATFORM_ID="platform:el9"\n'
        'PRETTY_NAME="Rocky Linux 9.6 (Blue Onyx)"\nVENDOR_NAME="RESF"\nSUPPORT_END="2032-05-31"\n',
        ("rocky", ["rhel", "centos", "fedora"], "9.6", None, "Rocky Linux 9.6 (Blue Onyx)", "rhel"),
    ),
    "almalinux 9": (
        'NAME="AlmaLinux"\nVERSION="9.6 (Sage Margay)"\nID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n'
        'PLATFORM_ID="platform:el9"\nPRETTY_NAME="AlmaLinux 9.6 (Sage Margay)"\n\nALMALINUX_MANTISBT_PROJECT="AlmaLinux-9"\nSUPPORT_END=2032-06-01\n',
        ("almalinux", ["rhel", "centos", "fedora"], "9.6", None, "AlmaLinux 9.6 (Sage Margay)", "rhel"),
    ),
    "oracle 9": (
        'NAME="Oracle Linux Server"\nVERSION="9.5"\nID="ol"\nID_LIKE="fedora"\nVARIANT="Server"\nVARIANT_ID="server"\nVERSION_ID="9.5"\n'
        'PLATFORM_ID="platform:el9"\nPRETTY_NAME="Oracle Linux Server 9.5"\nCPE_NAME="cpe:/o:oracle:linux:9:5:server"\n',
        ("ol", ["fedora"], "9.5", None, "Oracle Linux Server 9.5", "rhel"),
    ),
    "fedora 41": (
        'NAME="Fedora Linux"\nVERSION="41 (Forty One)"\nRELEASE_TYPE=stable\nID=fedora\nVERSION_ID=41\nVERSION_CODENAME=""\n'
        'PLATFORM_ID="platform:f41"\nPRETTY_NAME="Fedora Linux 41 (Forty One)"\nDEFAULT_HOSTNAME="fedora"\nSUPPORT_END=2025-12-15\n',
        ("fedora", [], "41", None, "Fedora Linux 41 (Forty One)", "rhel"),
    ),
    "amazon 2": (
        'NAME="Amazon Linux"\nVERSION="2"\nID="amzn"\nID_LIKE="centos rhel fedora"\nVERSION_ID="2"\nPRETTY_NAME="Amazon Linux 2"\n',
        ("amzn", ["centos", "rhel", "fedora"], "2", None, "Amazon Linux 2", "rhel"),
    ),
    "amazon 2023": (
        'NAME="Amazon Linux"\nVERSION="2023"\nID="amzn"\nID_LIKE="fedora"\nVERSION_ID="2023"\nPLATFORM_ID="platform:al2023"\n'
        'PRETTY_NAME="Amazon Linux 2023.8.20250808"\nVENDOR_NAME="AWS"\nSUPPORT_END="2029-06-30"\n',
        ("amzn", ["fedora"], "2023", None, "Amazon Linux 2023.8.20250808", "rhel"),
    ),
    "sles 12": (
        'NAME="SLES"\nVERSION="12-SP5"\nVERSION_ID="12.5"\nPRETTY_NAME="SUSE Linux Enterprise Server 12 SP5"\nID="sles"\n',
        ("sles", [], "12.5", None, "SUSE Linux Enterprise Server 12 SP5", "suse"),
    ),
    "sles 15": (
        'NAME="SLES"\nVERSION="15-SP7"\nVERSION_ID="15.7"\nPRETTY_NAME="SUSE Linux Enterprise Server 15 SP7"\nID="sles"\nID_LIKE="suse"\n',
        ("sles", ["suse"], "15.7", None, "SUSE Linux Enterprise Server 15 SP7", "suse"),
    ),
    "sl micro": (
        'NAME="SL-Micro"\nVERSION="6.0"\nPRETTY_NAME="SUSE Linux Micro 6.0"\nID="sl-micro"\nID_LIKE="suse"\nVERSION_ID="6.0"\n',
        ("sl-micro", ["suse"], "6.0", None, "SUSE Linux Micro 6.0", "suse"),
    ),
    "opensuse leap": (
        'NAME="openSUSE Leap"\nVERSION="15.6"\nID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\nPRETTY_NAME="openSUSE Leap 15.6"\n',
        ("opensuse-leap", ["suse", "opensuse"], "15.6", None, "openSUSE Leap 15.6", "suse"),
    ),
    "opensuse tumbleweed": (
        'NAME="openSUSE Tumbleweed"\n# VERSION="20241001"\nID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\nVERSION_ID="20241001"\n'
        'PRETTY_NAME="openSUSE Tumbleweed"\n',
        ("opensuse-tumbleweed", ["opensuse", "suse"], "20241001", None, "openSUSE Tumbleweed", "suse"),
    ),
    "bottlerocket": (
        'NAME=Bottlerocket\nID=bottlerocket\nVERSION="1.47.0 (aws-k8s-1.34)"\nPRETTY_NAME="Bottlerocket OS 1.47.0 (aws-k8s-1.34)"\n'
        "VARIANT_ID=aws-k8s-1.34\nVERSION_ID=1.47.0\nBUILD_ID=6154605b\n",
        ("bottlerocket", [], "1.47.0", None, "Bottlerocket OS 1.47.0 (aws-k8s-1.34)", "other"),
    ),
    "mariner": (
        'NAME="Common Base Linux Mariner"\nVERSION="2.0.20240425"\nID=mariner\nVERSION_ID="2.0"\nPRETTY_NAME="CBL-Mariner/Linux"\n',
        ("mariner", [], "2.0", None, "CBL-Mariner/Linux", "other"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_releases(name: str) -> None:
    text, row = TEXTS[name]
    extracted = run(OS, {OS_RELEASE.id: ok(text)})
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (row,))
    assert run(OS, {OS_RELEASE.id: ok(text.replace("\n", "\r\n"))}).rows == (row,)


@pytest.mark.parametrize(("text", "row"), [
    ("ID='rocky'\nPRETTY_NAME=\"Rocky \\\"Blue Onyx\\\"\"\n", ("rocky", [], None, None, 'Rocky "Blue Onyx"', "other")),
    ("# ID=no\nID=UPPER\n  NAME=x\n", ("upper", [], None, None, None, "other")),
    ("NAME=Nothing\n", ("linux", [], None, None, None, "other")),
    ("ID=debian\nID=ubuntu\n", ("ubuntu", [], None, None, None, "debian")),
])  # fmt: skip
def test_quotes_comments_and_defaults(text: str, row: Any) -> None:
    """os-release(5): shell quoting, `linux` where there is no ID, and the last of two wins as in a shell."""
    assert run(OS, {OS_RELEASE.id: ok(text)}).rows == (row,)


def test_broken_quotes_are_no_value() -> None:
    assert run(OS, {OS_RELEASE.id: ok('ID="broken\nNAME=x\n')}).coverage is Coverage.NONE
    extracted = run(OS, {OS_RELEASE.id: ok('ID=debian\nVERSION_ID="12\n')})
    assert (extracted.coverage, extracted.rows[0][:3]) == (Coverage.PARTIAL, ("debian", [], None))


@pytest.mark.parametrize("path", ["/etc/os-release", "/usr/lib/os-release"])
def test_this_machine(path: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"this machine has no {path}")
    extracted = run(OS, {OS_RELEASE.id: ok(Path(path).read_bytes())})
    assert extracted.coverage is Coverage.COMPLETE and extracted.rows[0][5] != "other"


def test_laws_and_unread() -> None:
    evidence = {OS_RELEASE.id: ok(TEXTS["rocky 9"][0])}
    never_emptier(OS, evidence)
    assert list(cut_short(OS, evidence, OS_RELEASE, step=9))
    for what in Status:
        if what not in (Status.OK, Status.TRUNCATED):
            assert run(OS, {OS_RELEASE.id: status(what)}).coverage is Coverage.NONE


@pytest.mark.parametrize(
    ("text", "coverage"), [("ID=" + "a" * (1 << 20), Coverage.NONE), ("ID=a\nVERSION_ID=" + "1" * (1 << 20), Coverage.PARTIAL)]
)
def test_a_value_of_a_megabyte_is_not_understood(text: str, coverage: Coverage) -> None:
    begin = time.process_time()
    assert run(OS, {OS_RELEASE.id: ok(text)}).coverage is coverage
    assert time.process_time() - begin < 2
