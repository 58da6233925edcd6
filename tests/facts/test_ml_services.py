# SPDX-License-Identifier: Apache-2.0
"""Services of training and inference: what they are known by, what asks for a login, and their settings.

Processes and sockets as the readers tell them (probe/node/processes.py); command lines are synthetic, after the vendors' documentation
that services.yaml names.
"""

from __future__ import annotations

import json
import re
import socket as sockets
import subprocess
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.accounts.local import PASSWD
from fleet_audit.facts.base import Item
from fleet_audit.facts.jobs.site_units import UNITS
from fleet_audit.facts.ml_services import TABLES
from fleet_audit.facts.ml_services.known import as_of, by_port, identify, services
from fleet_audit.facts.ml_services.settings import FILES, HOMES
from fleet_audit.facts.namespaces import NAMESPACES
from fleet_audit.facts.network import SOCKETS
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Coverage, Source, SourceId, Status
from tests.probe.nodes import carried, opened_to_all

from .helpers import ok, rows_as_dicts, run, shared, status
from .laws import cut_short, never_emptier

SERVICES, SETTINGS, USERS = TABLES
Evidence = dict[SourceId, Item]
ID = "3f" * 32
DOCKER = f"/system.slice/docker-{ID}.scope"
PASSWDS = "root:shadowed:0:0::/root:/bin/sh\nada:shadowed:1000:1000::/home/ada:/bin/sh\n"


def process(pid: int, command: str, ppid: int = 1, exe: str | None = "/usr/bin/python3.11", **more: Any) -> dict[str, Any]:
    row = {
        "pid": pid, "ppid": ppid, "uid": 1000, "euid": 1000, "comm": "python3", "exe": exe, "argv": command.split(" "), "cut": False,
        "caps": "0", "no_new_privs": "0", "seccomp": "0", "contained": False, "cgroup": "/user.slice", "label": None, "env": {},
    }  # fmt: skip
    return row | more


def held(port: int, *pids: int, address: str = "00000000", kind: str = "tcp", **more: Any) -> dict[str, Any]:
    owners = [{"pid": pid, "comm": "python3", "exe": "/usr/bin/python3.11"} for pid in pids]
    return {"kind": kind, "local": f"{address}:{port:04X}", "uid": "1000", "owners": owners} | more


def host(
    *processes: dict[str, Any], held: Any = (), inner: Any = (), files: Any = None, homes: Any = None, passwd: str = PASSWDS, gap: str = "",
    owners_gap: str = "", namespaces_gap: str = "",
) -> Evidence:  # fmt: skip
    init = process(1, "/sbin/init", 0, "/usr/lib/systemd/systemd", comm="systemd", uid=0)
    return {
        PROCESSES.id: ok(json.dumps({"processes": [init, *processes], "kernel_threads": 9, "gap": gap})),
        SOCKETS.id: ok(json.dumps({"sockets": list(held), "unread": {}, "owners_gap": owners_gap})),
        NAMESPACES.id: ok(json.dumps({
            "sockets": list(inner), "unread": {}, "owners_gap": "", "namespaces": [], "namespaces_gap": namespaces_gap,
        })),
        FILES.id: ok(json.dumps(files or {})), HOMES.id: ok(json.dumps(homes or {})), PASSWD.id: ok(passwd),
    }  # fmt: skip


def rows(evidence: Evidence) -> list[dict[str, Any]]:
    return rows_as_dicts(SERVICES, run(SERVICES, evidence))


def only(evidence: Evidence, coverage: Coverage = Coverage.COMPLETE) -> dict[str, Any]:
    extracted = run(SERVICES, evidence)
    assert extracted.coverage is coverage, extracted.reason
    (row,) = rows_as_dicts(SERVICES, extracted)
    return row


# --- What is known -------------------------------------------------------------------------------


def test_data_agree_with_the_reference_and_are_dated() -> None:
    reference = {entry["id"]: entry for entry in yaml.safe_load(shared("reference/ml-ports.yaml").read_text())["services"]}
    same = {known.id for known in services().values()} & set(reference)
    assert as_of() == date(2026, 11, 23) and len(same) > 60
    for name in same - {"jupyterhub"}:  # here with its API's ports, there two services
        ports = {int(port) for text in reference[name]["ports"] if "-" not in text for port in [text.partition("/")[0]]}
        assert all(services()[name].has_port(port) for port in ports) or name in ("dask-scheduler", "alertmanager"), name
    for known in services().values():
        assert known.source.startswith("https://") and known.auth_default in ("none", "yes", "varies") and known.command, known.id
        assert known.category in {"ml-compute", "ml-serving", "mlops", "notebook", "data", "files", "gpu", "hpc", "observability"}
        assert not known.process & {"python", "python3", "java", "node", "uvicorn", "gunicorn", "server", "cmd"}, known.id
        assert not known.settled or known.auth_default != "varies", known.id


def test_every_variable_of_a_rule_is_read_from_processes() -> None:
    read = {*PROCESSES.args["env"], *PROCESSES.args["env_secret"]}
    for known in services().values():
        for rule in (rule for rules in known.rules.values() for rule in rules):
            assert rule.startswith(("-", "~")) or rule.partition("=")[0] in read, (known.id, rule)
            assert not rule.startswith("~") or re.compile(rule[1:])
    assert not set(PROCESSES.args["env"]) & set(PROCESSES.args["env_secret"])


