# SPDX-License-Identifier: Apache-2.0
"""Whether apt updates a node by itself, when that last ran and how it ended, and what is held. `systemd_starts` tells which timers are on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fleet_audit.facts.apt_conf import APT_CONF, Settings, apt_settings
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, stanzas, utc, value
from fleet_audit.facts.packages import DPKG
from fleet_audit.model import Source, SourceId

_PROGRAM = "/usr/bin/unattended-upgrade"
_LOG = "/var/log/unattended-upgrades/unattended-upgrades.log"

APT_PLACES = Source(
    SourceId("apt-places"), "stat", {"globs": ["/usr/bin/apt-get", _PROGRAM]}, "Whether apt and unattended-upgrades are installed."
)
LOG = Source(
    SourceId("unattended-upgrades-log"), "files", {"globs": [_LOG], "redact": True},
    "unattended-upgrade(8): lines of local time, level and message; the messages may be translated, the levels are not.",
    needs_root=True, cap_bytes=1 << 20,
)  # fmt: skip
LOGS = Source(
    SourceId("unattended-upgrades-logs"), "stat", {"globs": ["/var/log/unattended-upgrades", f"{_LOG}*"]},
    "Times and sizes of the log and of older ones; logrotate makes an empty one without a run.", needs_root=True,
)  # fmt: skip
STAMPS = Source(
    SourceId("update-stamps"), "stat",
    {"globs": ["/var/lib/apt/periodic/*-stamp"] + [f"/var/lib/systemd/timers/stamp-{name}*.timer" for name in
               ("apt-", "dnf-", "dnf5-", "packagekit", "transactional-update", "btrfs-", "snapd")]},
    "apt.systemd.daily touches a stamp when a step has ended; systemd.timer(5), Persistent: when a timer last elapsed.",
)  # fmt: skip


@dataclass(frozen=True)
class UnattendedUpgrades:
    """How apt updates a node by itself; no row where there is no apt. Source: apt.systemd.daily, unattended-upgrade(8), apt.conf(5)."""

    installed: Annotated[bool, "The package unattended-upgrades is installed"]
    periodic: Annotated[bool | None, "apt's daily jobs do anything at all: APT::Periodic::Enable is not 0"]
    lists: Annotated[bool | None, "They fetch package lists"]
    lists_interval_seconds: Annotated[int | None, "How often; 0 at each run of the timer, NULL where never"]
    upgrades: Annotated[bool | None, "They install upgrades: set, periodic is on, and the package is installed"]
    upgrades_interval_seconds: Annotated[int | None, "How often; 0 at each run of the timer, NULL where never"]
    origins: Annotated[list[str], "Origins-Pattern and Allowed-Origins, as written: from where"]
    security: Annotated[bool | None, "An origin covers the distribution's security archive; NULL where that depends on its release"]
    excluded: Annotated[list[str], "Regular expressions of packages that are never upgraded: Package-Blacklist"]
    only: Annotated[list[str], "Regular expressions of the packages that alone may be upgraded; empty for all: Package-Whitelist"]
    days: Annotated[list[str], "Days on which upgrades are installed, as written; empty for all"]
    reboot: Annotated[bool | None, "Reboots by itself where an upgrade asks for it"]
    reboot_with_users: Annotated[bool | None, "Even while users are logged in, if it reboots by itself"]
    reboot_time: Annotated[str, "When it reboots, such as 02:00; now for at once"]


@dataclass(frozen=True)
class UnattendedUpgradesRun:
    """The last run in the log of unattended-upgrades; no row where there is no log. Source: its log."""

    written_at: Annotated[datetime | None, "When a log was last written to; NULL where all are empty"]
    result: Annotated[str | None, "installed, nothing (to install), failed, or other; NULL where the log has no run that is understood"]
    errors: Annotated[int | None, "Errors that the run logged"]
    message: Annotated[str | None, "Its last message"]


@dataclass(frozen=True)
class UpdateRun:
    """When a step or a timer of updating last ran; no row for what never did. Source: stamps of apt and systemd."""

    job: Annotated[str, "A step of apt, such as update-success, upgrade or unattended-upgrades, or a timer, such as apt-daily.timer"]
    at: Annotated[datetime, "When it last ran; a timer's first start counts too"]


@dataclass(frozen=True)
class HeldPackage:
    """An installed package that dpkg holds at its version. Source: dpkg(1), `hold` in its status."""

    package: Annotated[str, "Package"]
    version: Annotated[str, "Version at which it is held"]
    arch: Annotated[str, "Architecture"]


def parse_unattended(evidence: Bundle) -> Iterable[UnattendedUpgrades]:
    """One row where apt is installed."""
    there = evidence.entries(APT_PLACES)
    if "/usr/bin/apt-get" not in there:
        if evidence.gaps:
            raise Unread("; ".join(evidence.gaps[:3]))
        return
    installed = _PROGRAM in there
    conf = apt_settings(evidence)
    periodic = conf.get("APT::Periodic::Enable")
    enabled = True if not periodic else int(periodic) != 0 if re.fullmatch(r"[0-9]{1,9}", periodic) else None
    if enabled is None:
        evidence.gap(APT_CONF, "APT::Periodic::Enable is not understood")
    lists, lists_every = _interval(evidence, conf, "Update-Package-Lists", enabled)
    upgrades, upgrades_every = _interval(evidence, conf, "Unattended-Upgrade", installed and enabled)
    legacy, patterns = conf.values("Unattended-Upgrade::Allowed-Origins"), conf.values("Unattended-Upgrade::Origins-Pattern")
    security = [*map(_is_security, [*map(_modern, legacy), *patterns])]
    yield UnattendedUpgrades(
        installed, enabled, lists, lists_every, upgrades, upgrades_every, legacy + patterns,
        True if True in security else None if None in security else False, conf.values("Unattended-Upgrade::Package-Blacklist"),
        conf.values("Unattended-Upgrade::Package-Whitelist"), conf.values("Unattended-Upgrade::Update-Days"),
        conf.flag("Unattended-Upgrade::Automatic-Reboot", False), conf.flag("Unattended-Upgrade::Automatic-Reboot-WithUsers", True),
        conf.get("Unattended-Upgrade::Automatic-Reboot-Time") or "now",
    )  # fmt: skip


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "": 86400}


def _interval(evidence: Bundle, conf: Settings, name: str, enabled: bool | None) -> tuple[bool | None, int | None]:
    """Whether a step of apt's daily jobs is on, and how often: days, or a number with a unit, or always."""
    word = conf.get(f"APT::Periodic::{name}") or "0"
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", word)
    if match is None and word != "always":
        evidence.gap(APT_CONF, f"APT::Periodic::{name} is not understood")
        return None if enabled is not False else False, None
    if word == "0" or not enabled:
        return False if word == "0" else enabled, None
    return True, int(match[1]) * _UNITS[match[2]] if match else 0


