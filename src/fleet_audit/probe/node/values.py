# SPDX-License-Identifier: Apache-2.0
"""The readers of single values: chosen parts of JSON documents, and the kernel's clock."""

import errno
import json
import os

from fleet_audit.probe.node.base import ARCHIVE, Unread, clean, dump, reader
from fleet_audit.probe.node.redact import WORD, is_secret, redact, reduced

TEXT_LIMIT = 2000


def pruned(value, key="", depth=0):
    """A JSON value without secrets, those that only their key betrays included, with limits on depth, length and width."""
    if isinstance(value, str):
        value, bare = value[:TEXT_LIMIT], key.rpartition(".")[2]
        return reduced(value) if WORD.pattern.search('"%s"' % bare) and is_secret(bare, value) else redact(value)
    if isinstance(value, (list, dict)) and depth > 8:
        return None
    if isinstance(value, list):
        return [pruned(v, key, depth + 1) for v in value[:500]]
    if isinstance(value, dict):
        return {redact(k[:200]): pruned(v, k, depth + 1) for k, v in sorted(value.items())[:500]}
    return value


def at(document, path):
    """(whether it is there, the value at a dotted path)."""
    while isinstance(document, dict):
        if path in document:  # also a key that holds dots itself
            return True, document[path]
        name, dot, path = path.partition(".")
        if not dot or name not in document:
            break
        document = document[name]
    return False, None


@reader("json")
def read_json(files, spec):
    """{path: {"values": {dotted path: value}} or {"status", "detail"}}: only the parts named in `keep`."""
    rows, left = {}, 64 << 20
    for pattern in spec["globs"]:
        for path in files.glob(pattern):
            try:
                data = files.read(path, min(left, 8 << 20))
                left -= len(data)
                if len(data) > 8 << 20 or left <= 0:
                    raise Unread("truncated", "longer than its limit")
                document = json.loads(data.decode("utf-8", "replace"))
                found = ((name, at(document, name)) for name in spec["keep"])
                rows[path] = {"values": {name: pruned(value, name) for name, (there, value) in found if there}}
            except Unread as unread:
                rows[path] = {"status": unread.status, "detail": unread.detail}
            except (ValueError, RecursionError):
                rows[path] = {"status": "failed", "detail": "not JSON"}
    return dump(rows)


@reader("nics")
def read_nics(files, spec):
    """{interface: {driver, version, firmware, bus}} as ethtool's GDRVINFO tells it, read only; null where a driver does not."""
    if ARCHIVE:
        raise Unread("absent", "not recorded")
    import ctypes
    import fcntl
    import socket
    import struct

    rows, control = {}, socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    names = sorted(os.listdir("/sys/class/net"))
    if len(names) > 1000:
        rows["more than 1000 interfaces"] = {"status": "truncated", "detail": "only the first are asked"}
    for name in names[:1000]:
        answer = ctypes.create_string_buffer(struct.pack("=I", 3) + b"\0" * 256)  # ETHTOOL_GDRVINFO
        asked = struct.pack("16sP24x", name.encode("utf-8", "surrogateescape")[:15], ctypes.addressof(answer))
        try:
            fcntl.ioctl(control, 0x8946, asked)  # SIOCETHTOOL
        except OSError as error:
            there = error.errno not in (errno.EOPNOTSUPP, errno.ENODEV)
            rows[clean(name)] = {"status": "failed", "detail": error.strerror} if there else None
            continue
        fields = [answer.raw[at : at + 32].partition(b"\0")[0].decode("utf-8", "backslashreplace") for at in (4, 36, 68, 100)]
        rows[clean(name)] = dict(zip(("driver", "version", "firmware", "bus"), fields))
    control.close()
    return dump(rows)


@reader("clock")
def read_clock(files, spec):
    """What adjtimex(2) says of the kernel's clock, read only; 64-bit systems."""
    if ARCHIVE:
        raise Unread("absent", "not recorded")
    import ctypes
    import struct

    buffer = ctypes.create_string_buffer(512)  # modes 0: nothing is set
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0 or struct.calcsize("l") != 8:
        raise Unread("failed", "adjtimex says %d" % state)
    _, offset, _, maxerror, esterror, status = struct.unpack_from("=i4xqqqqi", buffer.raw)
    return dump({"state": state, "status": status, "offset": offset, "max_error_us": maxerror, "estimated_error_us": esterror})
