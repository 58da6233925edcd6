# SPDX-License-Identifier: Apache-2.0
"""Kubernetes nodes: files as kubeadm, EKS and GKE write them, defaults as kubernetes 1.34 has them in its source."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item, NotUnderstood
from fleet_audit.facts.kubelet import TABLES
from fleet_audit.facts.kubelet.config import CONFIG
from fleet_audit.facts.kubelet.documents import load, merged, seconds
from fleet_audit.facts.kubelet.node import FILES
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.redact import redact

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

NODE, NODE_FILES, CONFIGS, SETTINGS = TABLES
Evidence = dict[SourceId, Item]
KUBEADM_PATH = "/var/lib/kubelet/config.yaml"

# synthetic: what kubeadm 1.34 writes, by the Kubernetes reference of KubeletConfiguration; zero durations are how it writes defaults
KUBEADM = """apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
cgroupDriver: systemd
clusterDNS:
- 10.96.0.10
kind: KubeletConfiguration
rotateCertificates: true
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
"""
EKS = json.dumps({
    "kind": "KubeletConfiguration", "apiVersion": "kubelet.config.k8s.io/v1beta1", "serverTLSBootstrap": True,
    "protectKernelDefaults": True,
    "readOnlyPort": 0, "tlsCipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"], "authentication": {"anonymous": {"enabled": False}},
}, indent="\t")  # fmt: skip
IN_FILE = {"anonymous_auth": False, "webhook_auth": True, "authorization_mode": "Webhook", "read_only_port": 0}
WITHOUT = {"anonymous_auth": True, "webhook_auth": False, "authorization_mode": "AlwaysAllow", "read_only_port": 10255}


def process(name: str, *flags: str, **more: Any) -> dict[str, Any]:
    base = {
        "pid": 900,
        "ppid": 1,
        "uid": 0,
        "euid": 0,
        "comm": name,
        "exe": f"/usr/bin/{name}",
        "argv": [f"/usr/bin/{name}", *flags],
        "caps": "0",
    }
    return base | {"contained": False, "cut": False, "cgroup": "/system.slice/kubelet.service", "label": None, "env": None} | more


def evidence(*running: dict[str, Any], files: dict[str, Any] | None = None, there: dict[str, Any] | None = None) -> Evidence:
    rows = [process("systemd", pid=1), *running]
    texts = {path: {"text": text} if isinstance(text, str) else text for path, text in (files or {}).items()}
    return {
        PROCESSES.id: ok(json.dumps({"processes": rows, "kernel_threads": 2, "gap": ""})),
        CONFIG.id: ok(json.dumps(texts)), FILES.id: ok(json.dumps(there or {})),
    }  # fmt: skip


def kubelet(*flags: str, files: dict[str, Any] | None = None, **more: Any) -> Evidence:
    return evidence(process("kubelet", *flags, **more), files=files)


def config(found: Evidence) -> dict[str, Any]:
    (row,) = rows_as_dicts(CONFIGS, run(CONFIGS, found))
    return row


def test_a_node_of_kubeadm() -> None:
    found = kubelet("--kubeconfig=/etc/kubernetes/kubelet.conf", f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: KUBEADM})
    assert run(CONFIGS, found).coverage is Coverage.COMPLETE
    assert config(found) == IN_FILE | {
        "pid": 900, "file": KUBEADM_PATH, "client_ca": "/etc/kubernetes/pki/ca.crt", "rotate_certificates": True,
        "server_tls_bootstrap": False,
        "tls_min_version": "", "tls_cipher_suites": [], "protect_kernel_defaults": False, "streaming_idle_timeout_seconds": 14400,
        "seccomp_default": False, "iptables_util_chains": True, "debugging_handlers": True, "pod_pids_limit": -1,
        "static_pod_path": "/etc/kubernetes/manifests",
    }  # fmt: skip
    origins = {row["setting"]: (row["value"], row["origin"]) for row in rows_as_dicts(SETTINGS, run(SETTINGS, found))}
    assert origins["anonymous_auth"] == ("false", "file") and origins["read_only_port"] == ("0", "default")
    assert origins["streaming_idle_timeout_seconds"] == ("14400", "default") and origins["tls_cipher_suites"] == ("[]", "default")


def test_settings_reach_the_parser_as_the_node_gives_them() -> None:
    """What takes secrets out of files on the node must leave these alone: `authorization:` is a header elsewhere."""
    for text in (KUBEADM, EKS, "authorization: {mode: AlwaysAllow}\n"):
        assert redact(text) == text


def test_a_node_of_eks_in_json_with_tabs() -> None:
    path = "/etc/kubernetes/kubelet/config.json"
    row = config(kubelet("--config", path, files={path: EKS}))
    assert (row["server_tls_bootstrap"], row["protect_kernel_defaults"], row["anonymous_auth"]) == (True, True, False)
    assert row["tls_cipher_suites"] == ["TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"]


def test_flags_alone_have_weaker_defaults_than_a_file() -> None:
    bare = kubelet("--kubeconfig=/x")
    assert config(bare) | WITHOUT == config(bare) and config(bare)["file"] is None and run(CONFIGS, bare).coverage is Coverage.COMPLETE
    empty = kubelet(f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: "kind: KubeletConfiguration\n"})
    assert config(empty) | IN_FILE == config(empty)
    folder = kubelet("--config-dir=/etc/kubernetes/kubelet.conf.d", files={})
    assert config(folder) | WITHOUT == config(folder)


def test_flags_win_over_files() -> None:
    flags = (
        "--anonymous-auth",
        "--authorization-mode=AlwaysAllow",
        "--read_only_port",
        "10255",
        "--tls-cipher-suites=A,B",
        "--tls-cipher-suites=C",
    )
    more = ("--streaming-connection-idle-timeout=0", "--rotate-certificates=false", "-v=2", "--pod-max-pids=4096")
    found = kubelet(f"--config={KUBEADM_PATH}", *flags, *more, files={KUBEADM_PATH: KUBEADM})
    row = config(found)
    assert (row["anonymous_auth"], row["authorization_mode"], row["read_only_port"], row["pod_pids_limit"]) == (
        True,
        "AlwaysAllow",
        10255,
        4096,
    )
    assert (row["tls_cipher_suites"], row["streaming_idle_timeout_seconds"], row["rotate_certificates"]) == (["A", "B", "C"], 0, False)
    origins = {row["setting"]: row["origin"] for row in rows_as_dicts(SETTINGS, run(SETTINGS, found))}
    assert (origins["anonymous_auth"], origins["webhook_auth"], origins["seccomp_default"]) == ("flag", "file", "default")


def test_drop_in_files_are_merged_in_their_order() -> None:
    folder = "/etc/kubernetes/kubelet.conf.d"
    head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n"
    files = {
        KUBEADM_PATH: KUBEADM, f"{folder}/10.conf": head + "readOnlyPort: 10255\ntlsCipherSuites: [A]\n",
        f"{folder}/20.conf": head + "readOnlyPort: 10256\nauthentication: {anonymous: {enabled: true}, x509: null}\n",
    }  # fmt: skip
    flags = (f"--config={KUBEADM_PATH}", f"--config-dir={folder}/")
    row = config(kubelet(*flags, files=files))
    assert (row["read_only_port"], row["anonymous_auth"], row["webhook_auth"], row["client_ca"]) == (10256, True, True, "")
    assert config(kubelet(flags[0], files=files))["read_only_port"] == 0  # not without the flag
    for bad in ("kind: x\n", {"status": "denied", "detail": ""}, "readOnlyPort: 1\n"):
        extracted = run(CONFIGS, kubelet(*flags, files=files | {f"{folder}/30.conf": bad}))
        assert extracted.coverage is Coverage.PARTIAL and extracted.rows[0][2] is None
    elsewhere = run(CONFIGS, kubelet(flags[0], "--config-dir=/opt/x", files=files))
    assert elsewhere.coverage is Coverage.PARTIAL and elsewhere.rows[0][2] is None and "/opt/x" in elsewhere.reason


@pytest.mark.parametrize("files", [
    {}, {KUBEADM_PATH: {"status": "denied", "detail": "Permission denied"}}, {KUBEADM_PATH: {"status": "absent", "detail": ""}},
    {KUBEADM_PATH: ""},
    {KUBEADM_PATH: "kind: Config\nusers: []\n"}, {KUBEADM_PATH: "- a\n"}, {KUBEADM_PATH: KUBEADM + "\t"}, {KUBEADM_PATH: "{"},
    {KUBEADM_PATH: {"text": 5}},
    {KUBEADM_PATH: KUBEADM + "---\n" + KUBEADM}, {KUBEADM_PATH: "a: &a [x]\nb: *a\nkind: KubeletConfiguration\n"},
])  # fmt: skip
def test_a_file_that_was_not_read_or_understood_leaves_what_flags_do_not_say_unknown(files: dict[str, Any]) -> None:
    found = kubelet(f"--config={KUBEADM_PATH}", "--read-only-port=0", files=files)
    row = config(found)
    assert run(CONFIGS, found).coverage is Coverage.PARTIAL
    assert (row["anonymous_auth"], row["authorization_mode"], row["read_only_port"], row["tls_cipher_suites"]) == (None, None, 0, None)
    origins = {row["setting"]: row["origin"] for row in rows_as_dicts(SETTINGS, run(SETTINGS, found))}
    assert (origins["anonymous_auth"], origins["read_only_port"]) == (None, "flag")


@pytest.mark.parametrize(
    "line",
    [
        "readOnlyPort: ten",
        "authentication: {anonymous: {enabled: maybe}}",
        "tlsCipherSuites: [1]",
        "readOnlyPort: true",
        "authorization: AlwaysAllow",
        "authentication: [anonymous]",
    ],
)
def test_a_value_of_another_type_is_unknown(line: str) -> None:
    extracted = run(CONFIGS, kubelet(f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: f"kind: KubeletConfiguration\n{line}\n"}))
    assert extracted.coverage is Coverage.PARTIAL and None in extracted.rows[0]
    flag = run(CONFIGS, kubelet("--read-only-port=x", "--anonymous-auth=perhaps"))
    assert flag.coverage is Coverage.PARTIAL and flag.rows[0][2] is None and flag.rows[0][6] is None


def test_kubelets_in_containers_and_in_other_programs_are_unknown() -> None:
    inside = kubelet(f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: KUBEADM}, contained=True)
    assert run(CONFIGS, inside).coverage is Coverage.PARTIAL and config(inside)["anonymous_auth"] is None
    for running in (
        process("k3s", exe="/var/lib/rancher/k3s/data/x/bin/k3s", argv=["/usr/local/bin/k3s server"]), process("k3s", "agent"),
        process("k3s-agent", exe=None, argv=["/usr/local/bin/k3s agent"]), process("kubelite"),
    ):  # fmt: skip
        extracted = run(CONFIGS, evidence(running))
        assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ()), running
    assert run(CONFIGS, evidence(process("k3s", "kubectl", "get", "pods"))).coverage is Coverage.COMPLETE
    cut = run(CONFIGS, kubelet("--a", "...", cut=True))
    assert cut.coverage is Coverage.PARTIAL and "is cut" in cut.reason


def test_no_kubelet_is_no_row() -> None:
    for table in (CONFIGS, SETTINGS, NODE):
        assert (run(table, evidence()).coverage, run(table, evidence()).rows) == (Coverage.COMPLETE, ())
    for what in (Status.ABSENT, Status.DENIED, Status.UNREACHED):
        assert run(CONFIGS, evidence() | {PROCESSES.id: status(what, "not recorded")}).coverage is Coverage.NONE


META = {"uid": 0, "gid": 0, "mode": 0o600, "type": "file", "size": 1, "mtime": 1, "link": None}


@pytest.mark.parametrize(("running", "files", "row"), [
    ([process("kubelet")], [KUBEADM_PATH], (True, "kubelet", False)), ([], [KUBEADM_PATH], (False, None, False)),
    ([process("kubelet"), process("kube-apiserver", contained=True)], [], (True, "kubelet", True)),
    ([process("kubelet")], ["/etc/kubernetes/manifests/etcd.yaml"], (True, "kubelet", True)),
    ([process("k3s", "server")], [], (True, "k3s", True)), ([process("k3s-agent")], [], (True, "k3s", False)),
    ([process("kubelite")], [], (True, "kubelite", False)),
    ([], ["/etc/kubernetes", "/var/lib/kubelet", "/etc/kubernetes/manifests"], None), ([process("etcd")], [], None),
    ([process("k3s", "crictl", "ps")], [], None),
])  # fmt: skip
def test_nodes(running: list[Any], files: list[str], row: Any) -> None:
    extracted = run(NODE, evidence(*running, there=dict.fromkeys(files, META)))
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, (row,) if row else ())


def test_files() -> None:
    paths = {
        "/etc/kubernetes": "folder", "/etc/kubernetes/admin.conf": "kubeconfig", "/etc/kubernetes/pki/ca.key": "key",
        "/etc/kubernetes/pki/ca.crt": "certificate",
        "/etc/kubernetes/manifests/kube-apiserver.yaml": "manifest", KUBEADM_PATH: "config",
        "/var/lib/kubelet/pki/kubelet-client-current.pem": "key",
        "/var/lib/kubelet/kubeconfig": "kubeconfig", "/etc/rancher/k3s/k3s.yaml": "kubeconfig",
        "/var/lib/rancher/k3s/agent/kubelet.kubeconfig": "kubeconfig",
        "/etc/kubernetes/pki/sa.pub": "certificate", "/var/lib/rancher/rke2/agent/client-kubelet.key": "key",
        "/etc/rancher/rke2/config.yaml": "config",
    }  # fmt: skip
    there = {path: META | {"type": "dir" if kind == "folder" else "file"} for path, kind in paths.items()}
    extracted = run(
        NODE_FILES, evidence(there=there | {"/etc/kubernetes/pki/x": {"mode": "?"}, "/var/lib/etcd": {"status": "absent", "detail": ""}})
    )
    assert extracted.coverage is Coverage.PARTIAL and {row[0]: row[1] for row in extracted.rows} == paths
    assert run(NODE_FILES, evidence() | {FILES.id: status(Status.DENIED)}).coverage is Coverage.NONE


@pytest.mark.parametrize(("text", "expected"), [
    ("4h0m0s", 14400), ("5m", 300), ("0", 0), ("0s", 0), ("1.5h", 5400), ("300ms", 0), ("1h1ms", 3600), ("", None), ("5", None),
    ("-5m", None), ("5d", None), (5, None),
])  # fmt: skip
def test_durations(text: Any, expected: int | None) -> None:
    assert seconds(text) == expected


def test_merge_patches() -> None:  # RFC 7386, appendix A
    assert (
        merged({"a": "b"}, {"a": None}) == {}
        and merged({"a": [1]}, {"a": {"b": None}}) == {"a": {}}
        and merged({"a": {"b": 1}}, {"a": 2}) == {"a": 2}
    )


@pytest.mark.parametrize("text", [
    "[" * 200_000, "{" * 200_000, "{\"a\":" * 100_000, "- " * 100_000, "a: " * 50_000, "? " * 50_000, "a" * 250_000,
    "a: " + "1:" * 20_000 + "1",
    "&a [" + "*a," * 50_000, "- x\n" * 60_000, "!!python/object/apply:os.system [x]", "\x00", "a: !!timestamp 2026-99-99",
    "a: !!int x", "%YAML 9.9\n---\na",
])  # fmt: skip
def test_hostile_documents_end_soon(text: str) -> None:
    begun = time.monotonic()
    with pytest.raises(NotUnderstood):
        load(text)
    assert time.monotonic() - begun < 5


def test_laws() -> None:
    full = kubelet(f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: KUBEADM}) | {FILES.id: ok(json.dumps({KUBEADM_PATH: META}))}
    for table in TABLES:
        assert run(table, full).rows
        never_emptier(table, full)
        for source in table.sources:
            assert list(cut_short(table, full, source, step=17))


KEYS = st.sampled_from(
    [*"processes gap text status kind pid argv exe comm cut contained uid gid mode type readOnlyPort".split(), KUBEADM_PATH]
)
VALUES = st.sampled_from(
    ["kubelet", f"--config={KUBEADM_PATH}", "--config-dir=/etc/kubernetes/kubelet.conf.d", "KubeletConfiguration", KUBEADM, True, False]
)
JSON = st.recursive(
    st.none() | VALUES | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
)


@given(st.dictionaries(
    st.sampled_from([PROCESSES.id, CONFIG.id, FILES.id]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode())),
))  # fmt: skip
def test_nothing_raises(found: Evidence) -> None:
    for table in TABLES:
        run(table, found)


@given(st.text(max_size=300) | JSON.map(json.dumps))
def test_no_text_makes_a_setting_up(text: str) -> None:
    row = config(kubelet(f"--config={KUBEADM_PATH}", files={KUBEADM_PATH: text}))
    assert row["anonymous_auth"] is None or "KubeletConfiguration" in text
