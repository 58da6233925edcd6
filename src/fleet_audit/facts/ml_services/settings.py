# SPDX-License-Identifier: Apache-2.0
"""Settings in the configuration files of such services. Python files are read as text: what is computed in them is not known."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.base import Bundle, NotUnderstood, Unread
from fleet_audit.facts.jobs.site_units import UNITS
from fleet_audit.facts.processes import PROCESSES
from fleet_audit.model import Source, SourceId

JUPYTER = ("/etc/jupyter", "/usr/etc/jupyter", "/usr/local/etc/jupyter", "/opt/*/etc/jupyter")
"""Folders of Jupyter's configuration that are read outside of homes: the system's, and that of a Python's prefix."""
_JUPYTER_NAMES = [
    *(f"jupyter_{name}config.{ending}" for name in ("", "server_", "notebook_", "lab_") for ending in ("py", "json")),
    *(f"jupyter_{name}_config.d/*.json" for name in ("server", "notebook")),
]
_MLFLOW = "lib/python3*/{}/mlflow/server/auth/basic_auth.ini"

FILES = Source(
    SourceId("ml-files"), "files",
    {"globs": [*(f"{folder}/{name}" for folder in JUPYTER for name in _JUPYTER_NAMES),
               "/etc/jupyterhub/*.py", "/opt/*/etc/jupyterhub/*.py", "/srv/jupyterhub/jupyterhub_config.py",
               "/etc/torchserve/*.properties", "/opt/torchserve/config.properties", "/home/model-server/config.properties",
               "/usr/" + _MLFLOW.format("dist-packages"), "/usr/local/" + _MLFLOW.format("*-packages"), "/opt/*/" + _MLFLOW.format("site-packages"),
               "/etc/mlflow/*.ini", "/etc/airflow/airflow.cfg", "/opt/airflow/airflow.cfg", "/srv/airflow/airflow.cfg",
               "/etc/redis.conf", "/etc/redis/*.conf", "/etc/valkey/*.conf", "/etc/prometheus/*web*.y*ml", "/etc/node_exporter/*.y*ml",
               "/etc/dcgm-exporter/*.y*ml", "/etc/elasticsearch/elasticsearch.yml", "/etc/opensearch/opensearch.yml", "/etc/mongod.conf",
               "/etc/qdrant/config.y*ml", "/etc/milvus/milvus.yaml", "/etc/milvus/configs/milvus.yaml", "/etc/default/minio",
               "/etc/dask/*.y*ml"],
     "cap_each": 1 << 18, "redact": True},
    "Jupyter Server, Config file and command line options; TorchServe, Advanced configuration; MLflow, Basic authentication; Airflow,"
    " Configuration reference; redis.conf; Prometheus, exporter-toolkit web configuration; elasticsearch.yml; MinIO's environment file.",
)  # fmt: skip
HOMES = Source(
    SourceId("ml-files-homes"), "home_lines",
    {"names": [*(f"{folder}/{name}" for folder in (".jupyter", ".local/etc/jupyter") for name in _JUPYTER_NAMES),
               "airflow/airflow.cfg", ".config/code-server/config.yaml", ".config/dask/*.yaml", ".mlflow/basic_auth.ini"],
     "keep": ["c.", "c[", "c =", "import ", "from ", "{", "}",
              '"', "[", "]", "admin_", "auth", "default_permission", "database_uri", "simple_auth", "rbac", "web_server",
              "base_url", "expose_config", "bind-addr", "password", "hashed-password", "cert", "distributed", "comm", "require-encryption", "tls"]},
    "The same files in homes: lines of the settings that count.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class MlSetting:
    """A setting of such a service outside of homes; one that is not set has no row. Source: the service's configuration file or unit."""

    service: Annotated[str, "Service, as in `ml_services`; prometheus-web for a web configuration of Prometheus and its exporters"]
    file: Annotated[str, "File that sets it"]
    user_name: Annotated[str | None, "In whose home the file is; NULL outside of homes"]
    section: Annotated[str | None, "Section of an ini file; unit's name for a variable of a unit"]
    key: Annotated[str, "Setting; dotted where they nest"]
    value: Annotated[
        str | None, "Value, secrets reduced to <secret:KIND:LENGTH>; NULL: computed by the file, or on lines that are not read"
    ]


class MlSettingOfUser(MlSetting):
    """A setting of such a service in a user's home; one that is not set has no row. Source: the service's configuration file."""


Found = Iterator[tuple[str | None, str, str | None]]
Reader = Callable[[str, list[str]], Found]


_TARGET = re.compile(r"(?m)^([ \t]*)c((?:\.\w{1,99}|\[[ \t]*[\"']\w{1,99}[\"'][ \t]*\]){1,9})[ \t]*=(?!=)")
_NO_SETTING = re.compile(r"c[ \t]*=[ \t]*get_config\(\)[ \t]*(?:#[^\n]*)?|(?:import|from)[ \t][^\n;]*")
_MAY_SET = re.compile(r"(?<![\w.\"'])(?:c|get_config|load_subconfig|exec|eval|globals|locals|vars|__import__)\b")


def _python(text: str, problems: list[str]) -> Found:
    """Assignments to `c.Class.trait` or `c["Class"]["trait"]`; a value that is no literal is not told, nor one under a condition."""
    for statement in re.split(r"\n(?=[^\s#)\]}])", "\n" + text):
        statement = re.sub(r"(?m)^[ \t]*#.*$", "", statement).strip("\n").rstrip()
        if (statement.count('"""') + statement.count("'''")) % 2:
            problems.append("a text of several lines that looks like settings")
        rest = statement
        if (target := _TARGET.match(statement)) and not target[1]:
            rest = statement[target.end() :]
            yield None, _dotted(target[2]), _literal(rest)
        if not _NO_SETTING.fullmatch(rest) and _MAY_SET.search(rest):
            problems.append("a statement that may set more")
            yield from ((None, _dotted(inner[2]), None) for inner in _TARGET.finditer(rest))


def _dotted(chain: str) -> str:
    """The names of a chain of attributes and keys."""
    return ".".join(re.findall(r"\w+", chain))


def _literal(written: str) -> str | None:
    try:
        value = ast.literal_eval(written.strip()[:2000])
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return None
    return value if isinstance(value, str) else str(value)[:2000]


def _json(text: str, problems: list[str]) -> Found:
    try:
        yield from ((None, key, value) for key, value in _flat(json.loads(text), ""))
    except (ValueError, RecursionError):
        problems.append("no JSON that is understood")


def _flat(value: Any, name: str) -> Iterator[tuple[str, str | None]]:
    if isinstance(value, dict) and name.count(".") < 8:
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
    elif name:
        yield name, value if isinstance(value, str) else json.dumps(value)


def _ini(text: str, problems: list[str]) -> Found:
    """Sections and `key = value`; indented lines go on a value, and are not read."""
    section = None
    for line in text.split("\n"):
        if not line.strip() or line[0] in "#; \t":
            continue
        key, equals, value = line.partition("=")
        if match := re.fullmatch(r"\[([^\]]+)\]\s*", line):
            section = match[1]
        elif equals and key.strip():
            yield section, key.strip(), value.strip()
        else:
            problems.append("a line that is no setting")


def _properties(text: str, problems: list[str]) -> Found:
    """Java's properties, and files of variables: a key, `=` or `:`, a value."""
    for line in text.split("\n"):
        line = line.strip()
        if not line or line[0] in "#!":
            continue
        match = re.fullmatch(r"(?:export )?([\w.-]+)\s*[=:]\s*(.*)", line)
        if match:
            yield None, match[1], match[2].strip("\"'")
        else:
            problems.append("a line that is no setting")


def _redis(text: str, problems: list[str]) -> Found:
    """A word and its arguments; keys are of any case."""
    for line in text.split("\n"):
        key, _, value = line.strip().partition(" ")
        if key and not key.startswith("#"):
            yield None, key.lower(), value.strip().strip("\"'")


def _yaml(text: str, problems: list[str]) -> Found:
    """Plain `key: value` lines, dotted by their indentation; lists and texts of several lines are not read."""
    above: list[tuple[int, str]] = []
    for line in text.split("\n"):
        match = re.fullmatch(r"( *)([\w.\"'/-]+)\s*:(?:\s+(.*))?", re.sub(r"(?:^|\s)#.*", "", line).rstrip())
        if match is None:
            continue
        indent, key, value = len(match[1]), match[2].strip("\"'"), (match[3] or "").strip()
        above = [(depth, name) for depth, name in above if depth < indent][:8]
        name = ".".join([name for _, name in above] + [key])
        if value:
            yield None, name, None if value[0] in "|>&*[{" else value.strip("\"'")
        else:
            yield None, name, ""
            above.append((indent, key))


_KINDS: tuple[tuple[str, str, Reader], ...] = (
    (r"/jupyterhub/[^/]+\.py", "jupyterhub", _python), (r"jupyter_(?:\w+_)?config\.py", "jupyter", _python),
    (r"jupyter_(?:\w+_)?config(?:\.d/[^/]+)?\.json", "jupyter", _json), (r"\.properties", "torchserve", _properties),
    (r"airflow\.cfg", "airflow", _ini), (r"\.ini", "mlflow", _ini), (r"/(?:redis|valkey)(?:/[^/]+)?\.conf", "redis", _redis),
    (r"/(?:prometheus|node_exporter|dcgm-exporter)/[^/]+", "prometheus-web", _yaml), (r"/(?:elastic|open)search\.yml", "elasticsearch", _yaml),
    (r"/mongod\.conf", "mongodb", _yaml), (r"/qdrant/[^/]+", "qdrant", _yaml), (r"/milvus\.yaml", "milvus", _yaml),
    (r"/minio", "minio", _properties), (r"/code-server/[^/]+", "code-server", _yaml), (r"/dask/[^/]+", "dask-scheduler", _yaml),
)  # fmt: skip
_ONLY = {
    "airflow": re.compile(r"auth|rbac|simple|web_server|base_url|expose|fernet|secret|load_examples|warn_deployment|sql_alchemy", re.I),
    "milvus": re.compile(r"auth|security|tls|password|address|port|secret|accessKey", re.I),
    "dask-scheduler": re.compile(r"comm|security|tls", re.I),
}
"""Of large files only these."""


def settings_of(evidence: Bundle, source: Source, path: str, entry: dict[str, Any]) -> Iterator[MlSetting]:
    """The settings of a file; what is not understood in it is a gap."""
    text, problems = entry.get("text"), list[str]()
    kind = next(((service, read) for end, service, read in _KINDS if re.search(f"(?:{end})$", path)), None)
    if not isinstance(text, str) or kind is None:
        evidence.gap(source, f"{path}: not understood")
        return
    service, read = kind
    user = entry.get("user")
    if source is HOMES and service == "jupyter" and entry.get("left") != 0:
        problems.append("lines that are not read may set more")
    for section, key, value in read(text, problems):
        if service not in _ONLY or _ONLY[service].search(key):
            yield MlSetting(service, path, user if isinstance(user, str) else None, section, key[:500], value)
    for problem in dict.fromkeys(problems):
        evidence.gap(source, f"{path}: {problem}")


def _variables(evidence: Bundle) -> Iterator[MlSetting]:
    """Environment= of the site's units, as far as a service of this kind reads such a variable."""
    wanted = frozenset(PROCESSES.args["env"]) | frozenset(PROCESSES.args["env_secret"])
    try:
        entries = evidence.entries(UNITS, masks=True)
    except (Unread, NotUnderstood) as error:  # what the other files say stays
        evidence.gaps.append(str(error))
        return
    for path, entry in entries.items():
        text = entry.get("text")
        if not isinstance(text, str):
            evidence.gap(UNITS, f"{path}: no text")
            continue
        unit = next(
            part.removesuffix(".d") for part in path.split("/")[::-1] if re.search(r"\.\w+(?:\.d)?$", part) and not part.endswith(".conf")
        )
        for line in re.findall(r"(?m)^[ \t]*Environment[ \t]*=(.*)$", text):
            for match in re.finditer(r"(?:^|\s)(?:\"(\w+)=([^\"]*)\"|'(\w+)=([^']*)'|(\w+)=([^\s\"']*))", line):
                name, value = next((match[i], match[i + 1]) for i in (1, 3, 5) if match[i])
                if name in wanted:
                    yield MlSetting(unit.rpartition(".")[0], path, None, unit, name, value)


def parse_files(evidence: Bundle) -> Iterable[MlSetting]:
    """A row per setting in files of the system, and per variable in the site's units."""
    for path, entry in evidence.entries(FILES).items():
        yield from settings_of(evidence, FILES, path, entry)
    yield from _variables(evidence)


def parse_homes(evidence: Bundle) -> Iterable[MlSetting]:
    """A row per setting in files in homes."""
    for path, entry in evidence.entries(HOMES).items():
        yield from settings_of(evidence, HOMES, path, entry)
