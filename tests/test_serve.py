# SPDX-License-Identifier: Apache-2.0
"""The site of a store: a real server, asked by HTTP and by Chromium, on runs of synthetic nodes; hostile addresses and broken runs."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import MAIN, Cli, cli_environment

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium")
CHECKS = ("ssh-root-login-restricted", "ssh-tunnel-off", "os-release-supported")


def node(folder: Path, name: str) -> None:
    """A synthetic node, whose name of its system is markup."""
    (folder / name / "files/etc").mkdir(parents=True, exist_ok=True)
    (folder / name / "files/etc/os-release").write_text('ID=ubuntu\nVERSION_ID="22.04"\nPRETTY_NAME="<script>window.pwned=1</script>"\n')
    (folder / name / "node.toml").write_text('name = "n"\nprovenance = "written by hand for a test"\nsynthetic = true\n')


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of two nodes, the newest with one more check."""
    folder = tmp_path_factory.mktemp("serve")
    for name in ("a", "b"):
        node(folder / "nodes", name)
    (folder / "i.ini").write_text(
        "[one]\na fleet_audit_archive=nodes/a\n[two]\nb fleet_audit_archive=nodes/b\ngone fleet_audit_archive=nodes/gone\n"
    )
    for count in (2, 2, 3):
        chosen = [word for check in CHECKS[:count] for word in ("--check", check)]
        argv = [*MAIN, "run", str(folder / "i.ini"), *chosen, "--store", str(folder / "store"), "-q"]
        done = subprocess.run(argv, env=cli_environment(), capture_output=True, text=True, check=False)
        assert done.returncode in (0, 1, 3), done.stderr
    return folder / "store"


@contextlib.contextmanager
def serving(store: Path) -> Iterator[str]:
    """The address of a server of a store, by the command line."""
    argv = [*MAIN, "serve", "--port", "0", "--store", str(store)]
    with subprocess.Popen(argv, env=cli_environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        try:
            yield found[0]
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture(scope="module")
def url(store: Path) -> Iterator[str]:
    """The address of a server of it."""
    with serving(store) as found:
        yield found


def get(url: str, path: str, **more: Any) -> httpx.Response:
    return httpx.get(url + path, trust_env=False, **more)


def test_every_link_of_every_page_leads_somewhere(url: str) -> None:
    seen, todo = {"/"}, ["/"]
    while todo:
        path = todo.pop()
        answer = get(url, path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["x-frame-options"] == "DENY"
        if path.endswith("report.html"):
            continue
        assert "<script" not in answer.text.lower() and "style-src 'sha256-" in answer.headers["content-security-policy"]
        for link in re.findall(r'href="(/[^"#]*)', answer.text):
            if link not in seen:
                seen.add(link)
                todo.append(link)
    kinds = {path.split("/")[1] for path in seen}
    assert kinds == {"", "hosts", "checks", "runs", "diff"} and {"/hosts/a", "/hosts/gone", "/checks/ssh-tunnel-off"} <= seen


def test_pages_say_what_the_runs_say(url: str, store: Path) -> None:
    runs = sorted(path.name for path in (store / "runs").iterdir())
    first = get(url, "/").text
    assert "2 of 3 hosts answered" in first and "3 evaluated runs, newest first" in first and all(run in first for run in runs)
    host = get(url, "/hosts/a").text
    assert "&lt;script&gt;window.pwned=1&lt;/script&gt;" in host and "newest first, 3 runs" in host
    assert "It did not answer: unresolved." in get(url, "/hosts/gone").text
    check = get(url, f"/checks/{CHECKS[2]}").text
    assert "newest first, 1 run<" in check
    diff = get(url, f"/diff/{runs[0]}/{runs[2]}").text
    assert "1 check came: os-release-supported" in diff
    assert get(url, "/healthz").text == "ok\n"


@pytest.mark.parametrize("path", [
    "/runs/..", "/runs/..%2F..%2Fetc%2Fpasswd", "/runs/%2e%2e/report.html", "/runs/latest", "/runs/2",
    "/hosts/..%2Fa", "/hosts/%00", "/hosts/{{7*7}}",
    "/checks/' OR 1=1 --", "/checks/%22%3E%3Cscript%3E", "/diff/x/y", "/diff/latest/latest", "/static/../../etc/passwd", "//etc/passwd",
    "/runs/" + "a" * 5000, "/objects", "/runs/a/evidence.jsonl.gz",
])  # fmt: skip
def test_nothing_but_names_of_the_store_is_found(url: str, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]))  # it sends the path as it stands here
    connection.request("GET", path.replace(" ", "%20"))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status == 404 and "root:x:" not in text and "<script>" not in text and "Traceback" not in text


