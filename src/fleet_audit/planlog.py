# SPDX-License-Identifier: Apache-2.0
"""What was done of a plan: whatever ends the program, its file says how far it came."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from fleet_audit.model import FleetAuditError
from fleet_audit.remediation import Plan

Kind = Literal["begun", "done", "rolled-back", "drained", "given-back"]


def runs_needed(store: Path) -> set[str]:
    """Runs of a store without which a plan could not be taken back: those of plans of which something is in force.

    Raises `FleetAuditError` for a plan that is not understood.
    """
    found = set()
    for path in (store / "remediation").glob("*/plan.json"):
        try:
            plan = Plan.model_validate_json(path.read_bytes())
        except (OSError, ValueError):
            raise FleetAuditError(f"{path}: this is no plan that this version knows, so that what it needs is not known either") from None
        if {"begun", "done"} & set(PlanLog(plan, path.parent).states().values()):
            found.add(plan.run)
    return found


@dataclass(frozen=True)
class PlanLog:
    """`progress.jsonl` in the plan's folder of the store, a line of JSON for each thing that was done."""

    plan: Plan
    folder: Path

    def check(self) -> None:
        """Raises `FleetAuditError` if this is not the plan as it was carried out: what was done is known by its actions."""
        path = self.folder / "plan.json"
        try:
            carried = Plan.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return
        except ValueError:
            raise FleetAuditError(
                f"{path}: this is no plan any more; what was done of {self.plan.plan} is in progress.jsonl beside it"
            ) from None
        if carried.actions != self.plan.actions:
            raise FleetAuditError(
                f"plan {self.plan.plan} was begun with other actions, and edited since: as it was then it is in {path}; make a new plan for more"
            )

    def keep(self) -> None:
        """Keep the plan as it is carried out."""
        path = self.folder / "plan.json"
        if not path.exists():
            new = path.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_text(self.plan.model_dump_json(indent=1), encoding="utf-8")
            new.replace(path)

    def note(self, kind: Kind, hosts: Sequence[str], **more: Any) -> None:
        """Append a line, on the disk when this returns. `begun`, `done` and `rolled-back` name their `action`, `drained` the scheduler, `by`."""
        with (self.folder / "progress.jsonl").open("a+b") as out:
            if out.tell() and not self._ends_a_line():
                out.write(b"\n")  # what was cut there must not take this line with it
            out.write(json.dumps({"kind": kind, "hosts": list(hosts), **more}, sort_keys=True).encode() + b"\n")
            out.flush()
            os.fsync(out.fileno())

    def _ends_a_line(self) -> bool:
        return (self.folder / "progress.jsonl").read_bytes().endswith(b"\n")

    def entries(self) -> list[dict[str, Any]]:
        """What was noted, in its order; a line that was cut is passed over, since what it says had not begun yet.

        Raises `FleetAuditError` for a line that is whole and not understood.
        """
        try:
            lines = (self.folder / "progress.jsonl").read_text("utf-8", "replace").splitlines()
        except FileNotFoundError:
            return []
        found = []
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if not isinstance(entry, dict) or not self._sound(entry):
                raise FleetAuditError(f"{self.folder / 'progress.jsonl'}:{number}: not what this version writes there, nor its plan's")
            found.append(entry)
        return found

    def _sound(self, entry: dict[str, Any]) -> bool:
        kind, hosts, action = entry.get("kind"), entry.get("hosts"), entry.get("action", 0)
        numbered = kind not in ("begun", "done", "rolled-back") or (isinstance(action, int) and 0 <= action < len(self.plan.actions))
        return kind in get_args(Kind) and isinstance(hosts, list) and numbered and (kind != "drained" or isinstance(entry.get("by"), str))

    def states(self) -> dict[tuple[int, str], str]:
        """(action, host) -> planned, begun (applied again it is completed, or rolled back undone), done, or rolled-back."""
        found = {(i, h): "planned" for i, action in enumerate(self.plan.actions) for batch in action.batches for h in batch}
        for entry in self.entries():
            if entry["kind"] in ("begun", "done", "rolled-back"):
                found |= {(entry["action"], host): entry["kind"] for host in entry["hosts"]}
        return found

    def done(self) -> set[tuple[int, str]]:
        """(action, host) of what was changed, shown to pass, and not taken back since."""
        return {pair for pair, state in self.states().items() if state == "done"}

    def held(self) -> list[str]:
        """Hosts that this plan took out of scheduling and has not given back."""
        found: set[str] = set()
        for entry in self.entries():
            if entry["kind"] == "drained":
                found |= set(entry["hosts"])
            elif entry["kind"] == "given-back":
                found -= set(entry["hosts"])
        return sorted(found)

    def begun(self) -> set[str]:
        """Hosts of which a change has begun and not ended."""
        return {host for (_, host), state in self.states().items() if state == "begun"}

    def drained_by(self) -> str | None:
        """The scheduler that hosts were taken out of last."""
        return next((entry["by"] for entry in reversed(self.entries()) if entry["kind"] == "drained"), None)
