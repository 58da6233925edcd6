# SPDX-License-Identifier: Apache-2.0
"""The HTML report in a real headless Chromium, opened from a file as a reader would."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleet_audit.findings import Posture, Report
from fleet_audit.model import Outcome
from fleet_audit.report import html
from tests.report.sample import HOSTILE, sample

pytestmark = pytest.mark.slow

CHROMIUM = shutil.which("chromium")
browser_only = pytest.mark.skipif(CHROMIUM is None, reason="CHROMIUM IS MISSING: nothing below opens the report in a browser")
VIEWS = ("overview", "checks", "hosts", "unknown", "actions", "maps", "vulns", "controls", "waivers", "run", "search?q=n0")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="PLAYWRIGHT IS MISSING: nothing below opens the report in a browser")
    with api.sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--no-first-run"])
        yield started
        started.close()


class Opened:
    """A page with a report, and everything that went wrong in it."""

    def __init__(self, browser: Any, report: Report, folder: Path, *, width: int = 1440, **options: Any) -> None:
        self.troubles: list[str] = []
        self.requests: list[str] = []
        path = folder / "report.html"
        path.write_bytes(html.render(report))
        self.url = path.as_uri()
        self.page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        self.page.on("console", lambda m: self.troubles.append(m.text))
        self.page.on("pageerror", lambda e: self.troubles.append(str(e)))
        self.page.on("dialog", self._dialog)
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', e => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )
        self.go("overview")

    def _dialog(self, dialog: Any) -> None:
        self.troubles.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def go(self, view: str) -> None:
        """Open a view afresh."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}#/{view}")
        self.page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).first.inner_text())

    def close(self) -> None:
        self.page.close()
        assert not self.troubles, self.troubles


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    pages: list[Opened] = []

    def open_(report: Report, **options: Any) -> Opened:
        pages.append(Opened(browser, report, tmp_path, **options))
        return pages[-1]

    yield open_
    for page in pages:
        page.close()


def header(page: bytes) -> dict[str, Any]:
    """The packed header of a rendered report."""
    block = re.search(rb'id="data" data-schema="4" data-adler="(\d+)" data-size="(\d+)">([^<]+)<', page)
    assert block
    data = zlib.decompress(base64.b64decode(block[3]), -15)
    assert zlib.adler32(data) == int(block[1])
    assert len(data) == int(block[2])
    return dict(json.loads(data[4 : 4 + int.from_bytes(data[:4], "little")]))


