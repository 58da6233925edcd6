# SPDX-License-Identifier: Apache-2.0
"""Containers, against files that docker, containerd and podman wrote: recorded/containers.json says where and when."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, Table
from fleet_audit.facts.containers import TABLES, oci
from fleet_audit.facts.containers.collected import DOCKER, LOGS
from fleet_audit.facts.containers.docker import DAEMON
from fleet_audit.facts.containers.flags import flags_of, switch
from fleet_audit.facts.containers.registries import CONTAINERD, HOSTS, is_loopback
from fleet_audit.facts.packages import DPKG, RPM
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

BY_NAME = {table.name: table for table in TABLES}
Evidence = dict[SourceId, Item]
RECORDED: dict[str, Any] = json.loads((Path(__file__).parent / "recorded/containers.json").read_text())


def recorded(**changed: Any) -> Evidence:
    """The recorded evidence; programs that were not there, and changed documents by source id with `_`."""
    items = {
        SourceId(name): ok(body if isinstance(body, str) else json.dumps(body)) for name, body in RECORDED.items() if name != "recorded"
    }
    items[RPM.id] = status(Status.ABSENT)
    for table in TABLES:
        for source in table.sources:
            if source.id not in items:
                items[source.id] = status(Status.ABSENT) if source.reader == "command" else ok("{}")
    for name, document in changed.items():
        items[SourceId(name.replace("_", "-"))] = document if isinstance(document, Item) else ok(json.dumps(document))
    return items


def rows(name: str, evidence: Evidence) -> list[dict[str, Any]]:
    return rows_as_dicts(BY_NAME[name], run(BY_NAME[name], evidence))


def named(evidence: Evidence) -> dict[str | None, dict[str, Any]]:
    return {row["name"]: row for row in rows("containers", evidence)}


PLAIN = next(path.split("/")[-2] for path, entry in RECORDED["docker-containers"].items() if entry["values"]["Name"] == "/plain")
TASK = f"/run/containerd/io.containerd.runtime.v2.task/moby/{PLAIN}/config.json"
OTHER = "ab" * 32


def test_the_recorded_containers() -> None:
    extracted = run(BY_NAME["containers"], recorded())
    assert (extracted.coverage, extracted.reason) == (Coverage.COMPLETE, "")
    found = named(recorded())
    assert set(found) == {
        "plain",
        "hostile",
        "caps",
        "joined",
        "hostjoined",
        "pplain",
    }  # not `done`, which ended, nor what podman only made
    plain = found["plain"]
    assert {key: plain[key] for key in plain if key not in ("id", "binds")} == {
        "engine": "docker", "name": "plain", "sandbox": False, "in_pod": False, "pod_namespace": None, "pod": None, "image": "bb:latest",
        "rootless": False, "processes": 1,
        "user": "", "root": True, "privileged": False, "host_pid": False, "host_network": False, "host_ipc": False, "user_namespace": False,
        "capabilities_added": [], "seccomp": "SCMP_ACT_ERRNO", "apparmor": "", "selinux": "", "no_new_privileges": False,
        "readonly_root": False, "runtime_socket": False, "sensitive_binds": [], "gpu": False,
    }  # fmt: skip
    hostile = found["hostile"]
    assert hostile["privileged"] and hostile["host_pid"] and hostile["host_network"] and hostile["host_ipc"] and hostile["runtime_socket"]
    assert (hostile["user"], hostile["root"], hostile["seccomp"], hostile["sensitive_binds"]) == (
        "1000:1000",
        False,
        "unconfined",
        ["/etc"],
    )
    assert {"SYS_ADMIN", "SYS_MODULE", "BPF"} <= set(hostile["capabilities_added"]) and "CHOWN" not in hostile["capabilities_added"]
    assert "/etc:/hostetc:ro" in hostile["binds"] and "/var/run/docker.sock:/var/run/docker.sock:rw" in hostile["binds"]
    caps = found["caps"]
    assert (caps["capabilities_added"], caps["no_new_privileges"], caps["readonly_root"]) == (["NET_ADMIN"], True, True)
    assert caps["sensitive_binds"] == ["/root"] and not caps["runtime_socket"]
    assert (found["pplain"]["engine"], found["pplain"]["processes"], found["pplain"]["image"]) == ("podman", 0, None)


def test_a_namespace_that_is_joined_is_the_node_s_if_the_other_shares_it() -> None:
    found = named(recorded())
    assert (found["joined"]["host_network"], found["joined"]["host_pid"]) == (False, False)
    assert (found["hostjoined"]["host_network"], found["hostjoined"]["host_pid"]) == (True, False)
    without = [row for row in RECORDED["processes"]["processes"] if row["comm"] != "sleep"]
    gone = named(recorded(processes={"processes": without, "kernel_threads": 1, "gap": ""}))
    assert gone["hostjoined"]["host_network"] is None and gone["hostile"]["host_network"] is True


def test_a_privileged_container_of_podman() -> None:
    ident = next(
        path.split("/")[-3] for path in RECORDED["oci-stored"] if RECORDED["oci-stored"][path].get("values", {}).get("linux.devices")
    )
    processes = copy.deepcopy(RECORDED["processes"])
    row = next(row for row in processes["processes"] if row["comm"] == "sleep") | {
        "pid": 4000,
        "cgroup": f"/machine.slice/libpod-{ident}.scope/container",
    }
    processes["processes"].append(row | {"contained": False})
    (found,) = [row for row in rows("containers", recorded(processes=processes)) if row["id"] == ident]
    assert (found["engine"], found["name"], found["processes"]) == ("podman", None, 1)
    assert found["privileged"] and found["host_pid"] and found["host_network"] and not found["host_ipc"] and found["runtime_socket"]


def process(pid: int, cgroup: str, **more: Any) -> dict[str, Any]:
    base = {
        "pid": pid,
        "ppid": 1,
        "uid": 0,
        "euid": 0,
        "comm": "python3",
        "exe": "/usr/bin/python3",
        "argv": ["python3", "train.py"],
        "caps": "0",
    }
    return (
        base | {"no_new_privs": "0", "seccomp": "2", "contained": True, "cgroup": cgroup, "label": None, "env": None, "cut": False} | more
    )


def processes(*more: dict[str, Any], gap: str = "") -> dict[str, Any]:
    return {
        "processes": [process(1, "/init.scope", comm="systemd", exe="/usr/lib/systemd/systemd", contained=False), *more],
        "kernel_threads": 2,
        "gap": gap,
    }


NOTHING: dict[str, Any] = {"oci_tasks": {}, "oci_stored": {}, "docker_containers": {}, "docker_hostconfig": {}}


@pytest.mark.parametrize(("cgroup", "engine"), [
    (f"/system.slice/docker-{OTHER}.scope", "docker"), (f"/docker/{OTHER}", "docker"),
    (f"/kubepods.slice/x.slice/cri-containerd-{OTHER}.scope", "containerd"),
    (f"/kubepods.slice/crio-{OTHER}.scope", "cri-o"), (f"/machine.slice/libpod-{OTHER}.scope/container", "podman"),
    (f"/kubepods/pod1/{OTHER}", None),
])  # fmt: skip
def test_a_container_whose_configuration_was_not_read_is_a_row_without_values_and_a_gap(cgroup: str, engine: str | None) -> None:
    evidence = recorded(processes=processes(process(50, cgroup)), **NOTHING)
    extracted = run(BY_NAME["containers"], evidence)
    (row,) = rows("containers", evidence)
    assert extracted.coverage is Coverage.PARTIAL and "its configuration was not read" in extracted.reason
    assert (row["id"], row["engine"], row["processes"], row["privileged"], row["binds"], row["rootless"]) == (
        OTHER,
        engine,
        1,
        None,
        None,
        False,
    )
    assert row["host_pid"] is False  # its process tells
    assert row["in_pod"] is None


def test_a_rootless_container_is_known_by_its_slice_and_user() -> None:
    cgroup = f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{OTHER}.scope/container"
    mine = process(50, cgroup, uid=100999, euid=100999)
    extracted = run(BY_NAME["containers"], recorded(processes=processes(mine), **NOTHING))
    (row,) = rows("containers", recorded(processes=processes(mine), **NOTHING))
    assert extracted.coverage is Coverage.COMPLETE
    assert (row["rootless"], row["privileged"], row["root"]) == (True, None, None)
    root = process(51, cgroup)  # root's process in it: no user's own
    assert run(BY_NAME["containers"], recorded(processes=processes(mine, root), **NOTHING)).coverage is Coverage.PARTIAL
    of_user_0 = process(50, cgroup.replace("user@1000", "user@0"), uid=5, euid=5)
    assert run(BY_NAME["containers"], recorded(processes=processes(of_user_0), **NOTHING)).coverage is Coverage.PARTIAL


def test_conmon_names_containers_and_an_ordinary_user_s_says_nothing_of_others() -> None:
    argv = ["/usr/bin/conmon", "-c", OTHER, "-u", OTHER, "-n", "web"]
    conmon = process(60, "/", comm="conmon", exe="/usr/bin/conmon", argv=argv, contained=False, uid=1000, euid=1000)
    (row,) = rows("containers", recorded(processes=processes(conmon), **NOTHING))
    assert (row["name"], row["rootless"], row["processes"], row["engine"]) == ("web", True, 0, "podman")
    argv = ["/usr/bin/conmon", "-c", PLAIN, "-n", "innocent"]
    lying = process(60, "/", comm="conmon", exe="/usr/bin/conmon", argv=argv, contained=False, uid=1000, euid=1000)
    everything = copy.deepcopy(RECORDED["processes"])
    everything["processes"].append(lying)
    assert named(recorded(processes=everything))["plain"]["rootless"] is False


# synthetic: containerd, internal/cri (sandbox and container specifications), docs; annotations as a reader that takes names with dots gives them
def cri(**values: Any) -> dict[str, Any]:
    return {"values": {
        "process.user": {"uid": 65535, "gid": 65535}, "process.capabilities": {"bounding": ["CAP_CHOWN", "CAP_SYS_PTRACE"]}, "mounts": [],
        "linux.namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
        "linux.resources.devices": [{"allow": False, "access": "rwm"}], "linux.seccomp.defaultAction": "SCMP_ACT_ERRNO",
        "process.apparmorProfile": "cri-containerd.apparmor.d",
    } | values}  # fmt: skip


SANDBOX = "cd" * 32
STATE = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"


def pod(host_network: bool, **values: Any) -> Evidence:
    kinds = ("pid", "ipc", "uts", "mount") if host_network else ("pid", "ipc", "uts", "mount", "network")
    joined = [
        {"type": "network", "path": "/proc/70/ns/net"},
        {"type": "ipc", "path": "/proc/70/ns/ipc"},
        {"type": "pid"},
        {"type": "mount"},
    ]
    tasks = {
        f"{STATE}/{SANDBOX}/config.json": cri(**{"linux.namespaces": [{"type": kind} for kind in kinds]}),
        f"{STATE}/{OTHER}/config.json": cri(**{"linux.namespaces": joined} | values),
    }
    running = processes(
        process(70, f"/kubepods.slice/cri-containerd-{SANDBOX}.scope", argv=["/pause"]),
        process(71, f"/kubepods.slice/cri-containerd-{OTHER}.scope"),
    )
    logs = {f"/var/log/containers/trainer-0_ml_main-{OTHER}.log": {"type": "link"}}
    return recorded(**(NOTHING | {"oci_tasks": tasks, "processes": running, "container_logs": logs}))


def test_a_pod_s_container_has_the_node_s_network_by_way_of_its_sandbox() -> None:
    assert {row["id"]: row["host_network"] for row in rows("containers", pod(True))} == {SANDBOX: True, OTHER: True}
    assert {row["id"]: row["host_network"] for row in rows("containers", pod(False))} == {SANDBOX: False, OTHER: False}
    (row,) = [row for row in rows("containers", pod(True)) if row["id"] == OTHER]
    assert (row["name"], row["pod"], row["pod_namespace"], row["engine"]) == ("main", "trainer-0", "ml", "containerd")
    assert row["in_pod"] is True
    assert (row["image"], row["capabilities_added"], row["root"], row["apparmor"]) == (
        None,
        ["SYS_PTRACE"],
        False,
        "cri-containerd.apparmor.d",
    )
    assert run(BY_NAME["containers"], pod(True)).coverage is Coverage.COMPLETE


def test_sandboxes() -> None:
    assert {row["id"]: row["sandbox"] for row in rows("containers", pod(True))} == {SANDBOX: True, OTHER: False}
    for kind, expected in (("sandbox", True), ("container", False)):
        told = pod(False, **{"annotations.io.kubernetes.cri.container-type": kind})
        assert {row["id"]: row["sandbox"] for row in rows("containers", told)}[OTHER] is expected
    (row,) = [row for row in rows("containers", pod(False) | {LOGS.id: ok("{}")}) if row["id"] == OTHER]
    assert (row["sandbox"], row["name"]) == (None, None)


def test_ports_of_cri_o_are_known_only_if_its_sandboxes_tell_them() -> None:
    path = f"/run/containers/storage/overlay-containers/{OTHER}/userdata/config.json"
    key = "annotations.io.kubernetes.cri-o.PortMappings"
    running = processes(process(71, f"/kubepods.slice/crio-{OTHER}.scope"))
    silent = recorded(**(NOTHING | {"oci_stored": {path: cri()}, "processes": running}))
    assert run(BY_NAME["container_ports"], silent).coverage is Coverage.PARTIAL
    assert rows("containers", silent)[0]["engine"] == "cri-o"
    mappings = '[{"hostPort":8080,"containerPort":80,"protocol":"TCP","hostIP":""},{"hostPort":0,"containerPort":81}]'
    extracted = run(
        BY_NAME["container_ports"], recorded(**(NOTHING | {"oci_stored": {path: cri(**{key: mappings})}, "processes": running}))
    )
    assert (extracted.coverage, [row[2:] for row in extracted.rows]) == (Coverage.COMPLETE, [(8080, "0.0.0.0", "tcp", 80)])


def test_annotations_tell_image_and_names() -> None:
    key = "annotations.io.kubernetes.cri"
    told = {
        f"{key}.container-name": "c",
        f"{key}.sandbox-name": "p",
        f"{key}.sandbox-namespace": "n",
        f"{key}.image-name": "nvcr.io/nvidia/pytorch:26.09",
    }
    (row,) = [row for row in rows("containers", pod(False, **told)) if row["id"] == OTHER]
    assert (row["name"], row["pod"], row["pod_namespace"], row["image"]) == ("c", "p", "n", "nvcr.io/nvidia/pytorch:26.09")
    crio = {"annotations.io.kubernetes.container.name": "c2", "annotations.io.kubernetes.cri-o.ImageName": "quay.io/x@sha256:1"}
    (row,) = [row for row in rows("containers", pod(False, **crio)) if row["id"] == OTHER]
    assert (row["name"], row["image"]) == ("c2", "quay.io/x@sha256:1")


@pytest.mark.parametrize(("values", "gpu"), [
    ({}, False), ({"linux.devices": [{"path": "/dev/nvidiactl"}]}, True),
    ({"hooks.prestart": [{"path": "/usr/bin/nvidia-container-runtime-hook"}]}, True),
    ({"linux.devices": [{"path": "/dev/fuse"}]}, False), ({"linux.devices": "x"}, None), ({"linux.devices": [{"path": "/dev/kfd"}]}, True),
])  # fmt: skip
def test_gpus(values: dict[str, Any], gpu: bool | None) -> None:
    (row,) = [row for row in rows("containers", pod(False, **values)) if row["id"] == OTHER]
    assert row["gpu"] is gpu


def test_docker_asks_for_gpus_and_for_what_its_specification_would_tell() -> None:
    path = f"/var/lib/docker/containers/{PLAIN}/hostconfig.json"
    asked = copy.deepcopy(RECORDED["docker-hostconfig"])
    asked[path]["values"] |= {"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}
    assert named(recorded(docker_hostconfig=asked))["plain"]["gpu"] is True
    asked[path]["values"] |= {
        "Privileged": True,
        "PidMode": "host",
        "NetworkMode": "container:x",
        "CapAdd": ["cap_sys_admin"],
        "Binds": ["/:/host", "vol:/v"],
    }
    tasks = {place: entry for place, entry in RECORDED["oci-tasks"].items() if place != TASK}
    row = named(recorded(docker_hostconfig=asked, oci_tasks=tasks))["plain"]
    assert (row["privileged"], row["host_pid"], row["host_network"], row["host_ipc"]) == (True, True, None, False)
    assert (row["capabilities_added"], row["binds"], row["sensitive_binds"], row["runtime_socket"]) == (
        ["SYS_ADMIN"],
        ["/:/host:rw"],
        ["/"],
        True,
    )
    assert (row["seccomp"], row["apparmor"], row["root"]) == ("unconfined", None, None)
    without = {place: entry for place, entry in asked.items() if place != path}
    assert run(BY_NAME["containers"], recorded(docker_hostconfig=without, oci_tasks=tasks)).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(("source", "sensitive", "socket"), [
    ("/", True, True), ("/etc", True, False), ("/etc/shadow", True, False), ("/etc/localtime", False, False), ("/etc/ssl/certs",
    False, False),
    ("/proc", True, False), ("/sys", True, False), ("/home/a/x", True, False), ("/root/.ssh", True, False), ("/data/sets", False, False),
    ("/var/run", True, True), ("/run", True, True), ("/run/containerd/containerd.sock", False, True), ("/var/run/docker.sock", False, True),
    ("/run/user/1000/podman/podman.sock", False, True), ("/var/lib/kubelet", True, False), ("/var/lib/kubelet/pods/1/volumes/x",
    False, False),
    ("/dev/shm", False, False), ("/dev", True, False), ("/usr/share/zoneinfo", False, False), ("/var/lib/docker", True, False),
    ("/homework", False, False),
])  # fmt: skip
def test_which_paths_of_the_node_are_sensitive(source: str, sensitive: bool, socket: bool) -> None:
    assert (oci.is_sensitive(source, False), oci.is_socket(source)) == (sensitive, socket)


def test_what_is_sensitive_only_if_it_can_be_written() -> None:
    assert not oci.is_sensitive("/sys", True) and not oci.is_sensitive("/usr/bin", True) and oci.is_sensitive("/usr/bin", False)
    assert oci.is_sensitive("/etc", True) and oci.binds_of(
        [{"type": "bind", "source": "/sys//", "destination": "/s", "options": ["rro"]}]
    ) == [("/sys", "/s", True)]


def test_lists_that_the_reader_may_have_cut_say_nothing() -> None:
    spec = oci.understood({"mounts": [{"type": "bind", "source": "/a", "destination": "/b"}] * 500, "linux.namespaces": []})
    assert (spec.binds, spec.socket, spec.gpu) == (None, None, None)


def test_an_empty_node_is_complete() -> None:
    evidence = recorded(processes=processes(), docker_daemon={}, container_sockets={}, container_programs={},
    dpkg_status=ok("Package: bash\nVersion: 5\n"),
                        image_policy={}, registries_conf={}, containerd_config={}, **NOTHING)  # fmt: skip
    for name, table in BY_NAME.items():
        extracted = run(table, evidence)
        assert (extracted.coverage, extracted.rows, extracted.reason) == (Coverage.COMPLETE, (), ""), name


def test_processes_that_were_not_recorded_are_not_read() -> None:
    evidence = recorded(processes=status(Status.ABSENT, "not recorded"))
    extracted = run(BY_NAME["containers"], evidence)
    assert extracted.coverage is Coverage.PARTIAL and len(extracted.rows) == 5  # docker's; which of podman's run is not known
    assert all(row["processes"] is None and row["rootless"] is None for row in rows("containers", evidence))
    nothing = {source.id: status(Status.DENIED) for source in BY_NAME["containers"].sources}
    assert run(BY_NAME["containers"], nothing).coverage is Coverage.NONE


def test_ports() -> None:
    evidence = recorded()
    assert [tuple(row.values())[1:] for row in rows("container_ports", evidence)] == [
        ("plain", 8080, "0.0.0.0", "tcp", 80), ("plain", 8080, "::", "tcp", 80), ("plain", 9090, "127.0.0.1", "udp", 90),
    ]  # fmt: skip
    assert "its ports are not known" in run(BY_NAME["container_ports"], evidence).reason  # podman's
    only_docker = recorded(oci_stored={}, processes={**RECORDED["processes"], "processes": [
        row for row in RECORDED["processes"]["processes"] if row["comm"] != "conmon"]})  # fmt: skip
    assert run(BY_NAME["container_ports"], only_docker).coverage is Coverage.COMPLETE
    elsewhere = run(BY_NAME["container_ports"], only_docker | {DOCKER.id: ok("{}")})  # docker keeps its files in another folder
    assert elsewhere.coverage is Coverage.PARTIAL and "its ports were not read" in elsewhere.reason and not elsewhere.rows


@pytest.mark.parametrize(("key", "text", "row"), [
    ("annotations.nerdctl/ports", '[{"HostPort":8443,"ContainerPort":443,"Protocol":"tcp","HostIP":"127.0.0.1"}]', (8443,
    "127.0.0.1", "tcp", 443)),
    ("annotations.nerdctl/ports", "[]", None), ("annotations.nerdctl/ports", "{", "gap"), ("annotations.nerdctl/ports", '["x"]', "gap"),
    ("annotations.nerdctl/ports", '[{"HostPort":"x"}]', "gap"), ("annotations.nerdctl/ports", "7", "gap"),
])  # fmt: skip
def test_ports_that_nerdctl_notes(key: str, text: str, row: Any) -> None:
    extracted = run(BY_NAME["container_ports"], pod(False, **{key: text}))
    assert [tuple(found[2:]) for found in extracted.rows] == ([row] if isinstance(row, tuple) else [])
    assert extracted.coverage is (Coverage.PARTIAL if row == "gap" else Coverage.COMPLETE)


# --- the daemon, sockets, programs ------------------------------------------------------------------


def dockerd(*flags: str, file: Any = None, **more: Any) -> Evidence:
    mine = process(
        40, "/system.slice/docker.service", comm="dockerd", exe="/usr/bin/dockerd", argv=["/usr/bin/dockerd", *flags], contained=False
    )
    files = {"/etc/docker/daemon.json": {"values": file} if file is not None else {"status": "absent", "detail": ""}}
    return recorded(processes=processes(mine | more), docker_daemon=files)


def test_the_recorded_daemon() -> None:
    (row,) = rows("docker_daemons", recorded())
    assert row == {
        "pid": row["pid"], "uid": 0, "rootless": False, "file": "/etc/docker/daemon.json", "hosts": ["unix:///var/run/docker.sock",
        "tcp://127.0.0.1:2375"],
        "tls": False, "tls_verify": False, "icc": True, "no_new_privileges": False, "userns_remap": "", "live_restore": True,
        "log_driver": "json-file",
        "log_max_size": "10m", "insecure_registries": ["10.0.0.0/8"], "default_runtime": "runc", "experimental": False, "iptables": False,
        "userland_proxy": True, "publish_address": "", "seccomp_profile": "", "selinux": False, "authorization_plugins": [],
        "data_root": "/var/lib/docker",
    }  # fmt: skip


@pytest.mark.parametrize(("evidence", "expected"), [
    (dockerd(), {"hosts": ["unix:///var/run/docker.sock"], "icc": True, "tls_verify": False, "insecure_registries": []}),
    (dockerd("-H", "fd://", "-Htcp://0.0.0.0:2375", "--icc=false"), {"hosts": ["fd://", "tcp://0.0.0.0:2375"], "icc": False, "tls": False}),
    (dockerd("--tlsverify", "--host=tcp://0.0.0.0:2376", "--userns-remap", "default"), {"tls": True, "tls_verify": True,
    "userns_remap": "default"}),
    (dockerd(file={"hosts": ["tcp://[::]:2375"], "tlsverify": True, "log-driver": "local", "no-new-privileges": True}),
     {"hosts": ["tcp://[::]:2375"], "tls": True, "log_driver": "local", "no_new_privileges": True}),
    (dockerd("--insecure-registry", "a:5000", "--insecure-registry=b", "--log-opt", "max-size=5m"),
    {"insecure_registries": ["a:5000", "b"], "log_max_size": "5m"}),
    (dockerd("--live-restore=0", "--experimental", "--exec-opt", "--icc=false"), {"live_restore": False, "experimental": True,
    "icc": True}),
    (dockerd("--data-root", "/raid/docker", file={"graph": "/x"}), {"data_root": "/raid/docker"}),
])  # fmt: skip
def test_daemons(evidence: Evidence, expected: dict[str, Any]) -> None:
    (row,) = rows("docker_daemons", evidence)
    assert {key: row[key] for key in expected} == expected


def test_a_file_that_was_not_read_leaves_what_flags_do_not_say_unknown() -> None:
    denied = dockerd("--icc=false") | {DAEMON.id: ok(json.dumps({"/etc/docker/daemon.json": {"status": "denied", "detail": "x"}}))}
    (row,) = rows("docker_daemons", denied)
    assert (row["icc"], row["live_restore"], row["hosts"], row["insecure_registries"]) == (False, None, None, None)
    assert run(BY_NAME["docker_daemons"], denied).coverage is Coverage.PARTIAL
    assert run(BY_NAME["insecure_registries"], denied).coverage is Coverage.PARTIAL
    elsewhere = run(BY_NAME["docker_daemons"], dockerd("--config-file=/opt/d.json"))
    assert elsewhere.coverage is Coverage.PARTIAL and "/opt/d.json" in elsewhere.reason


def test_a_user_s_own_daemon_is_not_told_by_the_system_s_file() -> None:
    evidence = dockerd(file={"icc": False}, euid=1000, uid=1000)
    (row,) = rows("docker_daemons", evidence)
    assert (row["rootless"], row["uid"], row["icc"], row["file"]) == (True, 1000, None, None)
    inside = dockerd(file={"icc": False}, contained=True)
    assert rows("docker_daemons", inside)[0]["icc"] is None


def test_odd_settings_and_conflicts_show() -> None:
    odd = run(BY_NAME["docker_daemons"], dockerd(file={"icc": "no", "hosts": "x", "live-restore": True}))
    assert odd.coverage is Coverage.PARTIAL and odd.rows[0][7] is None and odd.rows[0][4] is None and odd.rows[0][10] is True
    both = run(BY_NAME["docker_daemons"], dockerd("-H", "fd://", file={"hosts": ["tcp://0.0.0.0:2375"]}))
    assert both.coverage is Coverage.PARTIAL and both.rows[0][4] == ["fd://"] and "command line" in both.reason
    long = run(BY_NAME["docker_daemons"], dockerd("--label", "x", "...", cut=True))
    assert long.coverage is Coverage.PARTIAL and "cut" in long.reason


def test_flags_as_pflag_reads_them() -> None:
    words = ["p", "-H", "a", "-H=b", "-Hc", "--tls", "--icc=false", "--a_b=1", "x", "-", "--", "--late"]
    assert flags_of(words, {"host"}, {"H": "host"}) == {"host": ["a", "b", "c"], "tls": ["true"], "icc": ["false"], "a-b": ["1"]}
    assert flags_of(["p", "--host"], {"host"}, {}) == {"host": [""]} and flags_of([], set(), {}) == {}
    assert [switch(word) for word in ("True", "0", "f", "yes")] == [True, False, False, None]


def test_sockets() -> None:
    assert [tuple(row.values()) for row in rows("container_sockets", recorded())] == [
        ("/run/containerd/containerd.sock", "containerd", "socket", 0, 0, 0o660, False), ("/run/docker.sock", "docker", "socket", 0,
        102, 0o660, False),
        ("/run/podman/podman.sock", "podman", "socket", 0, 0, 0o600, False),
    ]  # fmt: skip


@pytest.mark.parametrize(("entry", "folder", "others"), [
    ({"type": "socket", "mode": 0o666}, {"mode": 0o755}, True), ({"type": "socket", "mode": 0o666}, {"mode": 0o700}, False),
    ({"type": "socket", "mode": 0o660}, {"mode": 0o755}, False), ({"type": "socket", "mode": 0o666}, None, None),
    ({"type": "link", "mode": 0o777}, {"mode": 0o755}, None),
])  # fmt: skip
def test_who_may_write_to_a_socket(entry: dict[str, Any], folder: dict[str, Any] | None, others: bool | None) -> None:
    there = {"/run/docker.sock": entry | {"uid": 0, "gid": 0}} | ({"/run": folder} if folder else {})
    (row,) = rows("container_sockets", recorded(container_sockets=there))
    assert row["others"] is others


def test_sockets_of_users_that_may_not_be_seen_are_gaps() -> None:
    there = {
        "/run/user/1000/docker.sock": {"status": "denied", "detail": "Permission denied"},
        "/run/docker.sock": {"type": "dir", "mode": 1},
    }
    extracted = run(BY_NAME["container_sockets"], recorded(container_sockets=there))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())
    assert (
        run(BY_NAME["container_sockets"], recorded(container_sockets={"/run/docker.sock": {"type": "socket"}})).coverage is Coverage.PARTIAL
    )


def test_runtimes() -> None:
    evidence = recorded()
    assert run(BY_NAME["container_runtimes"], evidence).coverage is Coverage.COMPLETE
    found = {row["name"]: tuple(row.values())[1:5] for row in rows("container_runtimes", evidence)}
    assert found == {
        "docker": ("/usr/sbin/dockerd", "docker.io", "26.1.5+dfsg1-9+deb13u1+b1", "26.1.5+dfsg1"), "crun": ("/usr/bin/crun", "crun",
        "1.21-1", None),
        "containerd": ("/usr/bin/containerd", "containerd", "1.7.24~ds1-6+deb13u1", "1.7.24~ds1"), "podman": ("/usr/bin/podman",
        "podman", "5.4.2+ds1-2+b2", None),
        "runc": ("/usr/sbin/runc", "runc", "1.1.15+ds1-2+b4", "1.1.15+ds1"),  # /usr/bin/runc is a link to it
    }  # fmt: skip


@pytest.mark.parametrize(("text", "version", "sortable"), [
    ("runc version 1.2.8\ncommit: x\n", "1.2.8", "A1.A2.A8"), ("runc version 1.3.0-rc.1\n", "1.3.0-rc.1", None),
    ("runc version 1.3.0+dev\n", "1.3.0+dev", None),
    ("containerd containerd.io 1.6.33 d2d58213f83a\n", "1.6.33", "A1.A6.B33"), ("Kubernetes v1.34.2\n", "1.34.2", "A1.B34.A2"),
    ("apptainer version 1.3.4-1.el9\n", "1.3.4-1.el9", "A1.A3.A4"), ("Docker version 29.0.1, build eedd969\n", "29.0.1", "B29.@.A1"),
    ("crio version 1.33.4\n   GitCommit: 2\n", "1.33.4", "A1.B33.A4"),
])  # fmt: skip
def test_what_programs_say_of_themselves(text: str, version: str, sortable: str | None) -> None:
    evidence = recorded(
        container_programs={"/usr/local/bin/runc": {"type": "file", "size": 1, "mtime": 1}},
        runc_version=ok(text),
        dpkg_status=ok("Package: bash\nVersion: 5\n"),
    )
    (row,) = rows("container_runtimes", evidence)
    assert (row["path"], row["package"], row["version"], row["version_key"]) == ("/usr/local/bin/runc", None, version, sortable)


def test_programs_and_packages_that_do_not_fit() -> None:
    programs = {
        "/usr/bin/runc": {"type": "file", "size": 9, "mtime": 9}, "/usr/local/bin/runc": {"type": "file", "size": 8, "mtime": 8},
        "/usr/sbin/runc": {"type": "file", "size": 9, "mtime": 9}, "/opt/bin/runc": {"type": "file", "size": 7, "mtime": 7},
    }  # fmt: skip
    packages = ok("Package: containerd.io\nStatus: install ok installed\nVersion: 1.7.27-1\n\nPackage: kubelet\nVersion: 1.34.1-1.1\n")
    found = rows("container_runtimes", recorded(container_programs=programs, dpkg_status=packages))
    assert [tuple(row.values())[:5] for row in found] == [
        ("runc", "/usr/sbin/runc", "containerd.io", "1.7.27-1", "1.1.15+ds1"), ("runc", "/usr/local/bin/runc", None, None, None),
        ("runc", "/opt/bin/runc", None, None, None), ("containerd", None, "containerd.io", "1.7.27-1", None), ("kubelet", None,
        "kubelet", "1.34.1-1.1", None),
    ]  # fmt: skip
    assert run(BY_NAME["container_runtimes"], recorded(runc_version=ok("who knows"))).coverage is Coverage.PARTIAL
    assert run(BY_NAME["container_runtimes"], recorded(dpkg_status=status(Status.ABSENT))).coverage is Coverage.PARTIAL


# --- registries, policies ----------------------------------------------------------------------------

# synthetic: containerd, docs/cri/registry.md and docs/hosts.md; containers-registries.conf(5); crio.conf(5)
V2 = """version = 2
imports = ["/etc/containerd/conf.d/*.toml"]
[plugins]
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"
    [plugins."io.containerd.grpc.v1.cri".registry.configs."reg.local:5000".tls]
      insecure_skip_verify = true
    [plugins."io.containerd.grpc.v1.cri".registry.mirrors."docker.io"]
      endpoint = ["http://mirror:5000", "https://registry-1.docker.io"]