def test_no_expression_backtracks_on_hostile_command_lines() -> None:
    patterns = [pattern for known in services().values() for pattern in known.command]
    patterns += [
        re.compile(rule[1:]) for known in services().values() for rules in known.rules.values() for rule in rules if rule[0] == "~"
    ]
    parts = ["a", " ", "-", "a-", "ray start ", "/", "..", "tensorboard ", "--", "\n", "x.py ", "_", "h2o"]
    for hostile in [(part * 4096)[:4096] for part in parts]:
        begin = time.process_time()
        for pattern in patterns:
            pattern.search(hostile)
        assert time.process_time() - begin < 1, hostile[:20]
    begin = time.process_time()
    for pattern in patterns:  # each on what it likes best, without its end
        word = max(re.findall(r"[A-Za-z0-9_./-]{3,}", re.sub(r"\\[bws]", "", pattern.pattern)) or ["x"], key=len)
        first = re.findall(r"[A-Za-z0-9_-]{3,}", re.sub(r"\\[bws]", "", pattern.pattern))[:1]
        for one in (word, *first):
            pattern.search(((one + " ") * 4096)[:4096])
            pattern.search(((" -" + one) * 4096)[:4096])
    assert time.process_time() - begin < 1


def test_only_the_head_of_a_command_line_is_searched() -> None:
    assert identify(frozenset({"x"}), "y" * 4096 + " vllm serve") == {}
    begin = time.process_time()
    identify(frozenset({"x"}), "tensorboard.main " * 100_000)
    assert time.process_time() - begin < 1


COMMANDS = [
    ("jupyter", "/usr/bin/python3 /usr/local/bin/jupyter-lab --ip=0.0.0.0"), ("jupyter", "python -m jupyterlab --port 9999"),
    ("jupyter", "/opt/conda/bin/python /opt/conda/bin/jupyterhub-singleuser --port=0"),
    ("jupyterhub", "/usr/bin/python3 /usr/bin/jupyterhub -f x.py"),
    ("jupyterhub", "node /usr/local/bin/configurable-http-proxy --ip --port 8000"),
    ("mlflow", "/usr/bin/python3 /usr/bin/mlflow server --host 0.0.0.0"),
    ("mlflow", "gunicorn -b 127.0.0.1:5000 -w 4 mlflow.server:app"), ("ray-gcs", "/x/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp"),
    ("ray-dashboard", "/usr/bin/python3 /x/ray/dashboard/dashboard.py --host=127.0.0.1"), ("ray-worker", "ray::IDLE"),
    ("tensorboard", "/usr/bin/python3 /usr/bin/tensorboard --logdir=/runs --bind_all"),
    ("torchserve", "java -Xmx1g org.pytorch.serve.ModelServer --python"),
    ("triton", "tritonserver --model-repository=/models"), ("vllm", "/usr/bin/python3 /usr/local/bin/vllm serve Qwen/Qwen3-8B"),
    ("vllm", "python3 -m vllm.entrypoints.openai.api_server --model x"), ("sglang", "python3 -m sglang.launch_server --model-path x"),
    ("ollama", "/usr/local/bin/ollama serve"), ("tgi", "text-generation-launcher --model-id x"),
    ("airflow", "/usr/bin/python3 /usr/bin/airflow api-server"),
    ("dask-scheduler", "/usr/bin/python3 /usr/bin/dask scheduler"), ("minio", "/usr/local/bin/minio server /data"),
    ("redis", "/usr/bin/redis-server 127.0.0.1:6379"),
    ("gradio", "python3 launch.py --listen --share"), ("streamlit", "/usr/bin/python3 /usr/bin/streamlit run app.py"),
    ("label-studio", "/usr/bin/python3 /usr/bin/label-studio start"), ("prometheus", "/usr/bin/prometheus --config.file=/etc/p.yml"),
    ("node-exporter", "/usr/bin/prometheus-node-exporter"), ("dcgm-exporter", "/usr/bin/dcgm-exporter -f /etc/x.csv"), ("qdrant", "./qdrant"),
    ("milvus", "milvus run standalone"),
    ("elasticsearch", "/usr/share/elasticsearch/jdk/bin/java -Xms1g org.elasticsearch.bootstrap.Elasticsearch"),
    ("slurmrestd", "/usr/sbin/slurmrestd 0.0.0.0:6820"), ("llama-cpp", "./llama-server -m x.gguf"), ("http-server", "python3 -m http.server 8000"),
    ("rclone", "rclone serve http remote:"), ("open-webui", "/usr/bin/python3 /usr/local/bin/open-webui serve"),
    ("comfyui", "python3 /opt/ComfyUI/main.py --listen"),
]  # fmt: skip


@pytest.mark.parametrize(("service", "command"), COMMANDS)
def test_services_are_known_by_their_command_lines(service: str, command: str) -> None:
    assert identify(frozenset({"python3"}), command).get(service) == "command"


@pytest.mark.parametrize("command", [
    "python3 train.py --epochs 3", "/usr/lib/jvm/bin/java -jar app.jar", "node server.js", "python3 -m pytest tests/test_jupyter.py",
    "/usr/bin/python3 -m ipykernel_launcher -f /x/kernel.json", "/usr/sbin/sshd -D", "python3 /srv/my_tensorboardish.py", "nginx: worker process",
    "mlflow-cleaner", "/usr/bin/python3 /usr/bin/networkd-dispatcher",
])  # fmt: skip
def test_other_programs_are_none_of_them(command: str) -> None:
    assert identify(frozenset({"python3"}), command) == {}


