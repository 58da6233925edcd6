# SPDX-License-Identifier: Apache-2.0
"""Users, groups, passwords, homes: this machine against Python's own readers, real shadow lines, and what each absence means."""

from __future__ import annotations

import grp
import json
import pwd
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.accounts import GROUP, HOMES, LOGIN_DEFS, NSSWITCH, PASSWD, ROOT_HOME, SHADOW, TABLES
from fleet_audit.facts.accounts.services import services
from fleet_audit.facts.base import Bundle, Item, Table
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier
from .nodes import ABSENT, DENIED, files, node, this_machine

USERS, NIS, GROUPS, MEMBERS, PASSWORDS, DEFAULTS, SERVICES, HOME = TABLES
Evidence = dict[SourceId, Item]

# synthetic: passwd(5), group(5), shadow(5), as the `colon` reader sends them; names are invented
PASSWD_TEXT = """root:shadowed:0:0::/root:/bin/bash
daemon:shadowed:1:1::/usr/sbin:/usr/sbin/nologin
sync:shadowed:4:65534::/bin:/bin/sync
toor:shadowed:0:0::/root:/bin/sh
alice:shadowed:1000:1000::/home/alice:/bin/bash
svc:shadowed:1001:1001::/srv/svc:/usr/sbin/nologin
old:set des:1002:1002::/home/old:
open:empty:1003:100::/data/open:/bin/zsh
nobody:shadowed:65534:65534::/nonexistent:/usr/sbin/nologin
"""
GROUP_TEXT = "root:shadowed:0:\nsudo:shadowed:27:alice,ghost\nalice:shadowed:1000:\ndocker:set 6:998:alice, svc,alice\nusers:empty:100:\n"
SHADOW_TEXT = """root:locked:20228:0:99999:7::
daemon:locked:20228:0:99999:7::
sync:locked 6:20228:0:99999:7::
toor:set 1:0:::::
alice:set y:20400:1:365:7:30:20819
svc:empty:::::::
open:set 6:20228:0:99999:7::
nobody:locked:20228:0:99999:7::
ghost:set 6:20228:0:99999:7::
"""
LOGIN_TEXT = "# comment\nUID_MIN\t\t 1000\nUID_MAX 60000\nENCRYPT_METHOD SHA512\nPASS_MAX_DAYS\t99999\n"


def login(text: str = LOGIN_TEXT, **more: Any) -> Item:
    return files(**{"/usr/etc/login.defs": ABSENT, "/etc/login.defs": text} | more)


def homes(*paths: str, **more: Any) -> Item:
    """Home folders with mode 0700, owned by 1000."""
    there = {path: {"type": "dir", "mode": 0o700, "uid": 1000, "gid": 1000, "link": None} for path in ("/home", *paths)}
    return files(**there | more)


ROOTS = files(**{"/root": {"type": "dir", "mode": 0o700, "uid": 0, "gid": 0, "link": None}})
WHOLE: Evidence = {
    PASSWD.id: ok(PASSWD_TEXT), GROUP.id: ok(GROUP_TEXT), SHADOW.id: ok(SHADOW_TEXT), LOGIN_DEFS.id: login(),
    NSSWITCH.id: ok("passwd: files systemd\nsudoers: files sss\nhosts:\tfiles [!UNAVAIL=return] dns # last\n"),
    HOMES.id: homes("/home/alice", "/home/old"), ROOT_HOME.id: ROOTS,
}  # fmt: skip


def rows(table: Table, **more: Item) -> list[dict[str, Any]]:
    found = run(table, WHOLE | {SourceId(k.replace("_", "-")): v for k, v in more.items()})
    assert found.coverage is Coverage.COMPLETE, found.reason
    return rows_as_dicts(table, found)


def test_users() -> None:
    found = {row["name"]: row for row in rows(USERS)}
    assert {name: row["kind"] for name, row in found.items()} == {
        "root": "root", "daemon": "system", "sync": "system", "toor": "root", "alice": "human", "svc": "other", "old": "human", "open": "human",
        "nobody": "other",
    }  # fmt: skip
    assert {name for name, row in found.items() if row["login_shell"]} == {"root", "toor", "alice", "old", "open"}
    assert [name for name, row in found.items() if row["uid"] == 0] == ["root", "toor"]
    assert (found["old"]["password"], found["open"]["password"], found["alice"]["password"]) == ("set", "empty", "shadowed")
    assert (found["alice"]["home"], found["alice"]["gid"], found["alice"]["shell"]) == ("/home/alice", 1000, "/bin/bash")


