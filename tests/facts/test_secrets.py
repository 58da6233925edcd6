# SPDX-License-Identifier: Apache-2.0
"""Files with secrets, as the `tokens` reader answers them (probe/node/accounts.py): kinds and counts, never a value."""

from __future__ import annotations

import json
import os
import secrets as chance
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.secrets import HOMES, SYSTEM, TABLES
from fleet_audit.model import Coverage, Source, SourceId, Status
from tests.probe.nodes import carried, opened_to_all

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

USERS, SYSTEMS = TABLES
BOTH = ((USERS, HOMES), (SYSTEMS, SYSTEM))
Evidence = dict[SourceId, Item]


def entry(**change: Any) -> dict[str, Any]:
    """A file as the reader tells it (synthetic: accounts.py `read_tokens`)."""
    row = {"user": "ada", "mode": 0o644, "uid": 1001, "gid": 1001, "size": 37, "reach": "others", "kinds": {"huggingface": 1}}
    return row | change


def files(source: Source, **entries: Any) -> Evidence:
    return {source.id: ok(json.dumps({"/" + name.replace("__", "/"): found for name, found in entries.items()}))}


@pytest.mark.parametrize(("table", "source"), BOTH)
def test_a_row_per_kind(table: Table, source: Source) -> None:
    evidence = files(source, home__ada__token=entry(), home__ada__env=entry(kinds={"aws": 2, "value": 1}, reach="owner", mode=0o600))
    assert run(table, evidence).coverage is Coverage.COMPLETE
    never_emptier(table, evidence)
    assert list(cut_short(table, evidence, source, step=40))
    assert rows_as_dicts(table, run(table, evidence)) == [
        {
            "path": "/home/ada/token",
            "kind": "huggingface",
            "count": 1,
            "user_name": "ada",
            "uid": 1001,
            "gid": 1001,
            "mode": 0o644,
            "reach": "others",
        },
        {"path": "/home/ada/env", "kind": "aws", "count": 2, "user_name": "ada", "uid": 1001, "gid": 1001, "mode": 0o600, "reach": "owner"},
        {
            "path": "/home/ada/env",
            "kind": "value",
            "count": 1,
            "user_name": "ada",
            "uid": 1001,
            "gid": 1001,
            "mode": 0o600,
            "reach": "owner",
        },
    ]


@pytest.mark.parametrize(("table", "source"), BOTH)
def test_no_file_and_a_file_without_a_secret_are_no_rows(table: Table, source: Source) -> None:
    for evidence in (files(source), files(source, etc__environment=entry(user=None, kinds={}))):
        extracted = run(table, evidence)
        assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


def test_a_masked_unit_is_no_file_that_was_missed() -> None:
    masked = {"user": None, "status": "failed", "detail": "not a regular file"}
    assert run(SYSTEMS, files(SYSTEM, etc__systemd__system__x=masked)).coverage is Coverage.COMPLETE
    assert run(USERS, files(HOMES, home__ada__token=masked)).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("unread", [
    {"user": "bob", "status": "denied", "detail": "Permission denied"}, {"user": None, "status": "truncated", "detail": "more than 500 files"},
    {"user": "bob", "status": "failed", "detail": "network file system (nfs4)"}, {"status": "denied", "detail": ""}, entry(kinds=3),
    entry(reach="all"), {},
])  # fmt: skip
def test_what_was_not_read_is_a_gap(unread: dict[str, Any]) -> None:
    for table, source in BOTH:
        extracted = run(table, files(source, home__ada__token=entry(), home__bob=unread))
        assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "not recorded"), status(Status.DENIED), status(Status.SKIPPED), ok(""), ok("[]"), ok("x"), ok('{"/a": 3}'), ok("null"),
])  # fmt: skip
def test_what_is_not_understood_is_none(item: Item) -> None:
    for table, source in BOTH:
        assert run(table, {source.id: item}).coverage is Coverage.NONE


@given(st.binary(max_size=200))
def test_no_bytes_raise(body: bytes) -> None:
    for table, source in BOTH:
        assert body.strip() == b"{}" or run(table, {source.id: ok(body)}).rows == ()


def plant(home: Path, name: str, text: str, mode: int = 0o600) -> None:
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.mark.slow
def test_files_of_a_real_home_by_the_real_program(tmp_path: Path) -> None:
    """Files with secrets of chance, read by the program that goes to nodes."""
    word = chance.token_hex(18)
    home = tmp_path / "ada"
    plant(home, ".cache/huggingface/token", f"hf_{word}\n", 0o644)
    plant(home, ".netrc", f"machine api.wandb.ai\n  login user\n  password {word}\n")
    plant(home, ".kaggle/kaggle.json", json.dumps({"username": "ada", "key": word[:32]}))
    plant(home, ".aws/credentials", f"[default]\naws_access_key_id = AKIA{word[:16].upper()}\naws_secret_access_key = {word}\n", 0o640)
    plant(home, ".docker/config.json", json.dumps({"auths": {"nvcr.io": {"auth": word}}}))
    plant(home, ".git-credentials", f"https://ada:{word}@git.example\n")
    plant(home, ".config/gh/hosts.yml", f"github.com:\n    user: ada\n    oauth_token: gho_{word}\n")
    plant(home, ".ssh/id_ed25519", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{word}\n-----END OPENSSH PRIVATE KEY-----\n")
    plant(home, ".kube/config", f"users:\n- name: a\n  user:\n    token: {word}\n")
    plant(home, ".pypirc", f"[pypi]\nusername = __token__\npassword = pypi-{word}\n")
    plant(home, ".ngc/config", f"[CURRENT]\napikey = nvapi-{word}\norg = x\n")
    plant(home, ".bashrc", "alias ll='ls -l'\nexport EDITOR=vi\n", 0o644)
    passwd = tmp_path / "passwd"
    passwd.write_text(f"ada:x:{os.getuid()}:{os.getgid()}::{home}:/bin/sh\n")
    opened_to_all(tmp_path)
    home.chmod(0o755)
    frame = carried([HOMES], passwd=passwd).frames[HOMES.id]
    assert word.encode() not in frame.body and word[:32].encode() not in frame.body
    extracted = run(USERS, {HOMES.id: Item(Status(frame.status), frame.body)})
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    rows = rows_as_dicts(USERS, extracted)
    assert {(str(Path(row["path"]).relative_to(home)), row["kind"], row["reach"]) for row in rows} == {
        (".cache/huggingface/token", "huggingface", "others"), (".netrc", "value", "owner"), (".kaggle/kaggle.json", "kaggle", "owner"),
        (".aws/credentials", "aws", "group"), (".aws/credentials", "value", "group"), (".docker/config.json", "value", "owner"),
        (".git-credentials", "value", "owner"), (".config/gh/hosts.yml", "github", "owner"), (".ssh/id_ed25519", "private-key", "owner"),
        (".kube/config", "value", "owner"), (".pypirc", "pypi", "owner"), (".ngc/config", "nvidia", "owner"),
    }  # fmt: skip
    assert {row["user_name"] for row in rows} == {"ada"} and {row["uid"] for row in rows} == {os.getuid()}
