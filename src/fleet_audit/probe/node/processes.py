# SPDX-License-Identifier: Apache-2.0
"""The readers of processes and of listening sockets with who holds them."""

import errno
import os
import re

from fleet_audit.probe.node.base import ARCHIVE, Unread, clean, dump, reader, text
from fleet_audit.probe.node.redact import HARMLESS, redact, redact_argv, reduced

DESCRIPTOR_LIMIT = 40000  # descriptors that are looked at in search of sockets' owners
PROCESS_LIMIT = 20000
MAPS_LIMIT = 24 << 20  # bytes of mappings that are looked at in search of replaced files
ARGV_LIMIT = 4096  # characters of a command line
ARGV_HEAD = 3000  # of them, those of its beginning: a JVM names its class at the end


def raw(path, limit=1 << 16):
    """The head of a file of /proc; raises OSError."""
    with open(path, "rb") as handle:
        return handle.read(limit)


def pids():
    """Processes that can be seen, and why these may not be all (empty: they are)."""
    found = sorted(int(p) for p in os.listdir("/proc") if p.isdigit())
    try:
        with open("/proc/self/mountinfo") as lines:
            mounts = [line.split() for line in lines if " /proc " in line]
        hidden = [m for m in mounts if m[4] == "/proc" and re.search(r"hidepid=([1-9]|noaccess|invisible|ptraceable)", m[-1])]
    except (OSError, IndexError):
        hidden = []
    if 1 not in found:
        return found, "process 1 is not to be seen"
    if hidden and os.geteuid() != 0:
        return found, "/proc hides the processes of others (hidepid)"
    return found, ""


def name_of(pid):
    """{"pid", "comm", "exe"} of a process; what cannot be told is None."""
    row = {"pid": pid, "comm": None, "exe": None}
    try:
        row["comm"] = text(raw("/proc/%d/comm" % pid, 64)).rstrip("\n")
    except OSError:
        pass
    try:
        row["exe"] = clean(os.readlink("/proc/%d/exe" % pid))
    except OSError:
        pass
    return row


def owners_of(inodes):
    """({inode: [owner]}, words for what could not be looked at) by the descriptors of all processes."""
    seen, gap = pids()
    found, unread, looked = {}, 0, 0
    for pid in reversed(seen):
        try:
            fds = os.listdir("/proc/%d/fd" % pid)
        except OSError as error:
            unread += error.errno not in (errno.ENOENT, errno.ESRCH)
            continue
        looked += len(fds)
        if looked > DESCRIPTOR_LIMIT:
            return found, "more than %d descriptors on the node" % DESCRIPTOR_LIMIT
        mine = set()
        for fd in fds:
            try:
                link = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            except OSError:
                continue
            if link.startswith("socket:[") and link[8:-1] in inodes:
                mine.add(link[8:-1])
        if mine:
            owner = name_of(pid)
            for inode in mine:
                found.setdefault(inode, []).append(owner)
    return found, gap or ("descriptors of %d processes not readable" % unread if unread else "")


def listening(read, kind):
    """Rows of a table of /proc/net that listen (TCP) or are not connected (UDP)."""
    state = "0A" if kind.startswith("tcp") else "07"
    rows = []
    for line in text(read(kind)).splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == state:
            rows.append({"kind": kind, "local": words[1], "uid": words[7], "inode": words[9]})
    return rows


def namespaces():
    """({network namespace: a process in it}, words for what could not be looked at), our own left out."""
    found, unread = {}, 0
    own = os.readlink("/proc/self/ns/net")
    seen, gap = pids()
    for pid in seen:
        try:
            space = os.readlink("/proc/%d/ns/net" % pid)
        except OSError as error:
            unread += error.errno not in (errno.ENOENT, errno.ESRCH)
            continue
        if space != own:
            found.setdefault(space[5:-1], pid)
    return found, gap or ("network namespaces of %d processes not readable" % unread if unread else "")


