# SPDX-License-Identifier: Apache-2.0
"""Real SSH hosts on one Linux machine, for the tests; see README.md."""

from tests.hosts.errors import LabError, LabUnavailable
from tests.hosts.lab import Lab
from tests.hosts.spec import HostSpec

__all__ = ["HostSpec", "Lab", "LabError", "LabUnavailable"]
