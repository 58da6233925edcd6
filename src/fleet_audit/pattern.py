# SPDX-License-Identifier: Apache-2.0
"""Patterns of names as the policy has them."""

from __future__ import annotations

import re


def fits(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern in which `*` and `?` alone have a meaning; `\\*` and `\\?` are these characters themselves.

    Takes at most the product of both lengths.
    """
    parts = re.findall(r"\\[*?]|.", pattern, re.DOTALL)
    at, place, star, kept = 0, 0, -1, 0
    while place < len(text):
        if at < len(parts) and parts[at] == "*":
            star, kept, at = at, place, at + 1
        elif at < len(parts) and (parts[at] == "?" or parts[at][-1] == text[place]):
            at, place = at + 1, place + 1
        elif star >= 0:  # the last star takes one character more
            kept, at = kept + 1, star + 1
            place = kept
        else:
            return False
    return all(part == "*" for part in parts[at:])
