# SPDX-License-Identifier: Apache-2.0
"""The readers that walk (`data`, `dists`), by the real program on real folders of this machine."""

from __future__ import annotations

import base64
import ctypes
import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import DataFolder
from fleet_audit.probe.node.trees import format_of
from tests.probe.helpers import ask, source
from tests.probe.nodes import carried, data_rows, home_rows, opened_to_all

pytestmark = pytest.mark.slow


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """A folder that everybody may enter."""
    return opened_to_all(tmp_path)


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": [1]}))


# Each written by hand as its format says; the heads of the real ones are the same.
WRITERS: dict[str, tuple[str, str | None, Any]] = {
    "pickle-protocol-2": ("a.pkl", "pickle", lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=2))),
    "pickle-protocol-5": ("b.pickle", "pickle", lambda p: p.write_bytes(pickle.dumps([1] * 99, protocol=5))),
    "pickle-protocol-0": ("c.pkl", None, lambda p: p.write_bytes(pickle.dumps({"a": 1}, protocol=0))),
    "zip": ("d.pt", "zip", _zip),
    "legacy-torch": ("e.pth", "pickle", lambda p: p.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2))),
    "safetensors": ("f.safetensors", "safetensors", lambda p: p.write_bytes(struct.pack("<Q", 2) + b"{}")),
    "safetensors-full": ("g.safetensors", "safetensors", lambda p: p.write_bytes(struct.pack("<Q", 16) + b'{"__metadata__":')),
    "gguf": ("h.gguf", "gguf", lambda p: p.write_bytes(b"GGUF" + struct.pack("<I", 3) + b"\0" * 16)),
    "hdf5": ("i.h5", "hdf5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 88)),
    "numpy": ("j.npy", "numpy", lambda p: p.write_bytes(b"\x93NUMPY\x01\x00" + b"v\0" + b" " * 60)),
    "npz": ("k.npz", "zip", _zip),
    "onnx": ("l.onnx", "onnx", lambda p: p.write_bytes(b"\x08\x07\x12\x07pytorch")),
    "keras": ("m.keras", "zip", _zip),
    "tensorrt": ("n.engine", "tensorrt", lambda p: p.write_bytes(b"ftrt" + b"\0" * 28)),
    "empty": ("o.bin", None, lambda p: p.write_bytes(b"")),
    "one byte": ("p.pt", None, lambda p: p.write_bytes(b"\x80")),
    "text": ("q.ckpt", None, lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\n")),
    "wrong extension": ("r.safetensors", "pickle", lambda p: p.write_bytes(pickle.dumps({}, protocol=4))),
    "upper case": ("S.PT", "zip", _zip),
}  # fmt: skip


@pytest.mark.parametrize("form", WRITERS)
def test_format_is_told_by_the_first_sixteen_bytes(form: str, tmp_path: Path) -> None:
    name, wanted, write = WRITERS[form]
    write(tmp_path / name)
    assert format_of(name, (tmp_path / name).read_bytes()[:16]) == wanted


def test_folder_with_every_format(node: Path) -> None:
    for name, _, write in WRITERS.values():
        write(node / name)
    (node / "README.md").write_text("no model")
    (row,) = data_rows(DataFolder(str(node), "models"))
    assert (row["status"], row["why"], row["kind"], row["path"], row["real"]) == ("ok", "", "models", str(node), str(node))
    found = {Path(entry[0]).name: (look["format"], entry[4], look["verity"]) for entry, look in row["models"]}
    assert {name: found[name][0] for name, _, _ in WRITERS.values()} == {name: form for name, form, _ in WRITERS.values()}
    assert all(found[name][1] == (node / name).stat().st_size for name in found) and "README.md" not in found
    assert row["files"] == len(WRITERS) + 1 and row["bytes"] == sum(p.stat().st_size for p in node.iterdir())
    assert row["newest"] == max(int(p.stat().st_mtime) for p in node.iterdir())
    assert (row["mode"], row["uid"], row["gid"]) == (node.stat().st_mode & 0o7777, os.getuid(), os.getgid())


def test_no_content_beyond_the_first_bytes_leaves_the_node(node: Path) -> None:
    (node / "a.pkl").write_bytes(pickle.dumps("hunter2xyz", protocol=2) * 99)
    (node / "notes.txt").write_text("password=hunter2xyz")
    reply = carried([source("it", "data", entries=99, seconds=5, cpu=1.0, models=9)], data=[DataFolder(str(node))])
    assert b"hunter2" not in reply.frames["it"].body


def test_oddities_are_world_writable_set_id_and_devices(node: Path) -> None:
    for name, mode in (("open", 0o666), ("suid", 0o4755), ("sgid", 0o2755), ("plain", 0o644), ("group", 0o664)):
        (node / name).touch()
        (node / name).chmod(mode)
    for name, mode in (("dir", 0o777), ("sticky", 0o1777), ("sgid-dir", 0o2755)):
        (node / name).mkdir()
        (node / name).chmod(mode)
    (node / "link").symlink_to("plain")
    os.mkfifo(node / "fifo", 0o600)
    (node / "fifo").chmod(0o622)
    if os.geteuid() == 0:
        os.mknod(node / "device", 0o20600, os.makedev(1, 3))
    (row,) = data_rows(DataFolder(str(node)))
    found = {Path(entry[0]).name: (entry[6], oct(entry[1])) for entry in row["odd"]}
    wanted = {
        "open": ("file", "0o666"),
        "suid": ("file", "0o4755"),
        "sgid": ("file", "0o2755"),
        "dir": ("folder", "0o777"),
        "fifo": ("other", "0o622"),
    }
    assert found == wanted | ({"device": ("device", "0o600")} if os.geteuid() == 0 else {})


def test_links_are_not_followed_and_dangling_ones_do_no_harm(node: Path) -> None:
    (node / "in").mkdir()
    (node / "in/model.pt").symlink_to("/etc/shadow")
    (node / "in/up").symlink_to("..")
    (node / "in/etc").symlink_to("/etc")
    (node / "in/gone").symlink_to("nowhere")
    (row,) = data_rows(DataFolder(str(node / "in")))
    assert (row["why"], row["files"], row["folders"], row["models"], row["odd"]) == ("", 0, 0, [], [])


def test_folder_that_is_itself_a_link_is_walked_where_it_leads(node: Path) -> None:
    (node / "real").mkdir()
    (node / "real/a.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    (node / "link").symlink_to("real")
    (row,) = data_rows(DataFolder(str(node / "link")))
    assert (row["path"], row["real"], row["files"]) == (str(node / "link"), str(node / "real"), 1)


HOSTILE = [
    b"a\nb.pt",
    b"\xff\xfe.pt",
    "ü.pt".encode(),
    b"$(id).pt",
    b"'; DROP.pt",
    b"<script>.pt",
    b" .pt",
    b"-rf.pt",
    b"\x1b[31m.pt",
    b"x" * 250 + b".pt",
]


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "POSIX"])
def test_hostile_names_are_text_and_found(node: Path, locale: str) -> None:
    for name in HOSTILE:
        Path(os.fsdecode(os.fsencode(node) + b"/" + name)).write_bytes(b"GGUF" + b"\0" * 16)
    (node / "dé\udcff").mkdir()
    (node / "dé\udcff/inner.pt").write_bytes(b"PK\x03\x04" + b"\0" * 20)
    (row,) = data_rows(DataFolder(str(node)), env={"LC_ALL": locale, "PATH": os.environ["PATH"]})
    assert row["why"] == "" and row["files"] == len(HOSTILE) + 1
    found = {entry[0].rpartition("/")[2]: look["format"] for entry, look in row["models"]}
    assert set(found.values()) == {"gguf", "zip"} and len(found) == len(HOSTILE) + 1
    assert "\\xff\\xfe.pt" in found and "ü.pt" in found and found["inner.pt"] == "zip"
    json.dumps(row).encode("utf-8")


