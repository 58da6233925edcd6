# SPDX-License-Identifier: Apache-2.0
"""Data, checkpoints and models in the folders that the policy names: by metadata, first bytes, and digests that fs-verity holds already.

It reads no content, so it cannot know whether a file is the one that was approved unless fs-verity or a manifest says so.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, utc
from fleet_audit.model import Source, SourceId, Status

DATA = Source(
    SourceId("data-folders"), "data", {"entries": 100_000, "seconds": 8, "cpu": 0.5, "models": 5000},
    "inode(7) of what lies in the policy's folders; a model's first 16 bytes (magic numbers of each format); FS_IOC_MEASURE_VERITY of the"
    " kernel's fs-verity document; manifests of OpenSSF Model Signing (model.sig) and of `fsverity digest`.",
    needs_root=True, timeout_s=20.0, cap_bytes=8 << 20,
)  # fmt: skip


@dataclass(frozen=True)
class DataFolder:
    """A folder that the policy names, a row for each. No rows where it names none. Source: a walk over it."""

    path: Annotated[str, "Folder, as the policy names it"]
    kind: Annotated[str, "data, checkpoints or models"]
    present: Annotated[bool | None, "It is there; NULL: it could not be looked at, or a network file system is not looked at by this host"]
    whole: Annotated[bool, "All of it was looked at; else the counts are of a part"]
    real_path: Annotated[str | None, "Folder to which links lead"]
    mode: Annotated[int | None, "Permission bits"]
    uid: Annotated[int | None, "Owner"]
    gid: Annotated[int | None, "Group"]
    files: Annotated[int | None, "Regular files in it"]
    folders: Annotated[int | None, "Folders in it"]
    size_bytes: Annotated[int | None, "Sum of the files' sizes"]
    newest_at: Annotated[datetime | None, "Latest change of a file's content; NULL: no files"]


@dataclass(frozen=True)
class DataOddity:
    """What all can write, runs with its owner's rights, or is a device, in a data folder of the policy. Source: inode(7)."""

    folder: Annotated[str, "Folder of the policy"]
    path: Annotated[str, "Path of it"]
    kind: Annotated[str, "file, folder, device or other"]
    world_writable: Annotated[bool, "All can write it; of folders those without the sticky bit"]
    set_id: Annotated[bool, "A file with a set-user-id or set-group-id bit"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]


@dataclass(frozen=True)
class ModelFile:
    """A file of a model by its name's ending, in such a folder. Source: its inode and first 16 bytes."""

    folder: Annotated[str, "Folder of the policy"]
    path: Annotated[str, "Path of it"]
    format: Annotated[
        str | None, "pickle, zip, safetensors, gguf, onnx, hdf5, numpy or tensorrt by its first bytes; NULL: they do not tell"
    ]
    runs_code: Annotated[bool | None, "Loading it as usual can run code in it: pickles and archives with them; NULL: not told by its bytes"]
    mode: Annotated[int, "Permission bits"]
    uid: Annotated[int, "Owner"]
    gid: Annotated[int, "Group"]
    size_bytes: Annotated[int, "Size"]
    changed_at: Annotated[datetime | None, "When its content was changed last"]
    verity: Annotated[str | None, "Digest that fs-verity enforces, ALGORITHM:HEX; empty: none; NULL: not read"]


@dataclass(frozen=True)
class ModelManifest:
    """A file that a manifest in such a folder names. Source: model.sig, model.sigstore.json, fsverity.digests; signatures are not checked."""

    folder: Annotated[str, "Folder of the policy"]
    manifest: Annotated[str, "Path of the manifest"]
    name: Annotated[str, "File as the manifest names it"]
    algorithm: Annotated[str, "Algorithm of the digest, such as sha256"]
    digest: Annotated[str, "Digest that the file should have, in hex"]
    present: Annotated[bool | None, "The file is there; NULL: not told, as only files of models are listed"]
    matches: Annotated[bool | None, "fs-verity enforces this digest on it; NULL: no fs-verity digest to compare with"]


