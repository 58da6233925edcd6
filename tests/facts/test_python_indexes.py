# SPDX-License-Identifier: Apache-2.0
"""From where pip, uv and conda install, as pip itself, TOML and YAML have it."""

from __future__ import annotations

import json
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.python_indexes import FILES, HOMES, TABLES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node import accounts
from fleet_audit.probe.node.base import dump
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.redact import redact_bytes

from .helpers import ok, run, status
from .laws import cut_short, never_emptier

SYSTEM, USERS = TABLES
Evidence = dict[SourceId, Item]

# synthetic: pip user guide, Configuration
PIP = """[global]
index-url = https://user:s3cr3tpassword@pypi.example.org/simple
extra-index-url =
    https://one.example.org/simple
    https://download.pytorch.org/whl/cu124
timeout = 60
[install]
trusted_host: pypi.example.org files.example.org
no-index = yes
find-links = /srv/wheels
"""
PIP_ROWS = [
    ("global", "index-url", "https://pypi.example.org/simple", True), ("global", "extra-index-url", "https://one.example.org/simple", False),
    ("global", "extra-index-url", "https://download.pytorch.org/whl/cu124", False), ("install", "trusted-host", "pypi.example.org", False),
    ("install", "trusted-host", "files.example.org", False), ("install", "no-index", "yes", False), ("install", "find-links", "/srv/wheels", False),
]  # fmt: skip
# synthetic: uv, Configuration files and Package indexes
UV = """index-strategy = "unsafe-best-match"
allow-insecure-host = ["localhost:8080"]
python-preference = "only-system"

[[index]]
name = "own"
url = "https://pypi.example.org/simple"
default = true

[[index]]
name = "torch"
url = "https://download.pytorch.org/whl/cu124"
explicit = true

[[index]]
url = "https://more.example.org/simple"

[pip]
extra-index-url = [
    "https://legacy.example.org/simple",
]
no-index = false
"""
UV_ROWS = [
    (None, "trusted-host", "localhost:8080", False), (None, "index-strategy", "unsafe-best-match", False),
    (None, "index-url", "https://pypi.example.org/simple", False), (None, "explicit-index-url", "https://download.pytorch.org/whl/cu124", False),
    (None, "extra-index-url", "https://more.example.org/simple", False), ("pip", "extra-index-url", "https://legacy.example.org/simple", False),
    ("pip", "no-index", "false", False),
]  # fmt: skip
# synthetic: conda, Using the .condarc configuration file
CONDA = """# of conda
channels:
  - conda-forge   # first
  - "https://conda.example.org/t/tk-0a1b2c/main"
  - defaults
create_default_packages:
  - pip
channel_priority: flexible
ssl_verify: false
custom_channels:
  own: https://conda.example.org
allowlist_channels: [conda-forge, 'own']
default_channels: []
"""
CONDA_ROWS = [
    (None, "channel", "conda-forge", False), (None, "channel", "https://conda.example.org/t/<secret>/main", True),
    (None, "channel", "defaults", False),
    (None, "channel-priority", "flexible", False), (None, "ssl-verify", "false", False), (None, "allowed-channel", "conda-forge", False),
    (None, "allowed-channel", "own", False),
]  # fmt: skip
HOME = "/home/alice"


def files(contents: dict[str, Any]) -> Evidence:
    return {FILES.id: ok(json.dumps({path: what if isinstance(what, dict) else {"text": what} for path, what in contents.items()}))}


def of(evidence: Evidence, table: Any = SYSTEM) -> list[tuple[Any, ...]]:
    extracted = run(table, evidence)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    return [(row[4], row[5], row[6], row[7]) for row in extracted.rows]


def test_pip() -> None:
    assert of(files({"/etc/pip.conf": redact_bytes(PIP.encode()).decode()})) == PIP_ROWS
    assert of(files({"/etc/pip.conf": PIP})) == PIP_ROWS


