# checks: container-groups-hold-administrators-only empty-passwords-absent root-equivalent-groups-empty root-password-locked system-accounts-without-password system-accounts-without-shell
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
usermod -p '' notty
usermod -p "$HASH" root
usermod -p "$HASH" backup
usermod -s /bin/bash irc
gpasswd -a plain disk >/dev/null
groupadd -rf docker
gpasswd -a notty docker >/dev/null
