# SPDX-License-Identifier: Apache-2.0
"""What configuration files of services on the host itself say of their login: read only where they decide."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from fleet_audit.facts.accounts.local import PASSWD
from fleet_audit.facts.base import Bundle, NotUnderstood, Unread, integer
from fleet_audit.facts.ml_services.auth import Process, Verdict
from fleet_audit.facts.ml_services.known import Known
from fleet_audit.facts.ml_services.settings import FILES, HOMES, JUPYTER, MlSetting, settings_of
from fleet_audit.model import Source


class Files:
    """What configuration files say of a service's login; read only where they decide."""

    def __init__(self, evidence: Bundle) -> None:
        self._evidence = evidence
        self._read: dict[str, tuple[dict[str, list[MlSetting]], bool]] = {}

    def _settings(self, source: Source) -> tuple[dict[str, list[MlSetting]], bool]:
        """({file: settings}, whether all were read)."""
        if source.id not in self._read:
            known, found = len(self._evidence.gaps), dict[str, list[MlSetting]]()
            try:
                for path, entry in self._evidence.entries(source).items():
                    found[path] = list(settings_of(self._evidence, source, path, entry))
            except (Unread, NotUnderstood) as error:
                self._evidence.gaps.append(str(error))
            self._read[source.id] = found, len(self._evidence.gaps) == known
        return self._read[source.id]

    def say(self, known: Known, line: Sequence[Process]) -> Verdict:
        """What they say of the login of a service that runs on the host itself, by its process and its forebears of the same service."""
        process = line[0]
        if process.container or process.contained or known.id not in ("jupyter", "redis", "elasticsearch"):
            return None, None
        found, whole = self._settings(FILES)
        if known.id == "jupyter":
            user, prefix = self._user(process.uid), _prefix(process)
            homes, homes_whole = self._settings(HOMES)
            mine = [setting for path, settings in found.items() if _of_jupyter(path, prefix) for setting in settings]
            mine += [
                setting for settings in homes.values() for setting in settings if (setting.service, setting.user_name) == ("jupyter", user)
            ]
            return _jupyter(mine) if whole and homes_whole and user is not None and prefix is not None else (None, None)
        mine = [setting for settings in found.values() for setting in settings if setting.service == known.id]
        return (_redis if known.id == "redis" else _elasticsearch)(mine, whole, " ".join(one.command for one in line))

    def _user(self, uid: int) -> str | None:
        """The local account of a user id: only such homes are looked at."""
        try:
            lines = self._evidence.body(PASSWD).splitlines()
        except Unread as error:
            self._evidence.gaps.append(str(error))
            return None
        return next((words[0] for line in lines if len(words := line.split(":")) > 5 and integer(words[2]) == uid), None)


def _prefix(process: Process) -> str | None:
    """Where the Python of a process has its own configuration, if that is read: /usr, or a folder of /opt. Source: jupyter_core, paths."""
    python = re.fullmatch(r"(/[^\0]+)/bin/(?:python|pypy)[\d.]*", process.argv[0] if process.argv else "")
    read = python and any(PurePosixPath(python[1], "etc/jupyter").match(folder) for folder in JUPYTER)
    return python[1] if python and read else None


def _of_jupyter(path: str, prefix: str | None) -> bool:
    """Whether a Jupyter with this prefix reads a file."""
    return any(path.startswith(f"{folder}/etc/jupyter/") for folder in ("", "/usr/local", prefix) if folder is not None)


def _jupyter(settings: list[MlSetting]) -> Verdict:
    """A password or a token that is set, both turned off, or the default: a token that is made at each start."""
    told: dict[str, dict[str, MlSetting]] = {}
    for setting in settings:
        told.setdefault(".".join(setting.key.split(".")[-2:]), {})[setting.file] = setting
    last = {key: next(iter(files.values())) for key, files in told.items()}
    for key, files in told.items():
        if key.endswith(_SECRETS) and len({setting.value and "set" for setting in files.values()}) > 1:
            return None, f"{last[key].key} differs between {', '.join(sorted(files))}"
    secrets = [setting for key, setting in last.items() if key.endswith(_SECRETS)]
    if given := [setting for setting in secrets if setting.value]:
        return True, f"{given[0].key} in {given[0].file}"
    if unknown := [setting for setting in secrets if setting.value is None]:
        return None, f"{unknown[0].key} in {unknown[0].file} is computed"
    if off := [setting for setting in secrets if setting.key.endswith(".token")]:
        return False, f"{off[0].key} is empty in {off[0].file}"
    if any(key.endswith((".identity_provider_class", ".login_handler_class")) for key in last):
        return None, "its configuration changes how it logs in"
    return True, "vendor's default (a token); neither command line nor configuration files change it"


_SECRETS = (".password", ".hashed_password", ".token")


def _redis(settings: list[MlSetting], whole: bool, command: str) -> Verdict:
    """`requirepass` or users; without them none, where the one file for the port that the title names is the whole configuration."""
    title = re.search(r"-server (?:\S*:)(\d+)(?:\s|$)", command)
    files: dict[str, dict[str, str | None]] = {}
    for setting in settings:
        files.setdefault(setting.file, {})[setting.key] = setting.value
    mine = [file for file, keys in files.items() if title and (keys.get("port") or "6379") == title[1]]
    if len(mine) != 1 or not whole:
        return None, None
    keys = files[mine[0]]
    if "include" in keys:
        return None, f"other files in {mine[0]}"
    if "requirepass" in keys:
        known = (keys["requirepass"] or "").startswith("<secret:default:")
        return not known and bool(keys["requirepass"]), f"requirepass in {mine[0]}{' is a publicly known default' if known else ''}"
    if keys.keys() & {"aclfile", "user"}:
        return None, f"users in {mine[0]}"
    return False, f"neither requirepass nor users in {mine[0]}"


def _elasticsearch(settings: list[MlSetting], whole: bool, command: str) -> Verdict:
    """`xpack.security.enabled` or `plugins.security.disabled` in the folder of its configuration; what is not set depends on the version."""
    folder = re.search(r"\bpath\.conf=(/\S+)", command)
    for setting in settings:
        if folder is None or setting.file.rpartition("/")[0] != folder[1].rstrip("/"):
            continue
        if setting.key in ("xpack.security.enabled", "plugins.security.disabled") and setting.value in ("true", "false"):
            asks = (setting.value == "true") == (setting.key == "xpack.security.enabled")
            return asks, f"{setting.key}: {setting.value} in {setting.file}"
    return None, None
