# SPDX-License-Identifier: Apache-2.0
"""Where dnf, yum and zypp get packages from, what they check there, and how old their metadata is. It cannot know what a mirror list names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Annotated

from fleet_audit.facts.apt_sources import bare
from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, utc
from fleet_audit.model import Source, SourceId

_FOLDERS = ("/etc/yum.repos.d", "/etc/yum/repos.d", "/etc/distro.repos.d", "/usr/share/dnf5/repos.d", "/etc/zypp/repos.d")
_OVERRIDES = ("/usr/share/dnf5/repos.override.d", "/etc/dnf/repos.override.d")
_DROP_INS = ("/usr/share/dnf5/libdnf.conf.d", "/etc/dnf/libdnf5.conf.d")
_MAIN = ("/etc/yum.conf", "/etc/dnf/dnf.conf")
_ZYPP = ("/usr/etc/zypp/zypp.conf", "/etc/zypp/zypp.conf")
_ZYPP_DROP_INS = ("/usr/etc/zypp/zypp.conf.d", "/etc/zypp/zypp.conf.d")

REPOS = Source(
    SourceId("rpm-repositories"), "files",
    {"globs": [f"{folder}/*.repo" for folder in (*_FOLDERS, *_OVERRIDES)], "redact": True},
    "dnf.conf(5), section on repositories; dnf5.conf(5), drop-in repo directories; zypper(8). A section in ini form for each.",
)  # fmt: skip
CONF = Source(
    SourceId("rpm-manager-conf"), "files",
    {"globs": [*_MAIN, *_ZYPP, *(f"{folder}/*.conf" for folder in (*_DROP_INS, *_ZYPP_DROP_INS))], "redact": True},
    "dnf.conf(5) and dnf5.conf(5), [main]: what repositories inherit, and excludes; zypp.conf of libzypp, the same.",
)  # fmt: skip
CACHE = Source(
    SourceId("rpm-metadata"), "stat",
    {"globs": [f"{folder}/*/repodata/*{name}*" for folder in ("/var/cache/dnf", "/var/cache/libdnf5", "/var/cache/zypp/raw")
               for name in ("primary.xml", "repomd.xml")] + ["/var/cache/yum/*/*/*/repomd.xml"]},
    "libdnf, Repo::Impl::getAge: the time of a repository's primary metadata is when it was last fetched or found current; "
    "libzypp touches repomd.xml.",
)  # fmt: skip


@dataclass(frozen=True)
class RpmRepository:
    """A repository of dnf, yum or zypp. No rows where there are no .repo files. Source: dnf.conf(5), zypp.conf."""

    manager: Annotated[str, "dnf, for yum too, or zypp"]
    file: Annotated[str, "File that names it"]
    id: Annotated[str, "Its section"]
    enabled: Annotated[bool | None, "In use"]
    urls: Annotated[list[str], "baseurl, as written, without user and password"]
    mirrors: Annotated[list[str], "mirrorlist and metalink, as written, without user and password"]
    gpgcheck: Annotated[bool | None, "Packages are checked: by their signatures, with zypp also through signed metadata"]
    repo_gpgcheck: Annotated[bool | None, "The metadata's signature is checked"]
    gpg_keys: Annotated[list[str], "gpgkey, as written"]
    ssl_verify: Annotated[bool | None, "Certificates of the server are checked"]
    credentials: Annotated[bool, "A URL holds a user or a password, or the section a password"]


@dataclass(frozen=True)
class RpmMetadata:
    """When a repository's metadata was last fetched or found current; no rows without a cache. Source: times of cached files."""

    manager: Annotated[str, "dnf, dnf5, zypp or yum"]
    cache: Annotated[str, "Folder of the repository in the cache: its id, for dnf with a hash"]
    updated_at: Annotated[datetime, "Newest time of its metadata"]


Sections = list[tuple[str, dict[str, str]]]


def ini(text: str, problems: list[str], delimiters: str = "=") -> Sections:
    """The sections of an ini text, continued lines joined by line feeds; a line not understood goes to `problems`."""
    sections: list[tuple[str, dict[str, list[str]]]] = []
    key = ""
    for line in text.split("\n"):
        line = line.rstrip()
        if not line or line.lstrip()[0] in "#;":
            continue
        heading = re.fullmatch(r"\[([^\]]+)\]\s*(?:[#;].*)?", line)
        option = re.fullmatch(rf"([^{delimiters}\s\[][^{delimiters}]*)[{delimiters}](.*)", line)
        if heading:
            sections.append((heading[1].strip(), {}))
            key = ""
        elif line[0] in " \t" and key:
            sections[-1][1][key].append(line.strip())
        elif option and sections:
            key = option[1].strip().lower()
            sections[-1][1][key] = [option[2].strip()]
        else:
            problems.append("a line is not understood")
    return [(name, {key: "\n".join(lines) for key, lines in options.items()}) for name, options in sections]


_WORDS = dict.fromkeys(("1", "yes", "true", "on"), True) | dict.fromkeys(("0", "no", "false", "off"), False)


def switch(word: str) -> bool | None:
    """A word as dnf's boolean (libdnf, OptionBool): None if it is none."""
    return _WORDS.get(word.lower())


def words(text: str) -> list[str]:
    """The items of a list between blanks and commas."""
    return [word for word in re.split(r"[\s,]+", text) if word]


def read_ini(evidence: Bundle, source: Source) -> dict[str, Sections]:
    """{path: sections} of a source's files in ini form; what is not understood in them is a gap."""
    found = {}
    for path, entry in evidence.entries(source).items():
        text, problems = entry.get("text"), list[str]()
        if isinstance(text, str):
            found[path] = ini(text, problems)
        else:
            problems.append("no text")
        for problem in problems:
            evidence.gap(source, f"{path}: {problem}")
    return found


