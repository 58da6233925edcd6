# checks: failed-logins-lock-accounts new-passwords-long-enough pam-empty-passwords-refused
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
usermod -p "$HASH" ops
sed -i -e '/nullok/!s/pam_unix.so/& nullok/' /usr/share/pam-configs/unix
pam-auth-update --force --package
printf 'minlen = 8\ndictcheck = 0\n' >> /etc/security/pwquality.conf
