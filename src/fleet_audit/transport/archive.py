# SPDX-License-Identifier: Apache-2.0
"""A recorded node: the same program on another root, with recorded outputs instead of commands.

A node is a folder: `node.toml` (name, provenance, what is forced), `files/` with absolute paths
under it, `commands/` with one output per command (named as sosreport does it), and `sources/ID.json`
for what the probe reduces on the node, which is read first. Of a node that says `synthetic = true` all is known:
what its folder lacks was not there. Of any other, what the folder lacks was not recorded, and is `failed`.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

from fleet_audit.model import FleetAuditError, Host, Reach, Status
from fleet_audit.transport.interface import Carried, Conversation, Transport
from fleet_audit.transport.process import converse, end_all

_KEYS = {"name", "provenance", "synthetic", "force", "exits", "meta"}
_DIGEST = re.compile(r"[0-9a-f]{64}")


def load_node(folder: Path) -> dict[str, Any]:
    """The archive's description, checked: what the program needs to read it.

    Raises `FleetAuditError` naming file and line or key.
    """
    path = folder / "node.toml"
    try:
        doc = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FleetAuditError(f"{path}: no such file; an archive is a folder with a node.toml") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise FleetAuditError(f"{path}: {error}") from None
    for key in doc:
        if key not in _KEYS:
            raise FleetAuditError(f"{path}: unknown key {key!r}; known are {', '.join(sorted(_KEYS))}")
    for key in ("name", "provenance"):
        if not isinstance(doc.get(key), str) or not doc[key].strip():
            raise FleetAuditError(f"{path}: {key!r} must be a text that is not empty")
    for key in ("force", "exits", "meta"):
        if not isinstance(doc.setdefault(key, {}), dict):
            raise FleetAuditError(f"{path}: {key!r} must be a table")
    for source, status in doc["force"].items():
        if status not in set(Status) - {Status.OK, Status.UNREACHED}:
            raise FleetAuditError(f"{path}: force.{source}: {status!r} is no status that can be forced")
    return doc


class Archive:
    """Runs the program here, with the archive's folder as its root."""

    name = "archive"

    def carry(self, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """See `Transport`. The line names the program's digest; become has no meaning here."""
        folder = Path(host.address)
        try:
            node = load_node(folder)
        except FleetAuditError as error:
            return Carried(Reach.UNRESOLVED, str(error))
        settings = {key: node[key] for key in ("force", "exits", "meta")}
        settings |= {"root": str(folder / "files"), "commands": str(folder / "commands"), "sources": str(folder / "sources")}
        settings["whole"] = node.get("synthetic") is True
        settings["recorded"] = sorted(path.stem for path in (folder / "sources").glob("*.json"))
        match = _DIGEST.search(line)
        boot = (
            "import sys,zlib,hashlib;i=sys.stdin.buffer;print(sys.argv[1],flush=True);"
            "b=zlib.decompress(i.read(int(i.read(8))));hashlib.sha256(b).hexdigest()==sys.argv[1] or sys.exit(98);"
            f"ARCHIVE={settings!r};exec(b)"
        )
        ended = converse([sys.executable, "-I", "-S", "-c", boot, match[0] if match else ""], talk, deadline)
        if ended.exit is None:
            return Carried(Reach.TIMEOUT, "did not finish in time", None, 0, 1, ended.sent, ended.received)
        return Carried(Reach.OK, "", ended.exit, 0, 1, ended.sent, ended.received)

    def close(self) -> None:
        """End what an interrupt left running."""
        end_all()


def open_transport() -> Transport:
    """The transport of recorded nodes."""
    return Archive()
