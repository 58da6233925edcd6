# SPDX-License-Identifier: Apache-2.0
"""What no auditor on paramiko can go below: connect, check the host key, log in, exec `true`.

Arguments: known_hosts file, private key, user, hosts at once, addresses. One process, one thread per host.
"""

from __future__ import annotations

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import paramiko


def main(known_file: str, key_file: str, user: str, at_once: str, *addresses: str) -> None:
    """Visit all addresses; any trouble is raised."""
    known, key = paramiko.HostKeys(known_file), paramiko.PKey.from_path(key_file)

    def visit(address: str) -> None:
        sock = socket.create_connection((address, 22), timeout=30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        link = paramiko.Transport(sock)
        try:
            on_file: Any = known.lookup(address) or {}
            options = link.get_security_options()
            options.key_types = [kind for kind in options.key_types if kind in on_file]
            link.start_client(timeout=30)
            if not known.check(address, link.get_remote_server_key()):
                raise RuntimeError(f"{address}: another host key")
            link.auth_publickey(user, key)
            channel = link.open_session(timeout=30)
            channel.exec_command("true")
            if channel.recv_exit_status() != 0:
                raise RuntimeError(f"{address}: true is false")
        finally:
            link.close()

    with ThreadPoolExecutor(int(at_once)) as pool:
        list(pool.map(visit, addresses))


if __name__ == "__main__":
    main(*sys.argv[1:])
