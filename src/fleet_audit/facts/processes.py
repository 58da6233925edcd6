# SPDX-License-Identifier: Apache-2.0
"""What runs: processes of the whole node, those of containers included. It cannot know what ran a minute ago."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Table
from fleet_audit.model import Source, SourceId

PROCESSES = Source(
    SourceId("processes"),
    "processes",
    {
        "env": [
            "RAY_AUTH_MODE", "RAY_USE_TLS", "RAY_ADDRESS", "OLLAMA_HOST", "OLLAMA_ORIGINS", "MLFLOW_AUTH_CONFIG_PATH", "MLFLOW_HOST",
            "JUPYTERHUB_API_URL", "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "VLLM_PORT", "HF_HUB_TRUST_REMOTE_CODE", "TRUST_REMOTE_CODE",
            "HOST", "PORT", "BIND_ADDRESS", "GRADIO_SERVER_NAME", "STREAMLIT_SERVER_ADDRESS", "MINIO_ADDRESS", "MINIO_CONSOLE_ADDRESS",
            "NCCL_SOCKET_IFNAME", "CUDA_ENABLE_COREDUMP_ON_EXCEPTION", "CUDA_COREDUMP_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL",
            "PIP_TRUSTED_HOST", "GIT_SSL_NO_VERIFY", "PYTHONHTTPSVERIFY", "LD_PRELOAD", "TORCHSERVE_DISABLE_TOKEN_AUTHORIZATION",
            "TS_DISABLE_TOKEN_AUTHORIZATION", "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK", "QDRANT__SERVICE__HOST",
            "AUTHENTICATION_ANONYMOUS_ACCESS_ENABLED", "AUTHENTICATION_APIKEY_ENABLED", "WEBUI_AUTH", "N8N_BASIC_AUTH_ACTIVE",
            "AUTHENTICATION_OIDC_ENABLED", "QDRANT__SERVICE__ENABLE_TLS", "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS",
            "AIRFLOW__CORE__AUTH_MANAGER", "LANGFLOW_AUTO_LOGIN", "DANGEROUSLY_OMIT_AUTH", "DCGM_EXPORTER_LISTEN",
            "DCGM_EXPORTER_WEB_CONFIG_FILE", "SLURMRESTD_LISTEN", "JUPYTER_CONFIG_DIR", "JUPYTER_CONFIG_PATH", "LLAMA_ARG_HOST",
            "TS_CONFIG_FILE", "RAY_TLS_SERVER_CERT",
        ],
        "env_secret": [
            "JUPYTER_TOKEN", "VLLM_API_KEY", "SGLANG_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
            "HUGGINGFACE_TOKEN", "WANDB_API_KEY", "NGC_API_KEY", "NVIDIA_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
            "AZURE_CLIENT_SECRET", "GITHUB_TOKEN", "GITLAB_TOKEN", "COMET_API_KEY", "KAGGLE_KEY", "RAY_AUTH_TOKEN", "API_KEY",
            "MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", "POSTGRES_PASSWORD", "REDIS_PASSWORD", "QDRANT__SERVICE__API_KEY",
            "LITELLM_MASTER_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_FLASK_SERVER_SECRET_KEY",
            "JUPYTERHUB_API_TOKEN", "CONFIGPROXY_AUTH_TOKEN", "ELASTIC_PASSWORD", "GF_SECURITY_ADMIN_PASSWORD", "PREFECT_API_AUTH_STRING",
            "PREFECT_SERVER_API_AUTH_STRING", "KG_AUTH_TOKEN", "EG_AUTH_TOKEN", "FLOWER_BASIC_AUTH", "LLAMA_API_KEY", "LOCALAI_API_KEY",
        ],
    },
    "proc_pid_cmdline(5), proc_pid_status(5), proc_pid_environ(5): command lines and chosen variables, secrets reduced on the node.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class Process:
    """A process with a command line of its own; kernel threads have none. Source: /proc/PID."""

    pid: Annotated[int, "Process id"]
    parent: Annotated[int, "Process id of its parent"]
    name: Annotated[str | None, "Command name, at most 15 characters"]
    program: Annotated[str | None, "Path of the program; ends with ` (deleted)` if its file is gone; NULL if it may not be seen"]
    command: Annotated[str, "Command line, secrets reduced to <secret:KIND:LENGTH>, at most 4096 characters"]
    uid: Annotated[int, "Real user"]
    effective_uid: Annotated[int, "User whose rights it has"]
    capabilities: Annotated[str | None, "Effective capabilities, a bit mask in hex"]
    no_new_privileges: Annotated[bool | None, "It and its children can gain no rights by execve"]
    seccomp: Annotated[int | None, "0 none, 1 strict, 2 filter"]
    contained: Annotated[bool, "It runs in a process namespace of its own, as in a container"]
    container: Annotated[str | None, "Id of the container, from the name of its control group"]
    unit: Annotated[str | None, "systemd unit or slice that it belongs to, from its control group"]
    label: Annotated[str | None, "AppArmor profile or SELinux context; NULL: none, or it may not be seen"]


REPLACED = Source(
    SourceId("replaced-files"), "replaced_files", {},
    "proc_pid_maps(5), of processes in services of systemd alone: code that they run from files that were replaced or removed.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class ReplacedFile:
    """A program or library that a service still runs, though an update replaced its file or removed it. Source: /proc/PID/maps."""

    unit: Annotated[str, "systemd unit of the service"]
    path: Annotated[str, "Program or library"]
    processes: Annotated[int, "Processes of the unit that run it"]


def documents(evidence: Bundle) -> list[dict[str, Any]]:
    """The processes as the reader tells them; a gap where these are not all. Raises `NotUnderstood`."""
    document = evidence.document(PROCESSES)
    rows = document.get("processes") if isinstance(document, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise NotUnderstood(f"{PROCESSES.id}: no list of processes")
    if document.get("gap") or "gap" not in document:
        evidence.gap(PROCESSES, str(document.get("gap", "not said whether these are all")))
    return rows


def container_of(cgroup: str | None) -> str | None:
    """The container's id in the path of a control group: 64 hex digits, as docker, containerd, CRI-O and podman name it."""
    found = re.findall(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])", cgroup or "")
    return found[-1] if found else None


