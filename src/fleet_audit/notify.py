# SPDX-License-Identifier: Apache-2.0
"""Telling people what changed: by rules of the policy, through apprise, once for each run, and nothing where nothing changed.

Where a message goes to is a secret: it is read from the environment or a file when it is needed, and is never kept,
shown or logged.
"""

from __future__ import annotations

import importlib.util
import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, timedelta
from pathlib import Path
from types import MappingProxyType

from fleet_audit.diff import Difference
from fleet_audit.history import Age
from fleet_audit.model import FleetAuditError
from fleet_audit.policy import NotifyFile
from fleet_audit.report.text import clean, count
from fleet_audit.runs import Run, Store

SENT = "notified.json"
LINES = 30
"""Changes that a message lists; the rest is counted."""
TRIES = 3
PAUSE_S = 2.0
"""Before the second try; twice as long before each further one."""
_HEADS = {
    "new": "New", "fixed": "Fixed", "lost-sight": "Lost from sight (failed before, not known now)", "newly-unknown": "Not known any more",
    "host-lost": "Hosts that do not answer any more", "overdue": "Fails for too long",
}  # fmt: skip


@dataclass(frozen=True)
class Message:
    """What one rule sends."""

    rule: NotifyFile
    title: str
    body: str


def messages(
    rules: Iterable[NotifyFile], found: Difference, before: Run, after: Run, ages: Mapping[str, Age] = MappingProxyType({})
) -> list[Message]:
    """The messages of a difference: one for each rule that has something to tell. `ages` are those of failures, by fingerprint."""
    lost = sorted(
        name for name, host in after.file.hosts.items()
        if not host.answered and host.expected and (old := before.file.hosts.get(name)) is not None and old.answered
    )  # fmt: skip
    made = []
    for rule in rules:
        parts: dict[str, list[str]] = {}
        for change in found.changes:
            kind = "new" if change.kind == "newly-known" else change.kind
            if kind == "open" and _overdue(rule, ages.get(change.fingerprint), before, after):
                kind = "overdue"
            groups = after.file.hosts[change.host].groups if change.host in after.file.hosts else []
            if kind in rule.on and not change.waived and change.severity.rank <= rule.severity.rank and _in(rule, groups):
                what = f" {clean(change.subject, 60)}" if change.subject else ""
                parts.setdefault(kind, []).append(
                    f"{change.severity} {clean(change.host, 60)} {change.check}{what}: {clean(change.reason, 200)}"
                )
        if "host-lost" in rule.on and (gone := [n for n in lost if _in(rule, after.file.hosts[n].groups)]):
            parts["host-lost"] = [f"{clean(n, 60)}: {after.file.hosts[n].reach}: {clean(after.file.hosts[n].detail, 200)}" for n in gone]
        if parts:
            made.append(Message(rule, _title(parts), _body(parts, found)))
    return made


def failure(rules: Iterable[NotifyFile], text: str) -> list[Message]:
    """The messages of a run that failed or did not happen."""
    return [
        Message(r, "fleet-audit: the audit did not run", clean(" ".join(text.split()), 2000) + "\n") for r in rules if "run-failed" in r.on
    ]  # fmt: skip


def _overdue(rule: NotifyFile, age: Age | None, before: Run, after: Run) -> bool:
    """Whether a failure has come to the rule's age between two runs: so it is told of once."""
    if age is None:
        return False
    since, limit = age.first_seen.astimezone(UTC).replace(tzinfo=None), timedelta(days=rule.overdue_days)
    was, now = (run.file.started_at.astimezone(UTC).replace(tzinfo=None) for run in (before, after))
    return now - since >= limit > was - since


def _in(rule: NotifyFile, groups: Sequence[str]) -> bool:
    return not rule.groups or any(group in groups for group in rule.groups)


def _title(parts: Mapping[str, list[str]]) -> str:
    words = [f"{len(lines):,} {kind.replace('-', ' ')}" for kind, lines in parts.items()]
    return "fleet-audit: " + ", ".join(words)


def _body(parts: Mapping[str, list[str]], found: Difference) -> str:
    lines = [f"{found.before} -> {found.after}"]
    for kind in _HEADS:
        if kind in parts:
            lines += ["", f"{_HEADS[kind]}: {len(parts[kind]):,}", *(f"- {line}" for line in parts[kind][:LINES])]
            if len(parts[kind]) > LINES:
                lines.append(f"  and {count(len(parts[kind]) - LINES, 'more')}".removesuffix("s"))
    notes = [f"! {clean(note, 200)}" for note in found.notes]
    return "\n".join([*lines, *([""] if notes else []), *notes]) + "\n"


def address(rule: NotifyFile) -> str:
    """Where a rule's messages go. Raises `FleetAuditError` that names the rule, and never the address."""
    if rule.env is not None:
        found = os.environ.get(rule.env, "").strip()
        if not found:
            raise FleetAuditError(f"notify {rule.name}: the environment has no {rule.env}")
        return found
    path = Path(rule.file or "")
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise FleetAuditError(f"notify {rule.name}: {path} may be read by others; it is a secret: chmod 600")
        found = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise FleetAuditError(f"notify {rule.name}: {path}: {getattr(error, 'strerror', None) or 'not a text'}") from None
    if not found:
        raise FleetAuditError(f"notify {rule.name}: {path} is empty")
    return found


def send(message: Message) -> str:
    """Send one, three times if need be; why it failed, without the address, or nothing."""
    if importlib.util.find_spec("apprise") is None:
        raise FleetAuditError("notifications need apprise: install fleet-audit with the extra `notify`")
    import logging

    import apprise

    logging.getLogger("apprise").setLevel(logging.CRITICAL)  # it would log addresses
    sender = apprise.Apprise()
    if not sender.add(address(message.rule)):
        return f"notify {message.rule.name}: the address is none that apprise knows"
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        if sender.notify(title=message.title, body=message.body, body_format=apprise.NotifyFormat.TEXT):
            return ""
    return f"notify {message.rule.name}: it could not be delivered, {TRIES} times"


def told(store: Store) -> dict[str, tuple[str, str]]:
    """{rule: (the run that it was last told of, the run of its evidence)}."""
    try:
        found = json.loads((store.folder / SENT).read_bytes())
    except (OSError, ValueError):
        return {}
    pairs = {str(k): v if isinstance(v, list) else [v, v] for k, v in found.items()} if isinstance(found, dict) else {}
    return {name: (str(v[0]), str(v[1])) for name, v in pairs.items() if len(v) == 2}


def remember(store: Store, rules: Iterable[str], run: Run) -> None:
    """Note that rules have been told of a run."""
    path = store.folder / f"{SENT}.new"
    path.write_text(
        json.dumps({**told(store), **dict.fromkeys(rules, (run.file.id, run.file.evidence_of))}, sort_keys=True) + "\n", "utf-8"
    )
    path.chmod(0o600)
    path.rename(store.folder / SENT)
