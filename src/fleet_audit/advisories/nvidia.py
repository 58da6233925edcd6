# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's security bulletins (CSAF 2.0): drivers by branch, container toolkit, CUDA toolkit, DCGM, Triton, firmware of ConnectX and DGX.

Versions stand in the names of products as free text. What is not understood is kept as such, and never means "not affected".
Source: https://github.com/NVIDIA/product-security
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fleet_audit.advisories.records import CVE, Advisory, Batch, Range, Refused, line, moment, severity_of
from fleet_audit.versions import key

DRIVER = "gpu-driver"
PRODUCTS = {
    "nvidia container toolkit": "container-toolkit", "nvidia cuda toolkit": "cuda-toolkit", "dcgm": "dcgm", "nvidia dcgm": "dcgm",
    "triton inference server": "triton", "nvidia triton inference server": "triton",
}  # fmt: skip
NIC, SBIOS = "connectx-firmware", "dgx-sbios"
ADAPTERS = {
    "12": "connectx4", "14": "connectx4 lx", "16": "connectx5", "18": "bluefield1", "20": "connectx6", "22": "connectx6 dx", "24": "bluefield2",
    "26": "connectx6 lx", "28": "connectx7", "32": "bluefield3",
}  # fmt: skip
"""The first part of a firmware's version tells the adapter; bulletins write `xx` for it and name the adapters."""
LINES = {"tesla": "tesla", "geforce": "geforce"}
_DEPTH, _LEAVES, _VULNERABILITIES = 20, 20_000, 5_000
_VERSION = r"(?:cuda toolkit )?[vr]?(\d+(?:\.\d+)*(?: ?u(?:pdate)? ?\d+)?)"


def read(document: Mapping[str, Any], batch: Batch) -> None:
    """Take in one bulletin. Raises `Refused`."""
    about = document.get("document")
    tracking = about.get("tracking") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(tracking, dict) or not re.fullmatch(r"[0-9]{1,9}", str(tracking.get("id"))):
        raise Refused("it has no tracking id")
    name = f"NVIDIA-{tracking['id']}"
    made, changed = moment(tracking.get("initial_release_date")), moment(tracking.get("current_release_date"))
    batch.saw(changed)
    tree = document.get("product_tree")
    leaves = dict(_leaves(tree.get("branches") if isinstance(tree, dict) else None, (), 0))
    if len(leaves) > _LEAVES:
        raise Refused("more products than a bulletin has")
    entries = document.get("vulnerabilities")
    if not isinstance(entries, list) or len(entries) > _VULNERABILITIES:
        raise Refused("`vulnerabilities` is no list, or too long")
    cves, ranges = set(), []
    for entry in entries:
        cve = entry.get("cve") if isinstance(entry, dict) else None
        if not isinstance(cve, str) or not CVE.fullmatch(cve):
            continue
        cves.add(cve)
        ranges += list(_of(name, cve, entry, leaves))
    words = about.get("aggregate_severity")
    severity = severity_of(words.get("text")) if isinstance(words, dict) else None
    batch.advisories.append(Advisory(name, "bulletin", tuple(sorted(cves)), line(about.get("title")), severity, made, changed))
    batch.ranges += ranges


def _leaves(branches: object, above: tuple[str, ...], depth: int) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """(product id, (platform, product, text)) of each leaf that names versions."""
    if depth > _DEPTH:
        raise Refused("its product tree is too deep")
    for branch in branches if isinstance(branches, list) else ():
        if not isinstance(branch, dict):
            continue
        names = (*above, str(branch.get("name", "")))
        product = branch.get("product")
        if isinstance(product, dict) and branch.get("category") == "product_version" and len(names) > 1:
            yield str(product.get("product_id")), (names[-2], names[-1], str(product.get("name", ""))[:300])
        yield from _leaves(branch.get("branches"), names, depth + 1)


Place = tuple[str, str, str]
"""(package, branch, product line) that a host here may have."""


def places_of(platform: str, product: str, text: str) -> list[Place]:
    """What a leaf is about; nothing for others, such as Windows, virtual GPUs and the firmware of what is not told apart."""
    words, lowered = platform.lower(), product.lower().strip()
    if re.match(r"(?:connectx ?4|connectx (?:ga|lts)|bluefield (?:\d|ga|lts))", lowered):
        named = lowered if re.search(r"\d", lowered.partition("lts")[0]) else words
        models = {re.sub(r"^(connectx|bluefield) (\d)", r"\1\2", m.strip()) for m in re.split(r",|\(", named)} & set(ADAPTERS.values())
        kept = re.search(r"\bxx\.(\d+)\.", text) if "lts" in lowered else re.search(r"\(\d+\.(\d+)\)$", words)
        return [(NIC, kept[1] if kept else "", model) for model in sorted(models)]
    if re.match(r"(?:nvidia )?dgx", lowered) and (model := re.match(r"dgx(?: station)?[ -][a-z]?\d+", words)) and "sbios" in text.lower():
        return [(SBIOS, "", re.sub(r"[ -]", "", model[0]))]
    if PRODUCTS.get(lowered) == "triton" and words == "dali backend":
        return [("triton", "", "base")]
    if not re.search(r"\blinux\b|^all\b", words) or "kvm" in words or "vsphere" in words:
        return []
    if package := PRODUCTS.get(lowered):
        return [(package, "", "base")]
    branch = re.fullmatch(r"linux ?\(r?(\d{3})\)", words)
    if branch is None:
        return []
    if lowered in LINES:
        return [(DRIVER, branch[1], LINES[lowered])]
    if "rtx" in lowered or "quadro" in lowered:
        return [(DRIVER, branch[1], "geforce" if "geforce" in lowered else "rtx")]
    return []


