# SPDX-License-Identifier: Apache-2.0
"""What docker's daemon is told to do, by its command line and its file. It cannot know a file changed after the daemon's start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.containers.flags import flags_of, running, switch, words_of
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId

_LISTS = {  # key of the file -> flag; both add up in a command line
    "hosts": "host", "insecure-registries": "insecure-registry", "authorization-plugins": "authorization-plugin",
}  # fmt: skip
_TEXTS = {
    "userns-remap": "", "log-driver": "json-file", "default-runtime": "runc", "seccomp-profile": "", "data-root": "/var/lib/docker", "ip": "",
}  # fmt: skip
_SWITCHES = {
    "tls": False, "tlsverify": False, "icc": True, "no-new-privileges": False, "live-restore": False, "experimental": False,
    "iptables": True, "userland-proxy": True, "selinux-enabled": False,
}  # fmt: skip
_DEFAULT_FILE = "/etc/docker/daemon.json"
_SNAP_FILE = "/var/snap/docker/current/config/daemon.json"

DAEMON = Source(
    SourceId("docker-daemon"), "json",
    {"globs": [_DEFAULT_FILE, _SNAP_FILE], "keep": [*_LISTS, *_TEXTS, *_SWITCHES, "log-opts.max-size", "log-opts.max-file", "graph"]},
    "dockerd(8), --config-file: settings under the names of flags without dashes, lists in the plural. Not there: the flags alone.",
)  # fmt: skip
_VALUED = frozenset({
    *_LISTS.values(), *_TEXTS, "config-file", "log-opt", "graph", "add-runtime", "storage-driver", "storage-opt", "registry-mirror", "bip", "mtu",
    "tlscacert", "tlscert", "tlskey", "label", "dns", "dns-opt", "dns-search", "exec-opt", "exec-root", "pidfile", "bridge", "fixed-cidr", "group",
    "log-level", "log-format", "default-ulimit", "default-shm-size", "cgroup-parent", "containerd", "containerd-namespace", "metrics-addr",
    "default-address-pool", "default-gateway", "host-gateway-ip", "cluster-advertise", "node-generic-resource", "userland-proxy-path",
    "containerd-plugins-namespace", "default-cgroupns-mode", "default-ipc-mode", "fixed-cidr-v6", "default-gateway-v6", "max-concurrent-downloads",
    "max-concurrent-uploads", "shutdown-timeout", "network-control-plane-mtu", "swarm-default-advertise-addr", "oom-score-adjust", "init-path",
    "http-proxy", "https-proxy", "no-proxy", "cri-containerd", "max-download-attempts", "default-network-opt", "allow-direct-routing", "feature",
})  # fmt: skip
_SHORT = {"H": "host", "g": "data-root", "G": "group", "b": "bridge", "l": "log-level", "s": "storage-driver", "p": "pidfile", "D": "debug"}


@dataclass(frozen=True)
class DockerDaemon:
    """A docker daemon that runs. Source: dockerd(8), its command line and configuration file, else its defaults.

    NULL: not determined, as the file of a daemon in a container, or of a user's own daemon, is not read.
    """

    pid: Annotated[int, "Process id"]
    uid: Annotated[int, "User whose rights it has; 0 unless it is a user's own"]
    rootless: Annotated[bool, "It runs with an ordinary user's rights"]
    file: Annotated[str | None, "Its configuration file, which was read or is not there"]
    hosts: Annotated[list[str] | None, "Where it listens, such as unix:///var/run/docker.sock, fd:// or tcp://0.0.0.0:2375"]
    tls: Annotated[bool | None, "TCP is encrypted (--tls or --tlsverify)"]
    tls_verify: Annotated[bool | None, "Clients over TCP must have a certificate"]
    icc: Annotated[bool | None, "Containers of the default network reach each other"]
    no_new_privileges: Annotated[bool | None, "Containers gain no rights by execve unless they say otherwise"]
    userns_remap: Annotated[str | None, "Whose subordinate ids containers get, such as default; empty: the node's own ids"]
    live_restore: Annotated[bool | None, "Containers survive the daemon's restart"]
    log_driver: Annotated[str | None, "Where containers' output goes: json-file, local, journald, ..."]
    log_max_size: Annotated[str | None, "Size at which a container's log is rotated, such as 10m; empty: none is set"]
    insecure_registries: Annotated[list[str] | None, "Registries that it asks over plain HTTP or with any certificate; loopback always is"]
    default_runtime: Annotated[str | None, "Runtime of containers that name none: runc, nvidia, ..."]
    experimental: Annotated[bool | None, "Experimental features are on"]
    iptables: Annotated[bool | None, "It writes rules of the firewall"]
    userland_proxy: Annotated[bool | None, "Published ports have a process that listens"]
    publish_address: Annotated[str | None, "Address at which ports are published that name none; empty: all"]
    seccomp_profile: Annotated[str | None, "Default profile: empty for the built-in one, a file, or unconfined"]
    selinux: Annotated[bool | None, "SELinux labels separate containers"]
    authorization_plugins: Annotated[list[str] | None, "Plugins that are asked whether a request is allowed"]
    data_root: Annotated[str | None, "Folder of its containers and images"]


def _from_file(evidence: Bundle, values: Mapping[str, Any]) -> dict[str, Any]:
    """{key: value} of a file's known keys that have the right type; others are gaps."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key in _LISTS:
            fits = isinstance(value, list) and all(isinstance(entry, str) for entry in value)
        elif key in _SWITCHES:
            fits = isinstance(value, bool)
        else:
            fits = isinstance(value, str)
        if fits:
            found["data-root" if key == "graph" else key] = value
        elif value is not None:
            evidence.gap(DAEMON, f"{key} is not understood")
            found[key] = None
    return found


