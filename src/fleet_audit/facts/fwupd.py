# SPDX-License-Identifier: Apache-2.0
"""Firmware as fwupd knows it: devices, security attributes, pending updates, and how old its metadata is.

fwupd is never started for this: where it does not run, nothing is known. Its Host Security ID is no fact here: on rack-mount
chassis and in virtual machines fwupd calls it invalid, so the attributes count one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe, utc, value
from fleet_audit.model import Source, SourceId, Status

_ASIDE = ("--json", "--no-unreported-check", "--no-metadata-check", "--no-remote-check")
_NOTHING = 2
"""fwupdmgr's exit status for nothing to do: no device, no update."""


def _fwupdmgr(name: str, command: str, doc: str, *exits: int) -> Source:
    return Source(
        SourceId(name), "command", {"argv": ["fwupdmgr", command, *_ASIDE], "ok_exits": [0, *exits]},
        f"fwupdmgr(1) {command}, JSON of fwupd 1.7 and up (before 1.7 it prints text, which says nothing here). {doc}",
        when_exists="/sys/fs/cgroup/*/fwupd.service", timeout_s=20.0,
    )  # fmt: skip


DEVICES = _fwupdmgr("fwupd-devices", "get-devices", "libfwupd, FwupdDevice.", _NOTHING)
SECURITY = _fwupdmgr("fwupd-security", "security", "fwupd documentation, Host Security ID Specification; libfwupd, FwupdSecurityAttr.")
UPDATES = _fwupdmgr("fwupd-updates", "get-updates", "libfwupd, FwupdRelease. It asks the metadata at hand, not the network.", _NOTHING)
METADATA = Source(
    SourceId("fwupd-metadata"), "stat",
    {"globs": ["/var/lib", "/var/lib/fwupd",
               *(f"/var/lib/fwupd/{folder}/*/{name}.xml.{packed}" for folder in ("metadata", "remotes.d")
                 for name in ("firmware", "metadata") for packed in ("zst", "xz", "gz"))]},
    "fwupd source, fwupd-remote.c: metadata of each remote; the file's time is when it was fetched.",
)  # fmt: skip


@dataclass(frozen=True)
class FwupdDevice:
    """A device with firmware that fwupd knows. No rows: fwupd runs and knows none. Source: fwupdmgr get-devices."""

    device_id: Annotated[str, "fwupd's id of the device on this node"]
    name: Annotated[str | None, "Name, such as `System Firmware` or `UEFI dbx`"]
    vendor: Annotated[str | None, "Maker"]
    version: Annotated[str | None, "Version of the firmware that runs"]
    version_lowest: Annotated[str | None, "Lowest version that the device takes: a rollback protection"]
    plugin: Annotated[str | None, "fwupd's plugin, such as uefi_capsule, uefi_dbx or nvme"]
    guids: Annotated[list[str], "GUIDs by which firmware is matched to the device"]
    flags: Annotated[list[str], "Such as updatable, locked, needs-reboot, signed-payload or unsigned-payload"]
    problems: Annotated[list[str], "Why it cannot be updated now"]
    issues: Annotated[list[str], "CVEs that fwupd's metadata says the version has"]


@dataclass(frozen=True)
class FwupdSecurity:
    """A property of the platform's security that fwupd has tested. Source: fwupdmgr security, attribute by attribute."""

    attribute: Annotated[str, "Such as org.fwupd.hsi.Uefi.SecureBoot"]
    name: Annotated[str | None, "fwupd's name of it"]
    level: Annotated[int, "Level of the Host Security ID that it counts for, 1 to 5; 0: a property of the running system"]
    result: Annotated[str | None, "What was found: enabled, not-enabled, valid, not-found, ...; NULL: nothing"]
    wanted: Annotated[str | None, "The result that passes, which may be not-enabled; NULL: fwupd before 1.9.3 does not say"]
    passed: Annotated[bool | None, "fwupd's flag success, which alone decides; NULL: it lacks data to decide"]
    obsoleted: Annotated[bool, "Another attribute that passes covers it"]
    flags: Annotated[list[str], "All flags: success, missing-data, runtime-issue, action-config-fw, ..."]


@dataclass(frozen=True)
class FwupdUpdate:
    """A release of firmware that fwupd would install. No rows: none by the metadata at hand. Source: fwupdmgr get-updates."""

    device_id: Annotated[str, "fwupd's id of the device"]
    name: Annotated[str | None, "Name of the device"]
    version: Annotated[str | None, "Version that runs"]
    new_version: Annotated[str, "Version of the release"]
    urgency: Annotated[str | None, "low, medium, high, critical or unknown; NULL: the release does not say"]
    issues: Annotated[list[str], "CVEs that the release fixes"]
    remote: Annotated[str | None, "Remote that offers it, such as lvfs"]
    released_at: Annotated[datetime | None, "When it was released"]


