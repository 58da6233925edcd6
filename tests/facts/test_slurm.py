# SPDX-License-Identifier: Apache-2.0
"""Slurm, against a configuration that slurmctld 24.11 took: recorded/slurm.json says where and when."""

from __future__ import annotations

import json
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.packages import DPKG, RPM
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.facts.slurm import TABLES
from fleet_audit.facts.slurm.config import lines
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

BY_NAME = {table.name: table for table in TABLES}
Evidence = dict[SourceId, Item]
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded/slurm.json").read_text())
CONF = "/etc/slurm/slurm.conf"
# recorded on Debian 13, 2026-11-25: scontrol show config, of the same configuration; names as slurm.conf has them
SCONTROL = {
    "accountingstorageenforce": "associations,limits", "authtype": "auth/munge", "clustername": "gpu", "disablerootjobs": "YES",
    "epilog": "/etc/slurm/epilog#1.sh", "launchparameters": "use_interactive_step", "mailprog": "/bin/true",
    "privatedata": "jobs,usage,users",
    "prolog": "/etc/slurm/prolog.d/*", "returntoservice": "2", "selecttype": "select/cons_tres", "slurmctldhost": "n1(10.99.0.1)",
    "slurmuser": "slurm", "statesavelocation": "/var/lib/slurm/slurmctld",
}  # fmt: skip


def recorded(**changed: Any) -> Evidence:
    items = {
        SourceId(name): ok(body if isinstance(body, str) else json.dumps(body)) for name, body in RECORDED.items() if name != "recorded"
    }
    items[RPM.id] = status(Status.ABSENT)
    for name, document in changed.items():
        items[SourceId(name.replace("_", "-"))] = document if isinstance(document, Item) else ok(json.dumps(document))
    return items


def texts(**files: str) -> dict[str, Any]:
    return {path: {"text": text} for path, text in files.items()}


def settings(text: str, **more: Any) -> list[dict[str, Any]]:
    return rows_as_dicts(BY_NAME["slurm_settings"], run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: text}) | more)))


def rows(name: str, evidence: Evidence) -> list[dict[str, Any]]:
    return rows_as_dicts(BY_NAME[name], run(BY_NAME[name], evidence))


def test_settings_are_what_slurm_itself_reads() -> None:
    extracted = run(BY_NAME["slurm_settings"], recorded())
    assert (extracted.coverage, extracted.reason) == (Coverage.COMPLETE, "")
    found = rows("slurm_settings", recorded())
    assert {row["key"]: row["value"] for row in found if row["in_force"] and row["key"] in SCONTROL} == SCONTROL
    assert [(row["value"], row["in_force"]) for row in found if row["key"] == "returntoservice"] == [("1", False), ("2", True)]
    nodes = [row for row in found if row["file"] == "/etc/slurm/nodes.conf"]
    assert [(row["key"], row["value"], row["rest"], row["line"], row["config"]) for row in nodes] == [
        ("nodename", "n1", "CPUs=1   State=UNKNOWN", 1, "slurm.conf"), ("partitionname", "p", "Nodes=n1 Default=YES State=UP", 3,
        "slurm.conf"),
    ]  # fmt: skip
    cgroup = {row["key"]: row["value"] for row in found if row["config"] == "cgroup.conf"}
    assert cgroup == {"cgroupplugin": "disabled", "constraindevices": "yes", "constrainramspace": "yes"}


def test_the_accounting_daemon_s_settings_are_a_table_of_their_own() -> None:
    found = {row["key"]: row["value"] for row in rows("slurmdbd_settings", recorded())}
    assert found["slurmuser"] == "slurm" and found["storagepass"] == "<secret:default:8>"
    denied = {"/etc/slurm/slurmdbd.conf": {"status": "denied", "detail": "Permission denied"}}
    extracted = run(BY_NAME["slurmdbd_settings"], recorded(slurmdbd_settings=denied))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())


