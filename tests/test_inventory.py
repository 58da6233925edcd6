# SPDX-License-Identifier: Apache-2.0
"""The inventory through the real Ansible."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fleet_audit import inventory
from fleet_audit.model import Become, FleetAuditError, Host, Secret

pytestmark = pytest.mark.slow

VAULT = "$ANSIBLE_VAULT;1.1;AES256"


@pytest.fixture(autouse=True)
def _no_ansible_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", write(tmp_path / "empty.cfg", "[defaults]\n"))
    monkeypatch.setenv("ANSIBLE_HOME", str(tmp_path / ".ansible"))
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")  # Ansible reads group_vars of the current folder, too


def write(path: Path, text: str, mode: int = 0o644) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def encrypt(text: str, password: str = "right") -> str:
    from ansible.parsing.vault import VaultLib, VaultSecret

    lib = VaultLib([("default", VaultSecret(password.encode()))])
    return str(lib.encrypt(text.encode()).decode())


def vaulted(text: str) -> str:
    lines = encrypt(text).splitlines()
    return "!vault |\n" + "".join(f"  {line}\n" for line in lines)


def load(source: str | None, **more: Any) -> list[Host]:
    """The selected hosts."""
    return list(inventory.load(source, **more).hosts)


def failure(source: str, **more: object) -> str:
    with pytest.raises(FleetAuditError) as caught:
        load(source, **more)
    text = str(caught.value)
    assert "Traceback" not in text
    return text


def test_none_is_this_machine() -> None:
    (host,) = load(None, become=True, become_password=Secret("x"))
    assert (host.name, host.connection) == (socket.gethostname(), "local")
    assert host.become == Become("sudo", "root", Secret("x"))


@pytest.mark.parametrize("text", ["b,a", "b,a,", " b , a "])
def test_comma_list(text: str) -> None:
    hosts = load(text)
    assert [h.name for h in hosts] == ["a", "b"]
    assert hosts[0].address == "a"
    assert hosts[0].connection == "ssh"
    assert hosts[0].become is None
    assert hosts[0].ssh_args == ()  # not Ansible's own ControlMaster


def test_one_host_and_port_in_a_list() -> None:
    (host,) = load("10.0.0.1:2222,")
    assert (host.address, host.port) == ("10.0.0.1", 2222)


def test_ini_groups_and_variables(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hosts",
        "bare\n[gpu]\nn[1:2] ansible_host=10.0.0.1 ansible_port=2200\n[gpu:vars]\nansible_user=audit\n[site:children]\ngpu\n",
    )
    write(tmp_path / "group_vars" / "gpu.yml", "ansible_ssh_private_key_file: ~/key\nrack: r7\n")
    write(
        tmp_path / "host_vars" / "n1.yml",
        "ansible_host: '{{ rack }}-{{ inventory_hostname }}'\nansible_ssh_user: me\n",
    )
    bare, n1, n2 = load(path)
    assert bare.groups == ()
    assert (n1.groups, n1.address, n1.port, n1.user) == (("gpu", "site"), "r7-n1", 2200, "me")
    assert (n2.address, n2.user, n2.key_file) == ("10.0.0.1", "audit", str(Path("~/key").expanduser()))
    assert n1.origin == path


def test_yaml_become_archive_connection_and_hostvars(tmp_path: Path) -> None:
    path = write(
        tmp_path / "hosts.yml",
        """
all:
  vars: {ansible_become: "{{ root_wanted }}", root_wanted: true, ansible_become_password: geheim}
  hosts:
    a: {ansible_connection: paramiko_ssh, ansible_become_method: doas, ansible_become_user: toor}
    b: {fleet_audit_archive: nodes/b, fleet_audit_expected: false, ansible_become: "no"}
    c: {fleet_audit_transport: openssh, ansible_host: "{{ hostvars['a'].inventory_hostname }}.lan"}
    d: {ansible_connection: local, ansible_sudo_pass: other}
    e: {ansible_ssh_common_args: '-J jump', ansible_ssh_extra_args: '-o "User=x y"', ansible_ssh_pass: pw}