_MODEL = re.compile(
    r"\.(?:pt|pth|bin|ckpt|pkl|pickle|joblib|dill|safetensors|gguf|ggml|onnx|h5|hdf5|keras|npy|npz|msgpack|mar|engine|plan)$", re.I
)
"""Endings of the files that the reader takes for models."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".dill", ".mar")
"""Endings of zip files with pickles (torch.save), or with Python code (TorchServe's archives)."""
_INERT = frozenset({"safetensors", "gguf", "onnx"})


def runs_code(path: str, form: str | None) -> bool | None:
    """Whether loading such a file as usual can run code. HDF5, Keras and NumPy files and TensorRT engines depend on the loader."""
    if form == "pickle" or (form == "zip" and path.lower().endswith(_PICKLES)):
        return True
    return False if form in _INERT else None


def _folders(evidence: Bundle) -> list[dict[str, Any]]:
    rows = evidence.document(DATA)
    if not isinstance(rows, list) or not all(isinstance(row, dict) and isinstance(row.get("path"), str) for row in rows):
        raise NotUnderstood(f"{DATA.id}: no list of folders")
    for row in rows:
        if row.get("status") != Status.ABSENT and (row.get("status") != Status.OK or row.get("why") != ""):
            evidence.gap(DATA, f"{row['path']}: {row.get('why') or row.get('status')}")
    return rows


def _looked_at(evidence: Bundle) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from ((row["path"], row) for row in _folders(evidence) if row.get("status") == Status.OK)


def parse_folders(evidence: Bundle) -> Iterator[DataFolder]:
    """A row per folder that the policy names."""
    for row in _folders(evidence):
        if row.get("status") != Status.OK:
            there = False if row.get("status") == Status.ABSENT else None
            yield DataFolder(row["path"], row["kind"], there, False, *[None] * 8)
            continue
        newest = utc(row["newest"]) if row["newest"] else None
        yield DataFolder(
            row["path"], row["kind"], True, row["why"] == "", row["real"], row["mode"], row["uid"], row["gid"], row["files"], row["folders"],
            row["bytes"], newest,
        )  # fmt: skip


def parse_oddities(evidence: Bundle) -> Iterator[DataOddity]:
    """A row per file or folder with odd rights."""
    for folder, row in _looked_at(evidence):
        for path, mode, uid, _, _, _, kind in row["odd"]:
            open_to_all = bool(mode & 0o002) and not (kind == "folder" and mode & 0o1000)
            yield DataOddity(folder, path, kind, open_to_all, kind == "file" and bool(mode & 0o6000), mode, uid)


def parse_models(evidence: Bundle) -> Iterator[ModelFile]:
    """A row per file of a model."""
    for folder, row in _looked_at(evidence):
        for (path, mode, uid, gid, size, changed), seen in row["models"]:
            unread = "unread" in seen or seen["verity"] == "?"
            if unread:
                evidence.gap(DATA, f"{path}: {seen.get('unread') or 'its fs-verity digest was not read'}")
            verity = None if unread else seen["verity"] or ""
            yield ModelFile(folder, path, seen["format"], runs_code(path, seen["format"]), mode, uid, gid, size, utc(changed), verity)


def parse_manifests(evidence: Bundle) -> Iterator[ModelManifest]:
    """A row per file that a manifest names."""
    for folder, row in _looked_at(evidence):
        digests = {entry[0]: seen["verity"] for entry, seen in row["models"]}
        for manifest, names in sorted(row["manifests"].items()):
            if not isinstance(names, list):
                evidence.gap(DATA, f"{manifest}: {names or 'not understood'}")
                continue
            measured = manifest.endswith("/fsverity.digests")
            for name, algorithm, digest in names:
                path = posixpath.normpath(posixpath.join(posixpath.dirname(manifest), name))
                inside = path.startswith(row["real"].rstrip("/") + "/") and _MODEL.search(path)
                present = True if path in digests else False if inside and row["why"] == "" else None
                verity = digests.get(path)
                matches = f"{algorithm}:{digest}" == verity if measured and verity not in (None, "?") else None
                yield ModelManifest(folder, manifest, name, algorithm, digest, present, matches)


TABLES = (
    Table("data_folders", DataFolder, (DATA,), parse_folders),
    Table("data_oddities", DataOddity, (DATA,), parse_oddities),
    Table("model_files", ModelFile, (DATA,), parse_models),
    Table("model_manifests", ModelManifest, (DATA,), parse_manifests),
)
