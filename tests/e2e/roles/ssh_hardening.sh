# checks: ssh-x11-forwarding-off ssh-authentication-attempts-limited ssh-tunnel-off ssh-agent-forwarding-off
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
printf 'X11Forwarding yes\nMaxAuthTries 6\nPermitTunnel yes\nAllowAgentForwarding yes\n' > /etc/ssh/sshd_config.d/50-bad.conf
systemctl reload ssh
