# SPDX-License-Identifier: Apache-2.0
"""The roll-out of a plan: check mode, canaries, batches, each drained if it must be, changed, confirmed, audited; and the way back."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from fleet_audit import draining, policy, remediation, roleplay, sitetests
from fleet_audit.findings import Report
from fleet_audit.model import FleetAuditError, Secret
from fleet_audit.planlog import PlanLog
from fleet_audit.report.text import clean, count
from fleet_audit.runs import Store

LOOK = "gpu-work-runs-in-jobs"
"""A check that leans on the table of GPU processes: it is run to look whether a node has GPU work."""
PLAN_ID = re.compile(r"[0-9a-f]{12}")
POLL_S = 10
"""Seconds between two looks at the scheduler."""


def say(line: str, *, err: bool = False) -> None:
    """Tell whoever reads; that nobody reads any more does not end a roll-out in its middle."""
    try:
        click.echo(line, err=err)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2 if err else 1)


def open_log(plan_file: Path, store_folder: Path | None) -> tuple[PlanLog, Store]:
    """The plan of a file, or of an id, with what was done of it, and the store that keeps both. Raises `FleetAuditError`."""
    from fleet_audit.cli import _pipeline

    store = _pipeline.open_store(store_folder)
    store.folder = store.folder.absolute()
    plans = store.folder / "remediation"
    kept = plans / plan_file.name / "plan.json"
    if not plan_file.exists() and PLAN_ID.fullmatch(str(plan_file)) and kept.is_file():
        plan_file = kept
    if not plan_file.is_file():
        raise FleetAuditError(f"{plan_file}: no such plan; a plan that was begun is known in its store by its id too")
    plan = remediation.load(plan_file)
    store.find(plan.run)  # or it is another store, in which nothing of the plan is known
    folder = plans / plan.plan
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = PlanLog(plan, folder)
    log.check()
    return log, store


@dataclass
class Rollout:
    """A plan that is carried out or taken back, and all that this needs."""

    log: PlanLog
    file: Path
    store: Store
    given: Mapping[str, Any]
    """What the command line says of the way to the hosts."""
    reach: roleplay.Reach
    drain: str | None
    deadline_s: float
    confirm_s: int
    lost: set[str] = field(default_factory=set)
    """Hosts that check mode could not reach: they are left."""
    unfit: set[tuple[int, str]] = field(default_factory=set)
    """(action, host) of what check mode could not carry out: it is left."""

    @classmethod
    def begin(cls, plan_file: Path, given: dict[str, Any], *, drain: str | None, deadline_s: float, confirm_s: int) -> Rollout:
        """Open a plan, ask for the password if one is to be asked for, and let no other program carry it out meanwhile.

        Raises `FleetAuditError`.
        """
        log, store = open_log(plan_file, given["store_folder"])
        path = log.plan.policy_file
        if path and not os.path.exists(path):
            raise FleetAuditError(f"{path}: the policy of plan {log.plan.plan} is not there, and by another one its hosts would be judged")
        if "," not in log.plan.inventory and not os.path.exists(log.plan.inventory):
            raise FleetAuditError(f"{log.plan.inventory}: the inventory of plan {log.plan.plan} is not there")
        if given["private_key"] and not os.path.isfile(given["private_key"]):
            raise FleetAuditError(f"--private-key {given['private_key']}: no such file")
        password = None
        if given["ask_become_pass"]:
            if not sys.stdin.isatty():
                raise FleetAuditError(
                    "a password was to be asked for, and standard input is no terminal; give it in the inventory, by Ansible Vault"
                )
            given["become"] = True
            password = Secret(click.prompt("Password to become root", hide_input=True, err=True))
        try:  # held until the program ends: two plans may have a node in common, and each would give it back to its scheduler
            fcntl.flock(os.open(log.folder.parent / "lock", os.O_WRONLY | os.O_CREAT, 0o600), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FleetAuditError(
                "this plan, or another one of this store, is being carried out or taken back by another program"
            ) from None
        for old in log.folder.glob("variables-*.json"):  # of a program that was killed
            old.unlink()
        store.writable()
        more = {**({"ansible_user": given["user"]} if given["user"] else {}),
                **({"ansible_ssh_private_key_file": str(Path(given["private_key"]).absolute())} if given["private_key"] else {})}  # fmt: skip
        reach = roleplay.Reach(log.plan.inventory, given["become"], password, more)
        made = cls(log, plan_file, store, given, reach, drain, deadline_s, confirm_s)
        if drain in ("slurm", "kubernetes"):
            _ = made.scheduler  # that the policy does not say where it runs is told before anything is done
        return made

    @property
    def plan(self) -> remediation.Plan:
        """What is carried out or taken back."""
        return self.log.plan

    # --- Forward ---------------------------------------------------------------------------------

    def show(self, pending: Sequence[tuple[int, remediation.Action]]) -> bool:
        """Check mode of all that is to be done, with its differences; whether anything of it can be done.

        A host that cannot be reached is left, and a role is left on a host where it cannot be carried out.
        """
        done, able = self.log.done(), False
        for index, action in pending:
            hosts = [h for batch in action.batches for h in batch if (index, h) not in done]
            played = self._tried(action, hosts, "present")
            for host, why in sorted(played.failed.items()):
                lost = host in played.lost
                say(
                    f"{clean(host)}: {'left, it cannot be reached' if lost else f'{action.role} is left there'}: {clean(why, 500)}",
                    err=True,
                )
            self.lost |= played.lost
            self.unfit |= {(index, host) for host in played.failed.keys() - played.lost}
            able = able or bool(set(hosts) - played.failed.keys())
        return able

    def _tried(self, action: remediation.Action, hosts: Sequence[str], state: str) -> roleplay.Played:
        """Check mode of one role, its differences shown."""
        say(f"{action.role} on {count(len(hosts), 'host')}, in check mode{'' if state == 'present' else ': what is restored'}")
        played = self._play(action, hosts, state, check=True)
        for host in sorted(played.diffs):
            lines = [clean(line, 300) for line in played.diffs[host].splitlines()]  # what a node's file holds is a node's text
            say("\n".join([f"--- {clean(host)}", *lines]))
        return played

    def out(self, pending: Sequence[tuple[int, remediation.Action]], before: Report) -> int:
        """Carry it out, batch by batch; the exit status."""
        self.log.keep()
        left: list[str] = [*sorted(self.lost), *(f"{self.plan.actions[i].role} on {host}" for i, host in sorted(self.unfit))]
        done = self.log.done()
        for index, action in pending:
            if action.disruption != "none" and self.drain is None:
                left.append(action.role)
                say(f"{action.role} is left, as it disturbs ({action.disruption}): --drain slurm or kubernetes takes nodes out first, "
                           "--drain none says that nothing is scheduled there", err=True)  # fmt: skip
                continue
            for number, batch in enumerate(action.batches):
                hosts = [h for h in batch if (index, h) not in done | self.unfit and h not in self.lost]
                try:
                    if action.disruption != "none" and hosts:
                        hosts, busy = self.free(hosts)
                        left += busy
                    problem = self._batch(index, action, number, hosts, before) if hosts else ""
                    if not problem:
                        self.give_back(hosts)
                except FleetAuditError as error:  # hosts may be changed or drained: exit status 2 would say that nothing is
                    problem = str(error)
                except KeyboardInterrupt:
                    self._say_interrupted()
                    raise
                if problem:
                    say(f"stopped: {clean(problem, 1000)}; `fleet-audit remediate rollback {self.file}` takes it back", err=True)
                    self._say_held()
                    return 1
        say(f"done, but for {', '.join(map(clean, left[:8]))}" if left else "done: what was planned is shown to pass")
        self._say_held()
        return 3 if left else 0

    def _say_interrupted(self) -> None:
        say("interrupted: apply it again to complete it, or roll it back", err=True)
        if begun := self.log.begun():
            say(f"half changed: {', '.join(map(clean, sorted(begun)))}", err=True)
        self._say_held()

    def _say_held(self) -> None:
        if held := self.log.held():
            say(f"out of scheduling until it is applied again, or taken back: {', '.join(map(clean, held))}", err=True)

    def _batch(self, index: int, action: remediation.Action, number: int, hosts: Sequence[str], before: Report) -> str:
        """One batch: changed, confirmed, audited; why the roll-out stops, or nothing."""
        word = "canaries" if number == 0 else f"batch {number + 1} of {len(action.batches)}"
        say(f"{action.role}, {word}: {', '.join(hosts[:8])}{' ...' if len(hosts) > 8 else ''}")
        self.log.note("begun", hosts, action=index)
        played = self._play(action, hosts, "present")
        if played.failed:
            alone = "; what was changed on the others comes back by itself, unless it is applied again in time" if action.confirm else ""
            return "; ".join(f"{h}: {clean(w, 300)}" for h, w in sorted(played.failed.items())[:5]) + alone
        for host in hosts:
            say(f"  {clean(host)}: {'changed' if host in played.changed else 'as it was'}")
        if action.confirm:
            confirmed = self._play(action, hosts, "confirmed")
            if confirmed.failed:
                lost = ", ".join(sorted(confirmed.failed)[:5])
                return f"no new connection to {lost} could confirm it; the nodes put the state before back by themselves"
        tables = set(remediation.roles()[action.role].file.tables)
        touched = {str(c.id) for c in before.checks if set(c.tables) & tables} | set(action.checks)
        report = self._audit(hosts, sorted(self._auditable | set(action.checks)))
        was = {(r.check, r.host): str(r.outcome) for r in before.results}
        now = {(r["check"], r["host"]): (r["outcome"], r["reason"]) for r in report["results"]}
        for host in hosts:
            for check in action.findings[host]:
                outcome, reason = now.get((check, host), ("unknown", "it was not audited"))
                if outcome != "pass":
                    return f"{check} on {host} is {outcome}: {clean(reason, 300)}"
        worse = sorted(key for key, (outcome, _) in now.items() if outcome not in ("pass", "notapplicable") and was.get(key) == "pass")
        for check, host in worse:
            if check in touched and now[check, host][0] == "fail":
                return f"{check} on {host} fails now, and passed before"
        for check, host in worse:  # not by what the role changes, as far as it says; or it is not known any more
            outcome, reason = now[check, host]
            say(f"  {check} on {clean(host)} passed before, and now is {outcome}: {clean(reason, 200)}", err=True)
        self.log.note("done", hosts, action=index, run=report["run"]["id"])
        say(f"  audited: run {report['run']['id']}")
        return ""

    # --- Back ------------------------------------------------------------------------------------

    def touched(self, only: Sequence[str]) -> list[tuple[int, remediation.Action, list[str]]]:
        """What is to be taken back: (index, action, hosts), the last first. Raises `FleetAuditError` for a host without."""
        touched = {pair for pair, state in self.log.states().items() if state in ("begun", "done")}
        if unknown := set(only) - {h for _, h in touched}:
            raise FleetAuditError(f"--host: plan {self.plan.plan} has nothing in force on {sorted(unknown)[0]!r}")
        found = [(i, a, sorted(h for n, h in touched if n == i and (not only or h in only))) for i, a in enumerate(self.plan.actions)]
        return [entry for entry in reversed(found) if entry[2]]

    def show_back(self, only: Sequence[str]) -> None:
        """Check mode of the way back."""
        for _, action, hosts in self.touched(only):
            for host, why in sorted(self._tried(action, hosts, "restored").failed.items()):
                say(f"{clean(host)}: {clean(why, 500)}", err=True)

    def back(self, only: Sequence[str]) -> int:
        """Restore what was saved, the last action first; the exit status."""
        failed: dict[str, str] = {}
        for index, action, hosts in self.touched(only):
            try:
                failed |= self._take_back(index, action, hosts)
            except FleetAuditError as error:
                failed |= dict.fromkeys(hosts, str(error))
            except KeyboardInterrupt:
                self._say_interrupted()
                raise
        self.give_back([h for h in self.log.held() if (not only or h in only) and h not in failed])
        for host, why in sorted(failed.items()):
            say(f"{clean(host)}: {clean(why, 300)}", err=True)
        return 1 if failed else 0

    def _take_back(self, index: int, action: remediation.Action, hosts: Sequence[str]) -> dict[str, str]:
        """Restore what one action saved; {host: why it was not}."""
        failed = {}
        if action.disruption != "none":
            hosts, busy = self.free(hosts)
            failed = dict.fromkeys(busy, f"{action.role} was not taken back")
        if not hosts:
            return failed
        played = self._play(action, hosts, "restored")
        failed |= played.failed
        answered = [h for h in hosts if h not in played.failed]
        if answered:
            report = self._audit(answered, action.checks)
            fails = {(r["check"], r["host"]) for r in report["results"] if r["outcome"] == "fail"}
            for host in answered:
                if host not in played.changed and not fails.issuperset((check, host) for check in action.findings[host]):
                    failed[host] = f"{action.role} was not taken back: nothing was saved there, and its findings are not all back"
            say(f"{action.role}: restored on {len(played.changed)} of {count(len(hosts), 'host')}")
            say(f"  audited: run {report['run']['id']}, {len(fails)} findings of the plan are back")
        self.log.note("rolled-back", [h for h in answered if h not in failed], action=index)
        return failed

    # --- Training first --------------------------------------------------------------------------

    @cached_property
    def scheduler(self) -> tuple[draining.Scheduler, Callable[[str], str]]:
        """The scheduler, and how it calls a host. Raises `FleetAuditError` if the policy does not say where its tool runs."""
        word = self.drain if self.drain in ("slurm", "kubernetes") else self.log.drained_by()
        path = self.plan.policy_file
        site = (policy.load(Path(path)) if path else policy.Policy()).remediation
        file = site.slurm if word == "slurm" else site.kubernetes
        if file is None:
            tool = "scontrol" if word == "slurm" else "kubectl"
            raise FleetAuditError(f"--drain {word}: the policy does not say where {tool} runs: `remediation: {{{word}: {{on: HOST}}}}`")

        def ask(argv: Sequence[str]) -> tuple[int, str]:
            return roleplay.ask(file.on, argv, self.reach, self.log.folder)

        kind = draining.Slurm if word == "slurm" else draining.Kubernetes
        return kind(ask, self.plan.plan), lambda host: draining.node_name(host, file.names)

    def free(self, hosts: Sequence[str]) -> tuple[list[str], list[str]]:
        """(hosts that may be disturbed, hosts that are left alone), those that are left named with the reason."""
        left: dict[str, str] = {}
        if self.drain in ("slurm", "kubernetes"):
            left = self._take_out(hosts)
        free = [h for h in hosts if h not in left]
        left |= self._busy(free) if free else {}
        for host, why in sorted(left.items()):
            say(f"{clean(host)}: left alone, {clean(why, 300)}", err=True)
        self.give_back(sorted(left))
        return [h for h in hosts if h not in left], sorted(left)

    def _take_out(self, hosts: Sequence[str]) -> dict[str, str]:
        """Take hosts out of scheduling and wait for their work to end; {host: why it is left}."""
        scheduler, called = self.scheduler
        nodes = {called(host): host for host in hosts}
        known = scheduler.look(list(nodes))
        left = {nodes[node]: found.broken for node, found in known.items() if found.broken}
        nodes = {node: host for node, host in nodes.items() if host not in left}
        new = [node for node in nodes if node in known and not known[node].out]
        if new:
            # Noted first: ended in between, the node is given back although it may not have been taken.
            self.log.note("drained", sorted(nodes[n] for n in new), by=self.drain)
            scheduler.take_out(new)
            say(f"  taken out of scheduling: {', '.join(sorted(nodes[n] for n in new))}")
        end = time.monotonic() + self.deadline_s
        waiting = ""
        while True:
            known = scheduler.look(list(nodes)) if nodes else {}
            busy = {nodes[n]: found.work for n, found in known.items() if found.work}
            if not busy or time.monotonic() >= end:
                break
            if (now := ", ".join(sorted(busy))) != waiting:
                waiting = now
                say(f"  waiting for {', '.join(f'{clean(h)} ({clean(w, 100)})' for h, w in sorted(busy.items())[:5])}", err=True)
            time.sleep(min(POLL_S, max(0.0, end - time.monotonic())))
        for node, host in nodes.items():
            if node not in known:
                left[host] = f"{self.drain} knows no node {node}"
            elif known[node].work:
                left[host] = f"it is still busy after {self.deadline_s / 60:.0f} minutes: {known[node].work}"
            elif not known[node].out:
                left[host] = "somebody put it back into scheduling meanwhile"
        return left

    def give_back(self, hosts: Sequence[str]) -> None:
        """Give hosts that this plan took out back to their scheduler; those of others stay out, and those that are half changed."""
        ours = sorted(set(hosts) & set(self.log.held()) - self.log.begun())
        if not ours:
            return
        scheduler, called = self.scheduler
        nodes = {called(host): host for host in ours}
        out = sorted(node for node, found in scheduler.look(list(nodes)).items() if found.out and found.ours)
        if out:
            scheduler.give_back(out)
            say(f"  given back to scheduling: {', '.join(sorted(nodes[n] for n in out))}")
        self.log.note("given-back", ours)

    def _busy(self, hosts: Sequence[str]) -> dict[str, str]:
        """{host: why it is left alone} of those that have GPU work, or of which that is not known."""
        from fleet_audit.facts import tables
        from fleet_audit.tables import Facts

        report = self._audit(hosts, [LOOK])
        facts = Facts.load({"gpu_processes": tables()["gpu_processes"]}, Store(self.audits).find(report["run"]["id"]).facts())
        try:
            rows = facts.connection.execute("SELECT host, count(*) FROM gpu_processes GROUP BY host").fetchall()
            states = {h: s.get("gpu_processes", ("none", "not read")) for h, s in facts.coverage().items()}
        finally:
            facts.connection.close()
        busy = {host: f"{n} processes compute on its GPUs" for host, n in rows}
        return {
            h: busy.get(h) or f"whether it has GPU work is not known: {states.get(h, ('', 'not read'))[1]}"
            for h in hosts if h in busy or states.get(h, ("none",))[0] != "complete"
        }  # fmt: skip

    # --- The two that do it ----------------------------------------------------------------------

    def _play(self, action: remediation.Action, hosts: Sequence[str], state: str, *, check: bool = False) -> roleplay.Played:
        extra = {"fleet_audit_confirm_s": self.confirm_s}
        return roleplay.play(action, hosts, self.reach, self.log.folder, state=state, check=check, plan=self.plan.plan, extra=extra,
                             belongs=self._belongs, told=lambda line: say(f"  {line}", err=True))  # fmt: skip

    @cached_property
    def _auditable(self) -> set[str]:
        """Checks of the run that some of its hosts can be audited by: none that compares all hosts, and no test of the site's own."""
        checks = self.store.find(self.plan.run).document("checks.json")
        return {check["id"] for check in checks if check["scope"] == "host" and check["area"] != sitetests.AREA}

    @cached_property
    def _belongs(self) -> dict[str, set[str]]:
        """Variable -> the checks that hand it over."""
        found: dict[str, set[str]] = {}
        for check in self.store.find(self.plan.run).document("checks.json"):
            for name in (check.get("remediation") or {}).get("vars") or {}:
                found.setdefault(name, set()).add(check["id"])
        return found

    @property
    def audits(self) -> Path:
        """The store of the audits between: runs of some hosts and checks, which are no part of the fleet's history."""
        return self.log.folder / "audits"

    def _audit(self, hosts: Sequence[str], checks: Sequence[str]) -> Any:
        """Audit some hosts again, as a run of its own. Raises `FleetAuditError` if that could not be done."""
        out = self.log.folder / "audit.json"
        out.unlink(missing_ok=True)
        self.audits.mkdir(mode=0o700, exist_ok=True)
        if not (self.audits / "advisories").is_symlink():
            (self.audits / "advisories").symlink_to(self.store.folder / "advisories")
        argv = [sys.executable, "-m", "fleet_audit", "run", self.plan.inventory, "-l", ",".join(hosts), "-f", "json", "-o", str(out), "-q",
                "--store", str(self.audits), "--profile", self.plan.profile]  # fmt: skip
        for check in checks:
            argv += ["--check", check]
        argv += ["-b"] if self.given["become"] else []
        argv += ["--policy", self.plan.policy_file] if self.plan.policy_file else []
        for folder in self.store.find(self.plan.run).file.inputs.get("check_folders") or []:
            argv += ["--checks", folder]
        argv += ["-u", self.given["user"]] if self.given["user"] else []
        argv += ["--private-key", self.given["private_key"]] if self.given["private_key"] else []
        code, said = _asked(argv, self.reach.become_password)
        if code not in (0, 1, 3) or not out.exists():
            raise FleetAuditError(f"the hosts could not be audited again: {said.strip() or code}")
        return json.loads(out.read_bytes())


def _asked(argv: list[str], password: Secret | None) -> tuple[int | None, str]:
    """(exit status, what it said) of an audit; the password goes to its question, on a terminal that nobody sees."""
    if password is None:
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return done.returncode, done.stderr
    import pexpect  # type: ignore[import-untyped]  # it has no types; ansible-runner brings it

    child = pexpect.spawn(argv[0], [*argv[1:], "-K"], timeout=None, encoding="utf-8", codec_errors="replace", echo=False)
    if child.expect(["Password to become root", pexpect.EOF]) == 0:
        child.sendline(password.reveal())
        child.expect(pexpect.EOF)
    child.close()
    return child.exitstatus, str(child.before).replace(password.reveal(), "")
