# SPDX-License-Identifier: Apache-2.0
"""The program that runs on a node. Standard library only, Python 3.6 and up.

It is carried over standard input, never installed. `pack.py` puts two lines before it
(SOURCES, the definitions of all sources as JSON, and NVML_SHA256), so the same bytes run on
every host. It takes a request of source ids and budgets, reads those sources, answers with
framed replies (`wire.py` has the format) and writes nothing on the node.

The parent process opens no path: files are read by a forked worker that is replaced when it
stalls, and commands run at most two at a time in process groups of their own.
"""
import errno
import fnmatch
import json
import os
import re
import resource
import select
import signal
import stat
import sys
import time
import zlib

SOURCES = json.loads(globals().get("SOURCES") or "{}")
NVML_SHA256 = globals().get("NVML_SHA256") or ""
ARCHIVE = globals().get("ARCHIVE")  # a recorded node's folder: set by the archive transport alone
STARTED = time.time()
CLOCK = time.monotonic()
PATH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/snap/bin")
ENV = {"PATH": ":".join(PATH), "LC_ALL": "C", "LANG": "C", "LANGUAGE": "C", "TZ": "UTC", "HOME": "/nonexistent",
       "SYSTEMD_PAGER": "", "PAGER": "cat", "SYSTEMD_COLORS": "0", "NO_COLOR": "1", "DEBIAN_FRONTEND": "noninteractive"}
NETWORK_FS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "lustre", "beegfs", "gpfs", "wekafs", "glusterfs",
              "panfs", "orangefs", "ocfs2", "gfs2", "autofs", "ncpfs", "coda")
FILE_READERS = ("file", "files", "stat", "attrs", "stanzas", "sockets")
FLUSH_AFTER = 0.25  # seconds that a frame may wait for others
RAW_LIMIT = 512 << 20  # bytes that one source may read on the node, whatever it keeps


class Unread(Exception):
    """A source that yielded nothing: its status and why."""

    def __init__(self, status, detail):
        Exception.__init__(self, status, detail)
        self.status, self.detail = status, detail


def why(error):
    """Status and words for an OSError."""
    status = {errno.ENOENT: "absent", errno.ENOTDIR: "absent", errno.EACCES: "denied", errno.EPERM: "denied"}
    return Unread(status.get(error.errno, "failed"), error.strerror or str(error))


# --- Paths ------------------------------------------------------------------------------------

def unescape(field):
    """A field of mountinfo with its octal escapes undone."""
    return re.sub(r"\\([0-7]{3})", lambda m: chr(int(m.group(1), 8)), field)


def network_mounts():
    """{mount point: type} of what may hang or disturb a shared server."""
    found = {}
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            kind = right.split(" ")[0]
            if kind in NETWORK_FS or kind.startswith("fuse."):
                found[unescape(left.split(" ")[4])] = kind
    return found