def _modern(legacy: str) -> str:
    """An Allowed-Origins entry in the words of Origins-Pattern."""
    origin, _, archive = legacy.partition(":") if ":" in legacy else legacy.partition(" ")
    return f"o={origin},a={archive}"


_DISTRIBUTIONS = ("*", "${distro_id}", "debian", "ubuntu", "raspbian")


def _is_security(pattern: str) -> bool | None:
    """Whether a pattern covers the distribution's security archive; None where that depends on its release."""
    keys = [(name.strip(), text.strip().lower()) for name, mark, text in (word.partition("=") for word in pattern.split(",")) if mark]
    if not keys or any(text not in _DISTRIBUTIONS for name, text in keys if name in ("o", "origin")):
        return False
    limits = [text for name, text in keys if name in ("a", "archive", "suite", "n", "codename", "l", "label", "site")]
    narrow = [limit for limit in limits if limit != "*" and "security" not in limit]
    if narrow and len(narrow) < len(limits) and all(name in ("n", "codename") for name, text in keys if text in narrow):
        return None  # with Debian 10 the security archive has the release's codename, since Debian 11 one of its own
    return not narrow


def parse_run(evidence: Bundle) -> Iterable[UnattendedUpgradesRun]:
    """One row where there is a log."""
    logs = evidence.entries(LOGS)
    times = [e["mtime"] for path, e in logs.items() if path.startswith(_LOG) and type(e.get("mtime")) is int and e.get("size")]
    entry = evidence.entries(LOG).get(_LOG)
    if entry is None and not times:
        return
    text = (entry or {}).get("text") or ""
    found = [line for line in text.split("\n") if line] if isinstance(text, str) else []
    starts = [place for place, line in enumerate(found) if line.endswith(" INFO Starting unattended upgrades script")]
    result = errors = None
    if starts:
        found = found[starts[-1] :]
        errors = sum(bool(re.match(r"\S+ \S+ ERROR ", line)) for line in found)
        result = _result(found) if not errors else "failed"
    elif found:
        evidence.gap(LOG, "no start of a run in it")
    yield UnattendedUpgradesRun(
        utc(max(times)) if times else None, result, errors, value(re.sub(r"^\S+ \S+ [A-Z]+ ", "", found[-1])) if found else None
    )


_RESULTS = (("All upgrades installed", "installed"), ("No packages found that can be upgraded unattended", "nothing"))


def _result(lines: list[str]) -> str:
    return next((word for line in reversed(lines) for words, word in _RESULTS if words in line), "other")


def parse_runs(evidence: Bundle) -> Iterable[UpdateRun]:
    """A row per stamp."""
    for path, entry in evidence.entries(STAMPS).items():
        job = path.rpartition("/")[2].removeprefix("stamp-").removesuffix("-stamp")
        when = utc(entry["mtime"]) if type(entry.get("mtime")) is int else None
        if when:
            yield UpdateRun(job, when)
        else:
            evidence.gap(STAMPS, f"{path}: no time")


def parse_held(evidence: Bundle) -> Iterable[HeldPackage]:
    """A row per package on hold; none where there is no dpkg."""
    text = evidence.optional(DPKG)
    if text is not None and "Package: " not in text:
        raise NotUnderstood(f"{DPKG.id}: no package in it")
    for fields in stanzas(text or ""):
        words = fields.get("Status", "install ok installed").split()
        if "unread" in fields or len(words) != 3 or not {"Package", "Version"} <= set(fields):
            evidence.gap(DPKG, fields.get("unread", "a stanza without package, version or status"))
        elif words[0] == "hold" and words[2] not in ("config-files", "not-installed"):
            yield HeldPackage(fields["Package"], fields["Version"], fields.get("Architecture", "unknown"))


TABLES = (
    Table("unattended_upgrades", UnattendedUpgrades, (APT_PLACES, APT_CONF), parse_unattended),
    Table("unattended_upgrades_runs", UnattendedUpgradesRun, (LOG, LOGS), parse_run),
    Table("update_runs", UpdateRun, (STAMPS,), parse_runs),
    Table("held_packages", HeldPackage, (DPKG,), parse_held),
)
