# SPDX-License-Identifier: Apache-2.0
"""The BMC as ipmitool(1) shows it."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_audit.facts.base import Item
from fleet_audit.facts.bmc import TABLES
from fleet_audit.facts.bmc.ipmi import ACCESS, AUTHCAP, CHANNELS, INFO, LAN, MC
from fleet_audit.facts.bmc.lan import usable, zero
from fleet_audit.facts.firmware import IPMI
from fleet_audit.facts.smbios import SMBIOS
from fleet_audit.model import Coverage, SourceId, Status

from .helpers import ok, rows_as_dicts, run, status
from .laws import cut_short, never_emptier

FIRMWARE, LANS, CHANNEL, USERS, AUTHENTICATION, DEVICES = TABLES
NETWORKED = (LANS, CHANNEL, USERS, AUTHENTICATION)
Evidence = dict[SourceId, Item]

# recorded on Debian 12, ipmitool 1.8.19, against ipmi_sim of OpenIPMI 2.0.33, 2026-11-25, by `ipmitool -I lanplus ...`
MC_INFO = """\
Device ID                 : 0
Device Revision           : 3
Firmware Revision         : 9.08
IPMI Version              : 2.0
Manufacturer ID           : 4753
Manufacturer Name         : MontaVista Software, Inc.
Product ID                : 3842 (0x0f02)
Product Name              : Unknown (0xF02)
Device Available          : yes
Provides Device SDRs      : no
Additional Device Support :
    Sensor Device
    SDR Repository Device
    SEL Device
    FRU Inventory Device
    IPMB Event Receiver
    Chassis Device
Aux Firmware Rev Info     : \n\
    0x00
    0x00
    0x00
    0x00
"""
LAN_PRINT = """\
Set in Progress         : Set Complete
Auth Type Support       : NONE MD2 MD5 PASSWORD \n\
Auth Type Enable        : Callback : NONE MD2 MD5 PASSWORD \n\
                        : User     : NONE MD2 MD5 PASSWORD \n\
                        : Operator : NONE MD2 MD5 PASSWORD \n\
                        : Admin    : NONE MD2 MD5 PASSWORD \n\
                        : OEM      : \n\
IP Address Source       : Unspecified
IP Address              : 0.0.0.0
Subnet Mask             : 0.0.0.0
Default Gateway IP      : 0.0.0.0
802.1q VLAN ID          : Disabled
RMCP+ Cipher Suites     : 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
Cipher Suite Priv Max   : aaaaaaaaaaaaaaa
                        :     X=Cipher Suite Unused
                        :     c=CALLBACK
                        :     u=USER
                        :     o=OPERATOR
                        :     a=ADMIN
                        :     O=OEM
Bad Password Threshold  : Not Available
"""
CHANNEL_INFO = """\
Channel 0x1 info:
  Channel Medium Type   : 802.3 LAN
  Channel Protocol Type : IPMB-1.0
  Session Support       : multi-session
  Active Session Count  : 1
  Protocol Vendor ID    : 7154
  Volatile(active) Settings
    Alerting            : enabled
    Per-message Auth    : enabled
    User Level Auth     : enabled
    Access Mode         : always available
  Non-Volatile Settings
    Alerting            : enabled
    Per-message Auth    : enabled
    User Level Auth     : enabled
    Access Mode         : always available
"""
GET_ACCESS = """\
Maximum User IDs     : 63
Enabled User IDs     : 2

User ID              : 1
User Name            : \n\
Fixed Name           : Yes
Access Available     : call-in / callback
Link Authentication  : disabled
IPMI Messaging       : enabled
Privilege Level      : USER
Enable Status        : unknown

