# SPDX-License-Identifier: Apache-2.0
"""The user's one YAML file: what is right here, for the fleet and for groups of hosts."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleet_audit import yamlfile
from fleet_audit.model import DataFolder, FleetAuditError, Severity
from fleet_audit.pattern import fits

Parameter = bool | int | float | str | list[int] | list[str]
Params = Mapping[str, Mapping[str, Parameter]]
"""Check id -> parameter -> value."""


_STRICT = ConfigDict(extra="forbid", frozen=True)
Workload = Literal["apptainer", "containers", "enroot", "gpudirect", "kubernetes", "profiling", "rootless-containers"]
"""What the nodes run that hardening may break: a check that names `$workload` adapts to it."""


def _line(text: Any) -> Any:
    return " ".join(text.split()) if isinstance(text, str) else text


Line = Annotated[str, BeforeValidator(_line), Field(min_length=1, max_length=500)]


def _day(value: Any) -> Any:
    text = isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value)
    if isinstance(value, dt.datetime) or not (isinstance(value, dt.date) or text):
        raise ValueError("must be a date such as 2027-01-31")
    return value


class GroupFile(BaseModel):
    """What differs for the hosts of one inventory group."""

    model_config = _STRICT
    params: Annotated[dict[str, dict[str, Parameter]], Field(description="Check id -> parameter -> value")] = {}
    workload: Annotated[list[Workload], Field(description="What these hosts run, beside what the fleet runs")] = []


class ExclusionFile(BaseModel):
    """A check that is left out for the whole fleet; every report lists it with its reason."""

    model_config = _STRICT
    check: Annotated[str, Field(description="Id of the check")]
    reason: Annotated[Line, Field(description="Why it is not wanted here")]


class WaiverFile(BaseModel):
    """Somebody accepts what is wrong, until a day: the result stays, its finding is marked and counted apart."""

    model_config = _STRICT
    check: Annotated[str, Field(description="Id of the check")]
    owner: Annotated[Line, Field(description="Who answers for it")]
    reason: Annotated[Line, Field(description="Why it is accepted")]
    expires: Annotated[dt.date, BeforeValidator(_day), Field(description="Last day on which it holds, to its end in UTC")]
    hosts: Annotated[list[str], Field(description="Hosts by name, `*` and `?` allowed; left out: all", min_length=1)] = []
    groups: Annotated[list[str], Field(description="Inventory groups; left out: all", min_length=1)] = []
    subject: Annotated[str | None, Field(description="The finding's subject, `*` and `?` allowed; none: all")] = None


class PeerFile(BaseModel):
    """Hosts of a group must be alike in a column of a table."""

    model_config = _STRICT
    name: Annotated[
        str | None,
        Field(description="Part of the check's id: peers-NAME; none: table and column", pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"),
    ] = None
    table: Annotated[str, Field(description="A table of facts")]
    value: Annotated[str, Field(description="The column that must be the same")]
    key: Annotated[
        str | None, Field(description="The column that tells rows apart, such as a package's name; none: the table has one row")
    ] = None
    only: Annotated[list[str], Field(description="Values of the key that are compared; left out: all", min_length=1)] = []
    groups: Annotated[list[str], Field(description="Inventory groups that are meant to be alike; left out: all", min_length=1)] = []
    severity: Severity = Severity.MEDIUM


class ReferenceFile(BaseModel):
    """How old the shipped reference tables may be."""

    model_config = _STRICT
    maximum_days: Annotated[
        int, Field(description="Days after which checks that lean on a table say unknown", ge=1, le=3650, strict=True)
    ] = 120


class EvidenceFile(BaseModel):
    """How old what was read of a host may be."""

    model_config = _STRICT
    maximum_days: Annotated[
        int, Field(description="Days after which what was read of a host decides nothing", ge=1, le=3650, strict=True)
    ] = 7


class AdvisoriesFile(BaseModel):
    """How old advisories may be."""

    model_config = _STRICT
    maximum_days: Annotated[
        int, Field(description="Days after which a source of advisories decides nothing", ge=1, le=3650, strict=True)
    ] = 30


class NotifyFile(BaseModel):
    """Who is told of what changed. Where to is a secret, and stands in the environment or a file, never here."""

    model_config = _STRICT
    name: Annotated[str, Field(description="What it is called in messages", pattern=r"^[a-z][a-z0-9-]*$")]
    env: Annotated[str | None, Field(description="Variable that holds the address (an apprise URL)", pattern=r"^[A-Z_][A-Z0-9_]*$")] = None
    file: Annotated[str | None, Field(description="File that holds the address, for its owner alone to read")] = None
    on: Annotated[
        list[Literal["new", "fixed", "lost-sight", "newly-unknown", "host-lost", "overdue", "run-failed"]],
        Field(description="What is told of", min_length=1),
    ] = ["new", "lost-sight", "host-lost", "run-failed"]
    severity: Annotated[Severity, Field(description="Of this severity or above")] = Severity.HIGH
    groups: Annotated[list[str], Field(description="Inventory groups; left out: all", min_length=1)] = []
    overdue_days: Annotated[
        int, Field(description="`overdue` tells once of what has failed for so many days", ge=1, le=3650, strict=True)
    ] = 30

    @model_validator(mode="after")
    def _one_place(self) -> NotifyFile:
        if (self.env is None) == (self.file is None):
            raise ValueError("needs either `env` or `file`")
        return self


class UnexpectedFile(BaseModel):
    """Hosts that need not answer, as those under repair: listed, and in no exit status until they are silent for too long."""

    model_config = _STRICT
    hosts: Annotated[list[str], Field(description="Hosts by name, `*` and `?` allowed")] = []
    file: Annotated[str | None, Field(description="File with such a name on each line, `#` begins a comment; relative to the policy")] = (
        None
    )
    days: Annotated[int, Field(description="Days without an answer after which they are expected again", ge=1, le=3650, strict=True)] = 30


class OwnerFile(BaseModel):
    """Whose hosts these are: a report can be made for each owner."""

    model_config = _STRICT
    groups: Annotated[list[str], Field(description="Inventory groups", min_length=1)] = []
    hosts: Annotated[list[str], Field(description="Hosts by name, `*` and `?` allowed", min_length=1)] = []

    def has(self, host: str, groups: Sequence[str]) -> bool:
        """Whether a host of these groups is theirs."""
        return any(group in groups for group in self.groups) or any(fits(pattern, host) for pattern in self.hosts)


class SchedulerFile(BaseModel):
    """Where the scheduler's own tool runs."""

    model_config = _STRICT
    on: Annotated[str, Field(description="The host of the inventory that runs `scontrol` or `kubectl`")]
    names: Annotated[
        Literal["inventory", "short"],
        Field(description="What the scheduler calls a node: as the inventory does, or that up to the first dot"),
    ] = "short"


