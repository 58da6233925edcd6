# SPDX-License-Identifier: Apache-2.0
"""What all parts of the program share."""

import errno
import gc
import json
import time


gc.disable()  # it lives for a second, and makes no cycles worth looking for
SOURCES = json.loads(globals().get("SOURCES") or "{}")
NVML_SHA256 = globals().get("NVML_SHA256") or ""
ARCHIVE = globals().get("ARCHIVE")  # a recorded node's folder: set by the archive transport alone
STARTED = time.time()
CLOCK = time.monotonic()
PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/snap/bin")
ENV = {
    "PATH": ":".join(PATH),
    "LC_ALL": "C",
    "LANG": "C",
    "LANGUAGE": "C",
    "TZ": "UTC",
    "HOME": "/nonexistent",
    "SYSTEMD_PAGER": "",
    "PAGER": "cat",
    "SYSTEMD_COLORS": "0",
    "NO_COLOR": "1",
    "DEBIAN_FRONTEND": "noninteractive",
}
NETWORK_FS = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "lustre",
    "beegfs",
    "gpfs",
    "wekafs",
    "glusterfs",
    "panfs",
    "orangefs",
    "ocfs2",
    "gfs2",
    "autofs",
    "ncpfs",
    "coda",
)
DATA = []  # data folders of the request: {"path", "kind", "network"}, checked by `data_folders`
READERS = {}  # name -> what takes (files, a source's definition) and returns bytes, or raises Unread
FLUSH_AFTER = 0.25  # seconds that a frame may wait for others
RAW_LIMIT = 96 << 20  # bytes that one source may read on the node, whatever it keeps


class Unread(Exception):
    """A source that yielded nothing: its status and why."""

    def __init__(self, status, detail):
        Exception.__init__(self, status, detail)
        self.status, self.detail = status, detail


def why(error):
    """Status and words for an OSError."""
    status = {errno.ENOENT: "absent", errno.ENOTDIR: "absent", errno.EACCES: "denied", errno.EPERM: "denied"}
    word = status.get(error.errno, "failed")
    if word == "absent" and ARCHIVE and not ARCHIVE.get("whole"):
        return Unread("failed", "not recorded")  # only of an invented node we know all that there is
    return Unread(word, error.strerror or str(error))


def data_folders(asked):
    """The data folders of a request, held to their bounds; raises ValueError."""
    if not isinstance(asked, list) or len(asked) > 64:
        raise ValueError("not a list of at most 64 data folders")
    for entry in asked:
        path = entry["path"]
        if (
            not (isinstance(path, str) and path.startswith("/") and len(path) <= 1024)
            or {"", ".", ".."} & set(path[1:].split("/"))
            or "\0" in path
        ):
            raise ValueError("a data folder is no plain absolute path")
        if entry["kind"] not in ("data", "checkpoints", "models") or type(entry["network"]) is not bool or len(entry) != 3:
            raise ValueError("a data folder has a kind and whether it may be on a network file system")
    return asked


def reader(name):
    """Make a function the reader of this name."""

    def register(function):
        READERS[name] = function
        return function

    return register


def text(data):
    """Bytes as text that survives JSON and DuckDB: no lone surrogate."""
    return data.decode("utf-8", "backslashreplace")


def clean(name):
    """A name or path of this system as text without lone surrogates."""
    return text(name.encode("utf-8", "surrogateescape"))


def dump(value):
    """Canonical JSON: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii", "backslashreplace")
