# SPDX-License-Identifier: Apache-2.0
"""MIG devices of NVIDIA GPUs, and the capability files by which the driver grants MIG and fabric rights."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

from fleet_audit.facts.base import Bundle, NotUnderstood, Table, Unread, describe, integer
from fleet_audit.facts.gpu import PCI, PCI_BUS, VERSION, not_loaded
from fleet_audit.facts.nvidia import no_driver
from fleet_audit.facts.nvidia_node.nvlink import gpu_blocks
from fleet_audit.model import Source, SourceId, Status

_ROOT = "/proc/driver/nvidia/capabilities"
CAPABILITIES = Source(
    SourceId("nvidia-capabilities"), "files",
    {"globs": [f"{_ROOT}/mig/config", f"{_ROOT}/mig/monitor", f"{_ROOT}/fabric-mgmt", f"{_ROOT}/fabric-imex-mgmt",
               f"{_ROOT}/gpu[0-9]*/mig/gi[0-9]*/access", f"{_ROOT}/gpu[0-9]*/mig/gi[0-9]*/ci[0-9]*/access"], "cap_each": 4096},
    "NVIDIA MIG user guide, Device Nodes and Capabilities: lines DeviceFileMinor (of /dev/nvidia-caps), DeviceFileMode (decimal), "
    "DeviceFileModify.",
)  # fmt: skip
MIG = Source(
    SourceId("nvidia-smi-list"), "command", {"argv": ["nvidia-smi", "-L"]},
    "nvidia-smi(1), --list-gpus: below each GPU its MIG devices with profile and UUID. Run only where a GPU instance exists.",
    when_exists=f"{_ROOT}/gpu[0-9]*/mig/gi[0-9]*", timeout_s=20.0,
)  # fmt: skip


@dataclass(frozen=True)
class NvidiaCapability:
    """A right of the NVIDIA driver that a device file in /dev/nvidia-caps grants to who may open it. Source: /proc/driver/nvidia."""

    name: Annotated[
        str, "mig/config, mig/monitor, fabric-mgmt, fabric-imex-mgmt, gpu0/gi1 (GPU instance) or gpu0/gi1/ci0 (compute instance)"
    ]
    device: Annotated[str, "Its device file, there or not"]
    mode: Annotated[int, "Mode that the driver gives the file when it makes it, such as 256 (octal 400)"]
    driver_sets_mode: Annotated[bool | None, "The driver's tools reset mode and owner (DeviceFileModify)"]


@dataclass(frozen=True)
class MigDevice:
    """A MIG device, a part of an NVIDIA GPU. Source: `nvidia-smi -L`; none where the driver shows no GPU instance."""

    gpu_uuid: Annotated[str, "UUID of the GPU"]
    gpu_index: Annotated[int, "Number of the GPU as the driver counts"]
    device: Annotated[int, "Number within the GPU"]
    profile: Annotated[str, "Profile, such as 3g.40gb, or 1c.3g.40gb for a part of the compute slices"]
    uuid: Annotated[str, "UUID, MIG-..."]


_MIG = re.compile(r"MIG (\S{1,40})\s+Device\s+(\d{1,3}): \(UUID: (MIG-[0-9A-Za-z/-]{1,80})\)")


def parse_capabilities(evidence: Bundle) -> Iterable[NvidiaCapability]:
    """A row per capability; none where no driver is loaded."""
    found = evidence.entries(CAPABILITIES)
    if not found and not not_loaded(evidence):
        raise NotUnderstood(f"{CAPABILITIES.id}: no capability, though a driver is loaded or was not looked for")
    for path, entry in found.items():
        fields = {name.strip(): integer(text) for name, _, text in (line.partition(":") for line in str(entry.get("text")).splitlines())}
        minor, mode, modify = (fields.get(f"DeviceFile{name}") for name in ("Minor", "Mode", "Modify"))
        if minor is None or mode is None:
            evidence.gap(CAPABILITIES, f"{path}: not understood")
            continue
        name = path.removeprefix(f"{_ROOT}/").removesuffix("/access")
        name = name.replace("/mig/", "/") if name.startswith("gpu") else name
        yield NvidiaCapability(name, f"/dev/nvidia-caps/nvidia-cap{minor}", mode, None if modify not in (0, 1) else bool(modify))


def parse_mig(evidence: Bundle) -> Iterable[MigDevice]:
    """A row per MIG device."""
    if evidence.item(MIG).status is Status.SKIPPED:
        if not_loaded(evidence):
            no_driver(evidence)
        elif f"{_ROOT}/mig/config" not in (seen := evidence.entries(CAPABILITIES)) or any("/gi" in path for path in seen):
            raise NotUnderstood(f"{CAPABILITIES.id}: it does not prove that there is no GPU instance")
        return
    if evidence.item(MIG).status not in (Status.OK, Status.TRUNCATED):
        raise Unread(describe(MIG, evidence.item(MIG)))
    for index, uuid, lines in gpu_blocks(evidence, MIG):
        for line in lines:
            if (found := _MIG.fullmatch(line)) is None:
                evidence.gap(MIG, f"GPU {index}: a line that is no MIG device")
                continue
            yield MigDevice(uuid, index, int(found[2]), found[1], found[3])


TABLES = (
    Table("nvidia_capabilities", NvidiaCapability, (VERSION, CAPABILITIES), parse_capabilities),
    Table("mig_devices", MigDevice, (VERSION, PCI_BUS, PCI, CAPABILITIES, MIG), parse_mig),
)
