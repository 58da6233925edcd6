# checks: nvidia-profiling-restricted
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# A player of modprobe: the driver's options are those that were there when it was loaded.
mv -n /usr/sbin/modprobe /usr/sbin/modprobe.real
put /usr/sbin/modprobe '#!/bin/sh' 'case $1 in' '--showconfig) exec modprobe.real --showconfig ;;' '-r) rm "/run/modules/$2" ;;' \
  '*) modprobe.real --showconfig | grep "^options $1 " > "/run/modules/$1" || : ;;' 'esac'
put /usr/sbin/lsmod '#!/bin/sh' 'ls /run/modules'
chmod 755 /usr/sbin/modprobe /usr/sbin/lsmod
mkdir -p /run/modules
modprobe nvidia
modprobe nvidia_uvm
