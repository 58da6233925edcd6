# SPDX-License-Identifier: Apache-2.0
"""Version keys sort as the native tools do."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import Version

from fleet_audit.versions import key, kinds


def _order(kind: str, one: str, other: str) -> int:
    a, b = key(kind, one), key(kind, other)
    assert a is not None, one
    assert b is not None, other
    return (a > b) - (a < b)


def _random(seed: int, alphabet: str, lead: str, releases: str, count: int) -> list[str]:
    import random

    source = random.Random(seed)

    def word(letters: str, most: int) -> str:
        return "".join(source.choice(letters) for _ in range(source.randint(0, most)))

    made: set[str] = set()
    while len(made) < count:
        release = source.choice(["", "-" + source.choice("01a") + word(releases, 4)])
        made.add(source.choice(["", "0:", "1:", "2:"]) + source.choice(lead) + word(alphabet, 7) + release)
    return sorted(made)


@pytest.mark.skipif(shutil.which("dpkg") is None, reason="the mirror lacks dpkg")
@pytest.mark.parametrize("seed", range(4))
def test_dpkg_keys_sort_as_dpkg_does(seed: int) -> None:
    versions = [v for v in _random(seed, "019aZ.+~", "0123", "01a~+.", 60) if key("dpkg", v)]
    pairs = list(zip(versions, versions[7:] + versions[:7], strict=True)) + list(zip(versions, reversed(versions), strict=True))
    script = "".join(
        f"dpkg --compare-versions '{a}' lt '{b}' && echo -1 || {{ dpkg --compare-versions '{a}' eq '{b}' && echo 0 || echo 1; }}\n"
        for a, b in pairs
    )
    native = subprocess.run(["sh"], input=script, text=True, capture_output=True, check=True).stdout.split()
    assert [(a, b, int(n)) for (a, b), n in zip(pairs, native, strict=True)] == [(a, b, _order("dpkg", a, b)) for a, b in pairs]


@pytest.mark.skipif(shutil.which("rpm") is None, reason="the mirror lacks rpm")
@pytest.mark.parametrize("seed", range(4))
def test_rpm_keys_sort_as_rpm_does(seed: int) -> None:
    versions = [v for v in _random(seed, "019aZ._~^+", "0123a", "01a~.^", 60) if key("rpm", v)]
    pairs = list(zip(versions, versions[7:] + versions[:7], strict=True)) + list(zip(versions, reversed(versions), strict=True))
    lua = " ".join(f'print(rpm.vercmp("{a}","{b}").." ")' for a, b in pairs)
    native = subprocess.run(["rpm", "--eval", "%{lua:" + lua + "}"], text=True, capture_output=True, check=True).stdout.split()
    assert [(a, b, int(n)) for (a, b), n in zip(pairs, native, strict=True)] == [(a, b, _order("rpm", a, b)) for a, b in pairs]


_PEP440 = st.builds(
    lambda epoch, release, pre, post, dev, local: epoch + ".".join(map(str, release)) + pre + post + dev + local,
    st.sampled_from(["", "1!"]), st.lists(st.sampled_from([0, 1, 2, 10, 99]), min_size=1, max_size=4),
    st.sampled_from(["", "a1", "b2", "rc1", "rc10"]), st.sampled_from(["", ".post1", ".post10"]),
    st.sampled_from(["", ".dev1", ".dev12"]), st.sampled_from(["", "+a", "+1", "+a.1", "+10", "+cu118", "+a1.2"]),
)  # fmt: skip


@settings(max_examples=500)
@given(_PEP440, _PEP440)
def test_pep440_keys_sort_as_packaging_does(one: str, other: str) -> None:
    a, b = Version(one), Version(other)
    assert _order("pep440", one, other) == (a > b) - (a < b)


@pytest.mark.parametrize(
    ("lower", "higher"), [("1.9", "1.10"), ("580.95.05", "580.159.03"), ("570.211.01", "580.1"), ("0.9", "1"), ("1.0", "1.0.1")]
)
def test_dotted(lower: str, higher: str) -> None:
    assert _order("dotted", lower, higher) == -1


def test_trailing_zeros_are_no_difference_in_dotted() -> None:
    assert key("dotted", "580.95") == key("dotted", "580.95.0")


@pytest.mark.parametrize(
    ("kind", "text"), [("dotted", "1.2rc"), ("dotted", ""), ("dpkg", "a:1"), ("dpkg", "1 2"), ("pep440", "x"), ("rpm", "")]
)
def test_what_is_no_version_has_no_key(kind: str, text: str) -> None:
    assert key(kind, text) is None


@given(st.sampled_from(kinds()), st.text(max_size=300))
def test_no_text_raises_and_keys_are_printable(kind: str, text: str) -> None:
    made = key(kind, text)
    assert made is None or (made.isascii() and made.isprintable())