@pytest.mark.parametrize("program", ["bash", "vim", "tail", "grep", "ssh", "sudo", "docker", "srun", "journalctl", "git"])
def test_a_program_that_names_a_service_is_not_it(program: str) -> None:
    command = f"{program} -c vllm serve x; ollama serve; jupyter lab"
    evidence = host(process(10, command, exe=f"/usr/bin/{program}", comm=program))
    assert (run(SERVICES, evidence).coverage, rows(evidence)) == (Coverage.COMPLETE, [])


# --- Where it listens ----------------------------------------------------------------------------


def test_a_service_with_its_socket() -> None:
    evidence = host(process(10, "/usr/bin/python3 /usr/local/bin/vllm serve Qwen/Qwen3-8B --port 8000"), held=[held(8000, 10)])
    never_emptier(SERVICES, evidence)
    for source in (PROCESSES, SOCKETS, NAMESPACES):
        assert list(cut_short(SERVICES, evidence, source, step=60))
    assert only(evidence) == {
        "service": "vllm", "name": "vLLM", "category": "ml-serving", "found_by": "port and command", "pid": 10, "process": "python3", "uid": 1000,
        "contained": False, "container": None, "namespaced": False, "namespace": None, "proto": "tcp", "address": "0.0.0.0", "port": 8000,
        "scope": "all", "auth": False,
        "auth_evidence": "vendor's default (no login); the command line sets nothing else", "auth_default": "none", "tls": False,
    }  # fmt: skip


@pytest.mark.parametrize(("address", "kind", "scope"), [
    ("0100007F", "tcp", "loopback"), ("0100000A", "tcp", "private"), ("08080808", "tcp", "public"), ("0" * 32, "tcp6", "all"),
    ("0000000000000000FFFF00000100007F", "tcp6", "loopback"),
])  # fmt: skip
def test_scopes(address: str, kind: str, scope: str) -> None:
    row = only(host(process(10, "ollama serve", exe="/usr/local/bin/ollama"), held=[held(9999, 10, address=address, kind=kind)]))
    assert (row["scope"], row["port"], row["found_by"], row["proto"]) == (scope, 9999, "command", "tcp")


def test_a_process_by_its_name_alone() -> None:
    row = only(host(process(10, "", exe="/usr/sbin/nv-hostengine", argv=["x"]), held=[held(5555, 10)]))
    assert (row["service"], row["found_by"], row["auth"], row["auth_evidence"]) == ("dcgm-hostengine", "port and process", None, None)


def test_a_service_without_a_socket_has_one_row() -> None:
    evidence = host(process(10, "vllm serve x"), process(11, "VLLM::EngineCore", 10), process(12, "VLLM::Worker", 11))
    row = only(evidence)
    assert (row["pid"], row["scope"], row["address"], row["port"], row["proto"]) == (10, "none", None, None, None)


@pytest.mark.parametrize(
    "change", [{"owners_gap": "descriptors of 3 processes not readable"}, {"namespaces_gap": "2 not readable"}, {"gap": "x"}]
)
def test_where_a_socket_may_be_unseen_its_absence_is_not_told(change: dict[str, str]) -> None:
    row = only(host(process(10, "vllm serve x"), **change), Coverage.PARTIAL)
    assert row["scope"] == ("none" if "gap" in change else None)


@pytest.mark.parametrize("source", [SOCKETS, NAMESPACES])
@pytest.mark.parametrize("item", [status(Status.DENIED), status(Status.ABSENT, "not recorded"), ok("{}"), ok("x"), ok("[]")])
def test_without_sockets_addresses_are_not_told(source: Source, item: Item) -> None:
    row = only(host(process(10, "vllm serve x")) | {source.id: item}, Coverage.PARTIAL)
    assert row["scope"] is None


def test_workers_of_one_socket_are_one_row_and_forebears_none() -> None:
    evidence = host(
        process(10, "/usr/bin/mlflow server --app-name basic-auth"), process(11, "gunicorn mlflow.server:app", 10),
        process(12, "gunicorn mlflow.server:app", 11), held=[held(5000, 11, 12)],
    )  # fmt: skip
    row = only(evidence)
    assert (row["pid"], row["auth"], row["auth_evidence"]) == (11, True, "--app-name=basic-auth")


def test_a_service_in_a_container() -> None:
    evidence = host(
        process(10, "vllm serve x", cgroup=DOCKER, contained=True), inner=[held(8000, 10, namespace="4026532300", pid=10)],
        held=[held(11434, 20), held(8000, 21)],
    )  # fmt: skip
    first, second = rows(evidence)
    assert [first[name] for name in ("contained", "container", "namespaced", "namespace", "address", "found_by")] == [
        True, ID, True, "4026532300", "0.0.0.0", "port and command",
    ]  # fmt: skip
    assert [second[name] for name in ("contained", "namespaced", "namespace", "found_by", "service")] == [
        None,
        False,
        None,
        "port",
        "ollama",
    ]


@pytest.mark.parametrize(("more", "contained"), [
    ({}, False), ({"contained": True}, True), ({"cgroup": DOCKER}, True), ({"cgroup": None}, None), ({"cgroup": None, "contained": True}, True),
])  # fmt: skip
def test_whether_a_service_is_in_a_container_is_told_apart_from_not_knowing(more: dict[str, Any], contained: bool | None) -> None:
    assert only(host(process(10, "vllm serve x", **more)))["contained"] is contained


