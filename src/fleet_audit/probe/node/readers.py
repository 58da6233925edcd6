# SPDX-License-Identifier: Apache-2.0
"""The readers of files: each takes a source's definition and returns bytes, or raises Unread."""

import hashlib
import re

from fleet_audit.probe.node.base import RAW_LIMIT, Unread, dump, reader, text
from fleet_audit.probe.node.redact import redact, redact_arguments, redact_bytes


def kept(data, spec):
    """Only the lines that begin with one of `keep`; each once if `unique`."""
    if "keep" not in spec:
        return data
    lines = re.findall(b"^(?:" + b"|".join(re.escape(k.encode()) for k in spec["keep"]) + b").*", data, re.M)
    if spec.get("unique"):
        lines = list(dict.fromkeys(lines))
    return b"\n".join(lines) + (b"\n" if lines else b"")


FOLLOW = {  # how a format names further files, and where relative names begin
    "sudoers": (r"(?m)^[ \t]*[#@]include(?:dir)?[ \t]+\"?([^\s\"]+)", ""),
    "sshd": (r"(?im)^[ \t]*include[ \t=]+(.+)$", "/etc/ssh"),
    "slurm": (r"(?im)^[ \t]*include[ \t]+(\S+)", ""),
    "rsyslog": (r"(?im)^[ \t]*\$IncludeConfig[ \t]+(\S+)|include\(\s*file=\"([^\"]+)\"", ""),
    "chrony": (r"(?im)^[ \t]*(?:include|confdir|sourcedir)[ \t]+(.+)$", ""),
    "toml": (r"(?m)^[ \t]*imports[ \t]*=[ \t]*\[([^\]]*)\]", ""),
}
FOLLOW_LIMIT = 300  # files


def followed(data, path, kind):
    """Patterns of the files that a file names, as its format does."""
    pattern, base = FOLLOW[kind]
    found = []
    for match in re.finditer(pattern, text(data)):
        for name in re.split(r"[\s,\"']+", next(g for g in match.groups() if g is not None)):
            if name and "%" not in name:
                name = name if name.startswith("/") else (base or path.rpartition("/")[0]) + "/" + name
                found += [name, name + "/*"] if kind in ("sudoers", "chrony") else [name]
    return found


def secretless(data, spec):
    """The same bytes, without the secrets in them if `redact` is set; `arguments`: only those of programs' arguments."""
    if not spec.get("redact"):
        return data
    return redact_bytes(data, redact_arguments if spec["redact"] == "arguments" else redact)


def raw_cap(spec):
    """Bytes that a command may say before it is cut: more than its answer may have where only some lines are kept."""
    return (16 << 20) if "grep" in spec or "keep" in spec else spec.get("cap", 4096)


def containing(data, spec):
    """Only the lines that hold one of `grep`, and the first line, which shows whether the start is there."""
    if "grep" not in spec:
        return data
    lines = data.split(b"\n")
    words = re.compile(b"|".join(re.escape(w.encode()) for w in spec["grep"]))
    return b"\n".join(lines[:1] + [line for line in lines[1:] if words.search(line)])


def matches(files, patterns, rows, among):
    """Paths that fit; a pattern that could not be looked at is a row of its own if it is one `among` several."""
    for pattern in patterns:
        try:
            found = files.glob(pattern)
        except Unread as unread:
            if among == 1:
                raise
            rows[pattern] = {"status": unread.status, "detail": unread.detail}
            continue
        for path in found:
            yield path


@reader("file")
def read_file(files, spec):
    """The first of `paths` that is there; with `digest` only its SHA-256, without blanks around it."""
    for path in spec["paths"]:
        limit = RAW_LIMIT if "keep" in spec else spec["cap"]
        try:
            data = files.read(path, limit)
        except Unread as unread:
            if unread.status == "absent":
                continue
            raise
        if spec.get("digest"):
            body = hashlib.sha256(data.strip()).hexdigest().encode()
        else:
            body = secretless(kept(data, spec), spec)
        if len(body) <= spec["cap"] and len(data) > limit:  # shorter now, and still not all of it
            raise Unread("truncated", "longer than %d bytes" % limit)
        return body
    raise Unread("absent", "no such file: " + ", ".join(spec["paths"]))