class RemediationFile(BaseModel):
    """What remediation has to know of the site."""

    model_config = _STRICT
    vars: Annotated[dict[str, Any], Field(description="Variable of a role -> value; it holds before those of checks")] = {}
    slurm: Annotated[SchedulerFile | None, Field(description="For `--drain slurm`")] = None
    kubernetes: Annotated[SchedulerFile | None, Field(description="For `--drain kubernetes`")] = None


def _plain_path(path: str) -> str:
    if not path.startswith("/") or "\0" in path or {"", ".", ".."} & set(path[1:].split("/")):
        raise ValueError("must be an absolute path without `.`, `..` and double or trailing slashes")
    return path


class DataFile(BaseModel):
    """A folder whose owners, modes, models and manifests are looked at."""

    model_config = _STRICT
    path: Annotated[str, Field(description="Absolute path, without `.` and `..`", max_length=1024), AfterValidator(_plain_path)]
    kind: Annotated[Literal["data", "checkpoints", "models"], Field(description="What lies there")] = "data"
    on: Annotated[
        str | None, Field(description="The one host that reads it, also from a network file system; none: every host, local only")
    ] = None


class PolicyFile(BaseModel):
    """The policy: what is right here, what is accepted for a while, and where data lies."""

    model_config = _STRICT
    profile: Annotated[str, Field(description="Profile that selects the checks")] = "baseline"
    params: Annotated[dict[str, dict[str, Parameter]], Field(description="Check id -> parameter -> value, for the fleet")] = {}
    groups: Annotated[dict[str, GroupFile], Field(description="Inventory group -> what differs there")] = {}
    workload: Annotated[list[Workload], Field(description="What all hosts run that hardening may break")] = []
    include: Annotated[list[str], Field(description="Checks beside those of the profile, by id")] = []
    exclude: Annotated[list[ExclusionFile], Field(description="Checks that are left out, each with a reason")] = []
    waivers: Annotated[list[WaiverFile], Field(description="What is wrong and accepted for a while", max_length=10_000)] = []
    data: Annotated[list[DataFile], Field(description="Folders of data, checkpoints and models", max_length=64)] = []
    peers: Annotated[list[PeerFile], Field(description="What must be the same on all hosts of a group", max_length=100)] = []
    notify: Annotated[list[NotifyFile], Field(description="Who is told of what changed", max_length=100)] = []
    owners: Annotated[dict[str, OwnerFile], Field(description="Owner -> the hosts that they answer for: `report --owner`")] = {}
    remediation: RemediationFile = RemediationFile()
    unexpected: UnexpectedFile = UnexpectedFile()
    advisories: AdvisoriesFile = AdvisoriesFile()
    evidence: EvidenceFile = EvidenceFile()
    reference: ReferenceFile = ReferenceFile()

    @field_validator("notify")
    @classmethod
    def _names_once(cls, rules: list[NotifyFile]) -> list[NotifyFile]:
        names = [rule.name for rule in rules]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two rules are called {twice!r}: what one was told would count for both")
        return rules

    @model_validator(mode="before")
    @classmethod
    def _nothing_under_a_key(cls, value: Any) -> Any:
        """A key with nothing under it, or with comments alone, is as if it were not there."""
        if not isinstance(value, dict):
            return value
        found = {k: v for k, v in value.items() if v is not None}
        if isinstance(groups := found.get("groups"), dict):
            found["groups"] = {name: {} if group is None else group for name, group in groups.items()}
        return found


