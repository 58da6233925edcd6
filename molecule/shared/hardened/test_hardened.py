# SPDX-License-Identifier: Apache-2.0
"""Run by Molecule on every host."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from behaviour import wrong


def test_the_host_behaves_so(host: Any) -> None:
    assert wrong(host, "hardened") == []
