# SPDX-License-Identifier: Apache-2.0
"""Keeps a become password from being tried on host after host: one refusal, and it is sent nowhere again."""

from __future__ import annotations

import threading

TURN_S = 20.0
"""How long a host waits for another one's answer to an untried password."""


class PasswordGate:
    """Guards one password for all hosts of a run.

    Until a host has accepted it, it is with one host at a time, from sudo's prompt to sudo's answer.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._good = self._wrong = False
        self._holder: object = None

    def claim(self, host: object) -> bool:
        """Whether the password may be sent to a host now; `answered` must follow."""
        if self._wrong or not self._turn.acquire(timeout=TURN_S):
            return False
        if self._wrong or self._good:
            self._turn.release()
        else:
            self._holder = host
        return not self._wrong

    def answered(self, host: object, accepted: bool | None) -> None:
        """What a host said to it: True, False, or None if the conversation ended before. May be told twice."""
        if accepted is not None:
            self._good, self._wrong = self._good or accepted, self._wrong or not accepted
        if self._holder is host:
            self._holder = None
            self._turn.release()
