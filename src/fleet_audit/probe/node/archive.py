# SPDX-License-Identifier: Apache-2.0
"""A recorded node: the same readers on another root, and outputs instead of commands."""

import json
import re

from fleet_audit.probe.node.base import ARCHIVE, READERS
from fleet_audit.probe.node.readers import containing, kept, raw_cap, secretless


def mangle(argv):
    """The file name of a command's output, as sosreport names it."""
    return re.sub(r"[^\w\-./]+", "_", " ".join(argv)).replace("/", ".").strip(" ._-")


def recorded(name, spec):
    """A source from the archive as (status, detail, exit, body), or None to run its file reader."""
    missing = "absent" if ARCHIVE.get("whole") else "failed"
    forced = ARCHIVE.get("force", {}).get(name)
    if forced:
        return forced, "forced by node.toml", None, b""
    try:
        with open("%s/%s.json" % (ARCHIVE["sources"], name), encoding="utf-8") as handle:
            entry = json.load(handle)
        return entry["status"], entry.get("detail", ""), entry.get("exit"), entry.get("text", "").encode("utf-8", "surrogateescape")
    except FileNotFoundError:
        pass
    if spec["reader"] in READERS:
        return None
    if spec["reader"] != "command":
        return missing, "not recorded", None, b""
    label = mangle(spec["argv"])
    try:
        with open("%s/%s" % (ARCHIVE["commands"], label), "rb") as handle:
            body = handle.read(raw_cap(spec) + 1)
    except FileNotFoundError:
        return missing, "no such command recorded: " + label, None, b""
    code = ARCHIVE.get("exits", {}).get(label, 0)
    if code not in spec.get("ok_exits", [0]):
        return "failed", "exit %d" % code, code, body
    cut = len(body) > raw_cap(spec)
    body = secretless(containing(kept(body, spec), spec), spec)
    return "truncated" if cut else "ok", "longer than its limit" if cut else "", code, body
