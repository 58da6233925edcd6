# SPDX-License-Identifier: Apache-2.0
"""The readers of accounts (`colon`, `keys`, `tokens`, `home_lines`), by the real program with homes of the test's own.

The homes are listed in a file that lies over /etc/passwd in a mount namespace of the program alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.collect import Collector, Limits
from fleet_audit.evidence import Objects
from fleet_audit.model import Host, HostName
from fleet_audit.probe import pack
from fleet_audit.probe.node.accounts import key_of, kinds_of, open_in_home, password_state
from fleet_audit.probe.node.base import Unread
from fleet_audit.probe.node.files import Files
from fleet_audit.transport.dispatch import Dispatch
from tests.probe.helpers import ask, source
from tests.probe.nodes import carried, home_rows, opened_to_all

pytestmark = pytest.mark.slow
ANN, BOB = 12345, 12346
HF = "hf_" + "AbCdEfGh1234" * 3


class Homes:
    """Two homes, and what lies in them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passwd = folder / "passwd"
        lines = ["root:x:0:0:root:/root:/bin/sh", "sys:x:3:3::/nonexistent:/x", "broken", "odd:x:y:z::/x:/y"]
        for user, uid in (("ann", ANN), ("bob", BOB)):
            (folder / user).mkdir(mode=0o755)
            os.chown(folder / user, uid, uid)
            lines.append(f"{user}:x:{uid}:{uid}::{folder}/{user}:/bin/sh")
        self.passwd.write_text("\n".join(lines) + "\n")

    def put(self, path: str, content: str | bytes, *, mode: int = 0o600, uid: int | None = None) -> Path:
        """A file in a home, owned as all of it."""
        where = self.folder / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content if isinstance(content, bytes) else content.encode())
        where.chmod(mode)
        owner = uid if uid is not None else ANN if path.startswith("ann") else BOB
        for part in (where, *[p for p in where.parents if self.folder in p.parents]):
            os.chown(part, owner if part == where else self.folder.joinpath(path.split("/")[0]).stat().st_uid, -1)
        return where

    def rows(self, reader: str, **args: Any) -> dict[str, Any]:
        """Rows of the homes alone, by their path below the folder."""
        found = home_rows(self.passwd, reader, **args)
        return {path.removeprefix(f"{self.folder}/"): row for path, row in found.items() if path.startswith(str(self.folder))}


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    """Homes that everybody may enter."""
    if os.geteuid() != 0:
        pytest.skip("homes of other accounts are not tried here: not root")
    return Homes(opened_to_all(tmp_path))


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """{type: (public line, fingerprint by ssh-keygen)} of fresh keys."""
    folder, made = tmp_path_factory.mktemp("keys"), {}
    for kind, bits in (("rsa", "2048"), ("ed25519", ""), ("ecdsa", "384")):
        path = folder / kind
        size = ["-b", bits] if bits else []
        try:
            subprocess.run(["ssh-keygen", "-q", "-t", kind, *size, "-N", "", "-C", "secret comment", "-f", str(path)], check=True)
            said = subprocess.run(["ssh-keygen", "-lf", f"{path}.pub"], capture_output=True, text=True, check=True).stdout
        except FileNotFoundError:
            pytest.skip("the mirror lacks ssh-keygen here")
        made[kind] = (path.with_suffix(".pub").read_text().strip(), said.split()[1])
    return made


# --- keys --------------------------------------------------------------------------------------


def test_authorized_keys_give_fingerprints_and_options_and_no_comment(homes: Homes, keys: dict[str, tuple[str, str]]) -> None:
    rsa, ed, ecdsa = (keys[k][0] for k in ("rsa", "ed25519", "ecdsa"))
    homes.put(
        "ann/.ssh/authorized_keys",
        f'# comment\n{rsa}\n\nno-pty,from="10.0.0.0/8,!10.1.*",command="echo \\"hunter2xyz\\" a b" {ed}\nrestrict,cert-authority {ecdsa}\n'
        "this is no key\nssh-rsa AAAA short\n",
    )
    row = homes.rows("keys", names=[".ssh/authorized_keys"])["ann/.ssh/authorized_keys"]
    assert (row["users"], row["mode"], row["uid"], row["odd"]) == (["ann"], 0o600, ANN, 2)
    assert [(k["type"], k["fingerprint"], k["bits"]) for k in row["keys"]] == [
        ("ssh-rsa", keys["rsa"][1], 2048), ("ssh-ed25519", keys["ed25519"][1], None), ("ecdsa-sha2-nistp384", keys["ecdsa"][1], None),
    ]  # fmt: skip
    assert row["keys"][1]["options"] == ["no-pty", "from", "command"] and row["keys"][1]["from"] == "10.0.0.0/8,!10.1.*"
    assert row["keys"][2]["options"] == ["restrict", "cert-authority"]
    assert "hunter2" not in json.dumps(row) and "secret comment" not in json.dumps(row)


