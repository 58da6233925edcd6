# SPDX-License-Identifier: Apache-2.0
"""What the lab changes on the machine itself: some limits, and cgroup folders."""

import contextlib
import fcntl
import json
from pathlib import Path

from tests.hosts.image import cache_folder

# Many systemds need many inotify instances, many hosts many neighbour entries.
LEAST = {
    "fs/inotify/max_user_instances": 65536,
    "fs/inotify/max_user_watches": 1048576,
    "net/ipv4/neigh/default/gc_thresh2": 16384,
    "net/ipv4/neigh/default/gc_thresh3": 32768,
}
SYSCTL = Path("/proc/sys")
CGROUPS = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


class Limits:
    """Raises the machine's limits; the last lab of several puts the old values back.

    Each lab holds a shared lock on the file with the old values. Who can have it alone is the last. Values
    that a killed lab left raised are put back by the next one.
    """

    def __init__(self) -> None:
        """Raise what is too low."""
        cache_folder().mkdir(parents=True, exist_ok=True)
        self._file = (cache_folder() / "limits.json").open("a+")
        self._join()
        for name in self._saved():
            path = SYSCTL / name
            if int(path.read_text()) < LEAST[name]:
                path.write_text(str(LEAST[name]))

    def _join(self) -> None:
        """Take the shared lock, with the old values in the file."""
        fcntl.flock(self._file, fcntl.LOCK_SH)
        while not self._saved():
            fcntl.flock(self._file, fcntl.LOCK_EX)
            if not self._saved():
                self._file.write(json.dumps({name: (SYSCTL / name).read_text() for name in LEAST}))
                self._file.flush()
            # Between the two locks another lab may leave as the last one and empty the file: look again.
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def _saved(self) -> dict[str, str]:
        self._file.seek(0)
        return {str(name): str(value) for name, value in json.loads(self._file.read() or "{}").items()}

    def restore(self) -> None:
        """Put the old values back, unless another lab is up."""
        with self._file, contextlib.suppress(BlockingIOError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name, value in self._saved().items():
                (SYSCTL / name).write_text(value)
            self._file.truncate(0)


def remove_cgroups(prefix: str) -> None:
    """Remove the empty cgroup folders that ended hosts left; nobody else does."""
    for group in _groups(prefix):
        folders = [folder for folder in group.rglob("*") if folder.is_dir()]
        for folder in sorted(folders, key=lambda each: -len(each.parts)):
            folder.rmdir()
        group.rmdir()


def remove_stale_cgroups() -> None:
    """Remove the cgroup folders of labs whose process (the number in the name) is gone."""
    for group in _groups("fleet-lab-"):
        owner = group.name.split("-")[2]
        if not Path("/proc", owner).exists():
            with contextlib.suppress(OSError):
                remove_cgroups(f"fleet-lab-{owner}-")


def _groups(prefix: str) -> list[Path]:
    return [group for top in CGROUPS for group in top.glob(prefix + "*")]
