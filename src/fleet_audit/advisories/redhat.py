# SPDX-License-Identifier: Apache-2.0
"""Red Hat's VEX documents (CSAF 2.0), one for each CVE: fixed and affected packages of each product of RHEL.

A product is known by its CPE, a package by its package address, and a relationship says which package is in which product:
the ids themselves have changed their form over the years. Packages that are not affected are in no range.
Source: https://redhatproductsecurity.github.io/security-data-guidelines/csaf-vex/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

from fleet_audit.advisories.records import CVE, Advisory, Batch, Foreign, Range, Refused, line, moment, severity_of
from fleet_audit.versions import key

MINOR, MODULE = "minor:", "module:"
"""Tiers of a range: `minor:9.2`, a fix for those who stay on a minor release; `module:3.9`, a package of that stream of a module."""
_DEPTH, _PRODUCTS, _VULNERABILITIES = 20, 500_000, 1_000


def read(document: Mapping[str, Any], batch: Batch) -> None:
    """Take in one document. Raises `Refused`."""
    about, tree, entries = document["document"], document.get("product_tree"), document.get("vulnerabilities")
    if about.get("category") != "csaf_vex":
        raise Foreign("an advisory of Red Hat: its VEX documents say the same, and more")
    if not isinstance(tree, dict) or not isinstance(entries, list) or len(entries) > _VULNERABILITIES:
        raise Refused("it has no product tree, or no list of vulnerabilities")
    tracking = about.get("tracking") if isinstance(about.get("tracking"), dict) else {}
    made, changed = moment(tracking.get("initial_release_date")), moment(tracking.get("current_release_date"))
    batch.saw(changed)
    components = _components(tree)
    overall = about.get("aggregate_severity")
    word = severity_of(overall.get("text")) if isinstance(overall, dict) else None
    for entry in entries:
        cve = entry.get("cve") if isinstance(entry, dict) else None
        if isinstance(cve, str) and CVE.fullmatch(cve):
            ranges = list(_ranges(cve, entry, components, word))
            if ranges:
                batch.advisories.append(
                    Advisory(f"RHVEX-{cve}", "cve", (cve,), line(entry.get("title") or about.get("title")), word, made, changed)
                )
                batch.ranges += ranges


@dataclass(frozen=True, slots=True)
class _Component:
    """A package in a product of RHEL."""

    release: str
    """Major release."""
    tier: str
    package: str
    version: str | None
    """With epoch and release; None where the document speaks of the package as such."""


@dataclass
class _Said:
    """What a document says of a package of a release."""

    fixed: set[str] = field(default_factory=set)
    affected: bool = False
    unsure: str = ""


def _components(tree: Mapping[str, Any]) -> dict[str, _Component]:
    """Product id -> the package of RHEL that it stands for. A package of a module is a component of the module's product."""
    products = dict(_leaves(tree.get("branches"), 0))
    relationships = tree.get("relationships") or []
    if not isinstance(relationships, list) or len(relationships) > _PRODUCTS or len(products) > _PRODUCTS:
        raise Refused("more products than a document has")
    parts: dict[str, tuple[str, str]] = {}
    for relationship in relationships:
        whole = relationship.get("full_product_name") if isinstance(relationship, dict) else None
        if isinstance(whole, dict):
            parts[str(whole.get("product_id"))] = (
                str(relationship.get("product_reference")), str(relationship.get("relates_to_product_reference")),
            )  # fmt: skip
    found: dict[str, _Component] = {}
    for product, (part, within) in parts.items():
        module, system = parts.get(within, ("", within))
        place = _place(str(products.get(system, {}).get("cpe")))
        thing = _package(str(products.get(part, {}).get("purl")), _stream(str(products.get(module, {}).get("purl"))))
        if place and thing and not (place[1] and thing[2]):  # of modules of a minor release the main line has fixes too
            (release, minor), (name, version, stream) = place, thing
            tier = f"{MINOR}{minor}" if minor else f"{MODULE}{stream}" if stream else "base"
            found[product] = _Component(release, tier, name, version)
    return found


def _stream(purl: str) -> str:
    """The stream of a module by its package address; empty for what is no module."""
    match = re.fullmatch(r"pkg:rpmmod/redhat/[^@]+@([^:?]{1,60})[:?].*", unquote(purl))
    return match[1] if match else ""


