# SPDX-License-Identifier: Apache-2.0
"""Speed and cost, each held against a bar; see README.md."""
