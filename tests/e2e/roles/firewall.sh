# checks: firewall-input-default-deny firewall-input-default-deny-ipv6
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
nft flush ruleset
for port in 7777 9100; do
  systemctl -q is-active lab-$port || systemd-run --quiet --unit=lab-$port python3 -m http.server --directory /srv $port
done
# Whether the other host of two is reached.
printf '%s\n' '#!/bin/bash' 'own=$(hostname -I); own=${own%% *}' 'timeout 3 bash -c "exec 3<>/dev/tcp/${own%.*}.$((3 - ${own##*.}))/$1" 2>/dev/null && echo reached || echo not' > /usr/local/bin/reach
chmod 755 /usr/local/bin/reach
