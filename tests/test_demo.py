# SPDX-License-Identifier: Apache-2.0
"""The recorded fleet of `demo/`: that its nodes are what they claim to be, and that the demo runs."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from fleet_audit import checks
from fleet_audit.advisories.matching import TABLES as BY_ADVISORIES
from fleet_audit.facts import sources, tables
from fleet_audit.probe.node.archive import mangle
from fleet_audit.runs import Store
from fleet_audit.tables import Facts
from fleet_audit.transport.archive import load_node
from tests.conftest import MAIN, SRC, Cli, cli_environment, load_report
from tests.factory import write_check

pytestmark = pytest.mark.slow

DEMO = Path(__file__).parent.parent / "demo"
NODES = sorted(path.name for path in (DEMO / "nodes").iterdir())
SILENT = "train-05"

Gaps = Mapping[str, tuple[str, str]]
"""Table -> its coverage, and words of the reason."""

GPU_SILENT = ("none", "nvml timeout")
PASSED_THROUGH = ("none", "handed to virtual machines")


def denied(*tables: str, source: str, state: str = "none") -> Gaps:
    """Tables that lack a source which needs root."""
    return dict.fromkeys(tables, (state, f"{source} denied"))


FWUPD_OFF = dict.fromkeys(("fwupd_security", "fwupd_updates"), ("none", "no /sys/fs/cgroup/*/fwupd.service on this node"))
"""Virtual machines have no firmware of their own to update; fwupd does not run there, and is not started."""

NOT_COMPLETE: dict[str, Gaps] = {
    "train-01": {},
    "train-02": {  # auditd was never installed, so nobody could be asked
        "audit_rules": ("none", "audit-rules absent"), "audit_status": ("none", "audit-status absent"),
    },
    "infer-01": {},
    "login-01": FWUPD_OFF | {"kernel_available": ("none", "apt-kernels absent")},  # Rocky has no apt
    "cvm-01": FWUPD_OFF,
    # The H100 is a guest's: nobody on the host can ask it anything.
    "cvm-02": dict.fromkeys(("gpus", "gpu_processes", "gpu_confidential", "gpu_states"), PASSED_THROUGH),
    "train-03": {
        **dict.fromkeys(("gpus", "gpu_processes", "gpu_confidential"), GPU_SILENT),
        "gpu_states": ("none", "nvidia-smi-states timeout"), "gpu_sightings": ("partial", "neither it nor nvidia-smi told all GPUs"),
        **denied("sshd_settings", source="sshd-effective"), **denied("confidential", source="kernel-log", state="partial"),
        **denied("apparmor_profiles", source="apparmor-profiles"), **denied("audit_rules", source="audit-rules"),
        **denied("audit_status", source="audit-status"), **denied("auditd_settings", source="auditd-conf"),
        **denied("bmc_lan", "bmc_users", "bmc_authentication", source="ipmi-lan-1"), **denied("memory_arrays", source="smbios"),
        **denied("cron_jobs", source="cron-spool", state="partial"), **denied("crypt_targets", source="dm-crypt-targets"),
        **denied("self_encrypting_drives", source="nvme0-opal", state="partial"),
        **denied("data_folders", "data_oddities", "model_files", "model_manifests", source="data-folders"),
        **denied("detection_databases", source="detection-databases"),
        **denied("firewall_policies", "firewall_openings", "firewall_blocks", source="nft-ruleset"),
        **denied("ml_settings_of_users", source="ml-files-homes"), **denied("munge", source="munge-files"),
        **denied("password_states", source="shadow"), **denied("python_environments", "python_packages", source="python-dists"),
        **denied("python_indexes_of_users", source="python-index-homes"), **denied("secret_files", source="token-files-homes"),
        **denied("system_secret_files", source="token-files-system"),
        **denied("ssh_authorized_keys", "ssh_authorized_keys_files", source="authorized-keys"),
        **denied("ssh_user_folders", source="ssh-key-folders", state="partial"),
        **denied("sudo_rules", "sudo_defaults", source="sudoers"), **denied("sudoers_files", source="sudoers-files"),
        **denied("sysctls", source="/proc/sys/fs/protected_fifos", state="partial"), **denied("snap_system", source="snap-system"),
        **denied("unattended_upgrades_runs", source="unattended-upgrades-logs"),
        **dict.fromkeys(("ml_services", "socket_owners"), ("partial", "descriptors of 41 processes not readable")),
    },
}  # fmt: skip
"""Every table of these hosts that decides a check and is not complete, and why: a table that is not named here is complete."""

LATE = ("gpus", "gpu_pci", "kernel_available", "kernel_packages", "livepatch_client", "packages", "sockets", "sshd_settings")
"""Tables of which train-04 sent nothing in time."""

EXPECTED: list[tuple[str, str, Any]] = [
    ("train-01", "SELECT count(*), count(DISTINCT vbios), bool_and(ecc_enabled AND ecc_pending) FROM gpus", (8, 1, True)),
    ("train-01", "SELECT count(*) FILTER (kind = 'gpu'), count(*) FILTER (kind = 'nvswitch') FROM gpu_pci", (8, 4)),
    ("train-01", "SELECT loaded_version = disk_version, branch, flavour FROM nvidia_driver", (True, 580, "open")),
    ("train-01", "SELECT check_state, state, supported FROM livepatch_client", ("checked", "applied", "supported")),
    ("train-01", "SELECT enabled, transition, vendor FROM livepatch_modules", (True, False, "canonical")),
    ("train-01", "SELECT m.kernel = r.signature FROM livepatch_modules m, kernel_running r", (True,)),
    ("train-01", "SELECT attached FROM ubuntu_pro", (True,)),
    ("train-01", "SELECT enabled, setup_mode FROM secure_boot", (True, False)),
    ("train-01", "SELECT required FROM reboot_required", (False,)),
    ("train-01", "SELECT count(*) FROM cpu", (1,)),
    ("train-02", "SELECT loaded_version, disk_version FROM nvidia_driver", ("580.159.03", "580.178.04")),
    ("train-02", "SELECT count(*), count(DISTINCT vbios), count(*) FILTER (ecc_pending != ecc_enabled) FROM gpus", (8, 2, 1)),
    ("train-02", "SELECT count(*) FILTER (remap_pending) FROM gpus", (1,)),
    ("train-02", "SELECT count(*) FROM kernel_packages p, (SELECT version_key FROM kernel_packages JOIN kernel_running USING (release)) r "
                 "WHERE p.version_key > r.version_key", (1,)),
    ("train-02", "SELECT check_state, state FROM livepatch_client", ("check-failed", "unapplied")),
    ("train-02", "SELECT required, list_contains(packages, 'linux-image-5.15.0-181-generic') FROM reboot_required", (True, True)),
    ("train-02", "SELECT DISTINCT process, scope FROM socket_owners WHERE port = 8888", ("jupyter-lab", "all")),
    ("train-02", "SELECT process, scope FROM socket_owners WHERE port = 5555", ("nv-hostengine", "all")),
    ("train-02", "SELECT value FROM sshd_settings WHERE keyword = 'permitrootlogin'", ("yes",)),
    ("train-03", "SELECT count(*) FROM gpus", (0,)),
    ("train-03", "SELECT count(*) FROM gpu_pci WHERE kind = 'gpu'", (8,)),
    ("train-03", "SELECT count(*) FROM sshd_settings", (0,)),
    ("infer-01", "SELECT count(*), bool_or(mig_supported), min(name), min(driver_branch) FROM gpus", (2, False, "NVIDIA L40S", 535)),
    ("infer-01", "SELECT flavour FROM nvidia_driver", ("proprietary",)),
    ("infer-01", "SELECT process, scope FROM socket_owners WHERE port = 6379", ("redis-server", "all")),
    ("infer-01", "SELECT installed FROM livepatch_client", (False,)),
    ("infer-01", "SELECT count(*) FILTER (vulnerable) > 0 FROM cpu_vulnerabilities", (True,)),
    ("login-01", "SELECT min(manager), max(manager) FROM packages", ("rpm", "rpm")),
    ("login-01", "SELECT family FROM os", ("rhel",)),
    ("login-01", "SELECT count(*) FROM kernel_packages", (2,)),
    ("login-01", "SELECT count(*) FROM gpus", (0,)),
    ("login-01", "SELECT value FROM sshd_settings WHERE keyword = 'passwordauthentication'", ("yes",)),
    ("cvm-01", "SELECT rung FROM confidential WHERE technology = 'tdx' AND side = 'guest'", ("active",)),
    ("cvm-01", "SELECT cc_enabled, environment, cpu_capability FROM gpu_confidential", (True, "production", "tdx")),
    ("cvm-01", "SELECT virtualization FROM machine", ("google",)),
    ("cvm-02", "SELECT rung FROM confidential WHERE technology = 'sev-snp' AND side = 'host'", ("enabled",)),
    ("cvm-02", "SELECT driver FROM gpu_pci", ("vfio-pci",)),
    ("train-01", "SELECT count(*) FROM gpu_sightings WHERE on_pci AND in_kernel AND in_library", (8,)),
    ("train-01", "SELECT count(*) FROM iommu_units", (2,)),
    ("train-01", "SELECT policy, tool FROM firewall_policies WHERE family = 'ip4' AND direction = 'input'", ("drop", "nftables")),
    ("train-01", "SELECT bool_and(encrypted) FROM volumes WHERE list_has_any(mount_points, ['/', '/scratch'])", (True,)),
    ("train-01", "SELECT count(*), count(DISTINCT unit) FROM processes WHERE name = 'python3.11'", (8, 1)),
    ("train-02", "SELECT auth, auth_evidence FROM ml_services WHERE service = 'jupyter' AND address = '0.0.0.0'", (False, "--ServerApp.token=")),
    ("train-02", "SELECT count(*) FROM sudo_rules WHERE NOT password_asked", (2,)),
    ("train-02", "SELECT others FROM container_sockets WHERE engine = 'docker'", (True,)),
    ("train-02", "SELECT privileged, host_pid, runtime_socket FROM containers", (True, True, True)),
    ("train-02", "SELECT count(*) FILTER (world_writable), count(*) FILTER (set_id) FROM data_oddities", (2, 1)),
    ("train-02", "SELECT key_mode FROM munge", (0o644,)),
    ("train-02", "SELECT count(*) FROM firewall_policies WHERE chain = 'none'", (6,)),
    ("train-02", "SELECT count(*) FROM apt_sources WHERE trusted", (1,)),
    ("train-02", "SELECT count(*) FROM secret_files WHERE reach = 'others'", (3,)),
    ("train-03", "SELECT count(*) FROM password_states", (0,)),
    ("infer-01", "SELECT auth FROM ml_services WHERE service = 'redis'", (False,)),
    ("infer-01", "SELECT auth, tls FROM ml_services WHERE service = 'vllm'", (False, False)),
    ("login-01", "SELECT enforcing FROM selinux", (True,)),
    ("login-01", "SELECT count(*) FROM users WHERE kind = 'human'", (6,)),
    ("login-01", "SELECT count(*) FROM slurm_daemons", (0,)),
    ("login-01", "SELECT count(DISTINCT folder) FROM slurm_settings WHERE config = 'slurm.conf'", (1,)),
    ("cvm-01", "SELECT auth FROM ml_services WHERE service = 'vllm'", (True,)),
    ("cvm-02", "SELECT on_pci, handed_away FROM gpu_sightings", (True, True)),
]  # fmt: skip


class Audited:
    """One run of the command line on the demo's inventory, with a check for each table besides the shipped ones."""

    def __init__(self, run: Cli, folder: Path) -> None:
        for table in tables():
            name = f"reads-{table.replace('_', '-')}"
            write_check(folder / "checks", name, query=f"SELECT host, '' AS subject, true AS pass, '' AS reason FROM {table}")
        report = folder / "report.json"
        done = run("run", DEMO / "inventory.ini", "--checks", folder / "checks", "--store", folder / "store", "-f", "json", "-o", report)
        assert done.returncode in (1, 3), done.stderr
        self.report = load_report(report)
        saved = Store(folder / "store").find("latest").facts()
        self.facts = {name: Facts.load(tables(), saved, hosts=[name]) for name in NODES}

    def row(self, host: str, query: str) -> Any:
        """The one row of a query over one host's facts."""
        (row,) = self.facts[host].connection.execute(query).fetchall()
        return row

    def coverage(self, host: str) -> dict[str, tuple[str, str]]:
        """{table: (state, reason)} of one host."""
        found = self.facts[host].connection.execute("SELECT tab, state, reason FROM _coverage").fetchall()
        return {tab: (state, reason) for tab, state, reason in found}


