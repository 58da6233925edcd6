# checks: automatic-updates-do-not-reboot security-updates-automatic
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
rm -f /etc/apt/apt.conf.d/*auto-upgrades /etc/apt/apt.conf.d/*unattended-upgrades
printf 'APT::Periodic::Unattended-Upgrade "1";\nUnattended-Upgrade::Automatic-Reboot "true";\nUnattended-Upgrade::Origins-Pattern { "origin=Other"; };\n' > /etc/apt/apt.conf.d/91bad
