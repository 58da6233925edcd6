# SPDX-License-Identifier: Apache-2.0
"""Runs one role on one batch of hosts through ansible-runner, in a process of its own, and says what became of each host."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet_audit import content
from fleet_audit.model import FleetAuditError, Secret
from fleet_audit.remediation import Action
from fleet_audit.report.text import clean


@dataclass
class Played:
    """What became of a batch."""

    ok: set[str] = field(default_factory=set)
    changed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    """Host -> why; hosts that could not be reached among them."""
    lost: set[str] = field(default_factory=set)
    """Those that could not be reached."""
    diffs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reach:
    """How Ansible reaches the hosts: the inventory, whether as root, and what was given on the command line."""

    inventory: str
    become: bool
    become_password: Secret | None = None
    variables: dict[str, Any] = field(default_factory=dict)


def play(
    action: Action, hosts: Sequence[str], reach: Reach, folder: Path, *, state: str, check: bool, plan: str, extra: dict[str, Any],
    belongs: Mapping[str, set[str]], told: Callable[[str], None] = lambda line: None,
) -> Played:  # fmt: skip
    """Run a role. `state` is present, confirmed or restored; with `check` nothing is changed and `diffs` say what would be.

    A host is given its own checks, and of the variables those that no check or one of its own hands over: `belongs` says which.

    Everything that Ansible did is kept below `folder`. Raises `FleetAuditError` if Ansible could not begin.
    """
    done, ended = Played(), False

    def event(value: dict[str, Any]) -> bool:
        nonlocal ended
        data = value.get("event_data") or {}
        host, result = data.get("host"), data.get("res") or {}
        kind = value.get("event")
        ended = ended or kind == "playbook_on_stats"
        if host and kind in ("runner_on_failed", "runner_on_unreachable") and not data.get("ignore_errors"):
            done.failed[host] = str(result.get("msg") or kind)[:500]
            if kind == "runner_on_unreachable":
                done.lost.add(host)
            told(f"{host}: {'lost' if kind == 'runner_on_unreachable' else 'failed'}")
        elif host and kind == "runner_on_ok":
            done.ok.add(host)
            if result.get("changed"):
                done.changed.add(host)
                for one in [result, *(r for r in result.get("results") or [] if isinstance(r, dict))]:
                    if shown := _diff(one.get("diff")):
                        done.diffs[host] = done.diffs.get(host, "") + shown
        return True

    of_host = {
        host: {"checks": checks, "variables": {k: v for k, v in action.variables.items() if k not in belongs or belongs[k] & set(checks)}}
        for host, checks in action.findings.items()
    }  # fmt: skip
    variables = {
        **extra, "fleet_audit_role": action.role, "fleet_audit_state": state, "fleet_audit_hosts": of_host,
        "fleet_audit_saved": f"/var/lib/fleet-audit/saved/{plan}",
    }  # fmt: skip
    ident = f"{action.role}-{state}{'-check' if check else ''}"
    said = _run("remediate.yml", hosts, reach, folder, variables, ident, event, check=check)
    if not done.ok and not done.failed:
        raise FleetAuditError(f"Ansible did not begin: {said}")
    for host in hosts:
        if host not in done.failed and not ended:
            done.failed[host] = f"Ansible ended in the middle of it: {said}"
        elif host not in done.ok and host not in done.failed:
            done.failed[host] = "Ansible said nothing of it"
    done.ok -= done.failed.keys()
    return done


def ask(host: str, argv: Sequence[str], reach: Reach, folder: Path) -> tuple[int, str]:
    """Exit status and output of a command on one host, as the scheduler's own tool. Raises `FleetAuditError` if it could not be run."""
    found: list[tuple[int, str]] = []

    def event(value: dict[str, Any]) -> bool:
        result = (value.get("event_data") or {}).get("res") or {}
        if value.get("event") in ("runner_on_ok", "runner_on_failed") and isinstance(result.get("rc"), int):
            wrong = "" if result["rc"] == 0 else str(result.get("stderr") or result.get("msg") or "")
            found.append((result["rc"], str(result.get("stdout") or "") + wrong))
        return True

    said = _run("scheduler.yml", [host], reach, folder, {"fleet_audit_argv": list(argv)}, "scheduler", event)
    if not found:
        raise FleetAuditError(f"{host}: {argv[0]} could not be run there: {said}")
    return found[-1]


