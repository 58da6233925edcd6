# SPDX-License-Identifier: Apache-2.0
"""An sshd that takes nobody: says so and closes. Run as a script in a host's network: ``busy.py PORT``."""

import contextlib
import socket
import socketserver
import sys

TEXT = b"Not allowed at this time\r\n"


class Refuse(socketserver.BaseRequestHandler):
    """Send the text, then read what the client had sent already, or closing would reset the connection."""

    def handle(self) -> None:
        """Serve one connection."""
        connection: socket.socket = self.request
        connection.settimeout(1)
        with contextlib.suppress(OSError):
            connection.sendall(TEXT)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass


class Server(socketserver.ThreadingTCPServer):
    """One thread per connection, none of them waited for."""

    allow_reuse_address = True
    daemon_threads = True


if __name__ == "__main__":
    with Server(("", int(sys.argv[1])), Refuse) as server:
        print("ready", flush=True)
        server.serve_forever()
