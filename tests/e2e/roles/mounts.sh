# checks: temporary-folders-not-executable temporary-folders-restricted
# SPDX-License-Identifier: Apache-2.0
# Brings a booted host of the lab into the state that the role mends.
. /usr/local/lib/flips.sh
for folder in $(temporary); do mount -o remount,bind,nodev,suid,exec "$folder"; done
cp /usr/bin/id /dev/shm/id
chmod 4755 /dev/shm/id
