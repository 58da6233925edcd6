# SPDX-License-Identifier: Apache-2.0
"""The effective SSH settings of a host: what `ssh -G` says, given what the inventory says.

paramiko's own reader of ssh_config loses Include and misreads Match, so OpenSSH's is asked.
Source: ssh(1), ssh_config(5).
"""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from fleet_audit.model import FleetAuditError, Host, HostName
from fleet_audit.transport.knownhosts import KnownHosts, Match
from fleet_audit.transport.sshconfig import (
    Hop as Hop,
)
from fleet_audit.transport.sshconfig import (
    config_option,
    expand,
    has_ticket,
    home,
    hops,
    is_fido,
    is_same_for_all,
    make_tokens,
    percent,
)

TIMEOUT_S = 20.0
"""For one `ssh -G`: a `Match exec` of the user's may hang."""
_PLACEHOLDER = "fleet-audit-any-host.invalid"
_STRICT = {"no": "no", "off": "no", "false": "no", "accept-new": "accept-new"}
_OFF = ("", "no", "none", "false")
_NEEDS = {
    "proxycommand": "ProxyCommand", "pkcs11provider": "PKCS11Provider",
    "verifyhostkeydns": "VerifyHostKeyDNS",
    "knownhostscommand": "KnownHostsCommand", "canonicalizehostname": "CanonicalizeHostname",
    "hostbasedauthentication": "HostbasedAuthentication", "bindaddress": "BindAddress",
    "bindinterface": "BindInterface",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """How to reach one host."""

    host: Host
    """Whose they are; of a jump host, one made up of its hop."""
    hostname: str
    """Where to connect: a name or an IP address."""
    port: int
    user: str
    identity_files: tuple[str, ...] = ()
    """Absolute paths of private keys that exist, in the order to try them."""
    identities_only: bool = False
    identity_agent: str | None = None
    """Path of the agent's socket; None for no agent."""
    known_hosts_files: tuple[str, ...] = ()
    """The user's first."""
    strict: str = "yes"
    """`yes` (also for `ask`: nobody is asked here), `accept-new` (for OpenSSH's client alone) or `no`."""
    host_key_alias: str | None = None
    """Stands for the name and the port in known_hosts."""
    proxy_jump: tuple[Hop, ...] = ()
    """From the controller outward."""
    needs_openssh: str = ""
    """Why the system's client must be used, in words; empty if paramiko will do."""
    notes: tuple[str, ...] = ()

    @property
    def known_name(self) -> tuple[str, int]:
        """Name and port under which known_hosts is searched."""
        return (self.host_key_alias, 22) if self.host_key_alias else (self.hostname, self.port)


def with_known_hosts(settings: Settings, known: KnownHosts) -> tuple[Settings, Match]:
    """The settings, and what is on file for the host: only certificates or FIDO keys need OpenSSH."""
    match = known.lookup(*settings.known_name)
    reason = settings.needs_openssh
    if not reason and match.authorities:
        reason = f"@cert-authority for this host in {match.where[match.authorities[0]]}"
    if not reason and match.keys and all(kind.startswith("sk-") for kind, _ in match.keys):
        reason = f"only FIDO host keys are on file, in {match.where[match.keys[0]]}"
    return replace(settings, needs_openssh=reason), match


@dataclass
class Resolver:
    """Asks `ssh -G` once for all hosts that must get the same answer, else once for each (8 ms of CPU).

    Configuration is read once: make a new one for each run. May be used by many threads.
    """

    ssh: str | None = field(default_factory=lambda: shutil.which("ssh"))
    """Path of OpenSSH's client; None if there is none."""
    _answers: dict[tuple[object, ...], dict[str, list[str]]] = field(default_factory=dict)
    _shared: dict[tuple[str, ...], bool] = field(default_factory=dict)

    def resolve(self, host: Host) -> Settings:
        """The settings of a host. Raises `FleetAuditError` with ssh's own words."""
        if self.ssh is None:
            return _without_ssh(host)
        return _read(host, self._ask(host))

    def hop_settings(self, host: Host, hop: Hop, before: tuple[Hop, ...]) -> Settings:
        """The settings of a jump host of `host`, reached through the hops `before` it.

        As in OpenSSH it has settings of its own: of what is given for the host, only `-F` (another
        configuration file) counts for it too. Without hops before it, its own ProxyJump counts.
        """
        file = config_option(host.ssh_args)
        args = ("-F", file) if file else ()
        jump = Host(HostName(hop.host), address=hop.host, port=hop.port, user=hop.user, ssh_args=args)
        settings = self.resolve(jump)
        if before:
            return replace(settings, proxy_jump=before)
        seen, first = {hop.host}, settings
        while first.proxy_jump:
            ahead = first.proxy_jump[0]
            if ahead.host in seen:
                raise FleetAuditError(f"host {host.name}: ProxyJump goes in a circle through {ahead.host}")
            seen.add(ahead.host)
            first = self.resolve(replace(jump, address=ahead.host, port=ahead.port, user=ahead.user))
        return settings

    def _ask(self, host: Host) -> dict[str, list[str]]:
        given = _options(host)
        args = tuple(given)
        if args not in self._shared:
            self._shared[args] = is_same_for_all(host.ssh_args)
        shared = self._shared[args] and not set("@/%:[") & set(host.address)
        name = _PLACEHOLDER if shared else host.address
        key = (args, name)
        if key not in self._answers:
            self._answers[key] = self._run(host, given, name)
        answer = self._answers[key]
        if shared and answer.get("hostname") == [_PLACEHOLDER]:
            answer = {**answer, "hostname": [host.address.lower()]}
        return answer

    def _run(self, host: Host, given: list[str], name: str) -> dict[str, list[str]]:
        try:
            done = subprocess.run(
                [str(self.ssh), "-G", *given, "--", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="surrogateescape",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise FleetAuditError(f"host {host.name}: `ssh -G` took over {TIMEOUT_S:.0f} s; does a Match exec hang?") from None
        except (OSError, ValueError) as error:
            raise FleetAuditError(f"host {host.name}: `ssh -G`: {error}") from None
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if not line.startswith("Pseudo-terminal")]
            said = "; ".join(lines)[:1000].encode("ascii", "backslashreplace").decode()
            raise FleetAuditError(f"host {host.name}: ssh refuses its configuration or arguments: {said or '?'}")
        answer: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            word, _, value = line.partition(" ")
            answer.setdefault(word.lower(), []).append(value)
        return answer


_default = Resolver()


def resolve(host: Host) -> Settings:
    """The settings of a host, remembered. Raises `FleetAuditError` with ssh's own words."""
    return _default.resolve(host)


def hop_settings(host: Host, hop: Hop, before: tuple[Hop, ...] = ()) -> Settings:
    """The settings of a jump host; see `Resolver.hop_settings`."""
    return _default.hop_settings(host, hop, before)


def _options(host: Host) -> list[str]:
    """What the inventory gives as arguments of ssh: the first one to set a value wins."""
    options: list[str] = []
    if host.port is not None:
        options += ["-p", str(host.port)]
    if host.user is not None:
        options += ["-l", host.user]
    if host.key_file is not None:
        if '"' in host.key_file or "\n" in host.key_file:
            raise FleetAuditError(f"host {host.name}: the path of its private key must not hold quotes or line ends")
        options += ["-o", f'IdentityFile="{host.key_file.replace("%", "%%")}"']
    return [*options, *host.ssh_args]


def _read(host: Host, answer: Mapping[str, list[str]]) -> Settings:
    """`ssh -G`'s answer as settings."""

    def one(key: str, default: str = "") -> str:
        return answer.get(key, [default])[0].strip()

    hostname, port, user = one("hostname", host.address), int(one("port", "22")), one("user")
    alias = one("hostkeyalias")
    tokens = make_tokens(host.address, hostname, port, user, alias)
    keys = [expand(value, tokens) for value in answer.get("identityfile", ()) if value != "none"]
    existing = tuple(dict.fromkeys(key for key in keys if os.path.isfile(key)))
    notes = tuple(f"private key {k} does not exist" for k in keys if k not in existing and host.key_file == k)
    files = [*one("userknownhostsfile").split(), *one("globalknownhostsfile").split()]
    jump = one("proxyjump")
    return Settings(
        host=host,
        hostname=hostname,
        port=port,
        user=user,
        identity_files=existing,
        identities_only=one("identitiesonly") == "yes",
        identity_agent=_agent(one("identityagent"), tokens),
        known_hosts_files=tuple(expand(f, tokens) for f in files if f != "none"),
        strict=_STRICT.get(one("stricthostkeychecking"), "yes"),
        host_key_alias=alias or None,
        proxy_jump=() if jump in _OFF else hops(percent(jump, tokens), f"host {host.name}"),
        needs_openssh=_why(host, answer, existing),
        notes=notes,
    )


def _why(host: Host, answer: Mapping[str, list[str]], keys: tuple[str, ...]) -> str:
    """Why paramiko will not do; empty if it will."""
    for key, name in _NEEDS.items():
        if answer.get(key, ["none"])[0].lower() not in _OFF:
            return f"{name} is set"
    if answer.get("addressfamily", ["any"])[0] != "any":
        return "AddressFamily is set"
    if answer.get("stricthostkeychecking", ["yes"])[0] == "accept-new":
        return "StrictHostKeyChecking is accept-new, and ssh writes down what it accepts"
    explicit = host.password is not None or host.key_file is not None
    # Debian sets GSSAPIAuthentication for everybody: it matters where there is a ticket to use
    if answer.get("gssapiauthentication", ["no"])[0] == "yes" and not explicit and has_ticket():
        return "GSSAPIAuthentication is set and there is a Kerberos ticket"
    if keys and all(is_fido(key) for key in keys):
        return f"{keys[0]} is a FIDO key"
    return ""


def _agent(value: str, tokens: Mapping[str, str]) -> str | None:
    if value == "none":
        return None
    if value in ("", "SSH_AUTH_SOCK"):
        return os.environ.get("SSH_AUTH_SOCK") or None
    if value.startswith("$") and not value.startswith("${"):
        return os.environ.get(value[1:]) or None
    return expand(value, tokens)


def _without_ssh(host: Host) -> Settings:
    """What the inventory says, and OpenSSH's defaults."""
    folder = Path(home(), ".ssh")
    names = ("id_rsa", "id_ecdsa", "id_ed25519")
    keys = [host.key_file] if host.key_file else [str(folder / name) for name in names]
    notes = ["no ssh client is installed: ssh_config was not read"]
    if host.ssh_args:
        notes.append("ssh arguments of the inventory are ignored: " + shlex.join(host.ssh_args))
    return Settings(
        host=host,
        hostname=host.address,
        port=host.port or 22,
        user=host.user or getpass.getuser(),
        identity_files=tuple(key for key in keys if os.path.isfile(key)),
        identity_agent=os.environ.get("SSH_AUTH_SOCK") or None,
        known_hosts_files=(str(folder / "known_hosts"), "/etc/ssh/ssh_known_hosts"),
        notes=tuple(notes),
    )
