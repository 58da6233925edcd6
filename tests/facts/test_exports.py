# SPDX-License-Identifier: Apache-2.0
"""NFS exports, and shares of Samba, rsync, iSCSI and NVMe."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts import exports, shares
from fleet_audit.facts.base import Item
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

(EXPORTS,) = exports.TABLES
(SHARES,) = shares.TABLES
Evidence = dict[SourceId, Item]
ABSENT = {"status": "absent", "detail": ""}
DENIED = {"status": "denied", "detail": "Permission denied"}
FILE, ETAB = "/etc/exports", "/var/lib/nfs/etab"

# synthetic: exports(5) of nfs-utils 2.6.2
TABLE = r"""# synthetic
/srv/data   10.0.0.0/255.255.255.0(rw,no_root_squash) @cluster(ro) *.example.org(ro,sec=krb5p:krb5i)
/srv/trap   host1 (rw,insecure)
/srv/world
"/srv/with space" -ro,all_squash 192.168.1.5 192.168.1.6(rw)
/srv/oct\040al  fd00::/64(rw,sec=sys,ro,sec=krb5,rw,root_squash) \
                2001:db8::5(ro)
/srv/tls  *(rw,xprtsec=mtls)  # comment
"""
# recorded with exportfs of nfs-utils 2.6.2 (Debian 12) from these lines, without host1 and xprtsec, on 2026-11-25, shortened to six rows
LOADED = r"""/srv/oct\040al	2001:db8::5(ro,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,ro,root_squash,no_all_squash)
/srv/with\040space	192.168.1.6(rw,sync,wdelay,hide,nocrossmnt,secure,root_squash,all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,rw,root_squash,all_squash)
/srv/oct\040al	fd00::/64(rw,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,ro,root_squash,no_all_squash,sec=krb5,rw,root_squash,no_all_squash)
/srv/data	10.0.0.0/255.255.255.0(rw,sync,wdelay,hide,nocrossmnt,secure,no_root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,rw,no_root_squash,no_all_squash)
/srv/world	(ro,sync,wdelay,hide,nocrossmnt,secure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,ro,root_squash,no_all_squash)
/srv/trap	*(rw,sync,wdelay,hide,nocrossmnt,insecure,root_squash,no_all_squash,no_subtree_check,secure_locks,acl,no_pnfs,anonuid=65534,anongid=65534,sec=sys,rw,root_squash,no_all_squash)
"""  # noqa: E501


def nfs(**files: Any) -> Evidence:
    found = {FILE: ABSENT, ETAB: ABSENT} | {{"exports": FILE, "etab": ETAB}.get(name, name): content for name, content in files.items()}
    return {exports.EXPORTS.id: ok(json.dumps({path: {"text": f} if isinstance(f, str) else f for path, f in found.items()}))}


def brief(evidence: Evidence) -> list[str]:
    """Rows in short: folder client kind, what differs from ro, root_squash, secure and sec=sys."""
    found = []
    for row in rows_as_dicts(EXPORTS, run(EXPORTS, evidence)):
        words = [row["path"], row["client"], row["kind"] + (f"/{row['prefix']}" if row["prefix"] is not None else "")]
        for column, usual, word in (
            ("implied", False, "implied"), ("writable", False, "rw"), ("root_squash", True, "no_root_squash"), ("all_squash", False, "all_squash"),
            ("privileged_port", True, "insecure"),
        ):  # fmt: skip
            words += [word] if row[column] != usual else []
        words += [":".join(row["security"])] if row["security"] != ["sys"] else []
        found.append(" ".join(words))
    return found


def test_exports() -> None:
    assert run(EXPORTS, nfs(exports=TABLE)).coverage is Coverage.COMPLETE
    assert brief(nfs(exports=TABLE)) == [
        "/srv/data 10.0.0.0/255.255.255.0 network/24 rw no_root_squash", "/srv/data @cluster netgroup",
        "/srv/data *.example.org wildcard krb5p:krb5i", "/srv/trap host1 name", "/srv/trap * everyone implied rw insecure",
        "/srv/world * everyone implied", "/srv/with space 192.168.1.5 address all_squash", "/srv/with space 192.168.1.6 address rw all_squash",
        "/srv/oct al fd00::/64 network/64", "/srv/oct al fd00::/64 network/64 rw krb5", "/srv/oct al 2001:db8::5 address",
        "/srv/tls * everyone rw",
    ]  # fmt: skip
    rows = rows_as_dicts(EXPORTS, run(EXPORTS, nfs(exports=TABLE)))
    assert rows[-1]["transport"] == ["mtls"] and rows[0]["transport"] == ["none", "tls", "mtls"] and rows[0]["file"] == FILE
    never_emptier(EXPORTS, nfs(exports=TABLE))
    assert list(cut_short(EXPORTS, nfs(exports=TABLE), exports.EXPORTS))


def test_what_exportfs_made_of_them_is_the_same() -> None:
    """Real: the master table that exportfs wrote."""
    assert run(EXPORTS, nfs(etab=LOADED)).coverage is Coverage.COMPLETE
    assert sorted(brief(nfs(etab=LOADED))) == sorted(
        {row for row in brief(nfs(exports=TABLE)) if "oct" in row or "1.6" in row or "10.0" in row or "world" in row}
        | {"/srv/trap * everyone rw insecure"}
    )


@pytest.mark.parametrize(("line", "rows"), [
    ("/a *(rw)", ["/a * everyone rw"]), ("/a 0.0.0.0/0(rw)", ["/a 0.0.0.0/0 network/0 rw"]),
    ("/a host(rw) host2", ["/a host name rw", "/a host2 name"]),
    ("/a -rw,insecure h1 h2(ro)", ["/a h1 name rw insecure", "/a h2 name insecure"]),
    ("/a gss/krb5p(rw)", ["/a gss/krb5p everyone rw krb5p"]),
    ("  /a\thost(fsid=0,crossmnt,anonuid=1)", ["/a host name"]), ("#/a *(rw)", []), ("", []), ("/a host(rw)#c", ["/a host name rw"]),
])  # fmt: skip
def test_lines(line: str, rows: list[str]) -> None:
    evidence = nfs(exports=line + "\n")
    assert brief(evidence) == rows and run(EXPORTS, evidence).coverage is Coverage.COMPLETE


@pytest.mark.parametrize("line", ["/a host(rw", "/a host(rw)(ro)", "/a host(rw,magic)", "/a host(rw)x"])
def test_lines_that_are_not_understood_are_gaps(line: str) -> None:
    assert run(EXPORTS, nfs(exports=line + "\n/b *(rw)\n")).coverage is Coverage.PARTIAL
    assert "/b * everyone rw" in brief(nfs(exports=line + "\n/b *(rw)\n"))


def test_no_exports() -> None:
    extracted = run(EXPORTS, nfs())
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
    never_emptier(EXPORTS, nfs())
    assert run(EXPORTS, nfs(exports=DENIED)).coverage is Coverage.PARTIAL
    for item in (status(Status.DENIED), ok("x"), ok("[]")):
        assert run(EXPORTS, {exports.EXPORTS.id: item}).coverage is Coverage.NONE


# smb.conf: the head is Debian 12's own file (samba-common 4.17), the shares are synthetic: smb.conf(5)
SMB = """[global]
   workgroup = WORKGROUP