"""
V3 = """version = 3
[plugins.'io.containerd.cri.v1.images'.registry.configs.'r'.tls]
insecure_skip_verify = true
"""
HOST = """server = "https://reg.local"
[host."https://127.0.0.1:5001"]
  capabilities = ["pull"]
  skip_verify = true
[host."http://10.1.1.1:5000"]
  capabilities = ["pull", "resolve"]
[host."https://ok.example"]
"""
PODMAN = """unqualified-search-registries = ["docker.io"]
[[registry]]
prefix = "example.com/foo"
insecure = true
location = "internal.example.com"
[[registry]]
location = "docker.io"
[[registry.mirror]]
location = "localhost:5000"
insecure = true
"""


def registries(containerd: str = "", hosts: str = "", containers: str = "", crio: str = "", v1: str = "") -> Evidence:
    def texts(**files: str) -> dict[str, Any]:
        return {path: {"text": text} for path, text in files.items() if text}

    return recorded(
        processes=processes(), containerd_config=texts(**{"/etc/containerd/config.toml": containerd}), registries_conf=texts(
            **{"/etc/containers/registries.conf": containers, "/etc/crio/crio.conf": crio,
            "/etc/containers/registries.conf.d/v1.conf": v1}),
        registry_hosts=texts(**{"/etc/containerd/certs.d/reg.local/hosts.toml": hosts}),
    )  # fmt: skip


@pytest.mark.parametrize(("evidence", "expected"), [
    (registries(V2), [("containerd", "reg.local:5000", None, False, True, False),
    ("containerd", "docker.io", "http://mirror:5000", True, False, False)]),
    (registries(V3), [("containerd", "r", None, False, True, False)]),
    (registries(hosts=HOST), [("containerd", "reg.local", "https://127.0.0.1:5001", False, True, True),
    ("containerd", "reg.local", "http://10.1.1.1:5000", True, False, False)]),
    (registries(hosts='server = "http://reg.local"\n'), [("containerd", "reg.local", "http://reg.local", True, False, False)]),
    (registries(containers=PODMAN), [("podman", "example.com/foo", None, True, True, False),
    ("podman", "docker.io", "localhost:5000", True, True, True)]),
    (registries(v1="[registries.insecure]\nregistries = ['old.local']\n"), [("podman", "old.local", None, True, True, False)]),
    (registries(crio='[crio.image]\ninsecure_registries = ["c.local"]\n'), [("cri-o", "c.local", None, True, True, False)]),
])  # fmt: skip
def test_insecure_registries(evidence: Evidence, expected: list[Any]) -> None:
    extracted = run(BY_NAME["insecure_registries"], evidence)
    assert (extracted.coverage, [row[:6] for row in extracted.rows]) == (Coverage.COMPLETE, expected)


@pytest.mark.parametrize("evidence", [
    registries("imports = ['x.toml']\n"), registries("version = ="), registries("[" * 50000), registries("a=" + "[" * 50000),
    registries(hosts="\x00"),
    registries('[plugins.cri.registry]\nconfig_path = "/opt/certs"\n'), registries(containers="[[registry]"),
])  # fmt: skip
def test_files_of_registries_that_are_not_understood_or_lead_elsewhere(evidence: Evidence) -> None:
    assert run(BY_NAME["insecure_registries"], evidence).coverage is Coverage.PARTIAL


def test_values_of_other_types_are_no_rows() -> None:
    odd = "registry = 5\n[registries]\ninsecure = 7\n[[x]]\n"
    assert run(BY_NAME["insecure_registries"], registries("plugins = 7\n", "host = 3\nserver = 4\n", odd)).rows == ()


def test_the_lines_that_are_kept_of_files_with_credentials() -> None:
    kept = set(CONTAINERD.args["keep"]) | set(HOSTS.args["keep"])
    secret = ('auth = "x"', "        password = 'x'", "\tidentitytoken = 1", '      username = "u"', "  client = [['a', 'key.pem']]")
    assert not any(line.startswith(tuple(kept)) for line in secret)
    assert all(line.startswith(tuple(CONTAINERD.args["keep"])) for line in V2.splitlines())
    assert all(line.startswith(tuple(HOSTS.args["keep"])) for line in HOST.splitlines())


@pytest.mark.parametrize(("registry", "loopback"), [
    ("127.0.0.0/8", True), ("localhost:5000", True), ("http://127.0.0.1", True), ("[::1]:5000", True), ("::1", True), ("10.0.0.0/8", False),
    ("localhost.evil.example", False), ("127.evil.example", False), ("http://[fe80::1]:5000", False), ("", False),
])  # fmt: skip
def test_loopback(registry: str, loopback: bool) -> None:
    assert is_loopback(registry) is loopback


def test_policies() -> None:
    assert [tuple(row.values()) for row in rows("image_policies", recorded())] == [
        ("/etc/containers/policy.json", "", "", ["insecureAcceptAnything"])
    ]
    values = {"default": [{"type": "reject"}], "transports": {"docker": {"nvcr.io": [{"type": "signedBy"}], "": [{"type": "x"}, 5]}}}
    extracted = run(BY_NAME["image_policies"], recorded(image_policy={"/etc/containers/policy.json": {"values": values}}))
    assert extracted.coverage is Coverage.PARTIAL
    assert [row[1:] for row in extracted.rows] == [("", "", ["reject"]), ("docker", "nvcr.io", ["signedBy"])]
    assert run(BY_NAME["image_policies"], recorded(image_policy={"/p": {"values": {}}})).coverage is Coverage.PARTIAL


# --- Apptainer, Enroot --------------------------------------------------------------------------------

# synthetic: Apptainer 1.4 admin guide, apptainer.conf; Enroot, conf/enroot.conf.in
APPTAINER = """# comment
allow setuid = yes
allow setuid-mount extfs = no
LIMIT  CONTAINER PATHS = /opt/images, /scratch