def _leaves(branches: object, depth: int) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(product id, what identifies it) of all products of a tree."""
    if depth > _DEPTH:
        raise Refused("its product tree is too deep")
    for branch in branches if isinstance(branches, list) else ():
        if isinstance(branch, dict):
            product = branch.get("product")
            helper = product.get("product_identification_helper") if isinstance(product, dict) else None
            if isinstance(product, dict) and isinstance(helper, dict):
                yield str(product.get("product_id")), helper
            yield from _leaves(branch.get("branches"), depth + 1)


def _place(cpe: str) -> tuple[str, str] | None:
    """(major release, minor release or nothing) of a product; None for what is no RHEL that a host here may be.

    Extended streams (EUS, AUS, E4S, TUS) keep a minor release; extended life support (ELS) an old major one.
    """
    match = re.match(r"cpe:/[ao]:redhat:(enterprise_linux|rhel_(?:eus|aus|e4s|tus|els)):(\d{1,2})(?:\.(\d{1,2}))?(?![\d.])", cpe)
    if match is None:
        return None
    kept = match[1] not in ("enterprise_linux", "rhel_els")
    if kept and match[3] is None:
        return None
    return match[2], f"{match[2]}.{match[3]}" if kept else ""


_BUILD = re.compile(r"-\d{16,20}\.[0-9a-f]{8}$")
"""The end of the version of a module as such, which is that of no package."""


def _package(purl: str, stream: str) -> tuple[str, str | None, str] | None:
    """(package, version with epoch and release, stream of its module) of a package address of a source package.

    Binary packages are passed over: their source stands beside them. A stream that is not known is `?`.
    """
    match = re.fullmatch(r"pkg:rpm/redhat/([A-Za-z0-9][A-Za-z0-9+._-]{0,199})(?:@([^?#]{1,200}))?(?:\?([^#]{0,500}))?", purl)
    if match is None:
        return None
    words = {name: values[0] for name, values in parse_qs(match[3] or "").items()}
    if words.get("arch", "src") not in ("src", "noarch"):
        return None
    module = words.get("rpmmod", "")
    if module.endswith(":flatpak"):
        return None
    epoch = words.get("epoch", "0")
    version = unquote(match[2]) if match[2] else None
    full = f"{epoch}:{version}" if version and epoch not in ("", "0") and epoch.isdigit() else version
    stream = module.split(":")[1] if module.count(":") else stream
    return match[1], full, stream or ("?" if ".module" in (full or "") or _BUILD.search(full or "") else "")


def _ranges(cve: str, entry: Mapping[str, Any], components: Mapping[str, _Component], word: str | None) -> Iterator[Range]:
    """One range for each package of a release: before its first fix, or all versions.

    A later fix of one line of versions holds the earlier one, so the least version counts.
    """
    status = entry.get("product_status")
    said: dict[tuple[str, str, str], _Said] = {}
    for kind in ("fixed", "known_affected", "under_investigation"):
        listed = status.get(kind) if isinstance(status, dict) else None
        for product in listed if isinstance(listed, list) else ():
            if (component := components.get(str(product))) is None:
                continue
            here = said.setdefault((component.release, component.tier, component.package), _Said())
            if kind == "known_affected":
                here.affected = True
            elif kind == "under_investigation":
                here.unsure = "under investigation"
            elif component.version is None or _BUILD.search(component.version) or component.tier == f"{MODULE}?":
                here.unsure = f"fixed by a build of a module: {component.version}"
            else:
                here.fixed.add(component.version)
    severity = next((s for threat in entry.get("threats") or [] if isinstance(threat, dict) and threat.get("category") == "impact"
                     and (s := severity_of(threat.get("details")))), word)  # fmt: skip
    for (release, tier, package), here in sorted(said.items()):
        how = (f"RHVEX-{cve}", (cve,), "redhat", release, tier, package, "rpm", None)
        odd = next((version for version in sorted(here.fixed) if key("rpm", version) is None), "")
        if here.fixed:
            least = min(here.fixed, key=lambda version: key("rpm", version) or "")
            yield Range(*how, None if odd else least, False, None if odd else least, severity, odd)
        elif tier.startswith(MINOR):
            continue  # it says of a kept minor release what the main line says already
        elif here.unsure or here.affected:
            yield Range(*how, None, False, None, severity, here.unsure)
