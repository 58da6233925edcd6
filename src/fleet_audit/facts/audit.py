# SPDX-License-Identifier: Apache-2.0
"""The kernel's audit: its state, the rules that are loaded, and what auditd is configured to do and to load.

Whether auditd is installed and runs is in `agents`. A container sees no rules of its host.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer
from fleet_audit.facts.texts import lines
from fleet_audit.model import Source, SourceId, Status

STATUS = Source(
    SourceId("audit-status"), "command", {"argv": ["auditctl", "-s"]},
    "auditctl(8): a name and a number on each line; before 2.4 all on one, `AUDIT_STATUS: enabled=1 flag=1 ...`.",
    needs_root=True,
)  # fmt: skip
RULES = Source(
    SourceId("audit-rules"), "command", {"argv": ["auditctl", "-l"]},
    "auditctl(8), audit-userspace source, auditctl-listing.c: rules as they would be typed; before 2.4 `LIST_RULES: exit,always ...`.",
    needs_root=True,
)  # fmt: skip
CONF = Source(
    SourceId("auditd-conf"), "file", {"paths": ["/etc/audit/auditd.conf"]}, "auditd.conf(5): name = value.", needs_root=True,
)  # fmt: skip
RULE_FILES = Source(
    SourceId("audit-rule-files"), "files", {"globs": ["/etc/audit/audit.rules", "/etc/audit/rules.d/*.rules"], "cap_each": 1 << 18},
    "audit.rules(7), augenrules(8): what is loaded at boot; audit.rules is made of rules.d.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class AuditStatus:
    """The state of the kernel's audit. Source: auditctl(8) -s."""

    enabled: Annotated[int, "0 off, 1 on, 2 on and locked until reboot"]
    failure: Annotated[int | None, "What happens when it fails: 0 nothing, 1 a message, 2 panic"]
    daemon_pid: Annotated[int | None, "Process that takes the records; 0: none"]
    rate_limit: Annotated[int | None, "Records a second at most; 0: no limit"]
    backlog_limit: Annotated[int | None, "Records that may wait"]
    lost: Annotated[int | None, "Records lost since boot"]
    backlog: Annotated[int | None, "Records that wait now"]
    loginuid_immutable: Annotated[bool | None, "A login's user id cannot be changed; NULL: an old version does not tell"]


@dataclass(frozen=True)
class AuditRule:
    """A rule that the kernel has loaded. No row: no rules. Source: auditctl(8) -l."""

    position: Annotated[int, "Place in the list, from 0"]
    rule: Annotated[str, "The rule as listed"]
    action: Annotated[str, "always or never"]
    filter: Annotated[str, "exit (watches too), user, task, exclude, filesystem or io_uring"]
    arch: Annotated[str | None, "b32 or b64, for calls of that kind of program alone"]
    syscalls: Annotated[list[str], "System calls; all where it is for any"]
    path: Annotated[str | None, "File or folder that is watched"]
    permissions: Annotated[str | None, "Kinds of access that are watched: letters of rwxa"]
    fields: Annotated[list[str], "All conditions, such as auid>=1000; those with != or < exclude much"]
    keys: Annotated[list[str], "Keys that its records carry"]


@dataclass(frozen=True)
class AuditRuleLine:
    """A line of the rule files, in the order of its file. Source: audit.rules(7)."""

    file: Annotated[str, "File"]
    position: Annotated[int, "Place in the file, from 0, comments left out"]
    rule: Annotated[str, "The line"]
    control: Annotated[bool, "A control option such as -D, -b or -e, not a rule"]
    action: Annotated[str | None, "always or never; NULL for a control option"]
    filter: Annotated[str | None, "List that it goes to"]
    arch: Annotated[str | None, "b32 or b64"]
    syscalls: Annotated[list[str], "System calls"]
    path: Annotated[str | None, "File or folder that is watched"]
    permissions: Annotated[str | None, "Kinds of access: letters of rwxa"]
    fields: Annotated[list[str], "All conditions"]
    keys: Annotated[list[str], "Keys"]


@dataclass(frozen=True)
class AuditdSetting:
    """A setting of auditd; no row: no configuration. Source: auditd.conf(5)."""

    name: Annotated[str, "Keyword, in lower case"]
    value: Annotated[str, "Value as written"]


@dataclass(frozen=True)
class _Rule:
    """What a rule says."""

    action: str
    filter: str
    arch: str | None
    syscalls: list[str]
    path: str | None
    permissions: str | None
    fields: list[str]
    keys: list[str]


_FILTERS = frozenset("exit entry user task exclude filesystem io_uring uring".split())
_BITS = {"b64": "b64", "x86_64": "b64", "aarch64": "b64", "b32": "b32", "i386": "b32", "i686": "b32", "arm": "b32"}
_IN_STATUS = ("failure", "pid", "rate_limit", "backlog_limit", "lost", "backlog")


