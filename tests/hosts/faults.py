# SPDX-License-Identifier: Apache-2.0
"""What can be made wrong with a host, and made right again."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.hosts.errors import LabError
from tests.hosts.host import Host
from tests.hosts.network import children

BUSY_PORT = 2222
HOMES = "/root /home/audit /home/ops /home/notty /home/plain"


@dataclass(frozen=True)
class Fault:
    """One fault.

    ``seen``: what a client sees.
    ``where``: ``net`` runs ``do`` and ``undo`` with this machine's tools in the host's network, ``host`` runs
    them inside the host; ``config`` writes ``do`` into sshd's configuration; the rest is done in Python.
    ``arg``: the default of the argument, for which ``{arg}`` stands in ``do`` and ``undo``.
    ``reload``: sshd has to read its configuration again.
    """

    seen: str
    where: Literal["net", "host", "config", "pause", "busy"]
    do: str = ""
    undo: str = ""
    arg: str = ""
    reload: bool = False


def _filter(rule: str) -> str:
    """Return the command for a rule on what reaches the host."""
    return f"nft 'table inet fleet_fault {{ chain in {{ type filter hook input priority 0; {rule}; }}; }}'"


def _bashrc(name: str, line: str, seen: str) -> Fault:
    """Return the fault that puts ``line`` first in everybody's .bashrc (bash reads it under sshd, too)."""
    put = f"cp -p $f $f.{name} 2>/dev/null || : > $f.{name}; {{ echo '{line}'; cat $f.{name}; }} > $f"
    do = f"for d in {HOMES}; do f=$d/.bashrc; {put}; done"
    undo = f"for d in {HOMES}; do mv $d/.bashrc.{name} $d/.bashrc; done"
    return Fault(seen, "host", do, undo)


CLEAR_FILTER = "nft delete table inet fleet_fault"
KEY = "/etc/ssh/ssh_host_ed25519_key"
SLOW = r"""f=/usr/local/bin/{arg}
printf '#!/bin/sh\nsleep 30\nexec /usr/bin/{arg} "$@"\n' > $f
chmod 755 $f"""

FAULTS: dict[str, Fault] = {
    "blackhole": Fault("connect times out", "net", _filter("tcp dport 22 drop"), CLEAR_FILTER),
    "refuse": Fault("connection refused", "net", _filter("tcp dport 22 reject with tcp reset"), CLEAR_FILTER),
    "cut": Fault(
        "connect times out, later 'No route to host'",
        "net",
        "ip link set eth0 down",
        "ip link set eth0 up",
    ),
    "rate": Fault(
        "works, large output crawls (ARG: a tc rate)",
        "net",
        "tc qdisc replace dev eth0 root tbf rate {arg} burst 4kb latency 2s",
        "tc qdisc del dev eth0 root",
        arg="64kbit",
    ),
    "nobanner": Fault("TCP opens, the banner never comes", "pause"),
    "busy": Fault("'Not allowed at this time' instead of the banner, then closed", "busy"),
    "noauth": Fault("Permission denied for every key", "config", "PubkeyAuthentication no"),
    "newkey": Fault(
        "REMOTE HOST IDENTIFICATION HAS CHANGED",
        "host",
        f"mv {KEY} {KEY}.old; mv {KEY}.pub {KEY}.pub.old; ssh-keygen -q -t ed25519 -N '' -f {KEY}",
        f"mv {KEY}.old {KEY}; mv {KEY}.pub.old {KEY}.pub",
        reload=True,
    ),
    "nologin": Fault(
        "audit: 'This account is currently not available.', status 1",
        "host",
        "usermod --shell /usr/sbin/nologin audit",
        "usermod --shell /bin/bash audit",
    ),
    "forced": Fault("every command prints 'nothing', status 0", "config", "ForceCommand /bin/echo nothing"),
    "hang": Fault("logs in, then silence for an hour", "config", "ForceCommand /bin/sleep 3600"),
    "flood": Fault("every command prints 'y' without end", "config", "ForceCommand /usr/bin/yes"),
    "cutreply": Fault(
        "a reply stops after ARG bytes, status 0",
        "config",
        'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND" | head -c {arg}',
        arg="100",
    ),
    "close": Fault(
        "no reply at all, status 0",
        "config",
        'ForceCommand sh -c "$SSH_ORIGINAL_COMMAND" | head -c 0',
    ),
    "noise": _bashrc("noise", "echo WELCOME; echo noise >&2", "text on stdout and stderr before a command's own"),
    "stdin-eater": _bashrc("eater", "read -r x", "the first line of standard input is lost; without input it waits"),
    "nopython": Fault(
        "python3: command not found, status 127",
        "host",
        "mkdir /root/.fleet-python; mv /usr/bin/python3* /root/.fleet-python",
        "mv /root/.fleet-python/* /usr/bin; rmdir /root/.fleet-python",
    ),
    "slow": Fault("the command ARG takes 30 s longer", "host", SLOW, "rm /usr/local/bin/{arg}", arg="uname"),
}


