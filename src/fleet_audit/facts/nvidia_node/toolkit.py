# SPDX-License-Identifier: Apache-2.0
"""The NVIDIA Container Toolkit: its programs, its configuration, and CDI specifications. Its packages are in `packages`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe
from fleet_audit.facts.gpu import dotted
from fleet_audit.model import Source, SourceId, Status

CONFIG = Source(
    SourceId("container-toolkit-config"), "files",
    {"globs": ["/etc/nvidia-container-runtime/config.toml", "/usr/local/nvidia/toolkit/.config/nvidia-container-runtime/config.toml"],
     "cap_each": 65536},
    "NVIDIA Container Toolkit, api/config/v1 for names and defaults; the second file is the GPU Operator's.",
)  # fmt: skip
_FOLDERS = ("/etc/cdi", "/var/run/cdi")
CDI = Source(
    SourceId("cdi-files"), "stat", {"globs": [*_FOLDERS, *(f"{folder}/*" for folder in _FOLDERS)]},
    "Container Device Interface specification: the two folders where runtimes look for specifications.",
)  # fmt: skip
CDI_KINDS = Source(
    SourceId("cdi-kinds"), "files", {"globs": [f"{folder}/*.y*ml" for folder in _FOLDERS], "keep": ["kind:"]},
    "The same: `kind: nvidia.com/gpu` of specifications in YAML.",
)  # fmt: skip
CDI_JSON = Source(
    SourceId("cdi-json-kinds"), "json", {"globs": [f"{folder}/*.json" for folder in _FOLDERS], "keep": ["kind"]},
    "The same of specifications in JSON.",
)  # fmt: skip
CTK = Source(
    SourceId("nvidia-ctk-version"), "command", {"argv": ["nvidia-ctk", "--version"]},
    "NVIDIA Container Toolkit: `NVIDIA Container Toolkit CLI version 1.17.8`, then its commit.", when_exists="/usr/bin/nvidia-ctk",
)  # fmt: skip
CLI = Source(
    SourceId("nvidia-container-cli-version"), "command", {"argv": ["nvidia-container-cli", "--version"]},
    "libnvidia-container: `cli-version: 1.17.8`, then the library's and how it was built.", when_exists="/usr/bin/nvidia-container-cli",
)  # fmt: skip


@dataclass(frozen=True)
class ContainerToolkitProgram:
    """A program of the NVIDIA Container Toolkit in /usr/bin, and what it says of itself; the GPU Operator's lies elsewhere. Source: --version."""

    name: Annotated[str, "nvidia-ctk or nvidia-container-cli"]
    version: Annotated[str, "Version, such as 1.17.8"]
    version_key: Annotated[str | None, "Sortable key of it (dotted); NULL for a release candidate"]


@dataclass(frozen=True)
class ContainerToolkitConfig:
    """A configuration file of the NVIDIA Container Toolkit. No row: none, the defaults hold. Source: config.toml.

    What the file does not set has the toolkit's documented default where it never changed, else NULL.
    """

    path: Annotated[str, "The file"]
    mode: Annotated[str, "auto, legacy, cdi, jit-cdi or csv"]
    ldconfig: Annotated[str | None, "ldconfig program; one that begins with @ is the host's, another the container's; NULL: not set"]
    environment_selects: Annotated[bool, "Unprivileged containers choose GPUs by a variable (...-envvar-when-unprivileged)"]
    mounts_select: Annotated[bool, "Containers choose GPUs by volume mounts (...-as-volume-mounts)"]
    disable_require: Annotated[bool, "What an image requires of the driver is not checked"]
    load_modules: Annotated[bool, "Kernel modules are loaded when a container starts (load-kmods)"]
    no_cgroups: Annotated[bool, "Device cgroups are left alone: any container's device rules stay as they are"]
    cuda_compat_mode: Annotated[str | None, "ldconfig, hook, mount or disabled; NULL: not set"]
    skip_mode_detection: Annotated[bool, "The hook runs although another mode is set"]
    features: Annotated[list[str], "Feature flags that are on, such as allow-cuda-compat-libs-from-container"]


