# SPDX-License-Identifier: Apache-2.0
"""The services that are known, from `services.yaml`, and which of them a process is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from functools import cache, lru_cache
from importlib import resources
from typing import Any

import yaml

from fleet_audit.safeyaml import Loader

COMMAND_LIMIT = 4096
"""Characters of a command line in which expressions are searched."""
_SHARED, _WIDE = 2, 200
"""A port that more services than this have by default says nothing by itself, nor does one of so wide a range."""


@dataclass(frozen=True)
class Known:
    """A service of the file; its fields are explained there."""

    id: str
    name: str
    category: str
    ports: tuple[range, ...]
    process: frozenset[str]
    command: tuple[re.Pattern[str], ...]
    auth_default: str
    settled: bool
    rules: dict[str, tuple[str, ...]]
    source: str

    def has_port(self, port: int) -> bool:
        """Whether it listens there by default."""
        return any(port in ports for ports in self.ports)


@cache
def _file() -> dict[str, Any]:
    text = resources.files("fleet_audit.facts.ml_services").joinpath("services.yaml").read_text("utf-8")
    document: dict[str, Any] = yaml.load(text, Loader=Loader)
    return document


def as_of() -> date:
    """The day on which the vendors' documentation was read."""
    day: date = _file()["as_of"]
    return day


@cache
def services() -> dict[str, Known]:
    """{id: service}, read at the first call."""
    return {entry["id"]: _known(entry) for entry in _file()["services"]}


def _known(entry: dict[str, Any]) -> Known:
    return Known(
        entry["id"], entry["name"], entry["category"], tuple(map(_ports, entry["ports"])), frozenset(entry.get("process", ())),
        tuple(re.compile(text) for text in entry.get("command", ())), entry["auth_default"], entry.get("settled", False),
        {kind: tuple(entry.get(kind, ())) for kind in ("asks", "lacks", "part", "open", "tls")}, entry["source"],
    )  # fmt: skip


def _ports(written: int | str) -> range:
    first, _, last = str(written).partition("-")
    return range(int(first), int(last or first) + 1)


@cache
def by_port(port: int) -> tuple[Known, ...]:
    """The services that have a port by default, if they are so few that it says something."""
    found = tuple(known for known in services().values() if any(port in ports and len(ports) < _WIDE for ports in known.ports))
    return found if len(found) <= _SHARED else ()


_CARRIERS = frozenset(
    """sh bash dash zsh fish csh tcsh ksh busybox sudo su doas runuser setpriv ssh sshd scp rsync tmux screen script vi vim
nvim nano emacs less more most tail head cat grep rg ag sed awk gawk find xargs watch strace ltrace gdb srun sbatch salloc slurmstepd docker
podman nerdctl kubectl crictl containerd-shim-runc-v2 conmon runc timeout nohup env nice ionice chrt taskset numactl systemd-run systemctl
journalctl tini dumb-init catatonit logger tee git pip pip3 apt apt-get dpkg rpm dnf ansible ansible-playbook curl wget""".split()
)
"""Programs whose command line may name a service that they are not."""


@lru_cache(maxsize=8192)
def identify(names: frozenset[str], command: str) -> dict[str, str]:
    """{id of a service: command or process} of what a process with these names and this command line is."""
    if names & _CARRIERS:
        return {}
    found = {known.id: "process" for known in services().values() if known.process & names}
    head = command[:COMMAND_LIMIT]
    found |= {known.id: "command" for known in services().values() if any(pattern.search(head) for pattern in known.command)}
    return found
