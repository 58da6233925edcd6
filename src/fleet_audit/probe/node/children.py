# SPDX-License-Identifier: Apache-2.0
"""Children of the program: how they are started, limited and given up."""

import errno
import os
import resource
import signal
import time

from fleet_audit.probe.node.base import ENV, PATH

WORKER_MEMORY = 512 << 20  # address space of the child that reads files


class Libc:
    """The three calls that Python 3.6 does not offer; doing without them is noted, not fatal."""

    def __init__(self, notes):
        try:
            import ctypes

            self.lib = ctypes.CDLL(None, use_errno=True)
            number = {"x86_64": 251, "aarch64": 30}.get(os.uname().machine)
            if number and self.lib.syscall(number, 1, 0, 3 << 13):
                notes.append("idle I/O priority not set")
            self.lib.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what escapes its session comes to us
        except Exception as error:
            self.lib = None
            notes.append("no libc calls: %s" % error)

    def die_with_parent(self):
        if self.lib:
            self.lib.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


class Child:
    """A running command, NVML child or worker: its pipes, deadline and what it said so far."""

    def __init__(self, name, spec, pid, out, err, boot, seconds):
        self.name, self.spec, self.pid = name, spec, pid
        self.pipes = {out: bytearray()}
        self.out, self.err, self.boot = out, err, boot
        for fd in (err, boot):
            if fd is not None:
                self.pipes[fd] = bytearray()
        self.begin = time.monotonic()
        self.deadline = self.begin + seconds
        self.ended = None  # (status, time, cpu) once reaped
        self.said = {out: b"", err: b"", boot: b""}

    def finished(self, now):
        return self.ended and (not self.pipes or now > self.ended[1] + 0.2)


def start(libc, name, spec, seconds, cpu_left, body, two_pipes=True):
    """Fork a child that runs body(out) or, without one, execs spec's argv."""
    out_r, out_w = os.pipe()
    err_r, err_w = os.pipe() if two_pipes else (None, None)
    boot_r, boot_w = os.pipe() if body is None else (None, None)
    pid = os.fork()
    if pid:
        for fd in (out_w, err_w, boot_w):
            if fd is not None:
                os.close(fd)
        for fd in (out_r, err_r, boot_r):
            if fd is not None:
                os.set_blocking(fd, False)
        return Child(name, spec, pid, out_r, err_r, boot_r, seconds)
    code = 127
    try:
        leave_group()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        libc.die_with_parent()
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(err_w if err_w is not None else null, 2)
        os.chdir("/")
        if name == "worker":  # tools and NVML map more than they use
            limit(resource.RLIMIT_AS, WORKER_MEMORY, [])
        limit(resource.RLIMIT_CPU, max(1, int(cpu_left + 0.999)), [])
        if body is not None:
            os.dup2(2, 1)  # whatever a library prints is no row
            body(out_w)
            code = 0
        else:
            os.dup2(out_w, 1)
            if spec.get("unprivileged") and os.geteuid() == 0:
                os.setgroups([])
                os.setresgid(65534, 65534, 65534)
                os.setresuid(65534, 65534, 65534)
                libc.die_with_parent()  # a change of user takes it back
            for number in (signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            execute(spec["argv"], boot_w)
    except BaseException as error:
        try:
            os.write(2, ("%s: %s" % (type(error).__name__, error)).encode("utf-8", "replace")[:400])
        except OSError:
            pass
    finally:
        os._exit(code)


def leave_group():
    """A process group of its own. A session too where there is a terminal, as under sudo's use_pty; else not:
    a new session is a new autogroup, which starts without our low priority."""
    try:
        with open("/proc/self/stat") as handle:
            if handle.read().rpartition(")")[2].split()[4] == "0":
                os.setpgid(0, 0)
                return
    except (OSError, IndexError):
        pass
    os.setsid()
    least_share()


def least_share():
    """The least share of the processor among sessions; returns why not, or None."""
    for wait in (0.11, 0.11, 0.0):
        try:
            with open("/proc/self/autogroup", "w") as handle:
                handle.write("19")
            return None
        except OSError as error:
            if error.errno != errno.EAGAIN:  # the kernel takes one write in 0.1 s from those who are not root
                return None if error.errno == errno.ENOENT else error.strerror
        time.sleep(wait)
    return "the kernel was busy"


def execute(argv, boot):
    """Exec the first argv[0] on the fixed path; else send the decisive errno."""
    worst = errno.ENOENT
    for folder in PATH:
        try:
            os.execve(argv[0] if "/" in argv[0] else folder + "/" + argv[0], argv, ENV)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno
    os.write(boot, str(worst).encode())


def limit(kind, value, notes):
    """Set a resource limit, clamped to what the node allows."""
    try:
        hard = resource.getrlimit(kind)[1]
        soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (soft, hard))
        if soft != value:
            notes.append("limit %d clamped from %d to %d" % (kind, value, soft))
    except (ValueError, OSError) as error:
        notes.append("limit %d not set: %s" % (kind, error))


def cpu_of(pid):
    """CPU seconds of a process so far, 0 if it cannot be told."""
    try:
        with open("/proc/%d/stat" % pid) as handle:
            words = handle.read().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def children():
    """Pids of our children, the adopted ones too."""
    try:
        with open("/proc/self/task/%d/children" % os.getpid()) as handle:
            return [int(pid) for pid in handle.read().split()]
    except (OSError, ValueError):
        return []


def peak_kib():
    """Peak memory of this program itself; ru_maxrss would count what started it."""
    try:
        with open("/proc/self/status") as handle:
            return next(int(line.split()[1]) for line in handle if line.startswith("VmHWM:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 0


def be_gentle(notes):
    """Least CPU priority (nice alone does nothing against other sessions), and limits."""
    try:
        os.nice(19)
    except OSError as error:
        notes.append("nice not set: %s" % error.strerror)
    problem = least_share()
    if problem:
        notes.append("autogroup priority not set: %s" % problem)
    limit(resource.RLIMIT_FSIZE, 0, notes)  # a tripwire: what would write a file is killed
    limit(resource.RLIMIT_CORE, 1, notes)  # 0 would still start a core dump helper
    limit(resource.RLIMIT_NOFILE, 512, notes)
