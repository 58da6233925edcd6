# checks: firewall-input-default-deny firewall-input-default-deny-ipv6
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
nft flush ruleset
