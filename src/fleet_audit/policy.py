# SPDX-License-Identifier: Apache-2.0
"""The user's one YAML file: what is right here, for the fleet and for groups of hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fleet_audit import yamlfile
from fleet_audit.model import DataFolder, FleetAuditError

Parameter = bool | int | float | str | list[int] | list[str]
Params = Mapping[str, Mapping[str, Parameter]]
"""Check id -> parameter -> value."""


class GroupFile(BaseModel):
    """What differs for the hosts of one inventory group."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    params: Annotated[dict[str, dict[str, Parameter]], Field(description="Check id -> parameter -> value")] = {}


def _plain_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("must be an absolute path without `.`, `..` and double or trailing slashes")
    return path


class DataFile(BaseModel):
    """A folder whose owners, modes, models and manifests are looked at."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: Annotated[str, Field(description="Absolute path, without `.` and `..`", max_length=1024), AfterValidator(_plain_path)]
    kind: Annotated[Literal["data", "checkpoints", "models"], Field(description="What lies there")] = "data"
    on: Annotated[
        str | None, Field(description="The one host that reads it, also from a network file system; none: every host, local only")
    ] = None


class PolicyFile(BaseModel):
    """The policy: profile, and parameters for the fleet and for groups."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    profile: Annotated[str, Field(description="Profile that selects the checks")] = "baseline"
    params: Annotated[dict[str, dict[str, Parameter]], Field(description="Check id -> parameter -> value, for the fleet")] = {}
    groups: Annotated[dict[str, GroupFile], Field(description="Inventory group -> what differs there")] = {}
    data: Annotated[list[DataFile], Field(description="Folders of data, checkpoints and models", max_length=64)] = []


@dataclass(frozen=True)
class Policy:
    """A policy as the later stages use it."""

    profile: str = "baseline"
    params: Params = field(default_factory=dict)
    groups: Mapping[str, Params] = field(default_factory=dict)
    """In the order of the file: a later group wins for a host of both."""
    data: tuple[DataFile, ...] = ()
    path: Path | None = None
    text: str = ""
    """The file's text, which the run keeps."""

    def folders(self, host: str) -> tuple[DataFolder, ...]:
        """The data folders that a host looks at."""
        return tuple(DataFolder(f.path, f.kind, network=f.on is not None) for f in self.data if f.on in (None, host))

    def values(self, check: str, defaults: Mapping[str, Parameter], groups: Sequence[str]) -> dict[str, Parameter]:
        """A check's parameters for a host of these groups: group over fleet over default."""
        found = dict(defaults) | dict(self.params.get(check, {}))
        for name, params in self.groups.items():
            if name in groups:
                found |= params.get(check, {})
        return found


def load(path: Path) -> Policy:
    """Read a policy file. Raises `FleetAuditError` naming file, line and field."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FleetAuditError(f"{path}: {error.strerror}") from None
    return parse(data, path)


def parse(data: bytes, path: Path) -> Policy:
    """A policy from bytes; `path` is what errors name."""
    document = yamlfile.parse(data, path)
    try:
        file = PolicyFile.model_validate(document.value if document.value is not None else {})
    except ValidationError as error:
        known = {*PolicyFile.model_fields, *GroupFile.model_fields, *DataFile.model_fields}
        raise document.invalid(error, known) from None
    return Policy(
        file.profile, file.params, {name: group.params for name, group in file.groups.items()}, tuple(file.data), path,
        data.decode("utf-8", "replace"),
    )  # fmt: skip


def default_path(inventory: str | None) -> Path | None:
    """`fleet-audit.yaml` beside the inventory, if there is one."""
    folder = Path(inventory).parent if inventory and "," not in inventory else Path()
    if inventory and "," not in inventory and Path(inventory).is_dir():
        folder = Path(inventory)
    path = folder / "fleet-audit.yaml"
    try:
        return path if path.is_file() else None
    except PermissionError:
        raise FleetAuditError(f"{folder}: the folder of the inventory cannot be read") from None


def find(path: str | None, inventory: str | None) -> Policy:
    """The policy that a run uses: the named one, the one beside the inventory, or the default."""
    if path is not None:
        if not Path(path).exists():
            raise FleetAuditError(f"{path}: no such policy file")
        return load(Path(path))
    beside = default_path(inventory)
    return load(beside) if beside else Policy()
