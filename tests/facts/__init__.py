# SPDX-License-Identifier: Apache-2.0
"""Tests of the fact modules; a package so that they can share `helpers`."""
