# SPDX-License-Identifier: Apache-2.0
"""What kubelets that run are told, by flags and files. It cannot know a file changed after the kubelet's start."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, integer
from fleet_audit.facts.containers.flags import flags_of, running, switch, words_of
from fleet_audit.facts.kubelet.documents import load, merged, seconds
from fleet_audit.facts.kubelet.node import KUBELETS, embeds
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId

_FOLDERS = (
    "/etc/kubernetes/kubelet.conf.d", "/etc/kubernetes/kubelet/config.json.d", "/var/lib/kubelet/config.d",
    "/var/lib/rancher/rke2/agent/etc/kubelet.conf.d", "/var/lib/rancher/k3s/agent/etc/kubelet.conf.d",
)  # fmt: skip
CONFIG = Source(
    SourceId("kubelet-config"), "files",
    {"globs": ["/var/lib/kubelet/config.yaml", "/var/lib/kubelet/kubelet-config.yaml", "/etc/kubernetes/kubelet/config.json",
               "/etc/kubernetes/kubelet/kubelet-config.json", "/etc/kubernetes/kubelet/config", "/etc/kubernetes/kubelet-config.yaml",
               "/home/kubernetes/kubelet-config.yaml", "/var/lib/k0s/kubelet-config.yaml",
               *(f"{folder}/{name}" for folder in _FOLDERS for name in ("*.conf", "*/*.conf"))],
     "redact": True, "cap_each": 256 << 10},
    "Kubernetes reference, kubelet --config and --config-dir: KubeletConfiguration of kubelet.config.k8s.io/v1beta1, where kubeadm, EKS, "
    "GKE, Bottlerocket, k0s and RKE2 write it. /etc/kubernetes/kubelet.conf is not read: elsewhere it holds a key.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class KubeletConfig:
    """What a kubelet that runs is told. No row: none runs. `kubelet_settings` tells where each value is from.

    Source: KubeletConfiguration (v1beta1), overridden by flags. NULL: not determined.
    """

    pid: Annotated[int, "Process id"]
    file: Annotated[str | None, "Its configuration file (--config); NULL: it has flags alone, whose defaults are weaker"]
    anonymous_auth: Annotated[bool | None, "Requests without credentials are taken"]
    webhook_auth: Annotated[bool | None, "Bearer tokens are shown to the API server"]
    client_ca: Annotated[str | None, "File of the authority whose client certificates are taken; empty: none"]
    authorization_mode: Annotated[str | None, "Webhook or AlwaysAllow"]
    read_only_port: Annotated[int | None, "Port without authentication; 0: none"]
    rotate_certificates: Annotated[bool | None, "It renews its client certificate"]
    server_tls_bootstrap: Annotated[bool | None, "It gets its server certificate from the cluster's authority"]
    tls_min_version: Annotated[str | None, "Such as VersionTLS12; empty: Go's default, TLS 1.2 since Kubernetes 1.23"]
    tls_cipher_suites: Annotated[list[str] | None, "Cipher suites; none: Go's defaults"]
    protect_kernel_defaults: Annotated[bool | None, "It does not start if sysctls are not what it wants"]
    streaming_idle_timeout_seconds: Annotated[int | None, "Seconds after which an idle exec or port-forward ends; 0: never"]
    seccomp_default: Annotated[bool | None, "Pods get the runtime's seccomp profile unless they say otherwise"]
    iptables_util_chains: Annotated[bool | None, "It keeps its firewall chains"]
    debugging_handlers: Annotated[bool | None, "It serves logs, exec and port-forward"]
    pod_pids_limit: Annotated[int | None, "Processes that a pod may have; -1: as many as the node"]
    static_pod_path: Annotated[str | None, "Folder of static pods' manifests; empty: none"]


@dataclass(frozen=True)
class KubeletSetting:
    """Where a value of `kubelet_config` is from. Source: as there."""

    pid: Annotated[int, "Process id of the kubelet"]
    setting: Annotated[str, "Column of `kubelet_config`"]
    value: Annotated[str | None, "Value in force; NULL: not determined"]
    origin: Annotated[str | None, "flag, file or default; NULL: not determined"]


# column: (place in KubeletConfiguration, flag, its default beside a file, its default where there is no file)
# Source: kubernetes, pkg/kubelet/apis/config/v1beta1/defaults.go; cmd/kubelet/app/options/options.go, applyLegacyDefaults.
_SETTINGS: dict[str, tuple[str, str, Any, Any]] = {
    "anonymous_auth": ("authentication.anonymous.enabled", "anonymous-auth", False, True),
    "webhook_auth": ("authentication.webhook.enabled", "authentication-token-webhook", True, False),
    "client_ca": ("authentication.x509.clientCAFile", "client-ca-file", "", ""),
    "authorization_mode": ("authorization.mode", "authorization-mode", "Webhook", "AlwaysAllow"),
    "read_only_port": ("readOnlyPort", "read-only-port", 0, 10255),
    "rotate_certificates": ("rotateCertificates", "rotate-certificates", False, False),
    "server_tls_bootstrap": ("serverTLSBootstrap", "rotate-server-certificates", False, False),
    "tls_min_version": ("tlsMinVersion", "tls-min-version", "", ""),
    "tls_cipher_suites": ("tlsCipherSuites", "tls-cipher-suites", [], []),
    "protect_kernel_defaults": ("protectKernelDefaults", "protect-kernel-defaults", False, False),
    "streaming_idle_timeout_seconds": ("streamingConnectionIdleTimeout", "streaming-connection-idle-timeout", 14400, 14400),
    "seccomp_default": ("seccompDefault", "seccomp-default", False, False),
    "iptables_util_chains": ("makeIPTablesUtilChains", "make-iptables-util-chains", True, True),
    "debugging_handlers": ("enableDebuggingHandlers", "enable-debugging-handlers", True, True),
    "pod_pids_limit": ("podPidsLimit", "pod-max-pids", -1, -1),
    "static_pod_path": ("staticPodPath", "pod-manifest-path", "", ""),
}
_VALUED = frozenset(flag for _, flag, default, _ in _SETTINGS.values() if not isinstance(default, bool)) | {"config", "config-dir"}


_ODD = object()
"""What stands where settings should be and is none."""


def _document(entries: Mapping[str, Mapping[str, Any]], path: str) -> Any:
    if path not in entries:
        raise NotUnderstood(f"{path} is not among the files that were read")
    document = load(str(entries[path].get("text", "")))
    if not isinstance(document, dict) or document.get("kind") != "KubeletConfiguration":
        raise NotUnderstood(f"{path} is no KubeletConfiguration")
    return document


def _configured(evidence: Bundle, row: Mapping[str, Any], flags: Mapping[str, list[str]]) -> Any:
    """The document of a kubelet's files, an empty one if it has none. Raises `NotUnderstood`."""
    file, folder = flags.get("config", [""])[-1], flags.get("config-dir", [""])[-1].rstrip("/")
    if not file and not folder:
        return {}
    if row.get("contained") is True:
        raise NotUnderstood("it runs in a container, its files are there")
    entries = evidence.entries(CONFIG)
    document = _document(entries, file) if file else {}
    if folder:
        if folder not in _FOLDERS:
            raise NotUnderstood(f"its folder {folder} is not among those that are read")
        for path in sorted(path for path in entries if path.startswith(folder + "/")):
            document = merged(document, _document(entries, path))
    return document


