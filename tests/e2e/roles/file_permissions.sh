# checks: kerberos-keytab-private local-programs-protected scheduled-jobs-protected ssh-configuration-protected ssh-host-keys-private sudoers-files-protected
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
set -eu
echo x > /etc/krb5.keytab
chmod 644 /etc/krb5.keytab
printf '#!/bin/sh\n' > /usr/local/bin/tool
chmod 777 /usr/local/bin/tool
printf '#!/bin/sh\n' > /etc/cron.daily/tidy
chmod 757 /etc/cron.daily/tidy
chmod 664 /etc/ssh/sshd_config
cp /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_old_key
chmod 640 /etc/ssh/ssh_host_old_key
chmod 460 /etc/sudoers.d/ops
# Names that a template or a shell would act upon: they would make /run/fleet-audit-was-here.
make='echo L3J1bi9mbGVldC1hdWRpdC13YXMtaGVyZQ== | base64 -d | xargs touch'
for name in "{{ lookup('pipe', '$make') }}" "-rf \$($make) 'x' \"y\"" "$(printf 'two\nlines')"; do
  printf '#!/bin/sh\n' > "/etc/cron.daily/$name"
  chmod 777 "/etc/cron.daily/$name"
done
