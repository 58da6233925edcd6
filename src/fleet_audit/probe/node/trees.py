# SPDX-License-Identifier: Apache-2.0
"""The readers that walk: installed Python distributions, and the data folders that the request names. Bounded in entries and seconds."""

import binascii
import errno
import fcntl
import json
import os
import re
import stat
import struct
import time

from fleet_audit.probe.node.accounts import accounts
from fleet_audit.probe.node.base import ARCHIVE, DATA, Unread, clean, dump, reader, text, why

DIST_LIMIT = 60000
MANIFEST_LIMIT = 4 << 20  # bytes
NAME_LIMIT = 20000  # names in a manifest
ODD_LIMIT = 5000
VERITY = 0xC0046686  # FS_IOC_MEASURE_VERITY: _IOWR('f', 134, struct fsverity_digest)
MODEL = re.compile(
    r"(?i)\.(?:pt|pth|bin|ckpt|pkl|pickle|joblib|dill|safetensors|gguf|ggml|onnx|h5|hdf5|keras|npy|npz|msgpack|mar|engine|plan)$"
)
MANIFESTS = ("model.sig", "model.sigstore.json", "fsverity.digests")
MAGIC = (
    (b"GGUF", "gguf"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"PK\x03\x04", "zip"),
    (b"ftrt", "tensorrt"),
)


# --- Python ------------------------------------------------------------------------------------


def small(files, path, limit=4096):
    """The head of a small file as text, None if there is none or it may not be read."""
    try:
        return text(files.read(path, limit)[:limit])
    except Unread:
        return None


def dist(files, root, name):
    """(name, version, installer, editable, form) of an entry that belongs to a distribution, else None."""
    match = re.match(r"(.+?)(?:-([^-]+?))?(?:-py[\d.]+.*)?\.(dist-info|egg-info)$", name)
    if not match or name.startswith("~"):
        return None
    path = root + "/" + name
    title, version, form = match.groups()
    if version is None:
        head = small(files, path + ("/METADATA" if form == "dist-info" else "/PKG-INFO")) or small(files, path) or ""
        found = re.search(r"^Version: *(\S+)", head, re.M)
        version = found.group(1) if found else None
    installer = (small(files, path + "/INSTALLER", 64) or "").strip() or None
    direct = small(files, path + "/direct_url.json") if installer not in ("debian", "rpm") else None
    origin = None
    if direct:
        origin = (
            "editable"
            if '"editable": true' in direct or '"editable":true' in direct
            else "vcs"
            if '"vcs_info"' in direct
            else "file"
            if '"file:' in direct
            else "url"
        )
    return [title, version, installer, origin, form]


def python_roots(files, spec):
    """{folder: (kind, user)} of where distributions may lie, and what could not be looked at."""
    found, gaps = {}, []

    def look(pattern, kind, user=None):
        try:
            for path in files.glob(pattern):
                real = files.resolve(path)
                if os.path.isdir(files.root + real):
                    found.setdefault(real, (kind, user))
        except Unread as unread:
            if unread.status != "absent":
                gaps.append("%s: %s %s" % (pattern, unread.status, unread.detail))

    for kind, patterns in sorted(spec["roots"].items()):
        for pattern in patterns:
            look(pattern, kind)
    for home, user in {home: user for user, _, home in reversed(accounts(files))}.items():
        if home in ("", "/", "/bin", "/sbin", "/dev", "/proc", "/usr/sbin", "/nonexistent", "/var", "/usr", "/run"):
            continue
        for kind, patterns in sorted(spec["homes"].items()):
            for pattern in patterns:
                look(home + "/" + pattern, kind, user)
    return found, gaps


