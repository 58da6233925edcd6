# SPDX-License-Identifier: Apache-2.0
"""The values that flow along the pipeline: frozen, standard library only.

Nothing here does I/O or knows a stage. `docs/glossary.md` explains the words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NewType

HostName = NewType("HostName", str)
"""A host's name in the inventory; unique within a run."""
SourceId = NewType("SourceId", str)
"""Name of one read-only question to a host; unique within the program."""
CheckId = NewType("CheckId", str)
"""Kebab-case name of the state that a check desires; never reused."""


class FleetAuditError(Exception):
    """Bad input or configuration: exit status 2, the message says where and what to do."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """The end of an error about a name that is not known: the nearest one that is, or else `otherwise`."""
    import difflib

    near = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {near[0]!r}?" if near else otherwise


class InternalError(Exception):
    """Our own failure: exit status 4."""


class MachineError(InternalError):
    """Trouble of this machine or its disk, which no mend of ours ends: exit status 4 too."""


class Status(StrEnum):
    """What became of one source on one host."""

    OK = "ok"
    ABSENT = "absent"
    """Not found where one looked. Whether the thing is absent is for the parser to judge."""
    DENIED = "denied"
    FAILED = "failed"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    SKIPPED = "skipped"
    """Its condition was false, so it was not read."""
    UNREACHED = "unreached"
    """Given by the controller alone: the host was not reached, or the reply ended before it."""


class Reach(StrEnum):
    """What became of a host. All but `ok` are explained by a sentence beside it."""

    OK = "ok"
    UNRESOLVED = "unresolved"
    NO_ROUTE = "no route"
    REFUSED = "refused"
    BUSY = "busy"
    HOST_KEY = "host key"
    AUTH = "auth"
    LOGIN_REFUSED = "login refused"
    FORCED_COMMAND = "forced command"
    NO_PYTHON = "no python"
    BECOME_REFUSED = "become refused"
    REQUIRES_TTY = "requires tty"
    STARTUP_NOISE = "start-up noise"
    CUT_SHORT = "cut short"
    OVER_LIMIT = "over limit"
    TIMEOUT = "timeout"


class Coverage(StrEnum):
    """How much of a table could be read on a host."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    NONE = "none"


class Outcome(StrEnum):
    """The result of one check on one host."""

    PASS = "pass"
    FAIL = "fail"
    UNKNOWN = "unknown"
    ERROR = "error"
    NOTAPPLICABLE = "notapplicable"


class Severity(StrEnum):
    """Harm if a check's state does not hold. Never changes an outcome."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for critical up to 4 for info."""
        return list(Severity).index(self)


class Secret:
    """A password. Shown nowhere: its text is had by `reveal` alone."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself, for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(...)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


@dataclass(frozen=True, slots=True)
class Become:
    """How to become root on a host."""

    method: str = "sudo"
    """`sudo` or `doas`."""
    user: str = "root"
    password: Secret | None = None
    """Sent once, in answer to sudo's prompt alone."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the inventory, and how to reach it."""

    name: HostName
    groups: tuple[str, ...] = ()
    """Sorted; without `all` and `ungrouped`."""
    address: str = ""
    """Where to connect: a name or an IP address; for an archive the folder's absolute path."""
    port: int | None = None
    """None leaves it to the SSH configuration."""
    user: str | None = None
    """None leaves it to the SSH configuration."""
    password: Secret | None = None
    key_file: str | None = None
    ssh_args: tuple[str, ...] = ()
    """Options for OpenSSH that the inventory gives, as single words."""
    connection: str = "ssh"
    """`ssh` (paramiko unless the settings need OpenSSH), `paramiko`, `openssh`, `local`, `archive`."""
    become: Become | None = None
    expected: bool = True
    """False: it need not answer (`fleet_audit_expected: false`)."""
    origin: str = ""
    """File of the inventory that names it, for messages."""


