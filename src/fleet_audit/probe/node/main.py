# SPDX-License-Identifier: Apache-2.0
"""The program's start: takes the request from standard input, answers on standard output, and says how it ended."""

import json
import os
import signal
import sys

from fleet_audit.probe.node.base import DATA, STARTED, data_folders, dump
from fleet_audit.probe.node.children import Libc, be_gentle
from fleet_audit.probe.node.probe import Probe


def main(stream):
    request = json.loads(stream.read(int(stream.read(8))).decode("utf-8"))
    DATA[:] = data_folders(request.get("data", []))
    probe = Probe(request)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(probe.budget["seconds"]) + 5)
    os.umask(0o077)
    hello = {"python": sys.version.split()[0], "uid": os.getuid(), "euid": os.geteuid(), "time": STARTED}
    probe.frames.mark(b"FA1 ", b" " + dump(hello))
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 2)
    be_gentle(probe.notes)
    libc = Libc(probe.notes)
    wake, bell = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(bell, False)
    signal.set_wakeup_fd(bell)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    try:
        probe.run(libc, wake)
        probe.close()
    finally:
        probe.frames.flush()


if "i" in globals():
    code = 95
    try:
        main(globals()["i"])
        code = 0
    except BrokenPipeError:
        code = 96
    except Exception as problem:
        os.write(1, ("\nFA-BROKEN %s: %s\n" % (type(problem).__name__, problem)).encode("utf-8", "replace")[:500])
    finally:
        os._exit(code)  # never 1: that is how a refused become ends
