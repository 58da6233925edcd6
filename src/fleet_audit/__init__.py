# SPDX-License-Identifier: Apache-2.0
"""Audits the hardening of the machines that train models, agentless, over SSH."""

__version__ = "0.1.0"
