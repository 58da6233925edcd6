# SPDX-License-Identifier: Apache-2.0
"""What a test asks for: one host's description."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tests.hosts.image import RELEASES

Kind = Literal["boot", "light"]


MOST_LETTERS = 40


@dataclass(frozen=True)
class HostSpec:
    """One host of the lab.

    ``kind``: ``boot`` runs systemd as PID 1, ``light`` runs sshd as PID 1 (no services, much cheaper).
    ``sshd``: lines for sshd_config that win over the image's own.
    ``files``: path to text, laid over the image; text that begins with ``#!`` is made executable, ``modes``
    (path to mode) overrides.
    ``fake``: path to text, laid over files of /proc and /sys.
    ``sysctl``: ``net.*`` settings, the only ones that belong to a network namespace.
    ``disk``: how much the host can write, as tmpfs takes it.
    ``behind``: the name of the only host from which port 22 of this one can be reached.
    ``packages``: Debian packages beside those of every host; their services begin when a test begins them.
    ``python``: False removes the interpreter.
    """

    name: str
    kind: Kind = "light"
    release: str = "bookworm"
    sshd: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    modes: Mapping[str, int] = field(default_factory=dict)
    fake: Mapping[str, str] = field(default_factory=dict)
    sysctl: Mapping[str, str] = field(default_factory=dict)
    disk: str = "64m"
    behind: str | None = None
    in_inventory: bool = True
    python: bool = True
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the lab cannot give, before anything is started."""
        if not self.name.replace("-", "").isalnum() or len(self.name) > MOST_LETTERS or self.name.startswith("-"):
            raise ValueError(f"not a host name: {self.name!r}")
        if self.release not in RELEASES:
            raise ValueError(f"{self.name}: no such release: {self.release}")
        for key in self.sysctl:
            if not key.startswith("net."):
                raise ValueError(f"{self.name}: {key} belongs to the whole machine; use fake for /proc/sys")
        for path in self.fake:
            if not path.startswith(("/proc/", "/sys/")):
                raise ValueError(f"{self.name}: fake is for /proc and /sys; use files for {path}")
        for path in self.files:
            if not path.startswith("/"):
                raise ValueError(f"{self.name}: not an absolute path: {path}")
