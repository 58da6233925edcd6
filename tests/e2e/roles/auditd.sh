# checks: audit-covers-accounts audit-covers-kernel-calls auditd-tells-of-full-disk
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
# No container has an audit: this auditctl keeps rules as the kernel would, in a file.
put /usr/sbin/auditctl '#!/bin/sh' \
  'case $1 in' \
  '-R) grep -e "^-[wa]" "$2" > /etc/play/rules || : ;;' \
  '-l) cat /etc/play/rules ;;' \
  '-s) printf "enabled 1\nfailure 1\npid 100\nrate_limit 0\nbacklog_limit 8192\nlost 0\nbacklog 0\n" ;;' \
  'esac'
put /etc/play/rules '-w /etc/sudoers -p wa'
cp /etc/play/rules /etc/audit/rules.d/audit.rules
sed -i 's/^disk_error_action.*/disk_error_action = IGNORE/' /etc/audit/auditd.conf
augenrules --load
