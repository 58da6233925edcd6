# SPDX-License-Identifier: Apache-2.0
"""Versions of the NVIDIA driver at every level of a node, so that levels that disagree show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread
from fleet_audit.facts.cpu import whole_lines
from fleet_audit.facts.gpu import DISK_LICENSE, DISK_VERSION, FLAVOURS, VERSION, branch, dotted, loaded_module, not_loaded, on_disk, release
from fleet_audit.facts.packages import DPKG, RPM, parse_packages
from fleet_audit.model import Source, SourceId, Status

_SYSFS = "/sys/module/nvidia"
_LIBRARIES = (
    "/usr/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu/nvidia/current", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/nvidia/lib64",
    "/run/nvidia/driver/usr/lib/x86_64-linux-gnu", "/run/nvidia/driver/usr/lib/aarch64-linux-gnu", "/run/nvidia/driver/usr/lib64",
)  # fmt: skip
MODULE = Source(
    SourceId("nvidia-sysfs-version"), "attrs", {"globs": [_SYSFS], "names": ["version"]},
    "Kernel documentation, ABI/stable/sysfs-module: the version that the loaded module was built as.",
)  # fmt: skip
FILES = Source(
    SourceId("nvidia-driver-files"), "stat",
    {"globs": [f"{folder}/lib{name}.so.[0-9]*.[0-9]*" for folder in _LIBRARIES for name in ("cuda", "nvidia-ml")]
     + ["/lib/firmware/nvidia/*/gsp_*.bin", "/var/lib/dkms/nvidia*/*"]},
    "NVIDIA driver README, chapters Installed Components and GSP Firmware: libraries end with the driver's version, GSP firmware lies "
    "in a folder named by it; dkms(8): a folder per version. /run/nvidia/driver is where the GPU Operator's driver container shows its files.",
)  # fmt: skip
FABRIC_MANAGER = Source(
    SourceId("nv-fabricmanager-version"), "command", {"argv": ["nv-fabricmanager", "--version"]},
    "Fabric Manager user guide, command-line options: `Fabric Manager version is : 580.95.05`.",
    when_exists="/usr/bin/nv-fabricmanager",
)  # fmt: skip
IMEX = Source(
    SourceId("nvidia-imex-version"), "command", {"argv": ["nvidia-imex", "--version"]},
    "NVIDIA IMEX guide, command-line options: a line with the version.", when_exists="/usr/bin/nvidia-imex",
)  # fmt: skip


@dataclass(frozen=True)
class NvidiaVersion:
    """A version of the NVIDIA driver at one level of a node; levels that differ: a pending reload, or a broken install. Source: as `level` says."""

    level: Annotated[str, "loaded, sysfs (module), disk (modinfo), dkms, firmware, library, package, fabric-manager or imex"]
    name: Annotated[str, "What shows it: module, folder, file, package or program"]
    version: Annotated[str | None, "Driver version without epoch and release; NULL: the package's name tells the branch alone"]
    version_key: Annotated[str | None, "Sortable key of it (dotted)"]
    branch: Annotated[int | None, "First number of it, or the branch in the package's name"]
    flavour: Annotated[str | None, "open or proprietary, of kernel modules where it shows"]


_PACKAGE = re.compile(r"nvidia|^libcuda1|^cuda-drivers|^cuda-compat")
_PREBUILT = re.compile(r"linux-(?:modules|objects|signatures)-nvidia-(\d{3,4})(?=-)")
_MODULES = re.compile(r"nvidia-(?:dkms|kernel-source)-\d|nvidia-kernel-(?:open-)?dkms|kmod-nvidia")
_LIBRARY = re.compile(r"lib(?:cuda|nvidia-ml)\.so\.(.+)")


def _row(level: str, name: str, version: str | None, flavour: str | None = None, number: int | None = None) -> NvidiaVersion:
    return NvidiaVersion(level, name, version, dotted(version), branch(version) if version else number, flavour)


def _loaded(evidence: Bundle) -> Iterator[NvidiaVersion]:
    if not not_loaded(evidence):
        version, flavour = loaded_module(whole_lines(evidence, VERSION))
        yield _row("loaded", "nvidia", version, flavour)


def _module(evidence: Bundle) -> Iterator[NvidiaVersion]:
    text = evidence.entries(MODULE).get(_SYSFS, {"version": {}}).get("version")
    version = release(text if isinstance(text, str) else None)
    if version is not None:
        yield _row("sysfs", "nvidia", version)
    elif text is not None:
        evidence.gap(MODULE, "not understood")


def _disk(evidence: Bundle) -> Iterator[NvidiaVersion]:
    text, licence = on_disk(evidence, DISK_VERSION), on_disk(evidence, DISK_LICENSE)
    version = release(text)
    if licence is not None and licence not in FLAVOURS:
        evidence.gap(DISK_LICENSE, "a licence that is not known")
    if version is not None:
        yield _row("disk", "nvidia", version, FLAVOURS.get(licence or ""))
    elif text is not None:
        evidence.gap(DISK_VERSION, "no version in what modinfo printed")


def _files(evidence: Bundle) -> Iterator[NvidiaVersion]:
    found = set()
    for path, entry in evidence.entries(FILES).items():
        parts = path.split("/")
        if entry.get("type") == "link":  # of dkms: to the built kernel; of libraries: the same file by another name
            continue
        if path.startswith("/lib/firmware/"):
            level, name, version = "firmware", "/".join(parts[:-1]), release(parts[-2])
        elif path.startswith("/var/lib/dkms/"):
            level, name, version = "dkms", path, release(parts[-1])
        else:
            library = _LIBRARY.fullmatch(parts[-1])
            level, name, version = "library", path, release(library[1] if library else None)
        if version is None:
            evidence.gap(FILES, f"{path}: no driver version in its name")
        else:
            found.add((level, name, version))
    yield from (_row(*key) for key in sorted(found))


def _packages(evidence: Bundle) -> Iterator[NvidiaVersion]:
    for package in parse_packages(evidence):
        opened = bool(re.search(r"(?:^|-)open(?:-|$)", package.name))
        flavour = "open" if opened else "proprietary" if _MODULES.match(package.name) or _PREBUILT.match(package.name) else None
        if prebuilt := _PREBUILT.match(package.name):  # its version is the kernel's
            yield _row("package", package.name, None, flavour, int(prebuilt[1]))
        elif _PACKAGE.search(package.name) and (version := release(package.version)) is not None:
            yield _row("package", package.name, version, flavour)


def _program(level: str, source: Source) -> Callable[[Bundle], Iterator[NvidiaVersion]]:
    """What a program says of itself; none where it is not installed."""

    def rows(evidence: Bundle) -> Iterator[NvidiaVersion]:
        if evidence.item(source).status is Status.SKIPPED:
            return
        version = release(evidence.body(source))
        if version is None:
            raise NotUnderstood(f"{source.id}: no version in what it printed")
        yield _row(level, source.args["argv"][0], version)

    return rows


_LEVELS = (_loaded, _module, _disk, _files, _packages, _program("fabric-manager", FABRIC_MANAGER), _program("imex", IMEX))


def parse_versions(evidence: Bundle) -> Iterable[NvidiaVersion]:
    """A row per level and name; a level that could not be read costs the others nothing."""
    for level in _LEVELS:
        try:
            yield from list(level(evidence))
        except (Unread, NotUnderstood) as error:
            evidence.gaps.append(str(error))


TABLES = (
    Table(
        "nvidia_versions",
        NvidiaVersion,
        (VERSION, MODULE, DISK_VERSION, DISK_LICENSE, FILES, DPKG, RPM, FABRIC_MANAGER, IMEX),
        parse_versions,
    ),
)
