# SPDX-License-Identifier: Apache-2.0
"""Running on a schedule: units of systemd, a line for cron, a CronJob, and whether the last run came when it should."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet_audit.model import FleetAuditError
from fleet_audit.policy import default_path
from fleet_audit.runs import Store

FILE = "schedule.json"
EVERY = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(weeks=1), "monthly": timedelta(days=31)}
CALENDAR = {"hourly": "*-*-* *:{minute}:00", "daily": "*-*-* {hour}:{minute}:00", "weekly": "Mon *-*-* {hour}:{minute}:00",
            "monthly": "*-*-01 {hour}:{minute}:00"}  # fmt: skip
CRON = {
    "hourly": "{minute} * * * *",
    "daily": "{minute} {hour} * * *",
    "weekly": "{minute} {hour} * * 1",
    "monthly": "{minute} {hour} 1 * *",
}
GRACE = 1.25
"""A run is overdue when it is later than its interval, the spread, and a quarter of the interval on top."""
Kind = Literal["system", "user", "cron"]


class Schedule(BaseModel):
    """What was installed, as the store keeps it."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    kind: Kind
    every: str
    at: str
    """Time of day, such as 06:00; of an hourly one the minute counts."""
    spread_minutes: int
    command: list[str]
    """`run` and its arguments, as the schedule starts them."""
    keep: list[str]
    """Arguments of `prune` after each run; none: old runs stay."""
    notify: bool = False
    """Tell what changed after each run."""
    run_as: str | None = None
    credential: str | None = None
    """File with an SSH key that systemd hands to the service alone."""
    installed_at: datetime


def program() -> list[str]:
    """How this program is started by its absolute path."""
    found = shutil.which("fleet-audit", path=os.path.dirname(sys.executable))
    return [found] if found else [sys.executable, "-m", "fleet_audit"]


def hour(at: str) -> tuple[str, str]:
    """Hour and minute of a time of day. Raises `FleetAuditError` for what is none."""
    match = re.fullmatch(r"([01]\d|2[0-3]):([0-5]\d)", at)
    if match is None:
        raise FleetAuditError(f"--at {at!r}: write a time of day such as 06:00")
    return match[1], match[2]


def _quoted(word: str) -> str:
    """A word of a unit's command line: `%` and `$` mean themselves. Source: systemd.service(5), Command lines."""
    if any(ord(c) < 32 for c in word):
        raise FleetAuditError(f"{word!r}: a unit's command line holds no control characters")
    plain = word.replace("%", "%%").replace("$", "$$")
    return plain if re.fullmatch(r"[A-Za-z0-9_./:@=,+%$-]+", plain) else '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