@pytest.fixture(scope="module")
def audited(fleet_audit: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Audited]:
    found = Audited(fleet_audit, tmp_path_factory.mktemp("demo"))
    yield found
    for facts in found.facts.values():
        facts.connection.close()


@pytest.mark.parametrize("name", NODES)
def test_node_is_valid_and_says_that_it_is_synthetic(name: str) -> None:
    node = load_node(DEMO / "nodes" / name)
    assert node["name"] == name
    assert node["synthetic"] is True
    assert node["provenance"].startswith("Synthetic: ")


@pytest.mark.parametrize("name", NODES)
def test_all_that_a_node_holds_is_of_a_source(name: str) -> None:
    """What no source reads would say nothing, such as a command that was renamed."""
    folder = DEMO / "nodes" / name
    node = load_node(folder)
    commands = {mangle(s.args["argv"]) for s in sources().values() if s.reader == "command"}
    assert {path.name for path in (folder / "commands").glob("*")} <= commands
    assert set(node["exits"]) <= commands
    assert {path.name for path in (folder / "sources").glob("*")} <= {f"{source}.json" for source in sources()}
    assert set(node["force"]) <= set(sources())
    stats = {path for s in sources().values() if s.reader == "stat" for path in s.args["globs"]}
    assert set(node["meta"]) <= stats
    assert [path for path in node["meta"] if not (folder / "files" / path[1:]).exists()] == []


