# SPDX-License-Identifier: Apache-2.0
"""`fleet-audit serve`: the store as a small site."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path

import click

from fleet_audit.cli import _options as options


@click.command()
@click.option("--port", default=8321, show_default=True, type=click.IntRange(0, 65535), metavar="N", help="0 takes a free one.")
@options.store
def command(port: int, store_folder: Path | None) -> int:
    """Show the runs as a site to look at, on this machine alone (127.0.0.1), until interrupted. It changes nothing."""
    from fleet_audit.cli import _pipeline
    from fleet_audit.model import FleetAuditError

    for module in ("starlette", "uvicorn"):
        if importlib.util.find_spec(module) is None:
            raise FleetAuditError("the site needs starlette and uvicorn: install fleet-audit with the extra `serve`")
    import uvicorn

    from fleet_audit.serve import app

    store = _pipeline.open_store(store_folder)
    config = uvicorn.Config(app(store), log_level="warning", server_header=False, proxy_headers=False, ws="none", timeout_graceful_shutdown=2,
                            limit_concurrency=64)  # fmt: skip
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except OSError as error:
        raise FleetAuditError(f"port {port} of 127.0.0.1: {error.strerror}; --port takes another") from None
    listening.listen(128)  # from here on who reads the address is heard
    click.echo(f"the runs of {store.folder}: http://127.0.0.1:{listening.getsockname()[1]}/  (Ctrl-C ends it)")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listening])
    return 0
