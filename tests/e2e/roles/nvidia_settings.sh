# checks: nvidia-profiling-restricted
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# A player of modprobe: the driver's options are those that were there when it was loaded.
mkdir -p /usr/lib/real
ln -sf /bin/kmod /usr/lib/real/modprobe
rm -f /usr/sbin/modprobe /usr/sbin/lsmod
put /usr/sbin/modprobe '#!/bin/sh' 'case $1 in' '--showconfig) exec /usr/lib/real/modprobe --showconfig ;;' '-r) rm "/run/modules/$2" ;;' \
  '*) /usr/lib/real/modprobe --showconfig | grep "^options $1 " > "/run/modules/$1" || : ;;' 'esac'
put /usr/sbin/lsmod '#!/bin/sh' 'ls /run/modules'
chmod 755 /usr/sbin/modprobe /usr/sbin/lsmod
mkdir -p /run/modules
modprobe nvidia
modprobe nvidia_uvm