def test_login_defs_moves_the_line_between_people_and_the_system() -> None:
    moved = {r["name"]: r["kind"] for r in rows(USERS, login_defs=login("UID_MIN 500\nUID_MAX 1000\n"))}
    assert {name for name, kind in moved.items() if kind == "human"} == {"alice"}
    # A person's account with an id above UID_MAX is none of the system's.
    assert (moved["old"], moved["nobody"], moved["daemon"]) == ("other", "other", "system")
    assert {r["name"] for r in rows(USERS, login_defs=login("")) if r["kind"] == "human"} == {"alice", "old", "open"}
    none = files(**{"/usr/etc/login.defs": ABSENT, "/etc/login.defs": ABSENT})
    assert {r["name"] for r in rows(USERS, login_defs=none) if r["kind"] == "human"} == {"alice", "old", "open"}


@pytest.mark.parametrize(
    "item", [status(Status.DENIED), ok("[]"), ok("{}"), files(**{"/usr/etc/login.defs": ABSENT, "/etc/login.defs": DENIED})]
)
def test_without_login_defs_the_kind_is_not_known(item: Item) -> None:
    found = run(USERS, WHOLE | {LOGIN_DEFS.id: item})
    assert found.coverage is Coverage.PARTIAL
    assert {row["kind"] for row in rows_as_dicts(USERS, found)} == {"root", None}


def test_nis_lines_are_no_users_and_are_told() -> None:
    passwd, group = ok(PASSWD_TEXT + "+@admins:empty:::::\n-eve:empty:::::\n+:empty:::::\n"), ok(GROUP_TEXT + "+:empty::\n+\n")
    assert [row["name"] for row in rows(USERS, passwd=passwd)] == [row["name"] for row in rows(USERS)]
    assert [(row["file"], row["entry"]) for row in rows(NIS, passwd=passwd, group=group)] == [
        ("/etc/passwd", "+@admins"), ("/etc/passwd", "-eve"), ("/etc/passwd", "+"), ("/etc/group", "+"), ("/etc/group", "+"),
    ]  # fmt: skip
    assert rows(NIS) == []
    shadow = ok(SHADOW_TEXT + "+:empty::::::\n")
    assert "+" not in {row["user_name"] for row in rows(PASSWORDS, shadow=shadow)}


def test_groups_and_members() -> None:
    assert [(row["name"], row["gid"], row["password"]) for row in rows(GROUPS)] == [
        ("root", 0, "shadowed"), ("sudo", 27, "shadowed"), ("alice", 1000, "shadowed"), ("docker", 998, "set"), ("users", 100, "empty"),
    ]  # fmt: skip
    found = {(row["group_name"], row["user_name"], row["primary_group"]) for row in rows(MEMBERS)}
    assert {row for row in found if not row[2]} == {
        ("sudo", "alice", False),
        ("sudo", "ghost", False),
        ("docker", "alice", False),
        ("docker", "svc", False),
    }
    assert {row for row in found if row[2]} == {
        ("root", "root", True), ("root", "toor", True), ("alice", "alice", True), ("users", "open", True), ("1", "daemon", True),
        ("65534", "sync", True), ("1001", "svc", True), ("1002", "old", True), ("65534", "nobody", True),
    }  # fmt: skip


def test_two_groups_of_one_id_share_their_members() -> None:
    found = rows(MEMBERS, group=ok(GROUP_TEXT + "admins:shadowed:1000:\n"))
    assert {row["group_name"] for row in found if row["user_name"] == "alice" and row["primary_group"]} == {"alice", "admins"}


