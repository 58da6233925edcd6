# checks: conda-channel-priority-strict pip-asks-one-index python-indexes-over-tls python-indexes-verified uv-takes-first-index
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/pip.conf '[global]' 'index-url = http://pypi.example.invalid/simple' 'extra-index-url =' '    https://pypi.org/simple' 'timeout = 60' 'trusted-host = pypi.example.invalid'
put /etc/uv/uv.toml 'index-strategy = "unsafe-best-match"'
put /etc/conda/.condarc 'channels: [conda-forge, nvidia]' 'channel_priority: flexible'
