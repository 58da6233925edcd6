# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's software on a node: driver levels, what each level shows of the GPUs, links, MIG, daemons, container toolkit."""

from __future__ import annotations

from fleet_audit.facts.nvidia_node import daemons, fabric, mig, nvlink, sightings, states, toolkit, versions

TABLES = (
    *versions.TABLES, *sightings.TABLES, *states.TABLES, *nvlink.TABLES, *mig.TABLES, *fabric.TABLES, *daemons.TABLES, *toolkit.TABLES,
)  # fmt: skip
