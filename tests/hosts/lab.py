# SPDX-License-Identifier: Apache-2.0
"""The lab: real SSH hosts in a network that has no way out."""

import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.hosts.clientfiles import ClientFiles
from tests.hosts.errors import LabError
from tests.hosts.faults import Faults
from tests.hosts.host import Entry, Host
from tests.hosts.image import image
from tests.hosts.limits import Limits, remove_cgroups, remove_stale_cgroups
from tests.hosts.network import MOST_HOSTS, Network, check_machine
from tests.hosts.seed import generate_key
from tests.hosts.spec import HostSpec

READY_SECONDS = 120
PROBE_SECONDS = 5
PROBE = Path(__file__).with_name("probe.py")
_numbers = itertools.count(1)


class Lab:
    """Hosts that live between ``up`` and ``down``; a context manager that calls ``down``."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in ``folder``, which may exist; nothing is started yet."""
        self.folder = folder.absolute()
        self._files = ClientFiles(self.folder)
        self._hosts: dict[str, Host] = {}
        self._faults: dict[str, Faults] = {}
        self._network: Network | None = None
        self._limits: Limits | None = None
        self._cgroup = f"fleet-lab-{os.getpid()}-{next(_numbers)}"

    def __enter__(self) -> Self:
        """Return the lab, not up yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take the lab down."""
        self.down()

    @property
    def inventory(self) -> Path:
        """The Ansible inventory of the hosts that want to be in it."""
        return self._files.inventory

    @property
    def known_hosts(self) -> Path:
        """The host keys of all hosts."""
        return self._files.known_hosts

    @property
    def key(self) -> Path:
        """The private key that every user of every host accepts."""
        return self._files.key

    @property
    def ssh_config(self) -> Path:
        """An ssh configuration (``ssh -F``) with key and strict host key checking, jump hosts included."""
        return self._files.ssh_config

    def up(self, specs: list[HostSpec]) -> None:
        """Start the hosts and return when all of them take logins; on any failure the lab is taken down."""
        if self._network is not None:
            raise LabError("the lab is up already")
        check_specs(specs)
        check_machine()
        for release, packages in sorted({(spec.release, spec.packages) for spec in specs}):
            image(release, packages)
        try:
            self._start(specs)
        except BaseException:
            self.down()
            raise

    def _start(self, specs: list[HostSpec]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.key.exists():
            generate_key(self.key, "fleet-lab")
        remove_stale_cgroups()
        self._limits = Limits()
        self._network = Network()
        runs = self.folder / "hosts" / self._cgroup
        for index, spec in enumerate(specs, 1):
            self._hosts[spec.name] = Host(spec, index, runs / spec.name, self._network)
        self._faults = {name: Faults(host) for name, host in self._hosts.items()}
        public = self.key.with_suffix(".pub").read_text().strip()
        _each(lambda host: host.start(public, self._cgroup), self._hosts.values(), 8)
        self._files.write(self._hosts)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        end = time.monotonic() + READY_SECONDS
        silent = list(self._hosts.values())
        while silent:
            done = self.run([sys.executable, str(PROBE), str(PROBE_SECONDS), *[host.address for host in silent]])
            silent = [host for host in silent if host.address in done.stdout.split()]
            if any(host.ended for host in silent) or (silent and time.monotonic() > end):
                worst = next((host for host in silent if host.ended), silent[0])
                log = worst.log_path.read_text(errors="replace")[-3000:]
                names = ", ".join(host.name for host in silent)
                raise LabError(f"no SSH banner from {names}; {worst.name} wrote: {log}")
        _each(Host.settle, self._hosts.values(), 16)
        for host in self._hosts.values():
            if host.spec.behind is not None:
                host.allow_only(self.address(host.spec.behind))

    def down(self) -> None:
        """End everything the lab started and put back what it changed; does nothing when it is down."""
        try:
            if self._network is not None:
                self._network.close()
                for host in self._hosts.values():
                    host.wait()
                for faults in self._faults.values():
                    faults.stop_helper()
                remove_cgroups(f"{self._cgroup}-")
        finally:
            if self._limits is not None:
                self._limits.restore()
            self._network, self._limits, self._hosts, self._faults = None, None, {}, {}

    def _host(self, name: str) -> Host:
        if name not in self._hosts:
            raise LabError(f"no such host: {name}; there are {', '.join(self._hosts) or 'none'}")
        return self._hosts[name]

    def address(self, host: str) -> str:
        """Return a host's address."""
        return self._host(host).address

    def fault(self, host: str, name: str, arg: str | None = None) -> None:
        """Make something wrong with a host; see ``faults.py``. Several faults may be set."""
        self._faults[self._host(host).name].set(name, arg)

    def clear(self, host: str) -> None:
        """Take all faults of a host away."""
        self._faults[self._host(host).name].clear()

    def reboot(self, host: str) -> None:
        """Restart a booted host, and return when its sshd runs again."""
        self._host(host).reboot()

    def exec(
        self,
        host: str,
        argv: Sequence[str],
        check: bool = True,
        *,
        input: str | None = None,
        timeout: float | None = 60,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` inside a host as root, not through SSH."""
        return self._host(host).exec(list(argv), check, input=input, timeout=timeout)

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs ``argv`` in the lab's network, otherwise as on this machine."""
        if self._network is None:
            raise LabError("the lab is down")
        return self._network.command(list(argv))

    def run(self, argv: Sequence[str], **kw: Any) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` in the lab's network: ``subprocess.run`` with captured text and no standard input."""
        settings: dict[str, Any] = {"text": True}
        if "stdout" not in kw and "stderr" not in kw:
            settings["capture_output"] = True
        if "input" not in kw:
            settings["stdin"] = subprocess.DEVNULL
        done: subprocess.CompletedProcess[str] = subprocess.run(self.command(argv), **(settings | kw))
        return done

    def ssh(self, host: str, *command: str, user: str = "audit", options: Sequence[str] = ()) -> list[str]:
        """Return an ssh command line for ``run``: strict host keys, no questions, its jump host if any."""
        return [*self._files.ssh(self._host(host), self._hosts, user, options), *command]

    def written(self, host: str) -> dict[str, Entry]:
        """List what a host has written since its start: path to (size, inode, mtime_ns, ctime_ns)."""
        return self._host(host).written()

    def sshd_log(self, host: str) -> str:
        """Return what a host's sshd has logged so far, at LogLevel VERBOSE."""
        return self._host(host).sshd_log()


def check_specs(specs: list[HostSpec]) -> None:
    """Refuse a set of hosts that cannot be stood up together."""
    names = [spec.name for spec in specs]
    if not 1 <= len(names) <= MOST_HOSTS:
        raise ValueError(f"{len(names)} hosts; a lab has 1 to {MOST_HOSTS}")
    if len(set(names)) != len(names):
        raise ValueError("two hosts have the same name")
    for spec in specs:
        if spec.behind is not None and (spec.behind not in names or spec.behind == spec.name):
            raise ValueError(f"{spec.name} is behind {spec.behind}, which is no other host of the lab")


def _each(do: Callable[[Host], None], hosts: Iterable[Host], at_once: int) -> None:
    """Do something for all hosts, ``at_once`` at a time; the first failure is raised."""
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(do, hosts))