@pytest.mark.parametrize(("text", "expected"), [
    ("Key=value", ("key", "value", "")), ("  KEY  =  value  ", ("key", "value", "")), ('MailProg="/bin/a b" ',
    ("mailprog", "/bin/a b", "")),
    ("A=b # c", ("a", "b", "")), ("A=b\\#c", ("a", "b#c", "")), ("A=b\\\\c", ("a", "b\\c", "")), ("A=x,\\\n  y", ("a", "x,", "y")),
    ("A=\\\nb", ("a", "b", "")),
    ("A=b \\  \nC=d", ("a", "b", "C=d")), ("Name=gpu Type=h100 File=/dev/nvidia[0-7]", ("name", "gpu", "Type=h100 File=/dev/nvidia[0-7]")),
    ("A=b\\", ("a", "b", "")), ('A=""', ("a", "", "")), ("A=b=c", ("a", "b=c", "")), ("A=b\r", ("a", "b", "")),
])  # fmt: skip
def test_lines(text: str, expected: tuple[str, str, str]) -> None:
    assert [(row["key"], row["value"], row["rest"]) for row in settings(text)] == [expected]


def test_a_comment_is_cut_off_before_a_line_is_continued() -> None:
    assert list(lines("A=1 # x \\\nB=2\n# \\\nC=3")) == [(1, "A=1 "), (2, "B=2"), (4, "C=3")]


@pytest.mark.parametrize("text", [
    "Include %c.conf", "Include missing.conf", "  Include nodes.conf", "what is this", "=x", "A=", "Include slurm.conf",
    "Include /etc/slurm/slurm.conf", "A+=b",
])  # fmt: skip
def test_what_is_not_understood_or_not_read_is_a_gap(text: str) -> None:
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: f"ClusterName=a\n{text}\nB=2\n"})))
    assert extracted.coverage is Coverage.PARTIAL and [row[2] for row in extracted.rows] == ["clustername", "b"]


@pytest.mark.parametrize("text", ["SlurmUser=slurm AuthType=auth/none", "ReturnToService=1 x", "Prolog=/a Epilog=/b"])
def test_slurm_refuses_a_second_setting_on_a_line_so_it_is_a_gap(text: str) -> None:
    """parse_config.c, s_p_parse_file: only white space may be left over after a key that takes no options."""
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: f"ClusterName=a\n{text}\n"})))
    assert extracted.coverage is Coverage.PARTIAL and f"{CONF}:2" in extracted.reason and len(extracted.rows) == 2


@pytest.mark.parametrize("text", [
    "NodeName=n1 CPUs=1", "PartitionName=p Nodes=n1 Default=YES", "NodeSet=s Feature=f", "DownNodes=n1 State=DOWN", "BasePath=/x AutoBasePath=true",
    "SwitchName=s1 Nodes=n1", "BlockName=b Nodes=n1", "Name=gpu Type=h100", "PowerAction=off Program=/x", "FrontendName=f Port=7",
])  # fmt: skip
def test_keys_with_options_take_the_rest_of_the_line(text: str) -> None:
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: text + "\n"})))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.COMPLETE, 1)


def test_an_included_file_that_may_not_be_read_is_a_gap() -> None:
    files = texts(**{CONF: "Include secret.conf\nA=1\n"}) | {"/etc/slurm/secret.conf": {"status": "denied", "detail": "Permission denied"}}
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=files))
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) == 1


def test_files_that_include_each_other_end_soon() -> None:
    files = texts(**{CONF: "Include a0\n"} | {f"/etc/slurm/a{n}": f"Include a{n + 1}\nInclude a{n + 1}\nK{n}=1\n" for n in range(250)})
    begun = time.monotonic()
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=files))
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) < 250 and time.monotonic() - begun < 3


def test_keys_that_add_up_are_all_in_force() -> None:
    found = settings("Prolog=/a\nProlog=/b\nNodeName=n1 CPUs=1\nNodeName=n2\nAuthType=auth/none\nAUTHTYPE=auth/munge\n")
    assert [(row["value"], row["in_force"]) for row in found] == [
        ("/a", True), ("/b", True), ("n1", True), ("n2", True), ("auth/none", False), ("auth/munge", True),
    ]  # fmt: skip


def test_several_folders_stand_apart() -> None:
    files = texts(**{CONF: "A=1\n", "/run/slurm/conf/slurm.conf": "A=2\n", "/etc/slurm/gres.conf": "AutoDetect=nvml\n"})
    found = rows("slurm_settings", recorded(slurm_settings=files))
    assert [(row["folder"], row["config"], row["value"], row["in_force"]) for row in found] == [
        ("/etc/slurm", "slurm.conf", "1", True), ("/etc/slurm", "gres.conf", "nvml", True), ("/run/slurm/conf", "slurm.conf", "2", True),
    ]  # fmt: skip