@pytest.mark.parametrize("name", NODES)
def test_no_mode_owner_or_time_comes_from_the_checkout(name: str) -> None:
    """What git does not keep stands in node.toml or in `sources/`: the same evidence everywhere."""
    folder = DEMO / "nodes" / name
    node = load_node(folder)
    told = {path for path, entry in node["meta"].items() if {"mode", "uid", "gid", "mtime"} <= set(entry)}
    read = [s for s in sources().values() if s.id not in node["force"] and not (folder / "sources" / f"{s.id}.json").exists()]
    found = {path for s in read if s.reader == "stat" for pattern in s.args["globs"] for path in matching(folder, pattern)}
    assert found - told == set()
    assert [s.id for s in read if s.reader in ("keys", "tokens", "home_lines", "dists")] == []


def matching(folder: Path, pattern: str) -> list[str]:
    """The node's paths that a pattern of a source fits."""
    root = folder / "files"
    return [f"/{path.relative_to(root)}" for path in root.glob(pattern[1:])] if pattern != "/" else ["/"]


def test_nodes_are_small() -> None:
    sizes = {name: sum(f.stat().st_size for f in (DEMO / "nodes" / name).rglob("*") if f.is_file()) for name in NODES}
    assert max(sizes.values()) < 200_000
    assert sum(sizes.values()) < 1_000_000


