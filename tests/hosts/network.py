# SPDX-License-Identifier: Apache-2.0
"""The lab's network namespace, held by a process that is also process 1 of the lab's process namespace.

The holder waits on its standard input. When the lab closes that pipe, or the lab's own process dies in
whatever way, the holder ends, and the kernel ends every host with it and clears mounts, cables and bridge.
"""

import ipaddress
import os
import shutil
import subprocess
from pathlib import Path

from tests.hosts.errors import LabError, LabUnavailable

BRIDGE = "fleetbr"
RANGE = ipaddress.ip_network("198.18.0.0/16")  # RFC 2544: for test networks
CONTROLLER = str(RANGE.network_address + 1)
MOST_HOSTS = 1000  # a bridge takes 1024 ports
TOOLS = ("unshare", "nsenter", "ip", "nft", "tc", "ssh", "ssh-keygen", "systemd-nspawn", "mmdebstrap")

HOLDER = f"""set -e
ip link set lo up
ip link add {BRIDGE} type bridge
ip addr add {CONTROLLER}/{RANGE.prefixlen} dev {BRIDGE}
ip link set {BRIDGE} up
echo ready
read -r _ || :
"""


def check_machine() -> None:
    """Say clearly what this machine lacks."""
    if os.geteuid() != 0:
        raise LabUnavailable("the lab needs root: it makes namespaces and mounts")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise LabUnavailable(f"not installed: {', '.join(missing)}; run tests/hosts/install-packages")


def address(index: int) -> str:
    """Return the address of the ``index``-th host, counted from 1."""
    return str(RANGE.network_address + 256 + index)


class Network:
    """The holder process and the two namespaces it holds."""

    def __init__(self) -> None:
        """Start the holder and wait until its bridge is up."""
        command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", HOLDER]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        if self._process.stdout.readline() != b"ready\n":
            reason = self._process.stderr.read().decode(errors="replace").strip()
            self._process.wait()
            self._close_pipes()
            raise LabUnavailable(f"this machine gives no network namespace with a bridge: {reason}")
        self.pid = children(self._process.pid)[0]

    def command(self, argv: list[str]) -> list[str]:
        """Return the command that runs ``argv`` in the lab's network namespace, otherwise as it is here."""
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *argv]

    def close(self) -> None:
        """End the holder, and every process of the lab with it; returns when they are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise LabError("the lab's processes did not end within a minute") from None
        finally:
            self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()


def children(pid: int) -> list[int]:
    """Return the children of a process; none when it is gone."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