@pytest.mark.slow
def test_pip_itself_reads_the_same(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(PIP)
    env = {"PIP_CONFIG_FILE": f"{tmp_path}/pip.conf", "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-m", "pip", "config", "list"], env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("pip is not installed here")
    native = {}
    for line in done.stdout.splitlines():
        name, _, written = line.partition("=")
        native[name.rpartition(".")[0], name.rpartition(".")[2]] = yaml.safe_load(written.replace("\\n", " ")).split()
    mine: dict[Any, list[str]] = {}
    for section, name, word, _ in PIP_ROWS:
        mine.setdefault((section, name), []).append(word.replace("https://pypi.", "https://user:s3cr3tpassword@pypi."))
    assert mine == {name: words for name, words in native.items() if name in mine}


def test_uv() -> None:
    assert of(files({"/etc/uv/uv.toml": UV})) == UV_ROWS


def test_conda() -> None:
    assert of(files({"/etc/conda/.condarc": CONDA})) == CONDA_ROWS


@given(st.dictionaries(
    st.sampled_from(["channels", "channel_priority", "default_channels", "pinned_packages", "envs_dirs", "ssl_verify", "proxy_servers"]),
    st.lists(st.sampled_from(["conda-forge", "defaults", "https://h/a", "a b", "x: y", "yes"]), max_size=3) | st.sampled_from(["strict", "no"]),
), st.booleans())  # fmt: skip
def test_what_yaml_writes_is_read_alike(document: dict[str, Any], indent: bool) -> None:
    text = yaml.safe_dump(document, sort_keys=False)
    if indent:
        text = text.replace("\n- ", "\n  - ")
    extracted = run(SYSTEM, files({"/opt/conda/.condarc": text}))
    names = {
        "channels": "channel",
        "channel_priority": "channel-priority",
        "default_channels": "default-channel",
        "ssl_verify": "ssl-verify",
    }
    wanted = [
        (names[key], word) for key, value in document.items() if key in names for word in (value if isinstance(value, list) else [value])
    ]
    assert [(row[5], row[6]) for row in extracted.rows] == wanted


def test_scopes() -> None:
    paths = {"/etc/pip.conf": "system", "/etc/xdg/pip/pip.conf": "system", "/usr/pip.conf": "system", "/opt/app/pip.conf": "environment"}
    rows = run(SYSTEM, files(dict.fromkeys(paths, "[global]\nindex-url=https://h/x\n"))).rows
    assert {row[2]: row[1] for row in rows} == paths
    homes = {f"{HOME}/.pip/pip.conf": "user", f"{HOME}/.config/pip/pip.conf": "user", f"{HOME}/venv/pip.conf": "environment"}
    condas = {f"{HOME}/.condarc": "user", f"{HOME}/.conda/condarc.d/a.yml": "user", f"{HOME}/miniforge3/.condarc": "environment"}
    texts = dict.fromkeys(homes, "[global]\nindex-url=https://h/x\n") | dict.fromkeys(condas, "channels: [a]\n")
    found = run(
        USERS, {HOMES.id: ok(json.dumps({path: {"user": "alice", "uid": 1, "mode": 384, "text": text} for path, text in texts.items()}))}
    )
    assert {row[2]: row[1] for row in found.rows} == homes | condas and {row[3] for row in found.rows} == {"alice"}


def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: dict[str, str]) -> Evidence:
    """The real reader's answer for one home with these files."""
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    owner = pwd.getpwuid(tmp_path.stat().st_uid)
    monkeypatch.setattr(accounts, "accounts", lambda files: [(owner.pw_name, owner.pw_uid, str(tmp_path))])
    found = accounts.read_home_lines(Files(), {**HOMES.args})
    assert found == dump(json.loads(found))
    return {HOMES.id: ok(found)}


