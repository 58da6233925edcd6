# SPDX-License-Identifier: Apache-2.0
"""What a scenario's behaviour.yml says of a host: commands, and what they tell when it is hardened and before."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

END = "--- fleet-audit: the next command ---"


def told(host: Any) -> list[str]:
    """What each command says, in one go."""
    script = "\n".join(f"( {entry['run']} ) 2>&1 </dev/null; echo '{END}'" for entry in entries())
    return [part.strip() for part in host.run(script).stdout.split(END)[:-1]]


def entries() -> list[dict[str, Any]]:
    """The commands, and the patterns `hardened` and `before`, one or a list each; `!` before one: it is not found."""
    document = yaml.safe_load(Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"], "behaviour.yml").read_text("utf-8"))
    listed: list[dict[str, Any]] = document["behaviour"]
    return listed


def wrong(host: Any, state: str) -> list[tuple[str, str, str]]:
    """(command, pattern, what it said) of all that is not as it should be."""
    said = told(host)
    assert len(said) == len(entries()) > 0
    pairs = [
        (entry["run"], str(pattern), out)
        for entry, out in zip(entries(), said, strict=True)
        for pattern in (entry[state] if isinstance(entry[state], list) else [entry[state]])
    ]
    return [(run, pattern, out) for run, pattern, out in pairs if found(pattern, out) is pattern.startswith("!")]


def found(pattern: str, out: str) -> bool:
    """Whether a pattern, its mark aside, is somewhere in what a command said."""
    return re.search(pattern.removeprefix("!"), out, re.MULTILINE) is not None
