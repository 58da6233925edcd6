# checks: home-folders-private
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
chmod 755 /home/plain
