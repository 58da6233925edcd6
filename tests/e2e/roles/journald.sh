# checks: journal-survives-reboot
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=volatile\n' > /etc/systemd/journald.conf.d/50-bad.conf
systemctl restart systemd-journald
