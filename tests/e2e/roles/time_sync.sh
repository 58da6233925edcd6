# checks: clock-set-by-one-program
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# No container may set a clock: chronyd runs with -x. The other one is a player of ntpd.
put /etc/default/chrony 'DAEMON_OPTS="-F 0 -x"'
put /etc/systemd/system/chrony.service.d/lab.conf '[Unit]' 'ConditionCapability='
put /etc/play/ntpd 'ntpd 4.2.8'
sed "1s|.*|#!/usr/bin/python3|" /usr/local/lib/play > /usr/local/sbin/ntpd
chmod 755 /usr/local/sbin/ntpd
put /etc/systemd/system/ntpd.service '[Service]' 'ExecStart=/usr/local/sbin/ntpd' '[Install]' 'WantedBy=multi-user.target'
systemctl daemon-reload
systemctl -q enable --now ntpd
systemctl -q disable --now chrony
systemctl start chrony