def settings(evidence: Bundle, row: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """(its file, {key: value in force, None if not determined}) of a daemon's process."""
    flags = flags_of(words_of(row), _VALUED, _SHORT)
    own = row.get("euid") != 0 or row.get("contained") is True
    file = None if own else flags.get("config-file", [_DEFAULT_FILE])[-1]
    given: dict[str, Any] = {}
    unread = own or file not in (_DEFAULT_FILE, _SNAP_FILE)
    if unread and not own:
        evidence.gap(DAEMON, f"its file {file} is not among those that are read")
    if not unread:
        before = len(evidence.gaps)
        entries = evidence.entries(DAEMON)
        if file in entries:
            given = _from_file(evidence, entries[file].get("values", {}))
        unread = len(evidence.gaps) > before and not given
    values: dict[str, Any] = {}
    for key, flag in _LISTS.items():
        values[key] = flags.get(flag) or given.get(key, None if unread else [])
    for key, default in _TEXTS.items():
        values[key] = flags[key][-1] if key in flags else given.get(key, None if unread else default)
    for key, default_on in _SWITCHES.items():
        values[key] = switch(flags[key][-1]) if key in flags else given.get(key, None if unread else default_on)
    size = next((opt.partition("=")[2] for opt in reversed(flags.get("log-opt", [])) if opt.startswith("max-size=")), None)
    values["log-opts.max-size"] = size if size is not None else given.get("log-opts.max-size", None if unread else "")
    if both := sorted(key for key in given if _LISTS.get(key, key) in flags and given[key] is not None):
        evidence.gap(DAEMON, f"{both[0]} is in the file and in the command line: the file is not what runs")
    if values["hosts"] == [] and not own:
        values["hosts"] = ["unix:///var/run/docker.sock"]
    if values["tlsverify"]:
        values["tls"] = True
    return file, values


def parse_daemons(evidence: Bundle) -> Iterator[DockerDaemon]:
    """A row per daemon; no row where none runs."""
    for _, row in running(evidence, {"dockerd"}):
        if type(row.get("euid")) is not int:
            evidence.gap(PROCESSES, "a daemon's process is not understood")
            continue
        file, found = settings(evidence, row)
        yield DockerDaemon(
            row["pid"], row["euid"], row["euid"] != 0, file, found["hosts"], found["tls"], found["tlsverify"], found["icc"],
            found["no-new-privileges"], found["userns-remap"], found["live-restore"], found["log-driver"], found["log-opts.max-size"],
            found["insecure-registries"], found["default-runtime"], found["experimental"], found["iptables"], found["userland-proxy"],
            found["ip"], found["seccomp-profile"], found["selinux-enabled"], found["authorization-plugins"], found["data-root"],
        )  # fmt: skip


TABLES = (Table("docker_daemons", DockerDaemon, (PROCESSES, DAEMON), parse_daemons),)
