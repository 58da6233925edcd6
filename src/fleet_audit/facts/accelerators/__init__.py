# SPDX-License-Identifier: Apache-2.0
"""GPUs and accelerators of all makers: device files, kernel modules, PCIe links; AMD's and Intel Gaudi's own facts."""

from __future__ import annotations

from fleet_audit.facts.accelerators import amd, amd_smi, devices, gaudi

TABLES = (*devices.TABLES, *amd.TABLES, *amd_smi.TABLES, *gaudi.TABLES)
