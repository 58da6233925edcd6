# SPDX-License-Identifier: Apache-2.0
"""Text of nodes and numbers for people, in every format the same."""

from __future__ import annotations

import unicodedata

_VISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean(text: str, limit: int = 4096) -> str:
    """A node's text with control, bidirectional and invisible characters shown as codes, cut at `limit`."""
    if len(text) <= limit and text.isprintable():  # none of the categories below; most texts are so
        return text
    out = []
    for character in text[: limit + 1]:
        if unicodedata.category(character) in _VISIBLE:
            code = ord(character)
            out.append(f"\\x{code:02x}" if code < 256 else f"U+{code:04X}")
        else:
            out.append(character)
    shown = "".join(out)
    return shown if len(text) <= limit else shown[: limit - 1] + "…"


def share(value: float | None) -> str:
    """A share in per cent with one decimal; 100 and 0 only when exact."""
    if value is None:
        return "none expected"
    if value in (0.0, 100.0):
        return f"{value:.0f} %"
    if value > 99.9:
        return "> 99.9 %"
    if value < 0.1:
        return "< 0.1 %"
    return f"{value:.1f} %"


def number(value: int) -> str:
    """A count with commas between thousands."""
    return f"{value:,}"


def count(value: int, word: str, plural: str | None = None) -> str:
    """A count with its word, such as `1 host` or `2 hosts`."""
    return f"{value:,} {word if value == 1 else plural or word + 's'}"
