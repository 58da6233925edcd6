# SPDX-License-Identifier: Apache-2.0
"""What the Ansible modules of `playbooks/library` make of files, without a node: edits keep all that they are not about."""

from __future__ import annotations

import importlib.util
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

BOOKS = Path(__file__).parents[1] / "playbooks"


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    """The modules by name, with what they share where Ansible puts it."""
    import ansible.module_utils

    found = {}
    for name, path in [
        ("fleet_saved", BOOKS / "module_utils/fleet_saved.py"),
        *((p.stem, p) for p in sorted((BOOKS / "library").glob("*.py"))),
    ]:
        full = f"ansible.module_utils.{name}" if name == "fleet_saved" else name
        spec = importlib.util.spec_from_file_location(full, path)
        assert spec is not None and spec.loader is not None
        found[name] = importlib.util.module_from_spec(spec)
        if name == "fleet_saved":
            sys.modules[full] = found[name]
            setattr(ansible.module_utils, name, found[name])
        spec.loader.exec_module(found[name])
    return found


def edited(modules: dict[str, ModuleType], text: str, *edits: dict[str, Any]) -> str:
    found: str = modules["fleet_file"].edited(text, list(edits))
    return found


PIP = "[global]\nextra-index-url =\n    http://a\n    http://b\nindex-url = http://x\n\n[install]\nuser = yes\n"


@pytest.mark.parametrize(
    ("text", "edit", "wanted"),
    [
        (PIP, {"keys": {"extra-index-url": None}, "continued": True}, "[global]\nindex-url = http://x\n\n[install]\nuser = yes\n"),
        (PIP, {"keys": {"timeout": "60"}, "section": "global", "equals": " = "}, PIP.replace("x\n\n", "x\ntimeout = 60\n\n")),
        ("A=1\nSlurm=2\nslurm=3\n#Slurm=4\n", {"keys": {"Slurm": "5"}}, "A=1\nSlurm=5\n#Slurm=4\n"),
        ("A=1,\\\n 2\nB=3\n", {"keys": {"A": "4"}}, "A=4\nB=3\n"),
        ("A=1\n", {"keys": {"B": None}}, "A=1\n"),
        ("", {"keys": {"A": "1"}}, "A=1\n"),
        ("x:\n  a: 1\na: 2\n", {"keys": {"a": "3"}, "equals": ": "}, "x:\n  a: 1\na: 3\n"),
        ("[b]\nk = 1\n", {"keys": {"k": "2"}, "section": "", "equals": " = "}, "k = 2\n[b]\nk = 1\n"),
        ("a\n#b\nb c\n", {"drop": "^b"}, "a\n#b\n"),
        ("a no_root_squash\n", {"replace": "no_(root)", "by": r"\1"}, "a root_squash\n"),
        ("a", {"lines": ["b", "c"]}, "a\nb\nc\n"),
        ("b\n", {"lines": ["b"]}, "b\n"),
        ("P=a,b\n", {"keys": {"P": "b,c"}, "merge": True}, "P=a,b,c\n"),
        ("# x\u2028S=1\r\n", {"keys": {"S": None}}, "# x\u2028S=1\r\n"),
        ("[g]\ne =\n  a\n\n# c\n  b\nk = 1\n", {"keys": {"e": None}, "continued": True}, "[g]\nk = 1\n"),
        ("[g] # note\nk = 1\n", {"keys": {"k": "2"}, "section": "g", "equals": " = "}, "[g] # note\nk = 2\n"),
    ],
)
def test_an_edit_changes_what_it_names(modules: dict[str, ModuleType], text: str, edit: dict[str, Any], wanted: str) -> None:
    assert edited(modules, text, edit) == wanted
    assert edited(modules, wanted, edit) == wanted, "a second time it changes nothing"


_words = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zl", "Zp"]), min_size=1, max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | _words, lambda v: st.lists(v, max_size=3) | st.dictionaries(_words, v, max_size=3)
)


@given(before=st.dictionaries(_words, _values, max_size=5), change=st.dictionaries(_words, st.integers() | st.none(), max_size=3))
def test_members_of_json_are_merged_and_all_others_stay(
    modules: dict[str, ModuleType], before: dict[str, Any], change: dict[str, Any]
) -> None:
    after = json.loads(edited(modules, json.dumps(before), {"json": change}) or "{}")
    assert after == {k: v for k, v in (before | change).items() if k not in change or v is not None}