def units(schedule: Schedule, store: Path) -> dict[str, str]:
    """{name: text} of the service and the timer."""
    hours, minute = hour(schedule.at)
    arguments = list(schedule.command)
    line = " ".join(map(_quoted, [*program(), *arguments]))
    if schedule.credential:
        line += ' --private-key "%d/ssh-key"'
    service = [
        "[Unit]", "Description=fleet-audit: audit of the fleet", "Wants=network-online.target", "After=network-online.target",
        *(["OnFailure=fleet-audit-failed.service"] if schedule.notify else []), "", "[Service]", "Type=oneshot", f"ExecStart={line}",
    ]  # fmt: skip
    if schedule.notify:
        service.append("ExecStartPost=-" + " ".join(map(_quoted, [*program(), "notify", "--store", str(store)])))
    if schedule.keep:
        service.append("ExecStartPost=" + " ".join(map(_quoted, [*program(), "prune", *schedule.keep, "--store", str(store)])))
    service += [
        "# 1: failures are open; 3: results are not known. Both are what the run says, not that it broke.", "SuccessExitStatus=1 3",
        "TimeoutStartSec=6h", "UMask=0077", "Nice=10", "NoNewPrivileges=yes", "LockPersonality=yes", "RestrictSUIDSGID=yes",
        "RestrictRealtime=yes", "SystemCallArchitectures=native",
    ]  # fmt: skip
    if schedule.kind == "system":
        service += [
            "ProtectSystem=strict", f"ReadWritePaths={_quoted(str(store))}", "ProtectHome=read-only", "PrivateTmp=yes", "PrivateDevices=yes",
            "ProtectControlGroups=yes", "ProtectClock=yes", "ProtectHostname=yes", "ProtectKernelModules=yes", "ProtectKernelTunables=yes",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK", "RestrictNamespaces=yes",
        ]  # fmt: skip
        if schedule.run_as:
            service += [f"User={schedule.run_as}", "CapabilityBoundingSet="]
    if schedule.credential:
        service.append(f"LoadCredential=ssh-key:{_quoted(schedule.credential)}")
    timer = [
        "[Unit]", "Description=fleet-audit: when the fleet is audited", "", "[Timer]",
        f"OnCalendar={CALENDAR[schedule.every].format(hour=hours, minute=minute)}", f"RandomizedDelaySec={schedule.spread_minutes}min",
        "# A run that was missed, as while the machine was off, is made up for.", "Persistent=true", "",
        "[Install]", "WantedBy=timers.target",
    ]  # fmt: skip
    found = {"fleet-audit.service": "\n".join(service) + "\n", "fleet-audit.timer": "\n".join(timer) + "\n"}
    if schedule.notify:
        words = [*program(), "notify", "--failed", "fleet-audit.service failed; `journalctl -u fleet-audit` says why", *_policy(schedule)]
        tell = ["[Unit]", "Description=fleet-audit: tell that the audit failed", "", "[Service]", "Type=oneshot",
                f"ExecStart={' '.join(map(_quoted, words))}", *[line for line in service if line.startswith("User=")]]  # fmt: skip
        found["fleet-audit-failed.service"] = "\n".join(tell) + "\n"
    return found


def _policy(schedule: Schedule) -> list[str]:
    """The policy that the scheduled audit goes by, which names who is told."""
    words = schedule.command
    named = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--policy"]
    inventory = next((word for word in words[1:] if not word.startswith("-")), None)
    beside = default_path(inventory) if inventory and not named else None
    return ["--policy", named[-1]] if named else ["--policy", str(beside)] if beside else []


def cron_line(schedule: Schedule, store: Path) -> str:
    """The line of a crontab; `%` ends a command there. Source: crontab(5)."""
    hours, minute = hour(schedule.at)
    command = shlex.join([*program(), *schedule.command])
    if schedule.notify:
        command += f"; {shlex.join([*program(), 'notify', '--store', str(store)])} >/dev/null"
    if schedule.keep:
        command += f"; {shlex.join([*program(), 'prune', *schedule.keep, '--store', str(store)])} >/dev/null"
    when = CRON[schedule.every].format(hour=int(hours), minute=int(minute))
    return f"{when} {command}".replace("%", r"\%")


def cron_job(schedule: Schedule) -> str:
    """A Kubernetes CronJob to be completed: image, volumes and secrets are the site's own."""
    hours, minute = hour(schedule.at)
    document = {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "fleet-audit"},
        "spec": {
            "schedule": CRON[schedule.every].format(hour=int(hours), minute=int(minute)), "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 3600, "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": {
                "restartPolicy": "Never",
                "containers": [{
                    "name": "fleet-audit", "image": "REGISTRY/fleet-audit:VERSION", "args": schedule.command,
                    "securityContext": {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}},
                    "volumeMounts": [{"name": "store", "mountPath": "/store"}, {"name": "ssh-key", "mountPath": "/ssh", "readOnly": True}],
                }],
                "volumes": [{"name": "store", "persistentVolumeClaim": {"claimName": "fleet-audit"}},
                            {"name": "ssh-key", "secret": {"secretName": "fleet-audit-ssh", "defaultMode": 256}}],
            }}}},
        },
    }  # fmt: skip
    return json.dumps(document, indent=2) + "\n"


# ---------------------------------------------------------------- installing


def folder(kind: Kind) -> Path:
    """Where units of a kind lie."""
    if kind == "system":
        return Path("/etc/systemd/system")
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd/user"