def test_password_states() -> None:
    found = {row["user_name"]: row for row in rows(PASSWORDS)}
    assert {name: (row["origin"], row["account"], row["state"], row["scheme"]) for name, row in found.items()} == {
        "root": ("shadow", True, "locked", ""), "daemon": ("shadow", True, "locked", ""), "sync": ("shadow", True, "locked", "6"),
        "toor": ("shadow", True, "set", "1"), "alice": ("shadow", True, "set", "y"), "svc": ("shadow", True, "empty", ""),
        "old": ("passwd", True, "set", "des"), "open": ("passwd", True, "empty", ""), "nobody": ("shadow", True, "locked", ""),
        "ghost": ("shadow", False, "set", "6"),
    }  # fmt: skip
    alice, toor, svc = found["alice"], found["toor"], found["svc"]
    assert (alice["ageing"], alice["changed_at"], alice["expires"], alice["expires_at"]) == (
        "dated",
        datetime(2025, 11, 8),
        True,
        datetime(2027, 1, 1),
    )
    assert [alice[f"{name}_days"] for name in ("minimum", "maximum", "warning", "inactive")] == [1, 365, 7, 30]
    assert (toor["ageing"], toor["changed_at"], toor["maximum_days"], toor["expires"]) == ("due", None, -1, False)
    assert (svc["ageing"], svc["minimum_days"], svc["inactive_days"]) == ("off", -1, -1)


def test_an_empty_field_in_passwd_decides_over_shadow() -> None:
    """pam_unix looks into shadow only where passwd says `x`."""
    (row,) = (row for row in rows(PASSWORDS) if row["user_name"] == "open")
    assert (row["state"], row["origin"], row["maximum_days"]) == ("empty", "passwd", 99999)


def test_an_account_without_a_line_in_shadow_is_told() -> None:
    found = {row["user_name"]: row for row in rows(PASSWORDS, shadow=ok(SHADOW_TEXT.replace("alice:", "alicia:")))}
    assert (found["alice"]["state"], found["alice"]["ageing"], found["alicia"]["account"]) == ("missing", None, False)


def test_fields_that_are_no_numbers_are_gaps() -> None:
    found = run(PASSWORDS, WHOLE | {SHADOW.id: ok(SHADOW_TEXT.replace(":365:", ":36x:"))})
    assert found.coverage is Coverage.PARTIAL
    (alice,) = (row for row in rows_as_dicts(PASSWORDS, found) if row["user_name"] == "alice")
    assert (alice["maximum_days"], alice["minimum_days"], alice["state"]) == (None, 1, "set")


def test_login_defaults_of_several_files_are_all_told() -> None:
    found = rows(
        DEFAULTS,
        login_defs=login("UMASK 022\nUMASK 077\n", **{"/usr/etc/login.defs": "UMASK 027\n", "/etc/login.defs.d/x.defs": "UMASK 077\n"}),
    )
    assert [(row["key"], row["value"], row["file"]) for row in found] == [
        ("UMASK", "027", "/usr/etc/login.defs"), ("UMASK", "022", "/etc/login.defs"), ("UMASK", "077", "/etc/login.defs"),
        ("UMASK", "077", "/etc/login.defs.d/x.defs"),
    ]  # fmt: skip
    assert run(DEFAULTS, {LOGIN_DEFS.id: login("UMASK 022\n= what\n")}).coverage is Coverage.PARTIAL


def test_name_services() -> None:
    assert [(row["database"], row["service"], row["position"]) for row in rows(SERVICES)] == [
        ("passwd", "files", 0), ("passwd", "systemd", 1), ("sudoers", "files", 0), ("sudoers", "sss", 1), ("hosts", "files", 0), ("hosts", "dns", 1),
    ]  # fmt: skip
    assert rows(SERVICES, nsswitch=status(Status.ABSENT)) == []
    assert run(SERVICES, {NSSWITCH.id: ok("what is this\n")}).coverage is Coverage.PARTIAL
    assert services(Bundle(WHOLE), "sudoers") == ["files", "sss"] and services(Bundle(WHOLE), "netgroup") == ["files"]


def test_homes() -> None:
    link = {"type": "link", "mode": 0o777, "uid": 0, "gid": 0, "link": "/data/old"}
    found = run(HOME, WHOLE | {HOMES.id: homes("/home/alice", "/home/left", **{"/home/old": link})})
    assert found.coverage is Coverage.PARTIAL and "/data/open was not looked at" in found.reason
    assert {row["path"]: (row["user_name"], row["there"], row["type"], row["mode"]) for row in rows_as_dicts(HOME, found)} == {
        "/root": ("root", True, "dir", 0o700), "/home/alice": ("alice", True, "dir", 0o700), "/home/left": (None, True, "dir", 0o700),
        "/home/old": ("old", True, "link", None), "/data/open": ("open", None, None, None),
    }  # fmt: skip


