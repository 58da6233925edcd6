# SPDX-License-Identifier: Apache-2.0
"""Options that several subcommands share, under the names that Ansible users type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def several(*decorators: Decorator) -> Decorator:
    """One decorator that applies several, the first outermost."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


store = click.option(
    "--store", "store_folder", type=click.Path(path_type=Path), metavar="DIR",
    help="Where runs and evidence are kept. [default: $XDG_STATE_HOME/fleet-audit]",
)  # fmt: skip
form = click.option(
    "--format", "output_format", type=click.Choice(["table", "json"]), default="table", show_default=True, help="How to print."
)
checks_folder = click.option(
    "--checks", "check_folders", type=click.Path(path_type=Path), multiple=True, metavar="DIR", help="A folder of your own checks; may be repeated."
)  # fmt: skip
connection = several(
    click.option("-u", "--user", metavar="NAME", help="Log in as this user."),
    click.option("--private-key", "--key-file", metavar="FILE", help="Log in with this private key."),
    click.option("-k", "--ask-pass", is_flag=True, help="Ask for the SSH password."),
    click.option("-b", "--become", is_flag=True, help="Become root on the nodes."),
    click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password to become root."),
    click.option("--vault-password-file", metavar="FILE", help="Password file of Ansible Vault."),
    click.option("-l", "--limit", metavar="PATTERN", help="Only the hosts of the inventory that fit."),
)
limits = several(
    click.option("--concurrency", type=click.IntRange(1, 1000), metavar="N", help="Hosts at once. [default: what fits this machine]"),
    click.option("--timeout", type=click.IntRange(5, 3600), default=60, show_default=True, metavar="S", help="Seconds for one host."),
)
selection = several(
    click.option("--policy", "policy_file", metavar="FILE", help="Policy file. [default: fleet-audit.yaml beside the inventory]"),
    click.option("--profile", metavar="NAME", help="Profile of checks. [default: the policy's, else baseline]"),
    click.option("--check", "only", multiple=True, metavar="ID", help="Only this check; may be repeated."),
    checks_folder,
)
judging = several(
    click.option("--fail-on", type=click.Choice(["critical", "high", "medium", "low", "info"]), default="high", show_default=True,
                 help="Exit with 1 on an open failure of this severity or above."),
    click.option("--max-unknown", default="0", show_default=True, metavar="N|P%|any",
                 help="Exit with 3 if more results than this, of checks at that severity or above, are not known."),
    click.option("--baseline", metavar="RUN", help="Failures that RUN had too do not count for the exit status: only what is new does."),
)  # fmt: skip
reports = several(
    click.option("-f", "--format", "formats", multiple=True, metavar="NAME",
                 help="Report format: csv, html, json, junit, markdown, oscal, prometheus, sarif or terminal; may be repeated. [default: html]"),
    click.option("-o", "--output", metavar="PATH", help="File or folder for reports, or - for standard output. [default: the store]"),
)  # fmt: skip
as_of = click.option("--as-of", metavar="TIME", help="Measure ages at this time, such as 2026-11-24T06:00:00.")
verbosity = several(
    click.option("-q", "--quiet", is_flag=True, help="Print no progress and no summary."),
    click.option("-v", "--verbose", is_flag=True, help="Print a line for each host."),
)