def install(schedule: Schedule, store: Store) -> list[Path]:
    """Write and start it; the files that were written. Raises `FleetAuditError` and leaves nothing where it cannot run."""
    if schedule.kind == "cron":
        _crontab(cron_line(schedule, store.folder))
        _save(schedule, store)
        return []
    where, written = folder(schedule.kind), []
    manager = _systemctl(schedule.kind)
    where.mkdir(parents=True, exist_ok=True)
    try:
        for name, text in units(schedule, store.folder).items():
            path = where / name
            path.with_suffix(path.suffix + ".new").write_text(text, encoding="utf-8")
            path.with_suffix(path.suffix + ".new").rename(path)
            written.append(path)
        for words in (["daemon-reload"], ["enable", "--now", "fleet-audit.timer"]):
            _told(manager(words))
    except (OSError, FleetAuditError):
        for path in written:
            path.unlink(missing_ok=True)
        raise
    _save(schedule, store)
    return written


def remove(store: Store) -> Schedule | None:
    """Undo `install`; what was installed, None if nothing was."""
    found = read(store)
    if found is None:
        return None
    if found.kind == "cron":
        _crontab(None)
    else:
        manager = _systemctl(found.kind)
        manager(["disable", "--now", "fleet-audit.timer"])
        for name in ("fleet-audit.service", "fleet-audit.timer", "fleet-audit-failed.service"):
            (folder(found.kind) / name).unlink(missing_ok=True)
        manager(["daemon-reload"])
    (store.folder / FILE).unlink(missing_ok=True)
    return found


def read(store: Store) -> Schedule | None:
    """What was installed for a store. Raises `FleetAuditError` if the note of it is broken."""
    path = store.folder / FILE
    try:
        return Schedule.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError, ValueError) as error:
        raise FleetAuditError(f"{path}: {str(error).splitlines()[0]}; `fleet-audit schedule install` writes it anew") from None


def _save(schedule: Schedule, store: Store) -> None:
    path = store.folder / FILE
    path.write_text(schedule.model_dump_json(indent=1) + "\n", encoding="utf-8")
    path.chmod(0o600)


def _systemctl(kind: Kind) -> Callable[[Sequence[str]], subprocess.CompletedProcess[str]]:
    """How the manager is told something. Raises `FleetAuditError` where there is none."""
    if shutil.which("systemctl") is None or (kind == "system" and not Path("/run/systemd/system").is_dir()):
        raise FleetAuditError("systemd does not run here; `schedule show` prints the units, --cron uses cron")

    def tell(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["systemctl", *(["--user"] if kind == "user" else []), *words], capture_output=True, text=True, check=False, timeout=60
        )

    return tell


def _told(done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode:
        raise FleetAuditError(f"{' '.join(done.args)}: {(done.stderr or done.stdout).strip() or done.returncode}")


_BEGIN, _END = "# fleet-audit begin", "# fleet-audit end"


def crontab(text: str, line: str | None) -> str:
    """A crontab with our line in the place of the old one, or without one; all other lines stay as they are."""
    kept = re.sub(rf"(?ms)^{_BEGIN}\n.*?^{_END}\n?", "", text)
    kept += "\n" if kept and not kept.endswith("\n") else ""
    return kept + (f"{_BEGIN}\n{line}\n{_END}\n" if line else "")


def _crontab(line: str | None) -> None:
    """Put our line into this account's crontab in the place of the old one, or take it out."""
    if shutil.which("crontab") is None:
        raise FleetAuditError("cron is not installed here; `schedule show` prints the line")
    done = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False, timeout=30)
    text = crontab(done.stdout if done.returncode == 0 else "", line)
    done = subprocess.run(["crontab", "-"], input=text, capture_output=True, text=True, check=False, timeout=30)
    _told(done)


# ---------------------------------------------------------------- whether it runs


def late(schedule: Schedule, last: datetime | None, now: datetime) -> timedelta | None:
    """How long a run is overdue; None if it is not. All times in UTC."""
    since = max(last or schedule.installed_at, schedule.installed_at)
    due = since + EVERY[schedule.every] * GRACE + timedelta(minutes=schedule.spread_minutes)
    return now - due if now > due else None


def last_run(store: Store) -> datetime | None:
    """When the newest audit that was sealed began, UTC: a run that read hosts and decided; an evaluation alone is none."""
    for name in reversed(store.runs()):
        try:
            file = store.find(name).file
        except FleetAuditError:
            continue
        if file.stage == "evaluated" and file.evidence_of == name:
            return datetime.strptime(name.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return None