class Files:
    """Opens paths of the node: never a device, never on a network file system, by resolving links itself."""

    def __init__(self):
        self.root = ARCHIVE["root"] if ARCHIVE else ""
        self.mounts = {} if ARCHIVE else network_mounts()
        self.folders = {"/": "/"}

    def resolve(self, path, depth=0):
        """The real path inside the root, links followed; raises Unread before it touches a network mount."""
        if depth > 40:
            raise Unread("failed", "too many levels of symbolic links")
        head, _, name = path.rpartition("/")
        parent = self.folders.get(head or "/")
        if parent is None:
            parent = self.folders[head] = self.resolve(head, depth)
        if name in ("", "."):
            return parent
        if name == "..":
            return parent.rpartition("/")[0] or "/"
        here = parent.rstrip("/") + "/" + name
        if here in self.mounts:
            raise Unread("failed", "network file system (%s)" % self.mounts[here])
        try:
            target = os.readlink(self.root + here)
        except OSError:
            return here
        if not target.startswith("/"):
            target = parent.rstrip("/") + "/" + target
        return self.resolve(target, depth + 1)  # not normalised: after a link, ".." is the parent of what it leads to

    def read(self, path, limit):
        """At most limit + 1 bytes of a regular file."""
        try:
            handle = os.open(self.root + self.resolve(path), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if not stat.S_ISREG(os.fstat(handle).st_mode):
                    raise Unread("failed", "not a regular file")
                fd = self.reopen("/proc/self/fd/%d" % handle)
            finally:
                os.close(handle)
            try:
                parts, left = [], limit + 1
                while left > 0:
                    part = os.read(fd, min(left, 1 << 20))
                    if not part:
                        break
                    parts.append(part)
                    left -= len(part)
                return b"".join(parts)
            finally:
                os.close(fd)
        except OSError as error:
            raise why(error)

    @staticmethod
    def reopen(path):
        """For reading, without touching the access time where that is allowed."""
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(path, flags | os.O_NOATIME)
        except PermissionError:
            return os.open(path, flags)

    def glob(self, pattern):
        """Sorted paths that match; a pattern without a wildcard yields itself, there or not."""
        if not re.search(r"[*?[]", pattern):
            return [pattern]
        found = ["/"]
        for part in pattern.strip("/").split("/"):
            if not re.search(r"[*?[]", part):
                found = [base.rstrip("/") + "/" + part for base in found]
                continue
            step = []
            for base in found[:4096]:
                try:
                    names = os.listdir(self.root + self.resolve(base))
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENOTDIR):
                        continue
                    raise why(error)
                step += [base.rstrip("/") + "/" + n for n in sorted(fnmatch.filter(names, part))]
            found = step
        return found

    def lstat(self, path):
        """Metadata of a path itself, and its target if it is a link."""
        head, _, name = path.rpartition("/")
        real = self.root + self.resolve(head or "/").rstrip("/") + "/" + name
        if real[len(self.root):] in self.mounts:
            raise Unread("failed", "network file system (%s)" % self.mounts[real[len(self.root):]])
        try:
            info = os.lstat(real)
            link = os.readlink(real) if stat.S_ISLNK(info.st_mode) else None
        except OSError as error:
            raise why(error)
        kinds = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "dir"), (stat.S_ISLNK, "link"), (stat.S_ISCHR, "char"),
                 (stat.S_ISBLK, "block"), (stat.S_ISSOCK, "socket"), (stat.S_ISFIFO, "fifo"))
        row = {"type": next((word for test, word in kinds if test(info.st_mode)), "other"), "mode": stat.S_IMODE(info.st_mode),
               "uid": info.st_uid, "gid": info.st_gid, "size": info.st_size, "mtime": int(info.st_mtime), "link": link}
        row.update((ARCHIVE or {}).get("meta", {}).get(path, {}))
        return row


# --- Readers: each takes a source's definition and returns bytes, or raises Unread ---------------

def text(data):
    """Bytes as text that survives JSON and DuckDB: no lone surrogate."""
    return data.decode("utf-8", "backslashreplace")


