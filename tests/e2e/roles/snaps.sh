# checks: snap-refreshes-not-held
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# A player of snap, which keeps what is held in files.
put /usr/bin/snap '#!/bin/sh' 'case "$*" in' '"refresh --time") cat /run/snap-hold ;;' '"refresh --unhold") echo "next: today" > /run/snap-hold ;;' \
  '"refresh --hold") echo "hold: forever" > /run/snap-hold ;;' '"get system refresh.hold") cat /run/snap-option ;;' \
  '"unset system refresh.hold") : > /run/snap-option ;;' '"set system refresh.hold=forever") echo forever > /run/snap-option ;;' 'esac'
chmod 755 /usr/bin/snap
echo 'hold: forever' > /run/snap-hold
echo forever > /run/snap-option
