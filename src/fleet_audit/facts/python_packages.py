# SPDX-License-Identifier: Apache-2.0
"""Installed Python packages and where they lie. It cannot know what lies outside the folders that are searched."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.model import Source, SourceId
from fleet_audit.versions import key

_LIB = "lib*/python[23]*/site-packages"
_IMAGES = (
    "/var/lib/docker/overlay2/*/diff",
    "/var/lib/containers/storage/overlay/*/diff",
    "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs",
    "/var/lib/rancher/*/agent/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/*/fs",
)
_HOMES = ("*", "*/venv", "*/.venv", "*/env", "*/envs/*", ".virtualenvs/*", ".pyenv/versions/*", ".local/share/uv/tools/*",
          ".local/share/pipx/venvs/*", ".local/pipx/venvs/*", ".cache/pypoetry/virtualenvs/*", ".conda/envs/*")  # fmt: skip
_PLACES = (
    "/opt/*",
    "/opt/*/*",
    "/opt/*/envs/*",
    "/srv/*",
    "/srv/*/*",
    "/usr/local/*",
    "/usr/local/*/*",
    "/usr/local/*/envs/*",
    "/var/lib/*/venv",
)

DISTS = Source(
    SourceId("python-dists"), "dists",
    {"roots": {
        "system": ["/usr/lib*/python[23]*/dist-packages", f"/usr/{_LIB}"],
        "local": ["/usr/local/lib*/python[23]*/dist-packages", f"/usr/local/{_LIB}"],
        "venv": [f"{place}/{_LIB}" for place in _PLACES],
        "conda-meta": [f"{place}/conda-meta" for place in _PLACES],
        "image": [f"{image}/{place}" for image in _IMAGES for place in
                  ("usr/lib/python3/dist-packages", f"usr/{_LIB}", "usr/local/lib/python[23]*/dist-packages", f"usr/local/{_LIB}",
                   f"opt/*/{_LIB}", f"opt/*/envs/*/{_LIB}")],
     },
     "homes": {"user": [f".local/{_LIB}"], "venv": [f"{place}/{_LIB}" for place in _HOMES],
               "conda-meta": [f"{place}/conda-meta" for place in ("*", "*/envs/*", ".conda/envs/*")]},
     "seconds": 15},
    "Core metadata specifications of packaging.python.org (dist-info, egg-info, INSTALLER, direct_url.json); conda-meta of conda. "
    "Names, versions and origins; nothing is imported.",
    needs_root=True, timeout_s=30.0, cap_bytes=16 << 20,
)  # fmt: skip


@dataclass(frozen=True)
class PythonEnvironment:
    """A folder of installed packages. No rows where the folders that are searched hold none. Source: a walk over known places."""

    folder: Annotated[str, "Folder: site-packages, dist-packages or conda-meta"]
    kind: Annotated[
        str, "system, local (of the whole system, by hand), venv, conda, user (pip's --user) or image (a layer of a container image)"
    ]
    user_name: Annotated[str | None, "In whose home it lies; NULL outside of homes"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int | None, "Group; NULL: an older recording does not tell"]
    mode: Annotated[int, "Permission bits"]
    group_writable: Annotated[bool, "Its group may add packages"]
    world_writable: Annotated[bool, "Everyone may add packages"]
    python: Annotated[str | None, "Version of Python by the path, such as 3.11; NULL where the path has none"]


@dataclass(frozen=True)
class PythonPackage:
    """An installed Python package. In image layers a later layer may have taken it away. Source: names of metadata folders."""

    environment: Annotated[str, "Folder, as in python_environments"]
    name: Annotated[str, "Name in normal form, as PEP 503 has it"]
    version: Annotated[str | None, "Version, as its metadata has it"]
    version_key: Annotated[str | None, "Sortable key of the version, of kind pep440"]
    distribution: Annotated[
        bool | None, "The distribution's package manager owns it, with patches of its own; NULL where that does not show"
    ]
    installer: Annotated[str | None, "What installed it, by its own word: pip, uv, conda, debian, rpm"]
    origin: Annotated[str | None, "Not from an index: editable, vcs, file or url"]
    form: Annotated[str, "dist-info, egg-info or conda"]


def _document(evidence: Bundle) -> tuple[list[Any], list[Any]]:
    """Roots and distributions, with the reader's gaps noted."""
    match evidence.document(DISTS):
        case {"roots": list(roots), "dists": list(dists), "gaps": list(gaps)}:
            for gap in gaps:
                evidence.gap(DISTS, str(gap))
            return roots, dists
    raise NotUnderstood(f"{DISTS.id}: not what the reader says")


