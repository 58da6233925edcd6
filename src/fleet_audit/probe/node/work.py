# SPDX-License-Identifier: Apache-2.0
"""The worker: reads files in a child, so that the parent never can hang."""

import os
import time

from fleet_audit.probe.node.archive import recorded
from fleet_audit.probe.node.base import ARCHIVE, PATH, READERS, Unread, dump, why
from fleet_audit.probe.node.files import Files


def which(files, names):
    """[those of the programs that are in a folder of the fixed path, [status, detail] of a folder that could not be looked at or None]."""
    found, refused = set(), None
    for folder in PATH:
        try:
            real = files.root + files.resolve(folder)
            os.stat(real + "/.")
        except (Unread, OSError) as problem:
            unread = why(problem) if isinstance(problem, OSError) else problem
            if unread.status != "absent":
                refused = [unread.status, "%s was not looked at: %s" % (folder, unread.detail)]
            continue
        found.update(name for name in names if name not in found and os.path.lexists(real + "/" + name))
    return [sorted(found), refused]


def look_for(files, pattern):
    """Raises Unread unless something that fits is there; a link that leads nowhere is nothing."""
    for path in files.glob(pattern):
        try:
            files.lstat(files.resolve(path))
            return
        except Unread as unread:
            if unread.status != "absent":
                raise
    raise Unread("absent", "nothing there")


def work(jobs, out):
    """Run file jobs in order, a line of JSON and the body on `out` for each; `exists` jobs answer conditions."""
    files, said = Files(), b""
    for name, spec in jobs:
        say(out, said + dump({"start": name}) + b"\n")  # before it begins: if it hangs, the parent knows over what
        begin, cpu = time.monotonic(), time.process_time()
        status, detail, code, body = "ok", "", None, b""
        try:
            if spec["reader"] == "exists":
                look_for(files, spec["path"])
            elif spec["reader"] == "which":
                body = dump(which(files, spec["names"]))
                spec = {"cap": len(body)}
            else:
                done = recorded(name, spec) if ARCHIVE else None
                if done is None:
                    body = READERS[spec["reader"]](files, spec)
                else:
                    status, detail, code, body = done
        except Unread as unread:
            status, detail = unread.status, unread.detail
        except MemoryError:
            status, detail = "failed", "out of memory"
        except Exception as error:  # a reader's own fault must not cost the other sources
            status, detail = "failed", "%s: %s" % (type(error).__name__, error)
        if len(body) > spec.get("cap", 0) and body:
            status, detail, body = "truncated", "longer than %d bytes" % spec["cap"], body[: spec["cap"]]
        head = {
            "source": name,
            "status": status,
            "detail": detail[:500],
            "exit": code,
            "size": len(body),
            "seconds": round(time.monotonic() - begin, 4),
            "cpu": round(time.process_time() - cpu, 4),
        }
        said = dump(head) + b"\n" + body
    say(out, said)


def say(out, data):
    """Write all of it."""
    while data:
        data = data[os.write(out, data) :]
