# SPDX-License-Identifier: Apache-2.0
"""An sshd on loopback, run as the current user: a high port, own keys and configuration, no lab, no root.

Each client key of `KEYS` logs in alike; some have a forced command that spoils the conversation in one way.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

KEYS = {
    "good": "",
    "noise": 'echo WELCOME; echo NOISE >&2; exec sh -c "$SSH_ORIGINAL_COMMAND"',
    "cut": 'sh -c "$SSH_ORIGINAL_COMMAND" | head -c 2500',
    "lost": 'sh -c "$SSH_ORIGINAL_COMMAND" | head -c 2500; sleep 0.7; kill -9 $PPID',
    "hang": "exec sleep 60",
    "forced": "echo nothing",
    "flood": "exec yes",
    "eater": 'read -r x; exec sh -c "$SSH_ORIGINAL_COMMAND"',
    "die": "kill -9 $PPID",
}


class Sshd:
    """A running sshd, its keys and what it logged."""

    def __init__(self, binary: str, folder: Path) -> None:
        self.folder = folder
        self.user = getpass.getuser()
        self.host_key = self._key("host")
        self.client_keys = {name: self._key(f"id_{name}") for name in (*KEYS, "stranger")}
        self.known_hosts = folder / "known_hosts"
        self.log = folder / "log"
        self._authorize()
        for _ in range(5):  # another process may take the port between the look and the start
            self.port = _free_port()
            self.process = self._start(binary)
            if self._listens():
                break
            self.process.wait(10)
        else:
            raise RuntimeError(f"sshd does not listen: {self.log.read_text()}")
        public = self.host_key.with_suffix(".pub").read_text().split()
        self.public_key = " ".join(public[:2])
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {self.public_key}\n")

    def _key(self, name: str) -> Path:
        path = self.folder / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        return path

    def _authorize(self) -> None:
        lines = []
        for name, command in KEYS.items():
            quoted = command.replace('"', '\\"')
            forced = f'command="{quoted}" ' if command else ""
            lines.append(forced + self.client_keys[name].with_suffix(".pub").read_text())
        (self.folder / "authorized_keys").write_text("".join(lines))

    def _start(self, binary: str) -> subprocess.Popen[bytes]:
        if os.geteuid() == 0:  # what Debian's service makes before it starts sshd
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        config = self.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.host_key}\nPidFile none\nLogLevel VERBOSE\n"
            f"AuthorizedKeysFile {self.folder}/authorized_keys\nStrictModes no\nPermitRootLogin prohibit-password\n"
            f"PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nMaxAuthTries 20\nUseDNS no\n"
            f"UsePAM {'yes' if os.geteuid() == 0 else 'no'}\n"
        )
        extra = ["-o", "PerSourcePenalties=no"]  # from 9.8 on; a test fails to log in often
        if subprocess.run([binary, "-t", "-f", str(config), *extra], capture_output=True, check=False).returncode:
            extra = []
        with self.log.open("wb") as log:
            return subprocess.Popen([binary, "-D", "-e", "-f", str(config), *extra], stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def _listens(self) -> bool:
        for _ in range(500):
            if self.process.poll() is not None:
                return False
            if "Server listening" in self.log.read_text(errors="replace"):
                return True
            time.sleep(0.01)
        return False

    def count(self, words: str) -> int:
        """How often sshd has logged something."""
        return len(re.findall(words, self.log.read_text(errors="replace")))

    def ssh_args(self, known_hosts: Path | None = None) -> tuple[str, ...]:
        """Options that keep the user's own SSH settings out."""
        return (
            "-F", "none", "-o", f"UserKnownHostsFile={known_hosts or self.known_hosts}", "-o", "GlobalKnownHostsFile=none",
            "-o", "StrictHostKeyChecking=yes", "-o", "IdentitiesOnly=yes",
        )  # fmt: skip

    def stop(self) -> None:
        """End it; its sessions end with their connections."""
        self.process.terminate()
        self.process.wait(10)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """An sshd on 127.0.0.1 that takes logins of the current user."""
    binary = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if binary is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd on loopback: openssh-server is not installed here")
    running = Sshd(binary, tmp_path_factory.mktemp("sshd"))
    try:
        yield running
    finally:
        running.stop()
