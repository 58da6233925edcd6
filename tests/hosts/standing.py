# SPDX-License-Identifier: Apache-2.0
"""For fixtures: hosts for as long as tests look at them, and a loud skip where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

import pytest

from tests.hosts.errors import LabUnavailable
from tests.hosts.lab import Lab
from tests.hosts.network import check_machine


class Hosts(Protocol):
    """A lab and what brings its hosts up, in the state that the tests begin with."""

    lab: Lab

    def up(self) -> None: ...


H = TypeVar("H", bound=Hosts)


@contextmanager
def standing(hosts: H) -> Iterator[H]:
    """Bring hosts up, and take them down whatever happens; skips where this machine can have none."""
    try:
        try:
            check_machine()
            hosts.up()
        except LabUnavailable as error:
            pytest.skip(f"no real SSH hosts here: {error}")
        yield hosts
    finally:
        hosts.lab.down()
