# checks: munge-key-private munge-unprivileged
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/systemd/system/munge.service.d/50-bad.conf '[Service]' 'User=root' 'Group=root' 'ExecStart=' 'ExecStart=/usr/sbin/munged --foreground --force' 'Type=simple'
systemctl daemon-reload
systemctl restart munge
chmod 644 /etc/munge/munge.key
chmod 755 /etc/munge