def dump(value):
    """Canonical JSON: the same value gives the same bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii", "backslashreplace")


def kept(data, spec):
    """Only the lines that begin with one of `keep`; each once if `unique`."""
    if "keep" not in spec:
        return data
    lines = re.findall(b"^(?:" + b"|".join(re.escape(k.encode()) for k in spec["keep"]) + b").*", data, re.M)
    if spec.get("unique"):
        lines = list(dict.fromkeys(lines))
    return b"\n".join(lines) + (b"\n" if lines else b"")


def containing(data, spec):
    """Only the lines that hold one of `grep`, and the first line, which shows whether the start is there."""
    if "grep" not in spec:
        return data
    lines = data.split(b"\n")
    words = re.compile(b"|".join(re.escape(w.encode()) for w in spec["grep"]))
    return b"\n".join(lines[:1] + [line for line in lines[1:] if words.search(line)])


def read_file(files, spec):
    """The first of `paths` that is there."""
    for path in spec["paths"]:
        try:
            data = files.read(path, RAW_LIMIT if "keep" in spec else spec["cap"])
        except Unread as unread:
            if unread.status == "absent":
                continue
            raise
        return kept(data, spec)
    raise Unread("absent", "no such file: " + ", ".join(spec["paths"]))


def read_files(files, spec):
    """{path: {"text": ...} or {"status", "detail"}} of all that match."""
    rows, left = {}, spec["cap"]
    for pattern in spec["globs"]:
        for path in files.glob(pattern):
            if path in rows:
                continue
            try:
                data = files.read(path, min(left, spec.get("cap_each", left)))
                if len(data) > min(left, spec.get("cap_each", left)):
                    raise Unread("truncated", "longer than its limit")
                data = kept(data, spec)
                left -= len(data)
                rows[path] = {"text": text(data)}
            except Unread as unread:
                rows[path] = {"status": unread.status, "detail": unread.detail}
    return dump(rows)


def read_stat(files, spec):
    """{path: metadata or {"status", "detail"}}; never a content."""
    rows = {}
    for pattern in spec["globs"]:
        for path in files.glob(pattern):
            try:
                rows[path] = files.lstat(path)
            except Unread as unread:
                rows[path] = {"status": unread.status, "detail": unread.detail}
    return dump(rows)


def read_attrs(files, spec):
    """{folder: {attribute: text, null if not there, {"status", "detail"} if unreadable}}; for sysfs."""
    rows = {}
    for pattern in spec["globs"]:
        for folder in files.glob(pattern):
            row = rows.setdefault(folder, {})
            for name in spec.get("names", ()):
                try:
                    row[name] = text(files.read(folder + "/" + name, 4096)[:4096]).rstrip("\n\0 ")
                except Unread as unread:
                    row[name] = None if unread.status == "absent" else {"status": unread.status, "detail": unread.detail}
            for name in spec.get("links", ()):
                try:
                    link = files.lstat(folder + "/" + name)["link"]
                    row[name] = None if link is None else link.rpartition("/")[2]
                except Unread as unread:
                    row[name] = None if unread.status == "absent" else {"status": unread.status, "detail": unread.detail}
    return dump(rows)


def read_stanzas(files, spec):
    """Chosen fields of deb822 stanzas, those whose Package begins with a prefix if `prefixes` are given."""
    fields = re.compile(b"^(?:" + b"|".join(f.encode() for f in spec["fields"]) + b"): .*\n|^\n", re.M)
    wanted = re.compile(b"^Package: (?:" + b"|".join(re.escape(p.encode()) for p in spec.get("prefixes", ())) + b")", re.M)
    paths = [path for pattern in spec["globs"] for path in files.glob(pattern)]
    out, left = [], RAW_LIMIT
    for path in paths:
        try:
            data = files.read(path, left)
        except Unread as unread:
            if unread.status != "absent":
                out.append(dump({"unread": path, "status": unread.status, "detail": unread.detail}) + b"\n\n")
            elif len(paths) == 1:
                raise
            continue
        left -= len(data)
        if left <= 0:
            raise Unread("truncated", "more than %d bytes to read" % RAW_LIMIT)
        if "prefixes" in spec:
            stanzas = []
            for match in wanted.finditer(data):
                end = data.find(b"\n\n", match.start())
                stanzas.append(data[match.start():end + 2 if end >= 0 else len(data)])
            data = b"".join(stanzas)
        out += fields.findall(data + b"\n\n")
    if not paths:
        raise Unread("absent", "no such file: " + ", ".join(spec["globs"]))
    return re.sub(b"\n{3,}", b"\n\n", b"".join(out)).lstrip(b"\n")


def listening(files, kind):
    """Rows of /proc/net/<kind> that listen (TCP) or are not connected (UDP)."""
    state = "0A" if kind.startswith("tcp") else "07"
    rows = []
    for line in text(files.read("/proc/net/" + kind, 64 << 20)).splitlines()[1:]:
        words = line.split()
        if len(words) > 9 and words[3] == state:
            rows.append({"kind": kind, "local": words[1], "uid": words[7], "inode": words[9], "owners": []})
    return rows


def owners_of(inodes, budget=20000):
    """({inode: [owner]}, words for what could not be looked at) by the descriptors of all processes."""
    found, unread, looked = {}, 0, 0
    for pid in sorted((int(p) for p in os.listdir("/proc") if p.isdigit()), reverse=True):
        try:
            fds = os.listdir("/proc/%d/fd" % pid)
        except OSError as error:
            unread += error.errno not in (errno.ENOENT, errno.ESRCH)
            continue
        looked += len(fds)
        if looked > budget:
            return found, "more than %d descriptors on the node" % budget
        mine = set()
        for fd in fds:
            try:
                link = os.readlink("/proc/%d/fd/%s" % (pid, fd))
            except OSError:
                continue
            if link.startswith("socket:[") and link[8:-1] in inodes:
                mine.add(link[8:-1])
        if mine:
            owner = {"pid": pid}
            for name, get in (("comm", lambda: text(open("/proc/%d/comm" % pid, "rb").read(64)).rstrip("\n")),
                              ("exe", lambda: os.readlink("/proc/%d/exe" % pid))):
                try:
                    owner[name] = get().encode("utf-8", "backslashreplace").decode()
                except OSError:
                    owner[name] = None
            for inode in mine:
                found.setdefault(inode, []).append(owner)
    return found, "descriptors of %d processes not readable" % unread if unread else ""


def read_sockets(files, spec):
    """Listening sockets of this network namespace with their owners, and what was not readable."""
    rows, unread = [], {}
    for kind in ("tcp", "tcp6", "udp", "udp6"):
        try:
            rows += listening(files, kind)
        except Unread as gap:
            unread[kind] = {"status": gap.status, "detail": gap.detail}
    owners, gap = ({}, "recorded without owners") if ARCHIVE else owners_of({r["inode"] for r in rows})
    for row in rows:
        row["owners"] = owners.get(row["inode"], [])
        del row["inode"]
    rows.sort(key=lambda r: dump(r))
    return dump({"sockets": rows, "unread": unread, "owners_gap": gap})


READERS = {"file": read_file, "files": read_files, "stat": read_stat, "attrs": read_attrs, "stanzas": read_stanzas,
           "sockets": read_sockets}


# --- A recorded node: the same readers on another root, and outputs instead of commands ----------

def mangle(argv):
    """The file name of a command's output, as sosreport names it."""
    return re.sub(r"[^\w\-./]+", "_", " ".join(argv)).replace("/", ".").strip(" ._-")