bind path = /etc/localtime
bind path = /etc/hosts
what is this
"""


def test_apptainer() -> None:
    evidence = recorded(
        apptainer_settings={"/etc/apptainer/apptainer.conf": {"text": APPTAINER}},
        apptainer_starters={"/usr/libexec/apptainer/bin/starter-suid": {"type": "file", "mode": 0o4755, "uid": 0}, "/x": {"mode": "?"}},
    )
    settings = run(BY_NAME["apptainer_settings"], evidence)
    assert settings.coverage is Coverage.PARTIAL and ":8 is no directive" in settings.reason
    assert [row[1:] for row in settings.rows] == [
        ("allow setuid", "yes", 2), ("allow setuid-mount extfs", "no", 3), ("limit container paths", "/opt/images, /scratch", 4),
        ("bind path", "/etc/localtime", 6), ("bind path", "/etc/hosts", 7),
    ]  # fmt: skip
    starters = run(BY_NAME["apptainer_starters"], evidence)
    assert starters.rows == (("/usr/libexec/apptainer/bin/starter-suid", True, 0, 0o4755),) and starters.coverage is Coverage.PARTIAL


def test_enroot() -> None:
    text = "#ENROOT_X yes\nENROOT_DATA_PATH        /raid/enroot/user-$(id -u)\nENROOT_ROOTFS_WRITABLE yes\nhttp_proxy\n;x\n"
    extracted = run(BY_NAME["enroot_settings"], recorded(enroot_settings={"/etc/enroot/enroot.conf": {"text": text}, "/x": {"text": 5}}))
    assert [row[1:] for row in extracted.rows] == [
        ("ENROOT_DATA_PATH", "/raid/enroot/user-$(id -u)", 2),
        ("ENROOT_ROOTFS_WRITABLE", "yes", 3),
        ("http_proxy", "", 4),
    ]
    assert extracted.coverage is Coverage.PARTIAL


# --- laws -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_laws(table: Table) -> None:
    full = recorded(
        apptainer_settings={"/etc/apptainer/apptainer.conf": {"text": "allow setuid = yes\n"}}, enroot_settings={"/e": {"text": "A b\n"}},
        apptainer_starters={"/usr/libexec/apptainer/bin/starter-suid": {"type": "file", "mode": 0o4755, "uid": 0}},
        containerd_config={"/etc/containerd/config.toml": {"text": V2}},
        registry_hosts={"/etc/containerd/certs.d/r/hosts.toml": {"text": HOST}},
        registries_conf={"/etc/containers/registries.conf": {"text": PODMAN}},
    )  # fmt: skip
    assert run(table, full).rows
    never_emptier(table, full)
    for source in table.sources:
        if full[source.id].body and source not in (DPKG, LOGS):
            assert list(cut_short(table, full, source, step=997 if len(full[source.id].body) > 2000 else 23))


KEYS = st.sampled_from([
    *"values text status detail type mode uid gid processes gap argv pid euid cgroup exe comm State.Running Name Privileged Binds Mounts".split(),
    *oci.KEEP, TASK, "NetworkSettings.Ports", "80/tcp", "HostPort", "path", "options", "source",
])  # fmt: skip
VALUES = st.sampled_from(
    ["/", "dockerd", "conmon", "-c", OTHER, f"/docker/{OTHER}", "bind", "network", "/proc/1/ns/net", True, False, 0, 70, -1]
)
JSON = st.recursive(
    st.none() | VALUES | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
)


@given(st.dictionaries(
    st.sampled_from(sorted({source.id for table in TABLES for source in table.sources})),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        extracted = run(table, evidence)
        assert "not understood: " not in extracted.reason or extracted.coverage is Coverage.NONE


@given(
    st.fixed_dictionaries(
        {source.id: st.builds(Item, st.sampled_from(Status), st.binary(max_size=99)) for table in TABLES for source in table.sources}
    )
)
def test_garbage_makes_no_rows(evidence: Evidence) -> None:
    assert [run(table, evidence).rows for table in TABLES] == [()] * len(TABLES)


@given(JSON)
def test_no_specification_raises(values: Any) -> None:
    assert oci.understood(
        values if isinstance(values, dict) else {"mounts": values, "linux.namespaces": values, "process.capabilities": values}
    )


def test_deep_and_long_documents_end() -> None:
    deep = ok("[" * 200000)
    for table in TABLES:
        for source in table.sources:
            extracted = run(table, recorded() | {source.id: deep})
            assert extracted.coverage is not Coverage.COMPLETE or source.reader == "command" or source is DPKG, (table.name, source.id)
