# SPDX-License-Identifier: Apache-2.0
"""Downloads advisories: only what has changed, taken up where it broke off, within a limit of size."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from fleet_audit import __version__
from fleet_audit.advisories.database import Database, Imported
from fleet_audit.model import FleetAuditError

OSV = "https://storage.googleapis.com/osv-vulnerabilities"
URLS: Mapping[str, str] = {
    "ubuntu": "https://security-metadata.canonical.com/osv/osv-all.tar.xz",
    "ubuntu-vex": "https://security-metadata.canonical.com/vex/vex-all.tar.xz",
    "debian": "https://security-tracker.debian.org/tracker/data/json",
    "redhat": "https://security.access.redhat.com/data/csaf/v2/vex/archive_latest.txt",
    "rocky": f"{OSV}/Rocky%20Linux/all.zip",
    "alma": f"{OSV}/AlmaLinux/all.zip",
    "pypi": f"{OSV}/PyPI/all.zip",
    "nvidia": "https://github.com/NVIDIA/product-security/archive/refs/heads/main.zip",
    "kev": "https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json",
    "epss": "https://epss.empiricalsecurity.com/epss_scores-current.csv.gz",
}
NAMES = {
    "ubuntu": "osv.tar.xz", "ubuntu-vex": "vex.tar.xz", "debian": "tracker.json", "redhat": "vex.tar.zst", "kev": "kev.json", "epss": "epss.csv.gz",
}  # fmt: skip
"""What a download is called, which says what it is; the others are zip archives."""
SIZE_CAP = 4 << 30
TRIES = 3
_TIMEOUT = httpx.Timeout(30.0, connect=15.0)


@dataclass(frozen=True)
class Updated:
    """What became of one source."""

    source: str
    changed: bool
    imported: Imported | None = None
    problem: str = ""
    """Why it was not updated; what was there before is still in use."""


def update(
    database: Database, sources: Iterable[str], urls: Mapping[str, str], told: Callable[[str, int, int | None], None] = lambda *_: None, *,
    fewer: bool = False,
) -> list[Updated]:  # fmt: skip
    """Download and take in sources, each for itself; `told` is called with source, bytes so far, and bytes in all if known.

    With `fewer` a source may come to have less than half as many documents.
    """
    folder = database.folder / "downloads"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    done = []
    with httpx.Client(follow_redirects=True, timeout=_TIMEOUT, headers={"User-Agent": f"fleet-audit/{__version__}"}) as client:
        for source in sources:
            try:
                done.append(_one(database, client, folder, source, urls[source], told, fewer))
            except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
                done.append(Updated(source, False, problem=f"{urls[source]}: {error or type(error).__name__}"))
            except FleetAuditError as error:
                done.append(Updated(source, False, problem=str(error)))
    return done


def _one(
    database: Database, client: httpx.Client, folder: Path, source: str, url: str, told: Callable[[str, int, int | None], None], fewer: bool
) -> Updated:
    """Download one source if it has changed, and put it in place."""
    url = _newest(client, url)
    known = _known(folder, source, url)
    there = source in database.manifest().sources
    path = folder / f"{source}-{NAMES.get(source, 'all.zip')}"
    found = _download(client, url, path, known if there else {}, lambda so_far, total: told(source, so_far, total))
    now = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    if found is None:
        database.checked(source, now)
        return Updated(source, False)
    try:
        taken = database.take([path], url, only=source, checked_at=now, fewer=fewer)
        if why := taken.kept.get(source):
            return Updated(source, False, problem=f"{url}: {why}")
        (folder / f"{source}.json").write_text(json.dumps({"url": url, **found}), encoding="utf-8")
    finally:
        path.unlink(missing_ok=True)
    return Updated(source, True, taken)


def _newest(client: httpx.Client, url: str) -> str:
    """The address of the newest archive, where a small text beside the archives names it; else the address itself."""
    if not url.endswith("_latest.txt"):
        return url
    with client.stream("GET", url) as response:
        if response.status_code != httpx.codes.OK:
            raise FleetAuditError(f"{url}: the server says {response.status_code} {response.reason_phrase}")
        name = next(response.iter_bytes(1000), b"").decode("ascii", "replace").strip()
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", name):
        raise FleetAuditError(f"{url}: it names no archive")
    return url.rpartition("/")[0] + f"/{name}"


def _known(folder: Path, source: str, url: str) -> dict[str, str]:
    """What the server called the version that is in use, if it was of the same address."""
    try:
        known = json.loads((folder / f"{source}.json").read_bytes())
    except (OSError, ValueError):
        return {}
    fits = isinstance(known, dict) and known.get("url") == url
    return {name: str(known[name]) for name in ("etag", "last-modified") if name in known} if fits else {}


def _download(
    client: httpx.Client, url: str, path: Path, known: Mapping[str, str], told: Callable[[int, int | None], None]
) -> dict[str, str] | None:
    """The validators of what was downloaded to `path`; None if it has not changed. A connection that breaks is taken up again."""
    headers = {name: known[key] for name, key in (("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")) if key in known}
    part, validators = path.with_name(f"{path.name}.part"), dict[str, str]()
    part.unlink(missing_ok=True)
    for attempt in range(TRIES):
        size = part.stat().st_size if part.exists() else 0
        more = {"Range": f"bytes={size}-", "If-Range": validators["etag"]} if size and "etag" in validators else {}
        try:
            with client.stream("GET", url, headers={**({} if size else headers), **more, "Accept-Encoding": "identity"}) as response:
                if response.status_code == httpx.codes.NOT_MODIFIED:
                    return None
                if response.status_code >= 500 and attempt + 1 < TRIES:
                    time.sleep(2**attempt)
                    continue
                if response.status_code not in (httpx.codes.OK, httpx.codes.PARTIAL_CONTENT):
                    raise FleetAuditError(f"{url}: the server says {response.status_code} {response.reason_phrase}")
                validators = {name: response.headers[name] for name in ("etag", "last-modified") if name in response.headers}
                _keep(response, part, size if response.status_code == httpx.codes.PARTIAL_CONTENT else 0, url, told)
            part.rename(path)
            return validators
        except httpx.TransportError as error:
            if attempt + 1 == TRIES:
                part.unlink(missing_ok=True)
                raise FleetAuditError(f"{url}: {error or type(error).__name__}, {TRIES} times") from None
            time.sleep(2**attempt)
        except FleetAuditError:
            part.unlink(missing_ok=True)
            raise
    raise FleetAuditError(f"{url}: the server fails, {TRIES} times")


def _keep(response: httpx.Response, part: Path, size: int, url: str, told: Callable[[int, int | None], None]) -> None:
    """Write a response's body behind what is there. Raises `FleetAuditError` if it is too long, or shorter than was said."""
    length = response.headers.get("content-length", "")
    total = size + int(length) if length.isdigit() else None
    with part.open("r+b" if size else "wb") as out:
        out.seek(size)
        out.truncate()
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > SIZE_CAP:
                raise FleetAuditError(f"{url}: longer than {SIZE_CAP >> 30} GiB")
            out.write(chunk)
            told(size, total)
        out.flush()
        os.fsync(out.fileno())
    if total is not None and size != total:
        raise httpx.ReadError(f"{size:,} of {total:,} bytes came")


def as_dict(updated: Updated) -> dict[str, Any]:
    """For programs."""
    refused = updated.imported.refused_count if updated.imported else 0
    return {"source": updated.source, "changed": updated.changed, "refused": refused, "problem": updated.problem or None}