def test_a_port_alone_is_said_to_be_no_proof() -> None:
    for evidence in (host(held=[held(11434)]), host(process(10, "python3 app.py"), held=[held(11434, 10)])):
        row = only(evidence)
        assert (row["service"], row["found_by"], row["auth"], row["tls"], row["auth_default"]) == ("ollama", "port", None, None, "none")
    assert rows(host(process(10, "nginx", exe="/usr/sbin/nginx", comm="nginx"), held=[held(11434, 10)])) == []
    assert rows(host(process(10, "python3 app.py"), held=[held(8080, 10), held(11434, 10, kind="udp"), held(40000, 10)])) == []
    assert by_port(8080) == () and len(by_port(6379)) == 2


def test_no_service_is_complete_without_rows() -> None:
    evidence = host(process(10, "python3 train.py"))
    assert (run(SERVICES, evidence).coverage, rows(evidence)) == (Coverage.COMPLETE, [])
    never_emptier(SERVICES, evidence)


# --- Logins --------------------------------------------------------------------------------------

SECRET = "<secret:value:20>"


@pytest.mark.parametrize(("command", "env", "auth", "evidence"), [
    (f"vllm serve x --api-key {SECRET}", {}, True, "--api-key"), (f"vllm serve x --api-key={SECRET}", {}, True, "--api-key"),
    ("vllm serve x --api-key ", {}, False, None), ("vllm serve x --api-key=", {}, False, None),
    ("vllm serve x", {"VLLM_API_KEY": SECRET}, True, "VLLM_API_KEY"),
    ("vllm serve x", {"VLLM_API_KEY": ""}, False, None), ("vllm serve x", None, None, None),
    ("vllm serve x --config a.yaml", {}, None, "--config: what that"),
    ("vllm serve x --api-key <secret:default:8>", {}, False, "--api-key is a publicly known default"),
    ("jupyter-lab --ServerApp.token=", {}, False, "--ServerApp.token="), ("jupyter-lab --ServerApp.token=''", {}, False, "--ServerApp.token="),
    (f"jupyter-lab --NotebookApp.token {SECRET}", {}, True, "--NotebookApp.token"),
    ("jupyter-lab", {"JUPYTER_TOKEN": SECRET}, True, "JUPYTER_TOKEN"),
    ("jupyter-lab --ServerApp.token= --ServerApp.password=<secret:hash:80>", {}, None, "contradictory"),
    (f"jupyter-lab --ServerApp.allow_unauthenticated_access=True --ServerApp.token={SECRET}", {}, True, "--ServerApp.token"),
    ("jupyter-lab --ServerApp.allow_unauthenticated_access=True", {}, None, None),
    ("jupyterhub-singleuser", {"JUPYTERHUB_API_TOKEN": SECRET}, True, "JUPYTERHUB_API_TOKEN"), ("jupyter-lab --config=/x.py", {}, None, "--config"),
    ("tensorboard --logdir /x", {}, False, "vendor's default"), ("ollama serve", None, False, "vendor's default"),
    ("mlflow server", {}, False, "vendor's default"), ("mlflow server --app-name=basic-auth", {}, True, "basic-auth"),
    ("mlflow server --app-name oidc", {}, None, "--app-name"),
    ("ray::IDLE", {"RAY_AUTH_MODE": "token"}, True, "RAY_AUTH_MODE=token"), ("ray::IDLE", {"RAY_AUTH_MODE": "disabled"}, False, "RAY_AUTH_MODE"),
    ("ray::IDLE", {}, None, None),
    ("tritonserver --model-repository=/m", {}, False, "vendor's default"),
    ("tritonserver --model-repository=/m --http-restricted-api=x:k=v", {}, None, "--http-restricted-api"),
    ("minio server /d", {"MINIO_ROOT_PASSWORD": "<secret:default:10>"}, False, "MINIO_ROOT_PASSWORD is a publicly"),
    ("minio server /d", {"MINIO_ROOT_PASSWORD": SECRET}, True, "MINIO"),
    ("minio server /d", {}, None, None), ("dcgm-exporter", {"DCGM_EXPORTER_WEB_CONFIG_FILE": "/x"}, None, "DCGM_EXPORTER_WEB_CONFIG_FILE"),
    ("dcgm-exporter", {}, False, "vendor"),
    ("org.pytorch.serve.ModelServer --disable-token-auth", {}, False, "--disable-token-auth"), ("org.pytorch.serve.ModelServer", {}, None, None),
    ("dask scheduler", {}, None, None), ("dask scheduler --tls-ca-file /x", {}, True, "--tls-ca-file"),
    ("code-server --auth none", {}, False, "--auth=none"),
    ("slurmrestd 0.0.0.0:6820", {}, True, "vendor's default (a login)"), ("open-webui serve", {"WEBUI_AUTH": "False"}, False, "WEBUI_AUTH=false"),
    ("open-webui serve", {}, True, "default"),
])  # fmt: skip
def test_logins(command: str, env: Any, auth: bool | None, evidence: str | None) -> None:
    row = only(host(process(10, command, env=env, contained=True)))
    assert row["auth"] is auth, row
    assert evidence is None or evidence in (row["auth_evidence"] or "")
    assert row["auth"] is None or row["auth_evidence"]


def test_a_command_line_that_was_cut_proves_no_default() -> None:
    row = only(host(process(10, "vllm serve x ... z", cut=True)))
    assert (row["auth"], row["tls"]) == (None, None)
    row = only(host(process(10, f"vllm serve x --api-key {SECRET} ... z", cut=True)))
    assert row["auth"] is True


def test_flags_of_a_parent_count_for_a_worker() -> None:
    evidence = host(
        process(10, f"vllm serve x --api-key {SECRET} --ssl-certfile /c"), process(11, "VLLM::EngineCore", 10), held=[held(8000, 11)]
    )
    row = only(evidence)
    assert (row["pid"], row["auth"], row["tls"]) == (11, True, True)


