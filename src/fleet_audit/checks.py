# SPDX-License-Identifier: Apache-2.0
"""All checks and profiles, of the shipped folder and a site's: found, loaded, and selected from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleet_audit import content, references, sql, yamlfile
from fleet_audit.checkfile import Check, Line, Parameter, check_params, load_check
from fleet_audit.model import CheckId, FleetAuditError, did_you_mean

RETIRED = "retired.yaml"
"""File of the shipped folder: ids that are no more."""


class ProfileFile(BaseModel):
    """One profile. Checks name the profiles that they belong to; a profile of a site may add and leave out."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$")]
    title: Line
    inherits: list[str] = []
    params: dict[str, dict[str, Parameter]] = {}
    include: list[str] = []
    exclude: list[str] = []


@dataclass(frozen=True)
class Profile:
    """A named selection of checks."""

    id: str
    title: str
    inherits: tuple[str, ...]
    params: Mapping[str, Mapping[str, Parameter]]
    """Check id -> parameter -> value."""
    include: frozenset[str]
    exclude: frozenset[str]


@dataclass(frozen=True)
class Library:
    """All checks and profiles that were found."""

    checks: Mapping[CheckId, Check]
    profiles: Mapping[str, Profile]
    references: Mapping[str, references.Reference]
    retired: Mapping[str, str] = field(default_factory=dict)
    """Former ids -> what decides their matter now."""

    def select(self, profile: str, only: Sequence[str] = ()) -> list[Check]:
        """The checks of a profile, or those named, by id. Raises `FleetAuditError` for unknown names."""
        if profile not in self.profiles:
            known = f"; known are {', '.join(sorted(self.profiles))}"
            raise FleetAuditError(f"no profile is named {profile!r}{did_you_mean(profile, self.profiles, known)}")
        if only:
            return sorted((self.named(name) for name in only), key=lambda c: c.id)
        return sorted((self.checks[i] for i in self._reached(profile) - self.left_out(profile).keys()), key=lambda c: c.id)

    def _reached(self, profile: str) -> set[CheckId]:
        family = _ancestors(self.profiles, profile)
        chosen = {c.id for c in self.checks.values() if family & set(c.file.profiles)}
        return chosen.union(*({self.named(i).id for i in self.profiles[name].include} for name in family))

    def left_out(self, profile: str) -> dict[CheckId, str]:
        """The checks that would be in a profile but for an `exclude`, and the profile that has it."""
        found = {self.named(i).id: name for name in sorted(_ancestors(self.profiles, profile)) for i in self.profiles[name].exclude}
        reached = self._reached(profile)
        return {check: name for check, name in sorted(found.items()) if check in reached}

    def extended(self, checks: Iterable[Check]) -> Library:
        """With more checks, as a policy asks for them."""
        return replace(self, checks={**self.checks, **{check.id: check for check in checks}})

    def named(self, name: str) -> Check:
        """A check by its id or a former one."""
        for check in self.checks.values():
            if name == check.id or name in check.file.aliases:
                return check
        if name in self.retired:
            raise FleetAuditError(f"the check {name!r} is no more: {self.retired[name]}")
        known = "; `fleet-audit checks list` shows all"
        raise FleetAuditError(f"no check is named {name!r}{did_you_mean(name, self.checks, known)}")

    def params(self, profile: str) -> dict[str, dict[str, Parameter]]:
        """Parameters that a profile sets, its own over inherited ones."""
        found: dict[str, dict[str, Parameter]] = {}
        if profile in self.profiles:
            for parent in self.profiles[profile].inherits:
                for check, values in self.params(parent).items():
                    found.setdefault(check, {}).update(values)
            for check, own in self.profiles[profile].params.items():
                found.setdefault(self.named(check).id, {}).update(own)
        return found


