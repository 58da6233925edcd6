# checks: log-receivers-off logs-leave-the-node
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/rsyslog.d/10-site.conf 'module(load="imtcp")' 'input(type="imtcp" port="514")'
systemctl restart rsyslog
