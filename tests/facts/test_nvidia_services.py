# SPDX-License-Identifier: Apache-2.0
"""Fabric Manager, IMEX, daemons and the container toolkit of NVIDIA."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.nvidia_node import daemons, fabric, toolkit
from fleet_audit.facts.nvidia_node.daemons import option
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.processes import read_processes

from .gpu_hosts import ABSENT, FABRIC_CFG, IMEX_CFG, NOTHING, NVIDIA, TOOLKIT, files, process, processes, texts
from .helpers import ok, rows_as_dicts, run, status

FABRIC_MANAGER, IMEX, IMEX_NODES = fabric.TABLES
DAEMONS, PIPES = daemons.TABLES
PROGRAMS, CONFIG, CDI = toolkit.TABLES

# --- Fabric Manager and IMEX ----------------------------------------------------------------------


def settings_of(table: Any, source: Any, text: str) -> tuple[Coverage, dict[str, Any]]:
    """Coverage and the only row."""
    found = run(table, {source.id: ok(text)})
    (row,) = rows_as_dicts(table, found)
    return found.coverage, row


def test_fabric_manager() -> None:
    """Values as they are set; what is commented out is not."""
    assert settings_of(FABRIC_MANAGER, fabric.FABRIC_MANAGER, FABRIC_CFG) == (
        Coverage.COMPLETE,
        {
            "fabric_mode": 0, "bind_interface": "127.0.0.1", "starting_port": 16000, "command_bind": "127.0.0.1", "command_port": 6666,
            "command_socket": "", "stay_resident": False,
        },
    )  # fmt: skip
    text = FABRIC_CFG.replace("FM_CMD_BIND_INTERFACE=127.0.0.1", "FM_CMD_BIND_INTERFACE = 10.1.2.3").replace(
        "FABRIC_MODE=0", "FABRIC_MODE=1"
    )
    row = settings_of(FABRIC_MANAGER, fabric.FABRIC_MANAGER, text + "FM_CMD_UNIX_SOCKET_PATH=/run/fm.sock\n")[1]
    assert (row["command_bind"], row["fabric_mode"], row["command_socket"]) == ("10.1.2.3", 1, "/run/fm.sock")


@pytest.mark.parametrize("more", ["garbage\n", "FABRIC_MODE=1\n", "\x00\n"])
def test_fabric_manager_garbage(more: str) -> None:
    """A line that is no setting, and a setting that stands twice with two values."""
    assert settings_of(FABRIC_MANAGER, fabric.FABRIC_MANAGER, FABRIC_CFG + more)[0] is Coverage.PARTIAL


def test_fabric_manager_values() -> None:
    """A value that is not what it should be is NULL, and the table partial."""
    coverage, row = settings_of(
        FABRIC_MANAGER, fabric.FABRIC_MANAGER, FABRIC_CFG.replace("=6666", "=many").replace("FAILURES=0", "FAILURES=x")
    )
    assert (coverage, row["command_port"], row["stay_resident"]) == (Coverage.PARTIAL, None, None)


@pytest.mark.parametrize(("table", "source"), [(FABRIC_MANAGER, fabric.FABRIC_MANAGER), (IMEX, fabric.IMEX)])
def test_configuration_that_is_missing(table: Any, source: Any) -> None:
    """A file that is not there is proved; one that cannot be read, or says nothing, is not."""
    assert run(table, {source.id: ABSENT}).coverage is Coverage.COMPLETE
    for item in (status(Status.DENIED), status(Status.UNREACHED), ok(""), ok("# nothing\n"), ok("\x01\x02")):
        found = run(table, {source.id: item})
        assert (found.coverage, found.rows) == (Coverage.NONE, ())


def test_imex() -> None:
    """The packaged defaults: no authentication, and the command service on all addresses."""
    assert settings_of(IMEX, fabric.IMEX, IMEX_CFG) == (
        Coverage.COMPLETE,
        {
            "auth_encryption": False, "auth_mode": "SSL_TLS", "bind_interface": "", "server_port": 50000,
            "nodes_file": "/etc/nvidia-imex/nodes_config.cfg", "command_enabled": True, "command_bind": "0.0.0.0", "command_port": 50005,
            "command_socket": "",
        },
    )  # fmt: skip
    assert settings_of(IMEX, fabric.IMEX, IMEX_CFG.replace("ENCRYPTION=0", "ENCRYPTION=1"))[1]["auth_encryption"] is True
    coverage, row = settings_of(IMEX, fabric.IMEX, IMEX_CFG.replace("ENCRYPTION=0", "ENCRYPTION=yes"))
    assert (coverage, row["auth_encryption"]) == (Coverage.PARTIAL, None)


@pytest.mark.parametrize(("table", "source", "defaults"), [
    (FABRIC_MANAGER, fabric.FABRIC_MANAGER, (0, "127.0.0.1", 16000, "127.0.0.1", 6666, "", False)),
    (IMEX, fabric.IMEX, (False, "", "", 50000, "/etc/nvidia-imex/nodes_config.cfg", False, "0.0.0.0", 0, "")),
])  # fmt: skip
def test_what_a_file_does_not_set_has_its_documented_default(table: Any, source: Any, defaults: tuple[Any, ...]) -> None:
    """So that a check can decide: NULL is for what is not understood."""
    for text in (
        "LOG_LEVEL=4\n",
        "LOG_LEVEL=4\n" + "".join(f"{name}=\n" for name in ("FM_CMD_BIND_INTERFACE", "IMEX_CMD_BIND_INTERFACE_IP")),
    ):
        found = run(table, {source.id: ok(text)})
        assert (found.coverage, found.rows) == (Coverage.COMPLETE, (defaults,))


def test_imex_nodes() -> None:
    """Addresses, in the order of the list; other lines are gaps."""
    found = run(IMEX_NODES, NVIDIA)
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, (("10.0.0.1",), ("10.0.0.2",)))
    found = run(IMEX_NODES, NVIDIA | {fabric.NODES.id: ok("# rack 7\n\nfe80::1%eth0\nnode7\n10.0.0.300\n")})
    assert (found.coverage, found.rows) == (Coverage.PARTIAL, (("fe80::1%eth0",),))


def test_imex_nodes_elsewhere() -> None:
    """A list in another file is not read, and not taken for none."""
    moved = IMEX_CFG.replace("/etc/nvidia-imex/nodes_config.cfg", "/opt/shared/nodes.cfg")
    for nodes in (ABSENT, ok("10.0.0.1\n")):
        found = run(IMEX_NODES, NVIDIA | {fabric.IMEX.id: ok(moved), fabric.NODES.id: nodes})
        assert (found.coverage, "/opt/shared/nodes.cfg" in found.reason) == (Coverage.PARTIAL, True)
    assert run(IMEX_NODES, NVIDIA | {fabric.IMEX.id: status(Status.DENIED)}).coverage is Coverage.NONE


# --- Daemons --------------------------------------------------------------------------------------


def daemon(name: str, *argv: str, **more: Any) -> dict[str, Any]:
    """The only row for a process."""
    found = run(DAEMONS, {PROCESSES.id: processes(process(name, *argv, **more))})
    assert found.coverage is Coverage.COMPLETE
    (row,) = rows_as_dicts(DAEMONS, found)
    return row


# synthetic: nv-hostengine(1), and the flags in dcgm-exporter's pkg/cmd/app.go
@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("nv-hostengine", "-n"), ("127.0.0.1", 5555, None)),
        (("nv-hostengine", "-n", "-b", "ALL"), ("ALL", 5555, None)),
        (("nv-hostengine", "--bind-interface", "10.0.0.5", "--port", "5556"), ("10.0.0.5", 5556, None)),
        (("nv-hostengine", "--bind-interface=ALL", "-p", "7000"), ("ALL", 7000, None)),
        (("nv-hostengine", "--domain-socket", "/run/dcgm.sock"), (None, None, "/run/dcgm.sock")),
        (("nv-hostengine", "-d", "-n"), (None, None, "/tmp/nv-hostengine")),
        (("nv-hostengine", "--vsock-cid", "3"), (None, None, None)),
        (("dcgm-exporter",), (None, None, None)),
        (("dcgm-exporter", "-f", "/etc/dcgm-exporter/default-counters.csv", "-a", ":9400"), ("ALL", 9400, None)),
        (("dcgm-exporter", "--address", "127.0.0.1:9400"), ("127.0.0.1", 9400, None)),
        (("dcgm-exporter", "--address=[::1]:9401"), ("::1", 9401, None)),
        (("nvidia-imex", "-c", "/etc/nvidia-imex/config.cfg"), (None, None, None)),
    ],
)
def test_where_daemons_listen(argv: tuple[str, ...], expected: tuple[str | None, int | None, str | None]) -> None:
    """Options, else the documented default; an exporter's may come from a variable that is not read."""
    row = daemon(*argv)
    assert (row["address"], row["port"], row["socket"]) == expected


