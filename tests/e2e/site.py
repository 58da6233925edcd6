# SPDX-License-Identifier: Apache-2.0
"""A site that a module's tests share: hosts, a folder, a store, and the command line among them."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from tests.conftest import MAIN, cli_environment
from tests.hosts import Lab


class Site:
    """Each module says in `up` which hosts it has, and what is bad there."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lab, self.store = folder, Lab(folder / "lab"), folder / "store"

    def sh(self, host: str, command: str) -> str:
        """What a shell of root's on a host says."""
        return str(self.lab.exec(host, ["bash", "-c", command], timeout=60).stdout)

    def argv(self, *words: object) -> list[str]:
        """The command with this store, to be run in the lab's network."""
        return [*MAIN, *map(str, words), "--store", str(self.store)]

    def cli(self, *words: object, timeout: float = 300, **more: Any) -> CompletedProcess[str]:
        """Run it to its end."""
        return self.lab.run(self.argv(*words), env=cli_environment(), timeout=timeout, **more)
