# SPDX-License-Identifier: Apache-2.0
"""This very machine: the same line, run by a shell of its own."""

from __future__ import annotations

import shlex

from fleet_audit.model import Host, Reach
from fleet_audit.transport.interface import Carried, Conversation, Transport
from fleet_audit.transport.process import converse, end_all


class Local:
    """Runs the line here."""

    name = "local"

    def carry(self, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """See `Transport`."""
        ended = converse(shlex.split(line), talk, deadline)
        if ended.exit is None:
            return Carried(Reach.TIMEOUT, "did not finish in time", None, 0, 1, ended.sent, ended.received)
        return Carried(Reach.OK, "", ended.exit, 0, 1, ended.sent, ended.received)

    def close(self) -> None:
        """End what an interrupt left running."""
        end_all()


def open_transport() -> Transport:
    """The transport of this machine."""
    return Local()
