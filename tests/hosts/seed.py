# SPDX-License-Identifier: Apache-2.0
"""The seed of a host: the read-only layer above the image that holds all in which the host differs."""

import hashlib
import os
import shlex
import stat
import subprocess
from pathlib import Path, PurePosixPath

from tests.hosts.image import USERS
from tests.hosts.spec import HostSpec

# Run with the root folder as $1 ("" when run inside). Of /proc/sys only net belongs to the host: the rest is
# the whole machine's and stays read-only, or a sysctl in a test host would change the machine of the tests.
SYSCTL_MOUNTS = """set -e
sys="$1/proc/sys"
if [ -n "$1" ]; then mount --bind "$sys" "$sys"; mount -o remount,bind,ro "$sys"; fi
mount --bind "$sys/net" "$sys/net"
mount -o remount,bind,rw "$sys/net"
"""


class Seed:
    """Writes one host's seed layer into ``folder``; ``base`` is the image under it."""

    def __init__(self, folder: Path, base: Path) -> None:
        """Make the folder."""
        self.folder = folder
        self.base = base
        folder.mkdir(parents=True)
        folder.chmod(0o755)

    def place(self, path: str, text: str, mode: int = 0o644) -> Path:
        """Write a file; it belongs to the owner of its folder."""
        file = self._parent(path) / PurePosixPath(path).name
        file.write_text(text)
        file.chmod(mode)
        owner = file.parent.stat()
        os.chown(file, owner.st_uid, owner.st_gid)
        return file

    def remove(self, path: str) -> None:
        """Hide a file of the image with an overlayfs whiteout."""
        os.mknod(self._parent(path) / PurePosixPath(path).name, stat.S_IFCHR, os.makedev(0, 0))

    def _parent(self, path: str) -> Path:
        """Make the folders above ``path`` as the image has them: links followed, modes and owners kept."""
        here = PurePosixPath()
        for part in PurePosixPath(path).parts[1:-1]:
            above, here = here, here / part
            if (self.base / here).is_symlink():
                target = (self.base / here).readlink()
                here = PurePosixPath(os.path.normpath(PurePosixPath("/") / above / target)).relative_to("/")
            self._folder(self.folder / here, self.base / here)
        return self.folder / here

    @staticmethod
    def _folder(ours: Path, theirs: Path) -> None:
        if ours.is_dir():
            return
        ours.mkdir(parents=True)
        like = theirs.stat() if theirs.is_dir() else ours.parent.stat()
        ours.chmod(stat.S_IMODE(like.st_mode))
        os.chown(ours, like.st_uid, like.st_gid)


def write_seed(seed: Seed, spec: HostSpec, address: str, client_key: str) -> str:
    """Write everything in which the host differs; return its public host key (type and base64)."""
    seed.place("/etc/hostname", spec.name + "\n")
    seed.place("/etc/hosts", f"127.0.0.1 localhost\n{address} {spec.name}\n")
    seed.place("/etc/resolv.conf", "# no name servers in the lab\n")
    seed.place("/etc/machine-id", hashlib.sha256(spec.name.encode()).hexdigest()[:32] + "\n")
    public = _write_ssh(seed, spec, client_key)
    for path, text in spec.files.items():
        default = 0o755 if text.startswith("#!") else 0o644
        seed.place(path, text, spec.modes.get(path, default))
    for path, text in spec.fake.items():
        seed.place("/.fleet/fake" + path, text)
    seed.place("/.fleet/mounts", mounts_script(spec))
    if not spec.python:
        for binary in (seed.base / "usr/bin").glob("python3*"):
            seed.remove(f"/usr/bin/{binary.name}")
    return public


def _write_ssh(seed: Seed, spec: HostSpec, client_key: str) -> str:
    """Write the host key, sshd's configuration and the users' keys; the first value sshd meets wins."""
    config = "HostKey /etc/ssh/ssh_host_ed25519_key\nUseDNS no\nLogLevel VERBOSE\n"
    seed.place("/etc/ssh/sshd_config.d/10-fleet.conf", config)
    if spec.sshd:
        seed.place("/etc/ssh/sshd_config.d/05-spec.conf", "".join(line + "\n" for line in spec.sshd))
    for user in USERS:
        home = "/root" if user == "root" else f"/home/{user}"
        keys = seed.place(f"{home}/.ssh/authorized_keys", client_key + "\n", 0o600)
        keys.parent.chmod(0o700)
    key = seed.folder / "etc/ssh/ssh_host_ed25519_key"
    generate_key(key, spec.name)
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def generate_key(path: Path, comment: str) -> None:
    """Make an ed25519 key pair without a passphrase."""
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def mounts_script(spec: HostSpec) -> str:
    """Return the script that makes /proc and /sys this host's own."""
    proc = [shlex.quote(path) for path in spec.fake if path.startswith("/proc/")]
    tops = sorted({"/".join(path.split("/")[:3]) for path in spec.fake if path.startswith("/sys/")})
    sysctl = {shlex.quote(key.replace(".", "/")): shlex.quote(value) for key, value in spec.sysctl.items()}
    lines = [
        # A folder of /sys may lack the file, and takes no new one: lay an overlay over it.
        *[f'mount -t overlay overlay -o "ro,lowerdir=$1/.fleet/fake{top}:$1{top}" "$1{top}"\n' for top in tops],
        *[f'mount --bind "$1"/.fleet/fake{path} "$1"{path}\n' for path in proc],
        *[f'echo {value} > "$1"/proc/sys/{key}\n' for key, value in sysctl.items()],
    ]
    return SYSCTL_MOUNTS + "".join(lines)