JUPYTER = "/usr/bin/python3 /usr/local/bin/jupyter-lab --ip=0.0.0.0"


def jupyter_home(text: str, name: str = "jupyter_server_config.py", user: str = "ada") -> dict[str, Any]:
    return {f"/home/{user}/.jupyter/{name}": {"user": user, "uid": 1000, "mode": 0o600, "text": text, "left": 0}}


@pytest.mark.parametrize(("homes", "files", "auth", "evidence"), [
    ({}, {}, True, "vendor's default (a token)"), (jupyter_home("c.ServerApp.token = ''\n"), {}, False, "ServerApp.token is empty in /home/ada"),
    (jupyter_home("c.ServerApp.token = ''\nc.ServerApp.password = 'argon2:<secret:hash:80>'\n"), {}, True, "ServerApp.password in"),
    (jupyter_home("c.ServerApp.token = os.environ['T']\n"), {}, None, "is computed"), (jupyter_home("# c.ServerApp.token = ''\n"),
    {}, True, "default"),
    (jupyter_home('{"IdentityProvider": {"hashed_password": "<secret:hash:80>"}}', "jupyter_server_config.json"), {}, True, "hashed_password"),
    (jupyter_home('{"ServerApp": {"token": ""}}', "jupyter_server_config.json"), {}, False, "is empty"),
    (jupyter_home("c.ServerApp.token = ''\n", user="bob"), {}, True, "default"),
    ({}, {"/etc/jupyter/jupyter_server_config.py": {"text": "c.ServerApp.token=''"}}, False, "/etc/jupyter"),
    (jupyter_home("c.ServerApp.identity_provider_class = 'x.Y'\n"), {}, None, "changes how"),
    # Jupyter Server 2's default: it opens endpoints that have no rule of their own, and switches no login off.
    (jupyter_home("c.ServerApp.allow_unauthenticated_access = True\n"), {}, True, "vendor's default (a token)"),
])  # fmt: skip
def test_jupyter_by_its_configuration(homes: Any, files: Any, auth: bool | None, evidence: str) -> None:
    held_by = [held(8888, 10)]
    row = only(host(process(10, JUPYTER), homes=homes, files=files, held=held_by))
    assert row["auth"] is auth and evidence in (row["auth_evidence"] or "")
    never_emptier(SERVICES, host(process(10, JUPYTER), homes=homes, files=files, held=held_by))


@pytest.mark.parametrize(("command", "auth"), [
    ("/opt/conda/bin/python /opt/conda/bin/jupyter-lab", True), ("/home/ada/miniconda3/bin/python3.11 /home/ada/miniconda3/bin/jupyter-lab", None),
    ("/opt/a/venv/bin/python3 -m jupyter lab", None), ("python -m jupyter lab", None), ("/usr/bin/python3.11 -m jupyter lab", True),
])  # fmt: skip
def test_the_default_counts_where_the_prefix_of_the_python_was_read(command: str, auth: bool | None) -> None:
    assert only(host(process(10, command)))["auth"] is auth


def test_jupyter_is_told_by_the_files_that_it_reads() -> None:
    off = {"/opt/conda/etc/jupyter/jupyter_server_config.py": {"text": "c.ServerApp.token = ''\n"}}
    for prefix, auth in (("/opt/conda", False), ("/opt/other", True), ("/usr", True)):
        assert only(host(process(10, f"{prefix}/bin/python {prefix}/bin/jupyter-lab"), files=off))["auth"] is auth
    both = jupyter_home("c.ServerApp.token = 'x'\n")
    assert only(host(process(10, "/opt/conda/bin/python -m jupyter lab"), files=off, homes=both))["auth"] is None, (
        "which one wins is not told"
    )
    local = {"/home/ada/.local/etc/jupyter/jupyter_config.json": jupyter_home('{"ServerApp": {"token": ""}}').popitem()[1]}
    assert only(host(process(10, JUPYTER), homes=local))["auth"] is False


@pytest.mark.parametrize("left", [1, None])
def test_lines_of_a_home_that_are_not_read_may_set_more(left: int | None) -> None:
    homes = jupyter_home("c.ServerApp.password = 'argon2:<secret:hash:80>'\n")
    next(iter(homes.values()))["left"] = left
    assert only(host(process(10, JUPYTER), homes=homes), Coverage.PARTIAL)["auth"] is None
    assert run(USERS, settings({}) | {HOMES.id: ok(json.dumps(homes))}).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(
    "homes", [{"/home/ada": {"user": "ada", "status": "failed", "detail": "network file system (nfs4)"}}, {"/h": {"user": 3}}]
)
def test_jupyter_without_its_configuration_is_not_told(homes: Any) -> None:
    row = only(host(process(10, JUPYTER), homes=homes), Coverage.PARTIAL)
    assert row["auth"] is None
    assert only(host(process(10, JUPYTER)) | {HOMES.id: status(Status.DENIED)}, Coverage.PARTIAL)["auth"] is None
    assert only(host(process(10, JUPYTER)) | {PASSWD.id: status(Status.DENIED)}, Coverage.PARTIAL)["auth"] is None
    assert only(host(process(10, JUPYTER, uid=4242)))["auth"] is None, "a user of a directory: the home was not looked at"
    assert only(host(process(10, JUPYTER, contained=True)))["auth"] is None, "its files are in the container"


