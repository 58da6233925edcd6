# SPDX-License-Identifier: Apache-2.0
"""The HTML report of 1,000 hosts x 200 checks, and of 10,000, in headless Chromium: size, first paint, filtering."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._measure import median
from benchmarks._result import Result, Unavailable, at_most
from fleet_audit.report import html

CHROMIUM = Path("/usr/bin/chromium")
BARS = {"size": 12.0, "paint": 2.0, "filter": 100.0}
"""Of 1,000 hosts: MB, seconds, milliseconds."""
ROUNDS = 5
_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_FILTER = """() => { const field = document.querySelector('#view .field'), times = [];
  for (const text of ['gpu', 'kernel', 'ssh', 'zzz', '']) { field.value = text; const began = performance.now();
    field.dispatchEvent(new Event('input')); times.push(performance.now() - began); }
  const chip = document.querySelector('#view .chip'), began = performance.now(); chip.click(); times.push(performance.now() - began);
  return Math.max(...times); }"""


def _opened(page: Any, path: Path) -> tuple[float, float, float, float]:
    """(first paint in s, ready in s, unpacking in ms, slowest filter in ms)."""
    began = time.monotonic()
    page.goto(path.as_uri() + "#/overview")
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
    ready = time.monotonic() - began
    paint = float(page.evaluate(_PAINT)) / 1000
    decoded = float(page.evaluate("document.documentElement.dataset.decoded"))
    slowest = 0.0
    for view in ("checks", "hosts"):
        page.evaluate(f"location.hash = '#/{view}'")
        page.wait_for_selector("#view .field", timeout=60_000)
        slowest = max(slowest, float(page.evaluate(_FILTER)))
    return paint, ready, decoded, slowest


def run() -> Result:
    """The worst of three bars, as a share of its bar."""
    try:
        from playwright.sync_api import sync_playwright

        from tests.report.sample import sample
    except ImportError as error:
        raise Unavailable(f"it needs the extra `dev`: {error}") from None
    if not CHROMIUM.exists():
        raise Unavailable("it needs Chromium at /usr/bin/chromium")
    detail, worst = [], 0.0
    with tempfile.TemporaryDirectory(prefix="fleet-bench-") as name, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        for hosts, checks in ((1000, 200), (10_000, 200)):
            report = sample(hosts, checks)
            began = time.monotonic()
            data = html.render(report)
            rendered = time.monotonic() - began
            path = Path(name) / f"{hosts}.html"
            path.write_bytes(data)
            rounds = []
            for _ in range(ROUNDS if hosts == 1000 else 2):
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                rounds.append(_opened(page, path))
                page.close()
            paint, ready, decoded, slowest = (median([r[n] for r in rounds]) for n in range(4))
            size = len(data) / 1e6
            detail.append(
                f"{hosts} x {checks}: {size:.1f} MB, written in {rendered:.1f} s; first paint {paint:.2f} s, ready {ready:.2f} s, "
                f"unpacked in {decoded:.0f} ms, slowest filter {slowest:.0f} ms"
            )
            if hosts == 1000:
                worst = max(size / BARS["size"], paint / BARS["paint"], slowest / BARS["filter"])
        browser.close()
    return at_most("report", worst, 1.0, "of the nearest bar: 12 MB, first paint 2 s, filter 100 ms", detail)
