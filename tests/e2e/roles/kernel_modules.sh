# checks: rare-network-modules-not-loaded
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
rm -f /etc/modprobe.d/zz-fleet-audit.conf
