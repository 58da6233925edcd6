# SPDX-License-Identifier: Apache-2.0
"""The system's OpenSSH client, for what paramiko cannot: host certificates, FIDO keys, GSSAPI, ProxyCommand."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from fleet_audit.model import Host, Reach
from fleet_audit.transport.interface import Carried, Conversation, Transport
from fleet_audit.transport.process import Ended, converse, end_all

_LOST = ("closed by remote host", "Broken pipe", "client_loop", "not responding")
# What the client says on standard error, and our word for it; the first that fits.
_WORDS = (
    ("Could not resolve hostname", Reach.UNRESOLVED, False),
    ("Connection refused", Reach.REFUSED, False),
    ("No route to host", Reach.NO_ROUTE, False),
    ("Network is unreachable", Reach.NO_ROUTE, False),
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Reach.HOST_KEY, False),
    ("host key is known for", Reach.HOST_KEY, False),
    ("revoked", Reach.HOST_KEY, False),
    ("Host key verification failed", Reach.HOST_KEY, False),
    ("Permission denied", Reach.AUTH, False),
    ("Too many authentication failures", Reach.AUTH, False),
    ("timed out during banner exchange", Reach.TIMEOUT, False),
    ("onnection timed out", Reach.TIMEOUT, False),
    ("Not allowed at this time", Reach.BUSY, True),
    ("kex_exchange_identification", Reach.BUSY, True),
    ("Connection reset by peer", Reach.BUSY, True),
    ("Connection closed by", Reach.BUSY, True),
    ("Unable to negotiate", Reach.REFUSED, False),
    ("Bad configuration option", Reach.UNRESOLVED, False),
)


class OpenSsh:
    """Runs `ssh` for each host."""

    name = "openssh"

    def __init__(self, connect_timeout: float = 10.0) -> None:
        self.connect_timeout = connect_timeout

    def argv(self, host: Host, line: str) -> list[str]:
        """The command line of the client; never a terminal, a prompt or a shared connection."""
        words = ["ssh", "-T", "-o", "BatchMode=yes", "-o", f"ConnectTimeout={self.connect_timeout:.0f}",
                 "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "ForwardAgent=no", "-o", "ForwardX11=no",
                 "-o", "PermitLocalCommand=no"]  # fmt: skip
        if host.port is not None:
            words += ["-p", str(host.port)]
        if host.user is not None:
            words += ["-l", host.user]
        if host.key_file is not None:
            words += ["-i", host.key_file]
        return [*words, *host.ssh_args, "--", host.address, line]

    def carry(self, host: Host, line: str, talk: Conversation, deadline: float) -> Carried:
        """See `Transport`."""
        if shutil.which("ssh") is None:
            return Carried(Reach.UNRESOLVED, "the OpenSSH client is not installed here, and this host needs it")
        ended = converse(self.argv(host, line), talk, deadline)
        if ended.exit == 255 and not talk.finished:
            if known := classify(ended):
                return known
            if lost := _line_with(ended, _LOST):
                return Carried(Reach.OK, f"the connection was lost: {lost}", None, 1, 1, ended.sent, ended.received)
        if ended.exit is None:
            return Carried(Reach.TIMEOUT, "did not finish in time", None, 1, 1, ended.sent, ended.received)
        return Carried(Reach.OK, "", ended.exit, 1, 1, ended.sent, ended.received)

    def close(self) -> None:
        """End what an interrupt left running."""
        end_all()


def classify(ended: Ended) -> Carried | None:
    """What the client's own words mean, if it failed by itself."""
    for words, reach, transient in _WORDS:
        if line := _line_with(ended, (words,)):
            if helper := _line_with(ended, ("command not found", ": not found")):
                return Carried(Reach.UNRESOLVED, f"its ProxyCommand fails: {helper}", connections=1)
            return Carried(reach, line, connections=1, transient=transient)
    return None


def _line_with(ended: Ended, words: Sequence[str]) -> str:
    """The first line of what the client said that holds one of the words, bare."""
    lines = ended.stderr.decode("utf-8", "replace").splitlines()
    return next((line.strip(" @\r")[:300] for line in lines if any(word in line for word in words)), "")


def open_transport() -> Transport:
    """The OpenSSH transport."""
    return OpenSsh()