;   interfaces = 127.0.0.0/8 eth0
   map to guest = bad user
   hosts allow = 10.0.0.0/8, 127.
[homes]
   comment = Home Directories
   read only = yes
[data]
   path = /srv/data
   Guest OK = Yes
   writeable = yes
[old]
   path = /srv/old
   available = no
[odd]
   directory = /srv/odd
   read only = perhaps
   hosts allow = ALL
"""
# synthetic: rsyncd.conf(5)
RSYNC = """uid = nobody
read only = true
[weights]
    path = /srv/weights
    read_only = no
    hosts allow = 10.1.2.3
[pub]
    path = /srv/pub
[locked]
    path = /srv/locked
    auth users = ops
"""
GROUP = {"enable": "1", "attrib/authentication": "0", "attrib/generate_node_acls": "1", "attrib/demo_mode_write_protect": "0"}
TPG = "/sys/kernel/config/target/iscsi/iqn.2026-11.org.example:{}/tpgt_1"
NVME = "/sys/kernel/config/nvmet/subsystems/nqn.2026-11.org.example:fast"
NOTHING = {
    shares.SAMBA.id: ok(json.dumps({"/etc/samba/smb.conf": ABSENT})), shares.RSYNC.id: ok(json.dumps({"/etc/rsyncd.conf": ABSENT})),
    shares.LIO.id: ok("{}"), shares.NVMET.id: ok("{}"), shares.TGT.id: ok(json.dumps({"/etc/tgt/targets.conf": ABSENT})),
}  # fmt: skip


def samba(text: str = SMB) -> Evidence:
    return NOTHING | {shares.SAMBA.id: ok(json.dumps({"/etc/samba/smb.conf": {"text": text}}))}


def rsync(text: str = RSYNC) -> Evidence:
    return NOTHING | {shares.RSYNC.id: ok(json.dumps({"/etc/rsyncd.conf": {"text": text}}))}


def targets(**more: Any) -> Evidence:
    groups = {TPG.format("open"): GROUP, TPG.format("off"): GROUP | {"enable": "0"}}
    groups[TPG.format("listed")] = GROUP | {"attrib/generate_node_acls": "0"} | more
    tgt = {"/etc/tgt/conf.d/a.conf": {"text": "<target iqn.2026-11.org.example:tgt>\n"}}
    return NOTHING | {
        shares.LIO.id: ok(json.dumps(groups)), shares.TGT.id: ok(json.dumps(tgt)),
        shares.NVMET.id: ok(json.dumps({NVME: {"attr_allow_any_host": "1"}})),
    }  # fmt: skip


def rows(evidence: Evidence) -> list[tuple[Any, ...]]:
    return [tuple(row.values())[:6] for row in rows_as_dicts(SHARES, run(SHARES, evidence))]


def test_samba() -> None:
    assert run(SHARES, samba()).coverage is Coverage.COMPLETE
    near = ["10.0.0.0/8", "127."]
    assert rows(samba()) == [
        ("samba", "homes", None, False, False, near), ("samba", "data", "/srv/data", True, True, near),
        ("samba", "odd", "/srv/odd", None, False, ["ALL"]),
    ]  # fmt: skip
    for line in ("include = /etc/samba/more.conf", "registry shares = yes", "garbage", "copy = x"):
        assert run(SHARES, samba(SMB + line + "\n")).coverage is Coverage.PARTIAL
    assert rows(samba("[a]\nread only = yes\nwrite ok = yes\n"))[0][3] is True  # the last one holds


def test_rsync() -> None:
    assert run(SHARES, rsync()).coverage is Coverage.COMPLETE
    assert rows(rsync()) == [
        ("rsync", "weights", "/srv/weights", True, True, ["10.1.2.3"]), ("rsync", "pub", "/srv/pub", False, True, []),
        ("rsync", "locked", "/srv/locked", False, False, []),
    ]  # fmt: skip
    assert run(SHARES, rsync(RSYNC + "&include /etc/rsyncd.d\n")).coverage is Coverage.PARTIAL


def test_targets() -> None:
    assert run(SHARES, targets()).coverage is Coverage.COMPLETE
    iqn = "iqn.2026-11.org.example:"
    assert rows(targets()) == [
        ("iscsi", iqn + "open", None, True, True, []), ("iscsi", iqn + "listed", None, None, False, []),
        ("nvme", "nqn.2026-11.org.example:fast", None, None, True, []), ("iscsi", iqn + "tgt", None, None, None, []),
    ]  # fmt: skip
    assert run(SHARES, targets(enable=None)).coverage is Coverage.PARTIAL
    assert run(SHARES, targets() | {shares.NVMET.id: ok(json.dumps({NVME: {"attr_allow_any_host": DENIED}}))}).coverage is Coverage.PARTIAL


@pytest.mark.parametrize("evidence", [NOTHING, samba(), rsync(), targets()])
def test_laws(evidence: Evidence) -> None:
    never_emptier(SHARES, evidence)
    for source in SHARES.sources:
        assert run(SHARES, evidence | {source.id: status(Status.DENIED)}).coverage is Coverage.PARTIAL
        assert list(cut_short(SHARES, evidence, source)) or not evidence[source.id].body


def test_no_shares() -> None:
    extracted = run(SHARES, NOTHING)
    assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())


@given(st.text('/srv *(rw,no_osqua)@"\\#-= \n[]', max_size=200))
def test_no_text_raises(text: str) -> None:
    assert run(EXPORTS, nfs(exports=text)).reason[:14] != "not understood"
    for evidence in (samba(text), rsync(text)):
        assert run(SHARES, evidence).reason[:14] != "not understood"


IDS = st.sampled_from([exports.EXPORTS.id, *(source.id for source in SHARES.sources)])


@given(st.dictionaries(IDS, st.builds(Item, st.sampled_from(Status), st.binary(max_size=200))))
def test_garbage_yields_no_rows(evidence: Evidence) -> None:
    for table in (EXPORTS, SHARES):
        assert run(table, evidence).rows == ()
