# SPDX-License-Identifier: Apache-2.0
"""Known vulnerabilities: what vendors publish, kept as one data set, and matched with what is installed.

Data flows one way: documents (`reading`) -> records, by one module for each format -> data set (`database`)
-> rows for each host (`matching`).
"""
