# SPDX-License-Identifier: Apache-2.0
"""The readers of files, by the real program on this machine."""

from __future__ import annotations

import json
import os
import pwd
import socket
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import Source
from fleet_audit.probe.node import values
from tests.probe.helpers import Running, ask, source

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder that everybody may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.getuid() and "pytest" in str(folder):
            folder.chmod(0o755)
    return tmp_path


def one(reader: str, **args: Any) -> Any:
    """The frame of a single source."""
    return ask([source("it", reader, **args)])["it"]


def as_nobody(sources: list[Source]) -> Any:
    """The reply of a probe that runs as an account without rights."""
    if os.geteuid() != 0:
        pytest.skip("what another account may not read is not tried here: not root")
    user = pwd.getpwnam("nobody")

    def become() -> None:
        os.setgroups([])
        os.setgid(user.pw_gid)
        os.setuid(user.pw_uid)

    running = Running(sources, preexec=become, python="/usr/bin/python3")
    reply = running.finish()
    assert reply.end is not None and reply.hello is not None and reply.hello["uid"] == user.pw_uid
    return reply.frames


# --- file ----------------------------------------------------------------------------------------


def test_file_gives_the_bytes_of_the_first_path_that_is_there(node: Path) -> None:
    (node / "b").write_bytes(b"\0\xff bytes\n")
    found = one("file", paths=[f"{node}/a", f"{node}/b"])
    assert (found.status, found.body, found.exit) == ("ok", b"\0\xff bytes\n", None)


def test_empty_file_is_ok_and_empty(node: Path) -> None:
    (node / "a").touch()
    assert (one("file", paths=[f"{node}/a"]).status, one("file", paths=[f"{node}/a"]).body) == ("ok", b"")


def test_file_that_is_not_there_is_absent(node: Path) -> None:
    for path in ("no", "no/more", "plain/below"):
        (node / "plain").touch()
        found = one("file", paths=[f"{node}/{path}"])
        assert found.status == "absent" and str(node) in found.detail


def test_keep_gives_lines_by_their_beginning_and_unique_gives_each_once(node: Path) -> None:
    (node / "cpu").write_text("model name\t: X\nflags\t: a b\nbogomips: 1\nmodel name\t: X\nflags\t: a\n")
    assert (
        one("file", paths=[f"{node}/cpu"], keep=["flags", "model name"], unique=True).body == b"model name\t: X\nflags\t: a b\nflags\t: a\n"
    )
    assert one("file", paths=[f"{node}/cpu"], keep=["flags"]).body == b"flags\t: a b\nflags\t: a\n"
    assert one("file", paths=[f"{node}/cpu"], keep=["["]).body == b""


def test_file_longer_than_its_cap_is_truncated_at_it(node: Path) -> None:
    (node / "a").write_bytes(b"x" * 1001)
    found = one("file", paths=[f"{node}/a"], cap_bytes=1000)
    assert (found.status, len(found.body)) == ("truncated", 1000) and "1000" in found.detail
    assert one("file", paths=[f"{node}/a"], cap_bytes=1001).status == "ok"


def test_file_that_only_its_secrets_make_longer_than_its_cap_is_no_whole_file(node: Path) -> None:
    """What is left of its first bytes fits; what came behind them, nobody read."""
    (node / "a").write_text("token = hf_" + "A1b2" * 300 + "\nPermitRootLogin yes\n")
    found = one("file", paths=[f"{node}/a"], cap_bytes=1000, redact=True)
    assert (found.status, found.body) == ("truncated", b"")
    assert one("file", paths=[f"{node}/a"], cap_bytes=2000, redact=True).body.endswith(b">\nPermitRootLogin yes\n")


def test_file_whose_kept_lines_fit_is_no_whole_file_if_it_is_longer_than_may_be_read(node: Path) -> None:
    with (node / "a").open("wb") as handle:
        handle.write(b"flags: a\n")
        handle.truncate(97 << 20)
        handle.seek(0, 2)
        handle.write(b"\nflags: b\n")
    found = one("file", paths=[f"{node}/a"], keep=["flags"])
    assert (found.status, found.body) == ("truncated", b"")


