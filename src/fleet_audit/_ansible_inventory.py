# SPDX-License-Identifier: Apache-2.0
"""Helper process that reads an Ansible inventory: the only importer of Ansible (GPL).

One JSON request on standard input: `inventory` (a path, or a comma list of hosts), `limit`,
`vault_password_file`, `user`, `private_key`, `become`. One JSON document on standard output:
`{"hosts": [...]}` or `{"error": {"message", "file", "line"}}`. Whatever Ansible or a script of
the inventory prints goes to standard error. Nothing of ours is imported, so that it runs as a
plain file. Source: Ansible's own connection and become plugins, whose option definitions
(variables, environment, ansible.cfg and their order) are the ones that are resolved here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

SSH_OPTIONS = (
    "host", "port", "remote_user", "password", "private_key_file",
    "ssh_args", "ssh_common_args", "ssh_extra_args",
)  # fmt: skip
BECOME_OPTIONS = ("become_user", "become_pass")
PLAIN = (
    "ansible_connection",
    "ansible_become",
    "ansible_become_method",
    "ansible_doas_user",
    "ansible_doas_pass",
)
OURS = ("fleet_audit_expected", "fleet_audit_archive", "fleet_audit_transport")
YAML_ENDINGS = (".yml", ".yaml", ".json")


class Problem(Exception):
    """What is wrong with the inventory, and where."""

    def __init__(self, message: str, file: str = "", line: int = 0) -> None:
        super().__init__(message)
        self.file, self.line = file, line


def explain(error: BaseException, prefix: str = "") -> Problem:
    """An exception of Ansible's in words, without the source lines that Ansible would quote."""
    new = hasattr(error, "_original_message")  # ansible-core 2.19: `message` no longer quotes the file
    text = str(error) if new else str(getattr(error, "_message", None) or error)
    file, line = "", 0
    found: BaseException | None = error
    while found is not None and not line:
        at, line = place(getattr(found, "obj", None))
        file = at or file
        found = found.__cause__ or found.__context__
    if is_vault(error):
        text += " It is encrypted: give the right password with --vault-password-file."
    return Problem(prefix + text.strip(), file, line)


def place(value: Any) -> tuple[str, int]:
    """File and line of a value that Ansible read; `("", 0)` if it does not know."""
    try:
        from ansible._internal._datatag._tags import Origin
    except Exception:  # before 2.19, or Ansible could not be loaded at all
        position = getattr(value, "ansible_pos", None) or ("", 0, 0)
        return str(position[0] or ""), int(position[1] or 0)
    origin = value if isinstance(value, Origin) else Origin.get_tag(value)
    return (str(origin.path or ""), int(origin.line_num or 0)) if origin else ("", 0)


def is_vault(error: BaseException | None) -> bool:
    """Whether decryption is what failed, somewhere in the chain of causes."""
    vault = sys.modules.get("ansible.parsing.vault")
    kinds = (vault.AnsibleVaultError,) if vault else ()
    while error is not None:
        if isinstance(error, kinds) or "no vault secrets" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def set_vault_secrets(loader: Any, password_file: str | None) -> None:
    """Make known the vault passwords of the request and of ansible.cfg."""
    from ansible import constants
    from ansible.parsing import vault

    slugs = [*(constants.DEFAULT_VAULT_IDENTITY_LIST or [])]
    slugs += [f"{constants.DEFAULT_VAULT_IDENTITY}@{f}" for f in (password_file, constants.DEFAULT_VAULT_PASSWORD_FILE) if f]
    secrets = []
    for slug in slugs:
        label, _, file = slug.rpartition("@")
        if file.startswith("prompt"):
            raise Problem(f"vault identity {slug}: nobody can be asked here; give --vault-password-file")
        try:
            secret = vault.get_file_vault_secret(filename=file, vault_id=label or None, loader=loader)
            secret.load()
        except Exception as error:
            raise Problem(f"vault password file {file}: {explain(error)}", file) from None
        secrets.append((label or constants.DEFAULT_VAULT_IDENTITY, secret))
    loader.set_vault_secrets(secrets)
    if hasattr(vault, "VaultSecretsContext"):  # 2.19: decryption happens while templating
        vault.VaultSecretsContext.initialize(vault.VaultSecretsContext(secrets))