@dataclass(frozen=True, slots=True)
class DataFolder:
    """A folder of data, checkpoints or models that the policy names; its host reads metadata and first bytes there."""

    path: str
    """Absolute, without `.` and `..`."""
    kind: str = "data"
    """`data`, `checkpoints` or `models`."""
    network: bool = False
    """Whether it may lie on a network file system: only for the one host that the policy names for it."""


@dataclass(frozen=True)
class Source:
    """One read-only question to a host, answered by one reader of the probe."""

    id: SourceId
    reader: str
    """One of the closed set in `probe/node/`."""
    args: Mapping[str, Any]
    """The reader's bounded arguments: JSON values."""
    doc: str
    """What it is and where its format is documented."""
    when_exists: str | None = None
    """Read only if this path exists on the node, or something that fits this pattern, else `skipped`."""
    when_ok: SourceId | None = None
    """Read only if that source is `ok`, else `skipped`."""
    otherwise: SourceId | None = None
    """The source to read if this one does not turn out `ok`."""
    needs_root: bool = False
    """Whether an ordinary account is usually denied."""
    timeout_s: float = 10.0
    cap_bytes: int = 4 << 20

    def for_node(self) -> dict[str, Any]:
        """The definition as the probe holds it; documentation stays here."""
        spec: dict[str, Any] = {"reader": self.reader, "timeout": self.timeout_s, "cap": self.cap_bytes}
        spec.update(self.args)
        for key in ("when_exists", "when_ok", "otherwise"):
            if (value := getattr(self, key)) is not None:
                spec[key] = value
        return spec


@dataclass(frozen=True, slots=True)
class Record:
    """What one source yielded on one host. The bytes lie in the store under their hash."""

    source: SourceId
    status: Status
    detail: str = ""
    """Why it is not `ok`, in words; the head of stderr for a command."""
    exit: int | None = None
    sha256: str | None = None
    """Of the raw bytes; None where there are none."""
    size: int = 0
    seconds: float = 0.0
    """Wall time on the node; not part of what is decided."""
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class HostEvidence:
    """All that came back from one host."""

    host: HostName
    reach: Reach
    detail: str
    records: tuple[Record, ...]
    """Sorted by source; one for each source asked for, `unreached` where nothing came."""
    privileged: bool | None = None
    """Whether the probe ran as root; None if it did not run."""
    transport: str = ""
    costs: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds and peak memory on the node, wire bytes, execs, connections."""
    notes: tuple[str, ...] = ()
    """Limits that could not be set, duplicate or unasked frames, and the like."""
    started_at: float = 0.0
    """UNIX time on the controller."""
    seconds: float = 0.0

    @property
    def answered(self) -> bool:
        """Whether the probe ran and any source came back."""
        return any(r.status is not Status.UNREACHED for r in self.records)


EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Roster:
    """Who belongs to the fleet, whatever came back from them."""

    groups: Mapping[str, Sequence[str]]
    """Of the selected hosts."""
    expected: Mapping[str, bool] = field(default_factory=dict)
    """Whether a selected host must answer; one that is not named must."""
    others: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Groups of the inventory's hosts that were not selected: fleet checks count them as not compared."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """What is to be said of a host beside what it says itself."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One failing or undetermined subject of a result."""

    check: CheckId
    host: HostName
    subject: str
    outcome: Outcome
    reason: str
    fingerprint: str
    """SHA-256 of check, host and subject: the same finding in every run."""
    waiver: int | None = None
    """Number of the waiver that accepts it, counted from 0 in the policy's order."""


@dataclass(frozen=True, slots=True)
class Result:
    """The one outcome of a check on a host."""

    check: CheckId
    host: HostName
    outcome: Outcome
    reason: str
    """A sentence; empty only for `pass`."""
    subjects: int = 0
    failed: int = 0
    undetermined: int = 0
    """Exact counts of the subjects, failed ones and undetermined ones; at least one is undetermined where not all was read."""
    waived: bool = False
    """It failed, and waivers accept all that failed. It still counts as failed."""
