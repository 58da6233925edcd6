# SPDX-License-Identifier: Apache-2.0
"""Ways to carry the probe to a host: `paramiko`, `openssh`, `local`, `archive`.

A transport is one module of this package with a function `open_transport() -> Transport`.
"""