def recording_manager(failures: list[tuple[str, str, BaseException]]) -> type:
    """InventoryManager that remembers why each plugin gave up (Ansible only prints it).

    Its INI plugin leaves YAML files alone: of a broken one it would make hosts named `all:`.
    """
    from ansible.inventory.manager import InventoryManager

    class Recording(InventoryManager):  # type: ignore[misc]  # Ansible is untyped
        def _fetch_inventory_plugins(self) -> list[Any]:
            plugins: list[Any] = super()._fetch_inventory_plugins()
            for plugin in plugins:
                name = str(getattr(plugin, "_load_name", type(plugin).__module__)).rpartition(".")[2]
                plugin.parse = _recording(plugin.parse, name, failures)
                if name == "ini":
                    plugin._parse = _placing(plugin._parse, plugin)
                    verify = plugin.verify_file
                    plugin.verify_file = lambda path, verify=verify: not str(path).lower().endswith(YAML_ENDINGS) and verify(path)
            return plugins

    return Recording


def _recording(parse: Callable[..., Any], name: str, failures: list[tuple[str, str, BaseException]]) -> Callable[..., Any]:
    def wrapped(inventory: Any, loader: Any, path: str, cache: bool = True) -> Any:
        try:
            return parse(inventory, loader, path, cache=cache)
        except Exception as error:
            failures.append((str(path), name, error))
            raise

    return wrapped


def _placing(parse: Callable[..., Any], plugin: Any) -> Callable[..., Any]:
    """The INI plugin's parser; its errors keep the line, which the plugin forgets before it tells."""

    def wrapped(lines: Any) -> Any:
        try:
            return parse(lines)
        except Exception as error:
            error.obj = getattr(plugin, "_origin", None)  # type: ignore[attr-defined]  # AnsibleError has it
            raise

    return wrapped


def likeliest(failures: list[tuple[str, str, BaseException]]) -> Problem | None:
    """Of several plugins that could not read a file, the complaint of the one it was meant for."""
    if not failures:
        return None
    path = failures[-1][0]
    mine = {name: error for file, name, error in failures if file == path and not (name == "auto" and "no root 'plugin' key" in str(error))}
    yaml_like = path.lower().endswith(YAML_ENDINGS)
    if not yaml_like and "ini" in mine and "yaml" in mine:
        first = next((s for s in _text(path).splitlines() if s.strip() and s.lstrip()[0] not in "#;"), "")
        yaml_like = first.startswith("---") or first.rstrip().endswith(":")
    order = ["host_list", "script", "auto", *(("yaml", "ini") if yaml_like else ("ini", "yaml"))]
    name = min(mine, key=lambda n: order.index(n) if n in order else 2, default="")
    if not name:
        return Problem("not an inventory", path)
    problem = explain(mine[name], f"read as {name}: ")
    return problem if problem.file else Problem(str(problem), path)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def check_source(source: str) -> None:
    """Refuse a path that cannot be read before Ansible turns it into a vague message."""
    path = Path(source).expanduser()
    try:
        if path.is_dir():
            os.listdir(path)
        elif path.exists() or "," not in source:
            with path.open("rb"):
                pass
    except FileNotFoundError:
        raise Problem(f"no such inventory; a single host is written '{source},'", source) from None
    except (OSError, ValueError) as error:
        raise Problem(f"cannot be read: {getattr(error, 'strerror', None) or error}", source) from None


