# SPDX-License-Identifier: Apache-2.0
"""The real program on this machine, with sources of the test's own."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_audit.model import Host, HostName, Source, SourceId
from fleet_audit.probe import loader, pack, wire
from fleet_audit.probe.dialogue import Dialogue
from fleet_audit.transport import local

_OWN = ("when_exists", "when_ok", "otherwise", "timeout_s", "cap_bytes")


def source(name: str, reader: str, **args: Any) -> Source:
    """A source; what is no argument of `Source` is one of the reader."""
    mine = {"timeout_s": 40.0} | {key: args.pop(key) for key in _OWN if key in args}
    return Source(SourceId(name), reader, args, "", **mine)


def command(name: str, *argv: str, **args: Any) -> Source:
    """A source that runs a command."""
    return source(name, "command", argv=list(argv), **args)


def shell(name: str, script: str, **args: Any) -> Source:
    """A source that runs a line of shell: for a test only, no real source has a shell."""
    return command(name, "/bin/sh", "-c", script, **args)


@dataclass
class Asked:
    """A decoded reply, and how the conversation went."""

    reply: wire.Reply
    talk: Dialogue
    exit: int | None
    wall: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> wire.Frame:
        return self.reply.frames[name]

    def status(self, name: str) -> str:
        return self.reply.frames[name].status

    def rows(self, name: str) -> Any:
        """The body of a source that is JSON."""
        return json.loads(self.reply.frames[name].body)


def payload(program: pack.Program, ids: Iterable[str], nonce: str, seconds: float, command_seconds: float, byte_budget: int) -> bytes:
    return program.packed + pack.request(ids, nonce, seconds=seconds, command_seconds=command_seconds, byte_budget=byte_budget)


def ask(
    sources: Sequence[Source],
    ids: Sequence[str] | None = None,
    *,
    program: pack.Program | None = None,
    seconds: float = 60.0,  # the probe has the least share of a busy machine
    command_seconds: float = 40.0,
    byte_budget: int = 32 << 20,
    cpu: float | None = None,
) -> Asked:
    """Carry the program to this machine and ask for the sources (all of them, or `ids`)."""
    program = program or pack.build(sources)
    nonce = secrets.token_hex(8)
    sent = payload(program, ids if ids is not None else [s.id for s in sources], nonce, seconds, command_seconds, byte_budget)
    if cpu is not None:
        sent = _with_cpu(program, sent, cpu)
    talk = Dialogue(nonce=nonce, digest=program.digest, payload=sent, nvml=program.packed_nvml, become=None, cap=64 << 20)
    begin = time.monotonic()
    carried = local.open_transport().carry(Host(HostName("here")), loader.line(program.digest, nonce, None), talk, begin + seconds + 10)
    return Asked(wire.decode(bytes(talk.reply), nonce), talk, carried.exit, time.monotonic() - begin)


def _with_cpu(program: pack.Program, sent: bytes, cpu: float) -> bytes:
    """The same payload with another CPU budget."""
    document = json.loads(sent[len(program.packed) + 8 :])
    document["budget"]["cpu"] = cpu
    data = json.dumps(document).encode()
    return program.packed + b"%08d" % len(data) + data


def altered(program: pack.Program, old: str, new: str) -> pack.Program:
    """The program with a piece of its text replaced."""
    assert program.text.count(old.encode()) == 1
    return pack.Program(text=program.text.replace(old.encode(), new.encode()), nvml=program.nvml)


class Running:
    """A probe started by hand, with its standard streams, for what no whole conversation shows."""

    def __init__(self, sources: Sequence[Source], *, seconds: float = 30.0, python: str = sys.executable, preexec: Any = None) -> None:
        self.program = pack.build(sources)
        self.nonce = secrets.token_hex(8)
        self.process = subprocess.Popen(
            [python, "-I", "-S", "-c", loader.BOOT, self.program.digest],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", preexec_fn=preexec,
        )  # fmt: skip
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        self.stdin.write(payload(self.program, [s.id for s in sources], self.nonce, seconds, 20.0, 32 << 20))
        self.stdin.flush()

    def finish(self) -> wire.Reply:
        """Read to the end, with standard input open; the reply."""
        data = self.stdout.read()
        self.end()
        return wire.decode(data, self.nonce)

    def end(self) -> None:
        """Close and reap it, by force if need be."""
        self.stdin.close()
        self.stdout.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def until(condition: Any, seconds: float = 5.0) -> bool:
    """Wait for something to come true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)
    return bool(condition())


def processes_with(word: str) -> list[int]:
    """Processes whose command line holds a word."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if word.encode() in line:
                found.append(int(entry.name))
    return found