@pytest.mark.parametrize("text", ["[]", "{", "nonsense", '{"a": 1,}'])
def test_what_is_no_json_object_is_refused(modules: dict[str, ModuleType], text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        edited(modules, text, {"json": {"a": 1}})


@given(text=st.text(), key=st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,8}", fullmatch=True), value=st.sampled_from(["1", None]))
def test_no_text_breaks_an_edit_of_keys_and_twice_is_once(modules: dict[str, ModuleType], text: str, key: str, value: str | None) -> None:
    edit = {"keys": {key: value}}
    once = edited(modules, text, edit)
    assert edited(modules, once, edit) == once


def test_toml_keeps_its_sections(modules: dict[str, ModuleType]) -> None:
    text = 'disable-require = false\n\n[nvidia-container-cli]\nldconfig = "/sbin/ldconfig"\n\n[features]\nallow-x = true\n'
    found = edited(
        modules, text, {"keys": {"accept": "false"}, "equals": " = ", "section": ""},
        {"keys": {"ldconfig": '"@/sbin/ldconfig"'}, "equals": " = ", "section": "nvidia-container-cli"},
        {"keys": {"allow-x": None}, "section": "features"},
    )  # fmt: skip
    assert tomllib.loads(found) == {
        "disable-require": False, "accept": False, "nvidia-container-cli": {"ldconfig": "@/sbin/ldconfig"}, "features": {},
    }  # fmt: skip


def test_what_is_shown_of_a_file_of_others_is_what_changes_without_its_secrets(modules: dict[str, ModuleType]) -> None:
    before = "StoragePass=Zx9q\nindex-url = http://me:Zx9q@host/simple\nkeep = Zx9q\n"
    after = "StoragePass=other\nindex-url = https://me:Zx9q@host/simple\nkeep = Zx9q\n"
    found = json.dumps(modules["fleet_saved"].shown("/etc/x", before, after))
    assert "Zx9q" not in found and "https://***@host" in found and "keep" not in found


def test_of_what_was_done_to_accounts_only_what_is_still_so_is_given_back(
    modules: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = modules["fleet_accounts"]
    files = {
        "/etc/passwd": ["a:x:1:1::/:/usr/sbin/nologin", "b:x:2:2::/:/bin/sh", "c:x:3:3::/:/bin/sh"], "/etc/shadow": ["a:!$6$x", "b:$6$new", "c:!"],
        "/etc/group": ["docker:x:9:b"],
    }  # fmt: skip
    monkeypatch.setattr(accounts, "rows", lambda path: [line.split(":") for line in files[path]])
    monkeypatch.setattr(accounts, "nologin", lambda: "/usr/sbin/nologin")
    kept = {
        "lock": {"a": False, "b": False, "c": True, "gone": False}, "shell": {"a": "/bin/bash", "b": "/bin/bash"},
        "member": [["a", "docker"], ["b", "docker"], ["gone", "docker"]],
    }  # fmt: skip
    assert accounts.in_force(kept) == {"lock": {"a": False, "c": True}, "shell": {"a": "/bin/bash"}, "member": [["a", "docker"]]}
    assert accounts.in_force({"lock": {"b": False}, "shell": {}, "member": [["b", "docker"]]}) is None


def test_a_file_is_replaced_and_a_link_in_its_way_is_not_followed(modules: dict[str, ModuleType], tmp_path: Path) -> None:
    saved, other = modules["fleet_saved"], tmp_path / "other"
    other.write_text("secret")
    for name in ("x.fleet", "x"):
        (tmp_path / name).symlink_to(other)
    saved.put(str(tmp_path / "x"), "new\r\n", 0o600, *(lambda s: (s.st_uid, s.st_gid))(tmp_path.stat()))
    assert other.read_text() == "secret" and saved.read(str(tmp_path / "x")) == "new\r\n" and not (tmp_path / "x").is_symlink()
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o600


FSTAB = "# a comment\nUUID=1 / ext4 defaults 0 1\ntmpfs\t/tmp\ttmpfs\tdefaults,suid,size=1g\t0 0\n//x/y /mnt/a\\040b cifs credentials=/etc/c 0 0\n"


@pytest.mark.parametrize(
    ("folder", "now", "wanted"),
    [
        ("/tmp", ("tmpfs", "tmpfs", ["rw"], []), FSTAB.replace("defaults,suid,size=1g", "defaults,size=1g,nodev,nosuid").replace("\t0 0", "\t0\t0")),
        ("/mnt/a b", ("//x/y", "cifs", ["rw"], []), FSTAB.replace("//x/y /mnt/a\\040b cifs credentials=/etc/c 0 0",
                                                                  "//x/y\t/mnt/a\\040b\tcifs\tcredentials=/etc/c,nodev,nosuid\t0\t0")),
        ("/dev/shm", ("tmpfs", "tmpfs", ["rw", "relatime"], ["size=2g"]), FSTAB + "tmpfs\t/dev/shm\ttmpfs\trw,relatime,nodev,nosuid,size=2g\t0\t0\n"),
        ("/data", ("nas:/x", "nfs4", ["rw"], []), FSTAB),
    ],
)  # fmt: skip
def test_a_mount_of_fstab_gets_options(modules: dict[str, ModuleType], folder: str, now: Any, wanted: str) -> None:
    found = modules["fleet_mounts"].with_options(FSTAB, folder, ["nodev", "nosuid"], now)
    assert found == wanted and modules["fleet_mounts"].with_options(found, folder, ["nodev", "nosuid"], now) == found