class Resolver:
    """Resolves the variables of hosts as Ansible's connection and become plugins would."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        from ansible import constants
        from ansible.plugins.loader import become_loader, connection_loader

        self._constants, self._request = constants, request
        connection_loader.get("ssh", class_only=True)  # loads the definitions of its options
        become_loader.get("sudo", class_only=True)
        wanted = [("connection", "ssh", o) for o in SSH_OPTIONS] + [("become", "sudo", o) for o in BECOME_OPTIONS]
        self._options = {o: (kind, plugin) for kind, plugin, o in wanted}
        self._default_args = None
        self._names = [*PLAIN, *OURS]
        for option, (kind, plugin) in self._options.items():
            definition = constants.config.get_configuration_definitions(kind, plugin)[option]
            if option == "ssh_args":
                self._default_args = definition.get("default")
            names = [entry["name"] for entry in definition.get("vars", [])]
            self._names += [n for n in names if n.isidentifier() and n not in ("inventory_hostname", *self._names)]

    def resolve(self, host: Any, variables: Mapping[str, Any], loader: Any) -> dict[str, Any]:
        """The connection values of one host. Raises `Problem` that names host and variable."""
        values = self._template(host.name, variables, loader)
        if values.get("ansible_become_method") == "doas":  # its plugin is not part of ansible-core
            for ours, theirs in (
                ("ansible_doas_user", "ansible_become_user"),
                ("ansible_doas_pass", "ansible_become_pass"),
            ):
                if ours in values:
                    values[theirs] = values[ours]
        known = {**values, "inventory_hostname": host.name}
        try:
            found = {o: self._option(o, known) for o in self._options}
        except Exception as error:
            raise explain(error, f"host {host.name}: ") from None
        if found["ssh_args"] == self._default_args:
            found["ssh_args"] = ""  # Ansible's own ControlMaster: no wish of the user's
        constants = self._constants
        become = _truth(host.name, "ansible_become", values.get("ansible_become", constants.DEFAULT_BECOME))
        found |= {
            "name": host.name,
            "groups": _groups(host),
            "connection": values.get("ansible_connection", constants.DEFAULT_TRANSPORT),
            "become": bool(become or self._request.get("become")),
            "become_method": values.get("ansible_become_method", constants.DEFAULT_BECOME_METHOD),
            "expected": _truth(host.name, OURS[0], values.get(OURS[0], True)),
            "archive": values.get(OURS[1]),
            "transport": values.get(OURS[2]),
            "origin": str(variables.get("inventory_file") or ""),
            "folder": str(variables.get("inventory_dir") or ""),
        }
        for option, asked in (("remote_user", "user"), ("private_key_file", "private_key")):
            found[option] = self._request.get(asked) or found[option]
        return found

    def _option(self, option: str, known: Mapping[str, Any]) -> Any:
        kind, plugin = self._options[option]
        value = self._constants.config.get_config_value(option, plugin_type=kind, plugin_name=plugin, variables=known)
        return value if value is None or isinstance(value, int) else str(value)

    def _template(self, name: str, variables: Mapping[str, Any], loader: Any) -> dict[str, Any]:
        from ansible.template import Templar

        templar = Templar(loader=loader, variables=variables)
        values: dict[str, Any] = {}
        for key in self._names:
            if (raw := variables.get(key)) is None:
                continue
            try:
                value = templar.template(raw)
                values[key] = value if isinstance(value, bool | int) else str(value)
            except Exception as error:
                file, line = place(raw)
                shown = "" if is_vault(error) else f" ({_raw(raw)})"
                problem = explain(error, f"host {name}: variable {key}{shown}: ")
                raise Problem(str(problem), problem.file or file, problem.line or line) from None
        return values


def _groups(host: Any) -> list[str]:
    return sorted({str(group.name) for group in host.get_groups()} - {"all", "ungrouped"})


def _raw(template: Any) -> str:
    return str(template)[:200]


def _truth(host: str, name: str, value: Any) -> bool:
    from ansible.module_utils.parsing.convert_bool import boolean

    try:
        return bool(boolean(value, strict=True))
    except TypeError:
        raise Problem(f"host {host}: variable {name} is {str(value)[:80]!r}: must be true or false") from None


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """The hosts of the request's inventory, and names and groups of those that its limit leaves out.

    Raises `Problem`, or Ansible's own exceptions.
    """
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import init_plugin_loader
    from ansible.vars.hostvars import HostVars
    from ansible.vars.manager import VariableManager

    init_plugin_loader()
    source = str(request["inventory"])
    check_source(source)
    loader = DataLoader()
    set_vault_secrets(loader, request.get("vault_password_file"))
    failures: list[tuple[str, str, BaseException]] = []
    try:
        inventory = recording_manager(failures)(loader=loader, sources=[source])
    except Exception as error:
        raise (likeliest(failures) if "Completely failed" in str(error) else None) or explain(error) from None
    if not inventory.hosts:
        raise Problem("the inventory names no host", source)
    everyone = inventory.get_hosts()
    if limit := request.get("limit"):
        inventory.subset(limit)
    if not (hosts := inventory.get_hosts()):
        raise Problem(f"--limit {limit!r} matches no host of this inventory", source)
    manager = VariableManager(loader=loader, inventory=inventory)
    HostVars(inventory=inventory, variable_manager=manager, loader=loader)  # gives templates `hostvars`
    resolver = Resolver(request)
    chosen = {host.name for host in hosts}
    return {
        "hosts": [resolver.resolve(host, manager.get_vars(host=host), loader) for host in hosts],
        "others": {str(host.name): _groups(host) for host in everyone if host.name not in chosen},
    }


def main() -> None:
    """Answer one request."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ansible and its plugins print must not get between the JSON
    os.environ["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"
    document: dict[str, Any]
    try:
        document = answer(json.load(sys.stdin))
    except ImportError as error:
        document = {"error": {"message": f"ansible-core cannot be loaded: {error}", "file": "", "line": 0}}
    except Exception as error:
        problem = error if isinstance(error, Problem) else explain(error)
        document = {"error": {"message": str(problem), "file": problem.file, "line": problem.line}}
    with out:
        json.dump(document, out)


if __name__ == "__main__":
    main()
