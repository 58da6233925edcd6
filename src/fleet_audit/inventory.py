# SPDX-License-Identifier: Apache-2.0
"""The user's Ansible inventory as `Host` values, checked.

The inventory is code that the user trusts, as with Ansible; what it yields is validated here.
A helper process (`_ansible_inventory`) is the only importer of Ansible.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fleet_audit.model import Become, FleetAuditError, Host, HostName, Secret

TIMEOUT_S = 120.0
"""How long the helper may take, scripts of the inventory included."""
_HELPER = Path(__file__).with_name("_ansible_inventory.py")
_CONNECTIONS = {
    "ssh": "ssh", "smart": "ssh", "local": "local", "openssh": "openssh",
    "paramiko": "paramiko", "paramiko_ssh": "paramiko",
}  # fmt: skip
_METHODS = ("sudo", "doas")
_log = logging.getLogger(__name__)


def _name(text: str) -> str:
    if not text.isprintable() or "/" in text or text in (".", ".."):
        raise ValueError("must be printable, without a slash")
    return text


def _word(text: str) -> str:
    if not text.isprintable() or text.startswith("-") or any(c.isspace() for c in text):
        raise ValueError("must be printable, without blanks, and not begin with '-'")
    return text


def _text(text: str) -> str:
    if "\0" in text or "\n" in text or "\r" in text:
        raise ValueError("must be one line")
    return text


_Word = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_word)]
_Text = Annotated[str, Field(max_length=4096), AfterValidator(_text)]


class _Entry(BaseModel):
    """One host as the helper gives it."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_name)]
    groups: list[_Text]
    host: _Word
    port: Annotated[int, Field(ge=1, le=65535)] | None
    remote_user: _Word | None
    password: _Text | None
    private_key_file: _Text | None
    ssh_args: _Text
    ssh_common_args: _Text
    ssh_extra_args: _Text
    become_user: _Word | None
    become_pass: _Text | None
    connection: str
    become: bool
    become_method: str
    expected: bool
    archive: _Text | None
    transport: str | None
    origin: str
    folder: str