def test_path_of_the_request_may_be_any_text(node: Path) -> None:
    (node / "dätä 1").mkdir()
    (node / "dätä 1/x").touch()
    (row,) = data_rows(DataFolder(str(node / "dätä 1")), env={"LC_ALL": "C", "PATH": os.environ["PATH"]})
    assert (row["status"], row["files"]) == ("ok", 1)


def test_what_is_no_folder_or_is_not_there(node: Path) -> None:
    (node / "file").touch()
    rows = data_rows(DataFolder(str(node / "file")), DataFolder(str(node / "no")), DataFolder(str(node)))
    assert [(row["status"], row.get("files")) for row in rows] == [("failed", None), ("absent", None), ("ok", 1)]


def test_no_folders_asked_for_is_an_empty_list() -> None:
    assert data_rows() == []


def test_entries_are_bounded_and_it_says_so(node: Path) -> None:
    for number in range(60):
        (node / f"f{number}").touch()
    (row,) = data_rows(DataFolder(str(node)), entries=50)
    assert row["status"] == "ok" and row["why"] == "more than 50 entries" and row["files"] <= 50
    assert data_rows(DataFolder(str(node)), entries=60)[0]["why"] == ""


def test_model_files_and_oddities_are_bounded_and_it_says_so(node: Path) -> None:
    for number in range(12):
        (node / f"{number:02}.pt").touch()
    (row,) = data_rows(DataFolder(str(node)), models=10)
    assert len(row["models"]) == 10 and "more than 10 models" in row["why"] and row["files"] == 12


