# SPDX-License-Identifier: Apache-2.0
"""A conversation with a child process of the controller; serves `local`, `archive` and `openssh`."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fleet_audit.transport.interface import Conversation

STDERR_CAP = 16 << 10


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child's conversation went."""

    exit: int | None
    """None if it was ended at the deadline."""
    stderr: bytes
    sent: int
    received: int


def converse(argv: Sequence[str], talk: Conversation, deadline: float) -> Ended:
    """Run `argv` with `talk` at its standard streams until it ends, `talk` is finished, or the deadline.

    The child leads a session of its own and is killed with its process group.
    """
    child = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd="/"
    )
    assert child.stdin and child.stdout and child.stderr
    streams = {child.stdout.fileno(): talk.feed, child.stderr.fileno(): talk.feed_error}
    out_fd = child.stdin.fileno()
    os.set_blocking(out_fd, False)
    pending, stderr, sent, received, late = bytearray(talk.start()), bytearray(), 0, 0, False
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    writing = False
    while streams and not talk.finished:
        if bool(pending) != writing:
            writing = bool(pending)
            if writing:
                poll.register(out_fd, select.POLLOUT)
            else:
                poll.unregister(out_fd)
        left = deadline - time.monotonic()
        if left <= 0:
            late = True
            break
        for fd, _ in poll.poll(min(left, 1.0) * 1000):
            if fd == out_fd:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):
                    count = os.write(out_fd, pending)
                    sent += count
                    del pending[:count]
                    continue
                pending.clear()
                continue
            chunk = os.read(fd, 1 << 18)
            if not chunk:
                poll.unregister(fd)
                streams.pop(fd)
                continue
            received += len(chunk)
            if fd == child.stderr.fileno():
                stderr += chunk[: max(0, STDERR_CAP - len(stderr))]
            if not talk.finished:
                pending += streams[fd](chunk)
    code = _end(child, grace=0.0 if late else 0.5)
    return Ended(None if late else code, bytes(stderr), sent, received)


def _end(child: subprocess.Popen[bytes], grace: float = 0.5) -> int:
    """Close the streams, give the child a moment, then kill its group; its exit status."""
    with contextlib.suppress(OSError):
        if child.stdin:
            child.stdin.close()
    try:
        return child.wait(grace)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(OSError):
            os.killpg(child.pid, 9)
        return child.wait()
    finally:
        for stream in (child.stdout, child.stderr):
            if stream:
                stream.close()
