# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON of nodes, and the values in them, read within limits."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from fleet_audit.facts.base import NotUnderstood
from fleet_audit.safeyaml import Loader

_EVENTS_LIMIT = 50_000
_SCALAR_LIMIT = 4096


def load(text: str) -> Any:
    """A YAML or JSON document, without aliases and within limits. Raises `NotUnderstood`."""
    try:
        if text.lstrip().startswith("{"):
            return json.loads(text)
        for number, event in enumerate(yaml.parse(text, Loader=Loader)):
            if isinstance(event, yaml.AliasEvent) or number > _EVENTS_LIMIT:
                raise NotUnderstood("aliases or too many values")
            if isinstance(event, yaml.ScalarEvent) and len(event.value) > _SCALAR_LIMIT:
                raise NotUnderstood("a value that is too long")
        return yaml.load(text, Loader=Loader)
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise NotUnderstood(f"neither YAML nor JSON: {type(error).__name__}") from None


def seconds(text: Any) -> int | None:
    """A duration of Go's time.ParseDuration, such as 4h0m0s or 300ms, in whole seconds."""
    if not isinstance(text, str) or not re.fullmatch(r"0|(?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:h|m|s|ms|us|ns))+", text):
        return None
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
    return int(sum(float(number) * units[unit] for number, unit in re.findall(r"([0-9.]+)(ms|us|ns|h|m|s)", text)))


def merged(base: Any, patch: Any) -> Any:
    """RFC 7386, JSON merge patch, as drop-in files are merged."""
    if not isinstance(patch, dict):
        return patch
    out = dict(base) if isinstance(base, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out
