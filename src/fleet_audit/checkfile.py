# SPDX-License-Identifier: Apache-2.0
"""One check as its YAML file has it: what it consists of, and its loading with errors that name file, line and field."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from fleet_audit import references, sql, yamlfile
from fleet_audit.model import CheckId, FleetAuditError, Outcome, Severity, did_you_mean
from fleet_audit.versions import key, kinds

Parameter = bool | int | float | str | list[int] | list[str]
Surface = Literal["data", "tools", "model", "hardware", "edge", "people"]
BUILT_IN = {"as_of": "TIMESTAMP", "workload": "VARCHAR[]"}
"""Parameters that every check may name: the time at which ages are measured, and what the policy says that the host runs."""
ID = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
_STRICT = ConfigDict(extra="forbid", frozen=True)


def _text(value: Any) -> Any:
    """A text without the blanks around it."""
    return value.strip() if isinstance(value, str) else value


def _one_line(value: Any) -> Any:
    """A text on one line."""
    return " ".join(value.split()) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text), Field(min_length=1)]
Line = Annotated[str, BeforeValidator(_one_line), Field(min_length=1)]


class Remediation(BaseModel):
    """The role that makes a check pass."""

    model_config = _STRICT
    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", description="Ansible role in playbooks/roles/")]
    vars: Annotated[dict[str, Any], Field(description="Variables handed to the role")] = {}
    disruption: Literal["none", "service-restart", "reboot", "drain"]


class Bounds(BaseModel):
    """What a number may be."""

    model_config = _STRICT
    least: int | float | None = None
    most: int | float | None = None

    def problem(self, value: object) -> str:
        """Why a number is none that may be; empty if it may."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            return ""
        low, high = self.least is not None and value < self.least, self.most is not None and value > self.most
        return f"must be {f'at least {self.least}' if low else f'at most {self.most}'}" if low or high else ""


class Definition(BaseModel):
    """A check without its examples: all that a run needs of it."""

    model_config = _STRICT
    id: Annotated[str, Field(pattern=f"^{ID.pattern}$", description="The desired state, in words; never reused")]
    aliases: Annotated[list[str], Field(description="Former ids")] = []
    title: Annotated[Line, Field(description="The desired state as a sentence", max_length=120)]
    severity: Severity
    scope: Annotated[Literal["host", "fleet"], Field(description="fleet: the query sees all hosts")] = "host"
    surface: Annotated[list[Surface], Field(min_length=1, description="Parts of the ML attack surface")]
    rationale: Annotated[Text, Field(description="Why it matters on a training fleet")]
    unknown: Annotated[Text | None, Field(description="What unknown means and what would settle it")] = None
    fix: Annotated[Text, Field(description="What a person does about a failure")]
    impact: Annotated[Text | None, Field(description="What the desired state costs or breaks for training")] = None
    controls: Annotated[dict[str, list[str]], Field(description="Framework -> numbers")] = {}
    profiles: Annotated[list[str], Field(description="The smallest profiles that select it")]
    params: Annotated[dict[str, Parameter], Field(description="Name -> default, which gives the type; $name in SQL")] = {}
    bounds: Annotated[
        dict[str, Bounds | list[str]], Field(description="Parameter -> least and most of a number, or all texts that it may hold")
    ] = {}
    applies: Annotated[Text | None, Field(description="SELECT host, <boolean> AS applies; left out: it applies everywhere")] = None
    query: Annotated[Text, Field(description="SELECT host, <text> AS subject, <boolean> AS pass, <text> AS reason")]
    none: Annotated[Literal["pass", "fail", "unknown"], Field(description="The result of an applicable host without a row")]
    none_because: Annotated[Text | None, Field(description="The reason of that result")] = None
    learn: Annotated[dict[str, Text], Field(description="Parameter -> SELECT host, value: what `policy init --learn` proposes for it")] = {}
    remediation: Remediation | None = None
    references: Annotated[list[Text], Field(min_length=1, description="Addresses of what it rests on, with the date read")]

    @model_validator(mode="after")
    def _consistent(self) -> Definition:
        if self.none != "pass" and self.none_because is None:
            raise ValueError("none_because must say why a host without a row is not a pass")
        for name in self.params:
            if name in BUILT_IN or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"params.{name} is no name for a parameter")
        for name in self.bounds:
            if name not in self.params:
                raise ValueError(f"bounds.{name} is no parameter")
            if problem := out_of_bounds(self, name, self.params[name]):
                raise ValueError(f"params.{name} {problem}")
        return self