def test_plugins() -> None:
    assert [tuple(row.values())[1:] for row in rows("slurm_plugins", recorded())] == [
        (1, False, "spank_x11.so", "ssh_cmd=ssh"), (2, True, "/usr/lib/slurm/spank_pyxis.so", "container_scope=job"),
    ]  # fmt: skip
    files = texts(**{"/etc/slurm/plugstack.conf": "include gone.conf\n# required x\nmaybe y\nREQUIRED z.so\n"}) | {"/x": {"text": 5}}
    extracted = run(BY_NAME["slurm_plugins"], recorded(slurm_plugstack=files))
    assert extracted.coverage is Coverage.PARTIAL and [row[3] for row in extracted.rows] == ["z.so"] and "gone.conf" in extracted.reason


# --- daemons, versions -------------------------------------------------------------------------------


def process(name: str, *flags: str, **more: Any) -> dict[str, Any]:
    base = {
        "pid": 9,
        "ppid": 1,
        "uid": 0,
        "euid": 0,
        "comm": name[:15],
        "exe": f"/usr/sbin/{name}",
        "argv": [f"/usr/sbin/{name}", *flags],
        "caps": "0",
    }
    return base | {"contained": False, "cut": False, "cgroup": "/", "label": None, "env": None} | more


def running(*found: dict[str, Any]) -> dict[str, Any]:
    return {"processes": [process("systemd"), *found], "kernel_threads": 2, "gap": ""}


def test_the_recorded_daemon() -> None:  # Debian's slurmctld is a link to slurmctld-wlm or the like
    (row,) = rows("slurm_daemons", recorded())
    assert (row["program"], row["command"], row["config"], row["listens"]) == ("slurmctld", "slurmctld -D", None, None) and row["uid"] > 0


@pytest.mark.parametrize(("row", "expected"), [
    (process("slurmd", "-D", "--conf-server", "ctl1:6817,ctl2"), ("slurmd", None, "ctl1:6817,ctl2", None, None)),
    (process("slurmd", "-f/opt/slurm.conf"), ("slurmd", "/opt/slurm.conf", None, None, None)),
    (process("slurmctld", "-D", "-f", "/x/slurm.conf", "-i"), ("slurmctld", "/x/slurm.conf", None, None, None)),
    (process("slurmrestd", "-a", "rest_auth/jwt", "unix:/run/slurmrestd.socket", "0.0.0.0:6820"),
     ("slurmrestd", None, None, ["unix:/run/slurmrestd.socket", "0.0.0.0:6820"], ["rest_auth/jwt"])),
    (process("slurmrestd", "-u", "nobody", ":6820", "[::1]:6821", "-a", "jwt,local"), ("slurmrestd", None, None,
    [":6820", "[::1]:6821"], ["jwt", "local"])),
    (process("slurmrestd", "-s", "openapi/v0.0.39"), ("slurmrestd", None, None, None, None)),
    (process("slurmdbd", exe=None), ("slurmdbd", None, None, None, None)),
])  # fmt: skip
def test_daemons(row: dict[str, Any], expected: Any) -> None:
    (found,) = rows("slurm_daemons", recorded(processes=running(row)))
    assert (found["program"], found["config"], found["server"], found["listens"], found["auth"]) == expected


def test_what_is_no_daemon() -> None:
    steps = process("slurmstepd", argv=["slurmstepd: [7.batch]"]), process("srun", "hostname")
    extracted = run(BY_NAME["slurm_daemons"], recorded(processes=running(*steps)))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    odd = run(BY_NAME["slurm_daemons"], recorded(processes=running(process("slurmd", euid="x"))))
    assert (odd.coverage, odd.rows) == (Coverage.PARTIAL, ())
    assert run(BY_NAME["slurm_daemons"], recorded(processes=status(Status.ABSENT, "not recorded"))).coverage is Coverage.NONE


def test_versions() -> None:
    found = rows("slurm_versions", recorded())
    assert {(row["name"], row["package"]) for row in found} >= {
        ("slurmctld", False),
        ("slurmd", False),
        ("slurmd", True),
        ("slurmrestd", True),
    }
    assert {row["version_key"] for row in found} == {"B24.B11.A5"}
    assert {row["version"] for row in found} == {"24.11.5", "24.11.5-4+deb13u1"}


