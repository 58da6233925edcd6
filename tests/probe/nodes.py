# SPDX-License-Identifier: Apache-2.0
"""The real program with data folders in its request, or with accounts of the test's own in /etc/passwd."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import DataFolder, Source
from fleet_audit.probe import loader, pack, wire
from tests.probe.helpers import source

# Bound over /etc/passwd in a mount namespace of its own: nothing of this machine changes.
_BIND = 'mount --make-rprivate / && mount --bind "$1" /etc/passwd && shift && exec "$@"'


def carried(
    sources: Sequence[Source], *, data: Iterable[DataFolder] = (), passwd: Path | None = None, python: str = sys.executable,
    env: dict[str, str] | None = None, preexec: Any = None,
) -> wire.Reply:  # fmt: skip
    """The whole reply of the program that is asked for these sources."""
    program, nonce = pack.build(sources), secrets.token_hex(8)
    request = pack.request([s.id for s in sources], nonce, seconds=60, command_seconds=40, byte_budget=64 << 20, data=data)
    argv = [python, "-I", "-S", "-c", loader.BOOT, program.digest]
    if passwd is not None:
        if os.geteuid() != 0 or shutil.which("unshare") is None:
            pytest.skip("accounts of the test's own are not tried here: not root")
        argv = ["unshare", "--mount", "sh", "-c", _BIND, "sh", str(passwd), *argv]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", env=env, preexec_fn=preexec
    ) as child:
        assert child.stdin and child.stdout
        child.stdin.write(program.packed + request)
        child.stdin.flush()
        reply = wire.decode(child.stdout.read(), nonce)
    assert reply.end is not None, "the program did not come to its end"
    return reply


def data_rows(*folders: DataFolder, entries: int = 1000, seconds: float = 5, cpu: float = 1.0, models: int = 100, **given: Any) -> Any:
    """What the reader of data folders says."""
    frame = carried(
        [source("it", "data", entries=entries, seconds=seconds, cpu=cpu, models=models)], data=folders, **given
    ).frames["it"]  # fmt: skip
    assert frame.status == "ok", (frame.status, frame.detail)
    return json.loads(frame.body)


def home_rows(passwd: Path, reader: str, **args: Any) -> Any:
    """What a reader of homes says, with these accounts."""
    frame = carried([source("it", reader, **args)], passwd=passwd).frames["it"]
    assert frame.status == "ok", (frame.status, frame.detail)
    return json.loads(frame.body)


def opened_to_all(folder: Path) -> Path:
    """A test's folder that everybody may enter."""
    for path in (folder, *folder.parents):
        if path.stat().st_uid == os.getuid() and "pytest" in str(path):
            path.chmod(0o755)
    return folder