class CheckFile(Definition):
    """One check: the state that is desired, why, and how it is decided from facts."""

    examples: Annotated[list[dict[str, Any]], Field(min_length=2, description="Run as tests; result, coverage, hosts, and tables")]


@dataclass(frozen=True)
class Check:
    """A loaded check, with what its SQL reads."""

    id: CheckId
    area: str
    """The folder that it lies in."""
    file: Definition
    path: Path
    query: sql.Statement
    applies: sql.Statement | None

    @property
    def examples(self) -> list[dict[str, Any]]:
        """Its examples; of a shipped check they are read now."""
        if isinstance(self.file, CheckFile):
            return self.file.examples
        return CheckFile.model_validate(yamlfile.load(self.path).value).examples

    @property
    def tables(self) -> frozenset[str]:
        """All fact tables that it needs."""
        return frozenset(name for name in self._read if not name.startswith(references.PREFIX)) - sql.BUILT_IN_TABLES

    @property
    def references(self) -> frozenset[str]:
        """All reference tables that it leans on."""
        return frozenset(name for name in self._read if name.startswith(references.PREFIX)) - sql.BUILT_IN_TABLES

    @property
    def _read(self) -> frozenset[str]:
        return self.query.tables | (self.applies.tables if self.applies else frozenset())

    def hidden(self, values: Mapping[str, Parameter]) -> dict[str, str | None]:
        """The values of the version keys that its SQL names, for one set of parameters."""
        found: dict[str, str | None] = {}
        for statement in (self.query, self.applies):
            for name, (kind, literal, parameter) in (statement.version_keys if statement else {}).items():
                found[name] = key(kind, literal if literal is not None else str(values[parameter or ""]))
        return found


def sql_type(default: Parameter) -> str:
    """The SQL type that a parameter's default gives it."""
    if isinstance(default, list):
        if not default:
            return "VARCHAR[]"
        return f"{sql_type(default[0])}[]"
    return {bool: "BOOLEAN", int: "BIGINT", float: "DOUBLE", str: "VARCHAR"}[type(default)]


def parameter_problem(default: Parameter, value: object) -> str:
    """Why a value is not of the type that a default gives; empty if it is."""
    wanted = sql_type(default)
    if isinstance(default, list):
        if not isinstance(value, list):
            return f"must be a list, as {default!r} is"
        kinds_ = {type(v) for v in value}
        if (kinds_ <= {str} and wanted == "VARCHAR[]") or (kinds_ <= {int} and wanted == "BIGINT[]"):
            return ""
        return f"must be a list of {'integers' if wanted == 'BIGINT[]' else 'texts'}, as {default!r} is"
    if type(value) is type(default) or (type(default) is float and type(value) is int):
        return ""
    return f"must be {'an integer' if wanted == 'BIGINT' else 'a ' + wanted.lower()}, as {default!r} is"


def check_params(check: Check, values: Mapping[str, Parameter], where: str) -> None:
    """Raise `FleetAuditError` for a parameter that the check lacks or that has another type."""
    for name, value in values.items():
        if problem := unfit(check, name, value):
            raise FleetAuditError(f"{where}: {check.id}.{name}: {problem}")


def unfit(check: Check, name: str, value: object) -> str:
    """Why a check takes no such parameter or value; empty if it does."""
    if name not in check.file.params:
        known = ", ".join(sorted(check.file.params)) or "none"
        return f"{check.id} has no parameter {name!r}{did_you_mean(name, check.file.params, f'; it has {known}')}"
    return parameter_problem(check.file.params[name], value) or out_of_bounds(check.file, name, value)


def out_of_bounds(file: Definition, name: str, value: object) -> str:
    """Why a value of the right type is none that the parameter may have; empty if it is one. A number is not negative unless it is said."""
    bounds = file.bounds.get(name, Bounds(least=0))
    if isinstance(bounds, Bounds):
        return bounds.problem(value)
    texts = value if isinstance(value, list) else [value]
    wrong = next((text for text in texts if text not in bounds), None)
    known = f"; it may hold {', '.join(map(repr, bounds))}"
    if wrong is not None:
        return f"holds {wrong!r}{did_you_mean(str(wrong), bounds, known)}"
    return "" if texts else f"must not be empty{known}"