class Faults:
    """The faults that a host has now."""

    def __init__(self, host: Host) -> None:
        """Start with none."""
        self._host = host
        self._active: list[tuple[str, str]] = []
        self._helper: subprocess.Popen[str] | None = None

    def set(self, name: str, arg: str | None) -> None:
        """Put a fault on top of those the host has."""
        if name not in FAULTS:
            raise ValueError(f"no such fault: {name}; there are {', '.join(FAULTS)}")
        if any(name == active for active, _ in self._active):
            raise ValueError(f"{self._host.name} has the fault {name} already")
        fault = FAULTS[name]
        value = fault.arg if arg is None else arg
        if not re.fullmatch(r"[A-Za-z0-9._-]*", value):
            raise ValueError(f"not an argument for a fault: {value!r}")
        self._apply(name, fault, fault.do.replace("{arg}", value), on=True)
        self._active.append((name, value))

    def clear(self) -> None:
        """Take all faults away, the last one first."""
        while self._active:
            name, value = self._active.pop()
            fault = FAULTS[name]
            self._apply(name, fault, fault.undo.replace("{arg}", value), on=False)

    def _apply(self, name: str, fault: Fault, text: str, *, on: bool) -> None:
        host = self._host
        if fault.where == "net":
            host.in_network(["sh", "-ec", text])
        elif fault.where == "host":
            host.exec(["sh", "-ec", text])
        elif fault.where == "pause":
            host.pause_sshd(on)
        elif fault.where == "busy":
            self._busy(on)
        else:
            path = f"/etc/ssh/sshd_config.d/00-fault-{name}.conf"
            host.exec(["sh", "-c", f"cat > {path}" if on else f"rm {path}"], input=text + "\n")
        if fault.reload or fault.where == "config":
            host.reload_sshd()

    def _busy(self, on: bool) -> None:
        """Send new connections to a server of ours; sshd goes on (on a light host it is process 1)."""
        if not on:
            self._host.in_network(["nft", "delete table ip fleet_busy"])
            self.stop_helper()
            return
        script = Path(__file__).with_name("busy.py")
        self._helper = self._host.helper([sys.executable, str(script), str(BUSY_PORT)])
        if self._helper.stdout is None or self._helper.stdout.readline() != "ready\n":
            raise LabError("the busy server did not start")
        rule = f"type nat hook prerouting priority dstnat; tcp dport 22 redirect to :{BUSY_PORT};"
        self._host.in_network(["nft", f"table ip fleet_busy {{ chain in {{ {rule} }}; }}"])

    def stop_helper(self) -> None:
        """End the helper process, if there is one."""
        if self._helper is None:
            return
        for pid in children(self._helper.pid):
            os.kill(pid, signal.SIGKILL)
        self._helper.wait(timeout=30)
        if self._helper.stdout is not None:
            self._helper.stdout.close()
        self._helper = None