@reader("files")
def read_files(files, spec):
    """{path: {"text": ...} or {"status", "detail"}} of all that match."""
    rows, left, patterns = {}, spec["cap"], list(spec["globs"])
    while patterns:
        for path in matches(files, [patterns.pop(0)], rows, len(spec["globs"])):
            if path in rows:
                continue
            if len(rows) > FOLLOW_LIMIT and "follow" in spec:
                rows[path] = {"status": "truncated", "detail": "more than %d files are included" % FOLLOW_LIMIT}
                return dump(rows)
            try:
                data = files.read(path, min(left, spec.get("cap_each", left)))
                if len(data) > min(left, spec.get("cap_each", left)):
                    raise Unread("truncated", "longer than its limit")
                if "follow" in spec:
                    patterns += followed(data, path, spec["follow"])
                data = secretless(kept(data, spec), spec)
                left -= len(data)
                rows[path] = {"text": text(data)}
            except Unread as unread:
                rows[path] = {"status": unread.status, "detail": unread.detail}
    return dump(rows)


@reader("stat")
def read_stat(files, spec):
    """{path: metadata or {"status", "detail"}}; never a content. With `targets`, of a link also what it leads to, and by which folders."""
    rows = {}
    for path in matches(files, spec["globs"], rows, len(spec["globs"])):
        try:
            rows[path] = files.lstat(path)
        except Unread as unread:
            rows[path] = {"status": unread.status, "detail": unread.detail}
            continue
        if spec.get("targets") and rows[path]["link"] is not None:
            try:
                rows[path]["target"], rows[path]["way"] = files.followed(path)
            except Unread as unread:
                rows[path]["target"] = {"status": unread.status, "detail": unread.detail}
    return dump(rows)


@reader("attrs")
def read_attrs(files, spec):
    """{folder: {attribute: text, null if not there, {"status", "detail"} if unreadable}}; for sysfs."""
    rows = {}
    for folder in matches(files, spec["globs"], rows, len(spec["globs"])):
        row = rows.setdefault(folder, {})
        for name in spec.get("names", ()):
            try:
                row[name] = text(files.read(folder + "/" + name, 4096)[:4096]).rstrip("\n\0 ")
            except Unread as unread:
                row[name] = None if unread.status == "absent" else {"status": unread.status, "detail": unread.detail}
        for name in spec.get("links", ()):
            try:
                link = files.lstat(folder + "/" + name)["link"]
                row[name] = None if link is None else link.rpartition("/")[2]
            except Unread as unread:
                row[name] = None if unread.status == "absent" else {"status": unread.status, "detail": unread.detail}
    return dump(rows)


@reader("stanzas")
def read_stanzas(files, spec):
    """Chosen fields of deb822 stanzas, those whose Package begins with a prefix if `prefixes` are given."""
    fields = re.compile(b"^(?:" + b"|".join(f.encode() for f in spec["fields"]) + b"): .*\n|^\n", re.M)
    wanted = re.compile(b"^Package: (?:" + b"|".join(re.escape(p.encode()) for p in spec.get("prefixes", ())) + b")", re.M)
    paths = [path for pattern in spec["globs"] for path in files.glob(pattern)]
    out, left = [], RAW_LIMIT
    for path in paths:
        try:
            data = files.read(path, left)
        except Unread as unread:
            if unread.status != "absent":
                out.append(dump({"unread": path, "status": unread.status, "detail": unread.detail}) + b"\n\n")
            elif len(paths) == 1:
                raise
            continue
        left -= len(data)
        if left <= 0:
            raise Unread("truncated", "more than %d bytes to read" % RAW_LIMIT)
        if "prefixes" in spec:
            stanzas = []
            for match in wanted.finditer(data):
                end = data.find(b"\n\n", match.start())
                stanzas.append(data[match.start() : end + 2 if end >= 0 else len(data)])
            data = b"".join(stanzas)
        out += fields.findall(data + b"\n\n")
    if not paths:
        raise Unread("absent", "no such file: " + ", ".join(spec["globs"]))
    return re.sub(b"\n{3,}", b"\n\n", b"".join(out)).lstrip(b"\n")
