# SPDX-License-Identifier: Apache-2.0
"""The default transport: paramiko, one connection and one exec per host."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import paramiko

from fleet_audit.model import FleetAuditError, Host, Reach
from fleet_audit.transport.doors import Door, open_doors
from fleet_audit.transport.interface import Carried, Conversation, Transport
from fleet_audit.transport.knownhosts import Match, on_file
from fleet_audit.transport.settings import Hop, Settings, hop_settings, resolve

HANDSHAKES_PER_JUMP = 8
JUMP_TRIES = 3
"""Failures to reach a jump host after which it is not tried again."""
WINDOW = 16 << 20
_RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


class Trouble(Exception):
    """A connection that did not come about: what to call it, and a sentence."""

    def __init__(self, reach: Reach, detail: str, *, transient: bool = False) -> None:
        super().__init__(detail)
        self.reach, self.detail, self.transient = reach, detail, transient


class Jump:
    """One connection to a jump host, opened once, with few handshakes at a time through it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.handshakes = threading.BoundedSemaphore(HANDSHAKES_PER_JUMP)
        self.transport: paramiko.Transport | None = None
        self.trouble: Trouble | None = None
        self.failures = 0


class Paramiko:
    """Carries conversations with paramiko."""

    name = "paramiko"

    def __init__(self, connect_timeout: float = 10.0) -> None:
        self.connect_timeout = connect_timeout
        self._lock = threading.Lock()
        self._doors: dict[str, Door] = {}
        self._keys: dict[str, paramiko.PKey | Trouble] = {}
        self._jumps: dict[tuple[object, ...], Jump] = {}
        logging.getLogger("paramiko").setLevel(logging.CRITICAL + 1)  # what it would say is in the result

    def arrivals(self, hosts: Iterable[Host], ahead: int) -> Iterator[Host]:
        """The hosts in the order in which they can be carried to: connected, or known to be out of reach."""
        direct: list[tuple[Host, str, int]] = []
        for host in hosts:
            try:
                settings = resolve(host)
            except FleetAuditError:
                yield host  # carrying it says why
                continue
            if settings.proxy_jump:
                yield host
            else:
                direct.append((host, settings.hostname, settings.port))
        for door in open_doors(direct, ahead=ahead, timeout=self.connect_timeout):
            self._doors[door.host.name] = door
            yield door.host

    def carry(self, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """See `Transport`."""
        link: paramiko.Transport | None = None
        try:
            settings = resolve(host)
            link = self._link(host, settings, deadline)
            return self._exec(link, line, talk, deadline)
        except FleetAuditError as error:
            return Carried(Reach.UNRESOLVED, str(error))
        except Trouble as trouble:
            return Carried(trouble.reach, trouble.detail, connections=int(link is not None), transient=trouble.transient)
        finally:
            if link is not None:
                link.close()

    def close(self) -> None:
        """End connections to jump hosts and doors that nobody went through."""
        for jump in self._jumps.values():
            if jump.transport is not None:
                jump.transport.close()
        for door in self._doors.values():
            if door.socket is not None:
                door.socket.close()

    # Connecting

    def _link(self, host: Host, settings: Settings, deadline: float) -> paramiko.Transport:
        if not settings.proxy_jump:
            return self._login(host, settings, self._socket(host, settings), deadline)
        *before, last = settings.proxy_jump
        jump = self._jump(host, tuple(before), last, deadline)
        assert jump.transport is not None
        with jump.handshakes:
            try:
                channel = jump.transport.open_channel(
                    "direct-tcpip", (settings.hostname, settings.port), ("127.0.0.1", 0), timeout=min(30.0, _left(deadline))
                )
            except paramiko.ChannelException as error:
                words = {1: "the jump host forbids forwarding to it", 2: "the jump host cannot connect to it"}
                raise Trouble(Reach.NO_ROUTE, f"{words.get(error.code, error.text)} ({last.host})", transient=error.code == 4) from None
            except (paramiko.SSHException, OSError, EOFError) as error:
                raise Trouble(Reach.NO_ROUTE, f"through jump host {last.host}: {error or type(error).__name__}", transient=True) from None
            return self._login(host, settings, channel, deadline)

    def _socket(self, host: Host, settings: Settings) -> socket.socket:
        with self._lock:
            door = self._doors.pop(host.name, None)
        if door is None:
            found = [(host, settings.hostname, settings.port)]
            door = next(iter(open_doors(found, ahead=1, timeout=self.connect_timeout)))
        if door.socket is None:
            raise Trouble(door.reach, door.detail, transient=door.reach is Reach.BUSY)
        return door.socket

    def _jump(self, host: Host, before: tuple[Hop, ...], hop: Hop, deadline: float) -> Jump:
        """The connection to a jump host; the first host that needs it opens it, for all."""
        settings = hop_settings(host, hop, before)
        key = (settings.hostname, settings.port, settings.user, settings.identity_files, settings.proxy_jump)
        with self._lock:
            jump = self._jumps.setdefault(key, Jump())
        with jump.lock:
            if jump.trouble is not None:
                raise jump.trouble
            if jump.transport is None or not jump.transport.is_active():
                try:
                    jump.transport = self._link(settings.host, settings, deadline)
                except Trouble as trouble:
                    found = Trouble(trouble.reach, f"jump host {settings.hostname}: {trouble.detail}", transient=trouble.transient)
                    jump.failures += 1
                    if jump.failures >= JUMP_TRIES or not (trouble.transient or trouble.reach is Reach.TIMEOUT):
                        jump.trouble = found  # what may pass, another host tries again
                    raise found from None
        return jump

    def _login(self, host: Host, settings: Settings, sock: socket.socket | paramiko.Channel, deadline: float) -> paramiko.Transport:
        match = on_file(settings.known_hosts_files).lookup(*settings.known_name)
        try:
            link = paramiko.Transport(sock, default_window_size=WINDOW)
        except (paramiko.SSHException, OSError) as error:
            sock.close()
            raise Trouble(Reach.BUSY, str(error), transient=True) from None
        try:
            link.banner_timeout = link.handshake_timeout = link.auth_timeout = min(30.0, _left(deadline))
            link.channel_timeout = _left(deadline)
            _prefer(link, [kind for kind, _ in match.keys])
            self._handshake(link, deadline)
            known = _verify(link, settings, match)
            self._authenticate(link, host, settings, deadline, known=known)
            return link
        except BaseException:
            link.close()
            raise

    @staticmethod
    def _handshake(link: paramiko.Transport, deadline: float) -> None:
        try:
            link.start_client(timeout=min(30.0, _left(deadline)))
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise Trouble(Reach.REFUSED, f"no common algorithm: {error}") from None
        except (paramiko.SSHException, EOFError, OSError) as error:
            late = isinstance(error, TimeoutError) or "timed out" in str(error).lower() or "timeout" in str(error).lower()
            reach = Reach.TIMEOUT if late else Reach.BUSY
            raise Trouble(reach, f"the handshake failed: {error or type(error).__name__}", transient=not late) from None

    # Authentication

    def _authenticate(self, link: paramiko.Transport, host: Host, settings: Settings, deadline: float, *, known: bool) -> None:
        """Keys named or configured, then the agent's, then the password, which only a host gets whose key has not changed."""
        tried: list[str] = [note for note in settings.notes if "private key" in note]
        allowed: list[str] = []
        for label, key in self._candidates(settings, tried):
            link.auth_timeout = min(30.0, _left(deadline))
            try:
                more = link.auth_publickey(settings.user, key)
                if not more:
                    return
                allowed = more
                break
            except paramiko.BadAuthenticationType as error:
                allowed = error.allowed_types
                break
            except paramiko.AuthenticationException as error:
                _in_time(error)
                tried.append(f"{label} was not accepted")
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise Trouble(Reach.AUTH, f"{settings.user}: the connection ended while logging in: {error or 'closed'}") from None
        if host.password is not None and not known:
            tried.append("its host key has changed, so the password was not sent")
        elif host.password is not None:
            link.auth_timeout = min(30.0, _left(deadline))
            try:
                if not link.auth_password(settings.user, host.password.reveal()):
                    return
                tried.append("the server wants more than key and password")
            except paramiko.AuthenticationException as error:
                _in_time(error)
                tried.append("the password was not accepted")
            except (paramiko.SSHException, EOFError, OSError) as error:
                raise Trouble(Reach.AUTH, f"{settings.user}: the connection ended while logging in: {error or 'closed'}") from None
        elif allowed:
            tried.append(f"the server wants {', '.join(allowed)}")
        raise Trouble(Reach.AUTH, f"user {settings.user}: {'; '.join(tried) or 'no key and no password to offer'}")

    def _candidates(self, settings: Settings, tried: list[str]) -> Iterator[tuple[str, paramiko.PKey]]:
        for path in settings.identity_files:
            key = self._key(str(path))
            if isinstance(key, Trouble):
                if key.detail:
                    tried.append(key.detail)
            else:
                yield f"key {path}", key
        agent = settings.identity_agent
        if not settings.identities_only and agent and agent == os.environ.get("SSH_AUTH_SOCK"):
            with contextlib.suppress(paramiko.SSHException, OSError):
                for key in paramiko.Agent().get_keys():
                    yield f"agent key {key.comment or key.get_name()}", key

    def _key(self, path: str) -> paramiko.PKey | Trouble:
        """A private key with its certificate if there is one; loaded once for all hosts."""
        with self._lock:
            if path not in self._keys:
                self._keys[path] = _load_key(Path(path).expanduser())
            return self._keys[path]

    # The exec

    @staticmethod
    def _exec(link: paramiko.Transport, line: str, talk: Conversation, deadline: float) -> Carried:
        sent = received = 0
        try:
            channel = link.open_session(timeout=min(30.0, _left(deadline)))
            channel.set_combine_stderr(True)  # sudo asks there, and one full stream would block the other
            channel.settimeout(max(0.1, _left(deadline)))
            channel.exec_command(line)
        except (paramiko.SSHException, EOFError, OSError) as error:
            refused = "the login was accepted but no command could be started"
            return Carried(Reach.LOGIN_REFUSED, f"{refused}: {error or 'connection closed'}", connections=1)
        try:
            answer = talk.start()
            while True:
                if answer:
                    try:
                        sent += _send(channel, answer, deadline)
                    except TimeoutError:
                        raise
                    except OSError:
                        pass  # it takes no more input; what it said before it ended is still to be read
                if talk.finished:
                    break
                channel.settimeout(max(0.1, _left(deadline)))
                chunk = channel.recv(1 << 18)
                if not chunk:
                    break
                received += len(chunk)
                answer = talk.feed(chunk)
        except TimeoutError:
            return Carried(Reach.TIMEOUT, "did not finish in time", None, 1, 1, sent, received)
        except (paramiko.SSHException, EOFError, OSError) as error:
            return Carried(Reach.OK, f"the connection was lost: {error or 'closed'}", None, 1, 1, sent, received)
        code = None
        if not talk.finished:
            code = channel.recv_exit_status() if channel.status_event.wait(1.0) else -1
            if code < 0:  # no status came: the connection ended, or the command there was killed
                return Carried(Reach.OK, "the connection was lost, or the command there was killed", None, 1, 1, sent, received)
        return Carried(Reach.OK, "", code, 1, 1, sent, received)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise Trouble(Reach.TIMEOUT, "no time was left to log in")
    return left


def _in_time(error: paramiko.AuthenticationException) -> None:
    """A server that answers too late has not refused."""
    if "timeout" in str(error).lower():
        raise Trouble(Reach.TIMEOUT, "the server did not answer in time while logging in") from None


def _send(channel: paramiko.Channel, data: bytes, deadline: float) -> int:
    """Send all of it until the deadline, however little the server takes at a time. Raises `TimeoutError`."""
    view = memoryview(data)
    while view:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        channel.settimeout(left)
        taken = channel.send(bytes(view[: 1 << 15]))
        if not taken:
            raise OSError("the channel is closed")
        view = view[taken:]
    return len(data)


def _prefer(link: paramiko.Transport, kinds: list[str]) -> None:
    """Ask for host keys of the kinds that are on file first."""
    options = link.get_security_options()
    wanted = [w for kind in kinds for w in (_RSA if kind == "ssh-rsa" else (kind,)) if w in options.key_types]
    if wanted:
        options.key_types = [*dict.fromkeys(wanted), *(k for k in options.key_types if k not in wanted)]


def _verify(link: paramiko.Transport, settings: Settings, match: Match) -> bool:
    """Refuse a host key that is revoked, changed, or unknown while checking is strict; false if one that changed goes through."""
    key = link.get_remote_server_key()
    kind, blob = key.get_name(), key.asbytes()
    (name, port), keys = settings.known_name, match.keys
    label = name if port == 22 else f"[{name}]:{port}"
    if (kind, blob) in match.revoked:
        raise Trouble(Reach.HOST_KEY, f"the host key of {name} ({key.fingerprint}) is revoked in known_hosts")
    if (kind, blob) in keys:
        return True
    if settings.strict == "no":
        return not keys
    if any(k == kind for k, _ in keys):
        raise Trouble(
            Reach.HOST_KEY,
            f"the host key of {name} has CHANGED: it is now {kind} {key.fingerprint}. If the node was reinstalled, "
            f"remove the old key with `ssh-keygen -f {settings.known_hosts_files[0]} -R '{label}'` and check the new one",
        )
    files = ", ".join(str(p) for p in settings.known_hosts_files)
    raise Trouble(
        Reach.HOST_KEY,
        f"the host key of {name} is not known: {kind} {key.fingerprint} is not in {files}. Check it and add it, "
        f"for example with `ssh-keyscan`",
    )


def _load_key(path: Path) -> paramiko.PKey | Trouble:
    try:
        key: paramiko.PKey = paramiko.PKey.from_path(path)
    except FileNotFoundError:
        return Trouble(Reach.AUTH, "")
    except OSError as error:
        return Trouble(Reach.AUTH, f"key {path}: {error.strerror}")
    except (paramiko.PasswordRequiredException, TypeError):
        return Trouble(Reach.AUTH, f"key {path} has a passphrase: load it into an agent")
    except Exception as error:  # cryptography raises many kinds for a broken file
        return Trouble(Reach.AUTH, f"key {path} is not readable: {error}")
    return key


def open_transport() -> Transport:
    """The paramiko transport."""
    return Paramiko()
