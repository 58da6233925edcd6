# SPDX-License-Identifier: Apache-2.0
"""`peers:` of a policy: what must be the same on all hosts of a group, for any table and column (synthetic fleets)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from fleet_audit import peers
from fleet_audit.evaluate import Evaluation
from fleet_audit.facts import tables
from fleet_audit.facts.base import Extract
from fleet_audit.model import Coverage, FleetAuditError, Outcome
from fleet_audit.policy import PeerFile, Policy

from .factory import decide, rows

PACKAGES = PeerFile(table="packages", key="name", value="version")
KERNEL = PeerFile(table="kernel_running", value="release")


def fleet(
    folder: Path, entry: PeerFile, given: Mapping[str, Mapping[str, str | None]], coverage: dict[str, Coverage] | None = None
) -> Evaluation:
    """A group `g` of hosts with these packages, or kernels under the name `release`."""
    hosts = {}
    for host, values in given.items():
        state = (coverage or {}).get(host, Coverage.COMPLETE)
        if entry.table == "packages":
            found = rows("packages", *({"name": n, "version": v} for n, v in values.items()), coverage=state)
        else:
            found = rows("kernel_running", values, coverage=state)
        hosts[host] = {entry.table: found}
    policy = Policy(peers=(entry,))
    return decide(folder, peers.checks(policy, tables()), hosts, policy=policy, groups=dict.fromkeys(given, ("g",)))


def told(found: Evaluation) -> dict[str, str]:
    return {r.host: str(r.outcome) for r in found.results}


def test_a_version_that_differs_and_a_package_that_no_peer_has(tmp_path: Path) -> None:
    alike = {"ssl": "3.0", "bash": "5.2"}
    given = {f"n{i}": dict(alike) for i in range(6)} | {
        "old": {"ssl": "2.0", "bash": "5.2"},
        "more": {**alike, "xmrig": "6"},
        "less": {"ssl": "3.0"},
    }
    found = fleet(tmp_path, PACKAGES, given)
    assert told(found) == {n: ("fail" if n in ("old", "more", "less") else "pass") for n in given}
    assert {(f.host, f.subject, f.reason) for f in found.findings} == {
        ("old", "g: ssl", "ssl is 2.0; 8 hosts of the group have 3.0 (9 of 9 compared)"),
        ("more", "g: xmrig", "xmrig is 6; 8 hosts of the group have none (9 of 9 compared)"),
        ("less", "g: bash", "bash is not there; 8 hosts of the group have 5.2 (9 of 9 compared)"),
    }
    some = fleet(tmp_path / "some", PACKAGES.model_copy(update={"only": ["bash"]}), given)
    assert [r.host for r in some.results if r.outcome is Outcome.FAIL] == ["less"]


def test_a_table_of_one_row_needs_no_key(tmp_path: Path) -> None:
    given = {f"n{i}": {"release": "6.8"} for i in range(5)} | {"old": {"release": "6.5"}}
    found = fleet(tmp_path, KERNEL, given)
    assert told(found) == {**dict.fromkeys((f"n{i}" for i in range(5)), "pass"), "old": "fail"}


def test_lost_hosts_make_no_majority_and_few_hosts_none(tmp_path: Path) -> None:
    given = {f"n{i}": {"a": "1"} for i in range(3)} | {"old": {"a": "2"}, "dark": {}, "dim": {}}
    found = fleet(tmp_path, PACKAGES, given, {"dark": Coverage.NONE, "dim": Coverage.PARTIAL})
    assert set(told(found).values()) == {"unknown"}, "3 of 6 expected hosts are no majority of 60 %"
    few = fleet(tmp_path / "few", PACKAGES, {f"n{i}": {"a": str(i)} for i in range(4)})
    assert set(told(few).values()) == {"unknown"}
    assert all("too few hosts to compare" in r.reason for r in few.results)


def test_what_was_not_compared_is_no_pass(tmp_path: Path) -> None:
    one = fleet(tmp_path / "one", PACKAGES, {"n0": {}, **{f"dark{i}": {} for i in range(4)}}, {f"dark{i}": Coverage.NONE for i in range(4)})
    assert set(told(one).values()) == {"unknown"}
    dim = {f"dim{i}": {"xmrig": "6"} for i in range(8)}
    two = fleet(tmp_path / "two", PACKAGES, {"n0": {}, "n1": {}, **dim}, dict.fromkeys(dim, Coverage.PARTIAL))
    assert set(told(two).values()) == {"unknown"}
    alone = fleet(tmp_path / "alone", PACKAGES, {"n0": {}})
    assert told(alone) == {"n0": "unknown"}
    alike = fleet(tmp_path / "alike", PACKAGES, {f"n{i}": {} for i in range(5)})
    assert set(told(alike).values()) == {"pass"}
    listed = PACKAGES.model_copy(update={"only": ["bash"]})
    assert set(told(fleet(tmp_path / "listed", listed, {f"n{i}": {"ssl": "3"} for i in range(5)})).values()) == {"unknown"}


def test_a_value_none_is_not_absence(tmp_path: Path) -> None:
    given = {f"n{i}": {"a": "none"} for i in range(3)} | {f"m{i}": {"b": "1"} for i in range(3)}
    assert set(told(fleet(tmp_path, PACKAGES, given)).values()) == {"unknown"}


def test_what_has_no_name_is_no_vote(tmp_path: Path) -> None:
    entry = PeerFile(table="gpus", key="name", value="vbios")

    def gpus(name: str | None, vbios: str) -> dict[str, Extract]:
        return {"gpus": rows("gpus", {"uuid": "GPU-1", "name": name, "vbios": vbios})}

    def told_of(folder: str, hosts: dict[str, dict[str, Extract]]) -> dict[str, str]:
        policy = Policy(peers=(entry,))
        return told(decide(tmp_path / folder, peers.checks(policy, tables()), hosts, policy=policy, groups=dict.fromkeys(hosts, ("g",))))

    nameless = {f"n{i}": gpus(None, "1") for i in range(4)} | {"evil": gpus(None, "EVIL")}
    assert set(told_of("nameless", nameless).values()) == {"unknown"}
    mixed = told_of("mixed", {f"n{i}": gpus("H100", "1") for i in range(6)} | {"evil": gpus("H100", "EVIL"), "mute": gpus(None, "1")})
    assert mixed == {**dict.fromkeys((f"n{i}" for i in range(6)), "pass"), "evil": "fail", "mute": "unknown"}


def test_of_several_values_the_whole_set_is_compared(tmp_path: Path) -> None:
    entry = PeerFile(table="ssh_authorized_keys", key="user_name", value="fingerprint")

    def keys(*prints: str) -> dict[str, Extract]:
        return {"ssh_authorized_keys": rows("ssh_authorized_keys", *({"user_name": "root", "fingerprint": f} for f in prints))}

    hosts = {f"n{i}": keys("a", "b", "c") for i in range(5)} | {
        "more": keys("a", "b", "c", "x"),
        "less": keys("a", "c"),
        "order": keys("c", "a", "b"),
    }
    policy = Policy(peers=(entry,))
    found = decide(tmp_path, peers.checks(policy, tables()), hosts, policy=policy, groups=dict.fromkeys(hosts, ("g",)))
    assert {h for h, outcome in told(found).items() if outcome == "fail"} == {"more", "less"}
    assert {f.reason for f in found.findings if f.host == "less"} == {"root is a, c; 6 hosts of the group have a, b, c (8 of 8 compared)"}


def test_what_is_not_determined_is_no_vote(tmp_path: Path) -> None:
    kernel = {f"n{i}": {"signature": "6.8.0-60.63"} for i in range(6)} | {"mute": {"signature": None}}
    found = fleet(tmp_path, PeerFile(table="kernel_running", value="signature"), kernel)
    assert told(found)["mute"] == "unknown" and told(found)["n0"] == "pass"


@pytest.mark.parametrize(("entry", "words"), [
    ({"table": "package", "value": "version"}, "peers.0.table: no table is named 'package'; did you mean 'packages'?"),
    ({"table": "packages", "value": "versions"}, "peers.0.value: packages has no column 'versions'; did you mean 'version"),
    ({"table": "packages", "value": "version", "key": "nam"}, "peers.0.key: packages has no column 'nam'; did you mean 'name'?"),
])  # fmt: skip
def test_names_that_there_are_not(entry: dict[str, str], words: str) -> None:
    with pytest.raises(FleetAuditError) as caught:
        peers.checks(Policy(peers=(PeerFile.model_validate(entry),), path=Path("p.yaml")), tables())
    assert words in str(caught.value) and str(caught.value).startswith("policy: peers.0")


def test_the_template_holds_for_every_table_and_column() -> None:
    for name, table in tables().items():
        for column in table.columns[-1:]:
            (check,) = peers.checks(Policy(peers=(PeerFile(table=name, key=table.columns[0].name, value=column.name),)), tables())
            assert check.tables == {name}


def test_hosts_in_no_group_are_compared_with_each_other(tmp_path: Path) -> None:
    hosts = {f"n{i}": {"kernel_running": rows("kernel_running", {"release": "6.8" if i else "5.4"})} for i in range(6)}
    policy = Policy(peers=(KERNEL,))
    found = decide(tmp_path, peers.checks(policy, tables()), hosts, policy=policy)
    assert told(found) == {n: "pass" if n != "n0" else "fail" for n in hosts}
    assert [f.subject for f in found.findings] == ["hosts in no group: release"]
    chosen = Policy(peers=(KERNEL.model_copy(update={"groups": ["train"]}),))
    asked = decide(tmp_path / "asked", peers.checks(chosen, tables()), hosts, policy=chosen)
    assert set(told(asked).values()) == {"notapplicable"}, "the policy names the groups that are meant"