def _environments(evidence: Bundle, roots: list[Any]) -> list[PythonEnvironment | None]:
    """The roots in order; None for one that is not understood."""
    meta = {
        root[0].removesuffix("/conda-meta") for root in roots if isinstance(root, list) and root and str(root[0]).endswith("/conda-meta")
    }
    found: list[PythonEnvironment | None] = []
    for root in roots:
        match root:
            case [str(folder), str(kind), str() | None as user, int(uid), int(mode), *rest] if len(rest) < 2:
                gid = rest[0] if rest and type(rest[0]) is int else None
                version = re.search(r"/python([23](?:\.[0-9]+)?)/[^/]+$", folder)
                python = version[1] if version and "." in version[1] else None
                word = _kind(folder, kind, meta)
                found.append(PythonEnvironment(folder, word, user, uid, gid, mode, bool(mode & 0o020), bool(mode & 0o002), python))
            case _:
                evidence.gap(DISTS, "a folder is not understood")
                found.append(None)
    return found


def _kind(folder: str, kind: str, meta: set[str]) -> str:
    """The kind of a folder by where it really lies: a link in an image or a home may lead out of it."""
    if kind == "conda-meta" or re.sub(r"/lib[^/]*/python[^/]*/[^/]+$", "", folder) in meta:
        return "conda"
    if kind == "image" and not folder.startswith("/var/lib/"):
        return "system" if folder.startswith("/usr/lib") else "local" if folder.startswith("/usr/local/lib") else "venv"
    return kind


def parse_environments(evidence: Bundle) -> Iterable[PythonEnvironment]:
    """A row per folder."""
    roots, _ = _document(evidence)
    return [row for row in _environments(evidence, roots) if row]


def parse_packages(evidence: Bundle) -> Iterable[PythonPackage]:
    """A row per package and folder."""
    roots, dists = _document(evidence)
    places = _environments(evidence, roots)
    for dist in dists:
        match dist:
            case [int(index), str(name), str() | None as version, str() | None as installer, str() | None as origin, str(form)] if (
                0 <= index < len(places) and (place := places[index]) and re.fullmatch(r"[A-Za-z0-9._-]+", name)
            ):
                title = name.lower() if form == "conda" else re.sub(r"[-_.]+", "-", name).lower()
                sortable = key("pep440", version) if version else None
                owned = _distribution(place, installer)
                yield PythonPackage(place.folder, title, version, sortable, owned, installer, origin, form)
            case _:
                evidence.gap(DISTS, "a package is not understood")


def _distribution(place: PythonEnvironment, installer: str | None) -> bool | None:
    """Whether the distribution's package manager owns a package.

    Debian Python Policy keeps /usr/lib/python3/dist-packages for Debian; elsewhere old packages of a
    distribution and what `setup.py install` puts beside them look alike.
    """
    if installer in ("debian", "rpm"):
        return True
    if installer or not (place.kind == "system" or (place.kind == "image" and re.search(r"/(?:diff|fs)/usr/lib", place.folder))):
        return False
    return True if place.folder.endswith("/usr/lib/python3/dist-packages") else None


TABLES = (
    Table("python_environments", PythonEnvironment, (DISTS,), parse_environments),
    Table("python_packages", PythonPackage, (DISTS,), parse_packages),
)
