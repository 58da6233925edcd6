# SPDX-License-Identifier: Apache-2.0
"""Files, folders and archives of advisories: each document is recognised by what it holds and handed to the module of its format."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import yaml

from fleet_audit.advisories import debian, exploited, nvidia, osv, redhat, vex
from fleet_audit.advisories.records import Batch, Broken, Foreign, Refused
from fleet_audit.safeyaml import Loader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

DOCUMENT_CAP = 256 << 20
"""Bytes of one document, unpacked: Debian's tracker has some 70 MB."""
YAML_CAP = 4 << 20
DOCUMENTS_CAP = 3_000_000
SOURCES = {
    "ubuntu": "Ubuntu security notices, CVEs and Livepatch notices (OSV)", "ubuntu-vex": "Ubuntu, what is not affected (OpenVEX)",
    "debian": "Debian (OSV, security tracker, list of DSAs)", "redhat": "Red Hat Enterprise Linux (VEX, CSAF)",
    "rocky": "Rocky Linux (OSV)", "alma": "AlmaLinux (OSV)",
    "pypi": "PyPI (PyPA, GitHub; OSV)", "nvidia": "NVIDIA security bulletins (CSAF)", "kev": "CISA, known exploited vulnerabilities",
    "epss": "FIRST, exploit prediction scores",
}  # fmt: skip
_PASSED_OVER = re.compile(
    r"(?i)^(?:readme|licen[cs]e|copying|notice|changelog|contributing)(?:\.(?:md|txt|rst))?$|\.(?:md|sha256|asc|sig|html)$|schema[^/]*\.json$"
)
"""Files that lie beside advisories and are none."""


def documents(path: Path) -> Iterator[tuple[str, Callable[[], bytes] | Refused]]:
    """(name, how to read its bytes) of every document of a file, a folder or an archive. Raises `OSError` for what cannot be opened."""
    if path.is_dir():
        for top, folders, names in os.walk(path):
            folders.sort()
            for name in sorted(names):
                file = Path(top, name)
                yield from documents(file) if file.is_file() and not file.is_symlink() else ()
        return
    name = str(path)
    if _PASSED_OVER.search(path.name):
        return
    if re.search(r"\.tar(?:\.(?:gz|xz|bz2|zst))?$|\.tgz$", path.name):
        yield from _tar(path)
    elif path.suffix == ".zip":
        yield from _zip(path)
    elif path.suffix == ".gz":
        yield name, partial(_file, path, packed=True)
    else:
        yield name, partial(_file, path)


def _tar(path: Path) -> Iterator[tuple[str, Callable[[], bytes] | Refused]]:
    """Members in the archive's order, never unpacked to disk."""
    try:
        with _unpacked(path) as packed, tarfile.open(fileobj=packed, mode="r|*") as archive:
            for member in archive:
                if member.isfile() and not _PASSED_OVER.search(os.path.basename(member.name)):
                    handle = archive.extractfile(member)
                    if handle is not None:
                        data = _capped(handle) if member.size <= DOCUMENT_CAP else b""
                        yield f"{path}!{member.name}", partial(bytes, data) if data or not member.size else Refused("too long")
    except (tarfile.TarError, EOFError, zlib.error, zstd.ZstdError, OSError) as error:
        yield str(path), Broken(f"the archive is broken: {error}")


def _unpacked(path: Path) -> IO[bytes]:
    """The archive's bytes; of those that tarfile does not know itself, unpacked."""
    return cast("IO[bytes]", zstd.open(path, "rb")) if path.suffix == ".zst" else path.open("rb")


def _zip(path: Path) -> Iterator[tuple[str, Callable[[], bytes] | Refused]]:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir() and not _PASSED_OVER.search(os.path.basename(member.filename)):
                    try:
                        data = _capped(archive.open(member))
                    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError, NotImplementedError, Refused) as error:
                        yield f"{path}!{member.filename}", Refused(str(error))
                        continue
                    yield f"{path}!{member.filename}", partial(bytes, data)
    except (zipfile.BadZipFile, OSError) as error:
        yield str(path), Broken(f"the archive is broken: {error}")


