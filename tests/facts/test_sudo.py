# SPDX-License-Identifier: Apache-2.0
"""sudo's rules: against sudo's own parser (cvtsudoers, visudo), by the real reader, and what each absence means."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_audit.facts.accounts.services import NSSWITCH
from fleet_audit.facts.base import Item
from fleet_audit.facts.sudo import MAINS, SUDO_CONF, SUDOERS, SUDOERS_FILES, TABLES
from fleet_audit.facts.sudo.entries import Grant
from fleet_audit.facts.sudo.grammar import Parser
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier
from .nodes import ABSENT, DENIED, FOLDER, files, node, this_machine

RULES, DEFAULTS, FILES = TABLES
Evidence = dict[SourceId, Item]
NONE = dict.fromkeys(MAINS, ABSENT)
needs_sudo = pytest.mark.skipif(shutil.which("cvtsudoers") is None, reason="the mirror lacks sudo here")


def sudoers(text: str, **more: Any) -> Evidence:
    """A node whose /etc/sudoers says this."""
    return {
        SUDOERS.id: files(**NONE | {"/etc/sudoers": text} | more), SUDO_CONF.id: status(Status.ABSENT), NSSWITCH.id: status(Status.ABSENT),
    }  # fmt: skip


def rules(text: str, **more: Any) -> list[dict[str, Any]]:
    found = run(RULES, sudoers(text, **more))
    assert found.coverage is Coverage.COMPLETE, found.reason
    return rows_as_dicts(RULES, found)


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# synthetic: sudoers(5), all of its entries; `visudo -c` of sudo 1.9.13p3 (Debian 12) accepts it
MANUAL = r"""# a comment that ends in a backslash does not go on \
root	ALL=(ALL:ALL) ALL
Defaults env_reset, !lecture, passwd_tries=5 # the tail is a comment
Defaults	secure_path="/usr/local/sbin:\
    /usr/sbin"
Defaults:FULLTIMERS	!authenticate
Defaults@SERVERS	log_year, logfile=/var/log/sudo.log
Defaults!PAGERS		noexec
Defaults>operator	!set_logname
Defaults env_keep += "A B", env_keep -= C
User_Alias	FULLTIMERS = millert, mikef : PARTTIMERS = bostley, "jwfox x", !crawl
User_Alias WEB = FULLTIMERS, %web
Runas_Alias OP = root, operator
Host_Alias SERVERS = main, 128.138.243.0/24, 10.0.0.0/255.0.0.0, fe80::1, +ng
Cmnd_Alias PAGERS = /usr/bin/more, /usr/bin/less
Cmnd_Alias KILL = /usr/bin/kill, /usr/bin/pkill -9 *
WEB, !bob, #1000, %#20, +admins SERVERS, !backup = (OP, %ops : adm, wheel) NOPASSWD: SETENV: KILL, PASSWD: !/bin/su, \
    (www) /usr/bin/tail -f /var/log/x\:y\,z\=1 : ALL = NOPASSWD: /sbin/ , sudoedit /etc/hosts, list
%wheel ALL = CWD=/tmp TIMEOUT=2h /usr/bin/foo "", /usr/bin/bar --x=y *.conf, ^/usr/bin/(a|b)$ ^-[xy]+$
carol ALL=() /bin/true, (:grp) /bin/false, (ALL) NOEXEC: ALL
user\ one ALL = sha256:MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI= /bin/q, !ALL
PARTTIMERS ALL = !KILL, /bin/ls \
   -l  -a
"""
_KINDS = {"username": "", "usergroup": "%", "userid": "#", "usergid": "%#", "netgroup": "+"}


def _members(entries: list[dict[str, Any]]) -> list[str]:
    """A list of cvtsudoers' JSON as sudoers writes it."""
    found = []
    for entry in entries:
        (kind,) = (key for key in entry if key != "negated" and not key.startswith("sha"))
        found.append(f"{'!' * bool(entry.get('negated'))}{_KINDS.get(kind, '')}{entry[kind]}")
    return found


