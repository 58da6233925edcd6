# SPDX-License-Identifier: Apache-2.0
"""Versions of what protects confidential guests on a host: Intel's TDX module, AMD's SEV firmware. Advisories name them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.confidential.node import KERNEL_LOG
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.model import Source, SourceId

_TDX_HOST = "/sys/devices/faux/tdx_host"
TDX_HOST = Source(
    SourceId("tdx-host"), "attrs", {"globs": [_TDX_HOST], "names": ["version"]},
    "Kernel documentation, ABI/testing/sysfs-devices-faux-tdx-host, since 7.0: the module that runs, also after an update without a boot.",
)  # fmt: skip


@dataclass(frozen=True)
class TeeFirmware:
    """A version that the kernel found, by its log's last word and by sysfs. No rows: it found none. Source: dmesg(1), sysfs.

    What a guest's report says of its platform counts more: it is signed.
    """

    source: Annotated[str, "log or sysfs, which is newer where they differ"]
    technology: Annotated[str, "tdx (the module), sev or sev-snp (the firmware's interface)"]
    version: Annotated[str, "Such as 1.5.05 (tdx; 1.5 where the kernel tells no more) or 1.55 (sev)"]
    build: Annotated[str | None, "Number of the build, decimal"]
    built_on: Annotated[str | None, "Day of the build of the TDX module, yyyy-mm-dd"]


_TDX_OLD = re.compile(
    r"(?:virt/)?tdx: TDX module: .*?major_version (?P<major>\d{1,5}), minor_version (?P<minor>\d{1,5}), "
    r"build_date (?P<date>\d{8}), build_num (?P<build>\d{1,9})\s*$"
)
_TDX_NEW = re.compile(r"(?:virt/)?tdx: (?:TDX )?[Mm]odule version: (?P<version>\d{1,5}(?:\.\d{1,5}){1,4})\b.*$")
_SEV = re.compile(r"(?:ccp \S+ )?(?P<name>SEV(?:-SNP)?) API:(?P<version>\d{1,3}\.\d{1,3}) build:(?P<build>\d{1,9})\s*$")
_STAMP = re.compile(r"(?:<\d+>)?(?:\[[\s\d.,]+\])?\s*(?:\[[\sTC\d]+\])?\s*")


def parse(evidence: Bundle) -> Iterable[TeeFirmware]:
    """A row per technology and source; that there is none shows only in a log that reaches back to the boot."""
    text = whole_lines(evidence, KERNEL_LOG)
    found: dict[str, TeeFirmware] = {}
    whole = False
    for stamped in text.splitlines():
        if not any(word in stamped for word in ("Linux version ", "tdx: ", " API:")):
            continue  # a log of millions of lines has few that are looked at closely
        line = _STAMP.sub("", stamped, count=1)
        whole |= line.startswith("Linux version ")
        if match := _TDX_OLD.match(line):
            day = match["date"]
            found["tdx"] = TeeFirmware(
                "log", "tdx", f"{match['major']}.{match['minor']}", str(int(match["build"])), f"{day[:4]}-{day[4:6]}-{day[6:]}"
            )
        elif match := _TDX_NEW.match(line):
            found["tdx"] = TeeFirmware("log", "tdx", match["version"], None, None)
        elif match := _SEV.match(line):
            name = match["name"].lower()
            found[name] = TeeFirmware("log", name, match["version"], str(int(match["build"])), None)
    if not whole:
        evidence.gap(KERNEL_LOG, "what is left of the kernel's log does not reach back to the boot")
    yield from (found[name] for name in sorted(found))
    version = evidence.entries(TDX_HOST).get(_TDX_HOST, {}).get("version")
    if isinstance(version, str) and re.fullmatch(r"\d{1,5}(?:\.\d{1,5}){1,4}", version.strip()):
        yield TeeFirmware("sysfs", "tdx", version.strip(), None, None)
    elif version is not None:
        evidence.gap(TDX_HOST, "the version was not read or not understood")


TABLES = (Table("tee_firmware", TeeFirmware, (KERNEL_LOG, TDX_HOST), parse),)
