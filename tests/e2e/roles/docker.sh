# checks: docker-container-logs-limited docker-containers-apart docker-firewall-rules-kept docker-new-privileges-refused docker-seccomp-profile-kept docker-updates-spare-containers
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
put /etc/play/dockerd 'Docker version 28.5.2, build ecc6942'
sed "1s|.*|#!/usr/bin/python3|" /usr/local/lib/play > /usr/local/bin/dockerd
chmod 755 /usr/local/bin/dockerd
put /etc/docker/daemon.json '{' '    "no-new-privileges": false,' '    "icc": true,' '    "iptables": false,' '    "seccomp-profile": "unconfined",' '    "registry-mirrors": ["https://mirror.example.invalid"]' '}'
put /etc/systemd/system/docker.service '[Service]' 'ExecStart=/usr/local/bin/dockerd'
systemctl daemon-reload
systemctl restart docker
