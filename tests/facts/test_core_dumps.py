# SPDX-License-Identifier: Apache-2.0
"""Dumps of crashed programs: the kernel's pattern, systemd-coredump, limits, folders, GPU core dumps, apport."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given

from fleet_audit.facts.base import Item
from fleet_audit.facts.core_dumps import APPORT, COREDUMP, DUMPABLE, FOLDERS, GPU_DEFAULTS, HANDLERS, LIMITS, MANAGER, PATTERN, TABLES
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, Status

from .debian13 import Evidence, anything, document, recorded
from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

T = {table.name: table for table in TABLES}
DENIED = {"status": "denied", "detail": "Permission denied"}
FILE = {"type": "file"}


def rows(table: str, evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> list[dict[str, Any]]:
    extracted = run(T[table], evidence)
    assert extracted.coverage is coverage, extracted.reason
    return rows_as_dicts(T[table], extracted)


def test_a_real_node() -> None:
    (kernel,) = rows("core_dumps", recorded())
    assert (kernel["handler"], kernel["absolute"], kernel["suid_dumpable"]) == ("systemd-coredump", True, 2)
    (systemd,) = rows("systemd_coredump", recorded())
    assert (systemd["storage"], systemd["keeps_nothing"], systemd["max_use"]) == ("external", False, None)
    assert rows("core_folders", recorded()) == [
        {
            "path": "/var/lib/systemd/coredump",
            "mode": 0o755,
            "uid": 0,
            "gid": 0,
            "files": 1,
            "files_open": 0,
            "folders": 0,
            "folders_open": 0,
        }
    ]
    limits = [(row["file"].rpartition("/")[2], row["domain"], row["type"], row["value"]) for row in rows("core_limits", recorded())]
    assert limits[:3] == [("10-coredump-debian.conf", "*", "soft", "0"), ("10-coredump-debian.conf", "root", "soft", "0"),
                          ("10-coredump-debian.conf", "*", "hard", "infinity")]  # fmt: skip
    assert [limit[0] for limit in limits[4:]] == ["20-coredump-debian.conf"] * 2
    for table in ("gpu_core_dumps", "gpu_core_defaults", "apport"):
        assert rows(table, recorded()) == []


@pytest.mark.parametrize(("pattern", "handler", "absolute"), [  # synthetic: core(5), and what distributions set
    ("core\n", "", False), ("\n", "", False), ("/var/core/core.%e.%p\n", "", True), ("|/bin/false\n", "/bin/false", True),
    # A name proves nothing: only where distributions put them they are what they are called.
    ("|/tmp/systemd-coredump %P\n", "/tmp/systemd-coredump", True), ("|/opt/apport/x\n", "/opt/apport/x", True),
    ("|/lib/systemd/systemd-coredump %P\n", "systemd-coredump", True), ("@/run/coredump.socket\n", "/run/coredump.socket", True),
    ("|/usr/share/apport/apport -p%p -s%s -c%c -d%d -P%P -u%u -g%g -F%F -- %E\n", "apport", True),
    ("|/usr/libexec/abrt-hook-ccpp %s %c %p %u %g %t %P %I %h\n", "abrt", True), ("|\n", "|", True),
])  # fmt: skip
def test_patterns(pattern: str, handler: str, absolute: bool) -> None:
    (row,) = rows("core_dumps", {PATTERN.id: ok(pattern), DUMPABLE.id: ok("0\n")})
    assert (row["pattern"], row["handler"], row["absolute"], row["suid_dumpable"]) == (pattern.strip(), handler, absolute, 0)


def test_patterns_that_were_not_read() -> None:
    for item in (status(Status.DENIED), status(Status.ABSENT), Item(Status.TRUNCATED, b"|/usr/li"), ok("a\nb\n")):
        assert run(T["core_dumps"], {PATTERN.id: item, DUMPABLE.id: ok("0\n")}).coverage is Coverage.NONE
    for item in (status(Status.DENIED), ok("7\n"), ok("x\n"), ok("")):
        (row,) = rows("core_dumps", {PATTERN.id: ok("core\n"), DUMPABLE.id: item}, Coverage.PARTIAL)
        assert row["suid_dumpable"] is None


def coredump(**files: str) -> Evidence:
    paths = {"main": "/etc/systemd/coredump.conf", "vendor": "/usr/lib/systemd/coredump.conf", "a": "/etc/systemd/coredump.conf.d/50-a.conf",
             "run": "/run/systemd/coredump.conf.d/50-a.conf", "z": "/usr/lib/systemd/coredump.conf.d/90-z.conf"}  # fmt: skip
    return {
        COREDUMP.id: document({paths[name]: text for name, text in files.items()}),
        HANDLERS.id: document({path: FILE if path.startswith("/usr/lib/systemd") else None for path in HANDLERS.args["globs"]}),
    }


@pytest.mark.parametrize(("files", "storage", "nothing"), [  # coredump.conf(5), systemd.syntax(7): precedence and conflicts
    ({}, "external", False), ({"main": "[Coredump]\nStorage=none\n"}, "none", True),
    ({"main": "[Coredump]\nProcessSizeMax=0\n"}, "external", False),  # stored all the same, up to ExternalSizeMax
    ({"main": "[Coredump]\nProcessSizeMax=0\nStorage=journal\n"}, "journal", False), ({"main": "[Coredump]\nExternalSizeMax=0\n"}, "external", True),
    ({"main": "[Coredump]\nStorage=journal\nExternalSizeMax=0\n"}, "journal", False),
    ({"main": "[Coredump]\nStorage=journal\nJournalSizeMax=0K\n"}, "journal", True),
    ({"main": "[Coredump]\nStorage=journal\n", "vendor": "[Coredump]\nStorage=none\n"}, "journal", False),
    ({"main": "[Coredump]\nStorage=none\n", "a": "[Coredump]\nStorage=external\n"}, "external", False),
    ({"a": "[Coredump]\nStorage=none\n", "run": "[Coredump]\nStorage=journal\n"}, "none", True),
    ({"a": "[Coredump]\nStorage=none\n", "z": "[Coredump]\nStorage=journal\n"}, "journal", False),
    ({"main": "[Coredump]\nStorage=none\nStorage=\n"}, "external", False), ({"main": "[Other]\nStorage=none\n"}, "external", False),
    ({"main": "#[Coredump]\n; Storage=none\n[Coredump]\nStorage=\\\n # c\n  none\n"}, "none", True),
])  # fmt: skip
def test_systemd_coredump(files: dict[str, str], storage: str, nothing: bool) -> None:
    (row,) = rows("systemd_coredump", coredump(**files))
    assert (row["storage"], row["keeps_nothing"]) == (storage, nothing)


def test_systemd_coredump_that_is_not_there_or_not_understood() -> None:
    none = {HANDLERS.id: document(dict.fromkeys(HANDLERS.args["globs"])), COREDUMP.id: document({})}
    assert rows("systemd_coredump", none) == []
    assert rows("systemd_coredump", coredump(main="[Coredump]\nStorage=often\n"), Coverage.PARTIAL)[0]["storage"] == "external"
    rows("systemd_coredump", coredump(main="Storage=none\n"), Coverage.PARTIAL)
    rows("systemd_coredump", coredump(main="[Coredump]\nStorage=none\\\n"), Coverage.PARTIAL)
    hidden = document({**dict.fromkeys(HANDLERS.args["globs"]), HANDLERS.args["globs"][0]: DENIED})
    for item in (hidden, status(Status.TIMEOUT)):
        assert run(T["systemd_coredump"], {**none, HANDLERS.id: item}).coverage is Coverage.NONE


def test_limits_in_order_and_odd_lines() -> None:
    text = "* hard core 0 # none\n@gpu - core unlimited\n* soft nofile 9\nalice -\nodd\n"
    files = {"/etc/security/limits.d/a.conf": "* soft core 1\n", "/etc/security/limits.conf": text}
    found = rows("core_limits", {LIMITS.id: document(files)}, Coverage.PARTIAL)
    assert [(row["domain"], row["type"], row["value"], row["position"]) for row in found] == [
        ("*", "hard", "0", 0), ("@gpu", "-", "unlimited", 1), ("*", "soft", "1", 2),
    ]  # fmt: skip
    assert run(T["core_limits"], {LIMITS.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_limit_of_services() -> None:
    # systemd-system.conf(5), precedence as for coredump.conf
    files = {
        "/etc/systemd/system.conf": "[Manager]\n#DefaultLimitCORE=\n",
        "/etc/systemd/system.conf.d/core.conf": "[Manager]\nDefaultLimitCORE=0:infinity\n",
    }
    assert rows("service_core_limit", {MANAGER.id: document(files)}) == [{"value": "0:infinity"}]
    for absent in ({"/etc/systemd/system.conf": None}, {"/etc/systemd/system.conf": "[Manager]\n"}):
        assert rows("service_core_limit", {MANAGER.id: document(absent)}) == [{"value": None}]
    rows("service_core_limit", {MANAGER.id: document({"/etc/systemd/system.conf": DENIED})}, Coverage.PARTIAL)
    assert run(T["service_core_limit"], {MANAGER.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_folders_and_who_reads_the_dumps() -> None:
    folder = {"type": "dir", "mode": 0o3777, "uid": 0, "gid": 113}
    found = rows("core_folders", {FOLDERS.id: document({
        "/var/crash": folder, "/var/crash/a.crash": {**FILE, "mode": 0o644}, "/var/crash/b.crash": {**FILE, "mode": 0o640},
        "/var/crash/c": {"type": "link", "mode": 0o777}, "/var/core": FILE, "/cores": None,
        "/var/crash/2026": {**folder, "mode": 0o755}, "/var/crash/2026/dump": {**FILE, "mode": 0o644},
        "/var/crash/2026/dmesg": {**FILE, "mode": 0o600},
        "/var/spool/abrt": {**folder, "mode": 0o751}, "/var/spool/abrt/open": {**folder, "mode": 0o755},
        "/var/spool/abrt/not": {**folder, "mode": 0o750},
    })})  # fmt: skip
    assert [(row["path"], row["mode"], row["files"], row["files_open"], row["folders"], row["folders_open"]) for row in found] == [
        ("/var/crash", 0o3777, 3, 1, 1, 0), ("/var/crash/2026", 0o755, 2, 1, 0, 0), ("/var/spool/abrt", 0o751, 0, 0, 2, 1),
    ]  # fmt: skip
    closed = {"/var/crash": {**folder, "mode": 0o700}, "/var/crash/2026": {**folder, "mode": 0o755}}
    assert [row["path"] for row in rows("core_folders", {FOLDERS.id: document(closed)})] == ["/var/crash"]
    linked = {"/var/crash": {**folder, "type": "link"}, "/var/crash/a": {**FILE, "mode": 0o644}}
    assert rows("core_folders", {FOLDERS.id: document(linked)}, Coverage.PARTIAL) == []
    assert rows("core_folders", {FOLDERS.id: document({"/var/crash": DENIED, "/cores": {"type": "dir"}})}, Coverage.PARTIAL) == []
    assert run(T["core_folders"], {FOLDERS.id: status(Status.DENIED)}).coverage is Coverage.NONE


def processes(*found: dict[str, Any], gap: str = "") -> Evidence:
    first = {"pid": 1, "uid": 0, "comm": "systemd", "exe": "/sbin/init", "argv": ["init"], "env": {}}
    return {PROCESSES.id: ok(json.dumps({"processes": [first, *({**first, **more} for more in found)], "gap": gap}))}


def test_gpu_core_dumps() -> None:
    # synthetic: CUDA-GDB documentation, GPU core dump support
    evidence = processes(
        {"pid": 7, "uid": 1000, "comm": "python3", "env": {"CUDA_ENABLE_COREDUMP_ON_EXCEPTION": "1", "CUDA_COREDUMP_FILE": "/shared/%h.%p"}},
        {"pid": 8, "uid": 1000, "comm": "python3", "env": {"CUDA_ENABLE_COREDUMP_ON_EXCEPTION": "0"}}, {"pid": 9, "env": {"PORT": "1"}},
    )  # fmt: skip
    assert [(row["pid"], row["uid"], row["enabled"], row["file"]) for row in rows("gpu_core_dumps", evidence)] == [
        (7, 1000, True, "/shared/%h.%p"), (8, 1000, False, None),
    ]  # fmt: skip
    for more in ({}, {"argv": [""], "exe": None}):  # a title may be emptied; what has ended the reader leaves out
        assert rows("gpu_core_dumps", processes({"pid": 7, "env": None, **more}), Coverage.PARTIAL) == []
    assert rows("gpu_core_dumps", processes(gap="hidepid"), Coverage.PARTIAL) == []
    assert run(T["gpu_core_dumps"], {PROCESSES.id: status(Status.ABSENT, "not recorded")}).coverage is Coverage.NONE


def test_gpu_core_defaults() -> None:
    text = 'export CUDA_ENABLE_COREDUMP_ON_EXCEPTION=1\nCUDA_COREDUMP_FILE="/tmp/x"\nexport CUDA_ENABLE_PTX=1\n\texport CUDA_COREDUMP_FILE=/y\n'
    files = {GPU_DEFAULTS.id: document({"/etc/profile.d/cuda.sh": text, "/etc/environment": DENIED})}
    assert [(row["name"], row["value"]) for row in rows("gpu_core_defaults", files, Coverage.PARTIAL)] == [
        ("CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "1"), ("CUDA_COREDUMP_FILE", "/tmp/x"), ("CUDA_COREDUMP_FILE", "/y"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "enabled"), [("enabled=1\n", True), ("enabled=0\n", False), ('enabled="0"\n', False), ("enabled=0 # c\n", False), ("", True)]
)
def test_apport(text: str, enabled: bool) -> None:
    there = document({path: FILE if "apport" in path else None for path in HANDLERS.args["globs"]})
    assert rows("apport", {HANDLERS.id: there, APPORT.id: ok(text)}) == [{"enabled": enabled}]
    assert rows("apport", {HANDLERS.id: there, APPORT.id: status(Status.ABSENT)}) == [{"enabled": True}]
    assert run(T["apport"], {HANDLERS.id: there, APPORT.id: status(Status.DENIED)}).coverage is Coverage.NONE


def test_laws() -> None:
    for table in TABLES:
        evidence = recorded() | {MANAGER.id: document({"/etc/systemd/system.conf": "[Manager]\nDefaultLimitCORE=0\n"})}
        never_emptier(table, evidence)
        for source in table.sources:
            if source is not APPORT:  # it is not installed there: nobody asks
                assert list(cut_short(table, evidence, source, step=23)) or not evidence[source.id].body


@given(anything(TABLES, ["/etc/systemd/coredump.conf", "/var/crash", "processes", "env", "pid", "uid", "gap", "mode", "type", "/etc/profile"],
                ["* hard core 0", "[Coredump]", "Storage=none", "|/usr/lib/systemd/systemd-coredump %P", "export CUDA_COREDUMP_FILE=x"]))  # fmt: skip
def test_no_bytes_raise(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: "), table.name