def test_who_daemons_are() -> None:
    """User, configuration, container and unit."""
    row = daemon("nvidia-persistenced", "--user", "nvidia-persistenced", "--uvm-persistence-mode", euid=118)
    assert (row["kind"], row["uid"], row["service_user"], row["uvm_persistence"]) == ("persistenced", 118, "nvidia-persistenced", True)
    assert row["unit"] == "nvidia-persistenced.service"
    assert daemon("nvidia-persistenced")["uvm_persistence"] is False
    row = daemon("nv-fabricmanager", "-c", "/etc/fm.cfg")
    assert (row["kind"], row["config_file"], row["uvm_persistence"]) == ("fabric-manager", "/etc/fm.cfg", None)
    pod = f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{'ab' * 32}.scope"
    row = daemon("dcgm-exporter", "--web-config-file=/etc/web.yml", cgroup=pod, contained=True)
    assert (row["container"], row["config_file"]) == ("ab" * 32, "/etc/web.yml")
    assert daemon("nv-hostengine", "-n", "--service-account", "nvidia-dcgm")["service_user"] == "nvidia-dcgm"
    assert daemon("nv-hostengine", exe=None)["kind"] == "dcgm"
    assert daemon("nv-hostengine", exe="/usr/bin/nv-hostengine (deleted)")["program"] == "/usr/bin/nv-hostengine (deleted)"
    assert daemon("nvidia-cuda-mps-control", "-d")["kind"] == "mps-control"


