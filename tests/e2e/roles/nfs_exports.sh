# checks: nfs-exports-from-privileged-ports nfs-exports-squash-root
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
mkdir -p /srv/a /srv/b /etc/exports.d /var/lib/nfs
put /etc/exports '/srv/a 10.1.0.5(rw,sec=krb5p,no_root_squash,no_subtree_check)'
put /etc/exports.d/site.exports '/srv/b 10.1.0.5(ro,insecure,no_subtree_check)'
exportfs -ra
