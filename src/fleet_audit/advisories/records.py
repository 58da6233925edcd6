# SPDX-License-Identifier: Apache-2.0
"""What every source of advisories is turned into: advisories, the versions that they concern, and what is known beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

SEVERITIES = ("critical", "high", "medium", "low", "info")
CVE = re.compile(r"CVE-[0-9]{4}-[0-9]{4,19}")
TEXT_CAP = 300
"""Characters of a summary that are kept."""


class Refused(Exception):
    """A document that is not what it should be, with the reason."""


class Foreign(Refused):
    """A document that is none of the sources: nothing is missing for it."""


class Broken(Refused):
    """An archive that ends before its end: nobody knows what is missing."""


@dataclass(frozen=True, slots=True)
class Advisory:
    """One record of a source."""

    id: str
    kind: str
    """`cve`: of one vulnerability, by the vendor who tracks it; `notice`: of an update; `bulletin`: of a vendor's product."""
    cves: tuple[str, ...]
    summary: str
    severity: str | None
    """By the vendor's word, else by its CVSS score."""
    published: datetime | None
    modified: datetime | None


@dataclass(frozen=True, slots=True)
class Range:
    """Versions of a package that an advisory concerns: from `low`, to before `high`."""

    advisory: str
    cves: tuple[str, ...]
    """Those of the advisory that concern this package; its own id if it has none."""
    ecosystem: str
    """ubuntu, debian, rocky, alma, redhat, pypi or nvidia."""
    release: str
    """Release of the distribution, such as 22.04 or 12; of an NVIDIA driver its branch; else empty."""
    tier: str
    """`base`; of Ubuntu Pro the service that has the fix, such as esm-apps; of an NVIDIA driver the product line."""
    package: str
    """Source package, package of PyPI in normal form, or product."""
    kind: str
    """How its versions sort: dpkg, rpm, pep440 or dotted."""
    low: str | None
    high: str | None
    """None: no end is known."""
    inclusive: bool
    """`high` itself is concerned too."""
    fixed: str | None
    """The version to update to."""
    severity: str | None
    unparsed: str = ""
    """A text that says which versions, and was not understood; then `low` and `high` say nothing."""


@dataclass(frozen=True, slots=True)
class Livepatch:
    """A vulnerability that a live patch closes, for the kernels of one source package. Source: Livepatch Security Notices."""

    notice: str
    cve: str
    release: str
    package: str
    kernel: str
    """Least version of the kernel that it is made for."""


@dataclass(frozen=True, slots=True)
class Exploited:
    """A vulnerability that is known to be exploited. Source: CISA's catalogue."""

    cve: str
    added: datetime
    due: datetime | None
    ransomware: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How likely it is that a vulnerability is exploited within 30 days. Source: FIRST's EPSS."""

    cve: str
    probability: float
    percentile: float


@dataclass
class Batch:
    """Records of some documents, and what was wrong with others."""

    advisories: list[Advisory] = field(default_factory=list)
    ranges: list[Range] = field(default_factory=list)
    livepatches: list[Livepatch] = field(default_factory=list)
    exploited: list[Exploited] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    as_of: datetime | None = None
    """The newest time that the documents name."""
    documents: int = 0
    withdrawn: int = 0

    def saw(self, *times: datetime | None) -> None:
        """Take in when a document was made or changed."""
        for time in times:
            if time is not None and (self.as_of is None or time > self.as_of):
                self.as_of = time


def moment(text: object) -> datetime | None:
    """A time as naive UTC, from a text or as YAML reads it; None for what is none."""
    if not isinstance(text, str | datetime):
        return None
    try:
        found = text if isinstance(text, datetime) else datetime.fromisoformat(text.strip()[:40])
        return found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
    except (ValueError, OverflowError):
        return None


def line(text: object) -> str:
    """A text as one line without control characters, cut."""
    words = " ".join(str(text or "").split())
    return "".join(c for c in words if c.isprintable())[:TEXT_CAP]


def severity_of(word: object) -> str | None:
    """A vendor's word in ours."""
    known = {
        "negligible": "info", "unimportant": "info", "none": "info", "low": "low", "medium": "medium", "moderate": "medium", "high": "high",
        "important": "high", "critical": "critical",
    }  # fmt: skip
    return known.get(str(word).lower()) if isinstance(word, str) else None


def severity_by_vector(vectors: list[str]) -> str | None:
    """By the highest version of CVSS among some vectors."""
    from cvss import CVSS2, CVSS3, CVSS4, CVSSError

    found: dict[int, str] = {}
    for vector in vectors[:10]:
        number, made = (4, CVSS4) if vector.startswith("CVSS:4") else (3, CVSS3) if vector.startswith("CVSS:3") else (2, CVSS2)
        try:
            word = severity_of(str(made(vector[:300]).severities()[0]))
        except (CVSSError, ValueError, KeyError):
            continue
        if word:
            found[number] = word
    return found[max(found)] if found else None
