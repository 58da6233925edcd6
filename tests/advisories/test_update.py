# SPDX-License-Identifier: Apache-2.0
"""Downloads from a real HTTP server on loopback: unchanged, broken off, refused, too long, down."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from fleet_audit.advisories import update as updating
from fleet_audit.advisories.database import Database, opened
from tests.conftest import Cli

from .nodes import affects, osv


def archive(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name in names:
            packed.writestr(f"{name}.json", json.dumps(osv(name, affects("PyPI", "x", {"fixed": "2"}))))
        packed.writestr("DSA-1-1.json", json.dumps(osv("DSA-1-1", affects("Debian:12", "x", {"fixed": "2"}))))
    return out.getvalue()


@dataclass
class Site:
    """What the server has, how it behaves, and what it was asked."""

    body: bytes = b""
    etag: str = '"1"'
    status: int = 200
    breaks_at: list[int] = field(default_factory=list)
    """Bytes after which each next answer ends, though it promised all."""
    asked: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/all.zip"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(updating.time, "sleep", lambda seconds: None)
    made = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append(asked)
            if made.status != 200:
                self.send_error(made.status)
                return
            if asked.get("if-none-match") == made.etag:
                self.send_response(304)
                self.end_headers()
                return
            begin = int(asked["range"][6:-1]) if asked.get("if-range") == made.etag and "range" in asked else 0
            body = made.body[begin:]
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", made.etag)
            self.end_headers()
            self.wfile.write(body[: made.breaks_at.pop(0)] if made.breaks_at else body)
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Nothing on standard error."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join(5)


def ids(database: Database) -> list[str]:
    with opened(database) as (connection, _):
        return [name for (name,) in connection.execute("SELECT id FROM adv_advisories ORDER BY id").fetchall()]


def once(database: Database, site: Site) -> updating.Updated:
    (done,) = updating.update(database, ["pypi"], {"pypi": site.url})
    return done


def test_what_has_not_changed_is_not_downloaded_again(tmp_path: Path, site: Site) -> None:
    database, site.body = Database(tmp_path), archive("PYSEC-2026-1")
    assert once(database, site).changed and ids(database) == ["PYSEC-2026-1"], "of another source in it nothing is taken"
    first = database.manifest()
    again = once(database, site)
    assert not again.changed and not again.problem and site.asked[-1]["if-none-match"] == '"1"'
    assert database.manifest().id == first.id and database.manifest().sources["pypi"].checked_at is not None
    site.body, site.etag = archive("PYSEC-2026-1", "PYSEC-2026-2"), '"2"'
    assert once(database, site).changed and ids(database) == ["PYSEC-2026-1", "PYSEC-2026-2"]
    assert [p.name for p in (tmp_path / "downloads").iterdir()] == ["pypi.json"]


def test_a_source_that_is_gone_from_the_store_is_downloaded_whatever_was_known(tmp_path: Path, site: Site) -> None:
    database, site.body = Database(tmp_path), archive("PYSEC-2026-1")
    once(database, site)
    (tmp_path / "manifest.json").unlink()
    assert once(database, site).changed and ids(database) == ["PYSEC-2026-1"]


def test_a_download_that_breaks_off_is_taken_up_where_it_was(tmp_path: Path, site: Site) -> None:
    database, site.body, site.breaks_at = Database(tmp_path), archive(*(f"PYSEC-2026-{n}" for n in range(1, 200))), [10_000, 5000]
    assert once(database, site).changed and len(ids(database)) == 199
    assert [a.get("range") for a in site.asked] == [None, "bytes=10000-", "bytes=15000-"]


def test_one_that_changed_in_between_is_begun_anew(tmp_path: Path, site: Site) -> None:
    database, site.body, site.breaks_at = Database(tmp_path), archive("PYSEC-2026-1"), [100]

    def told(source: str, so_far: int, total: int | None) -> None:
        site.etag = '"other"'

    (done,) = updating.update(database, ["pypi"], {"pypi": site.url}, told)
    assert done.changed and ids(database) == ["PYSEC-2026-1"]


@pytest.mark.parametrize(("fault", "words"), [
    ({"status": 404}, "the server says 404"), ({"status": 503}, "the server says 503"), ({"body": b"no archive"}, "archive is broken"),
    ({"breaks_at": [10, 0, 0]}, "3 times"),
])  # fmt: skip
def test_what_fails_leaves_what_was_there(tmp_path: Path, site: Site, fault: dict[str, object], words: str) -> None:
    database, site.body = Database(tmp_path), archive("PYSEC-2026-1")
    once(database, site)
    before, site.etag = database.manifest(), '"2"'
    for name, value in fault.items():
        setattr(site, name, value)
    done = once(database, site)
    assert not done.changed and words in done.problem, done.problem
    assert database.manifest() == before and ids(database) == ["PYSEC-2026-1"]
    assert not list((tmp_path / "downloads").glob("*.part"))


def test_too_long_a_download_is_ended(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(updating, "SIZE_CAP", 1000)
    site.body = archive(*(f"PYSEC-2026-{n}" for n in range(50)))
    assert "longer than" in once(Database(tmp_path), site).problem


def test_a_server_that_is_down_is_named_and_the_others_are_updated(tmp_path: Path, site: Site) -> None:
    site.body = archive("PYSEC-2026-1")
    done = updating.update(Database(tmp_path), ["kev", "pypi"], {"kev": "http://127.0.0.1:9/kev.json", "pypi": site.url})
    assert [(d.source, d.changed, bool(d.problem)) for d in done] == [("kev", False, True), ("pypi", True, False)]


@pytest.mark.slow
def test_the_command(fleet_audit: Cli, tmp_path: Path, site: Site) -> None:
    site.body = archive("PYSEC-2026-1")
    arguments = ("advisories", "update", "--store", tmp_path / "store", "--source", "pypi", "--url", f"pypi={site.url}")
    done = fleet_audit(*arguments)
    assert (done.returncode, done.stdout) == (0, "pypi: updated\n"), done.stderr
    assert fleet_audit(*arguments).stdout == "pypi: unchanged\n"
    down = fleet_audit("advisories", "update", "--store", tmp_path / "store", "--source", "kev", "--url", "kev=http://127.0.0.1:9/x")
    assert down.returncode == 2 and "kev: not updated: http://127.0.0.1:9/x" in down.stderr
    for wrong in (("--source", "pipy"), ("--url", "pypi"), ("--url", "pypi=file:///etc/passwd")):
        assert fleet_audit("advisories", "update", "--store", tmp_path / "store", *wrong).returncode == 2


def test_a_text_that_names_the_newest_archive_is_followed(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Red Hat's server has it. A name that is none leads nowhere."""
    database, url = Database(tmp_path), f"http://127.0.0.1:{site.port}/vex/archive_latest.txt"
    asked = []
    monkeypatch.setattr(updating, "_download", lambda client, url, *rest: asked.append(url))
    monkeypatch.setattr(Database, "checked", lambda *given: None)
    site.body = b"csaf_vex_2026-07-01.tar.zst\n"
    (done,) = updating.update(database, ["redhat"], {"redhat": url})
    assert not done.problem and asked == [f"http://127.0.0.1:{site.port}/vex/csaf_vex_2026-07-01.tar.zst"]
    for bad in (b"../../etc/passwd", b"", b"a b", b"http://x/"):
        site.body = bad
        (done,) = updating.update(database, ["redhat"], {"redhat": url})
        assert "it names no archive" in done.problem
    site.status = 404
    (done,) = updating.update(database, ["redhat"], {"redhat": url})
    assert "the server says 404" in done.problem