def test_keys_of_a_folder_by_user_name(homes: Homes, keys: dict[str, tuple[str, str]]) -> None:
    folder = homes.folder / "keys.d"
    folder.mkdir()
    (folder / "bob").write_text(keys["ed25519"][0])
    found = home_rows(homes.passwd, "keys", names=[f"{folder}/%u"])
    assert list(found) == [f"{folder}/bob"] and found[f"{folder}/bob"]["users"] == ["bob"] and found[f"{folder}/bob"]["uid"] == 0


def test_homes_without_a_file_have_no_row(homes: Homes) -> None:
    assert homes.rows("keys", names=[".ssh/authorized_keys"]) == {}


# --- What a user can do against it ----------------------------------------------------------------


@pytest.mark.parametrize("target", ["/etc/shadow", "/root/.ssh/id_ed25519", "../bob/.ssh/authorized_keys", "/proc/self/environ", "nowhere"])
def test_link_in_a_home_yields_nothing_and_is_a_gap(homes: Homes, target: str) -> None:
    homes.put("bob/.ssh/authorized_keys", "ssh-ed25519 AAAA")
    homes.put("ann/.ssh/x", "")
    (homes.folder / "ann/.ssh/authorized_keys").symlink_to(target)
    for reader, args in (("keys", {}), ("tokens", {}), ("home_lines", {"keep": ["root", "ssh", "PATH", "-", "b"]})):
        row = homes.rows(reader, names=[".ssh/authorized_keys"], **args)["ann/.ssh/authorized_keys"]
        assert row == {"user": "ann", "status": "failed", "detail": "a symbolic link in a user's folder"}, reader


@pytest.mark.parametrize("target", ["/etc", "../bob", "/root", "/proc/self"])
def test_folder_that_is_a_link_is_a_gap_and_not_absent(homes: Homes, target: str) -> None:
    homes.put("bob/passwd", "x")
    (homes.folder / "ann/.ssh").symlink_to(target)
    for names in ([".ssh/passwd"], [".ssh/*"], [".ssh/deep/er"]):
        rows = homes.rows("tokens", names=names)
        assert all("kinds" not in row for path, row in rows.items() if path.startswith("ann")), rows
        assert any(row.get("status") == "failed" for path, row in rows.items() if path.startswith("ann")) or names == [".ssh/*"]


def test_hard_link_to_a_file_of_root_or_of_another_user_yields_nothing(homes: Homes) -> None:
    secret = homes.folder / "of-root"
    secret.write_text(f"token={HF}\n")
    secret.chmod(0o600)
    other = homes.put("bob/.env", f"TOKEN={HF}\n")
    os.link(secret, homes.folder / "ann/.env")
    os.link(other, homes.folder / "ann/.netrc")
    rows = homes.rows("tokens", names=[".env", ".netrc"])
    assert {path: row.get("status") for path, row in rows.items()} == {"ann/.env": "failed", "ann/.netrc": "failed", "bob/.env": None}
    lines = homes.rows("home_lines", names=[".env", ".netrc"], keep=["token"])
    assert "text" not in lines["ann/.env"] and "text" not in lines["ann/.netrc"]


def test_file_of_root_in_a_home_is_read(homes: Homes) -> None:
    homes.put("ann/.docker/config.json", '{"auths": {"r": {"auth": "dXNlcjpodW50ZXIyeHl6"}}}', uid=0)
    assert homes.rows("tokens", names=[".docker/config.json"])["ann/.docker/config.json"]["kinds"] == {"value": 1}


@pytest.mark.parametrize("kind", ["fifo", "folder", "socket", "device"])
def test_what_is_no_regular_file_is_never_opened(homes: Homes, kind: str) -> None:
    path = homes.folder / "ann/.env"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        os.mknod(path, 0o140600)
    else:
        os.mknod(path, 0o20666, os.makedev(1, 5))  # /dev/zero, which never ends
    row = homes.rows("tokens", names=[".env"])["ann/.env"]
    assert row == {"user": "ann", "status": "failed", "detail": "not a regular file"}


