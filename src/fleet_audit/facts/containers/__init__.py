# SPDX-License-Identifier: Apache-2.0
"""Containers: engines, their settings and registries, what runs. No daemon is asked."""

from __future__ import annotations

from fleet_audit.facts.containers import apptainer, docker, engines, registries, running

TABLES = (*engines.TABLES, *docker.TABLES, *registries.TABLES, *apptainer.TABLES, *running.TABLES)