def test_huge_sparse_file_is_cut_at_the_cap_at_once(node: Path) -> None:
    with (node / "sparse").open("wb") as handle:
        handle.truncate(1 << 40)
    found = one("file", paths=[f"{node}/sparse"], cap_bytes=4096)
    assert found.status == "truncated" and found.seconds < 1


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "/dev/zero", "/dev/null", "link to a device", "loop"])
def test_what_is_no_regular_file_is_failed_at_once_and_never_opened(node: Path, kind: str) -> None:
    path = node / "it"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(os.path.relpath(path))
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to("it")
    else:
        path = Path(kind)
    found = one("file", paths=[str(path)])
    assert found.status == "failed" and not found.body and found.seconds < 1
    assert "symbolic links" in found.detail if kind == "loop" else "regular" in found.detail


def test_proc_files_that_never_end_are_not_read() -> None:
    kmsg = one("file", paths=["/proc/kmsg"], cap_bytes=4096, timeout_s=1.0)
    memory = one("file", paths=["/proc/self/mem"], cap_bytes=4096)
    assert kmsg.status in ("failed", "denied", "truncated", "absent") and kmsg.seconds < 2
    assert memory.status in ("failed", "denied")


def test_links_are_followed_as_the_node_has_them(node: Path) -> None:
    (node / "real").mkdir()
    (node / "real/file").write_text("text")
    (node / "folder").symlink_to("real")
    (node / "far").symlink_to(f"{node}/folder/../real/./file")
    for path in ("folder/file", "far", "folder/../real/file"):
        assert one("file", paths=[f"{node}/{path}"]).body == b"text"


def test_dotdot_after_a_link_is_the_parent_of_its_target(node: Path) -> None:
    (node / "deep/er").mkdir(parents=True)
    (node / "deep/file").write_text("right")
    (node / "file").write_text("wrong")
    (node / "link").symlink_to("deep/er")
    (node / "via").symlink_to("link/../file")
    assert (node / "via").read_text() == "right"
    assert one("file", paths=[f"{node}/link/../file"]).body == b"right"
    assert one("file", paths=[f"{node}/via"]).body == b"right"


def test_file_that_the_account_may_not_read_is_denied(node: Path) -> None:
    (node / "secret").write_text("secret")
    (node / "secret").chmod(0o600)
    (node / "closed").mkdir(mode=0o700)
    (node / "closed/file").write_text("secret")
    frames = as_nobody([
        source("file", "file", paths=[f"{node}/secret"]), source("below", "file", paths=[f"{node}/closed/file"]),
        source("files", "files", globs=[f"{node}/s*"]), source("glob", "files", globs=[f"{node}/closed/*"]),
        source("attrs", "attrs", globs=[str(node)], names=["secret"]), source("stat", "stat", globs=[f"{node}/closed/*"]),
        source("gate", "file", paths=["/etc/passwd"], when_exists=f"{node}/closed/file"),
        source("stanzas", "stanzas", globs=[f"{node}/secret"], fields=["Package"]),
    ])  # fmt: skip
    for name in ("file", "below", "glob", "stat", "gate"):
        assert frames[name].status == "denied", name
    assert b'"status":"denied"' in frames["files"].body and b'"status":"denied"' in frames["attrs"].body
    assert b'"status":"denied"' in frames["stanzas"].body
    assert b"secret:" not in b"".join(f.body for f in frames.values())


# --- files, stat, attrs ----------------------------------------------------------------------------


def test_files_gives_each_match_in_order_with_what_could_not_be_read(node: Path) -> None:
    for name in ("b.conf", "a.conf", "c.txt"):
        (node / name).write_text(name)
    os.mkfifo(node / "d.conf")
    (node / "e.conf").write_bytes(b"\xff\xfe")
    rows = ask([source("it", "files", globs=[f"{node}/*.conf", f"{node}/a*", f"{node}/none"])]).rows("it")
    assert list(rows) == sorted(rows) and set(rows) == {f"{node}/{n}" for n in ("a.conf", "b.conf", "d.conf", "e.conf", "none")}
    assert rows[f"{node}/a.conf"] == {"text": "a.conf"} and rows[f"{node}/none"]["status"] == "absent"
    assert rows[f"{node}/d.conf"]["status"] == "failed" and rows[f"{node}/e.conf"] == {"text": "\\xff\\xfe"}