def test_only_this_machines_own_names_may_ask_and_only_to_look(url: str) -> None:
    assert get(url, "/", headers={"Host": "evil.example"}).status_code == 400
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert httpx.request(method, url + "/", trust_env=False).status_code == 405
    assert httpx.head(url + "/", trust_env=False).status_code == 200
    port = url.rpartition(":")[2]
    with Path("/proc/net/tcp").open() as sockets:
        bound = {line.split()[1] for line in sockets if line.split()[1].endswith(f":{int(port):04X}") and line.split()[3] == "0A"}
    assert bound == {f"0100007F:{int(port):04X}"}, "it listens on loopback alone"


def test_a_broken_run_is_named_and_the_rest_is_shown(store: Path, tmp_path: Path) -> None:
    copied = tmp_path / "store"
    shutil.copytree(store, copied)
    first, second, third = sorted(p for p in (copied / "runs").iterdir())
    (first / "results.parquet").write_bytes(b"PAR1 no more")
    (second / "run.json").unlink()
    shutil.rmtree(copied / "history", ignore_errors=True)
    with serving(copied) as address:
        page = get(address, "/")
        assert page.status_code == 200 and f"Skipped: <bdi>{first.name}" in page.text and f"Skipped: <bdi>{second.name}" in page.text
        assert get(address, "/hosts/a").status_code == 200, get(address, "/hosts/a").text[-900:]
        assert "newest first, 1 run<" in get(address, "/hosts/a").text
        broken = get(address, f"/runs/{first.name}")
        assert broken.status_code == 404 and "results.parquet" in broken.text
        assert get(address, f"/runs/{third.name}").status_code == 200, get(address, f"/runs/{third.name}").text[-800:]


def test_a_store_without_a_run_says_so(tmp_path: Path) -> None:
    with serving(tmp_path / "none") as address:
        assert "No evaluated run yet" in get(address, "/").text
        assert get(address, "/hosts").status_code == 404


def test_looking_changes_nothing_in_the_store(url: str, store: Path) -> None:
    def state() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in store.rglob("*") if p.is_file()}

    get(url, "/")
    before = state()
    for path in ("/", "/hosts", "/checks", "/hosts/a"):
        get(url, path)
    assert state() == before


def test_a_port_that_is_taken_or_none_is_an_error_with_words(fleet_audit: Cli, url: str, store: Path) -> None:
    assert fleet_audit("serve", "--port", "99999", "--store", store).returncode == 2
    taken = fleet_audit("serve", "--port", url.rpartition(":")[2], "--store", store)
    assert taken.returncode == 2 and "in use" in taken.stderr and "Traceback" not in taken.stderr, taken.stderr


@pytest.mark.chromium
@pytest.mark.skipif(CHROMIUM is None, reason="CHROMIUM IS MISSING: the site was not opened in a browser")
def test_in_a_browser_with_the_keyboard_in_the_dark_and_on_a_phone(url: str, tmp_path: Path) -> None:
    api = pytest.importorskip("playwright.sync_api")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        for width, scheme in ((1440, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            troubles: list[str] = []
            page.on("console", lambda m, to=troubles: to.append(m.text))
            for path in ("/", "/hosts", "/checks", "/hosts/a", f"/checks/{CHECKS[0]}"):
                page.goto(url + path)
                assert page.evaluate("document.documentElement.scrollWidth") <= width, path
                assert page.evaluate("typeof window.pwned") == "undefined"
            page.goto(url)
            words = []
            for _ in range(12):
                page.keyboard.press("Tab")
                words.append(page.evaluate("document.activeElement.innerText"))
                if words[-1] == "Hosts":
                    break
            page.keyboard.press("Enter")
            page.wait_for_url(f"{url}/hosts")
            assert words[0] == "Skip to the content", words
            page.locator("main a", has_text="a").first.focus()
            page.screenshot(path=tmp_path / f"{width}.png")
            assert os.path.getsize(tmp_path / f"{width}.png") > 5000 and not troubles, troubles
            page.close()
        browser.close()
