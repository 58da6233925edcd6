# SPDX-License-Identifier: Apache-2.0
"""Writing reports: to the store, to a file or folder, or to standard output."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet_audit import report as formats_package
from fleet_audit.findings import Report
from fleet_audit.model import FleetAuditError, MachineError
from fleet_audit.runs import Store


def formats(wanted: Sequence[str], output: str | None) -> list[str]:
    """The formats that were asked for, checked. Raises `FleetAuditError` before anything is audited."""
    known = formats_package.names()
    names = list(dict.fromkeys(n for text in wanted for n in text.split(",") if n))
    for name in names:
        if name not in known:
            raise FleetAuditError(f"--format {name!r}: no such format; there are {', '.join(known)}")
    if output is not None:
        if output.endswith("/") and Path(output).parent.is_dir():
            Path(output).mkdir(exist_ok=True)
        if len(names) > 1 and (output == "-" or not Path(output).is_dir()):
            raise FleetAuditError("--output: several formats need a folder that exists")
        path = Path(output).resolve()
        if output != "-" and not path.parent.is_dir():
            raise FleetAuditError(f"--output {output}: there is no folder {Path(output).parent}")
        if output != "-" and (why := _unwritable(path)):
            raise FleetAuditError(f"--output {output}: it cannot be written: {why}")
    return names


def _unwritable(path: Path) -> str:
    """Why a report could not be written there, found out before anything is audited; empty if it can."""
    try:
        if path.is_dir() or not path.exists() or path.is_file():
            probe = (path / "x" if path.is_dir() else path).with_name(f".fleet-audit.{os.getpid()}")
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            probe.unlink()
        elif not os.access(path, os.W_OK):
            return "Permission denied"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def write(report: Report, names: Sequence[str], output: str | None, store: Store, part: str = "") -> list[Path]:
    """Render and write; the paths that were written. `part` says which part of the run it is, where it is not the whole."""
    paths = []
    stem = report.id + (f"-{re.sub('[^A-Za-z0-9_-]', '_', part)[:60]}" if part else "")
    for name in names:
        form = formats_package.get(name)
        data = form.render(report)
        if output == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            continue
        if output is None:
            path = store.folder / "reports" / f"{stem}.{form.suffix}"
        else:
            path = (Path(output) / f"{stem}.{form.suffix}" if Path(output).is_dir() else Path(output)).resolve()
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            put(path, data)
        except OSError as error:
            raise MachineError(
                f"{path}: the report cannot be written: {error.strerror}; the run is kept: "
                f"`fleet-audit report {report.id}` renders it again, and -o names another place"
            ) from None
        paths.append(path)
    return paths


def put(path: Path, data: bytes) -> None:
    """Replace a file whole, or write into what is there and no file: a device or a pipe."""
    if path.exists() and not path.is_file():
        with path.open("wb") as handle:
            handle.write(data)
        return
    temporary = path.with_name(f".{path.name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        if path.exists():  # whoever was let to read it is
            os.fchmod(descriptor, path.stat().st_mode & 0o777)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
