# SPDX-License-Identifier: Apache-2.0
"""The running kernel, the installed and available ones, and whether a reboot is pending."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer, stanzas, utc, value
from fleet_audit.facts.packages import DPKG, RPM, parse_packages
from fleet_audit.model import Source, SourceId, Status
from fleet_audit.versions import key

RELEASE = Source(SourceId("kernel-release"), "file", {"paths": ["/proc/sys/kernel/osrelease"]}, "proc(5): what uname -r says.")
VERSION = Source(SourceId("kernel-version"), "file", {"paths": ["/proc/version"]}, "proc(5): the kernel's banner.")
SIGNATURE = Source(
    SourceId("kernel-signature"), "file", {"paths": ["/proc/version_signature"]},
    "Ubuntu's kernels only: `Ubuntu 6.8.0-60.63-generic 6.8.12`, with the upload number that uname lacks.",
)  # fmt: skip
TAINTED = Source(
    SourceId("kernel-tainted"), "file", {"paths": ["/proc/sys/kernel/tainted"]}, "Kernel documentation, tainted kernels: a bit mask."
)
BOOTED = Source(SourceId("boot-time"), "file", {"paths": ["/proc/stat"], "keep": ["btime "]}, "proc(5): seconds since the epoch.")
CMDLINE = Source(
    SourceId("kernel-cmdline"), "file", {"paths": ["/proc/cmdline"], "redact": True}, "Kernel documentation, kernel parameters."
)
AVAILABLE = Source(
    SourceId("apt-kernels"), "stanzas",
    {"globs": ["/var/lib/apt/lists/*_Packages"], "fields": ["Package", "Version"],
     "prefixes": [f"linux-image-{flavour}" for flavour in
                  ("amd64", "arm64", "cloud-", "rt-", "generic", "virtual", "lowlatency", "kvm", "aws", "azure", "gcp", "gke",
                   "oracle", "ibm", "nvidia", "oem", "raspi")]},
    "Kernel meta packages in apt's lists, as they were last fetched: apt-cache(8) would build its cache to say the same.",
)  # fmt: skip
LISTS = Source(
    SourceId("apt-lists"),
    "stat",
    {"globs": ["/var/lib/apt/lists", "/var/lib/apt/lists/partial", "/var/lib/apt/periodic/update-success-stamp"]},
    "When apt fetched its lists: their own times are the server's, so the folder's and the stamp's count.",
)
REBOOT = Source(
    SourceId("reboot-required"),
    "stat",
    {"globs": ["/run/reboot-required", "/run/reboot-required.pkgs", "/usr/share/update-notifier/notify-reboot-required"]},
    "The flag of Debian and Ubuntu, and the script of update-notifier-common that sets it.",
)
REBOOT_PACKAGES = Source(
    SourceId("reboot-required-packages"), "file", {"paths": ["/run/reboot-required.pkgs"]}, "One package per line, may repeat.",
)  # fmt: skip


@dataclass(frozen=True)
class KernelRunning:
    """The kernel that runs. Source: proc(5), Ubuntu's version_signature."""

    release: Annotated[str, "What uname -r says"]
    signature: Annotated[str | None, "Ubuntu's package version with flavour, such as 6.8.0-60.63-generic"]
    banner: Annotated[str | None, "/proc/version, with compiler and build date"]
    tainted: Annotated[int | None, "Taint bit mask; bit 12 an out-of-tree module, 13 an unsigned one, 15 livepatched"]
    booted_at: Annotated[datetime | None, "When it was booted"]


@dataclass(frozen=True)
class KernelParameter:
    """A parameter of the running kernel's command line. Source: /proc/cmdline."""

    name: Annotated[str, "Parameter; the kernel takes - for _"]
    value: Annotated[str, "What follows `=`, without quotes; empty where nothing does; secrets are reduced"]
    position: Annotated[int, "Place on the line, from 0; mostly the last duplicate wins"]


@dataclass(frozen=True)
class KernelPackage:
    """An installed kernel image. Source: dpkg, rpm."""

    package: Annotated[str, "Package name"]
    release: Annotated[str, "What uname -r says when it runs"]
    version: Annotated[str, "Package version"]
    version_key: Annotated[str | None, "Sortable key of the package version"]
    release_key: Annotated[
        str | None, "Sortable key of the release, of kind rpm with its dashes as dots: kernels of one flavour compare by it"
    ]
    flavour: Annotated[str, "What follows the numbers of the release, such as generic, amd64 or x86_64"]


@dataclass(frozen=True)
class KernelAvailable:
    """A kernel meta package that apt's lists offer. Source: /var/lib/apt/lists."""

    package: Annotated[str, "Meta package"]
    version: Annotated[str, "Version on offer; a row for each"]
    version_key: Annotated[str | None, "Sortable key, of kind dpkg"]


@dataclass(frozen=True)
class AptLists:
    """When apt last fetched its lists; no row where there is no apt. Source: folder and stamp times."""

    updated_at: Annotated[datetime, "Newest sign of a fetch"]


@dataclass(frozen=True)
class RebootRequired:
    """Whether the distribution says that a reboot is pending. Source: /run/reboot-required."""

    required: Annotated[bool | None, "None where nothing on the node would set the flag"]
    since: Annotated[datetime | None, "When the flag was set"]
    packages: Annotated[list[str], "Packages that asked for it"]