@dataclass(frozen=True)
class CdiSpec:
    """A folder of the Container Device Interface, or a file in it: who may write here puts hooks into containers. Source: metadata, `kind`."""

    path: Annotated[str, "Folder or file"]
    type: Annotated[str, "dir, file, link or other"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    kind: Annotated[str | None, "Kind of devices, such as nvidia.com/gpu; NULL for a folder, or if not told"]


_VERSION = re.compile(r"version:? (\d{1,4}(?:\.\d{1,6}){1,3}(?:[-~+][0-9A-Za-z.+~-]{1,40})?)")
_KIND = re.compile(r"kind:\s*[\"']?([A-Za-z0-9._-]{1,100}/[A-Za-z0-9._-]{1,100})[\"']?\s*")
_T = TypeVar("_T", bool, str)


def parse_programs(evidence: Bundle) -> Iterator[ContainerToolkitProgram]:
    """A row per program that is there."""
    for source in (CTK, CLI):
        item = evidence.item(source)
        if item.status is Status.SKIPPED:
            continue
        version = _VERSION.search(item.text) if item.status is Status.OK else None
        if version is None:
            evidence.gap(source, "no version in it" if item.status is Status.OK else describe(source, item))
            continue
        yield ContainerToolkitProgram(source.args["argv"][0], version[1], dotted(version[1]))


def parse_config(evidence: Bundle) -> Iterator[ContainerToolkitConfig]:
    """A row per file."""
    for path, entry in evidence.entries(CONFIG).items():
        try:
            yield _config(evidence, path, tomllib.loads(str(entry.get("text"))))
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            evidence.gap(CONFIG, f"{path}: not understood: {type(error).__name__}")


def _config(evidence: Bundle, path: str, document: dict[str, Any]) -> ContainerToolkitConfig:
    def setting(name: str, default: _T) -> _T:
        *folders, last = name.split(".")
        table: Any = document
        for folder in folders:
            table = table.get(folder, {}) if isinstance(table, dict) else None
        found = table.get(last, default) if isinstance(table, dict) else None
        if type(found) is not type(default):
            raise ValueError(name)
        return found

    features = document.get("features", {})
    if not isinstance(features, dict) or not all(isinstance(on, bool) for on in features.values()):
        raise ValueError("features")
    cli, runtime = "nvidia-container-cli", "nvidia-container-runtime"
    return ContainerToolkitConfig(
        path, setting(f"{runtime}.mode", "auto"), setting(f"{cli}.ldconfig", "") or None,
        setting("accept-nvidia-visible-devices-envvar-when-unprivileged", True),
        setting("accept-nvidia-visible-devices-as-volume-mounts", False), setting("disable-require", False),
        setting(f"{cli}.load-kmods", True), setting(f"{cli}.no-cgroups", False),
        setting(f"{runtime}.modes.legacy.cuda-compat-mode", "") or None, setting(f"{runtime}-hook.skip-mode-detection", False),
        sorted(name for name, on in features.items() if on),
    )  # fmt: skip


def _kinds(evidence: Bundle) -> dict[str, str]:
    """{path: kind} of the specifications that tell it."""
    found = {}
    for path, entry in evidence.entries(CDI_KINDS).items():
        if kind := _KIND.fullmatch(str(entry.get("text")).strip()):
            found[path] = kind[1]
    for path, entry in evidence.entries(CDI_JSON).items():
        kind_of = entry.get("values", {}).get("kind") if isinstance(entry.get("values"), dict) else None
        if isinstance(kind_of, str) and _KIND.fullmatch(f"kind: {kind_of}"):
            found[path] = kind_of
    return found


def parse_cdi(evidence: Bundle) -> Iterable[CdiSpec]:
    """A row per folder and file."""
    there = evidence.entries(CDI)
    try:
        kinds = _kinds(evidence)
    except (Unread, NotUnderstood) as error:
        evidence.gaps.append(str(error))
        kinds = {}
    for path, entry in there.items():
        try:
            yield CdiSpec(path, entry["type"], entry["mode"], entry["uid"], entry["gid"], kinds.get(path))
        except KeyError:
            evidence.gap(CDI, f"{path}: not understood")


TABLES = (
    Table("container_toolkit_programs", ContainerToolkitProgram, (CTK, CLI), parse_programs),
    Table("container_toolkit_config", ContainerToolkitConfig, (CONFIG,), parse_config),
    Table("cdi_specs", CdiSpec, (CDI, CDI_KINDS, CDI_JSON), parse_cdi),
)
