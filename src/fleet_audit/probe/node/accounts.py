# SPDX-License-Identifier: Apache-2.0
"""The readers of accounts: files with password fields, authorised keys, well-known files of tokens in homes."""

import binascii
import hashlib
import os
import re
import stat

from fleet_audit.probe.node.base import Unread, dump, reader, text, why
from fleet_audit.probe.node.files import WILD
from fleet_audit.probe.node.redact import redact, redact_bytes

HOME_LIMIT = 5000  # accounts whose homes are looked at
KEY_TYPES = re.compile(r"(?:sk-)?(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-nistp\d+)(?:-cert-v01)?(?:@openssh\.com)?")


def password_state(field):
    """What a password field says, without it: `empty`, `shadowed`, `locked`, `locked SCHEME`, `set SCHEME`."""
    if field in ("", "x"):
        return "shadowed" if field else "empty"
    bare = field.lstrip("!")
    if bare in ("", "*", "!*", "x", "*LK*", "NP"):
        return "locked"
    match = re.match(r"\$([0-9a-z]{1,12})[$,]", bare)
    scheme = match.group(1) if match else "des" if re.match(r"[A-Za-z0-9./]{13}$|_", bare) else "other"
    return ("locked " if field[0] in "!*" else "set ") + scheme


def whole(files, path, limit):
    """The bytes of a file; a longer one raises Unread: of a line that is cut a field may look empty."""
    data = files.read(path, limit)
    if len(data) > limit:
        raise Unread("truncated", "longer than %d bytes" % limit)
    return data


@reader("colon")
def read_colon(files, spec):
    """Lines of fields between colons; those of `secret` reduced to a state, those of `drop` emptied."""
    data = whole(files, spec["paths"][0], spec["cap"])
    lines = []
    for line in text(data).rstrip("\n").split("\n"):
        fields = line.split(":")
        for place in spec.get("secret", ()):
            if place < len(fields):
                fields[place] = password_state(fields[place])
        for place in spec.get("drop", ()):
            if place < len(fields):
                fields[place] = ""
        lines.append(":".join(fields[: spec["fields"]]))
    return "".join(line + "\n" for line in lines if line).encode("utf-8", "backslashreplace")


def accounts(files):
    """[(name, uid, home)] of all local accounts; read once for all sources."""
    if files.accounts is None:
        lines = [line.split(":") for line in text(whole(files, "/etc/passwd", 4 << 20)).split("\n")]
        known = [f for f in lines if len(f) > 6 and f[2].isdigit()]
        files.accounts = [(f[0], int(f[2]), os.path.normpath(f[5]) if f[5].startswith("/") else "") for f in known]
    if len(files.accounts) > HOME_LIMIT:
        raise Unread("truncated", "more than %d accounts" % HOME_LIMIT)
    return files.accounts