def test_files_over_the_caps_are_truncated_one_by_one(node: Path) -> None:
    for name in "abcd":
        (node / name).write_text(name * 400)
    each = ask([source("it", "files", globs=[f"{node}/*"], cap_each=300)]).rows("it")
    assert {row["status"] for row in each.values()} == {"truncated"}
    asked = ask([source("it", "files", globs=[f"{node}/*"], cap_bytes=1000)])
    assert asked.status("it") == "truncated" and len(asked["it"].body) == 1000, "the rows do not fit: half a row is no answer"


def test_includes_of_chrony_are_followed_in_any_case(node: Path) -> None:
    (node / "chrony.conf").write_text(f"Include {node}/a.conf\nConfDir {node}/c.d\n  sourcedir {node}/s.d\n")
    for name in ("a.conf", "c.d/b.conf", "s.d/c.sources"):
        (node / name).parent.mkdir(exist_ok=True)
        (node / name).write_text(f"server {name}\n")
    rows = ask([source("it", "files", globs=[f"{node}/chrony.conf"], follow="chrony")]).rows("it")
    assert {row["text"] for row in rows.values() if "server" in row.get("text", "")} == {
        "server a.conf\n", "server c.d/b.conf\n", "server s.d/c.sources\n",
    }  # fmt: skip


def test_glob_over_folders_that_are_not_there_is_empty(node: Path) -> None:
    assert ask([source("it", "files", globs=[f"{node}/no/*", f"{node}/*/more/*"])]).rows("it") == {}


def test_link_in_a_folder_to_the_shadow_file_is_not_returned_by_stat(node: Path) -> None:
    (node / "authorized_keys").symlink_to("/etc/shadow")
    asked = ask([source("it", "stat", globs=[f"{node}/*"])])
    row = asked.rows("it")[f"{node}/authorized_keys"]
    assert (row["type"], row["link"]) == ("link", "/etc/shadow")
    assert b"root:" not in asked["it"].body


def test_stat_gives_kinds_modes_owners_and_targets_and_no_content(node: Path) -> None:
    (node / "file").write_text("12345")
    (node / "file").chmod(0o4750)
    (node / "dir").mkdir()
    os.mkfifo(node / "fifo")
    (node / "dangling").symlink_to("nowhere")
    rows = ask([source("it", "stat", globs=[f"{node}/*", "/dev/null", f"{node}/absent"])]).rows("it")
    assert {k.rpartition("/")[2]: v.get("type") for k, v in rows.items()} == {
        "file": "file", "dir": "dir", "fifo": "fifo", "dangling": "link", "null": "char", "absent": None,
    }  # fmt: skip
    file = rows[f"{node}/file"]
    assert (file["mode"], file["size"], file["uid"]) == (0o4750, 5, os.getuid())
    assert rows[f"{node}/dangling"]["link"] == "nowhere" and rows[f"{node}/absent"]["status"] == "absent"


def test_stat_with_targets_follows_links_and_tells_the_folders_on_the_way(node: Path) -> None:
    """Each folder that has a part of the way, that of a link between and behind `..` too: who writes to one can turn the link."""
    for folder, mode in (("etc", 0o755), ("open", 0o777), ("opt", 0o750), ("opt/deep", 0o700)):
        (node / folder).mkdir()
        (node / folder).chmod(mode)
    (node / "opt/deep/real").write_text("secret words")
    (node / "opt/deep/real").chmod(0o640)
    (node / "open/between").symlink_to(f"{node}/opt/deep/../deep/real")
    (node / "etc/link").symlink_to("../open/between")
    (node / "etc/loop").symlink_to("loop")
    (node / "etc/gone").symlink_to("/nowhere/at/all")
    (node / "etc/plain").write_text("")
    asked = ask([source("it", "stat", globs=[f"{node}/etc/*"], targets=True)])
    rows = asked.rows("it")
    link = rows[f"{node}/etc/link"]
    assert (link["type"], link["link"]) == ("link", "../open/between")
    assert {name: link["target"][name] for name in ("path", "type", "mode", "uid")} == {
        "path": f"{node}/opt/deep/real", "type": "file", "mode": 0o640, "uid": os.getuid(),
    }  # fmt: skip
    way = {path.removeprefix(str(node)): row["mode"] for path, row in link["way"].items() if path.startswith(str(node))}
    assert way == {"": 0o755, "/etc": 0o755, "/open": 0o777, "/opt": 0o750, "/opt/deep": 0o700} and "/" in link["way"]
    assert rows[f"{node}/etc/loop"]["target"]["status"] == "failed" and rows[f"{node}/etc/gone"]["target"]["status"] == "absent"
    assert "way" not in rows[f"{node}/etc/gone"] and "target" not in rows[f"{node}/etc/plain"]
    assert b"secret words" not in asked["it"].body


