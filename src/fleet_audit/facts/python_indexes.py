# SPDX-License-Identifier: Apache-2.0
"""From where pip, uv and conda install, by their configuration files. It cannot know projects' own files, options and variables."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fleet_audit.facts.apt_sources import bare
from fleet_audit.facts.base import Bundle, Table
from fleet_audit.facts.dnf import ini
from fleet_audit.model import Source, SourceId

_CONDARC = ("/.condarc", "/condarc", "/condarc.d/*.yml", "/condarc.d/*.yaml")
_PREFIXES = ("/usr", "/usr/local", "/opt/*", "/opt/*/*", "/opt/*/envs/*", "/srv/*", "/srv/*/*")
_CONDA_KEYS = """channels channel_ channel: default_channels allowlist_channels whitelist_channels denylist_channels ssl_verify verify_ssl
custom_ migrated_ pinned_packages aggressive_update_packages create_default_packages disallow track_features envs_dirs envs_path pkgs_dirs
repodata_fns experimental preview plugins subdirs reporters proxy_servers export_platforms extra_platforms list_fields shortcuts_only
conda_build conda-build override_ virtual_ exclude_newer cooldown environment_specifier""".split()

FILES = Source(
    SourceId("python-index-files"), "files",
    {"globs": ["/etc/pip.conf", "/etc/xdg/pip/pip.conf", "/etc/uv/uv.toml", "/etc/xdg/uv/uv.toml",
               *(f"{base}{name}" for base in ("/etc/conda", "/var/lib/conda") for name in _CONDARC),
               *(f"{prefix}/pip.conf" for prefix in _PREFIXES), *(f"{prefix}{name}" for prefix in _PREFIXES[2:] for name in _CONDARC)],
     "cap_each": 1 << 17, "redact": True},
    "pip user guide, Configuration (pip.conf: ini); uv, Configuration files (uv.toml); conda, Using the .condarc configuration file.",
)  # fmt: skip
HOMES = Source(
    SourceId("python-index-homes"), "home_lines",
    {"names": [".pip/pip.conf", ".config/pip/pip.conf", ".config/uv/uv.toml", ".condarc", ".conda/.condarc", ".conda/condarc",
               ".config/conda/.condarc", ".config/conda/condarc", ".conda/condarc.d/*", ".config/conda/condarc.d/*",
               *(f"{name}/pip.conf" for name in (".venv", "venv", "env")),
               *(f"{name}/.condarc" for name in ("miniconda3", "miniforge3", "mambaforge", "anaconda3", "micromamba"))],
     "keep": ["[", "]", "{", "- ", "-\t", '"', "'", "http://", "https://", "file:", "index", "extra-index", "extra_index", "find-links",
              "find_links", "trusted-host", "trusted_host", "no-index", "no_index", "allow-insecure-host", "url", "default", "explicit", "name",
              "constraint", "requirement", "proxy", "--", *_CONDA_KEYS]},
    "The same files in homes: lines of the settings that count, and of those whose lists might be taken for theirs.",
    needs_root=True,
)  # fmt: skip


@dataclass(frozen=True)
class PythonIndexSetting:
    """A setting outside of homes of where packages come from. No rows: as the tools are built. Source: pip.conf, uv.toml, .condarc."""

    tool: Annotated[str, "pip, uv or conda"]
    scope: Annotated[str, "system, environment or user"]
    file: Annotated[str, "File that sets it"]
    user_name: Annotated[str | None, "In whose home the file is; NULL outside of homes"]
    section: Annotated[str | None, "Section of the file, such as global or install; NULL for the whole of it"]
    setting: Annotated[
        str,
        "index-url, extra-index-url, explicit-index-url (uv, for named packages only), find-links, no-index, trusted-host (no TLS check),"
        " index-strategy; of conda channel, default-channel, allowed-channel, denied-channel, channel-alias, channel-priority, ssl-verify",
    ]
    value: Annotated[
        str | None, "Value, without user and password, a row for each of a list; NULL where it stands on lines that are not read"
    ]
    credentials: Annotated[bool, "The value holds a user or a password"]


class PythonIndexSettingOfUser(PythonIndexSetting):
    """A setting in a user's home of where packages come from. No rows: as the tools are built. Source: pip.conf, uv.toml, .condarc."""


Found = Iterator[tuple[str | None, str, str | None]]

_PIP = ("index-url", "extra-index-url", "find-links", "no-index", "trusted-host")
_UV = {"index-url": "index-url", "extra-index-url": "extra-index-url", "find-links": "find-links", "no-index": "no-index",
       "allow-insecure-host": "trusted-host", "trusted-host": "trusted-host", "index-strategy": "index-strategy"}  # fmt: skip
_CONDA = {"channels": "channel", "channel": "channel", "default_channels": "default-channel", "allowlist_channels": "allowed-channel",
          "whitelist_channels": "allowed-channel", "denylist_channels": "denied-channel", "channel_alias": "channel-alias",
          "channel_priority": "channel-priority", "ssl_verify": "ssl-verify", "verify_ssl": "ssl-verify"}  # fmt: skip


