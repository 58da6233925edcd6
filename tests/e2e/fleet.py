# SPDX-License-Identifier: Apache-2.0
"""The fleet of the lab: which hosts there are, what is wrong with each, and under which names they are audited."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.hosts import HostSpec, Lab, LabUnavailable
from tests.hosts.image import image

PASSWORD = "Vq7-of-ops-9Zk"
WRONG = "Xw3-wrong-for-ops-5Tp"
TOKEN = "hf_aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"
RELEASES = {"deb11": "bullseye", "deb12": "bookworm", "deb13": "trixie"}
FAULTS = {
    "hang": "hang", "flood": "flood", "noise": "noise", "newkey": "newkey", "black": "blackhole", "refuse": "refuse",
    "nobanner": "nobanner", "cutreply": "cutreply", "close": "close", "busy": "busy", "noauth": "noauth",
    "nologin": "nologin", "forced": "forced", "eater": "stdin-eater",
}  # fmt: skip
BY_OPENSSH = ("deb12", "fine1", "refuse", "black", "newkey", "noauth", "nologin", "forced", "cutreply", "busy", "noise", "nobanner")
"""Hosts that are audited a second time, as NAME-openssh."""
PLAIN = "Zx9q-of-no-known-kind-77w"
"""A secret that only the word before it gives away."""
PRIVATE_KEY = "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW"
HASH = "$6$rounds=5000$saltsalt$0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijkl"
LEAKS = {
    "/home/audit/.cache/huggingface/token": TOKEN, "/root/.netrc": f"machine x login y password {TOKEN}\n",
    "/etc/environment": f"HF_TOKEN={TOKEN}\nexport DB_PASSWORD='{PLAIN}'\n",
    "/root/.aws/credentials": f"[default]\naws_access_key_id = AKIAABCDEFGHIJKLMNOP\naws_secret_access_key = {PLAIN}\n",
    "/root/.kube/config": f"users:\n- name: a\n  user:\n    token: {PLAIN}\n", "/root/.git-credentials": f"https://u:{PLAIN}@github.com\n",
    "/root/.ssh/id_ed25519": f"-----BEGIN OPENSSH PRIVATE KEY-----\n{PRIVATE_KEY}\n-----END OPENSSH PRIVATE KEY-----\n",
    "/root/.config/pip/pip.conf": f"[global]\nextra-index-url = https://u:{PLAIN}@pypi.example.invalid/simple\n",
    "/etc/sudoers.d/leak": f"audit ALL=(root) /usr/bin/mysql -p{PLAIN}, /usr/bin/x --password={PLAIN}, /usr/bin/y {TOKEN}\n",
    "/etc/pam.d/leak": f"auth required pam_mysql.so user=x passwd={PLAIN} host=y\n",
    "/etc/cron.d/leak": f"* * * * * root curl -u me:{PLAIN} https://x.example.invalid/?token={PLAIN}\n",
    "/etc/systemd/system/leak.service": f"[Service]\nEnvironment=API_KEY={PLAIN}\nExecStart=/bin/true --api-key {PLAIN} --hf {TOKEN}\n",
    "/etc/apt/sources.list.d/leak.list": f"deb https://u:{PLAIN}@apt.example.invalid/ stable main\n",
    "/etc/slurm/slurmdbd.conf": f"AuthType=auth/munge\nStorageUser=slurm\nStoragePass={PLAIN}\n",
    "/etc/redis/redis.conf": f"bind 0.0.0.0\nport 6379\nrequirepass {PLAIN}\nmasterauth {PLAIN}\n",
    "/etc/docker/daemon.json": '{"hosts": ["tcp://0.0.0.0:2375"], "proxies": {"http-proxy": "http://u:' + PLAIN + '@p:1"}}\n',
    "/etc/rsyslog.d/leak.conf": f'action(type="omelasticsearch" server="x" uid="u" pwd="{PLAIN}")\n',
    "/etc/fstab": f"//x/y /mnt cifs username=u,password={PLAIN} 0 0\n", "/etc/chrony/chrony.keys": f"1 SHA1 {PLAIN}\n",
    "/etc/default/leak": f"PASSWORD={PLAIN}\n", "/etc/profile.d/leak.sh": f"export WANDB_API_KEY={PLAIN}\n",
    "/home/audit/.jupyter/jupyter_server_config.py": f"c.ServerApp.token = '{PLAIN}'\nc.PasswordIdentityProvider.hashed_password = '{HASH}'\n",
    "/home/audit/.ssh/authorized_keys2": f"command=\"x --password {PLAIN}\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIniNR1z2dg8LNbx3K7g"
                                         f"gRlYzyI5tbEVCqEHQZqaw+Ek {PLAIN}\n",
}  # fmt: skip


FAKES = {"/proc/cmdline": f"BOOT_IMAGE=/vmlinuz ro quiet rd.iscsi.password={TOKEN} url=http://x:{TOKEN}@y/\n"}


def specs(releases: Mapping[str, str]) -> list[HostSpec]:
    """All hosts. The twins are never audited."""
    return [
        *(HostSpec(name, kind="boot", release=release, files=LEAKS if name == "deb12" else {},
                   fake=FAKES if name == "deb12" else {}) for name, release in releases.items()),
        HostSpec("quiet", kind="boot"), HostSpec("twin", kind="boot", in_inventory=False),
        HostSpec("calm"), HostSpec("twin-calm", in_inventory=False),
        HostSpec("jump"), HostSpec("behind", behind="jump"), HostSpec("nopy", python=False),
        HostSpec("rootlogin", sshd=("PermitRootLogin yes",)), *(HostSpec(f"fine{n}") for n in range(1, 5)),
        *(HostSpec(name) for name in FAULTS),
    ]  # fmt: skip


def obtainable() -> tuple[dict[str, str], dict[str, str]]:
    """(name -> release, name -> why not) of those that the mirror has, and of those that it lacks."""
    there, missing = {}, {}
    for name, release in RELEASES.items():
        try:
            image(release)
            there[name] = release
        except LabUnavailable as error:
            missing[name] = f"the mirror lacks {release}: {error}"
    return there, missing


class Fleet:
    """The lab with these hosts up and their faults set."""

    def __init__(self, folder: Path) -> None:
        self.lab = Lab(folder)
        self.folder = folder
        self.missing: dict[str, str] = {}
        """Host -> why its release cannot be had."""
        self.inventory = folder / "fleet.ini"

    def up(self) -> None:
        """Start all that can be had. Raises `LabUnavailable` if bookworm is not in it."""
        releases, self.missing = obtainable()
        if "deb12" in self.missing:
            raise LabUnavailable(self.missing["deb12"])
        self.lab.up(specs(releases))
        for host, fault in FAULTS.items():
            self.lab.fault(host, fault)
        for host in releases:
            self.lab.exec(host, ["chpasswd"], input=f"ops:{PASSWORD}\n")
        leak = f"HF_TOKEN={TOKEN} setsid python3 -c 'import time; time.sleep(900)' --api-key {TOKEN} >/dev/null 2>&1 </dev/null &"
        self.lab.exec("deb12", ["sh", "-c", leak])
        self._write_inventory(list(releases))

    def _write_inventory(self, boots: list[str]) -> None:
        def alias(name: str, host: str, **variables: str) -> str:
            words = {"ansible_host": self.lab.address(host), **variables}
            return " ".join([name, *(f"{k}={v}" for k, v in words.items())])

        lines = [alias(f"{host}-openssh", host, fleet_audit_transport="openssh") for host in BY_OPENSSH]
        lines += [alias(f"wrong-{host}", host, ansible_user="ops", ansible_become_password=WRONG) for host in boots]
        lines += [
            alias("right", "deb12", ansible_user="ops", ansible_become_password=PASSWORD),
            alias("right-openssh", "deb12", ansible_user="ops", ansible_become_password=PASSWORD, fleet_audit_transport="openssh"),
            alias("plain", "fine1", ansible_user="plain"), alias("tty", "fine1", ansible_user="notty"),
            alias("pinned", "deb12", ansible_user="plain"),
            "lost ansible_host=no-such-host.invalid", "lost-openssh ansible_host=no-such-host.invalid fleet_audit_transport=openssh",
        ]  # fmt: skip
        text = self.lab.inventory.read_text().replace("\n[fleet:vars]", "\n".join(lines) + "\n\n[fleet:vars]", 1)
        self.inventory.write_text(text)
        self.inventory.chmod(0o600)

    @property
    def names(self) -> set[str]:
        """All names in the inventory."""
        lines = self.inventory.read_text().partition("\n[fleet:vars]")[0].splitlines()[1:]
        return {line.split()[0] for line in lines if line.strip()}

    def logins(self, host: str) -> tuple[int, int]:
        """Connections that logged in to a host, and commands started there, so far."""
        log = self.lab.sshd_log(host)
        return len(re.findall(r"Accepted \w+ for", log)), len(re.findall(r"Starting session: ", log))

    def written(self, host: str) -> dict[str, Any]:
        """What a host has written, with what differs from twin to twin taken out of the names."""
        return {re.sub(r"[0-9a-f]{32}", "MACHINE", re.sub(r"@[0-9a-f-]+", "@", p)): entry for p, entry in self.lab.written(host).items()}


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> set[str]:
    """Paths that are not as they were."""
    return {path for path in {*before, *after} if before.get(path) != after.get(path)}