def test_attrs_gives_null_for_what_is_not_there_and_the_last_part_of_links(node: Path) -> None:
    for n in (0, 1):
        (node / f"dev{n}").mkdir()
        (node / f"dev{n}/vendor").write_text("0x10de\n")
    (node / "dev0/driver").symlink_to("/sys/bus/pci/drivers/nvidia")
    (node / "dev1/long").write_text("x" * 9000)
    rows = ask([source("it", "attrs", globs=[f"{node}/dev*"], names=["vendor", "long"], links=["driver"])]).rows("it")
    assert rows[f"{node}/dev0"] == {"vendor": "0x10de", "long": None, "driver": "nvidia"}
    assert rows[f"{node}/dev1"] == {"vendor": "0x10de", "long": "x" * 4096, "driver": None}


# --- stanzas ---------------------------------------------------------------------------------------

STATUS = "Package: a\nStatus: install ok installed\nDescription: x\n more: y\nVersion: 1\n\nPackage: linux-b\nVersion: 2\nSource: src (3)\n"


def test_stanzas_gives_chosen_fields_of_each_stanza(node: Path) -> None:
    (node / "status").write_text(STATUS)
    found = one("stanzas", globs=[f"{node}/status"], fields=["Package", "Version"])
    assert found.body == b"Package: a\nVersion: 1\n\nPackage: linux-b\nVersion: 2\n\n"


def test_stanzas_with_prefixes_gives_only_packages_that_begin_so(node: Path) -> None:
    (node / "status").write_text(STATUS)
    found = one("stanzas", globs=[f"{node}/status"], fields=["Package", "Source"], prefixes=["linux-"])
    assert found.body.strip() == b"Package: linux-b\nSource: src (3)"


def test_stanzas_that_are_not_there_are_absent(node: Path) -> None:
    assert one("stanzas", globs=[f"{node}/status"], fields=["Package"]).status == "absent"
    assert one("stanzas", globs=[f"{node}/*.d/status"], fields=["Package"]).status == "absent"


# --- nics -------------------------------------------------------------------------------------------


def test_more_interfaces_than_are_asked_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values.os, "listdir", lambda folder: [f"none{n}" for n in range(1001)])
    rows = json.loads(values.read_nics(None, {}))
    assert rows.pop("more than 1000 interfaces")["status"] == "truncated" and len(rows) == 1000


# --- sockets ---------------------------------------------------------------------------------------


def test_sockets_gives_listening_ones_with_their_owner() -> None:
    with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as client:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        udp.bind(("127.0.0.1", 0))
        client.connect(tcp.getsockname())
        rows = ask([source("it", "sockets")]).rows("it")
        local = {s.getsockname()[1]: kind for s, kind in ((tcp, "tcp"), (udp, "udp"))}
        mine = {int(row["local"].rpartition(":")[2], 16): row for row in rows["sockets"]}
        for port, kind in local.items():
            row = mine[port]
            assert row["kind"] == kind and row["local"] == f"0100007F:{port:04X}" and row["uid"] == str(os.getuid())
            assert os.getpid() in [o["pid"] for o in row["owners"]] and row["owners"][0]["exe"]
        assert client.getsockname()[1] not in mine


def test_sockets_without_rights_says_that_owners_are_not_known() -> None:
    with socket.socket() as tcp:
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        rows = json.loads(as_nobody([source("it", "sockets")])["it"].body)
    assert "not readable" in rows["owners_gap"]
