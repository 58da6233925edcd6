# SPDX-License-Identifier: Apache-2.0
"""A become password: with one host at a time until one has taken it, and nowhere after a refusal."""

from __future__ import annotations

import threading
import time

from fleet_audit.probe import password
from fleet_audit.probe.password import PasswordGate


def test_untried_password_is_with_one_host_at_a_time() -> None:
    gate, began, second = PasswordGate(), threading.Event(), []

    def other() -> None:
        began.set()
        second.append((gate.claim("b"), time.monotonic()))

    assert gate.claim("a")
    thread = threading.Thread(target=other)
    thread.start()
    began.wait()
    time.sleep(0.2)
    assert second == []
    answered = time.monotonic()
    gate.answered("a", accepted=True)
    thread.join(5)
    assert second[0][0] is True and second[0][1] >= answered


def test_password_that_was_accepted_waits_for_nobody() -> None:
    gate = PasswordGate()
    assert gate.claim("a")
    gate.answered("a", accepted=True)
    assert all(gate.claim(name) for name in "bcd")


def test_refused_password_goes_to_no_other_host_even_after_it_was_good_elsewhere() -> None:
    gate = PasswordGate()
    assert gate.claim("a")
    gate.answered("a", accepted=True)
    assert gate.claim("b")
    gate.answered("b", accepted=False)
    assert not gate.claim("c")


def test_host_that_ends_without_an_answer_leaves_the_password_untried() -> None:
    gate = PasswordGate()
    assert gate.claim("a")
    gate.answered("a", accepted=None)
    assert gate.claim("b")
    gate.answered("a", accepted=None)  # told again: it is not its turn any more
    gate.answered("b", accepted=False)
    assert not gate.claim("c")


def test_host_that_keeps_others_waiting_too_long_leaves_them_without() -> None:
    old, password.TURN_S = password.TURN_S, 0.1
    try:
        gate = PasswordGate()
        assert gate.claim("hangs")
        assert not gate.claim("b")
    finally:
        password.TURN_S = old