def test_several_folders_share_the_bounds(node: Path) -> None:
    for folder in ("a", "b"):
        (node / folder).mkdir()
        for number in range(8):
            (node / folder / f"{number}").touch()
    rows = data_rows(DataFolder(str(node / "a")), DataFolder(str(node / "b")), entries=10)
    assert [row["why"] for row in rows] == ["more than 5 entries"] * 2, "the first does not use up what is the second's"


def test_time_is_bounded(node: Path) -> None:
    for number in range(400):
        (node / f"f{number}").touch()
    (row,) = data_rows(DataFolder(str(node)), seconds=0, entries=10000)
    assert "time" in row["why"] and row["files"] < 400
    (row,) = data_rows(DataFolder(str(node)), cpu=-1, entries=10000)
    assert "time" in row["why"]


def test_deep_folders_do_no_harm(node: Path) -> None:
    here = os.getcwd()
    try:
        os.chdir(node)
        for _ in range(700):  # deeper than a path may be long
            os.mkdir("d" * 10)
            os.chdir("d" * 10)
    finally:
        os.chdir(here)
    (row,) = data_rows(DataFolder(str(node)))
    assert row["folders"] > 300 and "File name too long" in row["why"]
    subprocess.run(["rm", "-rf", str(node / ("d" * 10))], check=True)


