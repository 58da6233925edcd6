# SPDX-License-Identifier: Apache-2.0
"""sshd's files against sshd -T, host keys and authorised keys against ssh-keygen, and what each absence means."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import authorized_keys, packages, ssh
from fleet_audit.facts.authorized_keys import FOLDERS, HOME_FOLDERS, KEYS
from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.ssh import CONFIG, FILES, HOST_KEYS, PROGRAM
from fleet_audit.facts.ssh.config import MAINS, words_of
from fleet_audit.model import Coverage, Source, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier
from .nodes import ABSENT, DENIED, FOLDER, files, node, this_machine

SERVER, _, SETTINGS, PUBLIC, SSH_FILES = ssh.TABLES
AUTHORIZED, KEY_FILES, KEY_FOLDERS = authorized_keys.TABLES
ALL = (*ssh.TABLES, *authorized_keys.TABLES)
Evidence = dict[SourceId, Item]
NO_CONFIG = files(**dict.fromkeys(MAINS, ABSENT))
needs_keygen = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="the mirror lacks ssh-keygen here")


def pick(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


# --- sshd_config -----------------------------------------------------------------------------------


def config(text: str, **more: Any) -> Evidence:
    return {CONFIG.id: files(**dict.fromkeys(MAINS, ABSENT) | {MAINS[0]: text} | more)}


def settings(text: str, **more: Any) -> list[dict[str, Any]]:
    found = run(SETTINGS, config(text, **more))
    assert found.coverage is Coverage.COMPLETE, found.reason
    return rows_as_dicts(SETTINGS, found)


# synthetic: sshd_config(5)
TEXT = """# comment
Include /etc/ssh/sshd_config.d/*.conf
PermitRootLogin no
PermitRootLogin yes
Port 22
Port 2222
  PasswordAuthentication=no   # tail
AllowGroups "log ins" wheel
Match Group trainers Address 10.0.0.0/8
\tPasswordAuthentication yes
\tPasswordAuthentication no
\tInclude extra/*
\tX11Forwarding yes
Match all
ForceCommand /bin/echo "a b" # no
"""
PARTS = {
    "/etc/ssh/sshd_config.d/20-b.conf": "PermitRootLogin prohibit-password\n",
    "/etc/ssh/sshd_config.d/10-a.conf": "Match User backup\nAllowTcpForwarding no\n",
    "/etc/ssh/sshd_config.d/.hidden.conf": "Port 99\n",
    "/etc/ssh/extra/one": "PermitTTY no\nMatch User eve\nPermitTunnel yes\n",
}


def test_match_blocks_and_includes(tmp_path: Path) -> None:
    evidence = node(tmp_path / "n", [SETTINGS], {MAINS[0]: TEXT, "/etc/ssh/sshd_config.d/x.conf.bak": "Port 98\n"} | PARTS)
    found = run(SETTINGS, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    group = "Group trainers Address 10.0.0.0/8"
    assert pick(rows_as_dicts(SETTINGS, found), "keyword", "value", "match_block", "counts", "line") == [
        ("allowtcpforwarding", "no", "User backup", True, 2), ("permitrootlogin", "prohibit-password", "", True, 1),
        ("permitrootlogin", "no", "", False, 3), ("permitrootlogin", "yes", "", False, 4), ("port", "22", "", True, 5), ("port", "2222", "", True, 6),
        ("passwordauthentication", "no", "", True, 7), ("allowgroups", "log ins wheel", "", True, 8),
        ("passwordauthentication", "yes", group, True, 10), ("passwordauthentication", "no", group, False, 11),
        ("permittty", "no", group, True, 1), ("permittunnel", "yes", f"{group} & User eve", True, 3), ("x11forwarding", "yes", group, True, 13),
        ("forcecommand", "/bin/echo a b", "all", True, 15),
    ]  # fmt: skip


@pytest.mark.skipif(shutil.which("sshd") is None and not Path("/usr/sbin/sshd").exists(), reason="the mirror lacks sshd here")
@pytest.mark.parametrize(("user", "holds"), [
    ("root", {""}), ("backup", {"", "User backup"}), ("eve", {"", "User eve", "User eve & User eve"}), ("nobody", {"", "User nobody,eve"}),
])  # fmt: skip
def test_what_counts_agrees_with_sshd(tmp_path: Path, user: str, holds: set[str]) -> None:
    """Match blocks decide over what stands outside, of several the first; a block ends with its file; includes inside one depend on it."""
    if user == "eve":
        holds = {*holds, "User nobody,eve"}
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    parts = {
        "a.conf": "MaxAuthTries 3\nMatch User backup\nMaxSessions 2\nX11Forwarding yes\n",
        "b.conf": "MaxSessions 4\nMaxAuthTries 4\n",
        "inner": "PermitTTY no\nMatch User eve\nGatewayPorts yes\nMatch User backup\nGatewayPorts clientspecified\n",
    }
    for name, text in parts.items():
        (tmp_path / name).write_text(text)
    main = (
        f"HostKey {key}\nInclude {tmp_path}/*.conf\nX11Forwarding no\nPasswordAuthentication no\nMatch User eve\nPasswordAuthentication yes\n"
        f"MaxAuthTries 5\nInclude {tmp_path}/inner\nBanner /etc/eve\nMatch User nobody,eve\nMaxAuthTries 6\nAllowAgentForwarding no\n"
    )
    (tmp_path / "main").write_text(main)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    sshd = shutil.which("sshd") or "/usr/sbin/sshd"
    said = subprocess.run(
        [sshd, "-T", "-f", str(tmp_path / "main"), "-C", f"user={user},host=h,addr=192.0.2.1,laddr=192.0.2.2,lport=22"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    effective = {line.partition(" ")[0]: line.partition(" ")[2] for line in said.splitlines()}
    rows = settings(main, **{f"{tmp_path}/{name}": text for name, text in parts.items()})
    ours: dict[str, str] = {}
    for row in [r for r in rows if r["match_block"]] + [r for r in rows if not r["match_block"]]:
        if row["match_block"] in holds and row["counts"]:
            ours.setdefault(row["keyword"], row["value"])
    assert {keyword: effective[keyword] for keyword in ours} == ours


def test_no_file_is_complete_and_opensuse_has_one_in_usr(tmp_path: Path) -> None:
    found = run(SETTINGS, node(tmp_path / "a", [SETTINGS], {"/etc/hostname": ""}))
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ())
    vendor = run(SETTINGS, node(tmp_path / "b", [SETTINGS], {MAINS[1]: "Port 1\n"}))
    assert pick(rows_as_dicts(SETTINGS, vendor), "keyword", "file") == [("port", MAINS[1])]


@pytest.mark.parametrize(("text", "more"), [
    ("Include /etc/x\nPort 22\n", {"/etc/x": DENIED}), ("Include /etc/x\nPort 22\n", {}), ("Include /etc/x\n", {"/etc/x": "Include /etc/x\n"}),
    ('Banner "open\n', {}), ("\0\1\n", {}), ("é x\n", {}), ("Include /etc/d/*\n", {"/etc/d/a": DENIED}),
    ("Port 22\n", {f"/etc/{n}": "" for n in range(301)}),
    ("Include /etc/0\n", {f"/etc/{n}": "".join(f"Include /etc/{m}\n" for m in range(n + 1, 30)) for n in range(30)}),
])  # fmt: skip
def test_what_was_not_read_is_a_gap(text: str, more: dict[str, Any]) -> None:
    assert run(SETTINGS, config(text, **more)).coverage is Coverage.PARTIAL


def test_an_absent_include_and_an_empty_folder_hold_nothing() -> None:
    assert pick(settings("Include /etc/x\nInclude none/*.conf\nPort 22\n", **{"/etc/x": ABSENT}), "keyword") == [("port",)]


@pytest.mark.parametrize("item", [
    status(Status.DENIED), status(Status.TIMEOUT), status(Status.ABSENT), ok("x"), ok("[]"), ok("{}"), ok('{"/etc/ssh/sshd_config": 1}'),
    files(**{MAINS[0]: DENIED, MAINS[1]: ABSENT}), files(**{MAINS[0]: FOLDER, MAINS[1]: ABSENT}),
])  # fmt: skip
def test_not_read_or_not_understood_is_none(item: Item) -> None:
    assert run(SETTINGS, {CONFIG.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize(("text", "words"), [
    ("a b", ["a", "b"]), ('"a b" c', ["a b", "c"]), ("a # b", ["a"]), ("a#b", ["a#b"]), ("'x y'z", ["x yz"]), ('"open', None), ("", []),
    (r"a\ b", ["a b"]),
])  # fmt: skip
def test_words(text: str, words: list[str] | None) -> None:
    assert words_of(text) == words


# --- whether there is a server ---------------------------------------------------------------------

DPKG = "Package: {}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"


NOT_THERE, SKIPPED = status(Status.ABSENT), status(Status.SKIPPED)


def server(program: Item, dpkg: Item = NOT_THERE, rpm: Item = SKIPPED) -> tuple[Any, Coverage]:
    found = run(SERVER, {PROGRAM.id: program, packages.DPKG.id: dpkg, packages.RPM.id: rpm})
    (row,) = rows_as_dicts(SERVER, found)
    return row["installed"], found.coverage


NO_PROGRAM = files(**dict.fromkeys(PROGRAM.args["globs"], ABSENT))
THERE = files(**dict.fromkeys(PROGRAM.args["globs"], ABSENT) | {"/usr/sbin/sshd": {"type": "file", "mode": 0o755, "uid": 0, "gid": 0}})
CLIENT, WITH_SERVER = ok(DPKG.format("openssh-client")), ok(DPKG.format("openssh-client") + DPKG.format("openssh-server"))
RPM = "{}\t0\t1\t1\tx86_64\t{}-1-1.src.rpm\n"


@pytest.mark.parametrize(("evidence", "installed", "coverage"), [
    ((THERE,), True, Coverage.COMPLETE), ((THERE, status(Status.DENIED)), True, Coverage.COMPLETE), ((NO_PROGRAM, CLIENT), False, Coverage.COMPLETE),
    ((NO_PROGRAM, WITH_SERVER), True, Coverage.COMPLETE), ((NO_PROGRAM, ok(DPKG.format("dropbear"))), True, Coverage.COMPLETE),
    ((NO_PROGRAM, status(Status.ABSENT), ok(RPM.format("openssh", "openssh"))), False, Coverage.COMPLETE),
    ((NO_PROGRAM, status(Status.ABSENT), ok(RPM.format("openssh-server", "openssh"))), True, Coverage.COMPLETE),
    ((NO_PROGRAM,), None, Coverage.PARTIAL), ((NO_PROGRAM, status(Status.DENIED)), None, Coverage.PARTIAL),
    ((NO_PROGRAM, Item(Status.TRUNCATED, DPKG.format("bash").encode())), None, Coverage.PARTIAL),
    ((NO_PROGRAM, ok(DPKG.format("bash") + "Package: half\n\n")), None, Coverage.PARTIAL),
    ((NO_PROGRAM, CLIENT, status(Status.FAILED, "exit 1")), None, Coverage.PARTIAL),
    ((status(Status.DENIED), CLIENT), None, Coverage.PARTIAL), ((status(Status.DENIED), WITH_SERVER), True, Coverage.PARTIAL),
    ((ok("{}"), CLIENT), None, Coverage.PARTIAL),
    ((files(**dict.fromkeys(PROGRAM.args["globs"], ABSENT) | {"/usr/bin/sshd": DENIED}), CLIENT), None, Coverage.PARTIAL),
])  # fmt: skip
def test_a_server_is_absent_only_by_whole_package_lists(evidence: tuple[Item, ...], installed: bool | None, coverage: Coverage) -> None:
    assert server(*evidence) == (installed, coverage)


def test_a_package_without_its_program_shows() -> None:
    found = run(SERVER, {PROGRAM.id: NO_PROGRAM, packages.DPKG.id: WITH_SERVER, packages.RPM.id: status(Status.SKIPPED)})
    assert pick(rows_as_dicts(SERVER, found), "installed", "program", "packages") == [(True, False, ["openssh-server"])]


# --- host keys -------------------------------------------------------------------------------------

KINDS = [("rsa", "2048"), ("rsa", "3072"), ("ecdsa", "256"), ("ecdsa", "384"), ("ecdsa", "521"), ("ed25519", "256")]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[str, int, str]]:
    """{(type, bits): (public key, bits, fingerprint)} by ssh-keygen."""
    folder, found = tmp_path_factory.mktemp("keys"), {}
    for kind, bits in KINDS:
        path = folder / f"{kind}{bits}"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-C", "a comment", "-f", str(path)], check=True)
        said = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], capture_output=True, text=True, check=True).stdout.split()
        found[kind, bits] = (path.with_suffix(".pub").read_text(), int(said[0]), said[1])
    return found


@needs_keygen
def test_host_keys_agree_with_ssh_keygen(keys: dict[tuple[str, str], tuple[str, int, str]]) -> None:
    said = {f"/etc/ssh/ssh_host_{kind}{bits}_key.pub": keys[kind, bits] for kind, bits in KINDS}
    found = run(PUBLIC, {HOST_KEYS.id: files(**{path: text for path, (text, _, _) in said.items()}), CONFIG.id: NO_CONFIG})
    assert found.coverage is Coverage.COMPLETE
    assert {row["path"]: (row["bits"], row["fingerprint"]) for row in rows_as_dicts(PUBLIC, found)} == {p: k[1:] for p, k in said.items()}


# recorded: `ssh-keygen -t dsa` and `ssh-keygen -lf` of OpenSSH 9.2p1 (Debian 12), 2026-11-25; its private half is gone. Debian 13 makes none.
DSA = (
    "ssh-dss "
    "AAAAB3NzaC1kc3MAAACBAMbfi28e1U9pO7K6RKeV5FxTl8BW9gc0Dgjjgccx7pnKyQJ9wg5ktKt7QdxZUKjSNCX/jNOK2fxOUHZCcf8JHM4OCBj6TbHSPM4VYvJe7tfRhV"
    "PxE6YCOAEt8M6sB08O/ZyMFxPgI1JaAHvE8ATgx9eQRXHcAT56tR6qrPtBsiw9AAAAFQDltSArRWC9W7G34FHi/U6NBpLMbQAAAIBM0Z/rfIA/vXBy6WuCcxJ1uKouNrPm"
    "U7S593vJnSDcN/iVaQTEd/68/jCSoH4VNTibnESBgu0uSvOhD7anJTd5X40LnN7zWSufaWF6Jzmu8z9Ce311w1DPJz7Ter2+H1l1gsS/eHHOBbhzGnO5m45yDNiJKruMf9"
    "9WGC+beOqTQgAAAIEAlleZo7QWS5PqDjPE0jxLZ/zcCpzz5sN8M9DE+Z8+pH6rL0SofA3SmqvV9Of/8fHM65m9RFTqyzs6VPFmW+ozWNMlRvZEdvfECJkGIg4kMbfAblA5"
    "wPa99/x9sxffc660xfLcGRzZlX2jkJ56auD5mZKbPjvgqQ5i+8DKQlbaf7U="
)


def test_a_dsa_host_key() -> None:
    found = run(PUBLIC, {HOST_KEYS.id: files(**{"/etc/ssh/ssh_host_dsa_key.pub": f"{DSA} x\n"}), CONFIG.id: NO_CONFIG})
    assert pick(rows_as_dicts(PUBLIC, found), "type", "bits", "fingerprint") == [
        ("ssh-dss", 1024, "SHA256:QZNQznQ7WEEyem+bS6rqbudHDTgezh9DOfnoFM3rYD8"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text", ["", "x", "ssh-rsa AAAA", "ssh-rsa AAAAB3NzaC1yc2EAAAA=== c", "ssh-ed25519 " + "A" * 44, "-----BEGIN OPENSSH PRIVATE KEY-----"]
)
def test_what_is_no_public_key_is_a_gap(text: str) -> None:
    found = run(PUBLIC, {HOST_KEYS.id: files(**{"/etc/ssh/ssh_host_rsa_key.pub": text}), CONFIG.id: NO_CONFIG})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, ())


def test_a_host_key_elsewhere_is_a_gap(keys: dict[tuple[str, str], tuple[str, int, str]]) -> None:
    public = files(**{"/etc/ssh/ssh_host_rsa_key.pub": keys["rsa", "2048"][0]})
    for text, coverage in (("HostKey /etc/ssh/ssh_host_rsa_key\n", Coverage.COMPLETE), ("HostKey /etc/dropbear/key\n", Coverage.PARTIAL)):
        assert run(PUBLIC, config(text) | {HOST_KEYS.id: public}).coverage is coverage
    assert run(PUBLIC, {HOST_KEYS.id: public}).coverage is Coverage.PARTIAL
    assert run(PUBLIC, {HOST_KEYS.id: ok("{}"), CONFIG.id: NO_CONFIG}).coverage is Coverage.COMPLETE


def test_files_of_the_server(tmp_path: Path) -> None:
    found = run(SSH_FILES, node(tmp_path / "n", [SSH_FILES], {
        "/etc/ssh/sshd_config": "", "/etc/ssh/sshd_config.d/a.conf": "", "/etc/ssh/ssh_host_rsa_key": "", "/etc/ssh/ssh_host_rsa_key.pub": "",
        "/etc/ssh/ssh_host_rsa_key-cert.pub": "", "/etc/ssh/moduli": "",
    }))  # fmt: skip
    assert found.coverage is Coverage.COMPLETE
    assert {row["path"].removeprefix("/etc/ssh"): row["kind"] for row in rows_as_dicts(SSH_FILES, found)} == {
        "": "folder", "/sshd_config": "config", "/sshd_config.d": "folder", "/sshd_config.d/a.conf": "config",
        "/ssh_host_rsa_key": "private-key", "/ssh_host_rsa_key.pub": "public-key", "/ssh_host_rsa_key-cert.pub": "public-key",
    }  # fmt: skip


def test_what_links_lead_to_are_rows_of_their_own(tmp_path: Path) -> None:
    """A key or a file of the configuration kept elsewhere is judged there."""
    found = run(SSH_FILES, node(
        tmp_path / "n", [SSH_FILES], {"/etc/ssh/sshd_config": "", "/srv/keys/a": "", "/srv/keys/site": ""},
        {"/etc/ssh/ssh_host_rsa_key": "/srv/keys/a", "/etc/ssh/sshd_config.d/1.conf": "../../../srv/keys/site", "/etc/ssh/ssh_host_x_key": "gone"},
    ))  # fmt: skip
    rows = {row["path"]: (row["kind"], row["type"], row["leads_to"]) for row in rows_as_dicts(SSH_FILES, found)}
    assert found.coverage is Coverage.COMPLETE
    assert {path: row for path, row in rows.items() if row[1] != "dir"} == {
        "/etc/ssh/sshd_config": ("config", "file", ""), "/etc/ssh/ssh_host_rsa_key": ("private-key", "link", "/srv/keys/a"),
        "/srv/keys/a": ("private-key", "file", ""), "/srv/keys/site": ("config", "file", ""),
        "/etc/ssh/sshd_config.d/1.conf": ("config", "link", "/srv/keys/site"), "/etc/ssh/ssh_host_x_key": ("private-key", "link", None),
    }  # fmt: skip


# --- authorised keys -------------------------------------------------------------------------------

PASSWD = "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/bash\nbob:x:1001:1001::/home/bob:/bin/bash\n"


@needs_keygen
def test_authorised_keys_by_the_reader(tmp_path: Path, keys: dict[tuple[str, str], tuple[str, int, str]]) -> None:
    rsa, small, edwards = (keys[name][0].split()[:2] for name in (("rsa", "3072"), ("rsa", "2048"), ("ed25519", "256")))
    alice = (
        f"# keys\n{' '.join(rsa)} alice@laptop\n\n"
        f'from="10.0.0.0/8,!10.1.1.1",no-pty,command="/bin/backup --token hunter2 \\"x\\"",restrict {" ".join(edwards)} c\n'
    )
    made = {
        "/etc/passwd": PASSWD, "/home/alice/.ssh/authorized_keys": alice, "/home/bob/.ssh/authorized_keys2": f"cert-authority {' '.join(rsa)}\n",
        "/root/.ssh/authorized_keys": "", "/etc/ssh/authorized_keys/bob": " ".join(small) + "\n", "/etc/ssh/sshd_config": "Port 22\n",
    }  # fmt: skip
    evidence = node(tmp_path / "n", ALL, made)
    found = run(AUTHORIZED, evidence)
    assert (found.coverage, found.reason) == (Coverage.COMPLETE, "")
    rows = rows_as_dicts(AUTHORIZED, found)
    assert sorted(pick(rows, "user_name", "path", "type", "bits", "fingerprint", "from_hosts")) == sorted([
        ("alice", "/home/alice/.ssh/authorized_keys", "ssh-rsa", 3072, keys["rsa", "3072"][2], ""),
        ("alice", "/home/alice/.ssh/authorized_keys", "ssh-ed25519", 256, keys["ed25519", "256"][2], "10.0.0.0/8,!10.1.1.1"),
        ("bob", "/home/bob/.ssh/authorized_keys2", "ssh-rsa", 3072, keys["rsa", "3072"][2], ""),
        ("bob", "/etc/ssh/authorized_keys/bob", "ssh-rsa", 2048, keys["rsa", "2048"][2], ""),
    ])  # fmt: skip
    assert {row["type"]: row["options"] for row in rows if row["path"].endswith("alice/.ssh/authorized_keys")} == {
        "ssh-rsa": [], "ssh-ed25519": ["from", "no-pty", "command", "restrict"],
    }  # fmt: skip
    assert b"hunter2" not in evidence[KEYS.id].body and b"laptop" not in evidence[KEYS.id].body
    listed = rows_as_dicts(KEY_FILES, run(KEY_FILES, evidence))
    assert {row["path"]: (row["user_name"], row["key_count"], row["odd_line_count"]) for row in listed} == {
        "/root/.ssh/authorized_keys": ("root", 0, 0), "/home/alice/.ssh/authorized_keys": ("alice", 2, 0),
        "/home/bob/.ssh/authorized_keys2": ("bob", 1, 0), "/etc/ssh/authorized_keys/bob": ("bob", 1, 0),
    }  # fmt: skip
    folders = pick(rows_as_dicts(KEY_FOLDERS, run(KEY_FOLDERS, evidence)), "path", "type")
    assert folders == [("/etc/ssh/authorized_keys", "dir"), ("/root/.ssh", "dir"), ("/home/alice/.ssh", "dir"), ("/home/bob/.ssh", "dir")]
    nfs = run(KEY_FOLDERS, evidence | {HOME_FOLDERS.id: status(Status.FAILED, "network file system (nfs4)")})
    assert (nfs.coverage, len(nfs.rows)) == (Coverage.PARTIAL, 2)


KEY = {"type": "ssh-ed25519", "fingerprint": "SHA256:x", "bits": None, "options": ["from"], "from": "10.0.0.1"}
FILE = {"users": ["bob"], "mode": 0o600, "uid": 1001, "keys": [KEY], "odd": 0}
PATH = "/home/bob/.ssh/authorized_keys"


def authorised(entry: Any, config_text: str = "") -> Evidence:
    return config(config_text) | {KEYS.id: ok(json.dumps({PATH: entry}))}


@pytest.mark.parametrize(("entry", "count"), [
    (FILE | {"odd": 2}, 1), ({"user": "bob", "status": "denied", "detail": "Permission denied"}, 0), (FILE | {"keys": [KEY, {"type": 1}, "x"]}, 1),
    ({"user": "bob", "status": "failed", "detail": "network file system (nfs4)"}, 0), ("x", 0), (FILE | {"mode": "0600"}, 0),
    (FILE | {"keys": None}, 0),
])  # fmt: skip
def test_lines_and_files_that_were_not_read_are_gaps(entry: Any, count: int) -> None:
    found = run(AUTHORIZED, authorised(entry))
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, count)


@pytest.mark.parametrize(("text", "coverage"), [
    ("AuthorizedKeysFile .ssh/authorized_keys %h/.ssh/authorized_keys2 none\n", Coverage.COMPLETE),
    ("AuthorizedKeysFile /etc/keys/%u\n", Coverage.PARTIAL),
    ("AuthorizedKeysFile /etc/ssh/authorized_keys/%u\n", Coverage.COMPLETE), ("Match User x\nAuthorizedKeysFile /srv/k\n", Coverage.PARTIAL),
    ("AuthorizedKeysFile .ssh/authorized_keys\nAuthorizedKeysFile /srv/k\n", Coverage.COMPLETE),
])  # fmt: skip
def test_files_that_sshd_looks_into_and_we_do_not_are_gaps(text: str, coverage: Coverage) -> None:
    for table in (AUTHORIZED, KEY_FILES):
        assert run(table, authorised(FILE, text)).coverage is coverage


@pytest.mark.parametrize("item", [status(Status.DENIED), status(Status.ABSENT), status(Status.TIMEOUT), ok("[]"), ok("x")])
def test_no_keys_without_the_reader(item: Item) -> None:
    assert run(AUTHORIZED, {KEYS.id: item, CONFIG.id: NO_CONFIG}).coverage is Coverage.NONE
    assert run(AUTHORIZED, {KEYS.id: ok("{}"), CONFIG.id: item}).coverage is Coverage.PARTIAL
    assert run(AUTHORIZED, {KEYS.id: ok("{}"), CONFIG.id: NO_CONFIG}).coverage is Coverage.COMPLETE


def test_certificates_have_no_length() -> None:
    found = run(
        AUTHORIZED, authorised(FILE | {"keys": [KEY | {"type": "ssh-ed25519-cert-v01@openssh.com"}, KEY | {"type": "ssh-dss"}, KEY]})
    )
    assert pick(rows_as_dicts(AUTHORIZED, found), "bits") == [(None,), (None,), (256,)]


# --- laws and this machine -------------------------------------------------------------------------

EVIDENCE: Evidence = config(TEXT, **PARTS) | {
    KEYS.id: ok(json.dumps({PATH: FILE})), PROGRAM.id: NO_PROGRAM, packages.DPKG.id: WITH_SERVER, packages.RPM.id: status(Status.SKIPPED),
    FOLDERS.id: files(**{
        path: {"type": "dir", "mode": 0o700, "uid": 0, "gid": 0, "link": None}
        for path in ("/root/.ssh", "/etc/ssh/authorized_keys", "/etc/ssh/authorized_keys.d")
    }),
    HOME_FOLDERS.id: files(**{"/home/bob/.ssh": {"type": "dir", "mode": 0o700, "uid": 1001, "gid": 0, "link": None}}),
    FILES.id: files(**{
        path: {"type": "file", "mode": 0o600, "uid": 0, "gid": 0, "link": None}
        for path in ("/etc/ssh", "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", "/etc/ssh/ssh_host_rsa_key")
    }),
    HOST_KEYS.id: files(**{"/etc/ssh/ssh_host_rsa_key.pub": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAAQE= x"}),
}  # fmt: skip


@pytest.mark.parametrize(("table", "source"), [
    (SETTINGS, CONFIG), (SERVER, packages.DPKG), (SERVER, PROGRAM), (PUBLIC, HOST_KEYS), (PUBLIC, CONFIG), (SSH_FILES, FILES), (AUTHORIZED, KEYS),
    (AUTHORIZED, CONFIG), (KEY_FILES, KEYS), (KEY_FOLDERS, FOLDERS), (KEY_FOLDERS, HOME_FOLDERS),
])  # fmt: skip
def test_laws(table: Table, source: Source) -> None:
    never_emptier(table, EVIDENCE)
    if (table, source) != (SERVER, packages.DPKG):  # the name may stand before the cut
        assert list(cut_short(table, EVIDENCE, source, step=29))


@needs_keygen
def test_host_keys_of_this_machine() -> None:
    evidence = this_machine(ALL)
    paths = sorted(Path("/etc/ssh").glob("ssh_host_*_key.pub"))
    said = {
        str(p): subprocess.run(["ssh-keygen", "-lf", str(p)], capture_output=True, text=True, check=True).stdout.split()[:2] for p in paths
    }
    found = run(PUBLIC, evidence)
    assert {row["path"]: [str(row["bits"]), row["fingerprint"]] for row in rows_as_dicts(PUBLIC, found)} == said
    assert {r["mode"] for r in rows_as_dicts(SSH_FILES, run(SSH_FILES, evidence)) if r["kind"] == "private-key"} <= {0o600, 0o640}


WORDS = st.sampled_from(
    ["Port", " ", "22", "=", '"', "#", "\n", "Match", "Include", "/etc/*", "user", "\\", "\t", "'", "\x0c", "é", "\0", "hostkey", "/k"]
)


@given(st.lists(WORDS, max_size=30).map("".join), st.sampled_from(Status), st.sampled_from([s for t in ALL for s in t.sources]))
def test_nothing_raises(text: str, given: Status, source: Source) -> None:
    for table in ALL:
        run(table, EVIDENCE | {source.id: Item(given, text.encode())})
        run(table, EVIDENCE | config(text))
        run(table, EVIDENCE | {source.id: files(**{MAINS[0]: text, "/etc/ssh": text, "/usr/sbin/sshd": text})})
