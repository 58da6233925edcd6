# SPDX-License-Identifier: Apache-2.0
"""The parent: starts what is ready, collects what comes, gives up what takes too long."""

import errno
import json
import os
import resource
import select
import signal
import time
import zlib

from fleet_audit.probe.node.base import (
    ARCHIVE,
    CLOCK,
    NVML_SHA256,
    READERS,
    SOURCES,
    text,
    why,
)
from fleet_audit.probe.node.children import children, cpu_of, peak_kib, start
from fleet_audit.probe.node.frames import Frames
from fleet_audit.probe.node.nvml import nvml
from fleet_audit.probe.node.redact import redact
from fleet_audit.probe.node.readers import containing, kept, raw_cap, secretless
from fleet_audit.probe.node.work import work


class Probe:
    """The parent: starts what is ready, collects what comes, gives up what takes too long."""

    def __init__(self, request):
        self.frames = Frames(request["nonce"])
        self.budget = request["budget"]
        self.end = CLOCK + self.budget["seconds"]
        self.notes = []
        asked = [s for s in request["sources"] if s in SOURCES]
        self.unknown = [s for s in request["sources"] if s not in SOURCES]
        self.specs = {s: SOURCES[s] for s in asked}
        self.instead_of = {spec["otherwise"]: name for name, spec in self.specs.items() if "otherwise" in spec}
        self.status = {}  # source -> status, once decided
        self.todo = dict(self.specs)  # what is neither settled nor under way
        self.changed = True  # something was settled since `schedule` looked
        self.programs = None  # those of the asked commands that are on the path
        self.refused = None  # [status, detail] of a folder of the path where the others may be
        self.exists = {}  # path -> True, False; missing while unasked
        self.running = []
        self.raw = 0
        self.worker_jobs = []
        self.spent = 0.0  # CPU seconds of children that have ended
        self.nvml_blob, self.nvml_need, self.incoming = None, 0, bytearray()
        self.pid1 = cpu_of(1)

    # Answers

    def emit(self, head, body):
        name = head["source"]
        if self.raw + len(body) > self.budget["bytes"]:
            head.update(status="truncated", detail="the host's byte budget is spent", size=0)
            body = b""
        self.raw += len(body)
        self.status[name] = head["status"]
        self.todo.pop(name, None)
        self.changed = True
        self.frames.frame(head, body)

    def give_up(self, name, status, detail):
        self.emit({"source": name, "status": status, "detail": detail, "exit": None, "seconds": 0.0, "cpu": 0.0}, b"")

    # Scheduling

    @staticmethod
    def recorded(name):
        """Whether an archive holds the source's answer: it has met its conditions there."""
        return bool(ARCHIVE) and name in ARCHIVE.get("recorded", ())

    def verdict(self, name, spec):
        """`run`, `wait`, or a (status, detail) with which the source is settled unread."""
        if self.recorded(name):
            return "run"
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
        return time.process_time() + self.spent

    def schedule(self, libc):
        """Start what may start now; nothing to do while nothing was settled since the last look."""
        if not self.changed:
            return
        self.changed = False
        jobs, free = [], not any(c.name == "worker" for c in self.running)
        if free:
            paths = {spec["when_exists"] for name, spec in self.todo.items() if "when_exists" in spec and not self.recorded(name)}
            jobs = [("?" + p, {"reader": "exists", "path": p}) for p in sorted(paths) if p not in self.exists]
            if self.programs is None and not ARCHIVE:
                jobs.insert(0, ("?", {"reader": "which", "names": sorted(self.named_programs())}))
        left = self.budget["cpu"] - self.cpu_used()
        for name, spec in list(self.todo.items()):
            verdict = self.verdict(name, spec)
            if verdict == "wait":
                continue
            if verdict != "run":
                self.give_up(name, *verdict)
            elif left <= 0:
                self.give_up(name, "timeout", "the CPU budget of %.1f s is spent" % self.budget["cpu"])
            elif ARCHIVE or spec["reader"] in READERS:
                if free:
                    jobs.append((name, spec))
                    del self.todo[name]
            elif spec["reader"] == "command" and self.programs is None:
                continue
            elif spec["reader"] == "command" and "/" not in spec["argv"][0] and spec["argv"][0] not in self.programs:
                status, detail = self.refused or ("absent", os.strerror(errno.ENOENT))
                self.give_up(name, status, "%s: %s" % (spec["argv"][0], detail))
            elif sum(c.name != "worker" for c in self.running) < 2:
                self.launch(libc, name, spec, left)
        if jobs:
            self.worker_jobs = jobs
            seconds = min(self.job_time(jobs[0][1]), self.end - time.monotonic())
            self.running.append(start(libc, "worker", {}, seconds, left, lambda out: work(jobs, out), two_pipes=False))

    def named_programs(self):
        """Programs that are looked for on the fixed path."""
        return {spec["argv"][0] for spec in self.specs.values() if spec["reader"] == "command" and "/" not in spec["argv"][0]}

    def launch(self, libc, name, spec, left):
        seconds = min(self.job_time(spec), self.end - time.monotonic())
        if spec["reader"] == "nvml":
            if self.nvml_blob is None:
                if not self.nvml_need:
                    self.nvml_need = -1
                    self.frames.mark(b"W", b" nvml")
                    self.frames.flush()
                return
            import hashlib

            source = zlib.decompressobj().decompress(self.nvml_blob, 8 << 20)
            if hashlib.sha256(source).hexdigest() != NVML_SHA256:
                self.give_up(name, "failed", "the NVML part is not the one that this program names")
                return
            self.running.append(start(libc, name, spec, seconds, left, lambda out: nvml(source, out)))
        else:
            self.running.append(start(libc, name, spec, seconds, left, None))
        del self.todo[name]

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
                self.nvml_blob = bytes(self.incoming[8 : self.nvml_need])
                self.changed = True
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
            buffer += data[: max(0, 4096 - len(buffer))]
        elif child.name == "worker":
            buffer += data
            self.take(child, buffer)
        elif len(buffer) <= raw_cap(child.spec):
            buffer += data
            if len(buffer) > raw_cap(child.spec):
                self.kill(child)

    def take(self, child, buffer):
        """Hand out the worker's answers that have come whole."""
        while True:
            cut = buffer.find(b"\n")
            if cut < 0:
                return
            head = json.loads(bytes(buffer[:cut]).decode())
            if "start" in head:
                del buffer[: cut + 1]
                job = next(spec for name, spec in self.worker_jobs if name == head["start"])
                child.deadline = time.monotonic() + self.job_time(job)
                continue
            if len(buffer) < cut + 1 + head["size"]:
                return
            body = bytes(buffer[cut + 1 : cut + 1 + head["size"]])
            del buffer[: cut + 1 + head["size"]]
            self.worker_jobs.pop(0)
            self.changed = True
            if head["source"] == "?":
                found, self.refused = json.loads(body.decode()) if head["status"] == "ok" else (self.named_programs(), None)
                self.programs = frozenset(found)
            elif head["source"].startswith("?"):
                self.exists[head["source"][1:]] = head["status"] == "ok"
                if head["status"] not in ("ok", "absent"):
                    self.unsure(head["source"][1:], head["status"], head["detail"])
            else:
                self.emit(head, body)

    def unsure(self, path, status, detail):
        """A condition that could not be looked at settles the sources behind it: they are not `skipped`."""
        self.exists.setdefault(path, False)
        for name, spec in self.specs.items():
            if spec.get("when_exists") == path and name not in self.status and not self.recorded(name):
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
                    self.spent += cpu
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
        self.changed = True
        if child.name == "worker":
            jobs, self.worker_jobs = self.worker_jobs, []
            if jobs:  # it stalled or died over the first of them; the rest is scheduled again
                self.todo.update((name, spec) for name, spec in jobs[1:] if not name.startswith("?"))
                name = jobs[0][0]
                words = ("timeout", "gave no answer in time") if late else ("failed", "its reader died")
                if name == "?":
                    self.programs = self.named_programs()
                elif name.startswith("?"):
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
        over = len(body) > raw_cap(child.spec)
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
        if child.spec["reader"] == "command":
            body = secretless(containing(kept(body, child.spec), child.spec), child.spec)
        if len(body) > child.spec["cap"]:
            words = ("truncated", "more than %d bytes" % child.spec["cap"])
        said = redact(text(stderr.strip()[:400]))
        detail = words[1] + (": " if words[1] and said else "") + said if words[0] != "ok" else ""
        return {
            "source": child.name,
            "status": words[0],
            "detail": detail,
            "exit": code,
            "seconds": round(time.monotonic() - child.begin, 4),
            "cpu": round(cpu, 4),
        }, body[: child.spec["cap"]]

    def run(self, libc, wake):
        while len(self.status) < len(self.specs):
            now = time.monotonic()
            if now > self.end:
                break
            self.schedule(libc)
            fds = [0, wake] + [fd for c in self.running for fd in c.pipes]
            until = min([self.end] + [c.deadline for c in self.running] + [c.ended[1] + 0.2 for c in self.running if c.ended])
            due = self.frames.due()
            until = until if due is None else min(until, due)
            ready = select.select(fds, [], [], max(0.0, min(until - now, 1.0)))[0]
            if due is not None and time.monotonic() >= due:
                self.frames.flush()
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
            self.frames.frame(
                {
                    "source": name,
                    "status": "failed",
                    "detail": "this program does not know the source",
                    "exit": None,
                    "seconds": 0.0,
                    "cpu": 0.0,
                },
                b"",
            )

    def close(self):
        """What it all cost, and the END frame, which alone proves that the reply is whole."""
        for pid in children():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        own, kids = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        costs = {
            "cpu_self": own.ru_utime + own.ru_stime,
            "cpu_children": kids.ru_utime + kids.ru_stime,
            "cpu_init": round(cpu_of(1) - self.pid1, 2),
            "rss_children_kib": kids.ru_maxrss,
            "seconds": round(time.monotonic() - CLOCK, 4),
            "raw_bytes": self.raw,
            "rss_kib": peak_kib(),
        }
        self.frames.frame({"source": "", "status": "end", "costs": costs, "notes": self.notes, "answered": len(self.status)}, b"")
        self.frames.mark(b"Z")
        self.frames.flush()