def test_every_check_has_one_result_on_every_host(audited: Audited) -> None:
    hosts = [host["name"] for host in audited.report["hosts"]]
    assert sorted(hosts) == sorted([*NODES, SILENT])
    checks = [check["id"] for check in audited.report["checks"]]
    found = Counter((result["host"], result["check"]) for result in audited.report["results"])
    assert found == Counter(product(hosts, checks))


def test_a_node_without_a_folder_is_in_the_report(audited: Audited) -> None:
    (host,) = (host for host in audited.report["hosts"] if host["name"] == SILENT)
    assert (host["answered"], host["reach"]) == (False, "unresolved")
    assert {r["outcome"] for r in audited.report["results"] if r["host"] == SILENT} == {"unknown"}


@pytest.mark.parametrize("name", NOT_COMPLETE)
def test_only_what_is_listed_is_not_complete(audited: Audited, name: str) -> None:
    found = audited.coverage(name)
    assert set(found) == set(tables())
    decided = {name for check in checks.load(tables=tables()).checks.values() for name in check.tables} - set(BY_ADVISORIES)
    assert {found[table][0] for table in BY_ADVISORIES} == {"none"}, "the demo has no advisories"
    gaps = {table: (state, reason) for table, (state, reason) in found.items() if state != "complete" and table in decided}
    wanted = {table: gap for table, gap in NOT_COMPLETE[name].items() if table in decided}
    assert {table: state for table, (state, _) in gaps.items()} == {table: state for table, (state, _) in wanted.items()}
    assert [table for table, (_, words) in wanted.items() if words not in gaps[table][1]] == []


