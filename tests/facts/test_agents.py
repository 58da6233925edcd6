# SPDX-License-Identifier: Apache-2.0
"""Agents that watch a node: by packages, programs and processes, of a real node and of made-up ones."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.agents import DATABASES, IMA, PROGRAMS, SECURITYFS, TABLES
from fleet_audit.facts.base import Item
from fleet_audit.facts.packages import DPKG, RPM
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

AGENTS, DATABASE, IMAS = TABLES
DENIED = {"status": "denied", "detail": "Permission denied"}


def rows(table: Any, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(table, evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(table, extracted)


def node(*processes: tuple[str, str | None, str], packages: str = "systemd", programs: tuple[str, ...] = (), gap: str = "") -> Evidence:
    """A node with these packages, programs and processes (name, path of the program, first word)."""
    found = [{"pid": 1, "comm": "systemd", "exe": "/usr/lib/systemd/systemd", "argv": ["/sbin/init"], "uid": 0, "contained": False}]
    found += [{"pid": 10 + n, "comm": comm[:15], "exe": exe, "argv": [first], "uid": n, "contained": n > 0}
              for n, (comm, exe, first) in enumerate(processes)]  # fmt: skip
    dpkg = "".join(
        f"Package: {name}\nStatus: install ok installed\nVersion: 1.{n}\nArchitecture: amd64\n\n" for n, name in enumerate(packages.split())
    )
    return {
        DPKG.id: ok(dpkg), RPM.id: status(Status.SKIPPED), PROCESSES.id: ok(json.dumps({"processes": found, "gap": gap})),
        PROGRAMS.id: document({path: {"type": "file"} if path in programs else None for path in PROGRAMS.args["globs"]}),
    }  # fmt: skip


def test_a_real_node() -> None:
    found = {row["name"]: row for row in rows(AGENTS, recorded())}
    assert {name: (row["kind"], row["running"]) for name, row in found.items()} == {
        "aide": ("integrity", False), "fail2ban": ("banning", True), "auditd": ("audit", True), "rsyslog": ("logs", True),
    }  # fmt: skip
    assert (found["auditd"]["version"], found["auditd"]["program"], found["auditd"]["uid"]) == ("1:4.0.2-2+deb13u1", "/usr/sbin/auditd", 0)
    assert found["fail2ban"]["running_program"] == "/usr/bin/python3.13"  # a script: known by its name


def test_nothing_of_it_is_proved_by_all_three() -> None:
    assert rows(AGENTS, node()) == []
    never_emptier(AGENTS, node(("falco", "/usr/bin/falco", "falco"), packages="falco aide", programs=("/usr/bin/aide",)))


@pytest.mark.parametrize(("process", "agent"), [
    (("falco", "/usr/bin/falco", "/usr/bin/falco"), "falco"), (("falcon-sensor", "/opt/CrowdStrike/falcon-sensor17706", "falcon-sensor"),
     "crowdstrike"),
    (("falcon-sensor-bpf", "/opt/CrowdStrike/falcon-sensor-bpf", "falcon-sensor-bpf"), "crowdstrike"),
    (("s1-agent", "/opt/sentinelone/bin/sentinelone-agent", "s1-agent"), "sentinelone"),
    (("wdavdaemon", "/opt/microsoft/mdatp/sbin/wdavdaemon", "/opt/microsoft/mdatp/sbin/wdavdaemon"), "defender"),
    (("agent", "/opt/datadog-agent/bin/agent/agent", "agent"), "datadog"), (("pmd", "/opt/traps/bin/pmd", "/opt/traps/bin/pmd"), "cortex-xdr"),
    (("wazuh-logcollec", "/var/ossec/bin/wazuh-logcollector", "/var/ossec/bin/wazuh-logcollector"), "wazuh"),
    (("osqueryd", "/opt/osquery/bin/osqueryd (deleted)", "osqueryd"), "osquery"), (("tetragon", "/usr/bin/tetragon", "/usr/bin/tetragon"),
     "tetragon"),
    (("bacula-fd", "/usr/sbin/bacula-fd", "bacula-fd"), "bacula"),
    (("borgmatic", "/usr/bin/python3.11", "/usr/bin/python3"), "borg"), (("cvd", "/opt/commvault/Base64/cvd", "cvd"), "commvault"),
    (("prometheus-node-exporter", None, "/usr/bin/prometheus-node-exporter"), "node-exporter"), (("clamd", None, "clamd"), "clamav"),
])  # fmt: skip
def test_agents_by_what_runs(process: tuple[str, str | None, str], agent: str) -> None:
    (row,) = rows(AGENTS, node(process))
    assert (row["name"], row["running"], row["package"], row["program"], row["contained"]) == (agent, True, None, None, False)
    assert row["running_program"] == (process[1] or process[0][:15])


@pytest.mark.parametrize("process", [
    ("systemd-journal", "/usr/lib/systemd/systemd-journald", "/usr/lib/systemd/systemd-journald"),  # not systemd-journal-upload
    ("systemd-journal", None, "/usr/lib/systemd/systemd-journald"), ("agent", "/usr/bin/ssh-agent", "agent"), ("pmd", "/usr/bin/pmd", "pmd"),
    ("falcon", "/usr/bin/falcon", "falcon"), ("bash", "/usr/bin/bash", "bash"), ("grep", "/usr/bin/grep", "grep"),
])  # fmt: skip
def test_names_that_only_look_like_an_agent(process: tuple[str, str | None, str]) -> None:
    assert rows(AGENTS, node(process)) == []


def test_what_is_installed_but_does_not_run_and_runs_in_containers() -> None:
    found = {row["name"]: row for row in rows(AGENTS, node(
        ("bash", "/usr/bin/bash", "bash"), ("falco", "/usr/bin/falco", "falco"), packages="mdatp auditd falcon-sensor",
         programs=("/opt/CrowdStrike/falcond",),
    ))}  # fmt: skip
    assert {name: (row["package"], row["version"], row["program"], row["running"], row["contained"]) for name, row in found.items()} == {
        "falco": (None, None, None, True, True), "crowdstrike": ("falcon-sensor", "1.2", "/opt/CrowdStrike/falcond", False, None),
        "defender": ("mdatp", "1.0", None, False, None), "auditd": ("auditd", "1.1", None, False, None),
    }  # fmt: skip
    assert found["falco"]["uid"] == 1


def test_rpm_names() -> None:
    evidence = node() | {DPKG.id: status(Status.ABSENT), RPM.id: ok("audit\t0\t3.1.2\t2.el9\tx86_64\taudit-3.1.2-2.el9.src.rpm\n")}
    assert [(row["name"], row["version"]) for row in rows(AGENTS, evidence)] == [("auditd", "3.1.2-2.el9")]


@pytest.mark.parametrize(("change", "running"), [
    ({PROCESSES.id: status(Status.ABSENT, "not recorded")}, None), ({PROCESSES.id: ok("[]")}, None),
    ({DPKG.id: status(Status.ABSENT)}, True), ({DPKG.id: status(Status.DENIED)}, True), ({DPKG.id: ok("garbage")}, True),
])  # fmt: skip
def test_one_way_that_was_not_looked_at_is_partial(change: Evidence, running: bool | None) -> None:
    evidence = node(("auditd", "/usr/sbin/auditd", "auditd"), packages="auditd", programs=("/usr/sbin/auditd",)) | change
    (row,) = rows(AGENTS, evidence, Coverage.PARTIAL)
    assert (row["name"], row["running"], row["program"]) == ("auditd", running, "/usr/sbin/auditd")


def test_processes_that_are_not_all_are_partial_and_programs_not_looked_at_none() -> None:
    assert rows(AGENTS, node(gap="hidepid"), Coverage.PARTIAL) == []
    assert run(AGENTS, node() | {PROGRAMS.id: status(Status.TIMEOUT)}).coverage is Coverage.NONE


def test_detection_databases() -> None:
    file = {"type": "file", "mtime": 1764072000, "size": 5, "mode": 0o600, "uid": 0, "gid": 0, "link": None}
    paths = ["/var/lib/aide/aide.db", "/var/lib/clamav/daily.cld", "/var/lib/rkhunter/db/rkhunter.dat", "/var/ossec/queue/fim/db/fim.db"]
    found = rows(DATABASE, {DATABASES.id: document({**dict.fromkeys(paths, file), "/var/lib/samhain/samhain_file": None})})
    assert [(row["tool"], row["path"]) for row in found] == list(zip(("aide", "clamav", "rkhunter", "wazuh"), paths, strict=True))
    assert (found[0]["modified_at"], found[0]["size_bytes"]) == (datetime(2025, 11, 25, 12, 0), 5)
    assert rows(DATABASE, recorded()) == []
    assert rows(DATABASE, {DATABASES.id: document({paths[0]: DENIED, paths[1]: {"mtime": "x"}})}, Coverage.PARTIAL) == []
    assert rows(DATABASE, {DATABASES.id: document({paths[0]: {**file, "type": "link", "link": "/gone"}})}, Coverage.PARTIAL) == []
    assert run(DATABASE, {DATABASES.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_ima() -> None:
    assert rows(IMAS, recorded()) == [{"measurements": 1270, "violations": 2}]
    no_ima = {SECURITYFS.id: document({"/sys/kernel/security/lsm": {"type": "file"}, "/sys/kernel/security/ima": None})}
    assert rows(IMAS, no_ima) == []
    unproved = {SECURITYFS.id: document(dict.fromkeys(SECURITYFS.args["globs"]))}  # as on Linux 6.18 without securityfs
    hidden = {SECURITYFS.id: document({"/sys/kernel/security/lsm": {"type": "file"}, "/sys/kernel/security/ima": DENIED})}
    for evidence in (unproved, hidden, {SECURITYFS.id: status(Status.DENIED)}):
        assert run(IMAS, evidence).coverage is Coverage.NONE
    denied = {IMA.id: ok(json.dumps({"/sys/kernel/security/ima": {"runtime_measurements_count": DENIED, "violations": DENIED}}))}
    assert rows(IMAS, recorded() | denied, Coverage.PARTIAL) == [{"measurements": None, "violations": None}]


def test_laws() -> None:
    file: Item = document({"/var/lib/aide/aide.db": {"mtime": 1, "size": 1}})
    for table in TABLES:
        evidence = recorded() | {DATABASES.id: file}
        never_emptier(table, evidence)
        for source in table.sources:
            assert list(cut_short(table, evidence, source, step=211)) or not evidence[source.id].body


@given(anything(TABLES, ["processes", "gap", "comm", "exe", "argv", "uid", "/var/lib/aide/aide.db", "mtime", "size", "/sys/kernel/security/ima"],
                ["Package: falco", "Version: 1", "falco", "/usr/bin/falco"]))  # fmt: skip
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name
