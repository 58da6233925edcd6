# SPDX-License-Identifier: Apache-2.0
"""Settings through the real `ssh -G`."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.model import FleetAuditError, Host, HostName, Secret
from fleet_audit.transport.dispatch import choose
from fleet_audit.transport.knownhosts import KnownHosts
from fleet_audit.transport.settings import Hop, Resolver, Settings, with_known_hosts

pytestmark = pytest.mark.skipif(shutil.which("ssh") is None, reason="no ssh client here")


@pytest.fixture(autouse=True)
def _no_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KRB5CCNAME", raising=False)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def host(*args: str, address: str = "node1", **more: Any) -> Host:
    return Host(HostName("n"), address=address, ssh_args=args, **more)


def config(tmp_path: Path, text: str) -> tuple[str, str]:
    path = tmp_path / "config"
    path.write_text(text)
    return "-F", str(path)


def resolve(*args: str, **more: Any) -> Settings:
    return Resolver().resolve(host(*args, **more))


class Counting(Resolver):
    calls = 0

    def _run(self, host: Host, given: list[str], name: str) -> dict[str, list[str]]:
        type(self).calls += 1
        return super()._run(host, given, name)


def test_defaults() -> None:
    found = resolve("-F", "none")
    assert (found.hostname, found.port, found.strict, found.proxy_jump) == ("node1", 22, "yes", ())
    assert found.needs_openssh == ""
    assert (found.identity_agent, found.identities_only, found.known_name) == (None, False, ("node1", 22))
    assert found.known_hosts_files[0].endswith("/.ssh/known_hosts")
    assert "/etc/ssh/ssh_known_hosts" in found.known_hosts_files


def test_what_the_configuration_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", str(tmp_path))
    for name in ("id", "node1.key"):
        (tmp_path / name).write_text("x")
    (tmp_path / "more").write_text("Host node*\n  Port 2022\n  HostKeyAlias %n.alias\n")
    args = config(
        tmp_path,
        f"""Include {tmp_path}/more
Match host node1
  User matched
Host *
  HostName 10.0.0.1
  IdentityFile {tmp_path}/id
  IdentityFile ${{KEYS}}/%n.key
  IdentityFile {tmp_path}/gone
  IdentitiesOnly yes
  IdentityAgent {tmp_path}/agent-%r
  UserKnownHostsFile {tmp_path}/kh-%h ~/kh
  GlobalKnownHostsFile none
  StrictHostKeyChecking accept-new
  AddressFamily inet
