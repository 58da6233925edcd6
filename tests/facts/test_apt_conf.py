# SPDX-License-Identifier: Apache-2.0
"""apt's configuration as apt-config(8) itself understands it."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.apt_conf import APT_CONF, TABLES, in_force, switch
from fleet_audit.facts.base import Item
from fleet_audit.model import Coverage, Status
from tests.probe.helpers import ask

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

(SETTINGS,) = TABLES
MAIN, PARTS = "/etc/apt/apt.conf", "/etc/apt/apt.conf.d"


def conf(**files: Any) -> dict[Any, Item]:
    """Evidence of files by name: `main`, or a name in apt.conf.d with dashes as underscores."""
    paths = {MAIN if name == "main" else f"{PARTS}/{name}": what for name, what in files.items()}
    return {APT_CONF.id: ok(json.dumps({path: what if isinstance(what, dict) else {"text": what} for path, what in paths.items()}))}


def pairs(**files: Any) -> list[tuple[str, str]]:
    extracted = run(SETTINGS, conf(**files))
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    return [(row[0], row[1]) for row in extracted.rows]


# --- Against the real tool -------------------------------------------------------------------------

needs_apt = pytest.mark.skipif(shutil.which("apt-config") is None, reason="apt is not installed here")


def native(env: dict[str, str], *options: str) -> list[tuple[str, str]] | None:
    """What `apt-config dump` says, in our words; None if apt refuses the configuration."""
    done = subprocess.run(["apt-config", "dump", *options], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    matches = (re.fullmatch(r'(\S+) "(.*)";', line) for line in done.stdout.splitlines())
    return [(m[1].lower(), m[2]) for m in matches if m and m[2]]


@needs_apt
@pytest.mark.slow
def test_this_machine_agrees_with_apt_config() -> None:
    frame = ask([APT_CONF])["apt-conf"]
    extracted = run(SETTINGS, {APT_CONF.id: Item(Status.OK, frame.body)})
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    everything = native({"PATH": "/usr/bin:/bin"})
    assert everything is not None
    mine = [(row[0], row[1]) for row in extracted.rows if row[1]]
    languages = ("acquire::languages", "none")  # which apt-config makes a list of for itself
    assert mine and not [pair for pair in mine if "<secret:" not in pair[1] and pair not in [*everything, languages]]
    ours = {name for name, _ in mine}
    assert sorted(pair for pair in everything if pair[0] in ours and pair[0].startswith("unattended-upgrade")) == sorted(
        pair for pair in mine if pair[0].startswith("unattended-upgrade")
    )


NAMES = ["zz", "ZZ", "yy", "zz::A", "zz::a::b", "yy::L", "yy::L::", "zz::c-d"]
INNER = ["A", "b", "L", "L::", "c::d", "e/f"]
VALUES = ['"1"', '"x y"', '"a;b"', '"//c"', '"#d"', '"e{"', "plain", "a#b", "http:x", '"\\+"', '""', "'q'"]


def statement(rng: random.Random, depth: int) -> str:
    name, chance = rng.choice(INNER if depth else NAMES), rng.random()
    if chance < 0.45:
        return f"{name} {rng.choice(VALUES)};"
    if chance < 0.7 and depth < 3:
        inner = "".join(statement(rng, depth + 1) + rng.choice(["", "\n", " "]) for _ in range(rng.randint(0, 3)))
        return f"{name} {{{rng.choice([' ', chr(10), ''])}{inner}}}{rng.choice([';', ';', ''])}\n"
    if chance < 0.8 and depth:
        return rng.choice([value for value in VALUES if value[0] == '"']) + ";"
    return rng.choice(["// c\n", "/* c; \n { */", "# c\n", f"\n#clear {name};\n", f"{name}\n {rng.choice(VALUES)};"])


@needs_apt
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_made_up_configurations_agree_with_apt_config(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    text = "\n".join(statement(rng, 0) for _ in range(rng.randint(1, 5))) + "\n"
    (tmp_path / "conf").write_text(text)
    env = {"PATH": "/usr/bin:/bin", "APT_CONFIG": str(tmp_path / "conf")}
    wanted = native(env, "-o", "Dir::Etc::Parts=/nonexistent", "-o", "Dir::Etc::main=/nonexistent")
    extracted = run(SETTINGS, conf(main=text))
    if extracted.coverage is Coverage.COMPLETE:
        assert wanted is not None, text
        mine = [(row[0], row[1]) for row in extracted.rows if row[1]]
        assert sorted(mine) == sorted(pair for pair in wanted if pair[0].startswith(("zz", "yy"))), text
    elif wanted is not None:  # what apt accepts may be more than we understand, not less
        assert extracted.reason


# --- By hand: synthetic, apt.conf(5) ---------------------------------------------------------------

NESTED = """// of apt.conf(5)
APT::Periodic { Update-Package-Lists "1"; Unattended-Upgrade "always"; };
Unattended-Upgrade {
  Allowed-Origins { "${distro_id}:${distro_codename}"; "${distro_id}:${distro_codename}-security"; };
  Package-Blacklist { "linux-"; "libstdc\\+\\+6$"; /* "nvidia"; */ };
};
"""


def test_blocks_lists_and_comments() -> None:
    assert pairs(main=NESTED) == [
        ("apt::periodic::update-package-lists", "1"), ("apt::periodic::unattended-upgrade", "always"),
        ("unattended-upgrade::allowed-origins::", "${distro_id}:${distro_codename}"),
        ("unattended-upgrade::allowed-origins::", "${distro_id}:${distro_codename}-security"),
        ("unattended-upgrade::package-blacklist::", "linux-"), ("unattended-upgrade::package-blacklist::", "libstdc\\+\\+6$"),
    ]  # fmt: skip


def test_later_files_win_lists_grow_and_clear_forgets() -> None:
    files = {"20a": 'A::B "1"; L:: "x";', "50b.conf": 'a::b "2"; L { "y"; };', "10c": 'A::B "0";', "main": '#clear L;\nL:: "z";'}
    extracted = run(SETTINGS, conf(**files))
    assert extracted.rows == (("a::b", "2", f"{PARTS}/50b.conf"), ("l::", "z", MAIN))


@pytest.mark.parametrize(("name", "read"), [
    ("50unattended-upgrades", True), ("a.conf", True), ("a.b.conf", True), ("a.bak", False), ("a.dpkg-old", False), ("a~", False),
    (".hidden", False), ("a b", False),
])  # fmt: skip
def test_only_names_that_apt_reads_count(name: str, read: bool) -> None:
    assert in_force(f"{PARTS}/{name}") is read
    assert bool(run(SETTINGS, conf(**{name: "A 1;"})).rows) is read


@pytest.mark.parametrize("text", [
    'A "1', "A { B 1;", "A 1; }", "A 1; B", "A;", 'A b "c";', "@@ 1;", '#include "/etc/other";', "A { #clear B; }", "{" * 99, 'A 1;\n"x";',
    "A 1;\n" * 20_001,
])  # fmt: skip
def test_what_is_not_understood_is_a_gap(text: str) -> None:
    assert run(SETTINGS, conf(main=text)).coverage is Coverage.PARTIAL


def test_no_files_at_all_and_unread_ones() -> None:
    absent = {"status": "absent", "detail": ""}
    assert run(SETTINGS, conf(main=absent)).coverage is Coverage.COMPLETE
    assert run(SETTINGS, conf(main={"status": "denied", "detail": ""}, b="A 1;")).coverage is Coverage.PARTIAL
    for item in (status(Status.DENIED), status(Status.ABSENT), ok("[]"), ok("garbage"), ok('{"a": 1}')):
        assert run(SETTINGS, {APT_CONF.id: item}).coverage is Coverage.NONE


def test_switches() -> None:
    words = {"true": True, "YES": True, "on": True, "with": True, "enable": True, "1": True, "2": True,
             "false": False, "No": False, "0": False, "off": False, "without": False, "disable": False, "maybe": None, "": None}  # fmt: skip
    assert {word: switch(word) for word in words} == words


def test_laws() -> None:
    evidence = conf(main=NESTED)
    never_emptier(SETTINGS, evidence)
    assert list(cut_short(SETTINGS, evidence, APT_CONF, step=11))


@given(st.text() | st.text(alphabet='ab:; "{}#/*\n'))
def test_nothing_raises(text: str) -> None:
    found = run(SETTINGS, conf(main=text))
    assert found.coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    assert all(value in text or " " in value for _, value, _ in found.rows)
    run(SETTINGS, {APT_CONF.id: ok(text)})
