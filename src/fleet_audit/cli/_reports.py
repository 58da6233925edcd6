# SPDX-License-Identifier: Apache-2.0
"""Writing reports: to the store, to a file or folder, or to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fleet_audit import report as formats_package
from fleet_audit.findings import Report
from fleet_audit.model import FleetAuditError
from fleet_audit.runs import Store


def formats(wanted: Sequence[str], output: str | None) -> list[str]:
    """The formats that were asked for, checked. Raises `FleetAuditError` before anything is audited."""
    known = formats_package.names()
    names = list(dict.fromkeys(n for text in wanted for n in text.split(",") if n))
    for name in names:
        if name not in known:
            raise FleetAuditError(f"--format {name!r}: no such format; there are {', '.join(known)}")
    if output is not None:
        if len(names) > 1 and (output == "-" or not Path(output).is_dir()):
            raise FleetAuditError("--output: several formats need a folder that exists")
        if output != "-" and not Path(output).resolve().parent.is_dir():
            raise FleetAuditError(f"--output {output}: there is no folder {Path(output).parent}")
    return names


def write(report: Report, names: Sequence[str], output: str | None, store: Store) -> list[Path]:
    """Render and write; the paths that were written."""
    paths = []
    for name in names:
        form = formats_package.get(name)
        data = form.render(report)
        if output == "-":
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            continue
        if output is None:
            path = store.folder / "reports" / f"{report.id}.{form.suffix}"
        else:
            path = Path(output) / f"{report.id}.{form.suffix}" if Path(output).is_dir() else Path(output)
        temporary = path.with_name(f".{path.name}.new")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as handle:
                handle.write(data)
            temporary.rename(path)
        except OSError as error:
            raise FleetAuditError(f"{path}: the report cannot be written: {error.strerror}") from None
        paths.append(path.resolve())
    return paths
