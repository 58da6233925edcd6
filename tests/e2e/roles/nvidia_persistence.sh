# checks: nvidia-persistenced-unprivileged
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# The daemon is played by sleep, and what lets it drop its rights by start-stop-daemon.
id nvidia-persistenced >/dev/null 2>&1 || useradd -r -s /usr/sbin/nologin nvidia-persistenced
mkdir -p /usr/lib/play
cp /usr/bin/sleep /usr/lib/play/nvidia-persistenced
cp /sbin/start-stop-daemon /usr/bin/nvidia-persistenced
put /etc/systemd/system/nvidia-persistenced.service '[Service]' 'ExecStart=/usr/lib/play/nvidia-persistenced infinity'
systemctl daemon-reload
systemctl restart nvidia-persistenced
