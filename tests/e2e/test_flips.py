# SPDX-License-Identifier: Apache-2.0
"""Checks on real booted Debian hosts that are made good and bad by turns: each must flip both ways on each host.

The table is flips.yaml. What no host of the lab can change (the machine's kernel, its firmware, GPUs) is not in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from fleet_audit.checks import load
from fleet_audit.facts import tables
from tests.conftest import MAIN, cli_environment, load_report
from tests.e2e.fleet import RELEASES, obtainable
from tests.hosts import HostSpec, Lab, LabUnavailable
from tests.hosts.standing import standing

pytestmark = [pytest.mark.hosts, pytest.mark.xdist_group("lab")]

HERE = Path(__file__).parent
TABLE = yaml.safe_load((HERE / "flips.yaml").read_text("utf-8"))
FLIPS: Mapping[str, Mapping[str, Any]] = TABLE["flips"]
State = Literal["good", "bad"]
RUN = ["sh", "-c", "cat > /run/flips && bash /run/flips < /dev/null"]
OUTCOME = {"good": "pass", "bad": "fail"}


def script(state: State, release: str) -> str:
    """The commands of all checks that bring one state about on a host of a release."""
    parts = [f"check={check}\n{flip[state]}" for check, flip in FLIPS.items() if release in flip.get("releases", [release])]
    return "\n".join([(HERE / "flips.sh").read_text("utf-8"), *parts, "check=end; /usr/sbin/sshd -t; systemctl reload ssh"])


@dataclass
class Results:
    """What one run says: host -> check -> outcome, and why."""

    outcomes: dict[str, dict[str, str]]
    reasons: dict[tuple[str, str], str]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Results:
        outcomes: dict[str, dict[str, str]] = {}
        for result in report["results"]:
            outcomes.setdefault(result["host"], {})[result["check"]] = result["outcome"]
        reasons = {(result["host"], result["check"]): result["reason"] for result in report["results"]}
        for finding in report["findings"]:
            reasons[finding["host"], finding["check"]] += f"; {finding['subject']}: {finding['reason']}"
        return cls(outcomes, reasons)


class Pairs:
    """Two hosts of each release: NAME-a is good at first, NAME-b bad."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.lab = folder, Lab(folder / "lab")
        self.hosts: dict[str, str] = {}
        self.missing: dict[str, str] = {}
        """Release -> why it cannot be had."""

    def up(self) -> None:
        """Start those of each release that the mirror has, and bring them to where both states begin."""
        there, missing = obtainable()
        self.missing = {RELEASES[name]: why for name, why in missing.items()}
        if not there:
            raise LabUnavailable("; ".join(missing.values()))
        self.hosts = {f"{release}-{letter}": release for release in there.values() for letter in "ab"}
        files = {"/usr/local/lib/play": (HERE / "play.py").read_text("utf-8")}
        self.lab.up([HostSpec(name, kind="boot", release=release, disk="256m", files=files) for name, release in self.hosts.items()])
        prelude = (HERE / "flips.sh").read_text("utf-8")
        self._on_all(dict.fromkeys(self.hosts, prelude + TABLE["setup"]))

    def _on_all(self, scripts: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda item: self.lab.exec(item[0], RUN, input=item[1], timeout=120), scripts.items()))

    def become(self, states: Mapping[str, State]) -> None:
        """Bring each host into its state."""
        self._on_all({host: script(state, self.hosts[host]) for host, state in states.items()})

    def audit(self, name: str, checks: Iterable[str], user: str = "audit") -> Results:
        """One run over all hosts; as another user than `audit` without becoming root."""
        inventory, policy, report = (self.folder / f"{name}.{end}" for end in ("ini", "yaml", "json"))
        inventory.write_text(self.lab.inventory.read_text().replace("ansible_user=audit", f"ansible_user={user}"))
        params = {check: flip["params"] for check, flip in FLIPS.items() if "params" in flip}
        policy.write_text(yaml.safe_dump(TABLE["policy"] | {"params": params}))
        chosen = [word for check in checks for word in ("--check", check)]
        become = ["-b"] if user == "audit" else []
        where = ["-f", "json", "-o", report, "--store", self.folder / name]
        # Few hosts at once: their probes share this machine's processors, at the lowest priority.
        argv = ["run", inventory, *become, "--policy", policy, *chosen, *where, "--concurrency", 2, "-q"]
        done = self.lab.run([*MAIN, *map(str, argv)], env=cli_environment(), timeout=180)
        assert done.returncode in (0, 1, 3), done.stderr
        return Results.of(load_report(report))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pairs]:
    with standing(Pairs(tmp_path_factory.mktemp("flips", numbered=False))) as found:
        yield found


@dataclass
class Rounds:
    """The state of each host in each round, and what the run said."""

    states: list[dict[str, State]]
    results: list[Results]


@pytest.fixture(scope="module")
def rounds(pairs: Pairs) -> Rounds:
    """Good and bad hosts are audited, change places, and are audited again."""
    first: dict[str, State] = {host: "good" if host.endswith("-a") else "bad" for host in pairs.hosts}
    second: dict[str, State] = {host: "bad" if state == "good" else "good" for host, state in first.items()}
    found = Rounds([first, second], [])
    for number, states in enumerate(found.states, 1):
        pairs.become(states)
        found.results.append(pairs.audit(f"round-{number}", FLIPS))
    return found


@pytest.mark.parametrize(
    ("check", "release"), [(check, release) for check, flip in FLIPS.items() for release in flip.get("releases", RELEASES.values())]
)
def test_check_passes_on_the_good_host_and_fails_on_the_bad_one_and_the_other_way_round(
    rounds: Rounds, pairs: Pairs, check: str, release: str
) -> None:
    if release in pairs.missing:
        pytest.skip(pairs.missing[release])
    wrong = [
        (f"round {number}", host, states[host], results.outcomes[host][check], results.reasons[host, check])
        for number, (states, results) in enumerate(zip(rounds.states, rounds.results, strict=True), 1)
        for host in (f"{release}-a", f"{release}-b")
        if results.outcomes[host][check] != OUTCOME[states[host]]
    ]
    assert wrong == []


def test_without_root_results_become_unknown_and_no_other_definite_ones(rounds: Rounds, pairs: Pairs) -> None:
    """Of all checks of the library, on the hosts as the last round left them."""
    everything = list(load((), tables=tables()).checks)
    root, plain = pairs.audit("root", everything), pairs.audit("plain", everything, user="plain")
    other = [
        (host, check, outcome, told, plain.reasons[host, check])
        for host, outcomes in root.outcomes.items()
        for check, outcome in outcomes.items()
        if (told := plain.outcomes[host][check]) not in (outcome, "unknown")
    ]
    assert other == []
    lost = [
        check for host, outcomes in root.outcomes.items() for check, outcome in outcomes.items() if outcome != plain.outcomes[host][check]
    ]
    kept = [check for outcomes in plain.outcomes.values() for check, outcome in outcomes.items() if outcome in ("pass", "fail")]
    assert len(lost) > 100 and len(kept) > 100, "root counts, and much is told without it"


def test_table_names_checks_of_the_library_and_both_states_differ() -> None:
    known = load((), tables=tables()).checks
    assert set(FLIPS) <= set(known)
    assert [check for check, flip in FLIPS.items() if flip["good"] == flip["bad"]] == []