def test_other_processes_are_none() -> None:
    """A name within a name, or an argument, makes no daemon."""
    others = processes(process("bash", "-c", "nv-hostengine"), process("nv-hostengine-wrapper"), process("python3", "dcgm-exporter"))
    found = run(DAEMONS, {PROCESSES.id: others})
    assert (found.coverage, found.rows) == (Coverage.COMPLETE, ())


@pytest.mark.parametrize(
    ("item", "coverage", "count"),
    [
        (processes(process("nv-hostengine"), gap="/proc hides the processes of others (hidepid)"), Coverage.PARTIAL, 1),
        (processes(process("nv-hostengine", "-p", "many")), Coverage.PARTIAL, 1),
        (processes(process("nv-hostengine", argv=None)), Coverage.PARTIAL, 0),
        (processes({"pid": 3}), Coverage.PARTIAL, 0),
        (status(Status.ABSENT, "not recorded"), Coverage.NONE, 0),
        (status(Status.DENIED), Coverage.NONE, 0),
        (ok('{"processes": []}'), Coverage.NONE, 0),
        (ok("[]"), Coverage.NONE, 0),
    ],
)
def test_processes_that_are_not_all(item: Item, coverage: Coverage, count: int) -> None:
    """Processes that cannot be seen, or are not understood, are gaps."""
    found = run(DAEMONS, {PROCESSES.id: item})
    assert (found.coverage, len(found.rows)) == (coverage, count)


def test_processes_of_this_machine() -> None:
    """The reader's own answer is understood; here runs none of NVIDIA's daemons, unless there is a GPU."""
    found = run(DAEMONS, {PROCESSES.id: ok(read_processes(Files(), dict(PROCESSES.args)))})
    assert found.coverage is not Coverage.NONE
    assert "not understood" not in found.reason


@given(st.lists(st.sampled_from(["-b", "--bind", "--bind=x", "y", "-p", ""])))
def test_any_option(argv: list[str]) -> None:
    """A value is never another option, and None means that the option is not there."""
    found = option(argv, "-b", "--bind")
    assert (found is None) == (not {"-b", "--bind", "--bind=x"} & set(argv))
    assert found is None or not found.startswith("-")


def test_pipes() -> None:
    """The folder and its control pipe, with who may enter; /tmp proves that one looked."""
    found = run(PIPES, NVIDIA)
    assert found.rows == (("/tmp/nvidia-mps", "dir", 0o755, 0, 0), ("/tmp/nvidia-mps/control", "fifo", 0o666, 0, 0))
    assert run(PIPES, {daemons.PIPES.id: ok("{}")}).coverage is Coverage.PARTIAL
    denied = {"/tmp": {"type": "dir", "mode": 0}, "/tmp/nvidia-mps": {"status": "denied", "detail": ""}}
    assert run(PIPES, {daemons.PIPES.id: ok(json.dumps(denied))}).coverage is Coverage.PARTIAL


# --- Container toolkit ----------------------------------------------------------------------------


def config(text: str) -> tuple[Coverage, list[dict[str, Any]]]:
    """Coverage and rows."""
    found = run(CONFIG, {toolkit.CONFIG.id: texts({"/etc/nvidia-container-runtime/config.toml": text})})
    return found.coverage, rows_as_dicts(CONFIG, found)


def test_config_of_a_fresh_install() -> None:
    """What is commented out has the toolkit's default."""
    assert config(TOOLKIT) == (
        Coverage.COMPLETE,
        [
            {
                "path": "/etc/nvidia-container-runtime/config.toml", "mode": "auto", "ldconfig": "@/sbin/ldconfig.real", "environment_selects": True,
                "mounts_select": False, "disable_require": False, "load_modules": True, "no_cgroups": False, "cuda_compat_mode": None,
                "skip_mode_detection": False, "features": [],
            }
        ],
    )  # fmt: skip


