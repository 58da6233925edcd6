# checks: sudo-uses-pty
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
sed -i '/use_pty/d' /etc/sudoers
