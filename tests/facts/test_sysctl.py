# SPDX-License-Identifier: Apache-2.0
"""Settings under /proc/sys: running, and set by files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.sysctl import TABLES
from fleet_audit.facts.sysctl.configured import FILES, STATS, canonical
from fleet_audit.facts.sysctl.running import RUNNING
from fleet_audit.model import Coverage, SourceId, Status
from fleet_audit.probe.node.files import Files
from fleet_audit.probe.node.readers import read_files, read_stat

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

SYSCTLS, SETTINGS = TABLES
Evidence = dict[SourceId, Item]
ABSENT = {"status": "absent", "detail": "No such file or directory"}
DENIED = {"status": "denied", "detail": "Permission denied"}

# recorded on Debian 12, kernel 6.18 (a virtual machine), 2026-11-25, by the `files` reader; a VLAN's interface is added
PROC = {
    "/proc/sys/kernel/randomize_va_space": {"text": "2\n"},
    "/proc/sys/kernel/kptr_restrict": {"text": "0\n"},
    "/proc/sys/kernel/core_pattern": {"text": "core\n"},
    "/proc/sys/kernel/unprivileged_userns_clone": ABSENT,
    "/proc/sys/kernel/yama/ptrace_scope": ABSENT,
    "/proc/sys/fs/protected_hardlinks": {"text": "1\n"},
    "/proc/sys/net/ipv4/ping_group_range": {"text": "1\t0\n"},
    "/proc/sys/net/ipv4/conf/all/rp_filter": {"text": "0\n"},
    "/proc/sys/net/ipv4/conf/default/rp_filter": {"text": "0\n"},
    "/proc/sys/net/ipv4/conf/eth0/rp_filter": {"text": "0\n"},
    "/proc/sys/net/ipv4/conf/eth0.100/rp_filter": {"text": "2\n"},
    "/proc/sys/net/ipv6/conf/all/accept_ra": {"text": "1\n"},
}


def running(found: Any = PROC) -> Evidence:
    return {RUNNING.id: found if isinstance(found, Item) else ok(json.dumps(found))}


def test_running() -> None:
    extracted = run(SYSCTLS, running())
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("kernel.randomize_va_space", "kernel.randomize_va_space", None, "2"),
        ("kernel.kptr_restrict", "kernel.kptr_restrict", None, "0"),
        ("kernel.core_pattern", "kernel.core_pattern", None, "core"),
        ("fs.protected_hardlinks", "fs.protected_hardlinks", None, "1"),
        ("net.ipv4.ping_group_range", "net.ipv4.ping_group_range", None, "1 0"),
        ("net.ipv4.conf.all.rp_filter", "net.ipv4.conf.*.rp_filter", "all", "0"),
        ("net.ipv4.conf.default.rp_filter", "net.ipv4.conf.*.rp_filter", "default", "0"),
        ("net.ipv4.conf.eth0.rp_filter", "net.ipv4.conf.*.rp_filter", "eth0", "0"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.*.rp_filter", "eth0.100", "2"),
        ("net.ipv6.conf.all.accept_ra", "net.ipv6.conf.*.accept_ra", "all", "1"),
    )
    never_emptier(SYSCTLS, running())
    assert list(cut_short(SYSCTLS, running(), RUNNING, step=40))


@pytest.mark.parametrize(("found", "coverage"), [
    ({}, Coverage.NONE), ({"/proc/sys/kernel/randomize_va_space": ABSENT}, Coverage.NONE), (dict.fromkeys(PROC, DENIED), Coverage.NONE),
    (PROC | {"/proc/sys/net/core/bpf_jit_harden": DENIED}, Coverage.PARTIAL), (PROC | {"/proc/sys/kernel/sysrq": {}}, Coverage.PARTIAL),
    ({path: entry for path, entry in PROC.items() if "conf/" not in path}, Coverage.PARTIAL),
    (status(Status.DENIED), Coverage.NONE), (status(Status.TIMEOUT), Coverage.NONE), (ok("[]"), Coverage.NONE), (ok("{"), Coverage.NONE),
    (PROC | {"/proc/sys/kernel/sysrq": 5}, Coverage.NONE),
])  # fmt: skip
def test_running_not_read(found: Any, coverage: Coverage) -> None:
    assert run(SYSCTLS, running(found)).coverage is coverage


def test_ipv6_turned_off_at_boot() -> None:
    """Its folder is not there: no rows of it, and the table is complete."""
    extracted = run(SYSCTLS, running({path: entry for path, entry in PROC.items() if "ipv6" not in path}))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.COMPLETE, 9)


def test_this_machine() -> None:
    """The real reader on the real /proc/sys."""
    extracted = run(SYSCTLS, running(ok(read_files(Files(), RUNNING.for_node()))))
    found = {row["key"]: row["value"] for row in rows_as_dicts(SYSCTLS, extracted)}
    assert found["kernel.randomize_va_space"] in "012" and found["net.ipv4.conf.all.forwarding"] in "01"
    assert found["fs.suid_dumpable"] in "012" and len(found["net.ipv4.ping_group_range"].split()) == 2


# --- Files ---------------------------------------------------------------------------------------


def files(texts: Mapping[str, str | dict[str, str]], links: dict[str, str] | None = None) -> Evidence:
    """Files with their texts; what is linked to /dev/null is no regular file for the reader."""
    read: dict[str, Any] = {path: {"text": text} if isinstance(text, str) else text for path, text in texts.items()}
    there: dict[str, Any] = {path: {"type": "file", "mode": 420, "uid": 0, "gid": 0, "size": 1, "mtime": 1, "link": None} for path in texts}
    for path, target in (links or {}).items():
        there[path] = {"type": "link", "mode": 511, "uid": 0, "gid": 0, "size": 1, "mtime": 1, "link": target}
        read.setdefault(path, {"status": "failed", "detail": "not a regular file"})
    read.setdefault("/etc/sysctl.conf", ABSENT)
    there.setdefault("/etc/sysctl.conf", ABSENT)
    return {FILES.id: ok(json.dumps(read)), STATS.id: ok(json.dumps(there))}


# checked against `systemd-sysctl --cat-config` of systemd 252 on Debian 12, 2026-11-25: the files that count, and their order
LAYERS = files(
    {
        "/etc/sysctl.d/10-x.conf": "kernel.a = etc\n",
        "/etc/sysctl.d/30-z.conf": "",
        "/run/sysctl.d/20-y.conf": "kernel.d=run\n",
        "/run/sysctl.d/90-z.conf": "-net/ipv4/conf/eth0.100/rp_filter = 1\n-kernel.q\n; no\n\n  # no\nkernel.z=1=2\nkernel.d = \t last \n",
        "/usr/lib/sysctl.d/10-x.conf": "kernel.c=lib\n",
        "/usr/lib/sysctl.d/30-z.conf": "kernel.e=lib\n",
        "/usr/lib/sysctl.d/50-pid-max.conf": "kernel.b=lib\n",
    },
    {"/etc/sysctl.d/50-pid-max.conf": "/dev/null"},
)


def test_layers() -> None:
    extracted = run(SETTINGS, LAYERS)
    assert extracted.coverage is Coverage.COMPLETE
    assert extracted.rows == (
        ("/etc/sysctl.d/10-x.conf", 1, "kernel.a", "etc", True),
        ("/usr/lib/sysctl.d/10-x.conf", 1, "kernel.c", "lib", False),
        ("/run/sysctl.d/20-y.conf", 1, "kernel.d", "run", False),
        ("/usr/lib/sysctl.d/30-z.conf", 1, "kernel.e", "lib", False),
        ("/usr/lib/sysctl.d/50-pid-max.conf", 1, "kernel.b", "lib", False),
        ("/run/sysctl.d/90-z.conf", 1, "net.ipv4.conf.eth0/100.rp_filter", "1", True),
        ("/run/sysctl.d/90-z.conf", 2, "kernel.q", None, True),
        ("/run/sysctl.d/90-z.conf", 6, "kernel.z", "1=2", True),
        ("/run/sysctl.d/90-z.conf", 7, "kernel.d", "last", True),
    )


def test_sysctl_conf_counts_only_where_a_file_links_to_it() -> None:
    """Debian up to 12 has the link; without it systemd does not read the file."""
    text = "net.ipv4.ip_forward = 1\n"
    linked = files({"/etc/sysctl.conf": text, "/etc/sysctl.d/99-sysctl.conf": text}, {"/etc/sysctl.d/99-sysctl.conf": "../sysctl.conf"})
    assert run(SETTINGS, linked).rows == (("/etc/sysctl.d/99-sysctl.conf", 1, "net.ipv4.ip_forward", "1", True),)
    alone = run(SETTINGS, files({"/etc/sysctl.conf": text}))
    assert (alone.coverage, alone.rows) == (Coverage.COMPLETE, (("/etc/sysctl.conf", 1, "net.ipv4.ip_forward", "1", False),))
    assert run(SETTINGS, files({"/etc/sysctl.conf": DENIED})).coverage is Coverage.PARTIAL


def test_merged_usr_shows_a_file_once() -> None:
    text = {f"{base}/sysctl.d/50-a.conf": "kernel.a=1\n" for base in ("/lib", "/usr/lib")}
    assert run(SETTINGS, files(text)).rows == (("/usr/lib/sysctl.d/50-a.conf", 1, "kernel.a", "1", True),)
    differ = run(SETTINGS, files(text | {"/lib/sysctl.d/50-a.conf": "kernel.a=2\n"}))
    assert [row[0::4] for row in differ.rows] == [("/usr/lib/sysctl.d/50-a.conf", True), ("/lib/sysctl.d/50-a.conf", False)]


@pytest.mark.parametrize(("key", "expected"), [
    ("kernel.domainname", "kernel.domainname"), ("kernel/domainname", "kernel.domainname"),
    ("net.ipv4.conf.enp3s0/200.forwarding", "net.ipv4.conf.enp3s0/200.forwarding"),
    ("net/ipv4/conf/enp3s0.200/forwarding", "net.ipv4.conf.enp3s0/200.forwarding"),
    ("net.ipv4.conf.*.rp_filter", "net.ipv4.conf.*.rp_filter"), ("/kernel/x", "kernel.x"), ("plain", "plain"), ("kernel/a.b", "kernel.a/b"),
])  # fmt: skip
def test_names_of_keys(key: str, expected: str) -> None:
    assert canonical(key) == expected == canonical(expected)


def test_a_conflict_of_running_and_configured_shows() -> None:
    """The same key in both tables: 0 now, 2 at the next boot."""
    (set_,) = rows_as_dicts(SETTINGS, run(SETTINGS, files({"/etc/sysctl.d/9.conf": "kernel/kptr_restrict=2\n"})))
    (now,) = [row for row in rows_as_dicts(SYSCTLS, run(SYSCTLS, running())) if row["key"] == set_["key"]]
    assert (now["value"], set_["value"], set_["effective"]) == ("0", "2", True)


def test_no_secret() -> None:
    """Two keys are secrets: nothing of them stays."""
    secrets = "net.ipv4.tcp_fastopen_key = 00112233-44556677-8899aabb-ccddeeff\nnet/ipv6/conf/eth0/stable_secret=fe80::1\n"
    assert {row[3] for row in run(SETTINGS, files({"/etc/sysctl.d/1.conf": secrets})).rows} == {"<secret>"}


@pytest.mark.parametrize("text", ["nonsense\n", "= 1\n", "- = 1\n", "-\n", "kernel.a=1\n\x00\x01\n", "[section]\n"])
def test_a_line_that_sets_nothing_is_a_gap(text: str) -> None:
    assert run(SETTINGS, files({"/etc/sysctl.d/1.conf": text})).coverage is Coverage.PARTIAL


def test_files_not_read() -> None:
    """One that cannot be read is a gap, and still replaces that of the same name."""
    texts: dict[str, Any] = {"/etc/sysctl.d/1.conf": DENIED, "/usr/lib/sysctl.d/1.conf": "kernel.a=1\n"}
    extracted = run(SETTINGS, files(texts))
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, (("/usr/lib/sysctl.d/1.conf", 1, "kernel.a", "1", False),))
    empty = run(SETTINGS, files({}))
    assert (empty.coverage, empty.rows) == (Coverage.COMPLETE, ())
    never_emptier(SETTINGS, LAYERS)
    for source in (FILES, STATS):
        assert list(cut_short(SETTINGS, LAYERS, source, step=60))
        for what in (ok("[]"), ok("{"), ok('{"/etc/sysctl.d/1.conf": 3}'), status(Status.DENIED)):
            assert run(SETTINGS, LAYERS | {source.id: what}).coverage is Coverage.NONE
    assert run(SETTINGS, LAYERS | {STATS.id: ok("{}")}).coverage is Coverage.NONE
    assert run(SETTINGS, LAYERS | {FILES.id: ok("{}")}).coverage is Coverage.PARTIAL


def test_files_of_this_machine() -> None:
    """The real readers on the real folders."""
    read = {FILES.id: ok(read_files(Files(), FILES.for_node())), STATS.id: ok(read_stat(Files(), STATS.for_node()))}
    assert run(SETTINGS, read).coverage is Coverage.COMPLETE


@given(st.dictionaries(
    st.sampled_from([RUNNING.id, FILES.id, STATS.id]),
    st.builds(Item, st.sampled_from(Status), st.binary(max_size=200)
              | st.dictionaries(st.sampled_from([*PROC, "/etc/sysctl.conf", "/etc/sysctl.d/1.conf", "/lib/sysctl.d/1.conf"]),
                                st.dictionaries(st.sampled_from(["text", "status", "link"]), st.none() | st.text() | st.integers()))
              .map(lambda v: json.dumps(v).encode())),
))  # fmt: skip
def test_nothing_raises(evidence: Evidence) -> None:
    for table in TABLES:
        assert not run(table, evidence).reason.startswith("not understood: ")