def by_cvtsudoers(path: Path) -> list[tuple[Any, ...]]:
    """(who, hosts, runas users, runas groups, asks, noexec, command) by sudo's own parser, no alias expanded."""
    # options such as CWD make its JSON invalid, and so are taken out
    done = subprocess.run(["cvtsudoers", "-f", "json", str(path)], capture_output=True, text=True, check=True)
    found = []
    for spec in json.loads(done.stdout.replace('"runcwd": "/tmp",', "")).get("User_Specs", []):
        for part in spec["Cmnd_Specs"]:
            options = {key: value for option in part.get("Options", []) for key, value in option.items()}
            groups = [name.replace("%", "") for name in _members(part.get("runasgroups", []))]
            runas = _members(part.get("runasusers", [])), groups
            for command in _members(part["Commands"]):
                who, hosts = _members(spec["User_List"]), _members(spec["Host_List"])
                users = [name for name in runas[0] if name]
                found.append((who, hosts, users, runas[1], options.get("authenticate"), options.get("noexec"), command))
    return found


def by_us(text: str) -> list[tuple[Any, ...]]:
    found = []
    parser = Parser(text)
    for _, entry in parser.entries():
        if isinstance(entry, Grant):
            names = [[f"{'!' * m.negated}{m.text}" for m in part] for part in (entry.who, entry.hosts, *(entry.runas or ((), ())))]
            command = f"{'!' * entry.command.negated}{entry.command.text}"
            arguments = entry.command.arguments
            command += "" if arguments is None else ' ""' if arguments == "" else f" {arguments}"
            found.append((*names, entry.tags.get("PASSWD"), None if "EXEC" not in entry.tags else not entry.tags["EXEC"], command))
    assert parser.problems == []
    return found


@needs_sudo
def test_the_manual_agrees_with_cvtsudoers(tmp_path: Path) -> None:
    (tmp_path / "sudoers").write_text(MANUAL)
    assert by_us(MANUAL) == by_cvtsudoers(tmp_path / "sudoers")


_USER = st.sampled_from(["alice", "%wheel", "#1000", "%#20", "+ng", "ADM", "ALL", "!bob", "! %ops", r"a\ b", '"c d"'])
_HOST = st.sampled_from(["ALL", "main", "10.0.0.0/8", "fe80::1", "SRV", "!backup"])
_RUNAS = st.sampled_from(["", "", "(root)", "(ALL)", "(ALL : ALL)", "(a, !b:c, !d)", "(:adm)", "()"])
_TAGS = st.sampled_from(["", "", "NOPASSWD:", "PASSWD : NOEXEC:", "EXEC:", "SETENV:NOPASSWD: "])
_COMMAND = st.sampled_from([
    "ALL", "!ALL", "/bin/ls", "/bin/", "/bin/ls -l *.c", '/bin/id ""', "X", "!X", "sudoedit /etc/*", "/bin/a --b=c", r"/bin/a \,\:\=\\ x",
    "^/bin/(a|b)$", "/bin/x ^a b$", "/bin/[a-c]* \\\n  -v", "! /bin/su", "list",
])  # fmt: skip
_JOIN = st.sampled_from([",", ", ", " ,\t", ", \\\n  "])


@st.composite
def entries(draw: st.DrawFn) -> str:
    def several(of: st.SearchStrategy[str], most: int = 3) -> str:
        return draw(_JOIN).join(draw(st.lists(of, min_size=1, max_size=most)))

    privileges = [
        f"{several(_HOST)} = {several(st.builds(lambda *parts: ' '.join(parts), _RUNAS, _TAGS, _COMMAND))}"
        for _ in range(draw(st.integers(1, 2)))
    ]
    return f"{several(_USER)} {' : '.join(privileges)}{draw(st.sampled_from(['', ' # x', ' #x']))}\n"