@dataclass(frozen=True)
class FwupdMetadata:
    """When fwupd last fetched a remote's metadata. No rows: it has none. Source: times of files in /var/lib/fwupd."""

    remote: Annotated[str, "Remote, such as lvfs"]
    fetched_at: Annotated[datetime, "When its metadata was fetched"]


def _entries(evidence: Bundle, source: Source, key: str) -> Iterator[dict[str, Any]]:
    """The objects of one array of fwupdmgr's answer; none where it says that there is nothing to do."""
    item = evidence.item(source)
    if item.status is Status.OK and item.exit == _NOTHING and source is not SECURITY:
        return
    if item.status is not Status.OK:  # half a JSON document is none
        raise Unread(describe(source, item))
    document = evidence.document(source)
    entries = document.get(key) if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise NotUnderstood(f"{source.id}: no {key} in it")
    for entry in entries:
        if isinstance(entry, dict):
            yield entry
        else:
            evidence.gap(source, f"an entry of {key} is no object")


def _text(entry: dict[str, Any], key: str) -> Any:
    """A text, NULL if it is blank or missing; what is no text is left to the check of the row."""
    content = entry.get(key)
    return value(content) if isinstance(content, str) else content


def _list(entry: dict[str, Any], key: str) -> Any:
    """Texts, none if the key is missing, which fwupd leaves out where there are none."""
    content = entry.get(key)
    return [] if content is None else content


def parse_devices(evidence: Bundle) -> Iterable[FwupdDevice]:
    """A row per device."""
    for entry in _entries(evidence, DEVICES, "Devices"):
        texts = (_text(entry, key) for key in ("DeviceId", "Name", "Vendor", "Version", "VersionLowest", "Plugin"))
        yield FwupdDevice(*texts, *(_list(entry, key) for key in ("Guid", "Flags", "Problems", "Issues")))


def parse_security(evidence: Bundle) -> Iterable[FwupdSecurity]:
    """A row per attribute. An answer without any is not understood: fwupd always has some."""
    found = False
    for entry in _entries(evidence, SECURITY, "SecurityAttributes"):
        flags, level = _list(entry, "Flags"), entry.get("HsiLevel", 0)
        known = isinstance(flags, list)
        passed = known and "success" in flags
        found = True
        yield FwupdSecurity(
            _text(entry, "AppstreamId"), _text(entry, "Name"), level, _text(entry, "HsiResult"), _text(entry, "HsiResultSuccess"),
            None if known and not passed and "missing-data" in flags else passed, known and "obsoleted" in flags, flags,
        )  # fmt: skip
    if not found:
        raise NotUnderstood(f"{SECURITY.id}: no attribute in it")


def parse_updates(evidence: Bundle) -> Iterable[FwupdUpdate]:
    """A row per device and release."""
    for entry in _entries(evidence, UPDATES, "Devices"):
        releases = entry.get("Releases", [])
        if not isinstance(releases, list) or not all(isinstance(release, dict) for release in releases):
            evidence.gap(UPDATES, "releases that are no list of objects")
            continue
        device = (_text(entry, key) for key in ("DeviceId", "Name", "Version"))
        device_id, name, version = device
        for release in releases:
            created = release.get("Created")
            yield FwupdUpdate(
                device_id, name, version, _text(release, "Version"), _text(release, "Urgency"), _list(release, "Issues"),
                _text(release, "RemoteId"), utc(created) if type(created) is int and created else None,
            )  # fmt: skip


def parse_metadata(evidence: Bundle) -> Iterable[FwupdMetadata]:
    """A row per remote, with the newest of its files."""
    there = evidence.entries(METADATA)
    if "/var/lib" not in there:
        raise Unread(f"{METADATA.id}: no /var/lib")
    times: dict[str, int] = {}
    for path, entry in there.items():
        if path.count("/") < 5:
            continue
        remote, when = path.split("/")[5], entry.get("mtime")
        if type(when) is not int:
            evidence.gap(METADATA, f"{path} without a time")
        else:
            times[remote] = max(when, times.get(remote, when))
    for remote, when in sorted(times.items()):
        if (fetched := utc(when)) is None:
            evidence.gap(METADATA, f"{remote}: not a time")
        else:
            yield FwupdMetadata(remote, fetched)


TABLES = (
    Table("fwupd_devices", FwupdDevice, (DEVICES,), parse_devices),
    Table("fwupd_security", FwupdSecurity, (SECURITY,), parse_security),
    Table("fwupd_updates", FwupdUpdate, (UPDATES,), parse_updates),
    Table("fwupd_metadata", FwupdMetadata, (METADATA,), parse_metadata),
)
