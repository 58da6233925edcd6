# SPDX-License-Identifier: Apache-2.0
"""The YAML reader that makes plain values alone: libyaml's, or the slower one where it is not there."""

from __future__ import annotations

from typing import Any

import yaml

Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
