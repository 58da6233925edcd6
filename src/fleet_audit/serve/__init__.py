# SPDX-License-Identifier: Apache-2.0
"""The run store as a small site to look at. It changes nothing, knows names of runs, hosts and checks alone, and runs no script.

What is asked for is looked up among what the store has; no part of an address becomes a path.
"""

from __future__ import annotations

import importlib.resources
from collections.abc import Callable
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from fleet_audit.model import FleetAuditError
from fleet_audit.report import html
from fleet_audit.report.text import clean, count, number, share
from fleet_audit.runs import Store
from fleet_audit.serve.pages import Missing, Site

HEADERS = {
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY", "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip
NAMES = ["localhost", "127.0.0.1"]
"""Names by which a browser may ask: a page of elsewhere that points its own name here gets nothing."""


def app(store: Store) -> Starlette:
    """The site of a store."""
    site = Site(store)
    pages: dict[str, Callable[..., dict[str, Any]]] = {
        "/": site.overview, "/runs/{run}": site.run, "/hosts": site.hosts, "/hosts/{host}": site.host, "/checks": site.checks,
        "/checks/{check}": site.check, "/diff/{before}/{after}": site.diff,
    }  # fmt: skip

    def shown(name: str, page: Callable[..., dict[str, Any]]) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            return _page(name, page(**request.path_params))

        return answer

    def report(request: Request) -> Response:
        return Response(site.report(request.path_params["run"]), media_type="text/html; charset=utf-8", headers=HEADERS)

    def alive(request: Request) -> Response:
        return PlainTextResponse("ok\n", headers=HEADERS)

    routes = [Route(path, shown(page.__name__, page)) for path, page in pages.items()]
    return Starlette(
        routes=[*routes, Route("/runs/{run}/report.html", report), Route("/healthz", alive)],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=NAMES, www_redirect=False)],
        exception_handlers={Missing: _missing, FleetAuditError: _missing, HTTPException: _refused, Exception: _failed},
    )


def _page(name: str, values: dict[str, Any], status: int = 200) -> Response:
    policy = f"default-src 'none'; style-src '{html.csp_hash(style())}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    body = _templates().get_template(f"{name}.html").render(**values)
    return HTMLResponse(body, status_code=status, headers={**HEADERS, "Content-Security-Policy": policy})


async def _missing(request: Request, error: Exception) -> Response:
    return _page("trouble", {"title": "Not here", "words": str(error)}, 404)


async def _refused(request: Request, error: Exception) -> Response:
    code = error.status_code if isinstance(error, HTTPException) else 400
    return _page("trouble", {"title": "Not here" if code == 404 else "Refused", "words": "There is no such page." if code == 404 else
                             "This site only shows: it takes GET and HEAD."}, code)  # fmt: skip


async def _failed(request: Request, error: Exception) -> Response:
    words = f"{type(error).__name__}; the terminal of `fleet-audit serve` says more. Other pages are not concerned."
    return _page("trouble", {"title": "This page broke", "words": words}, 500)


@cache
def style() -> str:
    """The report's style with the little that this site adds."""
    own = (importlib.resources.files("fleet_audit.serve") / "_html" / "site.css").read_text("utf-8")
    return html.assets()[0] + own


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("fleet_audit.serve", "_html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        node=lambda text, most=200: clean(text, most), number=number, share=share, count=count, segments=html.segments
    )
    environment.globals.update(style=Markup(style()))
    return environment