@reader("dists")
def read_dists(files, spec):
    """{"roots": [[folder, kind, user, uid, mode, gid]], "dists": [[root, name, version, installer, origin, form]], "gaps": [...]}."""
    found, gaps = python_roots(files, spec)
    roots, dists, end = [], [], time.monotonic() + spec.get("seconds", 8)
    for root in sorted(found):
        if len(dists) > DIST_LIMIT or time.monotonic() > end:
            gaps.append("more than can be looked at: stopped before %s" % root)
            break
        kind, user = found[root]
        try:
            info = os.stat(files.root + root)
            names = files.listed(root)
        except OSError as error:
            gaps.append("%s: %s" % (root, error.strerror))
            continue
        except Unread as unread:
            gaps.append("%s: %s %s" % (root, unread.status, unread.detail))
            continue
        place = len(roots)
        roots.append([root, kind, user, info.st_uid, stat.S_IMODE(info.st_mode), info.st_gid])
        if kind == "conda-meta":
            dists += [
                [place, *name[:-5].rsplit("-", 2)[:2], "conda", None, "conda"]
                for name in sorted(names)
                if name.count("-") >= 2 and name.endswith(".json")
            ]
            continue
        for name in sorted(names):
            row = dist(files, root, name) if name.endswith("-info") else None
            if row:
                dists.append([place, *row])
    return dump({"roots": roots, "dists": dists, "gaps": gaps[:50]})


# --- Data folders ------------------------------------------------------------------------------


def format_of(name, head):
    """What a model file is by its first bytes: a word, or None if they do not tell."""
    for magic, word in MAGIC:
        if head.startswith(magic):
            return word
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= 100000000:  # the format's own limit
        return "safetensors"
    if head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5:
        return "pickle"
    if name.lower().endswith(".onnx") and head[:1] == b"\x08":
        return "onnx"
    return None


