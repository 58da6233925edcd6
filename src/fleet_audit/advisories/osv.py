# SPDX-License-Identifier: Apache-2.0
"""Documents in the Open Source Vulnerability format: Ubuntu (with Pro), Debian, Rocky, Alma and PyPI.

Source: https://ossf.github.io/osv-schema/ and what the vendors put into `ecosystem_specific`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet_audit.advisories.records import (
    CVE,
    Advisory,
    Batch,
    Livepatch,
    Range,
    Refused,
    line,
    moment,
    severity_by_vector,
    severity_of,
)  # fmt: skip
from fleet_audit.versions import key

AFFECTED_CAP = 20_000
"""Packages of one record."""
EVENTS_CAP = 5_000
VERSIONS_CAP = 50_000
_KINDS = {"ubuntu": "dpkg", "debian": "dpkg", "rocky": "rpm", "alma": "rpm", "pypi": "pep440"}


def read(document: Mapping[str, Any], batch: Batch) -> None:
    """Take in one record. Raises `Refused`."""
    name = document.get("id")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._-]{2,99}", name):
        raise Refused("it has no id")
    affected = document.get("affected") or []
    if not isinstance(affected, list) or len(affected) > AFFECTED_CAP:
        raise Refused("`affected` is no list, or too long")
    published, modified = moment(document.get("published")), moment(document.get("modified"))
    batch.saw(modified)
    if document.get("withdrawn"):
        batch.withdrawn += 1
        return
    cves = _cves(document, name)
    if name.startswith("LSN-"):
        batch.livepatches += [entry for part in affected for entry in _livepatches(name, cves, part)]
        return
    severity = _severity(document)
    ranges = [found for part in affected for found in _ranges(name, cves, severity, part)]
    kind = "notice" if re.match(r"(?:USN|DSA|DLA|RLSA|ALSA)-", name) else "cve"
    word = severity or next((r.severity for r in ranges if r.severity), None)
    batch.advisories.append(Advisory(name, kind, cves, line(document.get("summary") or document.get("details")), word, published, modified))
    batch.ranges += ranges


def _cves(document: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The CVEs that it is about. PyPI names them as aliases, Ubuntu as `related` or `upstream`, some with a prefix."""
    texts = [name, *(t for field in ("aliases", "related", "upstream") for t in document.get(field) or [] if isinstance(t, str))]
    return tuple(sorted({match[0] for text in texts[:5000] if (match := CVE.search(text))}))


def _severity(part: Mapping[str, Any]) -> str | None:
    """By the distribution's word, else by CVSS."""
    specific = part.get("ecosystem_specific")
    if isinstance(specific, dict) and (own := severity_of(specific.get("ubuntu_priority")) or severity_of(specific.get("urgency"))):
        return own
    given = [entry for entry in part.get("severity") or [] if isinstance(entry, dict)]
    for entry in given:
        if entry.get("type") == "Ubuntu" and (own := severity_of(entry.get("score"))):
            return own
    return severity_by_vector(
        [str(entry["score"]) for entry in given if str(entry.get("type", "")).startswith("CVSS") and "score" in entry]
    )


def place_of(ecosystem: str, purl: str) -> tuple[str, str, str] | None:
    """(ecosystem, release, tier) of an ecosystem's name; None for one that no host here has.

    Of Ubuntu Pro the package address tells the service: `distro=esm-apps/focal`.
    """
    words = ecosystem.split(":")
    match words:
        case ["PyPI"]:
            return "pypi", "", "base"
        case ["Debian", release] if release.isdigit():
            return "debian", release, "base"
        case ["Rocky Linux" | "AlmaLinux" as name, release]:
            return "rocky" if name == "Rocky Linux" else "alma", release.partition(".")[0], "base"
        case ["Ubuntu", *rest]:
            found = next((word for word in rest if re.fullmatch(r"[0-9]{2}\.[0-9]{2}", word)), None)
            if found is None:
                return None
            more = [word.lower() for word in rest if word not in (found, "LTS", "Pro")]
            if "Pro" not in rest:
                return "ubuntu", found, more[0] if more else "base"
            pocket = re.search(r"distro=([a-z-]+)/", purl)
            service = {"trusty": "esm-infra-legacy"}.get(pocket[1], pocket[1]) if pocket else "pro"
            return "ubuntu", found, more[0] if more else service
    return None