def test_lines_of_homes_tell_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader keeps some lines only: the settings in them come out as from whole files, and no secret does."""
    evidence = homes(tmp_path, monkeypatch, {".config/pip/pip.conf": PIP, ".config/uv/uv.toml": UV, ".condarc": CONDA})
    text = evidence[HOMES.id].text
    assert "s3cr3tpassword" not in text and "timeout" not in text and "only-system" not in text
    rows = run(USERS, evidence).rows
    assert run(USERS, evidence).coverage is Coverage.COMPLETE, run(USERS, evidence).reason
    for tool, wanted in (("pip", PIP_ROWS), ("uv", UV_ROWS), ("conda", CONDA_ROWS)):
        assert [row[4:8] for row in rows if row[0] == tool] == wanted


def test_a_value_on_lines_that_are_not_kept_is_null_and_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evidence = homes(tmp_path, monkeypatch, {".pip/pip.conf": "[global]\ntrusted-host =\n    pypi.example.org\n    other.example.org\n"})
    extracted = run(USERS, evidence)
    assert extracted.coverage is Coverage.PARTIAL
    assert [row[4:8] for row in extracted.rows] == [("global", "trusted-host", None, False)]


@pytest.mark.parametrize(("path", "text"), [
    ("/etc/pip.conf", "index-url = https://h\n"), ("/etc/pip.conf", "[global]\nwords\n"), ("/etc/pip.conf", "[global]\nindex-url =\n"),
    ("/etc/uv/uv.toml", "index-url = \n"), ("/etc/uv/uv.toml", "index = 3\n"), ("/etc/uv/uv.toml", "pip = 3\n"),
    ("/etc/uv/uv.toml", "index-url = 3\n"),
    ("/etc/uv/uv.toml", "[[index]]\nname = 'a'\n"), ("/etc/uv/uv.toml", "x = " + "[" * 9999), ("/etc/conda/.condarc", "channels:\n"),
    ("/etc/conda/.condarc", "channels: {a: b}\n"), ("/etc/conda/.condarc", "channels: &x [a]\n"), ("/etc/conda/.condarc", "channels:\n  own: x\n"),
    ("/etc/conda/.condarc", "words\n"), ("/etc/pip.conf", "#" * 300_000), ("/etc/conda/.condarc", "ssl_verify: |\n"),
])  # fmt: skip
def test_what_is_not_understood_is_a_gap(path: str, text: str) -> None:
    assert run(SYSTEM, files({path: text})).coverage is Coverage.PARTIAL


def test_nothing_set_and_unread() -> None:
    assert (run(SYSTEM, files({})).coverage, run(SYSTEM, files({})).rows) == (Coverage.COMPLETE, ())
    assert run(SYSTEM, files({"/etc/pip.conf": {"status": "absent", "detail": ""}})).coverage is Coverage.COMPLETE
    assert run(SYSTEM, files({"/etc/pip.conf": {"status": "denied", "detail": ""}})).coverage is Coverage.PARTIAL
    denied = {"user": "alice", "status": "denied", "detail": "Permission denied"}
    assert run(USERS, {HOMES.id: ok(json.dumps({f"{HOME}/.condarc": denied}))}).coverage is Coverage.PARTIAL
    for table, source in ((SYSTEM, FILES), (USERS, HOMES)):
        for item in (status(Status.DENIED), status(Status.TIMEOUT), ok("[]"), ok("x"), ok('{"a": 1}')):
            assert run(table, {source.id: item}).coverage is Coverage.NONE


def test_laws() -> None:
    full = files({"/etc/pip.conf": PIP, "/etc/uv/uv.toml": UV, "/etc/conda/.condarc": CONDA})
    never_emptier(SYSTEM, full)
    never_emptier(USERS, {HOMES.id: full[FILES.id]})
    assert list(cut_short(SYSTEM, full, FILES, step=61)) and list(cut_short(USERS, {HOMES.id: full[FILES.id]}, HOMES, step=61))


@given(
    st.sampled_from(["/etc/pip.conf", "/etc/uv/uv.toml", "/opt/conda/.condarc"]),
    st.text() | st.text(alphabet="[]=\n channels:-\"'{}index-url"),
)
def test_nothing_raises(path: str, text: str) -> None:
    found = run(SYSTEM, files({path: text}))
    assert found.coverage in (Coverage.COMPLETE, Coverage.PARTIAL)
    assert not found.rows or "channels" in text or "index" in text
    for table in TABLES:
        run(table, {source.id: ok(text) for source in table.sources})
