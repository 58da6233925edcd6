# SPDX-License-Identifier: Apache-2.0
"""Hosts that the roles are tried on: Debian with the services that the roles harden, and what each role's script makes bad.

The first line of ROLE.sh names the checks that then fail, and that the role mends.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tests.hosts import HostSpec

HERE = Path(__file__).parent
SCRIPTS = {path.stem: path for path in sorted(HERE.glob("*.sh"))}
PACKAGES = (
    "apparmor", "auditd", "chrony", "kmod", "libpam-pwquality", "munge", "nfs-kernel-server", "nftables", "rsyslog", "rsyslog-gnutls", "slurmctld",
    "slurmd", "unattended-upgrades",
)  # fmt: skip
KERNEL = {
    "/proc/sys/kernel/kptr_restrict": "0", "/proc/sys/kernel/dmesg_restrict": "1",
    "/proc/sys/kernel/perf_event_paranoid": "3", "/proc/sys/kernel/randomize_va_space": "2",
    "/proc/sys/fs/protected_fifos": "1", "/proc/sys/fs/protected_regular": "2",
    "/proc/sys/fs/protected_hardlinks": "1", "/proc/sys/fs/protected_symlinks": "1", "/proc/sys/fs/suid_dumpable": "0",
    "/proc/sys/vm/mmap_min_addr": "65536", "/proc/sys/vm/legacy_va_layout": "0",
    "/proc/sys/kernel/core_pattern": "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h",
}  # fmt: skip
"""Settings that belong to the whole machine, and that these hosts have as files of their own."""


def host(name: str) -> HostSpec:
    """A booted host of this kind, not bad yet."""
    folder = HERE.parent
    files = {
        "/usr/local/lib/play": (folder / "play.py").read_text("utf-8"),
        "/usr/local/lib/flips.sh": (folder / "flips.sh").read_text("utf-8"),
    }
    fake = {path: f"{value}\n" for path, value in KERNEL.items()}
    return HostSpec(name, kind="boot", release="bookworm", packages=PACKAGES, files=files, fake=fake, disk="256m")


def chosen(roles: Sequence[str]) -> list[str]:
    """Which of them are tried: two, or as MOLECULE says all, or the third that a commit's hash falls on."""
    word = os.environ.get("MOLECULE", "")
    if word == "all":
        return list(roles)
    if word:
        return sorted(roles)[int(word[:8], 16) % 3 :: 3]
    return [role for role in roles if role in ("file_permissions", "ssh_hardening")]


def checks(role: str) -> list[str]:
    """Those that fail after the role's script."""
    return SCRIPTS[role].read_text("utf-8").splitlines()[0].removeprefix("# checks: ").split()


UNSEEN = {
    "apparmor": "the machine's kernel may have no AppArmor", "kernel_modules": "the machine's kernel may have no modules",
    "nvidia_devices": "the hosts have no driver", "nvidia_driver": "the hosts have no driver", "nvidia_settings": "the hosts have no driver",
    "snaps": "the hosts have no snapd", "swap_encryption": "a guest shows no swap of its own",
}  # fmt: skip
"""Roles whose facts no host of the lab shows: they are tried by their Molecule scenario alone."""
POLICY: dict[str, object] = {
    "params": {"listeners-allowed": {"allowed": ["22/tcp", "9100/tcp"]}, "packets-not-forwarded": {"engines": []}},
    "remediation": {
        "vars": {
            "log_forwarding_target": "logs.example.invalid:6514",
            "firewall_trusted_networks": ["10.20.0.0/16", "fd00:1::/64"],
            "service_binding_units": {
                "mlflow.service": {
                    "environment": {"LISTEN": "tcp|127.0.0.1|5000"},
                    "command": ["/opt/mlflow/bin/mlflow", "server", "--host", "127.0.0.1"],
                },
                "aim.service": {"environment": {"LISTEN": "tcp|127.0.0.1|43800"}},
            },
            "nvidia_persistence_options": "--chuid nvidia-persistenced --start --exec /usr/lib/play/nvidia-persistenced -- infinity".split(),
        }
    },
}
"""What the site says: parameters of checks, and variables of roles that have no value of their own."""