def test_what_came_too_late_is_none_and_says_so(audited: Audited) -> None:
    found = audited.coverage("train-04")
    assert {table: found[table][0] for table in LATE} == dict.fromkeys(LATE, "none")
    assert [table for table in LATE if "timeout" not in found[table][1]] == []


def test_every_node_has_expectations() -> None:
    assert {*NOT_COMPLETE, "train-04"} == set(NODES)
    assert {host for host, _, _ in EXPECTED} | {"train-04"} == set(NODES)


@pytest.mark.parametrize(("host", "query", "expected"), EXPECTED, ids=[f"{host}-{n}" for n, (host, _, _) in enumerate(EXPECTED)])
def test_fact(audited: Audited, host: str, query: str, expected: Any) -> None:
    assert audited.row(host, query) == expected


# --- demo/run.sh ----------------------------------------------------------------------------------


def demo(folder: Path, program: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the demo with this script as `fleet-audit`."""
    shutil.copytree(DEMO, folder / "demo", symlinks=True)
    script = folder / "bin" / "fleet-audit"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\n{program}\n")
    script.chmod(0o755)
    environment = cli_environment({"PATH": f"{script.parent}:{os.environ['PATH']}", "TMPDIR": str(folder)})
    return subprocess.run(["sh", folder / "demo" / "run.sh"], env=environment, cwd="/", timeout=180, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, check=False)  # fmt: skip


def test_demo_runs_to_its_end(tmp_path: Path) -> None:
    done = demo(tmp_path, f'PYTHONPATH={shlex.quote(str(SRC))} exec {shlex.join([sys.executable, *MAIN[1:]])} "$@"')
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 of 1 host answered" in done.stdout
    assert f"{len(NODES)} of {len(NODES) + 1} hosts answered" in done.stdout
    for name in ("this-machine", "fleet"):
        assert f".cache/demo/{name}.html" in done.stdout
        assert (tmp_path / ".cache" / "demo" / f"{name}.html").stat().st_size > 10_000
    run = Store(tmp_path / ".cache" / "demo" / "fleet").find("latest", stage="evaluated")
    assert run.file.as_of.isoformat() == "2026-11-24T06:00:00"


@pytest.mark.parametrize(("status", "ends"), [(0, 0), (1, 0), (2, 2), (3, 0), (4, 4)])
def test_demo_fails_only_if_nothing_was_audited(tmp_path: Path, status: int, ends: int) -> None:
    assert demo(tmp_path, f'test "$1" = report || exit {status}').returncode == ends
