# checks: icmp-redirects-refused redirects-not-sent source-routes-refused network-floods-resisted kernel-information-restricted memory-layout-randomised packets-not-forwarded temporary-folders-guarded
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
sysctl -qw net.ipv4.conf.eth0.forwarding=1 net.ipv6.conf.all.forwarding=1
sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.eth0.accept_redirects=1 net.ipv4.conf.all.send_redirects=1
sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.eth0.accept_source_route=1 net.ipv4.tcp_syncookies=0
cd /proc/sys
for setting in kernel/kptr_restrict kernel/randomize_va_space fs/protected_fifos; do echo 0 > $setting; done