def test_without_such_a_service_homes_do_not_matter() -> None:
    assert run(SERVICES, host(process(10, "ollama serve")) | {HOMES.id: status(Status.DENIED)}).coverage is Coverage.COMPLETE


REDIS = "/etc/redis/redis.conf"


@pytest.mark.parametrize(("files", "auth"), [
    ({REDIS: {"text": "bind 127.0.0.1\nrequirepass <secret:value:20>\n"}}, True), ({REDIS: {"text": "requirepass <secret:default:6>\n"}}, False),
    ({REDIS: {"text": "bind * -::*\nprotected-mode no\n# requirepass foobared\n"}}, False), ({REDIS: {"text": "include /x\n"}}, None), ({}, None),
    ({REDIS: {"text": "user default on <secret:value:9> ~* +@all\n"}}, None),
    ({REDIS: {"text": "port 1"}, "/etc/redis/b.conf": {"text": "port 2"}}, None),
    ({REDIS: {"text": "port 1\nrequirepass <secret:value:20>\n"}}, None),
    ({REDIS: {"text": "bind ::1"}, "/etc/redis/sentinel.conf": {"text": "port 26379\nrequirepass <secret:value:20>\n"}}, False),
    ({REDIS: {"text": "port 6379"}, "/etc/redis/b.conf": {"text": "requirepass <secret:value:20>\n"}}, None),
    ({REDIS: {"text": "requirepass <secret:value:20>\ninclude /x\n"}}, None),
])  # fmt: skip
def test_redis_by_its_configuration(files: Any, auth: bool | None) -> None:
    row = only(
        host(
            process(10, "/usr/bin/redis-server *:6379", exe="/usr/bin/redis-check-rdb", comm="redis-server"),
            held=[held(6379, 10)],
            files=files,
        )
    )
    assert row["auth"] is auth


@pytest.mark.parametrize("command", ["redis-server", "redis-server /srv/other.conf", "redis-server *:6380", "redis-server unixsocket:/x"])
def test_redis_whose_file_is_not_told(command: str) -> None:
    row = only(
        host(process(10, command, comm="redis-server"), held=[held(6380, 10)], files={REDIS: {"text": "requirepass <secret:value:20>"}})
    )
    assert row["auth"] is None


@pytest.mark.parametrize(
    ("line", "auth"), [("xpack.security.enabled: false", False), ("xpack.security.enabled: true", True), ("cluster.name: x", None)]
)
def test_elasticsearch_by_its_configuration(line: str, auth: bool | None) -> None:
    files = {"/etc/elasticsearch/elasticsearch.yml": {"text": line + "\n"}}
    server = process(11, "java -x org.elasticsearch.bootstrap.Elasticsearch", 10)
    for folder, told in (("/etc/elasticsearch", auth), ("/srv/es", None)):
        launcher = process(10, f"java -Des.path.conf={folder} org.elasticsearch.launcher.CliToolLauncher")
        assert only(host(launcher, server, held=[held(9200, 11)], files=files))["auth"] is told
    assert only(host(server, files=files))["auth"] is None


# --- Settings ------------------------------------------------------------------------------------


def settings(files: Any, units: Any = None) -> Evidence:
    return {FILES.id: ok(json.dumps(files)), UNITS.id: ok(json.dumps(units or {})), HOMES.id: ok(json.dumps(files))}


def found(files: Any, units: Any = None) -> list[tuple[Any, ...]]:
    evidence = settings({path: {"text": text} for path, text in files.items()}, units)
    extracted = run(SETTINGS, evidence)
    assert extracted.coverage is Coverage.COMPLETE, extracted.reason
    never_emptier(SETTINGS, evidence)
    return [(row["service"], row["section"], row["key"], row["value"]) for row in rows_as_dicts(SETTINGS, extracted)]


