# SPDX-License-Identifier: Apache-2.0
"""The entries of sudoers(5), as they are written: no alias expanded, nothing judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Member:
    """A member of a list of users, hosts or commands."""

    text: str
    negated: bool = False
    alias: bool = False
    """It may name an alias: upper case and not quoted."""
    arguments: str | None = None
    """Of a command: `""` none are allowed, None any."""
    digests: tuple[str, ...] = ()
    """Of a command: kinds of digests, one of which its file must have."""


@dataclass(frozen=True)
class Include:
    """`@include` or `@includedir`."""

    path: str
    folder: bool


@dataclass(frozen=True)
class Alias:
    """One alias."""

    kind: str
    """User, Runas, Host or Cmnd."""
    name: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Default:
    """One setting of a Defaults entry."""

    key: str
    operator: str
    """`=`, `+=`, `-=`; empty for a flag."""
    value: str
    negated: bool
    scope: str
    """global, host, user, runas or command."""
    names: tuple[Member, ...]


@dataclass(frozen=True)
class Grant:
    """One command of a user specification, with what it takes over from the commands before it."""

    who: tuple[Member, ...]
    hosts: tuple[Member, ...]
    runas: tuple[tuple[Member, ...], tuple[Member, ...]] | None
    """Users and groups; no users: the caller alone. None: nothing is said, so it is runas_default."""
    tags: dict[str, bool]
    options: dict[str, str]
    command: Member


Entry = Include | Alias | Default | Grant