def load(folders: Iterable[Path] = (), *, tables: Iterable[str], shipped: bool = True) -> Library:
    """The shipped checks and those of a site's folders.

    `tables` are the names of the fact tables that exist. Raises `FleetAuditError` for the first file
    that is wrong.
    """
    checks: dict[CheckId, Check] = {}
    profiles: dict[str, Profile] = {}
    taken: dict[str, Path] = {}
    own = content.folder("checks")
    others = dict.fromkeys(f for f in folders if not (shipped and f.resolve().is_relative_to(own.resolve())))
    found = [_files(folder) for folder in ([own] if shipped else []) + list(others)]
    ours = set(found[0]) if shipped else set()
    given = references.joined((p, *references.load(p)) for paths in found for p in paths if p.parent.name == "reference")
    known = frozenset(tables) | sql.BUILT_IN_TABLES | given.keys()
    for paths in found:
        for path in paths:
            if path.parent.name == "reference" or path == own / RETIRED:
                continue
            if path.parent.name == "profiles":
                profile = _profile(path)
                if profile.id in profiles:
                    raise FleetAuditError(f"{path}: a profile {profile.id!r} is there already")
                profiles[profile.id] = profile
                continue
            check = load_check(path, known, whole=path not in ours)
            for name in (check.id, *check.file.aliases):
                if name in taken:
                    raise FleetAuditError(f"{path}: the id {name!r} is taken by {taken[name]}; ids are never reused")
                taken[name] = path
            checks[check.id] = check
    retired = _retired(own / RETIRED) if shipped else {}
    if again := sorted(set(retired) & set(taken)):
        raise FleetAuditError(f"{taken[again[0]]}: the id {again[0]!r} was that of another check; ids are never reused")
    library = Library(checks, profiles, given, retired)
    _whole(library)
    return library


def _retired(path: Path) -> dict[str, str]:
    document = yamlfile.load(path)
    if not isinstance(document.value, dict) or not all(isinstance(why, str) for why in document.value.values()):
        raise document.error((), "must be a mapping of ids to what decides their matter now")
    return {str(name): why for name, why in document.value.items()}


def _files(folder: Path) -> list[Path]:
    """The YAML files below a folder. Raises `FleetAuditError` if it is none, cannot be read, or holds none."""

    def unreadable(error: OSError) -> None:
        raise FleetAuditError(f"{error.filename}: {error.strerror}") from None

    if not folder.exists():
        raise FleetAuditError(f"{folder}: no such folder of checks")
    if not folder.is_dir():
        raise FleetAuditError(f"{folder}: a folder of checks is wanted, and this is none")
    found = [Path(top, name) for top, _, names in os.walk(folder, onerror=unreadable) for name in names if name.endswith((".yaml", ".yml"))]
    if not found:
        raise FleetAuditError(f"{folder}: no checks there: a check is a file that ends in .yaml")
    return sorted(found)


def _whole(library: Library) -> None:
    """Every name that a check or profile gives is known."""
    for check in library.checks.values():
        for name in check.file.profiles:
            if name not in library.profiles:
                raise FleetAuditError(f"{check.path}: profiles: no profile is named {name!r}")
    for profile in library.profiles.values():
        for name in profile.inherits:
            if name not in library.profiles:
                raise FleetAuditError(f"profile {profile.id!r} inherits {name!r}, which there is not")
            if profile.id in _ancestors(library.profiles, name):
                raise FleetAuditError(f"profile {profile.id!r} inherits {name!r}, which inherits it")
        for name, values in profile.params.items():
            check_params(library.named(name), values, f"profile {profile.id!r}")


def _ancestors(profiles: Mapping[str, Profile], name: str) -> set[str]:
    """A profile and all that it inherits from."""
    family, todo = set[str](), [name]
    while todo:
        if (one := todo.pop()) not in family:
            family.add(one)
            todo += profiles[one].inherits if one in profiles else ()
    return family


def _profile(path: Path) -> Profile:
    document = yamlfile.load(path)
    try:
        file = ProfileFile.model_validate(document.value)
    except ValidationError as error:
        raise document.invalid(error, ProfileFile.model_fields) from None
    if file.id != path.stem:
        raise document.error(("id",), f"must be the file's name, {path.stem!r}")
    return Profile(file.id, file.title, tuple(file.inherits), file.params, frozenset(file.include), frozenset(file.exclude))
