# SPDX-License-Identifier: Apache-2.0
"""The one line that starts the program on a node.

It is read alike by every login shell (sh, bash, dash, zsh, fish, tcsh, rbash): a single-quoted
`sh -c` argument without newline, `!`, `'` or backslash. The bootstrap holds no string literal, so
it nests in double quotes; it says the digest as its ready line, reads the length-prefixed,
compressed program from standard input and runs it only if its SHA-256 is that digest.
"""

from __future__ import annotations

import re

from fleet_audit.model import Become

BOOT = (
    "import sys,zlib,hashlib;print(sys.argv[1],flush=True);i=sys.stdin.buffer;"
    "b=zlib.decompressobj().decompress(i.read(int(i.read(8))),1<<22);"
    "hashlib.sha256(b).hexdigest()==sys.argv[1]or sys.exit(98);exec(b)"
)
PYTHONS = "/usr/bin/python3 /usr/libexec/platform-python python3"
_REFUSED = "case $r in 1|126|127)"


def line(digest: str, nonce: str, become: Become | None) -> str:
    """The command line of the one exec. With a password it speaks the protocol of `Dialogue`."""
    run = f'$p -I -S -c "{BOOT}" {digest}'
    if become is None:
        start = f"exec {run}"
    elif become.password is None:
        start = (
            f"{{ {become.method} -n -u {_user(become)} {'-- ' if become.method == 'sudo' else ''}{run};r=$?;"
            f"{_REFUSED}echo {nonce}-refused;exec {run};;esac;exit $r;}}"
        )
    else:
        # The loop hands sudo one line (the password) and the payload only after `go`, so that a
        # wrong password costs one attempt and the rest of standard input is still ours.
        start = (
            '{ while IFS= read -r w;do case $w in p*)printf %s "${w#p}";echo;;go)exec cat;;*)break;;esac;done|'
            f"{{ sudo -S -p {nonce}-prompt -u {_user(become)} -- {run};r=$?;"
            f"{_REFUSED}echo {nonce}-refused;;*)echo {nonce}-exit;;esac;exit $r;}};r=$?;"
            f"{_REFUSED}exec {run};;esac;exit $r;}}"
        )
    find = f"for p in {PYTHONS};do command -v $p >/dev/null 2>&1&&{start};done;echo {nonce}-nopython;exit 97"
    return f"sh -c '{find}'"


def sudoers(digest: str, account: str) -> str:
    """A sudoers line that lets `account` become root with this program alone, nothing installed."""
    escaped = re.sub(r"([\[\]*?\\,:=])", r"\\\1", BOOT)
    return f"{account} ALL=(root) NOPASSWD: /usr/bin/python3 -I -S -c {escaped} {digest}"


def _user(become: Become) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}", become.user):
        raise ValueError(f"not a user name: {become.user!r}")
    return become.user
