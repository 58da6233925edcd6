# SPDX-License-Identifier: Apache-2.0
"""The only code that finds `checks/` and `playbooks/`, from a checkout or from an installed wheel."""

from __future__ import annotations

from pathlib import Path

from fleet_audit.model import InternalError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The shipped folder `checks` or `playbooks`.

    A wheel carries them as `fleet_audit/content/`; a checkout has them at its top.
    """
    for candidate in (_PACKAGE / "content" / name, _PACKAGE.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise InternalError(f"the shipped folder {name!r} was not found beside {_PACKAGE}")
