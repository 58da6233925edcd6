# checks: apparmor-profiles-enforced
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
rm -f /etc/apparmor.d/usr.bin.*
put /etc/apparmor.d/usr.bin.serve 'profile serve /usr/bin/serve flags=(attach_disconnected, complain) {' '  /srv/** r,' '}'
put /etc/apparmor.d/usr.bin.plain '/usr/bin/plain flags=(complain) {' '  /srv/** r,' '}'
put /etc/apparmor.d/usr.bin.transmission-cli '/usr/bin/transmission-cli flags=(complain) {' '  /srv/** r,' '}'