@dataclass(frozen=True)
class Inventory:
    """What an inventory yields."""

    hosts: tuple[Host, ...]
    """The selected ones, sorted by name."""
    others: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Groups of the hosts that the limit leaves out."""


_VARIABLES = {
    "name": "name", "host": "ansible_host", "port": "ansible_port", "remote_user": "ansible_user",
    "password": "ansible_password", "private_key_file": "ansible_ssh_private_key_file",
    "become_user": "ansible_become_user", "become_pass": "ansible_become_password",
    "ssh_args": "ansible_ssh_args", "ssh_common_args": "ansible_ssh_common_args",
    "ssh_extra_args": "ansible_ssh_extra_args", "archive": "fleet_audit_archive",
}  # fmt: skip


def load(
    inventory: str | None,
    *,
    limit: str | None = None,
    user: str | None = None,
    private_key: str | None = None,
    become: bool = False,
    become_password: Secret | None = None,
    login_password: Secret | None = None,
    vault_password_file: str | None = None,
) -> Inventory:
    """An inventory; None is this very machine.

    `inventory` is a path of any kind that Ansible reads, or a comma list (`a,` or `a,b`). What is
    given here besides wins over the inventory; `become` only turns it on.
    Raises `FleetAuditError` naming file, line, host or variable, and what to do.
    """
    if inventory is None:
        method = Become(password=become_password) if become else None
        return Inventory((Host(HostName(socket.gethostname()), address="localhost", connection="local", become=method),))
    if not inventory.strip(", "):
        raise FleetAuditError("the inventory is empty: give a file, a folder, or a list such as 'host1,host2'")
    request = {
        "inventory": inventory,
        "limit": limit,
        "user": user,
        "private_key": os.path.abspath(os.path.expanduser(private_key)) if private_key else None,
        "become": become,
        "vault_password_file": vault_password_file,
    }
    answer = _ask(request, inventory)
    hosts = [_host(_checked(entry, inventory), inventory, become_password, login_password) for entry in answer["hosts"]]
    return Inventory(tuple(sorted(hosts, key=lambda host: host.name)), {n: tuple(g) for n, g in sorted(answer["others"].items())})


def _ask(request: dict[str, Any], inventory: str) -> dict[str, Any]:
    """Run the helper; its answer, whose hosts are not yet checked.

    Ansible makes a folder for itself, by default in the home, which a hardened service may not write.
    """
    env = {"ANSIBLE_LOCAL_TEMP": tempfile.gettempdir(), **os.environ}
    try:  # -P: no module of the current folder is loaded in place of one of Ansible's
        done = subprocess.run(
            [sys.executable, "-P", str(_HELPER)],
            input=json.dumps(request),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            env=env,
        )
    except subprocess.TimeoutExpired:
        raise FleetAuditError(
            f"{inventory}: not read within {TIMEOUT_S:.0f} s; a script or plugin of it may hang: "
            f"try `ansible-inventory -i {shlex.quote(inventory)} --list`"
        ) from None
    said = _printable(done.stderr)
    if said:
        _log.info("Ansible says: %s", said)
    try:
        document = json.loads(done.stdout)
        if "error" not in document:
            return {"hosts": list(document["hosts"]), "others": dict(document["others"])}
        error = document["error"]
    except (ValueError, KeyError, TypeError):
        last = said.splitlines()[-1] if said else f"exit status {done.returncode}"
        raise FleetAuditError(f"{inventory}: Ansible could not read it: {last}") from None
    where = str(error["file"] or inventory) + (f":{error['line']}" if error["line"] else "")
    raise FleetAuditError(f"{_printable(where)}: {_printable(error['message'])}")


def _checked(entry: Any, inventory: str) -> _Entry:
    try:
        return _Entry.model_validate(entry)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = str(first["loc"][0]) if first["loc"] else ""
        name = str(entry.get("name", ""))[:80] if isinstance(entry, dict) else ""
        said = first["msg"].removeprefix("Value error, ")
        raise FleetAuditError(f"{inventory}: host {name!r}: {_VARIABLES.get(field, field)}: {said}") from None


def _host(entry: _Entry, inventory: str, become_password: Secret | None, login_password: Secret | None) -> Host:
    origin = entry.origin or inventory
    where = f"{origin}: host {entry.name}"
    connection = _connection(entry, where)
    address = entry.host
    if connection == "archive":
        address = os.path.abspath(os.path.join(entry.folder, os.path.expanduser(entry.archive or "")))
    become = None
    if entry.become:
        if entry.become_method not in _METHODS:
            raise FleetAuditError(f"{where}: ansible_become_method {entry.become_method!r}: only sudo and doas will do")
        password = become_password or _secret(entry.become_pass)
        become = Become(entry.become_method, entry.become_user or "root", password)
    try:
        args = [w for text in (entry.ssh_args, entry.ssh_common_args, entry.ssh_extra_args) for w in shlex.split(text)]
    except ValueError as error:
        raise FleetAuditError(f"{where}: SSH arguments (ansible_ssh_*args): {error}") from None
    return Host(
        name=HostName(entry.name),
        groups=tuple(entry.groups),
        address=address,
        port=entry.port,
        user=entry.remote_user,
        password=login_password or _secret(entry.password),
        key_file=os.path.expanduser(entry.private_key_file) if entry.private_key_file else None,
        ssh_args=tuple(args),
        connection=connection,
        become=become,
        expected=entry.expected,
        origin=origin,
    )


def _connection(entry: _Entry, where: str) -> str:
    if entry.archive:
        return "archive"
    variable = "fleet_audit_transport" if entry.transport else "ansible_connection"
    given = entry.transport or entry.connection
    found = _CONNECTIONS.get(given.removeprefix("ansible.builtin."))
    if found is None:
        raise FleetAuditError(f"{where}: {variable} is {given[:40]!r}: an audit goes over ssh, paramiko or local")
    return found


def _secret(text: str | None) -> Secret | None:
    return Secret(text) if text else None


def _printable(text: str) -> str:
    """Text for a terminal: no control characters but line ends."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text).strip()