def open_in_home(files, home, name, uids):
    """A descriptor of a regular file below a home, no link followed there, whose owner is one of `uids`."""
    real = files.resolve(home)
    if real in files.mounts:
        raise Unread("failed", "network file system (%s)" % files.mounts[real])
    here = os.open(files.root + real, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    where = real.rstrip("/")
    try:
        for part in name.split("/"):
            where += "/" + part
            if where in files.mounts:
                raise Unread("failed", "network file system (%s)" % files.mounts[where])
            inner = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = inner
            info = os.fstat(here)
            if stat.S_ISLNK(info.st_mode):  # a folder too: what lies behind it is not looked at, so it is not absent
                raise Unread("failed", "a symbolic link in a user's folder")
        if not stat.S_ISREG(info.st_mode):
            raise Unread("failed", "not a regular file")
        if not files.root and (info.st_uid not in uids or info.st_uid not in uids[:-1] and info.st_nlink > 1):
            raise Unread("failed", "the file of another user (%d)" % info.st_uid)
        return files.reopen("/proc/self/fd/%d" % here)
    finally:
        os.close(here)


def read_in_home(files, home, name, uids, limit):
    """(bytes, os.stat_result) of such a file; a longer one raises Unread."""
    try:
        fd = open_in_home(files, home, name, uids)
        try:
            data = os.read(fd, limit + 1)
            info = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise why(error)
    if len(data) > limit:
        raise Unread("truncated", "longer than %d bytes" % limit)
    return data, info


def names_in_home(files, home, pattern):
    """Paths below a home that fit a pattern; links in it are not followed."""
    if not WILD.search(pattern):
        return [pattern]
    found = files.glob(below(home, pattern))
    if len(found) > 200:
        raise Unread("truncated", "more than 200 files")
    return [path[len(below(home, "")) :] for path in found]


def unread_at(rows, path, user, problem):
    """Note what could not be read; what is not there is left out."""
    if problem.status != "absent":
        rows[path] = {"user": user, "status": problem.status, "detail": problem.detail}


def homes(files, rows):
    """(first account, uids, home) of each home that is there; one that may not be looked into is a row.

    The uids are those of all accounts that share it, and root's.
    """
    shared = {}
    for user, uid, home in accounts(files):
        if home:
            shared.setdefault(home, (user, []))[1].append(uid)
    for home, (user, uids) in shared.items():
        try:
            real = files.resolve(home)
            if real in files.mounts:
                raise Unread("failed", "network file system (%s)" % files.mounts[real])
            os.close(os.open(files.root + real, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            unread_at(rows, home, user, why(error))
        except Unread as unread:
            unread_at(rows, home, user, unread)
        else:
            yield user, tuple(uids) + (0,), home


def below(home, name):
    """A path in a home."""
    return home.rstrip("/") + "/" + name


def each_in_home(files, patterns, rows):
    """(user, path, bytes, os.stat_result) of small files in all homes; what could not be read is a row."""
    for user, uids, home in homes(files, rows):
        for pattern in patterns:
            try:
                names = names_in_home(files, home, pattern)
            except Unread as unread:
                unread_at(rows, below(home, pattern), user, unread)
                continue
            for name in names:
                try:
                    data, info = read_in_home(files, home, name, uids, 1 << 18)
                except Unread as unread:
                    unread_at(rows, below(home, name), user, unread)
                    continue
                yield user, below(home, name), data, info


def key_of(line):
    """A line of an authorized_keys file as {type, fingerprint, bits, options, from}, or None if it is none."""
    match = re.search(r"(?:^|\s)(%s)\s+([A-Za-z0-9+/]{40,}={0,3})(?=\s|$)" % KEY_TYPES.pattern, line)
    if not match:
        return None
    try:
        blob = binascii.a2b_base64(match.group(2))
    except (binascii.Error, ValueError):
        return None
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size].decode("ascii", "replace") != match.group(1):
        return None
    digest = binascii.b2a_base64(hashlib.sha256(blob).digest()).decode().rstrip("=\n")
    row = {"type": match.group(1), "fingerprint": "SHA256:" + digest, "bits": None, "options": [], "from": None}
    if match.group(1) == "ssh-rsa":
        at = 4 + size
        at += 4 + int.from_bytes(blob[at : at + 4], "big")
        length = int.from_bytes(blob[at : at + 4], "big")
        row["bits"] = int.from_bytes(blob[at + 4 : at + 4 + length], "big").bit_length()
    for option in re.findall(r"""([A-Za-z-]+)(?:="((?:[^"\\]|\\.)*)")?(?:,|\s|$)""", line[: match.start(1)].strip()):
        row["options"].append(option[0].lower())
        if option[0].lower() == "from":
            row["from"] = option[1]
    return row


@reader("keys")
def read_keys(files, spec):
    """{path: {users, mode, uid, keys, odd}} of authorised keys: fingerprints and options, never a comment or command."""
    rows, sharing = {}, {}
    for user, _, home in accounts(files):
        sharing.setdefault(home, []).append(user)

    def add(path, users, read):
        try:
            data, mode, owner = read()
        except Unread as unread:
            unread_at(rows, path, users[0], unread)
            return
        lines = [line for line in text(data).splitlines() if line.strip() and not line.lstrip().startswith("#")]
        keys = [key_of(line) for line in lines]
        rows[path] = {"users": users, "mode": mode, "uid": owner, "keys": [k for k in keys if k], "odd": keys.count(None)}

    def in_home(home, name, uids):
        data, info = read_in_home(files, home, name, uids, 1 << 20)
        return data, stat.S_IMODE(info.st_mode), info.st_uid

    def elsewhere(path):
        data, info = whole(files, path, 1 << 20), files.lstat(path)
        return data, info["mode"], info["uid"]

    for _, uids, home in homes(files, rows):
        for name in (n for n in spec["names"] if not n.startswith("/")):
            add(below(home, name), sharing[home], lambda home=home, name=name, uids=uids: in_home(home, name, uids))
    for user, _, _ in accounts(files):
        for name in (n for n in spec["names"] if n.startswith("/")):
            path = name.replace("%u", user)
            if "/" not in user and user not in (".", ".."):
                add(path, [user], lambda path=path: elsewhere(path))
    return dump(rows)


def reach_of(files, path, info):
    """Who beside the owner can read a file, by its mode and the folders above it: `others`, `group` or `owner`."""
    passes = {info.st_gid: [info.st_mode & 0o040, info.st_mode & 0o004]}  # by group: its members, and who is none of them
    folder = os.path.dirname(files.resolve(path))
    while len(folder) > 1:
        try:
            above = os.lstat(files.root + folder)
        except OSError:
            break
        members, rest = passes.get(above.st_gid, (1, 1))
        passes[above.st_gid] = [members and above.st_mode & 0o010, rest and above.st_mode & 0o001]
        folder = os.path.dirname(folder)
    if all(rest for _, rest in passes.values()):
        return "others"
    return "group" if all(members or rest for members, rest in passes.values()) else "owner"


PROSE = re.compile(r"(?m)^[ \t]*#[ \t]*(?:[\w.,'()-]+[ \t]+){3,40}<secret:value:\d+>$")  # `# ... fill in the password data` is a sentence


def kinds_of(data):
    """Kinds of secrets in a text, with how many of each; never a secret."""
    words, found = text(data), {}
    for kind in re.findall(r"<secret:([\w-]+):\d+>", PROSE.sub("", redact(words.replace("<secret:", "<secret ")))):
        found[kind] = found.get(kind, 0) + 1
    if not found and re.fullmatch(r"\s*[A-Za-z0-9_.~+/=-]{20,512}\s*", words):
        found["value"] = 1
    return found


@reader("tokens")
def read_tokens(files, spec):
    """{path: {user, mode, uid, gid, size, reach, kinds}} of well-known files with tokens, in homes and elsewhere."""
    rows = {}

    def add(path, user, data, info):
        rows[path] = {
            "user": user,
            "mode": stat.S_IMODE(info.st_mode),
            "uid": info.st_uid,
            "gid": info.st_gid,
            "size": info.st_size,
            "reach": reach_of(files, path, info),
            "kinds": kinds_of(data),
        }

    for user, path, data, info in each_in_home(files, spec["names"], rows):
        add(path, user, data, info)
    for pattern in spec.get("globs", ()):
        try:
            paths = files.glob(pattern)
            if len(paths) > 500:
                raise Unread("truncated", "more than 500 files")
        except Unread as unread:
            unread_at(rows, pattern, None, unread)
            continue
        for path in paths:
            try:
                data = whole(files, path, 1 << 18)
                add(path, None, data, os.lstat(files.root + files.resolve(path)))
            except Unread as unread:
                unread_at(rows, path, None, unread)
            except OSError as error:
                unread_at(rows, path, None, why(error))
    return dump(rows)


@reader("home_lines")
def read_home_lines(files, spec):
    """{path: {user, uid, mode, text, left}} of small files in homes: only the lines that begin with one of `keep`, secrets reduced.

    `left` is the number of other lines, but for empty ones and comments.
    """
    rows = {}
    keep = re.compile(b"^[ \\t]*(?:" + b"|".join(re.escape(k.encode()) for k in spec["keep"]) + b").*", re.M)
    for user, path, data, info in each_in_home(files, spec["names"], rows):
        found = keep.findall(data)
        lines = text(redact_bytes(b"".join(line + b"\n" for line in found)))
        left = len(re.findall(b"(?m)^[ \\t]*[^\\s#]", data)) - len(found)
        rows[path] = {"user": user, "uid": info.st_uid, "mode": stat.S_IMODE(info.st_mode), "text": lines, "left": left}
    return dump(rows)