def test_config_of_a_hardened_install() -> None:
    """Every setting, the flags that are on, and those that are off."""
    text = """\
accept-nvidia-visible-devices-envvar-when-unprivileged = false
accept-nvidia-visible-devices-as-volume-mounts = true
disable-require = true
[features]
allow-cuda-compat-libs-from-container = true
disable-imex-channel-creation = true
allow-ldconfig-from-container = false
[nvidia-container-cli]
ldconfig = "/sbin/ldconfig"
no-cgroups = true
load-kmods = false
[nvidia-container-runtime]
mode = "cdi"
[nvidia-container-runtime.modes.legacy]
cuda-compat-mode = "mount"
[nvidia-container-runtime-hook]
skip-mode-detection = true
"""
    coverage, (row,) = config(text)
    assert coverage is Coverage.COMPLETE
    assert list(row.values())[1:] == [
        "cdi", "/sbin/ldconfig", False, True, True, False, True, "mount", True,
        ["allow-cuda-compat-libs-from-container", "disable-imex-channel-creation"],
    ]  # fmt: skip


def test_config_empty() -> None:
    """An empty file leaves the defaults."""
    coverage, (row,) = config("")
    assert (coverage, row["mode"], row["environment_selects"], row["ldconfig"]) == (Coverage.COMPLETE, "auto", True, None)


@pytest.mark.parametrize(
    "text",
    [
        "accept-nvidia-visible-devices-as-volume-mounts",
        '{"accept-nvidia-visible-devices-as-volume-mounts": true}',
        'accept-nvidia-visible-devices-as-volume-mounts = "true"',
        "nvidia-container-cli = 1",
        "features = true",
        "[features]\nallow-x = 1",
        "[nvidia-container-runtime]\nmodes = 1",
        "\x00",
        "[" * 9000,
    ],
)
def test_config_not_understood(text: str) -> None:
    """No row is made of a file that the toolkit would not take either."""
    assert config(text) == (Coverage.PARTIAL, [])


def test_config_missing() -> None:
    """No file is proved; a file that cannot be read is a gap beside the other."""
    assert run(CONFIG, NOTHING).coverage is Coverage.COMPLETE
    both = {"/etc/nvidia-container-runtime/config.toml": {"status": "denied", "detail": ""}, "/usr/local/nvidia/x.toml": {"text": TOOLKIT}}
    found = run(CONFIG, {toolkit.CONFIG.id: ok(json.dumps(both))})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 1)


def test_programs() -> None:
    """Each says its own version; a release candidate has no key."""
    found = run(PROGRAMS, NVIDIA)
    assert [row[:2] for row in found.rows] == [("nvidia-ctk", "1.19.1"), ("nvidia-container-cli", "1.19.1")]
    row = rows_as_dicts(PROGRAMS, run(PROGRAMS, NVIDIA | {toolkit.CTK.id: ok("NVIDIA Container Toolkit CLI version 1.20.0-rc.1\n", 0)}))[0]
    assert (row["version"], row["version_key"]) == ("1.20.0-rc.1", None)


@pytest.mark.parametrize(
    "item", [ok("", 0), ok("usage\n", 0), Item(Status.FAILED, exit=127), status(Status.ABSENT), status(Status.TIMEOUT)]
)
def test_program_that_does_not_answer(item: Item) -> None:
    """The program is there, so no version is a gap."""
    found = run(PROGRAMS, NVIDIA | {toolkit.CTK.id: item})
    assert (found.coverage, [row[0] for row in found.rows]) == (Coverage.PARTIAL, ["nvidia-container-cli"])


def test_cdi() -> None:
    """Folders and specifications, with their kinds where they are told."""
    found = run(CDI, NVIDIA)
    assert {(row["path"], row["type"], row["kind"]) for row in rows_as_dicts(CDI, found)} == {
        ("/etc/cdi", "dir", None),
        ("/etc/cdi/nvidia.yaml", "file", "nvidia.com/gpu"),
        ("/var/run/cdi/k8s.json", "file", "k8s.device-plugin.nvidia.com/gpu"),
    }


@pytest.mark.parametrize("source", [toolkit.CDI_KINDS, toolkit.CDI_JSON])
def test_cdi_kinds_unread(source: Any) -> None:
    """Without the contents the files stay, their kinds not known."""
    found = run(CDI, NVIDIA | {source.id: status(Status.DENIED)})
    assert (found.coverage, len(found.rows)) == (Coverage.PARTIAL, 3)
    assert run(CDI, NVIDIA | {toolkit.CDI.id: status(Status.DENIED)}).coverage is Coverage.NONE
    assert run(CDI, NVIDIA | {toolkit.CDI.id: files({"/etc/cdi/x.yaml": {"type": "file", "mode": "x"}})}).coverage is Coverage.PARTIAL
