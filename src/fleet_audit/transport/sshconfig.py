# SPDX-License-Identifier: Apache-2.0
"""What `ssh -G` leaves to its caller: jump hosts, whether hosts can differ, tokens in paths, kinds of keys.

Source: ssh(1); ssh_config(5), "TOKENS" and "ENVIRONMENT VARIABLES".
"""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet_audit.model import FleetAuditError

_SYSTEM = Path("/etc/ssh/ssh_config")


@dataclass(frozen=True, slots=True)
class Hop:
    """A jump host, as ProxyJump names it. None leaves it to that host's own settings."""

    host: str
    user: str | None = None
    port: int | None = None


def config_option(args: Iterable[str]) -> str | None:
    """The file of `-F`, if given."""
    words = iter(args)
    for word in words:
        if word == "-F":
            return next(words, None)
        if word.startswith("-F"):
            return word[2:]
        if word in (
            "-o",
            "-J",
            "-i",
            "-l",
            "-p",
            "-b",
            "-c",
            "-m",
            "-e",
            "-E",
            "-B",
            "-D",
            "-I",
            "-L",
            "-Q",
            "-R",
            "-S",
            "-W",
            "-w",
            "-O",
        ):
            next(words, None)
    return None


def is_same_for_all(args: tuple[str, ...]) -> bool:
    """Whether no file or argument of ssh can tell one host from another."""
    if any("%" in word for word in args):
        return False
    given = config_option(args)
    if given == "none":
        return True
    if given is not None:
        return _plain(Path(given), 0)
    return _plain(Path(home(), ".ssh", "config"), 0) and _plain(_SYSTEM, 0)


def _plain(path: Path, depth: int) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return True
    except OSError:
        return False
    for line in text.splitlines():
        words = re.split(r"[\s=]+", line.strip(), maxsplit=1)
        word, value = words[0].lower().strip('"'), (words[1] if len(words) > 1 else "")
        if not word or word.startswith("#"):
            continue
        if word == "include":
            if depth > 15 or not all(_plain(p, depth + 1) for p in _included(value, path)):
                return False
        elif word == "match" or "%" in value or (word == "host" and value.strip().strip('"') != "*"):
            return False
    return True


def _included(value: str, by: Path) -> list[Path]:
    try:
        names = shlex.split(value, comments=True)
    except ValueError:
        return [Path("/")]  # not a file that can be read: so not plain
    folder = _SYSTEM.parent if by.is_relative_to(_SYSTEM.parent) else Path(home(), ".ssh")
    found: list[Path] = []
    for name in names:
        if "$" in name or "%" in name:
            return [Path("/")]
        path = folder / untilde(name)
        found += sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return found


def has_ticket() -> bool:
    """Whether there is a Kerberos ticket cache."""
    cache = os.environ.get("KRB5CCNAME")
    return bool(cache) or os.path.exists(f"/tmp/krb5cc_{os.getuid()}")


def is_fido(path: str) -> bool:
    """Whether a private key is held by a FIDO device, by its public half."""
    try:
        with open(path + ".pub", "rb") as file:
            return file.read(3) == b"sk-"
    except OSError:
        pass
    try:
        with open(path, "rb") as file:
            body = b"".join(line for line in file.read(1 << 16).splitlines() if not line.startswith(b"-"))
        return b"\0\0\0\x1ask-ssh-ed25519@openssh.com" in (head := base64.b64decode(body)[:400]) or b"sk-ecdsa-" in head
    except (OSError, binascii.Error):
        return False


def make_tokens(given: str, hostname: str, port: int, user: str, alias: str) -> dict[str, str]:
    """What each `%` token stands for; `given` is the host as the user names it."""
    local, here = getpass.getuser(), socket.gethostname()
    mixed = hashlib.sha1(f"{here}{hostname}{port}{user}".encode(errors="replace"), usedforsecurity=False).hexdigest()
    return {
        "%": "%", "C": mixed, "d": home(), "h": hostname, "i": str(os.getuid()), "j": "",
        "k": alias or given, "L": here.partition(".")[0], "l": here, "n": given, "p": str(port),
        "r": user, "u": local,
    }  # fmt: skip


def percent(text: str, tokens: Mapping[str, str]) -> str:
    """Text with its `%` tokens filled in; unknown ones stay."""
    return re.sub(r"%(.)", lambda m: tokens.get(m[1], m[0]), text)


def expand(path: str, tokens: Mapping[str, str]) -> str:
    """A path with `~`, `%` tokens and `${VARIABLE}` filled in."""
    path = re.sub(r"\$\{(\w+)\}", lambda m: os.environ.get(m[1], m[0]), path)
    return os.path.join(home(), ".ssh", percent(untilde(path), tokens))


def untilde(path: str) -> str:
    """ssh takes the home directory of the password database, not `$HOME`."""
    return home() + path[1:] if path == "~" or path.startswith("~/") else os.path.expanduser(path)


def home() -> str:
    """The home directory by the password database, where ssh looks, not by `$HOME`."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return os.path.expanduser("~")


def hops(text: str, whose: str) -> tuple[Hop, ...]:
    """`[user@]host[:port],...`, also as `ssh://` and with IPv6 addresses in brackets."""
    found_hops = []
    for part in text.split(","):
        user, at, rest = part.strip().removeprefix("ssh://").rstrip("/").rpartition("@")
        found = re.fullmatch(r"\[([^\]]+)\](?::(\d+))?|([^:\[\]]+)(?::(\d+))?|([^\[\]]+)", rest)
        if found is None or (at and not user):
            raise FleetAuditError(f"{whose}: ProxyJump {part!r} is not [user@]host[:port]")
        port = found[2] or found[4]
        found_hops.append(Hop(found[1] or found[3] or found[5], user or None, int(port) if port else None))
    return tuple(found_hops)
