# SPDX-License-Identifier: Apache-2.0
"""Opens paths of the node: never a device, never a link unawares, never a network file system."""

import errno
import fnmatch
import os
import re
import stat

from fleet_audit.probe.node.base import ARCHIVE, NETWORK_FS, Unread, why


WILD = re.compile(r"[*?[]")
NAMES_LIMIT = 4096  # names of a folder that are kept for the next pattern


def unescape(field):
    """A field of mountinfo with its octal escapes undone."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), field)


def fitting(names, pattern):
    """Those of the names that fit a pattern."""
    head, _, tail = pattern.partition("*")
    if WILD.search(head + tail):
        return fnmatch.filter(names, pattern)
    return [n for n in names if n.startswith(head) and n.endswith(tail) and len(n) >= len(head) + len(tail)]


def network_mounts():
    """{mount point: type} of what may hang or disturb a shared server."""
    found = {}
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            kind = right.split(" ")[0]
            if kind in NETWORK_FS or kind.startswith("fuse."):
                found[unescape(left.split(" ")[4])] = kind
    return found


class Files:
    """Opens paths of the node: never a device, never on a network file system, by resolving links itself."""

    def __init__(self):
        self.root = ARCHIVE["root"] if ARCHIVE else ""
        self.mounts = {} if ARCHIVE else network_mounts()
        self.folders = {"/": "/"}
        self.names = {}  # of folders that patterns led into; none of one that is not there
        self.accounts = None  # of `accounts.accounts`, once they were read

    def resolve(self, path, depth=0):
        """The real path inside the root, links followed; raises Unread before it touches a network mount."""
        if depth > 40:
            raise Unread("failed", "too many levels of symbolic links")
        head, _, name = path.rpartition("/")
        parent = self.folders.get(head or "/")
        if parent is None:
            parent = self.folders[head] = self.resolve(head, depth)
        if name in ("", "."):
            return parent
        if name == "..":
            return parent.rpartition("/")[0] or "/"
        here = parent.rstrip("/") + "/" + name
        if here in self.mounts:
            raise Unread("failed", "network file system (%s)" % self.mounts[here])
        try:
            target = os.readlink(self.root + here)
        except OSError:
            return here
        if not target.startswith("/"):
            target = parent.rstrip("/") + "/" + target
        return self.resolve(target, depth + 1)  # not normalised: after a link, ".." is the parent of what it leads to

    def read(self, path, limit):
        """At most limit + 1 bytes of a regular file."""
        try:
            handle = os.open(self.root + self.resolve(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise Unread("failed", "not a regular file")
                fd = self.reopen("/proc/self/fd/%d" % handle)
            finally:
                os.close(handle)
            try:
                parts, left = [], limit + 1
                while left > 0:
                    part = os.read(fd, min(left, 1 << 20))
                    if not part:
                        break
                    parts.append(part)
                    left -= len(part)
                return b"".join(parts)
            finally:
                os.close(fd)
        except OSError as error:
            raise why(error)

    @staticmethod
    def reopen(path):
        """For reading, without touching the access time where that is allowed."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(path, flags | os.O_NOATIME)
        except PermissionError:
            return os.open(path, flags)

    def glob(self, pattern):
        """Sorted paths that match; a pattern without a wildcard yields itself, there or not."""
        if not WILD.search(pattern):
            return [pattern]
        found = ["/"]
        for part in pattern.strip("/").split("/"):
            if not WILD.search(part):
                found = [base.rstrip("/") + "/" + part for base in found]
                continue
            step = []
            if len(found) > 4096:
                raise Unread("truncated", "more than 4096 folders fit %s" % pattern)
            for base in found:
                step += [base.rstrip("/") + "/" + n for n in sorted(fitting(self.listed(base), part))]
            found = step
        return found

    def listed(self, folder):
        """The names in a folder, none if it is not there; what was listed once is what it held."""
        names = self.names.get(folder)
        if names is None:
            try:
                real = self.folders[folder] = self.resolve(folder)
                names = os.listdir(self.root + real)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTDIR) or why(error).status != "absent":
                    raise why(error)
                names = []
            if len(names) <= NAMES_LIMIT:
                self.names[folder] = names
        return names

    def lstat(self, path):
        """Metadata of a path itself, and its target if it is a link."""
        head, _, name = path.rpartition("/")
        real = self.root + self.resolve(head or "/").rstrip("/") + "/" + name
        if real[len(self.root) :] in self.mounts:
            raise Unread("failed", "network file system (%s)" % self.mounts[real[len(self.root) :]])
        try:
            info = os.lstat(real)
            link = os.readlink(real) if stat.S_ISLNK(info.st_mode) else None
        except OSError as error:
            raise why(error)
        kinds = (
            (stat.S_ISREG, "file"),
            (stat.S_ISDIR, "dir"),
            (stat.S_ISLNK, "link"),
            (stat.S_ISCHR, "char"),
            (stat.S_ISBLK, "block"),
            (stat.S_ISSOCK, "socket"),
            (stat.S_ISFIFO, "fifo"),
        )
        row = {
            "type": next((word for test, word in kinds if test(info.st_mode)), "other"),
            "mode": stat.S_IMODE(info.st_mode),
            "uid": info.st_uid,
            "gid": info.st_gid,
            "size": info.st_size,
            "mtime": int(info.st_mtime),
            "link": link,
        }
        row.update((ARCHIVE or {}).get("meta", {}).get(path, {}))
        return row

    def followed(self, path):
        """What a path leads to in the end, and the folders on the way: who can write to one of them can put something else there."""
        here, way, parts, links = "/", {}, path.split("/")[::-1], 0
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            if part == "..":
                here = here.rpartition("/")[0] or "/"
                continue
            way[here] = {name: self.lstat(here)[name] for name in ("type", "mode", "uid", "gid")}
            there = here.rstrip("/") + "/" + part
            row = self.lstat(there)
            if row["link"] is None:
                here = there
                continue
            links += 1
            if links > 40:
                raise Unread("failed", "too many levels of symbolic links")
            here = "/" if row["link"].startswith("/") else here
            parts += row["link"].split("/")[::-1]
        return dict(self.lstat(here), path=here), way