def _run(
    book: str, hosts: Sequence[str], reach: Reach, folder: Path, variables: dict[str, Any], ident: str, event: Callable[[dict[str, Any]], bool],
    *, check: bool = False,
) -> str:  # fmt: skip
    """Run a playbook in a process of its own; the last that it said, and where all of it is.

    Raises `KeyboardInterrupt` once Ansible has ended, if this program was asked to end meanwhile.
    """
    if importlib.util.find_spec("ansible_runner") is None:
        raise FleetAuditError("remediation needs ansible-runner: install fleet-audit with the extra `remediate`")
    import ansible_runner  # type: ignore[import-untyped]  # it has no types

    books = content.folder("playbooks")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    env = {
        "ANSIBLE_LIBRARY": str(books / "library"), "ANSIBLE_MODULE_UTILS": str(books / "module_utils"),
        "ANSIBLE_ROLES_PATH": str(books / "roles"), "ANSIBLE_RETRY_FILES_ENABLED": "0", "ANSIBLE_NOCOWS": "1", "ANSIBLE_DIFF_ALWAYS": "1",
        "ANSIBLE_LOCALHOST_WARNING": "0", "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        # Each task comes by a connection of its own: one that stays open would prove nothing of a changed sshd.
        "ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ControlPath=none", "ANSIBLE_PIPELINING": "1",
        "ANSIBLE_NO_TARGET_SYSLOG": "1",  # what a file shall hold may be a secret
        "PATH": os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", "")]),
    }  # fmt: skip
    given = folder / f"variables-{os.getpid()}.json"  # in a file: what is on a command line, everybody on this machine reads
    given.touch(mode=0o600)
    given.write_text(json.dumps({**variables, **reach.variables}))
    ident = f"{ident}-{len(list((folder / 'artifacts').glob('*'))):03d}"
    forks = max(5, min(len(hosts), 50))
    words = [
        "--diff",
        "--forks",
        str(forks),
        "--extra-vars",
        shlex.quote(f"@{given}"),
        *(["--check"] if check else []),
        *(["--become"] if reach.become else []),
    ]
    answers = {}
    if reach.become_password is not None:  # in answer to Ansible's question alone: in no argument, file or variable
        words.append("--ask-become-pass")
        answers = {r"BECOME password.*:\s*?$": reach.become_password.reveal()}
    interrupted = False

    def interrupt(number: int, frame: object) -> None:
        nonlocal interrupted
        interrupted = True

    handlers = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        run = ansible_runner.run(
            private_data_dir=str(folder), playbook=str(books / book), inventory=[reach.inventory],  # as one text it would become a file
            limit=",".join(hosts), envvars=env, cmdline=" ".join(words), passwords=answers, quiet=True,
            event_handler=event, ident=ident, suppress_env_files=True, cancel_callback=lambda: interrupted,
        )  # fmt: skip
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        given.unlink(missing_ok=True)
        for path in (folder / "artifacts").glob(f"{ident}/command"):
            _without_environment(path)
    if interrupted:
        raise KeyboardInterrupt
    out = Path(run.config.artifact_dir, "stdout")
    last = [line for line in (out.read_text("utf-8", "replace").splitlines() if out.exists() else []) if line.strip()]
    return f"{clean(last[-1], 300) if last else run.status}; all it said is in {out}"


def _without_environment(path: Path) -> None:
    """ansible-runner writes down what it was started with: the environment, with the operator's secrets, is none of a plan's artefacts."""
    try:
        found = json.loads(path.read_bytes())
    except ValueError:  # it was ended while it wrote
        path.unlink()
    else:
        path.write_text(json.dumps({"command": found.get("command"), "cwd": found.get("cwd")}))


def _diff(value: Any) -> str:
    """A unified diff of what a task reports."""
    import difflib

    parts: list[str] = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and isinstance(one.get("before"), str) and isinstance(one.get("after"), str):
            names = str(one.get("before_header") or "before"), str(one.get("after_header") or "after")
            parts += difflib.unified_diff(one["before"].splitlines(), one["after"].splitlines(), *names, n=1, lineterm="")
    return "\n".join(parts) + "\n" if parts else ""