def _valid(value: Any, default: Any) -> Any:
    """A file's value if it has the type of the default; None if not."""
    if isinstance(default, list):
        return value if isinstance(value, list) and all(isinstance(entry, str) for entry in value) else None
    return value if type(value) is type(default) else None


def _from_flag(words: list[str], default: Any) -> Any:
    if isinstance(default, bool):
        return switch(words[-1])
    if isinstance(default, list):
        return [name for word in words for name in word.split(",") if name]
    return integer(words[-1]) if isinstance(default, int) else words[-1]


def effective(evidence: Bundle, row: Mapping[str, Any]) -> tuple[str | None, dict[str, tuple[Any, str | None]]]:
    """(its file, {column: (value, flag, file or default)}) of a kubelet; (None, None) where it is not determined."""
    flags = flags_of(words_of(row), _VALUED, {})
    file = flags.get("config", [""])[-1] or None
    document: Any = None
    try:
        before = len(evidence.gaps)
        document = _configured(evidence, row, flags)
        if len(evidence.gaps) > before and "config-dir" in flags:
            document = None  # a drop-in that was not read may say otherwise
    except NotUnderstood as error:
        evidence.gap(CONFIG, f"the kubelet with process id {row['pid']}: {error}")
    found: dict[str, tuple[Any, str | None]] = {}
    for column, (place, flag, with_file, without) in _SETTINGS.items():
        timed = column == "streaming_idle_timeout_seconds"
        value: Any = document
        for name in place.split("."):
            value = value.get(name) if isinstance(value, dict) else None if value is None else _ODD
        if flag in flags:
            given = seconds(flags[flag][-1]) if timed else _from_flag(flags[flag], with_file)
            found[column] = (given, "flag" if given is not None else None)
        elif document is None:
            found[column] = (None, None)
        elif value is None or (timed and seconds(value) == 0) or (value == "" and with_file):
            found[column] = (with_file if file else without, "default")
        else:
            given = seconds(value) if timed else _valid(value, with_file)
            found[column] = (given, "file" if given is not None else None)
        if found[column][0] is None and document is not None:
            evidence.gap(CONFIG if flag not in flags else PROCESSES, f"{place} is not understood")
    return file, found


def _kubelets(evidence: Bundle) -> Iterator[Mapping[str, Any]]:
    """The kubelets that run; those within other programs are gaps."""
    for program, row in running(evidence, KUBELETS):
        if program == "kubelet":
            yield row
        elif embeds(program, row):
            evidence.gap(PROCESSES, f"the settings of the kubelet within {program} are not read")


def parse_config(evidence: Bundle) -> Iterator[KubeletConfig]:
    """A row per kubelet."""
    for row in _kubelets(evidence):
        file, found = effective(evidence, row)
        yield KubeletConfig(row["pid"], file, **{column: value for column, (value, _) in found.items()})


def parse_settings(evidence: Bundle) -> Iterator[KubeletSetting]:
    """A row per kubelet and setting."""
    for row in _kubelets(evidence):
        for column, (value, origin) in effective(evidence, row)[1].items():
            text = json.dumps(value) if isinstance(value, bool | list) else None if value is None else str(value)
            yield KubeletSetting(row["pid"], column, text, origin)


TABLES = (
    Table("kubelet_config", KubeletConfig, (PROCESSES, CONFIG), parse_config),
    Table("kubelet_settings", KubeletSetting, (PROCESSES, CONFIG), parse_settings),
)