def no_version(check: Check, name: str, value: object) -> str:
    """Why a value cannot be the version that a check compares with; empty if it can, or compares no version."""
    for statement in (check.query, check.applies):
        for kind, _, parameter in statement.version_keys.values() if statement else ():
            if parameter == name and value != "" and key(kind, str(value)) is None:
                return f"{value!r} is no {kind} version"
    return ""


def load_check(path: Path, known: frozenset[str], *, whole: bool = True) -> Check:
    """One check. Raises `FleetAuditError` naming file, line and field.

    Without `whole` its examples, which stand last and are most of the file, are left unread: tests hold those of
    shipped checks.
    """
    document = yamlfile.load(path, until=None if whole else b"\nexamples:\n")
    model = CheckFile if whole else Definition
    try:
        file = model.model_validate(document.value)
    except ValidationError as error:
        raise document.invalid(error, CheckFile.model_fields) from None
    if file.id != path.stem:
        raise document.error(("id",), f"must be the file's name, {path.stem!r}")
    types = {name: sql_type(default) for name, default in file.params.items()} | BUILT_IN
    query = _statement(document, "query", file.query, types, known, {"host", "subject", "pass", "reason"})
    applies = _statement(document, "applies", file.applies, types, known, {"host", "applies"}) if file.applies else None
    if file.scope == "fleet" and "covered" not in query.tables and any(n not in sql.BUILT_IN_TABLES for n in query.tables):
        raise document.error(("query",), "a fleet query says by `covered` (host, tab) how many hosts it compares")
    used = query.parameters | (applies.parameters if applies else frozenset())
    if unused := set(file.params) - used:
        raise document.error(("params", sorted(unused)[0]), "no SQL names this parameter")
    for name, text in file.learn.items():
        if not isinstance(file.params.get(name), list):
            raise document.error(("learn", name), "no parameter is a list of this name")
        _statement(document, f"learn.{name}", text, {}, known, {"host", "value"})
    for index, example in enumerate(file.examples if isinstance(file, CheckFile) else ()):
        _example(document, index, example, known, file)
    return Check(CheckId(file.id), path.parent.name, file, path, query, applies)


def _statement(document: yamlfile.Document, field: str, text: str, types: dict[str, str], known: frozenset[str],
               needed: set[str]) -> sql.Statement:  # fmt: skip
    try:
        statement = sql.parse(text, types=types, prefix=f"{field}_version_key")
    except sql.SqlError as error:
        raise document.error((field,), str(error)) from None
    if unknown := sorted(statement.tables - known):
        raise document.error((field,), f"no table is named {unknown[0]!r}{did_you_mean(unknown[0], known)}")
    for name, (kind, literal, _) in statement.version_keys.items():
        if kind not in kinds():
            raise document.error((field,), f"{name}: version_key knows {', '.join(kinds())}, not {kind!r}")
        if literal is not None and key(kind, literal) is None:
            raise document.error((field,), f"{literal!r} is no {kind} version")
    if missing := sorted(n for n in needed if not re.search(rf"\b{n}\b", text)):
        raise document.error((field,), f"the statement yields no column {missing[0]!r}")
    return statement


EXAMPLE_KEYS = {"name", "result", "coverage", "params", "as_of", "hosts", "reason", "stale", "workload"}


def _example(document: yamlfile.Document, index: int, example: dict[str, Any], known: frozenset[str], file: Definition) -> None:
    """An example names a result and tables that there are; its rows are checked when it is run."""
    place: yamlfile.Place = ("examples", index)
    if file.scope == "fleet":
        hosts = example.get("hosts")
        if not isinstance(hosts, dict) or not hosts:
            raise document.error(place, "an example of a fleet check has `hosts`: name -> result and tables")
        parts = [((*place, "hosts", name), part) for name, part in hosts.items()]
    else:
        parts = [(place, example)]
    for where, part in parts:
        if not isinstance(part, dict) or part.get("result") not in set(Outcome):
            raise document.error(where, f"`result` must be one of {', '.join(Outcome)}")
        for name in part:
            if name not in EXAMPLE_KEYS | known:
                raise document.error((*where, name), "no table is named so")