@pytest.mark.parametrize(("path", "text", "expected"), [
    ("/etc/jupyter/jupyter_server_config.py",
     "c = get_config()\nc.ServerApp.ip = '*'\nc.ServerApp.allow_root = True\n#c.ServerApp.port = 1\nc.X.y = f()\nx = 1\n",
     [("jupyter", None, "ServerApp.ip", "*"), ("jupyter", None, "ServerApp.allow_root", "True"), ("jupyter", None, "X.y", None)]),
    ("/opt/conda/etc/jupyter/jupyter_config.py",
     "import os\nc['ServerApp'][\"token\"] = ''\nc.X['y'] = {\n  # no\n  'a': 1,\n}\ndef f(x):\n    return x\n",
     [("jupyter", None, "ServerApp.token", ""), ("jupyter", None, "X.y", "{'a': 1}")]),
    ("/etc/jupyter/jupyter_server_config.d/a.json", '{"ServerApp": {"token": "", "x": [1, true]}}',
     [("jupyter", None, "ServerApp.token", ""), ("jupyter", None, "ServerApp.x", "[1, true]")]),
    ("/etc/jupyterhub/jupyterhub_config.py", "c.JupyterHub.authenticator_class = 'dummy'\n", [("jupyterhub", None,
     "JupyterHub.authenticator_class", "dummy")]),
    ("/etc/torchserve/config.properties", "# x\ninference_address=http://0.0.0.0:8080\ndisable_token_authorization = true\n",
     [("torchserve", None, "inference_address", "http://0.0.0.0:8080"), ("torchserve", None, "disable_token_authorization", "true")]),
    ("/opt/v/lib/python3.11/site-packages/mlflow/server/auth/basic_auth.ini",
     "[mlflow]\nadmin_username = admin\nadmin_password = <secret:default:12>\n",
     [("mlflow", "mlflow", "admin_username", "admin"), ("mlflow", "mlflow", "admin_password", "<secret:default:12>")]),
    ("/etc/airflow/airflow.cfg", "[core]\ndags_folder = /x\nauth_manager = a.b.C\n# y\n[api]\nauth_backends = airflow.api.auth.backend.deny_all\n",
     [("airflow", "core", "auth_manager", "a.b.C"), ("airflow", "api", "auth_backends", "airflow.api.auth.backend.deny_all")]),
    ("/etc/redis/redis.conf", "bind 127.0.0.1 -::1\nprotected-mode yes\nRequirePass \"<secret:value:9>\"\n",
     [("redis", None, "bind", "127.0.0.1 -::1"), ("redis", None, "protected-mode", "yes"), ("redis", None, "requirepass", "<secret:value:9>")]),
    ("/etc/prometheus/web.yml", "tls_server_config:\n  cert_file: a.crt\nbasic_auth_users:\n  ada: <secret:hash:60>\n",
     [("prometheus-web", None, "tls_server_config", ""), ("prometheus-web", None, "tls_server_config.cert_file", "a.crt"),
      ("prometheus-web", None, "basic_auth_users", ""), ("prometheus-web", None, "basic_auth_users.ada", "<secret:hash:60>")]),
    ("/etc/default/minio", 'MINIO_ROOT_PASSWORD="<secret:default:10>"\nexport MINIO_OPTS=--x\n',
     [("minio", None, "MINIO_ROOT_PASSWORD", "<secret:default:10>"), ("minio", None, "MINIO_OPTS", "--x")]),
    ("/etc/elasticsearch/elasticsearch.yml", "xpack.security.enabled: false\n", [("elasticsearch", None, "xpack.security.enabled", "false")]),
    ("/etc/mongod.conf", "security:\n  authorization: enabled\n", [("mongodb", None, "security", ""),
    ("mongodb", None, "security.authorization", "enabled")]),
])  # fmt: skip
def test_settings_of_each_kind(path: str, text: str, expected: Any) -> None:
    assert found({path: text}) == expected


@pytest.mark.parametrize("text", [
    "load_subconfig('x.py')\n", "cfg = c\n", "if f():\n    c.ServerApp.token = ''\n", "c.ServerApp.update(f())\n", "c.A.b == 1\n",
    "c.ServerApp.ip = c.ServerApp.token = ''\n", "c.ServerApp.ip = 'x'; c.ServerApp.token = ''\n", "exec(open('x').read())\n",
    '"""\nc.ServerApp.token = "x"\n"""\n', "for app in (c.ServerApp, c.LabApp):\n    app.token = ''\n", "get_config().ServerApp.token = ''\n",
])  # fmt: skip
def test_what_may_set_more_is_a_gap(text: str) -> None:
    extracted = run(SETTINGS, settings({"/etc/jupyter/jupyter_server_config.py": {"text": "c = get_config()\n" + text}}))
    assert extracted.coverage is Coverage.PARTIAL and all(
        row["value"] is None or '"""' in text for row in rows_as_dicts(SETTINGS, extracted)
    )
    files = {"/etc/jupyter/jupyter_server_config.py": {"text": text}}
    assert only(host(process(10, JUPYTER), files=files), Coverage.PARTIAL)["auth"] is None


def test_variables_of_units() -> None:
    units = {
        "/etc/systemd/system/ollama.service.d/override.conf": {
            "text": '[Service]\nEnvironment="OLLAMA_HOST=0.0.0.0:11434" OLLAMA_ORIGINS=*\nEnvironment=OTHER=1\n'
        },
        "/etc/systemd/system/vllm.service": {"text": "[Service]\nEnvironment=VLLM_API_KEY=<secret:value:20>\n#Environment=VLLM_PORT=1\n"},
        "/etc/systemd/system/apt-daily.timer": {"status": "failed", "detail": "not a regular file"},  # masked
    }  # fmt: skip
    assert found({}, units) == [
        ("ollama", "ollama.service", "OLLAMA_HOST", "0.0.0.0:11434"), ("ollama", "ollama.service", "OLLAMA_ORIGINS", "*"),
        ("vllm", "vllm.service", "VLLM_API_KEY", "<secret:value:20>"),
    ]  # fmt: skip


@pytest.mark.parametrize("entry", [
    {"status": "denied", "detail": "Permission denied"}, {"text": 3}, {}, {"text": "{"}, {"text": "[" * 100_000},
])  # fmt: skip
def test_a_file_that_was_not_read_or_understood_is_a_gap(entry: Any) -> None:
    evidence = settings({"/etc/jupyter/jupyter_server_config.json": entry, "/etc/redis/redis.conf": {"text": "bind x"}})
    for table in (SETTINGS, USERS):
        extracted = run(table, evidence)
        assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)


def test_settings_without_the_units_are_partial() -> None:
    evidence = settings({"/etc/redis/redis.conf": {"text": "bind x"}}) | {UNITS.id: status(Status.DENIED)}
    assert (run(SETTINGS, evidence).coverage, len(run(SETTINGS, evidence).rows)) == (Coverage.PARTIAL, 1)
    assert run(SETTINGS, {}).coverage is Coverage.NONE and run(USERS, {}).coverage is Coverage.NONE