@pytest.mark.parametrize(("said", "version", "sortable"), [
    ("slurm 25.05.9\n", "25.05.9", "B25.A5.A9"), ("slurm-wlm 22.05.8\n", "22.05.8", "B22.A5.A8"), ("slurm 26.05.0-0rc1\n",
    "26.05.0-0rc1", None),
    ("slurm 26.05.0rc1\n", "26.05.0rc1", None), ("slurm 25.11.0-0pre1\n", "25.11.0-0pre1", None),
])  # fmt: skip
def test_versions_that_daemons_say(said: str, version: str, sortable: str | None) -> None:
    evidence = recorded(
        slurmd_version=ok(said), slurmctld_version=status(Status.ABSENT), dpkg_status=ok("Package: slurm\nVersion: 0.4.4-1\n")
    )
    (row,) = rows("slurm_versions", evidence)  # Debian's package slurm is something else
    assert (row["name"], row["version"], row["version_key"]) == ("slurmd", version, sortable)


def test_versions_that_are_not_understood() -> None:
    assert run(BY_NAME["slurm_versions"], recorded(slurmd_version=ok("hello"))).coverage is Coverage.PARTIAL
    assert run(BY_NAME["slurm_versions"], recorded(slurmd_version=status(Status.TIMEOUT))).coverage is Coverage.PARTIAL
    assert run(BY_NAME["slurm_versions"], recorded(dpkg_status=status(Status.ABSENT))).coverage is Coverage.PARTIAL


# --- files, hooks, munge -----------------------------------------------------------------------------


def entry(mode: int, uid: int = 0, gid: int = 0, kind: str = "file") -> dict[str, Any]:
    return {"type": kind, "mode": mode, "uid": uid, "gid": gid, "size": 1, "mtime": 1, "link": None}


ROOTS = {
    path: entry(0o755, kind="dir")
    for path in ("/", "/etc", "/etc/slurm", "/etc/slurm/prolog.d", "/opt", "/opt/slurm", "/usr", "/usr/lib", "/usr/lib/slurm")
}


def test_the_recorded_files() -> None:
    found = {row["path"]: (row["kind"], row["mode"]) for row in rows("slurm_files", recorded())}
    assert (
        found[CONF] == ("config", 0o644)
        and found["/etc/slurm/slurmdbd.conf"] == ("config", 0o600)
        and found["/etc/slurm"] == ("folder", 0o755)
    )
    assert found["/etc/slurm/prolog.d/10"] == ("hook", 0o775) and found["/etc/slurm/epilog#1.sh"] == ("hook", 0o755)
    assert "/etc" not in found and sum(kind == "plugin" for kind, _ in found.values()) == 2


@pytest.mark.parametrize(("path", "kind"), [
    ("/etc/slurm/slurm.key", "key"), ("/var/spool/slurmctld/jwt_hs256.key", "key"), ("/usr/lib64/slurm/auth_munge.so", "plugin"),
    ("/etc/slurm/job_submit.lua", "hook"), ("/etc/slurm/task_prolog", "hook"), ("/etc/slurm/scripts/x", "hook"),
    ("/etc/slurm/topology.conf", "config"),
    ("/usr/libexec/slurm/health", "hook"), ("/etc/slurm/plugstack.conf.d/p.conf", "config"), ("/etc/slurm/slurm.jwks", "key"),
    ("/etc/slurm/ctld_cert_key.pem", "key"), ("/etc/slurm/ctld_cert.pem", "config"),
])  # fmt: skip
def test_kinds_of_files(path: str, kind: str) -> None:
    (row,) = rows("slurm_files", recorded(slurm_files={path: entry(0o644), "/etc": entry(0o755, kind="dir")}))
    assert row["kind"] == kind


def linked(path: str, mode: int = 0o644, uid: int = 0, kind: str = "file", **way: int) -> dict[str, Any]:
    """A link as the reader follows it: to a path, by folders of these owners."""
    folders = {"/" + name.replace("_", "/"): entry(0o755, owner, kind="dir") for name, owner in way.items()}
    return entry(0o777, kind="link") | {
        "link": path,
        "target": entry(mode, uid, kind=kind) | {"path": path},
        "way": {"/": entry(0o755, kind="dir")} | folders,
    }


