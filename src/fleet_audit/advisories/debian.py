# SPDX-License-Identifier: Apache-2.0
"""Debian's own lists: the security tracker's JSON, and its list of security advisories (DSA).

Source: https://security-tracker.debian.org/tracker/data/json, and data/DSA/list of the tracker's repository.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from fleet_audit.advisories.records import CVE, Advisory, Batch, Range, Refused, severity_of
from fleet_audit.versions import key

RELEASES = {"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}
_HEAD = re.compile(r"\[([0-9]{2} [A-Z][a-z]{2} [0-9]{4})\] ((?:DSA|DLA)-[0-9]+(?:-[0-9]+)?) (\S+)(?: - (.*))?")
_FIXED = re.compile(r"\[([a-z]+)\] - (\S+) (\S+)")
_SOURCE_CAP = 100_000


def read_notices(text: str, batch: Batch) -> None:
    """The list of advisories. Raises `Refused` if it holds none."""
    name, cves, made, summary = "", (), None, ""
    before = len(batch.advisories)
    for number, row in enumerate(text.splitlines(), 1):
        if head := _HEAD.fullmatch(row.strip()) if row[:1] == "[" else None:
            name, cves, summary = head[2], (), f"{head[3]}: {head[4] or 'security update'}"
            made = _day(head[1])
            batch.saw(made)
        elif name and (listed := re.fullmatch(r"\s+\{([^}]*)\}\s*", row)):
            cves = tuple(sorted(set(CVE.findall(listed[1]))))
            batch.advisories.append(Advisory(name, "notice", cves, summary[:300], None, made, made))
        elif name and (fixed := _FIXED.match(row.strip())):
            release, package, version = fixed.groups()
            if release in RELEASES and version not in ("<not-affected>", "<unfixed>", "<end-of-life>"):
                odd = "" if key("dpkg", version) else version[:200]
                batch.ranges.append(
                    Range(
                        name,
                        cves or (name,),
                        "debian",
                        RELEASES[release],
                        "base",
                        package,
                        "dpkg",
                        None,
                        version,
                        False,
                        version,
                        None,
                        odd,
                    )
                )
        elif row.strip() and not row.startswith(("\t", " ", "[")):
            raise Refused(f"line {number} is not understood")
    if len(batch.advisories) == before:
        raise Refused("it holds no advisory")


def _day(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%d %b %Y")
    except ValueError:
        return None


def read_tracker(document: Mapping[str, Any], batch: Batch) -> None:
    """The tracker's JSON: source package, CVE, release. Raises `Refused`."""
    if len(document) > _SOURCE_CAP:
        raise Refused("more packages than Debian has")
    for package, entries in document.items():
        for cve, entry in (entries if isinstance(entries, dict) else {}).items():
            releases = entry.get("releases") if isinstance(entry, dict) else None
            if not CVE.fullmatch(cve) or not isinstance(releases, dict):
                continue
            ranges = [
                found for release, said in releases.items()
                if release in RELEASES and isinstance(said, dict) and (found := _of_release(package, cve, RELEASES[release], said))
            ]  # fmt: skip
            if ranges:
                batch.advisories.append(Advisory(f"DEBIAN-{cve}-{package}", "cve", (cve,), "", ranges[0].severity, None, None))
                batch.ranges += ranges


def _of_release(package: str, cve: str, release: str, said: Mapping[str, Any]) -> Range | None:
    """None where the release is not affected: a fixed version of 0."""
    fixed, status = said.get("fixed_version"), said.get("status")
    how = (f"DEBIAN-{cve}-{package}", (cve,), "debian", release, "base", package, "dpkg", None)
    word = severity_of(str(said.get("urgency", "")).strip("*"))
    if status == "resolved" and isinstance(fixed, str) and fixed != "0":
        return Range(*how, fixed, False, fixed, word, "" if key("dpkg", fixed) else fixed[:200])
    return Range(*how, None, False, None, word) if status in ("open", "undetermined") else None
