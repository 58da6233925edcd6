# checks: legacy-clients-absent packages-held-on-purpose
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
repository telnet:0.17 site-tool:1.0 site-tool:2.0
dpkg -i /srv/repository/telnet_0.17_all.deb /srv/repository/site-tool_1.0_all.deb >/dev/null
apt-mark hold site-tool >/dev/null
