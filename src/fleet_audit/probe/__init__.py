# SPDX-License-Identifier: Apache-2.0
"""What runs on the node, how it gets there, and the format in which it answers."""