def recorded(name, spec):
    """A source from the archive as (status, detail, exit, body), or None to run its file reader."""
    forced = ARCHIVE.get("force", {}).get(name)
    if forced:
        return forced, "forced by node.toml", None, b""
    try:
        with open("%s/%s.json" % (ARCHIVE["sources"], name), encoding="utf-8") as handle:
            entry = json.load(handle)
        return entry["status"], entry.get("detail", ""), entry.get("exit"), entry.get("text", "").encode("utf-8", "surrogateescape")
    except FileNotFoundError:
        pass
    if spec["reader"] in FILE_READERS:
        return None
    if spec["reader"] != "command":
        return "absent", "not recorded", None, b""
    label = mangle(spec["argv"])
    try:
        with open("%s/%s" % (ARCHIVE["commands"], label), "rb") as handle:
            body = handle.read(spec["cap"] + 1)
    except FileNotFoundError:
        return "absent", "no such command recorded: " + label, None, b""
    code = ARCHIVE.get("exits", {}).get(label, 0)
    if code not in spec.get("ok_exits", [0]):
        return "failed", "exit %d" % code, code, body
    return "ok", "", code, containing(kept(body, spec), spec)


# --- The worker: reads files so that the parent never can hang -----------------------------------

def work(jobs, out):
    """Run file jobs in order, a line of JSON and the body on `out` for each; `exists` jobs answer conditions."""
    files = Files()
    for name, spec in jobs:
        os.write(out, dump({"start": name}) + b"\n")
        begin, cpu = time.monotonic(), time.process_time()
        status, detail, code, body = "ok", "", None, b""
        try:
            if spec["reader"] == "exists":
                found = files.glob(spec["path"])
                if not found:
                    raise Unread("absent", "nothing there")
                try:
                    os.lstat(files.root + files.resolve(found[0]))
                except OSError as error:
                    raise why(error)
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
            status, detail, body = "truncated", "longer than %d bytes" % spec["cap"], body[:spec["cap"]]
        head = {"source": name, "status": status, "detail": detail[:500], "exit": code, "size": len(body),
                "seconds": round(time.monotonic() - begin, 4), "cpu": round(time.process_time() - cpu, 4)}
        data = dump(head) + b"\n" + body
        while data:
            data = data[os.write(out, data):]


# --- NVML, in a child of its own -----------------------------------------------------------------

NVML_SYSTEM = (("driver_version", "nvmlSystemGetDriverVersion", ()), ("nvml_version", "nvmlSystemGetNVMLVersion", ()),
               ("cuda_driver_version", "nvmlSystemGetCudaDriverVersion_v2", ()),
               ("cc_state", "nvmlSystemGetConfComputeState", ()),
               ("cc_capabilities", "nvmlSystemGetConfComputeCapabilities", ()),
               ("cc_ready", "nvmlSystemGetConfComputeGpusReadyState", ()))
