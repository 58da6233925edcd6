# SPDX-License-Identifier: Apache-2.0
"""What the modules of fleet-audit share: files put in place whole, the state before, and the watch that brings it back.

Below a folder `saved` of a role lie `state.json` (the files before, and what makes the service read them), `armed` (a token, while
a new connection has to confirm), `confirmed`, and `reverted.json` (the state before came back by itself). While a watch is armed a
copy of this file lies there too, and is the program that brings the state before back: it needs nothing but Python.
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

UNIT = """[Unit]
Description=fleet-audit: put back what no new connection has confirmed
DefaultDependencies=no
RequiresMountsFor={saved}
After=local-fs.target
Before=sysinit.target nftables.service network-pre.target

[Service]
Type=oneshot
ExecStart={command}

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
        try:
            with open(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as out:
                os.fchmod(out.fileno(), mode)
                os.fchown(out.fileno(), uid, gid)
                out.write(content)
                out.flush()
                os.fsync(out.fileno())
            os.rename(new, path)
        except OSError:
            os.unlink(new)
            raise
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


def run(argv, text=""):
    """Exit status and output of a command that reads a text."""
    try:
        done = subprocess.run(argv, input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    except OSError as error:
        return 127, "%s: %s" % (argv[0], error.strerror)
    return done.returncode, done.stdout.decode("utf-8", "replace").strip()


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


def _wanted_at_boot(unit):
    return os.path.join(UNITS, "sysinit.target.wants", os.path.basename(unit))


def _forget_unit(unit):
    for path in (unit, _wanted_at_boot(unit)):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def arm(saved, seconds):
    """From here on the node helps itself: after so many seconds, or at the next boot, the state before comes back unless confirmed."""
    token = "%s-%s" % (time.time(), os.getpid())
    boot, unit, program = (read(BOOT_ID) or "").strip(), unit_of(saved), os.path.join(saved, "revert.py")
    put(program, __loader__.get_source(__name__), 0o600)
    put(os.path.join(saved, "armed"), token, 0o600)
    put(os.path.join(saved, "armed_at"), (read("/proc/uptime") or "0").split()[0], 0o600)
    argv = [sys.executable, program, saved, str(seconds), token, boot]
    if os.path.isdir("/run/systemd/system"):
        _forget_unit(unit)
        put(unit, UNIT.format(saved=saved, command=" ".join([sys.executable, program, saved, "0", token, boot])), 0o644)
        make_folders([os.path.dirname(_wanted_at_boot(unit))])
        os.symlink(unit, _wanted_at_boot(unit))
        # Out of the session, which may be ended with its connection.
        if run(["systemd-run", "--quiet", "--collect", "--property=DefaultDependencies=no", *argv])[0] == 0:
            return
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(argv, start_new_session=True, close_fds=True, **quiet)


def revert(saved, seconds, token, boot):
    """Wait, and put the state before back unless a new connection has confirmed what was changed; after a reboot at once."""
    rebooted = (read(BOOT_ID) or "").strip() != boot
    if not rebooted:
        time.sleep(seconds)
    if read(os.path.join(saved, "armed")) != token:
        return  # a later change has its own watch
    before = load(saved)
    if before is not None and not confirmed(saved):
        for path, was in sorted(before["files"].items()):
            put(path, was["content"], was["mode"], was["uid"], was["gid"])
        if before["back"] and not rebooted:  # at boot the services begin after this, and read the files themselves
            run(before["back"])
        put(os.path.join(saved, "reverted.json"), "", 0o600)
        os.unlink(os.path.join(saved, "state.json"))  # with what it held of the files
    _forget_unit(unit_of(saved))


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


def confirm_or_fail(module, saved, drop_files=False):
    """End a module whose state is `confirmed`: what it changed stays, if this is a new connection and comes in time.

    With `drop_files` the files before are forgotten then.
    """
    if reverted(saved):
        module.fail_json(msg="it was not confirmed in time, and the state before is back")
    changed = load(saved) is not None and not confirmed(saved)
    if changed and is_old_connection(saved):
        module.fail_json(msg="this connection is older than the change, and proves nothing; the state before comes back")
    if changed and not module.check_mode:
        confirm(saved)
        if drop_files:
            drop(saved)
    module.exit_json(changed=changed)


def options(own, states=("present", "restored")):
    """The options of a module: its own, what it shall do, and where the state before is kept."""
    return dict(
        own,
        state={"type": "str", "choices": list(states), "default": "present"},
        saved={"type": "path", "required": True},
    )


if __name__ == "__main__":
    revert(sys.argv[1], float(sys.argv[2]), sys.argv[3], sys.argv[4])