User ID              : 2
User Name            : ipmiusr
Fixed Name           : No
Access Available     : call-in / callback
Link Authentication  : disabled
IPMI Messaging       : enabled
Privilege Level      : ADMINISTRATOR
Enable Status        : unknown
""" + "".join(  # slots 3 to 63 were printed all alike
    f"\nUser ID              : {n}\nUser Name            : \nFixed Name           : No\nAccess Available     : call-in / callback\n"
    "Link Authentication  : disabled\nIPMI Messaging       : disabled\nPrivilege Level      : Unknown (0x00)\n"
    "Enable Status        : unknown\n"
    for n in range(3, 64)
)  # fmt: skip
NOT_FOUND = Item(
    Status.FAILED, b"", 1, "exit 1: Get Channel Info command failed: Requested sensor, data, or record not found\nInvalid channel: 2"
)
# The same where the BMC refuses the number or has another medium there, and where ipmitool finds no file of makers' names.
NO_LAN = [
    NOT_FOUND, Item(Status.FAILED, b"", 1, "exit 1: Invalid channel: 2"), Item(Status.FAILED, b"", 1, "exit 1: Channel 2 is not a LAN channel"),
    Item(Status.FAILED, b"", 1, "exit 1: Get Channel Info command failed: Parameter out of range\nInvalid channel: 2"),
    Item(Status.FAILED, b"", 1, "exit 1: IANA PEN registry open failed: No such file or directory\nInvalid channel: 2"),
]  # fmt: skip

# synthetic: ipmitool's source, ipmi_channel.c and ipmi_lanp.c; values as a server's BMC of AMI's has them
AUTH_CAP = """\
Channel number             : 1
IPMI v1.5  auth types      : MD5 \n\
KG status                  : default (all zeroes)
Per message authentication : enabled
User level authentication  : enabled
Non-null user names exist  : yes
Null user names exist      : no
Anonymous login enabled    : no
Channel supports IPMI v1.5 : yes
Channel supports IPMI v2.0 : yes
"""
SERVER_LAN = """\
Set in Progress         : Set Complete
Auth Type Support       : MD5 \n\
Auth Type Enable        : Callback : MD5 \n\
                        : User     : MD5 \n\
                        : Operator : MD5 \n\
                        : Admin    : MD5 \n\
                        : OEM      : \n\
IP Address Source       : DHCP Address
IP Address              : 192.0.2.17
Subnet Mask             : 255.255.255.0
Default Gateway IP      : 192.0.2.254
802.1q VLAN ID          : 42
RMCP+ Cipher Suites     : 3,17,0
Cipher Suite Priv Max   : XaXXXXXXXXXXXXX
                        :     X=Cipher Suite Unused
Bad Password Threshold  : 3
"""
SERVER_USERS = """\
Maximum User IDs     : 3
Enabled User IDs     : 2

User ID              : 1
User Name            : \n\
Fixed Name           : Yes
Access Available     : call-in / callback
Link Authentication  : disabled
IPMI Messaging       : disabled
Privilege Level      : NO ACCESS
Enable Status        : disabled

User ID              : 2
User Name            : ADMIN
Fixed Name           : No
Access Available     : callback
Link Authentication  : enabled
IPMI Messaging       : enabled
Privilege Level      : ADMINISTRATOR
Enable Status        : enabled

