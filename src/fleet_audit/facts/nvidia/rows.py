# SPDX-License-Identifier: Apache-2.0
"""The row types of NVIDIA GPUs, and what the ways of asking for them share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol


@dataclass(frozen=True)
class Gpu:
    """An NVIDIA GPU that the loaded driver drives. Source: NVML, or `nvidia-smi -q -x` where that failed.

    NULL beside `..._supported` = false: the GPU has no such thing. Else NULL: not known.
    """

    uuid: Annotated[str, "UUID, GPU-..."]
    gpu_index: Annotated[int, "Number of the GPU as the driver counts"]
    name: Annotated[str | None, "Product name"]
    address: Annotated[str | None, "PCI address as in gpu_pci"]
    driver_version: Annotated[str | None, "Version of the kernel driver that answered"]
    driver_key: Annotated[str | None, "Sortable key of it (dotted)"]
    driver_branch: Annotated[int | None, "First number of it"]
    vbios: Annotated[str | None, "VBIOS version, five hex pairs; compare GPUs of one product only"]
    inforom: Annotated[str | None, "InfoROM image version"]
    inforom_valid: Annotated[bool | None, "InfoROM checksums hold; NULL where it was not asked (nvidia-smi)"]
    gsp_version: Annotated[str | None, "Version of the GSP firmware in use; NULL if not used or not known"]
    ecc_supported: Annotated[bool | None, "The GPU has ECC memory"]
    ecc_enabled: Annotated[bool | None, "ECC is on"]
    ecc_pending: Annotated[bool | None, "ECC will be on after the next reset or reboot"]
    ecc_uncorrected_volatile: Annotated[int | None, "Uncorrectable ECC errors since the driver was loaded"]
    ecc_uncorrected_aggregate: Annotated[int | None, "Uncorrectable ECC errors of the GPU's life"]
    remap_pending: Annotated[bool | None, "A row remapping waits for a reset; NULL before Ampere"]
    remap_failure: Annotated[bool | None, "A row remapping has failed: replace the GPU; NULL before Ampere"]
    mig_supported: Annotated[bool | None, "The GPU can be partitioned (MIG)"]
    mig_enabled: Annotated[bool | None, "MIG is on"]
    mig_pending: Annotated[bool | None, "MIG will be on after the next reset"]
    persistence: Annotated[bool | None, "The driver stays initialised without users (persistence mode)"]
    virtualization: Annotated[str | None, "none, pass-through, vgpu, host-vgpu or host-vsga"]
    architecture: Annotated[str | None, "Lower-case word such as ampere, ada, hopper; `nvml N` where new"]


@dataclass(frozen=True)
class GpuProcess:
    """A process on an NVIDIA GPU; a container shows its own only. Source: NVML, or `nvidia-smi -q -x`."""

    uuid: Annotated[str, "UUID of the GPU"]
    pid: Annotated[int, "Process id; a process that computes and draws has two rows"]
    name: Annotated[str | None, "Program, where the tool shows it (NVML does not)"]
    kind: Annotated[str, "compute or graphics"]
    used_memory_bytes: Annotated[int | None, "GPU memory in bytes; NULL where the driver does not say"]


class GpuReader(Protocol):
    """One GPU, by whatever way it was asked."""

    def address(self) -> str | None:
        """Where it is on PCI."""

    def row(self) -> Gpu | None:
        """Its facts; None (and a gap) if it does not say which GPU it is."""

    def processes(self) -> Iterable[GpuProcess]:
        """What runs on it."""


@dataclass(frozen=True)
class Reading:
    """All GPUs of a host by one way of asking."""

    gpus: Sequence[GpuReader]
    gaps: tuple[str, ...] = ()
    """Why GPUs may be missing; empty if all were read."""
