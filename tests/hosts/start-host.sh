#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Becomes one host. Runs in fresh mount, net, uts and ipc namespaces, inside the lab's process namespace,
# whose process 1 sits in the lab's network namespace.
# Wants: KIND D LOWER SIZE VETH ADDR NAME CGROUP BRIDGE.
set -e
umask 022
mount --make-rprivate /
mount -t proc proc /proc

# The root: image and seed below, a tmpfs of a set size above.
mkdir -p "$D/fs" "$D/root"
mount -t tmpfs -o size="$SIZE",mode=755 fleet "$D/fs"
mkdir "$D/fs/upper" "$D/fs/work"
mount -t overlay overlay -o lowerdir="$LOWER",upperdir="$D/fs/upper",workdir="$D/fs/work" "$D/root"

# The cable: one end here, the other on the bridge of the lab.
ip link set lo up
ip link add eth0 type veth peer name "$VETH" netns 1
nsenter --net=/proc/1/ns/net ip link set "$VETH" master "$BRIDGE" up
ip addr add "$ADDR/16" dev eth0
ip link set eth0 up

if [ "$KIND" = boot ]; then
    # Version 1 or hybrid cgroups outside: give it a pure version 2.
    # nspawn's state stays out of the machine's /run.
    umount -R /sys/fs/cgroup 2>/dev/null || true
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir -p "/sys/fs/cgroup/$CGROUP"
    echo $$ > "/sys/fs/cgroup/$CGROUP/cgroup.procs"
    mount -t tmpfs -o mode=755 tmpfs /run
    # Status 133 is a host that restarts itself.
    status=133
    while [ $status = 133 ]; do
        status=0
        systemd-nspawn --quiet --register=no --keep-unit --boot -D "$D/root" \
            --machine="$NAME" --hostname="$NAME" --network-namespace-path=/proc/self/ns/net --capability=CAP_NET_ADMIN \
            --resolv-conf=off --timezone=off --link-journal=no --console=pipe || status=$?
    done
    exit $status
fi

hostname "$NAME"
exec 9< "$D/fs/upper"  # through which the lab lists what was written, once pivot_root has hidden it
cd "$D/root"
mount -t tmpfs -o mode=755,size=1m tmpfs dev
mkdir dev/pts dev/shm
mount -t tmpfs -o mode=1777,size=8m tmpfs dev/shm
for node in null zero full random urandom tty; do
    : > dev/$node
    mount --bind /dev/$node dev/$node
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
mount -t sysfs -o ro sysfs sys
mount -t tmpfs -o mode=755,size=8m tmpfs run
mkdir -p run/sshd run/lock
exec unshare --pid --fork --kill-child sh -c '
    exec 9<&-
    mount -t proc proc proc
    sh .fleet/mounts .
    pivot_root . mnt
    cd /
    umount -l /mnt
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 /usr/sbin/sshd -D -e'
