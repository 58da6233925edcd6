# SPDX-License-Identifier: Apache-2.0
"""`policy init`, `policy check` and `policy show`, through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fleet_audit import policy

from .conftest import Cli
from .factory import write_check

pytestmark = pytest.mark.slow
DEMO = Path(__file__).parents[1] / "demo"
SHOWN = """
profile: strict
workload: [enroot]
exclude: [{check: ssh-x11-forwarding-off, reason: the desktops need it}]
params: {ssh-sessions-limited: {maximum: 20}, ssh-login-grace-time-limited: {maximum_s: 30}}
groups:
  lab: {workload: [profiling], params: {ssh-sessions-limited: {maximum: 30}}}
  other: {params: {ssh-sessions-limited: {maximum: 40}}}
waivers:
  - {check: ssh-pam-on, owner: kim, reason: old image, expires: 2099-01-01, hosts: [n*]}
  - {check: ssh-pam-on, owner: lee, reason: gone, expires: 2020-01-01}
  - {check: ssh-pam-on, owner: max, reason: elsewhere, expires: 2026-12-31, groups: [cellar], hosts: ["m*"]}
data: [{path: /data/models, kind: models, on: n2}]
"""


def test_what_is_written_is_a_policy_in_which_nothing_is_switched_on(fleet_audit: Cli, tmp_path: Path) -> None:
    path = tmp_path / "fleet-audit.yaml"
    done = fleet_audit("policy", "init", "--profile", "strict", "-o", path)
    assert done.returncode == 0
    found = policy.load(path)
    assert (found.profile, found.params, found.waivers, found.exclude) == ("strict", {}, (), ())
    commented = "  # listeners-allowed:\n  #   allowed: []\n"
    assert commented in path.read_text()
    uncommented = path.read_text().replace(commented, "  listeners-allowed:\n    allowed: []\n")
    path.write_text(uncommented)
    assert policy.load(path).params == {"listeners-allowed": {"allowed": []}}, "its comments are the YAML that they stand for"
    again = fleet_audit("policy", "init", "-o", path)
    assert again.returncode == 2 and "there already" in again.stderr and path.read_text() == uncommented


def test_what_a_run_has_seen_is_proposed_and_blesses_nothing(fleet_audit: Cli, tmp_path: Path) -> None:
    store = tmp_path / "store"
    ran = fleet_audit("run", DEMO / "inventory.ini", "--profile", "strict", "--store", store, "-q")
    assert ran.returncode in (1, 3), ran.stderr
    done = fleet_audit("policy", "init", "--profile", "strict", "--learn", "latest", "--store", store)
    assert done.returncode == 0 and "review" in done.stdout
    assert re.search(r'(?m)^  #     seen: "22/tcp" on \d+ hosts', done.stdout)
    assert re.search(r'(?m)^  #   allowed: \[.*"\d+/(tcp|udp)".*\]   # seen and not failing: review it', done.stdout)
    found = policy.parse(done.stdout.encode(), Path("learned"))
    assert found.params == {} and found.waivers == ()


def test_check_tells_what_names_nothing_and_what_has_expired(fleet_audit: Cli, tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text("[lab]\nn1 ansible_connection=local\nn2 ansible_connection=local\n")
    (tmp_path / "fleet-audit.yaml").write_text(SHOWN)
    done = fleet_audit("policy", "check", tmp_path / "inventory.ini")
    assert done.returncode == 0, done.stderr
    for words in (
        "waivers.0: holds until 2099-01-01, more than a year", "waivers.1: expired on 2020-01-01", "groups.other: no host is in it",
        "waivers.2.groups: no host is in 'cellar'", "waivers.2.hosts: no host fits 'm*'",
        "profile strict", "3 waivers, 1 exclusion, 1 data folder",
    ):  # fmt: skip
        assert words in done.stdout, words
    (tmp_path / "fleet-audit.yaml").write_text(SHOWN.replace("exclude: [{check: ssh-x11-", "exclude: [{check: ssh-x12-"))
    wrong = fleet_audit("policy", "check", tmp_path / "inventory.ini")
    assert wrong.returncode == 2 and "exclude.0.check" in wrong.stderr and "did you mean 'ssh-x11-forwarding-off'" in wrong.stderr


def test_check_refuses_what_nobody_would_read(fleet_audit: Cli, tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text("[lab]\nlogin1 ansible_connection=local\n")
    (tmp_path / "fleet-audit.yaml").write_text("data: [{path: /data, on: login01}]\n")
    done = fleet_audit("policy", "check", tmp_path / "inventory.ini")
    assert done.returncode == 2 and "data.0.on: the inventory has no host 'login01'; did you mean 'login1'?" in done.stderr


def test_show_tells_where_each_value_comes_from(fleet_audit: Cli, tmp_path: Path) -> None:
    (tmp_path / "inventory.ini").write_text("[lab]\nn1 ansible_connection=local\n[plain]\nm1 ansible_connection=local\n")
    (tmp_path / "fleet-audit.yaml").write_text(SHOWN)
    said = json.loads(fleet_audit("policy", "show", "n1", tmp_path / "inventory.ini", "--format", "json").stdout)
    assert said["params"]["ssh-sessions-limited"]["maximum"] == {"value": 30, "from": "policy, group lab"}
    assert said["params"]["ssh-login-grace-time-limited"]["maximum_s"]["from"] == "policy"
    assert said["params"]["ssh-authentication-attempts-limited"]["maximum"]["from"] == "default"
    assert said["workload"] == ["enroot", "profiling"] and [w["owner"] for w in said["waivers"]] == ["kim"] and said["data"] == []
    assert "ssh-x11-forwarding-off" not in said["checks"]
    other = fleet_audit("policy", "show", "m1", tmp_path / "inventory.ini").stdout
    assert "ssh-sessions-limited.maximum = 20   (policy)" in other and "workload: enroot\n" in other and "waived:" not in other
    lost = fleet_audit("policy", "show", "n7", tmp_path / "inventory.ini")
    assert lost.returncode == 2 and "no host is named 'n7'" in lost.stderr


@pytest.mark.parametrize(("text", "words"), [
    ("params:\n  ssh-pam-onn: {}\n", ":2: params.ssh-pam-onn: no check is named 'ssh-pam-onn'; did you mean 'ssh-pam-on'?"),
    (
        "params:\n  ssh-sessions-limited:\n    maximun: 3\n",
        ":3: params.ssh-sessions-limited.maximun: ssh-sessions-limited has no parameter 'maximun'; did you mean",
    ),
    ("params:\n  ssh-sessions-limited:\n    maximum: many\n", ":3: params.ssh-sessions-limited.maximum: must be an integer"),
    (
        "groups:\n  lab:\n    params:\n      nvidia-driver-minimum: {minimum: newest}\n",
        ":4: groups.lab.params.nvidia-driver-minimum.minimum: 'newest' is no dotted",
    ),
    ("profile: strickt\n", ":1: profile: no profile is named 'strickt'; did you mean 'strict'?"),
    ("include:\n  - data-stores-not-exposed\n", ":2: include.0: the check 'data-stores-not-exposed' is no more: decided by"),
    ("peers:\n  - {table: packages, value: versio}\n", ":2: peers.0.value: packages has no column 'versio'"),
])  # fmt: skip
def test_what_names_nothing_is_told_with_its_line_and_the_nearest_word(fleet_audit: Cli, tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    done = fleet_audit("policy", "check", "--policy", path)
    assert done.returncode == 2 and f"{path}{words}" in done.stderr, done.stderr


def test_a_former_id_is_as_good_as_the_one_of_now(fleet_audit: Cli, tmp_path: Path) -> None:
    write_check(
        tmp_path / "mine/os", "os-is-new", aliases=["os-was-old"], params={"wanted": ["x"]},
        query="SELECT host, id AS subject, list_contains($wanted, id) AS pass, 'id is ' || id AS reason FROM os",
    )  # fmt: skip
    (tmp_path / "p.yaml").write_text(
        "include: [os-was-old]\nparams: {os-was-old: {wanted: [debian]}}\n"
        "waivers: [{check: os-was-old, owner: kim, reason: x, expires: 2026-12-31}]\n"
    )
    options = ("--policy", tmp_path / "p.yaml", "--checks", tmp_path / "mine")
    assert "is not selected" not in fleet_audit("policy", "check", *options).stdout
    shown = json.loads(fleet_audit("policy", "show", "localhost", *options, "--format", "json").stdout)
    assert shown["params"]["os-is-new"]["wanted"] == {"value": ["debian"], "from": "policy"} and shown["waivers"][0]["check"] == "os-is-new"


def test_a_check_is_not_included_and_excluded(fleet_audit: Cli, tmp_path: Path) -> None:
    path = tmp_path / "fleet-audit.yaml"
    path.write_text("include: [listeners-allowed]\nexclude: [{check: listeners-allowed, reason: both}]\n")
    done = fleet_audit("policy", "check", "--policy", path)
    assert done.returncode == 2 and ":2: exclude.0.check: listeners-allowed is included and excluded" in done.stderr, done.stderr
