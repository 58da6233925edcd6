# SPDX-License-Identifier: Apache-2.0
"""The BMC as ipmitool shows it from the node: its firmware, its LAN channels, who may log in, and its device files.

It cannot see a BMC's web server, Redfish, SSH or virtual media, nor how the BMC's port is wired.
"""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.bmc.access import (
    BmcAuthentication,
    BmcChannel,
    BmcUser,
    parse_authentication,
    parse_channels,
    parse_users,
)
from fleet_audit.facts.bmc.controller import BmcDevice, BmcFirmware, parse_devices, parse_firmware
from fleet_audit.facts.bmc.ipmi import ACCESS, AUTHCAP, INFO, LAN, MC
from fleet_audit.facts.bmc.lan import BmcLan, parse_lan
from fleet_audit.facts.firmware import IPMI
from fleet_audit.facts.smbios import SMBIOS

_LAN = (*LAN.values(), SMBIOS)
TABLES = (
    Table("bmc_firmware", BmcFirmware, (MC, SMBIOS), parse_firmware),
    Table("bmc_lan", BmcLan, _LAN, parse_lan),
    Table("bmc_channels", BmcChannel, (*INFO.values(), *_LAN), parse_channels),
    Table("bmc_users", BmcUser, (*ACCESS.values(), *_LAN), parse_users),
    Table("bmc_authentication", BmcAuthentication, (*AUTHCAP.values(), *_LAN), parse_authentication),
    Table("bmc_devices", BmcDevice, (IPMI,), parse_devices),
)