User ID              : 3
User Name            : a:b
Fixed Name           : No
Access Available     : call-in / callback
Link Authentication  : enabled
IPMI Messaging       : enabled
Privilege Level      : OEM
Enable Status        : enabled
"""
DECLARED = "SMBIOS 3.5.0 present.\nHandle 0x0040, DMI type 38, 18 bytes\n\tInterface Type: KCS (Keyboard Control Style)\nHandle 0x59, DMI type 127\n"
BARE = "SMBIOS 2.8 present.\nHandle 0x0003, DMI type 127, 4 bytes\n"
NO_DEVICE = status(Status.SKIPPED, "no /dev/ipmi* on this node")


def bmc(
    lan: str = SERVER_LAN, info: str = CHANNEL_INFO, access: str = SERVER_USERS, authcap: str = AUTH_CAP, absent: Item = NOT_FOUND
) -> Evidence:
    """A BMC with one LAN channel, number 1."""
    found = {MC.id: ok(MC_INFO, 0), SMBIOS.id: ok(DECLARED, 0)}
    for n in CHANNELS:
        found[LAN[n].id] = ok(lan, 0) if n == 1 else absent
        for sources, text in ((INFO, info), (ACCESS, access), (AUTHCAP, authcap)):
            found[sources[n].id] = ok(text, 0) if n == 1 else status(Status.SKIPPED, f"ipmi-lan-{n} is failed")
    return found


def none(smbios: str | Item = BARE) -> Evidence:
    """A node without a device file for a BMC."""
    sources = (MC, *(s for group in (LAN, INFO, ACCESS, AUTHCAP) for s in group.values()))
    return {s.id: NO_DEVICE for s in sources} | {SMBIOS.id: smbios if isinstance(smbios, Item) else ok(smbios, 0)}


def test_the_simulator() -> None:
    """What ipmitool really printed."""
    evidence = bmc(LAN_PRINT, access=GET_ACCESS)
    assert run(FIRMWARE, evidence).rows == (("9.08", "00 00 00 00", "2.0", 4753, "MontaVista Software, Inc.", 3842, True),)
    (lan,) = rows_as_dicts(LANS, run(LANS, evidence))
    suites = list(range(1, 16))
    assert lan == {
        "channel": 1, "ip_address": "0.0.0.0", "ip_source": "unspecified", "subnet_mask": "0.0.0.0", "gateway": "0.0.0.0", "vlan": 0,
        "auth_types": ["MD2", "MD5", "NONE", "PASSWORD"], "cipher_suites": suites, "cipher_levels": "a" * 15,
        "cipher_suites_usable": suites, "cipher_zero": False, "bad_password_threshold": None,
    }  # fmt: skip
    assert run(CHANNEL, evidence).rows == ((1, "802.3 LAN", "always available", "always available", True, True),)
    users = run(USERS, evidence)
    assert (users.coverage, len(users.rows)) == (Coverage.COMPLETE, 63)
    assert users.rows[:3] == (
        (1, 1, "", None, "USER", True, True), (1, 2, "ipmiusr", None, "ADMINISTRATOR", True, False), (1, 3, "", None, None, False, False)
    )  # fmt: skip
    assert all(run(table, evidence).coverage is Coverage.COMPLETE for table in TABLES[:5])


def test_a_server() -> None:
    (lan,) = rows_as_dicts(LANS, run(LANS, bmc()))
    assert (lan["ip_address"], lan["ip_source"], lan["vlan"], lan["auth_types"], lan["bad_password_threshold"]) == (
        "192.0.2.17", "dhcp", 42, ["MD5"], 3
    )  # fmt: skip
    assert (lan["cipher_suites_usable"], lan["cipher_zero"]) == ([17], False)
    assert run(USERS, bmc()).rows == (
        (1, 1, "", False, "NO ACCESS", False, True), (1, 2, "ADMIN", True, "ADMINISTRATOR", True, False), (1, 3, "a:b", True, "OEM", True, False)
    )  # fmt: skip
    assert run(AUTHENTICATION, bmc()).rows == ((1, ["MD5"], False, False, False, True),)


def test_a_setting_that_the_next_start_undoes() -> None:
    """What counts now and what is stored are two columns."""
    head, _, tail = CHANNEL_INFO.rpartition("always available")
    (row,) = rows_as_dicts(CHANNEL, run(CHANNEL, bmc(info=head.replace("always available", "disabled") + "always available" + tail)))
    assert (row["access_mode"], row["access_mode_stored"]) == ("disabled", "always available")


def test_two_channels() -> None:
    evidence = bmc() | {LAN[8].id: ok(SERVER_LAN.replace(".17", ".18"), 0), ACCESS[8].id: ok(SERVER_USERS, 0)}
    assert [row[:2] for row in run(LANS, evidence).rows] == [(1, "192.0.2.17"), (8, "192.0.2.18")]
    assert [row[0] for row in run(USERS, evidence).rows] == [1, 1, 1, 8, 8, 8]


@pytest.mark.parametrize("absent", NO_LAN)
def test_channels_without_lan(absent: Item) -> None:
    assert run(LANS, bmc(absent=absent)).coverage is Coverage.COMPLETE


@pytest.mark.parametrize("failed", [
    Item(Status.FAILED, b"", 1, "exit 1: Get Channel Info command failed: Timeout\nInvalid channel: 2"),
    Item(Status.FAILED, b"", 1, "exit 1: Could not open device at /dev/ipmi0 or /dev/ipmi/0 or /dev/ipmidev/0: Permission denied"),
    status(Status.TIMEOUT), status(Status.DENIED), status(Status.UNREACHED),
])  # fmt: skip
def test_channels_that_could_not_be_asked_are_gaps(failed: Item) -> None:
    for table in NETWORKED:
        assert run(table, bmc(absent=failed)).coverage is Coverage.PARTIAL
        assert run(table, bmc() | {source.id: failed for source in LAN.values()}).coverage is Coverage.NONE


def test_a_bmc_whose_lan_is_elsewhere_is_not_one_without() -> None:
    for table in NETWORKED:
        extracted = run(table, bmc() | {source.id: NOT_FOUND for source in LAN.values()})
        assert (extracted.coverage, extracted.reason) == (Coverage.NONE, "no LAN interface on channels (1, 2, 3, 8)")


def test_no_bmc() -> None:
    """Neither a device file nor a declaration of SMBIOS."""
    for table in TABLES[:5]:
        extracted = run(table, none())
        assert (extracted.coverage, extracted.rows) == (Coverage.COMPLETE, ())
        never_emptier(table, none())


@pytest.mark.parametrize("smbios", [
    DECLARED, status(Status.SKIPPED), status(Status.ABSENT), status(Status.DENIED), ok("garbage"),
    "SMBIOS 3.5.0 present.\nHandle 0x0001, DMI type 16, 23 bytes\n",
])  # fmt: skip
def test_a_bmc_without_its_driver_is_unknown(smbios: str | Item) -> None:
    for table in TABLES[:5]:
        assert run(table, none(smbios)).coverage is Coverage.NONE


def test_without_ipmitool() -> None:
    missing = status(Status.ABSENT, "ipmitool: No such file or directory")
    for table in TABLES[:5]:
        assert run(table, dict.fromkeys(bmc(), missing) | {SMBIOS.id: ok(DECLARED)}).coverage is Coverage.NONE


def test_an_answer_that_broke_off() -> None:
    """ipmitool ends with 1 in the middle: what it printed before counts, and the table is partial."""
    broken = Item(
        Status.FAILED, SERVER_USERS[: SERVER_USERS.find("User ID              : 3")].encode(), 1, "exit 1: Unable to Get User Name (id 3)"
    )
    extracted = run(USERS, bmc() | {ACCESS[1].id: broken})
    assert (extracted.coverage, [row[2] for row in extracted.rows]) == (Coverage.PARTIAL, ["", "ADMIN"])
    refused = Item(Status.FAILED, b"", 1, "exit 1: Get Channel Authentication Capabilities failed: Command not supported in present state")
    extracted = run(AUTHENTICATION, bmc() | {AUTHCAP[1].id: refused})
    assert (extracted.coverage, extracted.rows) == (Coverage.PARTIAL, ())


@pytest.mark.parametrize(("known", "levels", "in_use", "is_zero"), [
    # as makers' BMCs print it; by order: AMI (DGX A100), Intel, Lenovo; by number: Supermicro; the same by both: Dell
    ("0,1,2,3,6,7,8,11,12,15,16,17", "caaaaaaaaaaaXXX", [0, 1, 2, 3, 6, 7, 8, 11, 12, 15, 16, 17], True),
    ("1,2,3,6,7,8,11,12,15,16,17", "XXaXXXXXXXaXXXX", [3, 17], False),
    ("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", "aaaaaaaaaaaaaaa", list(range(1, 17)), False),
    ("1,2,3,6,7,8,11,12,0", "aaaaXXaaaXXaaXX", [0, 1, 2, 3, 6, 7, 8, 11, 12], True),
    ("1,2,3,6,7,8,11,12", "XaaaXXaaaXXaaXX", [1, 2, 3, 6, 7, 8, 11, 12], False),
    ("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14", "Xaaaaaaaaaaaaaa", list(range(1, 15)), False),
    ("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14", "aaaaaaaaaaaaaaa", list(range(15)), True),
    ("17", "XXXXXXXXXXXXXXX", None, False),  # OpenBMC: it tells no levels, and uses the suite
    ("0,3,17", "XXXXXXXXXXXXXXX", None, None), ("3,0,17", "aXaXXXXXXXXXXXX", [3, 17], False), ("0,3", "aXXaXXXXXXXXXXX", [0, 3], True),
    ("3,0", "aXXXXXXXXXXXXXX", None, None),  # 3 by order, 0 by number
    ("0,1,2,3,6,7,8,11,12,15,16,17", "XXXXXXXXXXXaXXX", None, False),  # 17 by order, 11 by number
    ("1,2,3,6,7,8,11,12", "aaaaXXaaaXXaaXX", None, False),  # neither reading fits, and 0 is not known to the BMC
    (None, "aaaaaaaaaaaaaaa", None, None), ("0,3,17", None, None, None), ("3,17", None, None, False),
])  # fmt: skip
def test_cipher_suites(known: str | None, levels: str | None, in_use: list[int] | None, is_zero: bool | None) -> None:
    text = re.sub(r"(RMCP\+ Cipher Suites +: ).*", rf"\g<1>{known or 'None'}", SERVER_LAN)
    text = re.sub(r"(Cipher Suite Priv Max +: ).*", rf"\g<1>{levels or 'Not Available'}", text)
    extracted = run(LANS, bmc(text))
    (row,) = rows_as_dicts(LANS, extracted)
    assert (row["cipher_suites_usable"], row["cipher_zero"], extracted.coverage) == (in_use, is_zero, Coverage.COMPLETE)


@given(st.lists(st.integers(0, 20), max_size=16, unique=True), st.text("Xcuoa", min_size=15, max_size=15))
def test_cipher_zero_is_never_denied_where_a_reading_shows_it(known: list[int], levels: str) -> None:
    found, in_use = zero(known, levels), usable(known, levels)
    assert in_use is None or (0 in in_use) == found
    if found is False and 0 in known:
        assert levels[0] == "X" or levels[known.index(0) : known.index(0) + 1] == "X"


@pytest.mark.parametrize("text", [
    SERVER_LAN.replace("192.0.2.17", "fe80::1"), SERVER_LAN.replace("XaXXX", "XaYXX"), SERVER_LAN + "garbage\n",
    SERVER_LAN.replace("3,17,0", "3,17,zero"), SERVER_LAN.replace("DHCP Address", "Magic"), SERVER_LAN.replace("Operator : MD5", "Operator ! MD5"),
    SERVER_LAN.replace("Admin    : MD5", "Admin    : SHA9"),
])  # fmt: skip
def test_words_of_lan_print_that_are_not_known(text: str) -> None:
    extracted = run(LANS, bmc(text))
    assert (extracted.coverage, len(extracted.rows)) == (Coverage.PARTIAL, 1)


@pytest.mark.parametrize(("table", "evidence"), [
    (USERS, bmc(access=SERVER_USERS.replace("Maximum User IDs     : 3", "Maximum User IDs     : 4"))), (USERS, bmc(access="")),
    (USERS, bmc(access=SERVER_USERS.replace("Enable Status        : disabled", "Enable Status        : maybe"))),
    (USERS, bmc(access=SERVER_USERS.replace("IPMI Messaging       : disabled", "IPMI Messaging       : often"))),
    (CHANNEL, bmc(info=CHANNEL_INFO.replace("always available", "sometimes"))), (CHANNEL, bmc(info=CHANNEL_INFO.partition("  Non-V")[0])),
    (AUTHENTICATION, bmc(authcap=AUTH_CAP.replace("default (all zeroes)", "odd"))),
    (AUTHENTICATION, bmc(authcap=AUTH_CAP.replace("login enabled    : no", "login enabled    : perhaps"))),
    (FIRMWARE, bmc() | {MC.id: ok(MC_INFO.replace("IPMI Version", "IPMI Vision"))}),
])  # fmt: skip
def test_other_words_that_are_not_known(table: Any, evidence: Evidence) -> None:
    assert run(table, evidence).coverage is Coverage.PARTIAL


@pytest.mark.parametrize(("table", "evidence"), [
    (LANS, bmc("")), (LANS, bmc("nonsense\n")), (CHANNEL, bmc(info="")), (AUTHENTICATION, bmc(authcap="x: y\n")),
    (FIRMWARE, bmc() | {MC.id: ok("")}), (FIRMWARE, bmc() | {MC.id: ok(MC_INFO.replace("9.08", "nine"))}),
])  # fmt: skip
def test_answers_that_say_nothing(table: Any, evidence: Evidence) -> None:
    assert run(table, evidence).coverage is Coverage.NONE


def test_no_firmware_revision_is_none() -> None:
    assert run(FIRMWARE, bmc() | {MC.id: ok(MC_INFO.replace("9.08", "0.00"))}).rows[0][0] is None


def test_device_files() -> None:
    there = {"/dev/ipmi0": {"type": "char", "mode": 0o600, "uid": 0, "gid": 0}, "/dev/ipmi/0": {"status": "absent", "detail": ""}}
    assert run(DEVICES, {IPMI.id: ok(json.dumps(there))}).rows == (("/dev/ipmi0", 0o600, 0, 0),)
    assert run(DEVICES, {IPMI.id: status(Status.DENIED)}).coverage is Coverage.NONE
    gone = {path: {"status": "absent", "detail": ""} for path in IPMI.args["globs"]}
    assert run(DEVICES, {IPMI.id: ok(json.dumps(gone))}).coverage is Coverage.COMPLETE
    assert run(DEVICES, {IPMI.id: ok(json.dumps(there | {"/dev/ipmi/0": {"status": "denied", "detail": ""}}))}).coverage is Coverage.PARTIAL


def test_no_secret_is_asked_for() -> None:
    """The SNMP community stands in what `lan print` says; its line does not pass."""
    assert not "SNMP Community String   : public".startswith(tuple(LAN[1].args["keep"]))
    assert all(line.startswith(tuple(LAN[1].args["keep"])) for line in LAN_PRINT.splitlines())


@pytest.mark.parametrize("table", TABLES[:5])
def test_laws(table: Any) -> None:
    for evidence in (bmc(), bmc(LAN_PRINT, access=GET_ACCESS)):
        never_emptier(table, evidence)
    for source in table.sources:
        if evidence[source.id].status is Status.OK and source != SMBIOS:
            for cut in cut_short(table, bmc(), source, step=17):
                assert len(cut.rows) <= len(run(table, bmc()).rows)


@given(st.data())
def test_nothing_raises(data: st.DataObject) -> None:
    evidence = bmc()
    table = data.draw(st.sampled_from(TABLES[:5]))
    source = data.draw(st.sampled_from(table.sources))
    body = evidence[source.id].body
    at, junk = data.draw(st.integers(0, len(body))), data.draw(st.binary(max_size=40))
    item = Item(data.draw(st.sampled_from(Status)), data.draw(st.sampled_from([junk, body[:at] + junk + body[at:]])), 0)
    extracted = run(table, evidence | {source.id: item})
    assert not extracted.reason.startswith("not understood: ")