def _pip(text: str, problems: list[str]) -> Found:
    """Settings of an ini file; lists stand between blanks, or a line for each."""
    for section, options in ini(text, problems, "=:"):
        for key, written in options.items():
            name = key.replace("_", "-").removeprefix("--")
            if name in _PIP:
                yield from ((section, name, word) for word in written.split())
                if not written:
                    problems.append(f"{name} without a value")
                    yield section, name, None


def _uv(text: str, problems: list[str]) -> Found:
    """Settings of a TOML file, those of its table `pip` too."""
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError):
        problems.append("no TOML that is understood")
        return
    for section, table in ((None, document), ("pip", document.get("pip", {}))):
        if not isinstance(table, dict):
            problems.append("pip is no table")
            continue
        for key, name in _UV.items():
            for written in _many(table.get(key)):
                yield section, name, _word(written, problems)
        for index in _many(table.get("index")):
            if not isinstance(index, dict):
                problems.append("an index is no table")
                continue
            name = (
                "explicit-index-url"
                if index.get("explicit") is True
                else "index-url"
                if index.get("default") is True
                else "extra-index-url"
            )
            yield section, name, _word(index.get("url"), problems)


def _many(written: Any) -> list[Any]:
    return [] if written is None else written if isinstance(written, list) else [written]


def _word(written: Any, problems: list[str]) -> str | None:
    if isinstance(written, bool):
        return str(written).lower()
    if not isinstance(written, str):
        problems.append("a value is no text")
        return None
    return written


def _conda(text: str, problems: list[str]) -> Found:
    """Settings of a YAML file of plain keys and lists, as conda itself writes it."""
    setting = None
    waiting = False
    for line in text.split("\n"):
        line = re.sub(r"(?:^|\s)#.*", "", line).rstrip()
        if not line or line == "---":
            continue
        item = re.fullmatch(r"\s*-\s+(.*)", line)
        head = re.fullmatch(r"([A-Za-z_]+)\s*:(?:\s+(.*))?", line)
        if head:
            if waiting:
                problems.append(f"{setting} without a value")
            setting = _CONDA.get(head[1])
            written = (head[2] or "").strip()
            waiting = setting is not None and not written
            if setting and written:
                inner = re.fullmatch(r"\[([^\[\]{}]*)\]", written)
                parts = [part.strip() for part in inner[1].split(",") if part.strip()] if inner else [written]
                yield from ((None, setting, _scalar(part, problems)) for part in parts)
        elif item and setting:
            waiting = False
            yield None, setting, _scalar(item[1], problems)
        elif setting or line[0] not in " \t-":
            problems.append("a line is not understood")
    if waiting:
        problems.append(f"{setting} without a value")


def _scalar(written: str, problems: list[str]) -> str | None:
    """A plain or quoted scalar of YAML."""
    match = re.fullmatch(r"\"([^\"\\]*)\"|'([^']*)'|([^\s\[\]{}&*!|>'\"%@`][^\[\]{}]*)", written.strip())
    if match is None:
        problems.append("a value is not understood")
        return None
    return next(part for part in match.groups() if part is not None)


def _rows(evidence: Bundle, source: Source) -> Iterable[PythonIndexSetting]:
    for path, entry in evidence.entries(source).items():
        text, user, problems = entry.get("text"), entry.get("user"), list[str]()
        if not isinstance(text, str) or len(text) > 1 << 18:
            evidence.gap(source, f"{path}: {'longer than 256 KiB' if isinstance(text, str) else 'no text'}")
            continue
        tool = "pip" if path.endswith("/pip.conf") else "uv" if path.endswith("/uv.toml") else "conda"
        for section, setting, written in (_pip if tool == "pip" else _uv if tool == "uv" else _conda)(text, problems):
            value, had = (None, False) if written is None else bare(written)
            scope = _scope(path, user)
            yield PythonIndexSetting(tool, scope, path, user if isinstance(user, str) else None, section, setting, value, had)
        for problem in problems:
            evidence.gap(source, f"{path}: {problem}")


def _scope(path: str, user: object) -> str:
    """For whom a file counts: the whole system, an environment, or a user."""
    if path.startswith(("/etc/", "/var/lib/conda/")) or path in ("/usr/pip.conf", "/usr/local/pip.conf"):
        return "system"
    own = re.search(r"/(?:\.pip/pip\.conf|\.config/(?:pip|uv)/[^/]+|\.conda/.+|\.config/conda/.+)$", path) or path.endswith(
        f"/{user}/.condarc"
    )
    return "user" if user is not None and own else "environment"


def parse_files(evidence: Bundle) -> Iterable[PythonIndexSetting]:
    """A row per value in files of the system and of environments outside of homes."""
    return _rows(evidence, FILES)


def parse_homes(evidence: Bundle) -> Iterable[PythonIndexSetting]:
    """A row per value in files in homes."""
    return _rows(evidence, HOMES)


TABLES = (
    Table("python_indexes", PythonIndexSetting, (FILES,), parse_files),
    Table("python_indexes_of_users", PythonIndexSettingOfUser, (HOMES,), parse_homes),
)
