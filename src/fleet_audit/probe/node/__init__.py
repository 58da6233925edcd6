# SPDX-License-Identifier: Apache-2.0
"""The program that runs on a node. Standard library only, Python 3.6 and up.

It is carried over standard input, never installed. `pack.py` joins these modules to one text and puts two
lines before it (SOURCES, the definitions of all sources as JSON, and NVML_SHA256), so the same bytes run on
every host. It takes a request of source ids and budgets, reads those sources, answers with framed replies
(`wire.py` has the format) and writes nothing on the node.

The parent process opens no path: files are read by a forked worker that is replaced when it stalls, and
commands run at most two at a time in process groups of their own.
"""
