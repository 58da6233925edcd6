# SPDX-License-Identifier: Apache-2.0
"""Base root file systems, one per Debian release and set of further packages, built once with mmdebstrap and cached.

The cache lies in ``$FLEET_LAB_CACHE`` (default ``/var/cache/fleet-audit-lab``). An image's folder name holds
a hash of its recipe, so a changed recipe builds a new one. A build happens in a temporary folder beside its
place and is renamed into it, under a lock: what is there is whole.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.errors import LabError, LabUnavailable

RELEASES = ("bullseye", "bookworm", "trixie")
PACKAGES = "systemd-sysv,dbus,openssh-server,python3,sudo,iproute2,procps,ca-certificates"

# Everybody who can log in, with the numeric id that the image gives them (keys are laid over by the lab).
USERS = {"root": 0, "audit": 1001, "ops": 1002, "notty": 1003, "plain": 1004}

SETUP = r"""set -e
id=1001
for user in audit ops notty plain; do
  useradd --create-home --shell /bin/bash --uid $id $user
  chmod 700 /home/$user
  id=$((id + 1))
done
echo ops:ops | chpasswd
echo 'audit ALL=(ALL) NOPASSWD:ALL' > /etc/sudoers.d/audit
echo 'ops ALL=(ALL) ALL' > /etc/sudoers.d/ops
printf 'Defaults:notty requiretty\nnotty ALL=(ALL) NOPASSWD:ALL\n' > /etc/sudoers.d/notty
chmod 440 /etc/sudoers.d/*
rm -f /etc/ssh/ssh_host_*
: > /etc/machine-id
# What a container has no use for, and what would make many boots slow.
for unit in systemd-timesyncd.service systemd-networkd.service systemd-resolved.service \
    systemd-udevd.service console-getty.service getty@tty1.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer; do
  ln -sf /dev/null /etc/systemd/system/$unit
done
# Faults restart sshd many times, and tests count its log lines: no limit on either.
mkdir -p /etc/systemd/system/ssh.service.d /etc/systemd/journald.conf.d
printf '[Unit]\nStartLimitIntervalSec=0\n' > /etc/systemd/system/ssh.service.d/fleet.conf
printf '[Journal]\nRateLimitIntervalSec=0\n' > /etc/systemd/journald.conf.d/fleet.conf
"""

# The services that further packages bring are there, and begin when a test begins them.
QUIET = r"""
for unit in $(cd /etc/systemd/system && find . -path '*.wants/*' -newer /tmp/setup.sh -name '*.*' | sed 's|.*/||' | sort -u); do
  case $unit in ssh.*|dbus.*|systemd-*|getty*|remote-fs*) ;; *) systemctl disable --quiet "$unit" ;; esac
done
"""

# mmdebstrap's and apt's words for a mirror that cannot be reached or has the release no longer.
NOT_THERE = (
    "does not have a release file",
    "404 not found",
    "failed to fetch",
    "unable to fetch",
    "could not resolve",
    "temporary failure resolving",
    "could not connect",
    "unable to connect",
    "no longer",
    "is not signed",
    "unable to locate package",
    "apt-get update --error-on=any",
)


def cache_folder() -> Path:
    """Where the images lie."""
    return Path(os.environ.get("FLEET_LAB_CACHE") or "/var/cache/fleet-audit-lab")


def build_command(release: str, setup: Path, root: Path, packages: Sequence[str] = ()) -> list[str]:
    """Return the mmdebstrap command that makes ``root``: the recipe."""
    excluded = ("doc", "man", "locale")
    return [
        "mmdebstrap",
        "--mode=root",
        "--variant=minbase",
        f"--include={','.join([PACKAGES, *packages])}",
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=Acquire::Retries "3"',
        *[f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in excluded],
        f"--customize-hook=copy-in {setup} /tmp",
        '--customize-hook=chroot "$1" sh /tmp/setup.sh',
        '--customize-hook=rm "$1"/tmp/setup.sh',
        release,
        str(root),
    ]


def setup_script(packages: Sequence[str]) -> str:
    """What is run in the new root."""
    return SETUP + QUIET if packages else SETUP


def recipe_hash(release: str, packages: Sequence[str] = ()) -> str:
    """Name the recipe: any change to the command or to the setup script changes it."""
    command = build_command(release, Path("setup.sh"), Path("root"), packages)
    return hashlib.sha256("\0".join([*command, setup_script(packages)]).encode()).hexdigest()[:16]


def image(release: str, packages: Sequence[str] = ()) -> Path:
    """Return the root file system of ``release`` with these further packages, building it first where the cache lacks it."""
    if release not in RELEASES:
        raise ValueError(f"no such release: {release}; there are {', '.join(RELEASES)}")
    folder = cache_folder() / f"{release}-{recipe_hash(release, packages)}"
    if folder.is_dir():
        return folder
    if shutil.which("mmdebstrap") is None:
        raise LabUnavailable("mmdebstrap is not installed: run tests/hosts/install-packages")
    cache_folder().mkdir(parents=True, exist_ok=True)
    with _locked(cache_folder() / f"{release}.lock"):
        if not folder.is_dir():
            _build(release, folder, packages)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(release: str, folder: Path, packages: Sequence[str]) -> None:
    """Build beside ``folder`` and rename; images of older recipes stay, they may be in use."""
    started = time.monotonic()
    work = Path(tempfile.mkdtemp(prefix=f".{release}-", dir=folder.parent))
    try:
        setup = work / "setup.sh"
        setup.write_text(setup_script(packages))
        done = subprocess.run(build_command(release, setup, work / "root", packages), text=True, capture_output=True)
        if done.returncode:
            raise _failure(release, done.stderr)
        (work / "root").chmod(0o755)
        (work / "root").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    print(f"fleet lab: built the {release} image in {time.monotonic() - started:.0f} s: {folder}", flush=True)


def _failure(release: str, stderr: str) -> LabError:
    lines = [line.strip() for line in stderr.splitlines() if line.startswith(("E:", "W:", "Err:", "  "))]
    text = f"cannot build the {release} image: " + " | ".join(lines[-8:] or stderr.splitlines()[-8:])
    gone = any(word in stderr.lower() for word in NOT_THERE)
    return LabUnavailable(text + " (the mirror does not serve it)") if gone else LabError(text)
