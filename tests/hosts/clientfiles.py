# SPDX-License-Identifier: Apache-2.0
"""The files a client needs to reach the hosts: known hosts, ssh configuration, inventory."""

from collections.abc import Sequence
from pathlib import Path

from tests.hosts.host import Host


class ClientFiles:
    """Where the client's files lie, and how they are written."""

    def __init__(self, folder: Path) -> None:
        """Name the files; nothing is written yet."""
        self.key = folder / "id_ed25519"
        self.known_hosts = folder / "known_hosts"
        self.ssh_config = folder / "ssh_config"
        self.inventory = folder / "inventory.ini"

    def write(self, hosts: dict[str, Host]) -> None:
        """Write them for these hosts."""
        known = [f"{host.address},{host.name} {host.public_key}\n" for host in hosts.values()]
        self.known_hosts.write_text("".join(known))
        # ssh hands a jump host's client its -F, and neither its -i nor its -o.
        self.ssh_config.write_text(
            f"IdentityFile {self.key}\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {self.known_hosts}\nGlobalKnownHostsFile none\nStrictHostKeyChecking yes\n"
        )
        lines = ["[fleet]"]
        lines += [self._line(host, hosts) for host in hosts.values() if host.spec.in_inventory]
        lines += ["", "[fleet:vars]", "ansible_user=audit", f"ansible_ssh_private_key_file={self.key}"]
        lines += [f"ansible_ssh_common_args={' '.join(self.options())}"]
        self.inventory.write_text("\n".join(lines) + "\n")

    def options(self) -> list[str]:
        """Return the ssh options that every host of the inventory has."""
        return ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes"]

    def _line(self, host: Host, hosts: dict[str, Host]) -> str:
        line = f"{host.name} ansible_host={host.address}"
        if host.spec.behind is None:
            return line
        jump = ["-F", str(self.ssh_config), "-o", f"ProxyJump=audit@{hosts[host.spec.behind].address}"]
        return f"{line} ansible_ssh_common_args='{' '.join(self.options() + jump)}'"

    def ssh(self, host: Host, hosts: dict[str, Host], user: str, options: Sequence[str]) -> list[str]:
        """Return an ssh command line up to and including the destination."""
        argv = ["ssh", "-F", str(self.ssh_config), "-o", "BatchMode=yes", *options]
        if host.spec.behind is not None:
            argv += ["-J", f"audit@{hosts[host.spec.behind].address}"]
        return [*argv, f"{user}@{host.address}"]