def parse_status(evidence: Bundle) -> Iterable[AuditStatus]:
    """One row."""
    text = "\n".join(lines(evidence, STATUS))
    if text.startswith("AUDIT_STATUS:"):
        pairs = re.findall(r"(\w+)=(\d+)", text)
    else:
        pairs = re.findall(r"^(\w+)[ \t]+(\d+)(?: .*)?$", text, re.M)
    found = {"failure" if name == "flag" else name: integer(number) for name, number in pairs}
    if (enabled := found.get("enabled")) not in (0, 1, 2):
        raise NotUnderstood(f"{STATUS.id}: does not say whether it is enabled")
    if any(found.get(name) is None for name in _IN_STATUS):
        evidence.gap(STATUS, "numbers are missing")
    failure, pid, rate, limit, lost, backlog = (found.get(name) for name in _IN_STATUS)
    immutable = found.get("loginuid_immutable")
    yield AuditStatus(enabled, failure, pid, rate, limit, lost, backlog, None if immutable is None else immutable == 1)


def _bits(arch: str) -> str | None:
    """b32 or b64; numbers are the kernel's AUDIT_ARCH, whose bit 31 says 64."""
    if arch in _BITS or not re.fullmatch(r"0x[0-9a-fA-F]{1,8}|\d{1,10}", arch, re.ASCII):
        return _BITS.get(arch)
    return "b64" if int(arch, 0) & 1 << 31 else "b32"


def read_rule(text: str) -> _Rule | None:
    """A rule as auditctl(8) lists it or takes it; None if it is none."""
    options: list[list[str]] = []
    if old := re.fullmatch(r"LIST_RULES: (\S+)(?: (.*))?", text):
        options = [["-a", old[1]]]
        for word in (old[2] or "").split():
            name, equals, rest = word.partition("=")
            if equals and not word.startswith("("):
                options.append(["-S", rest] if name == "syscall" else ["-F", f"path={rest}" if name == "watch" else word])
    else:
        words = text.split()
        starts = [place for place, word in enumerate(words) if re.fullmatch(r"-[A-Za-z]", word)]
        if starts[:1] != [0]:
            return None
        options = [[words[start], " ".join(words[start + 1 : end])] for start, end in pairwise([*starts, len(words)])]
    if not options or options[0][0] not in ("-a", "-A", "-w"):
        return None
    action, filter_ = "always", "exit"
    if options[0][0] != "-w":
        words = options[0][1].split(",")
        action = next((word for word in words if word in ("always", "never", "possible")), "")
        filter_ = next((word for word in words if word in _FILTERS), "")
    fields = [rest for name, rest in options if name in ("-F", "-C")]
    if options[0][0] == "-w":
        fields += [f"path={options[0][1]}", "perm=" + next((rest for name, rest in options if name == "-p"), "rwxa")]
    keys = [rest for name, rest in options if name == "-k"] + [f[4:] for f in fields if f.startswith("key=")]
    fields = [field for field in fields if not field.startswith("key=")]
    calls = [call for name, rest in options if name == "-S" for call in rest.split(",")]
    by_name = {name: rest for name, equals, rest in (field.partition("=") for field in fields) if equals}
    if not action or not filter_ or not all(rest for _, rest in options):
        return None
    arch = _bits(by_name["arch"]) if "arch" in by_name else None
    path = by_name.get("path") or by_name.get("dir")
    return _Rule(action, filter_, arch, calls, path, by_name.get("perm"), fields, [key for text in keys for key in text.split("\x01")])


def parse_rules(evidence: Bundle) -> Iterable[AuditRule]:
    """A row per rule; the kernel says so where there are none."""
    found = lines(evidence, RULES)
    if found == ["No rules"]:
        return []
    rows: list[AuditRule] = []
    for line in found:
        if rule := read_rule(line.strip()):
            rows.append(AuditRule(len(rows), line.strip(), *_values(rule)))
        else:
            evidence.gap(RULES, "a line that is no rule")
    if not rows:
        raise NotUnderstood(f"{RULES.id}: neither rules nor `No rules`")
    return rows


def _values(rule: _Rule) -> tuple[Any, ...]:
    return tuple(getattr(rule, field.name) for field in dataclasses.fields(rule))


def parse_rule_files(evidence: Bundle) -> Iterable[AuditRuleLine]:
    """A row per line that is no comment."""
    for path, entry in evidence.entries(RULE_FILES).items():
        texts = [line.strip() for line in str(entry.get("text", "")).split("\n")]
        for position, text in enumerate(text for text in texts if text and not text.startswith("#")):
            if rule := read_rule(text):
                yield AuditRuleLine(path, position, text, False, *_values(rule))
            elif re.match(r"-[DbfericWd](\s|$)|--[a-z_-]+(\s|$)", text):
                yield AuditRuleLine(path, position, text, True, None, None, None, [], None, None, [], [])
            else:
                evidence.gap(RULE_FILES, f"{path}: a line that is no rule")


def parse_conf(evidence: Bundle) -> Iterable[AuditdSetting]:
    """A row per setting; none where the file was looked for and is not there."""
    if evidence.item(CONF).status is Status.ABSENT:
        return
    for line in lines(evidence, CONF):
        if (text := line.strip()) and not text.startswith("#"):
            if match := re.fullmatch(r"(\w+)\s*=\s*(.*)", text):
                yield AuditdSetting(match[1].lower(), match[2].strip())
            else:
                evidence.gap(CONF, "a line that is no setting")


TABLES = (
    Table("audit_status", AuditStatus, (STATUS,), parse_status),
    Table("audit_rules", AuditRule, (RULES,), parse_rules),
    Table("audit_rule_lines", AuditRuleLine, (RULE_FILES,), parse_rule_files),
    Table("auditd_settings", AuditdSetting, (CONF,), parse_conf),
)