def numbers(text: str) -> list[int]:
    return [int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", text)]


# ---------------------------------------------------------------- without a browser


def test_same_report_gives_the_same_bytes() -> None:
    assert html.render(sample(20, 30, hostile=True)) == html.render(sample(20, 30, hostile=True))


def test_policy_names_the_one_script_and_the_one_style_whatever_the_run() -> None:
    pages = [html.render(r).decode() for r in (sample(3, 5), sample(9, 12, hostile=True))]
    policies = [found for p in pages for found in re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', p)]
    assert len(policies) == 2 and policies[0] == policies[1]
    for page in pages:
        for tag in ("style", "script"):
            bodies = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
            assert len(bodies) == 1
            digest = base64.b64encode(hashlib.sha256(bodies[0].encode()).digest()).decode()
            assert f"{tag}-src &#39;sha256-{digest}&#39;" in policies[0] or f"{tag}-src 'sha256-{digest}'" in policies[0]
        assert page.index("Content-Security-Policy") < page.index("<style>")


def test_assets_have_no_way_to_parse_markup_or_to_reach_out() -> None:
    style, script = html.assets()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "DOMParser", "eval(", "new Function", "fetch(",
                 "XMLHttpRequest", "localStorage", "sessionStorage", "toLocale", "</script", "Math.random", "Date.now"):  # fmt: skip
        assert word not in script, word
    assert "@import" not in style
    assert set(re.findall(r"url\(([^)]*)\)", style)) <= {"#p-unk", "#p-gone", "#p-na"}
    folder = Path(html.__file__).parent / "_html"
    for path in folder.iterdir():
        assert len(path.read_text().splitlines()) < 400, path
        assert "SPDX-License-Identifier" in path.read_text().splitlines()[0]


def test_static_page_has_no_attribute_for_style_or_events() -> None:
    page = html.render(sample(30, 40, hostile=True)).decode()
    markup = re.sub(r"<(style|script)\b[^>]*>.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r"<[^>]+\s(style|on[a-z]+)=", markup)
    assert not re.search(r"""(src|href)=["'](?!#)""", markup)
    for text in HOSTILE[:3]:
        assert text not in markup


def test_packed_totals_are_those_of_the_report() -> None:
    report = sample(40, 60)
    posture = report.posture()
    totals = header(html.render(report))["totals"]
    assert totals == {f: getattr(posture, f) for f in (*Posture.__dataclass_fields__, "expected")}


def test_packed_texts_have_no_control_or_direction_characters() -> None:
    text = json.dumps(header(html.render(sample(30, 40, hostile=True))), ensure_ascii=False)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "U+202E" in text


def test_bar_adds_up_and_shows_even_one() -> None:
    parts = html.segments(Posture(passed=99_999, failed=1))
    assert [p["kind"] for p in parts] == ["pass", "fail"]
    assert sum(p["w"] for p in parts) == pytest.approx(100)
    assert parts[1]["w"] > 0.3
    assert html.segments(Posture()) == []


@pytest.mark.parametrize(
    ("report", "verdict"),
    [
        (sample(0, 3), "No host is in this run."),
        (sample(4, 10, silent=99.0), "No host answered."),
        (sample(4, 10, silent=0.0, applies=False), "No check applies to any host that answered."),
        (sample(4, 10, silent=0.0, fails=0, unknowns=0), r"All clear: all \d+ expected results are shown to pass\."),
        (sample(40, 60, silent=0.0, fails=0), r"No open failure was found\. \d.* % of the results are not known\."),
        (sample(40, 60, silent=0.0, unknowns=0), r"\d+ critical failures? (is|are) open on \d+ hosts?\."),
    ],
)
def test_verdict(report: Report, verdict: str) -> None:
    assert re.fullmatch(verdict, html.verdict(report))


def test_all_clear_is_said_only_when_everything_is_known() -> None:
    report = sample(4, 10, silent=0.0, fails=0, unknowns=0)
    assert "All clear" in html.verdict(report)
    at = next(i for i, r in enumerate(report.results) if r.outcome is Outcome.PASS)
    one = dataclasses.replace(report.results[at], outcome=Outcome.UNKNOWN, reason="no")
    assert "All clear" not in html.verdict(dataclasses.replace(report, results=(*report.results[:at], one, *report.results[at + 1 :])))


# ---------------------------------------------------------------- in a browser


@browser_only
def test_totals_in_the_page_equal_the_posture(opened: Any) -> None:
    report = sample(60, 80)
    posture, page = report.posture(), opened(report)
    shown = {name: numbers(page.text(f"[data-total={name}]")) for name in ("passed", "unknown", "no_answer", "failed")}
    assert shown == {
        "passed": [posture.passed], "unknown": [posture.unknown + posture.error], "no_answer": [posture.no_answer], "failed": [posture.failed],
    }  # fmt: skip
    assert page.page.locator("#broken").is_hidden(), "the page compares what it unpacked with these"
    for severity, failures in report.open_failures().items():
        link = page.page.locator(f".sevs a[href$='sev={severity}']")
        assert not failures or numbers(link.inner_text()) == [failures]
    page.go("run")
    rows = dict(zip(page.page.locator("main dt").all_inner_texts(), page.page.locator("main dd").all_inner_texts(), strict=True))
    assert numbers(rows["Expected"]) == [posture.expected]
    assert numbers(rows["Not applicable"]) == [posture.notapplicable]
    page.go("unknown")
    causes = report.causes()
    texts = [numbers(t)[0] for t in page.page.locator("tr[data-row] td:first-child").all_inner_texts()]
    assert texts == [c.results for c in causes]
    page.go("actions")
    assert page.page.locator("tr[data-row]").count() == len(report.actions())
    assert page.requests == [u for u in page.requests if u.startswith(("file:", "about:"))]


@browser_only
def test_hostile_text_is_inert_in_every_view(opened: Any) -> None:
    report = sample(30, 40, hostile=True)
    page = opened(report)
    views = [*VIEWS, *(f"check/{c.id}" for c in report.checks[:12])]
    for view in views:
        page.go(view)
        for summary in page.page.locator("main details > summary:visible").all()[:12]:
            summary.click()
        assert page.page.evaluate("document.querySelectorAll('main img, main script, main iframe, [onload], [onerror]').length") == 0
        assert page.page.evaluate("typeof window.pwned") == "undefined"
        for href in page.page.evaluate("[...document.querySelectorAll('main a')].map(a => a.getAttribute('href'))"):
            assert href.startswith(("#", "https://")), href
    page.go("hosts")
    hrefs = page.page.evaluate("[...document.querySelectorAll('tr[data-row] a')].map(a => a.getAttribute('href'))")
    assert len(hrefs) == len(report.hosts)
    for href in hrefs:
        page.go(href.removeprefix("#/"))
        assert page.page.locator("main h1:visible").count() == 1
        assert "not found" not in page.text("main h1:visible")
        for summary in page.page.locator("main details > summary:visible").all()[:4]:
            summary.click()
        for command in page.page.locator(".cmd code").all_text_contents():
            assert re.fullmatch(r"fleet-audit explain [A-Za-z0-9_][A-Za-z0-9._-]* [a-z0-9-]+", command), command
    assert page.page.locator("main").inner_text().count("\u202e") == 0


@browser_only
def test_a_result_leads_to_its_bytes_and_a_waiver_to_what_it_accepts(opened: Any) -> None:
    report = sample(30, 40)
    page = opened(report)
    failing = next(r for r in report.results if r.outcome is Outcome.FAIL and not r.waived)
    page.go(f"host/{failing.host}")
    page.page.locator("main details > summary", has_text="evidence").first.click()
    shown = page.page.locator(".bytes").first
    shown.wait_for()
    assert "denied: " in shown.inner_text() and "9,000 bytes, sha256 5f5f5f5f5f5f5f5f" in shown.inner_text()
    shown.locator("summary").first.click()
    shown.locator("pre").first.wait_for()
    assert shown.locator("pre").first.inner_text() == "PermitRootLogin yes\nX11Forwarding no"
    assert "The first 1,500 bytes." in shown.inner_text()
    page.go("waivers")
    rows = page.page.locator("tr[data-row]").all_inner_texts()
    assert (
        len(rows) == 3
        and "expired: it accepts nothing" in rows[0]
        and "ends within 30 days" in rows[1]
        and "no host of this name" in rows[1]
    )
    page.page.locator("main details > summary:visible").first.click()
    page.page.locator(".subjects li").first.wait_for()
    accepted = sum(f.waiver == 0 for f in report.findings)
    assert page.page.locator(".subjects li").count() == accepted == report.waivers[0].accepted


@browser_only
def test_filters_and_back(opened: Any) -> None:
    report = sample(60, 80)
    failing = {r.check for r in report.results if r.outcome is Outcome.FAIL}
    critical = {c.id for c in report.checks if c.severity == "critical"}
    page = opened(report)
    page.go("checks")
    assert numbers(page.text("#shown")) == [80, 80]
    page.page.get_by_role("button", name=re.compile("^critical")).click()
    assert numbers(page.text("#shown")) == [len(critical), 80]
    page.page.get_by_role("button", name=re.compile("^fail")).click()
    assert numbers(page.text("#shown")) == [len(critical & failing), 80]
    assert page.page.url.endswith("#/checks?out=fail&sev=critical")
    assert "not shown" in page.text(".shown")
    page.page.go_back()
    assert numbers(page.text("#shown")) == [len(critical), 80]
    page.page.go_back()
    assert numbers(page.text("#shown")) == [80, 80]
    page.page.get_by_label("Area").select_option("ssh")
    assert numbers(page.text("#shown"))[0] == sum(c.area == "ssh" for c in report.checks)
    page.page.get_by_label("Filter this list by text").fill("state-006")
    assert numbers(page.text("#shown"))[0] == 1
    page.go("checks?sev=nonsense,%22&out=__proto__&q=")
    assert numbers(page.text("#shown")) == [80, 80]
    page.go("checks?out=pass")
    passing = {r.check for r in report.results if r.outcome is Outcome.PASS}
    assert numbers(page.text("#shown"))[0] == len(passing)
    page.go("hosts?answered=no")
    assert numbers(page.text("#shown")) == [len(report.silent), 60]


@browser_only
def test_back_leads_to_where_one_was_and_a_sorted_head_keeps_the_focus(opened: Any) -> None:
    page = opened(sample(300, 200))
    page.go("checks?out=fail")
    page.page.locator("th button").first.focus()
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("document.activeElement.tagName") == "BUTTON"
    page.page.evaluate("scrollTo(0, 900)")
    page.page.wait_for_timeout(400)
    assert page.page.evaluate("history.state.y") > 500
    page.page.locator("tr[data-row] a").nth(25).click()
    page.page.wait_for_url("**#/check/*")
    page.page.go_back()
    page.page.wait_for_timeout(400)
    assert page.page.evaluate("scrollY") > 500


@browser_only
def test_hosts_and_checks_open_by_link_and_by_keyboard(opened: Any) -> None:
    report = sample(30, 40)
    page = opened(report)
    keys = page.page.keyboard
    page.go("checks")
    page.page.locator("tr[data-row] a").first.click()
    assert "#/check/" in page.page.url
    assert page.page.evaluate("document.activeElement.tagName") == "H1"
    keys.press("]")
    page.page.go_back()
    page.page.go_back()
    keys.press("j")
    keys.press("j")
    keys.press("k")
    keys.press("Enter")
    assert "#/check/" in page.page.url
    page.go("hosts")
    keys.press("j")
    keys.press("Enter")
    assert "#/host/" in page.page.url
    page.page.locator("#view h1").wait_for()
    page.page.get_by_role("button", name="Next host").wait_for()
    before = page.page.url
    keys.press("]")
    page.page.wait_for_timeout(50)
    assert page.page.url != before
    keys.press("u")
    assert "out=unknown" in page.page.url
    keys.press("j")
    keys.press("Enter")
    assert page.page.locator("details[open]").count() >= 1
    keys.press("Escape")
    assert page.page.locator("details[open]").count() == 0
    keys.press("/")
    keys.type("t0")
    assert "#/search?q=t0" in page.page.url
    keys.press("Escape")
    keys.press("?")
    assert page.page.locator("#help").is_visible()
    keys.press("Escape")
    assert page.page.locator("#help").is_hidden()
    page.go("overview")
    page.page.locator("canvas").focus()
    keys.press("ArrowRight")
    keys.press("ArrowDown")
    assert "·" in page.text(".read")
    keys.press("Enter")
    assert "#/host/" in page.page.url


@browser_only
@pytest.mark.parametrize("width", [390, 320])
def test_no_sideways_scroll_on_phones(opened: Any, width: int) -> None:
    report = sample(40, 60, hostile=True)
    page = opened(report, width=width)
    names = ["host/" + h.name for h in report.hosts if re.fullmatch(r"[a-z0-9-]+", h.name)]
    silent = [f"host/{h.name}" for h in report.hosts if not h.entry.answered and re.fullmatch(r"[a-z0-9-]+", h.name)]
    for view in (*VIEWS, f"check/{report.actions()[0].checks[0]}", *names[:2], *silent[:1]):
        page.go(view)
        assert page.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, view


@browser_only
def test_edges_are_said_in_words(opened: Any) -> None:
    cases = {
        "no host is in": sample(0, 3), "no host answered": sample(4, 10, silent=99.0),
        "no check applies": sample(4, 10, silent=0.0, applies=False), "1 of 1 host answered": sample(1, 10, silent=0.0),
        "all clear": sample(4, 10, silent=0.0, fails=0, unknowns=0),
    }  # fmt: skip
    for words, report in cases.items():
        page = opened(report)
        assert words in page.text("#overview").lower(), words
        for view in VIEWS:
            page.go(view)
            assert "NaN" not in page.text("main")
            assert "undefined" not in page.text("main")
        if not report.posture().passed:
            page.go("overview")
            assert page.page.locator("#overview rect.f-pass").count() == 0


@browser_only
def test_themes_and_print(opened: Any, tmp_path: Path) -> None:
    report = sample(150, 200)
    check = report.actions()[0].checks[0]
    colours = {}
    for theme in ("light", "dark"):
        page = opened(report, color_scheme=theme)
        for view in ("overview", f"check/{check}"):
            page.go(view)
            page.page.screenshot(path=str(tmp_path / f"{theme}-{view.split('/')[0]}.png"), full_page=True)
        colours[theme] = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.page.emulate_media(media="print", color_scheme=theme)
        assert page.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.page.screenshot(path=str(tmp_path / f"print-from-{theme}.png"), full_page=True)
        page.page.emulate_media(media="screen", color_scheme=theme)
        page.page.locator("#theme").click()
        toggled = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        colours[theme + " toggled"] = toggled
    assert colours["light"] == colours["dark toggled"] != colours["dark"] == colours["light toggled"]
    print(f"\nscreenshots in {tmp_path}")


@browser_only
def test_without_a_script_the_summary_is_there(browser: Any, tmp_path: Path) -> None:
    report = sample(30, 40)
    (tmp_path / "r.html").write_bytes(html.render(report))
    page = browser.new_page(java_script_enabled=False)
    page.goto((tmp_path / "r.html").as_uri())
    text = page.locator("main").inner_text()
    assert html.verdict(report) in text
    assert html.coverage(report) in text
    assert "Without a script" in text
    page.close()


@browser_only
@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('data-schema="4"', 'data-schema="9"', "layout 9"),
        ('data-adler="', 'data-adler="9', "checksum"),
        ('data-total="failed">', 'data-total="failed">1', "contradicts itself"),
    ],
)
def test_damaged_file_keeps_its_summary_and_says_so(browser: Any, tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "r.html").write_bytes(html.render(sample(10, 20)).replace(old.encode(), new.encode(), 1))
    page = browser.new_page()
    page.goto((tmp_path / "r.html").as_uri())
    page.locator("#broken").wait_for(state="visible")
    assert words in page.locator("#broken").inner_text()
    assert page.locator("h1:visible").count() == 1
    page.close()


@browser_only
def test_thousand_hosts_two_hundred_checks(opened: Any) -> None:
    report = sample(1000, 200)
    began = time.perf_counter()
    data = html.render(report)
    rendered = time.perf_counter() - began
    page = opened(report)
    paint = page.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? -1")
    decoded = page.page.evaluate("document.documentElement.dataset.decoded")
    heat = page.page.evaluate(
        "(() => { const t = performance.now(); dispatchEvent(new Event('resize')); return performance.now() - t; })()"
    )
    page.go("hosts")
    filtered = page.page.evaluate(
        "(() => { const t = performance.now(); document.querySelector('.chip').click();"
        " document.body.offsetHeight; return performance.now() - t; })()"
    )
    rows = page.page.locator("tr[data-row]").count()
    assert rows < 400, "only the first rows are made"
    assert len(data) < 12_000_000
    print(
        f"\n1,000 x 200: {len(data):,} bytes, rendered in {rendered:.2f} s; first paint {paint:.0f} ms, decoded in {decoded} ms, "
        f"heat map {heat:.0f} ms, hosts filtered and drawn in {filtered:.0f} ms ({rows} rows in the page)", file=sys.stderr,
    )  # fmt: skip