def _ranges(name: str, cves: tuple[str, ...], severity: str | None, part: object) -> Iterator[Range]:
    """The ranges of one package of a record."""
    if not isinstance(part, dict) or not isinstance(package := part.get("package"), dict):
        raise Refused("an affected package is no object")
    ecosystem, title = package.get("ecosystem"), package.get("name")
    if not isinstance(ecosystem, str) or not isinstance(title, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._@/-]{0,199}", title):
        raise Refused("an affected package has no ecosystem or name")
    if (place := place_of(ecosystem, str(package.get("purl", "")))) is None:
        return
    system, release, tier = place
    kind = _KINDS[system]
    if system == "pypi":
        title = re.sub(r"[-_.]+", "-", title).lower()
    mine = _own_cves(part) or cves or (name,)
    how = (name, mine, system, release, tier, title, kind)
    word = _severity(part) or severity
    bounded = False
    for given in part.get("ranges") or []:
        if not isinstance(given, dict) or given.get("type") not in ("ECOSYSTEM", "SEMVER"):
            continue
        bounded = True
        for low, high, inclusive, fixed, odd in intervals(given.get("events"), kind):
            yield Range(*how, low, high, inclusive, fixed, word, odd)
    if not bounded:
        versions = part.get("versions") or []
        if not isinstance(versions, list) or len(versions) > VERSIONS_CAP:
            raise Refused("`versions` is no list, or too long")
        for version in versions:
            odd = "" if key(kind, str(version)) else str(version)[:200]
            yield Range(*how, str(version)[:200], str(version)[:200], True, None, word, odd)


def _own_cves(part: Mapping[str, Any]) -> tuple[str, ...]:
    """The CVEs of this package alone, where a notice of several packages tells them apart."""
    specific = part.get("database_specific")
    listed = specific.get("cves_map") if isinstance(specific, dict) else None
    entries = listed.get("cves") if isinstance(listed, dict) else None
    names = [str(e.get("id")) for e in entries if isinstance(e, dict)] if isinstance(entries, list) else []
    return tuple(sorted({name for name in names if CVE.fullmatch(name)}))


def intervals(events: object, kind: str) -> Iterator[tuple[str | None, str | None, bool, str | None, str]]:
    """(low, high, high is in it, fixed, what was not understood) of a range's events, which come in any order.

    Raises `Refused` for what are no events.
    """
    if not isinstance(events, list) or len(events) > EVENTS_CAP:
        raise Refused("`events` is no list, or too long")
    found: list[tuple[str, int, str, str]] = []  # sortable key, which comes first at one version, word, version
    for event in events:
        if not isinstance(event, dict):
            raise Refused("an event is no object")
        for word, version in event.items():
            if word not in ("introduced", "fixed", "last_affected"):
                continue  # `limit` bounds git ranges
            sortable = "" if word == "introduced" and version == "0" else key(kind, str(version))
            if sortable is None:
                yield None, None, False, None, f"{word} {str(version)[:200]}"
                return
            found.append((sortable, ("fixed", "introduced", "last_affected").index(word), word, str(version)))
    low: str | None = None
    opened = False
    for sortable, _, word, version in sorted(found):
        if word == "introduced":
            if not opened:
                low, opened = version if sortable else None, True
        elif opened:
            yield low, version, word == "last_affected", version if word == "fixed" else None, ""
            opened = False
    if opened:
        yield low, None, False, None, ""


def _livepatches(name: str, cves: tuple[str, ...], part: object) -> Iterator[Livepatch]:
    """What a Livepatch Security Notice says of one kernel: no fix of a package, but which kernels have a patch."""
    if not isinstance(part, dict) or not isinstance(package := part.get("package"), dict):
        raise Refused("an affected package is no object")
    place = place_of(str(package.get("ecosystem", "")), str(package.get("purl", "")))
    least = next(
        (
            str(e["fixed"])
            for r in part.get("ranges") or []
            if isinstance(r, dict)
            for e in r.get("events") or []
            if isinstance(e, dict) and "fixed" in e
        ),
        None,
    )
    if place and least:
        for cve in cves:
            yield Livepatch(name, cve, place[1], str(package.get("name"))[:200], least[:200])