NVML_DEVICE = (("uuid", "nvmlDeviceGetUUID", ()), ("name", "nvmlDeviceGetName", ()), ("pci", "nvmlDeviceGetPciInfo", ()),
               ("vbios", "nvmlDeviceGetVbiosVersion", ()), ("inforom_image", "nvmlDeviceGetInforomImageVersion", ()),
               ("gsp_version", "nvmlDeviceGetGspFirmwareVersion", ()),
               ("gsp_mode", "nvmlDeviceGetGspFirmwareMode", ()), ("ecc", "nvmlDeviceGetEccMode", ()),
               ("ecc_uncorrected_volatile", "nvmlDeviceGetTotalEccErrors", (1, 0)),
               ("ecc_uncorrected_aggregate", "nvmlDeviceGetTotalEccErrors", (1, 1)),
               ("remapped_rows", "nvmlDeviceGetRemappedRows", ()), ("mig", "nvmlDeviceGetMigMode", ()),
               ("persistence", "nvmlDeviceGetPersistenceMode", ()), ("virtualization", "nvmlDeviceGetVirtualizationMode", ()),
               ("architecture", "nvmlDeviceGetArchitecture", ()), ("compute_mode", "nvmlDeviceGetComputeMode", ()),
               ("board_part", "nvmlDeviceGetBoardPartNumber", ()),
               ("compute_processes", "nvmlDeviceGetComputeRunningProcesses", ()),
               ("graphics_processes", "nvmlDeviceGetGraphicsRunningProcesses", ()))


def plain(value):
    """An NVML value as JSON: bytes as text, structures by their fields."""
    if isinstance(value, bytes):
        return text(value)
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "_fields_"):
        return {name: plain(getattr(value, name)) for name, _ in value._fields_}
    if hasattr(value, "__dict__") and not isinstance(value, (int, float, str)):
        return {k: plain(v) for k, v in vars(value).items() if not k.startswith("_")}
    return value


def nvml(source, out):
    """A line of JSON per call, unbuffered, so that a crash loses only the rest."""
    import types
    module = sys.modules["pynvml"] = types.ModuleType("pynvml")
    exec(compile(source, "pynvml", "exec"), module.__dict__)

    def call(row, function, *args):
        try:
            row["value"] = plain(getattr(module, function)(*args))
        except module.NVMLError as error:
            row["error"] = error.value
        except Exception as error:
            row["error"] = "%s: %s" % (type(error).__name__, error)
        os.write(out, dump(row) + b"\n")
        return row

    def cc_settings():
        settings = module.c_nvmlSystemConfComputeSettings_v1_t()
        module._nvmlCheckReturn(module.nvmlSystemGetConfComputeSettings(module.byref(settings)))
        return settings

    module.cc_settings = cc_settings  # the module's own wrapper wants a structure to fill
    begun = call({"scope": "system", "name": "init"}, "nvmlInit")
    if "error" in begun:
        raise RuntimeError("nvmlInit gives error %s" % begun["error"])  # not `ok`: nvidia-smi is asked instead
    call({"scope": "system", "name": "cc_settings"}, "cc_settings")
    for name, function, args in NVML_SYSTEM:
        call({"scope": "system", "name": name}, function, *args)
    count = call({"scope": "system", "name": "count"}, "nvmlDeviceGetCount").get("value") or 0
    for index in range(min(count, 64)):
        try:
            handle = module.nvmlDeviceGetHandleByIndex(index)
        except module.NVMLError as error:
            os.write(out, dump({"scope": "gpu", "index": index, "name": "handle", "error": error.value}) + b"\n")
            continue
        for name, function, args in NVML_DEVICE:
            call({"scope": "gpu", "index": index, "name": name}, function, handle, *args)
    os.write(out, dump({"scope": "system", "name": "end", "value": True}) + b"\n")


# --- Children ------------------------------------------------------------------------------------

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