def test_folder_that_may_not_be_read_is_a_gap(node: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("what another account may not read is not tried here: not root")
    (node / "closed").mkdir(mode=0o700)
    (node / "closed/x.pt").touch()
    (node / "seen").touch()

    def become() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    rows = data_rows(DataFolder(str(node)), DataFolder(str(node / "closed/deeper")), python="/usr/bin/python3", preexec=become)
    assert rows[0]["files"] == 1 and "Permission denied" in rows[0]["why"]
    assert rows[1]["status"] == "denied"


@pytest.fixture
def mounted(node: Path) -> Path:
    """Folders of which one is another file system, for processes of the mount namespace that the test makes."""
    if os.geteuid() != 0:
        pytest.skip("another file system is not mounted here: not root")
    (node / "sub").mkdir()
    return node


def test_other_file_systems_are_gaps(mounted: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)

    def in_namespace() -> None:
        assert libc.unshare(0x00020000) == 0
        assert libc.mount(b"none", b"/", None, 0x44000, None) == 0  # MS_REC | MS_PRIVATE
        assert libc.mount(b"none", os.fsencode(mounted / "sub"), b"tmpfs", 0, None) == 0

    (row,) = data_rows(DataFolder(str(mounted)), preexec=in_namespace)
    assert "sub is another file system" in row["why"] and row["folders"] == 0


# --- Manifests ---------------------------------------------------------------------------------


def _signature(resources: list[dict[str, str]]) -> str:
    """synthetic: an OpenSSF Model Signing bundle, as its specification lays it out; the signature is none."""
    payload = {"_type": "https://in-toto.io/Statement/v1", "predicate": {"resources": resources, "serialization": {"method": "files"}}}
    envelope = {
        "payload": base64.b64encode(json.dumps(payload).encode()).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [],
    }
    return json.dumps({"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "dsseEnvelope": envelope})


def test_manifests_give_names_and_digests(node: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    (node / "model.sig").write_text(_signature([{"name": "weights.bin", "algorithm": "sha256", "digest": digest}]))
    (node / "sub").mkdir()
    (node / "sub/fsverity.digests").write_text(f"sha256:{digest} weights.bin\nsha256:{digest} two words.bin\n")
    (row,) = data_rows(DataFolder(str(node)))
    assert row["manifests"] == {
        f"{node}/model.sig": [["weights.bin", "sha256", digest]],
        f"{node}/sub/fsverity.digests": [["weights.bin", "sha256", digest], ["two words.bin", "sha256", digest]],
    }


@pytest.mark.parametrize("content", [
    "", "{}", "[]", "not json", '{"dsseEnvelope": {"payload": "!!!"}}', '{"dsseEnvelope": {"payload": "e30="}}', "[" * 100000,
    _signature([{"name": "x", "algorithm": "sha256", "digest": "password=hunter2xyz"}]), _signature([{"name": "x", "digest": "00"}]),
])  # fmt: skip
def test_manifest_that_is_none_tells_nothing(node: Path, content: str) -> None:
    (node / "model.sig").write_text(content)
    (row,) = data_rows(DataFolder(str(node)))
    assert row["manifests"] == {f"{node}/model.sig": None}


def test_file_that_is_no_list_of_digests_does_not_leave_the_node(node: Path) -> None:
    (node / "fsverity.digests").write_text("password:hunter2xyz rest\nsha256:00 x\n")
    (node / "a").mkdir()
    (node / "a/fsverity.digests").symlink_to("/etc/shadow")
    reply = carried([source("it", "data", entries=99, seconds=5, cpu=1.0, models=9)], data=[DataFolder(str(node))])
    assert b"hunter2" not in reply.frames["it"].body and b"root" not in reply.frames["it"].body.replace(b"pytest-of-root", b"")
    assert json.loads(reply.frames["it"].body)[0]["manifests"] == {f"{node}/fsverity.digests": None}


def test_manifest_that_is_too_long_says_so(node: Path) -> None:
    with (node / "model.sig").open("wb") as handle:
        handle.truncate(5 << 20)
    assert data_rows(DataFolder(str(node)))[0]["manifests"] == {f"{node}/model.sig": "truncated"}


# --- fs-verity ---------------------------------------------------------------------------------


def test_file_without_verity_has_no_digest(node: Path) -> None:
    (node / "a.gguf").write_bytes(b"GGUF" + b"\0" * 20)
    (row,) = data_rows(DataFolder(str(node)))
    assert row["models"][0][1]["verity"] is None


def test_digest_of_a_real_file_with_verity(node: Path) -> None:
    """On an ext4 with `verity` in a loop device of a mount namespace; the digest is computed here as the kernel's document says."""
    if os.geteuid() != 0:
        pytest.skip("fs-verity is not tried here: not root")
    image = node / "ext4.img"
    with image.open("wb") as handle:
        handle.truncate(16 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-b", "4096", "-O", "verity", str(image)], capture_output=True, check=False)
    if made.returncode != 0:
        pytest.skip("the mirror lacks an mkfs.ext4 that knows verity")
    (node / "mnt").mkdir()
    content = b"GGUF" + b"\0" * 100
    (node / "content").write_bytes(content)
    enable = f"""
import fcntl, struct
fd = open("{node}/mnt/a.gguf", "rb")
fcntl.ioctl(fd, 0x40806685, struct.pack("=IIIIQIIQ", 1, 1, 4096, 0, 0, 0, 0, 0) + b"\\0" * 88)  # FS_IOC_ENABLE_VERITY
"""
    (node / "enable.py").write_text(enable)
    script = (
        f"mount --make-rprivate / && mount -o loop {image} {node}/mnt && cp {node}/content {node}/mnt/a.gguf && "
        f"{sys.executable} {node}/enable.py && exec \"$@\""
    )  # fmt: skip
    probe = subprocess.run(["unshare", "--mount", "sh", "-c", script, "sh", "true"], capture_output=True, check=False)
    if probe.returncode != 0:  # this kernel has no fs-verity or no loop device: then there is no digest to tell
        (model,) = data_rows(DataFolder(str(_with_model(node / "plain", content))))[0]["models"]
        assert model[1] == {"format": "gguf", "verity": None}
        return
    block = content.ljust(4096, b"\0")
    descriptor = struct.pack("<BBBBIQ64s32s144x", 1, 1, 12, 0, 0, len(content), hashlib.sha256(block).digest(), b"")
    wanted = "sha256:" + hashlib.sha256(descriptor).hexdigest()
    # `carried` has no shell of its own: the program starts inside the namespace.
    wrapper = node / "python"
    wrapper.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{script}' sh {sys.executable} \"$@\"\n")
    wrapper.chmod(0o755)
    rows = data_rows(DataFolder(str(node / "mnt")), python=str(wrapper))
    (model,) = rows[0]["models"]
    assert model[1] == {"format": "gguf", "verity": wanted}


def _with_model(folder: Path, content: bytes) -> Path:
    """A folder with one model file."""
    folder.mkdir()
    (folder / "a.gguf").write_bytes(content)
    return folder


# --- dists -------------------------------------------------------------------------------------


def _dist(root: Path, name: str, version: str, *, installer: str = "pip\n", direct: str = "", form: str = "dist-info") -> None:
    folder = root / f"{name}-{version}.{form}"
    folder.mkdir(parents=True)
    (folder / ("METADATA" if form == "dist-info" else "PKG-INFO")).write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if installer:
        (folder / "INSTALLER").write_text(installer)
    if direct:
        (folder / "direct_url.json").write_text(direct)


def test_dists_of_folders(node: Path) -> None:
    root = node / "site-packages"
    _dist(root, "torch", "2.9.1")
    _dist(root, "mine", "0.1", direct='{"url": "file:///x", "dir_info": {"editable": true}}')
    _dist(root, "forked", "1.0", direct='{"url": "https://u:hunter2xyz@h/x", "vcs_info": {"vcs": "git"}}')
    _dist(root, "wheel_url", "3", direct='{"url": "https://u:hunter2xyz@h/x.whl"}', installer="uv\n")
    _dist(root, "old", "0.9", form="egg-info", installer="")
    (root / "legacy-1.2-py3.11.egg-info").write_text("Metadata-Version: 1.0\nName: legacy\nVersion: 1.2\n")
    (root / "noversion.egg-info").mkdir()
    (root / "noversion.egg-info/PKG-INFO").write_text("Name: noversion\nVersion: 4.5\n")
    (root / "~orch-2.9.dist-info").mkdir()
    (root / "torch").mkdir()
    (root / "x-1.dist-info").symlink_to("/etc/shadow")
    asked = ask([source("it", "dists", roots={"system": [f"{node}/site-*", f"{node}/none"]}, homes={})])
    found = asked.rows("it")
    assert (
        found["roots"] == [[str(root), "system", None, os.getuid(), root.stat().st_mode & 0o7777, root.stat().st_gid]]
        and found["gaps"] == []
    )
    assert sorted(row[1:] for row in found["dists"]) == [
        ["forked", "1.0", "pip", "vcs", "dist-info"], ["legacy", "1.2", None, None, "egg-info"], ["mine", "0.1", "pip", "editable", "dist-info"],
        ["noversion", "4.5", None, None, "egg-info"], ["old", "0.9", None, None, "egg-info"], ["torch", "2.9.1", "pip", None, "dist-info"],
        ["wheel_url", "3", "uv", "url", "dist-info"], ["x", "1", None, None, "dist-info"],
    ]  # fmt: skip
    assert b"hunter2" not in asked["it"].body


def test_conda_environments_and_hostile_names(node: Path) -> None:
    meta = node / "conda-meta"
    meta.mkdir()
    for name in ("numpy-2.1.0-py312h1.json", "python-dateutil-2.9-0.json", "history", "broken.json"):
        (meta / name).touch()
    root = node / "site"
    root.mkdir()
    for hostile in (b"\xff-1.dist-info", b"a\nb-2.dist-info", b"-.dist-info", b".dist-info"):
        Path(os.fsdecode(os.fsencode(root) + b"/" + hostile)).mkdir()
    found = ask([source("it", "dists", roots={"conda-meta": [str(meta)], "venv": [str(root)]}, homes={})]).rows("it")
    rows = [row[1:] for row in found["dists"] if row[5] == "conda"]
    assert rows == [["numpy", "2.1.0", "conda", None, "conda"], ["python-dateutil", "2.9", "conda", None, "conda"]]
    json.dumps(found).encode("utf-8")


def test_dists_of_homes(node: Path) -> None:
    home = node / "home/ann"
    _dist(home / ".local/lib/python3.11/site-packages", "vllm", "0.11")
    passwd = node / "passwd"
    passwd.write_text(f"root:x:0:0::/root:/bin/sh\nann:x:12345:12345::{home}:/bin/sh\nsys:x:9:9::/nonexistent:/x\n")
    found = home_rows(passwd, "dists", roots={}, homes={"user": [".local/lib/python3*/site-packages"]})
    assert [root[:3] for root in found["roots"]] == [[f"{home}/.local/lib/python3.11/site-packages", "user", "ann"]]
    assert found["dists"] == [[0, "vllm", "0.11", "pip", None, "dist-info"]]


def test_dists_folder_that_may_not_be_read_is_a_gap(node: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("what another account may not read is not tried here: not root")
    (node / "closed").mkdir(mode=0o700)

    def become() -> None:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)

    it = source("it", "dists", roots={"venv": [str(node / "closed"), str(node / "closed/x*/y")]}, homes={})
    found = json.loads(carried([it], python="/usr/bin/python3", preexec=become).frames["it"].body)
    assert found["dists"] == [] and len(found["gaps"]) == 2 and all("denied" in gap or "Permission" in gap for gap in found["gaps"])