def test_what_a_link_leads_to_has_a_row_of_its_own() -> None:
    there = {
        CONF: linked("/opt/cluster", 0o664, 7, opt=0, srv=5), "/run/slurm/conf": linked("/var/spool/slurmd/conf-cache", 0o755, kind="dir"),
        "/etc/slurm/gres.conf": entry(0o777, kind="link") | {"link": "/shared/gres.conf", "target": {"status": "failed", "detail": "nfs4"}},
    }  # fmt: skip
    found = [tuple(row.values()) for row in rows("slurm_files", recorded(slurm_files=there))]
    assert found == [
        (CONF, CONF, "config", 0, 0, 0o777, True, "/opt/cluster"), ("/opt/cluster", CONF, "config", 7, 0, 0o664, False, ""),
        ("/srv", CONF, "folder", 5, 0, 0o755, False, ""),
        ("/run/slurm/conf", "/run/slurm/conf", "folder", 0, 0, 0o777, True, "/var/spool/slurmd/conf-cache"),
        ("/var/spool/slurmd/conf-cache", "/run/slurm/conf", "folder", 0, 0, 0o755, False, ""),
        ("/etc/slurm/gres.conf", "/etc/slurm/gres.conf", "config", 0, 0, 0o777, True, None),
    ]  # fmt: skip


def test_the_recorded_hooks() -> None:
    assert [tuple(row.values())[1:] for row in rows("slurm_hooks", recorded())] == [
        ("mailprog", "/bin/true", None, None, None, None), ("epilog", "/etc/slurm/epilog#1.sh", True, 0, 0o755, ""),
        ("prolog", "/etc/slurm/prolog.d/10", True, 0, 0o775, ""),  # root's group may write: that is root
    ]  # fmt: skip


@pytest.mark.parametrize(("files", "weakest"), [
    ({}, ""), ({"/etc/slurm/prolog.d/1": entry(0o777)}, "/etc/slurm/prolog.d/1"), ({"/etc/slurm/prolog.d/1": entry(0o755, 64030)},
    "/etc/slurm/prolog.d/1"),
    ({"/etc/slurm/prolog.d/1": entry(0o775, 0, 50)}, "/etc/slurm/prolog.d/1"), ({"/etc/slurm/prolog.d": entry(0o777, kind="dir")},
    "/etc/slurm/prolog.d"),
    ({"/etc/slurm/prolog.d": entry(0o1777, kind="dir")}, ""), ({"/etc": entry(0o755, 5, kind="dir")}, "/etc"),
    ({"/etc": entry(0o777, kind="link")}, None), ({"/etc/slurm": linked("/opt/s", 0o755, kind="dir", opt=0)}, ""),
    ({"/etc/slurm": linked("/opt/s", 0o777, kind="dir", opt=0)}, "/opt/s"), ({"/etc/slurm": linked("/opt/s", 0o755, kind="dir", opt=9)}, "/opt"),
])  # fmt: skip
def test_the_weakest_part_of_a_hook_s_path(files: dict[str, Any], weakest: str | None) -> None:
    there = ROOTS | {"/etc/slurm/prolog.d/1": entry(0o755)} | files
    (row,) = rows("slurm_hooks", recorded(slurm_settings=texts(**{CONF: "Prolog=prolog.d/*\n"}), slurm_files=there))
    assert (row["path"], row["found"], row["weakest"]) == ("/etc/slurm/prolog.d/1", True, weakest)


def test_a_hook_that_is_a_link_has_the_owner_and_mode_of_what_it_leads_to() -> None:
    there = ROOTS | {"/etc/slurm/prolog.d/1": linked("/opt/p", 0o775, 6, opt=0)}
    (row,) = rows("slurm_hooks", recorded(slurm_settings=texts(**{CONF: "Prolog=prolog.d/*\n"}), slurm_files=there))
    assert (row["uid"], row["mode"], row["weakest"]) == (6, 0o775, "/opt/p")


@pytest.mark.parametrize(("text", "expected"), [
    ("Epilog=/etc/slurm/gone.sh", ("/etc/slurm/gone.sh", False)), ("Epilog=/shared/epilog.sh", ("/shared/epilog.sh", None)),
    ("TaskProlog=/etc/slurm/prolog.d/*.x", ("/etc/slurm/prolog.d/*.x", False)), ("PluginDir=/usr/lib/slurm:/opt/p",
    ("/usr/lib/slurm", True)),
])  # fmt: skip
def test_hooks_that_are_not_there_or_lie_where_nobody_looked(text: str, expected: tuple[str, bool | None]) -> None:
    found = rows("slurm_hooks", recorded(slurm_settings=texts(**{CONF: text}), slurm_files=ROOTS))
    assert (found[0]["path"], found[0]["found"]) == expected


def test_settings_that_name_no_program() -> None:
    text = "Prolog=(null)\nMailProg=none\nPrologFlags=Contain\n"
    assert rows("slurm_hooks", recorded(slurm_settings=texts(**{CONF: text, "/etc/slurm/gres.conf": "Prolog=/x\n"}))) == []