def test_a_home_that_is_not_there() -> None:
    passwd = ok(PASSWD_TEXT.replace("/data/open", "/home/open"))
    (row,) = (row for row in rows(HOME, passwd=passwd) if row["path"] == "/home/open")
    assert (row["user_name"], row["user_uid"], row["there"], row["mode"]) == ("open", 1003, False, None)
    absent = {"homes": files(**{"/home": ABSENT}), "root_home": files(**{"/root": ABSENT})}
    assert {row["path"]: row["there"] for row in rows(HOME, passwd=passwd, **absent)} == {
        "/root": False, "/home/alice": False, "/home/old": False, "/home/open": False,
    }  # fmt: skip


@pytest.mark.parametrize("item", [homes("/home/old", **{"/home/alice": DENIED}), homes("/home/old", **{"/home/alice": {"type": "dir"}})])
def test_a_home_that_was_not_read_is_not_missing(item: Item) -> None:
    found = run(HOME, WHOLE | {PASSWD.id: ok(PASSWD_TEXT.replace("/data/open", "/home/old")), HOMES.id: item})
    assert found.coverage is Coverage.PARTIAL
    assert [row["there"] for row in rows_as_dicts(HOME, found) if row["path"] == "/home/alice"] == [None]


def test_a_home_on_a_network_file_system_leaves_root() -> None:
    found = run(HOME, WHOLE | {HOMES.id: status(Status.FAILED, "network file system (nfs4)")})
    assert found.coverage is Coverage.PARTIAL and "nfs4" in found.reason
    there = {row["path"]: row["there"] for row in rows_as_dicts(HOME, found)}
    assert there == {"/root": True, "/home/alice": None, "/home/old": None, "/data/open": None}


def test_without_login_defs_every_users_home_counts() -> None:
    found = run(HOME, WHOLE | {LOGIN_DEFS.id: status(Status.DENIED)})
    assert found.coverage is Coverage.PARTIAL and "/srv/svc" in {row["path"] for row in rows_as_dicts(HOME, found)}


# --- what is not read ------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [PASSWD, GROUP, SHADOW, LOGIN_DEFS, NSSWITCH, HOMES, ROOT_HOME], ids=lambda s: s.id)
@pytest.mark.parametrize("item", [status(Status.DENIED), status(Status.TIMEOUT), status(Status.UNREACHED), status(Status.SKIPPED)])
def test_no_table_is_complete_without_its_sources(source: Source, item: Item) -> None:
    for table in TABLES:
        if source.id in {s.id for s in table.sources} and (table, item.status) != (SERVICES, Status.SKIPPED):
            assert run(table, WHOLE | {source.id: item}).coverage is not Coverage.COMPLETE


@pytest.mark.parametrize("source", [PASSWD, GROUP, SHADOW], ids=lambda s: s.id)
@pytest.mark.parametrize("body", [b"", b"\n", b"garbage\n", b"\xff\xfe:::", b"a:b:c:d:e:f:g:h\n", b"a:x:0:0::/root:/bin/sh:\n"])
def test_what_is_no_such_file_gives_no_complete_table(source: Source, body: bytes) -> None:
    for table in (USERS, GROUPS, MEMBERS, PASSWORDS):
        if source.id in {s.id for s in table.sources}:
            found = run(table, WHOLE | {source.id: ok(body)})
            if (table, body.strip()) != (PASSWORDS, b""):
                assert found.coverage is not Coverage.COMPLETE
            assert not {"garbage", "a"} & {value for row in found.rows for value in row if isinstance(value, str)}


def test_a_shadow_without_lines_is_told_of_every_account() -> None:
    assert {row["state"] for row in rows(PASSWORDS, shadow=ok("")) if row["origin"] == "shadow"} == {"missing"}


@pytest.mark.parametrize(("table", "source"), [
    (USERS, PASSWD), (GROUPS, GROUP), (MEMBERS, GROUP), (MEMBERS, PASSWD), (PASSWORDS, SHADOW), (DEFAULTS, LOGIN_DEFS), (HOME, HOMES),
    (HOME, ROOT_HOME),
    (SERVICES, NSSWITCH),
])  # fmt: skip
def test_laws(table: Table, source: Source) -> None:
    never_emptier(table, WHOLE)
    assert list(cut_short(table, WHOLE, source, step=23))