""",
    )
    a, b, c, d, e = load(path)
    assert (a.connection, a.become) == ("paramiko", Become("doas", "toor", Secret("geheim")))
    assert (b.connection, b.address, b.expected) == ("archive", str(tmp_path / "nodes" / "b"), False)
    assert b.become is None
    assert (c.connection, c.address) == ("openssh", "a.lan")
    assert d.connection == "local"
    assert d.become is not None
    assert d.become.password == Secret("other")
    assert e.ssh_args == ("-J", "jump", "-o", "User=x y")
    assert e.password == Secret("pw")
    shown = repr([a, b, c, d, e])
    assert "geheim" not in shown
    assert "'pw'" not in shown


def test_folder_and_script(tmp_path: Path) -> None:
    write(tmp_path / "inv" / "1.yml", "all: {hosts: {a: }}")
    answer = '{"g": {"hosts": ["b"]}, "_meta": {"hostvars": {"b": {"ansible_port": 23}}}}'
    script = f"#!/bin/sh\necho noise >&2\necho '{answer}'\n"
    write(tmp_path / "inv" / "2.sh", script, 0o755)
    a, b = load(str(tmp_path / "inv"))
    assert (a.name, b.name, b.groups, b.port) == ("a", "b", ("g",), 23)


def test_what_is_given_wins(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "a ansible_user=u ansible_password=p ansible_ssh_private_key_file=/k\n")
    (host,) = load(
        path,
        user="me",
        private_key="key",
        become=True,
        become_password=Secret("b"),
        login_password=Secret("l"),
    )
    assert (host.user, host.key_file, host.password) == ("me", str(Path.cwd() / "key"), Secret("l"))
    assert host.become == Become("sudo", "root", Secret("b"))


def test_ansible_cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = write(
        tmp_path / "ansible.cfg",
        "[defaults]\nremote_user = cfguser\nprivate_key_file = /cfg/key\nremote_port = 2022\n"
        "[privilege_escalation]\nbecome = true\nbecome_user = admin\n"
        "[ssh_connection]\nssh_args = -o Compression=yes\n",
    )
    monkeypatch.setenv("ANSIBLE_CONFIG", cfg)
    a, b = load(write(tmp_path / "hosts", "a\nb ansible_user=own ansible_become=false\n"))
    assert (a.user, a.key_file, a.port, a.ssh_args) == (
        "cfguser",
        "/cfg/key",
        2022,
        ("-o", "Compression=yes"),
    )
    assert a.become == Become("sudo", "admin", None)
    assert (b.user, b.become) == ("own", None)


def test_broken_ansible_cfg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = write(tmp_path / "ansible.cfg", "[defaults\nno section\n")
    monkeypatch.setenv("ANSIBLE_CONFIG", cfg)
    assert cfg in failure("a,")


def test_limit(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "[gpu]\nn[1:9]\n[login]\nl1\n")
    assert [h.name for h in load(path, limit="gpu:!n[3:9]:!n9")][:2] == ["n1", "n2"]
    assert [h.name for h in load(path, limit="l*")] == ["l1"]
    assert "--limit 'x*' matches no host" in failure(path, limit="x*")


def test_vault(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "a ansible_become=true\n")
    write(
        tmp_path / "host_vars" / "a.yml",
        "secret: " + vaulted("hunter2") + "ansible_become_password: '{{ secret }}'\n",
    )
    right, wrong = write(tmp_path / "right", "right\n"), write(tmp_path / "wrong", "wrong\n")
    (host,) = load(path, vault_password_file=right)
    assert host.become is not None
    assert host.become.password == Secret("hunter2")
    for more in ({}, {"vault_password_file": wrong}):
        text = failure(path, **more)
        assert "--vault-password-file" in text
        assert "host a" in text
        assert "ansible_become_password" in text
    assert "gone" in failure(path, vault_password_file=str(tmp_path / "gone"))


def test_vaulted_file(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "a\n")
    vars_file = write(tmp_path / "group_vars" / "all" / "vault.yml", encrypt("ansible_password: hunter2\n"))
    (host,) = load(path, vault_password_file=write(tmp_path / "right", "right"))
    assert host.password == Secret("hunter2")
    text = failure(path)
    assert "--vault-password-file" in text
    assert vars_file in text or "vault" in text


def test_undefined_variable(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "ok\nbad ansible_host='{{ nowhere }}.lan'\n")
    text = failure(path)
    for part in ("host bad", "ansible_host", "{{ nowhere }}.lan", "'nowhere' is undefined"):
        assert part in text


def test_other_undefined_variables_do_not_matter(tmp_path: Path) -> None:
    assert load(write(tmp_path / "hosts", "ok other='{{ nowhere }}'\n"))


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("hosts.yml", "all:\n  hosts:\n    a:\n   b: {\n", True),
        ("hosts.yml", "all:\n  hosts: [a]\n", False),
        ("hosts.ini", "[gpu\na\n", True),
        ("hosts", "a\n[gpu:vars]\nno equals sign\n", True),
        ("hosts.yml", "just text", False),
    ],
)
def test_malformed(tmp_path: Path, name: str, text: str, line: bool) -> None:
    path = write(tmp_path / name, text)
    said = failure(path)
    assert path in said
    if line:
        assert f"{path}:" in said
        assert said.split(f"{path}:")[1][0].isdigit()


def test_malformed_variables_name_file_and_line(tmp_path: Path) -> None:
    path = write(tmp_path / "hosts", "a\n")
    broken = write(tmp_path / "group_vars" / "all.yml", "x: 1\ny: [\n")
    assert f"{broken}:" in failure(path)


def test_one_bad_file_of_a_folder_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "inv" / "1.yml", "all: {hosts: {a: }}")
    bad = write(tmp_path / "inv" / "2.yml", "all: {hosts: [")
    assert bad in failure(str(tmp_path / "inv"))


def test_empty_missing_unreadable(tmp_path: Path) -> None:
    assert "names no host" in failure(write(tmp_path / "hosts", "# nobody\n"))
    assert "no such inventory" in failure(str(tmp_path / "gone"))
    assert "'solo,'" in failure("solo")
    for text in ("", ",", " , "):
        assert "empty" in failure(text)


def test_failing_script(tmp_path: Path) -> None:
    path = write(tmp_path / "dyn.sh", "#!/bin/sh\necho boom >&2\nexit 3\n", 0o755)
    text = failure(path)
    assert path in text
    assert "boom" in text or "script" in text


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ("ansible_port=70000", "ansible_port"),
        ("ansible_port=ssh", "port"),
        ("ansible_connection=docker", "'docker'"),
        ("fleet_audit_transport=pigeon", "'pigeon'"),
        ("ansible_become=true ansible_become_method=su", "'su'"),
        ("ansible_become=perhaps", "'perhaps'"),
        ("ansible_host=-oProxyCommand=x", "ansible_host"),
        ("ansible_user='a b'", "ansible_user"),
        ("ansible_ssh_extra_args='\"'", "SSH arguments"),
    ],
)
def test_bad_values_name_the_host(tmp_path: Path, variables: str, part: str) -> None:
    text = failure(write(tmp_path / "hosts", f"fine\nbad {variables}\n"))
    assert "bad" in text
    assert part in text


def test_bad_names(tmp_path: Path) -> None:
    path = write(tmp_path / "h.yml", 'all: {hosts: {"a/b": }}')
    assert "slash" in failure(path)
    path = write(tmp_path / "h.yml", 'all: {hosts: {"a\\nb": }}')
    assert "printable" in failure(path)


def test_a_module_of_the_current_folder_is_not_loaded(tmp_path: Path) -> None:
    write(Path.cwd() / "yaml.py", "raise SystemExit('hijacked')\n")
    assert load("a,")
