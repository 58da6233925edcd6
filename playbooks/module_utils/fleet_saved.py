# SPDX-License-Identifier: Apache-2.0
"""What the modules of fleet-audit share: files put in place whole, the state before, and the watch that brings it back.

Below a folder `saved` of a role lie `state.json` (the files before, and what makes the service read them), `armed` (a token, while
a new connection has to confirm), `confirmed`, and `reverted.json` (the state before came back by itself).
"""

import contextlib
import difflib
import glob
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time

BOOT_ID = "/proc/sys/kernel/random/boot_id"
UNITS = "/etc/systemd/system"
SETTLE_S = 3
"""Seconds after which a service that begins anew must still run."""
CREDENTIALS = re.compile(r"(://)[^@\s]*@")
OTHER_SECRETS = re.compile(
    r"(?i)((?:pass|token|secret|key|jwt|authorization)[\w-]*[\"']?\s*[=:]\s*|requirepass\s+|bearer\s+|\"auth\"\s*:\s*).+"
)

REVERT = r'''
"""Puts the state before back unless a new connection has confirmed what was changed; after a reboot at once."""
import json, os, subprocess, sys, tempfile, time
saved, seconds, token, boot, unit = sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4], sys.argv[5]
note = os.path.join(saved, "state.json")


def read(path):
    try:
        with open(path) as handle:
            return handle.read()
    except OSError:
        return ""


def forget():
    for path in (unit, os.path.join(os.path.dirname(unit), "sysinit.target.wants", os.path.basename(unit))):
        if os.path.lexists(path):
            os.unlink(path)


rebooted = read("/proc/sys/kernel/random/boot_id").strip() != boot
if not rebooted:
    time.sleep(seconds)
if read(os.path.join(saved, "armed")) != token:
    sys.exit(0)  # a later change has its own watch
if os.path.exists(os.path.join(saved, "confirmed")) or not os.path.exists(note):
    forget()
    sys.exit(0)
with open(note) as handle:
    before = json.load(handle)
for path, old in sorted(before["files"].items()):
    if old["content"] is None:
        if os.path.exists(path):
            os.unlink(path)
        continue
    number, new = tempfile.mkstemp(prefix=os.path.basename(path) + ".fleet.", dir=os.path.dirname(path))
    with open(number, "w", encoding="utf-8", errors="surrogateescape", newline="") as handle:
        os.fchmod(handle.fileno(), old["mode"])
        os.fchown(handle.fileno(), old["uid"], old["gid"])
        handle.write(old["content"])
        handle.flush()
        os.fsync(handle.fileno())
    os.rename(new, path)
if before["back"] and not rebooted:  # at boot the services begin after this, and read the files themselves
    subprocess.call(before["back"])
open(os.path.join(saved, "reverted.json"), "w").close()
os.unlink(note)  # with what it held of the files
forget()
'''

UNIT = """[Unit]
Description=fleet-audit: put back what no new connection has confirmed
DefaultDependencies=no
RequiresMountsFor={saved}
After=local-fs.target
Before=sysinit.target nftables.service network-pre.target

[Service]
Type=oneshot
ExecStart={python} {saved}/revert.py {saved} 0 {token} {boot} {unit}

[Install]
WantedBy=sysinit.target
"""