@pytest.mark.parametrize(
    "value", ["(" * 3000, "-" * 3000 + "1", "9" * 1900, "'" + "a" * 5000 + "'", "[" * 300, "\x00", "{}[0]", "1e999", "b'\\xff'"]
)
def test_hostile_values_do_no_harm(value: str) -> None:
    begin = time.process_time()
    extracted = run(SETTINGS, settings({"/etc/jupyter/jupyter_server_config.py": {"text": f"c.A.b = {value}\n"}}))
    assert time.process_time() - begin < 2 and len(extracted.rows) == 1


def test_settings_cut_short() -> None:
    evidence = settings({"/etc/redis/redis.conf": {"text": "bind x\nport 1\n"}})
    assert list(cut_short(SETTINGS, evidence, FILES, step=9)) and list(cut_short(USERS, evidence, HOMES, step=9))


# --- Everything ----------------------------------------------------------------------------------


@pytest.mark.parametrize("item", [
    status(Status.ABSENT, "not recorded"), status(Status.DENIED), ok(""), ok("[]"), ok("{}"), ok('{"processes": [], "gap": ""}'), ok("x"),
])  # fmt: skip
def test_without_processes_nothing_is_said(item: Item) -> None:
    assert run(SERVICES, host(held=[held(11434)]) | {PROCESSES.id: item}).coverage is Coverage.NONE


@pytest.mark.parametrize("change", [{"argv": 3}, {"argv": [3]}, {"pid": "x"}, {"env": 3}, {"cgroup": 3}, {"argv": None}])
def test_a_process_that_is_not_understood_is_a_gap(change: dict[str, Any]) -> None:
    assert run(SERVICES, host(process(10, "vllm serve x") | change)).coverage is not Coverage.COMPLETE


@given(st.binary(max_size=200), st.sampled_from([PROCESSES, SOCKETS, NAMESPACES, FILES, HOMES, PASSWD, UNITS]))
def test_no_bytes_raise(body: bytes, source: Source) -> None:
    evidence = host(process(10, JUPYTER), held=[held(8888, 10)]) | {UNITS.id: ok("{}")}
    for table in TABLES:
        extracted = run(table, evidence | {source.id: ok(body)})
        assert {row[0] for row in extracted.rows} <= {"jupyter"}


@given(st.text(max_size=300))
def test_no_text_raises(text: str) -> None:
    paths = (
        "jupyter/jupyter_server_config.py",
        "jupyter/jupyter_server_config.json",
        "redis/redis.conf",
        "airflow/airflow.cfg",
        "prometheus/web.yml",
        "default/minio",
    )
    run(SETTINGS, settings({f"/etc/{path}": {"text": text} for path in paths}, {"/etc/systemd/system/x.service": {"text": text}}))
    run(SERVICES, host(process(10, text), process(11, "redis-server", argv=text.split("\n"))))


@pytest.mark.slow
def test_real_services_by_the_real_program(tmp_path: Path) -> None:
    """Processes of the test's own, read by the program that goes to nodes; a token never leaves it."""
    word = "S3cretWordOfTheTest42"
    (tmp_path / "vllm").write_text("import time; time.sleep(60)\n")
    with sockets.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"], cwd=tmp_path, stderr=subprocess.DEVNULL
    )
    model = subprocess.Popen([sys.executable, str(tmp_path / "vllm"), "serve", "x", "--api-key", word], env={"VLLM_API_KEY": word})
    try:
        for _ in range(200):
            with sockets.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        frames = carried([PROCESSES, SOCKETS, NAMESPACES]).frames
    finally:
        for child in (server, model):
            child.kill()
            child.wait()
    assert all(word.encode() not in frame.body for frame in frames.values())
    evidence = host() | {
        source.id: Item(Status(frames[source.id].status), frames[source.id].body) for source in (PROCESSES, SOCKETS, NAMESPACES)
    }
    by_pid = {row["pid"]: row for row in rows(evidence)}
    assert {name: by_pid[server.pid][name] for name in ("service", "found_by", "address", "port", "scope", "auth")} == {
        "service": "http-server", "found_by": "command", "address": "127.0.0.1", "port": port, "scope": "loopback", "auth": False,
    }  # fmt: skip
    assert (by_pid[model.pid]["service"], by_pid[model.pid]["auth"], by_pid[model.pid]["auth_evidence"]) == (
        "vllm",
        True,
        "--api-key, VLLM_API_KEY",
    )


@pytest.mark.slow
def test_real_files_by_the_real_program(tmp_path: Path) -> None:
    """A home with Jupyter's configuration: its values arrive, its secrets do not."""
    home = tmp_path / "ada"
    (home / ".jupyter").mkdir(parents=True)
    (home / ".jupyter" / "jupyter_server_config.py").write_text(
        "c = get_config()  #noqa\nc.ServerApp.ip = '0.0.0.0'\nc['ServerApp']['token'] = 'S3cretWordOfTheTest42'\nsecret = 'S3cretOther'\n"
    )
    passwd = tmp_path / "passwd"
    passwd.write_text(f"ada:x:0:0::{home}:/bin/sh\n")
    opened_to_all(tmp_path)
    frame = carried([HOMES], passwd=passwd).frames[HOMES.id]
    assert b"S3cret" not in frame.body
    extracted = run(USERS, {HOMES.id: Item(Status(frame.status), frame.body)})
    assert extracted.coverage is Coverage.PARTIAL and "lines that are not read" in extracted.reason
    assert [(row["key"], row["value"], row["user_name"]) for row in rows_as_dicts(USERS, extracted)] == [
        ("ServerApp.ip", "0.0.0.0", "ada"), ("ServerApp.token", "<secret:value:21>", "ada"),
    ]  # fmt: skip
