# SPDX-License-Identifier: Apache-2.0
"""What goes out: framed answers on standard output."""

import os
import time
import zlib

from fleet_audit.probe.node.base import CLOCK, FLUSH_AFTER, dump

NOTHING = zlib.compress(b"", 6)


class Frames:
    """Writes frames of this nonce; they leave together, as each packet costs the controller more than the bytes in it."""

    def __init__(self, nonce):
        self.nonce = nonce
        self.out, self.flushed = bytearray(), CLOCK

    def write(self, data):
        self.out += data
        if len(self.out) >= 1 << 16:
            self.flush()

    def flush(self):
        while self.out:
            del self.out[: os.write(1, self.out)]
        self.flushed = time.monotonic()

    def due(self):
        """When what is held back must go out, None if nothing is."""
        return self.flushed + FLUSH_AFTER if self.out else None

    def mark(self, kind, rest=b""):
        """A line of its own: the marker, a wish, or the end."""
        self.write(b"\n" + kind + self.nonce.encode() + rest + b"\n")

    def frame(self, head, body):
        head["size"] = len(body)
        top, packed = dump(head), zlib.compress(body, 6) if body else NOTHING
        crc = zlib.crc32(packed, zlib.crc32(top))
        self.write(("\nF%s %d %d %08x\n" % (self.nonce, len(top), len(packed), crc)).encode() + top + packed)