# --- real systems ----------------------------------------------------------------------------------


def test_this_machine_agrees_with_python() -> None:
    evidence = this_machine(TABLES)
    users, members = (rows_as_dicts(table, run(table, evidence)) for table in (USERS, MEMBERS))
    local = {line.split(":")[0] for line in Path("/etc/passwd").read_text().splitlines()}
    wanted = [(p.pw_name, p.pw_uid, p.pw_gid, p.pw_dir, p.pw_shell) for p in pwd.getpwall() if p.pw_name in local]
    assert [(r["name"], r["uid"], r["gid"], r["home"], r["shell"]) for r in users] == wanted
    named = {(g.gr_name, name) for g in grp.getgrall() for name in g.gr_mem}
    assert {(r["group_name"], r["user_name"]) for r in members if not r["primary_group"]} == named
    found = run(PASSWORDS, evidence)
    assert found.coverage is Coverage.COMPLETE, found.reason
    states = {row["user_name"]: row["state"] for row in rows_as_dicts(PASSWORDS, found)}
    assert set(states) >= {row["name"] for row in users} and states["nobody"] == "locked"
    assert "$" not in json.dumps(list(found.rows), default=str)


# synthetic: crypt(5), the shapes of hashes; none is a hash of anything
HASHES = {
    "yescrypt": "$y$j9T$ZJ5xNvS8xTYRJ3RhH3VXl.$Yx7YEZ0PPFUFgyqC9VQUqDP5KS4yWjVk4mBgyXhZCpB", "sha": "$6$saltsalt$" + "a" * 86,
    "md5": "$1$salt$" + "b" * 22, "des": "abJnggxhB/yWI",
}  # fmt: skip


def test_the_reader_sends_no_hash(tmp_path: Path) -> None:
    shadow = "".join(f"{name}:{text}:20000:0:99999:7:::\n{name}2:!{text}:20000:0:99999:7:::\n" for name, text in HASHES.items())
    passwd = "root:x:0:0:The Root,,555-1234:/root:/bin/sh\n" + "".join(
        f"{name}{n}:x:100{n or 0}:100::/home/{name}:/bin/sh\n" for name in HASHES for n in ("", "2")
    )
    made = {
        "/etc/shadow": shadow + "root:*:::::::\nempty::::::::\n",
        "/etc/passwd": passwd,
        "/etc/group": "root:x:0:\n",
        "/etc/login.defs": "UID_MIN 1\n",
    }
    evidence = node(tmp_path / "n", TABLES, made | {"/home/md5/": "", "/root/": ""})
    found = run(PASSWORDS, evidence)
    states = {row["user_name"]: (row["state"], row["scheme"]) for row in rows_as_dicts(PASSWORDS, found)}
    assert states == {
        "root": ("locked", ""), "yescrypt": ("set", "y"), "sha": ("set", "6"), "md5": ("set", "1"), "des": ("set", "des"),
        "yescrypt2": ("locked", "y"), "sha2": ("locked", "6"), "md52": ("locked", "1"), "des2": ("locked", "des"), "empty": ("empty", ""),
    }  # fmt: skip
    sent = b"".join(item.body for item in evidence.values())
    assert not any(text.encode() in sent for text in HASHES.values()) and b"555-1234" not in sent


LINES = st.sampled_from(
    [
        "root",
        "x",
        "shadowed",
        "set 6",
        "locked",
        "empty",
        ":",
        ":",
        ":",
        "0",
        "1000",
        "-1",
        "+",
        "\n",
        "/home/a",
        "/bin/sh",
        "UID_MIN",
        "\x0c",
        "é",
    ]
)


@given(st.lists(LINES, max_size=40).map("".join), st.sampled_from(Status), st.sampled_from([s for t in TABLES for s in t.sources]))
def test_nothing_raises(text: str, given: Status, source: Source) -> None:
    for table in TABLES:
        run(table, WHOLE | {source.id: Item(given, text.encode())})
        run(table, WHOLE | {source.id: files(**{"/etc/login.defs": text, "/usr/etc/login.defs": text, "/home": text, "/root": text})})
    for row in rows_as_dicts(PASSWORDS, run(PASSWORDS, WHOLE | {SHADOW.id: ok(text)})):
        assert row["state"] in ("empty", "locked", "set", "missing")
