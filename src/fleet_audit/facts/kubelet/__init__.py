# SPDX-License-Identifier: Apache-2.0
"""Kubernetes nodes and what their kubelets are told. No API is asked. It cannot know settings of a kubelet within k3s or MicroK8s."""

from __future__ import annotations

from fleet_audit.facts.kubelet import config, node

TABLES = (*node.TABLES, *config.TABLES)
