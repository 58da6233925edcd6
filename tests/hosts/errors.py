# SPDX-License-Identifier: Apache-2.0
"""What can go wrong with the lab."""


class LabError(RuntimeError):
    """The lab is broken: a test that meets this fails."""


class LabUnavailable(LabError):
    """This machine cannot run the lab, or the mirror has no such release: a test skips, loudly."""
