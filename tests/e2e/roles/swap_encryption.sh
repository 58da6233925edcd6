# checks: swap-encrypted
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# Players: no container has swap of its own.
put /usr/sbin/swapoff '#!/bin/sh' 'rm -f /run/swapped'
put /usr/sbin/swapon '#!/bin/sh' 'grep -q "^[^#].*swap" /etc/fstab && touch /run/swapped'
chmod 755 /usr/sbin/swapoff /usr/sbin/swapon
sed -i '/swap/d' /etc/fstab
echo '/dev/vdb2 none swap sw 0 0' >> /etc/fstab
swapon --all