def versions_of(text: str) -> tuple[str | None, str | None, bool] | None:
    """(low, high, high is in it) that a product's text says; None if it is not understood."""
    words = re.sub(r"\bxx\.(?=\d)| or later$|\bsbios (?:firmware )?", "", " ".join(text.lower().split()))
    if match := re.fullmatch(rf"all (?:driver )?versions? (?:prior to|before|below) {_VERSION}", words):
        return None, _plain(match[1]), False
    if match := re.fullmatch(rf"all (?:driver )?versions? (?:up to and including|prior to and including|through) {_VERSION}", words):
        return None, _plain(match[1]), True
    if match := re.fullmatch(rf"{_VERSION} (?:to|through) {_VERSION}", words):
        return _plain(match[1]), _plain(match[2]), True
    if match := re.fullmatch(_VERSION, words):
        return _plain(match[1]), _plain(match[1]), True
    return None


def _plain(version: str) -> str:
    """A version as numbers with dots: CUDA writes 12.6U1 and 12.9 Update 1 for one scheme."""
    return re.sub(r" ?u(?:pdate)? ?(\d+)$", r".\1", version)


def _of(name: str, cve: str, entry: Mapping[str, Any], leaves: Mapping[str, tuple[str, str, str]]) -> Iterator[Range]:
    """The ranges of one vulnerability; affected and fixed versions belong together by platform and product."""
    status = entry.get("product_status")
    affected, fixed = ([str(i) for i in status.get(word) or []] if isinstance(status, dict) else [] for word in ("known_affected", "fixed"))
    mended: dict[tuple[str, str], str] = {}
    for product in fixed:
        if (leaf := leaves.get(product)) and (found := versions_of(leaf[2])) and found[0] is not None and found[0] == found[1]:
            mended[leaf[:2]] = found[0]
    severity = next((s for score in entry.get("scores") or [] if isinstance(score, dict) and (s := _severity(score))), None)
    for product in affected:
        if (leaf := leaves.get(product)) is None:
            continue
        said, better = versions_of(leaf[2]), mended.get(leaf[:2])
        if said is None and better and (match := re.fullmatch(rf"all (?:driver )?versions? up to {_VERSION}", leaf[2].lower())):
            said = (None, better, False) if _plain(match[1]) == better else None
        for place in places_of(*leaf):
            yield _range(name, cve, place, leaf, said, better, severity)


def _range(
    name: str, cve: str, place: Place, leaf: tuple[str, str, str], said: tuple[str | None, str | None, bool] | None, better: str | None,
    severity: str | None,
) -> Range:  # fmt: skip
    """One range. What names a fix of another branch, or a condition that is no fact here, is kept as not understood."""
    package, branch, product_line = place
    if package in (NIC, SBIOS):  # one leaf may stand for several components: its own text alone tells their fix
        better = said[1] if said is not None and not said[2] else None
    if package == NIC and said is not None:
        said = (said[0], _model_free(said[1]), said[2])
        better = _model_free(better)
    suspect = package == DRIVER and bool(better) and not str(better).startswith(f"{branch}.")
    conditional = leaf[0].lower() == "dali backend"
    foreign = package == "triton" and any(
        v and int(v.partition(".")[0]) < 19 for v in (said or ())[:2]
    )  # the server's number, not the release's
    understood = said is not None and not suspect and not conditional and not foreign and all(key("dotted", v) for v in said[:2] if v)
    odd = "" if understood else f"{leaf[2]} with the {leaf[0]}" if conditional else leaf[2]
    low, high, inclusive = said if said is not None and not odd else (None, None, False)
    return Range(
        name, (cve,), "nvidia", branch, product_line, package, "dotted", low, high, inclusive, None if suspect else better, severity, odd
    )


def _model_free(version: str | None) -> str | None:
    """A firmware's version without the part that tells the adapter."""
    return version.partition(".")[2] if version and version.count(".") > 1 else version


def _severity(score: Mapping[str, Any]) -> str | None:
    base = score.get("cvss_v3") or score.get("cvss_v4")
    return severity_of(base.get("baseSeverity")) if isinstance(base, dict) else None