def test_file_that_is_too_long_is_truncated_and_tells_nothing(homes: Homes) -> None:
    homes.put("ann/.env", "x" * (1 << 18) + f"\nTOKEN={HF}\n")
    for reader, args in (("tokens", {}), ("home_lines", {"keep": ["TOKEN"]})):
        row = homes.rows(reader, names=[".env"], **args)["ann/.env"]
        assert row["status"] == "truncated" and set(row) == {"user", "status", "detail"}


def test_home_that_is_a_network_file_system_or_hostile_text(homes: Homes) -> None:
    for number in range(3):
        homes.put(
            f"ann/.c/{'é' * number}\udcff".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") + ".conf", f"token={HF}"
        )
    rows = homes.rows("tokens", names=[".c/*.conf"])
    assert len(rows) == 3 and all(row["kinds"] == {"huggingface": 1} for row in rows.values())
    json.dumps(rows).encode("utf-8")


def test_network_file_system_below_a_home_that_is_the_root_is_not_entered(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("")
    files = Files()
    with open(open_in_home(files, "/", f"{tmp_path}/x"[1:], (os.getuid(), 0))):
        pass
    files.mounts = {str(tmp_path): "nfs"}
    with pytest.raises(Unread, match="network file system"):
        open_in_home(files, "/", f"{tmp_path}/x"[1:], (os.getuid(), 0))


def test_more_files_than_the_limit_is_a_gap(homes: Homes) -> None:
    for number in range(201):
        homes.put(f"ann/.c/{number}.env", "")
    assert homes.rows("tokens", names=[".c/*.env"]) == {
        "ann/.c/*.env": {"user": "ann", "status": "truncated", "detail": "more than 200 files"}
    }


def test_accounts_of_a_file_that_is_too_long_are_no_few_accounts(homes: Homes) -> None:
    homes.put("ann/.env", f"token={HF}")
    homes.passwd.write_text("root:x:0:0:root:/root:/bin/sh\n" + ("#" * 1000 + "\n") * 4200 + homes.passwd.read_text())
    for reader in ("tokens", "keys"):
        frame = carried([source("it", reader, names=[".env"])], passwd=homes.passwd).frames["it"]
        assert (frame.status, frame.body) == ("truncated", b"")


# --- tokens ------------------------------------------------------------------------------------

# synthetic: files as their programs write them; no token here was ever valid
HEX40, HEX32 = "0123456789abcdef0123456789abcdef01234567", "0123456789abcdef0123456789abcdef"
FILES: dict[str, tuple[str, dict[str, int]]] = {
    ".cache/huggingface/token": (HF, {"huggingface": 1}),
    ".huggingface/token": (f"{HF}\n", {"huggingface": 1}),
    ".netrc": (f"machine api.wandb.ai\n  login user\n  password {HEX40}\n", {"value": 1}),
    ".netrc2": (f"machine a login b password c1d2e3f4\nmachine d\n login e\n password {HEX40}\n", {"value": 2}),
    ".kaggle/kaggle.json": (f'{{"username":"ann","key":"{HEX32}"}}', {"kaggle": 1}),
    ".aws/credentials": (
        "[default]\naws_access_key_id = AKIAABCDEFGHIJKLMNOP\naws_secret_access_key = abcd/EFGH1234abcd/EFGH1234abcd/EFGH1234\n",
        {"aws": 1, "value": 1},
    ),
    ".config/gcloud/application_default_credentials.json": (
        '{\n  "client_id": "x.apps.googleusercontent.com",\n  "client_secret": "d-FL95Q19q7MQmFpd7hHD0Ty",\n'
        '  "refresh_token": "1//0gABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",\n  "type": "authorized_user"\n}\n',
        {"google": 1, "value": 1},
    ),
    ".docker/config.json": ('{"auths": {"nvcr.io": {"auth": "JG9hdXRodG9rZW46bnZhcGkteHl6"}}, "credsStore": "pass"}', {"value": 1}),
    ".docker/store.json": ('{"auths": {"nvcr.io": {}}, "credsStore": "secretservice"}', {}),
    ".ngc/config": ("[CURRENT]\napikey = nvapi-" + "aB3" * 20 + "\norg = x\n", {"nvidia": 1}),
    ".git-credentials": ("https://ann:ghp_" + "aB3d" * 9 + "@github.com\nhttps://ann:hunter2xyz@git.example\n", {"github": 1, "value": 1}),
    ".config/gh/hosts.yml": ("github.com:\n    oauth_token: gho_" + "aB3d" * 9 + "\n    user: ann\n", {"github": 1}),
    ".pypirc": ("[pypi]\nusername = __token__\npassword = pypi-" + "AgEIcHlwaS5vcmc" * 4 + "\n", {"pypi": 1}),
    ".kube/config": (
        "apiVersion: v1\nusers:\n- name: ann\n  user:\n    client-certificate-data: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t\n"
        "    client-key-data: LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQpNSUlFb3dJQkFBS0NBUUVB\n",
        {"private-key": 1},
    ),
    ".ssh/id_ed25519": (
        "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END OPENSSH PRIVATE KEY-----\n",
        {"private-key": 1},
    ),
    ".ssh/id_ed25519.pub": ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKm9hk0o ann@h\n", {}),
    ".comet.config": ("[comet]\napi_key = aBcD1234aBcD1234aBcD12345\n", {"value": 1}),
    ".env": (f"export OPENAI_API_KEY='sk-proj-{'aB3d' * 12}'\nHF_TOKEN={HF}\nDEBUG=true\n", {"openai": 1, "huggingface": 1}),
    ".config/wandb/settings": ("[default]\nentity = x\nbase_url = https://api.wandb.ai\n", {}),
    ".pgpass": ("*:*:*:ann:hunter2xyz\n", {}),
    ".empty": ("", {}),
    ".binary": ("SQLite format 3\0\0\0" + '{"refresh_token": "abcdefgh12345678", "x": 1}', {"value": 1}),
    ".plain": ("just words\n", {}),
    ".unknown": ("Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZg\n", {"value": 1}),
    ".default": ("password=minioadmin\n", {"default": 1}),
    ".prose": (  # /etc/default/nss of Debian's libc-bin
        "#  use the passwd.adjunct.byname tables to fill in the password data\n#  in the passwd structure.\nADJUNCT_AS_SHADOW=TRUE\n",
        {},
    ),
    ".commented-out": ("# password hunter2xyz\n# the password: hunter2xyz\n", {"value": 2}),
    ".forged": ("<secret:github:40> see <secret:x:1>", {}),
}


@pytest.mark.parametrize("name", FILES)
def test_kinds_of_tokens_in_well_known_files(name: str) -> None:
    content, wanted = FILES[name]
    assert kinds_of(content.encode()) == wanted


def test_long_comment_with_wide_gaps_takes_no_time() -> None:
    begin = time.process_time()
    assert kinds_of(b"#" + b" a  " * 39 + HF.encode()) == {"huggingface": 1}
    assert time.process_time() - begin < 1


def test_tokens_give_kinds_owner_and_reach_and_never_a_value(homes: Homes) -> None:
    for name, (content, _) in FILES.items():
        homes.put(f"ann/{name}", content)
    frame = carried([source("it", "tokens", names=list(FILES))], passwd=homes.passwd).frames["it"]
    rows = {path.removeprefix(f"{homes.folder}/"): row for path, row in json.loads(frame.body).items()}
    for name, (content, kinds) in FILES.items():
        row = rows[f"ann/{name}"]
        assert (row["kinds"], row["user"], row["uid"], row["mode"], row["reach"]) == (kinds, "ann", ANN, 0o600, "owner")
        assert row["size"] == len(content)
    for value in (
        HF,
        HEX40,
        HEX32,
        "nvapi-aB3",
        "ghp_aB3d",
        "hunter2",
        "LS0tLS1",
        "b3BlbnNz",
        "AKIAABCD",
        "EFGH1234",
        "JG9hdXRo",
        "sk-proj-aB",
    ):
        assert value.encode() not in frame.body


@pytest.mark.parametrize(("file", "folder", "home", "reach"), [
    (0o600, 0o755, 0o755, "owner"), (0o640, 0o755, 0o755, "group"), (0o644, 0o755, 0o755, "others"), (0o644, 0o700, 0o755, "owner"),
    (0o644, 0o755, 0o700, "owner"), (0o644, 0o750, 0o755, "group"), (0o604, 0o755, 0o755, "others"), (0o644, 0o711, 0o711, "others"),
    (0o646, 0o755, 0o750, "group"), (0o600, 0o777, 0o777, "owner"),
])  # fmt: skip
def test_reach_is_by_mode_and_the_folders_above(homes: Homes, file: int, folder: int, home: int, reach: str) -> None:
    path = homes.put("ann/.aws/credentials", f"token={HF}", mode=file)
    path.parent.chmod(folder)
    for part in (path, path.parent, homes.folder / "ann"):
        os.chown(part, ANN, ANN)
    (homes.folder / "ann").chmod(home)
    assert homes.rows("tokens", names=[".aws/credentials"])["ann/.aws/credentials"]["reach"] == reach


@pytest.mark.parametrize(("file", "home", "reach"), [
    (0o644, 0o750, "group"), (0o604, 0o750, "group"), (0o640, 0o750, "group"), (0o600, 0o750, "owner"), (0o644, 0o700, "owner"),
    (0o640, 0o701, "group"), (0o640, 0o700, "owner"), (0o604, 0o701, "others"),
])  # fmt: skip
def test_reach_through_a_folder_of_another_group(homes: Homes, file: int, home: int, reach: str) -> None:
    """Who is in the folder's group comes in, and reads the file as all others do."""
    path = homes.put("ann/.env", f"token={HF}", mode=file)
    os.chown(path, ANN, ANN)
    os.chown(homes.folder / "ann", ANN, 50)
    (homes.folder / "ann").chmod(home)
    assert homes.rows("tokens", names=[".env"])["ann/.env"]["reach"] == reach


def test_reach_of_a_group_that_the_file_shuts_out_and_the_folder_alone_lets_in(homes: Homes) -> None:
    path = homes.put("ann/.env", f"token={HF}", mode=0o604)
    for part in (path, homes.folder / "ann"):
        os.chown(part, ANN, 50)
    (homes.folder / "ann").chmod(0o750)
    assert homes.rows("tokens", names=[".env"])["ann/.env"]["reach"] == "owner"


def test_reach_looks_behind_the_link_of_a_home(homes: Homes) -> None:
    homes.put("ann/.env", f"token={HF}", mode=0o644)
    (homes.folder / "closed").mkdir(mode=0o700)
    (homes.folder / "ann").rename(homes.folder / "closed/ann")
    (homes.folder / "ann").symlink_to("closed/ann")
    assert homes.rows("tokens", names=[".env"])["ann/.env"]["reach"] == "owner"


def test_globs_of_the_system(homes: Homes) -> None:
    (homes.folder / "etc").mkdir()
    (homes.folder / "etc/a.sh").write_text(f"export HF_TOKEN={HF}\n")
    (homes.folder / "etc/b.sh").write_text("export PATH=/x\n")
    (homes.folder / "etc/c.sh").symlink_to("a.sh")
    os.mkfifo(homes.folder / "etc/d.sh")
    rows = homes.rows("tokens", names=[], globs=[f"{homes.folder}/etc/*.sh", f"{homes.folder}/none", f"{homes.folder}/no/*"])
    assert {path: row.get("kinds") for path, row in rows.items()} == {
        "etc/a.sh": {"huggingface": 1}, "etc/b.sh": {}, "etc/c.sh": {"huggingface": 1}, "etc/d.sh": None,
    }  # fmt: skip
    assert rows["etc/a.sh"]["user"] is None


# --- home_lines --------------------------------------------------------------------------------


def test_lines_that_begin_so_and_no_others(homes: Homes) -> None:
    homes.put(
        "ann/.jupyter/jupyter_server_config.py",
        "# c.ServerApp.ip = 'x'\nc.ServerApp.ip = '0.0.0.0'\n    c.ServerApp.token = ''\nprivate = 'thoughts'\nc.ServerApp.password = 'sha1:abcdef:"
        + "a" * 40 + "'\n",
    )  # fmt: skip
    row = homes.rows("home_lines", names=[".jupyter/*.py"], keep=["c."])["ann/.jupyter/jupyter_server_config.py"]
    assert row["text"] == "c.ServerApp.ip = '0.0.0.0'\n    c.ServerApp.token = ''\nc.ServerApp.password = '<secret:hash:52>'\n"
    assert (row["user"], row["uid"], row["mode"], row["left"]) == ("ann", ANN, 0o600, 1), "of the other lines their number"


def test_lines_of_a_file_with_no_such_line_are_an_empty_text(homes: Homes) -> None:
    homes.put("ann/.x", b"\xff\xfe nothing")
    assert homes.rows("home_lines", names=[".x"], keep=["c."])["ann/.x"]["text"] == ""


# --- colon -------------------------------------------------------------------------------------

# synthetic: shadow(5) and crypt(5)
STATES = {
    "": "empty", "x": "shadowed", "*": "locked", "!": "locked", "!!": "locked", "!*": "locked", "*LK*": "locked", "$6$salt$hash": "set 6",
    "$y$j9T$salt$hash": "set y", "!$6$salt$hash": "locked 6", "!!$5$salt$hash": "locked 5", "$1$salt$hash": "set 1", "$2b$12$salthash": "set 2b",
    "$gy$j9T$s$h": "set gy", "$sha1$40000$salt$hash": "set sha1", "abJnggxhB/yWI": "set des", "_J9..rasmBYk8r9AiWNc": "set des", "plain": "set other",
}  # fmt: skip


@pytest.mark.parametrize("field", STATES)
def test_password_fields_become_states(field: str) -> None:
    assert password_state(field) == STATES[field]


def test_shadow_is_reduced_and_dropped_fields_are_empty(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("".join(f"u{i}:{field}:19000:0:99999:7:::extra\n" for i, field in enumerate(STATES)) + "short\n")
    asked = ask([source("it", "colon", paths=[str(tmp_path / "shadow")], fields=8, secret=[1], drop=[5])])
    lines = asked["it"].body.decode().splitlines()
    assert lines[0] == "u0:empty:19000:0:99999:::" and lines[-1] == "short"
    assert [line.split(":")[1] for line in lines[:-1]] == list(STATES.values())
    assert b"hash" not in asked["it"].body and b"extra" not in asked["it"].body


def test_shadow_that_only_its_hashes_make_longer_than_its_cap_is_truncated(tmp_path: Path) -> None:
    (tmp_path / "shadow").write_text("".join(f"u{i}:$6$salt${'h' * 86}:19000::::::\n" for i in range(20)) + "toor::19000::::::\n")
    asked = ask([source("it", "colon", paths=[str(tmp_path / "shadow")], fields=9, secret=[1], cap_bytes=1000)])
    assert asked.status("it") == "truncated" and not asked["it"].body


def test_this_machines_shadow_shows_no_hash() -> None:
    if os.geteuid() != 0:
        pytest.skip("the shadow file is not read here: not root")
    asked = ask([source("it", "colon", paths=["/etc/shadow"], fields=9, secret=[1])])
    assert asked.status("it") == "ok" and b"$" not in asked["it"].body and asked["it"].body.count(b"\n") > 5


@pytest.fixture(autouse=True)
def _nothing_of_this_machine_changes() -> Iterator[None]:
    before = Path("/etc/passwd").read_bytes()
    yield
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize(
    "line", ["", "ssh-rsa", "ssh-rsa !!!!", "ssh-ed25519 " + "A" * 44, "x" * 5000, "ssh-rsa " + "A" * 400, 'command="' + "\\" * 4000]
)
def test_lines_that_are_no_key(line: str) -> None:
    assert key_of(line) is None


def test_keys_of_accounts_that_share_a_home_have_none_or_live_in_the_root(tmp_path: Path, keys: dict[str, tuple[str, str]]) -> None:
    """A second uid 0 whose home is /, an account without a home but with a file of its own, two that share one."""
    root = tmp_path / "node" / "files"
    for path in ("home/alice/.ssh/authorized_keys", ".ssh/authorized_keys", "etc/ssh/authorized_keys/svc", "etc/ssh/authorized_keys/bob"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(keys["ed25519"][0] + "\n")
    (root / "etc/passwd").write_text(
        "alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home/alice:/bin/sh\n"
        "toor:x:0:0::/:/bin/sh\nsvc:x:990:990::/nonexistent:/bin/sh\n"
    )
    (tmp_path / "node/node.toml").write_text('name = "n"\nprovenance = "synthetic, for this test"\nsynthetic = true\n')
    it = source("it", "keys", names=[".ssh/authorized_keys", "/etc/ssh/authorized_keys/%u"])
    objects = Objects(tmp_path / "objects")
    found = Collector(pack.build([it]), [it.id], objects, Limits(), Dispatch()).host(
        Host(HostName("n"), address=str(tmp_path / "node"), connection="archive"), "archive"
    )
    (record,) = found.records
    assert record.sha256 is not None, (found.reach, found.detail, record)
    rows = json.loads(objects.get(record.sha256))
    assert {path: entry["users"] for path, entry in rows.items()} == {
        "/home/alice/.ssh/authorized_keys": ["alice", "bob"], "/.ssh/authorized_keys": ["toor"],
        "/etc/ssh/authorized_keys/svc": ["svc"], "/etc/ssh/authorized_keys/bob": ["bob"],
    }  # fmt: skip