@dataclass(frozen=True)
class Policy:
    """A policy as the later stages use it."""

    profile: str = "baseline"
    params: Params = field(default_factory=dict)
    groups: Mapping[str, Params] = field(default_factory=dict)
    """In the order of the file: a later group wins for a host of both."""
    data: tuple[DataFile, ...] = ()
    workload: tuple[str, ...] = ()
    group_workload: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    include: tuple[str, ...] = ()
    exclude: tuple[ExclusionFile, ...] = ()
    waivers: tuple[WaiverFile, ...] = ()
    peers: tuple[PeerFile, ...] = ()
    advisory_days: int = 30
    """Days after which a source of advisories is too old."""
    evidence_days: int = 7
    """Days after which what was read of a host is stale."""
    notify: tuple[NotifyFile, ...] = ()
    owners: Mapping[str, OwnerFile] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    """Hosts that need not answer: names, and patterns of them."""
    unexpected_days: int = 30
    """Days without an answer after which such a host is expected again."""
    reference_days: int = 120
    """Days after which a reference table is too old."""
    remediation: RemediationFile = field(default_factory=RemediationFile)
    path: Path | None = None
    text: str = ""
    """The file's text, which the run keeps."""
    document: yamlfile.Document | None = field(default=None, compare=False, repr=False)

    def error(self, place: yamlfile.Place, message: str) -> FleetAuditError:
        """An error that names the file, the line and the field of a place in it."""
        if self.document is not None:
            return self.document.error(place, message)
        return FleetAuditError(f"policy: {'.'.join(map(str, place))}: {message}")

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

    def origin(
        self, check: str, name: str, default: Parameter, profile: Mapping[str, Parameter], groups: Sequence[str]
    ) -> tuple[Parameter, str]:
        """A parameter's value for a host of these groups, and where it comes from."""
        value, where = default, "default"
        if name in profile:
            value, where = profile[name], "profile"
        if name in self.params.get(check, {}):
            value, where = self.params[check][name], "policy"
        for group, params in self.groups.items():
            if group in groups and name in params.get(check, {}):
                value, where = params[check][name], f"policy, group {group}"
        return value, where

    def runs(self, groups: Sequence[str]) -> list[str]:
        """What a host of these groups runs, by what the policy declares."""
        return sorted({*self.workload, *(word for name in groups for word in self.group_workload.get(name, ()))})


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
        models = (
            PolicyFile,
            GroupFile,
            DataFile,
            ExclusionFile,
            WaiverFile,
            PeerFile,
            NotifyFile,
            OwnerFile,
            UnexpectedFile,
            RemediationFile,
            SchedulerFile,
            AdvisoriesFile,
            EvidenceFile,
            ReferenceFile,
        )
        known = {name for model in models for name in model.model_fields}
        raise document.invalid(error, known) from None
    return Policy(
        profile=file.profile, params=file.params, groups={name: group.params for name, group in file.groups.items()}, data=tuple(file.data),
        workload=tuple(file.workload), group_workload={name: tuple(group.workload) for name, group in file.groups.items()},
        include=tuple(file.include), exclude=tuple(file.exclude), waivers=tuple(file.waivers), peers=tuple(file.peers),
        advisory_days=file.advisories.maximum_days, evidence_days=file.evidence.maximum_days, notify=tuple(file.notify), owners=file.owners,
        unexpected=_unexpected(file.unexpected, path, document), unexpected_days=file.unexpected.days, reference_days=file.reference.maximum_days,
        remediation=file.remediation, path=path, text=data.decode("utf-8", "replace"), document=document,
    )  # fmt: skip


def _unexpected(given: UnexpectedFile, path: Path, document: yamlfile.Document) -> tuple[str, ...]:
    """All that need not answer, those of the file too. Raises `FleetAuditError` if that cannot be read."""
    if given.file is None:
        return tuple(given.hosts)
    where = path.parent / given.file
    try:
        lines = where.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise document.error(("unexpected", "file"), f"{where}: {getattr(error, 'strerror', None) or 'not a text'}") from None
    return (*given.hosts, *(name for line in lines if (name := line.partition("#")[0].strip())))


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