@needs_sudo
@settings(max_examples=25)
@given(st.lists(entries(), min_size=1, max_size=6))
def test_any_rules_agree_with_cvtsudoers(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.mktemp("sudo") / "sudoers"
    path.write_text("".join(lines))
    assert by_us("".join(lines)) == by_cvtsudoers(path)


@needs_sudo
@pytest.mark.parametrize("line", [
    "root ALL=(ALL ALL", "root ALL ALL", "root = ALL", "root ALL=(ALL) ls", "Defaults !x=1", 'Defaults x=""', "User_Alias adm = a", "#1 note",
    "root ALL=(ALL) ALL #1", "User_Alias A = ", "root ALL=NOPASSWD ALL", "root ALL=ALL,", "root ALL=/bin/ls \\d", "Defaults", 'root ALL="ALL',
    "@includedir", "root ALL=(ALL) ALL extra", "root ALL=/bin/a ^x", "root, ALL=ALL",
    "root ALL=(a:%b) ALL",
])  # fmt: skip
def test_what_visudo_refuses_is_a_gap_and_the_next_line_counts(tmp_path: Path, line: str) -> None:
    (tmp_path / "sudoers").write_text(line + "\n")
    assert subprocess.run(["visudo", "-cf", str(tmp_path / "sudoers")], capture_output=True, check=False).returncode != 0
    found = run(RULES, sudoers(f"{line}\nbob ALL=/bin/true\n"))
    assert found.coverage is Coverage.PARTIAL
    assert "/etc/sudoers:1" in found.reason
    assert pick(rows_as_dicts(RULES, found), "who", "command", "line") == [("bob", "/bin/true", 2)]


def test_aliases_are_expanded() -> None:
    rows = [row for row in rules(MANUAL) if row["line"] == 17]
    assert {row["who"] for row in rows} == {"millert", "mikef", "%web", "#1000", "%#20", "+admins"}
    assert {(row["who"], row["who_kind"]) for row in rows} >= {
        ("%web", "group"),
        ("+admins", "netgroup"),
        ("#1000", "user"),
        ("%#20", "group"),
    }
    first = [row for row in rows if row["who"] == "millert"]
    assert pick(first, "command", "arguments", "any_arguments", "excluded", "wildcard", "password_asked") == [
        ("/usr/bin/kill", "", True, False, False, False), ("/usr/bin/pkill", "-9 *", False, False, True, False),
        ("/bin/su", "", True, True, False, True), ("/usr/bin/tail", "-f /var/log/x:y,z=1", False, False, False, True),
        ("/sbin/", "", True, False, False, False), ("sudoedit", "/etc/hosts", False, False, False, False), ("list", "", True, False, False, False),
    ]  # fmt: skip
    assert first[0]["excepting"] == ["bob"]
    assert first[0]["hosts"] == ["main", "128.138.243.0/24", "10.0.0.0/255.0.0.0", "fe80::1", "+ng", "!backup"]
    assert (first[0]["runas_users"], first[0]["runas_groups"]) == (["root", "operator", "%ops"], ["adm", "wheel"])
    assert first[0]["tags"] == ["NOPASSWD", "SETENV"]
    assert (first[3]["runas_users"], first[3]["tags"]) == (["www"], ["PASSWD", "SETENV"])
    assert (first[4]["hosts"], first[4]["runas_users"], first[4]["tags"]) == (["ALL"], ["root"], ["NOPASSWD"])


def test_a_negated_alias_forbids_its_members() -> None:
    rows = rules("Cmnd_Alias A = /bin/a, !/bin/b : B = !A, /bin/c\nx ALL = B, !B\n")
    assert pick(rows, "command", "excluded") == [
        ("/bin/a", True), ("/bin/b", False), ("/bin/c", False), ("/bin/a", False), ("/bin/b", True), ("/bin/c", True),
    ]  # fmt: skip


def test_runas_arguments_options_and_digests() -> None:
    rows = rules(MANUAL)
    carol = [row for row in rows if row["who"] == "carol"]
    assert pick(carol, "command", "runas_users", "runas_groups", "tags") == [
        ("/bin/true", [], [], []), ("/bin/false", [], ["grp"], []), ("ALL", ["ALL"], [], ["NOEXEC"]),
    ]  # fmt: skip
    wheel = [row for row in rows if row["who"] == "%wheel"]
    assert pick(wheel, "command", "arguments", "any_arguments", "wildcard") == [
        ("/usr/bin/foo", "", False, False), ("/usr/bin/bar", "--x=y *.conf", False, True), ("^/usr/bin/(a|b)$", "^-[xy]+$", False, True),
    ]  # fmt: skip
    assert {tuple(row["options"]) for row in wheel} == {("CWD=/tmp", "TIMEOUT=2h")}
    quoted = [row for row in rows if row["who"] == "user one"]
    assert pick(quoted, "command", "digests", "excluded") == [("/bin/q", ["sha256"], False), ("ALL", [], True)]


def test_defaults() -> None:
    found = run(DEFAULTS, sudoers(MANUAL))
    rows = rows_as_dicts(DEFAULTS, found)
    assert found.coverage is Coverage.COMPLETE
    assert pick(rows, "key", "operator", "value", "negated", "scope", "line") == [
        ("env_reset", "", "", False, "global", 3), ("lecture", "", "", True, "global", 3), ("passwd_tries", "=", "5", False, "global", 3),
        ("secure_path", "=", "/usr/local/sbin:/usr/sbin", False, "global", 4), ("authenticate", "", "", True, "user", 6),
        ("log_year", "", "", False, "host", 7), ("logfile", "=", "/var/log/sudo.log", False, "host", 7), ("noexec", "", "", False, "command", 8),
        ("set_logname", "", "", True, "runas", 9), ("env_keep", "+=", "A B", False, "global", 10), ("env_keep", "-=", "C", False, "global", 10),
    ]  # fmt: skip
    assert [row["names"] for row in rows if row["scope"] in ("user", "command")] == [
        ["millert", "mikef"],
        ["/usr/bin/more", "/usr/bin/less"],
    ]


@pytest.mark.parametrize(("defaults", "who", "asked"), [
    ("", "bob", True), ("Defaults !authenticate", "bob", False), ("Defaults !authenticate\nDefaults authenticate", "bob", True),
    ("Defaults:bob !authenticate", "bob", False), ("Defaults:eve !authenticate", "bob", True), ("Defaults:ALL !authenticate", "%adm", False),
    ("Defaults:%adm !authenticate", "bob", None), ("Defaults:eve !authenticate", "%adm", None), ("Defaults@h !authenticate", "bob", None),
    ("Defaults!/bin/ls !authenticate", "bob", None), ("Defaults !authenticate\nDefaults:bob authenticate", "bob", True),
    ("Defaults exempt_group=adm", "%adm", False), ("Defaults exempt_group=adm", "bob", None), ("Defaults:ALL,!bob !authenticate", "bob", None),
])  # fmt: skip
def test_whether_a_password_is_asked_without_a_tag(defaults: str, who: str, asked: bool | None) -> None:
    (row,) = rules(f"{defaults}\n{who} ALL=ALL\n")
    assert row["password_asked"] is asked


def test_a_tag_decides_over_defaults() -> None:
    rows = rules("Defaults !authenticate\nbob ALL = PASSWD: /bin/a, NOPASSWD: /bin/b\n")
    assert pick(rows, "command", "password_asked") == [("/bin/a", True), ("/bin/b", False)]


def test_runas_default() -> None:
    assert rules("Defaults runas_default=svc\nbob ALL=ALL\n")[0]["runas_users"] == ["svc"]
    assert run(RULES, sudoers("Defaults:bob runas_default=svc\nbob ALL=ALL\n")).coverage is Coverage.PARTIAL


def test_what_looks_like_a_secret_is_not_shown() -> None:
    (row,) = rules(r"bob ALL=/bin/mount -o user\=x\,password=hunter2\,credentials=/root/.smb /mnt" + "\n")
    assert "hunter2" not in row["arguments"] and "credentials=/root/.smb" in row["arguments"]


# --- files ------------------------------------------------------------------------------------------

TREE = {
    "/etc/sudoers": "root ALL=ALL\n#includedir /etc/sudoers.d\n@include local\nlast ALL=ALL\n # include /etc/none is a comment\n",
    "/etc/sudoers.d/20-b": "b ALL=ALL\n",
    "/etc/sudoers.d/10-a": "a ALL=ALL\n@include /etc/sudo/deep\n",
    "/etc/sudoers.d/README.md": "ignored ALL=ALL\n",
    "/etc/sudoers.d/old~": "ignored ALL=ALL\n",
    "/etc/sudoers.d/folder/x": "ignored ALL=ALL\n",
    "/etc/sudo/deep": "deep ALL=ALL\n",
    "/etc/local": "local ALL=ALL\n",
    "/etc/nsswitch.conf": "passwd: files\n",
}


def test_includes_are_followed_in_sudos_order(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, TREE)
    found = run(RULES, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    assert pick(rows_as_dicts(RULES, found), "who", "file", "line") == [
        ("root", "/etc/sudoers", 1), ("a", "/etc/sudoers.d/10-a", 1), ("deep", "/etc/sudo/deep", 1), ("b", "/etc/sudoers.d/20-b", 1),
        ("local", "/etc/local", 1), ("last", "/etc/sudoers", 4),
    ]  # fmt: skip
    rows = rows_as_dicts(FILES, run(FILES, evidence))
    assert {row["path"]: row["ignored"] for row in rows} == {
        "/etc/sudoers": False, "/etc/sudoers.d": False, "/etc/sudoers.d/10-a": False, "/etc/sudoers.d/20-b": False,
        "/etc/sudoers.d/README.md": True, "/etc/sudoers.d/old~": True, "/etc/sudoers.d/folder": False,
    }  # fmt: skip


def test_sudo_rs_has_a_file_of_its_own_and_opensuse_one_in_usr(tmp_path: Path) -> None:
    both = node(
        tmp_path / "a", TABLES, {"/etc/sudoers": "a ALL=ALL\n", "/etc/sudoers-rs": "b ALL=ALL\n", "/usr/etc/sudoers": "c ALL=ALL\n"}
    )
    assert pick(rows_as_dicts(RULES, run(RULES, both)), "who", "main") == [("a", "/etc/sudoers"), ("b", "/etc/sudoers-rs")]
    vendor = node(tmp_path / "b", TABLES, {"/usr/etc/sudoers": "c ALL=ALL\n"})
    assert pick(rows_as_dicts(RULES, run(RULES, vendor)), "who", "main") == [("c", "/usr/etc/sudoers")]


def test_no_sudo_is_complete_without_rows(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", TABLES, {"/etc/hostname": "x\n"})
    for table in TABLES:
        found = run(table, evidence)
        assert (found.coverage, found.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize(("more", "word"), [
    ({"/etc/x": DENIED}, "/etc/x denied"), ({}, "/etc/x was not read"), ({"/etc/x": "@include /etc/sudoers\n"}, "includes itself"),
])  # fmt: skip
def test_an_include_that_was_not_read_is_a_gap(more: dict[str, Any], word: str) -> None:
    found = run(RULES, sudoers("@include /etc/x\nbob ALL=ALL\n", **more))
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1 + ("itself" in word) * 0)
    assert word in found.reason


def test_an_absent_include_holds_no_rule() -> None:
    assert pick(rules("@include /etc/x\nbob ALL=ALL\n", **{"/etc/x": ABSENT}), "who") == [("bob",)]
    assert pick(rules("@includedir /etc/x\nbob ALL=ALL\n", **{"/etc/x": ABSENT}), "who") == [("bob",)]


@pytest.mark.parametrize("document", [
    {"/etc/d": DENIED}, {}, {"/etc/d": FOLDER, "/etc/d/a": DENIED}, {"/etc/d": FOLDER, **{f"/etc/d/{n}": "" for n in range(301)}},
])  # fmt: skip
def test_a_folder_that_was_not_read_whole_is_a_gap(document: dict[str, Any]) -> None:
    assert run(RULES, sudoers("@includedir /etc/d\nbob ALL=ALL\n", **document)).coverage is Coverage.PARTIAL


def test_an_include_with_the_hosts_name_is_a_gap() -> None:
    assert run(RULES, sudoers("@include /etc/sudoers.%h\nbob ALL=ALL\n")).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(("nsswitch", "conf", "coverage"), [
    (ok("sudoers: files\n"), status(Status.ABSENT), Coverage.COMPLETE), (ok("sudoers: files sss\n"), status(Status.ABSENT), Coverage.PARTIAL),
    (ok("sudoers: ldap [NOTFOUND=return] files\n"), status(Status.ABSENT), Coverage.PARTIAL),
    (status(Status.DENIED), status(Status.ABSENT), Coverage.PARTIAL),
    (status(Status.ABSENT), ok("Plugin sudoers_policy sudoers.so\nPlugin sudoers_io sudoers.so\n"), Coverage.COMPLETE),
    (status(Status.ABSENT), ok("Plugin sudoers_policy sudoers.so sudoers_file=/opt/sudoers\n"), Coverage.PARTIAL),
    (status(Status.ABSENT), ok("Plugin python_policy python_plugin.so\n"), Coverage.PARTIAL),
    (status(Status.ABSENT), status(Status.TIMEOUT), Coverage.PARTIAL),
])  # fmt: skip
def test_rules_from_elsewhere_make_it_partial(nsswitch: Item, conf: Item, coverage: Coverage) -> None:
    assert run(RULES, sudoers("bob ALL=ALL\n") | {NSSWITCH.id: nsswitch, SUDO_CONF.id: conf}).coverage is coverage


@pytest.mark.parametrize("item", [
    status(Status.DENIED), status(Status.TIMEOUT), status(Status.ABSENT), status(Status.SKIPPED), ok("x"), ok("[]"), ok("{}"),
    ok('{"/etc/sudoers": 1}'),
    files(**NONE | {"/etc/sudoers": DENIED}), files(**NONE | {"/etc/sudoers-rs": DENIED}),
])  # fmt: skip
def test_not_read_or_not_understood_is_none(item: Item) -> None:
    for table in (RULES, DEFAULTS):
        assert run(table, sudoers("") | {SUDOERS.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize("text", [
    "User_Alias A = B : B = A\nA ALL=ALL\n", "User_Alias A = x\nUser_Alias A = y\nbob ALL=ALL\n", "\0\xff", "x" * 9000,
    "".join(f"User_Alias A{n} = A{n + 1}, A{n + 1}\n" for n in range(40)) + "User_Alias A40 = A0\nA0 ALL=ALL\n",
    "".join(f"User_Alias A{n} = A{n + 1}, A{n + 1}\n" for n in range(40)) + "User_Alias A40 = x\nA0 ALL=ALL\n",
    "".join(f"User_Alias A{n} = A{n + 1}\n" for n in range(2000)) + "User_Alias A2000 = x\nA0 ALL=ALL\n",
    'Defaults x="' + "\\\n  " * 3000, "bob ALL=" + "(" * 3000, "!" * 3000 + "a", "a," * 9000, "bob ALL=/bin/x " + "^a" * 3000,
])  # fmt: skip
def test_hostile_files_are_partial_and_quick(text: str) -> None:
    assert run(RULES, sudoers(text)).coverage is Coverage.PARTIAL


def test_files_that_include_each_other_end() -> None:
    many = {f"/etc/{n}": "".join(f"@include /etc/{m}\n" for m in range(n + 1, 30)) for n in range(30)}
    assert run(RULES, sudoers("@include /etc/0\n", **many)).coverage is Coverage.PARTIAL


def test_laws() -> None:
    evidence = sudoers(MANUAL)
    never_emptier(RULES, evidence)
    never_emptier(DEFAULTS, evidence)
    assert list(cut_short(RULES, evidence, SUDOERS, step=97))
    paths = {
        path: {"type": "file", "mode": 0o440, "uid": 0, "gid": 0, "link": None}
        for path in FILES.sources[0].args["globs"]
        if "*" not in path
    }
    never_emptier(FILES, {SUDOERS_FILES.id: files(**paths)})


def test_metadata_that_is_none_is_a_gap() -> None:
    paths = dict.fromkeys((path for path in SUDOERS_FILES.args["globs"] if "*" not in path), ABSENT)
    found = run(
        FILES, {SUDOERS_FILES.id: files(**paths | {"/etc/sudoers": {"type": "file", "mode": "x", "uid": 0, "gid": 0, "link": None}})}
    )
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, ())
    assert run(FILES, {SUDOERS_FILES.id: ok("{}")}).coverage is Coverage.NONE


@needs_sudo
def test_this_machine_agrees_with_cvtsudoers() -> None:
    evidence = this_machine(TABLES)
    found = run(RULES, evidence)
    assert found.coverage is Coverage.COMPLETE, found.reason
    wanted = by_cvtsudoers(Path("/etc/sudoers"))
    assert [(who, command) for who, *_, command in wanted] == [([r["who"]], r["command"]) for r in rows_as_dicts(RULES, found)]


WORDS = st.sampled_from([
    "root", "%wheel", "ALL", "#1000", "+ng", "!", ",", ":", "=", "(", ")", " ", "\t", "ADM", "/bin/ls", "/bin/", "^/b$", "NOPASSWD:", "CWD=/x",
    "Defaults", "Defaults:", "Defaults!", "env_reset", "+=", '"a b"', '"', "\\", "\\\n", "\n", "#", "#include /etc/x", "@includedir /etc/d",
    "User_Alias ", "Cmnd_Alias ", "X = ", "10.0.0.0/8", "fe80::1", "sudoedit", "sha256:", "\x0c", "\u2028", "é", "\0",
])  # fmt: skip


@given(st.lists(WORDS, max_size=30).map("".join) | st.binary(max_size=99).map(lambda b: b.decode("latin-1")), st.sampled_from(Status))
def test_nothing_raises(text: str, given: Status) -> None:
    for table in TABLES:
        run(table, sudoers(text))
        run(table, {source.id: Item(given, text.encode()) for source in table.sources})


@given(st.binary(max_size=300))
def test_bytes_never_make_a_rule_of_a_wrong_shape(body: bytes) -> None:
    for row in rows_as_dicts(RULES, run(RULES, sudoers(body.decode("latin-1")))):
        assert (
            row["who"]
            and row["hosts"]
            and (row["command"] in ("ALL", "sudoedit", "list") or row["command"][0] in "/^" or row["command"].isupper())
        )


def nested(kind: str, last: str) -> str:
    """13 aliases, each of the next one twice: 8,192 members."""
    return "".join(f"{kind}_Alias A{n}=A{n + 1},A{n + 1}\n" for n in range(13)) + f"{kind}_Alias A13={last}\n"


@pytest.mark.parametrize("text", [
    nested("Cmnd", "/b") + "a ALL=A0\n" * 7000, nested("User", "b") + "A0 ALL=/b\n" * 7000, nested("Runas", "b") + "a ALL=(A0) /b\n" * 7000,
    nested("User", "b") + "Defaults:A0 !authenticate\n" * 3000 + "a ALL=/b\n" * 3000, "a," * 60_000 + "a ALL=" + "/b," * 30_000 + "/b\n",
])  # fmt: skip
def test_a_policy_that_grows_without_end_is_partial_and_no_stall(text: str) -> None:
    for table in (RULES, DEFAULTS):
        begin = time.process_time()
        found = run(table, sudoers(text))
        assert time.process_time() - begin < 15
        assert table is DEFAULTS or found.coverage is Coverage.PARTIAL


def test_an_alias_used_twice_stands_for_the_same() -> None:
    rows = rules("User_Alias U=u,v\nCmnd_Alias A=/a,!B\nCmnd_Alias B=/b\nU ALL=A\nU ALL=!A\n")
    expected = [("/a", False), ("/b", True)] * 2 + [("/a", True), ("/b", False)] * 2
    assert pick(rows, "command", "excluded") == expected


def test_an_alias_that_names_itself_is_a_gap() -> None:
    found = run(RULES, sudoers("Cmnd_Alias A=/a,B\nCmnd_Alias B=A,/b\nu ALL=A\n"))
    assert found.coverage is Coverage.PARTIAL and "names itself" in found.reason
    assert pick(rows_as_dicts(RULES, found), "command") == [("/a",), ("/b",)]
