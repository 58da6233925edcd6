# checks: nvidia-driver-minimum nvidia-driver-loaded-is-on-disk
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# Two branches of a driver; players of modprobe and modinfo, whose driver is what its package holds.
repository nvidia-driver-570:570.1 nvidia-driver-580:580.2:'Conflicts: nvidia-driver-570, libnvidia-compute-570' libnvidia-compute-570:570.1
dpkg -i /srv/repository/nvidia-driver-570_570.1_all.deb /srv/repository/libnvidia-compute-570_570.1_all.deb >/dev/null
apt-mark hold nvidia-driver-570 >/dev/null
rm -f /usr/sbin/modprobe /usr/sbin/lsmod /usr/sbin/modinfo
put /usr/sbin/modinfo '#!/bin/sh' 'cat /usr/share/nvidia-driver-*/version'
put /usr/sbin/modprobe '#!/bin/sh' 'case $1 in' '-r) rm "/run/modules/$2" ;;' '*) modinfo > "/run/modules/$1" ;;' 'esac'
put /usr/sbin/lsmod '#!/bin/sh' 'ls /run/modules'
chmod 755 /usr/sbin/modprobe /usr/sbin/lsmod /usr/sbin/modinfo
mkdir -p /run/modules
modprobe nvidia
modprobe nvidia_uvm
put /etc/systemd/system/nvidia-dcgm.service '[Service]' 'ExecStart=/bin/sleep infinity'
systemctl daemon-reload
systemctl start nvidia-dcgm
