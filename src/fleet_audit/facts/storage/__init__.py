# SPDX-License-Identifier: Apache-2.0
"""Where data lie: mounts, block devices and what encrypts them, swap, drives, ZFS, network file systems."""

from __future__ import annotations

from fleet_audit.facts.base import Table
from fleet_audit.facts.storage import crypt, devices, drives, mounts, network, volumes, zfs

TABLES = (
    Table("mounts", mounts.Mount, (mounts.MOUNTINFO,), mounts.parse_mounts),
    Table("fstab_entries", mounts.FstabEntry, (mounts.FSTAB, mounts.MOUNT_UNITS), mounts.parse_fstab),
    Table("block_devices", devices.BlockDevice, devices.SOURCES, devices.parse_devices),
    Table("volumes", volumes.Volume, (*devices.SOURCES, zfs.ZFS, zfs.ZPOOL), volumes.parse_volumes),
    Table("swaps", volumes.Swap, (volumes.SWAPS, *devices.SOURCES), volumes.parse_swaps),
    Table("crypt_targets", crypt.CryptTarget, (crypt.TARGETS,), crypt.parse_targets),
    Table("crypttab_entries", crypt.CrypttabEntry, (crypt.CRYPTTAB, crypt.KEY_FILES, *devices.SOURCES), crypt.parse_crypttab),
    Table("self_encrypting_drives", drives.SelfEncryptingDrive, (devices.BLOCK, devices.BLOCK_LINKS, *drives.OPAL, *drives.COMMANDS),
          drives.parse_drives),
    Table("zfs_datasets", zfs.ZfsDataset, (zfs.ZFS,), zfs.parse_datasets),
    Table("network_mounts", network.NetworkMount, (mounts.MOUNTINFO,), network.parse_network_mounts),
    Table("lustre_connections", network.LustreConnection, (network.LUSTRE,), network.parse_lustre),
    Table("parallel_fs_settings", network.ParallelFsSetting, (network.SETTINGS,), network.parse_settings),
    Table("parallel_fs_secrets", network.ParallelFsSecret, (network.SECRETS,), network.parse_secrets),
)  # fmt: skip
