# SPDX-License-Identifier: Apache-2.0
"""One running host."""

import os
import signal
import stat
import subprocess
import time
from pathlib import Path

from tests.hosts.errors import LabError
from tests.hosts.image import image
from tests.hosts.network import BRIDGE, Network, address, children
from tests.hosts.seed import Seed, write_seed
from tests.hosts.spec import HostSpec

SCRIPT = Path(__file__).with_name("start-host.sh")
JOURNAL = "journalctl --sync; exec journalctl --quiet --output=cat -t sshd -t sshd-session -t sshd-auth"
RUNTIME_FOLDERS = ("/run", "/tmp", "/dev/shm")
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8"}

Entry = tuple[int, int, int, int]


class Host:
    """A host: its description, its folder, its processes."""

    def __init__(self, spec: HostSpec, index: int, folder: Path, network: Network) -> None:
        """Say what the host will be; ``index`` gives it its address."""
        self.spec = spec
        self.name = spec.name
        self.address = address(index)
        self.folder = folder
        self.public_key = ""
        self._network = network
        self._veth = f"fv{index}"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def start(self, client_key: str, cgroup: str) -> None:
        """Write the seed and start the host; it is ready later."""
        base = image(self.spec.release, self.spec.packages)
        seed = Seed(self.folder / "seed", base)
        self.public_key = write_seed(seed, self.spec, self.address, client_key)
        settings = {
            "KIND": self.spec.kind,
            "D": str(self.folder),
            "LOWER": f"{seed.folder}:{base}",
            "SIZE": self.spec.disk,
            "VETH": self._veth,
            "ADDR": self.address,
            "NAME": self.name,
            "CGROUP": f"{cgroup}-{self.name}",
            "BRIDGE": BRIDGE,
        }
        enter = ["nsenter", f"--pid=/proc/{self._network.pid}/ns/pid", "--"]
        unshare = ["unshare", "--mount", "--net", "--uts", "--ipc", "sh", str(SCRIPT)]
        with self.log_path.open("wb") as log:
            self._process = subprocess.Popen(
                enter + unshare,
                env=ENVIRONMENT | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log_path(self) -> Path:
        """What the host's start and, on a light host, its sshd wrote."""
        return self.folder / "log"

    @property
    def ended(self) -> bool:
        """Whether the host's processes are gone."""
        return self._process is None or self._process.poll() is not None

    def settle(self) -> None:
        """Finish a host whose sshd answers: wait for its boot to end, give it its own /proc and /sys."""
        if self.spec.kind == "boot":
            self.exec(["systemctl", "is-system-running", "--wait"], check=False)
            self.exec(["sh", "/.fleet/mounts", ""])

    def reboot(self) -> None:
        """Restart a booted host, and return when it takes logins again; what it wrote on its disk stays."""
        before, self._leader = self.leader, 0
        _run(["nsenter", "-t", str(before), "-m", "-u", "-i", "-n", "-p", "--", "systemctl", "reboot"], False, None, 60, ENVIRONMENT)
        for _ in range(600):
            time.sleep(0.1)
            try:
                if self.leader != before and self.exec(["systemctl", "is-active", "--quiet", "ssh"], check=False).returncode == 0:
                    return self.settle()
            except LabError:
                pass
            if self._leader == before:
                self._leader = 0
        raise LabError(f"{self.name} did not come back: {self.log_path.read_text(errors='replace')[-2000:]}")

    def allow_only(self, source: str) -> None:
        """Drop what comes to port 22 from anywhere but ``source``."""
        rules = f"tcp dport 22 meta nfproto ipv6 drop; tcp dport 22 ip saddr != {source} drop;"
        table = f"table inet fleet_behind {{ chain in {{ type filter hook input priority 0; {rules} }}; }}"
        self.in_network(["nft", table])

    @property
    def _outer(self) -> int:
        """The process that waits outside the host's process namespace: unshare, or the shell that starts systemd-nspawn."""
        found = children(self._process.pid) if self._process else []
        if not found:
            raise LabError(f"{self.name} is not running: {self.log_path.read_text(errors='replace')[-2000:]}")
        return found[0]

    @property
    def leader(self) -> int:
        """The host's process 1, as this machine numbers it."""
        if not self._leader:
            below = children(self._outer)
            for pid in [*below, *(child for parent in below for child in children(parent))]:
                if _innermost_pid(pid) == 1:
                    self._leader = pid
        if not self._leader:
            raise LabError(f"{self.name} has no process 1 yet")
        return self._leader

    def exec(
        self, argv: list[str], check: bool = True, *, input: str | None = None, timeout: float | None = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ``argv`` inside the host as root, not through SSH."""
        enter = ["nsenter", "-t", str(self.leader), "-m", "-u", "-i", "-n", "-p", "--"]
        return _run(enter + argv, check, input, timeout, ENVIRONMENT)

    def in_network(self, argv: list[str], check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of this machine's own tools in the host's network namespace."""
        return _run(["nsenter", "-t", str(self.leader), "-n", "--", *argv], check, None, 60, None)

    def helper(self, argv: list[str]) -> subprocess.Popen[str]:
        """Start one of this machine's programs in the host's network; it ends with the lab at the latest."""
        enter = [
            "nsenter",
            f"--pid=/proc/{self._network.pid}/ns/pid",
            f"--net=/proc/{self.leader}/ns/net",
            "--",
        ]
        return subprocess.Popen(
            enter + argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def reload_sshd(self) -> None:
        """Make sshd read its configuration; returns when it listens again."""
        if self.spec.kind == "boot":
            self.exec(["systemctl", "restart", "ssh"])
            return
        before = self.sshd_log().count("Server listening")
        os.kill(self.leader, signal.SIGHUP)
        for _ in range(500):
            if self.sshd_log().count("Server listening") > before:
                return
            time.sleep(0.01)
        raise LabError(f"{self.name}: sshd did not come back: {self.sshd_log()[-2000:]}")

    def pause_sshd(self, paused: bool) -> None:
        """Stop or continue the sshd that listens; process 1 takes no such signal from inside."""
        if self.spec.kind == "light":
            os.kill(self.leader, signal.SIGSTOP if paused else signal.SIGCONT)
        else:
            self.exec(["sh", "-c", f"kill -{'STOP' if paused else 'CONT'} $(cat /run/sshd.pid)"])

    def sshd_log(self) -> str:
        """Return what sshd has logged so far."""
        if self.spec.kind == "boot":
            return self.exec(["sh", "-c", JOURNAL], check=False).stdout
        return self.log_path.read_text(errors="replace")

    def written(self) -> dict[str, Entry]:
        """List what was written since the start: path to size, inode, mtime and ctime in nanoseconds."""
        if self.spec.kind == "boot":
            upper = Path(f"/proc/{self._outer}/root{self.folder}/fs/upper")
        else:
            upper = Path(f"/proc/{self._outer}/fd/9")
        found = _listing(upper, "")
        for folder in RUNTIME_FOLDERS:
            found |= _listing(Path(f"/proc/{self.leader}/root{folder}"), folder)
        return found

    def wait(self) -> None:
        """Reap the host's first process, once the lab has ended it."""
        if self._process is not None:
            self._process.wait(timeout=30)


def _run(
    argv: list[str], check: bool, input: str | None, timeout: float | None, env: dict[str, str] | None
) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(argv, input=input or "", text=True, errors="replace", capture_output=True, timeout=timeout, env=env)
    if check and done.returncode:
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done


def _innermost_pid(pid: int) -> int:
    """Return the number that a process has in its own process namespace."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def _listing(top: Path, shown: str) -> dict[str, Entry]:
    """List a folder, itself included, without following links in it; what vanishes meanwhile is left out."""
    found: dict[str, Entry] = {}
    todo = [(top, shown or "/")]
    while todo:
        path, name = todo.pop()
        try:
            info = path.stat(follow_symlinks=path == top)
            inside = list(path.iterdir()) if stat.S_ISDIR(info.st_mode) else []
        except FileNotFoundError:
            continue
        found[name] = (info.st_size, info.st_ino, info.st_mtime_ns, info.st_ctime_ns)
        todo += [(each, f"{name.rstrip('/')}/{each.name}") for each in inside]
    return found