def parse_running(evidence: Bundle) -> Iterable[KernelRunning]:
    """One row."""
    release = value(evidence.body(RELEASE))
    if release is None or not re.fullmatch(r"[0-9][0-9A-Za-z.+_~-]*", release) or evidence.gaps:
        raise NotUnderstood("kernel-release: not a whole release")
    signature, tainted, booted = (evidence.line(source) for source in (SIGNATURE, TAINTED, BOOTED))
    upload = re.fullmatch(r"Ubuntu (\d\S+) \S+\s*", signature or "")
    if signature is not None and upload is None:
        evidence.gap(SIGNATURE, "not understood")
    mask, when = integer(tainted), re.fullmatch(r"btime (\d{1,12})\s*", booted or "")
    if tainted is not None and mask is None:
        evidence.gap(TAINTED, "not a number")
    if booted is not None and when is None:
        evidence.gap(BOOTED, "not a time")
    banner = value(evidence.line(VERSION))
    if evidence.item(VERSION).status is Status.OK and not (banner or "").startswith("Linux version "):
        evidence.gap(VERSION, "not the kernel's banner")
        banner = None
    yield KernelRunning(release, upload[1] if upload else None, banner, mask, utc(int(when[1])) if when else None)


def parse_cmdline(evidence: Bundle) -> Iterable[KernelParameter]:
    """A row per word; quotes keep blanks together."""
    text = evidence.body(CMDLINE).rstrip("\n")
    if not text.isprintable() or not evidence.item(CMDLINE).body.isascii():
        raise NotUnderstood("kernel-cmdline: not a line of text")
    for position, word in enumerate(re.findall(r'(?:[^\s"]|"[^"]*")+', text)):
        name, _, text = word.partition("=")
        yield KernelParameter(name.strip('"').replace("-", "_"), text.replace('"', ""), position)


_RPM_KERNELS = re.compile(r"kernel(-(core|default|uek|uek-core|64k|64k-core|rt|rt-core|lt|ml))?")


def parse_packages_of_kernel(evidence: Bundle) -> Iterable[KernelPackage]:
    """Image packages, meta packages left out."""
    for package in parse_packages(evidence):
        if package.manager == "dpkg":
            match = re.fullmatch(r"linux-image-(?:unsigned-)?(\d\S*)", package.name)
            if not match or package.name.endswith("-dbg") or package.name.endswith("-dbgsym"):
                continue
            release = match[1]
        elif _RPM_KERNELS.fullmatch(package.name):
            release = f"{package.version.partition(':')[2] or package.version}.{package.arch}"
        else:
            continue
        numbers = re.match(r"[\d.]+(?:-\d[\d.]*)?", release)
        flavour = release[numbers.end() :].lstrip("-.") if numbers else release
        yield KernelPackage(package.name, release, package.version, package.version_key, key("rpm", release.replace("-", ".")), flavour)


def parse_available(evidence: Bundle) -> Iterable[KernelAvailable]:
    """What the lists offer; a system without apt lists says nothing."""
    for fields in stanzas(evidence.body(AVAILABLE)):
        if "unread" in fields:
            evidence.gap(AVAILABLE, fields["unread"])
        elif "Package" in fields and "Version" in fields:
            yield KernelAvailable(fields["Package"], fields["Version"], key("dpkg", fields["Version"]))


def parse_lists(evidence: Bundle) -> Iterable[AptLists]:
    """The newest of the times that a fetch leaves."""
    times = [e["mtime"] for path, e in evidence.entries(LISTS).items() if path != "/var/lib/apt/lists" and type(e.get("mtime")) is int]
    if times and (when := utc(max(times))):
        yield AptLists(when)
    elif evidence.entries(LISTS):
        evidence.gap(LISTS, "no sign of a fetch")


def parse_reboot(evidence: Bundle) -> Iterable[RebootRequired]:
    """One row: the flag proves a reboot, its absence only where something would set it."""
    found = evidence.entries(REBOOT)
    flag = found.get("/run/reboot-required")
    packages: list[str] = []
    if flag and evidence.item(REBOOT_PACKAGES).status is not Status.ABSENT:
        packages = sorted(set((evidence.try_body(REBOOT_PACKAGES) or "").split()))
    required = True if flag else False if "/usr/share/update-notifier/notify-reboot-required" in found else None
    yield RebootRequired(required, utc(flag["mtime"]) if flag and type(flag.get("mtime")) is int else None, packages)


TABLES = (
    Table("kernel_running", KernelRunning, (RELEASE, VERSION, SIGNATURE, TAINTED, BOOTED), parse_running),
    Table("kernel_parameters", KernelParameter, (CMDLINE,), parse_cmdline),
    Table("kernel_packages", KernelPackage, (DPKG, RPM), parse_packages_of_kernel),
    Table("kernel_available", KernelAvailable, (AVAILABLE,), parse_available),
    Table("apt_lists", AptLists, (LISTS,), parse_lists),
    Table("reboot_required", RebootRequired, (REBOOT, REBOOT_PACKAGES), parse_reboot),
)
