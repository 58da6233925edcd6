# SPDX-License-Identifier: Apache-2.0
"""Documents are true: generated pages, the help in the README, links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("*/README.md"))]


def test_generated_pages_are_what_the_code_says() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs/generate.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_readme_shows_the_help_that_is_printed(fleet_audit: Cli) -> None:
    block = re.search(r"<!-- help -->\n```\n(.*?)```\n<!-- /help -->", (ROOT / "README.md").read_text(), re.S)
    assert block is not None
    assert block[1] == fleet_audit("run", "--help", env={"COLUMNS": "100"}).stdout


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_every_subcommand_is_in_a_document() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in PAGES)
    for module in (ROOT / "src/fleet_audit/cli").glob("[a-z]*.py"):
        if module.stem != "main":
            assert f"fleet-audit {module.stem}" in text, module.stem