def test_munge() -> None:
    assert rows("munge", recorded()) == [{
        "running": True, "uid": 100, "key": "/etc/munge/munge.key", "key_uid": 100, "key_gid": 101, "key_mode": 0o600, "key_bytes": 128,
        "key_changed_at": datetime(2026, 11, 25, 18, 29, 5), "folder_uid": 100, "folder_mode": 0o700,
    }]  # fmt: skip


def test_munge_that_is_not_there_or_not_all_seen() -> None:
    absent = {path: {"status": "absent", "detail": ""} for path in ("/etc/munge", "/etc/munge/munge.key")}
    none = run(BY_NAME["munge"], recorded(munge_files=absent, processes=running()))
    assert (none.coverage, none.rows) == (Coverage.COMPLETE, ())
    denied = {"/etc/munge": entry(0o700, 100, kind="dir"), "/etc/munge/munge.key": {"status": "denied", "detail": "Permission denied"}}
    part = run(BY_NAME["munge"], recorded(munge_files=denied, processes=running()))
    assert part.coverage is Coverage.PARTIAL and part.rows[0][:4] == (False, None, None, None) and part.rows[0][-1] == 0o700
    nothing = run(BY_NAME["munge"], recorded(munge_files={"/etc/munge": {"status": "denied", "detail": ""}}, processes=running()))
    assert nothing.coverage is Coverage.NONE
    other = run(BY_NAME["munge"], recorded(munge_files={}, processes=running(process("munged", "--key-file=/srv/key"))))
    assert other.coverage is Coverage.PARTIAL and other.rows[0][:3] == (True, 0, None)


# --- laws ---------------------------------------------------------------------------------------------


def test_an_empty_node_is_complete() -> None:
    evidence = {
        source.id: status(Status.ABSENT) if source.reader == "command" else ok("{}") for table in TABLES for source in table.sources
    }
    evidence |= {DPKG.id: ok("Package: bash\nVersion: 5\n"), PROCESSES.id: ok(json.dumps(running()))}
    for table in TABLES:
        extracted = run(table, evidence)
        assert (extracted.coverage, extracted.rows, extracted.reason) == (Coverage.COMPLETE, (), ""), table.name


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_laws(table: Table) -> None:
    assert run(table, recorded()).rows
    never_emptier(table, recorded())
    for source in table.sources:
        if recorded()[source.id].body and source is not DPKG and source.reader != "command":
            assert list(cut_short(table, recorded(), source, step=37))


KEYS = st.sampled_from(
    [*"processes gap text status pid argv exe comm cut euid uid gid mode type mtime".split(), CONF, "/etc/munge/munge.key", "/etc/slurm"]
)
VALUES = st.sampled_from(
    ["slurmd", "-f", "munged", "A=b", "Include slurm.conf", "Prolog=/etc/slurm/*", "required x", "\\", '"', "#", True, 0, 10**30]
)
JSON = st.recursive(
    st.none() | VALUES | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
)
SOURCES = sorted({source.id for table in TABLES for source in table.sources})


@given(st.dictionaries(
    st.sampled_from(SOURCES), st.builds(Item, st.sampled_from(Status),
    st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        run(table, evidence)


@given(st.fixed_dictionaries({name: st.builds(Item, st.sampled_from(Status), st.binary(max_size=99)) for name in SOURCES}))
def test_garbage_makes_no_rows(evidence: Evidence) -> None:
    assert [run(table, evidence).rows for table in TABLES] == [()] * len(TABLES)


@given(st.text(alphabet='aA=\\#"\n \tInclude.,', max_size=60))
def test_every_line_is_a_setting_or_a_gap(text: str) -> None:
    extracted = run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: text})))
    told = [number for number, line in lines(text) if line.strip()]
    assert extracted.coverage is Coverage.PARTIAL or [row[6] for row in extracted.rows] == told


def test_long_lines_end_soon() -> None:
    begun = time.monotonic()
    for text in (
        "A" * 2_000_000,
        "\\" * 2_000_000,
        "#" * 2_000_000,
        "A=" + " " * 500_000 + "x",
        "a " * 900_000,
        '"' * 500_000,
        "A=\\\n" * 300_000,
        " " * 900_000,
    ):
        run(BY_NAME["slurm_settings"], recorded(slurm_settings=texts(**{CONF: text})))
    assert time.monotonic() - begun < 20