def _dropped_in(files: Iterable[str], folders: tuple[str, str]) -> list[str]:
    """Files of a vendor's and the site's folder in order; the site's one masks the vendor's of the same name."""
    here = {path.rpartition("/")[2]: path for folder in folders for path in sorted(files) if path.rpartition("/")[0] == folder}
    return [here[name] for name in sorted(here)]


def _main(files: dict[str, Sections], order: list[str]) -> dict[str, str]:
    """The options of [main] in files, a later one over an earlier one."""
    return {key: text for path in order for name, options in files.get(path, []) if name == "main" for key, text in options.items()}


def _last(files: dict[str, Sections], paths: tuple[str, str]) -> list[str]:
    """The main file: the last of them that is there."""
    return [path for path in paths if path in files][-1:]


def parse_repositories(evidence: Bundle) -> Iterable[RpmRepository]:
    """A row per section of the .repo files, with what it inherits and what is laid over it."""
    files = read_ini(evidence, REPOS)
    known = len(evidence.gaps)
    try:
        conf: dict[str, Sections] | None = read_ini(evidence, CONF)
    except Unread as unread:
        evidence.gaps.append(str(unread))
    if len(evidence.gaps) > known:
        conf = None
    main = None if conf is None else _main(conf, _dropped_in(conf, _DROP_INS) + _last(conf, _MAIN))
    zypp = None if conf is None else _main(conf, _last(conf, _ZYPP) + _dropped_in(conf, _ZYPP_DROP_INS))
    if main and not set(words(main.get("reposdir", ""))) <= set(_FOLDERS):
        evidence.gap(CONF, "reposdir leads to another folder")
    over = [section for path in _dropped_in(files, _OVERRIDES) for section in files[path]]
    if len(over) > 200 or sum(map(len, files.values())) > 5000:
        raise NotUnderstood(f"{REPOS.id}: more sections than repositories have")
    for path, sections in files.items():
        if path.rpartition("/")[0] not in _FOLDERS:
            continue
        manager = "zypp" if path.startswith("/etc/zypp/") else "dnf"
        for name, options in sections:
            if name == "main":
                continue
            if manager == "dnf":
                options = options | {key: text for glob, more in over if fnmatchcase(name, glob) for key, text in more.items()}
            yield _row(evidence, path, name, options, zypp if manager == "zypp" else main, manager)


def _row(evidence: Bundle, path: str, name: str, options: dict[str, str], main: dict[str, str] | None, manager: str) -> RpmRepository:
    def flag(keys: tuple[str, ...], default: bool | None, sections: tuple[dict[str, str] | None, ...] = (options, main)) -> bool | None:
        """The first section with one of the keys decides; where more than one key says something, all must say yes."""
        for section in sections:
            if section is None:
                return None
            if said := [section[key] for key in keys if section.get(key)]:
                found = [switch(word) for word in said]
                if None in found:
                    evidence.gap(REPOS, f"{path}: [{name}] {keys[0]} is not understood")
                    return None
                return all(found)
        return default

    urls, mirrors = (
        [bare(url) for key in keys for url in words(options.get(key, ""))] for keys in (("baseurl",), ("mirrorlist", "metalink"))
    )
    ssl = flag(("sslverify",), True)
    if manager == "zypp":
        both = (options,) if "gpgcheck" in options else (options, main)  # a section's own gpgcheck takes back all that zypp.conf says
        every = flag(("gpgcheck",), True)
        gpgcheck, repo_gpgcheck = flag(("pkg_gpgcheck",), every, both), flag(("repo_gpgcheck",), every, both)
        if any("ssl_verify=" in url and "ssl_verify=yes" not in url for url, _ in urls + mirrors):
            ssl = False
    else:
        gpgcheck = flag(("gpgcheck", "pkg_gpgcheck"), False)
        full = (main or {}).get("gpgcheck_policy", "legacy") != "legacy"  # dnf5: gpgcheck means the metadata too
        repo_gpgcheck = flag(("repo_gpgcheck",), flag(("gpgcheck",), False) if full else False)
    return RpmRepository(
        manager, path, name, flag(("enabled",), True, (options,)), [url for url, _ in urls], [url for url, _ in mirrors],
        gpgcheck, repo_gpgcheck, words(options.get("gpgkey", "")), ssl, any(had for _, had in urls + mirrors) or "password" in options,
    )  # fmt: skip


_CACHES = (("dnf", "/var/cache/dnf/"), ("dnf5", "/var/cache/libdnf5/"), ("zypp", "/var/cache/zypp/raw/"), ("yum", "/var/cache/yum/"))


def parse_metadata(evidence: Bundle) -> Iterable[RpmMetadata]:
    """A row per repository in a cache."""
    newest: dict[tuple[str, str], int] = {}
    for path, entry in evidence.entries(CACHE).items():
        manager, folder = next(((name, folder) for name, folder in _CACHES if path.startswith(folder)), ("", ""))
        mtime = entry.get("mtime")
        if not manager or type(mtime) is not int:
            evidence.gap(CACHE, f"{path}: no time")
            continue
        repository = path[len(folder) :].rpartition("/")[0].removesuffix("/repodata")
        newest[manager, repository] = max(mtime, newest.get((manager, repository), mtime))
    for (manager, repository), mtime in newest.items():
        if when := utc(mtime):
            yield RpmMetadata(manager, repository, when)
        else:
            evidence.gap(CACHE, f"{repository}: no time")


TABLES = (
    Table("rpm_repositories", RpmRepository, (REPOS, CONF), parse_repositories),
    Table("rpm_metadata", RpmMetadata, (CACHE,), parse_metadata),
)
