# SPDX-License-Identifier: Apache-2.0
"""Slurm and MUNGE. The controller is never asked."""

from __future__ import annotations

from fleet_audit.facts.slurm import config, files, munge, node

TABLES = (*config.TABLES, *node.TABLES, *files.TABLES, *munge.TABLES)
