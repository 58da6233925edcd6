# SPDX-License-Identifier: Apache-2.0
"""Mandatory access control: AppArmor, SELinux and the order of the kernel's security modules.

Which process runs under which profile is in `processes.label`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, integer, value
from fleet_audit.facts.texts import lines, places
from fleet_audit.model import Source, SourceId, Status

ORDER = Source(
    SourceId("lsm-order"), "file", {"paths": ["/sys/kernel/security/lsm"]},
    "Kernel documentation, Linux Security Module Usage: active modules, comma-separated, in the order in which they are asked.",
)  # fmt: skip
PLACES = Source(
    SourceId("mac-places"), "stat", {"globs": ["/sys/module", "/sys/fs", "/sys/fs/selinux", "/sys/module/apparmor"]},
    "Whether sysfs is there to show a module; without SELinux there is no /sys/fs/selinux, without AppArmor no /sys/module/apparmor.",
)  # fmt: skip
ENABLED = Source(
    SourceId("apparmor-enabled"), "file", {"paths": ["/sys/module/apparmor/parameters/enabled"]},
    "Kernel source, security/apparmor/lsm.c: Y or N.",
)  # fmt: skip
PROFILES = Source(
    SourceId("apparmor-profiles"), "file", {"paths": ["/sys/kernel/security/apparmor/profiles"]},
    "Kernel source, security/apparmor/apparmorfs.c: `name (mode)`; only the profiles of the reader's own policy namespace.",
    needs_root=True,
)  # fmt: skip
SELINUX = Source(
    SourceId("selinux-state"), "attrs", {"globs": ["/sys/fs/selinux"], "names": ["enforce", "policyvers", "mls", "deny_unknown"]},
    "Kernel source, security/selinux/selinuxfs.c: enforce is 1 or 0.",
)  # fmt: skip
CONFIG = Source(
    SourceId("selinux-config"), "file", {"paths": ["/etc/selinux/config"]},
    "selinux_config(5): SELINUX=enforcing, permissive or disabled, SELINUXTYPE= the policy.",
)  # fmt: skip

PROFILE_FILES = Source(
    SourceId("apparmor-profile-files"), "stat",
    {"globs": ["/etc/apparmor.d", "/etc/apparmor.d/*", "/etc/apparmor.d/disable/*", "/etc/apparmor.d/force-complain/*"]},
    "apparmor_parser(8), aa-disable(8): profiles that are shipped, and links in disable and force-complain to those that do not enforce.",
)  # fmt: skip


@dataclass(frozen=True)
class SecurityModule:
    """A security module that the kernel asks. Source: /sys/kernel/security/lsm."""

    name: Annotated[str, "Module, such as apparmor, selinux, landlock, lockdown, bpf or ima"]
    position: Annotated[int, "Place in the order, from 0"]


@dataclass(frozen=True)
class AppArmor:
    """Whether AppArmor is on. Always one row. Source: its module parameter, the order of modules."""

    built: Annotated[bool, "The kernel has it"]
    enabled: Annotated[bool, "It was not switched off at boot"]
    active: Annotated[bool | None, "The kernel asks it, by the order of modules; NULL: that could not be read"]


@dataclass(frozen=True)
class AppArmorProfile:
    """A profile that is loaded; no row where AppArmor is off. Source: apparmorfs."""

    name: Annotated[str, "Profile, mostly a program's path"]
    mode: Annotated[str, "enforce, complain, kill, prompt, mixed or unconfined; unconfined ones confine nothing"]


@dataclass(frozen=True)
class AppArmorProfileFile:
    """A file of profiles that is shipped, loaded or not. No row: none. Source: apparmor_parser(8)."""

    name: Annotated[str, "File, mostly named after its program, as usr.sbin.chronyd"]
    disabled: Annotated[bool, "A link in disable keeps it from being loaded"]
    complain: Annotated[bool, "A link in force-complain keeps it from enforcing"]


@dataclass(frozen=True)
class SeLinux:
    """Whether SELinux is on now, and what is configured. Always one row. Source: selinuxfs, selinux_config(5)."""

    enabled: Annotated[bool, "A policy can be in force: selinuxfs is mounted"]
    enforcing: Annotated[bool | None, "It forbids, not only logs; NULL where it is not enabled"]
    configured_mode: Annotated[str | None, "What the configuration says for the next boot; NULL: no configuration"]
    configured_policy: Annotated[str | None, "Policy that is configured, such as targeted or mls"]
    policy_version: Annotated[int | None, "Highest version of policies that the kernel takes"]


_MODES = frozenset("enforce complain kill prompt mixed unconfined".split())


def parse_order(evidence: Bundle) -> Iterable[SecurityModule]:
    """A row per module; there is always one, capability."""
    names = evidence.body(ORDER).strip().split(",")
    if evidence.gaps or "capability" not in names or not all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names):
        raise NotUnderstood(f"{ORDER.id}: no list of modules")
    return [SecurityModule(name, position) for position, name in enumerate(names)]


def _places(evidence: Bundle, folder: str) -> dict[str, dict[str, object]]:
    there = places(evidence, PLACES)
    if folder not in there:
        raise Unread(f"{PLACES.id}: no {folder}")
    return there


def parse_apparmor(evidence: Bundle) -> Iterable[AppArmor]:
    """One row."""
    order = evidence.line(ORDER)
    names = (order or "").strip().split(",")
    if order is not None and "capability" not in names:
        evidence.gap(ORDER, "no list of modules")
        order = None
    active = None if order is None else "apparmor" in names
    if not _enabled(evidence):
        return [AppArmor("/sys/module/apparmor" in _places(evidence, "/sys/module"), False, active)]
    return [AppArmor(True, True, active)]


def _enabled(evidence: Bundle) -> bool:
    """The module's parameter; a kernel without the module is proved by the other modules' folder."""
    if evidence.item(ENABLED).status is Status.ABSENT:
        if "/sys/module/apparmor" in _places(evidence, "/sys/module"):
            raise Unread(f"{ENABLED.id}: the module is there without its parameter")
        return False
    word = evidence.body(ENABLED).strip()
    if word not in ("Y", "N"):
        raise NotUnderstood(f"{ENABLED.id}: neither Y nor N")
    return word == "Y"


def parse_profiles(evidence: Bundle) -> Iterable[AppArmorProfile]:
    """A row per profile; none where AppArmor is proved to be off."""
    if not _enabled(evidence):
        return
    for line in lines(evidence, PROFILES):
        match = re.fullmatch(r"(\S.*) \(([a-z]+)\)", line)
        if match and match[2] in _MODES:
            yield AppArmorProfile(match[1], match[2])
        else:
            evidence.gap(PROFILES, "a line that is no profile")


def parse_profile_files(evidence: Bundle) -> Iterable[AppArmorProfileFile]:
    """A row per file."""
    there = evidence.entries(PROFILE_FILES)
    if "/etc/apparmor.d" not in evidence.document(PROFILE_FILES):
        raise NotUnderstood(f"{PROFILE_FILES.id}: does not tell of its folder")
    for path, entry in there.items():
        folder, _, name = path.rpartition("/")
        if folder == "/etc/apparmor.d" and entry.get("type") in ("file", "link"):
            yield AppArmorProfileFile(name, f"{folder}/disable/{name}" in there, f"{folder}/force-complain/{name}" in there)


def parse_selinux(evidence: Bundle) -> Iterable[SeLinux]:
    """One row; a kernel without SELinux is proved by sysfs without its folder."""
    enabled = "/sys/fs/selinux" in _places(evidence, "/sys/fs")
    config: dict[str, str] = {}
    if evidence.item(CONFIG).status is not Status.ABSENT:
        try:
            pairs = [line.partition("=") for line in lines(evidence, CONFIG) if line.strip() and not line.lstrip().startswith("#")]
            if any(not equals or not name.strip().isalnum() for name, equals, _ in pairs):
                evidence.gap(CONFIG, "a line that is no setting")
            config = {name.strip(): text.partition("#")[0].strip() for name, _, text in pairs}
        except Unread as unread:
            evidence.gaps.append(str(unread))
    mode = value(config.get("SELINUX", "").lower())
    if mode not in (None, "enforcing", "permissive", "disabled"):
        evidence.gap(CONFIG, "a mode that is not known")
        mode = None
    enforcing = version = None
    if enabled:
        state = evidence.entries(SELINUX).get("/sys/fs/selinux", {})
        enforcing = {"1": True, "0": False}.get(str(state.get("enforce")))
        version = integer(text) if isinstance(text := state.get("policyvers"), str) else None
        if enforcing is None:
            evidence.gap(SELINUX, "enforce is neither 1 nor 0")
    yield SeLinux(enabled, enforcing, mode, value(config.get("SELINUXTYPE")), version)


TABLES = (
    Table("security_modules", SecurityModule, (ORDER,), parse_order),
    Table("apparmor", AppArmor, (ENABLED, ORDER, PLACES), parse_apparmor),
    Table("apparmor_profiles", AppArmorProfile, (PROFILES, ENABLED, PLACES), parse_profiles),
    Table("apparmor_profile_files", AppArmorProfileFile, (PROFILE_FILES,), parse_profile_files),
    Table("selinux", SeLinux, (SELINUX, CONFIG, PLACES), parse_selinux),
)
