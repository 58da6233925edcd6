# SPDX-License-Identifier: Apache-2.0
"""What every transport does: carry one conversation to one host."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from fleet_audit.model import Host, Reach


class Conversation(Protocol):
    """The controller's side of the exec, as `probe.dialogue.Dialogue` implements it."""

    finished: bool

    def start(self) -> bytes:
        """What to send at once."""

    def feed(self, chunk: bytes) -> bytes:
        """Take what arrived; returns what to send now."""

    def feed_error(self, chunk: bytes) -> bytes:
        """The same for standard error, by a transport that has it apart."""


@dataclass(frozen=True, slots=True)
class Carried:
    """How carrying went. `ok` says only that the exec ended or the conversation finished."""

    reach: Reach
    detail: str = ""
    """A sentence for a person: what went wrong and what to do."""
    exit: int | None = None
    connections: int = 0
    execs: int = 0
    sent: int = 0
    received: int = 0
    transient: bool = False
    """Whether trying again may help."""


class Transport(Protocol):
    """Carries command lines to hosts. One object serves all hosts of a run, from many threads."""

    name: str

    def carry(self, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """Run `line` on the host with `talk` at its ends, until `deadline` (`time.monotonic()`).

        Trouble with a host is a value, never an exception.
        """

    def close(self) -> None:
        """End what is still open."""