""",
    )
    found = resolve(*args)
    assert (found.hostname, found.port, found.user) == ("10.0.0.1", 2022, "matched")
    assert found.identity_files == (f"{tmp_path}/id", f"{tmp_path}/node1.key")
    assert (found.identities_only, found.identity_agent) == (True, f"{tmp_path}/agent-matched")
    assert found.known_hosts_files[0] == f"{tmp_path}/kh-10.0.0.1"
    assert len(found.known_hosts_files) == 2
    assert (found.strict, found.needs_openssh) == ("accept-new", "AddressFamily is set")
    assert found.host_key_alias is not None
    assert found.known_name == (found.host_key_alias, 22)


def test_the_inventory_wins(tmp_path: Path) -> None:
    mine = tmp_path / "my key"
    mine.write_text("x")
    args = config(tmp_path, "Host *\n  User other\n  Port 1\n")
    found = resolve(*args, user="me", port=2200, key_file=str(mine))
    assert (found.user, found.port, found.identity_files) == ("me", 2200, (str(mine),))
    assert "does not exist" in resolve(*args, key_file=str(tmp_path / "gone")).notes[0]


@pytest.mark.parametrize(("word", "want"), [("no", "no"), ("off", "no"), ("ask", "yes"), ("yes", "yes")])
def test_strict(word: str, want: str) -> None:
    assert resolve("-F", "none", "-o", f"StrictHostKeyChecking={word}").strict == want


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("ProxyCommand=nc %h %p", "ProxyCommand is set"),
        ("PKCS11Provider=/lib/x.so", "PKCS11Provider is set"),
        ("VerifyHostKeyDNS=yes", "VerifyHostKeyDNS is set"),
        ("KnownHostsCommand=/bin/true", "KnownHostsCommand is set"),
        ("CanonicalizeHostname=yes", "CanonicalizeHostname is set"),
        ("HostbasedAuthentication=yes", "HostbasedAuthentication is set"),
        ("BindAddress=127.0.0.1", "BindAddress is set"),
        ("ProxyJump=x", ""),
        ("ControlMaster=auto", ""),
        ("StrictHostKeyChecking=accept-new", "StrictHostKeyChecking is accept-new, and ssh writes down what it accepts"),
    ],
)
def test_why_openssh(option: str, reason: str) -> None:
    assert resolve("-F", "none", "-o", option).needs_openssh == reason


def test_gssapi_matters_only_with_a_ticket(monkeypatch: pytest.MonkeyPatch) -> None:
    args = ("-F", "none", "-o", "GSSAPIAuthentication=yes")
    monkeypatch.setattr("fleet_audit.transport.settings.has_ticket", lambda: False)
    assert resolve(*args).needs_openssh == ""
    monkeypatch.setattr("fleet_audit.transport.settings.has_ticket", lambda: True)
    assert "Kerberos" in resolve(*args).needs_openssh
    assert resolve(*args, password=Secret("x")).needs_openssh == ""


def test_fido_keys(tmp_path: Path) -> None:
    fido, plain = tmp_path / "fido", tmp_path / "plain"
    fido.write_text("x")
    plain.write_text("x")
    (tmp_path / "fido.pub").write_text("sk-ssh-ed25519@openssh.com AAAA")
    assert "FIDO" in resolve("-F", "none", key_file=str(fido)).needs_openssh
    assert resolve("-F", "none", "-i", str(plain), key_file=str(fido)).needs_openssh == ""


def test_jumps(tmp_path: Path) -> None:
    hops = (Hop("a", "me", 2222), Hop("2001:db8::1", None, 99), Hop("c"))
    text = "me@a:2222,[2001:db8::1]:99,c"
    for args in (("-J", text), ("-o", f"ProxyJump={text}"), ("-o", f"ProxyJump {text}")):
        assert resolve("-F", "none", *args).proxy_jump == hops
    assert resolve(*config(tmp_path, f"Host node1\n  ProxyJump {text}\n")).proxy_jump == hops
    assert resolve("-F", "none", "-J", "none").proxy_jump == ()


def test_jump_hosts_have_settings_of_their_own(tmp_path: Path) -> None:
    args = config(tmp_path, "Host a\n  User jumper\n  Port 2\n  ProxyJump far\nHost node1\n  ProxyJump a,b\n")
    ours = host(*args, "-o", "StrictHostKeyChecking=no", user="me", password=Secret("x"))
    resolver = Resolver()
    first, second = resolver.resolve(ours).proxy_jump
    one = resolver.hop_settings(ours, first, ())
    two = resolver.hop_settings(ours, second, (first,))
    assert (one.user, one.port, one.strict, one.proxy_jump) == ("jumper", 2, "yes", (Hop("far"),))
    assert (two.hostname, two.proxy_jump) == ("b", (Hop("a"),))
    assert one.host.password is None


def test_a_circle_of_jumps(tmp_path: Path) -> None:
    args = config(tmp_path, "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")
    with pytest.raises(FleetAuditError, match="circle"):
        Resolver().hop_settings(host(*args, "-J", "a"), Hop("a"), ())


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("Host *\n  User u\n", 1),
        ("User = u\n", 1),
        ("Host node2\n  User u\n", 3),
        ("Match all\n  User u\n", 3),
        ("HostName %h.lan\n", 3),
        ("Include FOLDER/part\n", 3),
    ],
)
def test_one_question_for_all_hosts_that_cannot_differ(tmp_path: Path, text: str, calls: int) -> None:
    (tmp_path / "part").write_text("Host node*\n  Port 1\n")
    args = config(tmp_path, text.replace("FOLDER", str(tmp_path)))
    Counting.calls = 0
    counting = Counting()
    for name in ("node1", "Node2", "10.0.0.3"):
        ours = host(*args, address=name)
        found = counting.resolve(ours)
        assert found == replace(Resolver().resolve(ours))
        assert found.hostname.startswith(name.lower())
    assert Counting.calls == calls


def test_errors_in_ssh_s_words(tmp_path: Path) -> None:
    args = config(tmp_path, "Host *\n  NoSuchWord yes\n")
    with pytest.raises(FleetAuditError, match=r"(?s)host n: .*config.*line 2.*nosuchword"):
        resolve(*args)
    for address in ("-oProxyCommand=touch x", "a b", "--"):
        with pytest.raises(FleetAuditError, match="host n: "):
            resolve("-F", str(tmp_path / "config2"), address=address)


def test_a_name_that_looks_like_an_option_is_a_name(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    args = config(tmp_path, "Host node1\n")  # not shared: the name goes to ssh
    with pytest.raises(FleetAuditError):
        resolve(*args, address=f"-oProxyCommand=touch${{IFS}}{marker}")
    assert not marker.exists()


def test_without_an_ssh_client() -> None:
    found = Resolver(ssh=None).resolve(host("-J", "x", user="me", port=2))
    assert (found.user, found.port, found.hostname, found.strict) == ("me", 2, "node1", "yes")
    assert "no ssh client" in found.notes[0]
    assert "-J x" in found.notes[1]


def test_known_hosts_decide_too() -> None:
    def line(kind: str) -> str:
        blob = len(kind).to_bytes(4, "big") + kind.encode() + b"rest"
        return f"node1 {kind} {base64.b64encode(blob).decode()}\n"

    def reason(text: str) -> str:
        known = KnownHosts()
        known.add(text.encode(), "kh")
        return with_known_hosts(resolve("-F", "none"), known)[0].needs_openssh

    assert reason(line("ssh-rsa")) == ""
    assert reason("@cert-authority " + line("ssh-rsa")) == "@cert-authority for this host in kh:1"
    assert "FIDO" in reason(line("sk-ssh-ed25519@openssh.com"))
    assert reason(line("sk-ssh-ed25519@openssh.com") + line("ssh-rsa")) == ""


def test_a_jump_host_may_need_openssh_too(tmp_path: Path) -> None:
    args = config(tmp_path, "Host bastion\n  ProxyCommand nc %h %p\n  UserKnownHostsFile none\nHost node*\n  UserKnownHostsFile none\n")
    through = host(*args, "-o", "ProxyJump=plain,bastion", address="node1")
    assert choose(through) == ("openssh", "jump host bastion: ProxyCommand is set")
    assert choose(host(*args, "-o", "ProxyJump=plain", address="node1"))[0] == "paramiko"
