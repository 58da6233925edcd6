# SPDX-License-Identifier: Apache-2.0
"""Installed packages of dpkg and rpm. Files put there by hand are in neither."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, stanzas
from fleet_audit.model import Source, SourceId, Status
from fleet_audit.versions import key

DPKG = Source(
    SourceId("dpkg-status"), "stanzas",
    {"globs": ["/var/lib/dpkg/status", "/var/lib/dpkg/status.d/*"],
     "fields": ["Package", "Status", "Version", "Architecture", "Source"]},
    "dpkg's database, five fields of each stanza: dpkg(1), deb822(5); status.d is what distroless images have.",
)  # fmt: skip
RPM = Source(
    SourceId("rpm-qa"), "command",
    {"argv": ["rpm", "--dbpath", "/var/lib/rpm", "-qa", "--qf", r"%{NAME}\t%{EPOCHNUM}\t%{VERSION}\t%{RELEASE}\t%{ARCH}\t%{SOURCERPM}\n"],
     "unprivileged": True},
    "rpm(8) -qa with a query format; the database itself has three formats and is never parsed. As root rpm writes beside "
    "the database, and Debian's looks for one in the home directory: so it runs as nobody, and only where there is one.",
    when_exists="/var/lib/rpm/[!.]*", timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class Package:
    """A package that is installed. Source: dpkg(1), rpm(8)."""

    name: Annotated[str, "Binary package"]
    version: Annotated[str, "Version with epoch and release, as the manager writes it"]
    version_key: Annotated[str | None, "Sortable key of the version, of the manager's kind"]
    arch: Annotated[str, "Architecture"]
    source: Annotated[str, "Source package, which advisories name"]
    source_version: Annotated[str, "Version of the source package"]
    source_version_key: Annotated[str | None, "Sortable key of the source package's version"]
    manager: Annotated[str, "dpkg or rpm"]


def dpkg_packages(evidence: Bundle) -> Iterator[Package]:
    """Packages of a dpkg system whose files are there, half-configured ones too; none if it is no dpkg system."""
    text = evidence.optional(DPKG)
    if text is not None and not re.search(r"^Package: ", text, re.M):
        raise NotUnderstood("dpkg-status: no package in it")
    for fields in stanzas(text or ""):
        if "unread" in fields:
            evidence.gap(DPKG, fields["unread"])
        elif "Package" not in fields or "Version" not in fields:
            evidence.gap(DPKG, "a stanza without package or version")
        elif fields.get("Status", "install ok installed").split()[-1:] not in (["config-files"], ["not-installed"]):
            name, version = fields["Package"], fields["Version"]
            match = re.fullmatch(r"(\S+)(?: \((\S+)\))?", fields.get("Source", name))
            source, source_version = (match[1], match[2] or version) if match else (name, version)
            yield Package(
                name, version, key("dpkg", version), fields.get("Architecture", "unknown"),
                source, source_version, key("dpkg", source_version), "dpkg",
            )  # fmt: skip


def rpm_packages(evidence: Bundle) -> Iterator[Package]:
    """Installed packages of an rpm system; none if it is none."""
    for line in (evidence.optional(RPM) or "").splitlines():
        words = line.split("\t")
        if len(words) != 6:
            evidence.gap(RPM, "a line has not six fields")
            continue
        name, epoch, version, release, arch, srpm = words
        if name == "gpg-pubkey":
            continue
        prefix = "" if epoch in ("0", "(none)") else f"{epoch}:"
        full = f"{prefix}{version}-{release}"
        match = re.fullmatch(r"(.+)-([^-]+)-([^-]+)\.(?:no)?src\.rpm", srpm)
        source, source_full = (match[1], f"{prefix}{match[2]}-{match[3]}") if match else (name, full)
        yield Package(name, full, key("rpm", full), arch, source, source_full, key("rpm", source_full), "rpm")


def parse_packages(evidence: Bundle) -> Iterable[Package]:
    """All packages; a node on which no package database was found is not understood."""
    if all(evidence.item(s).status in (Status.ABSENT, Status.SKIPPED) for s in (DPKG, RPM)):
        raise NotUnderstood("neither a dpkg nor an rpm database was found")
    found = 0
    for package in itertools.chain(dpkg_packages(evidence), rpm_packages(evidence)):
        found += 1
        yield package
    if not found:
        raise NotUnderstood("the package database holds no package")


TABLES = (Table("packages", Package, (DPKG, RPM), parse_packages),)