def read(path):
    """The text of a file, None if it cannot be read; bytes that are no text, and ends of lines, come back as they were."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:
            return handle.read()
    except OSError:
        return None


def put(path, content, mode, uid=0, gid=0):
    """Replace a file whole, on the disk before it is in its place; without content remove it. A link there is replaced, not followed."""
    folder = os.path.dirname(path)
    if content is None:
        if os.path.lexists(path):
            os.unlink(path)
    else:
        handle, new = tempfile.mkstemp(prefix=os.path.basename(path) + ".fleet.", dir=folder)
        with open(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
            os.fchmod(out.fileno(), mode)
            os.fchown(out.fileno(), uid, gid)
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.rename(new, path)
    if os.path.isdir(folder):
        handle = os.open(folder, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)


def load(saved):
    """The state before, None if nothing was saved."""
    text = read(os.path.join(saved, "state.json"))
    return json.loads(text) if text else None


def save(saved, state):
    """Keep the state before, for root alone."""
    if not os.path.isdir(saved):
        os.makedirs(saved, 0o700)
    put(os.path.join(saved, "state.json"), json.dumps(state), 0o600)


def drop(saved):
    """Forget the state before, once it is back."""
    for name in ("state.json", "armed", "armed_at", "confirmed", "reverted.json", "revert.py"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(saved, name))
    _forget_unit(unit_of(saved))


def missing_folders(path):
    """Folders above a path that are not there, the outermost first."""
    found, folder = [], os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found


def make_folders(folders):
    """Make folders that are not there, the outermost first."""
    for folder in folders:
        if not os.path.isdir(folder):
            os.mkdir(folder, 0o755)


def drop_folders(folders):
    """Remove folders that were made for a file, the innermost first, unless somebody uses them."""
    for folder in reversed(folders):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def writable_by_others(folder):
    """Whether others than root may put a link into a folder."""
    now = os.stat(folder)
    return now.st_uid != 0 or bool(now.st_mode & 0o022)


def files_of(patterns):
    """The files that patterns name, each by its real path; a pattern that is no pattern names its file even if there is none."""
    found = []
    for pattern in patterns:
        paths = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]
        paths = [path for path in paths if not (os.path.islink(path) and writable_by_others(os.path.dirname(path)))]
        found += [real for real in map(os.path.realpath, paths) if not os.path.isdir(real)]
    return sorted(set(found))


def snapshot(path):
    """A file as it is, to be put back: content None if there is none."""
    content = read(path)
    now = os.stat(path) if content is not None else None
    return {
        "content": content,
        "mode": now.st_mode & 0o7777 if now else 0,
        "uid": now.st_uid if now else 0,
        "gid": now.st_gid if now else 0,
    }


def hashed(content):
    """What stands for a text, None for none."""
    return None if content is None else hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()


def digest(path):
    """What a file holds now, to tell later whether somebody else has changed it."""
    return hashed(read(path))


def run(argv):
    """Exit status and output of a command."""
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
    except OSError as error:
        return 127, "%s: %s" % (argv[0], error.strerror)
    out = process.communicate()[0].decode("utf-8", "replace")
    return process.returncode, out.strip()


def reload(argv, units=()):
    """Make services read what was changed: by a command, and units that run at all begin anew and must go on. (status, output)."""
    code, out = run(argv) if argv else (0, "")
    for unit in units if code == 0 else ():
        if run(["systemctl", "show", "-p", "ActiveState", "--value", "--", unit])[1] in ("inactive", ""):
            continue
        code, out = run(["systemctl", "restart", "--", unit])
        time.sleep(0 if code else SETTLE_S)
        if code == 0 and run(["systemctl", "is-active", "--quiet", "--", unit])[0]:
            return 1, "%s does not go on" % unit
        if code:
            return code, out
    return code, out


def unit_of(saved):
    """Path of the unit that looks after a change at the next boot."""
    return os.path.join(UNITS, "fleet-audit-revert-%s.service" % hashlib.sha256(saved.encode()).hexdigest()[:12])


def _forget_unit(unit):
    for path in (unit, os.path.join(UNITS, "sysinit.target.wants", os.path.basename(unit))):
        if os.path.lexists(path):
            os.unlink(path)


def arm(saved, seconds):
    """From here on the node helps itself: after so many seconds, or at the next boot, the state before comes back unless confirmed."""
    token = "%s-%s" % (time.time(), os.getpid())
    boot, unit, program = (read(BOOT_ID) or "").strip(), unit_of(saved), os.path.join(saved, "revert.py")
    put(program, REVERT, 0o600)
    put(os.path.join(saved, "armed"), token, 0o600)
    put(os.path.join(saved, "armed_at"), (read("/proc/uptime") or "0").split()[0], 0o600)
    systemd = os.path.isdir("/run/systemd/system")
    if systemd:
        put(unit, UNIT.format(saved=saved, python=sys.executable, token=token, boot=boot, unit=unit), 0o644)
        wants = os.path.join(UNITS, "sysinit.target.wants")
        if not os.path.isdir(wants):
            os.mkdir(wants, 0o755)
        os.symlink(unit, os.path.join(wants, os.path.basename(unit) + ".fleet"))
        os.rename(os.path.join(wants, os.path.basename(unit) + ".fleet"), os.path.join(wants, os.path.basename(unit)))
    argv = [sys.executable, program, saved, str(seconds), token, boot, unit]
    if systemd:  # out of the session, which may be ended with its connection
        code, _ = run(["systemd-run", "--quiet", "--collect", "--property=DefaultDependencies=no", *argv])
        if code == 0:
            return
    subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, close_fds=True
    )


def reverted(saved):
    """Whether the state before came back by itself."""
    return os.path.exists(os.path.join(saved, "reverted.json"))


def confirmed(saved):
    """Whether a new connection has confirmed it."""
    return os.path.exists(os.path.join(saved, "confirmed"))


def session_began():
    """Seconds after the machine's start at which the SSH connection that this runs in began; None without one."""
    pid = os.getppid()
    while pid > 1:
        stat = read("/proc/%d/stat" % pid) or ""
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        if not fields:
            return None
        if name.startswith("sshd"):
            return int(fields[19]) / float(os.sysconf("SC_CLK_TCK"))
        pid = int(fields[1])
    return None


def is_old_connection(saved):
    """Whether the connection that would confirm was there before the change: it proves nothing of a new one."""
    began, armed = session_began(), read(os.path.join(saved, "armed_at"))
    return began is not None and armed is not None and began < float(armed)


def confirm(saved):
    """A new connection is here: what was changed stays."""
    put(os.path.join(saved, "confirmed"), "", 0o600)
    _forget_unit(unit_of(saved))


def disarm(saved):
    """Before a new change: what an older one left of its watch counts no more."""
    for name in ("confirmed", "reverted.json"):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(saved, name))


def shown(path, before, after, whole=False):
    """What is shown of a change: of files of others the changed lines alone, without what looks like a secret."""
    if whole:
        return {"before": before or "", "after": after or "", "before_header": path, "after_header": path}
    old, new = [], []
    for line in difflib.ndiff((before or "").splitlines(), (after or "").splitlines()):
        text = OTHER_SECRETS.sub(r"\1***", CREDENTIALS.sub(r"\1***@", line[2:])) + "\n"
        (old if line.startswith("- ") else new if line.startswith("+ ") else []).append(text)
    return {"before": "".join(old), "after": "".join(new), "before_header": path, "after_header": path}