def opened(path):
    """A descriptor of a regular file that is no link, for reading, without touching its access time where that is allowed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(path, flags | os.O_NOATIME)
    except PermissionError:
        fd = os.open(path, flags)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.ELOOP, "no regular file any more")
    return fd


def look_at(path, name):
    """{"format", "verity"} of a model file: its first 16 bytes, and its fs-verity digest by ioctl."""
    row = {"format": None, "verity": None}
    try:
        fd = opened(path)
    except OSError as error:
        return {"format": None, "verity": None, "unread": error.strerror}
    try:
        row["format"] = format_of(name, os.read(fd, 16))
        answer = bytearray(struct.pack("=HH", 0, 64) + b"\0" * 64)
        fcntl.ioctl(fd, VERITY, answer)
        algorithm, size = struct.unpack("=HH", bytes(answer[:4]))
        row["verity"] = "%s:%s" % (
            {1: "sha256", 2: "sha512"}.get(algorithm, algorithm),
            binascii.hexlify(bytes(answer[4 : 4 + size])).decode(),
        )
    except OSError as error:  # a file without fs-verity says ENODATA, a file system without it ENOTTY
        row["verity"] = None if error.errno in (errno.ENODATA, errno.ENOTTY, errno.EOPNOTSUPP) else "?"
    finally:
        os.close(fd)
    return row


def manifest(path):
    """The names and digests that a manifest lists: `model.sig` of OpenSSF Model Signing, or `fsverity digest` output; or why not."""
    try:
        fd = opened(path)
        try:
            data = b""
            while len(data) <= MANIFEST_LIMIT:
                part = os.read(fd, 1 << 20)
                if not part:
                    break
                data += part
        finally:
            os.close(fd)
    except OSError as error:
        return why(error).status
    if len(data) > MANIFEST_LIMIT:
        return "truncated"
    if path.endswith("fsverity.digests"):
        found = [re.match(r"(sha\d+):([0-9a-f]{64,128})\s+(.+)$", line) for line in text(data).splitlines() if line.strip()]
        return [[m.group(3)[:1000], m.group(1), m.group(2)] for m in found] if all(found) and len(found) <= NAME_LIMIT else None
    try:
        payload = json.loads(binascii.a2b_base64(json.loads(data.decode())["dsseEnvelope"]["payload"]).decode())
        resources = [(r["name"], r["algorithm"], r["digest"]) for r in payload["predicate"]["resources"]]
        if len(resources) > NAME_LIMIT or not all(re.match(r"[0-9a-f]{32,128}$", digest) for _, _, digest in resources):
            return None
        return [[text(name.encode("utf-8", "backslashreplace"))[:1000], algorithm[:40], digest] for name, algorithm, digest in resources]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


class Walk:
    """A bounded walk over one data folder."""

    def __init__(self, files, spec, share):
        self.files, self.spec = files, spec
        self.left = {name: spec[name] // share for name in ("entries", "models")}
        self.end = time.monotonic() + spec["seconds"] / share
        self.cpu_end = time.process_time() + spec["cpu"] / share
        self.odd, self.models, self.manifests, self.gaps = [], [], {}, []
        self.total = {"files": 0, "folders": 0, "bytes": 0, "newest": 0}

    def run(self, real):
        """Walk it; returns why it is not whole, empty if it is."""
        device = os.lstat(self.files.root + real).st_dev
        todo, looked = [real], 0
        while todo:
            here = todo.pop()
            try:
                with os.scandir(self.files.root + here) as entries:
                    for entry in entries:
                        looked += 1
                        if looked > self.left["entries"]:
                            return "more than %d entries" % self.left["entries"]
                        if not looked % 128 and (time.monotonic() > self.end or time.process_time() > self.cpu_end):
                            return "more entries than there is time for, stopped after %d" % looked
                        path = here.rstrip("/") + "/" + entry.name
                        try:
                            info = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:  # it was removed since
                            continue
                        if stat.S_ISDIR(info.st_mode):
                            if path in self.files.mounts or info.st_dev != device:
                                self.gaps.append("%s is another file system" % clean(path))
                            else:
                                todo.append(path)
                                self.total["folders"] += 1
                        self.entry(path, entry, info)
            except OSError as error:
                self.gaps.append("%s: %s" % (clean(here), error.strerror))
        return "%d gaps, such as %s" % (len(self.gaps), self.gaps[0]) if self.gaps else ""

    def entry(self, path, entry, info):
        """Take in one entry."""
        mode, folder, regular = info.st_mode, stat.S_ISDIR(info.st_mode), stat.S_ISREG(info.st_mode)
        if regular:
            self.total["files"] += 1
            self.total["bytes"] += info.st_size
            self.total["newest"] = max(self.total["newest"], int(info.st_mtime))
        row = [clean(path), stat.S_IMODE(mode), info.st_uid, info.st_gid, info.st_size, int(info.st_mtime)]
        open_to_all = mode & 0o002 and not stat.S_ISLNK(mode) and not (folder and mode & 0o1000)
        device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
        if open_to_all or device or regular and mode & 0o6000:
            self.within(self.odd, "odd", row + ["folder" if folder else "file" if regular else "device" if device else "other"])
        if regular and MODEL.search(entry.name):
            self.within(self.models, "models", [row, None])
            if self.models and self.models[-1][0] is row:
                self.models[-1][1] = look_at(entry.path, entry.name)
        if regular and entry.name in MANIFESTS:
            self.manifests[clean(path)] = manifest(entry.path)

    def within(self, rows, kind, row):
        """Add a row, or once say that there are more than its limit."""
        limit = self.left.get(kind, ODD_LIMIT)
        if len(rows) < limit:
            rows.append(row)
        elif not any(kind in gap for gap in self.gaps if gap.startswith("more than")):
            self.gaps.append("more than %d %s" % (limit, kind))


@reader("data")
def read_data(files, spec):
    """A row per data folder of the request: what is in it, what is odd, its model files and manifests. Metadata and first 16 bytes only."""
    if ARCHIVE:
        raise Unread("absent", "not recorded")
    rows = []
    for entry in DATA:
        row = {"path": entry["path"], "kind": entry["kind"], "why": "", "status": "ok"}
        rows.append(row)
        mounts = files.mounts
        if entry["network"]:  # this one host reads it, but starts no mount for it
            files.mounts = {m: k for m, k in mounts.items() if k == "autofs"}
        files.folders = {"/": "/"}
        try:
            real = files.resolve(os.fsdecode(entry["path"].encode("utf-8", "surrogatepass")))
            info = files.lstat(real)
            if info["type"] != "dir":
                raise Unread("failed", "not a folder")
            walk = Walk(files, spec, len(DATA))
            row["why"] = walk.run(real)
        except Unread as unread:
            row["status"], row["why"] = ("skipped" if "network file system" in unread.detail else unread.status), unread.detail
            continue
        except OSError as error:
            row["status"], row["why"] = why(error).status, why(error).detail
            continue
        finally:
            files.mounts, files.folders = mounts, {"/": "/"}
        row.update(
            walk.total, real=clean(real), mode=info["mode"], uid=info["uid"], gid=info["gid"], odd=walk.odd, manifests=walk.manifests
        )
        row["models"] = walk.models
    return dump(rows)
