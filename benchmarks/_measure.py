# SPDX-License-Identifier: Apache-2.0
"""CPU seconds of process trees: by wait4, and by cgroup where there is version 2 of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median as median


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    cpu: float
    """User and system seconds of all its processes."""
    waited: float
    """The same without processes that outlived it."""
    wall: float
    rss_mib: float
    """Of its largest process."""
    code: int


class Group:
    """A cgroup of our own: counts the CPU of all that is started in it, and ends it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cpu(self) -> float:
        """Seconds so far."""
        words = (self.folder / "cpu.stat").read_text().split()
        return int(words[words.index("usage_usec") + 1]) / 1e6

    def processes(self) -> list[int]:
        """Who is in it now."""
        return [int(pid) for pid in (self.folder / "cgroup.procs").read_text().split()]

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in it."""
        return ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(self.folder / "cgroup.procs"), *argv]

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """What this process starts meanwhile belongs to it."""
        root = mount()
        assert root is not None
        own = next(line.split("::", 1)[1] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        try:
            yield
        finally:
            (root / own.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))


def mount() -> Path | None:
    """Where cgroups of version 2 are."""
    for line in Path("/proc/mounts").read_text().splitlines():
        words = line.split()
        if words[2] == "cgroup2":
            return Path(words[1])
    return None


@contextlib.contextmanager
def group(name: str) -> Iterator[Group | None]:
    """A new cgroup; None where this machine or account gives none. Whoever is left in it is killed."""
    root = mount()
    folder = root / f"fleet-bench-{os.getpid()}-{name}" if root else None
    try:
        if folder is not None:
            folder.mkdir()
        made = Group(folder) if folder is not None and (folder / "cpu.stat").exists() else None
    except OSError:
        made = None
    try:
        yield made
    finally:
        if made is not None:
            for _ in range(500):
                for pid in made.processes():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    made.folder.rmdir()
                    break
                time.sleep(0.01)


def measure(argv: Sequence[str], env: Mapping[str, str], *, name: str = "run", seconds: float = 300.0, log: Path | None = None) -> Cost:
    """Run a command to its end, with its output thrown away or in `log`."""
    with group(name) as own, (log or Path(os.devnull)).open("wb") as out:
        begin = time.monotonic()
        child = subprocess.Popen(
            own.command(argv) if own else list(argv), env=dict(env), stdin=subprocess.DEVNULL, stdout=out,
            stderr=out, start_new_session=True,
        )  # fmt: skip
        killer = threading.Timer(seconds, os.killpg, (child.pid, signal.SIGKILL))
        killer.start()
        _, status, usage = os.wait4(child.pid, 0)
        killer.cancel()
        wall = time.monotonic() - begin
        child.returncode = os.waitstatus_to_exitcode(status)
        waited = usage.ru_utime + usage.ru_stime
        return Cost(own.cpu() if own else waited, waited, wall, usage.ru_maxrss / 1024, child.returncode)


def spread(values: Sequence[float]) -> str:
    """Median and range, for people."""
    return f"{median(values):.2f} s ({min(values):.2f} to {max(values):.2f}, n={len(values)})"