def _file(path: Path, *, packed: bool = False) -> bytes:
    return _capped(gzip.GzipFile(path) if packed else path.open("rb"))


def _capped(handle: IO[bytes] | gzip.GzipFile) -> bytes:
    with handle:
        data = handle.read(DOCUMENT_CAP + 1)
    if len(data) > DOCUMENT_CAP:
        raise Refused(f"longer than {DOCUMENT_CAP >> 20} MiB")
    return data


def read(name: str, data: bytes, batches: Mapping[str, Batch]) -> str:
    """Take in one document; the source that it belongs to. Raises `Refused`; then nothing of it is taken in."""
    scratch = Batch()
    try:
        source = _recognised(name, data, scratch)
    except (TypeError, AttributeError, KeyError, ValueError, RecursionError) as error:  # of another shape than the format says
        raise Refused(f"not what it should be: {type(error).__name__}: {error}") from None
    batch = batches[source]
    for field in ("advisories", "ranges", "livepatches", "exploited", "scores"):
        getattr(batch, field).extend(getattr(scratch, field))
    batch.saw(scratch.as_of)
    batch.documents += 1
    batch.withdrawn += scratch.withdrawn
    return source


def _recognised(name: str, data: bytes, batch: Batch) -> str:
    stem = name.rpartition("!")[2] or name
    text = data.decode("utf-8", "replace")
    if re.search(r"\.csv(?:\.gz)?$", stem):
        exploited.read_table(text, batch)
        return "epss" if batch.scores else "kev"
    if re.match(r"\s*\[[0-9]{2} [A-Z][a-z]{2} [0-9]{4}\] (?:DSA|DLA)-", text):
        debian.read_notices(text, batch)
        return "debian"
    return _document(_yaml(data) if re.search(r"\.ya?ml$", stem) else _json(text), batch)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"no JSON: {error}") from None


def _yaml(data: bytes) -> Any:
    if len(data) > YAML_CAP or re.search(rb"(?m)[:-] &\w", data):
        raise Refused("YAML that is too long, or has anchors")
    try:
        return yaml.load(io.BytesIO(data), Loader)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise Refused(f"no YAML: {str(error).splitlines()[0]}") from None


_OSV = {
    "UBUNTU-CVE": "ubuntu", "USN": "ubuntu", "LSN": "ubuntu", "DEBIAN-CVE": "debian", "DSA": "debian", "DLA": "debian", "DTSA": "debian",
    "RLSA": "rocky", "RXSA": "rocky", "ALSA": "alma", "ALBA": "alma", "ALEA": "alma", "PYSEC": "pypi", "GHSA": "pypi", "MAL": "pypi",
}  # fmt: skip


def _document(value: Any, batch: Batch) -> str:
    if not isinstance(value, dict):
        raise Refused("not an object")
    if "affected" in value and isinstance(value.get("id"), str):
        prefix = next((p for p in sorted(_OSV, key=len, reverse=True) if value["id"].startswith(f"{p}-")), None)
        if prefix is None:
            raise Foreign(f"{value['id'][:60]} is of a database that is not known")
        osv.read(value, batch)
        return _OSV[prefix]
    about = value.get("document")
    if isinstance(about, dict) and "csaf_version" in about:
        publisher = about.get("publisher")
        namespace = str(publisher.get("namespace", "")) if isinstance(publisher, dict) else ""
        if re.fullmatch(r"https://(?:www\.)?redhat\.com/?", namespace):
            redhat.read(value, batch)
            return "redhat"
        if "nvidia.com" not in namespace:
            raise Foreign(f"CSAF of {namespace[:80] or 'an unnamed publisher'}, which is none of the sources")
        nvidia.read(value, batch)
        return "nvidia"
    if "statements" in value:
        vex.read(value, batch)
        return "ubuntu-vex"
    if "vulnerabilities" in value and "catalogVersion" in value:
        exploited.read_catalogue(value, batch)
        return "kev"
    if value and all(isinstance(v, dict) for v in value.values()) and any(str(k).startswith("CVE-") for v in value.values() for k in v):
        debian.read_tracker(value, batch)
        return "debian"
    raise Foreign("no format of advisories that is known")