class Probe:
    """The parent: starts what is ready, collects what comes, gives up what takes too long."""

    def __init__(self, request):
        self.nonce = request["nonce"]
        self.budget = request["budget"]
        self.end = CLOCK + self.budget["seconds"]
        self.notes = []
        asked = [s for s in request["sources"] if s in SOURCES]
        self.unknown = [s for s in request["sources"] if s not in SOURCES]
        self.specs = {s: SOURCES[s] for s in asked}
        self.instead_of = {spec["otherwise"]: name for name, spec in self.specs.items() if "otherwise" in spec}
        self.status = {}  # source -> status, once decided
        self.exists = {}  # path -> True, False; missing while unasked
        self.running = []
        self.raw = 0
        self.worker_jobs = []
        self.out, self.flushed = bytearray(), CLOCK
        self.nvml_blob, self.nvml_need, self.incoming = None, 0, bytearray()
        self.pid1 = cpu_of(1)

    # Output

    def write(self, data):
        """Frames leave together: each packet costs the controller more than the bytes in it."""
        self.out += data
        if len(self.out) >= 1 << 16:
            self.flush()

    def flush(self):
        while self.out:
            del self.out[:os.write(1, self.out)]
        self.flushed = time.monotonic()

    def emit(self, head, body):
        name = head["source"]
        if self.raw + len(body) > self.budget["bytes"]:
            head.update(status="truncated", detail="the host's byte budget is spent", size=0)
            body = b""
        self.raw += len(body)
        self.status[name] = head["status"]
        self.frame(head, body)

    def frame(self, head, body):
        head["size"] = len(body)
        top, packed = dump(head), zlib.compress(body, 6)
        crc = zlib.crc32(packed, zlib.crc32(top))
        line = "\nF%s %d %d %08x\n" % (self.nonce, len(top), len(packed), crc)
        self.write(line.encode() + top + packed)

    def give_up(self, name, status, detail):
        self.emit({"source": name, "status": status, "detail": detail, "exit": None, "seconds": 0.0, "cpu": 0.0}, b"")

    # Scheduling

    def verdict(self, name, spec):
        """`run`, `wait`, or a (status, detail) with which the source is settled unread."""
        if ARCHIVE and name in ARCHIVE.get("recorded", ()):
            return "run"  # what was recorded has met its conditions there
        path = spec.get("when_exists")
        if path is not None:
            if path not in self.exists:
                return "wait"
            if not self.exists[path]:
                return "skipped", "no %s on this node" % path
        after = spec.get("when_ok")
        if after is not None:
            if after not in self.status:
                return "wait" if after in self.specs else ("skipped", "%s was not asked for" % after)
            if self.status[after] != "ok":
                return "skipped", "%s is %s" % (after, self.status[after])
        first = self.instead_of.get(name)
        if first is not None:
            if first not in self.status:
                return "wait"
            if self.status[first] == "ok":
                return "skipped", "%s was read" % first
        return "run"

    def cpu_used(self):
        return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))

    def schedule(self, libc):
        active = {c.name for c in self.running} | {name for name, _ in self.worker_jobs}
        paths = {s["when_exists"] for s in self.specs.values() if "when_exists" in s}
        jobs = [("?" + p, {"reader": "exists", "path": p}) for p in sorted(paths) if p not in self.exists]
        left = self.budget["cpu"] - self.cpu_used()
        for name, spec in self.specs.items():
            if name in self.status or name in active:
                continue
            verdict = self.verdict(name, spec)
            if verdict == "wait":
                continue
            if verdict != "run":
                self.give_up(name, *verdict)
            elif left <= 0:
                self.give_up(name, "timeout", "the CPU budget of %.1f s is spent" % self.budget["cpu"])
            elif ARCHIVE or spec["reader"] in FILE_READERS:
                jobs.append((name, spec))
            elif sum(c.name != "worker" for c in self.running) < 2:
                self.launch(libc, name, spec, left)
        if jobs and not any(c.name == "worker" for c in self.running):
            self.worker_jobs = jobs
            seconds = min(self.job_time(jobs[0][1]), self.end - time.monotonic())
            self.running.append(start(libc, "worker", {}, seconds, left, lambda out: work(jobs, out), two_pipes=False))

    def launch(self, libc, name, spec, left):
        seconds = min(self.job_time(spec), self.end - time.monotonic())
        if spec["reader"] == "nvml":
            if self.nvml_blob is None:
                if not self.nvml_need:
                    self.nvml_need = -1
                    self.write(("\nW%s nvml\n" % self.nonce).encode())
                    self.flush()
                return
            import hashlib
            source = zlib.decompressobj().decompress(self.nvml_blob, 8 << 20)
            if hashlib.sha256(source).hexdigest() != NVML_SHA256:
                self.give_up(name, "failed", "the NVML part is not the one that this program names")
                return
            self.running.append(start(libc, name, spec, seconds, left, lambda out: nvml(source, out)))
        else:
            self.running.append(start(libc, name, spec, seconds, left, None))

    def job_time(self, spec):
        return min(spec.get("timeout", 10.0), self.budget["command_seconds"])

    # Events

    def stdin(self):
        """Whether the controller is still there; takes in the NVML part if it was asked for."""
        data = os.read(0, 1 << 16)
        if not data:
            return False
        if self.nvml_need:
            self.incoming += data
            if self.nvml_need < 0 and len(self.incoming) >= 8:
                self.nvml_need = 8 + int(bytes(self.incoming[:8]))
            if 0 < self.nvml_need <= len(self.incoming):
                self.nvml_blob = bytes(self.incoming[8:self.nvml_need])
        return True

    def drain(self, child, fd):
        try:
            data = os.read(fd, 1 << 18)
        except BlockingIOError:
            return
        buffer = child.pipes[fd]
        if not data:
            os.close(fd)
            child.said[fd] = bytes(child.pipes.pop(fd))
        elif fd == child.err:
            buffer += data[:max(0, 4096 - len(buffer))]
        elif child.name == "worker":
            buffer += data
            self.take(child, buffer)
        elif len(buffer) <= self.raw_cap(child):
            buffer += data
            if len(buffer) > self.raw_cap(child):
                self.kill(child)

    @staticmethod
    def raw_cap(child):
        return (16 << 20) if "grep" in child.spec or "keep" in child.spec else child.spec.get("cap", 4096)

    def take(self, child, buffer):
        """Hand out the worker's answers that have come whole."""
        while True:
            cut = buffer.find(b"\n")
            if cut < 0:
                return
            head = json.loads(bytes(buffer[:cut]).decode())
            if "start" in head:
                del buffer[:cut + 1]
                job = next(spec for name, spec in self.worker_jobs if name == head["start"])
                child.deadline = time.monotonic() + self.job_time(job)
                continue
            if len(buffer) < cut + 1 + head["size"]:
                return
            body = bytes(buffer[cut + 1:cut + 1 + head["size"]])
            del buffer[:cut + 1 + head["size"]]
            self.worker_jobs.pop(0)
            if head["source"].startswith("?"):
                self.exists[head["source"][1:]] = head["status"] == "ok"
                if head["status"] not in ("ok", "absent"):
                    self.unsure(head["source"][1:], head["status"], head["detail"])
            else:
                self.emit(head, body)

    def unsure(self, path, status, detail):
        """A condition that could not be looked at settles the sources behind it: they are not `skipped`."""
        self.exists.setdefault(path, False)
        for name, spec in self.specs.items():
            if spec.get("when_exists") == path and name not in self.status:
                self.give_up(name, status, "%s: %s" % (path, detail))

    def kill(self, child):
        for target in (os.killpg, os.kill):
            try:
                target(child.pid, signal.SIGKILL)
            except OSError:
                pass

    def reap(self):
        for child in self.running:
            if not child.ended:
                try:
                    pid, status, usage = os.wait4(child.pid, os.WNOHANG)
                except ChildProcessError:
                    pid, status, usage = child.pid, 0, None
                if pid:
                    cpu = usage.ru_utime + usage.ru_stime if usage else 0.0
                    child.ended = (status, time.monotonic(), cpu)
                    try:
                        os.killpg(child.pid, signal.SIGKILL)  # what it left in the background
                    except OSError:
                        pass

    def settle(self, child, late):
        """Turn an ended (or given up) child into its answer."""
        self.running.remove(child)
        for fd in list(child.pipes):
            child.said[fd] = bytes(child.pipes.pop(fd))
            os.close(fd)
        if child.name == "worker":
            jobs, self.worker_jobs = self.worker_jobs, []
            if jobs:  # it stalled or died over the first of them; the rest is scheduled again
                name = jobs[0][0]
                words = ("timeout", "gave no answer in time") if late else ("failed", "its reader died")
                if name.startswith("?"):
                    self.unsure(name[1:], *words)
                else:
                    self.give_up(name, *words)
            return
        self.emit(*self.answer(child, late))

    def answer(self, child, late):
        """Header and body for a command or the NVML child."""
        body, stderr, boot = child.said[child.out], child.said.get(child.err, b""), child.said.get(child.boot, b"")
        status, _, cpu = child.ended or (0, 0.0, 0.0)
        number, code = status & 127, status >> 8
        over = len(body) > self.raw_cap(child)
        words = ("ok", "")
        if boot:
            gap = why(OSError(int(boot), os.strerror(int(boot))))
            words, code = (gap.status, "%s: %s" % (child.spec["argv"][0], gap.detail)), None
        elif late:
            words, code = ("timeout", "no answer within its time"), None
        elif over:
            words = ("truncated", "more than %d bytes" % child.spec["cap"])
        elif number:
            words, code = ("failed", "killed by signal %d" % number), None
        elif code not in child.spec.get("ok_exits", [0]):
            words = ("failed", "exit %d" % code)
        if not over and child.spec["reader"] == "command":
            body = containing(kept(body, child.spec), child.spec)
        if len(body) > child.spec["cap"]:
            words = ("truncated", "more than %d bytes" % child.spec["cap"])
        detail = words[1] + (": " if words[1] and stderr.strip() else "") + text(stderr.strip()[:400]) if words[0] != "ok" else ""
        return {"source": child.name, "status": words[0], "detail": detail, "exit": code,
                "seconds": round(time.monotonic() - child.begin, 4), "cpu": round(cpu, 4)}, body[:child.spec["cap"]]

    def run(self, libc, wake):
        while len(self.status) < len(self.specs):
            now = time.monotonic()
            if now > self.end:
                break
            self.schedule(libc)
            fds = [0, wake] + [fd for c in self.running for fd in c.pipes]
            until = min([self.end] + [c.deadline for c in self.running] + [c.ended[1] + 0.2 for c in self.running if c.ended])
            if self.out:
                until = min(until, self.flushed + FLUSH_AFTER)
            ready = select.select(fds, [], [], max(0.0, min(until - now, 1.0)))[0]
            if self.out and time.monotonic() >= self.flushed + FLUSH_AFTER:
                self.flush()
            if 0 in ready and not self.stdin():
                os._exit(96)
            if wake in ready:
                os.read(wake, 512)
            for child in list(self.running):
                for fd in [fd for fd in child.pipes if fd in ready]:
                    self.drain(child, fd)
            self.reap()
            now = time.monotonic()
            for child in list(self.running):
                late = not child.ended and now > child.deadline
                if late:
                    self.kill(child)
                if late or child.finished(now):
                    self.settle(child, late)
        for child in list(self.running):
            self.kill(child)
        for name in self.specs:
            if name not in self.status:
                self.give_up(name, "timeout", "the host's time of %g s was over" % self.budget["seconds"])
        for name in self.unknown:
            self.frame({"source": name, "status": "failed", "detail": "this program does not know the source",
                        "exit": None, "seconds": 0.0, "cpu": 0.0}, b"")

    def close(self):
        """What it all cost, and the END frame, which alone proves that the reply is whole."""
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        own, kids = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        costs = {"cpu_self": own.ru_utime + own.ru_stime, "cpu_children": kids.ru_utime + kids.ru_stime,
                 "cpu_init": round(cpu_of(1) - self.pid1, 2), "rss_children_kib": kids.ru_maxrss,
                 "seconds": round(time.monotonic() - CLOCK, 4), "raw_bytes": self.raw, "rss_kib": peak_kib()}
        self.frame({"source": "", "status": "end", "costs": costs, "notes": self.notes, "answered": len(self.status)}, b"")
        self.write(("\nZ%s\n" % self.nonce).encode())
        self.flush()


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


def main(stream):
    request = json.loads(stream.read(int(stream.read(8))).decode("utf-8"))
    probe = Probe(request)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(probe.budget["seconds"]) + 5)
    os.umask(0o077)
    hello = {"python": sys.version.split()[0], "uid": os.getuid(), "euid": os.geteuid(), "time": STARTED}
    probe.write(b"\nFA1 " + probe.nonce.encode() + b" " + dump(hello) + b"\n")
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
        probe.flush()


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