@reader("sockets")
def read_sockets(files, spec):
    """Listening sockets with their owners, and what was not readable; with `namespaces` those of the other namespaces."""
    rows, unread, spaces, gap = [], {}, {}, ""
    if spec.get("namespaces"):
        if ARCHIVE:
            raise Unread("absent", "not recorded")
        spaces, gap = namespaces()
    places = (
        [(space, "/proc/%d/net/" % pid) for space, pid in sorted(spaces.items())[:1000]]
        if spec.get("namespaces")
        else [(None, "/proc/net/")]
    )
    for space, folder in places:
        for kind in ("tcp", "tcp6", "udp", "udp6"):
            try:
                found = listening(lambda name, folder=folder: files.read(folder + name, 64 << 20), kind)
            except Unread as problem:
                if space is None:
                    unread[kind] = {"status": problem.status, "detail": problem.detail}
                elif problem.status != "absent":
                    gap = gap or "%s%s %s" % (folder, kind, problem.status)
                continue
            rows += [dict(row, namespace=space, pid=spaces[space]) if space else row for row in found]
    owners, owners_gap = (
        ({}, "recorded without owners") if ARCHIVE else owners_of({r["inode"] for r in rows}) if rows or not spaces else ({}, "")
    )
    whole = name_of(2)["comm"] == "kthreadd"  # else we see a process namespace of its own: others may hold sockets here
    for row in rows:
        row["owners"] = owners.get(row.pop("inode"), [])
        if not row["owners"] and not owners_gap and (row["uid"] != "0" or not whole):
            owners_gap = "a socket of user %s has no owner that can be seen" % row["uid"]
    rows.sort(key=dump)
    out = {"sockets": rows, "unread": unread, "owners_gap": owners_gap}
    if spec.get("namespaces"):
        out.update(namespaces=sorted(spaces), namespaces_gap=gap)
    return dump(out)


def status_of(pid):
    """The chosen lines of /proc/PID/status as {name: words}."""
    fields = {}
    for line in text(raw("/proc/%d/status" % pid)).splitlines():
        name, _, rest = line.partition(":")
        if name in ("Name", "PPid", "Uid", "CapEff", "NoNewPrivs", "Seccomp", "NSpid", "VmSize", "Threads"):
            fields[name] = rest.split()
    return fields


def ended(fields):
    """Whether a process runs no program any more: it has given back its memory, and no thread of it lives on."""
    return "VmSize" not in fields and fields.get("Threads", ["1"])[0] in ("0", "1")


def without_ours(rows):
    """The processes that are not this program's own commands: `kubelet --version`, which it asks, is no kubelet."""
    ours, parents = os.getppid(), {row["pid"]: row["ppid"] for row in rows}  # a reader is a child of the program

    def is_ours(pid):
        for _ in range(8):  # a command's own children too
            pid = parents.get(pid)
            if pid == ours:
                return True
        return False

    return [row for row in rows if not is_ours(row["pid"])]


def shortened(words):
    """(the words of a command line within its limit, whether some in its middle were left out)."""
    if sum(len(word) + 1 for word in words) <= ARGV_LIMIT:
        return words, False
    head, tail, left = [], [], ARGV_HEAD
    for word in words:
        left -= len(word) + 1
        if left < 0:
            break
        head.append(word)
    left = ARGV_LIMIT - ARGV_HEAD - 5
    for word in reversed(words[len(head) :]):
        left -= len(word) + 1
        if left < 0:
            break
        tail.append(word)
    return head + ["..."] + tail[::-1], True


def words_of(pid):
    """(the words of a process's command line, without secrets and within its limit, whether some were left out)."""
    data = raw("/proc/%d/cmdline" % pid)
    whole = len(data) < 1 << 16
    words = text(data if whole else data.rpartition(b"\0")[0])
    words = words[:-1] if words.endswith("\0") else words
    words = words.rstrip("\0") if words.endswith("\0\0") else words  # a title that was written over the arguments
    argv, cut = shortened(redact_argv(words.split("\0")))
    return argv, cut or not whole


def group_of(pid):
    """The longest of the paths of its control groups: it says the most."""
    paths = [line.split(":", 2)[-1] for line in text(raw("/proc/%d/cgroup" % pid, 1 << 14)).split("\n")]
    return max(paths, key=len)[:500] or None


def environment(pid, plain, secret):
    """Chosen variables of a process: values of `plain` ones, kind and length of `secret` ones; None if not all of it can be told."""
    try:
        data = raw("/proc/%d/environ" % pid, 1 << 18)
    except OSError:
        return None
    if len(data) == 1 << 18:
        return None
    found = {}
    for entry in text(data).split("\0"):
        name, equals, value = entry.partition("=")
        if equals and name in secret:
            found[name] = value if HARMLESS.fullmatch(value) else reduced(value)
        elif equals and name in plain:
            found[name] = redact(entry).partition("=")[2]
            if len(found[name]) > 512:
                return None
    return found