def in_container(row: Mapping[str, Any]) -> bool | None:
    """Whether a process of the reader's runs in a container, by its process namespace or control group; None if that was not read."""
    if row["contained"] or container_of(row["cgroup"]):
        return True
    return None if row["cgroup"] is None else False


def unit_of(cgroup: str | None) -> str | None:
    """The innermost systemd unit in the path of a control group."""
    found = re.findall(r"[^/]+\.(?:service|scope|slice)(?=/|$)", cgroup or "")
    return found[-1] if found else None


def parse_processes(evidence: Bundle) -> Iterable[Process]:
    """A row per process."""
    for row in documents(evidence):
        try:
            privileges = {"0": False, "1": True}.get(row["no_new_privs"] or "")
            seccomp = int(row["seccomp"]) if row["seccomp"] is not None else None
            label = row["label"] if row["label"] not in ("", None) else None
            yield Process(
                row["pid"], row["ppid"], row["comm"], row["exe"], " ".join(row["argv"]), row["uid"], row["euid"], row["caps"] or None,
                privileges, seccomp, row["contained"], container_of(row["cgroup"]), unit_of(row["cgroup"]), label,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            evidence.gap(PROCESSES, "a process that is not understood")


def parse_replaced(evidence: Bundle) -> Iterable[ReplacedFile]:
    """A row per service and file."""
    document = evidence.document(REPLACED)
    rows = document.get("replaced") if isinstance(document, dict) else None
    if not isinstance(rows, list) or "gap" not in document:
        raise NotUnderstood(f"{REPLACED.id}: no list of replaced files")
    if document["gap"]:
        evidence.gap(REPLACED, str(document["gap"]))
    for row in rows:
        try:
            yield ReplacedFile(row["unit"], row["path"], row["processes"])
        except (KeyError, TypeError):
            evidence.gap(REPLACED, "an entry that is not understood")


TABLES = (
    Table("processes", Process, (PROCESSES,), parse_processes), Table("replaced_files", ReplacedFile, (REPLACED,), parse_replaced),
)  # fmt: skip
