# SPDX-License-Identifier: Apache-2.0
"""The reader of known_hosts against `ssh-keygen -F`, and any bytes."""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_audit.transport.knownhosts import KnownHosts, matches

KEYGEN = shutil.which("ssh-keygen")
needs_keygen = pytest.mark.skipif(KEYGEN is None, reason="no ssh-keygen here")


def key(seed: int, kind: str = "ssh-ed25519") -> str:
    """A line's type and key: well formed, of nobody."""
    parts = [kind.encode(), bytes([seed]) * 32]
    if kind.startswith("sk-"):
        parts.append(b"ssh:")
    blob = b"".join(len(p).to_bytes(4, "big") + p for p in parts)
    return f"{kind} {base64.b64encode(blob).decode()}"


FILE = f"""# a comment
plain {key(1)} root@plain
UPPER.example.com,10.0.0.7 {key(2)}
multi,second {key(3)}\tcomment with words
[port]:2222 {key(4)}
[port]:2222,[10.0.0.8]:2222 {key(5)}
*.lan,!bad.lan {key(6)}
!only {key(7)}
node-?? {key(8)}
@revoked plain {key(9)}
@revoked * {key(10)}
@cert-authority *.lan,plain {key(11)}
   indented {key(14)}
sk {key(15, "sk-ssh-ed25519@openssh.com")}
fe80::1,2001:db8::7 {key(16)}
[2001:db8::9]:2222 {key(17)}
"""
BAD = f"""@unknown plain {key(12)}
plain ssh-ed25519 notbase64!
plain ssh-rsa {key(13).split()[1]}
plain
plain 1024 35 1234567
"""  # ssh-keygen does not look at the keys of these, ssh does
NAMES = [
    "plain", "PLAIN", "upper.example.com", "Upper.Example.com", "10.0.0.7", "multi", "second", "port",
    "[port]:2222", "[10.0.0.8]:2222", "good.lan", "bad.lan", "x.y.lan", "only", "node-12", "node-1",
    "indented", "sk", "nobody", "fe80::1", "2001:db8::7", "[2001:db8::9]:2222", "[good.lan]:2222",
]  # fmt: skip


def ssh_keygen_finds(name: str, path: Path) -> set[tuple[int, str]]:
    done = subprocess.run([str(KEYGEN), "-F", name, "-f", str(path)], capture_output=True, text=True, check=False)
    found = re.findall(r"^# Host .* found: line (\d+) ?(\w*)", done.stdout, re.M)
    return {(int(line), marker.strip()) for line, marker in found}


def we_find(name: str, known: KnownHosts) -> set[tuple[int, str]]:
    match = known._match(name)
    found = set()
    for keys, marker in ((match.keys, ""), (match.revoked, "REVOKED"), (match.authorities, "CA")):
        found |= {(int(match.where[k].rpartition(":")[2]), marker) for k in keys}
    return found


@needs_keygen
@pytest.mark.parametrize("hashed", [False, True])
def test_agrees_with_ssh_keygen(tmp_path: Path, hashed: bool) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(FILE)
    if hashed:
        subprocess.run([str(KEYGEN), "-H", "-f", str(path)], capture_output=True, check=True)
        assert "|1|" in path.read_text()
    known = KnownHosts.load([path])
    for name in NAMES:
        assert we_find(name, known) == ssh_keygen_finds(name.lower(), path), name


def test_where_markers_and_notes(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(FILE + BAD)
    known = KnownHosts.load([path, tmp_path / "gone", tmp_path])
    match = known.lookup("plain", 22)
    assert [match.where[k] for k in match.keys] == [f"{path}:2"]
    assert [match.where[k] for k in match.revoked] == [f"{path}:10", f"{path}:11"]
    assert [match.where[k] for k in match.authorities] == [f"{path}:12"]
    assert [note.split(": ")[0] for note in known.notes] == [
        *(f"{path}:{line}" for line in range(FILE.count("\n") + 1, FILE.count("\n") + 6)),
        str(tmp_path),
    ]


def test_ports_and_addresses() -> None:
    known = KnownHosts()
    known.add(f"h {key(1)}\n[h]:2222 {key(2)}\n10.0.0.1 {key(3)}\n[10.0.0.1]:99 {key(4)}".encode(), "f")

    def lines(name: str, port: int, address: str | None = None) -> list[str]:
        match = known.lookup(name, port, address)
        return [match.where[k] for k in match.keys]

    assert lines("h", 22) == ["f:1"]
    assert lines("H", 2222) == ["f:2"]
    assert lines("h", 23) == ["f:1"]  # as OpenSSH: the bare name, where there is nothing for the port
    assert lines("h", 22, "10.0.0.1") == ["f:1", "f:3"]
    assert lines("x", 99, "10.0.0.1") == ["f:4"]
    assert lines("x", 22) == []


@needs_keygen
def test_hashed_lines_added_after_a_look_up(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text(f"a {key(1)}\na {key(2)}\nb {key(3)}\n")
    subprocess.run([str(KEYGEN), "-H", "-f", str(path)], capture_output=True, check=True)
    known = KnownHosts.load([path])
    assert len(known.lookup("a", 22).keys) == 2
    assert len(known.lookup("b", 22).keys) == 1
    known.add(f"a {key(4)}\n".encode(), "more")
    assert len(known.lookup("a", 22).keys) == 3


@pytest.mark.parametrize(
    ("name", "patterns", "want"),
    [
        ("abc", ["a*c"], True),
        ("abc", ["a?c"], True),
        ("abc", ["a?"], False),
        ("abc", ["*", "!ab*"], False),
        ("abc", ["!x", "a*"], True),
        ("abc", ["!x"], False),
        ("", ["*"], True),
        ("a[b]", ["a[b]"], True),
    ],
)
def test_patterns(name: str, patterns: list[str], want: bool) -> None:
    assert matches(name, patterns) is want


def test_a_hostile_pattern_costs_little() -> None:
    assert not matches("a" * 2000, ["*a" * 200 + "b"])


fragments = st.sampled_from([b"a", b" ", b"\t", b"\n", b",", b"!", b"*", b"|1|", b"|", b"@revoked ", key(1).encode(), b"\0", b"\r"])


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(fragments, max_size=30).map(b"".join)), st.text(max_size=20))
def test_any_bytes(data: bytes, name: str) -> None:
    known = KnownHosts()
    known.add(data, "f")
    match = known.lookup(name, 22, name)
    assert match == known.lookup(name, 22, name)
    for item in (*match.keys, *match.revoked, *match.authorities):
        assert match.where[item].startswith("f:")


@needs_keygen
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.text("ab?*!.,", min_size=1, max_size=6), min_size=1, max_size=5),
    st.text("ab.", min_size=1, max_size=4),
)
def test_any_patterns_as_ssh_keygen(tmp_path_factory: pytest.TempPathFactory, patterns: list[str], name: str) -> None:
    path = tmp_path_factory.mktemp("kh") / "known_hosts"
    path.write_text("".join(f"{p} {key(n)}\n" for n, p in enumerate(patterns)))
    assert we_find(name, KnownHosts.load([path])) == ssh_keygen_finds(name, path)