@reader("processes")
def read_processes(files, spec):
    """Processes with their command lines, secrets reduced; kernel threads are only counted."""
    if ARCHIVE:
        raise Unread("absent", "not recorded")
    rows, kernel, gone, unread = [], 0, 0, 0
    plain, secret = frozenset(spec.get("env", ())), frozenset(spec.get("env_secret", ()))
    seen, gap = pids()
    for pid in seen[:PROCESS_LIMIT]:
        try:
            argv, cut = words_of(pid)
            fields = status_of(pid)
            if argv == [""] and (pid == 2 or fields.get("PPid") == ["2"]):
                kernel += 1
                continue
            row = name_of(pid)
            if row["exe"] is None:
                fields = status_of(pid)  # it may have ended meanwhile
        except OSError as error:
            gone += error.errno in (errno.ENOENT, errno.ESRCH)
            unread += error.errno not in (errno.ENOENT, errno.ESRCH)
            continue
        if "Uid" not in fields or "PPid" not in fields or ended(fields):
            gone += 1
            continue
        row["argv"], row["cut"] = argv, cut
        row["ppid"], row["uid"], row["euid"] = int(fields["PPid"][0]), int(fields["Uid"][0]), int(fields["Uid"][1])
        row["caps"] = fields.get("CapEff", [""])[0]
        row["no_new_privs"], row["seccomp"] = fields.get("NoNewPrivs", [None])[0], fields.get("Seccomp", [None])[0]
        row["contained"] = len(fields.get("NSpid", ["1"])) > 1
        row["cgroup"], row["label"] = None, None
        try:
            row["cgroup"] = group_of(pid)
            row["label"] = text(raw("/proc/%d/attr/current" % pid, 4096)).rstrip("\n\0")
        except OSError:
            pass
        row["env"] = environment(pid, plain, secret)
        rows.append(row)
    if len(seen) > PROCESS_LIMIT:
        gap = gap or "more than %d processes on the node" % PROCESS_LIMIT
    if unread:
        gap = gap or "%d processes not readable" % unread
    return dump({"processes": without_ours(rows), "kernel_threads": kernel, "gap": gap})


def replaced_in(pid, limit):
    """(files that a process runs code of and that are gone, bytes that were read): programs and libraries of the system's folders."""
    data = raw("/proc/%d/maps" % pid, limit)
    if b" (deleted)" not in data:
        return set(), len(data)
    found = set()
    for line in text(data).splitlines():
        words = line.split(None, 5)
        if len(words) == 6 and "x" in words[1] and re.match(r"/(usr|opt|lib|lib64|bin|sbin)/.* \(deleted\)$", words[5]):
            found.add(clean(words[5][:-10]))
    return found, len(data)


@reader("replaced_files")
def read_replaced(files, spec):
    """Programs and libraries that services of systemd still run, though their files were replaced or removed.

    Jobs, sessions and containers are left alone: they end by themselves, and their memory is none of ours.
    """
    if ARCHIVE:
        raise Unread("absent", "not recorded")
    seen, gap = pids()
    counts, left, unread = {}, MAPS_LIMIT, 0
    for pid in seen[:PROCESS_LIMIT]:
        try:
            group = group_of(pid) or ""
            unit = re.search(r"/system\.slice/(?:.*/)?([^/]+\.service)(?:/|$)", group)
            if unit is None or "/job_" in group:
                continue
            found, size = replaced_in(pid, left)
        except OSError as error:
            unread += error.errno not in (errno.ENOENT, errno.ESRCH)
            continue
        for path in found:
            counts[unit.group(1), path] = counts.get((unit.group(1), path), 0) + 1
        left -= size
        if left <= 0:
            gap = gap or "the mappings of services are longer than %d MiB" % (MAPS_LIMIT >> 20)
            break
    if len(seen) > PROCESS_LIMIT:
        gap = gap or "more than %d processes on the node" % PROCESS_LIMIT
    if unread:
        gap = gap or "%d processes not readable" % unread
    rows = [{"unit": unit, "path": path, "processes": counts[unit, path]} for unit, path in sorted(counts)]
    return dump({"replaced": rows, "gap": gap})
