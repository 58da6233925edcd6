# SPDX-License-Identifier: Apache-2.0
"""Ubuntu's OpenVEX documents: packages that a CVE does not affect. Source: https://openvex.dev/ns/v0.2.0"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from fleet_audit.advisories.records import CVE, Batch, Range, Refused, moment

_STATEMENTS, _PRODUCTS = 10_000, 200_000
RELEASES = {
    "trusty": "14.04", "xenial": "16.04", "bionic": "18.04", "focal": "20.04", "jammy": "22.04", "noble": "24.04", "oracular": "24.10",
    "plucky": "25.04", "questing": "25.10", "resolute": "26.04",
}  # fmt: skip
NOT_AFFECTED = "not-affected"
"""Tier of a range that says that a source package of a release is not affected, whatever its version."""


def read(document: Mapping[str, Any], batch: Batch) -> None:
    """Take in one document. Raises `Refused`."""
    statements = document.get("statements")
    about = document.get("metadata") if isinstance(document.get("metadata"), dict) else document
    if not isinstance(statements, list) or len(statements) > _STATEMENTS or not isinstance(about, dict):
        raise Refused("`statements` is no list, or too long")
    if "openvex" not in str(about.get("@context", "")):
        raise Refused("statements of no OpenVEX document")
    batch.saw(moment(about.get("timestamp")))
    for statement in statements:
        about_it = statement.get("vulnerability") if isinstance(statement, dict) else None
        cve = about_it.get("name") if isinstance(about_it, dict) else None
        if not isinstance(cve, str) or not CVE.fullmatch(cve) or statement.get("status") != "not_affected":
            continue
        products = statement.get("products")
        if not isinstance(products, list) or len(products) > _PRODUCTS:
            raise Refused("`products` is no list, or too long")
        found = {place for product in products if isinstance(product, dict) and (place := _source(str(product.get("@id", ""))))}
        batch.ranges += [
            Range(f"VEX-{cve}", (cve,), "ubuntu", r, NOT_AFFECTED, p, "dpkg", None, None, False, None, None) for r, p in sorted(found)
        ]


def _source(purl: str) -> tuple[str, str] | None:
    """(release, source package) of a package address of a source package; the tier is in the pocket."""
    match = re.fullmatch(r"pkg:deb/ubuntu/([^@?]+)@[^?]*\?(.*)", purl)
    if match is None or "arch=source" not in match[2] or (distro := re.search(r"distro=(?:[a-z-]+/)?([a-z]+)", match[2])) is None:
        return None
    release = RELEASES.get(distro[1])
    return (release, unquote(match[1])) if release else None
